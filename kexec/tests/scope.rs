//! Scopes end their members in order, whatever else happens, and cancellation finds a task at its next park.

use std::{
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use futures_util::future::select;
use kexec::{
    Budget, Cancelled, Executor, JoinHandle, NestError, NotClosed, Pool, Scope, SpawnError, Spawner, Table,
    cancelled,
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan, keep},
        thread::{Thread, passive},
    },
    shielded,
    trace::{self, Output, Ring},
    until_cancelled, yield_now,
};

type Exec = &'static Executor<Mock>;
type Slots = &'static Table<512>;

fn calm() -> Exec {
    Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT)
}

fn slots() -> Slots {
    keep(Pool::<512, 40>::new())
}

fn scope(name: &'static str) -> &'static Scope {
    keep(Scope::new(name))
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Notes that it was dropped.
    fn guard(&self, name: &str) -> Guard {
        Guard(self.clone(), name.into())
    }
}

struct Guard(Log, String);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.note(format!("-{}", self.1));
    }
}

/// A member that waits for ever, and notes its end.
fn waits(within: Spawner<Mock>, slots: Slots, log: &Log, name: &str) -> JoinHandle<()> {
    let guard = log.guard(name);
    let task = async move |_: &mut Dispatch, guard: Guard| {
        pending::<()>().await;
        drop(guard);
    };
    within.spawn(slots, task, guard).expect("a slot is free")
}

/// Closes a scope in a task, and notes when that is done.
fn closes(executor: Exec, slots: Slots, log: &Log, scope: &'static Scope) -> JoinHandle<()> {
    let log = log.clone();
    let task = async move |_: &mut Dispatch, ()| {
        scope.close().expect("nobody else closes it").await;
        log.note(format!("closed {}", scope.name()));
    };
    executor.spawn(slots, task, ()).expect("a slot is free")
}

/// The order is that of locals: the newest first, each gone before the next one is cancelled.
#[test]
fn the_newest_goes_first() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    let members: Vec<_> =
        ["a", "b", "c"].map(|name| waits(executor.within(device), slots, &log, name)).into();
    executor.settle();
    closes(executor, slots, &log, device).detach();
    executor.settle();
    assert_eq!(log.take(), ["-c", "-b", "-a", "closed device"]);
    for member in members {
        assert_eq!(member.try_take().expect("it has ended"), Err(Cancelled));
    }
    assert_eq!(executor.live(), 0);
}

/// A scope within is closed at its place in the order, its own members first; then it can be used again.
#[test]
fn scopes_within_scopes() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let [device, connection, queue] = ["device", "connection", "queue"].map(scope);
    let outer = executor.within(device);
    waits(outer, slots, &log, "store").detach();
    let inner = outer.nest(connection).expect("both are open");
    waits(inner, slots, &log, "handshake").detach();
    let innermost = inner.nest(queue).expect("both are open");
    waits(innermost, slots, &log, "ring").detach();
    waits(inner, slots, &log, "watch").detach();
    waits(outer, slots, &log, "ioctl").detach();
    executor.settle();
    closes(executor, slots, &log, device).detach();
    executor.settle();
    assert_eq!(log.take(), ["-ioctl", "-watch", "-ring", "-handshake", "-store", "closed device"]);
    for scope in [device, connection, queue] {
        assert_eq!(scope.reopen(), Ok(()));
    }
    let inner = executor.within(device).nest(connection).expect("both are open again");
    waits(inner, slots, &log, "handshake").detach();
    executor.settle();
    closes(executor, slots, &log, connection).detach();
    executor.settle();
    assert_eq!(log.take(), ["-handshake", "closed connection"]);
    assert!(!device.is_closing(), "an inner scope ends alone");
    closes(executor, slots, &log, device).detach();
    executor.settle();
    assert_eq!(log.take(), ["closed device"]);
}

/// A member that ends by itself leaves no gap, wherever it is in the list.
#[test]
fn members_end_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for ended in 0..=3 {
            let (executor, slots, log) = (calm(), slots(), Log::default());
            let device = scope("device");
            let members = ["a", "b", "c"].map(|name| waits(executor.within(device), slots, &log, name));
            executor.settle();
            for &member in &order[..ended] {
                members[member].abort();
                executor.settle();
            }
            assert_eq!(log.take().len(), ended);
            closes(executor, slots, &log, device).detach();
            executor.settle();
            let mut left: Vec<_> = order[ended..].to_vec();
            left.sort_unstable_by(|a, b| b.cmp(a));
            let expected: Vec<_> = left
                .iter()
                .map(|&member| format!("-{}", ["a", "b", "c"][member]))
                .chain(["closed device".into()])
                .collect();
            assert_eq!(log.take(), expected, "{ended} of {order:?} had ended");
        }
    }
}

