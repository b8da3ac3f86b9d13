//! From start to stop, and through suspends.
//!
//! ```text
//!  start ─▶ attach, on each CPU ─▶ open .. drop ─▶ stop
//!                ▲                      │
//!                │                      ▼ suspend, and the guest comes back as another domain
//!                └──── restart ◀──── resumed
//! ```
#![forbid(unsafe_code)]

use core::{
    iter,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use kexec::irql::Dispatch;
use xen_abi::{
    Errno,
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
};

use super::{
    Events, Upcalls,
    error::{AttachError, StartError, StopError},
    fifo::Array,
    reset, two_level,
    vcpu::Vcpu,
};
use crate::{
    epoch::Epoch,
    hypercall::{event_channel, hvm},
    page::{FifoPage, Seam, XenPage},
};

/// How events come.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// The ids of all virtual CPUs, each at its place; 0 comes first. They need not follow one another.
    pub vcpus: &'a [u32],
    /// The interrupt of all upcalls of virtual CPU 0, and of others that have no vector.
    pub callback: CallbackVia,
    /// Whether to use the FIFO ABI, if Xen has it. Otherwise it is the bitmaps.
    pub fifo: bool,
    /// The epoch that the guest is in.
    pub epoch: Epoch,
}

/// What there is between start and stop.
#[derive(Debug)]
pub(super) struct Started<P: Seam> {
    pub(super) platform: P,
    pub(super) shared: XenPage<P>,
    pub(super) array: Array<P>,
    /// Xen does it by the FIFO ABI.
    fifo: AtomicBool,
    /// Xen has been given pages for that.
    has_pages: AtomicBool,
    callback: CallbackVia,
}

impl<P: Seam> Started<P> {
    pub(super) fn is_fifo(&self) -> bool {
        self.fifo.load(Relaxed)
    }

    pub(super) fn give_page(&self) {
        self.has_pages.store(true, Relaxed);
    }

    fn listen(&self) -> Result<(), Errno> {
        hvm::set_param(&self.platform, HVM_PARAM_CALLBACK_IRQ, self.callback.to_param())
    }

    /// Whether a virtual CPU has upcalls without a vector of its own: the callback's line is 0's, its vector
    /// everybody's.
    fn has_callback(&self, vcpu: u32) -> bool {
        vcpu == 0 || matches!(self.callback, CallbackVia::Vector(_))
    }
}

impl<P: Seam> Events<P> {
    /// Begins: maps the page that Xen shares with the guest, masks every port, gives virtual CPU 0 its queues, and has
    /// Xen make upcalls.
    ///
    /// What a driver before has left is cleared away: if the domain is at the FIFO ABI still, all channels are reset
    /// but for the store's and the console's, which then may have other ports: read their parameters after this.
    ///
    /// At `DISPATCH_LEVEL`. A handful of hypercalls.
    ///
    /// # Errors
    ///
    /// Nothing has started: see [`StartError`].
    pub fn start(&'static self, at: &Dispatch, platform: P, config: Config<'_>) -> Result<(), StartError> {
        match config.vcpus {
            [] => return Err(StartError::NoVcpus),
            [0, ..] => {}
            [first, ..] => return Err(StartError::FirstVcpu(*first)),
        }
        let (vcpus, places) = (config.vcpus.len(), self.vcpus.len());
        if vcpus > places {
            return Err(StartError::TooManyVcpus { vcpus, places });
        }
        let shared = match self.started.lend() {
            Some(_) => return Err(StartError::Started),
            None => XenPage::shared_info(&platform).map_err(StartError::SharedInfo)?,
        };
        two_level::mask_all(&*shared);
        if reset::is_fifo_in_use(&platform) {
            reset::preserving(&platform, || event_channel::reset(&platform)).map_err(StartError::Reset)?;
        }
        let fifo = AtomicBool::new(config.fifo);
        let started = Started {
            platform,
            shared,
            array: Array::new(),
            fifo,
            has_pages: AtomicBool::new(false),
            callback: config.callback,
        };
        if self.started.put(started).is_err() {
            return Err(StartError::Started);
        }
        self.set_epoch(config.epoch);
        for (vcpu, id) in self.vcpus.iter().zip(config.vcpus) {
            vcpu.name(*id);
        }
        self.count.store(vcpus, Release);
        self.begin().inspect_err(|_| {
            // As if nothing had been: what Xen does not give back stays with it.
            let _ = self.stop(at);
        })
    }

    /// Virtual CPU 0 gets its queues, and upcalls come.
    fn begin(&'static self) -> Result<(), StartError> {
        self.attach_first(self.epoch()).map_err(StartError::Vcpu)?;
        let started = self.started.lend().ok_or(StartError::Vcpu(AttachError::NotStarted))?;
        started.listen().map_err(StartError::Callback)
    }

    /// Attaches virtual CPU 0, whose queues say which ABI it is.
    fn attach_first(&'static self, epoch: Epoch) -> Result<(), AttachError> {
        let first = self.vcpu(0).ok_or(AttachError::NotStarted)?;
        let attached = match first.attach(&self.started, epoch) {
            Err(AttachError::Xen { errno: Errno::ENOSYS, .. }) => {
                if let Some(started) = self.started.lend() {
                    started.fifo.store(false, Relaxed);
                }
                first.attach(&self.started, epoch)
            }
            attached => attached,
        };
        first.set_delivers(attached.is_ok());
        attached
    }

