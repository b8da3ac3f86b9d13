//! What others do with what a guest has granted to them.
//!
//! An input is a list of [`Action`]s: two queues share, lend and take back pages, which the control domain maps,
//! copies and holds on to, while the guest is moved and memory runs out. No page may be freed that somebody has
//! mapped, and no reference be somebody's twice. An input may also write to the table, which only Xen and the guest
//! do; then nothing may panic.
#![deny(unsafe_code)]

mod action;
mod statics;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use kexec::{
    irql::Dispatch,
    platform::thread::{Thread, passive},
};
use xen_abi::{
    DomId, GrantRef,
    grant_table::{ENTRIES, FLAGS},
    seam::{Access as _, Gfn},
};
use xen_harness::Alone;
use xen_sim::{Access, Culprit, Guest, GuestConfig, Machine, Mapping, Mistake, Suspend as Becomes};
use xenbus::{
    grant::{GrantCache, Grants, Loan, Peer, Rights, Shared},
    page::{Foreign, Ram},
};

pub use self::action::{Action, Deed, decode, encode};
use self::statics::{Request, Statics};

/// Pages of a loan.
const PAGES: usize = 3;

/// Does to a grant table what the input says. The names of all that was met.
///
/// # Panics
///
/// A page was freed that somebody had mapped, or a reference was somebody's twice.
#[must_use]
pub fn gnttab(input: &[u8]) -> BTreeSet<String> {
    let (options, actions) = decode(input);
    dispatch(|at| {
        let mut world = World::new(at, options);
        for action in actions {
            world.act(at, action);
            world.check();
        }
        world.finish(at)
    })
}

/// At `DISPATCH_LEVEL`, as queues are.
fn dispatch<R>(work: impl FnOnce(&Dispatch) -> R) -> R {
    passive(|passive| passive.raised(&Thread::<Dispatch>::new(), |at| work(at)))
}

/// A guest with two queues, and whoever they talk to.
struct World {
    machine: Machine,
    guest: Guest,
    /// Where the first frame of the table is.
    table: Gfn,
    queues: Option<Queues>,
    shares: Vec<Shared<Guest>>,
    loans: Vec<Loan<Guest, Request, PAGES>>,
    foreign: Vec<Foreign<Guest>>,
    mapped: Vec<Mapping>,
    /// Nobody has written to the table who must not.
    is_honest: bool,
    met: BTreeSet<String>,
    // After all that refers to it.
    statics: Statics,
}

/// The queues' references.
struct Queues {
    small: GrantCache<Guest, 3>,
    large: GrantCache<Guest, 40>,
}

impl Queues {
    fn new(grants: &'static Grants<Guest>) -> Self {
        Self { small: GrantCache::new(grants), large: GrantCache::new(grants) }
    }
}

/// Does something with one of the two queues' references.
macro_rules! with_queue {
    ($world:ident, $which:expr, $cache:ident => $work:expr) => {{
        let Queues { small, large } = $world.queues.as_mut().expect("they are there until the end");
        if $which % 2 == 0 {
            let $cache = small;
            $work
        } else {
            let $cache = large;
            $work
        }
    }};
}

impl World {
    /// Each bit of `options` makes something small that is soon used up.
    fn new(at: &Dispatch, options: u8) -> Self {
        let machine = Machine::new(0);
        let guest = machine.create(GuestConfig {
            has_store: false,
            grant_frames: if options & 1 == 0 { 2 } else { 1 },
            pages: if options & 2 == 0 { 4096 } else { 24 },
            mappings: 4,
            ..GuestConfig::default()
        });
        let mut statics = Statics::new(&guest);
        statics.listen(at);
        // Places are handed out in turn: the next one is the table's.
        let before = Ram::allocate(&guest).expect("nothing is used yet");
        let mut queues = Queues::new(statics.grants());
        queues.large.reserve(at, 1).expect("nothing is used yet");
        let table = Gfn(before.gfn().0 + 1);
        Self {
            machine,
            guest,
            table,
            queues: Some(queues),
            shares: Vec::new(),
            loans: Vec::new(),
            foreign: Vec::new(),
            mapped: Vec::new(),
            is_honest: true,
            met: BTreeSet::new(),
            statics,
        }
    }

    /// Takes note of what has happened, by its name.
    fn meet(&mut self, what: impl Debug) {
        let name = format!("{what:?}");
        let name = name
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .find(|part| !part.is_empty());
        self.met.extend(name.map(Into::into));
    }

