//! What crosses from one virtual CPU to another, on all of them at once: balls that go round, by kexec alone and by
//! event channels; and a timer on each.
//!
//! ```text
//!      ┌── set ────▶ cpu 0 ── set ────▶ cpu 1 ── set ────▶ .. ──┐      a wake-up, and an interrupt of the APIC's
//!      └────────────────────────────────────────────────────────┘
//!      ┌── send ───▶ cpu 0 ── send ───▶ cpu 1 ── send ───▶ .. ──┐      a port that is bound there, and an upcall
//!      └────────────────────────────────────────────────────────┘
//! ```
//!
//! Each player is polled by its own virtual CPU, and sees to that. After a suspend the ports are others: who has got a
//! new one throws the ball anew. A ball that does not move was lost, and a wake-up with it. That is seen by virtual CPU
//! 0, once in a while. Any other interrupt ends the wait of a virtual CPU that has missed one: so a game that looks for
//! lost wake-ups has no timers but that.
#![forbid(unsafe_code)]

use core::{
    array,
    convert::Infallible,
    fmt,
    future::pending,
    pin::pin,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use futures_util::future::{Either, select, try_join4};
use kexec::{
    Pool,
    irql::Dispatch,
    sync::{AutoEvent, ManualEvent},
    task_size,
    time::{now, sleep},
};
use xen_abi::{Errno, event_channel::EvtchnPort};
use xenbus::{
    epoch::Epochs,
    event::{Events, OpenError},
    hypercall::event_channel,
};

use crate::{
    report,
    seam::Guest,
    smp::{self, MOST},
    stall,
};

/// How long a ball may lie still: many times what it takes from one to the other, whoever else computes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a game is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Game {
    pub(crate) guest: Guest,
    pub(crate) events: &'static Events<Guest>,
    pub(crate) epochs: &'static Epochs,
    /// How often each ball goes round at least.
    pub(crate) rounds: u32,
    /// How often the timer of each goes off.
    pub(crate) tick: Option<Duration>,
}

/// What has come to a virtual CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Balls by an [`AutoEvent`].
    sets: u32,
    /// Balls by an event channel.
    events: u32,
    ticks: u32,
    /// Ports that it has had, one in each epoch.
    ports: u32,
}

/// The same, of each that there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tallies {
    all: [Tally; MOST],
    count: usize,
}

/// What has gone wrong, and at which virtual CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lost {
    /// There is no room for its player.
    NoRoom(usize),
    /// Its player is polled by that one.
    Elsewhere(usize, usize),
    /// The ball by wake-ups has not come to it.
    Set(usize),
    /// The ball by event channels has not come to it.
    Event(usize),
    /// Its timer has gone off so long before the time.
    Early(usize, Duration),
    /// It has no port.
    Port(usize, OpenError),
    /// It cannot send.
    Send(usize, Errno),
}

static PLAYERS: Pool<{ task_size(&play) }, MOST> = Pool::new();
/// A place for each: what it has counted, and what comes to it.
static PLACES: [Place; MOST] = [const { Place::new() }; MOST];
static OVER: ManualEvent = ManualEvent::new(false);

#[derive(Debug)]
struct Place {
    sets: AtomicU32,
    events: AtomicU32,
    ticks: AtomicU32,
    ports: AtomicU32,
    /// The ball by wake-ups has come.
    here: AutoEvent,
    /// The port by which the other ball comes: `epoch << 32 | port`; zero, if there is none.
    port: AtomicU64,
}

