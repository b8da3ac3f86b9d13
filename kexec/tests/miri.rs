//! What an interpreter that checks every access can see: real threads, memory that is given back, tokens and pins.
//!
//! The tests are short, so that Miri can run them with many seeds; they pass natively as well.
#![expect(unsafe_code, reason = "memory is given back as a device does it")]

use std::{
    alloc::{alloc, dealloc},
    cell::RefCell,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    ptr::NonNull,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use kexec::{
    Budget, Cancelled, Executor, Lane, Pool, Table, TaskRef,
    irql::Dispatch,
    platform::{
        conformance::Rig,
        polling::Polling,
        thread::{Thread, passive},
    },
    sync::{RundownRef, channel::Channel, oneshot::OneShot},
    time::{Sleep, sleep},
    yield_now,
};

/// The task table's rows, read while they are written.
#[path = "task_table/torn.rs"]
mod torn;

const BUDGET: Budget = Budget::new(3, Duration::MAX);

/// The conformance suite, on a loop that asks.
#[derive(Default)]
struct Asking(RefCell<Vec<&'static Executor<Polling>>>);

/// The interpreter's own time: it passes as instructions do.
fn clock() -> kexec::time::Instant {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    kexec::time::Instant::START.after(BEGIN.elapsed())
}

impl Rig for Asking {
    type Platform = Polling;

    fn executor(&self) -> &'static Executor<Polling> {
        let executor = Executor::leak(Polling::new().with_clock(clock), BUDGET);
        self.0.borrow_mut().push(executor);
        executor
    }

    fn until(&self, done: &mut dyn FnMut() -> bool) {
        while !done() {
            for executor in &*self.0.borrow() {
                if executor.platform().is_rung() {
                    executor.try_run(&mut ());
                }
            }
            thread::yield_now();
        }
    }
}

kexec::conformance_tests!(Asking::default());

/// A device's life: its executor and its table in its own memory, a task that is woken by another thread, the
/// close, and the memory given back.
#[test]
fn a_device_comes_and_goes() {
    type Slots = Table<256>;
    for round in 0..2_u32 {
        let executor = Box::into_raw(Box::new(Executor::new(Thread::<Dispatch>::new(), BUDGET)));
        // SAFETY: given back below, after the rundown.
        let device: &'static Executor<Thread<Dispatch>> = unsafe { &*executor };
        let layout = Slots::layout(3).expect("it can be told");
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc(layout) }).expect("there is memory");
        // SAFETY: the memory has the layout, and is given back below, after the rundown.
        let slots = unsafe { Slots::init(memory, 3, Lane::Data) }.expect("the memory is as it should be");
        device.start().expect("this is its first start");

        let (name, woken) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU32::new(0)));
        let (told, seen) = (name.clone(), woken.clone());
        let waits = async move |_: &mut Dispatch, ()| {
            poll_fn(|cx| {
                *told.lock().unwrap() = TaskRef::current(cx);
                if seen.load(SeqCst) == 1 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            round
        };
        let handle = device.spawn(slots, waits, ()).expect("a slot is free");
        let interrupt = thread::spawn(move || {
            while name.lock().unwrap().is_none() {
                thread::yield_now();
            }
            woken.store(1, SeqCst);
            name.lock().unwrap().expect("it was polled").wake();
        });
        let parked = async |_: &mut Dispatch, output: Arc<u32>| {
            pending::<()>().await;
            output
        };
        let kept = Arc::new(7);
        device.spawn(slots, parked, kept.clone()).expect("a slot is free").detach();
        assert_eq!(pollster::block_on(handle), Ok(round));
        interrupt.join().unwrap();

        let closed = pollster::block_on(device.close().expect("nobody else closes it"));
        let _rundown = passive(|passive| closed.silence(passive));
        assert_eq!(Arc::strong_count(&kept), 1, "the parked task was dropped");
        // SAFETY: run down; nothing of the tasks is left.
        unsafe { dealloc(memory.as_ptr(), layout) };
        // SAFETY: run down; nobody has a reference any more.
        drop(unsafe { Box::from_raw(executor) });
    }
}

/// The run moves from thread to thread, and the future with it.
#[test]
fn the_run_moves_between_threads() {
    static POOL: Pool<256, 2> = Pool::new();
    static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::new(1, Duration::MAX));
    let done = Arc::new(AtomicBool::new(false));
    let handle = EXECUTOR
        .spawn_with(&POOL, || async {
            let mut polls = vec![0_u32];
            for n in 1..20 {
                yield_now().await;
                polls.push(n);
            }
            polls
        })
        .expect("a slot is free");
    let threads = [(); 2].map(|()| {
        let done = done.clone();
        thread::spawn(move || {
            while !done.load(SeqCst) {
                EXECUTOR.try_run(&mut ());
                thread::yield_now();
            }
        })
    });
    assert_eq!(pollster::block_on(handle).expect("nobody cancels it").len(), 20);
    done.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Spawns, joins, aborts and stale wakes from three threads on two slots.
