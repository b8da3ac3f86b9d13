//! Who asks: the connection, or a transaction of it, with a limit to its patience.
#![forbid(unsafe_code)]

use core::{cell::Cell, fmt, future::Future, time::Duration};

use kexec::{irql::Dispatch, sync::Permits, time::timeout};

use super::{
    Store,
    error::StoreError,
    link::{Abandoned, NotBegun, Reply, Tx},
    path::ToPath,
    request::Request,
    transaction::{Transaction, TransactionError},
    watch::Watch,
    xenstore::{Ask, Root},
};
use crate::page::Seam;

/// How long a question waits for its turn and its reply, if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A store whose questions have another limit than [`PATIENCE`]: see [`Root::within`].
#[derive(Debug)]
pub struct Within<'s, P: Seam, const N: usize, const W: usize>(Client<'s, P, N, W>);

pub(super) struct Client<'s, P: Seam, const N: usize, const W: usize> {
    pub(super) store: &'s Store<P, N, W>,
    pub(super) tx: Tx,
    pub(super) patience: Duration,
}

impl<'s, P: Seam, const N: usize, const W: usize> Client<'s, P, N, W> {
    /// Of the connection itself.
    pub(super) const fn new(store: &'s Store<P, N, W>, patience: Duration) -> Self {
        Self { store, tx: Tx::NONE, patience }
    }

    /// Asks, and takes note of whether the question was begun: xenstored may then have got it.
    pub(super) async fn ask_noting<T>(
        &self,
        at: &Dispatch,
        request: &Request<'_>,
        is_begun: &Cell<bool>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answered = async {
            let mut call = self.begin(at, request).await?;
            is_begun.set(true);
            call.answer(|reply| with(reply.payload)).await
        };
        timeout(self.patience, answered).await.unwrap_or_else(|_| Err(self.late(request)))
    }

    pub(super) fn late(&self, request: &Request<'_>) -> StoreError {
        StoreError::TimedOut { asked: request.asked(), after: self.patience }
    }

    /// Waits until the message can be sent, and begins to.
    pub(super) async fn begin<'c>(
        &self,
        at: &'c Dispatch,
        request: &Request<'_>,
    ) -> Result<Call<'c, P, N, W>, StoreError>
    where
        's: 'c,
    {
        let store = self.store;
        loop {
            let changed = store.changed.wait();
            let free = store.calls.acquire(1).await.map_err(|_| StoreError::Disconnected)?;
            let turn = store.turn.acquire(1).await.map_err(|_| StoreError::Disconnected)?;
            let begun = store.line.lock(at).begin(&store.framing, request, self.tx);
            match begun {
                Ok(number) => {
                    // Both come back when they are due, whoever waits then: see `Store::tell` and `Call`.
                    turn.forget();
                    free.forget();
                    store.bell.set();
                    return Ok(Call { store, at, number: Some(number), place: None });
                }
                Err(NotBegun::Never(why)) => return Err(why),
                Err(NotBegun::Later) => {}
                Err(NotBegun::Ungreeted) => store.chores.set(),
            }
            drop((turn, free));
            changed.await;
        }
    }
}

/// A call of the link's that somebody waits for.
pub(super) struct Call<'c, P: Seam, const N: usize, const W: usize> {
    store: &'c Store<P, N, W>,
    at: &'c Dispatch,
    /// None, once its reply was taken.
    number: Option<usize>,
    /// That of the transaction that it starts.
    pub(super) place: Option<Permits<'c>>,
}

impl<P: Seam, const N: usize, const W: usize> Call<'_, P, N, W> {
    /// Waits for the reply, and does something with it.
    pub(super) async fn answer<T>(
        &mut self,
        with: impl FnOnce(Reply<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Self { store, at, .. } = *self;
        let number = self.number.ok_or(StoreError::Disconnected)?;
        let answered = store.answered.get(number).ok_or(StoreError::Disconnected)?;
        loop {
            answered.wait().await;
            let mut line = store.line.lock(at);
            // It may have been set for the call before.
            if let Some(reply) = line.link.take(number) {
                let outcome = reply.and_then(with);
                drop(line);
                self.number = None;
                super::give_back(&store.calls, 1);
                return outcome;
            }
        }
    }
}

impl<P: Seam, const N: usize, const W: usize> Drop for Call<'_, P, N, W> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let left = self.store.line.lock(self.at).link.abandon(number);
        if left != Abandoned::Waiting {
            super::give_back(&self.store.calls, 1);
        }
        if let Some(place) = self.place.take().filter(|_| left != Abandoned::Free) {
            // There is a transaction, or will be.
            place.forget();
            self.store.chores.set();
        }
    }
}

impl<P: Seam, const N: usize, const W: usize> Ask for Client<'_, P, N, W> {
    async fn ask<T>(
        &self,
        at: &Dispatch,
        request: Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ask_noting(at, &request, &Cell::new(false), with).await
    }
}

impl<P: Seam, const N: usize, const W: usize> Ask for Within<'_, P, N, W> {
    fn ask<T>(
        &self,
        at: &Dispatch,
        request: Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        self.0.ask(at, request, with)
    }
}

impl<P: Seam, const N: usize, const W: usize> Ask for Store<P, N, W> {
    fn ask<T>(
        &self,
        at: &Dispatch,
        request: Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        let client = Client::new(self, PATIENCE);
        async move { client.ask(at, request, with).await }
    }
}

impl<P: Seam, const N: usize, const W: usize> Root for Store<P, N, W> {
    type Transaction<'a> = Transaction<'a, P, N, W>;
    type Watch<'a> = Watch<'a, P, N, W>;
    type Within<'a> = Within<'a, P, N, W>;

    fn transaction<'a, T, E>(
        &'a self,
        at: &'a Dispatch,
        work: impl AsyncFnMut(&Transaction<'a, P, N, W>) -> Result<T, E>,
    ) -> impl Future<Output = Result<T, TransactionError<E>>> {
        Client::new(self, PATIENCE).transaction(at, work)
    }

    fn watch<'a>(
        &'a self,
        at: &'a Dispatch,
        path: impl ToPath,
    ) -> impl Future<Output = Result<Watch<'a, P, N, W>, StoreError>> {
        Client::new(self, PATIENCE).watch(at, path)
    }

    fn within(&self, patience: Duration) -> Within<'_, P, N, W> {
        Within(Client::new(self, patience))
    }
}

impl<P: Seam, const N: usize, const W: usize> fmt::Debug for Client<'_, P, N, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("tx", &self.tx)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