/// Plays, until both balls have gone round as often as they are to. The virtual CPUs have upcalls of their own. One
/// game at a time.
pub(crate) async fn play_on_all(game: Game) -> Result<Tallies, Lost> {
    let count = smp::running().len();
    OVER.reset();
    PLACES.iter().for_each(Place::clear);
    PLACES[0].here.set();
    let mut players = [const { None }; MOST];
    for (number, player) in players.iter_mut().enumerate().take(count) {
        let spawned = smp::executor(number).spawn(&PLAYERS, play, (game, number));
        *player = spawned.inspect_err(|_| OVER.set()).ok();
        if player.is_none() {
            return Err(Lost::NoRoom(number));
        }
    }
    let mut outcome = Ok(());
    for player in players.into_iter().flatten() {
        // Nobody cancels it.
        outcome = outcome.and(player.await.unwrap_or(Ok(())));
    }
    outcome.map(|()| Tallies::of(count))
}

/// Says where each player waits.
pub(crate) fn tell_of_players() {
    report::tasks(PLAYERS.as_table());
}

/// What a virtual CPU does until all is over.
async fn play(at: &mut Dispatch, (game, number): (Game, usize)) -> Result<(), Lost> {
    let at = &*at;
    let all = try_join4(
        catch_sets(number, game),
        catch_events(at, number, game),
        tick(number, game.tick),
        watch(number),
    );
    let outcome = match select(pin!(all), pin!(OVER.wait())).await {
        Either::Left((Err(lost), _)) => Err(lost),
        Either::Right(_) => Ok(()),
    };
    OVER.set();
    outcome
}

async fn catch_sets(number: usize, game: Game) -> Result<Infallible, Lost> {
    loop {
        PLACES[number].here.wait().await;
        is_at_home(number)?;
        count(&PLACES[number].sets);
        has_finished(number, game);
        PLACES[next(number)].here.set();
    }
}

async fn catch_events(at: &Dispatch, number: usize, game: Game) -> Result<Infallible, Lost> {
    let Place { events, ports, port, .. } = &PLACES[number];
    loop {
        let epoch = game.epochs.now();
        let channel = game.events.ipi(at, number).map_err(|error| Lost::Port(number, error))?;
        port.store(u64::from(game.epochs.count()) << 32 | u64::from(channel.port().0), Release);
        count(ports);
        // The last who has a port finds the next with one.
        throw(number, game)?;
        while channel.wait(at).await.is_ok() {
            is_at_home(number)?;
            count(events);
            has_finished(number, game);
            throw(number, game)?;
        }
        drop(channel);
        game.epochs.after(at, epoch).await;
    }
}

/// Sends to the next, if it has a port in this epoch.
fn throw(number: usize, game: Game) -> Result<(), Lost> {
    let port = PLACES[next(number)].port.load(Acquire);
    let epoch = port >> 32;
    match u32::try_from(port & u64::from(u32::MAX)).map(EvtchnPort) {
        Ok(port) if port.0 != 0 && epoch == u64::from(game.epochs.count()) => {
            let sent = event_channel::send(&game.guest, port);
            // It may have been closed since, and only then.
            sent.or_else(|errno| if OVER.is_set() { Ok(()) } else { Err(Lost::Send(number, errno)) })
        }
        _ => Ok(()),
    }
}

async fn tick(number: usize, tick: Option<Duration>) -> Result<Infallible, Lost> {
    let Some(tick) = tick else { return pending().await };
    loop {
        let begin = now().await;
        sleep(tick).await;
        let slept = now().await.since(begin);
        if slept < tick {
            return Err(Lost::Early(number, tick.saturating_sub(slept)));
        }
        count(&PLACES[number].ticks);
    }
}

/// Looks, at virtual CPU 0, whether the balls move.
async fn watch(number: usize) -> Result<Infallible, Lost> {
    if number != 0 {
        return pending().await;
    }
    let balls = || Tallies::of(smp::running().len());
    let mut last = balls();
    loop {
        sleep(PATIENCE).await;
        let now = balls();
        let set = now.still(&last, |tally| tally.sets).map(Lost::Set);
        let event = || now.still(&last, |tally| tally.events).map(Lost::Event);
        if let Some(lost) = set.or_else(event) {
            if let Lost::Set(number @ 1..) | Lost::Event(number @ 1..) = lost {
                stall::tell_of(number);
            }
            return Err(lost);
        }
        last = now;
    }
}

