//! Watches: whose nodes change, and who is to look again.
//!
//! An event means "look again", and nothing else: it has no path, two of them before anybody looks are one, and there
//! may be one for nothing. So it does not matter how many xenstored sends; each watch has one place for its news.
//!
//! The table says what is so and what is to be, and [`serve`](super::Store::serve) makes it so, one request at a time:
//!
//! ```text
//!            watch             WATCH is sent          its reply, or EEXIST
//!   Free ─────────▶ Wanted ────────────────▶ Asked ──────────────────────▶ Armed
//!    ▲  ▲             │ ▲                    │   │ a refusal                 │
//!    │  └─────────────┘ │                    │   ▼                           │
//!    │       dropped    │                    │ Refused ─▶ Free, dropped      │
//!    │                  └── the connection is lost: all but Unwanted ────────┤
//!    │  UNWATCH is sent                      │ dropped                       │ dropped
//!    └────────────────────── Unwanted ◀──────┴───────────────────────────────┘
//! ```
//!
//! A token names a place in the table and a generation, which is another whenever the watch is set anew; what comes
//! with any other token is of a watch that is no more.
#![forbid(unsafe_code)]

use core::fmt;

use futures_util::stream::{self, Stream};
use kexec::{irql::Dispatch, time::timeout};
use xen_abi::io::xs_wire::{MessageType, XsError};

use super::{
    Store, answer,
    client::Client,
    error::{Asked, StoreError},
    path::{Cut, Path, Text, ToPath},
    request::Request,
    xenstore::Watching,
};
use crate::page::Seam;

/// The longest path that can be watched, in bytes: a store keeps it, to set the watch again in a new domain.
pub const WATCHED: usize = 256;

/// Why to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The watch is set: look for the first time.
    Initial,
    /// Something has changed, perhaps.
    Changed,
    /// The connection is another, and perhaps the domain; the watch is set again, and everything may be different.
    Rearmed,
}

/// A node that is watched. Dropped, it is watched no longer: [`serve`](Store::serve) says so to xenstored.
pub struct Watch<'s, P: Seam, const N: usize, const W: usize> {
    store: &'s Store<P, N, W>,
    at: &'s Dispatch,
    place: usize,
}

/// The watches of a store.
#[derive(Debug)]
pub(super) struct Watches<const W: usize> {
    places: [Place; W],
    /// That of the watch that was set last.
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    state: State,
    path: Text<WATCHED>,
    generation: u32,
    /// What the first event of this generation means.
    first: Option<WatchEvent>,
    news: Option<Result<WatchEvent, StoreError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Nothing was said of it yet.
    Wanted,
    /// It may be set.
    Asked,
    /// It is set. (Or it is not known to be: then its owner knows that.)
    Armed,
    /// It is not set: xenstored does not want it.
    Refused,
    /// It may be set, and is not to be.
    Unwanted,
}

/// What is to be said of a watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToSay {
    /// `WATCH` or `UNWATCH`
    pub(super) kind: MessageType,
    place: usize,
    generation: u32,
}

/// Hexadecimal digits of the two numbers in a token.
const PLACE: usize = 2;
const GENERATION: usize = 8;

type Token = Text<{ PLACE + GENERATION }>;

impl<const W: usize> Watches<W> {
    pub(super) const fn new() -> Self {
        const { assert!(W <= 64, "a bit for each watch") };
        Self { places: [Place::FREE; W], generation: 0 }
    }

    pub(super) fn add(&mut self, path: Path<'_>) -> Result<usize, StoreError> {
        let path = path.checked(MessageType::Watch)?;
        let text = Text::of(path).map_err(|Cut(length)| {
            let asked = Asked::new(MessageType::Watch, path);
            StoreError::TooLong { asked, length }
        })?;
        let places = self.places.iter_mut().enumerate();
        let free = places.into_iter().find(|(_, place)| place.state == State::Free);
        let (number, place) = free.ok_or(StoreError::Watches(W))?;
        self.generation = self.generation.wrapping_add(1);
        *place = Place {
            state: State::Wanted,
            path: text,
            generation: self.generation,
            first: Some(WatchEvent::Initial),
            news: None,
        };
        Ok(number)
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(place) = self.places.get_mut(number) {
            place.state = match place.state {
                State::Free | State::Wanted | State::Refused => State::Free,
                State::Asked | State::Armed | State::Unwanted => State::Unwanted,
            };
        }
    }

