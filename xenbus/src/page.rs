//! Pages that have an owner.
#![expect(
    unsafe_code,
    reason = "a page is given back when its owner is dropped, which must be the last of it"
)]

use core::{fmt, mem::ManuallyDrop, ops::Deref};

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    event_channel::fifo::{EVENT_WORDS, EVTCHN_FIFO_MASKED, ExpandArray, InitControl, READY},
    grant_table::{
        GrantRef,
        op::{GNTMAP_HOST_MAP, GNTMAP_READONLY, GrantHandle, MapGrantRef, UnmapGrantRef},
        status::GrantError,
    },
    memory::{AddToPhysmap, RemoveFromPhysmap, XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_SHARED_INFO},
    seam::{Access, Beyond, Gfn, Hypervisor, Memory, NoMemory, PAGE_SIZE, Place, Places, Word},
    vcpu::RegisterVcpuInfo,
};

use crate::{
    epoch::Epoch,
    grant::{Grants, Rights},
    hypercall::{command, event_channel},
};

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
        // SAFETY: the toolstack puts such pages where no RAM of the guest's is, and who has the other end of the ring
        // keeps to its protocol or is found out. It stays the toolstack's when it is given back: only the mapping
        // goes.
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

/// A page of Xen's own that it has put into the guest: the page that it shares with the guest, or one of the grant
/// table.
pub struct XenPage<P: Seam> {
    hole: ManuallyDrop<Owned<P>>,
    space: u32,
    index: u64,
}

impl<P: Seam> XenPage<P> {
    /// The page that Xen shares with the guest (`shared_info`): what is pending, and the time.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is no place for it, or Xen refuses.
    pub fn shared_info(platform: &P) -> Result<Self, MapError> {
        Self::map(platform, XENMAPSPACE_SHARED_INFO, 0)
    }

    /// A page of the grant table, which grows if need be.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is no place for it, or Xen refuses: the table has no more pages.
    pub(crate) fn grant_table(platform: &P, index: u32) -> Result<Self, MapError> {
        Self::map(platform, XENMAPSPACE_GRANT_TABLE, u64::from(index))
    }

    fn map(platform: &P, space: u32, index: u64) -> Result<Self, MapError> {
        let hole = platform.hole().map_err(|NoMemory| MapError::NoMemory)?;
        // If Xen refuses, the hole is as it was, and goes back.
        let hole = Owned { frame: ManuallyDrop::new(hole), platform: platform.clone() };
        insert(platform, space, index, hole.frame.gfn())?;
        Ok(Self { hole: ManuallyDrop::new(hole), space, index })
    }

    /// Has Xen put it there again: in a domain that is new since a suspend, it is nowhere.
    ///
    /// Callable at any level.
    ///
    /// # Errors
    ///
    /// Xen refuses.
    pub fn renew(&self) -> Result<(), MapError> {
        insert(&self.hole.platform, self.space, self.index, self.gfn())
    }
}

/// Has Xen put a page of its own into a hole.
fn insert<P: Seam>(platform: &P, space: u32, idx: u64, hole: Gfn) -> Result<(), MapError> {
    let mut argument =
        AddToPhysmap { domid: DOMID_SELF, space, idx, gpfn: hole.0, ..AddToPhysmap::default() };
    // SAFETY: the hole is the caller's, and there is no memory in it.
    unsafe { command::ADD_TO_PHYSMAP.call(platform, &mut argument) }.map(drop).map_err(MapError::Xen)
}

impl<P: Seam> Drop for XenPage<P> {
    fn drop(&mut self) {
        let mut argument =
            RemoveFromPhysmap { domid: DOMID_SELF, gpfn: self.gfn().0, ..RemoveFromPhysmap::default() };
        // SAFETY: what is there is Xen's page, which nobody reaches any more.
        let removed = unsafe { command::REMOVE_FROM_PHYSMAP.call(&self.hole.platform, &mut argument) };
        // What Xen will not take out stays where it is, hole and all: it writes there. But in a domain that is new
        // since a suspend, nothing may be there.
        if matches!(removed, Ok(_) | Err(Errno::ENOENT)) {
            // SAFETY: this is the last of the owner.
            unsafe { ManuallyDrop::drop(&mut self.hole) };
        }
    }
}

