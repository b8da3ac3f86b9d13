//! A guest's connection to xenstored, over the ring's bytes: written anew from `docs/misc/xenstore-ring.txt` and `xenstore.txt`.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use xen_abi::{
    hvm::params::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
    io::xs_wire::{
        Header, MessageType, REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD, XENSTORE_RING_SIZE, XsError,
    },
    seam::{Access as _, Gfn},
};
use xen_sim::GuestFrame;
use zerocopy::{FromBytes, IntoBytes};

use crate::kernel::{ENOUGH, Kernel};

/// What a guest has of its connection besides the page.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    gfn: u64,
    pub(crate) port: u32,
    unsent: VecDeque<u8>,
    received: Vec<u8>,
    messages: VecDeque<(Header, Vec<u8>)>,
    last_request: u32,
}

/// Why a request has no reply that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Refused(XsError),
    /// Nothing came, and nobody has anything to do.
    Silence,
}

impl Connection {
    /// As the parameters tell.
    pub(crate) fn find(kernel: &Kernel) -> Self {
        let gfn = kernel.param(HVM_PARAM_STORE_PFN);
        let port = u32::try_from(kernel.param(HVM_PARAM_STORE_EVTCHN)).expect("a port");
        Self { gfn, port, ..Self::default() }
    }
}

impl Kernel {
    /// The page of the ring.
    pub(crate) fn ring(&self) -> GuestFrame {
        self.guest.physical(Gfn(self.store.gfn))
    }

    // Bytes.

    /// Writes what there is room for.
    pub(crate) fn produce(&mut self) {
        let ring = self.ring();
        let mut producer = ring.load(REQ_PROD);
        while producer.wrapping_sub(ring.load(REQ_CONS)) < XENSTORE_RING_SIZE {
            let Some(byte) = self.store.unsent.pop_front() else { break };
            ring.store(REQ.get((producer % XENSTORE_RING_SIZE) as usize).expect("in the ring"), byte);
            producer = producer.wrapping_add(1);
        }
        ring.store(REQ_PROD, producer);
    }

    /// Takes what is there, and makes messages of it.
    pub(crate) fn consume(&mut self) {
        let ring = self.ring();
        let mut consumer = ring.load(RSP_CONS);
        while consumer != ring.load(RSP_PROD) {
            let byte = ring.load(RSP.get((consumer % XENSTORE_RING_SIZE) as usize).expect("in the ring"));
            self.store.received.push(byte);
            consumer = consumer.wrapping_add(1);
        }
        ring.store(RSP_CONS, consumer);
        while let Ok((header, rest)) = Header::read_from_prefix(&self.store.received) {
            let Some(payload) = rest.get(..header.len as usize) else { break };
            self.store.messages.push_back((header, payload.to_vec()));
            self.store.received.drain(..size_of::<Header>() + header.len as usize);
        }
    }

    /// The bytes that wait for the guest, which it does not take.
    pub(crate) fn bytes_of_ring(&self) -> Vec<u8> {
        let ring = self.ring();
        let (consumer, producer) = (ring.load(RSP_CONS), ring.load(RSP_PROD));
        let byte = |at: u32| ring.load(RSP.get((at % XENSTORE_RING_SIZE) as usize).expect("in the ring"));
        (0..producer.wrapping_sub(consumer)).map(|index| byte(consumer.wrapping_add(index))).collect()
    }

    /// Writes and reads until nothing moves any more.
    pub(crate) fn pump(&mut self) {
        loop {
            let before = (self.store.unsent.len(), self.store.received.len(), self.store.messages.len());
            self.produce();
            // A channel that is closed leads nowhere.
            let _ = self.send(self.store.port);
            assert!(self.machine.run(ENOUGH), "the machine does not come to rest");
            self.consume();
            if before == (self.store.unsent.len(), self.store.received.len(), self.store.messages.len()) {
                return;
            }
        }
    }

    // Messages.

