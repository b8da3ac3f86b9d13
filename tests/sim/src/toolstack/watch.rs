//! What happens in the store, as a program of the control domain's sees it.
#![forbid(unsafe_code)]

use std::fmt;

use super::Toolstack;
use crate::{machine::Machine, xenstored::Client};

/// A watch of the control domain's, with a connection of its own. It is gone when it is dropped.
pub struct Watch {
    machine: Machine,
    /// There until it is dropped.
    client: Option<Client>,
}

impl Toolstack {
    /// Watches a path and all that is below it; or `@releaseDomain` or `@introduceDomain`. The first event is there at once.
    ///
    /// # Panics
    ///
    /// It is no path.
    #[must_use]
    pub fn watch(&self, path: &str) -> Watch {
        let client = self.0.with(|world| {
            let client = world.store.connect();
            let watched = world.store.tools(&client).watch(path, "");
            assert!(watched.is_ok(), "{path}: {watched:?}");
            client
        });
        Watch { machine: self.0.clone(), client: Some(client) }
    }
}

/// What has changed so far, one path after the other.
impl Iterator for Watch {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let client = self.client.as_ref()?;
        self.machine.with(|world| world.store.tools(client).next_event()).map(|event| event.path)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.machine.with(|world| world.store.disconnect(client));
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
