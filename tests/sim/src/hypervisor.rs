//! The hypervisor: what hypercalls do, and what the guest sees of it in its memory.
//!
//! A call takes what the guest's registers hold, reads and writes the guest's own argument structures, and either
//! answers or is refused by a [`Rule`] with an error number. Events are set in the guest's own pages, and grants
//! are read from the guest's own table, as on a real Xen.
//!
//! - [`call`]: from a number to what is done;
//! - [`domain`]: a guest, as Xen has it;
//! - [`memory`]: what is where in its memory; [`grant`]: what it lets others use of it;
//! - [`event`]: event channels;
//! - [`vcpu`], [`interrupt`]: its virtual CPUs, and the upcalls that come to them; [`processor`]: what they see of Xen;
//! - [`time`], [`timer`]: its clocks, and what happens at a time;
//! - [`sched`]: its end;
//! - [`hvm`], [`version`]: its parameters, and what Xen says of itself;
//! - [`shared`]: memory that Xen and the guest both write to.
#![forbid(unsafe_code)]

pub(crate) mod call;
pub(crate) mod domain;
pub(crate) mod event;
pub(crate) mod grant;
pub(crate) mod hvm;
pub(crate) mod interrupt;
mod memory;
pub(crate) mod processor;
pub(crate) mod sched;
pub(crate) mod shared;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod vcpu;
pub(crate) mod version;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::Domain;
use event::{deliver::EventFaults, port::Ports};
use grant::Tracks;
use time::Timekeeping;
use timer::Timers;
use version::Release;

use crate::{
    guest::GuestConfig,
    ram::{Moment, Ram},
    rule::Rule,
};

/// The control domain's number. It is no guest here: the simulation's toolstack, store and backends are it.
pub(crate) const DOM0: u16 = 0;

/// A guest's virtual CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VcpuId {
    pub(crate) domain: u16,
    pub(crate) vcpu: u32,
}

/// An event channel of the control domain.
pub(crate) type Dom0Port = u32;

/// Xen.
#[derive(Debug)]
pub(crate) struct Hypervisor {
    pub(crate) release: Release,
    pub(crate) domains: BTreeMap<u16, Domain>,
    /// What the control domain has mapped of them.
    pub(crate) mappings: Tracks,
    /// Since the machine was switched on.
    pub(crate) now: Duration,
    pub(crate) time: Timekeeping,
    pub(crate) timers: Timers,
    /// The control domain's event channels.
    dom0: Ports,
    /// Those of them at which something came.
    pub(crate) notified: BTreeSet<Dom0Port>,
    faults: EventFaults,
    /// Domains that have shut down, and why, for the toolstack to take.
    pub(crate) shutdowns: Vec<(u16, u32)>,
}

impl Hypervisor {
    pub(crate) fn new(release: Release) -> Self {
        Self {
            release,
            domains: BTreeMap::new(),
            mappings: Tracks::default(),
            now: Duration::ZERO,
            time: Timekeeping::default(),
            timers: Timers::default(),
            dom0: Ports::new(u32::MAX),
            notified: BTreeSet::new(),
            faults: EventFaults::default(),
            shutdowns: Vec::new(),
        }
    }

    /// Makes a domain: a new one, or one that was saved, with its memory.
    pub(crate) fn create(&mut self, id: u16, config: &GuestConfig, ram: Ram) {
        let moment = Moment { at: self.now, site: None };
        self.domains.insert(id, Domain::new(config, ram, moment));
        self.start_clocks(id);
    }

    /// The toolstack sets a parameter of a domain's that it builds.
    pub(crate) fn build_parameter(&mut self, id: u16, parameter: u32, value: u64) {
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.parameters.insert(parameter, value);
        }
    }

    /// A domain is no more. Its memory is left.
    pub(crate) fn destroy(&mut self, id: u16) -> Option<Ram> {
        self.destroy_events(id);
        let domain = self.domains.remove(&id)?;
        self.release_mappings(id, &domain.grants.tracks);
        Some(domain.ram)
    }
}

/// The rules that the hypervisor follows.
pub(crate) const RULES: &[&[Rule]] = &[
    call::RULES,
    event::RULES,
    event::fifo::RULES,
    grant::RULES,
    hvm::RULES,
    interrupt::RULES,
    memory::RULES,
    memory::physmap::RULES,
    processor::RULES,
    sched::RULES,
    time::RULES,
    vcpu::RULES,
    version::RULES,
];
