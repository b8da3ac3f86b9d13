//! What is on its way to xenstored and back: bytes, messages and the requests that wait for a reply. No waiting in
//! here.
#![forbid(unsafe_code)]

use core::{mem, ops::Deref};

use xen_abi::{
    io::xs_wire::{Header, MessageType, XENSTORE_ERROR_NONE, XENSTORE_PAYLOAD_MAX, XsError},
    seam::Access,
};

use super::{
    answer,
    error::{Asked, StoreError},
    framing::Framing,
    request::Request,
    ring::Ring,
};

const PAYLOAD: usize = XENSTORE_PAYLOAD_MAX as usize;

/// How often bytes are moved each way before others get their turn: whatever xenstored does, a pump ends.
const ROUNDS: u32 = 16;

/// How often the connection is begun anew after xenstored has broken it, before the guest has to connect again.
const RECONNECTS: u32 = 4;

/// How many transactions there are at a time. Xenstored allows a domain ten.
pub(super) const TRANSACTIONS: usize = 8;

/// The state of the connection.
#[derive(Debug)]
pub(super) struct Link<F, const N: usize> {
    ring: Option<Ring<F>>,
    state: State,
    /// Connections so far: nothing of one means anything in the next.
    connection: u32,
    /// How often this one may be begun anew.
    reconnects: u32,
    /// Whether xenstored means it when there is an error in the page.
    has_errors: bool,
    /// The message that is being sent was [begun](Self::begin) by somebody who gets to know when it is out.
    has_turn: bool,
    incoming: Incoming,
    calls: [Call; N],
    orphans: [Option<Tx>; TRANSACTIONS],
    /// Messages that nobody has asked for.
    strays: u32,
}

/// ```text
///            connect                    lost, and xenstored can
///   Down ──────────────▶ Up ───────────────────────────────────▶ Reconnecting
///     ▲                  │ ▲                                          │
///     └──────────────────┘ └──────────────────────────────────────────┘
///       lost, disconnect            the page says that it is done
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing is read or written, although xenstored may have the page still; and why.
    Down(StoreError),
    /// Only the page's state means anything.
    Reconnecting,
    Up,
}

/// A transaction, of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tx {
    /// Xenstored's number for it; zero is none.
    pub(super) number: u32,
    connection: u32,
}

impl Tx {
    pub(super) const NONE: Self = Self { number: 0, connection: 0 };
}

/// A message that is being read.
#[derive(Debug)]
struct Incoming {
    /// Not while the rest of a message is thrown away that another client has begun to read.
    header: Option<Header>,
    payload: [u8; PAYLOAD],
    /// Bytes of the payload so far; of another client's message, those that this one has taken.
    got: usize,
}

/// A request that waits for its reply, and the reply.
#[derive(Debug)]
struct Call {
    state: CallState,
    id: u32,
    tx: Tx,
    asked: Asked,
    payload: [u8; PAYLOAD],
    length: usize,
}

/// ```text
///          begin            reply            finish, abandon
///   Free ────────▶ Waiting ───────▶ Answered ──────────────▶ Free
///                     │ abandon                                ▲
///                     ▼                 reply                  │
///                 Abandoned ───────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    Free,
    Waiting,
    /// Nobody waits any more, but the reply will come.
    Abandoned,
    Answered(Result<(), StoreError>),
}

/// A reply that is the right one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply<'l> {
    pub(super) payload: &'l [u8],
    pub(super) asked: Asked,
    /// To which the question went.
    connection: u32,
}

/// Why a request was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// Another message is still on its way, or the connection begins anew. [`Pumped::changed`] says when to ask again.
    Later,
    /// The connection must be [greeted](super::serve::Greeting) before.
    Ungreeted,
    Never(StoreError),
}

/// What became of a call that is of no interest any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abandoned {
    /// It is free.
    Free,
    /// It is free, and has left a transaction that is to be ended.
    Orphan,
    /// Its reply is still to come.
    Waiting,
}