impl<P: Seam> Deref for XenPage<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        &self.hole.frame
    }
}

impl<P: Seam> fmt::Debug for XenPage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("XenPage").field(&self.gfn()).finish()
    }
}

/// A page of RAM that is the driver's alone: nobody else reaches it before it is granted.
pub struct Ram<P: Seam>(Owned<P>);

impl<P: Seam> Ram<P> {
    /// A page of zeros.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is none just now.
    pub fn allocate(platform: &P) -> Result<Self, NoMemory> {
        let frame = platform.allocate()?;
        Ok(Self(Owned { frame: ManuallyDrop::new(frame), platform: platform.clone() }))
    }

    /// Makes it a page of zeros again. Callable at any level.
    pub fn clear(&self) {
        const WORDS: Places<u64> = Places::new(0, size_of::<u64>(), PAGE_SIZE / size_of::<u64>());
        for word in (0..WORDS.count()).filter_map(|word| WORDS.get(word)) {
            self.store(word, 0);
        }
    }
}

impl<P: Seam> Deref for Ram<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        &self.0.frame
    }
}

impl<P: Seam> fmt::Debug for Ram<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ram").field(&self.gfn()).finish()
    }
}

/// A page of RAM that Xen writes to, for FIFO event channels. It is Xen's until [`take_back`](Self::take_back): one
/// that is dropped before stays where it is.
pub(crate) struct FifoPage<P: Seam>(ManuallyDrop<Ram<P>>);

impl<P: Seam> FifoPage<P> {
    /// Makes a page the control block of a virtual CPU, at its beginning. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered: `ENOSYS`, if it has no FIFO ABI; `ENOENT`, if there is no such CPU.
    pub(crate) fn control_block(page: Ram<P>, vcpu: u32) -> Result<Self, Errno> {
        init_control(&page, vcpu)?;
        Ok(Self(ManuallyDrop::new(page)))
    }

    /// Makes it the CPU's again, in a domain that is new since a suspend. Callable at any level.
    ///
    /// # Errors
    ///
    /// As for [`control_block`](Self::control_block).
    pub(crate) fn renew_control_block(&self, vcpu: u32) -> Result<(), Errno> {
        self.store(READY, 0);
        init_control(&self.0, vcpu)
    }

    /// Makes a page the event words of the next 1024 ports, all masked. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered: `ENOSPC`, if the array is full.
    pub(crate) fn event_words(page: Ram<P>) -> Result<Self, Errno> {
        expand_array(&page)?;
        Ok(Self(ManuallyDrop::new(page)))
    }

    /// Makes it the next 1024 ports' again, in a domain that is new since a suspend, or has been reset. Callable at
    /// any level.
    ///
    /// # Errors
    ///
    /// As for [`event_words`](Self::event_words).
    pub(crate) fn renew_event_words(&self) -> Result<(), Errno> {
        expand_array(&self.0)
    }

    /// Resets all event channels of the domain, so that Xen lets go of these pages, all that it has been given.
    ///
    /// # Errors
    ///
    /// Xen refuses: the pages stay with it.
    pub(crate) fn take_back(platform: &P, pages: impl Iterator<Item = Self>) -> Result<(), Errno> {
        event_channel::reset(platform)?;
        pages.for_each(|page| drop(ManuallyDrop::into_inner(page.0)));
        Ok(())
    }
}

fn init_control<P: Seam>(page: &Ram<P>, vcpu: u32) -> Result<(), Errno> {
    let mut argument = InitControl { control_gfn: page.gfn().0, vcpu, ..InitControl::default() };
    // SAFETY: if Xen takes the page, it stays where it is until Xen has let go of it; it is reached by `Access` only.
    unsafe { command::INIT_CONTROL.call(&page.0.platform, &mut argument) }.map(drop)
}

