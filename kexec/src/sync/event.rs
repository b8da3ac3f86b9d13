//! Events, as NT has them: one that a waiter takes, and one that stays set.
#![forbid(unsafe_code)]

use super::waiters::{Source, Turn, Wait, Waiters};
use crate::{
    atomics::const_fn,
    task_table::{Kind, Leaf},
};

/// The event is set.
const SET: u64 = 1;
/// The lowest bit of the epoch, which a manual event's reset counts up.
const EPOCH: u64 = SET << 1;
/// The highest one is below the waiters' bit.
const EPOCHS: u64 = (1 << 62) - 1;

static EVENT: Kind = Kind::new("event");

/// An event that one waiter takes: NT's *synchronization event*.
///
/// A set releases one waiter, the one that has waited longest; without a waiter it stays for the next to come. Two sets
/// before somebody waits are one.
///
/// ```
/// use kexec::sync::AutoEvent;
///
/// static RESPONSES: AutoEvent = AutoEvent::new(false);
///
/// // In the interrupt:
/// RESPONSES.set();
/// // In the task:
/// # pollster::block_on(async {
/// RESPONSES.wait().await;
/// # });
/// assert!(!RESPONSES.is_set());
/// ```
#[derive(Debug)]
pub struct AutoEvent {
    waiters: Waiters<()>,
}

impl AutoEvent {
    const_fn! {
        /// An event, set or not.
        #[must_use]
        pub fn new(set: bool) -> Self {
            Self { waiters: Waiters::new(if set { SET } else { 0 }) }
        }
    }

    /// Sets the event. Callable at any level.
    pub fn set(&self) {
        self.waiters.set(SET);
    }

    /// Takes the signal away, if no waiter has; true if it was there. Callable at any level.
    pub fn reset(&self) -> bool {
        self.waiters.take(Turn::Leader, taken).is_some()
    }

    /// Whether the event is set. It may be taken at any time. Callable at any level.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.waiters.word() & SET != 0
    }

    /// Waits until the event is set, and takes the signal. To be polled up to `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** loses its place. A signal is taken by the poll that returns, and by no earlier one.
    #[track_caller]
    pub fn wait(&self) -> Wait<'_, Self> {
        Wait::new(self, (), Leaf::new(&EVENT))
    }
}

fn taken(word: u64) -> Option<u64> {
    (word & SET != 0).then_some(word & !SET)
}

impl Source for AutoEvent {
    type Ask = ();
    type Got<'a> = ();

    fn waiters(&self) -> &Waiters<()> {
        &self.waiters
    }

    fn grant(&self, word: u64, (): ()) -> Option<u64> {
        taken(word)
    }

    fn got(&self, _word: u64, (): ()) {}
}

/// An event that stays set and releases everybody: NT's *notification event*.
///
/// Whoever waits at the time of a set is released, also if it is reset before they are polled. One waiter lets the next
/// one go, in the order of their coming.
///
/// ```
/// use kexec::sync::ManualEvent;
///
/// let connected = ManualEvent::new(false);
/// let waiting = connected.wait(); // it waits from now on
/// connected.set();
/// connected.reset();
/// pollster::block_on(waiting);
/// ```
#[derive(Debug)]
pub struct ManualEvent {
    waiters: Waiters<u64>,
}

impl ManualEvent {
    const_fn! {
        /// An event, set or not.
        #[must_use]
        pub fn new(set: bool) -> Self {
            Self { waiters: Waiters::new(if set { SET } else { 0 }) }
        }
    }

    /// Sets the event until it is [reset](Self::reset). Callable at any level.
    pub fn set(&self) {
        self.waiters.set(SET);
    }

    /// Resets the event; true if it was set. Callable at any level.
    pub fn reset(&self) -> bool {
        // A new epoch shows those who were waiting that the event has been set meanwhile.
        let reset = |word: u64| (word & SET != 0).then_some((word & !SET).wrapping_add(EPOCH) & EPOCHS);
        self.waiters.take(Turn::Leader, reset).is_some()
    }

    /// Whether the event is set. Callable at any level.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.waiters.word() & SET != 0
    }

    /// Waits until the event is set, counted from this call and not from the first poll. To be polled up to
    /// `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** loses its place: another wait does not know of what was set and reset before its own call.
    #[track_caller]
    pub fn wait(&self) -> Wait<'_, Self> {
        self.wait_as(&EVENT)
    }

    /// The same, for something that has an event inside.
    #[track_caller]
    pub(crate) fn wait_as(&self, kind: &'static Kind) -> Wait<'_, Self> {
        Wait::new(self, self.waiters.word() & !SET, Leaf::new(kind))
    }
}

impl Source for ManualEvent {
    /// The epoch in which the wait began.
    type Ask = u64;
    type Got<'a> = ();

    fn waiters(&self) -> &Waiters<u64> {
        &self.waiters
    }

    fn grant(&self, word: u64, epoch: u64) -> Option<u64> {
        (word != epoch).then_some(word)
    }

    fn got(&self, _word: u64, _epoch: u64) {}
}
