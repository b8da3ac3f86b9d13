//! Interrupts: connecting, delivering, disconnecting.
//!
//! Each device has one level-sensitive line. The fake device holds it until an ISR is called for it, which counts as
//! the acknowledgement; an ISR that then says that the interrupt was not its device's is a finding, for on a machine
//! the line would stay active and the interrupt would come for ever.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, mem::offset_of};

use nt_sys::{
    CONNECT_FULLY_SPECIFIED, CONNECT_LINE_BASED, IO_CONNECT_INTERRUPT_PARAMETERS,
    IO_DISCONNECT_INTERRUPT_PARAMETERS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};

use crate::{
    call::{Answer, Call, Outcome, Then},
    cpu::{Kind, Wait},
    dpc::status,
    kernel::{Kernel, World},
    pnp::Interrupt as Resource,
    verdict::{Finding, Verdict},
};

const PHYSICAL_DEVICE: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.PhysicalDeviceObject));
const OBJECT: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.InterruptObject));
const ROUTINE: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.ServiceRoutine));
const CONTEXT: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.ServiceContext));
const SPIN_LOCK: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.SpinLock));
const SYNCHRONIZE_IRQL: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.SynchronizeIrql));
const VECTOR: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.Vector));
const IRQL: u64 = fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.Irql));
const MODE: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.InterruptMode));
const AFFINITY: u64 =
    fully(offset_of!(IO_CONNECT_INTERRUPT_PARAMETERS, __bindgen_anon_1.FullySpecified.ProcessorEnableMask));
const CONNECTION: u64 = offset_of!(IO_DISCONNECT_INTERRUPT_PARAMETERS, ConnectionContext) as u64;

/// `KINTERRUPT_MODE::LevelSensitive`.
const LEVEL_SENSITIVE: u32 = 0;
/// As large as a `KINTERRUPT`, about; what is in it is the kernel's.
const OBJECT_SIZE: usize = 0x100;

const fn fully(offset: usize) -> u64 {
    offset as u64
}

/// The interrupts that are connected, by the address of their object.
#[derive(Debug, Default)]
pub(crate) struct Interrupts(BTreeMap<u64, Connected>);

#[derive(Debug)]
struct Connected {
    node: usize,
    routine: u64,
    context: u64,
    lock: u64,
    irql: u8,
}

impl Interrupts {
    /// Whether the device has one.
    pub(crate) fn of(&self, node: usize) -> Option<u64> {
        self.0.iter().find(|(_, connected)| connected.node == node).map(|(&object, _)| object)
    }
}

