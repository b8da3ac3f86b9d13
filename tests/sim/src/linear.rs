//! The memory that a hypercall's pointers name.
//!
//! A guest hands Xen linear addresses, which Xen translates and may find nothing at: `copy_from_guest` and
//! `copy_to_guest` then fail, and the call answers `EFAULT`.
#![expect(
    unsafe_code,
    reason = "a guest that is a part of this process passes pointers, as it does on a real Xen"
)]

mod arena;

use std::{error::Error, fmt, ptr};

use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use self::arena::Arena;

/// There is nothing at that address that could be read or written so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress(pub u64);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is nothing at {:#x}", self.0)
    }
}

impl Error for BadAddress {}

/// A guest's linear addresses.
pub trait Linear {
    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// There is nothing that can be read, at that or a later byte. Some bytes may have been read.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), BadAddress>;

    /// Writes what is there.
    ///
    /// # Errors
    ///
    /// There is nothing that can be written, at that or a later byte. Some bytes may have been written.
    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), BadAddress>;
}

impl dyn Linear + '_ {
    /// Reads a structure.
    pub(crate) fn get<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, BadAddress> {
        let mut value = T::new_zeroed();
        self.read(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a structure.
    pub(crate) fn put<T: IntoBytes + Immutable>(
        &mut self,
        address: u64,
        value: &T,
    ) -> Result<(), BadAddress> {
        self.write(address, value.as_bytes())
    }
}

/// The memory of this process, for guests that are a part of it.
///
/// A pointer that cannot be one (null and the 64 KiB after it, or beyond what user mode has) is a bad address. For others, whoever
/// makes the hypercall has promised that they are good: see [`Hypervisor`](xen_abi::Hypervisor).
#[derive(Debug)]
pub(crate) struct OwnProcess {
    /// Only [`OwnProcess::new`] makes one.
    _promise: (),
}

/// The first addresses, at which no object is.
const FIRST: u64 = 0x1_0000;
/// User mode ends below this address on x86-64.
const END: u64 = 0x8000_0000_0000;

impl OwnProcess {
    /// For one hypercall.
    ///
    /// # Safety
    ///
    /// As long as this value is used, the arguments of the hypercall and what they point to are what the call takes: readable, and writable
    /// where it writes.
    pub(crate) const unsafe fn new() -> Self {
        Self { _promise: () }
    }

    fn check(address: u64, length: usize) -> Result<(), BadAddress> {
        let end = address.checked_add(length as u64);
        match end {
            Some(end) if address >= FIRST && end <= END => Ok(()),
            _ => Err(BadAddress(address)),
        }
    }
}

impl Linear for OwnProcess {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        Self::check(address, into.len())?;
        let from =
            ptr::with_exposed_provenance::<u8>(usize::try_from(address).map_err(|_| BadAddress(address))?);
        // SAFETY: `new`'s promise: the caller of the hypercall has so many bytes there. They are not `into`'s, which are our own.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), BadAddress> {
        Self::check(address, from.len())?;
        let to = ptr::with_exposed_provenance_mut::<u8>(
            usize::try_from(address).map_err(|_| BadAddress(address))?,
        );
        // SAFETY: as above, and the call writes there.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }
}
