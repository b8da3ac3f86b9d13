//! What can go wrong, on purpose.
//!
//! A [`Fault`] happens when it is [injected](Machine::inject): by a test, by kexec's testing kit at each poll boundary of a scenario, or by a
//! [`Plan`] that says at which boundary of a run what happens.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, fmt, time::Duration};

use xen_abi::io::xs_wire::{XENSTORE_ERROR_COMM, XENSTORE_PAYLOAD_MAX, XsError};

use crate::{
    backend::{Backend, DeviceId},
    dice::Dice,
    guest::Guest,
    hypervisor::event::deliver::EventFault,
    machine::{GuestId, Machine},
    toolstack::{Request, Suspend},
    world::World,
    xenstored,
};

/// Who answers the guest, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The store.
    Xenstored,
    /// The daemon at the other end of its console.
    Console,
    /// The backend of a device.
    Device(DeviceId),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The toolstack asks the guest to suspend itself, and has it go on like this.
    Suspend(Suspend),
    /// The peer dies. Xenstored says in the ring that the connection is at its end; a backend says nothing.
    Kill(Peer),
    /// The backend closes, as one does that is told to. Xenstored never does.
    Close(DeviceId),
    /// The peer does nothing any more, for ever.
    Wedge(Peer),
    /// The n-th event from now never comes to the guest. The first is one.
    DropEvent(u64),
    /// The n-th event from now comes again, so much later.
    DuplicateEvent(u64, Duration),
    /// The n-th event from now comes so much later.
    DelayEvent(u64, Duration),
    /// The n-th page from now that the guest asks its kernel for is not to be had.
    FailAllocation(u64),
    /// The peer answers with something else than an answer, once.
    Garbage(Peer),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xenstored => f.write_str("xenstored"),
            Self::Console => f.write_str("the console"),
            Self::Device(DeviceId(number)) => write!(f, "device {number}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspend(Suspend::Cancelled) => f.write_str("suspend, and resume where it was"),
            Self::Suspend(Suspend::Migrated) => f.write_str("suspend, and go on as another domain"),
            Self::Kill(peer) => write!(f, "kill {peer}"),
            Self::Close(device) => write!(f, "close {}", Peer::Device(*device)),
            Self::Wedge(peer) => write!(f, "wedge {peer}"),
            Self::DropEvent(nth) => write!(f, "drop event {nth}"),
            Self::DuplicateEvent(nth, after) => write!(f, "repeat event {nth} after {after:?}"),
            Self::DelayEvent(nth, by) => write!(f, "delay event {nth} by {by:?}"),
            Self::FailAllocation(nth) => write!(f, "fail allocation {nth}"),
            Self::Garbage(peer) => write!(f, "garbage from {peer}"),
        }
    }
}

/// What goes wrong at which poll boundary of a run, counted from its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(VecDeque<(u64, Fault)>);

impl Plan {
    /// These, in any order.
    #[must_use]
    pub fn of(faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        let mut faults: Vec<_> = faults.into_iter().collect();
        faults.sort_by_key(|(boundary, _)| *boundary);
        Self(faults.into())
    }

    /// So many of these, each at any of the first boundaries.
    #[must_use]
    pub fn drawn(dice: &mut Dice, count: usize, from: &[Fault], boundaries: u64) -> Self {
        Self::of((0..count).filter_map(|_| Some((dice.below(boundaries), *dice.choose(from)?))))
    }