    /// What is to be said next.
    pub(super) fn to_say(&self) -> Option<ToSay> {
        let say = |state, kind| {
            let mut places = (0..).zip(&self.places);
            let place = places.find(|(_, place)| place.state == state);
            place.map(|(number, place)| ToSay { kind, place: number, generation: place.generation })
        };
        say(State::Unwanted, MessageType::Unwatch)
            .or_else(|| say(State::Asked, MessageType::Watch))
            .or_else(|| say(State::Wanted, MessageType::Watch))
    }

    /// It is said now, of this path; of none, if there is nothing to say any more.
    pub(super) fn saying(&mut self, what: &ToSay) -> Option<Text<WATCHED>> {
        let place = self.place(what)?;
        if place.state == State::Wanted {
            place.state = State::Asked;
        }
        Some(place.path)
    }

    /// What came of it, and whether xenstored may have got it.
    pub(super) fn said(&mut self, what: &ToSay, outcome: Result<(), StoreError>, is_begun: bool) {
        let Some(place) = self.place(what) else { return };
        match (place.state, outcome) {
            // Once xenstored has got it, its answer does not matter.
            (State::Unwanted, _) if what.kind == MessageType::Unwatch && is_begun => {
                place.state = State::Free;
            }
            (State::Asked, Ok(())) => place.state = State::Armed,
            // Said before, by somebody who did not wait for the answer. Its event may have come, or not.
            (State::Asked, Err(StoreError::Refused { error: XsError::EEXIST, .. })) => {
                place.state = State::Armed;
                place.fire();
            }
            (State::Asked, Err(why)) => {
                let is_refused = matches!(why, StoreError::Refused { .. } | StoreError::Unnamed { .. });
                place.state = if is_refused || !is_begun { State::Refused } else { State::Armed };
                place.news = Some(Err(why));
            }
            _ => {}
        }
    }

    fn place(&mut self, what: &ToSay) -> Option<&mut Place> {
        self.places.get_mut(what.place).filter(|place| place.generation == what.generation)
    }

    /// An event has come: the watch that it is for, if there is such a watch, and the path can be its event's.
    pub(super) fn event(&mut self, event: &[u8]) -> Option<usize> {
        let (path, rest) = answer::split(event)?;
        let (token, _) = answer::split(rest)?;
        let (number, generation) = parse(token)?;
        let place = self.places.get_mut(number)?;
        let is_set = matches!(place.state, State::Asked | State::Armed) && place.generation == generation;
        (is_set && is_within(path, place.path.as_bytes())).then(|| {
            place.fire();
            number
        })
    }

    /// The connection is lost, and all watches with it. They are set again in the next.
    pub(super) fn lose(&mut self, why: StoreError) {
        for place in &mut self.places {
            self.generation = self.generation.wrapping_add(1);
            place.generation = self.generation;
            place.state = match place.state {
                State::Free | State::Unwanted => State::Free,
                State::Wanted => State::Wanted,
                State::Asked | State::Armed | State::Refused => {
                    place.first = Some(place.first.unwrap_or(WatchEvent::Rearmed));
                    State::Wanted
                }
            };
            place.news = (place.state == State::Wanted).then_some(Err(why));
        }
    }

    /// The connection is there: what was lost is no news any more.
    pub(super) fn connected(&mut self) {
        for place in self.places.iter_mut().filter(|place| place.state == State::Wanted) {
            place.news = None;
        }
    }

    /// What there is to say to the watch's owner.
    pub(super) fn take(&mut self, number: usize) -> Option<Result<WatchEvent, StoreError>> {
        self.places.get_mut(number)?.news.take()
    }

