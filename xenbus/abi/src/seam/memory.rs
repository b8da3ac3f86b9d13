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
/// What each method promises under *Implementation safety* holds.
pub unsafe trait Memory: Sync {
    /// A page.
    type Frame: Access + Send + Sync + 'static;

    /// A page of RAM, all zero.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// **Implementation safety.** It is [`PAGE_SIZE`](super::PAGE_SIZE) bytes of RAM at the guest-physical address
    /// that its [`gfn`](Access::gfn) says, and stays there; nobody else is handed any part of it, or uses it, until
    /// it is given back.
    ///
    /// # Errors
    ///
    /// There is none just now.
    fn allocate(&self) -> Result<Self::Frame, NoMemory>;

    /// A page of guest-physical space with no RAM behind it, into which Xen puts a page of its own
    /// (`XENMEM_add_to_physmap`). Until then it must not be accessed; what a real one reads as is anybody's guess.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// **Implementation safety.** As that of [`allocate`](Self::allocate), but that there is no RAM: what Xen puts
    /// there takes nothing from anybody, and is what the frame's methods then reach.
    ///
    /// # Errors
    ///
    /// There is none just now.
    fn hole(&self) -> Result<Self::Frame, NoMemory>;

    /// The page of this number, which is there already: one that the toolstack has put into the guest, as it does
    /// with the xenstore ring (`HVM_PARAM_STORE_PFN`).
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Implementation safety
    ///
    /// The frame's methods reach that page, and no other.
    ///
    /// # Errors
    ///
    /// It cannot be mapped just now.
    ///
    /// # Safety
    ///
    /// The page is no RAM that the kernel knows of, and whoever else has its frame uses it as the protocol says
    /// that they share.
    unsafe fn existing(&self, gfn: Gfn) -> Result<Self::Frame, NoMemory>;

    /// Gives a page back, whichever of the three it was.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Implementation safety
    ///
    /// RAM is used for something else from now on, a page of the toolstack's stays what it is.
    ///
    /// # Safety
    ///
    /// It came from this memory. No grant of it can be used, no other domain has it mapped, and Xen does not write to
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
/// *Implementation safety*, of every method: it does to the page's bytes what it says, and nothing else; a value that
/// is returned cannot change any more. None has a *safety* of its own: whoever has a frame may call them all,
/// whatever others do to the page.
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