#[test]
fn a_crowd_on_two_slots() {
    static POOL: Pool<256, 2> = Pool::new();
    static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), BUDGET);
    EXECUTOR.start().expect("this is its first start");
    let outcomes = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..3)
        .map(|me| {
            let outcomes = outcomes.clone();
            thread::spawn(move || {
                let (mut mine, mut stale) = (0, None::<TaskRef>);
                while mine < 6 {
                    let seen = outcomes.clone();
                    let epilogue = move |_: &mut Dispatch, _: Result<u32, Cancelled>| {
                        seen.fetch_add(1, SeqCst);
                    };
                    let task = async |_: &mut Dispatch, n: u32| {
                        yield_now().await;
                        n
                    };
                    match mine % 2 {
                        0 => match EXECUTOR.submit(&POOL, task, me, epilogue) {
                            Ok(name) => {
                                name.abort();
                                stale = Some(name);
                            }
                            Err(_) => continue,
                        },
                        _ => match EXECUTOR.spawn(&POOL, task, me) {
                            Ok(handle) => {
                                if let Some(name) = stale {
                                    name.wake();
                                }
                                assert_eq!(pollster::block_on(handle), Ok(me));
                                outcomes.fetch_add(1, SeqCst);
                            }
                            Err(_) => continue,
                        },
                    }
                    mine += 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let closed = pollster::block_on(EXECUTOR.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
    assert_eq!((EXECUTOR.live(), outcomes.load(SeqCst)), (0, 18));
}

/// A close that is dropped half-way, with the waker of its task in hand.
#[test]
fn a_close_that_is_dropped() {
    let executor = Executor::leak(Polling::new(), BUDGET);
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut closing = pin!(executor.close().expect("nobody else closes it"));
        assert!(closing.as_mut().poll(&mut cx).is_pending());
    }
    executor.try_run(&mut ());
    assert!(pin!(executor.close().expect("the first was given up")).poll(&mut cx).is_ready());
}

/// Waits that lie in futures of several threads, which leave the queue at both ends and in the middle.
#[test]
fn waits_that_come_and_go() {
    let (sum, taken) = (kexec::sync::Mutex::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let mut cx = Context::from_waker(Waker::noop());
                    if let Poll::Ready(mut sum) = pin!(sum.lock()).poll(&mut cx) {
                        *sum += 1;
                        taken.fetch_add(1, SeqCst);
                    }
                    *pollster::block_on(sum.lock()) += 1;
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 12 + taken.load(SeqCst));
}

/// Whoever has run something down gives its memory back at once, with the last guard's drop still under way elsewhere.
#[test]
fn a_rundown_that_is_given_back() {
    for _ in 0..4 {
        let memory = Box::into_raw(Box::new(RundownRef::new()));
        // SAFETY: given back below, when it has run down.
        let rundown: &'static RundownRef = unsafe { &*memory };
        let users = [(); 2].map(|()| {
            let guard = rundown.acquire().expect("it is open");
            thread::spawn(move || drop(guard))
        });
        pollster::block_on(rundown.run_down());
        // SAFETY: run down; nobody touches it any more.
        drop(unsafe { Box::from_raw(memory) });
        for user in users {
            user.join().unwrap();
        }
    }
}

/// Values that pass from thread to thread, through slots that are used again, and come back or are dropped.
#[test]
fn values_that_pass() {
    static CHANNEL: Channel<Box<u32>, 2> = Channel::new();
    static REPLY: OneShot<Box<u32>> = OneShot::new();
    for round in 0..3 {
        let (sender, mut receiver) = CHANNEL.claim().expect("it has no ends");
        let (reply, answer) = REPLY.claim().expect("it has no ends");
        let receiving = thread::spawn(move || {
            let mut sum = 0;
            while let Some(value) = pollster::block_on(receiver.recv()) {
                sum += *value;
                if sum > 5 {
                    // What is left goes with the receiver, and the rest comes back.
                    break;
                }
            }
            drop(receiver);
            drop(reply.send(Box::new(sum)));
        });
        for value in 0..4 + round {
            drop(pollster::block_on(sender.send(Box::new(value))));
        }
        drop(sender);
        let answer = if round == 1 { None } else { pollster::block_on(answer).ok() };
        assert!(answer.is_none_or(|sum| *sum == 6));
        receiving.join().unwrap();
    }
}

/// Sleeps that their task has begun and given away are dropped by other threads, while runs come for their timers and
/// for those beside them in the heap.
#[test]
fn sleeps_that_are_dropped_elsewhere() {
    static POOL: Pool<512, 4> = Pool::new();
    static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), BUDGET);
    type Sleeps = Mutex<Vec<Pin<Box<Sleep>>>>;
    EXECUTOR.start().expect("this is its first start");
    let hands: Arc<Sleeps> = Arc::default();
    let gives = async |_: &mut Dispatch, hands: Arc<Sleeps>| {
        for n in 0..6 {
            let mut begun = Box::pin(sleep(Duration::from_micros(1 + n % 3)));
            poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx).is_ready())).await;
            hands.lock().unwrap().push(begun);
            // Its own ends in its place, and in time.
            sleep(Duration::from_micros(2)).await;
        }
    };
    let tasks = [(); 2].map(|()| EXECUTOR.spawn(&POOL, gives, hands.clone()).expect("a slot is free"));
    let threads = [(); 2].map(|()| {
        let hands = hands.clone();
        thread::spawn(move || {
            let mut dropped = 0;
            while dropped < 6 {
                let last = hands.lock().unwrap().pop();
                dropped += u32::from(last.is_some());
                drop(last);
                thread::yield_now();
            }
        })
    });
    for task in tasks {
        assert_eq!(pollster::block_on(task), Ok(()));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let closed = pollster::block_on(EXECUTOR.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}
