//! What a record's words mean: one task, for a person.
#![forbid(unsafe_code)]
#![expect(clippy::cast_possible_truncation, reason = "the low half of a word is meant")]

use core::{fmt, fmt::Write, time::Duration};

use super::{
    read::Image,
    record::{CHANGING, LABELLED, OVER, Words},
};
use crate::{Lane, task::state::Snapshot};

/// Stands for the kind of a leaf that does not show itself.
pub const UNLABELLED: &str = "unlabelled";

/// Stands for a text that the image does not have: the image is another one, or the table is damaged.
pub const LOST: &str = "?";

/// A slot that has had a task, and what is known of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'i> {
    /// Which slot of its table.
    pub slot: u32,
    /// Which tenant of the slot it is, counted from one.
    pub generation: u64,
    /// What it does.
    pub state: State,
    /// Whether it is to be dropped at its next turn.
    pub cancelled: bool,
    /// The lane that it waits in.
    pub lane: Lane,
    /// Its name: the path of the `async fn` or closure that was spawned.
    pub name: &'i str,
    /// Where it was spawned.
    pub site: Option<Place<'i>>,
    /// The executor that polls it.
    pub executor: Group<'i>,
    /// The scope that it is in.
    pub scope: Option<Group<'i>>,
    /// What the leaf waits for at which it is parked, or was parked last; [`UNLABELLED`] for one that does not
    /// show itself. In a join or select this is the leaf that parked last. None before the first park, and during a poll.
    pub kind: Option<&'i str>,
    /// Where that leaf was made.
    pub place: Option<Place<'i>>,
    /// What the step is about.
    pub label: Option<&'i str>,
    /// How often it was polled, the present poll included.
    pub polls: u64,
    /// How often it was woken, not counting wakes that found it queued already.
    pub wakes: u64,
    /// The longest poll, if polls were timed.
    pub longest: Duration,
    /// The last poll, if polls were timed.
    pub last: Duration,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The slot has no task.
    Free,
    /// It waits for a turn.
    Queued,
    /// It waits for a wake.
    Parked,
    /// It has its turn.
    Polled,
    /// It has ended, and a handle holds the slot.
    Ended {
        /// There is an output to take. Without one it was cancelled.
        output: bool,
    },
    /// It moved in, was polled and was moved out so fast that no one moment of it could be read. Names and places are of
    /// no worth then, and are left out.
    Changing,
}

/// A place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'i> {
    /// The file, as the compiler was told.
    pub file: &'i str,
    /// The line, counted from one.
    pub line: u32,
    /// The column, counted from one.
    pub column: u32,
}

/// What a task belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'i> {
    /// Where it is in memory, by which it is told from others.
    pub address: u64,
    /// Its name; empty if it has none.
    pub name: &'i str,
}

impl<'i> Row<'i> {
    /// What the words say, with texts from the image.
    pub(crate) fn of(words: &Words, slot: u32, lane: Lane, image: &'i (impl Image + ?Sized)) -> Self {
        let word = Snapshot::of_word(words.state);
        let state = State::of(word, words.turns);
        let is_known = !matches!(state, State::Free | State::Changing);
        let has_parked = words.turns & !OVER >= 2 && matches!(state, State::Queued | State::Parked);
        let begun = (words.turns & !OVER).wrapping_add(1) / 2;
        let told = |known: bool, word: u64| if known { text(word, image) } else { "" };
        let [place, kind] = [words.leaf & !LABELLED, words.leaf >> 32].map(|half| half as u32);
        let queued_again = word.is_queued() && !word.is_cancelled();
        Self {
            slot,
            generation: word.generation(),
            state,
            cancelled: is_known && word.is_cancelled(),
            lane,
            name: told(is_known, words.name),
            site: place_at(words.site, image).filter(|_| is_known),
            executor: Group {
                address: if is_known { words.executor } else { 0 },
                name: told(is_known, words.executor_name),
            },
            scope: (is_known && words.scope != 0)
                .then(|| Group { address: words.scope, name: text(words.scope_name, image) }),
            kind: has_parked.then(|| match kind {
                0 => UNLABELLED,
                distance => image.kind(distance.cast_signed()).unwrap_or(LOST),
            }),
            place: place_at(place, image).filter(|_| has_parked),
            label: (has_parked && words.leaf & LABELLED != 0).then(|| text(words.label, image)),
            polls: if is_known { begun } else { 0 },
            // Each turn was queued once; the first time, by the spawn.
            wakes: if is_known { begun.saturating_add(u64::from(queued_again)).saturating_sub(1) } else { 0 },
            longest: Duration::from_nanos(words.longest.into()),
            last: Duration::from_nanos(words.last.into()),
        }
    }

