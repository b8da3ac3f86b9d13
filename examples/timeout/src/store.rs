//! The driver's end: a client of something like xenstore.
//!
//! Each question has a number and a deadline. An answer is matched by its number, so that one that comes too late finds
//! nobody; and whoever gives up, for whatever reason, leaves nothing behind.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, select_biased};
use kexec::{
    irql::Dispatch,
    sync::ManualEvent,
    task_table::{Kind, Label, Leaf},
    time::timeout,
};

use crate::{daemon::Wire, timeline::Timeline};

/// How long the first answer is waited for; each time after that, twice as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a question is asked.
const ATTEMPTS: u32 = 3;

pub(crate) struct Store {
    wire: &'static Wire,
    timeline: Timeline,
    /// Whoever waits for an answer, by the number of the question.
    waiting: Mutex<BTreeMap<u32, Waiting>>,
    /// The driver is to end: no more questions, and no more waits.
    pub(crate) closing: ManualEvent,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Waiting {
    answer: Option<String>,
    waker: Option<Waker>,
}

/// What has come of all questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) asked: u32,
    pub(crate) answered: u32,
    /// Answers that found nobody.
    pub(crate) late: u32,
}

/// Why a value was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// So many questions had no answer in time.
    Silent(u32),
    /// The store was closed meanwhile.
    Closed,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(attempts) => write!(f, "no answer to {attempts} questions"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

impl Store {
    pub(crate) fn new(wire: &'static Wire, timeline: Timeline) -> Self {
        let (waiting, counts) = (Mutex::default(), Mutex::default());
        Self { wire, timeline, waiting, closing: ManualEvent::new(false), counts }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u32, Waiting>> {
        self.waiting.lock().expect("nobody panics with it")
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().expect("nobody panics with it")
    }

    fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.counts.lock().expect("nobody panics with it"));
    }

    /// How many questions wait for an answer.
    pub(crate) fn pending(&self) -> usize {
        self.waiting().len()
    }

    /// Reads a value: gives up after a few questions, and at once when the store is closed.
    pub(crate) async fn read(&self, path: &str) -> Result<String, ReadError> {
        let mut closing = pin!(self.closing.wait().fuse());
        let mut read = pin!(self.ask_again_and_again(path).fuse());
        // Both may be ready; to be closed comes first.
        select_biased! {
            () = closing => Err(ReadError::Closed),
            value = read => value,
        }
    }

    async fn ask_again_and_again(&self, path: &str) -> Result<String, ReadError> {
        let mut patience = PATIENCE;
        for attempt in 1..=ATTEMPTS {
            match timeout(patience, self.ask(path)).label("the store's answer").await {
                Ok(value) => return Ok(value),
                // The question was dropped with its deadline.
                Err(_) => self
                    .timeline
                    .say(format_args!("{path}: no answer in {patience:?}, attempt {attempt} of {ATTEMPTS}")),
            }
            patience *= 2;
        }
        Err(ReadError::Silent(ATTEMPTS))
    }

    /// Asks once. Dropping the question takes it back, as far as that is possible: the answer will find nobody.
    #[track_caller]
    fn ask(&self, path: &str) -> Question<'_> {
        let mut number = 0;
        self.count(|counts| {
            counts.asked += 1;
            number = counts.asked;
        });
        self.waiting().insert(number, Waiting::default());
        self.wire.ask(number, path);
        Question { store: self, number, leaf: Leaf::new(&ANSWER) }
    }
}

/// The task that takes the answers off the wire.
pub(crate) async fn receive(_: &mut Dispatch, store: &'static Store) {
    loop {
        let (number, answer) = store.wire.answer().await;
        // Matched, not trusted: who asked may have given up.
        if let Some(waiting) = store.waiting().get_mut(&number) {
            store.count(|counts| counts.answered += 1);
            waiting.answer = Some(answer);
            waiting.waker.take().into_iter().for_each(Waker::wake);
        } else {
            store.count(|counts| counts.late += 1);
            store.timeline.say(format_args!("question {number}: answered too late, nobody waits for it"));
        }
    }
}

static ANSWER: Kind = Kind::new("store answer");

/// A question on its way, and its answer. It shows itself in the task table, as every leaf of a driver should.
struct Question<'s> {
    store: &'s Store,
    number: u32,
    leaf: Leaf,
}

impl Future for Question<'_> {
    type Output = String;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        let mut waiting = self.store.waiting();
        let waiting = waiting.get_mut(&self.number).expect("it is there until the question is dropped");
        if let Some(answer) = waiting.answer.take() {
            return Poll::Ready(answer);
        }
        waiting.waker = Some(cx.waker().clone());
        self.leaf.park(cx);
        Poll::Pending
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.store.waiting().remove(&self.number);
    }
}
