//! The order of polls, against a scheduler of thirty lines that does the same with two plain queues.
//!
//! Tasks follow scripts that proptest makes up: at each poll a task parks, yields, ends, or wakes another. The
//! test wakes, aborts and runs. Both schedulers must poll the same tasks in the same order, run for run.
#![cfg(not(miri))]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use kexec::{
    Budget, End, Executor, JoinHandle, Pool, Run,
    platform::mock::{Mock, Plan, Seat, keep},
};
use proptest::{prelude::*, test_runner::RngSeed};

const TASKS: usize = 6;

/// What a task does at one poll.
#[derive(Clone, Copy, Debug)]
enum Act {
    Park,
    Yield,
    Wake(usize),
    End,
}

/// What the test does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wake(usize),
    Abort(usize),
    Run,
}

/// One poll or end of a task, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Poll(usize),
    Drop(usize),
}

#[derive(Clone, Debug)]
struct Script {
    control: bool,
    acts: Vec<Act>,
}

/// The reference: what is written in the documentation of lanes and budgets, and nothing else.
struct Reference {
    scripts: Vec<Script>,
    at: Vec<usize>,
    queued: Vec<bool>,
    cancelled: Vec<bool>,
    ended: Vec<bool>,
    incoming: VecDeque<usize>,
    lanes: [VecDeque<usize>; 2],
    streak: u32,
    seen: Vec<Seen>,
}

impl Reference {
    fn new(scripts: &[Script]) -> Self {
        Self {
            scripts: scripts.to_vec(),
            at: vec![0; TASKS],
            queued: vec![true; TASKS],
            cancelled: vec![false; TASKS],
            ended: vec![false; TASKS],
            incoming: (0..TASKS).collect(),
            lanes: [VecDeque::new(), VecDeque::new()],
            streak: 0,
            seen: Vec::new(),
        }
    }

    fn wake(&mut self, task: usize) {
        if !std::mem::replace(&mut self.queued[task], true) {
            self.incoming.push_back(task);
        }
    }

    fn abort(&mut self, task: usize) {
        if !self.ended[task] {
            self.cancelled[task] = true;
            self.wake(task);
        }
    }

    fn run(&mut self, budget: u32) -> Run {
        self.sort();
        let mut polls = 0;
        loop {
            if polls % 16 == 0 {
                self.sort();
            }
            if self.lanes.iter().all(VecDeque::is_empty) {
                self.sort();
                if self.lanes.iter().all(VecDeque::is_empty) {
                    return Run { polls, end: End::Parked };
                }
            }
            if polls == budget {
                return Run { polls, end: End::Polls };
            }
            let control = !self.lanes[0].is_empty() && (self.streak < 16 || self.lanes[1].is_empty());
            self.streak = if control { self.streak + 1 } else { 0 };
            let task = self.lanes[usize::from(!control)].pop_front().expect("one of the two has a task");
            polls += 1;
            self.turn(task);
        }
    }

    fn sort(&mut self) {
        while let Some(task) = self.incoming.pop_front() {
            self.lanes[usize::from(!self.scripts[task].control)].push_back(task);
        }
    }

    fn turn(&mut self, task: usize) {
        self.queued[task] = false;
        if self.ended[task] {
            return;
        }
        let mut end = self.cancelled[task];
        if !end {
            self.seen.push(Seen::Poll(task));
            let act = self.scripts[task].acts.get(self.at[task]).copied().unwrap_or(Act::End);
            self.at[task] += 1;
            match act {
                Act::Park => {}
                Act::Yield => self.wake(task),
                Act::Wake(other) => self.wake(other),
                Act::End => end = true,
            }
        }
        if end {
            self.ended[task] = true;
            self.seen.push(Seen::Drop(task));
        }
    }
}

/// A task of the executor that follows its script.
struct Scripted {
    me: usize,
    acts: std::vec::IntoIter<Act>,
    names: Arc<Mutex<Vec<kexec::TaskRef>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Future for Scripted {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        self.seen.lock().unwrap().push(Seen::Poll(self.me));
        match self.acts.next().unwrap_or(Act::End) {
            Act::Park => Poll::Pending,
            Act::Yield => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Act::Wake(other) => {
                let name = self.names.lock().unwrap()[other];
                name.wake();
                Poll::Pending
            }
            Act::End => Poll::Ready(()),
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.seen.lock().unwrap().push(Seen::Drop(self.me));
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Park),
        6 => Just(Act::Yield),
        3 => (0..TASKS).prop_map(Act::Wake),
        1 => Just(Act::End),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    (any::<bool>(), prop::collection::vec(act(), 0..60)).prop_map(|(control, acts)| Script { control, acts })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..TASKS).prop_map(Step::Wake),
        1 => (0..TASKS).prop_map(Step::Abort),
        4 => Just(Step::Run),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn polls_in_the_same_order(
        scripts in prop::collection::vec(script(), TASKS),
        steps in prop::collection::vec(step(), 0..60),
        budget in 1..40_u32,
    ) {
        let executor: &'static Executor<Mock> =
            Executor::leak(Mock::new(Plan::CALM), Budget::new(budget, Duration::MAX));
        let data: &'static Pool<256, TASKS> = keep(Pool::new());
        let control: &'static Pool<256, TASKS> = keep(Pool::control());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let names = Arc::new(Mutex::new(Vec::new()));
        let mut reference = Reference::new(&scripts);
        for (me, Script { control: ahead, acts }) in scripts.into_iter().enumerate() {
            let task = Scripted { me, acts: acts.into_iter(), names: names.clone(), seen: seen.clone() };
            let handle = executor.spawn_with(if ahead { control } else { data }, move || task);
            let handle: JoinHandle<()> = handle.expect("a slot is free");
            names.lock().unwrap().push(handle.task());
            handle.detach();
        }
        for step in steps.into_iter().chain([Step::Run; 20]) {
            match step {
                Step::Wake(task) => {
                    names.lock().unwrap()[task].wake();
                    reference.wake(task);
                }
                Step::Abort(task) => {
                    names.lock().unwrap()[task].abort();
                    reference.abort(task);
                }
                Step::Run => prop_assert_eq!(executor.answer(Seat::Cpu(0)), Some(reference.run(budget))),
            }
            prop_assert_eq!(&*seen.lock().unwrap(), &reference.seen);
        }
    }
}
