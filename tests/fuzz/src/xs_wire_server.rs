//! What guests do to xenstored.
//!
//! An input is a list of [`Action`]s of three guests, of dom0 and of time. After each, the daemon must be in order,
//! and within its quotas; what a guest that has kept to the rules of its ring gets must be replies to its requests,
//! in their order, and events. At the end, when everybody takes what there is, nothing may be missing.
#![forbid(unsafe_code)]

mod action;
mod guest;

use std::{collections::BTreeSet, time::Duration};

use arbitrary::Unstructured;
use xen_abi::io::xs_wire::XsError;
use xen_sim::xenstored::{
    Access, Client, Config, Fault, Features, Permission, Quota, Quotas, Record, Tools, Xenstored,
};

pub use self::action::{Action, Kind, Part, Tx, script};
use self::guest::Guest;

const GUESTS: [u16; 3] = [1, 2, 3];

/// More actions than that teach nothing, but take their time.
const MOST_ACTIONS: usize = 200;

/// Does to a daemon what the input says. The names of the rules that were broken on the way.
///
/// # Panics
///
/// The daemon is not in order, or has answered what it must not.
#[must_use]
pub fn xs_wire_server(input: &[u8]) -> BTreeSet<&'static str> {
    let mut input = Unstructured::new(input);
    let mut world = World::new(input.arbitrary().unwrap_or(0));
    for _ in 0..MOST_ACTIONS {
        if input.is_empty() {
            break;
        }
        let Ok(action) = Action::decode(&mut input) else { break };
        world.act(action);
        world.check();
    }
    world.finish();
    world.broken
}

/// A daemon, dom0, and all guests.
struct World {
    daemon: Xenstored,
    toolstack: Client,
    guests: [Guest; 3],
    quotas: Quotas,
    now: Duration,
    broken: BTreeSet<&'static str>,
}

impl World {
    /// One bit of `options` offers all features, another makes quotas so small that they are reached.
    fn new(options: u8) -> Self {
        let features = if options & 1 == 0 {
            Features::default()
        } else {
            Features { offered: 0xF, feature_requests: true, quota_requests: true }
        };
        let quotas = if options & 2 == 0 {
            Quotas::default()
        } else {
            Quotas::default()
                .with(Quota::Nodes, 6)
                .with(Quota::Watches, 3)
                .with(Quota::Outstanding, 3)
                .with(Quota::Memory, 2000)
                .with(Quota::Transactions, 3)
                .with(Quota::TransactionNodes, 5)
                .with(Quota::NodeSize, 200)
                .with(Quota::PathLength, 100)
        };
        let mut daemon = Xenstored::new(&Config { features, quotas, ..Config::default() });
        daemon.keep_records(true);
        let toolstack = daemon.connect();
        let guests = GUESTS.map(|_| Guest::new());
        let now = Duration::ZERO;
        let mut world = Self { daemon, toolstack, guests, quotas, now, broken: BTreeSet::new() };
        for index in 0..GUESTS.len() {
            world.create(index);
        }
        world.tools().watch("/local/domain", "toolstack").expect("it is the first");
        world
    }

