//! A guest whose pages are watched: others write to them between any two accesses, and what it writes itself is looked
//! at.
#![expect(unsafe_code, reason = "it stands between a driver and its memory")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use xen_abi::{
    event_channel::fifo::{
        EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_PENDING,
        EventWord, READY,
    },
    seam::{Access, Beyond, Gfn, Hypervisor, Memory, NoMemory, Place, Word},
    shared_info::VCPU_INFO,
};
use xen_sim::{Guest, GuestFrame};

/// The bit of a word that says that the port is masked.
pub(super) const MASKED: EventWord = 1 << EVTCHN_FIFO_MASKED;
const PENDING: EventWord = 1 << EVTCHN_FIFO_PENDING;
const LINKED: EventWord = 1 << EVTCHN_FIFO_LINKED;
const BUSY: EventWord = 1 << EVTCHN_FIFO_BUSY;

/// A change of a word that a driver does not make.
pub(super) struct Scribble {
    pub(super) page: GuestFrame,
    pub(super) place: Place<EventWord>,
    pub(super) value: EventWord,
}

impl Scribble {
    pub(super) fn apply(&self) {
        self.page.store(self.place, self.value);
    }
}

/// A guest.
#[derive(Clone)]
pub(super) struct Platform {
    guest: Guest,
    watch: Arc<Mutex<Watch>>,
}

/// A page of it.
pub(super) struct Frame {
    inner: GuestFrame,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Default)]
struct Watch {
    /// The pages that it has asked for: the control block, and then the words.
    pages: Vec<Gfn>,
    /// What it may still touch; none if nobody looks.
    left: Option<u32>,
    later: VecDeque<Scribble>,
    restless: Option<Scribble>,
    /// Changes that were made meanwhile.
    meddled: u32,
}

