//! A client that needs nobody: no interrupt, no lock, no memory but its own, and no CPU but the one that it is polled
//! by.
#![forbid(unsafe_code)]

use core::{cell::RefCell, fmt, time::Duration};

use kexec::{irql::Dispatch, time::timeout, yield_now};
use xen_abi::event_channel::EvtchnPort;

use super::{
    client::PATIENCE,
    error::{ConnectError, StoreError},
    find,
    framing::Framing,
    link::{Abandoned, Link, NotBegun, Pumped, Tx},
    request::Request,
    ring,
    xenstore::Ask,
};
use crate::page::{Page, Seam};

/// The client of a crash dump, on the same ring as a [`Store`](super::Store) that has stopped, wherever that was.
///
/// It goes on where the [`Framing`] says: it sends the rest of a message of which only a part was sent, and throws
/// away the rest of one of which only a part was taken; events of watches and replies to others it throws away, too.
/// It moves bytes when it is polled, and wakes itself until it has its answer: whoever polls it does nothing else.
///
/// What happens in a transaction of the other client stays as it is; xenstored ends it with the domain.
///
/// It has about 12 KiB in itself, and allocates nothing.
pub struct CrashStore<P: Seam> {
    framing: Framing,
    line: RefCell<Line<P>>,
    patience: Duration,
}

struct Line<P: Seam> {
    link: Link<Page<P>, 1>,
    to: Option<(P, EvtchnPort)>,
}

impl<P: Seam> CrashStore<P> {
    /// Not connected. Its questions wait for [`PATIENCE`].
    #[must_use]
    pub const fn new() -> Self {
        Self::within(PATIENCE)
    }

    /// Not connected. Its questions wait for so long, if the platform that polls them has a clock.
    #[must_use]
    pub const fn within(patience: Duration) -> Self {
        Self { framing: Framing::new(), line: RefCell::new(Line { link: Link::new(), to: None }), patience }
    }

    /// Finds the ring, and goes on where the other client was. Without a framing, or with one that is not of a
    /// connection, it is taken for granted that both streams are between two messages.
    ///
    /// # Errors
    ///
    /// There is no ring, or it cannot be used.
    pub fn connect(&mut self, platform: &P, other: Option<&Framing>) -> Result<(), ConnectError> {
        let Self { framing, line, .. } = self;
        let Line { link, to } = line.get_mut();
        drop(link.disconnect(framing, StoreError::Disconnected));
        let (page, port) = find(platform)?;
        framing.end();
        link.connect(framing, page, other);
        *to = Some((platform.clone(), port));
        Ok(())
    }

    /// Moves bytes once.
    fn pump(&self) {
        let Ok(mut line) = self.line.try_borrow_mut() else { return };
        let Pumped { moved, .. } = line.link.pump(&self.framing, |_| true);
        if let Some((platform, port)) = line.to.as_ref().filter(|_| moved) {
            ring(platform, *port);
        }
    }

    async fn call<T>(
        &self,
        request: &Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let call = loop {
            self.pump();
            let begun = self.with(|link| link.begin(&self.framing, request, Tx::NONE));
            match begun.unwrap_or(Err(NotBegun::Later)) {
                Ok(number) => break Call { store: self, number },
                Err(NotBegun::Never(why)) => return Err(why),
                Err(NotBegun::Later | NotBegun::Ungreeted) => yield_now().await,
            }
        };
        loop {
            self.pump();
            if let Ok(mut line) = self.line.try_borrow_mut()
                && let Some(reply) = line.link.take(call.number)
            {
                return reply.and_then(|reply| with(reply.payload));
            }
            yield_now().await;
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Link<Page<P>, 1>) -> R) -> Option<R> {
        // Nobody has it across an await.
        self.line.try_borrow_mut().ok().map(|mut line| work(&mut line.link))
    }
}

/// A call that somebody waits for.
struct Call<'c, P: Seam> {
    store: &'c CrashStore<P>,
    number: usize,
}

impl<P: Seam> Drop for Call<'_, P> {
    fn drop(&mut self) {
        let _: Option<Abandoned> = self.store.with(|link| link.abandon(self.number));
    }
}

impl<P: Seam> Ask for CrashStore<P> {
    async fn ask<T>(
        &self,
        _at: &Dispatch,
        request: Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let late = StoreError::TimedOut { asked: request.asked(), after: self.patience };
        timeout(self.patience, self.call(&request, with)).await.unwrap_or(Err(late))
    }
}

impl<P: Seam> Default for CrashStore<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Seam> fmt::Debug for CrashStore<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashStore").field("patience", &self.patience).finish_non_exhaustive()
    }
}