    /// What is due by now.
    fn take(&mut self, boundary: u64) -> Option<Fault> {
        self.0.pop_front_if(|(at, _)| *at <= boundary).map(|(_, fault)| fault)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (boundary, fault)) in self.0.iter().enumerate() {
            write!(f, "{}{boundary}: {fault}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Machine {
    /// Lets something go wrong for a guest, now.
    pub fn inject(&self, guest: &Guest, fault: Fault) {
        self.with(|world| world.inject(guest.id(), fault));
    }

    /// Says what is to happen to a later request of a guest's to xenstored: to the next to which nothing is to happen yet. False, if the guest has no
    /// connection.
    #[expect(clippy::must_use_candidate, reason = "most guests have one")]
    pub fn distort(&self, guest: &Guest, fault: xenstored::Fault) -> bool {
        self.with(|world| world.store.fault(world.guests[&guest.id()].domain, fault))
    }

    /// Says what is to go wrong for a guest: it happens in [`boundary`](Self::boundary).
    pub fn plan(&self, guest: &Guest, plan: Plan) {
        self.with(|world| world.inside_mut(guest.id()).plan = plan);
    }

    /// The guests' code is at a poll boundary, the one after so many: what is planned for it happens.
    pub fn boundary(&self, number: u64) {
        self.with(|world| {
            let guests: Vec<_> = world.guests.keys().copied().collect();
            for id in guests {
                while let Some(fault) = world.inside_mut(id).plan.take(number) {
                    world.inject(id, fault);
                }
            }
        });
    }

    /// From now on, between any two accesses of the guests' code to a page, one time in so many somebody of the control domain does
    /// something: what a driver has read once may be something else when it reads it again. Never, if it is zero.
    pub fn interleave(&self, odds: u32) {
        self.with(|world| world.interleave = odds);
    }
}

impl World {
    fn inject(&mut self, id: GuestId, fault: Fault) {
        let domain = self.guests[&id].domain;
        self.say("fault", || fault.to_string());
        match fault {
            Fault::Suspend(suspend) => {
                // A guest without drivers cannot be asked.
                let _ = self.request(id, Request::Suspend(suspend));
            }
            Fault::Kill(Peer::Xenstored) => {
                self.store.kill(domain, XENSTORE_ERROR_COMM);
                self.store_work.insert(domain);
            }
            Fault::Kill(Peer::Console) => self.disconnect_console(id),
            Fault::Kill(Peer::Device(device)) => self.kill_backend(device),
            Fault::Close(device) => self.on_backend(device, Backend::leave),
            Fault::Wedge(Peer::Xenstored) => {
                self.store.stop_taking(domain, true);
                self.store.stop_giving(domain, true);
            }
            Fault::Wedge(Peer::Console) => self.wedge_console(id),
            Fault::Wedge(Peer::Device(device)) => self.on_backend(device, Backend::wedge),
            Fault::DropEvent(nth) => self.xen.fault_event(domain, nth, EventFault::Drop),
            Fault::DuplicateEvent(nth, after) => {
                self.xen.fault_event(domain, nth, EventFault::Duplicate(after));
            }
            Fault::DelayEvent(nth, by) => self.xen.fault_event(domain, nth, EventFault::Delay(by)),
            Fault::FailAllocation(nth) => self.domain_mut(id).ram.refuse(nth),
            Fault::Garbage(Peer::Xenstored) => {
                let garbage = garbage(&mut self.dice);
                self.store.fault(domain, garbage);
            }
            Fault::Garbage(Peer::Console) => self.garble_console(id),
            Fault::Garbage(Peer::Device(device)) => self.on_backend(device, Backend::garbage),
        }
    }

    /// Does something to a backend, if it is still there.
    fn on_backend(&mut self, device: DeviceId, fault: impl FnOnce(&mut Backend)) {
        if let Some(backend) = self.backends.get_mut(&device) {
            fault(backend);
        }
    }
}

/// Something else than an answer of xenstored's.
fn garbage(dice: &mut Dice) -> xenstored::Fault {
    use xenstored::Fault::{
        Length, Payload, Refuse, Repeat, RequestId, Swallow, TransactionId, Truncate, Type,
    };

    #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
    let number = dice.roll() as u32;
    match dice.below(9) {
        0 => {
            let mut bytes =
                vec![0; usize::try_from(dice.below(u64::from(XENSTORE_PAYLOAD_MAX))).expect("a page")];
            dice.fill(&mut bytes);
            Payload(bytes)
        }
        1 => Truncate(0),
        2 => Length(number),
        3 => RequestId(number),
        4 => TransactionId(number),
        5 => Type(number),
        6 => Swallow,
        7 => Refuse(*dice.choose(XsError::ALL).unwrap_or(&XsError::EIO)),
        _ => Repeat,
    }
}
