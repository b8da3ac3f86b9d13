//! What interrupts and timers tell tasks: that something may have happened.
#![forbid(unsafe_code)]

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{
        AtomicBool, AtomicU32,
        Ordering::{AcqRel, Acquire, Release},
    },
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use kexec::task_table::{Kind, Leaf};

/// A count of events, and up to `N` tasks that wait for the next one.
#[derive(Debug)]
pub struct Signal<const N: usize> {
    raised: AtomicU32,
    places: [Place; N],
}

#[derive(Debug)]
struct Place {
    taken: AtomicBool,
    waker: AtomicWaker,
}

impl<const N: usize> Signal<N> {
    /// Never raised.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            raised: AtomicU32::new(0),
            places: [const { Place { taken: AtomicBool::new(false), waker: AtomicWaker::new() } }; N],
        }
    }

    /// Wakes whoever waits. Callable at any level: up to `N` wakes, no lock.
    pub fn raise(&self) {
        // Release: who sees the count sees what it is about.
        self.raised.fetch_add(1, Release);
        for place in &self.places {
            place.waker.wake();
        }
    }

    /// How often it was raised, modulo 2^32.
    #[must_use]
    pub fn raised(&self) -> u32 {
        self.raised.load(Acquire)
    }

    /// Waits until it is raised after this call. None if `N` tasks wait already.
    ///
    /// **Cancel-safe:** another `next` waits for what is raised after it.
    #[must_use]
    #[track_caller]
    pub fn next(&self) -> Option<Next<'_>> {
        let leaf = Leaf::new(&SIGNAL);
        let place = self.places.iter().find(|place| !place.taken.swap(true, AcqRel))?;
        Some(Next { raised: &self.raised, place, before: self.raised(), leaf })
    }
}

impl<const N: usize> Default for Signal<N> {
    fn default() -> Self {
        Self::new()
    }
}

static SIGNAL: Kind = Kind::new("signal");

/// The future of [`Signal::next`].
///
/// Dropping it gives its place back, but not the waker in it: the next event may wake a task that has gone. Tasks'
/// memory is made for that.
#[derive(Debug)]
#[must_use = "a future waits only when it is polled"]
pub struct Next<'s> {
    raised: &'s AtomicU32,
    place: &'s Place,
    before: u32,
    leaf: Leaf,
}

impl Future for Next<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Registered first, so that an event between the two is not missed.
        self.place.waker.register(cx.waker());
        if self.raised.load(Acquire) != self.before {
            return Poll::Ready(());
        }
        self.leaf.park(cx);
        Poll::Pending
    }
}

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.place.taken.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use core::pin::pin;
    use std::{sync::Arc, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, AcqRel);
        }
    }

    fn poll(next: Pin<&mut Next<'_>>, woken: &Arc<Woken>) -> Poll<()> {
        next.poll(&mut Context::from_waker(&woken.clone().into()))
    }

    /// An event between `next` and the first poll is not lost, and one before `next` does not count.
    #[test]
    fn waits_for_what_comes_after() {
        let (signal, woken) = (Signal::<1>::new(), Arc::<Woken>::default());
        signal.raise();
        let mut next = pin!(signal.next().expect("there is a place"));
        assert_eq!(poll(next.as_mut(), &woken), Poll::Pending);
        signal.raise();
        assert_eq!((woken.0.load(Acquire), signal.raised()), (1, 2));
        assert_eq!(poll(next.as_mut(), &woken), Poll::Ready(()));
    }

    /// Every place can be had, once; a future that is dropped gives its own back.
    #[test]
    fn has_so_many_places() {
        let signal = Signal::<3>::new();
        let next = || signal.next().expect("there is a place");
        let mut waiting = std::vec![next(), next(), next()];
        assert!(signal.next().is_none());
        drop(waiting.remove(1));
        assert!(signal.next().is_some());
    }

    /// The waker of a future that was dropped is woken all the same: this is what tasks have to stand.
    #[test]
    fn wakes_who_has_gone() {
        let (signal, woken) = (Signal::<1>::new(), Arc::<Woken>::default());
        {
            let mut next = pin!(signal.next().expect("there is a place"));
            assert_eq!(poll(next.as_mut(), &woken), Poll::Pending);
        }
        signal.raise();
        assert_eq!(woken.0.load(Acquire), 1);
    }
}