    fn tools(&mut self) -> Tools<'_> {
        self.daemon.tools(&self.toolstack)
    }

    /// As a toolstack creates a guest. Guests can read each other's homes.
    fn create(&mut self, index: usize) {
        let domid = GUESTS[index];
        self.daemon.domain_created(domid);
        let home = format!("/local/domain/{domid}");
        self.tools().write(None, &home, b"").expect("dom0 may");
        let own = [Permission::new(Access::Read, domid)];
        self.tools().set_permissions(None, &home, &own).expect("dom0 may");
        self.introduce(index);
    }

    fn introduce(&mut self, index: usize) {
        let guest = &mut self.guests[index];
        // The only thing that can be wrong is that there is no such domain.
        if self.daemon.tools(&self.toolstack).introduce(GUESTS[index], 7, &mut guest.page).is_ok() {
            guest.begin_anew();
        }
    }

    fn destroy(&mut self, index: usize) {
        self.daemon.domain_destroyed(GUESTS[index]);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Request { guest, r#type, tx, payload } => {
                let open = self.daemon.holdings(GUESTS[guest]).map(|holdings| holdings.transactions);
                let open = open.unwrap_or_default();
                let tx_id = match tx {
                    Tx::None => 0,
                    Tx::Open(which) if open.is_empty() => which.into(),
                    Tx::Open(which) => open[usize::from(which) % open.len()],
                    Tx::Number(number) => number,
                };
                let payload = payload.iter().flat_map(Part::bytes).collect::<Vec<_>>();
                self.guests[guest].request(r#type, tx_id, &payload);
            }
            Action::Bytes { guest, bytes } => self.guests[guest].send(&bytes),
            Action::Word { guest, word, value } => self.guests[guest].scribble(word, value),
            Action::Serve { guest, steps } => {
                // Once there is nothing more to do, there is nothing more to see.
                let _ = (0..steps).find(|_| !self.step(guest));
            }
            Action::Take { guest } => _ = self.guests[guest].take(),
            Action::Settle => self.settle(),
            Action::Tools { kind, path } => self.act_as_dom0(kind, path),
            Action::Fault { guest, fault } => {
                // From now on, what the guest gets is not what the daemon has to say.
                self.guests[guest].is_honest = false;
                self.strike(GUESTS[guest], fault);
            }
            Action::Time { seconds } => {
                self.now += Duration::from_secs(seconds.into());
                self.daemon.set_time(self.now);
            }
        }
    }

    fn act_as_dom0(&mut self, kind: Kind, path: &str) {
        // Whatever the daemon says to it: that is checked by what it does.
        match kind {
            Kind::Create(guest) if self.daemon.holdings(GUESTS[guest]).is_none() => self.create(guest),
            Kind::Create(guest) | Kind::Introduce(guest) => self.introduce(guest),
            Kind::Release(guest) => _ = self.tools().release(GUESTS[guest]),
            Kind::Destroy(guest) => self.destroy(guest),
            Kind::ShutDown(guest) => self.daemon.domain_shut_down(GUESTS[guest]),
            Kind::Resume(guest) => _ = self.tools().resume(GUESTS[guest]),
            Kind::Target(guest) => _ = self.tools().set_target(GUESTS[guest], GUESTS[(guest + 1) % 3]),
            Kind::Write => _ = self.tools().write(None, path, b"dom0"),
            Kind::Rm => _ = self.tools().rm(None, path),
            Kind::Give(guest) => {
                let list = [Permission::new(Access::Both, GUESTS[guest])];
                _ = self.tools().set_permissions(None, path, &list);
            }
            Kind::Watch => _ = self.tools().watch(path, "dom0"),
            Kind::Events => while self.tools().next_event().is_some() {},
        }
    }

    fn strike(&mut self, domid: u16, fault: u8) {
        let distortions = [
            Fault::Refuse(XsError::EAGAIN),
            Fault::Payload(vec![0xFF; 5000]),
            Fault::Truncate(1),
            Fault::Length(u32::MAX),
            Fault::RequestId(0),
            Fault::TransactionId(7),
            Fault::Type(99),
            Fault::Swallow,
            Fault::Repeat,
        ];
        match (distortions.get(usize::from(fault % 12)), fault % 12) {
            (Some(distortion), _) => self.daemon.fault(domid, distortion.clone()),
            (None, 9) => self.daemon.stop_taking(domid, true),
            (None, 10) => self.daemon.stop_giving(domid, true),
            (None, _) => self.daemon.kill(domid, 1),
        };
    }

    /// One step of the daemon's, which says so if it has changed the page.
    fn step(&mut self, index: usize) -> bool {
        let domid = GUESTS[index];
        let guest = &mut self.guests[index];
        let is_off = self.daemon.holdings(domid).is_none_or(|holdings| holdings.is_dead);
        let before = guest.page.clone();
        let step = self.daemon.step(domid, &mut guest.page);
        let has_changed = before != guest.page;
        assert!(step.signal || !has_changed, "domain {domid} is not told of a change");
        assert!(!is_off || !has_changed, "domain {domid} is not connected, and its page changes");
        assert!(!is_off || !step.again, "domain {domid} is not connected, and there is something to do");
        step.again
    }

    /// The daemon does all it can, and guests take what there is.
    fn settle(&mut self) {
        // Each round moves a byte at least, and there are not so many.
        for _ in 0..1_000_000 {
            let mut again = false;
            for index in 0..GUESTS.len() {
                self.guests[index].flush();
                again |= self.step(index);
                again |= self.guests[index].take();
            }
            if !again {
                return;
            }
        }
        panic!("the daemon does not come to rest");
    }

    fn check(&mut self) {
        self.daemon.check().expect("after each action");
        for record in self.daemon.take_records() {
            match record {
                Record::Request { result: Err(refusal), .. } => _ = self.broken.insert(refusal.rule.name),
                Record::Ended { rule, .. } => _ = self.broken.insert(rule.name),
                Record::Request { .. } | Record::Event { .. } | Record::Connected(_) => {}
            }
        }
        for domid in GUESTS {
            let Some(holdings) = self.daemon.holdings(domid) else { continue };
            let holds = [
                (Quota::Watches, holdings.watches.len()),
                (Quota::Transactions, holdings.transactions.len()),
            ];
            for (quota, count) in holds {
                assert!(
                    count < self.quotas.get(quota) as usize,
                    "domain {domid} has {count} {}",
                    quota.name()
                );
            }
            // One that was begun with less is done.
            let outstanding = self.quotas.get(Quota::Outstanding) as usize;
            assert!(holdings.outstanding <= outstanding, "domain {domid}: {holdings:?}");
            assert!(holdings.received < 16 + 4096, "domain {domid}: {holdings:?}");
        }
    }

    /// When those are gone that have not kept to the rules, nothing of what the others wait for may be missing.
    fn finish(&mut self) {
        for index in 0..GUESTS.len() {
            if !self.guests[index].is_honest {
                self.destroy(index);
            }
        }
        self.settle();
        self.check();
        for (domid, guest) in GUESTS.into_iter().zip(&self.guests) {
            let Some(holdings) = self.daemon.holdings(domid) else { continue };
            let is_heard = holdings.memory < self.quotas.get(Quota::Memory) as usize;
            if is_heard && guest.has_said_too_much() {
                assert!(holdings.is_dead, "domain {domid} has sent too much: {holdings:?}");
            } else if is_heard && !holdings.is_dead {
                assert_eq!(guest.waits_for(), 0, "domain {domid} waits for replies: {holdings:?}");
                assert_eq!((holdings.outstanding, holdings.queued), (0, 0), "domain {domid}");
            }
        }
    }
}
