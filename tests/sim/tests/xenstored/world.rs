//! A daemon, dom0's connection to it, and guests that have nothing but their rings.
//!
//! A guest's side of the ring is written here anew, from `docs/misc/xenstore-ring.txt`, so that the daemon's is tried by another.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use xen_abi::{
    io::xs_wire::{
        CONNECTION, ERROR, Header, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES,
        XENSTORE_RING_SIZE, XsError,
    },
    seam::Place,
};
use xen_sim::xenstored::{
    Access, Client, Config, Holdings, Permission, Record, Refusal, RingPage, Step, Tools, Xenstored,
};
use zerocopy::{FromBytes, IntoBytes};

pub(crate) const PORT: u32 = 3;

/// A guest's page.
#[derive(Clone, Debug)]
pub(crate) struct Page(Vec<u8>);

impl Page {
    pub(crate) fn word(&self, place: Place<u32>) -> u32 {
        self.load_u32(place)
    }

    pub(crate) fn set_word(&mut self, place: Place<u32>, value: u32) {
        self.store_u32(place, value);
    }
}

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

/// A message as a guest gets it.
pub(crate) type Message = (Header, Vec<u8>);

/// What a guest has.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) page: Page,
    /// Bytes that are to be written, once there is room.
    unsent: VecDeque<u8>,
    received: Vec<u8>,
    pub(crate) messages: VecDeque<Message>,
    last_request: u32,
    /// Times that the event channel was signalled.
    pub(crate) signals: usize,
}

impl Guest {
    fn new() -> Self {
        Self {
            page: Page(vec![0; 4096]),
            unsent: VecDeque::new(),
            received: Vec::new(),
            messages: VecDeque::new(),
            last_request: 100,
            signals: 0,
        }
    }

    /// Writes what there is room for.
    fn produce(&mut self) {
        let mut producer = self.page.word(REQ_PROD);
        while producer.wrapping_sub(self.page.word(REQ_CONS)) < XENSTORE_RING_SIZE {
            let Some(byte) = self.unsent.pop_front() else { break };
            self.page.0[(producer % XENSTORE_RING_SIZE) as usize] = byte;
            producer = producer.wrapping_add(1);
        }
        self.page.set_word(REQ_PROD, producer);
    }

    /// Takes what is there, and makes messages of it. Whether there was anything.
    fn consume(&mut self) -> bool {
        let first = self.page.word(RSP_CONS);
        let mut consumer = first;
        while consumer != self.page.word(RSP_PROD) {
            self.received.push(self.page.0[1024 + (consumer % XENSTORE_RING_SIZE) as usize]);
            consumer = consumer.wrapping_add(1);
        }
        self.page.set_word(RSP_CONS, consumer);
        while let Ok((header, rest)) = Header::read_from_prefix(&self.received) {
            assert!(header.len <= 4096, "{header:?}");
            let Some(payload) = rest.get(..header.len as usize) else { break };
            self.messages.push_back((header, payload.to_vec()));
            self.received.drain(..16 + header.len as usize);
        }
        consumer != first
    }
}

