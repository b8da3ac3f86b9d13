//! What event channels keep of a virtual CPU, and its upcalls.
//!
//! ```text
//! evtchn_upcall_pending ─▶ interrupt ─▶ upcall: clear it ─▶ visit the queues, or the bitmaps ─▶ tell the slots
//! ```
//!
//! `evtchn_upcall_pending` is cleared first: what comes after that is another interrupt. An upcall that interrupts
//! another of the same virtual CPU does no more than that, so that a level goes down, and leaves the rest to the other
//! one.
#![forbid(unsafe_code)]

use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use xen_abi::{
    Errno,
    event_channel::EvtchnPort,
    seam::{Access, NoMemory, Place},
    shared_info::{LEGACY_MAX_VCPUS, VCPU_INFO, VcpuInfos},
};

use super::{
    Upcall,
    error::AttachError,
    fifo::{Oddity, Queues},
    life::Started,
    two_level::Selector,
};
use crate::{
    cell::{Lent, Loan, Once},
    epoch::Epoch,
    hypercall::hvm,
    page::{FifoPage, Ram, Seam, VcpuInfoPage},
};

/// A place for a virtual CPU.
#[derive(Debug)]
pub struct Vcpu<P: Seam> {
    id: AtomicU32,
    /// The vector that was last asked for; zero for none.
    vector: AtomicU32,
    /// Upcalls come.
    delivers: AtomicBool,
    /// Where its `vcpu_info` is, if not in the page that all share; for good.
    info: Once<VcpuInfoPage<P>>,
    /// The epoch in which it was put there.
    info_epoch: AtomicU32,
    attached: Lent<Attached<P>>,
    /// Upcalls that have come since one began to work them off.
    claims: AtomicU32,
    queues: Queues,
    selector: Selector,
}

/// What a virtual CPU has while it is attached.
#[derive(Debug)]
struct Attached<P: Seam> {
    started: Loan<'static, Started<P>>,
    /// Its queues, with the FIFO ABI.
    block: Once<FifoPage<P>>,
    /// The epoch in which Xen has got that.
    block_epoch: AtomicU32,
}

/// A `vcpu_info`, which may be anywhere.
struct Info<'a, F> {
    page: &'a F,
    upcall_pending: Place<u8>,
    selector: Place<u64>,
}

