//! What a connection does by itself, while it is served: it moves bytes, and says what nobody else is there to say.
#![forbid(unsafe_code)]

use core::{cell::Cell, time::Duration};

use futures_util::future::join;
use kexec::{
    irql::Dispatch,
    time::{Elapsed, timeout},
    yield_now,
};
use xen_abi::io::xs_wire::MessageType;

use super::{
    Line, Store,
    client::{Client, PATIENCE},
    link::Tx,
    path::{Text, ToPath},
    request::Request,
    watch::{ToSay, WATCHED},
    xenstore::Xenstore,
};
use crate::page::Seam;

/// Where the toolstack says that `RESET_WATCHES` is known: `~/control/platform-feature-xs_reset_watches` in
/// `docs/misc/xenstore-paths.pandoc`.
const CAN_RESET: &str = "control/platform-feature-xs_reset_watches";

/// How often the ring is looked at while replies are to come, and no event.
const LOOK: Duration = Duration::from_secs(5);

/// Something to say to xenstored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chore {
    /// That whoever used the connection before is no more.
    Greet,
    /// That a transaction is not wanted any more.
    End(Tx),
    /// That something is to be watched, or no longer.
    Watch(ToSay),
}

/// Whether watches and transactions of this connection are the client's own, and not of whoever has used it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// There may be others; nobody minds.
    Unsaid,
    /// Somebody minds.
    Wanted,
    Said,
}

impl<P: Seam, const N: usize, const W: usize> Store<P, N, W> {
    /// Moves bytes, ends what was left behind, and sets watches; for ever: a task of the driver's does nothing else.
    /// To be polled at `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** another call goes on where this one was.
    pub async fn serve(&self, at: &Dispatch) {
        join(self.move_bytes(at), self.do_chores(at)).await;
    }

    async fn move_bytes(&self, at: &Dispatch) {
        loop {
            self.rung(at).await;
            while self.pump(at) {
                yield_now().await;
            }
        }
    }

    /// Waits until there may be something to move. While replies are to come, it looks by itself now and then: an
    /// event that was lost costs that long, and not the question; and a transaction whose number has come is not left
    /// open for want of an event.
    async fn rung(&self, at: &Dispatch) {
        let looks = self.line.lock(at).link.expects_replies();
        let rung = self.bell.wait();
        if !looks {
            rung.await;
        } else if timeout(LOOK, rung).await == Err(Elapsed::NoClock) {
            self.bell.wait().await;
        }
    }

    async fn do_chores(&self, at: &Dispatch) {
        // The last one may have been cancelled in the middle.
        self.chores.set();
        loop {
            self.chores.wait().await;
            while let Some(chore) = self.next_chore(at) {
                match chore {
                    Chore::Greet => self.greet(at).await,
                    Chore::End(tx) => self.end(at, tx).await,
                    Chore::Watch(what) => self.say(at, what).await,
                }
                self.pulse();
            }
        }
    }

    fn next_chore(&self, at: &Dispatch) -> Option<Chore> {
        self.line.lock(at).next_chore()
    }

    /// Waits until xenstored knows of nothing that was dropped: no watch, no transaction, no question whose answer is
    /// still to come.
    ///
    /// A driver that goes awaits this before it [disconnects](Self::disconnect), while somebody still
    /// [serves](Self::serve). Without a connection there is nothing to wait for. How long a xenstored is waited for
    /// that does not answer is for the caller to say.
    ///
    /// **Cancel-safe:** there is nothing to lose.
    pub async fn settled(&self, at: &Dispatch) {
        loop {
            let changed = self.changed.wait();
            if self.line.lock(at).is_settled() {
                return;
            }
            changed.await;
        }
    }

    async fn greet(&self, at: &Dispatch) {
        let client = Client::new(self, PATIENCE);
        let connection = self.line.lock(at).link.connection();
        let mut room = [0; 1];
        if client.read(at, CAN_RESET, &mut room).await == Ok(b"1") {
            let reset = Request::plain(MessageType::ResetWatches, "");
            // If it cannot, it has not: then there is nothing more to be done.
            let _ = client.ask_noting(at, &reset, &Cell::new(false), |_| Ok(())).await;
        }
        let mut line = self.line.lock(at);
        if line.link.connection() == connection {
            line.greeting = Greeting::Said;
        }
    }

    /// Ends a transaction that nobody wants.
    async fn end(&self, at: &Dispatch, tx: Tx) {
        let buried = Buried { store: self, at, tx, is_begun: Cell::new(false) };
        let client = Client { tx, ..Client::new(self, PATIENCE) };
        let request = Request::plain(MessageType::TransactionEnd, "F");
        // Once xenstored has got it, its answer does not matter; and its number may soon be another's.
        let _ = client.ask_noting(at, &request, &buried.is_begun, |_| Ok(())).await;
    }

    /// Says what is to be watched, or no longer.
    async fn say(&self, at: &Dispatch, what: ToSay) {
        let (token, is_begun) = (what.token(), Cell::new(false));
        let Some(path) = self.saying(at, &what) else { return };
        let outcome = match Request::node(what.kind, path.to_path()) {
            Ok(request) => {
                let client = Client::new(self, PATIENCE);
                client.ask_noting(at, &request.string(&token), &is_begun, |_| Ok(())).await
            }
            Err(error) => Err(error),
        };
        self.line.lock(at).watches.said(&what, outcome, is_begun.get());
        self.notice(what.bit());
    }

    fn saying(&self, at: &Dispatch, what: &ToSay) -> Option<Text<WATCHED>> {
        self.line.lock(at).watches.saying(what)
    }

    /// Moves bytes once; whether there may be more.
    fn pump(&self, at: &Dispatch) -> bool {
        let (pumped, fired, to) = self.line.lock(at).pump(&self.framing);
        if let Some((platform, port)) = to {
            super::ring(&platform, port);
        }
        self.tell(pumped);
        self.notice(fired);
        pumped.again
    }
}

impl<P: Seam, const N: usize, const W: usize> Line<P, N, W> {
    /// What is to be done, if it can be.
    fn next_chore(&self) -> Option<Chore> {
        if !self.link.is_up() {
            return None;
        }
        let watch = self.watches.to_say();
        let sets_one = watch.is_some_and(|what| what.kind == MessageType::Watch);
        match self.greeting {
            Greeting::Wanted => return Some(Chore::Greet),
            Greeting::Unsaid if sets_one => return Some(Chore::Greet),
            Greeting::Unsaid | Greeting::Said => {}
        }
        self.link.next_orphan().map(Chore::End).or(watch.map(Chore::Watch))
    }

    /// Whether xenstored knows of nothing that was dropped.
    fn is_settled(&self) -> bool {
        let is_owing = self.greeting == Greeting::Wanted
            || self.link.next_orphan().is_some()
            || self.link.has_abandoned()
            || self.watches.to_say().is_some_and(|what| what.kind == MessageType::Unwatch);
        !self.link.is_up() || !is_owing
    }
}

/// A transaction that is being ended.
struct Buried<'s, P: Seam, const N: usize, const W: usize> {
    store: &'s Store<P, N, W>,
    at: &'s Dispatch,
    tx: Tx,
    is_begun: Cell<bool>,
}

impl<P: Seam, const N: usize, const W: usize> Drop for Buried<'_, P, N, W> {
    fn drop(&mut self) {
        if self.is_begun.get() && self.store.line.lock(self.at).link.bury(self.tx) {
            super::give_back(&self.store.transactions, 1);
        }
    }
}
