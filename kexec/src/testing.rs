//! A kit to test drivers with: every fault at every poll boundary, under virtual time, from a seed.
//!
//! A protocol that is an `async fn` can be cut off at each of its awaits: its task is aborted, its device removed, its peer
//! dies. The kit tries all of them. A [`Scenario`] builds a world of executors, tasks and a simulated device. It is run
//! to rest once, without a fault, one poll at a step; that counts its *poll boundaries*, N of them. Then, for each kind of
//! fault and each boundary, it is built anew, run to that boundary, struck, run to rest, closed and checked.
//!
//! # An example
//!
//! A driver asks its peer a question, and waits for the answer, but no longer than five seconds:
//!
//! ```
//! use std::{future::pending, sync::{Arc, atomic::{AtomicBool, Ordering::Relaxed}}, time::Duration};
//!
//! use kexec::{
//!     irql::Dispatch,
//!     sync::AutoEvent,
//!     testing::{Counter, Ledger, Scenario},
//!     time::{Elapsed, sleep, timeout},
//! };
//!
//! struct Link {
//!     question: AutoEvent,
//!     answer: AutoEvent,
//!     /// The questions that wait for an answer: each is opened once, and closed once.
//!     open: Ledger,
//!     answers: Counter,
//!     is_peer_dead: AtomicBool,
//! }
//!
//! async fn ask(_: &mut Dispatch, link: Arc<Link>) -> Result<(), Elapsed> {
//!     struct Open<'l>(&'l Ledger);
//!     impl Drop for Open<'_> {
//!         fn drop(&mut self) {
//!             self.0.close("question");
//!         }
//!     }
//!     link.open.open("question");
//!     let _open = Open(&link.open);
//!     link.question.set();
//!     timeout(Duration::from_secs(5), link.answer.wait()).await
//! }
//!
//! /// The peer, which takes its time.
//! async fn serve(_: &mut Dispatch, link: Arc<Link>) {
//!     loop {
//!         link.question.wait().await;
//!         sleep(Duration::from_millis(1)).await;
//!         if link.is_peer_dead.load(Relaxed) {
//!             return pending().await;
//!         }
//!         link.answers.raise();
//!         link.answer.set();
//!     }
//! }
//!
//! Scenario::new("ask", |sim| {
//!     let link = Arc::new(Link {
//!         question: AutoEvent::new(false),
//!         answer: AutoEvent::new(false),
//!         open: sim.ledger("questions"),
//!         answers: sim.counter("answers"),
//!         is_peer_dead: AtomicBool::new(false),
//!     });
//!     let (driver, peer, slots) = (sim.executor("driver"), sim.device("peer"), sim.pool::<512, 2>());
//!     peer.spawn(slots, serve, link.clone()).expect("a slot is free").detach();
//!     let asks = driver.spawn(slots, ask, link.clone()).expect("a slot is free");
//!     // Whatever happens, it does not wait for ever.
//!     (link, sim.must_end("ask", asks))
//! })
//! .fault("peer dies", |(link, _)| link.is_peer_dead.store(true, Relaxed))
//! .check(|(_, asked), case| {
//!     if case.fault().is_none() {
//!         assert_eq!(asked.outcome(), Some(Ok(Ok(()))), "the peer answers in time");
//!     }
//! })
//! // What may not become less.
//! .boundaries(5)
//! .floor("answers", 50)
//! .run();
//! ```
//!
//! It prints:
//!
//! ```text
//! ask: 5 poll boundaries (floor 5), 4 to 6 under 4 seeds, 135 runs
//!   faults: abort 23, close driver 28, peer dies 28, suspend 28, wake 23
//!   counted: answers 103 (floor 50), questions 121
//! ```
//!
//! The first version of `ask` had no `Drop`, but a `link.open.close("question")` after the await. All of its author's tests
//! passed, those of the late answer too. What the kit says:
//!
//! ```text
//! failed: ask/calm/2/abort 0
//!   questions: `question` was opened, and never closed
//! ```
//!
//! followed by what happened around the fault, which task was parked where, and the line that does this run again with all
//! that happens in it: `KEXEC_REPLAY='ask/calm/2/abort 0' cargo test`.
//!
//! # Faults
//!
//! | fault | happens to |
//! |---|---|
//! | `abort` | each task of the driver's executors that has not ended, but for those that are [spared](Sim::spare) |
//! | `wake` | each of these: a wake for nothing |
//! | `suspend` | the guest: a day goes by that its clock does not count |
//! | `close scope NAME` | each [scope](Sim::scope) of the driver |
//! | `close NAME` | each executor of the driver |
//! | the author's | the world: see [`Scenario::fault`] |
//!
//! One happens in a run. All of that is done under a calm plan, and again under a [wild](crate::platform::mock::Plan::wild)
//! one for each [seed](Scenario::seeds), in which doorbells are late, come twice, or are answered by another CPU in the
//! middle of a wake; there a step may be more than one poll. The seed also says which of several executors goes on first.
//! When nothing is on its way, time is that of the next alarm.
//!
//! # What is wrong with a run
//!
//! - A task, a check or a fault panics: an assertion that fails is noticed wherever it is.
//! - It does not come to [rest](Scenario::limits), or rests while a task waits that [must end](Sim::must_end).
//! - A scope or an executor cannot be closed: a task does not end when it is cancelled, or an output was not taken.
//! - Something has not come out even that a [`Ledger`] has the books of; a slot is not free; a timer is left.
//! - It is not the run that it was before, with the same seed.
//!
//! The first that is wrong is shown in full, up to seven others in a line each. A test fails as well if something is
//! below its [floor](Scenario::floor).
//!
//! In reading order: [`Scenario`], what is enumerated; [`Sim`], what a world is made from; [`Ledger`] and [`Counter`];
//! [`Report`], [`Failure`] and [`Problem`], what comes of it.
#![forbid(unsafe_code)]

mod books;
mod case;
mod machine;
mod report;
mod run;
mod scenario;
mod sim;

use self::scenario::{BOUNDARIES, REPLAY};
pub use self::{
    books::{Counter, Imbalance, Ledger},
    case::Case,
    report::{Failure, Problem, Report, Shortfall},
    scenario::{Replay, Scenario},
    sim::{Joined, Sim},
};
