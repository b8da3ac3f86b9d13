//! The other end: the backend of a queue, which copies one block after the other and cannot be told to stop.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use kexec::{irql::Dispatch, sync::AutoEvent, time::sleep};

use crate::buffers::Buffer;

/// How long a block takes.
const COPY: Duration = Duration::from_millis(1);

/// What both ends see: in a machine, a shared page and two event channels. What is on it belongs to the other end.
pub(crate) struct Ring {
    slots: Mutex<Slots>,
    to_backend: AutoEvent,
    to_driver: AutoEvent,
}

#[derive(Default)]
struct Slots {
    requests: VecDeque<Buffer>,
    responses: VecDeque<Buffer>,
    /// Published, and not seen to come back.
    outstanding: usize,
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self { slots: Mutex::default(), to_backend: AutoEvent::new(false), to_driver: AutoEvent::new(false) }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().expect("nobody panics with it")
    }

    /// From here on the buffer is the backend's, whatever becomes of whoever asked.
    pub(crate) fn publish(&self, buffer: Buffer) {
        let mut slots = self.slots();
        slots.requests.push_back(buffer);
        slots.outstanding += 1;
        drop(slots);
        self.to_backend.set();
    }

    /// The next buffer that comes back. A wait that is dropped loses none.
    pub(crate) async fn response(&self) -> Buffer {
        loop {
            if let Some(buffer) = self.take() {
                return buffer;
            }
            self.to_driver.wait().await;
        }
    }

    fn take(&self) -> Option<Buffer> {
        let mut slots = self.slots();
        let buffer = slots.responses.pop_front()?;
        slots.outstanding -= 1;
        Some(buffer)
    }

    /// How many buffers the backend has.
    pub(crate) fn outstanding(&self) -> usize {
        self.slots().outstanding
    }
}

/// Serves a ring for ever.
pub(crate) async fn serve(_: &mut Dispatch, ring: &'static Ring) {
    loop {
        let next = ring.slots().requests.pop_front();
        if let Some(buffer) = next {
            sleep(COPY).await;
            ring.slots().responses.push_back(buffer);
            ring.to_driver.set();
        } else {
            ring.to_backend.wait().await;
        }
    }
}
