//! Nothing fires early, and nothing later than it may, whatever the platform does wrong.

use std::{cell::Cell, rc::Rc, time::Duration};

use kexec::{
    Budget, Executor,
    platform::mock::{Mock, Plan},
    time::{Elapsed, Instant, interval, now, sleep, sleep_until, timeout},
    yield_now,
};

use super::{Event, Exec, MS, POLLS, Slots, calm, crowd, slots, task};

/// Chance for the tasks; the platform has its own.
#[derive(Clone)]
struct Dice(Rc<Cell<u64>>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed | 1)))
    }

    fn below(&self, bound: u64) -> u64 {
        // xorshift64*
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }

    /// From nothing to two milliseconds, the shorter the more often.
    fn time(&self) -> Duration {
        Duration::from_nanos(self.below(1 << (1 + self.below(21))))
    }
}

/// What the platform may take: doorbells that are on their way, runs that use up their budget one after the other, and
/// a computing task in each.
const LATENCY: Duration = Duration::from_millis(1);

/// The mock's clock is read as up to so much earlier than it is.
const LAG: Duration = Duration::from_micros(10);

/// Checks the end of a wait by the time that has really passed.
#[track_caller]
fn check(executor: Exec, begin: Instant, deadline: Instant, tolerance: Duration, lag: Duration) {
    let end = executor.platform().time();
    assert!(end.after(lag) >= deadline, "early: {begin:?}, until {deadline:?}, ended {end:?}");
    assert!(
        end <= deadline.after(tolerance).after(LATENCY),
        "late: {begin:?}, until {deadline:?} + {tolerance:?}, ended {end:?}"
    );
}

/// Waits in one way after the other.
async fn wait_in_every_way(executor: Exec, seed: u64, lag: Duration) {
    let dice = Dice::new(seed);
    for _ in 0..12 {
        let (time, tolerance) = (dice.time(), dice.time());
        let begin = executor.platform().time();
        let deadline = begin.after(time);
        match dice.below(6) {
            0 => {
                sleep(time).tolerance(tolerance).await;
                check(executor, begin, deadline, tolerance, lag);
            }
            1 => {
                sleep_until(deadline).tolerance(tolerance).await;
                check(executor, begin, deadline, tolerance, lag);
            }
            2 => {
                let outcome = timeout(time, std::future::pending::<()>()).tolerance(tolerance).await;
                assert!(matches!(outcome, Err(Elapsed::Deadline(_))));
                check(executor, begin, deadline, tolerance, lag);
            }
            3 => {
                // The shorter of two, of which the other is given up.
                let longer = time.max(MS / 10) * 2;
                timeout(longer + LATENCY + LAG, sleep(time)).await.expect("it is ready in time");
                check(executor, begin, deadline, Duration::ZERO, lag);
            }
            4 => {
                let mut every = interval(time.max(MS / 10));
                for _ in 0..3 {
                    let tick = every.tick().await;
                    check(executor, begin, tick.at, Duration::ZERO, lag);
                }
            }
            _ => {
                executor.platform().pass(time / 100);
                yield_now().await;
            }
        }
    }
}

fn run(plan: Plan, lag: Duration) -> (u64, u64) {
    let executor: Exec = Executor::leak(Mock::new(plan), Budget::new(16, Duration::from_micros(50)));
    executor.platform().forget_trace();
    let slots = slots();
    for n in 0..8 {
        let seed = plan.seed.wrapping_mul(8).wrapping_add(n);
        task(executor, slots, move || wait_in_every_way(executor, seed.wrapping_mul(0x9E37_79B9), lag))
            .detach();
    }
    let mut steps = 0;
    while executor.live() != 0 {
        assert!(executor.step() || executor.advance_to_next_alarm(), "nobody comes for {}", executor.live());
        steps += 1;
        assert!(steps < 1_000_000, "the tasks never rest");
    }
    (executor.platform().digest(), executor.platform().counts().arms)
}

/// Hundreds of seeds of everything going wrong but the clock.
#[test]
fn under_wild_seeds() {
    let mut arms = 0;
    for seed in 0..400 {
        arms += run(Plan { clock_goes_back: 0, ..Plan::wild(seed) }, Duration::ZERO).1;
    }
    assert!(arms > 4_000, "the seeds wait for nothing");
}

/// With a clock that is sometimes read as earlier: nothing is early by more than that. The same seed, the same trace.
#[test]
fn under_wild_seeds_and_a_wild_clock() {
    for seed in 0..100 {
        let first = run(Plan::wild(seed), LAG);
        assert_eq!(first, run(Plan::wild(seed), LAG), "seed {seed}");
    }
}

/// A thousand timers of each kind, and a day of which the guest sees nothing, in many pieces: none of them fires for it,
/// and none is late because of it.
#[test]
fn a_day_of_suspension() {
    let executor = calm();
    executor.platform().forget_trace();
    let dice = Dice::new(1);
    for slots in crowd() {
        for _ in 0..64 {
            let time = MS * u32::try_from(1 + dice.below(10_000)).expect("it is small");
            any_timer(executor, slots, dice.below(4), time);
        }
    }
    executor.settle();
    let tasks = executor.live();
    let mut left = Duration::from_hours(24);
    while !left.is_zero() {
        let piece = Duration::from_secs(dice.below(3000)).min(left);
        left -= piece;
        let (live, time) = (executor.live(), executor.platform().time());
        executor.platform().suspend(piece);
        executor.settle();
        assert_eq!((executor.live(), executor.platform().time()), (live, time), "fired for a suspension");
        executor.advance(MS * u32::try_from(dice.below(200)).expect("it is small"));
    }
    assert!(executor.live() < tasks, "the guest ran meanwhile");
    executor.advance(Duration::from_secs(11));
    assert_eq!(executor.live(), 0);
}

/// A task with one wait of that kind, which it checks.
fn any_timer(executor: Exec, slots: Slots, kind: u64, time: Duration) {
    let wait = move || async move {
        let begin = now().await;
        let tolerance = if kind == 3 { time / 10 } else { Duration::ZERO };
        match kind {
            0 => sleep(time).await,
            1 => drop(timeout(time, Event::default().wait()).await.expect_err("nobody sets it")),
            2 => drop(interval(time).tick().await),
            _ => sleep_until(begin.after(time)).tolerance(tolerance).await,
        }
        check(executor, begin, begin.after(time), tolerance, Duration::ZERO);
    };
    task(executor, slots, wait).detach();
}

/// Deadlines at the end of time, and beyond: nothing wraps, nothing fires, nothing is armed for never.
#[test]
fn the_end_of_time() {
    for left in [0, 1, 2, 1000] {
        let executor: Exec = Executor::leak(Mock::new(Plan::CALM), POLLS);
        executor.platform().pass(Duration::from_nanos(u64::MAX - left));
        let slots = slots();
        for time in [Duration::from_nanos(left + 1), Duration::from_hours(1), Duration::MAX] {
            task(executor, slots, move || sleep(time)).detach();
            task(executor, slots, move || timeout(time, std::future::pending::<()>())).detach();
        }
        task(executor, slots, || sleep_until(Instant::NEVER)).detach();
        executor.settle();
        assert_eq!(executor.platform().alarm(), None);
        task(executor, slots, || sleep(Duration::from_nanos(1)).tolerance(Duration::MAX)).detach();
        executor.settle();
        executor.advance(Duration::MAX);
        assert_eq!(executor.live(), if left < 2 { 8 } else { 7 }, "what cannot be told never comes");
    }
}