/// The end of a request is the end of its epilogue: what is older is cancelled after that, and not before.
#[test]
fn an_epilogue_belongs_to_the_scope() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    waits(executor.within(device), slots, &log, "ring").detach();
    let request = log.guard("request");
    let completed = log.clone();
    executor
        .within(device)
        .submit(
            slots,
            async |_: &mut Dispatch, guard: Guard| {
                pending::<()>().await;
                drop(guard);
            },
            request,
            move |_at: &mut Dispatch, outcome| completed.note(format!("completed {outcome:?}")),
        )
        .expect("a slot is free");
    executor.settle();
    closes(executor, slots, &log, device).detach();
    executor.settle();
    assert_eq!(log.take(), ["-request", "completed Err(Cancelled)", "-ring", "closed device"]);
}

/// Members may be of several executors, which take their turns one after the other.
#[test]
fn across_executors() {
    let (one, other, slots, log) = (calm(), calm(), slots(), Log::default());
    let device = scope("device");
    for (executor, name) in [(one, "a"), (other, "b"), (one, "c"), (other, "d")] {
        waits(executor.within(device), slots, &log, name).detach();
    }
    one.settle();
    other.settle();
    closes(one, slots, &log, device).detach();
    one.settle();
    assert_eq!(log.take(), Vec::<String>::new(), "the newest is of the other executor, which has not run");
    other.settle();
    assert_eq!(log.take(), ["-d"]);
    for executor in [one, other, one] {
        executor.settle();
    }
    assert_eq!(log.take(), ["-c", "-b", "-a", "closed device"]);
}

/// Nobody enters a scope that is closing or closed, and what was refused comes back.
#[test]
fn a_closing_scope_refuses() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    let stuck = executor.within(device).spawn(
        slots,
        async |_: &mut Dispatch, ()| shielded(pending::<()>()).await,
        (),
    );
    let stuck = stuck.expect("a slot is free");
    executor.settle();
    let closing = closes(executor, slots, &log, device);
    executor.settle();
    for _ in 0..2 {
        let refused = executor.within(device).spawn(slots, async |_: &mut Dispatch, data| data, vec![1, 2]);
        let error = refused.expect_err("the scope is closing, and then closed");
        assert!(matches!(error, SpawnError::Closed(_)), "{error}");
        assert_eq!(error.into_inner().1, [1, 2]);
        assert_eq!(executor.within(device).nest(scope("late")).map(drop), Err(NestError::Closed));
        stuck.task().wake();
        executor.settle();
    }
    assert!(!closing.is_finished(), "a member is shielded for ever");
    assert_eq!(device.reopen(), Err(NotClosed));
    assert_eq!(executor.live(), 2, "the child keeps its memory, and whoever waits goes on waiting");
}

/// Whoever closes a scope whose newest member does not end is told so, and whom it waits for: less and less often.
#[test]
fn a_close_that_takes_long() {
    static RING: Ring<8> = Ring::new();
    static OUTPUT: Output = Output::new(&RING);
    async fn stays(_at: &mut Dispatch, (): ()) {
        shielded(pending::<()>()).await;
    }
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    executor.within(device).spawn(slots, stays, ()).expect("a slot is free").detach();
    executor.settle();
    closes(executor, slots, &log, device).detach();
    trace::set_output(Some(&OUTPUT));
    executor.advance(Duration::from_secs(75));
    trace::set_output(None);
    let told: Vec<_> = RING.entries().map(|entry| entry.text().to_owned()).collect();
    // After 10 seconds, after 10 more, after 20 more.
    assert_eq!(told.len(), 3, "{told:?}");
    for (told, waited) in told.iter().zip(["10s", "20s", "40s"]) {
        let expected = format!(
            "scope device: closing for {waited}, and waits for scope::a_close_that_takes_long::stays"
        );
        assert!(told.ends_with(&expected), "{told}");
    }
    assert_eq!(log.take(), Vec::<String>::new());
}

/// A scope closed twice: at the same time, the second is refused; afterwards, it is ready at once.
#[test]
fn closed_twice() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    waits(executor.within(device), slots, &log, "a").detach();
    executor.settle();
    let mut first = Box::pin(device.close().expect("nobody else closes it"));
    assert!(device.close().is_err(), "the first one exists");
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Pending);
    drop(first);
    executor.settle();
    assert_eq!(log.take(), ["-a"], "the closing goes on when its future is dropped");
    let mut second = pin!(device.close().expect("the first one is gone"));
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(()));
    assert_eq!(device.reopen(), Ok(()));
    assert_eq!(device.reopen(), Err(NotClosed));
}

