//! A connection, and the way of a message through it.
//!
//! ```text
//!   ring ─ take ─▶ header ─▶ payload ─▶ request ─▶ reply ┐
//!    ▲                                                   ▼
//!    └──────── give ◀──────────────── outgoing ◀─── events of others
//! ```
//!
//! A domain is not listened to while too many of its requests are outstanding: their replies are not taken, or an
//! event that they have caused has not been taken by whom it is for. So nothing is lost, and nothing grows without
//! end.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use xen_abi::io::xs_wire::{
    CONNECTION, ERROR, Header, MessageType, XENSTORE_CONNECTED, XENSTORE_ERROR_PROTO, XENSTORE_ERROR_RINGIDX,
    XENSTORE_PAYLOAD_MAX, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE_RECONNECTION, XsError,
};
use zerocopy::FromBytes;

use super::{
    CONTROL, Xenstored,
    fault::Fault,
    message,
    outgoing::{Kind, Message, Outgoing},
    path::{Path, Special},
    permission::Caller,
    quota::{Quota, Quotas},
    ring::{self, RingPage},
    rules::{INJECTED, PAYLOAD_LIMIT, QUOTA_MEMORY, REPLY_LIMIT, RING_INDICES, Refusal},
    trace::Record,
    transaction::Transaction,
    watch::Watch,
};
use crate::rule::Rule;

/// Connections are numbered as they come, and events go out in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId(pub(super) u32);

/// Who is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A program of dom0's: the toolstack, a backend.
    Tools,
    /// A domain, by its ring.
    Domain(u16),
}

impl Who {
    /// The domain, if it is one.
    #[must_use]
    pub const fn domid(self) -> Option<u16> {
        match self {
            Self::Tools => None,
            Self::Domain(domid) => Some(domid),
        }
    }

    pub(super) fn home(self) -> String {
        Path::home(self.domid().unwrap_or(CONTROL))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tools => f.write_str("dom0"),
            Self::Domain(domid) => write!(f, "domain {domid}"),
        }
    }
}

/// Who makes a request, and in which transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    pub(super) connection: ConnectionId,
    /// None, if it is dom0.
    pub(super) domid: Option<u16>,
    /// Zero is none.
    pub(super) transaction: u32,
    /// What is outstanding until all events that it causes are taken. Dom0's requests do not count.
    pub(super) request: Option<u64>,
}

impl By {
    /// The same, in no transaction.
    pub(super) const fn outside(self) -> Self {
        Self { transaction: 0, ..self }
    }
}

/// One side of a conversation with the daemon.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) who: Who,
    /// Whose nodes are as good as its own.
    pub(super) target: Option<u16>,
    pub(super) watches: Vec<Watch>,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    pub(super) last_transaction: u32,
    pub(super) outgoing: Outgoing,
    pub(super) link: Link,
}

/// What a connection by a ring has besides.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// What has come of the next request.
    incoming: Vec<u8>,
    /// It was ended for an error, and is deaf and dumb until the domain is released.
    is_dead: bool,
    pub(super) faults: VecDeque<Fault>,
    pub(super) takes_nothing: bool,
    pub(super) gives_nothing: bool,
    pub(super) killed_by: Option<u32>,
}

/// A request of which not everything is done: its reply, or events that it has caused, wait to be taken.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) domid: u16,
    has_reply: bool,
    events: u32,
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the domain waits for its event channel"]
pub struct Step {
    /// The domain's event channel must be signalled.
    pub signal: bool,
    /// Something was done, and there may be more to do: step again.
    pub again: bool,
}

impl Step {
    const IDLE: Self = Self { signal: false, again: false };
    const DONE: Self = Self { signal: true, again: true };

    const fn and(self, other: Self) -> Self {
        Self { signal: self.signal || other.signal, again: self.again || other.again }
    }
}

impl Link {
    /// Bytes of a request that is not complete.
    pub(super) const fn received(&self) -> usize {
        self.incoming.len()
    }
}

impl Outstanding {
    /// Replies and events that are not taken.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.has_reply.into(), self.events)
    }
}

