//! `control/feature-*`: what the guest does when it is asked to.
//!
//! The toolstack may have made these nodes, with nothing in them; a guest that does what it is asked for writes "1"
//! there. It is never told that it may: if it may not, it does what it is asked for all the same.
//!
//! Each node has one owner, who knows nothing of the others' nodes: the bus driver, or an agent.
//!
//! Source: `docs/misc/xenstore-paths.pandoc`, `~/control/feature-poweroff`.
#![forbid(unsafe_code)]

use bitflags::bitflags;
use kexec::irql::Dispatch;

use super::is_forbidden;
use crate::store::{StoreError, Xenstore, optional};

bitflags! {
    /// What a guest does when it is asked to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u8 {
        /// `feature-suspend`
        const SUSPEND = 1 << 0;
        /// `feature-poweroff`
        const POWER_OFF = 1 << 1;
        /// `feature-reboot`
        const REBOOT = 1 << 2;
        /// `feature-s3`
        const SLEEP = 1 << 3;
        /// `feature-s4`
        const HIBERNATE = 1 << 4;
        /// `feature-balloon`: it gives memory back. A convention of `xapi`'s.
        const BALLOON = 1 << 5;
        /// `feature-laptop-slate-mode`: it is a laptop, or a slate.
        const LAPTOP_SLATE_MODE = 1 << 6;
    }
}

/// Where each is published.
const NODES: [(Features, &str); 7] = [
    (Features::SUSPEND, "control/feature-suspend"),
    (Features::POWER_OFF, "control/feature-poweroff"),
    (Features::REBOOT, "control/feature-reboot"),
    (Features::SLEEP, "control/feature-s3"),
    (Features::HIBERNATE, "control/feature-s4"),
    (Features::BALLOON, "control/feature-balloon"),
    (Features::LAPTOP_SLATE_MODE, "control/feature-laptop-slate-mode"),
];

/// The features of one owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    features: Features,
    /// Those whose nodes were not there before.
    made: Features,
}

impl Published {
    /// None of these yet.
    pub(super) const fn new(features: Features) -> Self {
        Self { features, made: Features::empty() }
    }

    fn nodes(self) -> impl Iterator<Item = (Features, &'static str)> {
        NODES.into_iter().filter(move |(feature, _)| self.features.contains(*feature))
    }

    /// Publishes them. Those that it may not are the answer.
    pub(super) async fn publish(
        &mut self,
        at: &Dispatch,
        store: &impl Xenstore,
    ) -> Result<Features, StoreError> {
        let mut refused = Features::empty();
        for (feature, node) in self.nodes() {
            let was_there = is_there(at, store, node).await?;
            self.made.set(feature, !was_there);
            match store.write(at, node, b"1").await {
                Ok(()) => {}
                Err(error) if is_forbidden(&error) => refused.insert(feature),
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Leaves the nodes as they were: the toolstack's with nothing in them, as the guest could not make them again;
    /// and the guest's own not at all.
    pub(super) async fn withdraw(&self, at: &Dispatch, store: &impl Xenstore) -> Result<(), StoreError> {
        for (feature, node) in self.nodes() {
            let withdrawn = match (is_there(at, store, node).await?, self.made.contains(feature)) {
                (false, _) => Ok(()),
                (true, true) => store.remove(at, node).await,
                (true, false) => store.write(at, node, b"").await,
            };
            match withdrawn {
                // It may not have been written either.
                Err(error) if is_forbidden(&error) => {}
                withdrawn => withdrawn?,
            }
        }
        Ok(())
    }
}

/// Whether there is such a node, whatever is in it.
async fn is_there(at: &Dispatch, store: &impl Xenstore, node: &str) -> Result<bool, StoreError> {
    match optional(store.read(at, node, &mut []).await) {
        Ok(value) => Ok(value.is_some()),
        Err(StoreError::NoRoom { .. }) => Ok(true),
        // One that is not to be read may be there, and is not the guest's to remove.
        Err(error) if is_forbidden(&error) => Ok(true),
        Err(error) => Err(error),
    }
}