/// What cannot be a member is refused, and nothing has changed.
#[test]
fn nesting_that_makes_no_sense() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let [a, b, c] = ["a", "b", "c"].map(scope);
    assert_eq!(executor.within(a).nest(a).map(drop), Err(NestError::Closed), "a scope within itself");
    executor.within(a).nest(b).expect("both are open");
    assert_eq!(executor.within(c).nest(b).map(drop), Err(NestError::InUse), "within two");
    assert_eq!(executor.within(b).nest(a).map(drop), Err(NestError::InUse), "within each other");
    waits(executor.within(c), slots, &log, "c").detach();
    assert_eq!(executor.within(a).nest(c).map(drop), Err(NestError::InUse), "it has a member");
    executor.settle();
    for scope in [a, c] {
        closes(executor, slots, &log, scope).detach();
        executor.settle();
    }
    assert_eq!(log.take(), ["closed a", "-c", "closed c"]);
    assert!(b.is_closing(), "it was a member of `a`");
}

/// A member that closes its own scope is cancelled with the others; the closing goes on.
#[test]
fn a_member_closes_its_scope() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    waits(executor.within(device), slots, &log, "a").detach();
    let suicide = executor.within(device).spawn(
        slots,
        async |_: &mut Dispatch, device: &'static Scope| device.close().expect("nobody else closes it").await,
        device,
    );
    let suicide = suicide.expect("a slot is free");
    executor.settle();
    assert_eq!(suicide.try_take().expect("it has ended"), Err(Cancelled));
    assert_eq!(log.take(), ["-a"]);
    assert!(device.is_closing() && device.reopen().is_ok());
}

