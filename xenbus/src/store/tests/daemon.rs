//! The two ends of a page: a client's link, and xenstored's, which tests play byte by byte.
#![forbid(unsafe_code)]

use core::ops::Deref;
use std::vec::Vec;

use xen_abi::{
    io::xs_wire::{
        CONNECTION, ERROR, Header, MessageType, REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD,
        SERVER_FEATURES, XENSTORE_RING_SIZE,
    },
    seam::{Access, Mapped},
};
use xen_harness::page::page;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    super::{
        error::StoreError,
        framing::Framing,
        link::{Link, NotBegun, Pumped, Tx},
        request::Request,
    },
    freeze,
};

/// A page that both ends have.
pub(super) struct Shared(pub(super) &'static Mapped);

impl Deref for Shared {
    type Target = Mapped;

    fn deref(&self) -> &Mapped {
        freeze::step();
        self.0
    }
}

/// Xenstored's end of a page: what a test does with it.
pub(super) struct Daemon {
    pub(super) page: &'static Mapped,
    /// Bytes of requests that were taken.
    pub(super) taken: Vec<u8>,
}

/// The client's end: a link and its framing.
pub(super) struct Client {
    pub(super) link: Link<Shared, 4>,
    pub(super) framing: Framing,
}

/// A page whose indices begin here.
pub(super) fn page_at(first: u32) -> &'static Mapped {
    let page = page();
    for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        page.store(index, first);
    }
    for word in [SERVER_FEATURES, CONNECTION, ERROR] {
        page.store(word, 0);
    }
    page
}

/// A connection over such a page, and the other end of it.
pub(super) fn connected(first: u32) -> (Client, Daemon) {
    let page = page_at(first);
    let mut client = Client { link: Link::new(), framing: Framing::new() };
    client.link.connect(&client.framing, Shared(page), None);
    (client, Daemon { page, taken: Vec::new() })
}

impl Client {
    pub(super) fn pump(&mut self) -> Pumped {
        self.link.pump(&self.framing, |_| false)
    }

    pub(super) fn begin(&mut self, request: &Request<'_>) -> Result<usize, NotBegun> {
        self.link.begin(&self.framing, request, Tx::NONE)
    }

    pub(super) fn read(&mut self, path: &str) -> usize {
        self.begin(&Request::plain(MessageType::Read, path)).expect("there is room")
    }

    /// Pumps until the message is out, taking `most` bytes at a time, and returns it.
    pub(super) fn sent(&mut self, daemon: &mut Daemon, most: u32) -> (Header, Vec<u8>) {
        for _ in 0..10_000 {
            let _ = self.pump();
            daemon.take(most);
            if let Some(request) = daemon.request() {
                return request;
            }
        }
        panic!("the request does not come out");
    }

    /// The answer to a call, if it is there.
    pub(super) fn answer(&mut self, call: usize) -> Option<Result<Vec<u8>, StoreError>> {
        self.link.take(call).map(|reply| reply.map(|reply| reply.payload.to_vec()))
    }
}

impl Daemon {
    /// Takes up to so many bytes.
    pub(super) fn take(&mut self, most: u32) {
        let (mut consumed, produced) = (self.page.load(REQ_CONS), self.page.load(REQ_PROD));
        for _ in 0..most.min(produced.wrapping_sub(consumed)) {
            self.taken.push(self.page.load(REQ.get((consumed % XENSTORE_RING_SIZE) as usize).unwrap()));
            consumed = consumed.wrapping_add(1);
        }
        self.page.store(REQ_CONS, consumed);
    }

    /// Gives as many of these bytes as there is room for, up to `most`, and says how many.
    pub(super) fn give(&mut self, bytes: &[u8], most: u32) -> usize {
        let (consumed, mut produced) = (self.page.load(RSP_CONS), self.page.load(RSP_PROD));
        let room = XENSTORE_RING_SIZE - produced.wrapping_sub(consumed);
        let given = bytes.len().min(room.min(most) as usize);
        for byte in &bytes[..given] {
            self.page.store(RSP.get((produced % XENSTORE_RING_SIZE) as usize).unwrap(), *byte);
            produced = produced.wrapping_add(1);
        }
        self.page.store(RSP_PROD, produced);
        given
    }

    /// The next whole request, if it is there.
    pub(super) fn request(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, rest) = Header::read_from_prefix(&self.taken).ok()?;
        let payload = rest.get(..header.len as usize)?.to_vec();
        self.taken.drain(..size_of::<Header>() + payload.len());
        Some((header, payload))
    }
}

pub(super) fn message(kind: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [Header { r#type: kind, req_id, tx_id: 0, len }.as_bytes(), payload].concat()
}
