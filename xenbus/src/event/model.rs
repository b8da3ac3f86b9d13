//! Queues and bitmaps against a Xen that is at work on the same words, between any two accesses.
//!
//! The Xen is a model of `xen/common/event_fifo.c` and `event_2l.c`: each event that it raises is a machine of single
//! accesses, and there are several at a time. What its locks exclude is excluded; what comes after them (`ready`, the
//! upcall) may come late.
#![forbid(unsafe_code)]

use core::{cell::RefCell, iter};
use std::{collections::BTreeSet, vec::Vec};

use xen_abi::{
    event_channel::{
        EvtchnPort,
        fifo::{
            EVENT_WORDS, EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED,
            EVTCHN_FIFO_PENDING, HEAD, READY,
        },
    },
    seam::{Access, Mapped, PAGE_SIZE, Place},
    shared_info::{EVTCHN_MASK, EVTCHN_PENDING, VCPU_INFO},
};
use xen_harness::page::{Raced, page};

use super::{
    fifo::{Queues, Word},
    port::{Armed, Port},
    two_level::{Bits, Selector},
};

const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;

/// Ports, from 1 on. With the bitmaps they are in several words.
const PORTS: u32 = 12;
const STRIDE: u32 = 17;
/// Events that Xen raises at a time.
const SENDERS: usize = 3;

/// `SplitMix64`
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn port(&mut self) -> u32 {
        1 + u32::try_from(self.below(PORTS.into())).unwrap()
    }
}

/// Where a sender is: its next access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// It takes the lock, and sets PENDING.
    Pending,
    Masked,
    Linked,
    /// It looks at the tail's word.
    Tail,
    /// It links the port behind the tail, whose word was this. The first time without BUSY.
    Link(u32, u32),
    Busy,
    /// The tail was taken off meanwhile.
    NotBusy,
    Head,
    /// It has let go of the lock.
    Ready,
    Upcall,
}

#[derive(Clone, Copy, Debug)]
struct Sender {
    port: u32,
    /// Whose lock it takes.
    queue: u32,
    at: At,
    /// It is `EVTCHNOP_unmask`, which has cleared MASKED.
    is_unmask: bool,
}

/// What Xen has.
struct Xen {
    dice: Dice,
    fifo: bool,
    block: &'static Mapped,
    words: &'static Mapped,
    senders: Vec<Sender>,
    /// The one that has the lock.
    locked: Option<usize>,
    tails: [u32; 16],
    priorities: Vec<u32>,
    last_queues: Vec<u32>,
    /// An upcall is due.
    upcall: bool,
    /// Ports with an event that was not told yet.
    due: BTreeSet<u32>,
    sent: u32,
    /// How often Xen made the guest wait.
    busy: u32,
}

fn word(port: u32) -> Place<u32> {
    EVENT_WORDS.get(port as usize).unwrap()
}

/// The number of a port of the bitmaps', its word and its bit.
fn bit(port: u32) -> (usize, u64) {
    let number = port * STRIDE;
    ((number / 64) as usize, 1 << (number % 64))
}

