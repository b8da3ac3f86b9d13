//! Pages that Xen or another domain can read and write.
#![expect(
    unsafe_code,
    reason = "to give a page back that a backend still writes to is to give it somebody else's memory"
)]

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Beyond, Gfn, Place, Word};

/// Where a guest's pages come from: its kernel, or a simulation.
///
/// # Safety
///
/// **Implementation safety.** A page that is handed out is [`PAGE_SIZE`](super::PAGE_SIZE) bytes at the guest-physical address that its
/// [`gfn`](Access::gfn) says; nobody else is handed any part of it, or uses it, until it is given back; and its
/// frame number stays the same.
pub unsafe trait Memory: Sync {
    /// A page.
    type Frame: Access + Send + Sync + 'static;

    /// A page of RAM, all zero.
    ///
    /// Callable up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is none just now.
    fn allocate(&self) -> Result<Self::Frame, NoMemory>;

    /// A page of guest-physical space with no RAM behind it, into which Xen puts a page of its own
    /// (`XENMEM_add_to_physmap`). Until then it must not be accessed; what a real one reads as is anybody's guess.
    ///
    /// Callable at `PASSIVE_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is none just now.
    fn hole(&self) -> Result<Self::Frame, NoMemory>;

    /// The page of this number, which is there already: one that the toolstack has put into the guest, as it does with the
    /// xenstore ring (`HVM_PARAM_STORE_PFN`).
    ///
    /// Callable at `PASSIVE_LEVEL`.
    ///
    /// # Errors
    ///
    /// It cannot be mapped just now.
    ///
    /// # Safety
    ///
    /// **Safety.** The page is no RAM that the kernel knows of, and whoever else has its frame uses it as the protocol says
    /// that they share.
    unsafe fn existing(&self, gfn: Gfn) -> Result<Self::Frame, NoMemory>;

    /// Gives a page back, whichever of the three it was.
    ///
    /// Callable at `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// **Safety.** It came from this memory. No grant of it can be used, no other domain has it mapped, and Xen does not write to
    /// it; what Xen put into a hole was taken out.
    unsafe fn free(&self, frame: Self::Frame);
}

// SAFETY: the pages are another's, who promises the same.
unsafe impl<M: Memory> Memory for &M {
    type Frame = M::Frame;

    fn allocate(&self) -> Result<Self::Frame, NoMemory> {
        M::allocate(self)
    }

    fn hole(&self) -> Result<Self::Frame, NoMemory> {
        M::hole(self)
    }

    unsafe fn existing(&self, gfn: Gfn) -> Result<Self::Frame, NoMemory> {
        // SAFETY: passed on.
        unsafe { M::existing(self, gfn) }
    }

    unsafe fn free(&self, frame: Self::Frame) {
        // SAFETY: passed on.
        unsafe { M::free(self, frame) }
    }
}

/// The bytes of a page.
///
/// Somebody else may read and write them at any time. What a method returns was read once, and is the caller's own.
///
/// | | what another processor sees |
/// |---|---|
/// | `load` | acquire: what comes after it is read after it |
/// | `store` | release: what comes before it is written before it |
/// | `swap`, `fetch_or`, `fetch_and`, `compare_exchange` | sequentially consistent, and a barrier on x86 |
/// | `read`, `write`, `read_bytes`, `write_bytes` | nothing: each byte is touched once, in any order |
///
/// Callable at any level.
///
/// # Safety
///
/// **Implementation safety.** Every method does to the page's bytes what it says, and nothing else; a value that is returned cannot
/// change any more.
pub unsafe trait Access {
    /// Its number in the guest's physical memory.
    fn gfn(&self) -> Gfn;

    /// Reads a word in one piece.
    fn load<W: Word>(&self, place: Place<W>) -> W;

    /// Writes a word in one piece.
    fn store<W: Word>(&self, place: Place<W>, value: W);

    /// Writes a word, and returns what was there.
    fn swap<W: Word>(&self, place: Place<W>, value: W) -> W;

    /// Sets bits of a word, and returns what was there.
    fn fetch_or<W: Word>(&self, place: Place<W>, bits: W) -> W;

    /// Clears the bits of a word that are not in `bits`, and returns what was there.
    fn fetch_and<W: Word>(&self, place: Place<W>, bits: W) -> W;

    /// Writes `new` if `current` is there, and returns what was there.
    ///
    /// # Errors
    ///
    /// Something else was there, and is still.
    fn compare_exchange<W: Word>(&self, place: Place<W>, current: W, new: W) -> Result<W, W>;

    /// Reads bytes.
    ///
    /// # Errors
    ///
    /// They are not all in the page; none was read.
    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond>;

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// They are not all in the page; none was written.
    fn write_bytes(&self, offset: usize, from: &[u8]) -> Result<(), Beyond>;

    /// Reads a structure.
    fn read<T: FromBytes + IntoBytes>(&self, place: Place<T>) -> T {
        let mut value = T::new_zeroed();
        let read = self.read_bytes(place.offset(), value.as_mut_bytes());
        debug_assert_eq!(read, Ok(()), "a place lies in the page");
        value
    }

    /// Writes a structure.
    fn write<T: IntoBytes + Immutable>(&self, place: Place<T>, value: &T) {
        let written = self.write_bytes(place.offset(), value.as_bytes());
        debug_assert_eq!(written, Ok(()), "a place lies in the page");
    }
}

/// There is no page to be had just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no page of memory is to be had; ask again when some was given back")
    }
}

impl core::error::Error for NoMemory {}