    fn act(&mut self, at: &Dispatch, Action { deed, numbers: [one, two, three] }: Action) {
        let rights = if two & 1 == 0 { Rights::Read } else { Rights::Write };
        let access = if two & 1 == 0 { Access::Read } else { Access::Write };
        let dom0 = self.machine.dom0();
        match deed {
            Deed::Share => {
                let peer = self.peer(two / 2);
                // To zero many takes its time.
                let more = if peer.is_trusted() { three % 64 } else { 0 };
                (0..=more).for_each(|_| self.share(at, one, peer, rights));
            }
            Deed::End => {
                let Some(share) = take(&mut self.shares, two) else { return };
                match with_queue!(self, one, cache => share.end(cache, at)) {
                    Ok(_) => self.meet("Ended"),
                    Err(held) => {
                        self.meet(held.by);
                        self.shares.push(held.what);
                    }
                }
            }
            Deed::Drop => drop(take(&mut self.shares, one)),
            Deed::Lend => self.lend(at, one, two, rights),
            Deed::Return => {
                let Some(loan) = take(&mut self.loans, two) else { return };
                match with_queue!(self, one, cache => loan.end(cache, at)) {
                    Ok(_) => self.meet("Returned"),
                    Err(held) => {
                        self.meet(held.by);
                        self.loans.push(held.what);
                    }
                }
            }
            Deed::DropLoan => drop(take(&mut self.loans, one)),
            Deed::Map => match dom0.map(&self.guest, self.entry(one, two), access) {
                Ok(mapping) => self.mapped.push(mapping),
                Err(error) => self.meet(error),
            },
            Deed::Write => {
                if let Some(mapping) = take(&mut self.mapped, one) {
                    // It may be for reading only.
                    let _ = dom0.write(mapping, two.into(), &[three]);
                    self.mapped.push(mapping);
                }
            }
            Deed::Unmap => {
                if let Some(mapping) = take(&mut self.mapped, one) {
                    dom0.unmap(mapping).expect("it is mapped");
                }
            }
            Deed::Copy => {
                let entry = self.entry(one, two);
                // What is granted can be copied; the rest is refused.
                let _ = match access {
                    Access::Read => dom0.copy_from(&self.guest, entry, three.into(), &mut [0; 9]),
                    Access::Write => dom0.copy_to(&self.guest, entry, three.into(), &[two; 9]),
                };
            }
            Deed::MapForeign => {
                let (domain, entry) = (DomId(self.guest.domain()), self.entry(one, two));
                let grants = self.statics.grants();
                match outcome(grants.map_foreign(at, domain, entry, rights)) {
                    Ok(page) => {
                        assert_eq!(page.writable().is_ok(), rights == Rights::Write);
                        self.foreign.push(page);
                    }
                    Err(error) => self.meet(error),
                }
            }
            Deed::UnmapForeign => match take(&mut self.foreign, one) {
                Some(page) if two & 1 == 0 => page.unmap().expect("Xen unmaps what is mapped"),
                page => drop(page),
            },
            Deed::Tend => _ = self.statics.grants().tend(at),
            Deed::Suspend => {
                let becomes = if one % 2 == 0 { Becomes::Migrated } else { Becomes::Cancelled };
                self.machine.toolstack().expect_suspend(&self.guest, becomes);
                let suspended = self.statics.suspend().suspend(at, &self.guest, &Alone(&self.guest));
                self.meet(suspended.expect("Xen suspends it"));
            }
            Deed::Reserve => {
                let reserved = with_queue!(self, one, cache => cache.reserve(at, usize::from(two) % 45));
                if let Err(error) = reserved {
                    self.meet(error);
                }
            }
            Deed::Restart => self.queues = Some(Queues::new(self.statics.grants())),
            Deed::Close => match self.statics.grants().close(at) {
                // It is somewhere else, once it grows again.
                Ok(()) => self.table = Gfn(u64::MAX),
                Err(error) => self.meet(error),
            },
            Deed::FailAllocation => self.guest.fail_allocation(u64::from(one % 8)),
            Deed::Flags => self.scribble(self.entry(one, 0), |table, index| {
                let Some(place) = FLAGS.get(index) else { return };
                table.store(place, u16::from_le_bytes([two, three]));
            }),
            Deed::Bytes => self.scribble(self.entry(one, 0), |table, index| {
                let Some(place) = ENTRIES.get(index) else { return };
                table.store(place, u64::from_le_bytes([two, three, three, 0, two, 0, 0, 0]));
            }),
        }
    }

