//! The one suite, for every platform of this crate.

use std::{
    cell::RefCell,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use kexec::{
    Budget, Executor,
    irql::{Dispatch, Passive},
    platform::{
        Platform,
        conformance::Rig,
        mock::{Mock, Plan},
        polling::Polling,
        thread::Thread,
    },
};

/// A few polls a run, so that every check meets the end of a budget.
const BUDGET: Budget = Budget::new(3, Duration::from_millis(1));
/// A check that takes longer is stuck.
const STUCK: Duration = Duration::from_mins(1);

/// The executors of one check, and what each needs to go on.
struct Executors<P: 'static> {
    all: RefCell<Vec<&'static Executor<P>>>,
    make: fn() -> P,
    start: fn(&'static Executor<P>),
    drive: fn(&'static Executor<P>),
}

impl<P: Platform> Rig for Executors<P> {
    type Platform = P;

    fn executor(&self) -> &'static Executor<P> {
        let executor = Executor::leak((self.make)(), BUDGET);
        (self.start)(executor);
        self.all.borrow_mut().push(executor);
        executor
    }

    fn until(&self, done: &mut dyn FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < STUCK, "nothing happens any more");
            for executor in &*self.all.borrow() {
                (self.drive)(executor);
            }
            thread::yield_now();
        }
    }
}

/// The clock of a loop that asks.
fn clock() -> kexec::time::Instant {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    kexec::time::Instant::START.after(BEGIN.elapsed())
}

fn polling() -> Executors<Polling> {
    Executors {
        all: RefCell::default(),
        make: || Polling::new().with_clock(clock),
        start: |_| (),
        drive: |executor| {
            if executor.platform().is_rung() {
                executor.try_run(&mut ());
            }
        },
    }
}

fn thread<L: kexec::irql::Level>() -> Executors<Thread<L>> {
    Executors {
        all: RefCell::default(),
        make: Thread::new,
        start: |executor| executor.start().expect("this is its first start"),
        drive: |_| (),
    }
}

fn mock(make: fn() -> Mock) -> Executors<Mock> {
    Executors {
        all: RefCell::default(),
        make,
        start: |_| (),
        drive: |executor| {
            if !executor.step() {
                executor.advance_to_next_alarm();
            }
        },
    }
}

mod a_loop_that_asks {
    kexec::conformance_tests!(super::polling());
}

mod a_thread_at_dispatch {
    kexec::conformance_tests!(super::thread::<super::Dispatch>());
}

mod a_thread_at_passive {
    kexec::conformance_tests!(super::thread::<super::Passive>());
}

mod a_calm_mock {
    kexec::conformance_tests!(super::mock(|| super::Mock::new(super::Plan::CALM)));
}

mod a_wild_mock {
    kexec::conformance_tests!(super::mock(|| super::Mock::new(super::Plan::wild(1))));
}
