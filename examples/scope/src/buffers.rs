//! The device's buffers: so many, each of which is in one place.

use std::sync::{Arc, Mutex, MutexGuard};

use kexec::sync::Semaphore;

/// How many there are.
pub(crate) const BUFFERS: usize = 8;

pub(crate) struct Buffers {
    free: Semaphore,
    numbers: Mutex<Vec<usize>>,
}

/// One of them. Whoever has it may write to it; when it is dropped it is free.
pub(crate) struct Buffer {
    number: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    pub(crate) fn new() -> Arc<Self> {
        let free = Semaphore::new(u32::try_from(BUFFERS).expect("they are few"));
        Arc::new(Self { free, numbers: Mutex::new((0..BUFFERS).rev().collect()) })
    }

    fn numbers(&self) -> MutexGuard<'_, Vec<usize>> {
        self.numbers.lock().expect("nobody panics with it")
    }

    /// Waits for a free one. A wait that is dropped takes none.
    pub(crate) async fn take(self: &Arc<Self>) -> Buffer {
        let permit = self.free.acquire(1).await.expect("it is never closed");
        // Given back by the buffer's drop, wherever it has gone by then.
        permit.forget();
        let number = self.numbers().pop().expect("there are as many as permits");
        Buffer { number, home: self.clone() }
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.numbers().len()
    }
}

impl Buffer {
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.numbers().push(self.number);
        self.home.free.release(1).expect("its permit was forgotten when it was taken");
    }
}
