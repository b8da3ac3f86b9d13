//! A device's two halves, as they are in the store.
#![forbid(unsafe_code)]

use core::fmt;

use kexec::irql::Dispatch;
use xen_abi::{
    domid::DomId,
    io::{xenbus::XenbusState, xs_wire::XsError},
};

use super::step::{Backend, Phase, Step, step};
use crate::{
    grant::Peer,
    store::{Path, Root, StoreError, Text, Watching, Xenstore, optional},
};

/// The most bytes of a backend's directory. What toolstacks make has about 40.
const LONGEST: usize = 256;

/// The most bytes of what is said to the toolstack.
const COMPLAINT: usize = 512;

/// Where a device's two halves are.
///
/// Both are read anew for each connection: a guest that was migrated has another backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'d> {
    frontend: &'d str,
    backend: Text<LONGEST>,
    peer: Peer,
}

impl<'d> Device<'d> {
    /// The device whose frontend has this directory, such as `device/vif/0`; none, if there is no such directory any
    /// more.
    ///
    /// **Cancel-safe:** nothing is lost but the answer.
    ///
    /// # Errors
    ///
    /// The store's; the key `backend` is no path, `backend-id` no domain, or `trusted` no number.
    pub async fn find(
        at: &Dispatch,
        store: &impl Xenstore,
        frontend: &'d str,
    ) -> Result<Option<Self>, StoreError> {
        let mut room = [0; LONGEST];
        let backend = optional(store.read_text(at, (frontend, "backend"), &mut room).await)?;
        let Some(Ok(backend)) = backend.map(Text::of) else { return Ok(None) };
        let domain = DomId(store.read_number(at, (frontend, "backend-id")).await?);
        let trusted = optional(store.read_number(at, (frontend, "trusted")).await)?;
        let peer = match trusted {
            None | Some(1_u8) => Peer::trusted(domain),
            // Who writes another number has something to say that is not understood here.
            Some(_) => Peer::untrusted(domain),
        };
        Ok(Some(Self { frontend, backend, peer }))
    }

    /// The domain that the backend is in.
    #[must_use]
    pub const fn domain(&self) -> DomId {
        self.peer.domain()
    }

    /// The same, and whether the toolstack wants it to be trusted: the frontend's `trusted`, which is 0 if not
    /// (`io/blkif.h`, `io/netif.h`).
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// The frontend's directory.
    #[must_use]
    pub const fn directory(&self) -> &'d str {
        self.frontend
    }

    /// A key of the frontend's, or a directory of such.
    #[must_use]
    pub fn own<'p>(&'p self, key: &'p str) -> Path<'p> {
        Path::new(self.frontend).join(key)
    }

    /// A key of the backend's.
    #[must_use]
    pub fn backend<'p>(&'p self, key: &'p str) -> Path<'p> {
        Path::new(&self.backend).join(key)
    }

    /// Says how far the frontend has come.
    pub(super) async fn say(
        &self,
        at: &Dispatch,
        store: &impl Xenstore,
        state: XenbusState,
    ) -> Result<(), StoreError> {
        store.print(at, self.own("state"), state.number()).await
    }

    /// Reads what the backend says of itself. A state that is no number, or has no meaning, is none.
    async fn look(&self, at: &Dispatch, store: &impl Xenstore) -> Result<Backend, StoreError> {
        let state = number(store.read_number(at, self.backend("state")).await)?;
        let online: Option<u32> = number(store.read_number(at, self.backend("online")).await)?;
        let state = state.and_then(|state: u32| XenbusState::try_from(state).ok());
        Ok(Backend { state: state.unwrap_or(XenbusState::Unknown), is_online: online != Some(0) })
    }
}

/// Says to the toolstack why the device in this directory does not work, or does not go although it is
/// [wanted back](super::Frontend::wanted_back): in `error/<directory>/error`, as far as it can be said.
///
/// **Cancel-safe:** it may have been said.
pub async fn complain(at: &Dispatch, store: &impl Xenstore, directory: &str, why: impl fmt::Display) {
    let complaint = Text::<COMPLAINT>::of(why);
    let complaint = complaint.as_deref().unwrap_or("too much is wrong to be said here");
    // Nobody needs to read it.
    let key = Path::new("error").join(directory).join("error");
    let _ = store.write(at, key, complaint.as_bytes()).await;
}

/// A number of the backend's, if it has one that can be read: what it writes is its own affair.
fn number<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Err(StoreError::Value { .. }) => Ok(None),
        // So xenstored refuses what is not there, in a directory that the guest may not read either
        // (`errno_from_parents`).
        Err(error) if error.refusal() == Some(XsError::EACCES) => Ok(None),
        answer => optional(answer),
    }
}

/// A device whose backend is watched.
pub(super) struct Followed<'d, W> {
    pub(super) device: Device<'d>,
    watch: W,
}

impl<'d, W: Watching> Followed<'d, W> {
    /// Begins to watch the backend's directory.
    pub(super) async fn new<S: Root<Watch<'d> = W>>(
        at: &'d Dispatch,
        store: &'d S,
        device: &Device<'d>,
    ) -> Result<Self, StoreError> {
        let watch = store.watch(at, Path::new(&device.backend)).await?;
        Ok(Self { device: *device, watch })
    }

    /// Waits until there is something to do in this phase but wait.
    pub(super) async fn until(
        &mut self,
        at: &Dispatch,
        store: &impl Xenstore,
        phase: Phase,
    ) -> Result<Step, StoreError> {
        loop {
            match step(phase, self.device.look(at, store).await?) {
                Step::Wait => self.watch.next().await.map(drop)?,
                step => return Ok(step),
            }
        }
    }

    /// What there is to do in this phase, at once.
    pub(super) async fn now(
        &self,
        at: &Dispatch,
        store: &impl Xenstore,
        phase: Phase,
    ) -> Result<Step, StoreError> {
        self.device.look(at, store).await.map(|backend| step(phase, backend))
    }

    /// Waits until the device is to go: it is there no more, or the toolstack says so.
    pub(super) async fn until_gone(
        &mut self,
        at: &Dispatch,
        store: &impl Xenstore,
    ) -> Result<(), StoreError> {
        loop {
            let backend = self.device.look(at, store).await?;
            if backend.state == XenbusState::Unknown || !backend.is_online {
                return Ok(());
            }
            self.watch.next().await?;
        }
    }
}
