//! Pages that have an owner.
#![expect(
    unsafe_code,
    reason = "a page is given back when its owner is dropped, which must be the last of it"
)]

use core::{fmt, mem::ManuallyDrop, ops::Deref};

use xen_abi::{
    Errno,
    memory::XENMAPSPACE_SHARED_INFO,
    seam::{Access, Gfn, Hypervisor, Memory, NoMemory},
};

use crate::hypercall::memory;

/// All of the seam: hypercalls, and memory that can be shared.
pub trait Seam: Hypervisor + Memory + Clone + Send + 'static {}

impl<P: Hypervisor + Memory + Clone + Send + 'static> Seam for P {}

/// A page whose frame is given back when the owner is dropped.
///
/// Whoever makes one answers for that being right: see [`Memory::free`].
struct Owned<P: Seam> {
    frame: ManuallyDrop<P::Frame>,
    platform: P,
}

impl<P: Seam> Drop for Owned<P> {
    fn drop(&mut self) {
        // SAFETY: this is the last of the owner, and nobody uses its frame again.
        let frame = unsafe { ManuallyDrop::take(&mut self.frame) };
        // SAFETY: it came from this platform; that nobody else uses it is what the owner's maker answers for.
        unsafe { self.platform.free(frame) };
    }
}

/// A page that the toolstack has put into the guest and shares with it: a ring.
pub struct Page<P: Seam>(Owned<P>);

impl<P: Seam> Page<P> {
    /// The page that a parameter of the domain's names, such as `HVM_PARAM_STORE_PFN`.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// It cannot be mapped just now.
    pub(crate) fn of_the_toolstack(platform: &P, gfn: Gfn) -> Result<Self, NoMemory> {
        // SAFETY: the toolstack puts such pages where no RAM of the guest's is, and who has the other end of the ring keeps to its protocol or is
        // found out. It stays the toolstack's when it is given back: only the mapping goes.
        let frame = unsafe { platform.existing(gfn) }?;
        Ok(Self(Owned { frame: ManuallyDrop::new(frame), platform: platform.clone() }))
    }
}

impl<P: Seam> Deref for Page<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        &self.0.frame
    }
}

impl<P: Seam> fmt::Debug for Page<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Page").field(&self.gfn()).finish()
    }
}

/// The page that Xen shares with the guest (`shared_info`): what is pending, and the time.
pub struct SharedInfo<P: Seam>(ManuallyDrop<Owned<P>>);

impl<P: Seam> SharedInfo<P> {
    /// Has Xen put it where the guest has no RAM.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is no such place, or Xen refuses.
    pub fn map(platform: &P) -> Result<Self, MapError> {
        let hole = platform.hole().map_err(|NoMemory| MapError::NoMemory)?;
        let gfn = hole.gfn();
        // If Xen refuses, the hole is as it was, and goes back.
        let owned = Owned { frame: ManuallyDrop::new(hole), platform: platform.clone() };
        memory::add_to_physmap(platform, XENMAPSPACE_SHARED_INFO, 0, gfn).map_err(MapError::Xen)?;
        Ok(Self(ManuallyDrop::new(owned)))
    }

    /// Has Xen put it there again: in a domain that is new since a suspend, it is nowhere.
    ///
    /// Callable at any level.
    ///
    /// # Errors
    ///
    /// Xen refuses.
    pub fn renew(&self) -> Result<(), MapError> {
        memory::add_to_physmap(&self.0.platform, XENMAPSPACE_SHARED_INFO, 0, self.gfn())
            .map_err(MapError::Xen)
    }
}

impl<P: Seam> Drop for SharedInfo<P> {
    fn drop(&mut self) {
        // What Xen will not take out stays where it is, hole and all: it writes there.
        if memory::remove_from_physmap(&self.0.platform, self.gfn()).is_ok() {
            // SAFETY: this is the last of the owner.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

impl<P: Seam> Deref for SharedInfo<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        &self.0.frame
    }
}

impl<P: Seam> fmt::Debug for SharedInfo<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedInfo").field(&self.gfn()).finish()
    }
}

/// Why a page of Xen's is not to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is no place for it.
    NoMemory,
    /// Xen refused.
    Xen(Errno),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => write!(f, "no place for a page of Xen's: {NoMemory}"),
            Self::Xen(errno) => write!(f, "Xen did not map its page: {errno}"),
        }
    }
}

impl core::error::Error for MapError {}
