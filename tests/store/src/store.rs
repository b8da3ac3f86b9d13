//! Cases that go through a [`Root`], as drivers do.
//!
//! - `nodes`, `paths`, `directories`, `permissions`: one question at a time;
//! - `transactions`, `watches`: what others have to do with it;
//! - `traffic`: many questions at the same time.
#![forbid(unsafe_code)]

mod directories;
mod nodes;
mod paths;
mod permissions;
mod traffic;
mod transactions;
mod watches;

use kexec::irql::Dispatch;
use xenbus::store::Root;

use crate::{case::cases, difference::Difference, ground::Ground};

cases! {
    async fn check(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>);

    // Nodes.
    /// What was written last is read, as long as it was written.
    nodes::what_was_written_is_read: "docs/misc/xenstore.txt", "READ, WRITE";
    /// A value is octets: any, in any number, none included.
    nodes::a_value_is_octets: "docs/misc/xenstore.txt", "WRITE: <value|>";
    /// A value can be as long as a node and a message have room for, and is refused as a whole if it is longer.
    nodes::the_longest_value: "docs/misc/xenstore.txt", "introduction: the payload length; quotas: node-size";
    /// What is not there cannot be read, listed, or have permissions.
    nodes::what_is_not_there: "docs/misc/xenstore.txt", "Database read, write and permissions operations";
    /// Who writes a node makes all that are missing above it, with empty values.
    nodes::writing_makes_parents: "docs/misc/xenstore.txt", "WRITE creates any missing parent paths";
    /// Who makes a node makes all that are missing above it, and leaves alone what is there.
    nodes::making_leaves_alone: "docs/misc/xenstore.txt", "MKDIR";
    /// Who removes a node removes all that is below it, and nothing beside it.
    nodes::removing_takes_the_tree: "docs/misc/xenstore.txt", "RM";
    /// To remove what is not there is an error only if its parent is not there, either.
    nodes::removing_what_is_not_there: "docs/misc/xenstore.txt", "RM";

    // Paths.
    /// A relative path is one below the domain's own directory.
    paths::a_relative_path: "docs/misc/xenstore.txt", "introduction: <path>";
    /// A name has letters, digits and `-_@`.
    paths::permitted_characters: "docs/misc/xenstore.txt", "the permitted characters for paths";
    /// A path with any other character is refused.
    paths::other_characters: "docs/misc/xenstore.txt", "the permitted characters for paths";
    /// Doubled slashes and slashes at the end are refused.
    paths::slashes: "docs/misc/xenstore.txt", "Doubled slashes and trailing slashes are forbidden";
    /// What begins with an `@` is no node that a guest can read or write.
    paths::special_paths: "docs/misc/xenstore.txt", "@ should be avoided except to specify special watches";

    // Directories.
    /// A node has a list of its children's names, and of theirs it has none.
    directories::children_are_listed: "docs/misc/xenstore.txt", "DIRECTORY";
    /// What is removed is listed no longer; what is made again comes last, where lists have an order.
    directories::a_list_follows: "docs/misc/xenstore.txt", "DIRECTORY; add_child in tools/xenstored/core.c";
    /// A list that is longer than a message is read in pieces.
    directories::a_long_list: "docs/misc/xenstore.txt", "DIRECTORY_PART";
    /// A list in pieces is one that there was, although it changes meanwhile.
    directories::a_long_list_that_changes: "docs/misc/xenstore.txt", "DIRECTORY_PART: <gencnt>";

    // Permissions.
    /// A new node has the permissions of the one above it.
    permissions::are_inherited: "tools/xenstored/core.c", "construct_node: Inherit permissions";
    /// The permissions are those that were set, in their order.
    permissions::are_what_was_set: "docs/misc/xenstore.txt", "GET_PERMS, SET_PERMS";
    /// The owner may read and write, whatever the permissions say.
    permissions::the_owner_may: "docs/misc/xenstore.txt", "permission entries of a node: always has full access";
    /// Only the control domain gives a node to another domain.
    permissions::the_owner_stays: "docs/misc/xenstore.txt", "the owner can only be modified by the control domain";
    /// A node has no more permissions than the quota says, and not none.
    permissions::are_not_many: "docs/misc/xenstore.txt", "SET_PERMS: <perm-as-string>|+";
    /// Nodes of another domain that has not allowed it can neither be read nor changed.
    permissions::of_another_domain: "docs/misc/xenstore.txt", "permission entries of a node";

    // Transactions.
    /// Nobody else sees what a transaction does before it is committed; it does itself.
    transactions::are_isolated: "docs/misc/xenstore.txt", "TRANSACTION_START: reads and writes happen on the copy";
    /// Of a transaction that is thrown away nothing has happened.
    transactions::that_fail_leave_nothing: "docs/misc/xenstore.txt", "TRANSACTION_END: the transaction is discarded";
    /// All that can be done with nodes can be done in a transaction.
    transactions::do_everything: "docs/misc/xenstore.txt", "TRANSACTION_START";
    /// A transaction reads the same value twice, although it is changed meanwhile.
    transactions::read_what_they_have_read: "docs/misc/xenstore.txt", "TRANSACTION_START: reads and writes happen on the copy";
    /// What a transaction has read was changed meanwhile: it is not committed.
    transactions::conflict_by_what_they_read: "docs/misc/xenstore.txt", "TRANSACTION_END: EAGAIN";
    /// What a transaction has written was changed meanwhile: it is not committed, where that counts.
    transactions::conflict_by_what_they_write: "docs/misc/xenstore.txt", "TRANSACTION_END: EAGAIN";
    /// Who does not touch the same nodes does not conflict.
    transactions::beside_each_other: "docs/misc/xenstore.txt", "TRANSACTION_END: conflicting writes";
    /// Several transactions are open at the same time.
    transactions::at_the_same_time: "docs/misc/xenstore.txt", "TRANSACTION_START: <transid>";
    /// A transaction in which a write was refused is not committed, where that counts.
    transactions::with_a_failed_write: "tools/xenstored/transaction.c", "fail_transaction, do_transaction_end";

    // Watches.
    /// A watch is triggered when it is set, whether there is a node or not.
    watches::fire_when_set: "docs/misc/xenstore.txt", "Watches: When a watch is first set up";
    /// A watch is triggered when its node is written, made, removed or given permissions.
    watches::of_a_node: "docs/misc/xenstore.txt", "Watches: including path creation, removal, contents change";
    /// A watch is triggered by what is below its node.
    watches::of_all_below: "docs/misc/xenstore.txt", "Watches: if it is an child of <wpath>";
    /// A watch is triggered when a node above its node is removed.
    watches::of_a_parent_that_goes: "docs/misc/xenstore.txt", "WATCH_EVENT: the recursive removal of an parent";
    /// A watch is not triggered by what only reads, changes nothing, fails, or is elsewhere.
    watches::of_nothing_else: "docs/misc/xenstore.txt", "Watches: matched against all the watches";
    /// Each watch is triggered, also if there are several of a node.
    watches::are_independent: "docs/misc/xenstore.txt", "Watches: each matching watch results in a WATCH_EVENT message";
    /// What a transaction changes triggers when it is committed, and never if it is not.
    watches::wait_for_the_commit: "docs/misc/xenstore.txt", "Watches: only if and when committed";
    /// A special path can be watched; a guest that has not been allowed to hears no more of it.
    watches::of_special_paths: "docs/misc/xenstore.txt", "Watches: <wspecial>";

    // Traffic.
    /// Each of many questions gets its own answer.
    traffic::many_questions: "docs/misc/xenstore.txt", "introduction: must use req_id to match up";
    /// Messages that are longer than the ring go through it, in both directions at the same time.
    traffic::longer_than_the_ring: "docs/misc/xenstore-ring.txt", "The xenstore ring datastructure";
}

impl Case {
    /// Checks the rule.
    ///
    /// It works in a node that it makes and removes: the [ground's](Ground::home). Also if it fails, nothing is left,
    /// as far as the store lets it.
    ///
    /// # Errors
    ///
    /// The first thing that was different. Also if the store does not answer, or is not connected.
    pub async fn run(
        &self,
        at: &Dispatch,
        store: &impl Root,
        ground: &mut Ground<'_>,
    ) -> Result<(), Difference> {
        let outcome = match ground.open(at, store).await {
            Ok(()) => check(self.which, at, store, ground).await,
            Err(difference) => Err(difference),
        };
        let left = match outcome {
            Ok(()) => ground.close(at, store).await,
            // There is something to say already.
            Err(_) => ground.raze(at, store).await.or(Ok(())),
        };
        outcome.and(left).map_err(|difference| Difference { case: self.name, ..difference })
    }
}
