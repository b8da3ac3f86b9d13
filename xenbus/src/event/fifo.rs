//! The FIFO ABI: a word for each port, by which Xen links it into a queue, one for each priority and virtual CPU.
//!
//! ```text
//! control block of a vCPU            event array
//! ready     a bit for each queue     word[port]: PENDING MASKED LINKED BUSY, and LINK,
//! head[16]  its first port           the next port of the queue; zero at its end
//! ```
//!
//! Xen appends, the guest takes off: it clears LINKED and LINK, and goes on where LINK said. Of a queue that it has
//! begun, the guest alone knows the next port; it looks into `head` only when it has come to the end and `ready` says
//! that there is more.
//!
//! One compare-exchange takes a port off its queue, masks it and takes its event: Xen, who looks at MASKED after it has
//! set PENDING, then either was before it, and has this event told, or finds the port masked.
//!
//! Whatever the words say, a visit follows at most as many links as it was allowed: each port that is taken off is not
//! `LINKED` any more, so that a chain that bites its tail ends there.
//!
//! Source: `xen/include/public/event_channel.h`, section "FIFO ABI"; `xen/common/event_fifo.c`.
#![forbid(unsafe_code)]

use core::{
    hint::spin_loop,
    sync::atomic::{
        AtomicU32, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use kexec::{irql::Dispatch, sync::SpinLock};
use xen_abi::{
    Errno,
    event_channel::{
        EvtchnPort,
        fifo::{
            EVENT_WORDS, EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED,
            EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING, EventWord, HEAD, READY,
        },
    },
    seam::{Access, NoMemory, Place},
};

use super::port::Armed;
use crate::{
    cell::Once,
    page::{FifoPage, Ram, Seam},
};

const PENDING: EventWord = 1 << EVTCHN_FIFO_PENDING;
const MASKED: EventWord = 1 << EVTCHN_FIFO_MASKED;
const LINKED: EventWord = 1 << EVTCHN_FIFO_LINKED;
const BUSY: EventWord = 1 << EVTCHN_FIFO_BUSY;

/// How often a word is tried to be changed. Xen changes one that is linked a handful of times: PENDING, BUSY, LINK.
const TRIES: u32 = 16;

/// A port's word.
pub(super) struct Word<'a, F> {
    pub(super) page: &'a F,
    pub(super) place: Place<EventWord>,
}

/// A port that was taken off a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    /// Its event was taken, and it is masked now.
    has_event: bool,
    /// It was in a queue.
    was_linked: bool,
    /// The next port of that; zero at its end.
    link: u32,
}

impl<F: Access> Word<'_, F> {
    pub(super) fn mask(&self) {
        self.page.fetch_or(self.place, MASKED);
    }

    /// Unmasks the port, unless there is an event. Xen may be just changing the link: then not for long.
    pub(super) fn arm(&self) -> Armed {
        for _ in 0..TRIES {
            let word = self.page.load(self.place);
            if word & MASKED == 0 {
                return Armed::Yes;
            }
            if word & PENDING != 0 {
                return Armed::Pending;
            }
            if word & BUSY == 0 && self.page.compare_exchange(self.place, word, word & !MASKED).is_ok() {
                return Armed::Yes;
            }
            spin_loop();
        }
        Armed::Busy
    }

    /// Takes the event of a masked port, if it has one.
    pub(super) fn take(&self) -> bool {
        self.page.fetch_and(self.place, !PENDING) & PENDING != 0
    }

    /// Takes the port off its queue, and its event with it unless it is masked. None, if the word does not stand still.
    fn take_off(&self) -> Option<Taken> {
        for _ in 0..TRIES {
            let word = self.page.load(self.place);
            let has_event = word & (PENDING | MASKED) == PENDING;
            let event = if has_event { word & !PENDING | MASKED } else { word };
            let was_linked = word & LINKED != 0;
            let left = event & !(LINKED | EVTCHN_FIFO_LINK_MASK);
            if self.page.compare_exchange(self.place, word, left).is_ok() {
                let link = if was_linked { word & EVTCHN_FIFO_LINK_MASK } else { 0 };
                return Some(Taken { has_event, was_linked, link });
            }
        }
        None
    }
}

/// What a visit finds that Xen never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// A queue goes on with a port that has no word.
    Beyond,
    /// It goes on with one that is not in a queue.
    NotLinked,
    /// The word of a port does not stand still.
    Restless,
}

/// How far a virtual CPU has come in its queues.
#[derive(Debug)]
pub(super) struct Queues {
    /// Those in which there is something.
    ready: AtomicU32,
    /// The next port of each that was begun.
    next: [AtomicU32; EVTCHN_FIFO_MAX_QUEUES],
}

impl Queues {
    pub(super) const fn new() -> Self {
        Self { ready: AtomicU32::new(0), next: [const { AtomicU32::new(0) }; EVTCHN_FIFO_MAX_QUEUES] }
    }

    pub(super) fn clear(&self) {
        self.ready.store(0, Relaxed);
        self.next.iter().for_each(|next| next.store(0, Relaxed));
    }

