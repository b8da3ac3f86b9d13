//! The same question, asked by a crash dump.
#![forbid(unsafe_code)]

use core::time::Duration;

use kexec::{Budget, Executor, Pool, irql::Dispatch, task_size};
use kexec_nt::crash::{self, Crash, DumpPlatform};
use nt_sys::{NTSTATUS, STATUS_IO_DEVICE_ERROR, STATUS_IO_TIMEOUT, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS};
use xenbus::{Errno, Version, Xen, version};

use crate::find;

/// Longer than a hypercall takes, and short enough for whoever waits for a dump.
const LIMIT: Duration = Duration::from_millis(10);

// Of the dump's own copy of the image: nothing is shared with the driver that has crashed.
static EXECUTOR: Executor<DumpPlatform> =
    Executor::named("xenbus, dumping", crash::platform(), Budget::DEFAULT);
static TASKS: Pool<{ task_size(&ask) }, 1> = Pool::new();

async fn ask(_level: &mut Dispatch, xen: Xen) -> Result<Version, Errno> {
    version(&xen).await
}

/// What `DriverEntry` does for a dump.
pub(crate) fn enter(crash: &mut Crash) -> NTSTATUS {
    let Some(Ok(xen)) = find::xen() else { return STATUS_NO_SUCH_DEVICE };
    // The pool has one slot, and this is the only spawn of the image's life.
    let Ok(task) = EXECUTOR.spawn(&TASKS, ask, xen) else { return STATUS_IO_DEVICE_ERROR };
    match crash.wait(&EXECUTOR, task, LIMIT) {
        Ok(Ok(Ok(_version))) => STATUS_SUCCESS,
        Ok(_refused) => STATUS_IO_DEVICE_ERROR,
        Err(_unended) => STATUS_IO_TIMEOUT,
    }
}
