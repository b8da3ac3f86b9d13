//! Where a case works.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xenbus::store::{Access, Path, Permission, Text, Xenstore};

use crate::{
    difference::{Listed, Outcome, Step},
    profile::Profile,
};

/// What a case is given: a place in the store, and memory.
#[derive(Debug)]
pub struct Ground<'g> {
    /// The path of a node that is not there, and that the guest can make and own: a relative one, such as `data/suite`,
    /// of up to 64 bytes.
    pub home: &'g str,
    /// The guest's domain.
    pub domain: u16,
    /// What to expect.
    pub profile: &'g Profile,
    /// Room for whatever is long.
    pub room: &'g mut [u8; ROOM],
}

/// Bytes of the room: twice what a message has.
pub const ROOM: usize = 8192;

/// An absolute path of the ground.
pub(crate) type Absolute = Text<96>;

impl<'g> Ground<'g> {
    /// A node in it.
    pub(crate) fn node(&self, below: &'g str) -> Path<'g> {
        Path::new(self.home).join(below)
    }

    /// The ground's own path, from the root.
    pub(crate) fn absolute(&self, step: Step) -> Outcome<Absolute> {
        step.done(Text::of(format_args!("/local/domain/{}/{}", self.domain, self.home)))
    }

    /// Nobody else may do anything with it.
    pub(crate) fn own(&self) -> Permission {
        Permission::new(self.domain, Access::None)
    }

    /// An empty node of the guest's own.
    pub(crate) async fn open(&mut self, at: &Dispatch, store: &impl Xenstore) -> Outcome {
        let step = Step("open the ground");
        step.refused("ENOENT", store.read(at, self.home, self.room).await)?;
        step.done(store.make(at, self.home).await)?;
        step.done(store.set_permissions(at, self.home, &[self.own()]).await)
    }

    /// Takes the node away, in which there must be nothing.
    pub(crate) async fn close(&mut self, at: &Dispatch, store: &impl Xenstore) -> Outcome {
        let step = Step("close the ground, in which nothing is left");
        let names = step.done(store.directory(at, self.home, self.room).await)?;
        step.holds(names.clone().next().is_none(), "an empty list", Listed(names))?;
        self.raze(at, store).await
    }

    /// Takes the node away, whatever is in it.
    pub(crate) async fn raze(&mut self, at: &Dispatch, store: &impl Xenstore) -> Outcome {
        let step = Step("remove the ground");
        step.done(store.remove(at, self.home).await)?;
        step.refused("ENOENT", store.read(at, self.home, self.room).await)
    }
}

/// Writes what can be told apart from what it was, or from a part of it.
pub(crate) fn fill(room: &mut [u8], seed: u8) {
    for (index, byte) in room.iter_mut().enumerate() {
        *byte = pattern(index, seed);
    }
}

/// Whether it was written by [`fill`].
pub(crate) fn is_filled(value: &[u8], seed: u8) -> bool {
    value.iter().enumerate().all(|(index, byte)| *byte == pattern(index, seed))
}

fn pattern(index: usize, seed: u8) -> u8 {
    // 251 is prime: the pattern does not begin anew where blocks of the ring or of a message do.
    u8::try_from(index % 251).unwrap_or(0).wrapping_add(seed)
}
