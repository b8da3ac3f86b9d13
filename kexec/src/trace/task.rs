//! What executors tell of their tasks.
#![forbid(unsafe_code)]

use core::{fmt, panic::Location, ptr::NonNull, time::Duration};

use super::{Level, tracer};
use crate::{
    End, TaskRef,
    executor::Core,
    task::{Task as Slot, state::Snapshot},
    task_table::Kind,
    time::Instant,
};

/// Turns of tasks are compiled in, as what is of the least urgent level is.
pub(crate) const COMPILED_IN: bool = Level::Trace.is_compiled_in();

/// Something that an executor does.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// Which executor.
    pub executor: ExecutorId,
    /// When, by its platform's clock. Within a run it does not go back.
    pub time: Instant,
    /// What.
    pub what: What,
}

/// Which of all executors of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorId(usize);

/// What an executor does.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum What {
    /// A run begins. One that finds nothing to do is not told.
    RunBegan {
        /// Its number: how many runs there have been.
        run: u64,
    },
    /// A run has ended. The next one may have begun on another CPU before this is told.
    RunEnded {
        /// Its number.
        run: u64,
        /// Turns.
        polls: u32,
        /// Why it ended.
        end: End,
    },
    /// The doorbell was rung by a wake. A run that ends at its budget rings too, as its end says.
    Rang,
    /// A task was queued for the first time, by the caller. Without the feature `table` this is told as a wake; nothing
    /// is, if the task has moved into a slot that a stale wake had queued.
    Spawned(Task),
    /// A parked task was queued, by the caller: woken, or aborted.
    Woken(Task),
    /// A task's turn begins.
    PollBegan(Task),
    /// A task's turn has ended.
    PollEnded {
        /// Whose.
        task: Task,
        /// How long it took.
        took: Duration,
        /// What has become of the task.
        then: Then,
    },
}

/// A task, and what its record in the task table says of it.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its name, for a program.
    pub task: TaskRef,
    /// Its name, for a person: the path of its function. None without the feature `table`.
    pub name: Option<&'static str>,
    /// Where it was spawned. None without the feature `table`.
    pub site: Option<&'static Location<'static>>,
}

/// What has become of a task after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is pending.
    Parked(Parked),
    /// It was ready.
    Ended,
    /// It was dropped before it was ready.
    Cancelled,
}

/// Where a task has parked: what the task table shows.
///
/// Its `Display` is such as `yield src/ring.rs:12 "entries"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// What the leaf waits for, and where it was made. None for a leaf that does not show itself.
    pub leaf: Option<(&'static Kind, &'static Location<'static>)>,
    /// What the step is about.
    pub label: Option<&'static str>,
}

impl Task {
    /// The task that has the slot, or is being polled there. For whoever has set `QUEUED`, and for the run.
    pub(crate) fn of(slot: Slot, state: Snapshot) -> Self {
        #[cfg(feature = "table")]
        let (name, site) = slot.header().record.origin();
        #[cfg(not(feature = "table"))]
        let (name, site) = (None, None);
        Self { task: TaskRef::new(slot, state.generation()), name, site }
    }
}

/// Tells what an executor does, if anybody listens. Callable at any level.
#[cold]
pub(crate) fn tell(executor: NonNull<Core>, time: Instant, what: What) {
    if let Some(tracer) = tracer() {
        let executor = ExecutorId(executor.addr().get());
        tracer.tell(|output| output.sink.activity(&Activity { executor, time, what }));
    }
}

impl fmt::Display for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.leaf {
            Some((kind, place)) => write!(f, "{} {}:{}", kind.name(), place.file(), place.line())?,
            None => f.write_str("unlabelled")?,
        }
        match self.label {
            Some(label) => write!(f, " {label:?}"),
            None => Ok(()),
        }
    }
}
