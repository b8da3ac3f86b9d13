//! A bus driver, as small as it can be: interrupts, the store, and a guest that suspends itself.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bitmaps;
use kexec::{irql::Dispatch, platform::mock::keep};
use xen_abi::{
    event_channel::EvtchnPort,
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
};
use xen_harness::{Alone, Rig};
use xen_sim::Guest;

use xenbus::{
    hypercall::{event_channel, hvm},
    page::XenPage,
    store::Store,
    suspend::{Captured, Listener, Registration, ResumeError, Suspend, SuspendError, Suspended},
};

/// The driver, and what it has of Xen.
pub(crate) struct Bus {
    pub(crate) guest: Guest,
    pub(crate) suspend: Suspend,
    pub(crate) store: Store<Guest>,
    /// How each suspend has ended.
    pub(crate) suspends: Mutex<Vec<Result<Suspended, SuspendError>>>,
    /// There while the driver is up.
    shared: Mutex<Option<Arc<XenPage<Guest>>>>,
    /// The store's port.
    port: Mutex<Option<EvtchnPort>>,
}

impl Bus {
    /// The driver of a rig's guest, which suspends itself by it.
    pub(crate) fn new(rig: &Rig) -> &'static Self {
        let bus: &'static Self = keep(Self {
            guest: rig.guest().clone(),
            suspend: Suspend::new(),
            store: Store::new(),
            suspends: Mutex::default(),
            shared: Mutex::default(),
            port: Mutex::default(),
        });
        rig.guest().on_upcall(|vcpu, _| bus.upcall(vcpu));
        rig.on_suspend(|at| bus.suspend(at));
        bus
    }

    /// Suspends the guest, when the harness has captured everybody.
    pub(crate) fn suspend(&self, at: &Dispatch) {
        let outcome = self.suspend.suspend(at, &self.guest, &Alone(&self.guest));
        locked(&self.suspends).push(outcome);
    }

    fn upcall(&self, vcpu: u32) {
        let Some(shared) = locked(&self.shared).clone() else { return };
        let (port, vcpu) = (*locked(&self.port), usize::try_from(vcpu).expect("a small number"));
        while bitmaps::take_pending(&**shared, vcpu, |come| {
            if Some(come) == port {
                self.store.notify();
            }
        }) {}
    }

    /// Lets upcalls come, and connects with the store.
    fn plug_in(&self, at: &Dispatch) -> Result<(), ResumeError> {
        let shared = locked(&self.shared).clone().ok_or(ResumeError::Other("it is not up"))?;
        bitmaps::mask_all(&**shared);
        hvm::set_param(&self.guest, HVM_PARAM_CALLBACK_IRQ, CallbackVia::Gsi(28).to_param())?;
        let port = self.store.connect(at, &self.guest)?;
        *locked(&self.port) = Some(port);
        Ok(event_channel::unmask(&self.guest, port)?)
    }
}

impl Listener for Bus {
    fn name(&self) -> &'static str {
        "bus"
    }

    fn early(&self, _: &Captured<'_>) -> Result<(), ResumeError> {
        *locked(&self.port) = None;
        locked(&self.shared).as_ref().map_or(Ok(()), |shared| Ok(shared.renew()?))
    }

    fn late(&self, at: &Dispatch) -> Result<(), ResumeError> {
        self.plug_in(at)
    }
}

/// The driver is up; whatever ends that, it lets go of what is Xen's.
pub(crate) struct Up<'a> {
    pub(crate) bus: &'static Bus,
    pub(crate) at: &'a Dispatch,
    _registration: Registration<'static>,
}

impl<'a> Up<'a> {
    pub(crate) fn new(bus: &'static Bus, at: &'a Dispatch) -> Result<Self, ResumeError> {
        *locked(&bus.shared) = Some(Arc::new(XenPage::shared_info(&bus.guest)?));
        let up = Self { bus, at, _registration: bus.suspend.register(at, bus).expect("it is the only one") };
        bus.plug_in(at)?;
        Ok(up)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        *locked(&self.bus.port) = None;
        self.bus.store.disconnect(self.at);
        // Without a line there are no upcalls, which would find nothing.
        hvm::set_param(&self.bus.guest, HVM_PARAM_CALLBACK_IRQ, 0).expect("it may");
        drop(locked(&self.bus.shared).take());
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
