//! Cases that send and receive bytes.
//!
//! - [`Wire`]: what they need of a connection; [`Ring`], the one that a guest has;
//! - `talk`: messages, made of bytes;
//! - `messages`, `paths`, `parts`, `watches`, `transactions`, `stream`: the cases.
#![forbid(unsafe_code)]

mod messages;
mod parts;
mod paths;
mod ring;
mod stream;
mod talk;
mod transactions;
mod watches;

use core::future::Future;

use kexec::irql::Dispatch;

pub use self::ring::Ring;
use self::talk::Talk;
use crate::{case::cases, difference::Difference, ground::Ground};

/// The two streams of bytes between a domain and its xenstored.
///
/// Nobody else may use the connection meanwhile: all its watches and transactions are reset.
pub trait Wire {
    /// Sends bytes: ends when all are on their way. May wait for room.
    fn send(&self, at: &Dispatch, bytes: &[u8]) -> impl Future<Output = ()>;

    /// Waits for bytes, as many as there is room for.
    fn receive(&self, at: &Dispatch, into: &mut [u8]) -> impl Future<Output = ()>;
}

cases! {
    async fn check(at: &Dispatch, talk: &mut Talk<'_, impl Wire>, ground: &mut Ground<'_>);

    // Messages.
    /// A reply has the type and the numbers of its request; an error has the numbers.
    messages::are_answered_by_number: "docs/misc/xenstore.txt", "introduction: identical type, req_id and tx_id";
    /// What has nothing to answer is answered with `OK`.
    messages::without_an_answer: "docs/misc/xenstore.txt", "success responses have the following payload: OK|";
    /// A value is all of a reply, and a list has a nul after each name.
    messages::with_an_answer: "docs/misc/xenstore.txt", "READ, DIRECTORY, GET_PERMS";
    /// A type that is not known, or only valid in replies, is ENOSYS.
    messages::of_no_type: "docs/misc/xenstore.txt", "Defined Xenstore message types";
    /// What only the control domain may ask for is refused.
    messages::for_the_control_domain: "docs/misc/xenstore.txt", "Domain management and xenstored communications";
    /// Optional types are known, or ENOSYS.
    messages::of_optional_types: "docs/misc/xenstore.txt", "Defined Xenstore message types: optional";
    /// A payload that is not what its type asks for is EINVAL, and nothing comes of it.
    messages::that_are_malformed: "docs/misc/xenstore.txt", "Xenstore protocol details";
    /// A payload can have 4096 bytes.
    messages::of_full_length: "docs/misc/xenstore.txt", "introduction: The payload length is limited to 4096";
    /// Everybody can ask for the path of a domain.
    messages::that_ask_for_a_path: "docs/misc/xenstore.txt", "GET_DOMAIN_PATH";

    // Paths.
    /// A path that is too long is EINVAL; one that is just not too long is not.
    paths::are_not_too_long: "docs/misc/xenstore.txt", "Paths longer than 3072 bytes are forbidden";
    /// No path at all is EINVAL.
    paths::are_not_empty: "docs/misc/xenstore.txt", "The empty path is also forbidden";

    // Lists in parts.
    /// A part has the list's generation, whole names from the offset on, and an empty name if it is the last.
    parts::of_a_list: "docs/misc/xenstore.txt", "DIRECTORY_PART";
    /// The generation is the same as long as the list is.
    parts::have_a_generation: "docs/misc/xenstore.txt", "DIRECTORY_PART: <gencnt>";

    // Watches.
    /// An event has the token of its watch, the path that was changed, and no numbers.
    watches::have_a_token: "docs/misc/xenstore.txt", "WATCH_EVENT <epath>|<token>|";
    /// A watch whose path was relative has events whose paths are relative, and no other has.
    watches::that_are_relative: "docs/misc/xenstore.txt", "WATCH_EVENT: Iff <wpath> was specified as a relative pathname";
    /// A watch is for its node and for what is below it, and not for what only begins alike, or is above.
    watches::of_whole_names: "docs/misc/xenstore.txt", "Watches: if it is an child of <wpath>";
    /// When a parent is removed, a watch is told of its own path.
    watches::of_a_parent_that_goes: "docs/misc/xenstore.txt", "WATCH_EVENT: the recursive removal of an parent";
    /// What a transaction changes is told by path when it is committed.
    watches::of_a_commit: "docs/misc/xenstore.txt", "Watches: only if and when committed";
    /// There is an event for each change, or one for all that it waits to be told of, where that is enough.
    watches::that_cannot_be_told: "docs/misc/xenstore.txt", "Watches: each matching watch results in a WATCH_EVENT message";
    /// One path and token can be watched once.
    watches::are_set_once: "tools/xenstored/watch.c", "do_watch: EEXIST";
    /// Only a watch that is set can be removed, and by both its path and its token.
    watches::are_removed: "docs/misc/xenstore.txt", "UNWATCH";
    /// After the reply to its removal there is no event of a watch.
    watches::end_with_their_removal: "docs/misc/xenstore.txt", "UNWATCH";
    /// All watches of a domain can be removed at once.
    watches::are_reset: "docs/misc/xenstore.txt", "RESET_WATCHES";
    /// A domain has no more watches than the quota says.
    watches::are_limited: "docs/misc/xenstore.txt", "GET_QUOTA: watches";
    /// A depth limits a watch, where that is offered.
    watches::have_a_depth: "docs/misc/xenstore.txt", "WATCH: <depth>";
    /// The transaction of a request for a watch means nothing.
    watches::are_in_no_transaction: "docs/misc/xenstore.txt", "The tx_id in a WATCH request is ignored";

    // Transactions.
    /// A transaction has a number of its own, which is not zero, until it ends.
    transactions::have_a_number: "docs/misc/xenstore.txt", "TRANSACTION_START: <transid>";
    /// Nothing can be done in a transaction that is not open.
    transactions::that_are_no_more: "docs/misc/xenstore.txt", "TRANSACTION_END: the tx_id is no longer valid";
    /// A transaction is not started in another.
    transactions::are_not_nested: "docs/misc/xenstore.txt", "TRANSACTION_START: not legal to send non-0 tx_id";
    /// A transaction that was overtaken is answered with EAGAIN, and is over.
    transactions::that_are_overtaken: "docs/misc/xenstore.txt", "TRANSACTION_END: EAGAIN";
    /// A transaction ends with `T` or `F`, and stays open if somebody says something else.
    transactions::end_by_a_letter: "docs/misc/xenstore.txt", "TRANSACTION_END T|, F|";
    /// A domain has no more transactions open than the quota says.
    transactions::are_not_many: "docs/misc/xenstore.txt", "GET_QUOTA: transactions";
    /// Who resets watches resets transactions, too.
    transactions::go_with_the_watches: "docs/misc/xenstore.txt", "RESET_WATCHES: all watches and transactions of the caller";

    // The stream.
    /// A request can come in any pieces.
    stream::in_pieces: "docs/misc/xenstore-ring.txt", "The xenstore ring datastructure";
    /// Requests can follow each other without their replies being waited for.
    stream::without_waiting: "docs/misc/xenstore.txt", "introduction: A caller who sends several requests";
    /// Replies wait until there is room for them, and none is lost.
    stream::without_taking: "docs/misc/xenstore-ring.txt", "The xenstore ring datastructure";
    /// Events between replies do not break either.
    stream::of_replies_and_events: "docs/misc/xenstore.txt", "WATCH_EVENT: Unsolicited reply";
}

impl Case {
    /// Checks the rule.
    ///
    /// It works in a node that it makes and removes: the [ground's](Ground::home). Watches and transactions are reset
    /// before, and when it has failed. Not cancel-safe: whoever drops it has to begin the connection anew.
    ///
    /// # Errors
    ///
    /// The first thing that was different. Also if the store does not answer.
    pub async fn run(
        &self,
        at: &Dispatch,
        wire: &impl Wire,
        ground: &mut Ground<'_>,
    ) -> Result<(), Difference> {
        let mut talk = Talk::new(wire);
        let outcome = match talk.open(at, ground).await {
            Ok(()) => check(self.which, at, &mut talk, ground).await,
            Err(difference) => Err(difference),
        };
        let left = match outcome {
            Ok(()) => talk.close(at, ground).await,
            // There is something to say already.
            Err(_) => talk.raze(at, ground).await.or(Ok(())),
        };
        outcome.and(left).map_err(|difference| Difference { case: self.name, ..difference })
    }
}