impl Connection {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            target: None,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            outgoing: Outgoing::default(),
            link: Link::default(),
        }
    }

    pub(super) fn caller(&self) -> Caller {
        self.who.domid().map_or(Caller::Control, |domid| Caller::Guest { domid, target: self.target })
    }

    pub(super) const fn is_alive(&self) -> bool {
        !self.link.is_dead
    }

    /// The daemon's memory that it uses, without its nodes.
    pub(super) fn bytes(&self) -> usize {
        let watches: usize = self.watches.iter().map(Watch::bytes).sum();
        let transactions: usize = self.transactions.values().map(Transaction::bytes).sum();
        watches + transactions + self.outgoing.bytes()
    }
}

impl Xenstored {
    /// Does the next thing for a domain: takes some bytes that it has written, and writes some for it.
    ///
    /// A step is bounded, whatever is in the page. Whatever one domain does may be what another waits for: when anything has
    /// happened, all are stepped, round after round, until none says [`again`](Step::again).
    pub fn step(&mut self, domid: u16, page: &mut impl RingPage) -> Step {
        let Some(id) = self.connection_of(domid) else { return Step::IDLE };
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.is_alive())
        else {
            return Step::IDLE;
        };
        if let Some(error) = connection.link.killed_by.take() {
            return self.end(id, page, error, INJECTED);
        }
        let can_reconnect = self.domains[&domid].offered & XENSTORE_SERVER_FEATURE_RECONNECTION != 0;
        if can_reconnect && page.load_u32(CONNECTION) == XENSTORE_RECONNECT {
            self.reset(id, page);
            return Step::DONE;
        }
        let input =
            if self.may_take(id) && ring::has_input(page) { self.take_input(id, page) } else { Step::IDLE };
        let Some(connection) = self.connections.get(&id).filter(|connection| connection.is_alive()) else {
            return input;
        };
        let may_give = !connection.link.gives_nothing && !connection.outgoing.is_empty();
        if may_give && ring::has_room(page) { input.and(self.give_output(id, page)) } else { input }
    }

    /// Whether something waits for a domain. It may be that there is no room for it.
    #[must_use]
    pub fn has_output(&self, domid: u16) -> bool {
        let connection = self.connection_of(domid).map(|id| &self.connections[&id]);
        connection
            .is_some_and(|connection| !connection.outgoing.is_empty() || connection.link.killed_by.is_some())
    }

    /// Whether the daemon listens to a domain just now.
    fn may_take(&self, id: ConnectionId) -> bool {
        let Some(quotas) = self.quotas_of_connection(id) else { return true };
        let connection = &self.connections[&id];
        let outstanding = connection.who.domid().map_or(0, |domid| self.outstanding_of(domid));
        !connection.link.takes_nothing
            && !quotas.is_reached(Quota::Outstanding, outstanding)
            && !quotas.is_reached(Quota::Memory, self.memory_of(id))
    }

    /// Takes the next bytes of a header or of a payload. The last of them makes a request.
    fn take_input(&mut self, id: ConnectionId, page: &mut impl RingPage) -> Step {
        let Some(connection) = self.connections.get_mut(&id) else { return Step::IDLE };
        let incoming = &mut connection.link.incoming;
        let missing = match Header::read_from_prefix(incoming) {
            Ok((header, payload)) => header.len as usize - payload.len(),
            Err(_) => size_of::<Header>() - incoming.len(),
        };
        let Ok(bytes) = ring::take(page, missing) else {
            return self.end(id, page, XENSTORE_ERROR_RINGIDX, RING_INDICES);
        };
        incoming.extend_from_slice(&bytes);
        if let Ok((header, payload)) = Header::read_from_prefix(incoming) {
            if header.len > XENSTORE_PAYLOAD_MAX {
                return self.end(id, page, XENSTORE_ERROR_PROTO, PAYLOAD_LIMIT);
            }
            if payload.len() == header.len as usize {
                let payload = payload.to_vec();
                incoming.clear();
                self.process(id, header, &payload);
            }
        }
        Step::DONE
    }

    /// Writes the next bytes for a domain.
    fn give_output(&mut self, id: ConnectionId, page: &mut impl RingPage) -> Step {
        let Some(connection) = self.connections.get_mut(&id) else { return Step::IDLE };
        match ring::give(page, connection.outgoing.rest()) {
            Err(ring::Inconsistent) => self.end(id, page, XENSTORE_ERROR_RINGIDX, RING_INDICES),
            Ok(bytes) => {
                if let Some(message) = connection.outgoing.advance(bytes) {
                    self.gone(message.kind);
                }
                Step::DONE
            }
        }
    }

    /// Answers a request.
    fn process(&mut self, id: ConnectionId, header: Header, payload: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let who = connection.who;
        let fault = connection.link.faults.pop_front();
        self.last_request += 1;
        let request = self.last_request;
        let domid = who.domid().unwrap_or(CONTROL);
        self.outstanding.insert(request, Outstanding { domid, has_reply: false, events: 0 });

        let by = By { connection: id, domid: who.domid(), transaction: header.tx_id, request: Some(request) };
        let instead = fault.as_ref().and_then(Fault::instead);
        let answer = instead.unwrap_or_else(|| self.answer(by, header, payload));
        let (then, answer) = match answer {
            Ok(answer) => (answer.then, self.fits(id, answer.payload)),
            Err(refusal) => (None, Err(refusal)),
        };
        let result = answer.as_ref().map(drop).map_err(|&refusal| refusal);
        self.record(|| Record::Request {
            from: who,
            r#type: header.r#type,
            transaction: header.tx_id,
            subject: message::first(payload),
            result,
        });
        self.reply(id, header, answer, fault.as_ref(), request);
        if let Some(event) = then {
            self.send_event(id, &event, None);
        }
    }

    /// Whether a reply can be sent.
    fn fits(&self, id: ConnectionId, payload: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        // The daemon has room for the shortest replies, errors among them, in the request itself.
        const SHORT: usize = 16;
        let memory = self.memory_of(id) + size_of::<Header>() + payload.len();
        if payload.len() > XENSTORE_PAYLOAD_MAX as usize {
            Err(REPLY_LIMIT.answers(XsError::E2BIG))
        } else if payload.len() > SHORT
            && self.quotas_of_connection(id).is_some_and(|quotas| quotas.is_reached(Quota::Memory, memory))
        {
            Err(QUOTA_MEMORY.answers(XsError::ENOMEM))
        } else {
            Ok(payload)
        }
    }

    fn reply(
        &mut self,
        id: ConnectionId,
        request_header: Header,
        answer: Result<Vec<u8>, Refusal>,
        fault: Option<&Fault>,
        request: u64,
    ) {
        let (r#type, payload) = match answer {
            Ok(payload) => (request_header.r#type, payload),
            Err(refusal) => (MessageType::Error as u32, message::payload([refusal.error.name()])),
        };
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Header { r#type, len, ..request_header };
        let kind = Kind::Reply(request);
        let messages = match fault {
            None => vec![Message::new(header, &payload, kind)],
            Some(fault) => fault.distort(header, payload, kind),
        };
        if let Some(outstanding) = self.outstanding.get_mut(&request) {
            outstanding.has_reply = !messages.is_empty();
        }
        self.settle(request);
        if let Some(connection) = self.connections.get_mut(&id) {
            for message in messages {
                connection.outgoing.push(message);
            }
        }
    }
}

// What is outstanding.

impl Xenstored {
    pub(super) fn outstanding_of(&self, domid: u16) -> usize {
        self.outstanding.values().filter(|outstanding| outstanding.domid == domid).count()
    }

    /// A message is queued. If it is an event, the request that caused it waits until it is taken.
    pub(super) fn cause_event(&mut self, kind: Kind) {
        if let Kind::Event { cause: Some(request), .. } = kind
            && let Some(outstanding) = self.outstanding.get_mut(&request)
        {
            outstanding.events += 1;
        }
    }

    /// A message was taken, or never will be.
    pub(super) fn gone(&mut self, kind: Kind) {
        let request = match kind {
            Kind::Reply(request) | Kind::Event { cause: Some(request), .. } => request,
            Kind::Event { cause: None, .. } | Kind::Stray => return,
        };
        if let Some(outstanding) = self.outstanding.get_mut(&request) {
            match kind {
                Kind::Reply(_) => outstanding.has_reply = false,
                Kind::Event { .. } | Kind::Stray => outstanding.events -= 1,
            }
            self.settle(request);
        }
    }

    fn settle(&mut self, request: u64) {
        let is_done = |outstanding: &Outstanding| !outstanding.has_reply && outstanding.events == 0;
        if self.outstanding.get(&request).is_some_and(is_done) {
            self.outstanding.remove(&request);
        }
    }

    /// Guest time goes on: events that nobody has taken for long are given up.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
        let expired: Vec<Message> =
            self.connections.values_mut().flat_map(|connection| connection.outgoing.expire(now)).collect();
        for message in expired {
            self.gone(message.kind);
        }
    }

    /// When [`set_time`](Self::set_time) will next give an event up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.connections.values().filter_map(|connection| connection.outgoing.next_deadline()).min()
    }
}