/// What a pump has done.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is told to somebody else")]
pub(super) struct Pumped {
    /// Xenstored is to be told that an index has moved.
    pub(super) moved: bool,
    /// The message that was being sent is in the ring.
    pub(super) written: bool,
    /// Calls that were answered, a bit each.
    pub(super) answered: u32,
    /// Calls that were abandoned, and are free now.
    pub(super) freed: u32,
    /// Transactions that were abandoned, and never were or are no more.
    pub(super) over: u32,
    /// There is a transaction that is to be ended.
    pub(super) orphaned: bool,
    /// Whoever was told to come [later](NotBegun::Later) is to try again.
    pub(super) changed: bool,
    /// The connection was lost: its watches are gone.
    pub(super) lost: Option<StoreError>,
    /// It has begun anew: xenstored knows of nothing that was before.
    pub(super) renewed: bool,
    /// There may be more to do.
    pub(super) again: bool,
}

impl<F: Deref<Target: Access>, const N: usize> Link<F, N> {
    /// Not connected.
    pub(super) const fn new() -> Self {
        const { assert!(N > 0 && N <= 32, "a bit for each call") };
        Self {
            ring: None,
            state: State::Down(StoreError::Disconnected),
            connection: 0,
            reconnects: 0,
            has_errors: false,
            has_turn: false,
            incoming: Incoming { header: None, payload: [0; PAYLOAD], got: 0 },
            calls: [const { Call::FREE }; N],
            orphans: [None; TRANSACTIONS],
            strays: 0,
        }
    }

    /// Goes on with this page: where `other` was, if that is given and has been anywhere, or else between two messages.
    /// What was on its way before is [lost](Self::disconnect) already.
    pub(super) fn connect(&mut self, framing: &Framing, page: F, other: Option<&Framing>) {
        let ring = Ring::new(page);
        self.has_errors = ring.offers_errors() || ring.error() == XENSTORE_ERROR_NONE;
        self.reconnects = RECONNECTS;
        if ring.is_connected() {
            if other.is_some() || !ring.is_of(framing) {
                ring.adopt(framing, other);
            }
            self.state = State::Up;
        } else {
            framing.end();
            self.state = State::Reconnecting;
        }
        self.begin_anew();
        self.ring = Some(ring);
    }

    fn begin_anew(&mut self) {
        self.connection = self.connection.wrapping_add(1);
        self.incoming.header = None;
    }

    /// Lets go of the page. Whoever waits for a reply is told why there will be none.
    pub(super) fn disconnect(&mut self, framing: &Framing, why: StoreError) -> (Option<F>, Pumped) {
        self.state = State::Down(why);
        // Of this, xenstored knows nothing. What it knows a part of must be sent to its end, if the connection is the
        // same later.
        framing.take_back();
        let pumped = self.end_all(why);
        (self.ring.take().map(Ring::into_page), pumped)
    }

    /// Messages that nobody has asked for.
    pub(super) fn strays(&self) -> u32 {
        self.strays
    }

    /// Which connection this is; the first is number one.
    pub(super) fn connection(&self) -> u32 {
        self.connection
    }

