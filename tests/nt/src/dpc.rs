//! DPCs: "Organization of DPC Queues".
//!
//! A KDPC is in at most one queue. It leaves its queue before its routine is called, so that it can be queued again,
//! and run on another CPU, while the routine still runs on this one.
#![forbid(unsafe_code)]
#![expect(clippy::unnecessary_wraps, reason = "all doubles are called alike, by the table of exports")]

use std::{mem::offset_of, ops::Range};

use nt_sys::{_KDPC_IMPORTANCE, KDPC, PROCESSOR_NUMBER, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};

use crate::{
    call::{Answer, Call, Outcome, Then},
    cpu::{DISPATCH_LEVEL, Kind, Wait},
    kernel::Kernel,
    verdict::{Finding, Verdict},
};

/// `KOBJECTS::DpcObject`.
const DPC_OBJECT: u8 = 19;
/// `KDPC::Number` of one that is queued where it is inserted; for others, the CPU plus this.
const NO_TARGET: u16 = 0;
const FIRST_TARGET: u16 = 0x0800;
/// `KDPC::DpcData` of one that is in a queue.
const IN_A_QUEUE: u64 = 1;

const TYPE: u64 = offset_of!(KDPC, __bindgen_anon_1) as u64;
const IMPORTANCE: u64 = TYPE + 1;
const NUMBER: u64 = TYPE + 2;
const ROUTINE: u64 = offset_of!(KDPC, DeferredRoutine) as u64;
const CONTEXT: u64 = offset_of!(KDPC, DeferredContext) as u64;
const ARGUMENT_1: u64 = offset_of!(KDPC, SystemArgument1) as u64;
const ARGUMENT_2: u64 = offset_of!(KDPC, SystemArgument2) as u64;
const DATA: u64 = offset_of!(KDPC, DpcData) as u64;

/// `PROCESSOR_NUMBER::Number`, with what is reserved.
const PROCESSOR: u64 = offset_of!(PROCESSOR_NUMBER, Number) as u64;

/// A DPC in a queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) what: Deferred,
    /// Its number in the order in which DPCs were queued.
    pub(crate) serial: u64,
    /// Whether the CPU may do something else before.
    pub(crate) can_wait: bool,
}

/// What is deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deferred {
    /// A driver's DPC, by the address of its KDPC.
    Dpc(u64),
    /// The bus driver completes an IRP.
    BusCompletes { irp: u64 },
}

impl Kernel {
    /// `KeInitializeDpc`.
    pub(crate) fn ke_initialize_dpc(&mut self, call: &Call) -> Outcome {
        let (dpc, routine, context) = (call.argument(0), call.argument(1), call.argument(2));
        if self.is_queued(dpc) {
            return Err(Verdict::Reinitialized.because(format!("the KDPC at {dpc:#x} is queued")));
        }
        self.memory.write_bytes(dpc, &[0; size_of::<KDPC>()])?;
        self.memory.write(dpc + TYPE, DPC_OBJECT)?;
        self.memory.write(dpc + IMPORTANCE, importance(_KDPC_IMPORTANCE::MediumImportance))?;
        self.memory.write(dpc + NUMBER, NO_TARGET)?;
        self.memory.write(dpc + ROUTINE, routine)?;
        self.memory.write(dpc + CONTEXT, context)?;
        Ok(Answer::Return(0))
    }

    /// `KeSetImportanceDpc`.
    pub(crate) fn ke_set_importance_dpc(&mut self, call: &Call) -> Outcome {
        let dpc = self.initialized_dpc(call.argument(0))?;
        self.memory.write(dpc + IMPORTANCE, call.byte(1))?;
        Ok(Answer::Return(0))
    }