// Beginnings and ends.

impl Xenstored {
    /// A connection and its ring are as if they were new. The page says so, and that the domain is connected.
    pub(super) fn reset(&mut self, id: ConnectionId, page: &mut impl RingPage) {
        self.forget_all(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.link = Link { is_dead: connection.link.is_dead, ..Link::default() };
        }
        ring::clear(page);
        page.store_u32(CONNECTION, XENSTORE_CONNECTED);
        if let Some(domid) = self.connections[&id].who.domid() {
            self.record(|| Record::Connected(domid));
        }
    }

    /// Ends a connection for an error: nothing is taken or given any longer, and the page says why.
    fn end(&mut self, id: ConnectionId, page: &mut impl RingPage, error: u32, rule: Rule) -> Step {
        self.forget_all(id);
        page.store_u32(ERROR, error);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.link.is_dead = true;
            if let Some(domid) = connection.who.domid() {
                self.record(|| Record::Ended { domid, error, rule });
            }
        }
        Step { signal: true, again: false }
    }

    /// Watches, transactions, what was half received, and what waits to be sent.
    pub(super) fn forget_all(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.watches.clear();
        connection.transactions.clear();
        connection.link.incoming.clear();
        while let Some(message) = self.connections.get_mut(&id).and_then(|c| c.outgoing.pop()) {
            self.gone(message.kind);
        }
    }

    /// A connection that is there: a client's, a domain's that makes a request.
    pub(super) fn connection(&mut self, by: By) -> &mut Connection {
        self.connections.get_mut(&by.connection).expect("who makes a request is connected")
    }

    pub(super) fn connection_of(&self, domid: u16) -> Option<ConnectionId> {
        self.domains.get(&domid)?.connection
    }

    pub(super) fn link_of(&mut self, domid: u16, change: impl FnOnce(&mut Link)) -> bool {
        let connection = self.connection_of(domid).and_then(|id| self.connections.get_mut(&id));
        connection.is_some_and(|connection| {
            change(&mut connection.link);
            connection.is_alive()
        })
    }
}

