//! What waits to be sent.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, time::Duration};

use xen_abi::io::xs_wire::{Header, MessageType};
use zerocopy::IntoBytes;

use super::{message, watch::Event};

/// A reply or an event on its way.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    pub(super) kind: Kind,
}

/// What a message is, to who waits for it to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The answer to a request of this number.
    Reply(u64),
    /// An event, the request that caused it, and when nobody waits for it any longer.
    Event { cause: Option<u64>, deadline: Option<Duration> },
    /// What a fault plan made up.
    Stray,
}

impl Message {
    pub(super) fn new(header: Header, payload: &[u8], kind: Kind) -> Self {
        Self { bytes: [header.as_bytes(), payload].concat(), kind }
    }

    pub(super) fn event(event: &Event, cause: Option<u64>, deadline: Option<Duration>) -> Self {
        let payload = message::payload([event.path.as_bytes(), &event.token]);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Header { r#type: MessageType::WatchEvent as u32, req_id: 0, tx_id: 0, len };
        Self::new(header, &payload, Kind::Event { cause, deadline })
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[size_of::<Header>()..]
    }

    /// What it says, if it is an event.
    pub(super) fn as_event(&self) -> Option<Event> {
        let Kind::Event { .. } = self.kind else { return None };
        let [path, token] = message::exactly(self.payload()).ok()?;
        Some(Event { path: str::from_utf8(path).ok()?.to_owned(), token: token.to_vec() })
    }
}

/// Messages in the order in which they are sent, of which the first may be half way.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Message>,
    /// Bytes of the first that are sent.
    sent: usize,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        self.sent = 0;
        Some(message)
    }

    /// What comes next.
    pub(super) fn rest(&self) -> &[u8] {
        self.messages.front().map_or(&[], |message| &message.bytes[self.sent..])
    }

    /// So many bytes of it are sent. The message, if that was all of it.
    pub(super) fn advance(&mut self, bytes: usize) -> Option<Message> {
        self.sent += bytes;
        if self.rest().is_empty() { self.pop() } else { None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    /// The memory that the daemon needs for them.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether such an event waits already.
    pub(super) fn has_event(&self, event: &Message) -> bool {
        self.messages.iter().any(|message| message.bytes == event.bytes)
    }

    /// When the next event is given up.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.unsent().filter_map(Message::deadline).min()
    }

    /// Takes the events out that nobody waits for any longer. One that is half way stays: the other side has to see its end.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Message> {
        let is_late = |message: &Message| message.deadline().is_some_and(|deadline| deadline <= now);
        let first = usize::from(self.sent != 0);
        let mut expired = Vec::new();
        for index in (first..self.messages.len()).rev() {
            if is_late(&self.messages[index]) {
                expired.extend(self.messages.remove(index));
            }
        }
        self.bytes -= expired.iter().map(Message::len).sum::<usize>();
        expired
    }

    fn unsent(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().skip(usize::from(self.sent != 0))
    }
}

impl Message {
    const fn deadline(&self) -> Option<Duration> {
        match self.kind {
            Kind::Event { deadline, .. } => deadline,
            Kind::Reply(_) | Kind::Stray => None,
        }
    }
}