impl Xen {
    fn new(seed: u64, fifo: bool, [block, words]: [&'static Mapped; 2]) -> Self {
        for page in [block, words] {
            page.write_bytes(0, &[0; PAGE_SIZE]).unwrap();
        }
        for port in 1..=PORTS {
            words.store(word(port), MASKED);
        }
        if !fifo {
            super::two_level::mask_all(words);
        }
        let queues = || iter::repeat_n(7, PORTS as usize + 1).collect();
        Self {
            dice: Dice(seed),
            fifo,
            block,
            words,
            senders: Vec::new(),
            locked: None,
            tails: [0; 16],
            priorities: queues(),
            last_queues: queues(),
            upcall: false,
            due: BTreeSet::new(),
            sent: 0,
            busy: 0,
        }
    }

    /// Somebody sends to a port, if there is still time.
    fn send(&mut self, port: u32) {
        if self.senders.len() < SENDERS {
            self.senders.push(Sender { port, queue: 0, at: At::Pending, is_unmask: false });
        }
    }

    /// Makes some accesses.
    fn go_on(&mut self, most: u64, may_send: bool) {
        for _ in 0..self.dice.below(most + 1) {
            if may_send && self.dice.below(8) == 0 {
                let port = self.dice.port();
                self.send(port);
            }
            if may_send && self.dice.below(64) == 0 {
                let port = self.dice.port();
                self.priorities[port as usize] = u32::try_from(self.dice.below(3)).unwrap() * 5;
            }
            if !self.senders.is_empty() {
                let who = usize::try_from(self.dice.below(self.senders.len() as u64)).unwrap();
                self.step(who);
            }
        }
    }

    /// One access of a sender's.
    fn step(&mut self, who: usize) {
        let Sender { port, at, .. } = self.senders[who];
        if self.locked.is_some_and(|locked| locked != who) && at == At::Pending {
            return;
        }
        let next = if self.fifo { self.fifo_step(who, port, at) } else { self.two_level_step(port, at) };
        if let Some(next) = next {
            let keeps = !matches!(next, At::Ready | At::Upcall);
            self.locked = if keeps { Some(who) } else { self.locked.filter(|locked| *locked != who) };
            self.senders[who].at = next;
        } else {
            self.senders.swap_remove(who);
            let others = self.locked.filter(|locked| *locked != who);
            // Who was last has its place now.
            self.locked = others.map(|locked| if locked == self.senders.len() { who } else { locked });
        }
    }

    fn raised(&mut self, who: usize, port: u32) {
        self.due.insert(port);
        self.sent += u32::from(!self.senders[who].is_unmask);
    }

    /// `evtchn_fifo_set_pending`. The next access; none at the end.
    fn fifo_step(&mut self, who: usize, port: u32, at: At) -> Option<At> {
        let words = self.words;
        let (queue, last) = (self.senders[who].queue, self.last_queues[port as usize]);
        match at {
            At::Pending => {
                self.senders[who].queue = self.priorities[port as usize];
                self.raised(who, port);
                words.fetch_or(word(port), PENDING);
                Some(At::Masked)
            }
            At::Masked => (words.load(word(port)) & MASKED == 0).then_some(At::Linked),
            At::Linked => {
                if words.fetch_or(word(port), LINKED) & LINKED != 0 {
                    return None;
                }
                if self.tails[last as usize] == port {
                    self.tails[last as usize] = 0;
                }
                self.last_queues[port as usize] = queue;
                Some(if self.tails[queue as usize] == 0 { At::Head } else { At::Tail })
            }
            At::Tail => {
                let old = words.load(word(self.tails[queue as usize]));
                Some(if old & LINKED == 0 { At::Head } else { At::Link(old, 0) })
            }
            At::Link(old, tries) => {
                let new = old & !(BUSY | EVTCHN_FIFO_LINK_MASK) | port;
                match words.compare_exchange(word(self.tails[queue as usize]), old, new) {
                    Ok(_) => {
                        self.tails[queue as usize] = port;
                        None
                    }
                    Err(_) if tries == 0 => Some(At::Busy),
                    Err(now) if now & LINKED == 0 => Some(At::NotBusy),
                    Err(now) => {
                        assert!(tries < 4, "the guest changes a word more often than Xen expects");
                        Some(At::Link(now, tries + 1))
                    }
                }
            }
            At::Busy => {
                self.busy += 1;
                let old = words.fetch_or(word(self.tails[queue as usize]), BUSY) | BUSY;
                Some(if old & LINKED == 0 { At::NotBusy } else { At::Link(old, 1) })
            }
            At::NotBusy => {
                words.fetch_and(word(self.tails[queue as usize]), !BUSY);
                Some(At::Head)
            }
            At::Head => {
                self.block.store(HEAD.get(queue as usize).unwrap(), port);
                self.tails[queue as usize] = port;
                Some(At::Ready)
            }
            At::Ready => {
                let old = self.block.fetch_or(READY, 1 << queue);
                (old & 1 << queue == 0).then_some(At::Upcall)
            }
            At::Upcall => {
                self.upcall = true;
                None
            }
        }
    }

    /// `evtchn_2l_set_pending`
    fn two_level_step(&mut self, port: u32, at: At) -> Option<At> {
        let (index, bit) = bit(port);
        match at {
            At::Pending => {
                self.due.insert(port);
                self.sent += 1;
                let old = self.words.fetch_or(EVTCHN_PENDING.get(index).unwrap(), bit);
                (old & bit == 0).then_some(At::Masked)
            }
            At::Masked => (self.words.load(EVTCHN_MASK.get(index).unwrap()) & bit == 0).then_some(At::Ready),
            At::Ready => {
                let old = self.block.fetch_or(VCPU_INFO.evtchn_pending_sel.get(0).unwrap(), 1 << index);
                (old & 1 << index == 0).then_some(At::Upcall)
            }
            _ => {
                self.upcall = true;
                None
            }
        }
    }

    /// `EVTCHNOP_unmask`
    fn unmask(&mut self, port: u32) {
        self.words.fetch_and(word(port), !MASKED);
        if self.words.load(word(port)) & PENDING != 0 {
            self.senders.push(Sender { port, queue: 0, at: At::Pending, is_unmask: true });
        }
    }
}

/// The guest: a driver's interrupt handler, and owners that ask for the next event, each when it likes.
struct Guest<'a> {
    xen: &'a RefCell<Xen>,
    block: Raced<'a>,
    words: Raced<'a>,
    queues: Queues,
    selector: Selector,
    /// Ports whose owner has not asked for the next event.
    resting: BTreeSet<u32>,
    told: u32,
}

