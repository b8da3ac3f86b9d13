//! A guest, as far as it is its ring: what it writes, and what it makes of what it gets.
//!
//! Written from `docs/misc/xenstore-ring.txt` and `xenstore.txt`, and not from the daemon's side of it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use xen_abi::{
    io::xs_wire::{
        CONNECTION, ERROR, Header, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES,
        XENSTORE_PAYLOAD_MAX, XENSTORE_RING_SIZE, XsError,
    },
    seam::Place,
};
use xen_sim::xenstored::RingPage;
use zerocopy::{FromBytes, IntoBytes};

/// A page of a guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page(Vec<u8>);

impl RingPage for Page {
    fn load_u32(&self, place: Place<u32>) -> u32 {
        u32::read_from_prefix(&self.0[place.offset()..]).expect("in the page").0
    }

    fn store_u32(&mut self, place: Place<u32>, value: u32) {
        self.0[place.offset()..][..4].copy_from_slice(value.as_bytes());
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0[offset..][..into.len()]);
    }

    fn write_bytes(&mut self, offset: usize, from: &[u8]) {
        self.0[offset..][..from.len()].copy_from_slice(from);
    }
}

/// A guest's side.
pub(super) struct Guest {
    pub(super) page: Page,
    /// It has kept to the rules of the ring, and the daemon was not made to break them.
    pub(super) is_honest: bool,
    /// What is to be written when there is room.
    unsent: VecDeque<u8>,
    /// What it has sent of a message that is not complete.
    half: Vec<u8>,
    /// The headers of requests that wait for a reply.
    expected: VecDeque<Header>,
    /// It has announced a longer message than there may be.
    has_said_too_much: bool,
    received: Vec<u8>,
    last_request: u32,
}

impl Guest {
    pub(super) fn new() -> Self {
        Self {
            page: Page(vec![0; 4096]),
            is_honest: true,
            unsent: VecDeque::new(),
            half: Vec::new(),
            expected: VecDeque::new(),
            has_said_too_much: false,
            received: Vec::new(),
            last_request: 0,
        }
    }

    /// It was introduced.
    pub(super) fn begin_anew(&mut self) {
        let page = self.page.clone();
        *self = Self { page, last_request: self.last_request, ..Self::new() };
    }

    /// Requests that wait for a reply.
    pub(super) fn waits_for(&self) -> usize {
        self.expected.len()
    }

    pub(super) const fn has_said_too_much(&self) -> bool {
        self.has_said_too_much
    }

    pub(super) fn request(&mut self, r#type: u32, tx_id: u32, payload: &[u8]) {
        self.last_request += 1;
        let len = u32::try_from(payload.len()).expect("short");
        let header = Header { r#type, req_id: self.last_request, tx_id, len };
        self.send(&[header.as_bytes(), payload].concat());
    }

    /// Sends bytes, which need be no message.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.half.extend(bytes);
        while let Ok((header, rest)) = Header::read_from_prefix(&self.half) {
            if header.len > XENSTORE_PAYLOAD_MAX {
                self.has_said_too_much = true;
                break;
            }
            if rest.len() < header.len as usize {
                break;
            }
            self.expected.push_back(header);
            self.half.drain(..size_of::<Header>() + header.len as usize);
        }
        self.flush();
    }

    /// Writes what there is room for.
    pub(super) fn flush(&mut self) {
        let mut producer = self.page.load_u32(REQ_PROD);
        while producer.wrapping_sub(self.page.load_u32(REQ_CONS)) < XENSTORE_RING_SIZE {
            let Some(byte) = self.unsent.pop_front() else { break };
            self.page.write_bytes((producer % XENSTORE_RING_SIZE) as usize, &[byte]);
            producer = producer.wrapping_add(1);
        }
        self.page.store_u32(REQ_PROD, producer);
    }

    /// Writes a word that it must not write, or not so.
    pub(super) fn scribble(&mut self, word: u8, value: u32) {
        let words = [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES, CONNECTION, ERROR];
        self.page.store_u32(words[usize::from(word) % words.len()], value);
        self.is_honest = false;
    }

    /// Takes what there is, and looks at it. Whether there was anything.
    pub(super) fn take(&mut self) -> bool {
        let (mut consumer, producer) = (self.page.load_u32(RSP_CONS), self.page.load_u32(RSP_PROD));
        let available = producer.wrapping_sub(consumer);
        if !self.is_honest {
            self.page.store_u32(RSP_CONS, producer);
            return available != 0;
        }
        assert!(available <= XENSTORE_RING_SIZE, "indices {consumer:#x}, {producer:#x}");
        while consumer != producer {
            let mut byte = [0];
            self.page.read_bytes(1024 + (consumer % XENSTORE_RING_SIZE) as usize, &mut byte);
            self.received.extend(byte);
            consumer = consumer.wrapping_add(1);
        }
        self.page.store_u32(RSP_CONS, consumer);
        while let Ok((header, rest)) = Header::read_from_prefix(&self.received) {
            assert!(header.len <= XENSTORE_PAYLOAD_MAX, "{header:?}");
            let Some(payload) = rest.get(..header.len as usize) else { break };
            let payload = payload.to_vec();
            self.received.drain(..size_of::<Header>() + payload.len());
            self.judge(header, &payload);
        }
        available != 0
    }

    /// A message is an event, or the reply to the oldest request.
    fn judge(&mut self, header: Header, payload: &[u8]) {
        if header.r#type == MessageType::WatchEvent as u32 {
            assert_eq!((header.req_id, header.tx_id), (0, 0), "an event is no reply");
            let parts: Vec<&[u8]> = payload.split(|&byte| byte == 0).collect();
            assert!(matches!(parts[..], [[_, ..], _, []]), "{payload:?} is not a path and a token");
            return;
        }
        let request = self.expected.pop_front().expect("it has asked for something");
        assert_eq!((header.req_id, header.tx_id), (request.req_id, request.tx_id), "in their order");
        if header.r#type == MessageType::Error as u32 {
            assert!(payload.ends_with(&[0]) && XsError::try_from(payload).is_ok(), "{payload:?}");
        } else {
            assert_eq!(header.r#type, request.r#type);
        }
    }
}
