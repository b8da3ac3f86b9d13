//! The list of those who wait, in the order of their coming: nodes that lie in their futures.
#![expect(unsafe_code, reason = "nodes are linked by address, and owned by who has the queue locked")]

use core::{marker::PhantomPinned, mem, pin::Pin, ptr::NonNull, task::Waker};

use crate::atomics::{Owned, const_fn};

/// A waiter's place in a queue; in the future, which is pinned.
///
/// While it is linked it belongs to whoever has the queue locked, and otherwise to the future.
#[derive(Debug)]
pub(super) struct Node<A> {
    place: Owned<Place<A>>,
    _pinned: PhantomPinned,
}

/// What others find there.
#[derive(Debug)]
pub(super) struct Place<A> {
    previous: Link<A>,
    next: Link<A>,
    /// What it waits for.
    pub(super) ask: A,
    /// Who polls it.
    pub(super) waker: Option<Waker>,
}

/// A node that is in the queue.
#[derive(Debug)]
struct Linked<A>(NonNull<Node<A>>);

type Link<A> = Option<Linked<A>>;

/// First in, first out; but any may leave.
#[derive(Debug)]
pub(super) struct Queue<A> {
    first: Link<A>,
    last: Link<A>,
}

impl<A> Node<A> {
    pub(super) fn new(ask: A) -> Self {
        let place = Place { previous: None, next: None, ask, waker: None };
        Self { place: Owned::new(place), _pinned: PhantomPinned }
    }

    /// Exchanges the waker.
    ///
    /// # Safety
    ///
    /// The caller has locked the queue that the node is in.
    pub(super) unsafe fn swap_waker(&self, waker: &mut Option<Waker>) {
        // SAFETY: so the node is the caller's.
        unsafe { self.place.with(|place| mem::swap(&mut place.waker, waker)) };
    }
}

impl<A> Clone for Linked<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Linked<A> {}

impl<A> Linked<A> {
    /// # Safety
    ///
    /// The node is in a queue for as long as the result is used, which is only by who has the queue.
    unsafe fn new(node: Pin<&Node<A>>) -> Self {
        Self(NonNull::from(&*node))
    }

    fn with<R>(self, f: impl FnOnce(&mut Place<A>) -> R) -> R {
        // SAFETY: it has not been given back, for it is in a queue.
        let node = unsafe { self.0.as_ref() };
        // SAFETY: the caller has the queue, and does one thing at a time.
        unsafe { node.place.with(f) }
    }
}

impl<A> Queue<A> {
    const_fn! {
        pub(super) fn new() -> Self {
            Self { first: None, last: None }
        }
    }

    pub(super) fn is_first(&self, node: Pin<&Node<A>>) -> bool {
        self.first.is_some_and(|first| first.0 == NonNull::from(&*node))
    }

    /// Calls `f` with the first one's place.
    pub(super) fn with_first<R>(&mut self, f: impl FnOnce(&mut Place<A>) -> R) -> Option<R> {
        self.first.map(|first| first.with(f))
    }

    /// Appends a node.
    ///
    /// # Safety
    ///
    /// The node is in no queue, and will be [taken out](Self::unlink) of this one before its memory is used for anything
    /// else.
    pub(super) unsafe fn push(&mut self, node: Pin<&Node<A>>) {
        // SAFETY: from now on it is in this queue.
        let node = unsafe { Linked::new(node) };
        let last = self.last.replace(node);
        node.with(|place| (place.previous, place.next) = (last, None));
        self.set_next(last, Some(node));
    }

    /// Takes a node out.
    ///
    /// # Safety
    ///
    /// The node is in this queue.
    pub(super) unsafe fn unlink(&mut self, node: Pin<&Node<A>>) {
        // SAFETY: it is in this queue.
        let node = unsafe { Linked::new(node) };
        let (previous, next) = node.with(|place| (place.previous, place.next));
        self.set_next(previous, next);
        match next {
            Some(next) => next.with(|place| place.previous = previous),
            None => self.last = previous,
        }
    }

    /// Says what comes after a node, or first.
    fn set_next(&mut self, node: Link<A>, next: Link<A>) {
        match node {
            Some(node) => node.with(|place| place.next = next),
            None => self.first = next,
        }
    }
}
