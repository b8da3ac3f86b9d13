//! Talk with xenstore and events, through whatever the toolstack does with the guest.
//!
//! Several talkers count in nodes of their own by transactions, each with a watch on its node; one more sends events
//! to itself; and if there are several virtual CPUs, wake-ups and events go round them all. Whatever happens to the guest, no talker sees a number that it has not written, misses an event, or
//! stands still. A suspend may interrupt a transaction, which is told; nothing else may fail.
//!
//! What the toolstack is told: `busy` when all talk; after the suspend of number N, when all talk again,
//! `cancelled-N` or `resumed-N`.

use core::{cell::Cell, convert::Infallible, pin::pin, time::Duration};

use futures_util::future::{Either, select, try_join4};
use kexec::{
    irql::Dispatch,
    time::{sleep, timeout},
};
use xenbus::{
    control::{Control, Distribution, Features, News, Owner, Request, Words},
    epoch::Epochs,
    event::Disconnected,
    store::{Root, StoreError, Watching as _, Xenstore, optional},
    suspend::Suspended,
};

use crate::{
    Body, End,
    teller::{Outcome, Teller, Wrong, holds},
};

/// Who talks and is counted: three with xenstore, and one with itself.
const TALKERS: usize = 4;

/// How often what crosses virtual CPUs goes round in a game.
const ROUNDS: u32 = 20;

/// As often as each has to talk until it counts as talking.
const TURNS: u32 = 5;

/// Between two turns: who talks without a pause leaves its host no time to move it.
const PAUSE: Duration = Duration::from_millis(5);

/// Who does not get so far for so long stands still.
const PATIENCE: Duration = Duration::from_mins(1);

const DRIVER: Distribution = match Distribution::new("Xen_Project", "LAB", [0, 1, 0, 0]) {
    Ok(driver) => driver,
    Err(_) => panic!("these are names"),
};

pub(crate) async fn play<B: Body>(teller: &mut Teller<'_, B>) -> End {
    let (turns, interrupted) = (Default::default(), Cell::new(0));
    let talk = Talk { at: teller.at, body: teller.body, turns, interrupted, is_over: Cell::new(false) };
    let talkers = try_join4(
        talk.with_store("data/lab/talk/0"),
        talk.with_store("data/lab/talk/1"),
        talk.with_store("data/lab/talk/2"),
        talk.with_itself(),
    );
    let until_end = async {
        match select(pin!(talkers), pin!(obey(teller, &talk))).await {
            Either::Left((Err(wrong), _)) => Err(wrong),
            Either::Left((Ok((never, ..)), _)) => match never {},
            Either::Right((end, _)) => Ok(end),
        }
    };
    let ended = match select(pin!(until_end), pin!(talk.with_all_cpus())).await {
        Either::Left((ended, crossing)) => {
            talk.is_over.set(true);
            crossing.await.and(ended)
        }
        Either::Right((crossed, _)) => crossed.map(|()| End::PowerOff),
    };
    let turns: u32 = talk.turns.iter().map(Cell::get).sum();
    let interrupted = talk.interrupted.get();
    teller
        .body
        .say(teller.at, format_args!("{turns} turns, {interrupted} of which a suspend has cut short"))
        .await;
    let (end, outcome) = match ended {
        Ok(end) => (end, Ok(())),
        Err(wrong) => (End::PowerOff, Err(wrong)),
    };
    teller.check("all talked until the guest was asked to end", outcome).await;
    end
}

/// What is going on.
struct Talk<'a, B> {
    at: &'a Dispatch,
    body: &'a B,
    /// How often each talker has had its turn.
    turns: [Cell<u32>; TALKERS],
    /// Turns that a suspend has cut short.
    interrupted: Cell<u32>,
    /// The guest is to end: what is on its way is still to arrive.
    is_over: Cell<bool>,
}

