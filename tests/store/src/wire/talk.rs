//! Messages, made of bytes.
#![forbid(unsafe_code)]

use core::time::Duration;

use kexec::{irql::Dispatch, time::timeout};
use xen_abi::io::xs_wire::{
    Header,
    MessageType::{
        self, Directory, Error, Mkdir, Read, ResetWatches, Rm, SetPerms, TransactionEnd, TransactionStart,
        WatchEvent,
    },
    XENSTORE_PAYLOAD_MAX,
};
use xenbus::store::Excerpt;
use zerocopy::IntoBytes;

use super::Wire;
use crate::{
    difference::{Outcome, Step, Told},
    ground::Ground,
};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events that are kept until somebody looks for them.
const EVENTS: usize = 24;

/// From the number of a request to the next one's: all four bytes change.
pub(super) const ID_STEP: u32 = 0x0101_0101;

const LONGEST: usize = XENSTORE_PAYLOAD_MAX as usize;

/// A conversation over a [`Wire`].
pub(super) struct Talk<'w, W> {
    wire: &'w W,
    /// Of the next request.
    id: u32,
    payload: [u8; LONGEST],
    events: [Option<Event>; EVENTS],
    /// How many there were, with those for which there was no room.
    count: usize,
}

/// A message that has come.
#[derive(Clone, Copy)]
pub(super) struct Message<'t> {
    pub(super) header: Header,
    pub(super) payload: &'t [u8],
}

/// An event of a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    path: Told,
    token: Told,
}

impl Event {
    pub(super) fn new(path: impl core::fmt::Display, token: &str) -> Self {
        Self { path: Told::of(path), token: Told::of(token) }
    }
}

impl core::fmt::Display for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "an event of {} for {}", self.path, self.token)
    }
}

impl Message<'_> {
    fn is(&self, kind: MessageType) -> bool {
        self.header.r#type == kind as u32
    }
}

impl Step {
    /// This is the answer, and no error.
    pub(super) fn answered(self, payload: &[u8], came: Message<'_>) -> Outcome {
        let came_payload = self.accepted(came)?;
        if came_payload == payload {
            Ok(())
        } else {
            Err(self.differs(Excerpt::from(payload), Excerpt::from(came_payload)))
        }
    }

    /// It is no error.
    pub(super) fn accepted(self, came: Message<'_>) -> Outcome<&[u8]> {
        if came.is(Error) {
            Err(self.differs("that it is done", Excerpt::from(came.payload)))
        } else {
            Ok(came.payload)
        }
    }

    /// The answer is an error of this name.
    pub(super) fn rejected(self, name: &str, came: Message<'_>) -> Outcome {
        let is_it = came.is(Error) && came.payload.strip_suffix(&[0]) == Some(name.as_bytes());
        let what = if came.is(Error) { "an error" } else { "an answer" };
        self.holds(is_it, name, format_args!("{what}, {}", Excerpt::from(came.payload)))
    }

    /// The answer is an error of this name, or any if there is none.
    pub(super) fn rejected_anyhow(self, name: Option<&str>, came: Message<'_>) -> Outcome {
        match name {
            Some(name) => self.rejected(name, came),
            None => self.holds(came.is(Error), "an error", Excerpt::from(came.payload)),
        }
    }

    /// The answer is an error of this name, or `OK` if there is none.
    pub(super) fn rejected_if(self, name: Option<&str>, came: Message<'_>) -> Outcome {
        match name {
            Some(name) => self.rejected(name, came),
            None => self.answered(b"OK\0", came),
        }
    }
}

impl<'w, W: Wire> Talk<'w, W> {
    pub(super) const fn new(wire: &'w W) -> Self {
        Self { wire, id: 0, payload: [0; LONGEST], events: [None; EVENTS], count: 0 }
    }

    /// A number for a request that no other has.
    pub(super) fn next_id(&mut self) -> u32 {
        self.id = self.id.wrapping_add(ID_STEP);
        self.id
    }

    /// Sends bytes, whatever they are.
    pub(super) async fn send_bytes(&self, at: &Dispatch, step: Step, bytes: &[u8]) -> Outcome {
        let sent = timeout(PATIENCE, self.wire.send(at, bytes)).await;
        sent.map_err(|_| step.differs("that it is taken", "no room for it"))
    }

