//! The latest value of something, and who wants to know of the next.
#![forbid(unsafe_code)]

use core::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use pin_project::pin_project;

use super::{
    spin::SpinLock,
    waiters::{Source, Wait, Waiters},
};
use crate::{
    atomics::const_fn,
    irql::Dispatch,
    task_table::{Kind, Leaf},
};

static WATCH: Kind = Kind::new("watch");

/// A value that is replaced now and then, such as a backend's state or a link's speed.
///
/// Whoever looks sees the latest value. Those who wait for a change may miss values that were soon replaced, but
/// never the last one, and are told of none twice.
///
/// The value is behind a [`SpinLock`], and so sent and read with the token of `DISPATCH_LEVEL`.
///
/// ```
/// use kexec::{irql::Dispatch, sync::Watch};
///
/// static LINK_UP: Watch<bool> = Watch::new(false);
///
/// async fn follow(at: &mut Dispatch, (): ()) {
///     let mut link = LINK_UP.watcher();
///     while !link.get(at) {
///         link.changed().await;
///     }
/// }
/// ```
pub struct Watch<T> {
    /// Their word is the version of the value, as soon as its sender has unlocked it.
    waiters: Waiters<u64>,
    value: SpinLock<Versioned<T>>,
}

struct Versioned<T> {
    version: u64,
    value: T,
}

impl<T> Watch<T> {
    const_fn! {
        /// A first value, which is no news.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self { waiters: Waiters::new(0), value: SpinLock::new(Versioned { version: 0, value }) }
        }
    }

    /// Replaces the value, and wakes who waits for that. At `DISPATCH_LEVEL`, where the old value is dropped.
    pub fn send(&self, at: &Dispatch, value: T) {
        let old = self.modify(at, |current| mem::replace(current, value));
        drop(old);
    }

    /// Changes the value in its place, and wakes who waits for that. At `DISPATCH_LEVEL`. The value is locked
    /// meanwhile: `f` must not come back here.
    pub fn modify<R>(&self, at: &Dispatch, f: impl FnOnce(&mut T) -> R) -> R {
        let (version, result) = {
            let mut current = self.value.lock(at);
            current.version = current.version.wrapping_add(1);
            (current.version, f(&mut current.value))
        };
        // A later sender may have been quicker, and has said so for both.
        self.waiters.update(|word| (word < version).then_some(version));
        result
    }

    /// The latest value. At `DISPATCH_LEVEL`.
    pub fn get(&self, at: &Dispatch) -> T
    where
        T: Clone,
    {
        self.with(at, T::clone)
    }

    /// Lends the latest value. At `DISPATCH_LEVEL`. The value is locked meanwhile: `f` must not come back here.
    pub fn with<R>(&self, at: &Dispatch, f: impl FnOnce(&T) -> R) -> R {
        f(&self.value.lock(at).value)
    }

    /// Somebody to whom all that was sent before this call is no news. Callable at any level.
    pub fn watcher(&self) -> Watcher<'_, T> {
        Watcher { watch: self, seen: self.waiters.word() }
    }
}

impl<T> Source for Watch<T> {
    /// The version that has been seen.
    type Ask = u64;
    /// A later one.
    type Got<'a>
        = u64
    where
        T: 'a;

    fn waiters(&self) -> &Waiters<u64> {
        &self.waiters
    }

    fn grant(&self, word: u64, seen: u64) -> Option<u64> {
        (word > seen).then_some(word)
    }

    fn got(&self, word: u64, _seen: u64) -> u64 {
        word
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("version", &self.waiters.word()).finish_non_exhaustive()
    }
}

/// Somebody who follows a [`Watch`], and remembers what he has seen.
pub struct Watcher<'a, T> {
    watch: &'a Watch<T>,
    seen: u64,
}

impl<'a, T> Watcher<'a, T> {
    /// Whether a value has been sent that this one has not seen. Callable at any level.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.watch.waiters.word() > self.seen
    }

    /// Waits until [`has_changed`](Self::has_changed) says so, and takes note of it. To be polled up to `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** loses nothing.
    #[track_caller]
    pub fn changed(&mut self) -> Changed<'_, 'a, T> {
        self.changed_at(Leaf::new(&WATCH))
    }

    /// Waits for a value that this one has not seen, and gets the latest.
    ///
    /// **Cancel-safe:** loses nothing.
    #[track_caller]
    pub fn next<'w>(&'w mut self, at: &'w Dispatch) -> impl Future<Output = T> + use<'w, 'a, T>
    where
        T: Clone,
    {
        let leaf = Leaf::new(&WATCH);
        async move {
            self.changed_at(leaf).await;
            self.get(at)
        }
    }

    /// Goes on as a stream of the values to come.
    #[track_caller]
    pub fn values<'t>(self, at: &'t Dispatch) -> Values<'a, 't, T> {
        let leaf = Leaf::new(&WATCH);
        Values { at, leaf, wait: Wait::new(self.watch, self.seen, leaf), watcher: self }
    }

    /// The latest value, which this one then has seen. At `DISPATCH_LEVEL`.
    pub fn get(&mut self, at: &Dispatch) -> T
    where
        T: Clone,
    {
        let current = self.watch.value.lock(at);
        self.seen = current.version;
        current.value.clone()
    }

    fn changed_at(&mut self, leaf: Leaf) -> Changed<'_, 'a, T> {
        Changed { wait: Wait::new(self.watch, self.seen, leaf), seen: &mut self.seen }
    }
}

impl<T> Clone for Watcher<'_, T> {
    fn clone(&self) -> Self {
        Self { watch: self.watch, seen: self.seen }
    }
}

impl<T> fmt::Debug for Watcher<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("watch", self.watch).field("seen", &self.seen).finish()
    }
}

/// The future of [`Watcher::changed`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Changed<'w, 'a, T> {
    seen: &'w mut u64,
    #[pin]
    wait: Wait<'a, Watch<T>>,
}

impl<T> Future for Changed<'_, '_, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        **this.seen = ready!(this.wait.poll(cx));
        Poll::Ready(())
    }
}

/// The stream of [`Watcher::values`], which does not end.
///
/// **Cancel-safe:** loses nothing; nor does a wait for its next item.
#[pin_project]
#[must_use = "streams do nothing unless polled"]
#[derive(Debug)]
pub struct Values<'a, 't, T> {
    watcher: Watcher<'a, T>,
    at: &'t Dispatch,
    leaf: Leaf,
    #[pin]
    wait: Wait<'a, Watch<T>>,
}

impl<T: Clone> Stream for Values<'_, '_, T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut this = self.project();
        ready!(this.wait.as_mut().poll(cx));
        let value = this.watcher.get(this.at);
        this.wait.set(Wait::new(this.watcher.watch, this.watcher.seen, *this.leaf));
        Poll::Ready(Some(value))
    }
}
