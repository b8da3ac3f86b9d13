//! Who waits for a time: the timers of an executor, an intrusive pairing heap.
//!
//! A timer is a part of the future that waits, so that nothing is allocated and their number has no limit. The heap is
//! ordered by the *latest* instant at which a timer may fire. Its first is what the platform is armed for, and it
//! alone is looked at: when it fires, those behind it whose time has come fire with it.
//!
//! To put one in is a comparison; to take one out, from anywhere in the heap, costs the logarithm of their number, on
//! average over all that is done. Nothing recurses.
//!
//! The future may be dropped by any thread, so that the heap is behind a lock. What the run asks each time, whether
//! there is anything to do, is kept beside it in plain words: only the run acts on them, and a word that another CPU is
//! about to change costs it a look at the heap, or one more alarm.
#![expect(unsafe_code, reason = "the heap is made of pointers to parts of pinned futures")]

use core::{
    marker::PhantomPinned,
    pin::Pin,
    ptr::NonNull,
    // Plain even under loom: nothing is ordered by them.
    sync::atomic::{AtomicU64 as PlainU64, Ordering::Relaxed},
    task::Context,
};

use pin_project::{pin_project, pinned_drop};

use crate::{
    atomics::{Owned, const_fn},
    home::Home,
    lock::Lock,
    platform::Alarm,
    task::Task,
    time::Instant,
};

/// The timers of an executor, and what it knows of the time.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The latest reading of the clock. Written by the run.
    now: PlainU64,
    /// The alarm of the first timer; never, if there is none. Written under the lock.
    first: AlarmWords,
    /// By when the alarm that is armed goes off; never, if none is. The run's.
    armed_by: PlainU64,
    heap: Lock<Heap>,
}

#[derive(Debug)]
struct AlarmWords {
    at: PlainU64,
    by: PlainU64,
}

/// A timer. It is out of the heap before its memory is another's, because it is pinned and leaves when it is dropped.
#[derive(Debug)]
#[pin_project(PinnedDrop)]
pub(crate) struct Timer {
    /// Whose heap it may be in.
    home: Home,
    #[pin]
    node: Node,
}

#[derive(Debug)]
struct Node {
    entry: Owned<Entry>,
    _pinned: PhantomPinned,
}

/// A node's content: it belongs to who holds the lock of its heap.
#[derive(Debug)]
struct Entry {
    alarm: Alarm,
    /// Who is woken. None: the node is in no heap.
    task: Option<Task>,
    /// The first of those below.
    child: Option<Place>,
    /// The next below the same parent.
    next: Option<Place>,
    /// The one before below the same parent; of the first, the parent; of the heap's first, none.
    back: Option<Place>,
}

/// Later than this is no time at which anything could fire.
const LATEST: Instant = Instant::from_nanos(Instant::NEVER.as_nanos() - 1);
const NO_ALARM: Alarm = Alarm { at: Instant::NEVER, by: Instant::NEVER };