impl<B: Body> Talk<'_, B> {
    fn took_turn(&self, talker: usize) {
        self.turns[talker].update(|turns| turns.wrapping_add(1));
    }

    /// Counts in a node, each time in a transaction, and waits for the watch to say so.
    async fn with_store(&self, node: &'static str) -> Outcome<Infallible> {
        let talker = usize::from(node.as_bytes()[node.len() - 1] - b'0');
        let (at, store, epochs) = (self.at, self.body.store(), self.epochs());
        let mut watch = store.watch(at, node).await?;
        let (mut epoch, mut count) = (epochs.now(), 0);
        loop {
            let begin = epochs.now();
            let counted = store.transaction(at, async |transaction| {
                let count = optional(transaction.read_number::<u32>(at, node).await)?.unwrap_or(0);
                // If it is committed, all of it was of the domain that the guest is here.
                let epoch = epochs.now();
                transaction.print(at, node, count + 1).await?;
                Ok::<_, StoreError>((epoch, count))
            });
            match counted.await {
                Ok((of, found)) => {
                    // The next domain has a store of its own.
                    let expected = if of == epoch { count } else { 0 };
                    holds(found == expected, format_args!("{node} was {found}, and not {expected}"))?;
                    (epoch, count) = (of, found + 1);
                }
                Err(_) if begin != epochs.now() => {
                    self.interrupted.update(|turns| turns + 1);
                    continue;
                }
                Err(error) => return Err(Wrong::new(error)),
            }
            match timeout(PATIENCE, watch.next()).await {
                Ok(Ok(_)) => {}
                // It is set again with the next connection, and says so then.
                Ok(Err(_)) if begin != epochs.now() => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    return Err(Wrong::new(format_args!("the watch of {node} is silent for {PATIENCE:?}")));
                }
            }
            self.took_turn(talker);
            sleep(PAUSE).await;
        }
    }

    /// Sends events to itself; in each domain, by a port of that one.
    async fn with_itself(&self) -> Outcome<Infallible> {
        let (at, epochs) = (self.at, self.epochs());
        loop {
            let epoch = epochs.now();
            let channel = self.body.events().ipi(at, 0).map_err(Wrong::new)?;
            while epoch == epochs.now() {
                // If the guest is another domain by now, the event is for nobody.
                let event = match channel.notify(at) {
                    Ok(()) => timeout(PATIENCE, channel.wait(at)).await,
                    Err(_) => continue,
                };
                match event {
                    Ok(Ok(())) => self.took_turn(TALKERS - 1),
                    Ok(Err(Disconnected)) => self.interrupted.update(|turns| turns + 1),
                    Err(_) => return Err(Wrong::new(format_args!("no event for {PATIENCE:?}"))),
                }
                sleep(PAUSE).await;
            }
            drop(channel);
            epochs.after(at, epoch).await;
        }
    }

    /// Has wake-ups and events go round, if there is anybody but this virtual CPU, until all is over.
    async fn with_all_cpus(&self) -> Outcome {
        while !self.is_over.get() {
            if self.body.cpus() > 1 {
                self.body.cross_cpus(ROUNDS, None).await.map_err(Wrong::new)?;
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn epochs(&self) -> &'static Epochs {
        self.body.epochs()
    }

    /// Until everybody has had some more turns.
    async fn goes_on(&self) -> Outcome {
        let before = self.turns.each_ref().map(Cell::get);
        let have_talked = || {
            let since = self.turns.iter().zip(before).map(|(turns, before)| turns.get().wrapping_sub(before));
            since.min().unwrap_or(0) >= TURNS
        };
        let looks = async {
            while !have_talked() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, looks).await.map_err(|_| {
            let turns = self.turns.each_ref().map(Cell::get);
            Wrong::new(format_args!(
                "somebody stands still for {PATIENCE:?}: {before:?} turns, and now {turns:?}"
            ))
        })
    }
}

/// Does what the toolstack asks for, until that is the guest's end.
async fn obey<B: Body>(teller: &mut Teller<'_, B>, talk: &Talk<'_, B>) -> End {
    let (at, store) = (teller.at, teller.body.store());
    let features = Features::SUSPEND | Features::POWER_OFF | Features::REBOOT;
    let words = Words::SUSPEND | Words::POWER_OFF | Words::HALT | Words::REBOOT | Words::UNKNOWN;
    let mut control = Control::new(at, store, talk.epochs(), Owner { features, words, driver: DRIVER });
    let (mut suspends, mut is_published) = (0_u32, false);
    let end = loop {
        match control.next().await {
            News::Asked(Request::Suspend) => {
                suspends += 1;
                let word = suspended(teller, talk, suspends).await;
                teller.tell(format_args!("{word}-{suspends}")).await;
            }
            News::Asked(Request::PowerOff | Request::Halt) => break End::PowerOff,
            News::Asked(Request::Reboot) => break End::Reboot,
            News::Asked(request) => {
                let outcome = Err(Wrong::new(format_args!("{request:?}")));
                teller.check("the toolstack asks for what the guest does", outcome).await;
            }
            News::Published { refused, .. } => {
                let outcome = holds(refused.is_empty(), format_args!("{refused:?} is refused"));
                teller.check("what the guest does when it is asked to is published", outcome).await;
                if !is_published {
                    is_published = true;
                    teller.check("all talk", talk.goes_on().await).await;
                    teller.tell("busy").await;
                }
            }
            // It is tried again; what is asked for is not lost.
            News::Failed(error) => teller.body.say(at, format_args!("{error}")).await,
        }
    };
    teller.check("nothing is published any more", control.stop().await).await;
    end
}

/// Suspends the guest, and says how that has ended.
async fn suspended<B: Body>(teller: &mut Teller<'_, B>, talk: &Talk<'_, B>, number: u32) -> &'static str {
    let suspended = teller.body.suspend(teller.at).await;
    let (word, outcome) = match suspended {
        Ok(Suspended::Cancelled) => ("cancelled", Ok(())),
        Ok(Suspended::Resumed(resumed)) => ("resumed", holds(resumed.failures == 0, resumed)),
        Err(error) => ("refused", Err(Wrong::new(error))),
    };
    teller.check(format_args!("suspend {number}: {word}"), outcome).await;
    teller.check(format_args!("all talk after suspend {number}"), talk.goes_on().await).await;
    word
}