    /// Why nothing can be asked, and nothing waited for.
    pub(super) fn down(&self) -> Result<(), StoreError> {
        match self.state {
            State::Down(why) => Err(why),
            State::Reconnecting | State::Up => Ok(()),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// Makes a message of a request, which the next pumps will send, and returns the number of its call, one of which
    /// is free.
    pub(super) fn begin(
        &mut self,
        framing: &Framing,
        request: &Request<'_>,
        tx: Tx,
    ) -> Result<usize, NotBegun> {
        match self.state {
            State::Down(why) => return Err(NotBegun::Never(why)),
            State::Reconnecting => return Err(NotBegun::Later),
            State::Up if tx.number != 0 && tx.connection != self.connection => {
                return Err(NotBegun::Never(StoreError::Disconnected));
            }
            State::Up if framing.unsent() > 0 => return Err(NotBegun::Later),
            State::Up => {}
        }
        let free = self.calls.iter_mut().enumerate().find(|(_, call)| call.state == CallState::Free);
        let (number, call) = free.ok_or(NotBegun::Later)?;
        // No other message of this stream begins at this index, be it another client's. (Events have zero.)
        let (id, asked) = (framing.sent().wrapping_add(1), request.asked());
        let header = Header { r#type: request.kind as u32, req_id: id, tx_id: tx.number, len: 0 };
        framing
            .compose(header, request)
            .map_err(|length| NotBegun::Never(StoreError::TooLong { asked, length }))?;
        self.has_turn = true;
        let tx = Tx { connection: self.connection, ..tx };
        (call.state, call.id, call.tx, call.asked) = (CallState::Waiting, id, tx, asked);
        Ok(number)
    }

    /// A call's reply, if it is there. The call is free then.
    pub(super) fn take(&mut self, number: usize) -> Option<Result<Reply<'_>, StoreError>> {
        let call = self.calls.get_mut(number)?;
        let CallState::Answered(outcome) = call.state else { return None };
        call.state = CallState::Free;
        let Call { asked, tx: Tx { connection, .. }, .. } = *call;
        Some(outcome.map(|()| Reply { payload: call.answer(), asked, connection }))
    }

    /// Nobody is interested in a call any more.
    pub(super) fn abandon(&mut self, number: usize) -> Abandoned {
        let Some(call) = self.calls.get_mut(number) else { return Abandoned::Free };
        match call.state {
            CallState::Free => Abandoned::Free,
            CallState::Waiting | CallState::Abandoned => {
                call.state = CallState::Abandoned;
                Abandoned::Waiting
            }
            CallState::Answered(outcome) => {
                call.state = CallState::Free;
                match call.started(outcome) {
                    Some(started) if self.orphan(started) => Abandoned::Orphan,
                    _ => Abandoned::Free,
                }
            }
        }
    }

    /// A transaction is to be ended that nobody wants; false, if it is gone already.
    pub(super) fn orphan(&mut self, tx: Tx) -> bool {
        let is_there = self.is_up() && self.connection == tx.connection;
        let place = self.orphans.iter_mut().find(|place| place.is_none());
        place.filter(|_| is_there).map(|place| *place = Some(tx)).is_some()
    }

    /// One of the transactions that are to be ended.
    pub(super) fn next_orphan(&self) -> Option<Tx> {
        self.orphans.iter().flatten().copied().next()
    }

    /// It was ended; false, if it was gone already.
    pub(super) fn bury(&mut self, tx: Tx) -> bool {
        self.orphans.iter_mut().find(|place| **place == Some(tx)).is_some_and(|place| place.take().is_some())
    }

    /// Whether there are replies to come, awaited or not.
    pub(super) fn expects_replies(&self) -> bool {
        self.is_up()
            && self.calls.iter().any(|call| matches!(call.state, CallState::Waiting | CallState::Abandoned))
    }

    /// Whether there are replies to come that nobody waits for: of what was asked in vain, something may be left.
    pub(super) fn has_abandoned(&self) -> bool {
        self.calls.iter().any(|call| call.state == CallState::Abandoned)
    }

    /// Moves bytes, both ways, as far as that goes. Events of watches are handed on; whether that was one that is
    /// known is the answer.
    pub(super) fn pump(&mut self, framing: &Framing, mut event: impl FnMut(&[u8]) -> bool) -> Pumped {
        let mut pumped = Pumped::default();
        let Some(ring) = &self.ring else { return pumped };
        match self.state {
            State::Down(_) => return pumped,
            State::Reconnecting if !ring.is_connected() => return pumped,
            State::Reconnecting => {
                ring.adopt(framing, None);
                self.has_errors = ring.offers_errors() || ring.error() == XENSTORE_ERROR_NONE;
                self.state = State::Up;
                (pumped.changed, pumped.renewed) = (true, true);
                self.begin_anew();
            }
            State::Up => {}
        }
        for _ in 0..ROUNDS {
            match self.round(framing, &mut event, &mut pumped) {
                Ok(true) => pumped.moved = true,
                Ok(false) => return pumped,
                Err(why) => return pumped.and(self.lose(framing, why)),
            }
        }
        pumped.again = true;
        pumped
    }

    /// Writes what there is room for and reads what there is; whether that was anything.
    fn round(
        &mut self,
        framing: &Framing,
        event: &mut impl FnMut(&[u8]) -> bool,
        pumped: &mut Pumped,
    ) -> Result<bool, StoreError> {
        let Some(ring) = &self.ring else { return Ok(false) };
        let error = ring.error();
        if self.has_errors && error != XENSTORE_ERROR_NONE {
            return Err(StoreError::Ended(error));
        }
        let sent = ring.send(framing).map_err(StoreError::Violation)?;
        if sent > 0 && framing.unsent() == 0 {
            let had_turn = mem::take(&mut self.has_turn);
            pumped.written |= had_turn;
            pumped.changed |= !had_turn;
        }
        let received = self.incoming.receive(ring, framing)?;
        if let Some((header, payload)) = self.incoming.message(framing) {
            let is_event = header.r#type == MessageType::WatchEvent as u32 && header.req_id == 0;
            let call = self.calls.iter_mut().enumerate().find(|(_, call)| call.awaits(&header));
            match call {
                _ if is_event && event(payload) => {}
                Some((number, call)) if !is_event => {
                    let orphan = pumped.note(number, call.reply(&header, payload));
                    if orphan.is_some_and(|tx| !self.orphan(tx)) {
                        pumped.over = pumped.over.saturating_add(1);
                    }
                }
                _ => self.strays = self.strays.saturating_add(1),
            }
            self.incoming.header = None;
        }
        Ok(sent > 0 || received)
    }

    /// Xenstored has broken the connection: it begins anew, if that can be.
    fn lose(&mut self, framing: &Framing, why: StoreError) -> Pumped {
        framing.end();
        let pumped = self.end_all(why);
        let left = self.reconnects.checked_sub(1);
        let begins = left.filter(|_| self.ring.as_ref().is_some_and(Ring::reconnect));
        self.reconnects = begins.unwrap_or(0);
        self.state = if begins.is_some() { State::Reconnecting } else { State::Down(why) };
        Pumped { moved: begins.is_some(), ..pumped }
    }

    /// Nothing more will be read or written: all calls end.
    fn end_all(&mut self, why: StoreError) -> Pumped {
        let written = mem::take(&mut self.has_turn);
        let mut pumped = Pumped { written, lost: Some(why), changed: true, ..Pumped::default() };
        for (number, call) in self.calls.iter_mut().enumerate() {
            if matches!(call.state, CallState::Waiting | CallState::Abandoned) {
                let _ = pumped.note(number, call.end(Err(why)));
            }
        }
        for place in &mut self.orphans {
            pumped.over = pumped.over.saturating_add(place.take().map_or(0, |_| 1));
        }
        pumped
    }
}

impl Incoming {
    /// Takes what is there of the message, or of the next one; whether that was anything.
    fn receive<F: Deref<Target: Access>>(
        &mut self,
        ring: &Ring<F>,
        framing: &Framing,
    ) -> Result<bool, StoreError> {
        if framing.unreceived() == 0 && self.header.is_none() {
            self.got = 0;
            self.header = ring.header(framing).map_err(StoreError::Violation)?;
            return Ok(self.header.is_some());
        }
        let room = self.payload.get_mut(self.got..).unwrap_or(&mut []);
        let got = ring.receive(framing, room).map_err(StoreError::Violation)?;
        self.got = self.got.saturating_add(got);
        Ok(got > 0)
    }

    /// The message, once it is whole.
    fn message(&self, framing: &Framing) -> Option<(Header, &[u8])> {
        let header = self.header.filter(|_| framing.unreceived() == 0)?;
        Some((header, self.payload.get(..self.got).unwrap_or(&[])))
    }
}

impl Call {
    const FREE: Self = Self {
        state: CallState::Free,
        id: 0,
        tx: Tx::NONE,
        asked: Asked::NOTHING,
        payload: [0; PAYLOAD],
        length: 0,
    };

    /// Whether this is the reply.
    fn awaits(&self, header: &Header) -> bool {
        matches!(self.state, CallState::Waiting | CallState::Abandoned) && self.id == header.req_id
    }

    fn answer(&self) -> &[u8] {
        self.payload.get(..self.length).unwrap_or(&[])
    }

    /// Takes the reply, whatever it is.
    fn reply(&mut self, header: &Header, payload: &[u8]) -> Ended {
        let asked = self.asked;
        let outcome = if header.tx_id == self.tx.number && header.r#type == asked.kind() as u32 {
            Ok(())
        } else if header.tx_id == self.tx.number && header.r#type == MessageType::Error as u32 {
            Err(match XsError::try_from(payload) {
                Ok(error) => StoreError::Refused { asked, error },
                Err(_) => StoreError::Unnamed { asked, answer: payload.into() },
            })
        } else {
            Err(StoreError::Mismatch { asked, kind: header.r#type, transaction: header.tx_id })
        };
        if let Some(room) = self.payload.get_mut(..payload.len()) {
            room.copy_from_slice(payload);
            self.length = payload.len();
        }
        self.end(outcome)
    }

    fn end(&mut self, outcome: Result<(), StoreError>) -> Ended {
        if self.state != CallState::Abandoned {
            self.state = CallState::Answered(outcome);
            return Ended::Answered;
        }
        self.state = CallState::Free;
        match self.started(outcome) {
            Some(tx) => Ended::Orphan(tx),
            None => Ended::Freed { was_start: self.starts_transaction() },
        }
    }

    fn starts_transaction(&self) -> bool {
        self.asked.kind() == MessageType::TransactionStart
    }

    /// The transaction that this call has started.
    fn started(&self, outcome: Result<(), StoreError>) -> Option<Tx> {
        let reply = Reply { payload: self.answer(), asked: self.asked, connection: self.tx.connection };
        outcome.ok().filter(|()| self.starts_transaction()).and_then(|()| reply.transaction().ok())
    }
}

impl Reply<'_> {
    /// The transaction that was started.
    pub(super) fn transaction(&self) -> Result<Tx, StoreError> {
        let digits = self.payload.strip_suffix(&[0]).unwrap_or(self.payload);
        let number = answer::number(digits).filter(|number| *number != 0);
        let Self { asked, connection, .. } = *self;
        number
            .map(|number| Tx { number, connection })
            .ok_or_else(|| StoreError::Nonsense { asked, answer: self.payload.into() })
    }
}

/// What the end of a call means to others.
#[derive(Clone, Copy)]
enum Ended {
    /// Somebody waits for it.
    Answered,
    /// Nobody does: it can be used again.
    Freed { was_start: bool },
    /// Nobody does, but there is a transaction.
    Orphan(Tx),
}

impl Pumped {
    fn note(&mut self, number: usize, ended: Ended) -> Option<Tx> {
        let bit = 1 << (number % 32);
        match ended {
            Ended::Answered => {
                self.answered |= bit;
                None
            }
            Ended::Freed { was_start } => {
                self.freed |= bit;
                self.over = self.over.saturating_add(was_start.into());
                None
            }
            Ended::Orphan(tx) => {
                self.freed |= bit;
                self.orphaned = true;
                Some(tx)
            }
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            moved: self.moved || other.moved,
            written: self.written || other.written,
            answered: self.answered | other.answered,
            freed: self.freed | other.freed,
            over: self.over.saturating_add(other.over),
            orphaned: self.orphaned || other.orphaned,
            changed: self.changed || other.changed,
            lost: self.lost.or(other.lost),
            renewed: self.renewed || other.renewed,
            again: self.again || other.again,
        }
    }
}
