//! Several things at once.
//!
//! A transaction that was started is ended, whatever becomes of who has started it: by a commit, or by
//! [`serve`](super::Store::serve), to which it is left. Even one whose number comes when nobody waits for it any more.
#![forbid(unsafe_code)]

use core::{cell::Cell, fmt, future::Future};

use kexec::{irql::Dispatch, sync::Permits, time::timeout, yield_now};
use xen_abi::io::xs_wire::{MessageType, XsError};

use super::{client::Client, error::StoreError, request::Request, xenstore::Ask};
use crate::page::Seam;

/// How often a transaction is tried in all, if others come in between.
pub const TRANSACTION_ATTEMPTS: u32 = 32;

/// What a transaction sees of xenstore: each node as it was when the transaction came to it first, and its own changes.
#[derive(Debug)]
pub struct Transaction<'s, P: Seam, const N: usize, const W: usize>(Client<'s, P, N, W>);

/// Why a transaction has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionError<E> {
    /// What was to be done has failed. Nothing has happened.
    Aborted(E),
    /// It could not be started or committed. Nothing has happened.
    Store(StoreError),
    /// So many times, others have come in between. Nothing has happened.
    Conflicts(u32),
    /// The commit was sent, and its reply is lost: it may have happened or not. Look, before doing it again.
    Unknown(StoreError),
}

impl<P: Seam, const N: usize, const W: usize> Ask for Transaction<'_, P, N, W> {
    fn ask<T>(
        &self,
        at: &Dispatch,
        request: Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        self.0.ask(at, request, with)
    }
}

/// A transaction that was started, and has to end.
struct Open<'s, P: Seam, const N: usize, const W: usize> {
    transaction: Transaction<'s, P, N, W>,
    at: &'s Dispatch,
    place: Option<Permits<'s>>,
    /// Its end was asked for.
    is_ended: Cell<bool>,
}

impl<'s, P: Seam, const N: usize, const W: usize> Client<'s, P, N, W> {
    /// See [`Root::transaction`](super::Root::transaction).
    pub(super) async fn transaction<T, E>(
        self,
        at: &'s Dispatch,
        mut work: impl AsyncFnMut(&Transaction<'s, P, N, W>) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        for _ in 0..TRANSACTION_ATTEMPTS {
            let open = self.start(at).await.map_err(TransactionError::Store)?;
            let outcome = work(&open.transaction).await.map_err(TransactionError::Aborted)?;
            match open.commit().await {
                Ok(()) => return Ok(outcome),
                Err(error) if error.refusal() == Some(XsError::EAGAIN) => yield_now().await,
                // A refusal has reached us: xenstored has not done it.
                Err(error @ (StoreError::Refused { .. } | StoreError::Unnamed { .. })) => {
                    return Err(TransactionError::Store(error));
                }
                Err(error) if open.is_ended.get() => return Err(TransactionError::Unknown(error)),
                Err(error) => return Err(TransactionError::Store(error)),
            }
        }
        Err(TransactionError::Conflicts(TRANSACTION_ATTEMPTS))
    }

    async fn start(&self, at: &'s Dispatch) -> Result<Open<'s, P, N, W>, StoreError> {
        let request = Request::plain(MessageType::TransactionStart, "");
        let started = async {
            let place = self.store.transactions.acquire(1).await.map_err(|_| StoreError::Disconnected)?;
            let mut call = self.begin(at, &request).await?;
            call.place = Some(place);
            let tx = call.answer(|reply| reply.transaction()).await?;
            let transaction = Transaction(Client { tx, ..*self });
            Ok(Open { transaction, at, place: call.place.take(), is_ended: Cell::new(false) })
        };
        timeout(self.patience, started).await.unwrap_or_else(|_| Err(self.late(&request)))
    }
}

impl<P: Seam, const N: usize, const W: usize> Open<'_, P, N, W> {
    async fn commit(&self) -> Result<(), StoreError> {
        let request = Request::plain(MessageType::TransactionEnd, "T");
        self.transaction.0.ask_noting(self.at, &request, &self.is_ended, |_| Ok(())).await
    }
}

impl<P: Seam, const N: usize, const W: usize> Drop for Open<'_, P, N, W> {
    fn drop(&mut self) {
        let Client { store, tx, .. } = self.transaction.0;
        let is_left = !self.is_ended.get() && store.line.lock(self.at).link.orphan(tx);
        if let Some(place) = self.place.take().filter(|_| is_left) {
            place.forget();
            store.chores.set();
        }
    }
}

impl<E: fmt::Display> fmt::Display for TransactionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted(error) => error.fmt(f),
            Self::Store(error) => write!(f, "the transaction was not committed: {error}"),
            Self::Conflicts(attempts) => {
                write!(f, "others came in between each of {attempts} times; try again later")
            }
            Self::Unknown(error) => {
                write!(f, "the transaction may have been committed: {error}; look before doing it again")
            }
        }
    }
}

impl<E: core::error::Error> core::error::Error for TransactionError<E> {}