impl<P: Seam> Vcpu<P> {
    /// A place in which nothing is.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            id: AtomicU32::new(0),
            vector: AtomicU32::new(0),
            delivers: AtomicBool::new(false),
            info: Once::new(),
            info_epoch: AtomicU32::new(0),
            attached: Lent::new(),
            claims: AtomicU32::new(0),
            queues: Queues::new(),
            selector: Selector::new(),
        }
    }

    pub(super) fn name(&self, id: u32) {
        self.id.store(id, Relaxed);
        self.vector.store(0, Relaxed);
    }

    pub(super) fn id(&self) -> u32 {
        self.id.load(Relaxed)
    }

    /// Whether it has upcalls.
    pub(super) fn delivers(&self) -> bool {
        self.delivers.load(Acquire)
    }

    /// Whether its `vcpu_info` is in the page that all share, and need not be registered by itself.
    pub(super) fn has_legacy_info(&self) -> bool {
        usize::try_from(self.id()).is_ok_and(|id| id < LEGACY_MAX_VCPUS)
    }

    pub(super) fn set_delivers(&self, delivers: bool) {
        self.delivers.store(delivers, Release);
    }

    pub(super) fn was_attached(&self) -> bool {
        self.attached.lend().is_some()
    }

    /// The guest is another domain: nothing is registered, and nothing comes.
    pub(super) fn forget(&self) {
        self.delivers.store(false, Release);
        self.queues.clear();
        self.selector.clear();
    }

    /// The vector that it had.
    pub(super) fn vector(&self) -> Option<u8> {
        u8::try_from(self.vector.load(Relaxed)).ok().filter(|vector| *vector != 0)
    }

    /// Gives it all that it needs for upcalls, whatever of it is missing in this epoch.
    pub(super) fn attach(&self, started: &'static Lent<Started<P>>, epoch: Epoch) -> Result<(), AttachError> {
        let started = started.lend().ok_or(AttachError::NotStarted)?;
        if !self.has_legacy_info() {
            self.register(&started.platform, epoch)?;
        }
        if !self.was_attached() {
            self.forget();
            let attached = Attached { started, block: Once::new(), block_epoch: AtomicU32::new(0) };
            // It attaches itself, and is not at two places at once.
            let put = self.attached.put(attached);
            debug_assert!(put.is_ok(), "nobody else attaches it");
        }
        let attached = self.attached.lend().ok_or(AttachError::NotStarted)?;
        if attached.started.is_fifo() { self.queue(&attached, epoch) } else { Ok(()) }
    }

    /// Tells Xen which interrupt its upcalls are; whether they come.
    pub(super) fn listen(
        &self,
        platform: &P,
        vector: Option<u8>,
        otherwise: bool,
    ) -> Result<bool, AttachError> {
        self.vector.store(vector.unwrap_or(0).into(), Relaxed);
        let delivers = match vector.map(|vector| hvm::set_evtchn_upcall_vector(platform, self.id(), vector)) {
            Some(Ok(())) => true,
            None | Some(Err(Errno::ENOSYS | Errno::EOPNOTSUPP)) => otherwise,
            Some(Err(errno)) => return Err(AttachError::Xen { vcpu: self.id(), errno }),
        };
        self.delivers.store(delivers, Release);
        Ok(delivers)
    }

    /// Registers its `vcpu_info`, once in an epoch.
    fn register(&self, platform: &P, epoch: Epoch) -> Result<(), AttachError> {
        let vcpu = self.id();
        let refused = |errno| match errno {
            // Before Xen 4.18, and since.
            Errno::EINVAL | Errno::EBUSY => AttachError::Registered { vcpu },
            errno => AttachError::Xen { vcpu, errno },
        };
        match self.info.get() {
            Some(_) if self.info_epoch.load(Relaxed) == epoch.to_number() => return Ok(()),
            Some(page) => page.renew(vcpu).map_err(refused)?,
            None => {
                let page = Ram::allocate(platform).map_err(|NoMemory| AttachError::NoMemory { vcpu })?;
                let put = self.info.put(VcpuInfoPage::register(page, vcpu).map_err(refused)?);
                debug_assert!(put.is_ok(), "it registers itself, and is not at two places at once");
            }
        }
        self.info_epoch.store(epoch.to_number(), Relaxed);
        Ok(())
    }

    /// Gives it its queues, once in an epoch.
    fn queue(&self, attached: &Attached<P>, epoch: Epoch) -> Result<(), AttachError> {
        let vcpu = self.id();
        let refused = |errno| AttachError::Xen { vcpu, errno };
        match attached.block.get() {
            Some(_) if attached.block_epoch.load(Relaxed) == epoch.to_number() => return Ok(()),
            Some(block) => block.renew_control_block(vcpu).map_err(refused)?,
            None => {
                let page = Ram::allocate(&attached.started.platform)
                    .map_err(|NoMemory| AttachError::NoMemory { vcpu })?;
                let put = attached.block.put(FifoPage::control_block(page, vcpu).map_err(refused)?);
                debug_assert!(put.is_ok(), "nobody else attaches it");
                attached.started.give_page();
            }
        }
        attached.block_epoch.store(epoch.to_number(), Relaxed);
        Ok(())
    }

    /// Whether an upcall is at work.
    pub(super) fn is_at_work(&self) -> bool {
        self.attached.is_lent()
    }

    /// Takes away what [`attach`](Self::attach) has given, unless an upcall is at work: its queues, if it has some.
    pub(super) fn detach(&self) -> Option<FifoPage<P>> {
        self.delivers.store(false, Release);
        self.attached.take()?.block.into_inner()
    }

    /// See [`Events::upcall`](super::Events::upcall).
    pub(super) fn upcall(&self, budget: u32, mut tell: impl FnMut(Result<EvtchnPort, Oddity>)) -> Upcall {
        let Some(attached) = self.attached.lend() else { return Upcall::None };
        let Some(info) = self.info(&attached.started) else { return Upcall::None };
        let found = if info.page.swap(info.upcall_pending, 0) == 0 { Upcall::None } else { Upcall::Done };
        // Release, for who is at work: what made this upcall is there.
        if self.claims.fetch_add(1, AcqRel) != 0 {
            return found;
        }
        let mut left = budget.max(1);
        loop {
            let claims = self.claims.load(Acquire);
            self.visit(&attached, &info, &mut left, &mut tell);
            if left == 0 {
                self.claims.store(0, Release);
                return Upcall::More;
            }
            if self.claims.compare_exchange(claims, 0, AcqRel, Relaxed).is_ok() {
                return found;
            }
            // To look again costs something, whatever it finds.
            left = left.saturating_sub(1);
        }
    }

    fn visit(
        &self,
        Attached { started, block, .. }: &Attached<P>,
        info: &Info<'_, P::Frame>,
        left: &mut u32,
        mut tell: impl FnMut(Result<EvtchnPort, Oddity>),
    ) {
        if !started.is_fifo() {
            let tell = |port| tell(Ok(port));
            self.selector.visit(&*started.shared, (info.page, info.selector), left, tell);
        } else if let Some(block) = block.get() {
            self.queues.visit(&**block, |port| started.array.word(port), left, tell);
        }
    }

    /// Shows somebody the page that all share, and where this one's `vcpu_info` is, if it has one in this epoch.
    pub(super) fn with_info<T>(
        &self,
        epoch: Epoch,
        show: impl FnOnce(&P::Frame, &P::Frame, VcpuInfos, usize) -> T,
    ) -> Option<T> {
        let attached = self.attached.lend()?;
        // Elsewhere it is that of the last domain, until it is registered again.
        let is_current = self.info.get().is_none() || self.info_epoch.load(Relaxed) == epoch.to_number();
        let (page, infos, index) = self.place(&attached.started).filter(|_| is_current)?;
        Some(show(&attached.started.shared, page, infos, index))
    }

    /// Where its `vcpu_info` is.
    fn place<'a>(&'a self, started: &'a Started<P>) -> Option<(&'a P::Frame, VcpuInfos, usize)> {
        const OWN: VcpuInfos = VcpuInfos::new(0, 1);
        match self.info.get() {
            Some(own) => Some((&**own, OWN, 0)),
            None => Some((&*started.shared, VCPU_INFO, usize::try_from(self.id()).ok()?)),
        }
    }

    fn info<'a>(&'a self, started: &'a Started<P>) -> Option<Info<'a, P::Frame>> {
        let (page, all, place) = self.place(started)?;
        let (upcall_pending, selector) =
            (all.evtchn_upcall_pending.get(place)?, all.evtchn_pending_sel.get(place)?);
        Some(Info { page, upcall_pending, selector })
    }
}

impl<P: Seam> Default for Vcpu<P> {
    fn default() -> Self {
        Self::new()
    }
}
