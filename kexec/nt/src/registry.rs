//! A device's key in the registry: where a driver tells an operator what no debugger need be attached for.
#![expect(unsafe_code, reason = "foreign functions, and handles, which are closed")]

use core::{fmt, ptr};

use kexec::irql::Passive;
use nt_sys::{
    HANDLE, KEY_SET_VALUE, PDEVICE_OBJECT, PLUGPLAY_REGKEY_DEVICE, REG_DWORD, STATUS_INVALID_PARAMETER,
    ULONG, UNICODE_STRING, USHORT, ntddk,
};

use crate::status::Status;

/// The longest name of a value, in UTF-16.
const NAME: usize = 32;

/// `Device Parameters`, under the key of a device: see [`Device::key`](crate::device::Device::key).
#[derive(Clone, Copy)]
pub struct DeviceKey(PDEVICE_OBJECT);

// SAFETY: the device is NT's, and no thread's.
unsafe impl Send for DeviceKey {}
// SAFETY: as above.
unsafe impl Sync for DeviceKey {}

impl DeviceKey {
    /// # Safety
    ///
    /// The device is a bus driver's, and is there for as long as the key is used.
    pub(crate) unsafe fn new(device: PDEVICE_OBJECT) -> Self {
        Self(device)
    }

    /// Makes a value a number (`REG_DWORD`), whatever it was before. It is there until somebody deletes it.
    ///
    /// # Errors
    ///
    /// What NT says; `STATUS_INVALID_PARAMETER` for a name of more than 32 characters.
    pub fn set(self, name: &str, mut value: u32, passive: &mut Passive) -> Result<(), Status> {
        let mut text = [0; NAME];
        let mut name = utf16(name, &mut text)?;
        self.with(KEY_SET_VALUE, passive, |key| {
            let data = (&raw mut value).cast();
            // SAFETY: at `PASSIVE_LEVEL`, as the token of `with` says; the name and four bytes of data are there.
            Status::check(unsafe { ntddk::ZwSetValueKey(key, &raw mut name, 0, REG_DWORD, data, DWORD) })
        })
    }

    /// Opens the key for the time of a call.
    fn with<R>(
        self,
        access: ULONG,
        _passive: &mut Passive,
        f: impl FnOnce(HANDLE) -> Result<R, Status>,
    ) -> Result<R, Status> {
        let mut key = ptr::null_mut();
        // SAFETY: at `PASSIVE_LEVEL`, as the token says; the device is a bus driver's, as whoever made this has promised.
        Status::check(unsafe {
            ntddk::IoOpenDeviceRegistryKey(self.0, PLUGPLAY_REGKEY_DEVICE, access, &raw mut key)
        })?;
        let result = f(key);
        // SAFETY: the handle was made just now, and nobody has kept it.
        unsafe { ntddk::ZwClose(key) };
        result
    }
}

/// The size of a `REG_DWORD`, in bytes.
const DWORD: ULONG = 4;

/// Text, as NT takes it: it lies in `room`.
fn utf16(text: &str, room: &mut [u16; NAME]) -> Result<UNICODE_STRING, Status> {
    let mut length: USHORT = 0;
    let mut room_left = room.iter_mut();
    for unit in text.encode_utf16() {
        *room_left.next().ok_or(Status::failure(STATUS_INVALID_PARAMETER))? = unit;
        length = length.saturating_add(2);
    }
    Ok(UNICODE_STRING { Length: length, MaximumLength: length, Buffer: room.as_mut_ptr() })
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:p})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths are in bytes, and a name that is too long is refused rather than cut: it would be another's.
    #[test]
    fn names() {
        for (text, units) in [("", 0), ("XenVersion", 10), ("Größe", 5), ("𝄞", 2)] {
            let mut room = [0; NAME];
            let name = utf16(text, &mut room).expect("it is short");
            assert_eq!((name.Length, name.MaximumLength), (2 * units, 2 * units), "{text}");
            assert!(text.encode_utf16().eq(room[..units.into()].iter().copied()), "{text}");
        }
        let longest = "x".repeat(NAME);
        assert!(utf16(&longest, &mut [0; NAME]).is_ok());
        let refused = utf16(&(longest + "x"), &mut [0; NAME]).err();
        assert_eq!(refused, Some(Status::failure(STATUS_INVALID_PARAMETER)));
    }
}
