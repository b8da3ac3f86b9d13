//! Where the messages end in the two streams of bytes: what another client needs to go on in the middle.
//!
//! In a crash, the CPU that moves the bytes is stopped between any two of its instructions, perhaps with the
//! connection's lock, and never goes on. Whoever writes the dump has the same ring, and a message in it of which only
//! a part was sent, and another of which only a part was taken. The [`Framing`] says how they go on. It is written
//! without a lock that a reader would need, and it is right after each single store:
//!
//! | step of the client | what a reader finds if it is the last |
//! |---|---|
//! | *to send:* the message's bytes are written here | nothing of it is to be sent: its end is not yet here |
//! | `request` says from which index of the stream to which it goes | all of it is to be sent |
//! | its next bytes are written to the ring | the same: nobody looks beyond the ring's index |
//! | `sent` says that they are in the ring | the rest is to be sent, and the ring's index is to be set to `sent` |
//! | the ring's index is set to `sent` | the rest is to be sent |
//! | *to receive:* a header is in the ring, whole, and is read | a message begins at `received` |
//! | `reply_end` says where its message ends | all of it is to be thrown away |
//! | bytes are copied from the ring | the same |
//! | `received` says that they were taken | the rest is to be thrown away, and the ring's index is to be set to `received` |
//! | the ring's index is set to `received` | the rest is to be thrown away |
//!
//! So a message has begun when one word says so, and the two indices that the domain moves are here before they are
//! in the page: what is in the page is not believed. Each store is a release, so that they are seen in their order; a
//! CPU that has stopped has no stores on their way for ever.
#![forbid(unsafe_code)]

use core::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use xen_abi::io::xs_wire::{Header, XENSTORE_PAYLOAD_MAX};
use zerocopy::IntoBytes;

use super::request::Request;

/// What [`Framing`] begins with: its layout's name and number.
const VERSION: u32 = u32::from_le_bytes(*b"xsf1");

/// The indices are those of a connection.
const LIVE: u32 = 1;

pub(super) const HEADER: usize = size_of::<Header>();
const LONGEST: usize = HEADER + XENSTORE_PAYLOAD_MAX as usize;

/// Where a client of xenstored is in the two streams of bytes, for another that goes on when it cannot: see
/// [`CrashStore`](super::CrashStore).
///
/// A plain record, which another image may be handed the address of. It is always right, whoever holds the store's
/// lock.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct Framing {
    version: AtomicU32,
    live: AtomicU32,
    /// The next byte of the stream of requests that goes to the ring.
    sent: AtomicU32,
    /// The next byte of the stream of replies that is taken from the ring.
    received: AtomicU32,
    /// Where the message that is being sent begins (the lower half) and ends.
    request: AtomicU64,
    /// Where the message that is being taken ends.
    reply_end: AtomicU32,
    reserved: AtomicU32,
    message: [AtomicU8; LONGEST],
}

const _: () = assert!(size_of::<Framing>() == 32 + 4112, "another image knows it by this layout");

impl Framing {
    /// Of no connection.
    pub(super) const fn new() -> Self {
        Self {
            version: AtomicU32::new(VERSION),
            live: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            received: AtomicU32::new(0),
            request: AtomicU64::new(0),
            reply_end: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            message: [const { AtomicU8::new(0) }; LONGEST],
        }
    }

    /// The indices of a ring in which both streams are between two messages.
    pub(super) fn begin_anew(&self, sent: u32, received: u32) {
        self.end();
        set(&self.sent, sent);
        set(&self.received, received);
        set_request(&self.request, sent, sent);
        set(&self.reply_end, received);
        set(&self.live, LIVE);
    }

    /// The indices mean nothing any more.
    pub(super) fn end(&self) {
        set(&self.live, 0);
    }

    /// Goes on where another client was.
    ///
    /// # Errors
    ///
    /// It was nowhere: it was not connected, or this is no framing.
    pub(super) fn go_on(&self, other: &Self) -> Result<(), Nowhere> {
        other.check()?;
        self.begin_anew(other.sent(), other.received());
        for (byte, others) in self.message.iter().zip(&other.message) {
            put(byte, others.load(Relaxed));
        }
        let (from, to) = other.request();
        set_request(&self.request, from, to);
        set(&self.reply_end, other.reply_end.load(Acquire));
        Ok(())
    }

