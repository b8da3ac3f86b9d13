//! The protocol of the kit's documentation: a question, and an answer with a deadline. In one version its author has
//! forgotten what is found by the enumeration.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use kexec::{
    irql::Dispatch,
    sync::AutoEvent,
    testing::{Counter, Joined, Ledger, Scenario, Sim},
    time::{Elapsed, sleep, timeout},
};

pub(crate) struct Link {
    question: AutoEvent,
    answer: AutoEvent,
    /// Questions that wait for an answer.
    open: Ledger,
    answers: Counter,
    is_peer_dead: AtomicBool,
}

type Answer = Result<(), Elapsed>;

const PATIENCE: Duration = Duration::from_secs(5);

/// Closes the question when there is an answer or it is late, and forgets that this task may be cancelled.
async fn ask_and_forget(_: &mut Dispatch, link: Arc<Link>) -> Answer {
    link.open.open("question");
    link.question.set();
    let answer = timeout(PATIENCE, link.answer.wait()).await;
    link.open.close("question");
    answer
}

/// The same, with what is to be done in any case in a `Drop`.
async fn ask(_: &mut Dispatch, link: Arc<Link>) -> Answer {
    struct Open<'l>(&'l Ledger);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.0.close("question");
        }
    }
    link.open.open("question");
    let _open = Open(&link.open);
    link.question.set();
    timeout(PATIENCE, link.answer.wait()).await
}

/// The other end, which takes its time.
async fn serve(_: &mut Dispatch, link: Arc<Link>) {
    loop {
        link.question.wait().await;
        sleep(Duration::from_millis(1)).await;
        if link.is_peer_dead.load(Relaxed) {
            return pending().await;
        }
        link.answers.raise();
        link.answer.set();
    }
}

pub(crate) struct World {
    link: Arc<Link>,
    asked: Joined<Answer>,
}

fn world<F>(sim: &mut Sim, ask: F) -> World
where
    F: AsyncFnOnce(&mut Dispatch, Arc<Link>) -> Answer + Send + 'static,
{
    let link = Arc::new(Link {
        question: AutoEvent::new(false),
        answer: AutoEvent::new(false),
        open: sim.ledger("questions"),
        answers: sim.counter("answers"),
        is_peer_dead: AtomicBool::new(false),
    });
    let (driver, peer, slots) = (sim.executor("driver"), sim.device("peer"), sim.pool::<512, 2>());
    peer.spawn(slots, serve, link.clone()).expect("a slot is free").detach();
    let asked = driver.spawn(slots, ask, link.clone()).expect("a slot is free");
    World { link, asked: sim.must_end("ask", asked) }
}

fn scenario(build: impl Fn(&mut Sim) -> World + 'static) -> Scenario<World> {
    Scenario::new("ask", build)
        .fault("peer dies", |world| world.link.is_peer_dead.store(true, Relaxed))
        .check(|world, case| {
            if case.fault().is_none() {
                assert_eq!(world.asked.outcome(), Some(Ok(Ok(()))), "the peer answers in time");
            }
        })
        .boundaries(5)
        .floor("answers", 50)
}

pub(crate) fn ask_scenario() -> Scenario<World> {
    scenario(|sim| world(sim, ask))
}

/// Each of these lines is in the documentation, with whatever numbers.
#[track_caller]
fn assert_documented(lines: &str) {
    let numberless =
        |text: &str| text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let documentation: String = numberless(include_str!("../../src/testing.rs"));
    for line in lines.lines() {
        let line: String = numberless(line);
        assert!(documentation.contains(&format!("//! {line}\n")), "not in the documentation: {line}");
    }
}

/// All is well with the right version, and the report is as documented.
#[test]
fn the_right_version_passes() {
    assert_documented(&ask_scenario().run().to_string());
}

/// The wrong one is caught by name: which run, which entry was left open, where everything was, and how to see it again.
#[test]
fn what_the_author_forgot_is_found() {
    let report = scenario(|sim| world(sim, ask_and_forget)).enumerate();
    let failure = &report.failures()[0];
    let said = failure.to_string();
    let (what, how) = said.split_once("  what happened:\n").expect("it is told");
    assert_documented(what);
    assert!(how.contains("\n    !! abort 0: testing::ask::ask_and_forget\n"), "{said}");
    assert!(how.contains("ask_and_forget: parked at event, kexec/tests/testing/ask.rs:"), "{said}");
    assert!(how.ends_with(": KEXEC_REPLAY='ask/calm/2/abort 0'"), "{said}");
    // Wherever it is cancelled after that, in every way, and nowhere else.
    assert!(report.failures().iter().all(|failure| {
        matches!(failure.case.fault().as_deref(), Some("abort" | "close driver"))
            && failure.case.boundary() > Some(0)
    }));
    let again =
        scenario(|sim| world(sim, ask_and_forget)).replay("ask/calm/2/abort 0").expect("there is such a run");
    let again = again.failure.expect("it fails again");
    assert_eq!((&again.problems, &again.trace), (&failure.problems, &failure.trace));
}
