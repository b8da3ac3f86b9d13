//! System threads, and the handles of kernel objects.
//!
//! A thread that `IoCreateSystemThread` has made keeps its driver loaded: `Unload` may have returned, but the image goes
//! only when the thread has exited. It exits when its routine returns.
#![forbid(unsafe_code)]
#![expect(clippy::unnecessary_wraps, reason = "all doubles are called alike, by the table of exports")]

use std::{collections::BTreeMap, fmt, mem::offset_of, ops::Range};

use nt_sys::{OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};

use crate::{
    call::{Answer, Call, Outcome, Then},
    cpu::{Id, Kind, PASSIVE_LEVEL},
    dpc::status,
    kernel::Kernel,
    verdict::{Failure, Finding, Verdict},
};

const ATTRIBUTES: u64 = offset_of!(OBJECT_ATTRIBUTES, Attributes) as u64;

/// Where kernel handles begin; each is a multiple of four.
const FIRST_HANDLE: u64 = 0xFFFF_FFFF_8000_0000;

/// The handles that are open.
#[derive(Debug, Default)]
pub(crate) struct Handles(BTreeMap<u64, Handle>);

#[derive(Debug)]
struct Handle {
    object: Object,
    /// Who asked for it, by address.
    opened_by: u64,
}

/// What a handle stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Object {
    Thread(Id),
    /// The `Device Parameters` of a device, and the access to it.
    DeviceKey {
        node: usize,
        access: u32,
    },
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(id) => write!(f, "thread {}", id.0),
            Self::DeviceKey { .. } => f.write_str("a registry key"),
        }
    }
}

impl Kernel {
    /// `IoCreateSystemThread`: it runs at `PASSIVE_LEVEL`, and keeps the driver object.
    pub(crate) fn io_create_system_thread(&mut self, call: &Call) -> Outcome {
        let [driver, result, _access, attributes, process, client, routine, context] =
            std::array::from_fn(|index| call.argument(index));
        self.check_driver(driver)?;
        if process != 0 || client != 0 {
            return Err(Verdict::NotModelled.because("a process, or a place for the thread's id"));
        }
        // "If the caller is not running in the system process context": nobody says in which one a driver is called.
        let flags = if attributes == 0 { 0 } else { self.memory.read::<u32>(attributes + ATTRIBUTES)? };
        if flags & OBJ_KERNEL_HANDLE == 0 {
            return Err(Verdict::UserHandle.because("OBJ_KERNEL_HANDLE is not set"));
        }
        if self.allocation_fails() {
            return Ok(Answer::Return(status(STATUS_INSUFFICIENT_RESOURCES)));
        }
        let call_of_routine = (routine, [context, 0, 0, 0]);
        let then = Then::Exit { driver };
        let id = self.begin(Kind::Thread, "a system thread", PASSIVE_LEVEL, call_of_routine, then);
        let handle = self.open(Object::Thread(id), call);
        self.memory.write(result, handle)?;
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    /// `PsGetCurrentThreadId`: in a DPC or an ISR, that of the thread which it interrupted.
    pub(crate) fn ps_get_current_thread_id(&mut self, call: &Call) -> Outcome {
        let below = self.cpus[call.cpu].contexts.first().copied();
        let thread = below.filter(|&id| self.context(id).is_thread());
        Ok(Answer::Return(thread.map_or(0, |id| id.0 << 2)))
    }

    /// `ZwClose`: 0x93, `INVALID_KERNEL_HANDLE`, for one that is not open.
    pub(crate) fn zw_close(&mut self, call: &Call) -> Outcome {
        let handle = call.argument(0);
        self.object(handle)?;
        self.handles.0.remove(&handle);
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    /// A new handle.
    pub(crate) fn open(&mut self, object: Object, call: &Call) -> u64 {
        let handle = FIRST_HANDLE + (self.number() << 2);
        self.handles.0.insert(handle, Handle { object, opened_by: call.caller() });
        handle
    }

    /// What an open handle stands for.
    pub(crate) fn object(&self, handle: u64) -> Result<Object, Finding> {
        let open = self.handles.0.get(&handle).map(|handle| handle.object);
        open.ok_or_else(|| Verdict::BadHandle.because(format!("{handle:#x}")))
    }

    /// What the code of an image has opened and never closed.
    pub(crate) fn check_handles(&self, image: &Range<u64>) -> Result<(), Finding> {
        let mut opened = self.handles.0.iter().filter(|(_, handle)| image.contains(&handle.opened_by));
        match opened.next() {
            None => Ok(()),
            Some((number, Handle { object, opened_by })) => {
                Err(Verdict::HandleLeft.because(format!("{number:#x} of {object}, opened by {opened_by:#x}")))
            }
        }
    }

    /// A driver stays loaded until its threads have exited.
    pub(crate) fn let_threads_exit(&mut self, driver: u64) -> Result<(), Failure> {
        match self.try_until(&|kernel| kernel.thread_of(driver).is_none())? {
            Ok(()) => Ok(()),
            Err(why) => {
                let facts = format!("when the driver is unloaded: {why}; {}", self.who_waits());
                Err(self.fail(Verdict::ThreadLeft.because(facts), None))
            }
        }
    }

    /// A thread that keeps a driver loaded.
    fn thread_of(&self, driver: u64) -> Option<Id> {
        let keeps = |then: Then| matches!(then, Then::Exit { driver: kept } if kept == driver);
        let mut threads = self.contexts.iter();
        threads.find(|(_, context)| context.frames.iter().any(|frame| keeps(frame.then))).map(|(&id, _)| id)
    }
}