fn locked(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Platform {
    pub(super) fn new(guest: Guest) -> Self {
        Self { guest, watch: Arc::default() }
    }

    /// The control block, and the pages of words.
    pub(super) fn allocated(&self) -> [Gfn; 3] {
        locked(&self.watch).pages[..].try_into().expect("a block, and words for two thousand ports")
    }

    pub(super) fn physical(&self, page: Gfn) -> GuestFrame {
        self.guest.physical(page)
    }

    /// Makes a change in the next upcall.
    pub(super) fn later(&self, scribble: Scribble) {
        locked(&self.watch).later.push_back(scribble);
    }

    /// Makes a change at each access of the next upcall.
    pub(super) fn rest_not(&self, scribble: Scribble) {
        locked(&self.watch).restless = Some(scribble);
    }

    /// Looks on from now on: the driver may make so many accesses.
    pub(super) fn watch(&self, accesses: u32) {
        locked(&self.watch).left = Some(accesses);
    }

    /// Does not look on any more. How many changes were made meanwhile.
    pub(super) fn look_away(&self) -> u32 {
        let mut watch = locked(&self.watch);
        watch.left = None;
        watch.restless = None;
        std::mem::take(&mut watch.meddled)
    }

    /// No changes are made.
    pub(super) fn forget(&self) {
        let mut watch = locked(&self.watch);
        watch.later.clear();
        watch.restless = None;
    }
}

impl Frame {
    fn new(inner: GuestFrame, watch: Arc<Mutex<Watch>>) -> Self {
        Self { inner, watch }
    }

    /// Somebody else goes first.
    fn touch(&self) {
        let mut watch = locked(&self.watch);
        let Some(left) = watch.left else { return };
        watch.left = Some(left.checked_sub(1).expect("the upcall is bounded"));
        if let Some(scribble) = watch.later.pop_front() {
            scribble.apply();
            watch.meddled += 1;
        }
        if let Some(scribble) = &watch.restless {
            let word = scribble.page.load(scribble.place);
            scribble.page.store(scribble.place, word ^ scribble.value);
            watch.meddled += 1;
        }
    }

    /// The driver has written: was it the driver's to write?
    fn wrote<W: Word>(&self, place: Place<W>, old: W, new: W) {
        let watch = locked(&self.watch);
        if watch.left.is_none() || old == new {
            return;
        }
        let number = |word: W| {
            let mut bytes = [0; 8];
            bytes[..size_of::<W>()].copy_from_slice(word.as_bytes());
            u64::from_le_bytes(bytes)
        };
        let (old, new) = (number(old), number(new));
        match watch.pages.iter().position(|page| *page == self.gfn()) {
            None => {
                let upcall = VCPU_INFO.evtchn_upcall_pending.get(0).expect("it has a place");
                assert_eq!((place.offset(), new), (upcall.offset(), 0), "of the shared page");
            }
            Some(0) => assert_eq!((place.offset(), new), (READY.offset(), 0), "of the control block"),
            Some(_) => {
                let is = |bits: EventWord, word: u64| word & u64::from(bits);
                assert_eq!(is(BUSY, old), is(BUSY, new), "that is Xen's");
                assert!(is(PENDING | LINKED, new) & !is(PENDING | LINKED, old) == 0, "Xen sets these");
                assert!(is(MASKED, old) & !is(MASKED, new) == 0, "nobody has asked for that");
                let links = [is(EVTCHN_FIFO_LINK_MASK, old), is(EVTCHN_FIFO_LINK_MASK, new)];
                assert!(links[1] == 0 || links[0] == links[1], "Xen links");
            }
        }
    }

    fn changed<W: Word>(&self, place: Place<W>, old: W) -> W {
        // Nobody else writes in between: they take turns.
        self.wrote(place, old, self.inner.load(place));
        old
    }
}

// SAFETY: the page is the inner one's, who promises the same.
unsafe impl Access for Frame {
    fn gfn(&self) -> Gfn {
        self.inner.gfn()
    }

    fn load<W: Word>(&self, place: Place<W>) -> W {
        self.touch();
        self.inner.load(place)
    }

    fn store<W: Word>(&self, place: Place<W>, value: W) {
        self.touch();
        let old = self.inner.swap(place, value);
        self.changed(place, old);
    }

    fn swap<W: Word>(&self, place: Place<W>, value: W) -> W {
        self.touch();
        let old = self.inner.swap(place, value);
        self.changed(place, old)
    }

    fn fetch_or<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.touch();
        let old = self.inner.fetch_or(place, bits);
        self.changed(place, old)
    }

    fn fetch_and<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.touch();
        let old = self.inner.fetch_and(place, bits);
        self.changed(place, old)
    }

    fn compare_exchange<W: Word>(&self, place: Place<W>, current: W, new: W) -> Result<W, W> {
        self.touch();
        let outcome = self.inner.compare_exchange(place, current, new);
        outcome.map(|old| self.changed(place, old))
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        self.touch();
        self.inner.read_bytes(offset, into)
    }

    fn write_bytes(&self, offset: usize, from: &[u8]) -> Result<(), Beyond> {
        assert!(locked(&self.watch).left.is_none(), "it writes words");
        self.inner.write_bytes(offset, from)
    }
}

// SAFETY: the calls are the guest's, who promises the same.
unsafe impl Hypervisor for Platform {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        assert!(locked(&self.watch).left.is_none(), "an upcall makes no hypercall");
        // SAFETY: passed on.
        unsafe { self.guest.hypercall(number, arguments) }
    }
}

// SAFETY: the pages are the guest's, who promises the same.
unsafe impl Memory for Platform {
    type Frame = Frame;

    fn allocate(&self) -> Result<Frame, NoMemory> {
        let inner = self.guest.allocate()?;
        locked(&self.watch).pages.push(inner.gfn());
        Ok(Frame::new(inner, self.watch.clone()))
    }

    fn hole(&self) -> Result<Frame, NoMemory> {
        Ok(Frame::new(self.guest.hole()?, self.watch.clone()))
    }

    unsafe fn existing(&self, gfn: Gfn) -> Result<Frame, NoMemory> {
        // SAFETY: passed on.
        let inner = unsafe { self.guest.existing(gfn) }?;
        Ok(Frame::new(inner, self.watch.clone()))
    }

    unsafe fn free(&self, frame: Frame) {
        // SAFETY: passed on.
        unsafe { self.guest.free(frame.inner) }
    }
}