/// Sends what it is told to every poll of a task: a step each.
fn steps(log: &Log, name: &'static str, polls: u32) -> impl Future<Output = ()> + use<> {
    let (log, mut left) = (log.clone(), polls);
    poll_fn(move |_| {
        log.note(name);
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// A shielded section is polled to its end after the task was cancelled; what follows it runs to the next park.
#[test]
fn a_shield_lasts_to_its_end() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let guard = log.guard("task");
    let inner = log.clone();
    let task = async move |_: &mut Dispatch, guard: Guard| {
        shielded(async {
            steps(&inner, "outer", 1).await;
            shielded(steps(&inner, "nested", 2)).await;
            steps(&inner, "after nested", 2).await;
        })
        .await;
        inner.note("free");
        yield_now().await;
        inner.note("never");
        drop(guard);
    };
    let handle = executor.spawn(slots, task, guard).expect("a slot is free");
    executor.settle();
    assert_eq!(log.take(), ["outer", "nested"]);
    assert!(handle.abort());
    executor.settle();
    assert_eq!(log.take(), ["nested", "after nested"]);
    handle.task().wake();
    executor.settle();
    assert_eq!(log.take(), ["after nested", "free", "-task"], "it is delivered at the next park");
    assert_eq!(handle.try_take().expect("it has ended"), Err(Cancelled));
}

/// One that ends without another park has its output.
#[test]
fn a_shield_at_the_end_of_a_task() {
    let (executor, slots) = (calm(), slots());
    let task = executor.spawn(slots, async |_: &mut Dispatch, ()| shielded(poll_fn(two_polls())).await, ());
    let task = task.expect("a slot is free");
    executor.settle();
    task.abort();
    executor.settle();
    assert_eq!(task.try_take().expect("it has ended"), Ok(()));
    assert_eq!(executor.stats().stale, 0, "no turn was asked for a task that had ended");
}

fn two_polls() -> impl FnMut(&mut Context<'_>) -> Poll<()> {
    let mut polled = false;
    move |_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
}

/// A section that is dropped, as the loser of a `select`, shields no more.
#[test]
fn a_shield_that_is_dropped() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let guard = log.guard("task");
    let task = async |_: &mut Dispatch, guard: Guard| {
        let never = pin!(shielded(pending::<()>()));
        select(never, pin!(yield_now())).await;
        pending::<()>().await;
        drop(guard);
    };
    let handle = executor.spawn(slots, task, guard).expect("a slot is free");
    executor.settle();
    handle.abort();
    executor.settle();
    // The loser lives on in `never`: the task is shielded until that is dropped.
    assert_eq!(log.take(), Vec::<String>::new());
    let guard = log.guard("other");
    let task = async |_: &mut Dispatch, guard: Guard| {
        select(Box::pin(shielded(pending::<()>())), pin!(yield_now())).await;
        pending::<()>().await;
        drop(guard);
    };
    let handle = executor.spawn(slots, task, guard).expect("a slot is free");
    executor.settle();
    handle.abort();
    executor.settle();
    assert_eq!(log.take(), ["-other"]);
}

/// A teardown runs, whoever cancels the task: an abort, its scope, its executor; before or after it has parked.
#[test]
fn a_teardown_runs() {
    for by in ["abort", "scope", "executor"] {
        let (executor, slots, log) = (calm(), slots(), Log::default());
        let device = scope("device");
        let inner = log.clone();
        let task = async move |_: &mut Dispatch, ()| {
            shielded(async {
                inner.note("connect");
                let ended = until_cancelled(pending::<()>()).await;
                inner.note(format!("ended {ended:?}"));
                yield_now().await;
                inner.note("disconnect");
                cancelled().await;
                inner.note("still asked");
            })
            .await;
        };
        let handle = executor.within(device).spawn(slots, task, ()).expect("a slot is free");
        executor.settle();
        let mut close = pin!(executor.close().expect("nobody else closes it"));
        match by {
            "abort" => assert!(handle.abort()),
            "scope" => closes(executor, slots, &log, device).detach().wake(),
            _ => assert!(close.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()),
        }
        executor.settle();
        let expected = ["connect", "ended Err(Cancelled)", "disconnect", "still asked"];
        assert_eq!(log.take()[..4], expected, "by {by}");
        assert_eq!(handle.try_take().expect("it has ended"), Ok(()), "by {by}");
    }
}

/// A task that is cancelled before it begins is dropped unbegun, shield or not.
#[test]
fn cancelled_before_it_begins() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    let guard = log.guard("task");
    let task = async |_: &mut Dispatch, guard: Guard| shielded(async move { guard.0.note("begun") }).await;
    executor.within(device).spawn(slots, task, guard).expect("a slot is free").detach();
    let mut close = Box::pin(device.close().expect("nobody else closes it"));
    assert!(close.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    executor.settle();
    assert_eq!(log.take(), ["-task"]);
    assert!(close.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// Under a waker that is no task's, there is nobody to shield, and nobody asks.
#[test]
fn without_a_task() {
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(shielded(async { 1 })).poll(&mut cx), Poll::Ready(1));
    assert_eq!(pin!(until_cancelled(async { 1 })).poll(&mut cx), Poll::Ready(Ok(1)));
    assert_eq!(pin!(until_cancelled(pending::<()>())).poll(&mut cx), Poll::Pending);
    assert_eq!(pin!(cancelled()).poll(&mut cx), Poll::Pending);
}

/// Members that end by themselves, at every moment of a close, in every schedule: each ends once, the order holds among
/// those that were cancelled, and the close ends.
#[test]
fn any_schedule() {
    for seed in 0..400 {
        let executor: Exec = Executor::leak(Mock::new(Plan::wild(seed)), Budget::new(3, Duration::MAX));
        executor.platform().forget_trace();
        let (slots, log) = (slots(), Log::default());
        let [device, inner] = ["device", "inner"].map(scope);
        let within = executor.within(device);
        let mut names = Vec::new();
        for member in 0..12_u64 {
            let within = if member == 5 { within.nest(inner).expect("both are open") } else { within };
            let polls = seed.wrapping_mul(member + 7) % 9;
            let guard = log.guard(&format!("{member}"));
            let task = async move |_: &mut Dispatch, guard: Guard| {
                let work = async {
                    for _ in 0..polls {
                        yield_now().await;
                    }
                    if member % 3 == 0 {
                        pending::<()>().await;
                    }
                };
                if member % 4 == 0 {
                    shielded(async { until_cancelled(work).await.is_ok() }).await;
                } else {
                    work.await;
                }
                drop(guard);
            };
            let handle = within.spawn(slots, task, guard).expect("a slot is free");
            executor.platform().haunt(handle.task());
            names.push(handle);
        }
        for _ in 0..seed % 7 {
            executor.step();
        }
        let closing = closes(executor, slots, &log, device);
        executor.settle();
        assert!(closing.is_finished(), "seed {seed}");
        let mut ended = log.take();
        assert_eq!(ended.pop().as_deref(), Some("closed device"), "seed {seed}");
        // Those that wait for ever were all cancelled, so that they are in order.
        let waited: Vec<_> = ended.iter().filter(|name| name[1..].parse::<u64>().unwrap() % 3 == 0).collect();
        assert_eq!(waited, ["-9", "-6", "-3", "-0"], "seed {seed}");
        ended.sort();
        ended.dedup();
        assert_eq!(ended.len(), 12, "seed {seed}");
        assert!(names.iter().all(JoinHandle::is_finished), "seed {seed}");
        drop((names, closing));
        assert_eq!(executor.live(), 0, "seed {seed}");
    }
}

/// Closed from one thread while its members run on another, again and again.
#[test]
fn on_threads() {
    static TASKS: Pool<512, 64> = Pool::new();
    static DEVICE: Scope = Scope::new("device");
    static HERE: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static THERE: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    for executor in [&HERE, &THERE] {
        executor.start().expect("this is the first start");
    }
    let spawning = thread::spawn(|| {
        for round in 0..2_000 {
            let executor = if round % 2 == 0 { &HERE } else { &THERE };
            let task = async |_: &mut Dispatch, ()| {
                for _ in 0..3 {
                    yield_now().await;
                }
            };
            if let Err(SpawnError::Full(_)) = executor.within(&DEVICE).spawn(&TASKS, task, ()).map(drop) {
                thread::yield_now();
            }
        }
    });
    let mut rounds = 0;
    while !spawning.is_finished() || rounds == 0 {
        let closing = HERE.spawn(
            &TASKS,
            async |_: &mut Dispatch, ()| DEVICE.close().expect("nobody else closes it").await,
            (),
        );
        let Ok(closing) = closing else { continue };
        pollster::block_on(closing).expect("nobody cancels it");
        DEVICE.reopen().expect("it is closed");
        rounds += 1;
    }
    spawning.join().unwrap();
    for executor in [&HERE, &THERE] {
        let closed = pollster::block_on(executor.close().expect("nobody else closes it"));
        passive(|passive| closed.silence(passive));
        assert_eq!(executor.live(), 0);
    }
}

/// A child that panics in a test of the host ends alone: its scope and its executor go on, whoever waits for it is told, and
/// the panic comes out of the run.
#[test]
fn a_child_that_panics() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let device = scope("device");
    let child = executor.within(device).spawn(
        slots,
        async |_: &mut Dispatch, guard: Guard| {
            yield_now().await;
            assert!(guard.1.is_empty(), "the child fails");
        },
        log.guard("child"),
    );
    let child = child.expect("a slot is free");
    let other = waits(executor.within(device), slots, &log, "other");
    let run = catch_unwind(AssertUnwindSafe(|| executor.settle()));
    let panic = run.expect_err("the panic comes out of the run");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the child fails"));
    executor.settle();
    assert_eq!(child.try_take().expect("it has ended"), Err(Cancelled));
    assert_eq!(log.take(), ["-child"]);
    assert!(!other.is_finished());
    closes(executor, slots, &log, device).detach();
    executor.settle();
    assert_eq!(log.take(), ["-other", "closed device"]);
}

/// The same on a thread, where the panic waits for whoever silences the executor.
#[test]
fn a_child_that_panics_on_a_thread() {
    static TASKS: Pool<256, 4> = Pool::new();
    static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    EXECUTOR.start().expect("this is the first start");
    let child = EXECUTOR.spawn(&TASKS, async |_: &mut Dispatch, ()| panic!("the child fails"), ());
    let child: JoinHandle<()> = child.expect("a slot is free");
    assert_eq!(pollster::block_on(child), Err(Cancelled));
    let other = EXECUTOR.spawn(&TASKS, async |_: &mut Dispatch, ()| 7, ()).expect("a slot is free");
    assert_eq!(pollster::block_on(other), Ok(7));
    let closed = pollster::block_on(EXECUTOR.close().expect("nobody else closes it"));
    let silenced = catch_unwind(AssertUnwindSafe(|| passive(|passive| closed.silence(passive))));
    let panic = silenced.expect_err("the panic comes out");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the child fails"));
}

/// Futures may be sent, so that they fit any platform.
#[test]
fn futures_are_send() {
    fn is_send<T: Send>(_: T) {}
    let device = scope("device");
    is_send(device.close());
    is_send(shielded(yield_now()));
    is_send(until_cancelled(yield_now()));
    is_send(cancelled());
    is_send::<Pin<Box<dyn Future<Output = ()> + Send>>>(Box::pin(yield_now()));
}
