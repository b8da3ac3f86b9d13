//! One OS thread of a host.
//!
//! The thread waits for the doorbell, or until the alarm goes off, and answers it. It alone polls, so that tasks need not be `Send`; as
//! `Thread<Dispatch>` it stands in for a DPC, as `Thread<Passive>` for a worker.
#![expect(unsafe_code, reason = "this is where the tokens of host threads come from")]

use core::{fmt, marker::PhantomData, time::Duration};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
};

use super::{Alarm, AnyFuture, Platform, Ring};
use crate::{
    executor::{Executor, Panic},
    irql::{Level, Passive, Raise},
    time::Instant,
};

/// The platform of an executor that has an OS thread to itself.
pub struct Thread<L> {
    doorbell: Mutex<Doorbell>,
    changed: Condvar,
    consumer: OnceLock<ThreadId>,
    start_of_time: OnceLock<std::time::Instant>,
    _level: PhantomData<fn() -> L>,
}

#[derive(Debug)]
struct Doorbell {
    rung: bool,
    silenced: bool,
    started: bool,
    /// When the alarm goes off, until it has.
    alarm: Option<Instant>,
    worker: Option<thread::JoinHandle<()>>,
    /// What a task has panicked with: the first one.
    panic: Option<Panic>,
}

/// The executor has its thread already.
#[derive(Debug)]
pub enum StartError {
    /// It was started before.
    AlreadyStarted,
    /// The host has no thread for it.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted => {
                f.write_str("the executor was started before; it has one thread for its life")
            }
            Self::Thread(error) => write!(f, "no thread for the executor: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Lends the calling thread's token: a thread of a host may always block.
pub fn passive<R>(f: impl FnOnce(&mut Passive) -> R) -> R {
    // SAFETY: host threads are preemptible, and the token goes no further than `f`.
    f(&mut unsafe { Passive::assume() })
}

impl<L: Level> Thread<L> {
    /// A platform whose thread does not run yet: see [`Executor::start`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            doorbell: Mutex::new(Doorbell {
                rung: false,
                silenced: false,
                started: false,
                alarm: None,
                worker: None,
                panic: None,
            }),
            changed: Condvar::new(),
            consumer: OnceLock::new(),
            start_of_time: OnceLock::new(),
            _level: PhantomData,
        }
    }

    fn doorbell(&self) -> MutexGuard<'_, Doorbell> {
        // A task that panicked while ringing has left the flags as they were.
        self.doorbell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next doorbell or alarm; false once there will be none.
    fn wait(&self) -> bool {
        let mut doorbell = self.doorbell();
        while !doorbell.rung && !doorbell.silenced {
            let left = doorbell.alarm.map(|at| at.since(self.now()));
            doorbell = match left {
                Some(Duration::ZERO) => {
                    doorbell.alarm = None;
                    break;
                }
                Some(left) => {
                    let waited = self.changed.wait_timeout(doorbell, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(doorbell).unwrap_or_else(PoisonError::into_inner),
            };
        }
        doorbell.rung = false;
        !doorbell.silenced
    }
}

impl<L: Level> Default for Thread<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Level> Executor<Thread<L>> {
    /// Starts the thread that runs this executor until it is [silenced](crate::Closed::silence).
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(&'static self) -> Result<(), StartError> {
        let platform = self.platform();
        let mut doorbell = platform.doorbell();
        if doorbell.started {
            return Err(StartError::AlreadyStarted);
        }
        let worker = thread::Builder::new().name("kexec".into()).spawn(move || {
            platform.consumer.get_or_init(|| thread::current().id());
            // SAFETY: the level is simulated; what it stands for on a host is that nothing else runs here.
            let mut level = unsafe { L::assume() };
            while platform.wait() {
                let run = AssertUnwindSafe(|| self.try_run(&mut level));
                if let Err(panic) = catch_unwind(run) {
                    platform.doorbell().panic.get_or_insert(panic);
                }
            }
        });
        doorbell.worker = Some(worker.map_err(StartError::Thread)?);
        doorbell.started = true;
        Ok(())
    }
}

// SAFETY: host threads have no IRQL, and a doorbell that comes late because its ringer was preempted is late
// only by that.
unsafe impl<L: Level> Raise for Thread<L> {
    type Restore = ();

    fn raise(&self) {}
}

// SAFETY: only the executor's own thread may run it.
unsafe impl<L: Level> AnyFuture for Thread<L> {}

// SAFETY: `silence` waits for the thread that answers doorbells.
unsafe impl<L: Level> Platform for Thread<L> {
    type Level = L;

    fn ring(&self, _why: Ring) {
        self.doorbell().rung = true;
        self.changed.notify_all();
    }

    fn arm(&self, alarm: Option<Alarm>) {
        // The thread is in a run, and will look at it before it waits.
        self.doorbell().alarm = alarm.map(|alarm| alarm.at);
    }

    fn is_armed(&self) -> bool {
        self.doorbell().alarm.is_some()
    }

    fn now(&self) -> Instant {
        let start = self.start_of_time.get_or_init(std::time::Instant::now);
        Instant::START.after(start.elapsed())
    }

    fn past(&self, deadline: Instant) -> bool {
        self.now() >= deadline
    }

    fn may_run(&self) -> bool {
        self.consumer.get() == Some(&thread::current().id())
    }

    /// Waits for the thread to end. If a task has panicked there, which ended that task alone, the panic goes on here.
    fn silence(&self, _passive: &mut Passive) {
        let mut doorbell = self.doorbell();
        doorbell.silenced = true;
        let worker = doorbell.worker.take();
        drop(doorbell);
        self.changed.notify_all();
        let ended = worker.map(thread::JoinHandle::join);
        let kept = self.doorbell().panic.take();
        if let Some(panic) = ended.and_then(Result::err).or(kept) {
            resume_unwind(panic);
        }
    }
}

impl<L> fmt::Debug for Thread<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("doorbell", &self.doorbell).finish_non_exhaustive()
    }
}