    fn share(&mut self, at: &Dispatch, queue: u8, peer: Peer, rights: Rights) {
        let Ok(page) = Ram::allocate(&self.guest) else { return };
        match with_queue!(self, queue, cache => Shared::new(cache, at, peer, page, rights)) {
            Ok(share) => {
                let number = share.reference();
                assert!(
                    self.shares.iter().all(|other| other.reference() != number),
                    "{number} is granted twice"
                );
                self.shares.push(share);
            }
            Err(refused) => self.meet(refused.error),
        }
    }

    fn lend(&mut self, at: &Dispatch, queue: u8, pages: u8, rights: Rights) {
        let count = usize::from(pages / 2) % (PAGES + 2);
        let request = Request((0..count.min(PAGES)).map_while(|_| Ram::allocate(&self.guest).ok()).collect());
        let trusted = Peer::trusted(DomId(0)).trust().expect("it is");
        let mut loan = with_queue!(self, queue, cache => Loan::new(cache, trusted, request));
        for page in 0..count {
            if let Err(error) = with_queue!(self, queue, cache => loan.lend(cache, at, page, rights)) {
                self.meet(error);
            }
        }
        self.loans.push(loan);
    }

    fn peer(&self, which: u8) -> Peer {
        match which % 4 {
            0 => Peer::trusted(DomId(0)),
            1 => Peer::untrusted(DomId(0)),
            2 => Peer::trusted(DomId(self.guest.domain())),
            _ => Peer::untrusted(DomId(77)),
        }
    }

    /// One that is shared, or any of the first.
    fn entry(&self, one: u8, two: u8) -> GrantRef {
        let shared = self.shares.get(usize::from(one) % self.shares.len().max(1)).filter(|_| two & 0x80 == 0);
        shared.map_or(GrantRef(u32::from(one) + 24), Shared::reference)
    }

    /// Writes to the table what only Xen and the right guest may.
    fn scribble(&mut self, GrantRef(entry): GrantRef, write: impl FnOnce(&xen_sim::GuestFrame, usize)) {
        if self.table != Gfn(u64::MAX) && entry < 512 {
            self.is_honest = false;
            write(&self.guest.physical(self.table), usize::try_from(entry).expect("below 512"));
        }
    }

    /// What must be so at any time.
    fn check(&mut self) {
        self.machine.check().expect("Xen's books agree");
        let counters = self.statics.grants().counters();
        for (what, count) in [
            ("Quarantined", counters.quarantined),
            ("Leaked", counters.leaked),
            ("Held", counters.held),
            ("Kept", counters.kept),
            ("Holes", counters.holes),
        ] {
            if count > 0 {
                self.meet(what);
            }
        }
        assert!(counters.held as usize <= self.loans.len(), "{counters:?}");
        assert!(counters.taken <= counters.frames * 512 || !self.is_honest, "{counters:?}");
    }

    /// Everybody lets go: then nothing may be left but what is lost.
    fn finish(mut self, at: &Dispatch) -> BTreeSet<String> {
        let kept = self.statics.grants().counters().kept;
        for mapping in self.mapped.drain(..) {
            self.machine.dom0().unmap(mapping).expect("it is mapped");
        }
        self.foreign.clear();
        self.shares.clear();
        self.loans.clear();
        self.queues = None;
        let closed = self.statics.grants().close(at);
        let audit = self.machine.audit(&self.guest);
        let found: BTreeSet<_> = audit.of(Culprit::Guest).map(|finding| finding.mistake).collect();
        if self.is_honest {
            let lost = self.statics.grants().counters();
            assert_eq!((lost.quarantined, lost.held, lost.kept), (0, 0, kept), "{lost:?}");
            let may_be: &[_] = if kept + lost.leaked == 0 {
                assert_eq!(closed, Ok(()));
                &[]
            } else {
                // A request that is kept has its pages, in whichever domain.
                &[Mistake::GrantLeft, Mistake::PageLeft, Mistake::HoleBacked]
            };
            assert!(found.iter().all(|mistake| may_be.contains(mistake)), "{audit}");
        }
        self.met
    }
}

/// One of them, if there is one.
fn take<T>(from: &mut Vec<T>, which: u8) -> Option<T> {
    let which = usize::from(which).checked_rem(from.len())?;
    Some(from.swap_remove(which))
}

/// Polls until it is ready.
fn outcome<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return outcome;
        }
    }
}
