//! Start, requests, removal.
#![expect(unsafe_code, reason = "the device's memory is given back")]

use core::convert::Infallible;

use kexec::{
    Budget, Cancelled, Executor, Lane, SpawnError, Table,
    irql::{Dispatch, Passive},
    request_size, task_size,
    time::interval,
};
use kexec_nt::{
    Dispatched, Dpc, Status,
    device::{Device, Function},
    interrupt::{Interrupt, Service},
    memory::DeviceMemory,
    report::{Weight, line},
    request::{Pended, Request},
    wait::{block_on, look_for},
};
use nt_sys::{
    STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_IO_DEVICE_ERROR, STATUS_NO_SUCH_DEVICE,
};
use xenbus::{Errno, Version, Xen, version};

use crate::{
    IOCTL_XENBUS_VERSION, find,
    record::Record,
    tasks::{BEAT, Events, Failure, REQUESTS, TOLERANCE, answer},
};

/// Room for the task of a request, and for the request.
const REQUEST: usize = request_size(&answer::<Xen>, size_of::<Pended>());
/// Room for the tasks of the device's own.
const CONTROL: usize =
    if task_size(&beat) > task_size(&greet) { task_size(&beat) } else { task_size(&greet) };

/// The bus device.
#[derive(Debug)]
pub struct Xenbus;

/// A started one.
#[derive(Debug)]
pub struct Running {
    parts: Parts,
    record: Record,
    interrupt: Interrupt,
    memory: DeviceMemory,
}

/// What is in the device's memory.
#[derive(Clone, Copy, Debug)]
struct Parts {
    xen: Xen,
    executor: &'static Executor<Dpc>,
    requests: &'static Table<REQUEST>,
    control: &'static Table<CONTROL>,
    events: &'static Events,
}

impl Function for Xenbus {
    type Running = Running;

    fn start(device: &Device, passive: &mut Passive) -> Result<Running, Status> {
        let mut memory = DeviceMemory::new();
        match bring_up(device, &mut memory, passive) {
            Ok((parts, record, interrupt)) => Ok(Running { parts, record, interrupt, memory }),
            Err(status) => {
                line(Weight::Error, format_args!("xenbus: did not start: {status}"));
                // SAFETY: whatever was brought up has been closed again.
                unsafe { memory.free() };
                Err(status)
            }
        }
    }

    fn control(running: &Running, level: &mut Dispatch, request: Request) -> Dispatched {
        if request.code() == IOCTL_XENBUS_VERSION {
            request.pend(|pended| running.parts.serve(level, pended))
        } else {
            request.fail(Status::failure(STATUS_INVALID_DEVICE_REQUEST))
        }
    }

    fn quiesce(running: &Running, passive: &mut Passive) {
        running.parts.close(passive);
        // After those who ask it for work.
        running.record.close(passive);
    }

    fn stop(running: Running, passive: &mut Passive) {
        running.interrupt.disconnect(passive);
        // SAFETY: `quiesce` has run the executors down. With the interrupt, and the DPCs that it has queued, the last
        // one that could wake a task has gone.
        unsafe { running.memory.free() };
    }
}

/// Everything, or nothing but memory.
fn bring_up(
    device: &Device,
    memory: &mut DeviceMemory,
    passive: &mut Passive,
) -> Result<(Parts, Record, Interrupt), Status> {
    let xen = look_for(passive, find::xen).map_err(|missing| {
        line(Weight::Error, format_args!("xenbus: {missing}"));
        Status::failure(STATUS_NO_SUCH_DEVICE)
    })?;
    let parts = Parts {
        xen,
        executor: Dpc::executor("xenbus", memory.room()?, Budget::DEFAULT),
        requests: memory.table(REQUESTS, Lane::Data)?,
        control: memory.table(1, Lane::Control)?,
        events: memory.put(Events::new())?,
    };
    match parts.begin(device, memory, passive) {
        Ok((record, interrupt)) => Ok((parts, record, interrupt)),
        Err(status) => {
            parts.close(passive);
            Err(status)
        }
    }
}