    /// Begins a request, and writes nothing yet. Its number.
    pub(crate) fn begin(&mut self, kind: MessageType, tx_id: u32, payload: &[u8]) -> u32 {
        self.store.last_request += 1;
        let len = u32::try_from(payload.len()).expect("short");
        let header = Header { r#type: kind as u32, req_id: self.store.last_request, tx_id, len };
        self.store.unsent.extend(header.as_bytes());
        self.store.unsent.extend(payload);
        header.req_id
    }

    /// The reply to a request, if it is there.
    pub(crate) fn reply(&mut self, request: u32) -> Option<Result<Vec<u8>, Failed>> {
        let is_it =
            |(header, _): &(Header, Vec<u8>)| header.req_id == request && header.r#type != WATCH_EVENT;
        let at = self.store.messages.iter().position(is_it)?;
        let (header, payload) = self.store.messages.remove(at)?;
        Some(if header.r#type == MessageType::Error as u32 {
            Err(Failed::Refused(XsError::try_from(&payload[..]).expect("a known error")))
        } else {
            Ok(payload)
        })
    }

    pub(crate) fn ask(&mut self, kind: MessageType, payload: &[u8]) -> Result<Vec<u8>, Failed> {
        self.ask_in(0, kind, payload)
    }

    pub(crate) fn ask_in(&mut self, tx: u32, kind: MessageType, payload: &[u8]) -> Result<Vec<u8>, Failed> {
        let request = self.begin(kind, tx, payload);
        self.pump();
        self.reply(request).unwrap_or(Err(Failed::Silence))
    }

    /// The events that have come: path and token.
    pub(crate) fn events(&mut self) -> Vec<(String, String)> {
        self.pump();
        let (events, others): (VecDeque<_>, _) =
            self.store.messages.drain(..).partition(|(header, _)| header.r#type == WATCH_EVENT);
        self.store.messages = others;
        let pair = |(_, payload): &(Header, Vec<u8>)| match &split(payload)[..] {
            [path, token] => (path.clone(), token.clone()),
            other => panic!("an event has a path and a token: {other:?}"),
        };
        events.iter().map(pair).collect()
    }

    // Requests.

    pub(crate) fn read(&mut self, path: &str) -> Result<String, Failed> {
        self.ask(MessageType::Read, &strings(&[path])).map(text)
    }

    pub(crate) fn write(&mut self, path: &str, value: &str) -> Result<(), Failed> {
        self.ask(MessageType::Write, &[path.as_bytes(), b"\0", value.as_bytes()].concat()).map(drop)
    }

    pub(crate) fn rm(&mut self, path: &str) -> Result<(), Failed> {
        self.ask(MessageType::Rm, &strings(&[path])).map(drop)
    }

    pub(crate) fn directory(&mut self, path: &str) -> Result<Vec<String>, Failed> {
        self.ask(MessageType::Directory, &strings(&[path])).map(|list| split(&list))
    }

    pub(crate) fn permissions(&mut self, path: &str) -> Result<Vec<String>, Failed> {
        self.ask(MessageType::GetPerms, &strings(&[path])).map(|list| split(&list))
    }

    pub(crate) fn set_permissions(&mut self, path: &str, list: &[&str]) -> Result<(), Failed> {
        self.ask(MessageType::SetPerms, &[strings(&[path]), strings(list)].concat()).map(drop)
    }

    /// Sets a watch, and takes its first event.
    pub(crate) fn watch(&mut self, path: &str, token: &str) {
        self.ask(MessageType::Watch, &strings(&[path, token])).expect("it may");
        assert_eq!(self.events(), [(path.into(), token.into())], "one at once");
    }
}

const WATCH_EVENT: u32 = MessageType::WatchEvent as u32;

pub(crate) fn strings(list: &[&str]) -> Vec<u8> {
    list.iter().flat_map(|string| [string.as_bytes(), &[0]].concat()).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn split(list: &[u8]) -> Vec<String> {
    list.split_inclusive(|&byte| byte == 0).map(|string| text(string[..string.len() - 1].to_vec())).collect()
}