    /// Whether there is a task in the slot.
    #[must_use]
    pub fn is_task(&self) -> bool {
        self.state != State::Free
    }

    /// What the task does, and where: `parked at sleep, src/device.rs:40 "next beat"`.
    #[must_use]
    pub fn whereabouts(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            write!(f, "{}", self.state)?;
            match (self.state, self.kind) {
                (State::Parked, Some(kind)) => write!(f, " at {}", Plain(kind))?,
                (State::Queued, Some(kind)) => write!(f, ", was at {}", Plain(kind))?,
                (State::Queued, None) => f.write_str(", not yet polled")?,
                _ => {}
            }
            if let Some(place) = self.place {
                write!(f, ", {place}")?;
            }
            if let Some(label) = self.label {
                write!(f, " \"{}\"", Plain(label))?;
            }
            if self.cancelled { f.write_str(", cancelled") } else { Ok(()) }
        })
    }

    /// Where the task came from, and what became of it so far: `#1 in slot 0, control, 12 polls, 11 wakes`.
    #[must_use]
    pub fn history(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            let lane = match self.lane {
                Lane::Control => "control",
                Lane::Data => "data",
            };
            write!(f, "#{} in slot {}, {lane}", self.generation, self.slot)?;
            if matches!(self.state, State::Free | State::Changing) {
                return Ok(());
            }
            let many = |count: u64| if count == 1 { "" } else { "s" };
            write!(f, ", {} poll{}, {} wake{}", self.polls, many(self.polls), self.wakes, many(self.wakes))?;
            if let Some(site) = self.site {
                write!(f, ", spawned at {site}")?;
            }
            if !self.longest.is_zero() {
                write!(f, ", longest poll {:?}, last {:?}", self.longest, self.last)?;
            }
            Ok(())
        })
    }
}

impl State {
    fn of(word: Snapshot, turns: u64) -> Self {
        if turns == CHANGING {
            Self::Changing
        } else if word.is_done() && word.has_handle() {
            Self::Ended { output: word.has_value() }
        } else if !word.is_live() {
            Self::Free
        } else if turns & OVER != 0 {
            Self::Changing
        } else if turns & 1 != 0 {
            Self::Polled
        } else if word.is_queued() {
            Self::Queued
        } else {
            Self::Parked
        }
    }
}

/// The string that a word refers to.
pub(super) fn text(word: u64, image: &(impl Image + ?Sized)) -> &str {
    match ((word as u32).cast_signed(), (word >> 32) as u32) {
        (_, 0) => "",
        (distance, length) => image.text(distance, length).unwrap_or(LOST),
    }
}

fn place_at(distance: u32, image: &(impl Image + ?Sized)) -> Option<Place<'_>> {
    let lost = Place { file: LOST, line: 0, column: 0 };
    (distance != 0).then(|| image.place(distance.cast_signed()).unwrap_or(lost))
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Queued => "queued",
            Self::Parked => "parked",
            Self::Polled => "being polled",
            Self::Ended { output: true } => "ended, its output waits",
            Self::Ended { output: false } => "ended without an output",
            Self::Changing => "changed while it was read",
        })
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Plain(self.file), self.line)
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { write!(f, "{:#x}", self.address) } else { Plain(self.name).fmt(f) }
    }
}

/// `device::beat: parked at sleep, src/device.rs:40 "next beat"; #1 in slot 0, control, 12 polls, 11 wakes, spawned at
/// src/device.rs:12`, in one line.
impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", Plain(self.name))?;
        }
        write!(f, "{}; {}", self.whereabouts(), self.history())
    }
}

/// A text of unknown origin, without the characters that a terminal obeys.
pub(super) struct Plain<'i>(pub(super) &'i str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if character.is_control() {
                write!(f, "{}", character.escape_default())
            } else {
                f.write_char(character)
            }
        })
    }
}
