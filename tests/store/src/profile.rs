//! What stores differ in, and may.
//!
//! Where the documents leave something open, or a daemon does something else than they say, a case asks the profile
//! what to expect. It expects something under every profile.
#![forbid(unsafe_code)]

/// What to expect of a daemon. Errors are the names that are on the wire: not each of them is one of `xs_wire.h`.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is another question")]
pub struct Profile {
    /// Which daemon it is.
    pub name: &'static str,

    /// The longest path of a node, in bytes below `/local/domain/N/`.
    pub path: usize,
    /// How large a node can be, if there is a limit.
    pub node: Option<NodeSize>,
    /// Watches that a domain can have.
    pub watches: Quota,
    /// Transactions that a domain can have open.
    pub transactions: Quota,
    /// Permissions that a node can have, if there is a limit.
    pub permissions: Option<Quota>,

    /// Children are listed in the order in which they were made.
    pub lists_in_order: bool,
    /// There is `DIRECTORY_PART`.
    pub has_parts: bool,

    /// To send something else than a path to what takes one; nothing, if the error may be any.
    pub no_path: Option<&'static str>,
    /// To read what is not there, below a node that cannot be read.
    pub read_hidden: &'static str,
    /// To remove what is not there, below a node that cannot be written; nothing, if that is done.
    pub remove_hidden: Option<&'static str>,
    /// To make another the owner of one's node.
    pub give_away: &'static str,
    /// To read what begins with an `@`, and is there.
    pub read_special: &'static str,
    /// To write what begins with an `@`.
    pub write_special: &'static str,
    /// To ask for the permissions of what begins with an `@`, and is there.
    pub special_permissions: &'static str,

    /// To set the permissions of what begins with an `@`; nothing, if the error may be any.
    pub share_special: Option<&'static str>,

    /// What counts as a conflict of a transaction with others.
    pub conflicts: Conflicts,
    /// That somebody makes a node which a transaction has found missing is a conflict, whatever else it does.
    pub misses_conflict: bool,
    /// A transaction sees all nodes as they were when it was started; else, each as it was when the transaction came to
    /// it first.
    pub sees_the_start: bool,
    /// To ask for anything in a transaction that is no more.
    pub dead_transaction: &'static str,
    /// To commit a transaction in which a write has failed; nothing, if that is done.
    pub failed_transaction: Option<&'static str>,
    /// A reply to `WATCH` and `UNWATCH` has the number of the transaction that the request had, although that means
    /// nothing.
    pub watch_has_transaction: bool,

    /// An event that waits to be sent is not sent again.
    pub merges_events: bool,
    /// A watch can have a depth.
    pub has_depth: bool,
    /// There are `GET_FEATURE` and `SET_FEATURE`.
    pub has_features: bool,
    /// There are `GET_QUOTA` and `SET_QUOTA`.
    pub has_quotas: bool,
    /// To send `CONTROL`, which is the control domain's; nothing, if that is answered, and nothing done.
    pub control: Option<&'static str>,
}

/// How large a node can be.
#[derive(Clone, Copy, Debug)]
pub struct NodeSize {
    /// Bytes of a node in all.
    pub most: usize,
    /// Bytes of a node that has one permission, no value and no children.
    pub empty: usize,
    /// The names of its children count, each with a nul.
    pub counts_names: bool,
    /// The answer to what would make it larger.
    pub refusal: &'static str,
}

/// So many, and no more.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// The most that can be had.
    pub most: usize,
    /// The answer to one more.
    pub refusal: &'static str,
}

/// What counts as a conflict of a transaction with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflicts {
    /// A node that the transaction has looked at, found missing or changed was written since, whatever was written.
    Touched,
    /// An answer that the transaction has got would be another now; one that changes nothing has none.
    Answers,
}