impl Timers {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self {
                now: PlainU64::new(Instant::START.as_nanos()),
                first: AlarmWords {
                    at: PlainU64::new(Instant::NEVER.as_nanos()),
                    by: PlainU64::new(Instant::NEVER.as_nanos()),
                },
                armed_by: PlainU64::new(Instant::NEVER.as_nanos()),
                heap: Lock::new(Heap { first: None }),
            }
        }
    }

    /// The latest reading of the clock by a run.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.now.load(Relaxed))
    }

    /// Takes a reading of the clock. None if the clock went back: the time does not. For the consumer.
    #[inline]
    pub(super) fn tell(&self, reading: Instant) -> Option<Instant> {
        let went_on = reading >= self.now();
        if went_on {
            self.now.store(reading.as_nanos(), Relaxed);
        }
        went_on.then_some(reading)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.by.load(Relaxed) == Instant::NEVER.as_nanos()
    }

    /// Whether the first timer may fire.
    #[inline]
    pub(super) fn are_due(&self, now: Instant) -> bool {
        now.as_nanos() >= self.first.at.load(Relaxed)
    }

    /// Whether an alarm is armed, if it has not gone off. For the consumer.
    #[inline]
    pub(super) fn is_armed(&self) -> bool {
        self.armed_by.load(Relaxed) != Instant::NEVER.as_nanos()
    }

    /// Whether the alarm that is armed, if it has not gone off, is early enough for the first timer. For the consumer.
    pub(super) fn is_armed_in_time(&self) -> bool {
        self.is_armed() && self.armed_by.load(Relaxed) <= self.first.by.load(Relaxed)
    }

    /// Notes what is armed. For the consumer.
    pub(super) fn note_armed(&self, alarm: Option<Alarm>) {
        self.armed_by.store(alarm.unwrap_or(NO_ALARM).by.as_nanos(), Relaxed);
    }

    /// The alarm of the first timer.
    pub(super) fn first(&self, home: Home) -> Option<Alarm> {
        self.heap.with(home, Heap::alarm)
    }

    /// Takes out the first timer if its time has come. Who waits for it.
    pub(super) fn expire(&self, home: Home, now: Instant) -> Option<Task> {
        self.change(home, |heap| {
            let first = heap.first?;
            if heap.entry(first, |entry| entry.alarm.at) > now { None } else { heap.remove(first) }
        })
    }

    /// Changes the heap, and what is known of it without the lock.
    fn change<R>(&self, home: Home, f: impl FnOnce(&mut Heap) -> R) -> R {
        self.heap.with(home, |heap| {
            let result = f(heap);
            let first = heap.alarm().unwrap_or(NO_ALARM);
            self.first.at.store(first.at.as_nanos(), Relaxed);
            self.first.by.store(first.by.as_nanos(), Relaxed);
            result
        })
    }
}

impl Timer {
    const_fn! {
        pub(crate) fn new() -> Self {
            let entry = Entry { alarm: NO_ALARM, task: None, child: None, next: None, back: None };
            Self { home: Home::NONE, node: Node { entry: Owned::new(entry), _pinned: PhantomPinned } }
        }
    }

    /// Whether it was set and not cleared since. It may have fired.
    pub(crate) fn is_set(&self) -> bool {
        self.home.core().is_some()
    }

    /// Wakes the task that is polled with this context at some time of the alarm. Set again before it has fired, it
    /// keeps the alarm, and wakes the later task.
    pub(crate) fn set(mut self: Pin<&mut Self>, cx: &Context<'_>, alarm: Alarm) {
        let (home, Some(task)) = (Home::of(cx), Task::of(cx.waker())) else { return };
        if self.home != home {
            self.as_mut().clear();
        }
        let this = self.project();
        let Some(core) = home.core() else { return };
        *this.home = home;
        let place = Place(NonNull::from(this.node.as_ref().get_ref()));
        let is_first = core.timers.change(home, |heap| {
            let is_in = heap.entry(place, |entry| entry.task.replace(task).is_some());
            if !is_in {
                let by = alarm.by.min(LATEST);
                heap.entry(place, |entry| entry.alarm = Alarm { by, ..alarm });
                heap.insert(place);
            }
            heap.first == Some(place)
        });
        if is_first && !core.queue.is_active() {
            // Polled by something else than the run, which would have armed the platform.
            task.wake();
        }
    }

    /// Wakes nobody any more.
    pub(crate) fn clear(self: Pin<&mut Self>) {
        let this = self.project();
        let Some(core) = this.home.core() else { return };
        let place = Place(NonNull::from(this.node.as_ref().get_ref()));
        core.timers.change(*this.home, |heap| {
            if heap.entry(place, |entry| entry.task.is_some()) {
                heap.remove(place);
            }
        });
        *this.home = Home::NONE;
    }
}