impl Guest<'_> {
    /// One visit, within a budget; whether that was used up.
    fn visit(&mut self, budget: u32) -> bool {
        let Self { xen, block, words, queues, selector, resting, told } = self;
        let fifo = xen.borrow().fifo;
        let before = *told;
        let mut left = budget;
        let mut tell = |port| {
            assert!(xen.borrow_mut().due.remove(&port), "port {port} was told of nothing");
            assert!(resting.insert(port), "port {port} was told twice");
            *told += 1;
        };
        xen.borrow_mut().upcall = false;
        if fifo {
            let word = |EvtchnPort(port)| {
                let place = EVENT_WORDS.get(usize::try_from(port).ok()?)?;
                Some(Word { page: words, place })
            };
            let tell = |found: Result<EvtchnPort, _>| tell(found.expect("Xen does nothing odd").0);
            queues.visit(block, word, &mut left, tell);
        } else {
            let place = VCPU_INFO.evtchn_pending_sel.get(0).unwrap();
            selector.visit(words, (block, place), &mut left, |EvtchnPort(number)| tell(number / STRIDE));
        }
        assert!(self.told - before <= budget);
        left == 0
    }

    /// The owner of a port asks for the next event; whether it is there already.
    fn ask(&mut self, port: u32) -> bool {
        let place = if self.xen.borrow().fifo {
            Port::Fifo(Word { page: &self.words, place: word(port) })
        } else {
            Port::TwoLevel(Bits::of(&self.words, EvtchnPort(port * STRIDE)).unwrap())
        };
        // From here on the interrupt may tell of it.
        self.resting.remove(&port);
        let armed = place.arm();
        if armed == Armed::Busy {
            self.xen.borrow_mut().unmask(port);
        }
        let taken = armed == Armed::Pending && place.take();
        if taken {
            assert!(self.xen.borrow_mut().due.remove(&port), "port {port} had no event");
        }
        if armed == Armed::Pending {
            self.resting.insert(port);
        }
        taken
    }
}

/// What was seen of it all.
#[derive(Debug, Default)]
struct Seen {
    sent: u32,
    told: u32,
    taken: u32,
    busy: u32,
}