    /// Whether the indices are those of a connection, and can be.
    pub(super) fn check(&self) -> Result<(), Nowhere> {
        let (from, to) = self.request();
        let length = to.wrapping_sub(from);
        let is_right = self.version.load(Relaxed) == VERSION
            && self.live.load(Acquire) == LIVE
            && length as usize <= LONGEST
            && self.unsent() <= length
            && self.unreceived() as usize <= LONGEST;
        if is_right { Ok(()) } else { Err(Nowhere) }
    }

    /// Whether no message is on its way, in either direction; none, if there is no connection. Callable at any level,
    /// by anyone.
    #[must_use]
    pub fn is_between_messages(&self) -> Option<bool> {
        self.check().ok().map(|()| self.unsent() == 0 && self.unreceived() == 0)
    }

    pub(super) fn sent(&self) -> u32 {
        self.sent.load(Acquire)
    }

    pub(super) fn received(&self) -> u32 {
        self.received.load(Acquire)
    }

    fn request(&self) -> (u32, u32) {
        let request = self.request.load(Acquire);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        (request as u32, (request >> 32) as u32)
    }

    /// Bytes of the message that is being sent which are not in the ring yet.
    pub(super) fn unsent(&self) -> u32 {
        self.request().1.wrapping_sub(self.sent())
    }

    /// Bytes of the message that is being taken which are still to come.
    pub(super) fn unreceived(&self) -> u32 {
        self.reply_end.load(Acquire).wrapping_sub(self.received())
    }

    /// Makes a message of a request. The last one is sent.
    ///
    /// # Errors
    ///
    /// Its payload has so many bytes, which are too many.
    pub(super) fn compose(&self, header: Header, request: &Request<'_>) -> Result<(), usize> {
        let mut length = HEADER;
        request.payload(|byte| {
            if let Some(place) = self.message.get(length) {
                put(place, byte);
            }
            length = length.saturating_add(1);
        });
        let payload = length.saturating_sub(HEADER);
        let len = u32::try_from(payload).ok().filter(|len| *len <= XENSTORE_PAYLOAD_MAX).ok_or(payload)?;
        for (place, byte) in self.message.iter().zip(Header { len, ..header }.as_bytes()) {
            put(place, *byte);
        }
        let sent = self.sent();
        #[expect(clippy::cast_possible_truncation, reason = "a header's size")]
        set_request(&self.request, sent, sent.wrapping_add(HEADER as u32).wrapping_add(len));
        Ok(())
    }

    /// Takes back a message of which nothing was sent.
    pub(super) fn take_back(&self) {
        let (from, _) = self.request();
        if from == self.sent() {
            set_request(&self.request, from, from);
        }
    }

    /// The next bytes that are to be sent, as many as there are and fit.
    pub(super) fn next_bytes<'b>(&self, into: &'b mut [u8]) -> &'b [u8] {
        let start = self.sent().wrapping_sub(self.request().0) as usize;
        let length = into.len().min(self.unsent() as usize);
        let (into, _) = into.split_at_mut(length);
        for (byte, place) in into.iter_mut().zip(self.message.iter().skip(start)) {
            *byte = place.load(Relaxed);
        }
        into
    }

    /// Bytes up to here are in the ring.
    pub(super) fn set_sent(&self, index: u32) {
        set(&self.sent, index);
    }

    /// The message whose header is next ends here.
    pub(super) fn set_reply_end(&self, index: u32) {
        set(&self.reply_end, index);
    }

    /// Bytes up to here were taken.
    pub(super) fn set_received(&self, index: u32) {
        set(&self.received, index);
    }
}

/// There is nothing to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nowhere;

// Every store that a reader could find as the last is one of these.

fn put(place: &AtomicU8, byte: u8) {
    #[cfg(test)]
    super::tests::freeze::step();
    place.store(byte, Relaxed);
}

fn set(word: &AtomicU32, value: u32) {
    #[cfg(test)]
    super::tests::freeze::step();
    word.store(value, Release);
}

fn set_request(word: &AtomicU64, from: u32, to: u32) {
    #[cfg(test)]
    super::tests::freeze::step();
    word.store(u64::from(from) | u64::from(to) << 32, Release);
}