    /// Sends a request, whose payload comes in pieces.
    pub(super) async fn send(&self, at: &Dispatch, step: Step, header: Header, payload: &[&[u8]]) -> Outcome {
        let len = payload.iter().map(|piece| piece.len()).sum::<usize>();
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.send_bytes(at, step, Header { len, ..header }.as_bytes()).await?;
        for piece in payload {
            self.send_bytes(at, step, piece).await?;
        }
        Ok(())
    }

    /// Waits for the next message.
    async fn next(&mut self, at: &Dispatch, step: Step) -> Outcome<Header> {
        let received = timeout(PATIENCE, async {
            let mut header = Header::default();
            self.wire.receive(at, header.as_mut_bytes()).await;
            if let Some(payload) = self.payload.get_mut(..header.len as usize) {
                self.wire.receive(at, payload).await;
            }
            header
        });
        let header = received.await.map_err(|_| step.differs("a message", "none"))?;
        let is_right = header.len <= XENSTORE_PAYLOAD_MAX;
        step.holds(is_right, "a payload of 4096 bytes at most", format_args!("{header:?}"))?;
        Ok(header)
    }

    /// Waits for the next reply. Events that come before are kept.
    pub(super) async fn reply(&mut self, at: &Dispatch, step: Step) -> Outcome<Message<'_>> {
        loop {
            let header = self.next(at, step).await?;
            if header.r#type != WatchEvent as u32 {
                return Ok(Message { header, payload: &self.payload[..header.len as usize] });
            }
            self.keep(step, header)?;
        }
    }

    fn keep(&mut self, step: Step, header: Header) -> Outcome {
        let payload = &self.payload[..header.len as usize];
        let event = parse(payload).ok_or_else(|| step.differs("an event", Excerpt::from(payload)))?;
        let is_right = (header.req_id, header.tx_id) == (0, 0);
        step.holds(is_right, "an event that has no numbers", format_args!("{header:?}"))?;
        if let Some(place) = self.events.get_mut(self.count) {
            *place = Some(event);
        }
        self.count += 1;
        Ok(())
    }

    /// Asks in a transaction, and waits for the reply, which must be one to that.
    pub(super) async fn ask_in(
        &mut self,
        at: &Dispatch,
        step: Step,
        tx: u32,
        kind: impl Into<Kind>,
        payload: &[&[u8]],
    ) -> Outcome<Message<'_>> {
        let Kind(kind) = kind.into();
        let request = Header { r#type: kind, req_id: self.next_id(), tx_id: tx, len: 0 };
        self.send(at, step, request, payload).await?;
        let reply = self.reply(at, step).await?;
        let Header { r#type, req_id, tx_id, .. } = reply.header;
        let is_its = req_id == request.req_id && tx_id == tx && (r#type == kind || reply.is(Error));
        step.holds(is_its, "a reply to the request", format_args!("{:?} to {request:?}", reply.header))?;
        Ok(reply)
    }

    /// Asks.
    pub(super) async fn ask(
        &mut self,
        at: &Dispatch,
        step: Step,
        kind: impl Into<Kind>,
        payload: &[&[u8]],
    ) -> Outcome<Message<'_>> {
        self.ask_in(at, step, 0, kind, payload).await
    }

    /// Asks for what is done, and has no other answer.
    pub(super) async fn order(
        &mut self,
        at: &Dispatch,
        step: Step,
        kind: MessageType,
        payload: &[&[u8]],
    ) -> Outcome {
        step.answered(b"OK\0", self.ask(at, step, kind, payload).await?)
    }

    /// Takes out the events of all that was done before: they come before the reply to another question.
    pub(super) async fn events(&mut self, at: &Dispatch, step: Step) -> Outcome<Events> {
        let path = self.ask(at, step, MessageType::GetDomainPath, &[b"0\0"]).await?;
        step.answered(b"/local/domain/0\0", path)?;
        let events = Events { events: self.events, count: self.count };
        self.forget_events();
        Ok(events)
    }

    /// Nobody looks for the events that have come so far.
    pub(super) fn forget_events(&mut self) {
        self.events = [None; EVENTS];
        self.count = 0;
    }

    /// The events of all that was done before are these, in whatever order; each may have come more than once.
    pub(super) async fn expect_events(&mut self, at: &Dispatch, step: Step, expected: &[Event]) -> Outcome {
        let came = self.events(at, step).await?;
        for event in expected {
            step.holds(came.iter().any(|other| other == event), event.path.as_str(), "no such event")?;
        }
        let mut others = came.iter().filter(|event| !expected.contains(event));
        others.next().map_or(Ok(()), |other| Err(step.differs("no other event", other)))
    }
}