impl Parts {
    /// Asks Xen for its version, starts the record and the beat, connects the interrupt.
    fn begin(
        self,
        device: &Device,
        memory: &mut DeviceMemory,
        passive: &mut Passive,
    ) -> Result<(Record, Interrupt), Status> {
        let version = self.greet(passive)?;
        // SAFETY: only the record's tasks use it, and it is closed by `quiesce`, or below.
        let key = unsafe { device.key() };
        let record = Record::new(memory, device.driver(), key, passive)?;
        let connected =
            record.begin(self.executor, self.events, version).and_then(|()| self.connect(device, passive));
        match connected {
            Ok(interrupt) => Ok((record, interrupt)),
            Err(status) => {
                record.close(passive);
                Err(status)
            }
        }
    }

    /// Asks Xen for its version, and says it.
    fn greet(self, passive: &mut Passive) -> Result<Version, Status> {
        let greeting = self.executor.spawn(self.control, greet, self.xen).map_err(no_slot)?;
        match block_on(passive, greeting) {
            Ok(Ok(version)) => {
                let leaf = self.xen.leaf();
                line(Weight::Info, format_args!("xenbus: Xen {version}, CPUID leaf {leaf:#x}"));
                Ok(version)
            }
            Ok(Err(errno)) => {
                line(Weight::Error, format_args!("xenbus: Xen does not tell its version: {errno}"));
                Err(Status::failure(STATUS_IO_DEVICE_ERROR))
            }
            Err(Cancelled) => Err(Status::failure(STATUS_CANCELLED)),
        }
    }

    /// Starts the beat, and connects the interrupt.
    fn connect(self, device: &Device, passive: &mut Passive) -> Result<Interrupt, Status> {
        self.executor.spawn(self.control, beat, self.events).map_err(no_slot)?.detach();
        Interrupt::connect(device, passive, self.events)
    }

    /// Serves a request, beginning at once.
    fn serve(self, level: &mut Dispatch, pended: Pended) {
        let epilogue = move |_level: &mut Dispatch, outcome| finish(pended, outcome);
        // First the role, then the task: nothing rings, and the task has had its first turn when this returns.
        self.executor.try_run_with(level, |level| {
            match self.executor.submit(self.requests, answer, (self.events, self.xen), epilogue) {
                Ok(_task) => {}
                Err(SpawnError::Full((.., epilogue))) => epilogue(level, Ok(Err(Failure::Busy))),
                Err(SpawnError::Closed((.., epilogue))) => epilogue(level, Err(Cancelled)),
            }
        });
    }

    /// Cancels all tasks, waits until they are gone, then until no DPC is left.
    fn close(self, passive: &mut Passive) {
        // Whoever closes it already waits as well: the PnP manager sends one request at a time.
        if let Ok(close) = self.executor.close() {
            block_on(passive, close).silence(passive);
        }
    }
}

impl Service for Events {
    /// The platform device has its line to itself.
    fn interrupt(&self) -> bool {
        self.upcall.raise();
        true
    }
}

async fn greet(_level: &mut Dispatch, xen: Xen) -> Result<Version, Errno> {
    version(&xen).await
}

/// Raises the beat until it is cancelled.
async fn beat(_level: &mut Dispatch, events: &'static Events) -> Infallible {
    let mut every = interval(BEAT).tolerance(TOLERANCE);
    loop {
        every.tick().await;
        events.beat.raise();
    }
}

/// The end of a request, whatever became of it.
fn finish(request: Pended, outcome: Result<Result<Version, Failure>, Cancelled>) {
    match outcome {
        Ok(Ok(version)) => request.reply(&version.to_word().to_le_bytes()),
        Ok(Err(Failure::Xen(_))) => request.fail(Status::failure(STATUS_IO_DEVICE_ERROR)),
        Ok(Err(Failure::Busy)) => request.fail(Status::failure(STATUS_DEVICE_BUSY)),
        // A request that is dropped is cancelled.
        Err(Cancelled) => drop(request),
    }
}

pub(crate) fn no_slot<T>(_refused: SpawnError<T>) -> Status {
    Status::failure(STATUS_INSUFFICIENT_RESOURCES)
}