impl Profile {
    /// The C daemon of the Xen that this project follows: `tools/xenstored`, with the quotas that it begins with. A
    /// quota is the number that a domain does not come to: `domain_quota_val_exceeds` in domain.c. A node's header has
    /// 16 bytes, and 8 for each permission: `calc_node_acc_size` in core.c.
    pub const XENSTORED: Self = Self {
        name: "xenstored",
        path: 2047,
        node: Some(NodeSize { most: 2047, empty: 24, counts_names: true, refusal: "ENOSPC" }),
        watches: Quota { most: 127, refusal: "ENOSPC" },
        transactions: Quota { most: 9, refusal: "ENOSPC" },
        permissions: Some(Quota { most: 4, refusal: "ENOSPC" }),
        lists_in_order: true,
        has_parts: true,
        // `canonicalize`
        no_path: Some("EINVAL"),
        // `errno_from_parents`
        read_hidden: "EACCES",
        remove_hidden: Some("EACCES"),
        give_away: "EPERM",
        // `canonicalize`
        read_special: "EINVAL",
        write_special: "EINVAL",
        special_permissions: "EACCES",
        share_special: Some("EACCES"),
        // `access_node` and `finalize_transaction` in transaction.c
        conflicts: Conflicts::Touched,
        misses_conflict: true,
        sees_the_start: false,
        dead_transaction: "ENOENT",
        // `fail_transaction`
        failed_transaction: Some("ENOMEM"),
        watch_has_transaction: true,
        // `send_event` in core.c
        merges_events: true,
        has_depth: true,
        has_features: true,
        has_quotas: true,
        control: Some("EACCES"),
    };

    /// The C daemon of Xen 4.17: `tools/xenstore/xenstored_*.c`, where each quota is compared in a way of its own.
    pub const XENSTORED_4_17: Self = Self {
        name: "xenstored of Xen 4.17",
        // `is_valid_nodename`
        path: 2048,
        // `struct xs_tdb_record_hdr`
        node: Some(NodeSize { most: 2047, empty: 32, counts_names: true, refusal: "ENOSPC" }),
        // `do_watch`: more than 128 is too many, before the new one is counted.
        watches: Quota { most: 129, refusal: "E2BIG" },
        // `do_transaction_start`: the same
        transactions: Quota { most: 11, refusal: "ENOSPC" },
        permissions: Some(Quota { most: 5, refusal: "ENOSPC" }),
        // `canonicalize` passes on that there is no path, and does not set `errno`, with which `get_node_canonicalized`
        // is taken to fail: it is that of an earlier failure.
        no_path: None,
        special_permissions: "EINVAL",
        // `do_set_perms` answers with `errno`, which `set_perms_special` does not set: that of an earlier failure.
        share_special: None,
        has_depth: false,
        has_features: false,
        has_quotas: false,
        ..Self::XENSTORED
    };

    /// The daemon in OCaml: `tools/ocaml/xenstored`.
    pub const OXENSTORED: Self = Self {
        name: "oxenstored",
        // `path_validate` in utils.ml; `quota-path-max` in oxenstored.conf, as it is installed
        path: 1024,
        // `Quota.check`: only the value counts.
        node: Some(NodeSize { most: 2048, empty: 0, counts_names: false, refusal: "E2BIG" }),
        // `Connection.add_watch`, and `input_handle_error` in process.ml: a name that no header has
        watches: Quota { most: 101, refusal: "EQUOTA" },
        transactions: Quota { most: 11, refusal: "EQUOTA" },
        permissions: None,
        // `Store.ls` folds a map whose keys are symbols.
        lists_in_order: false,
        has_parts: false,
        no_path: Some("EINVAL"),
        // `Store.Path.lookup` looks for the node before it looks at permissions, and `do_rm` takes its absence for
        // success.
        read_hidden: "ENOENT",
        remove_hidden: None,
        give_away: "EACCES",
        // Special nodes are nodes below the root: `Store.Path.specials`.
        read_special: "EACCES",
        write_special: "EACCES",
        special_permissions: "EACCES",
        share_special: Some("EACCES"),
        // `transaction_replay` in process.ml
        conflicts: Conflicts::Answers,
        // `Transaction.read` notes what was read when it has been. `Transaction.commit` takes over what was written if
        // that, and what is noted, is as it was: only if not, the answers are compared.
        misses_conflict: false,
        sees_the_start: true,
        // `process_packet` looks for the transaction outside of what names errors.
        dead_transaction: "EIO",
        failed_transaction: None,
        // `maybe_ignore_transaction`
        watch_has_transaction: false,
        // `fire_single_watch_unchecked` in connection.ml
        merges_events: false,
        has_depth: false,
        has_features: false,
        has_quotas: false,
        // `do_debug`
        control: None,
    };
}
