//! What tasks wait for, and what is said of them: time, permits, values, labels, events.
//!
//! - [`work`]: the cases that all libraries can do, each written once;
//! - a file for each library, with its primitives and the list of cases that it can do.

mod async_executor;
mod embassy;
mod futures_executor;
mod kexec;
mod tokio;
pub mod work;

/// What is measured. The operation of a case is repeated `n` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// A permit that nobody else wants is acquired and given back.
    Acquire,
    /// A task makes a permit of another's semaphore, and waits for one of its own.
    SemaphoreHop,
    /// A task waits for the mutex that another one has, gets it, and yields before it gives it back.
    MutexHop,
    /// A value goes through a channel with room for 16.
    Channel,
    /// A permit that is there is chosen after one that is not: two waits begin and end.
    Select,
    /// [`SemaphoreHop`](Self::SemaphoreHop), where the wait is one of two arms.
    SelectHop,
    /// A timer is set where 1000 are pending.
    TimerSet,
    /// The same, and it is given up: a timeout that never elapses.
    TimerCancel,
    /// One of 1000 tasks sleeps: its timer is set and fires, the task is woken and polled.
    TimerFire,
    /// A task wakes itself and parks at a leaf that shows itself.
    Park,
    /// The same, with a label.
    LabelledPark,
    /// An event that is off.
    EventOff,
    /// An event that is formatted into a ring.
    EventRing,
    /// The case `wake+poll` on an executor that was traced once, and is not any more.
    TracedOnce,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Acquire,
        Self::SemaphoreHop,
        Self::MutexHop,
        Self::Channel,
        Self::Select,
        Self::SelectHop,
        Self::TimerSet,
        Self::TimerCancel,
        Self::TimerFire,
        Self::Park,
        Self::LabelledPark,
        Self::EventOff,
        Self::EventRing,
        Self::TracedOnce,
    ];

    /// The name in arguments, table and file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::SemaphoreHop => "semaphore-hop",
            Self::MutexHop => "mutex-hop",
            Self::Channel => "channel",
            Self::Select => "select",
            Self::SelectHop => "select-hop",
            Self::TimerSet => "timer-set",
            Self::TimerCancel => "timer-cancel",
            Self::TimerFire => "timer-fire",
            Self::Park => "park",
            Self::LabelledPark => "park-labelled",
            Self::EventOff => "event-off",
            Self::EventRing => "event-ring",
            Self::TracedOnce => "traced-once",
        }
    }

    /// The case of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }
}

/// Performs a case's operation so many times.
pub type Perform = fn(u64);

/// A library, and what it can do.
#[derive(Debug)]
pub struct Library {
    /// The name of its executor's crate.
    pub name: &'static str,
    /// Its cases.
    pub cases: &'static [(Case, Perform)],
}

impl Library {
    /// How this library performs a case; `None` if it has nothing of that kind.
    #[must_use]
    pub fn performs(&self, case: Case) -> Option<Perform> {
        self.cases.iter().find(|(performed, _)| *performed == case).map(|(_, perform)| *perform)
    }
}

/// All libraries, in the order of the executors.
pub const ALL: [&Library; 6] = [
    &kexec::with_table::LIBRARY,
    &kexec::bare::LIBRARY,
    &embassy::LIBRARY,
    &futures_executor::LIBRARY,
    &tokio::LIBRARY,
    &async_executor::LIBRARY,
];
