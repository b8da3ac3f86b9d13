//! Events, and waiting: "Event Objects", `KeWaitForSingleObject`.
#![forbid(unsafe_code)]

use std::{mem::offset_of, ops::Range};

use nt_sys::{DISPATCHER_HEADER, KEVENT, STATUS_SUCCESS, STATUS_TIMEOUT};

use crate::{
    call::{Answer, Call, Outcome},
    cpu::{APC_LEVEL, Id, State, Wait},
    dpc::status,
    kernel::Kernel,
    machine::Resume,
    trace::What,
    verdict::{Finding, Verdict},
};

/// `KOBJECTS`: notification and synchronization events, and timers of the same two sorts.
const EVENT_OBJECTS: [u8; 2] = [0, 1];
pub(crate) const TIMER_OBJECTS: [u8; 2] = [8, 9];

pub(crate) const SIGNAL_STATE: u64 = offset_of!(DISPATCHER_HEADER, SignalState) as u64;
/// `DISPATCHER_HEADER::Size`, in words of 32 bits.
const SIZE: u64 = 2;
const WORDS: u8 = 6;

impl Kernel {
    /// `KeInitializeEvent`.
    pub(crate) fn ke_initialize_event(&mut self, call: &Call) -> Outcome {
        let event = call.argument(0);
        if let Some(waiter) = self.waiters(event).first() {
            let waiter = self.context(*waiter).name(*waiter);
            return Err(Verdict::Reinitialized.because(format!("{waiter} waits for the event at {event:#x}")));
        }
        self.memory.write_bytes(event, &[0; size_of::<KEVENT>()])?;
        self.memory.write(event, EVENT_OBJECTS[usize::from(call.narrow(1) != 0)])?;
        self.memory.write(event + SIZE, WORDS)?;
        self.memory.write(event + SIGNAL_STATE, u32::from(call.byte(2) != 0))?;
        Ok(Answer::Return(0))
    }

    /// `KeSetEvent` returns whether the event was signaled before.
    pub(crate) fn ke_set_event(&mut self, call: &Call) -> Outcome {
        let event = self.initialized_event(call.argument(0))?;
        if call.byte(2) != 0 {
            return Err(Verdict::NotModelled.because("Wait = TRUE"));
        }
        let was: u32 = self.memory.read(event + SIGNAL_STATE)?;
        self.signal(event)?;
        Ok(Answer::Return(was.into()))
    }

    /// `KeClearEvent`.
    pub(crate) fn ke_clear_event(&mut self, call: &Call) -> Outcome {
        let event = self.initialized_event(call.argument(0))?;
        self.memory.write(event + SIGNAL_STATE, 0_u32)?;
        Ok(Answer::Return(0))
    }

    /// `KeResetEvent` returns whether the event was signaled before.
    pub(crate) fn ke_reset_event(&mut self, call: &Call) -> Outcome {
        let event = self.initialized_event(call.argument(0))?;
        let was: u32 = self.memory.read(event + SIGNAL_STATE)?;
        self.memory.write(event + SIGNAL_STATE, 0_u32)?;
        Ok(Answer::Return(was.into()))
    }

    /// `KeWaitForSingleObject`: whoever can block is below `DISPATCH_LEVEL`; a time-out of zero only looks.
    pub(crate) fn ke_wait_for_single_object(&mut self, call: &Call) -> Outcome {
        let (object, timeout) = (call.argument(0), call.argument(4));
        let timeout = if timeout == 0 { None } else { Some(self.memory.read::<u64>(timeout)?.cast_signed()) };
        if timeout != Some(0) && call.irql > APC_LEVEL {
            return Err(Verdict::WaitAtDispatch.because(format!("for {object:#x} at IRQL {}", call.irql)));
        }
        self.memory.check(object, size_of::<KEVENT>())?;
        let kind: u8 = self.memory.read(object)?;
        if !EVENT_OBJECTS.contains(&kind) && !TIMER_OBJECTS.contains(&kind) {
            let facts = format!("the object at {object:#x} is of type {kind}");
            return Err(Verdict::NotInitialized.because(facts));
        }
        if self.memory.read::<u32>(object + SIGNAL_STATE)? != 0 {
            if is_synchronization(kind) {
                self.memory.write(object + SIGNAL_STATE, 0_u32)?;
            }
            return Ok(Answer::Return(status(STATUS_SUCCESS)));
        }
        match timeout {
            Some(0) => Ok(Answer::Return(status(STATUS_TIMEOUT))),
            Some(time) => {
                Ok(Answer::Block(Wait::Object { object, timeout: Some(self.tick_after(self.time_of(time))) }))
            }
            None => Ok(Answer::Block(Wait::Object { object, timeout: None })),
        }
    }

    fn initialized_event(&self, event: u64) -> Result<u64, Finding> {
        self.memory.check(event, size_of::<KEVENT>())?;
        let (kind, words): (u8, u8) = (self.memory.read(event)?, self.memory.read(event + SIZE)?);
        if EVENT_OBJECTS.contains(&kind) && words == WORDS {
            return Ok(event);
        }
        Err(Verdict::NotInitialized.because(format!("the KEVENT at {event:#x} is of type {kind}")))
    }

    /// `KeSetEvent`: a notification object releases all who wait and stays signaled, a synchronization object
    /// releases one, if there is one, and is then not signaled any more.
    pub(crate) fn signal(&mut self, object: u64) -> Result<(), Finding> {
        let kind: u8 = self.memory.read(object)?;
        let waiters = self.waiters(object);
        let mut state = 1_u32;
        if !is_synchronization(kind) {
            for id in waiters {
                self.wake(id);
            }
        } else if !waiters.is_empty() {
            let index = self.dice.index(waiters.len());
            self.wake(waiters[index]);
            state = 0;
        }
        self.memory.write(object + SIGNAL_STATE, state)
    }

    fn waiters(&self, object: u64) -> Vec<Id> {
        let waits =
            |state: &State| matches!(*state, State::Blocked(Wait::Object { object: at, .. }) if at == object);
        self.contexts.iter().filter(|(_, context)| waits(&context.state)).map(|(&id, _)| id).collect()
    }

    fn wake(&mut self, id: Id) {
        let context = self.context_mut(id);
        context.next = Resume::Return(status(STATUS_SUCCESS));
        context.state = State::Ready;
        let name = context.name(id);
        self.note(None, What::Notes(format!("{name} is released")));
    }

    /// An object in a range that somebody waits for, for who frees it.
    pub(crate) fn waiter_in(&self, range: &Range<u64>) -> Option<String> {
        self.contexts.iter().find_map(|(&id, context)| match context.state {
            State::Blocked(Wait::Object { object, .. }) if range.contains(&object) => {
                Some(format!("the object at {object:#x}, which {} waits for,", context.name(id)))
            }
            _ => None,
        })
    }
}

fn is_synchronization(kind: u8) -> bool {
    kind == EVENT_OBJECTS[1] || kind == TIMER_OBJECTS[1]
}
