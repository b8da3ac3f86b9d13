//! What can go wrong on purpose: between a domain and the daemon, and in the daemon.
//!
//! The faults of a domain wait for its next requests, one for each, in the order in which they were asked for; when its
//! connection begins anew, they are gone. All of this does exactly what it says, at the moment that it says.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{Header, MessageType, XsError};

use super::{
    Refusal, Xenstored,
    connection::ConnectionId,
    outgoing::{Kind, Message},
    request::Answer,
    rules::INJECTED,
};

/// What happens to a request or its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and this is the answer.
    Refuse(XsError),
    /// It is not done, and the reply says that it was, with this payload.
    Pretend(Vec<u8>),
    /// It is done, and the reply has this payload.
    Payload(Vec<u8>),
    /// It is done, and the reply ends after so many bytes of the payload, as its header says.
    Truncate(usize),
    /// It is done, and the reply's header has this length, whatever follows.
    Length(u32),
    /// It is done, and the reply is to another request.
    RequestId(u32),
    /// It is done, and the reply is of another transaction.
    TransactionId(u32),
    /// It is done, and the reply is of this type.
    Type(u32),
    /// It is done, and there is no reply.
    Swallow,
    /// It is done once, and there are two replies.
    Repeat,
}

impl Fault {
    /// The answer to a request that is not done.
    pub(super) fn instead(&self) -> Option<Result<Answer, Refusal>> {
        match self {
            Self::Refuse(error) => Some(Err(INJECTED.answers(*error))),
            Self::Pretend(payload) => Some(Ok(payload.clone().into())),
            _ => None,
        }
    }

    /// The messages that there are instead of one.
    pub(super) fn distort(&self, mut header: Header, mut payload: Vec<u8>, kind: Kind) -> Vec<Message> {
        match self {
            Self::Refuse(_) | Self::Pretend(_) | Self::Length(_) => {}
            Self::Payload(other) => payload.clone_from(other),
            Self::Truncate(length) => payload.truncate(*length),
            Self::RequestId(other) => header.req_id = *other,
            Self::TransactionId(other) => header.tx_id = *other,
            Self::Type(other) => header.r#type = *other,
            Self::Swallow => return Vec::new(),
            Self::Repeat => {
                let again = Message::new(header, &payload, Kind::Stray);
                return vec![Message::new(header, &payload, kind), again];
            }
        }
        header.len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if let Self::Length(other) = self {
            header.len = *other;
        }
        vec![Message::new(header, &payload, kind)]
    }
}

/// The faults of a domain's connection. None of them does anything to a domain that is not connected; they say
/// whether it is.
impl Xenstored {
    /// What is to happen to a later request: the next that has no fault yet.
    pub fn fault(&mut self, domid: u16, fault: Fault) -> bool {
        self.link_of(domid, |link| link.faults.push_back(fault))
    }

    /// Nothing is taken from the ring any longer, until this is called with `false`: requests pile up.
    pub fn stop_taking(&mut self, domid: u16, stop: bool) -> bool {
        self.link_of(domid, |link| link.takes_nothing = stop)
    }

    /// Nothing is written to the ring any longer, until this is called with `false`: replies and events pile up.
    pub fn stop_giving(&mut self, domid: u16, stop: bool) -> bool {
        self.link_of(domid, |link| link.gives_nothing = stop)
    }

    /// The connection ends at its next step, with this number in the page: one of `XENSTORE_ERROR_*`, or none that a guest knows.
    pub fn kill(&mut self, domid: u16, error: u32) -> bool {
        self.link_of(domid, |link| link.killed_by = Some(error))
    }

    /// An event for one of the domain's watches that nothing has caused, which is always allowed: "Watches may be triggered
    /// spuriously". `which` counts its watches; if there are less, it begins again with the first.
    pub fn fire_for_nothing(&mut self, domid: u16, which: usize) -> bool {
        let Some(id) = self.connection_of(domid) else { return false };
        let watches = &self.connections[&id].watches;
        if watches.is_empty() {
            return false;
        }
        let event = watches[which % watches.len()].named();
        self.send_event(id, &event, None);
        true
    }

    /// A message that nobody asked for: an event of no watch, a reply to no request, or whatever these bytes are.
    pub fn send_stray(&mut self, domid: u16, header: Header, payload: &[u8]) -> bool {
        let message = Message::new(header, payload, Kind::Stray);
        let Some(id) = self.connection_of(domid) else { return false };
        self.queue(id, message)
    }

    /// An event of a watch that the domain does not have.
    pub fn send_stray_event(&mut self, domid: u16, path: &str, token: &[u8]) -> bool {
        let payload = super::message::payload([path.as_bytes(), token]);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Header { r#type: MessageType::WatchEvent as u32, req_id: 0, tx_id: 0, len };
        self.send_stray(domid, header, &payload)
    }

    fn queue(&mut self, id: ConnectionId, message: Message) -> bool {
        match self.connections.get_mut(&id) {
            Some(connection) if connection.is_alive() => {
                connection.outgoing.push(message);
                true
            }
            _ => false,
        }
    }
}
