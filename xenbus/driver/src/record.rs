//! What an operator finds in the device's registry key, written by tasks at `PASSIVE_LEVEL`.
//!
//! | value | |
//! |---|---|
//! | [`XEN_VERSION`] | which Xen the driver has found |
//! | [`UPCALL_SEEN`] | whether Xen has called since the device was started; if it never does, all goes by the beat |
//!
//! Nothing depends on them: what cannot be written is said to the debugger, and that is all.
#![forbid(unsafe_code)]

use kexec::{
    Budget, Executor, Lane, PassiveWork, Table,
    irql::{Dispatch, Passive},
    task_size,
};
use kexec_nt::{
    Dpc, Status, Worker,
    device::Driver,
    memory::DeviceMemory,
    registry::DeviceKey,
    report::{Weight, line},
    wait::block_on,
};
use xenbus::Version;

use crate::{device::no_slot, tasks::Events};

/// The version of Xen as a word, the major number in bits 16 to 31.
pub const XEN_VERSION: &str = "XenVersion";
/// 0, and 1 once Xen has called.
pub const UPCALL_SEEN: &str = "UpcallSeen";

/// Room for the task that watches for upcalls.
const WATCH: usize = task_size(&watch);
/// Room for the one that has the version written, and for the write.
const NOTE: usize = task_size(&note_version);
const WRITE: usize = 256;

/// The executor at `PASSIVE_LEVEL`, and what its tasks need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    key: DeviceKey,
    notes: &'static Table<NOTE>,
    writes: &'static Table<WRITE>,
    watches: &'static Table<WATCH>,
    worker: &'static Executor<Worker>,
}

impl Record {
    /// Everything, or nothing but memory.
    pub(crate) fn new(
        memory: &mut DeviceMemory,
        driver: Driver,
        key: DeviceKey,
        passive: &mut Passive,
    ) -> Result<Self, Status> {
        Ok(Self {
            key,
            notes: memory.table(1, Lane::Control)?,
            writes: memory.table(1, Lane::Data)?,
            watches: memory.table(1, Lane::Data)?,
            // Last, since with it there is a thread to be ended.
            worker: Worker::executor("xenbus record", memory.room()?, Budget::DEFAULT, driver, passive)?,
        })
    }

    /// Has written what there is to be known, now and when there is more.
    pub(crate) fn begin(
        self,
        executor: &'static Executor<Dpc>,
        events: &'static Events,
        version: Version,
    ) -> Result<(), Status> {
        let work = PassiveWork::new(self.worker, self.writes);
        executor.spawn(self.notes, note_version, (work, self.key, version)).map_err(no_slot)?.detach();
        self.worker.spawn(self.watches, watch, (self.key, events)).map_err(no_slot)?.detach();
        Ok(())
    }

    /// Cancels all tasks, waits until they are gone, and then for the thread.
    pub(crate) fn close(self, passive: &mut Passive) {
        // Whoever closes it already waits as well: the PnP manager sends one request at a time.
        if let Ok(close) = self.worker.close() {
            block_on(passive, close).silence(passive);
        }
    }
}

/// Has Xen's version written, for a task that must not touch the registry itself.
///
/// **Cancel-safe:** the value is written or not.
async fn note_version(
    _level: &mut Dispatch,
    (work, key, version): (PassiveWork<Worker, WRITE>, DeviceKey, Version),
) {
    let write = async move |passive: &mut Passive| key.set(XEN_VERSION, version.to_word(), passive);
    // If it was not done, the device is being removed.
    if let Ok(written) = work.run(write).await {
        tell(XEN_VERSION, written);
    }
}

/// Writes that Xen has not called yet, and when it has, that it has.
///
/// **Cancel-safe:** what is written is true when it is written.
async fn watch(passive: &mut Passive, (key, events): (DeviceKey, &'static Events)) {
    // From before the first write on, so that none is missed.
    let upcall = events.upcall.next();
    tell(UPCALL_SEEN, key.set(UPCALL_SEEN, 0, passive));
    if let Some(upcall) = upcall {
        upcall.await;
        tell(UPCALL_SEEN, key.set(UPCALL_SEEN, 1, passive));
    }
}

fn tell(name: &str, written: Result<(), Status>) {
    if let Err(status) = written {
        line(Weight::Error, format_args!("xenbus: {name} is not in the registry: {status}"));
    }
}
