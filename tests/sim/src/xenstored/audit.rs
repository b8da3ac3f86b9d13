//! What an auditor wants to know: who holds what, and whether the daemon is in order.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, error::Error, fmt};

use super::{
    CONTROL, Event, Xenstored,
    outgoing::Kind,
    path::Path,
    tree::{Owned, Tree},
};

/// What a domain that is introduced holds of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Its watches: path, as it was given, and token.
    pub watches: Vec<Event>,
    /// The numbers of its open transactions.
    pub transactions: Vec<u32>,
    /// Its requests of which the reply or an event is not taken.
    pub outstanding: usize,
    /// Replies and events that wait to be taken by it.
    pub queued: usize,
    /// Nodes that it owns.
    pub nodes: usize,
    /// Bytes of the daemon's memory that count for it.
    pub memory: usize,
    /// Bytes of a request that is not complete.
    pub received: usize,
    /// Whether its connection was ended for an error.
    pub is_dead: bool,
}

/// Something about the daemon that cannot be: a mistake of the simulation's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt(String);

impl Xenstored {
    /// What a domain holds; nothing if it is not introduced.
    #[must_use]
    pub fn holdings(&self, domid: u16) -> Option<Holdings> {
        let id = self.connection_of(domid)?;
        let connection = self.connections.get(&id)?;
        Some(Holdings {
            watches: connection.watches.iter().map(super::watch::Watch::named).collect(),
            transactions: connection.transactions.keys().copied().collect(),
            outstanding: self.outstanding_of(domid),
            queued: connection.outgoing.iter().count(),
            nodes: self.tree.owned_by(domid).nodes,
            memory: self.memory_of(id),
            received: connection.link.received(),
            is_dead: !connection.is_alive(),
        })
    }

    /// Looks at everything, and finds what does not fit.
    ///
    /// # Errors
    ///
    /// What that is.
    pub fn check(&self) -> Result<(), Corrupt> {
        self.check_tree()?;
        self.check_connections()?;
        self.check_outstanding()
    }

    /// Parents list their children and nothing else, owners exist, and the books are right.
    fn check_tree(&self) -> Result<(), Corrupt> {
        let Self { tree, domains, generation, .. } = self;
        let mut owned: BTreeMap<u16, Owned> = BTreeMap::new();
        for (path, node) in tree.iter() {
            let domid = node.permissions.owner;
            let books = owned.entry(domid).or_default();
            books.nodes += 1;
            books.bytes += path.as_str().len() + node.size();
            corrupt(domains.contains_key(&domid), || {
                format!("{path} is of domain {domid}, which is no more")
            })?;
            corrupt(node.generation <= *generation, || format!("{path} is of the future"))?;
            corrupt(is_listed(tree, path), || format!("{path} is not listed once by its parent"))?;
            for name in &node.children {
                let is_there = tree.get(&path.child(name)).is_some();
                corrupt(is_there, || format!("{path} lists {name:?}, which is not there"))?;
            }
        }
        corrupt(tree.get(&Path::root()).is_some(), || "there is no root".into())?;
        corrupt(owned == *tree.owned(), || format!("the books say {:?}, not {owned:?}", tree.owned()))
    }

    /// A connection that has ended has nothing, and every one that a domain has is the domain's.
    fn check_connections(&self) -> Result<(), Corrupt> {
        for (id, connection) in &self.connections {
            let who = connection.who;
            if let Some(domid) = who.domid() {
                let is_its_own = self.connection_of(domid) == Some(*id);
                corrupt(is_its_own && domid != CONTROL, || format!("{who} has another connection"))?;
            }
            let is_empty = connection.watches.is_empty()
                && connection.transactions.is_empty()
                && connection.outgoing.is_empty()
                && connection.link.received() == 0;
            corrupt(connection.is_alive() || is_empty, || format!("{who} is dead and has something"))?;
            let queued: usize = connection.outgoing.iter().map(super::outgoing::Message::len).sum();
            corrupt(queued == connection.outgoing.bytes(), || format!("{who} has {queued} bytes queued"))?;
        }
        for (domid, domain) in &self.domains {
            let is_connected = domain.connection.is_none_or(|id| self.connections.contains_key(&id));
            corrupt(is_connected, || format!("the connection of domain {domid} is gone"))?;
        }
        Ok(())
    }

    /// What is outstanding is what is queued.
    fn check_outstanding(&self) -> Result<(), Corrupt> {
        let mut queued: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for message in self.connections.values().flat_map(|connection| connection.outgoing.iter()) {
            match message.kind {
                Kind::Reply(request) => queued.entry(request).or_default().0 += 1,
                // Those of a domain that is no more are still told.
                Kind::Event { cause: Some(request), .. } if self.outstanding.contains_key(&request) => {
                    queued.entry(request).or_default().1 += 1;
                }
                Kind::Event { .. } | Kind::Stray => {}
            }
        }
        let outstanding: BTreeMap<u64, (u32, u32)> =
            self.outstanding.iter().map(|(&request, outstanding)| (request, outstanding.counts())).collect();
        corrupt(outstanding == queued, || {
            format!("replies and events of requests are outstanding {outstanding:?}, and queued {queued:?}")
        })
    }
}

fn is_listed(tree: &Tree, path: &Path) -> bool {
    if path.is_root() || path.is_special() {
        return true;
    }
    let lists =
        |parent: &super::tree::Node| parent.children.iter().filter(|name| *name == path.name()).count() == 1;
    tree.get(&path.parent()).is_some_and(lists)
}

fn corrupt(is_right: bool, what: impl FnOnce() -> String) -> Result<(), Corrupt> {
    if is_right { Ok(()) } else { Err(Corrupt(what())) }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xenstored is not in order: {}", self.0)
    }
}

impl Error for Corrupt {}