fn expand_array<P: Seam>(page: &Ram<P>) -> Result<(), Errno> {
    for word in (0..EVENT_WORDS.count()).filter_map(|word| EVENT_WORDS.get(word)) {
        page.store(word, 1 << EVTCHN_FIFO_MASKED);
    }
    let mut argument = ExpandArray { array_gfn: page.gfn().0 };
    // SAFETY: as above.
    unsafe { command::EXPAND_ARRAY.call(&page.0.platform, &mut argument) }.map(drop)
}

impl<P: Seam> Deref for FifoPage<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        &self.0
    }
}

impl<P: Seam> fmt::Debug for FifoPage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FifoPage").field(&self.gfn()).finish()
    }
}

/// A page of RAM with a [`VcpuInfo`](xen_abi::shared_info::VcpuInfo) at its beginning that a virtual CPU has
/// registered. That cannot be undone: the page is Xen's for as long as the guest runs, whoever drops this.
pub struct VcpuInfoPage<P: Seam>(ManuallyDrop<Ram<P>>);

impl<P: Seam> VcpuInfoPage<P> {
    /// Registers a page for a virtual CPU. Callable at any level, by that CPU; once in the life of a domain.
    ///
    /// # Errors
    ///
    /// What Xen answered: `EINVAL`, if the CPU has registered one, or is not the one that calls; `ENOENT`, if there
    /// is no such CPU. The page is given back.
    pub fn register(page: Ram<P>, vcpu: u32) -> Result<Self, Errno> {
        register_vcpu_info(&page, vcpu)?;
        Ok(Self(ManuallyDrop::new(page)))
    }

    /// Registers it again, in a domain that is new since a suspend. Callable at any level, by that CPU.
    ///
    /// # Errors
    ///
    /// As for [`register`](Self::register).
    pub fn renew(&self, vcpu: u32) -> Result<(), Errno> {
        register_vcpu_info(&self.0, vcpu)
    }
}

fn register_vcpu_info<P: Seam>(page: &Ram<P>, vcpu: u32) -> Result<(), Errno> {
    let mut argument = RegisterVcpuInfo { mfn: page.gfn().0, ..RegisterVcpuInfo::default() };
    // SAFETY: if Xen takes the page, it is never given back; it is reached by `Access` only.
    unsafe { command::REGISTER_VCPU_INFO.call_for(&page.0.platform, vcpu, &mut argument) }.map(drop)
}

impl<P: Seam> Deref for VcpuInfoPage<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        &self.0
    }
}

impl<P: Seam> fmt::Debug for VcpuInfoPage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VcpuInfoPage").field(&self.gfn()).finish()
    }
}

/// A page of another domain's, which that has granted to this one.
///
/// It is gone in the next [epoch](crate::epoch): then there is nothing to be read, and nothing to be unmapped.
pub struct Foreign<P: Seam> {
    hole: ManuallyDrop<Owned<P>>,
    handle: GrantHandle,
    rights: Rights,
    grants: &'static Grants<P>,
    epoch: Epoch,
}

impl<P: Seam> Foreign<P> {
    /// Maps it, if Xen can do that just now.
    ///
    /// # Errors
    ///
    /// There is no place for it, or Xen refuses.
    pub(crate) fn map(
        grants: &'static Grants<P>,
        domain: DomId,
        grant: GrantRef,
        rights: Rights,
    ) -> Result<Self, MapError> {
        let platform = grants.platform();
        let hole = platform.hole().map_err(|NoMemory| MapError::NoMemory)?;
        let hole = Owned { frame: ManuallyDrop::new(hole), platform: platform.clone() };
        let mut argument = MapGrantRef {
            host_addr: address(hole.frame.gfn()),
            flags: GNTMAP_HOST_MAP | if rights == Rights::Read { GNTMAP_READONLY } else { 0 },
            r#ref: grant,
            dom: domain,
            ..MapGrantRef::default()
        };
        // SAFETY: the hole is ours, and there is no memory in it.
        unsafe { command::MAP_GRANT_REF.call(platform, &mut argument) }.map_err(MapError::Xen)?;
        GrantError::check(argument.status).map_err(MapError::Grant)?;
        let epoch = grants.epochs().now();
        Ok(Self { hole: ManuallyDrop::new(hole), handle: argument.handle, rights, grants, epoch })
    }

