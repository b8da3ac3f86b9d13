//! `async-lock` and `async-channel`, on `async-executor`, of the same project.

use std::future::Future;

use async_channel::{Receiver, Sender};
use async_lock::{Mutex, MutexGuard, Semaphore};

use super::work::{self, Channel, Lock, Permits};
use super::{Case, Library};
use crate::exec::cases::Executor;
use crate::exec::peers::async_executor::Local;

pub(super) const LIBRARY: Library = Library {
    name: Local::NAME,
    cases: &[
        (Case::Acquire, work::acquire::<Local, Semaphore>),
        (Case::SemaphoreHop, work::semaphore_hop::<Local, Semaphore>),
        (Case::MutexHop, work::mutex_hop::<Local, Mutex<()>>),
        (Case::Channel, work::channel::<Local, Values>),
        (Case::Select, work::select_ready::<Local, Semaphore>),
        (Case::SelectHop, work::select_hop::<Local, Semaphore>),
    ],
};

impl Permits for Semaphore {
    fn new(permits: u32) -> Self {
        Self::new(permits as usize)
    }

    async fn pass(&'static self) {
        drop(self.acquire().await);
    }

    async fn take(&'static self) {
        self.acquire().await.forget();
    }

    fn put(&'static self) {
        self.add_permits(1);
    }
}

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

    fn new() -> (Self::Sender, Self::Receiver) {
        async_channel::bounded(16)
    }

    async fn send(sender: &mut Self::Sender, value: u64) {
        Sender::send(sender, value).await.expect("the receiver is there");
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.expect("the sender is there")
    }
}