fn is_at_home(number: usize) -> Result<(), Lost> {
    let here = smp::number();
    if here == number { Ok(()) } else { Err(Lost::Elsewhere(number, here)) }
}

/// Whether it is over, which is seen where a round begins.
fn has_finished(number: usize, game: Game) {
    let Tally { sets, events, .. } = PLACES[number].tally();
    if number == 0 && sets > game.rounds && events > game.rounds {
        OVER.set();
    }
}

fn next(number: usize) -> usize {
    (number + 1) % smp::running().len()
}

/// By its own player only.
fn count(count: &AtomicU32) {
    count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Place {
    const fn new() -> Self {
        Self {
            sets: AtomicU32::new(0),
            events: AtomicU32::new(0),
            ticks: AtomicU32::new(0),
            ports: AtomicU32::new(0),
            here: AutoEvent::new(false),
            port: AtomicU64::new(0),
        }
    }

    fn clear(&self) {
        for count in [&self.sets, &self.events, &self.ticks, &self.ports] {
            count.store(0, Relaxed);
        }
        self.here.reset();
        self.port.store(0, Relaxed);
    }

    fn tally(&self) -> Tally {
        let [sets, events, ticks, ports] =
            [&self.sets, &self.events, &self.ticks, &self.ports].map(|count| count.load(Relaxed));
        Tally { sets, events, ticks, ports }
    }
}

impl Tallies {
    fn of(count: usize) -> Self {
        Self { all: array::from_fn(|number| PLACES[number].tally()), count }
    }

    /// Who waits for a ball that has not moved since; none, if it has.
    fn still(&self, last: &Self, ball: impl Fn(&Tally) -> u32) -> Option<usize> {
        let now = self.all.map(|tally| ball(&tally));
        let has_moved = now != last.all.map(|tally| ball(&tally));
        // The first has had it at least as often as anybody else.
        let waits = now.iter().take(self.count).position(|had| *had < now[0]).unwrap_or(0);
        (!has_moved).then_some(waits)
    }
}

impl fmt::Display for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Tally { sets, events, ticks, ports }) in self.all.iter().take(self.count).enumerate() {
            let comma = if number == 0 { "" } else { "; " };
            write!(f, "{comma}cpu {number}: {sets} sets, {events} events, {ticks} ticks, {ports} ports")?;
        }
        Ok(())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom(number) => write!(f, "cpu {number}: no room for another task"),
            Self::Elsewhere(number, here) => write!(f, "cpu {number}: its task is polled by cpu {here}"),
            Self::Set(number) => write!(f, "cpu {number}: no wake-up for {PATIENCE:?}"),
            Self::Event(number) => write!(f, "cpu {number}: no event for {PATIENCE:?}"),
            Self::Early(number, early) => write!(f, "cpu {number}: a timer has gone off {early:?} too early"),
            Self::Port(number, error) => write!(f, "cpu {number}: {error}"),
            Self::Send(number, errno) => write!(f, "cpu {number}: cannot send: {errno}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(sets: [u32; 3]) -> Tallies {
        let tally = |number| Tally { sets: sets.get(number).copied().unwrap_or(0), ..Tally::default() };
        Tallies { all: array::from_fn(tally), count: sets.len() }
    }

    /// Who is named is who has missed something.
    #[test]
    fn a_ball_lies_where_it_was_not_caught() {
        let still = |last, now| tallies(now).still(&tallies(last), |tally| tally.sets);
        assert_eq!(still([5, 5, 4], [5, 5, 5]), None);
        assert_eq!(still([5, 5, 5], [5, 5, 5]), Some(0));
        assert_eq!(still([5, 4, 4], [5, 4, 4]), Some(1));
        assert_eq!(still([5, 5, 4], [5, 5, 4]), Some(2));
    }
}
