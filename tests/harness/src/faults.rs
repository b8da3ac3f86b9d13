//! The machine's faults, for a scenario of kexec's testing kit.
#![forbid(unsafe_code)]

use std::time::Duration;

use kexec::testing::{Case, Scenario};
use xen_sim::{Culprit, Fault, Finding, Mistake, Peer, Suspend};

use crate::Rig;

/// How late a late event is: a multiple of what a driver waits for if it polls.
const LATE: Duration = Duration::from_secs(2);

/// What happens to a guest, at whatever moment.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// It suspends itself, as its own code does that when the toolstack asks it to.
    Suspends(Suspend),
    /// To the machine.
    Fault(Fault),
    /// To the backend of each device that it has.
    Backends(fn(xen_sim::DeviceId) -> Fault),
}

const OF_THE_MACHINE: &[(&str, Happens)] = &[
    ("migrate", Happens::Suspends(Suspend::Migrated)),
    ("cancelled suspend", Happens::Suspends(Suspend::Cancelled)),
    ("kill xenstored", Happens::Fault(Fault::Kill(Peer::Xenstored))),
    ("wedge xenstored", Happens::Fault(Fault::Wedge(Peer::Xenstored))),
    ("garbage from xenstored", Happens::Fault(Fault::Garbage(Peer::Xenstored))),
    ("drop event", Happens::Fault(Fault::DropEvent(1))),
    ("repeat event", Happens::Fault(Fault::DuplicateEvent(1, LATE))),
    ("delay event", Happens::Fault(Fault::DelayEvent(1, LATE))),
    ("fail allocation", Happens::Fault(Fault::FailAllocation(1))),
];

const OF_BACKENDS: &[(&str, Happens)] = &[
    ("kill backends", Happens::Backends(|device| Fault::Kill(Peer::Device(device)))),
    ("close backends", Happens::Backends(Fault::Close)),
    ("wedge backends", Happens::Backends(|device| Fault::Wedge(Peer::Device(device)))),
    ("garbage from backends", Happens::Backends(|device| Fault::Garbage(Peer::Device(device)))),
];

/// A scenario whose world has a [`Rig`].
pub trait WithFaults {
    /// Adds the faults of every machine to the scenario's: each happens at each poll boundary, one in a run.
    ///
    /// | fault | |
    /// |---|---|
    /// | `migrate`, `cancelled suspend` | the guest [suspends itself](Rig::on_suspend), and goes on in another domain, or where it was |
    /// | `kill xenstored`, `wedge xenstored`, `garbage from xenstored` | its connection ends, hangs, or answers with nonsense once |
    /// | `drop event`, `repeat event`, `delay event` | the next event for the guest does not come, comes twice, or comes late |
    /// | `fail allocation` | the next page that the guest asks for is not to be had |
    #[must_use]
    fn machine_faults(self) -> Self;

    /// Adds those of a machine whose guest has devices: `kill backends`, `close backends`, `wedge backends`, `garbage
    /// from backends`. They happen to the backends of all its devices.
    #[must_use]
    fn backend_faults(self) -> Self;
}

impl<W: AsRef<Rig> + 'static> WithFaults for Scenario<W> {
    fn machine_faults(self) -> Self {
        with(self, OF_THE_MACHINE)
    }

    fn backend_faults(self) -> Self {
        with(self, OF_BACKENDS)
    }
}

fn with<W: AsRef<Rig> + 'static>(
    scenario: Scenario<W>,
    faults: &'static [(&'static str, Happens)],
) -> Scenario<W> {
    faults.iter().fold(scenario, |scenario, (name, happens)| {
        scenario.fault(name, |world| world.as_ref().befall(*happens))
    })
}

impl Rig {
    /// Asserts that the guest has left nothing behind, and broken no rule, in a run with this fault: but what nobody
    /// would have taken from it. A xenstored that hangs, or whose answers cannot be told apart any more, is not told
    /// what is not wanted any more; and a page that a backend has not let go of is granted still, by a table that has
    /// to stay for that.
    ///
    /// # Panics
    ///
    /// With what the auditor has to say.
    pub fn assert_clean(&self, case: &Case) {
        let is_silent = matches!(case.fault().as_deref(), Some("wedge xenstored" | "garbage from xenstored"));
        let audit = self.machine().audit(self.guest());
        let is_kept = audit.of(Culprit::Backend).next().is_some();
        let is_excused = |finding: &&Finding| match finding.mistake {
            Mistake::WatchLeft | Mistake::TransactionLeft => is_silent,
            Mistake::HoleBacked => is_kept,
            _ => false,
        };
        assert!(audit.of(Culprit::Guest).all(|finding| is_excused(&finding)), "{audit}");
    }

    fn befall(&self, happens: Happens) {
        let (machine, guest) = (self.machine(), self.guest());
        match happens {
            Happens::Suspends(suspend) => {
                machine.toolstack().expect_suspend(guest, suspend);
                self.suspend();
            }
            Happens::Fault(fault) => machine.inject(guest, fault),
            Happens::Backends(fault) => {
                machine
                    .toolstack()
                    .devices(guest)
                    .into_iter()
                    .for_each(|device| machine.inject(guest, fault(device)));
            }
        }
    }
}