    /// Whether it is set; an error, if it cannot be.
    pub(super) fn is_armed(&self, number: usize) -> Result<bool, StoreError> {
        let Some(place) = self.places.get(number) else { return Ok(false) };
        match place.news {
            Some(Err(why)) => Err(why),
            _ => Ok(place.state == State::Armed),
        }
    }
}

impl Place {
    const FREE: Self = Self { state: State::Free, path: Text::EMPTY, generation: 0, first: None, news: None };

    /// There is something to look for.
    fn fire(&mut self) {
        let event = self.first.take().unwrap_or(WatchEvent::Changed);
        if event != WatchEvent::Changed || self.news.is_none() {
            self.news = Some(Ok(event));
        }
    }
}

impl ToSay {
    /// That of its watch, among all.
    pub(super) const fn bit(&self) -> u64 {
        1 << (self.place % 64)
    }

    /// The name by which xenstored tells of it.
    pub(super) fn token(&self) -> Token {
        Text::of(format_args!("{:0PLACE$x}{:0GENERATION$x}", self.place, self.generation))
            .unwrap_or(Text::EMPTY)
    }
}

/// A place and a generation, of a token.
fn parse(token: &[u8]) -> Option<(usize, u32)> {
    let is_one = token.len() == PLACE.checked_add(GENERATION)? && token.iter().all(u8::is_ascii_hexdigit);
    let (place, generation) = str::from_utf8(token).ok().filter(|_| is_one)?.split_at_checked(PLACE)?;
    Some((usize::from_str_radix(place, 16).ok()?, u32::from_str_radix(generation, 16).ok()?))
}

/// Whether a path is the watched one, or below it.
fn is_within(path: &[u8], watched: &[u8]) -> bool {
    match path.strip_prefix(watched) {
        Some(below) => below.is_empty() || watched == b"/" || below.starts_with(b"/"),
        None => false,
    }
}

impl<'s, P: Seam, const N: usize, const W: usize> Client<'s, P, N, W> {
    /// See [`Root::watch`](super::Root::watch).
    pub(super) async fn watch(
        self,
        at: &'s Dispatch,
        path: impl ToPath,
    ) -> Result<Watch<'s, P, N, W>, StoreError> {
        let Self { store, patience, .. } = self;
        let request = Request::node(MessageType::Watch, path.to_path())?;
        let place = store.line.lock(at).add_watch(path.to_path())?;
        let watch = Watch { store, at, place };
        store.chores.set();
        let armed = async {
            while !store.line.lock(at).watches.is_armed(place)? {
                watch.noticed().await;
            }
            Ok(())
        };
        timeout(patience, armed).await.unwrap_or_else(|_| Err(self.late(&request)))?;
        Ok(watch)
    }
}

impl<P: Seam, const N: usize, const W: usize> Watch<'_, P, N, W> {
    async fn noticed(&self) {
        if let Some(noticed) = self.store.noticed.get(self.place) {
            noticed.wait().await;
        }
    }

    /// Goes on as a stream of the events to come.
    ///
    /// **Cancel-safe:** loses nothing.
    pub fn events(self) -> impl Stream<Item = Result<WatchEvent, StoreError>> {
        stream::unfold(self, async |mut watch| Some((watch.next().await, watch)))
    }
}

impl<P: Seam, const N: usize, const W: usize> Watching for Watch<'_, P, N, W> {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            let news = self.store.line.lock(self.at).watches.take(self.place);
            match news {
                Some(news) => return news,
                None => self.noticed().await,
            }
        }
    }
}

impl<P: Seam, const N: usize, const W: usize> Drop for Watch<'_, P, N, W> {
    fn drop(&mut self) {
        self.store.line.lock(self.at).watches.remove(self.place);
        self.store.chores.set();
    }
}

impl<P: Seam, const N: usize, const W: usize> fmt::Debug for Watch<'_, P, N, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("place", &self.place).finish_non_exhaustive()
    }
}
