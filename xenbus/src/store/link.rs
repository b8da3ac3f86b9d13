//! What is on its way to xenstored and back: bytes, messages and the requests that wait for a reply. No waiting in
//! here.
#![forbid(unsafe_code)]

use core::ops::Deref;

use xen_abi::{
    io::xs_wire::{Header, MessageType, XENSTORE_PAYLOAD_MAX, XsError},
    seam::Access,
};
use zerocopy::IntoBytes;

use super::{
    StoreError,
    ring::{Ring, Violation},
};

const HEADER: usize = size_of::<Header>();
const PAYLOAD: usize = XENSTORE_PAYLOAD_MAX as usize;

/// How often a ring's worth of bytes is moved each way before others get their turn: whatever xenstored does, a pump
/// ends.
const ROUNDS: u32 = 16;

/// The state of the connection.
#[derive(Debug)]
pub(super) struct Link<F, const N: usize> {
    ring: Option<Ring<F>>,
    /// Why nothing can be asked; nothing is read or written then, although xenstored may have the page still.
    is_up: Result<(), StoreError>,
    outgoing: Outgoing,
    incoming: Incoming,
    calls: [Call; N],
    /// Of the next request.
    id: u32,
    /// Replies to nothing that was asked, or not by us.
    strays: u32,
}

/// A message that is being written. It is kept here to its last byte, whoever loses interest in it.
#[derive(Debug)]
struct Outgoing {
    bytes: [u8; HEADER + PAYLOAD],
    length: usize,
    sent: usize,
}

/// A message that is being read.
#[derive(Debug)]
struct Incoming {
    header: [u8; HEADER],
    payload: [u8; PAYLOAD],
    /// Bytes of header and payload so far.
    got: usize,
}

/// A request that waits for its reply, and the reply.
#[derive(Debug)]
struct Call {
    state: CallState,
    id: u32,
    kind: MessageType,
    payload: [u8; PAYLOAD],
    length: usize,
}

/// ```text
///          begin            reply            abandon
///   Free ────────▶ Waiting ───────▶ Answered ─────────▶ Free
///                     │ abandon                           ▲
///                     ▼                 reply             │
///                 Abandoned ──────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    Free,
    Waiting,
    /// Nobody waits any more, but the reply will come.
    Abandoned,
    Answered(Result<(), StoreError>),
}

/// What a pump has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pumped {
    /// Xenstored is to be told that an index has moved.
    pub(super) moved: bool,
    /// The message that was being written is written.
    pub(super) written: bool,
    /// Calls that were answered, a bit each.
    pub(super) answered: u32,
    /// Calls that were abandoned, and are free now.
    pub(super) freed: u32,
    /// There may be more to do.
    pub(super) again: bool,
}

impl<F: Deref<Target: Access>, const N: usize> Link<F, N> {
    /// Not connected.
    pub(super) const fn new() -> Self {
        const { assert!(N > 0 && N <= 32, "a bit for each call") };
        Self {
            ring: None,
            is_up: Err(StoreError::Disconnected),
            outgoing: Outgoing { bytes: [0; HEADER + PAYLOAD], length: 0, sent: 0 },
            incoming: Incoming { header: [0; HEADER], payload: [0; PAYLOAD], got: 0 },
            calls: [const { Call::FREE }; N],
            id: 0,
            strays: 0,
        }
    }

    /// Goes on with this page. What was on its way before is [lost](Self::disconnect) already.
    pub(super) fn connect(&mut self, page: F) {
        self.ring = Some(Ring::new(page));
        self.is_up = Ok(());
        self.outgoing.length = 0;
        self.incoming.got = 0;
    }

    /// Lets go of the page. Whoever waits for a reply is told why there will be none.
    pub(super) fn disconnect(&mut self, why: StoreError) -> (Option<F>, Pumped) {
        (self.ring.take().map(Ring::into_page), self.fail(why))
    }

    /// Replies to nothing.
    pub(super) fn strays(&self) -> u32 {
        self.strays
    }

