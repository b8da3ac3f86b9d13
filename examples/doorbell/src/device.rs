//! The disk: a thread of the host that answers the ring after a while, out of order.

use std::{
    sync::{Condvar, LazyLock, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use kexec::TaskRef;

/// How many requests the ring has room for.
pub(crate) const SLOTS: usize = 32;

/// 512 bytes.
pub(crate) type Block = [u64; 64];

pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) lba: u64,
}

pub(crate) struct Response {
    pub(crate) id: u64,
    pub(crate) block: Block,
}

/// What both ends see: in a machine, a shared page and an event channel.
#[derive(Default)]
pub(crate) struct Ring {
    pub(crate) requests: Vec<Request>,
    pub(crate) responses: Vec<Response>,
    pub(crate) disk: Disk,
    pub(crate) notifications: u64,
    pub(crate) interrupts: u64,
}

#[derive(Default)]
pub(crate) enum Disk {
    #[default]
    Works,
    Hangs,
    Gone,
}

static RING: LazyLock<Mutex<Ring>> = LazyLock::new(Mutex::default);
static NOTIFIED: Condvar = Condvar::new();

pub(crate) fn ring() -> MutexGuard<'static, Ring> {
    RING.lock().expect("neither end panics")
}

impl Ring {
    /// Tells the disk that the ring has changed.
    pub(crate) fn notify(&mut self) {
        self.notifications += 1;
        NOTIFIED.notify_one();
    }
}

/// Answers until the disk is removed. An interrupt is the wake of one task, by its name.
pub(crate) fn serve(interrupt: TaskRef, mut random: impl FnMut(usize) -> usize) {
    let idle = |ring: &mut Ring| match ring.disk {
        Disk::Works => ring.requests.is_empty(),
        Disk::Hangs => true,
        Disk::Gone => false,
    };
    loop {
        drop(NOTIFIED.wait_while(ring(), idle).expect("neither end panics"));
        thread::sleep(Duration::from_micros(random(100) as u64));
        let mut ring = ring();
        if matches!(ring.disk, Disk::Gone) {
            return;
        }
        if idle(&mut ring) {
            continue;
        }
        for _ in 0..=random(ring.requests.len()) {
            let any = random(ring.requests.len());
            let Request { id, lba } = ring.requests.swap_remove(any);
            ring.responses.push(Response { id, block: content(lba) });
        }
        ring.interrupts += 1;
        drop(ring);
        interrupt.wake();
    }
}

/// What the disk holds at `lba`: something that no other block holds.
pub(crate) fn content(lba: u64) -> Block {
    [lba.wrapping_mul(0x9E37_79B9_7F4A_7C15); 64]
}
