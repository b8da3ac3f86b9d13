//! The other end of the ring: it does what it is told to, and notices what a client must not do.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use xen_abi::{
    hvm::params::HVM_PARAM_STORE_PFN,
    io::xs_wire::{
        CONNECTION, ERROR, Header, MessageType, REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD,
        SERVER_FEATURES, XENSTORE_PAYLOAD_MAX, XENSTORE_RECONNECT, XENSTORE_RING_SIZE,
    },
    seam::{Access, Gfn, Place, Places},
};
use xen_sim::{Guest, GuestFrame};
use xenbus::hypercall::hvm;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Met,
    action::{Action, Form},
    note,
};

/// The words of the page, as inputs number them.
const WORDS: [Place<u32>; 7] = [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES, CONNECTION, ERROR];

pub(super) struct Daemon {
    page: GuestFrame,
    /// Bytes of requests that were taken.
    taken: Vec<u8>,
    /// Requests that have no answer, and the first string of each.
    requests: VecDeque<(Header, Vec<u8>)>,
    /// The token of the last watch, and its path.
    watch: Option<(Vec<u8>, Vec<u8>)>,
    transaction: u32,
    /// Its indices are its own. If they are not, what it takes may be anything.
    is_honest: bool,
}

impl Daemon {
    pub(super) fn new(guest: &Guest) -> Self {
        let gfn = hvm::get_param(guest, HVM_PARAM_STORE_PFN).expect("there is a ring");
        Self {
            page: guest.physical(Gfn(gfn)),
            taken: Vec::new(),
            requests: VecDeque::new(),
            watch: None,
            transaction: 0,
            is_honest: true,
        }
    }

    /// An empty ring.
    pub(super) fn begin_anew(&mut self) {
        for word in WORDS {
            self.page.store(word, 0);
        }
        self.taken.clear();
        self.requests.clear();
        self.watch = None;
        self.is_honest = true;
    }

    pub(super) fn act(&mut self, action: Action, met: &Met) {
        match action {
            Action::Serve => _ = self.serve(),
            Action::Reply { which, form, payload } => {
                let payload: Vec<u8> = payload.iter().flat_map(super::Part::bytes).collect();
                let count = self.requests.len();
                let request = (count > 0).then(|| self.requests.remove(usize::from(which) % count)).flatten();
                let (header, _) = request.unwrap_or_default();
                self.reply(header, form, &payload);
            }
            Action::Event { path, is_right } => {
                let (token, watched) = self.watch.clone().unwrap_or_default();
                let path = if is_right { watched } else { path.bytes() };
                let payload = [&path[..], &[0][..], &token, &[0]].concat();
                self.reply(Header::default(), Form::Type(MessageType::WatchEvent as u32), &payload);
            }
            Action::Bytes(bytes) => {
                self.is_honest = false;
                self.give(&bytes);
            }
            Action::Word { word, value } => {
                self.is_honest = false;
                self.page.store(WORDS[usize::from(word) % WORDS.len()], value);
            }
            Action::Move { word, by } => {
                self.is_honest = false;
                let place = WORDS[usize::from(word) % 4];
                self.page.store(place, self.page.load(place).wrapping_add_signed(by.into()));
            }
            Action::Renew => {
                let asked = self.page.load(CONNECTION) == XENSTORE_RECONNECT;
                note(met, "a connection that is asked for anew", asked);
                if asked {
                    let features = self.page.load(SERVER_FEATURES);
                    self.begin_anew();
                    self.page.store(SERVER_FEATURES, features);
                    // It may have been this end that has asked.
                    self.is_honest = false;
                }
            }
            Action::Ask { .. }
            | Action::Drop { .. }
            | Action::Connect
            | Action::Disconnect
            | Action::Time { .. } => {}
        }
    }