#[pinned_drop]
impl PinnedDrop for Timer {
    fn drop(self: Pin<&mut Self>) {
        self.clear();
    }
}

/// A node by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(NonNull<Node>);

// SAFETY: a node belongs to who holds the lock of its heap, on whatever thread.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// The heap: no timer may fire later than one below it.
#[derive(Debug)]
struct Heap {
    first: Option<Place>,
}

impl Heap {
    /// Calls `f` with a node's content, on which it does no more than read and write.
    #[expect(clippy::unused_self, reason = "to have the heap is to hold its lock")]
    fn entry<R>(&mut self, place: Place, f: impl FnOnce(&mut Entry) -> R) -> R {
        // SAFETY: a node that is in the heap is pinned and takes itself out before it is dropped; one that is not yet is
        // the caller's.
        let node = unsafe { place.0.as_ref() };
        // SAFETY: who has the heap holds its lock, and this borrows it until `f` returns.
        unsafe { node.entry.with(f) }
    }

    fn alarm(&mut self) -> Option<Alarm> {
        let first = self.first?;
        Some(self.entry(first, |entry| entry.alarm))
    }

    /// Puts in a node that is in no heap.
    fn insert(&mut self, place: Place) {
        self.first = Some(match self.first {
            Some(first) => self.meld(first, place),
            None => place,
        });
    }

    /// Takes out a node. Who waits for it.
    fn remove(&mut self, place: Place) -> Option<Task> {
        let (task, child, next, back) = self.entry(place, |entry| {
            (entry.task.take(), entry.child.take(), entry.next.take(), entry.back.take())
        });
        match back {
            None => self.first = None,
            Some(back) => self.entry(back, |entry| {
                if entry.child == Some(place) {
                    entry.child = next;
                } else {
                    entry.next = next;
                }
            }),
        }
        if let Some(next) = next {
            self.entry(next, |entry| entry.back = back);
        }
        if let Some(below) = self.meld_all(child) {
            self.insert(below);
        }
        task
    }

    /// Makes one heap of two. Each is given and returned by its first.
    fn meld(&mut self, one: Place, other: Place) -> Place {
        let [one_by, other_by] = [one, other].map(|place| self.entry(place, |entry| entry.alarm.by));
        let (top, below) = if other_by < one_by { (other, one) } else { (one, other) };
        let next = self.entry(top, |entry| entry.child.replace(below));
        self.entry(below, |entry| (entry.next, entry.back) = (next, Some(top)));
        if let Some(next) = next {
            self.entry(next, |entry| entry.back = Some(below));
        }
        top
    }

    /// Makes one heap of all that were below one parent: of each two neighbours, then of the pairs, the last first.
    fn meld_all(&mut self, child: Option<Place>) -> Option<Place> {
        let (mut rest, mut pairs) = (child, None);
        while let Some(one) = rest {
            let other = self.detach(one);
            rest = other.and_then(|other| self.detach(other));
            let pair = match other {
                Some(other) => self.meld(one, other),
                None => one,
            };
            self.entry(pair, |entry| entry.next = pairs);
            pairs = Some(pair);
        }
        let mut first = None;
        while let Some(pair) = pairs {
            pairs = self.detach(pair);
            first = Some(match first {
                Some(first) => self.meld(first, pair),
                None => pair,
            });
        }
        first
    }

    /// Makes a heap of its own of what is below a parent. The next one there.
    fn detach(&mut self, place: Place) -> Option<Place> {
        self.entry(place, |entry| {
            entry.back = None;
            entry.next.take()
        })
    }
}

