//! kexec at work: questions to a peer that is slow, and sometimes silent.
//!
//! A driver reads values from a store ([`store`]). The daemon at the other end ([`daemon`]) answers when it likes, so
//! that each question has a deadline, is repeated with more patience, and may be given up: by its deadline, by
//! whoever wanted to know, or because the driver is to end. Four hours of that go by in milliseconds, since the time
//! is virtual. What the last lines mark `ok` was checked: the exit code is 1 if anything marked is not so.

mod daemon;
mod store;
mod timeline;

#[cfg(test)]
mod faults;

use std::{
    io::{Write, stdout},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use kexec::{
    Budget, Cancelled, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    time::interval,
};

use crate::{
    daemon::{Mood, Wire, value_of},
    store::{ReadError, Store},
    timeline::Timeline,
};

const PROMPT: Mood = Mood::Answers(Duration::from_millis(2));
const SLOW: Mood = Mood::Answers(Duration::from_secs(8));
const HOUR: Duration = Duration::from_hours(1);

/// When the driver looks whether it is to shut down.
const PERIOD: Duration = Duration::from_mins(20);

/// What has come of each read, and how long that took.
type Outcomes = Arc<Mutex<Vec<(Result<String, ReadError>, Duration)>>>;

static TASKS: Pool<1024, 8> = Pool::new();

fn main() -> ExitCode {
    let began = std::time::Instant::now();
    let executor: &'static Executor<Mock> =
        keep(Executor::named("driver", Mock::new(Plan::CALM), Budget::DEFAULT));
    let timeline = Timeline::new(executor);
    let wire: &'static Wire = keep(Wire::new(PROMPT));
    let store: &'static Store = keep(Store::new(wire, timeline.clone()));
    let outcomes = Outcomes::default();

    // It plays another machine.
    executor.spawn(&TASKS, daemon::serve, wire).expect("a slot is free").detach();
    executor.spawn(&TASKS, store::receive, store).expect("a slot is free").detach();
    let polls = (store, timeline.clone(), outcomes.clone());
    let polling = executor.spawn(&TASKS, poll_shutdown, polls).expect("a slot is free");

    let mood = |mood, text: &str| {
        timeline.say(format_args!("-- the daemon {text}"));
        wire.set_mood(mood);
    };
    executor.advance(HOUR);
    mood(SLOW, "takes 8 seconds for an answer");
    executor.advance(HOUR);
    mood(Mood::Silent, "is silent");
    executor.advance(HOUR);
    mood(PROMPT, "is back, and answers all that it was ever asked");
    executor.advance(HOUR / 2);

    mood(Mood::Silent, "is silent");
    let wants_to_know = async move |_: &mut Dispatch, ()| store.read("data/report").await;
    let impatient = executor.spawn(&TASKS, wants_to_know, ()).expect("a slot is free");
    executor.advance(Duration::from_secs(2));
    timeline.say("data/report: whoever wanted to know has lost interest");
    impatient.abort();
    executor.settle();
    let lost_interest = impatient.try_take().is_ok_and(|outcome| outcome == Err(Cancelled));
    // To the middle of a question.
    executor.advance(HOUR / 2 + Duration::from_secs(1));

    timeline.say("-- the driver is to end");
    store.closing.set();
    executor.settle();
    let ended = polling.is_finished();

    let mut screen = timeline.lines();
    let hours = timeline.time().as_secs_f64() / 3600.0;
    screen.push(format!("\n{hours:.1} hours in {:.1?}", began.elapsed()));
    let outcomes = outcomes.lock().expect("nobody panics with it");
    let holds = claim(&mut screen, &outcomes, store, lost_interest, ended);
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{}", screen.join("\n"));
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks again and again whether the driver is to shut down, until the store is closed.
async fn poll_shutdown(_: &mut Dispatch, (store, timeline, outcomes): (&'static Store, Timeline, Outcomes)) {
    let path = "control/shutdown";
    let mut period = interval(PERIOD);
    loop {
        period.tick().await;
        let began = timeline.time();
        let read = store.read(path).await;
        let took = timeline.time().saturating_sub(began);
        match &read {
            Ok(_) => timeline.say(format_args!("{path}: read after {took:?}")),
            Err(error) => timeline.say(format_args!("{path}: given up after {took:?}: {error}")),
        }
        let is_closed = read == Err(ReadError::Closed);
        outcomes.lock().expect("nobody panics with it").push((read, took));
        if is_closed {
            return;
        }
    }
}

/// Says what is so in the end. Whether all of it is.
fn claim(
    screen: &mut Vec<String>,
    outcomes: &[(Result<String, ReadError>, Duration)],
    store: &Store,
    lost_interest: bool,
    ended: bool,
) -> bool {
    let values: Vec<_> =
        outcomes.iter().filter_map(|(read, took)| Some((read.as_ref().ok()?, took))).collect();
    let silent: Vec<_> =
        outcomes.iter().filter(|(read, _)| matches!(read, Err(ReadError::Silent(_)))).collect();
    let counts = store.counts();
    let right = values.iter().filter(|(value, _)| **value == value_of("control/shutdown")).count();
    let exactly = silent.iter().all(|(_, took)| *took == Duration::from_secs(5 + 10 + 20));
    let mut holds = true;
    for (claim, text) in [
        (
            right == values.len() && right > 0,
            format!("{right} reads, each with the answer to its own question"),
        ),
        (
            exactly && !silent.is_empty(),
            format!("{} given up, after 5, 10 and 20 seconds to the nanosecond", silent.len()),
        ),
        (lost_interest, "one was cancelled by whoever wanted to know".into()),
        (
            ended && outcomes.last().is_some_and(|(read, _)| *read == Err(ReadError::Closed)),
            "one was cut short by the end of the driver".into(),
        ),
        (
            counts.answered + counts.late <= counts.asked && counts.late > 0,
            format!(
                "{} questions, {} answers in time, {} that came too late and were dropped",
                counts.asked, counts.answered, counts.late
            ),
        ),
        (store.pending() == 0, format!("{} questions are pending", store.pending())),
    ] {
        screen.push(format!("  {} {text}", if claim { "ok" } else { "NO" }));
        holds &= claim;
    }
    holds
}