/// A race: Xen and the guest take turns of any length. In the end nobody sends any more, and nothing is due.
fn race(seed: u64, fifo: bool, pages: [&'static Mapped; 2]) -> Seen {
    let xen = RefCell::new(Xen::new(seed, fifo, pages));
    let others = || xen.borrow_mut().go_on(4, true);
    let race = |page| Raced { page, others: &others };
    let mut guest = Guest {
        xen: &xen,
        block: race(pages[0]),
        words: race(pages[1]),
        queues: Queues::new(),
        selector: Selector::new(),
        resting: (1..=PORTS).collect(),
        told: 0,
    };
    let mut taken = 0;
    let mut dice = Dice(!seed);
    let mut more = false;
    for _ in 0..300 {
        xen.borrow_mut().go_on(6, true);
        if more || xen.borrow().upcall {
            more = guest.visit(1 + u32::try_from(dice.below(6)).unwrap());
        }
        let port = dice.port();
        if dice.below(2) == 0 && guest.resting.contains(&port) {
            taken += u32::from(guest.ask(port));
        }
    }
    // Nobody sends any more.
    let quiet = || xen.borrow_mut().go_on(4, false);
    guest.block.others = &quiet;
    guest.words.others = &quiet;
    for _ in 0..200 {
        for _ in 0..8 {
            xen.borrow_mut().go_on(6, false);
        }
        while more || xen.borrow().upcall {
            more = guest.visit(3);
        }
        for port in guest.resting.clone() {
            taken += u32::from(guest.ask(port));
        }
    }
    let told = guest.told;
    let xen = xen.borrow();
    assert_eq!(xen.due, BTreeSet::new(), "seed {seed}: these were never told");
    Seen { sent: xen.sent, told, taken, busy: xen.busy }
}

fn races(fifo: bool) -> Seen {
    let pages = [page(), page()];
    (0..1_000).map(|seed| race(seed, fifo, pages)).fold(Seen::default(), |sum, seen| Seen {
        sent: sum.sent + seen.sent,
        told: sum.told + seen.told,
        taken: sum.taken + seen.taken,
        busy: sum.busy + seen.busy,
    })
}

/// However Xen and the guest get in each other's way, each event is told once, and none that is not there.
#[test]
fn queues_lose_nothing_and_invent_nothing() {
    let seen = races(true);
    assert!(seen.sent > 100_000 && seen.told > 30_000 && seen.taken > 10_000 && seen.busy > 100, "{seen:?}");
}

/// The same with the bitmaps.
#[test]
fn bitmaps_lose_nothing_and_invent_nothing() {
    let seen = races(false);
    assert!(seen.sent > 100_000 && seen.told > 30_000 && seen.taken > 10_000, "{seen:?}");
}

/// While Xen changes a word's link, the port is not unmasked: that is Xen's to do then. It does not take long, as a
/// rule.
#[test]
fn a_busy_word_is_left_to_xen() {
    let page = page();
    let of = |value| {
        page.store(word(1), value);
        let armed = Word { page, place: word(1) }.arm();
        (armed, page.load(word(1)))
    };
    assert_eq!(of(MASKED | BUSY | LINKED), (Armed::Busy, MASKED | BUSY | LINKED));
    assert_eq!(of(MASKED | BUSY | PENDING), (Armed::Pending, MASKED | BUSY | PENDING));
    assert_eq!(of(MASKED | LINKED), (Armed::Yes, LINKED));
    assert_eq!(of(PENDING | LINKED), (Armed::Yes, PENDING | LINKED), "its upcall is on its way");
    page.store(word(1), MASKED | BUSY);
    let looks = core::cell::Cell::new(0);
    let others = || {
        looks.set(looks.get() + 1);
        if looks.get() == 5 {
            page.fetch_and(word(1), !BUSY);
        }
    };
    let raced = Raced { page, others: &others };
    assert_eq!(Word { page: &raced, place: word(1) }.arm(), Armed::Yes);
}
