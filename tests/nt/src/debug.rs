//! What a driver says, and how it ends the system.
#![forbid(unsafe_code)]
#![expect(clippy::unused_self, reason = "all doubles are called alike, by the table of exports")]

use crate::{
    call::{Answer, Call, Outcome},
    kernel::Kernel,
    trace::What,
    verdict::{Finding, Verdict},
};

/// `DbgPrintEx`: a single call transmits so many bytes.
const TRANSMITTED: usize = 512;

impl Kernel {
    /// `DbgPrintEx`. What is said is in the trace, and the scenario can read it.
    pub(crate) fn dbg_print_ex(&mut self, call: &Call) -> Outcome {
        let format = self.memory.read_text(call.argument(2))?;
        let mut next = 3..;
        let mut text = self.format(&format, &mut || call.argument(next.next().expect("it is endless")))?;
        text.truncate(text.floor_char_boundary(TRANSMITTED));
        self.note(Some(call.cpu), What::Notes(format!("says: {}", text.trim_end())));
        self.said.push(text);
        Ok(Answer::Return(0))
    }

    /// The conversions that drivers use: `%s %c %d %i %u %x %X %p %%`, `%.*s`, with flags, width and size.
    fn format(&self, format: &str, next: &mut dyn FnMut() -> u64) -> Result<String, Finding> {
        let mut text = String::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            let end = after.find(|letter: char| "scdiuxXp%".contains(letter));
            let Some(end) = end else { return Err(Verdict::FormatString.because(format!("{format:?}"))) };
            let (modifiers, conversion) = (&after[..end], &after[end..=end]);
            if !modifiers.chars().all(|letter| "-+#. *0123456789lhzI".contains(letter)) {
                return Err(Verdict::FormatString.because(format!("%{modifiers}{conversion} in {format:?}")));
            }
            // An `int`: what is above it in its argument is not defined.
            let limit = modifiers.contains(".*").then(|| next() & 0xFFFF_FFFF);
            text.push_str(&self.convert(modifiers, conversion, limit, next)?);
            rest = &after[end + 1..];
        }
        Ok(text + rest)
    }

    fn convert(
        &self,
        modifiers: &str,
        conversion: &str,
        limit: Option<u64>,
        next: &mut dyn FnMut() -> u64,
    ) -> Result<String, Finding> {
        let wide = ["ll", "I64", "z"].iter().any(|size| modifiers.contains(size));
        let number = |value: u64| if wide { value } else { value & 0xFFFF_FFFF };
        let signed = |value: u64| {
            let narrow = || i64::from(u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0).cast_signed());
            if wide { value.cast_signed() } else { narrow() }
        };
        let converted = match (conversion, limit) {
            ("%", _) => "%".to_owned(),
            ("s", None) => self.memory.read_text(next())?,
            ("s", Some(length)) => {
                let bytes = self.memory.read_bytes(next(), usize::try_from(length).unwrap_or(usize::MAX))?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            ("c", _) => char::from(u8::try_from(next() & 0xFF).unwrap_or(0)).to_string(),
            ("d" | "i", _) => signed(next()).to_string(),
            ("u", _) => number(next()).to_string(),
            ("x", _) => format!("{:x}", number(next())),
            ("X", _) => format!("{:X}", number(next())),
            _ => format!("{:016X}", next()),
        };
        let digits = modifiers.trim_start_matches(['-', '+', '#', ' ']);
        let width: usize =
            digits.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or("").parse().unwrap_or(0);
        Ok(if digits.starts_with('0') {
            format!("{converted:0>width$}")
        } else {
            format!("{converted:>width$}")
        })
    }

    /// `KeBugCheckEx`.
    pub(crate) fn ke_bug_check_ex(&mut self, call: &Call) -> Outcome {
        let parameters: Vec<String> = (1..5).map(|index| format!("{:#x}", call.argument(index))).collect();
        Err(Verdict::Bugcheck.because(format!("{:#010x} ({})", call.narrow(0), parameters.join(", "))))
    }
}
