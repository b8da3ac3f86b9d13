//! The rules that xenstored follows.
//!
//! A document says little about errors, limits and order: where it is silent, the rule is what the C daemon does.
#![forbid(unsafe_code)]

use std::{error::Error, fmt};

use xen_abi::io::xs_wire::XsError;

use crate::rule::{Rule, rules};

rules! {
    // Messages.
    /// A message whose header announces more than 4096 bytes ends the connection.
    PAYLOAD_LIMIT: "docs/misc/xenstore.txt", "introduction: the payload length";
    /// A producer index that is more than 1024 ahead of its consumer's ends the connection.
    RING_INDICES: "docs/misc/xenstore-ring.txt", "The xenstore ring datastructure";
    /// A connection that has ended says why in its page, has nothing any longer, and takes and gives nothing.
    CONNECTION_ENDED: "docs/misc/xenstore-ring.txt", "The connection error feature";
    /// A domain that asks for it begins anew: an empty ring, no request, watch or transaction, and the state says that it is done.
    RECONNECTION: "docs/misc/xenstore-ring.txt", "The ring reconnection feature";
    /// Requests are answered in their order, and a reply has their type and numbers, or is an error with their numbers.
    REPLIES: "docs/misc/xenstore.txt", "introduction: each request generates a reply";
    /// What cannot be sent waits until there is room.
    NOTHING_LOST: "tools/xenstored/core.c", "write_messages";
    /// A reply that would be longer than 4096 bytes is E2BIG instead.
    REPLY_LIMIT: "docs/misc/xenstore.txt", "introduction: the payload length";
    /// A type that the daemon does not know, or that only it sends, is ENOSYS.
    KNOWN_TYPES: "docs/misc/xenstore.txt", "Defined Xenstore message types";
    /// What only the control domain may ask for is EACCES for all others.
    PRIVILEGED_TYPES: "docs/misc/xenstore.txt", "Domain management and xenstored communications";
    /// A payload has the strings that its type asks for, each ended by a nul.
    PAYLOAD_SYNTAX: "docs/misc/xenstore.txt", "Xenstore protocol details - introduction";
    /// A domain is a decimal number from 0 to 65535, a depth, offset or value one of 32 bits.
    NUMBER_SYNTAX: "docs/misc/xenstore.txt", "Xenstore protocol details - introduction: <domid>";

    // Paths.
    /// A path has letters, digits and `-/_@`, and no others.
    PATH_CHARACTERS: "docs/misc/xenstore.txt", "the permitted characters for paths";
    /// A path is not empty, has no two slashes in a row, and ends with one only if it is the root.
    PATH_SLASHES: "docs/misc/xenstore.txt", "the permitted characters for paths";
    /// A path is not longer than 3072 bytes; a guest's, below `/local/domain/N/`, is shorter than its quota of 2048.
    PATH_LENGTH: "docs/misc/xenstore.txt", "the permitted characters for paths";
    /// What begins with an `@` can be watched and have permissions, and nothing else.
    PATH_SPECIAL: "docs/misc/xenstore.txt", "Watches: <wspecial>";

    // Nodes.
    /// What is not there is ENOENT, for whoever may do to the nearest node above it what was asked for.
    NODE_EXISTS: "docs/misc/xenstore.txt", "Database read, write and permissions operations";
    /// A node can be read or written if its permissions say so to the caller; all others learn nothing, not even whether it is there.
    NODE_ACCESS: "docs/misc/xenstore.txt", "permission entries of a node";
    /// The root cannot be removed.
    ROOT_STAYS: "tools/xenstored/core.c", "do_rm";
    /// A node that is listed by its parent is there, and the other way round: else it is EIO, and the transaction will fail.
    TREE_WHOLE: "tools/xenstored/core.c", "walk_node_tree, delete_child";

    /// What is created has the permissions of the nearest node above it, but what a guest creates is its own.
    CREATION: "tools/xenstored/core.c", "construct_node";
    /// Children are listed in the order in which they were created.
    LISTING: "tools/xenstored/core.c", "add_child";
    /// A list in pieces has whole names, and says by an empty one that it is at its end.
    LISTING_PARTS: "docs/misc/xenstore.txt", "DIRECTORY_PART";

    // Permissions.
    /// A permission is `n`, `r`, `w` or `b` and a domain, and a node has at least one.
    PERMISSION_SYNTAX: "docs/misc/xenstore.txt", "SET_PERMS: <perm-as-string>";
    /// A node has fewer permissions than the quota says.
    PERMISSION_COUNT: "tools/xenstored/domain.c", "quotas: node-permissions";
    /// A node's owner is a domain that exists.
    OWNER_EXISTS: "tools/xenstored/domain.c", "domain_alloc_permrefs";
    /// Only the control domain gives a node to another.
    OWNER_STAYS: "docs/misc/xenstore.txt", "permission entries of a node";

    /// The owner may do everything; for others the first permission with their number counts, else what the owner's says.
    PERMISSION_ORDER: "docs/misc/xenstore.txt", "permission entries of a node";
    /// A permission for a domain that does not exist is nobody's, also when there is such a domain later.
    PERMISSION_STALE: "tools/xenstored/domain.c", "domain_adjust_node_perms";
    /// Where that is offered, a permission of `DOMID_ANY` is for every domain.
    PERMISSION_ANY: "tools/xenstored/domain.c", "domain_alloc_permrefs";

    // Quotas.
    /// A domain that would own as many nodes as its quota says creates none.
    QUOTA_NODES: "tools/xenstored/domain.c", "quotas: nodes";
    /// A node that a domain writes is smaller than the quota, counting 16 bytes, 8 for each permission, value and names of children.
    QUOTA_NODE_SIZE: "tools/xenstored/domain.c", "quotas: node-size";
    /// A domain that would have as many watches as its quota says sets none.
    QUOTA_WATCHES: "tools/xenstored/domain.c", "quotas: watches";
    /// A domain that would have as many transactions as its quota says starts none.
    QUOTA_TRANSACTIONS: "tools/xenstored/domain.c", "quotas: transactions";
    /// A transaction that would touch as many nodes as the quota says does not, and has failed.
    QUOTA_TRANSACTION_NODES: "tools/xenstored/domain.c", "quotas: transaction-nodes";
    /// A domain that would use as much of the daemon's memory as its quota says is refused: EIO for a node, ENOMEM for the rest.
    QUOTA_MEMORY: "tools/xenstored/domain.c", "quotas: memory";

    /// A domain with as many outstanding requests as its quota says is not listened to.
    QUOTA_OUTSTANDING: "tools/xenstored/domain.c", "domain_can_read";

    // Watches.
    /// A domain has one watch of a path and token.
    WATCH_ONCE: "tools/xenstored/watch.c", "do_watch";
    /// Only a watch that is set can be removed.
    WATCH_EXISTS: "tools/xenstored/watch.c", "do_unwatch";
    /// A watch takes a depth if the daemon offers that.
    WATCH_DEPTH: "docs/misc/xenstore.txt", "Watches: <depth>";

    /// A watch has an event at once, which comes after the reply.
    WATCH_FIRES_AT_ONCE: "docs/misc/xenstore.txt", "Watches: when a watch is first set up";
    /// A watch of a path has the events of all paths below, each with the path that was changed.
    WATCH_BELOW: "docs/misc/xenstore.txt", "Watches: the event's path matches";
    /// A watch below a node that is removed has an event with its own path, if there was a node.
    WATCH_PARENT_REMOVED: "docs/misc/xenstore.txt", "WATCH_EVENT";
    /// A watch whose path was relative has events with relative paths.
    WATCH_RELATIVE: "docs/misc/xenstore.txt", "WATCH_EVENT";
    /// Who may read neither a node, nor before might, nor the one above, is not told.
    WATCH_PERMITTED: "tools/xenstored/watch.c", "watch_permitted";
    /// Who came first is told first, and for each its first watch first.
    WATCH_ORDER: "tools/xenstored/watch.c", "fire_watches";
    /// An event that waits to be sent to a domain is not repeated, unless it is a special one.
    WATCH_MERGED: "tools/xenstored/core.c", "send_event";
    /// An event that a domain does not take for long is given up.
    WATCH_TIMEOUT: "tools/xenstored/core.c", "check_event_timeout";
    /// Those who may read a special node are told of domains that come and go; with a depth, of which.
    WATCH_SPECIAL: "docs/misc/xenstore.txt", "Watches: <wspecial>";

    // Transactions.
    /// A request is made in a transaction of the caller's that is still open, or in none.
    TRANSACTION_OPEN: "docs/misc/xenstore.txt", "TRANSACTION_END";
    /// Transactions are not nested.
    TRANSACTION_NOT_NESTED: "docs/misc/xenstore.txt", "TRANSACTION_START";
    /// A transaction ends with `T` or `F`.
    TRANSACTION_END_SYNTAX: "docs/misc/xenstore.txt", "TRANSACTION_END";
    /// A transaction that has touched a node which was changed since is EAGAIN, and nothing of it happens.
    TRANSACTION_CONFLICT: "docs/misc/xenstore.txt", "TRANSACTION_END";
    /// A transaction in which a write has failed halfway cannot be committed: it is ENOMEM.
    TRANSACTION_FAILED: "tools/xenstored/transaction.c", "do_transaction_end";

    /// A transaction sees each node as it was when it first touched it, and what it has done since; nobody else sees that.
    TRANSACTION_VIEW: "tools/xenstored/transaction.c", "access_node";
    /// The events of a transaction come when it is committed, one for each path, in the order in which it touched them.
    TRANSACTION_EVENTS: "tools/xenstored/transaction.c", "queue_watches, finalize_transaction";

    // Domains.
    /// A domain is introduced with an event channel, exists, and is not dom0.
    INTRODUCE_REAL: "docs/misc/xenstore.txt", "INTRODUCE";
    /// Only a domain that is introduced can be released, resumed or targeted, and never dom0.
    DOMAIN_INTRODUCED: "docs/misc/xenstore.txt", "Domain management and xenstored communications";
    /// Features and quotas are of domains that exist.
    DOMAIN_EXISTS: "docs/misc/xenstore.txt", "GET_FEATURE, SET_FEATURE";
    /// A domain's features are settled once it is introduced.
    FEATURES_BEFORE: "docs/misc/xenstore.txt", "GET_FEATURE, SET_FEATURE";
    /// A domain is offered what the daemon can do, and nothing else.
    FEATURES_KNOWN: "docs/misc/xenstore.txt", "GET_FEATURE, SET_FEATURE";

    /// Whoever is introduced begins with an empty ring and nothing else.
    INTRODUCE_ANEW: "tools/xenstored/domain.c", "domain_conn_reset";
    /// The nodes of a domain that is destroyed or released go, with all below them, and nobody's permissions name it.
    DOMAIN_GONE: "docs/misc/xenstore.txt", "permission entries of a node";
    /// A domain that shuts down is told of once, until it is resumed.
    SHUT_DOWN_ONCE: "docs/misc/xenstore.txt", "RESUME";
    /// A domain may do to nodes what its target may.
    TARGET: "docs/misc/xenstore.txt", "SET_TARGET";

}

/// The fault plan says so, and no document.
pub(crate) const INJECTED: Rule =
    Rule { name: "INJECTED", says: "A fault was asked for.", document: "", section: "" };

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the caller is told,
    pub error: XsError,
    /// and the rule that says so.
    pub rule: Rule,
}

impl Rule {
    pub(super) const fn answers(self, error: XsError) -> Refusal {
        Refusal { error, rule: self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {:?}: {}", self.error, self.rule, self.rule.says.trim())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {:?}", self.error, self.rule)
    }
}

impl Error for Refusal {}