/// All of them.
pub(crate) struct World {
    pub(crate) daemon: Xenstored,
    pub(crate) client: Client,
    pub(crate) guests: BTreeMap<u16, Guest>,
    /// All that was recorded so far.
    pub(crate) records: Vec<Record>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&Config::default())
    }

    pub(crate) fn with(config: &Config) -> Self {
        let mut daemon = Xenstored::new(config);
        daemon.keep_records(true);
        let client = daemon.connect();
        Self { daemon, client, guests: BTreeMap::new(), records: Vec::new() }
    }

    /// A world with these guests.
    pub(crate) fn of<const N: usize>(guests: [u16; N]) -> Self {
        let mut world = Self::new();
        for domid in guests {
            world.start(domid);
        }
        world
    }

    /// Creates a domain as a toolstack does: its home is its own, it is introduced with an empty ring.
    pub(crate) fn start(&mut self, domid: u16) {
        self.daemon.domain_created(domid);
        let home = home(domid);
        self.tools().write(None, &home, b"").expect("it is dom0");
        let own = [Permission::new(Access::None, domid)];
        self.tools().set_permissions(None, &home, &own).expect("it is dom0");
        self.guests.insert(domid, Guest::new());
        self.introduce(domid).expect("it exists");
    }

    pub(crate) fn introduce(&mut self, domid: u16) -> Result<(), Refusal> {
        let page = &mut self.guests.get_mut(&domid).expect("a guest").page;
        self.daemon.tools(&self.client).introduce(domid, PORT, page)
    }

    pub(crate) fn tools(&mut self) -> Tools<'_> {
        self.daemon.tools(&self.client)
    }

    pub(crate) fn guest(&mut self, domid: u16) -> &mut Guest {
        self.guests.get_mut(&domid).expect("a guest")
    }

    /// One step of the daemon's for a guest, which neither writes nor reads meanwhile.
    pub(crate) fn step(&mut self, domid: u16) -> Step {
        let guest = self.guests.get_mut(&domid).expect("a guest");
        let step = self.daemon.step(domid, &mut guest.page);
        guest.signals += usize::from(step.signal);
        self.daemon.check().expect("the daemon is in order");
        self.records.extend(self.daemon.take_records());
        step
    }

    /// The daemon does what it can for a guest, which does not take anything.
    pub(crate) fn serve(&mut self, domid: u16) {
        for _ in 0..100_000 {
            self.guest(domid).produce();
            if !self.step(domid).again {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// The daemon does all it can for all guests, which take what there is.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut again = false;
            let all: Vec<u16> = self.guests.keys().copied().collect();
            for domid in all {
                self.guest(domid).produce();
                again |= self.step(domid).again;
                again |= self.guest(domid).consume();
            }
            if !again {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Writes a request, as far as there is room. Its number.
    pub(crate) fn send(&mut self, domid: u16, kind: MessageType, tx_id: u32, payload: &[u8]) -> u32 {
        self.send_type(domid, kind as u32, tx_id, payload)
    }

    pub(crate) fn send_type(&mut self, domid: u16, r#type: u32, tx_id: u32, payload: &[u8]) -> u32 {
        let guest = self.guest(domid);
        guest.last_request += 1;
        let len = u32::try_from(payload.len()).expect("short");
        let header = Header { r#type, req_id: guest.last_request, tx_id, len };
        guest.unsent.extend(header.as_bytes());
        guest.unsent.extend(payload);
        guest.produce();
        header.req_id
    }

    /// Bytes that are no message.
    pub(crate) fn send_bytes(&mut self, domid: u16, bytes: &[u8]) {
        let guest = self.guest(domid);
        guest.unsent.extend(bytes);
        guest.produce();
    }

    /// Makes a request, and waits for the reply. Other messages stay.
    pub(crate) fn ask(
        &mut self,
        domid: u16,
        kind: MessageType,
        tx: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, Failed> {
        let request = self.send(domid, kind, tx, payload);
        self.reply(domid, kind as u32, tx, request)
    }

    pub(crate) fn reply(
        &mut self,
        domid: u16,
        r#type: u32,
        tx: u32,
        request: u32,
    ) -> Result<Vec<u8>, Failed> {
        self.settle();
        let messages = &mut self.guest(domid).messages;
        let is_it = |(header, _): &Message| header.req_id == request;
        let (header, payload) =
            messages.iter().position(is_it).and_then(|at| messages.remove(at)).expect("a reply");
        assert_eq!(header.tx_id, tx);
        if header.r#type == MessageType::Error as u32 {
            let error = XsError::try_from(&payload[..]).expect("a known error");
            assert_eq!(payload.last(), Some(&0), "it ends with a nul");
            let refusals = self.records.iter().rev().filter_map(|record| match record {
                Record::Request { result: Err(refusal), .. } => Some(refusal.rule.name),
                _ => None,
            });
            return Err((error, refusals.into_iter().next().expect("it is recorded")));
        }
        assert_eq!(header.r#type, r#type);
        Ok(payload)
    }

    /// Takes the events that a guest has got so far: path and token.
    pub(crate) fn events(&mut self, domid: u16) -> Vec<(String, String)> {
        self.settle();
        let messages = std::mem::take(&mut self.guest(domid).messages);
        messages.iter().map(event).collect()
    }

    /// Takes the events that dom0 has got so far.
    pub(crate) fn dom0_events(&mut self) -> Vec<(String, String)> {
        let mut events = Vec::new();
        while let Some(event) = self.tools().next_event() {
            events.push((event.path, String::from_utf8(event.token).expect("text")));
        }
        events
    }

    pub(crate) fn holdings(&self, domid: u16) -> Holdings {
        self.daemon.holdings(domid).expect("it is introduced")
    }

    /// What a guest's page says about its connection: features, state, error.
    pub(crate) fn state(&mut self, domid: u16) -> [u32; 3] {
        [SERVER_FEATURES, CONNECTION, ERROR].map(|place| self.guest(domid).page.word(place))
    }

    // The requests of a guest, in short.

    pub(crate) fn write(&mut self, domid: u16, tx: u32, path: &str, value: &str) -> Result<(), Failed> {
        let payload = [path.as_bytes(), b"\0", value.as_bytes()].concat();
        self.ask(domid, MessageType::Write, tx, &payload).map(|reply| ok(&reply))
    }

    pub(crate) fn read(&mut self, domid: u16, tx: u32, path: &str) -> Result<String, Failed> {
        self.ask(domid, MessageType::Read, tx, &strings([path])).map(|value| text(&value))
    }

    pub(crate) fn rm(&mut self, domid: u16, tx: u32, path: &str) -> Result<(), Failed> {
        self.ask(domid, MessageType::Rm, tx, &strings([path])).map(|reply| ok(&reply))
    }

    pub(crate) fn mkdir(&mut self, domid: u16, tx: u32, path: &str) -> Result<(), Failed> {
        self.ask(domid, MessageType::Mkdir, tx, &strings([path])).map(|reply| ok(&reply))
    }

    pub(crate) fn directory(&mut self, domid: u16, tx: u32, path: &str) -> Result<Vec<String>, Failed> {
        self.ask(domid, MessageType::Directory, tx, &strings([path])).map(|list| split(&list))
    }

    pub(crate) fn permissions(&mut self, domid: u16, path: &str) -> Result<Vec<String>, Failed> {
        self.ask(domid, MessageType::GetPerms, 0, &strings([path])).map(|list| split(&list))
    }

    pub(crate) fn set_permissions(&mut self, domid: u16, path: &str, list: &[&str]) -> Result<(), Failed> {
        let payload = [strings([path]), strings(list.iter().copied())].concat();
        self.ask(domid, MessageType::SetPerms, 0, &payload).map(|reply| ok(&reply))
    }

    /// Sets a watch and takes its first event.
    pub(crate) fn watch(&mut self, domid: u16, path: &str, token: &str) -> Result<(), Failed> {
        self.ask(domid, MessageType::Watch, 0, &strings([path, token])).map(|reply| ok(&reply))?;
        let first = self.guest(domid).messages.pop_back().expect("an event at once");
        assert_eq!(event(&first), pair(path, token));
        Ok(())
    }

    pub(crate) fn start_transaction(&mut self, domid: u16) -> Result<u32, Failed> {
        let id = self.ask(domid, MessageType::TransactionStart, 0, b"\0")?;
        Ok(text(&id[..id.len() - 1]).parse().expect("a number"))
    }

    pub(crate) fn end(&mut self, domid: u16, tx: u32, how: &str) -> Result<(), Failed> {
        self.ask(domid, MessageType::TransactionEnd, tx, &strings([how])).map(|reply| ok(&reply))
    }
}

/// Why a guest's request was refused: what it is told, and the rule.
pub(crate) type Failed = (XsError, &'static str);

pub(crate) fn home(domid: u16) -> String {
    format!("/local/domain/{domid}")
}

pub(crate) fn pair(path: &str, token: &str) -> (String, String) {
    (path.to_owned(), token.to_owned())
}

/// Strings with their nuls.
pub(crate) fn strings<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Vec<u8> {
    list.into_iter().flat_map(|string| [string.as_ref().as_bytes(), &[0]].concat()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn split(list: &[u8]) -> Vec<String> {
    assert!(list.is_empty() || list.ends_with(&[0]), "{list:?}");
    list.split(|&byte| byte == 0).map(text).filter(|name| !name.is_empty()).collect()
}

fn ok(payload: &[u8]) {
    assert_eq!(payload, b"OK\0");
}

fn event((header, payload): &Message) -> (String, String) {
    assert_eq!(header.r#type, MessageType::WatchEvent as u32, "{header:?} {payload:?}");
    assert_eq!((header.req_id, header.tx_id), (0, 0));
    match &split(payload)[..] {
        [path, token] => pair(path, token),
        other => panic!("{other:?}"),
    }
}
