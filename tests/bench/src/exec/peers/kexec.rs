//! `kexec` on the smallest platform that is honest: a doorbell that counts, a clock that is read. There are two builds of
//! it: with all features, and with none.
#![expect(
    unsafe_code,
    reason = "a platform is a set of promises, and the time-stamp counter is an intrinsic"
)]

use std::arch::x86_64::_rdtsc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where a platform's time comes from. It is a name for a static: a benchmark has one platform.
pub(in crate::exec) trait Clock: Send + Sync + 'static {
    /// The time, in nanoseconds.
    fn now() -> u64;
    /// See `Platform::arm`. No task waits for a time that cannot be told by an alarm.
    fn arm(_alarm: Option<u64>) {}
    /// See `Platform::is_armed`.
    fn is_armed() -> bool {
        false
    }
    /// Goes on to the time of the alarm; false if none is armed.
    fn jump() -> bool {
        false
    }
}

/// The time-stamp counter, a tick taken for a nanosecond: the scale matters to nobody here.
pub(in crate::exec) struct Counter;

impl Clock for Counter {
    #[inline]
    fn now() -> u64 {
        // SAFETY: every x86-64 processor has the counter.
        unsafe { _rdtsc() }
    }
}

/// Time that stands still, and jumps from alarm to alarm when there is nothing else to do.
pub(in crate::exec) struct Jumps;

const NEVER: u64 = u64::MAX;
static NOW: AtomicU64 = AtomicU64::new(0);
static ALARM: AtomicU64 = AtomicU64::new(NEVER);

impl Clock for Jumps {
    #[inline]
    fn now() -> u64 {
        NOW.load(Relaxed)
    }

    #[inline]
    fn arm(alarm: Option<u64>) {
        ALARM.store(alarm.unwrap_or(NEVER), Relaxed);
    }

    #[inline]
    fn is_armed() -> bool {
        ALARM.load(Relaxed) != NEVER
    }

    fn jump() -> bool {
        let at = ALARM.load(Relaxed);
        if at != NEVER {
            NOW.store(at, Relaxed);
            Self::arm(None);
        }
        at != NEVER
    }
}

/// If set, a new executor is told to trace its tasks, and then not to.
pub(in crate::exec) static TRACED_ONCE: AtomicU64 = AtomicU64::new(0);

/// The same peer for two builds of one crate.
macro_rules! peer {
    ($module:ident, $kexec:ident, $name:literal) => {
        pub(in crate::exec) mod $module {
            use std::marker::PhantomData;
            use std::mem::size_of;
            use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
            use std::time::Duration;

            use $kexec::irql::{Passive, Raise};
            use $kexec::platform::{Alarm, Platform, Ring};
            use $kexec::time::Instant;
            use $kexec::{Budget, Pool, Slot};

            use super::{Clock, Counter, Jumps, TRACED_ONCE};
            use crate::exec::cases::{Executor, FAN, TaskFuture};
            use crate::exec::primitives::work::TIMERS;

            /// With the least body of a slot that there is, which is enough for the futures that all executors run.
            pub(in crate::exec) type Least = Kexec<16, FAN, Counter>;

            /// With room for whatever waits for the primitives.
            pub(in crate::exec) type Roomy = Kexec<1024, 2, Jumps>;

            /// With room for tasks that sleep, and many of them.
            pub(in crate::exec) type Sleepy = Kexec<512, TIMERS, Jumps>;

            /// The polls of [`Budget::DEFAULT`]; but no limit of time that could be reached, since under callgrind
            /// everything takes fifty times as long, and how often a run ends must not depend on that. The clock is
            /// asked all the same.
            const BUDGET: Budget = Budget::new(Budget::DEFAULT.polls.get(), Duration::from_hours(1));

            /// All doorbells.
            static DOORBELLS: AtomicU64 = AtomicU64::new(0);
            /// Those of them that a run rang because it ended at its budget.
            static OVERRUNS: AtomicU64 = AtomicU64::new(0);

            /// Not a read-modify-write: no locked instruction is the harness's.
            fn count(counter: &AtomicU64) {
                counter.store(counter.load(Relaxed) + 1, Relaxed);
            }

            /// One thread that runs the executor when it rings. There is no level to raise to.
            struct Counting<C>(PhantomData<C>);

            // SAFETY: there is no other thread that a raised level would have to keep away.
            unsafe impl<C: Clock> Raise for Counting<C> {
                type Restore = ();

                fn raise(&self) {}
            }

            // SAFETY: a doorbell only counts, so that none is ever on its way.
            unsafe impl<C: Clock> Platform for Counting<C> {
                type Level = ();

                fn ring(&self, why: Ring) {
                    count(&DOORBELLS);
                    if let Ring::Again { .. } = why {
                        count(&OVERRUNS);
                    }
                }

                fn arm(&self, alarm: Option<Alarm>) {
                    C::arm(alarm.map(|alarm| alarm.at.as_nanos()));
                }

                fn is_armed(&self) -> bool {
                    C::is_armed()
                }

                fn now(&self) -> Instant {
                    Instant::from_nanos(C::now())
                }

                fn past(&self, deadline: Instant) -> bool {
                    self.now() > deadline
                }

                fn may_run(&self) -> bool {
                    true
                }

                fn silence(&self, _passive: &mut Passive) {}
            }

            /// An executor, and how many doorbells `run` has answered.
            pub(in crate::exec) struct Kexec<const BODY: usize, const SLOTS: usize, C: Clock> {
                executor: &'static $kexec::Executor<Counting<C>>,
                answered: u64,
            }

            impl<const BODY: usize, const SLOTS: usize, C: Clock> Executor for Kexec<BODY, SLOTS, C> {
                const NAME: &'static str = $name;
                type Pool<F: TaskFuture> = &'static Pool<BODY, SLOTS>;

                fn new() -> Self {
                    let executor: &'static $kexec::Executor<_> =
                        Box::leak(Box::new($kexec::Executor::new(Counting(PhantomData), BUDGET)));
                    if TRACED_ONCE.load(Relaxed) != 0 {
                        executor.trace_tasks(true);
                        executor.trace_tasks(false);
                    }
                    Self { executor, answered: DOORBELLS.load(Relaxed) }
                }

                fn pool<F: TaskFuture>() -> Self::Pool<F> {
                    Box::leak(Box::new(Pool::new()))
                }

                fn spawn<F: TaskFuture>(&mut self, pool: &Self::Pool<F>, future: F) {
                    self.executor.spawn_with(*pool, || future).expect("the pool has room").detach();
                }

                fn run(&mut self) {
                    loop {
                        let doorbells = DOORBELLS.load(Relaxed);
                        if doorbells == self.answered && !(self.is_waiting() && C::jump()) {
                            break;
                        }
                        self.answered = doorbells;
                        self.executor.try_run(&mut ());
                    }
                }

                fn task_bytes() -> u64 {
                    size_of::<Slot<BODY>>() as u64
                }

                /// Without those at the end of a budget: what is asked is whether a task that wakes itself rings.
                fn doorbells() -> Option<u64> {
                    Some(DOORBELLS.load(Relaxed) - OVERRUNS.load(Relaxed))
                }
            }

            impl<const BODY: usize, const SLOTS: usize, C: Clock> Kexec<BODY, SLOTS, C> {
                /// Whether an alarm matters to anybody. Timers that a case has leaked are not waited for.
                #[inline]
                fn is_waiting(&self) -> bool {
                    C::is_armed() && self.executor.live() != 0
                }
            }
        }
    };
}

peer!(with_table, kexec, "kexec");
peer!(bare, kexec_bare, "kexec, no table");
