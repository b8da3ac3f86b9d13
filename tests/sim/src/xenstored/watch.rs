//! Watches, and the events that they cause.
//!
//! Events are in the order of the changes; for one change, in the order in which the connections came, and for each in that
//! in which its watches were set.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XENSTORE_SERVER_FEATURE_WATCHDEPTH, XsError};

use super::{
    Xenstored,
    connection::{By, Connection, ConnectionId, Who},
    outgoing::Message,
    path::{Path, Special, is_relative},
    permission::{Permissions, Rights},
    quota::Quota,
    rules::{QUOTA_MEMORY, QUOTA_WATCHES, Refusal, WATCH_DEPTH, WATCH_EXISTS, WATCH_ONCE},
    trace::Record,
    tree::Node,
};

/// A watch that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) path: Path,
    pub(super) token: Vec<u8>,
    /// The bytes that it does not want to see of a path, since its own was relative.
    prefix: usize,
    /// Levels below its path that it is for.
    depth: Option<u32>,
}

/// Which watches a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// The path's own.
    Exact,
    /// Those of the path and of all paths above.
    Subtree,
    /// A special path's own which have no depth.
    Special,
    /// A special path's that has the domain as its last part: its own, and those above that have a depth.
    SpecialDomain,
}

/// An event as a connection of dom0's takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The path that was changed, or the watch's own if a parent was removed; relative if the watch's was.
    pub path: String,
    /// The watch's token.
    pub token: Vec<u8>,
}

impl Watch {
    pub(super) fn bytes(&self) -> usize {
        self.path.as_str().len() + self.token.len()
    }

    fn is_for(&self, path: &Path, how: Match) -> bool {
        let is_own = *path == self.path;
        let is_within = || {
            path.levels_below(&self.path).is_some_and(|levels| {
                self.depth.is_none_or(|depth| u32::try_from(levels).is_ok_and(|levels| levels <= depth))
            })
        };
        match how {
            Match::Exact => is_own,
            Match::Subtree => is_within(),
            Match::Special => is_own && self.depth.is_none(),
            Match::SpecialDomain => is_own || (self.depth.is_some_and(|depth| depth > 0) && is_within()),
        }
    }

    pub(super) fn event(&self, path: &Path) -> Event {
        Event { path: path.as_str()[self.prefix..].to_owned(), token: self.token.clone() }
    }

    /// What `WATCH` called it.
    pub(super) fn named(&self) -> Event {
        self.event(&self.path)
    }
}

impl Xenstored {
    /// `WATCH`: the event that follows the reply.
    pub(super) fn watch(
        &mut self,
        by: By,
        path: &[u8],
        token: &[u8],
        depth: Option<u32>,
    ) -> Result<Event, Refusal> {
        if depth.is_some() && !self.is_offered(by, XENSTORE_SERVER_FEATURE_WATCHDEPTH) {
            return Err(WATCH_DEPTH.answers(XsError::EINVAL));
        }
        let watch = self.watch_of(by, path, token, depth)?;
        let quotas = self.quotas_of(by);
        let memory = self.memory_of(by.connection);
        let watches = &mut self.connection(by).watches;
        if watches.iter().any(|other| other.path == watch.path && other.token == watch.token) {
            return Err(WATCH_ONCE.answers(XsError::EEXIST));
        }
        if let Some(quotas) = quotas {
            if quotas.is_reached(Quota::Watches, watches.len() + 1) {
                return Err(QUOTA_WATCHES.answers(XsError::ENOSPC));
            }
            if quotas.is_reached(Quota::Memory, memory + watch.bytes()) {
                return Err(QUOTA_MEMORY.answers(XsError::ENOMEM));
            }
        }
        let event = watch.named();
        watches.push(watch);
        Ok(event)
    }

    /// `UNWATCH`
    pub(super) fn unwatch(&mut self, by: By, path: &[u8], token: &[u8]) -> Result<(), Refusal> {
        let watch = self.watch_of(by, path, token, None)?;
        let watches = &mut self.connection(by).watches;
        let position = watches
            .iter()
            .position(|other| other.path == watch.path && other.token == watch.token)
            .ok_or(WATCH_EXISTS.answers(XsError::ENOENT))?;
        watches.remove(position);
        Ok(())
    }

    fn watch_of(&mut self, by: By, path: &[u8], token: &[u8], depth: Option<u32>) -> Result<Watch, Refusal> {
        let path_of_node = self.path(by, path, Special::Allowed)?;
        let home = self.connection(by).who.home();
        let is_relative = str::from_utf8(path).is_ok_and(is_relative);
        let prefix = if is_relative { home.len() + 1 } else { 0 };
        Ok(Watch { path: path_of_node, token: token.to_vec(), prefix, depth })
    }

    /// A node has changed: everybody who watches it and may see it is told, in a transaction at its end.
    ///
    /// `node` is what it was or is, if it is not to be looked up; `before` are the permissions that it had.
    pub(super) fn fire(
        &mut self,
        by: Option<By>,
        path: &Path,
        node: Option<&Node>,
        how: Match,
        before: Option<&Permissions>,
    ) {
        if let Some(transaction) = by.and_then(|by| self.transaction(by)) {
            return transaction.keep_event(path, how);
        }
        let mut events = Vec::new();
        for (&id, connection) in &self.connections {
            if self.may_see(connection, path, node, before) {
                let watches = connection.watches.iter().filter(|watch| watch.is_for(path, how));
                events.extend(watches.map(|watch| (id, watch.event(path))));
            }
        }
        let cause = by.and_then(|by| by.request);
        for (id, event) in events {
            self.send_event(id, &event, cause);
        }
    }

    /// Whether a watcher may know of a node: it may read it, or might before, or may read the parent's list of names.
    fn may_see(
        &self,
        watcher: &Connection,
        path: &Path,
        node: Option<&Node>,
        before: Option<&Permissions>,
    ) -> bool {
        let caller = watcher.caller();
        let may_read = |permissions: &Permissions| permissions.rights(caller).have_all(Rights::READ);
        if before.is_some_and(may_read) {
            return true;
        }
        let Some(node) = node.or_else(|| self.tree.get(path)) else { return false };
        may_read(&node.permissions)
            || self.tree.get(&path.parent()).is_some_and(|parent| may_read(&parent.permissions))
    }

    /// Queues an event. `cause` is the request that counts as outstanding until the event is taken.
    ///
    /// A program of dom0's has a socket, which takes an event at once: none is waited for, given up or the same as another.
    pub(super) fn send_event(&mut self, to: ConnectionId, event: &Event, cause: Option<u64>) {
        let Some(connection) = self.connections.get(&to) else { return };
        let who = connection.who;
        let message = match who {
            Who::Tools => Message::event(event, None, None),
            Who::Domain(_) => Message::event(event, cause, Some(self.now.saturating_add(self.event_timeout))),
        };
        let is_special = event.path.starts_with('@');
        let is_waiting = who != Who::Tools && !is_special && connection.outgoing.has_event(&message);
        let is_too_long = message.payload().len() > XENSTORE_PAYLOAD_MAX as usize;
        let memory = self.memory_of(to) + message.len();
        let has_no_room = self.quotas_of_connection(to).is_some_and(|q| q.is_reached(Quota::Memory, memory));
        if is_waiting || is_too_long || has_no_room {
            return;
        }
        self.record(|| Record::Event { to: who, event: event.clone() });
        self.cause_event(message.kind);
        if let Some(connection) = self.connections.get_mut(&to) {
            connection.outgoing.push(message);
        }
    }
}
