//! Xenstored: the tree of paths and values through which domains find each other.
//!
//! It is written from `docs/misc/xenstore.txt` and `docs/misc/xenstore-ring.txt`. Where they are silent, on limits, errors and
//! order, it does what the C daemon (`tools/xenstored`) does; where they and the daemon differ, it is the stricter of the
//! two. What it offers at first is what the daemon of Xen 4.17 does; the rest is behind [`Features`].
//!
//! It is a state machine without a thread, a clock or a page of its own: whoever has those [steps](Xenstored::step) it.
//!
//! ```
//! use xen_sim::xenstored::{Access, Config, Permission, Xenstored};
//!
//! let mut xenstored = Xenstored::new(&Config::default());
//! xenstored.domain_created(1);
//!
//! let toolstack = xenstored.connect();
//! let mut tools = xenstored.tools(&toolstack);
//! tools.watch("/local/domain/1", "guest")?;
//! tools.write(None, "/local/domain/1/name", b"example")?;
//! tools.set_permissions(None, "/local/domain/1/name", &[Permission::new(Access::Read, 1)])?;
//! assert_eq!(tools.read(None, "/local/domain/1/name")?, b"example");
//!
//! let mut paths = Vec::new();
//! while let Some(event) = tools.next_event() {
//!     paths.push(event.path);
//! }
//! // At once, and then for the value and for the permissions.
//! assert_eq!(paths, ["/local/domain/1", "/local/domain/1/name", "/local/domain/1/name"]);
//! # Ok::<(), xen_sim::xenstored::Refusal>(())
//! ```
//!
//! The daemon, in reading order:
//!
//! - `path`, `permission`, `tree`: what a node is; `quota`: how much of it;
//! - `store`: what can be done with nodes; `transaction`, `watch`: and what comes of that;
//! - `message`, `request`: what a request's bytes ask for; `rules`: why it is refused;
//! - `ring`, `connection`, `outgoing`: how requests come in, and replies and events go out;
//! - `domain`: who is there; `tools`: dom0's side of it;
//! - `fault`: what can go wrong; `trace`: what has happened; `audit`: who holds what.
//!
//! # What is different from a daemon
//!
//! - Numbers in payloads are decimal, as documented; the C daemon takes what `strtol` takes.
//! - Dom0 has no `CONTROL`, and no guest is slowed down for writing while another's transaction is open.
//! - Domains come and go when [they are said to](Xenstored::domain_created); who owns a special node and dies leaves it to dom0.
#![forbid(unsafe_code)]

mod audit;
mod connection;
mod domain;
mod fault;
mod message;
mod outgoing;
mod path;
mod permission;
mod quota;
mod request;
mod ring;
pub(crate) mod rules;
mod store;
mod tools;
mod trace;
mod transaction;
mod tree;
mod watch;

use std::{collections::BTreeMap, time::Duration};

use xen_abi::io::xs_wire::XENSTORE_SERVER_FEATURE_DOMID_ANY;

pub use self::{
    audit::{Corrupt, Holdings},
    connection::{Step, Who},
    fault::Fault,
    permission::{Access, Permission},
    quota::{Quota, Quotas},
    ring::RingPage,
    rules::Refusal,
    store::Listing,
    tools::{Client, Tools, Tx},
    trace::Record,
    watch::Event,
};
use self::{
    connection::{Connection, ConnectionId, Outstanding},
    domain::{Domain, INTRODUCED, RELEASED},
    path::Path,
    permission::{Permissions, Whom},
    tree::{Node, Tree},
};
use crate::rule::Rule;

/// The rules that the daemon follows.
pub const RULES: &[Rule] = rules::RULES;

/// The domain that may do everything.
const CONTROL: u16 = 0;

/// What a daemon can do that not every one can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// What is offered to domains: bits `XENSTORE_SERVER_FEATURE_*`. The error in a ring's page is also written if it is not
    /// offered, as by Xen 4.17.
    pub offered: u32,
    /// `GET_FEATURE` and `SET_FEATURE`.
    pub feature_requests: bool,
    /// `GET_QUOTA` and `SET_QUOTA`.
    pub quota_requests: bool,
}

/// How a daemon is started. The default is as on Xen 4.17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it can do.
    pub features: Features,
    /// What a new domain may use.
    pub quotas: Quotas,
    /// How long an event waits for a domain to take it.
    pub event_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            features: Features::default(),
            quotas: Quotas::default(),
            event_timeout: Duration::from_secs(20),
        }
    }
}

/// The daemon.
#[derive(Debug)]
pub struct Xenstored {
    features: Features,
    quotas: Quotas,
    event_timeout: Duration,
    now: Duration,
    tree: Tree,
    /// That of the last change.
    generation: u64,
    domains: BTreeMap<u16, Domain>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u32,
    outstanding: BTreeMap<u64, Outstanding>,
    last_request: u64,
    records: Option<Vec<Record>>,
}

impl Xenstored {
    /// A daemon that has just started, with the nodes that it makes itself: `setup_structure` in tools/xenstored/core.c.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut daemon = Self {
            features: config.features,
            quotas: config.quotas,
            event_timeout: config.event_timeout,
            now: Duration::ZERO,
            tree: Tree::default(),
            generation: 0,
            domains: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            outstanding: BTreeMap::new(),
            last_request: 0,
            records: None,
        };
        daemon.domain_created(CONTROL);
        let own = Permissions::of(CONTROL, Access::None);
        for (path, child) in [("/", Some("tool")), ("/tool", Some("xenstored")), ("/tool/xenstored", None)] {
            let mut node = Node::new(own.clone(), Vec::new());
            node.children.extend(child.map(str::to_owned));
            daemon.put(&Path::own(path), node);
        }
        let released = if config.features.offered & XENSTORE_SERVER_FEATURE_DOMID_ANY == 0 {
            own.clone()
        } else {
            own.clone().with(Permission::new(Access::Read, store::DOMID_ANY), Whom::All)
        };
        daemon.put(&Path::own(RELEASED), Node::new(released, Vec::new()));
        daemon.put(&Path::own(INTRODUCED), Node::new(own, Vec::new()));
        daemon
    }
}