/// Events that have come.
pub(super) struct Events {
    events: [Option<Event>; EVENTS],
    /// With those for which there was no room.
    pub(super) count: usize,
}

impl Events {
    fn iter(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().flatten()
    }

    /// How often it has come.
    pub(super) fn count_of(&self, event: &Event) -> usize {
        self.iter().filter(|other| *other == event).count()
    }
}

fn parse(payload: &[u8]) -> Option<Event> {
    let (path, token) = str::from_utf8(payload).ok()?.strip_suffix('\0')?.split_once('\0')?;
    Some(Event::new(path, token)).filter(|_| !token.contains('\0'))
}

/// The type of a request: one that there is, or any number.
#[derive(Clone, Copy)]
pub(super) struct Kind(u32);

impl From<MessageType> for Kind {
    fn from(kind: MessageType) -> Self {
        Self(kind as u32)
    }
}

impl From<u32> for Kind {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

// Transactions.

impl<W: Wire> Talk<'_, W> {
    /// Starts a transaction, and hands out its number.
    pub(super) async fn start(&mut self, at: &Dispatch, step: Step) -> Outcome<u32> {
        let answer = step.accepted(self.ask(at, step, TransactionStart, &[b"\0"]).await?)?;
        let text = answer.strip_suffix(&[0]).and_then(|text| str::from_utf8(text).ok());
        let number = text.and_then(|text| text.parse().ok()).filter(|number| *number != 0);
        number.ok_or_else(|| step.differs("a number that is not 0, and a nul", Excerpt::from(answer)))
    }

    /// Ends a transaction.
    pub(super) async fn end(&mut self, at: &Dispatch, step: Step, tx: u32, how: &[u8]) -> Outcome {
        step.answered(b"OK\0", self.ask_in(at, step, tx, TransactionEnd, &[how]).await?)
    }
}

// The ground.

impl<W: Wire> Talk<'_, W> {
    /// An empty node of the guest's own, in a connection that has no watch and no transaction.
    pub(super) async fn open(&mut self, at: &Dispatch, ground: &Ground<'_>) -> Outcome {
        let (step, home) = (Step("open the ground"), ground.home.as_bytes());
        let own = Told::of(format_args!("n{}", ground.domain));
        self.order(at, step, ResetWatches, &[b"\0"]).await?;
        step.rejected("ENOENT", self.ask(at, step, Read, &[home, b"\0"]).await?)?;
        self.order(at, step, Mkdir, &[home, b"\0"]).await?;
        self.order(at, step, SetPerms, &[home, b"\0", own.as_str().as_bytes(), b"\0"]).await?;
        // Those of watches that are no more.
        self.events(at, step).await.map(drop)
    }

    /// Takes the node away. There must be nothing in it, nothing is watched, and nothing more is said.
    pub(super) async fn close(&mut self, at: &Dispatch, ground: &Ground<'_>) -> Outcome {
        let (step, home) = (Step("close the ground, in which nothing is left"), ground.home.as_bytes());
        step.answered(b"", self.ask(at, step, Directory, &[home, b"\0"]).await?)?;
        self.events(at, step).await?;
        self.order(at, step, MessageType::Write, &[home, b"\0"]).await?;
        self.expect_events(at, Step("look for watches that are left"), &[]).await?;
        self.remove(at, ground).await
    }

    /// Takes the node away, whatever is in it, and all watches.
    pub(super) async fn raze(&mut self, at: &Dispatch, ground: &Ground<'_>) -> Outcome {
        self.order(at, Step("reset watches"), ResetWatches, &[b"\0"]).await?;
        self.remove(at, ground).await
    }

    async fn remove(&mut self, at: &Dispatch, ground: &Ground<'_>) -> Outcome {
        let (step, home) = (Step("remove the ground"), ground.home.as_bytes());
        self.order(at, step, Rm, &[home, b"\0"]).await?;
        step.rejected("ENOENT", self.ask(at, step, Read, &[home, b"\0"]).await?)
    }
}
