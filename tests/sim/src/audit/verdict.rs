//! The verdict on a guest, at the end of a run.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt};

use xen_abi::{
    GrantRef,
    grant_table::{GNTTAB_NR_RESERVED_ENTRIES, GrantEntryV1},
    hvm::params::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN},
    seam::Gfn,
};

use super::{
    Culprit, Finding, Mistake,
    entries::{describe, permits},
    pages::describe_backing,
};
use crate::{
    guest::Guest,
    hypervisor::{DOM0, domain::Domain, grant::Track},
    machine::{GuestId, Machine},
    ram::{Backing, Moment, Use},
    runtime::Runtime,
    world::World,
    xenstored::Event,
};

/// The most that there was at once of something in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub count: u64,
    /// Of what, if there is one, and if there are more.
    pub of: [&'static str; 2],
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.of[usize::from(self.count != 1)])
    }
}

/// What a part of the machine has to say about a guest at the end.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// What the guest has not given back.
    pub(crate) left: Vec<Finding>,
    pub(crate) tallies: Vec<Tally>,
}

/// What a guest has done wrong, and has left behind.
///
/// It is shown in one line if there is nothing:
///
/// ```text
/// audit: clean: 12 grants, 0 mappings, 40 pages, 311 poll boundaries
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it says whether the guest is right"]
pub struct Audit {
    findings: Vec<Finding>,
    more: u64,
    tallies: Vec<Tally>,
}

impl Audit {
    /// Whether the guest is right, and the backends, and the test.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.more == 0
    }

    /// Everything that was found, in the order in which it happened; what is left comes last.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What one of the three has done.
    pub fn of(&self, culprit: Culprit) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.mistake.culprit() == culprit)
    }

    /// How much was used.
    #[must_use]
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    fn add(&mut self, account: Account) {
        self.findings.extend(account.left);
        self.tallies.extend(account.tallies);
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("audit: ")?;
        if self.is_clean() {
            f.write_str("clean")?;
        } else {
            let count = |culprit| self.of(culprit).count();
            let (guest, backend) = (count(Culprit::Guest), count(Culprit::Backend));
            write!(f, "{guest} of the guest's, {backend} of a backend's, {} not kept", self.more)?;
        }
        for (index, tally) in self.tallies.iter().enumerate() {
            write!(f, "{} {tally}", if index == 0 { ':' } else { ',' })?;
        }
        writeln!(f)?;
        self.findings.iter().try_for_each(|finding| finding.fmt(f))
    }
}

impl Machine {
    /// The verdict on a guest, which has ended.
    pub fn audit(&self, guest: &Guest) -> Audit {
        // The runtime is asked first: nothing may be in use when it is.
        let ran = self.runtime().map(Ran::ask);
        self.with(|world| world.audit(guest.id(), ran))
    }
}

/// What the runtime says at the end, if there is one.
struct Ran {
    tasks: Vec<String>,
    timers: usize,
    boundaries: u64,
}

impl Ran {
    fn ask(runtime: &dyn Runtime) -> Self {
        Self { tasks: runtime.tasks(), timers: runtime.timers(), boundaries: runtime.boundaries() }
    }

    fn account(self, now: Moment) -> Account {
        let task = |task| Finding::new(Mistake::TaskLeft, task, now);
        let mut left: Vec<_> = self.tasks.into_iter().map(task).collect();
        if self.timers > 0 {
            left.push(Finding::new(Mistake::TimerLeft, format!("{} armed", self.timers), now));
        }
        if self.boundaries == 0 {
            left.push(Finding::new(Mistake::NothingTested, "nobody ran the guest", now));
        }
        let boundaries = Tally { count: self.boundaries, of: ["poll boundary", "poll boundaries"] };
        Account { left, tallies: vec![boundaries] }
    }
}

impl World {
    fn audit(&self, id: GuestId, ran: Option<Ran>) -> Audit {
        let now = Moment { at: self.xen.now, site: None };
        let mut audit = Audit::default();
        let number = self.guests[&id].domain;
        if let Some(domain) = self.xen.domains.get(&number) {
            audit.findings = domain.ram.books.findings().to_vec();
            audit.more = domain.ram.books.more;
            audit.add(domain.grants_left(now));
            audit.add(domain.pages_left());
            audit.add(domain.ports_left(now));
        }
        audit.add(self.requests_left(number, now));
        audit.add(self.backends_left(number));
        if let Some(ran) = ran {
            audit.add(ran.account(now));
        }
        audit
    }