    /// Takes ports off, the highest priority first, and tells of their events. It follows a link as often as is `left`.
    /// By one at a time.
    pub(super) fn visit<'w, F: Access + 'w>(
        &self,
        block: &F,
        word: impl Fn(EvtchnPort) -> Option<Word<'w, F>>,
        left: &mut u32,
        mut tell: impl FnMut(Result<EvtchnPort, Oddity>),
    ) {
        let mut ready = self.ready.load(Relaxed) & ALL;
        loop {
            // Something more urgent may have come.
            if block.load(READY) != 0 {
                ready |= block.swap(READY, 0) & ALL;
            }
            let Some(less) = left.checked_sub(1).filter(|_| ready != 0) else { break };
            *left = less;
            let priority = ready.trailing_zeros();
            if self.take_first(priority, block, &word, &mut tell) == 0 {
                ready &= !(1 << (priority % u32::BITS));
            }
        }
        self.ready.store(ready, Relaxed);
    }

    /// Takes off the first port of a queue. The next; zero, if it was the last.
    fn take_first<'w, F: Access + 'w>(
        &self,
        priority: u32,
        block: &F,
        word: impl Fn(EvtchnPort) -> Option<Word<'w, F>>,
        mut tell: impl FnMut(Result<EvtchnPort, Oddity>),
    ) -> u32 {
        let queue = usize::try_from(priority).unwrap_or(usize::MAX);
        let (Some(next), Some(head)) = (self.next.get(queue), HEAD.get(queue)) else { return 0 };
        let port = match next.load(Relaxed) {
            0 => EvtchnPort(block.load(head)),
            port => EvtchnPort(port),
        };
        let link = match word(port).map(|word| word.take_off()) {
            None => {
                tell(Err(Oddity::Beyond));
                0
            }
            Some(None) => {
                tell(Err(Oddity::Restless));
                0
            }
            Some(Some(Taken { has_event, was_linked, link })) => {
                if has_event {
                    tell(Ok(port));
                }
                if !was_linked {
                    tell(Err(Oddity::NotLinked));
                }
                link
            }
        };
        next.store(link, Relaxed);
        link
    }
}

/// The bits of all queues.
const ALL: u32 = (1 << EVTCHN_FIFO_MAX_QUEUES) - 1;

/// Words of a page.
const WORDS: usize = EVENT_WORDS.count();
/// The most pages that an [`Array`] takes,
const PAGES: usize = 16;
/// and ports that have words then.
const PORTS: usize = PAGES * WORDS;

/// The words of all ports, by pages, which it gets as ports appear.
#[derive(Debug)]
pub(super) struct Array<P: Seam> {
    pages: [Once<FifoPage<P>>; PAGES],
    /// How many Xen has in the domain that the guest is now.
    live: AtomicUsize,
    /// Who has it adds pages: Xen counts them in the order in which they come.
    adding: SpinLock<()>,
}

impl<P: Seam> Array<P> {
    pub(super) const fn new() -> Self {
        Self { pages: [const { Once::new() }; PAGES], live: AtomicUsize::new(0), adding: SpinLock::new(()) }
    }

    /// A port's word, if there is one.
    #[inline]
    pub(super) fn word(&self, EvtchnPort(port): EvtchnPort) -> Option<Word<'_, P::Frame>> {
        let port = usize::try_from(port).ok()?;
        let (page, place) = (port / WORDS, EVENT_WORDS.get(port % WORDS)?);
        // Acquire: its words are masked.
        let page = self.pages.get(page).filter(|_| page < self.live.load(Acquire))?.get()?;
        Some(Word { page, place })
    }

    /// Sees to it that a port has a word.
    pub(super) fn reach(
        &self,
        at: &Dispatch,
        platform: &P,
        EvtchnPort(port): EvtchnPort,
    ) -> Result<(), NoWord> {
        let page = usize::try_from(port).map_or(usize::MAX, |port| port / WORDS);
        let pages = self.pages.get(..=page).ok_or(NoWord::Beyond(PORTS))?;
        if page < self.live.load(Acquire) {
            return Ok(());
        }
        // Held across hypercalls, a few times in a guest's life.
        let _adding = self.adding.lock(at);
        for page in pages.iter().skip(self.live.load(Relaxed)) {
            if let Some(page) = page.get() {
                // Of the domain before.
                page.renew_event_words().map_err(NoWord::Xen)?;
            } else {
                let ram = Ram::allocate(platform).map_err(|NoMemory| NoWord::NoMemory)?;
                let put = page.put(FifoPage::event_words(ram).map_err(NoWord::Xen)?);
                debug_assert!(put.is_ok(), "one adds pages at a time");
            }
            self.live.fetch_add(1, Release);
        }
        Ok(())
    }

    /// The domain is new, and has none of these pages yet.
    pub(super) fn forget(&self) {
        self.live.store(0, Relaxed);
    }

    /// The pages, which Xen may have.
    pub(super) fn into_pages(self) -> impl Iterator<Item = FifoPage<P>> {
        self.pages.into_iter().filter_map(Once::into_inner)
    }
}

/// Why a port has no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoWord {
    /// There are so many at most.
    Beyond(usize),
    NoMemory,
    Xen(Errno),
}