    /// The page, to be read and to be written to. Callable at any level.
    ///
    /// # Errors
    ///
    /// It is gone, or mapped for reading only.
    pub fn writable(&self) -> Result<&P::Frame, Unreachable> {
        let page = self.readable()?;
        if self.rights == Rights::Write { Ok(page) } else { Err(Unreachable::ReadOnly(page.gfn())) }
    }

    /// Reads a word, as [`Access::load`] does. Callable at any level.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn load<W: Word>(&self, place: Place<W>) -> Result<W, Unreachable> {
        Ok(self.readable()?.load(place))
    }

    /// Reads bytes, as [`Access::read_bytes`] does. Callable at any level.
    ///
    /// # Errors
    ///
    /// It is gone, or the bytes are not all in the page; none was read.
    pub fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Unreachable> {
        self.readable()?.read_bytes(offset, into).map_err(Unreachable::Beyond)
    }

    /// Not to be written to, if it is mapped for reading.
    fn readable(&self) -> Result<&P::Frame, Unreachable> {
        if self.grants.epochs().now() == self.epoch {
            Ok(&self.hole.frame)
        } else {
            Err(Unreachable::Disconnected)
        }
    }

    /// Unmaps it; so does a drop, which does not say what has come of it.
    ///
    /// Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// Xen refuses: what is there stays there for ever, and is [counted](crate::grant::Counters::holes).
    pub fn unmap(self) -> Result<(), MapError> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: this is the last of it.
        unsafe { this.end() }
    }

    /// # Safety
    ///
    /// Nobody touches it afterwards.
    unsafe fn end(&mut self) -> Result<(), MapError> {
        // What was mapped in another domain is nowhere, and its handle may be another's.
        if self.grants.epochs().now() == self.epoch {
            let host_addr = address(self.hole.frame.gfn());
            let mut argument = UnmapGrantRef { host_addr, handle: self.handle, ..UnmapGrantRef::default() };
            // SAFETY: what is there is the mapping, which nobody reaches any more.
            let called = unsafe { command::UNMAP_GRANT_REF.call(&self.hole.platform, &mut argument) };
            let unmapped = called
                .map_err(MapError::Xen)
                .and_then(|_| GrantError::check(argument.status).map_err(MapError::Grant));
            // What Xen will not unmap stays where it is, hole and all: it is somebody else's memory.
            unmapped.inspect_err(|_| self.grants.keep_hole())?;
        }
        // SAFETY: this is the last of the owner.
        unsafe { ManuallyDrop::drop(&mut self.hole) };
        Ok(())
    }
}

impl<P: Seam> Drop for Foreign<P> {
    fn drop(&mut self) {
        // What stays mapped is counted.
        // SAFETY: this is the last of it.
        let _ = unsafe { self.end() };
    }
}

impl<P: Seam> fmt::Debug for Foreign<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign")
            .field("at", &self.hole.frame.gfn())
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// The guest-physical address of a page.
const fn address(page: Gfn) -> u64 {
    page.0.wrapping_mul(PAGE_SIZE as u64)
}

/// Why a page is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is no place for it.
    NoMemory,
    /// Xen refused.
    Xen(Errno),
    /// Xen refused to map what another domain has granted.
    Grant(GrantError),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => write!(f, "no place to map a page at: {NoMemory}"),
            Self::Xen(errno) => write!(f, "Xen did not map the page: {errno}"),
            Self::Grant(error) => write!(f, "Xen did not map the page: {error}"),
        }
    }
}

impl core::error::Error for MapError {}

/// Why a page of another domain's is not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The guest has become another domain since it was mapped.
    Disconnected,
    /// It is mapped for reading only.
    ReadOnly(Gfn),
    /// The bytes are not all in the page.
    Beyond(Beyond),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => {
                f.write_str("the page is gone with the domain that had mapped it; map another")
            }
            Self::ReadOnly(Gfn(page)) => {
                write!(f, "page {page:#x} is mapped for reading only; ask its owner for a grant to write")
            }
            Self::Beyond(beyond) => beyond.fmt(f),
        }
    }
}

impl core::error::Error for Unreachable {}