// What a request may use.

impl Xenstored {
    /// The path that a request names.
    pub(super) fn path(&mut self, by: By, path: &[u8], special: Special) -> Result<Path, Refusal> {
        let home = self.connection(by).who.home();
        Path::resolve(path, &home, special, self.quotas_of(by).as_ref())
    }

    /// A guest's quotas. Dom0 has none.
    pub(super) fn quotas_of(&self, by: By) -> Option<Quotas> {
        self.quotas_of_connection(by.connection)
    }

    pub(super) fn quotas_of_connection(&self, id: ConnectionId) -> Option<Quotas> {
        let domid = self.connections.get(&id)?.who.domid()?;
        self.domains.get(&domid).map(|domain| domain.quotas)
    }

    /// The daemon's memory that a domain uses.
    pub(super) fn memory_of(&self, id: ConnectionId) -> usize {
        let Some(connection) = self.connections.get(&id) else { return 0 };
        let owned = connection.who.domid().map_or(0, |domid| self.tree.owned_by(domid).bytes);
        owned + connection.bytes()
    }

    pub(super) fn is_offered(&mut self, by: By, feature: u32) -> bool {
        let offered = match self.connection(by).who.domid() {
            Some(domid) => self.domains.get(&domid).map_or(0, |domain| domain.offered),
            None => self.features.offered,
        };
        offered & feature != 0
    }
}
