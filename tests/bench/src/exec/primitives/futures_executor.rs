//! `futures-channel` and the mutex of `futures-util`, on `futures-executor`, of the same project. It has no semaphore.

use std::future::Future;

use futures_channel::mpsc::{self, Receiver, Sender};
use futures_util::lock::{Mutex, MutexGuard};
use futures_util::{SinkExt, StreamExt};

use super::work::{self, Channel, Lock};
use super::{Case, Library};
use crate::exec::cases::Executor;
use crate::exec::peers::futures_executor::Pool;

pub(super) const LIBRARY: Library = Library {
    name: Pool::NAME,
    cases: &[
        (Case::MutexHop, work::mutex_hop::<Pool, Mutex<()>>),
        (Case::Channel, work::channel::<Pool, Values>),
    ],
};

impl Lock for Mutex<()> {
    type Guard = MutexGuard<'static, ()>;

    fn new() -> Self {
        Self::new(())
    }

    fn lock(&'static self) -> impl Future<Output = Self::Guard> + Send {
        self.lock()
    }
}

struct Values;

impl Channel for Values {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    /// A sender has room for one of its own.
    fn new() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(15)
    }

    async fn send(sender: &mut Self::Sender, value: u64) {
        sender.feed(value).await.expect("the receiver is there");
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.next().await.expect("the sender is there")
    }
}