    /// Makes a message of a request, which the next pumps will send, and returns the number of its call.
    ///
    /// The last message was [written](Pumped::written), and one of the calls is free.
    pub(super) fn begin(&mut self, kind: MessageType, tx: u32, parts: &[&[u8]]) -> Result<usize, StoreError> {
        self.is_up?;
        let free = self.calls.iter_mut().enumerate().find(|(_, call)| call.state == CallState::Free);
        let (number, call) = free.ok_or(StoreError::Disconnected)?;
        let length = parts.iter().map(|part| part.len()).sum();
        let (header, mut payload) = self.outgoing.bytes.split_at_mut(HEADER);
        for part in parts {
            let (room, rest) = payload.split_at_mut_checked(part.len()).ok_or(StoreError::TooLong(length))?;
            room.copy_from_slice(part);
            payload = rest;
        }
        let len = u32::try_from(length).map_err(|_| StoreError::TooLong(length))?;
        self.id = self.id.wrapping_add(1);
        header.copy_from_slice(Header { r#type: kind as u32, req_id: self.id, tx_id: tx, len }.as_bytes());
        self.outgoing.length = HEADER.saturating_add(length);
        self.outgoing.sent = 0;
        (call.state, call.id, call.kind) = (CallState::Waiting, self.id, kind);
        Ok(number)
    }

    /// A call's reply, if it is there. It stays until the call is [abandoned](Self::abandon).
    pub(super) fn reply(&self, number: usize) -> Option<Result<&[u8], StoreError>> {
        let call = self.calls.get(number)?;
        let CallState::Answered(outcome) = call.state else { return None };
        Some(outcome.map(|()| call.payload.get(..call.length).unwrap_or(&[])))
    }

    /// Nobody is interested in a call any more; whether it is free now.
    pub(super) fn abandon(&mut self, number: usize) -> bool {
        let Some(call) = self.calls.get_mut(number) else { return false };
        call.state = match call.state {
            CallState::Waiting | CallState::Abandoned => CallState::Abandoned,
            CallState::Answered(_) | CallState::Free => CallState::Free,
        };
        call.state == CallState::Free
    }

    /// Moves bytes, both ways, as far as that goes.
    pub(super) fn pump(&mut self) -> Pumped {
        let mut pumped = Pumped::default();
        if self.is_up.is_err() {
            return pumped;
        }
        for _ in 0..ROUNDS {
            match self.round(&mut pumped) {
                Ok(true) => pumped.moved = true,
                Ok(false) => return pumped,
                Err(violation) => return pumped.and(self.fail(StoreError::Violation(violation))),
            }
        }
        pumped.again = true;
        pumped
    }

    /// Writes what there is room for and reads what there is; whether that was anything.
    fn round(&mut self, pumped: &mut Pumped) -> Result<bool, Violation> {
        let Some(ring) = &mut self.ring else { return Ok(false) };
        let unsent = self.outgoing.bytes.get(self.outgoing.sent..self.outgoing.length).unwrap_or(&[]);
        let sent = ring.send(unsent)?;
        self.outgoing.sent = self.outgoing.sent.saturating_add(sent);
        if sent > 0 && self.outgoing.sent == self.outgoing.length {
            pumped.written = true;
        }
        let received = ring.receive(self.incoming.room()?)?;
        self.incoming.got = self.incoming.got.saturating_add(received);
        if let Some((header, payload)) = self.incoming.message()? {
            match self.calls.iter_mut().enumerate().find(|(_, call)| call.awaits(&header)) {
                Some((number, call)) => pumped.note(number, call.reply(&header, payload)),
                None => self.strays = self.strays.saturating_add(1),
            }
            self.incoming.got = 0;
        }
        Ok(sent > 0 || received > 0)
    }

    /// Nothing more will be read or written: all calls end.
    fn fail(&mut self, why: StoreError) -> Pumped {
        self.is_up = Err(why);
        let mut pumped = Pumped { written: self.outgoing.sent < self.outgoing.length, ..Pumped::default() };
        self.outgoing.length = 0;
        for (number, call) in self.calls.iter_mut().enumerate() {
            if matches!(call.state, CallState::Waiting | CallState::Abandoned) {
                pumped.note(number, call.end(Err(why)));
            }
        }
        pumped
    }
}

impl Incoming {
    /// Where the next bytes of this message go. A message without a payload is done with its header, so that there is always room.
    fn room(&mut self) -> Result<&mut [u8], Violation> {
        match self.got.checked_sub(HEADER) {
            None => Ok(self.header.get_mut(self.got..).unwrap_or(&mut [])),
            Some(got) => {
                let length = self.length()?;
                Ok(self.payload.get_mut(got..length).unwrap_or(&mut []))
            }
        }
    }

    /// The length that the header announces.
    fn length(&self) -> Result<usize, Violation> {
        let announced = self.header().len;
        if announced > XENSTORE_PAYLOAD_MAX {
            Err(Violation::Length(announced))
        } else {
            Ok(announced as usize)
        }
    }

    fn header(&self) -> Header {
        zerocopy::transmute!(self.header)
    }

    /// The message, once it is whole.
    fn message(&self) -> Result<Option<(Header, &[u8])>, Violation> {
        let Some(got) = self.got.checked_sub(HEADER) else { return Ok(None) };
        let length = self.length()?;
        Ok(self.payload.get(..length).filter(|_| got == length).map(|payload| (self.header(), payload)))
    }
}

impl Call {
    const FREE: Self =
        Self { state: CallState::Free, id: 0, kind: MessageType::Read, payload: [0; PAYLOAD], length: 0 };

    /// Whether this is the reply.
    fn awaits(&self, header: &Header) -> bool {
        matches!(self.state, CallState::Waiting | CallState::Abandoned) && self.id == header.req_id
    }

    /// Takes the reply, whatever it is.
    fn reply(&mut self, header: &Header, payload: &[u8]) -> Ended {
        let outcome = match MessageType::try_from(header.r#type) {
            Ok(MessageType::Error) => {
                Err(XsError::try_from(payload).map_or(StoreError::Unknown, StoreError::Refused))
            }
            Ok(kind) if kind == self.kind => Ok(()),
            _ => Err(StoreError::Type { asked: self.kind, answered: header.r#type }),
        };
        if let Some(room) = self.payload.get_mut(..payload.len()) {
            room.copy_from_slice(payload);
            self.length = payload.len();
        }
        self.end(outcome)
    }

    fn end(&mut self, outcome: Result<(), StoreError>) -> Ended {
        if self.state == CallState::Abandoned {
            self.state = CallState::Free;
            Ended::Freed
        } else {
            self.state = CallState::Answered(outcome);
            Ended::Answered
        }
    }
}

/// What the end of a call means to others.
#[derive(Clone, Copy)]
enum Ended {
    /// Somebody waits for it.
    Answered,
    /// Nobody does: it can be used again.
    Freed,
}

impl Pumped {
    fn note(&mut self, number: usize, ended: Ended) {
        let bit = 1 << (number % 32);
        match ended {
            Ended::Answered => self.answered |= bit,
            Ended::Freed => self.freed |= bit,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            moved: self.moved || other.moved,
            written: self.written || other.written,
            answered: self.answered | other.answered,
            freed: self.freed | other.freed,
            again: self.again || other.again,
        }
    }
}