    /// The guest's pages that the control domain has still mapped.
    fn backends_left(&self, granter: u16) -> Account {
        // The daemons of the store and of the console have what the toolstack has granted mapped for ever.
        let is_backends =
            |track: &&Track| track.granter == granter && track.reference.0 >= GNTTAB_NR_RESERVED_ENTRIES;
        let left =
            self.xen.mappings.iter().filter(is_backends).map(|track| {
                Finding::new(Mistake::BackendLeft, format!("ref {}", track.reference), track.since)
            });
        Account { left: left.collect(), tallies: Vec::new() }
    }
}

impl World {
    /// What the guest has still of the store.
    fn requests_left(&self, number: u16, now: Moment) -> Account {
        let Some(held) = self.store.holdings(number) else { return Account::default() };
        let watch = |watch: &Event| {
            let token = String::from_utf8_lossy(&watch.token);
            Finding::new(Mistake::WatchLeft, format!("of {}, with the token `{token}`", watch.path), now)
        };
        let transaction =
            |number: &u32| Finding::new(Mistake::TransactionLeft, format!("number {number}"), now);
        let left = held.watches.iter().map(watch).chain(held.transactions.iter().map(transaction));
        Account { left: left.collect(), tallies: Vec::new() }
    }
}

impl Domain {
    /// Its event channels, but for those that the toolstack has given it and that Xen has.
    fn ports_left(&self, now: Moment) -> Account {
        let given = [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN].map(|of| self.parameters.get(&of));
        let is_given = |number: u32| given.contains(&Some(&u64::from(number)));
        let own = self.events.ports.open().filter(|(number, port)| !port.xen && !is_given(*number));
        let left = own.map(|(number, port)| {
            Finding::new(Mistake::PortLeft, format!("port {number}: {:?}", port.binding), now)
        });
        let bound = Tally { count: self.events.ports.most_open(), of: ["port", "ports"] };
        Account { left: left.collect(), tallies: vec![bound] }
    }

    /// The entries that are valid, but for the toolstack's.
    fn granted(&self) -> impl Iterator<Item = (GrantRef, GrantEntryV1)> {
        self.entries()
            .filter(|(reference, entry)| reference.0 >= GNTTAB_NR_RESERVED_ENTRIES && permits(*entry))
    }

    /// A grant that a backend has not done with cannot be revoked: that is the backend's, and is found there.
    fn grants_left(&self, now: Moment) -> Account {
        let left = self.granted().filter(|(reference, _)| self.grants.user(*reference) != Some(DOM0));
        let grants = left.map(|(reference, entry)| {
            let moment = self.grants.granted_at(reference).unwrap_or(now);
            let finding = Finding::new(Mistake::GrantLeft, describe(reference, entry), moment);
            self.ram.books.about(Gfn(entry.frame.into()), finding)
        });
        let mappings = self.grants.tracks.iter().map(|track| {
            let facts = format!("ref {} of domain {}", track.reference, track.granter);
            Finding::new(Mistake::MappingLeft, facts, track.since)
        });
        Account {
            left: grants.chain(mappings).collect(),
            tallies: vec![
                Tally { count: self.grants.grants.most(), of: ["grant", "grants"] },
                Tally { count: self.grants.tracks.mark.most(), of: ["mapping", "mappings"] },
            ],
        }
    }

    /// A page that is still granted, or that is another domain's, is there for that reason, which is found elsewhere.
    /// One with a `vcpu_info` is Xen's for as long as there is the domain (`VCPUOP_register_vcpu_info`, which may be
    /// called once).
    fn pages_left(&self) -> Account {
        let granted: BTreeSet<_> = self.granted().map(|(_, entry)| Gfn(entry.frame.into())).collect();
        let infos: BTreeSet<_> = self.vcpu_infos().collect();
        let is_foreign = |gfn| matches!(self.ram.physmap.get(gfn), Some(Backing::Foreign(_)));
        let kept = self
            .ram
            .leases
            .iter()
            .filter(|(gfn, lease)| lease.times > 0 && !granted.contains(gfn) && !infos.contains(gfn))
            .filter(|(gfn, _)| !is_foreign(**gfn));
        let left = kept.map(|(gfn, lease)| {
            let backing = self.ram.physmap.get(*gfn).filter(|_| lease.how == Use::Hole);
            let finding = match backing {
                Some(backing) => Finding::new(Mistake::HoleBacked, describe_backing(backing), lease.taken),
                None => Finding::new(Mistake::PageLeft, lease.how.to_string(), lease.taken),
            };
            self.ram.books.about(*gfn, finding)
        });
        let pages = Tally { count: self.ram.allocated.most(), of: ["page", "pages"] };
        Account { left: left.collect(), tallies: vec![pages] }
    }
}
