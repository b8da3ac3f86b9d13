//! A driver with a mistake: two of its tasks take two locks, each in its own order.

use std::time::Duration;

use kexec::{
    irql::Dispatch,
    sync::{AutoEvent, Mutex},
    task_table::Label,
    time::interval,
    yield_now,
};

/// What the tasks of a network device share.
#[derive(Debug)]
pub(crate) struct Device {
    ring: Mutex<u32>,
    grants: Mutex<u32>,
    interrupt: AutoEvent,
}

impl Device {
    pub(crate) const fn new() -> Self {
        Self { ring: Mutex::new(0), grants: Mutex::new(0), interrupt: AutoEvent::new(false) }
    }
}

/// Takes the ring, and then the grant table.
pub(crate) async fn transmit(_: &mut Dispatch, device: &'static Device) {
    let mut ring = device.ring.lock().label("the ring").await;
    yield_now().label("room on the ring").await;
    let mut grants = device.grants.lock().label("the grant table, with the ring locked").await;
    (*ring, *grants) = (*ring + 1, *grants + 1);
}

/// Takes the grant table, and then the ring: this is the mistake.
pub(crate) async fn reset(_: &mut Dispatch, device: &'static Device) {
    let mut grants = device.grants.lock().label("the grant table").await;
    yield_now().label("the last grant to be revoked").await;
    let mut ring = device.ring.lock().label("the ring, with the grant table locked").await;
    (*ring, *grants) = (0, 0);
}

/// The same without the mistake: one order for all.
#[cfg(test)]
pub(crate) async fn reset_in_order(_: &mut Dispatch, device: &'static Device) {
    let mut ring = device.ring.lock().label("the ring").await;
    let mut grants = device.grants.lock().label("the grant table, with the ring locked").await;
    yield_now().label("the last grant to be revoked").await;
    (*ring, *grants) = (0, 0);
}

/// A bystander: there is nothing to receive.
pub(crate) async fn receive(_: &mut Dispatch, device: &'static Device) {
    loop {
        device.interrupt.wait().label("a frame").await;
    }
}

/// Another one, which knows nothing of locks.
pub(crate) async fn publish_statistics(_: &mut Dispatch, (): ()) {
    let mut period = interval(Duration::from_secs(10));
    loop {
        period.tick().label("the next report").await;
    }
}

/// One that has ended, with nobody who has taken what it has found.
pub(crate) async fn read_address(_: &mut Dispatch, (): ()) -> [u8; 6] {
    yield_now().await;
    [0, 0x16, 0x3e, 0, 0, 1]
}