    /// Gives the virtual CPU at this place upcalls of its own: a place for them, if it has none yet; its queues; and,
    /// if it is to have one, an interrupt vector, where Xen has such. Without a vector, only virtual CPU 0 has upcalls,
    /// unless the callback is a vector; what is bound to others goes to it.
    ///
    /// To be called on that virtual CPU, at `DISPATCH_LEVEL`; for each once, and again in each epoch after
    /// [`restart`](Self::restart).
    ///
    /// # Errors
    ///
    /// It has no upcalls of its own: see [`AttachError`].
    pub fn attach_vcpu(
        &'static self,
        _at: &Dispatch,
        place: usize,
        vector: Option<u8>,
    ) -> Result<Upcalls, AttachError> {
        let vcpu = self.vcpu(place).ok_or(AttachError::NoSuchPlace(place))?;
        vcpu.attach(&self.started, self.epoch())?;
        let started = self.started.lend().ok_or(AttachError::NotStarted)?;
        let delivers = vcpu.listen(&started.platform, vector, started.has_callback(vcpu.id()))?;
        Ok(if delivers { Upcalls::Own } else { Upcalls::OfFirst })
    }

    /// The guest has come back as another domain, in this epoch: all channels are dead, and whoever waits for one
    /// learns it. The page that Xen shares is put in its place again, all ports are masked, and virtual CPU 0 has its
    /// queues. If the other host has no FIFO ABI, it is the bitmaps from now on.
    ///
    /// Callable at any level, by the only one who is not captured.
    ///
    /// # Errors
    ///
    /// The page, or virtual CPU 0, cannot be had: channels can be opened, but nothing comes. Stop, and start again.
    pub fn resumed(&'static self, epoch: Epoch) -> Result<(), StartError> {
        let Some(started) = self.started.lend() else { return Ok(()) };
        self.set_epoch(epoch);
        self.slots.bury();
        self.vcpus.iter().for_each(Vcpu::forget);
        started.array.forget();
        started.shared.renew().map_err(StartError::SharedInfo)?;
        two_level::mask_all(&*started.shared);
        // The host before may have had none.
        started.fifo.store(started.has_pages.load(Relaxed), Relaxed);
        self.attach_first(epoch).map_err(StartError::Vcpu)
    }

    /// After [`resumed`](Self::resumed): upcalls come again. Each virtual CPU that had been attached is so again, but
    /// for those that have to [do that themselves](Self::attach_vcpu), which have no place in the shared page.
    ///
    /// At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// The callback's interrupt is not made, or a virtual CPU has no upcalls of its own; the others do, all the same.
    pub fn restart(&'static self, at: &Dispatch) -> Result<(), StartError> {
        let Some(started) = self.started.lend() else { return Ok(()) };
        let mut outcome = started.listen().map_err(StartError::Callback);
        for place in 0..self.count.load(Acquire) {
            let can = |vcpu: &&Vcpu<P>| vcpu.was_attached() && vcpu.has_legacy_info();
            if let Some(vcpu) = self.vcpu(place).filter(can) {
                let attached = self.attach_vcpu(at, place, vcpu.vector());
                outcome = outcome.and(attached.map(drop).map_err(StartError::Vcpu));
            }
        }
        outcome
    }

    /// Ends: all pages are given back. With the FIFO ABI that takes a reset of all channels, after which the store's
    /// and the console's may have other ports.
    ///
    /// At `DISPATCH_LEVEL`, when all channels have been dropped, and the interrupts that call [`upcall`](Self::upcall)
    /// have been disconnected. It may be called again after an error.
    ///
    /// # Errors
    ///
    /// See [`StopError`]. Pages that Xen does not give back stay with it.
    pub fn stop(&self, _at: &Dispatch) -> Result<(), StopError> {
        let Some(started) = self.started.lend() else { return Ok(()) };
        if let Some(open) = self.slots.0.iter().position(|slot| !slot.is_free()) {
            return Err(StopError::Open(open));
        }
        if let Some(place) = self.vcpus.iter().position(Vcpu::is_at_work) {
            return Err(StopError::Upcall(place));
        }
        let (platform, has_pages) = (started.platform.clone(), started.has_pages.load(Relaxed));
        drop(started);
        // Without it there are no upcalls, which would find nothing.
        let _ = hvm::set_param(&platform, HVM_PARAM_CALLBACK_IRQ, 0);
        // What is shared by all is there as long as a virtual CPU has it.
        let shared = iter::once_with(|| self.started.take()).flatten();
        let pages = self.vcpus.iter().filter_map(Vcpu::detach);
        let pages = pages.chain(shared.flat_map(|Started { array, .. }| array.into_pages()));
        if has_pages {
            reset::preserving(&platform, || FifoPage::take_back(&platform, pages))
                .map_err(StopError::Reset)?;
        } else {
            let none = pages.count();
            debug_assert_eq!(none, 0, "Xen has been given none");
        }
        if self.started.lend().is_some() { Err(StopError::InUse) } else { Ok(()) }
    }
}
