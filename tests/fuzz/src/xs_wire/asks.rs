//! What the guest asks, and what it notes of the answer.
#![forbid(unsafe_code)]

use std::time::Duration;

use kexec::irql::Dispatch;
use xenbus::store::{
    Access, Permission, Root, StoreError, TransactionError, Violation, WatchEvent, Watching, Xenstore,
};

use super::{Client, Met, action::Ask, note};

/// Shorter than what is waited for if nothing is said.
const SOON: Duration = Duration::from_secs(3);

/// Asks once, and notes what came of it.
pub(super) async fn ask(at: &Dispatch, client: &Client, ask: Ask, met: &Met) {
    let mut room = [0; 64];
    let mut entries = [Permission::new(0, Access::None); 2];
    let outcome = match ask {
        Ask::Read => client.read(at, "a", &mut room).await.map(|_| "a value"),
        Ask::Soon => client.within(SOON).read(at, "a", &mut room).await.map(|_| "a value"),
        Ask::Number => client.read_number::<u32>(at, ("a", "number")).await.map(|_| "a number"),
        Ask::Write => client.write(at, "a", &[0; 2000]).await.map(|()| "written"),
        Ask::Make => client.make(at, "a").await.map(|()| "made"),
        Ask::Remove => client.remove(at, "a").await.map(|()| "removed"),
        Ask::Directory => client.directory(at, "a", &mut room).await.map(|names| {
            assert!(names.clone().all(|name| !name.is_empty() && !name.contains('/')));
            if names.count() == 0 { "no names" } else { "names" }
        }),
        Ask::Permissions => client.permissions(at, "a", &mut entries).await.map(|list| {
            assert!(!list.is_empty());
            "permissions"
        }),
        Ask::SetPermissions => client.set_permissions(at, "a", &entries).await.map(|()| "permissions set"),
        Ask::Watch => watch(at, client, met).await,
        Ask::Transaction => transaction(at, client, true, met).await,
        Ask::Abort => transaction(at, client, false, met).await,
    };
    note(met, outcome.unwrap_or_else(|error| name(&error)), true);
}

/// Watches for three events, of which some may be errors.
async fn watch(at: &Dispatch, client: &Client, met: &Met) -> Result<&'static str, StoreError> {
    let mut watch = client.watch(at, "a").await?;
    for _ in 0..3 {
        let event = match watch.next().await {
            Ok(WatchEvent::Initial) => "the first event",
            Ok(WatchEvent::Changed) => "an event",
            Ok(WatchEvent::Rearmed) => "an event after the connection was lost",
            Err(error) => name(&error),
        };
        note(met, event, true);
    }
    Ok("watched")
}

async fn transaction(
    at: &Dispatch,
    client: &Client,
    commits: bool,
    met: &Met,
) -> Result<&'static str, StoreError> {
    let mut tries = 0;
    let done = client.transaction(at, async |tx| {
        tries += 1;
        note(met, "a conflict", tries > 1);
        let mut room = [0; 16];
        tx.read(at, "a", &mut room).await?;
        if commits { Ok(()) } else { Err(StoreError::Disconnected) }
    });
    match done.await {
        Ok(()) => Ok("committed"),
        Err(TransactionError::Aborted(error)) => {
            note(met, name(&error), true);
            Ok("aborted")
        }
        Err(TransactionError::Store(error)) => Err(error),
        Err(TransactionError::Conflicts(_)) => Ok("too many conflicts"),
        Err(TransactionError::Unknown(_)) => Ok("committed perhaps"),
    }
}

fn name(error: &StoreError) -> &'static str {
    // Whoever reads it in a log must be able to.
    assert!(error.to_string().is_ascii());
    match error {
        StoreError::Refused { .. } => "refused",
        StoreError::Unnamed { .. } => "refused without a name",
        StoreError::Mismatch { .. } => "an answer to something else",
        StoreError::Nonsense { .. } => "nonsense",
        StoreError::Value { .. } => "no number",
        StoreError::NoRoom { .. } => "no room",
        StoreError::Changing(_) => "a list that changes",
        StoreError::Path { .. } => "no path",
        StoreError::TooLong { .. } => "too long",
        StoreError::Watches(_) => "too many watches",
        StoreError::TimedOut { .. } => "too late",
        StoreError::Disconnected => "disconnected",
        StoreError::Violation(Violation::Requests { .. }) => "absurd index of requests",
        StoreError::Violation(Violation::Replies { .. }) => "absurd index of replies",
        StoreError::Violation(Violation::Length(_)) => "absurd length",
        StoreError::Ended(_) => "ended by xenstored",
    }
}
