//! A guest with event channels, and the control domain at their other ends.
#![forbid(unsafe_code)]

use std::{
    pin::{Pin, pin},
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::Duration,
};

use kexec::{
    irql::{Dispatch, Raise},
    platform::{
        mock::keep,
        thread::{Thread, passive},
    },
    time::sleep,
};
use xen_abi::{hvm::params::CallbackVia, sched::SHUTDOWN_SUSPEND};
use xen_sim::{Dom0, Guest, GuestConfig, Interrupt, Machine};
use xenbus::{
    epoch::Epochs,
    event::{Channel, Config, Events, Slot, StartError, Upcall, Vcpu},
    hypercall::sched,
};

/// The interrupt line by which upcalls come.
pub(crate) const LINE: u8 = 28;
/// The interrupt vector of virtual CPUs that have one.
pub(crate) const VECTOR: u8 = 0x40;

/// A driver's event channels, as a driver has them.
pub(crate) struct Driver {
    pub(crate) guest: Guest,
    pub(crate) events: &'static Events<Guest>,
    pub(crate) epochs: Epochs,
    pub(crate) vcpus: Vec<u32>,
    pub(crate) fifo: bool,
    /// Upcalls that were due, by the place of the virtual CPU.
    upcalls: Mutex<Vec<usize>>,
}

impl Driver {
    /// Of a guest with these virtual CPUs, with so many slots.
    pub(crate) fn new(guest: &Guest, vcpus: &[u32], slots: usize, fifo: bool) -> &'static Self {
        let slots: &'static [Slot] = Vec::leak((0..slots).map(|_| Slot::new()).collect());
        let places: &'static [Vcpu<Guest>] = Vec::leak(vcpus.iter().map(|_| Vcpu::new()).collect());
        let events = keep(Events::new(slots, places));
        let (guest, vcpus) = (guest.clone(), vcpus.to_vec());
        keep(Self { guest, events, epochs: Epochs::new(), vcpus, fifo, upcalls: Mutex::default() })
    }

    /// Its interrupt handler works off so much at a time.
    pub(crate) fn handle(&'static self, budget: u32) {
        self.guest.on_upcall(move |vcpu, _: Interrupt| {
            let place = self.vcpus.iter().position(|id| *id == vcpu).expect("it has that one");
            loop {
                match self.events.upcall(place, budget) {
                    Upcall::None => break,
                    Upcall::Done => {
                        self.upcalls.lock().expect("nobody panics with it").push(place);
                        break;
                    }
                    Upcall::More => {}
                }
            }
        });
    }

    pub(crate) fn upcalls(&self) -> Vec<usize> {
        self.upcalls.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn start(&'static self, at: &Dispatch) -> Result<(), StartError> {
        let config = Config {
            vcpus: &self.vcpus,
            callback: CallbackVia::Gsi(LINE),
            fifo: self.fifo,
            epoch: self.epochs.now(),
        };
        self.events.start(at, self.guest.clone(), config)
    }

    /// Attaches each virtual CPU, on itself.
    pub(crate) fn attach(&'static self, at: &Dispatch) -> Result<(), StartError> {
        for (place, vcpu) in self.vcpus.iter().enumerate() {
            let attached = self.guest.on(*vcpu, || self.events.attach_vcpu(at, place, Some(VECTOR)));
            attached.map_err(StartError::Vcpu)?;
        }
        Ok(())
    }

    /// Ends, at the end of a run, when nothing comes any more.
    pub(crate) fn stop(&'static self, cpu: &impl Raise) {
        let stopped = passive(|level| level.raised(cpu, |at| self.events.stop(at)));
        assert_eq!(stopped, Ok(()), "nobody has a channel, and nobody is at work");
    }

    /// Suspends the guest, and goes on in what may be another domain.
    pub(crate) fn suspend(&'static self, at: &Dispatch) {
        if sched::shutdown(&self.guest, SHUTDOWN_SUSPEND) != Ok(false) {
            return;
        }
        let epoch = self.epochs.begin();
        if self.events.is_fifo().is_some() {
            let renewed = self.events.resumed(epoch).and_then(|()| self.events.restart(at));
            renewed.and_then(|()| self.attach(at)).expect("it is as it was");
        }
    }
}

/// A machine that nobody runs, with a guest whose event channels have started: for what needs no executor.
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) guest: Guest,
    pub(crate) driver: &'static Driver,
}

impl Bench {
    /// A guest of this kind, with so many slots.
    pub(crate) fn new(config: GuestConfig, slots: usize, fifo: bool) -> Self {
        let vcpus: Vec<u32> = config.vcpus.iter().copied().collect();
        let machine = Machine::new(1);
        let guest = machine.create(config);
        let driver = Driver::new(&guest, &vcpus, slots, fifo);
        driver.handle(64);
        assert_eq!(dispatch(|at| driver.start(at)), Ok(()));
        Self { machine, guest, driver }
    }

    pub(crate) fn events(&self) -> &'static Events<Guest> {
        self.driver.events
    }

    /// Lets interrupts arrive that are on their way.
    pub(crate) fn settle(&self) {
        assert!(self.machine.run(100_000), "it comes to rest");
    }

    /// Ends, and looks at what is left. Nobody ran the guest's tasks: there are none.
    pub(crate) fn end(self) {
        assert_eq!(dispatch(|at| self.events().stop(at)), Ok(()));
        let audit = self.machine.audit(&self.guest);
        assert!(audit.is_clean(), "{audit}");
    }
}

/// Does something at `DISPATCH_LEVEL`.
pub(crate) fn dispatch<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    static CPU: Thread<Dispatch> = Thread::new();
    passive(|level| level.raised(&CPU, |at| work(at)))
}

/// Polls something once, with a waker that does nothing.
pub(crate) fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Whether a channel has an event, which is taken; if it has none, it is armed.
pub(crate) fn comes(channel: &Channel<Guest>) -> bool {
    dispatch(|at| {
        let mut wait = pin!(channel.wait(at));
        // One that has come while it was masked is taken after others had their turn.
        match poll(wait.as_mut()).or_else(|| poll(wait)) {
            Some(outcome) => {
                assert_eq!(outcome, Ok(()));
                true
            }
            None => false,
        }
    })
}

/// The control domain, which sends an event back for each that it gets, until it has got none for a while.
pub(crate) async fn echo(_: &mut Dispatch, dom0: Dom0) {
    const SOON: Duration = Duration::from_micros(300);
    let mut delay = SOON;
    while delay < Duration::from_secs(8) {
        sleep(delay).await;
        let notified = dom0.notified();
        delay = if notified.is_empty() { delay * 2 } else { SOON };
        for port in notified {
            // It may have been closed meanwhile.
            let _ = dom0.send(port);
        }
    }
}