#[cfg(all(test, not(any(miri, loom))))]
#[expect(clippy::indexing_slicing, reason = "in a test, a panic is a failure")]
mod tests {
    use std::{boxed::Box, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::task::Header;

    /// What is done to a heap of up to sixteen nodes.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Puts a node in, or out first if it is in.
        Insert {
            node: usize,
            by: u64,
        },
        Remove {
            node: usize,
        },
        Pop,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let insert = (0..16_usize, 0..8_u64).prop_map(|(node, by)| Step::Insert { node, by });
        let remove = (0..16_usize).prop_map(|node| Step::Remove { node });
        proptest::collection::vec(prop_oneof![3 => insert, 1 => remove, 1 => Just(Step::Pop)], 0..120)
    }

    fn node() -> Place {
        let entry = Entry { alarm: NO_ALARM, task: None, child: None, next: None, back: None };
        let node = Node { entry: Owned::new(entry), _pinned: PhantomPinned };
        Place(NonNull::from(Box::leak(Box::new(node))))
    }

    fn task() -> Task {
        let header = NonNull::from(Box::leak(Box::new(Header::new())));
        // SAFETY: the header has no body, and lives for ever.
        unsafe { Task::new(header) }
    }

    /// All that is in the heap. Panics if a node comes before its parent, or its links are not mutual.
    fn walk(heap: &mut Heap) -> Vec<Place> {
        let mut seen = Vec::new();
        let mut below: Vec<_> = heap.first.map(|first| (first, None, 0)).into_iter().collect();
        while let Some((place, back, least)) = below.pop() {
            let (by, links) =
                heap.entry(place, |entry| (entry.alarm.by.as_nanos(), (entry.child, entry.next, entry.back)));
            assert!(by >= least, "a timer is below a later one");
            assert_eq!(links.2, back, "the way back leads elsewhere");
            seen.push(place);
            below.extend(links.0.map(|child| (child, Some(place), by)));
            below.extend(links.1.map(|next| (next, Some(place), least)));
        }
        seen
    }

    proptest! {
        /// The heap against a plain list: whatever is done in whatever order, the first is one of the least, each node
        /// that is taken out is the one that was meant, with its own task, and the others stay.
        #[test]
        fn a_heap_is_a_sorted_list(steps in steps()) {
            let (nodes, tasks): (Vec<_>, Vec<_>) = (0..16).map(|_| (node(), task())).unzip();
            let mut heap = Heap { first: None };
            let mut model = Vec::<(u64, usize)>::new();
            for step in steps {
                match step {
                    Step::Insert { node, by } => {
                        if model.iter().any(|(_, there)| *there == node) {
                            prop_assert_eq!(heap.remove(nodes[node]), Some(tasks[node]));
                            model.retain(|(_, there)| *there != node);
                        }
                        let alarm = Alarm { at: Instant::START, by: Instant::from_nanos(by) };
                        heap.entry(nodes[node], |entry| {
                            (entry.alarm, entry.task) = (alarm, Some(tasks[node]));
                        });
                        heap.insert(nodes[node]);
                        model.push((by, node));
                    }
                    Step::Remove { node } => {
                        if model.iter().any(|(_, there)| *there == node) {
                            prop_assert_eq!(heap.remove(nodes[node]), Some(tasks[node]));
                            model.retain(|(_, there)| *there != node);
                        }
                    }
                    Step::Pop => {
                        if let Some(first) = heap.first {
                            let by = heap.alarm().map(|alarm| alarm.by.as_nanos());
                            prop_assert_eq!(by, model.iter().map(|(by, _)| *by).min());
                            let task = heap.remove(first);
                            let node = tasks.iter().position(|one| Some(*one) == task);
                            prop_assert_eq!(nodes.iter().position(|one| *one == first), node);
                            model.retain(|(_, there)| Some(*there) != node);
                        }
                    }
                }
                let mut there: Vec<_> = model.iter().map(|(_, node)| nodes[*node].0).collect();
                let mut seen: Vec<_> = walk(&mut heap).into_iter().map(|place| place.0).collect();
                there.sort_unstable();
                seen.sort_unstable();
                prop_assert_eq!(there, seen);
            }
        }
    }
}
