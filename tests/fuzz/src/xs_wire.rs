//! What a xenstored can send to a guest's client.
//!
//! An input is a list of [`Action`]s: questions that the guest asks, and whatever a xenstored does to their ring, in
//! the right form or in none. Nothing of that may panic the client, keep it busy for ever, or have it send anything
//! but whole requests; and when the connection is made anew, it is as good as on the first day.
#![forbid(unsafe_code)]

mod action;
mod asks;
mod daemon;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    time::sleep,
    yield_now,
};
use xen_sim::{Guest, GuestConfig, Machine};
use xenbus::store::{Root, Store, TransactionError, Watching};

pub use self::action::{Action, Ask, Form, Part, script};
use self::{asks::ask, daemon::Daemon};

/// What is met on the way: kinds of answers, errors and events.
pub(crate) type Met = RefCell<BTreeSet<&'static str>>;

/// Few places, so that they are used up.
pub(crate) type Client = Store<Guest, 3, 2>;

/// Questions that are asked at a time.
const ASKED: usize = 6;

/// Transactions that a client has at a time.
const TRANSACTIONS: u32 = 8;

/// More actions than that teach nothing, but take their time.
const MOST_ACTIONS: usize = 64;

/// Polls without an action in which nothing must go on for ever.
const MOST_POLLS: u32 = 10_000;

/// A machine, nobody of which does anything, and an executor. Making them takes longer than a run.
struct Bench {
    guest: Guest,
    executor: &'static Executor<Mock>,
    slots: &'static Pool<16384, 1>,
}

thread_local! {
    static BENCH: Bench = Bench {
        guest: Machine::new(0).create(GuestConfig::default()),
        executor: Executor::leak(Mock::new(Plan::CALM), Budget::new(1, Duration::MAX)),
        slots: keep(Pool::new()),
    };
}

/// Has a client meet what the input says. The names of what it has met.
///
/// # Panics
///
/// The client has done what it must not.
#[must_use]
pub fn xs_wire(input: &[u8]) -> BTreeSet<&'static str> {
    BENCH.with(|bench| {
        let Bench { guest, executor, slots } = bench;
        executor.platform().forget_trace();
        let run = executor.spawn(*slots, run, (guest.clone(), Action::decode_all(input, MOST_ACTIONS)));
        let run = run.expect("the run before has ended");
        for _ in 0..MOST_POLLS * 10 {
            if run.is_finished() {
                return run.try_take().expect("it has ended").expect("nobody cancels it");
            }
            if !executor.step() {
                executor.advance_to_next_alarm();
            }
        }
        panic!("the client does not come to rest");
    })
}

type Asked<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

fn boxed<'a>(asked: impl Future<Output = ()> + 'a) -> Asked<'a> {
    Box::pin(asked)
}

async fn run(at: &mut Dispatch, (guest, actions): (Guest, Vec<Action>)) -> BTreeSet<&'static str> {
    let (at, met) = (&*at, Met::default());
    let client: Box<Client> = Box::default();
    let mut daemon = Daemon::new(&guest);
    daemon.begin_anew();
    client.connect(at, &guest).expect("there is a ring");
    {
        let mut serve = pin!(client.serve(at));
        let mut asked: [Option<Asked<'_>>; ASKED] = Default::default();
        for action in actions {
            let mut pause = Duration::ZERO;
            match action {
                Action::Ask { which, ask: question } => {
                    asked[usize::from(which) % ASKED] = Some(boxed(ask(at, &client, question, &met)));
                }
                Action::Drop { which } => asked[usize::from(which) % ASKED] = None,
                Action::Connect => {
                    daemon.begin_anew();
                    client.connect(at, &guest).expect("there is a ring");
                }
                Action::Disconnect => client.disconnect(at),
                Action::Time { seconds } => pause = Duration::from_secs(seconds.into()),
                other => daemon.act(other, &met),
            }
            client.notify();
            let mut pause = pin!(sleep(pause));
            let mut polls = 0;
            loop {
                let is_over = poll_fn(|cx| {
                    assert!(serve.as_mut().poll(cx).is_pending(), "it serves for ever");
                    for place in &mut asked {
                        if place.as_mut().is_some_and(|asked| asked.as_mut().poll(cx).is_ready()) {
                            *place = None;
                        }
                    }
                    Poll::Ready(pause.as_mut().poll(cx).is_ready())
                })
                .await;
                let has_heard = daemon.listen();
                if has_heard {
                    client.notify();
                }
                polls += 1;
                assert!(polls < MOST_POLLS, "it does not come to rest");
                if is_over && !has_heard && polls > 3 {
                    break;
                }
                if is_over {
                    yield_now().await;
                } else {
                    rest().await;
                }
            }
            note(&met, "a stray", client.strays(at) > 0);
        }
    }
    client.disconnect(at);
    is_as_good_as_new(at, &client, &guest, &mut daemon).await;
    met.into_inner()
}

/// Waits for whatever wakes the task.
async fn rest() {
    let mut is_over = false;
    poll_fn(|_| if std::mem::replace(&mut is_over, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

pub(crate) fn note(met: &Met, what: &'static str, is_so: bool) {
    if is_so {
        met.borrow_mut().insert(what);
    }
}

/// With a xenstored that does what it should, everything works: as many questions, transactions and watches at a time
/// as there are places. So none was lost.
async fn is_as_good_as_new(at: &Dispatch, client: &Client, guest: &Guest, daemon: &mut Daemon) {
    daemon.begin_anew();
    client.connect(at, guest).expect("there is a ring");
    let mut serve = pin!(client.serve(at));
    // All of them are open before the first is committed.
    let open = Cell::new(0);
    let transaction = || async {
        let work = async |_: &_| {
            open.set(open.get() + 1);
            while open.get() < TRANSACTIONS {
                rest().await;
            }
            Ok(())
        };
        let done: Result<(), TransactionError<()>> = client.transaction(at, work).await;
        assert_eq!(done, Ok(()));
    };
    let watch = || async {
        let mut watch = client.watch(at, "a").await.expect("there is a place");
        watch.next().await.expect("it is set");
    };
    let mut work: Vec<Asked<'_>> = Vec::new();
    work.extend((0..TRANSACTIONS).map(|_| boxed(transaction())));
    work.extend((0..2).map(|_| boxed(watch())));
    for _ in 0..MOST_POLLS {
        poll_fn(|cx| {
            assert!(serve.as_mut().poll(cx).is_pending(), "it serves for ever");
            work.retain_mut(|work| work.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        daemon.listen();
        while daemon.serve() {}
        client.notify();
        let mut settled = pin!(client.settled(at));
        let is_settled = poll_fn(|cx| Poll::Ready(settled.as_mut().poll(cx).is_ready())).await;
        if work.is_empty() && is_settled {
            assert_eq!(client.framing().is_between_messages(), Some(true));
            client.disconnect(at);
            return;
        }
        yield_now().await;
    }
    panic!("the client is not what it was: {} of its questions have no answer", work.len());
}
