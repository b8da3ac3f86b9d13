//! `kexec` on the smallest platform that is honest: a doorbell that counts, a clock that is read; with its task table, and
//! without.
#![expect(
    unsafe_code,
    reason = "a platform is a set of promises, and the time-stamp counter is an intrinsic"
)]

/// The same peer for two builds of one crate.
macro_rules! peer {
    ($module:ident, $kexec:ident, $name:literal) => {
        pub(super) mod $module {
            use std::arch::x86_64::_rdtsc;
            use std::mem::size_of;
            use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
            use std::time::Duration;

            use $kexec::irql::{Passive, Raise};
            use $kexec::platform::{Alarm, Platform, Ring};
            use $kexec::time::Instant;
            use $kexec::{Budget, Pool, Slot};

            use crate::exec::cases::{Executor, FAN, TaskFuture};

            /// Bytes of a slot's body: the least there is, and enough for every future of the bench.
            const BODY: usize = 16;

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
            struct Counting;

            // SAFETY: there is no other thread that a raised level would have to keep away.
            unsafe impl Raise for Counting {
                type Restore = ();

                fn raise(&self) {}
            }

            // SAFETY: a doorbell only counts, so that none is ever on its way.
            unsafe impl Platform for Counting {
                type Level = ();

                fn ring(&self, why: Ring) {
                    count(&DOORBELLS);
                    if let Ring::Again { .. } = why {
                        count(&OVERRUNS);
                    }
                }

                /// No task of the bench waits for a time.
                fn arm(&self, _alarm: Option<Alarm>) {}

                fn is_armed(&self) -> bool {
                    false
                }

                /// The time-stamp counter, a tick taken for a nanosecond: the scale matters to nobody here.
                fn now(&self) -> Instant {
                    // SAFETY: every x86-64 processor has the counter.
                    Instant::from_nanos(unsafe { _rdtsc() })
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
            pub(in super::super) struct Kexec {
                executor: &'static $kexec::Executor<Counting>,
                answered: u64,
            }

            impl Executor for Kexec {
                const NAME: &'static str = $name;
                type Pool<F: TaskFuture> = &'static Pool<BODY, FAN>;

                fn new() -> Self {
                    let executor = Box::leak(Box::new($kexec::Executor::new(Counting, BUDGET)));
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
                        if doorbells == self.answered {
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
        }
    };
}

peer!(with_table, kexec, "kexec");
peer!(bare, kexec_bare, "kexec, no table");