impl Kernel {
    /// `IoConnectInterruptEx`, `IO_CONNECT_INTERRUPT_PARAMETERS`. The ISR can be called before this returns.
    pub(crate) fn io_connect_interrupt_ex(&mut self, call: &Call) -> Outcome {
        let at = call.argument(0);
        let version: u32 = self.memory.read(at)?;
        if version != CONNECT_FULLY_SPECIFIED && version != CONNECT_LINE_BASED {
            return Err(Verdict::NotModelled.because(format!("Version = {version}")));
        }
        let device: u64 = self.memory.read(at + PHYSICAL_DEVICE)?;
        let Some(node) = self.nodes.of_pdo(device) else {
            return Ok(Answer::Return(status(STATUS_INVALID_PARAMETER)));
        };
        // "Starting a Device in a Function Driver": only when all lower drivers have finished with the IRP.
        if !self.nodes[node].is_started_below {
            return Err(Verdict::StartOrder.because("the bus driver has not started the device"));
        }
        let resource = self.nodes[node].interrupt;
        let lowest: u8 = self.memory.read(at + SYNCHRONIZE_IRQL)?;
        if version == CONNECT_FULLY_SPECIFIED && !self.is_assigned(at, resource, lowest)? {
            return Ok(Answer::Return(status(STATUS_INVALID_PARAMETER)));
        }
        if self.allocation_fails() {
            return Ok(Answer::Return(status(STATUS_INSUFFICIENT_RESOURCES)));
        }
        let object = self.memory.allocate_kernel(OBJECT_SIZE);
        let connected = Connected {
            node,
            routine: self.memory.read(at + ROUTINE)?,
            context: self.memory.read(at + CONTEXT)?,
            lock: self.memory.read(at + SPIN_LOCK)?,
            irql: resource.irql.max(lowest),
        };
        let result = self.memory.read(at + OBJECT)?;
        self.memory.write(result, object)?;
        self.interrupts.0.insert(object, connected);
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    /// Whether the parameters are those of the translated resources.
    fn is_assigned(&self, at: u64, resource: Resource, synchronize_irql: u8) -> Result<bool, Finding> {
        let (vector, mode): (u32, u32) = (self.memory.read(at + VECTOR)?, self.memory.read(at + MODE)?);
        let (irql, affinity): (u8, u64) = (self.memory.read(at + IRQL)?, self.memory.read(at + AFFINITY)?);
        Ok(vector == resource.vector
            && irql == resource.irql
            && synchronize_irql >= irql
            && mode == LEVEL_SENSITIVE
            && affinity != 0
            && affinity & !resource.affinity == 0)
    }

    /// `IoDisconnectInterruptEx`: when it returns, the ISR does not run any more.
    pub(crate) fn io_disconnect_interrupt_ex(&mut self, call: &Call) -> Outcome {
        let interrupt: u64 = self.memory.read(call.argument(0) + CONNECTION)?;
        if self.interrupts.0.remove(&interrupt).is_none() {
            let facts = format!("no interrupt is connected with the object {interrupt:#x}");
            return Err(Verdict::NotInitialized.because(facts));
        }
        Ok(Answer::Block(Wait::Isr { interrupt }))
    }

    /// The device interrupts: its line becomes active, and some CPU will see it.
    pub(crate) fn raise_interrupt(&mut self) -> Result<(), Finding> {
        let cpu = self.dice.index(self.cpus.len());
        match self.nodes.last_mut() {
            Some(node) => {
                node.line = Some(cpu);
                Ok(())
            }
            None => Err(Verdict::NotModelled.because("an interrupt of a device that has not been added")),
        }
    }

    /// An interrupt that this CPU can take now.
    pub(crate) fn deliverable(&self, cpu: usize, irql: u8) -> Option<u64> {
        if self.world == World::Dump {
            return None;
        }
        let (&interrupt, _) =
            self.interrupts.0.iter().find(|(_, connected)| {
                self.nodes[connected.node].line == Some(cpu) && connected.irql > irql
            })?;
        // The interrupt's spin lock: an ISR runs on one CPU at a time.
        let is_free =
            !self.is_isr_running(interrupt) && !self.locks.is_held(self.interrupts.0[&interrupt].lock);
        is_free.then_some(interrupt)
    }

    pub(crate) fn is_isr_running(&self, interrupt: u64) -> bool {
        self.contexts.values().any(|context| context.kind == Kind::Isr { interrupt })
    }

    pub(crate) fn begin_isr(&mut self, cpu: usize, interrupt: u64) -> Result<(), Finding> {
        let connected = &self.interrupts.0[&interrupt];
        let (lock, irql) = (connected.lock, connected.irql);
        let call = (connected.routine, [interrupt, connected.context, 0, 0]);
        self.nodes[connected.node].line = None;
        let kind = Kind::Isr { interrupt };
        let id = self.begin(kind, "the interrupt service routine", irql, call, Then::Isr { lock });
        self.acquire_for_isr(lock, id)?;
        self.context_mut(id).frames[0].locks = usize::from(lock != 0);
        self.place_on(cpu, id);
        self.go_on(cpu, id)
    }

    /// `KSERVICE_ROUTINE`: it returns whether the interrupt was its device's.
    pub(crate) fn isr_returned(&mut self, lock: u64, value: u64) -> Outcome {
        self.release_for_isr(lock)?;
        if value == 0 {
            return Err(Verdict::InterruptUnclaimed.because("the line would stay active for ever"));
        }
        Ok(Answer::Return(value))
    }
}
