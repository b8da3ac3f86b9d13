//! `embassy-sync`, on `embassy-executor`, of the same project.
//!
//! Its timers are left out: `embassy-time` has one entry a task and no way to give it up, so that no case is the same.
#![expect(unsafe_code, reason = "a raw mutex is a promise")]

use std::future::Future;

use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::channel::{self, Receiver, Sender};
use embassy_sync::mutex::{Mutex, MutexGuard};
use embassy_sync::semaphore::{GreedySemaphore, Semaphore as _};

use super::work::{self, Channel, Lock, Permits};
use super::{Case, Library};
use crate::exec::cases::Executor;
use crate::exec::peers::embassy::Embassy;

pub(super) const LIBRARY: Library = Library {
    name: Embassy::NAME,
    cases: &[
        (Case::Acquire, work::acquire::<Embassy, Semaphore>),
        (Case::SemaphoreHop, work::semaphore_hop::<Embassy, Semaphore>),
        (Case::MutexHop, work::mutex_hop::<Embassy, Mutex<Alone, ()>>),
        (Case::Channel, work::channel::<Embassy, Values>),
        (Case::Select, work::select_ready::<Embassy, Semaphore>),
        (Case::SelectHop, work::select_hop::<Embassy, Semaphore>),
    ],
};

/// The lock that it takes for one processor where no interrupt uses the primitives: none.
struct Alone;

// SAFETY: a benchmark of it has one thread.
unsafe impl Send for Alone {}
// SAFETY: as above.
unsafe impl Sync for Alone {}
// SAFETY: as above.
unsafe impl RawMutex for Alone {
    const INIT: Self = Self;

    fn lock<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

type Semaphore = GreedySemaphore<Alone>;

impl Permits for Semaphore {
    fn new(permits: u32) -> Self {
        Self::new(permits as usize)
    }

    async fn pass(&'static self) {
        drop(self.acquire(1).await);
    }

    async fn take(&'static self) {
        match self.acquire(1).await {
            Ok(permit) => permit.disarm(),
        };
    }

    fn put(&'static self) {
        self.release(1);
    }
}

impl Lock for Mutex<Alone, ()> {
    type Guard = MutexGuard<'static, Alone, ()>;

    fn new() -> Self {
        Self::new(())
    }

    fn lock(&'static self) -> impl Future<Output = Self::Guard> + Send {
        self.lock()
    }
}

struct Values;

impl Channel for Values {
    type Sender = Sender<'static, Alone, u64, 16>;
    type Receiver = Receiver<'static, Alone, u64, 16>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let channel = Box::leak(Box::new(channel::Channel::new()));
        (channel.sender(), channel.receiver())
    }

    async fn send(sender: &mut Self::Sender, value: u64) {
        Sender::send(sender, value).await;
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.receive().await
    }
}