    /// Takes what the client has written, and says whether that was anything. As long as the indices are right, it is
    /// whole requests.
    pub(super) fn listen(&mut self) -> bool {
        let (consumer, producer) = (self.page.load(REQ_CONS), self.page.load(REQ_PROD));
        let there = producer.wrapping_sub(consumer);
        if self.page.load(CONNECTION) == XENSTORE_RECONNECT || there > XENSTORE_RING_SIZE {
            assert!(!self.is_honest, "the client has written more than there is room for");
            return false;
        }
        let (start, until_end) = place(consumer);
        let mut bytes = vec![0; there as usize];
        let (head, tail) = bytes.split_at_mut((there as usize).min(until_end));
        self.page.read_bytes(first(REQ) + start, head).expect("it is in the ring");
        self.page.read_bytes(first(REQ), tail).expect("it is in the ring");
        self.taken.extend(bytes);
        self.page.store(REQ_CONS, producer);
        while let Ok((header, rest)) = Header::read_from_prefix(&self.taken) {
            if self.is_honest {
                let kind = MessageType::try_from(header.r#type);
                let is_request =
                    kind.is_ok_and(|kind| kind != MessageType::Error && kind != MessageType::WatchEvent);
                assert!(is_request && header.len <= XENSTORE_PAYLOAD_MAX, "{header:?} is no request");
            }
            let Some(payload) = rest.get(..header.len as usize).map(<[u8]>::to_vec) else { break };
            self.taken.drain(..size_of::<Header>() + payload.len());
            let mut strings = payload.split(|byte| *byte == 0);
            let first = strings.next().unwrap_or_default().to_vec();
            if header.r#type == MessageType::Watch as u32 {
                self.watch = Some((strings.next().unwrap_or_default().to_vec(), first.clone()));
            }
            self.requests.push_back((header, first));
        }
        there > 0
    }

    /// Answers the oldest request, if there is one, as a xenstored does that has everything.
    pub(super) fn serve(&mut self) -> bool {
        let Some((header, subject)) = self.requests.pop_front() else { return false };
        let answer = match MessageType::try_from(header.r#type) {
            Ok(MessageType::Read) if subject.starts_with(b"control/") => b"1".to_vec(),
            Ok(MessageType::Read) => b"12".to_vec(),
            Ok(MessageType::Directory) => b"a\0b\0".to_vec(),
            Ok(MessageType::GetPerms) => b"n0\0r1\0".to_vec(),
            Ok(MessageType::DirectoryPart) => b"5\0a\0b\0\0".to_vec(),
            Ok(MessageType::TransactionStart) => {
                self.transaction = self.transaction.wrapping_add(1).max(1);
                format!("{}\0", self.transaction).into_bytes()
            }
            _ => b"OK\0".to_vec(),
        };
        self.reply(header, Form::Right, &answer);
        if header.r#type == MessageType::Watch as u32
            && let Some((token, path)) = self.watch.clone()
        {
            let event = [&path[..], &[0][..], &token, &[0]].concat();
            self.reply(Header::default(), Form::Type(MessageType::WatchEvent as u32), &event);
        }
        true
    }

    fn reply(&mut self, mut header: Header, form: Form, payload: &[u8]) {
        header.len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        match form {
            Form::Right => {}
            Form::Type(other) => header.r#type = other,
            Form::Id(other) => header.req_id = other,
            Form::Transaction(other) => header.tx_id = other,
            Form::Length(other) => header.len = other,
        }
        self.give(header.as_bytes());
        self.give(payload);
    }

    /// Writes as much as there is room for: what does not fit is lost, and the client has to wait for it.
    fn give(&mut self, bytes: &[u8]) {
        let (consumer, producer) = (self.page.load(RSP_CONS), self.page.load(RSP_PROD));
        let room = XENSTORE_RING_SIZE.saturating_sub(producer.wrapping_sub(consumer));
        let given = &bytes[..bytes.len().min(room as usize)];
        let (start, until_end) = place(producer);
        let (head, tail) = given.split_at(given.len().min(until_end));
        self.page.write_bytes(first(RSP) + start, head).expect("it is in the ring");
        self.page.write_bytes(first(RSP), tail).expect("it is in the ring");
        self.page.store(RSP_PROD, producer.wrapping_add(u32::try_from(given.len()).expect("it is small")));
    }
}

/// Where in a ring the byte of an index is, and how many there are from there to the ring's end.
const fn place(index: u32) -> (usize, usize) {
    let start = (index % XENSTORE_RING_SIZE) as usize;
    (start, XENSTORE_RING_SIZE as usize - start)
}

/// Where in the page a ring begins.
fn first(ring: Places<u8>) -> usize {
    ring.get(0).map_or(0, Place::offset)
}