    /// `KeSetTargetProcessorDpcEx`.
    pub(crate) fn ke_set_target_processor_dpc_ex(&mut self, call: &Call) -> Outcome {
        let dpc = self.initialized_dpc(call.argument(0))?;
        let (group, number): (u16, u8) =
            (self.memory.read(call.argument(1))?, self.memory.read(call.argument(1) + PROCESSOR)?);
        if group != 0 || usize::from(number) >= self.cpus.len() {
            return Ok(Answer::Return(status(STATUS_INVALID_PARAMETER)));
        }
        self.memory.write(dpc + NUMBER, FIRST_TARGET + u16::from(number))?;
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    /// `KeInsertQueueDpc` returns TRUE if the DPC was not in a queue already.
    pub(crate) fn ke_insert_queue_dpc(&mut self, call: &Call) -> Outcome {
        let dpc = self.initialized_dpc(call.argument(0))?;
        let arguments = [call.argument(1), call.argument(2)];
        Ok(Answer::Return(self.queue_dpc(dpc, arguments, call.cpu)?.into()))
    }

    /// `KeRemoveQueueDpc` returns TRUE if the DPC was in a queue; it does not wait for one that runs.
    pub(crate) fn ke_remove_queue_dpc(&mut self, call: &Call) -> Outcome {
        let dpc = self.initialized_dpc(call.argument(0))?;
        Ok(Answer::Return(self.unqueue_dpc(dpc)?.into()))
    }

    /// `KeFlushQueuedDpcs` returns when all DPCs that were queued before the call have run to their end; about
    /// those that are queued during the call nothing is said.
    pub(crate) fn ke_flush_queued_dpcs(&mut self, _call: &Call) -> Outcome {
        Ok(Answer::Block(Wait::Flush { before: self.number() }))
    }

    /// `KeQueryActiveProcessorCountEx`: of one group, or of all. There is one group.
    pub(crate) fn ke_query_active_processor_count_ex(&mut self, _call: &Call) -> Outcome {
        Ok(Answer::Return(self.cpus.len() as u64))
    }

    /// `KeGetCurrentProcessorNumberEx`: the number in the result, and group and number where the caller says.
    pub(crate) fn ke_get_current_processor_number_ex(&mut self, call: &Call) -> Outcome {
        if call.argument(0) != 0 {
            let number = u8::try_from(call.cpu).expect("64 CPUs at most");
            self.memory.write(call.argument(0), 0_u16)?;
            self.memory.write(call.argument(0) + PROCESSOR, u16::from(number))?;
        }
        Ok(Answer::Return(call.cpu as u64))
    }

    pub(crate) fn initialized_dpc(&self, dpc: u64) -> Result<u64, Finding> {
        self.memory.check(dpc, size_of::<KDPC>())?;
        match self.memory.read::<u8>(dpc + TYPE)? {
            DPC_OBJECT => Ok(dpc),
            other => Err(Verdict::NotInitialized.because(format!("the KDPC at {dpc:#x} is of type {other}"))),
        }
    }

    /// Queues a DPC, if it is not queued already.
    pub(crate) fn queue_dpc(&mut self, dpc: u64, arguments: [u64; 2], here: usize) -> Result<bool, Finding> {
        if self.is_queued(dpc) {
            return Ok(false);
        }
        self.memory.write(dpc + ARGUMENT_1, arguments[0])?;
        self.memory.write(dpc + ARGUMENT_2, arguments[1])?;
        self.memory.write(dpc + DATA, IN_A_QUEUE)?;
        let target: u16 = self.memory.read(dpc + NUMBER)?;
        let cpu = target.checked_sub(FIRST_TARGET).map_or(here, usize::from);
        let weight: u8 = self.memory.read(dpc + IMPORTANCE)?;
        let is = |named: _KDPC_IMPORTANCE::Type| weight == importance(named);
        let hurried = is(_KDPC_IMPORTANCE::HighImportance) || is(_KDPC_IMPORTANCE::MediumHighImportance);
        let can_wait = is(_KDPC_IMPORTANCE::LowImportance) || (cpu != here && !hurried);
        let queued = Queued { what: Deferred::Dpc(dpc), serial: self.number(), can_wait };
        if is(_KDPC_IMPORTANCE::HighImportance) {
            self.cpus[cpu].dpcs.push_front(queued);
        } else {
            self.cpus[cpu].dpcs.push_back(queued);
        }
        Ok(true)
    }

    /// Queues what the bus driver does in a DPC of its own.
    pub(crate) fn queue_for_bus(&mut self, irp: u64) {
        let cpu = self.dice.index(self.cpus.len());
        let queued = Queued { what: Deferred::BusCompletes { irp }, serial: self.number(), can_wait: false };
        self.cpus[cpu].dpcs.push_back(queued);
    }

    /// Takes a DPC out of its queue, if it is in one.
    pub(crate) fn unqueue_dpc(&mut self, dpc: u64) -> Result<bool, Finding> {
        for cpu in &mut self.cpus {
            if let Some(index) = cpu.dpcs.iter().position(|queued| queued.what == Deferred::Dpc(dpc)) {
                cpu.dpcs.remove(index);
                self.memory.write(dpc + DATA, 0_u64)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_queued(&self, dpc: u64) -> bool {
        self.cpus.iter().any(|cpu| cpu.dpcs.iter().any(|queued| queued.what == Deferred::Dpc(dpc)))
    }

    /// A CPU runs the first DPC of its queue.
    pub(crate) fn begin_dpc(&mut self, cpu: usize) -> Result<(), Finding> {
        let queued = self.cpus[cpu].dpcs.pop_front().expect("it has been seen in the queue");
        match queued.what {
            Deferred::BusCompletes { irp } => self.bus_completes_at_dispatch(irp, cpu),
            Deferred::Dpc(dpc) => {
                self.memory.write(dpc + DATA, 0_u64)?;
                let word = |at| self.memory.read::<u64>(dpc + at);
                let routine = word(ROUTINE)?;
                let arguments = [dpc, word(CONTEXT)?, word(ARGUMENT_1)?, word(ARGUMENT_2)?];
                let kind = Kind::Dpc { serial: queued.serial, dpc };
                let purpose = format_args!("the DPC at {dpc:#x}");
                let id = self.begin(kind, purpose, DISPATCH_LEVEL, (routine, arguments), Then::Dpc);
                self.place_on(cpu, id);
                self.go_on(cpu, id)
            }
        }
    }

    /// The routine of a KDPC that is where it can be read.
    pub(crate) fn routine_of(&self, dpc: u64) -> Option<u64> {
        self.memory.read(dpc + ROUTINE).ok()
    }

    /// Whether no DPC that was queued before is queued or running.
    pub(crate) fn is_flushed(&self, before: u64) -> bool {
        let is_running = |kind: Kind| matches!(kind, Kind::Dpc { serial, .. } if serial < before);
        self.cpus.iter().all(|cpu| cpu.dpcs.iter().all(|queued| queued.serial >= before))
            && !self.contexts.values().any(|context| is_running(context.kind))
    }

    /// A DPC in a range that is queued or runs, for who frees it.
    ///
    /// `KeSetTimerEx`: a DPC routine may free the memory of its own KDPC, which is why one that runs is looked at
    /// only while somebody else frees.
    pub(crate) fn dpc_in(&self, range: &Range<u64>) -> Option<String> {
        let queued = self.cpus.iter().flat_map(|cpu| &cpu.dpcs).find_map(|queued| match queued.what {
            Deferred::Dpc(dpc) if range.contains(&dpc) => {
                Some(format!("the KDPC at {dpc:#x}, which is queued,"))
            }
            _ => None,
        });
        let acting = self.acting();
        let running = || {
            self.contexts.iter().find_map(|(&id, context)| match context.kind {
                Kind::Dpc { dpc, .. } if range.contains(&dpc) && Some(id) != acting => {
                    Some(format!("the KDPC at {dpc:#x}, whose routine runs,"))
                }
                _ => None,
            })
        };
        queued.or_else(running)
    }
}

fn importance(named: _KDPC_IMPORTANCE::Type) -> u8 {
    u8::try_from(named).expect("importances are small")
}

pub(crate) fn status(status: nt_sys::NTSTATUS) -> u64 {
    status.cast_unsigned().into()
}
