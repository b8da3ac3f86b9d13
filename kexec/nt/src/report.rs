//! Debug output, and the end.
#![expect(unsafe_code, reason = "foreign functions")]

use core::{
    fmt::{self, Write},
    panic::PanicInfo,
};

use nt_sys::{_DPFLTR_TYPE::DPFLTR_IHVDRIVER_ID, DPFLTR_ERROR_LEVEL, DPFLTR_INFO_LEVEL, ULONG, ntddk};

/// The bugcheck code of a panic: `KEXC`.
pub const PANIC: ULONG = u32::from_be_bytes(*b"KEXC");

/// The longest line; what is longer is cut off. `DbgPrintEx` takes 512 bytes.
const LINE: usize = 256;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Something does not work.
    Error,
    /// What has been found, or done.
    Info,
}

/// Writes a line to the debugger, if one listens: `IHVDRIVER` in its filter. Up to `DISPATCH_LEVEL`.
pub fn line(weight: Weight, text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; LINE], length: 0 };
    // A line that is cut off has been written as far as it goes.
    let _cut_off = writeln!(line, "{text}");
    let level = match weight {
        Weight::Error => DPFLTR_ERROR_LEVEL,
        Weight::Info => DPFLTR_INFO_LEVEL,
    };
    let component = DPFLTR_IHVDRIVER_ID.cast_unsigned();
    // SAFETY: the format takes one string, and `Line` keeps a zero at its end.
    unsafe { ntddk::DbgPrintEx(component, level, c"%s".as_ptr(), line.bytes.as_ptr()) };
}

struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte stays zero.
        let room = self.bytes.get_mut(self.length..LINE.saturating_sub(1)).unwrap_or_default();
        let fits = text.len().min(room.len());
        for (to, from) in room.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        self.length = self.length.saturating_add(fits);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Ends the system with a bugcheck that names the place: parameters 1 and 2 are the file's name (address and
/// length), 3 the line, 4 the column. For an image's panic handler.
pub fn bugcheck(panic: &PanicInfo<'_>) -> ! {
    let (file, line, column) = match panic.location() {
        Some(location) => (location.file(), location.line(), location.column()),
        None => ("", 0, 0),
    };
    let (address, length) = (file.as_ptr().addr() as u64, file.len() as u64);
    // SAFETY: callable at any level; it does not return.
    unsafe { ntddk::KeBugCheckEx(PANIC, address, length, u64::from(line), u64::from(column)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is too long is cut, and the zero that ends it is kept: the debugger would read on otherwise.
    #[test]
    fn a_line_ends_with_a_zero() {
        for length in [0, 1, LINE - 2, LINE - 1, LINE, 10 * LINE] {
            let mut line = Line { bytes: [0; LINE], length: 0 };
            let whole = (0..length).try_for_each(|_| line.write_str("x")).is_ok();
            assert_eq!(whole, length < LINE);
            assert_eq!(line.length, length.min(LINE - 1));
            assert_eq!(line.bytes.iter().position(|byte| *byte == 0), Some(line.length));
        }
    }
}
