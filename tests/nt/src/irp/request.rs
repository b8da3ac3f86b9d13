//! Requests: the two ends of an IRP, where it is the I/O manager's.
#![forbid(unsafe_code)]

use std::{fmt, mem};

use nt_sys::{
    IO_STACK_LOCATION, IRP, IRP_MJ_DEVICE_CONTROL, NTSTATUS, STATUS_DELETE_PENDING, STATUS_NOT_SUPPORTED,
};

use super::{
    CURRENT, INFORMATION, Irp, LOCATION, LOCATION_SIZE, MAJOR, MINOR, NO_STATUS, PARAMETERS, SIZE,
    STACK_COUNT, STATUS, SYSTEM_BUFFER, TYPE,
};
use crate::{
    call::{Answer, Outcome},
    cpu::{Id, Kind, PASSIVE_LEVEL, Wait},
    kernel::Kernel,
    nt::{Completion, Reuse},
    pool::{KERNEL, Owner},
    trace::What,
    verdict::{Finding, Verdict},
};

/// `IO_TYPE_IRP`.
const IRP_TYPE: u16 = 6;
/// What a buffer holds that nobody has written to yet.
const UNWRITTEN: u8 = 0xB0;
/// So many IRPs are on their way at a time when their memory is used again at once.
const AT_A_TIME: usize = 4;
/// Who completes an IRP waits so many steps at most for the one that its memory went to.
const HANDOVER: u64 = 2_000;

/// What is asked of a device.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) node: usize,
    pub(crate) major: u8,
    pub(crate) minor: u8,
    /// `Parameters`, as the words that they are.
    pub(crate) parameters: [u64; 4],
    pub(crate) input: Vec<u8>,
    pub(crate) output: usize,
}

/// A system buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    address: u64,
    length: usize,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.major {
            IRP_MJ_DEVICE_CONTROL => write!(f, "IOCTL {:#x}", self.parameters[2]),
            major => write!(f, "IRP {major:#04x} {:#04x}", self.minor),
        }
    }
}

impl Kernel {
    /// Asks something of a device; the number stands for the request.
    pub(crate) fn order(&mut self, order: Order) -> Result<u64, Finding> {
        let number = self.number();
        let is_control = order.major == IRP_MJ_DEVICE_CONTROL;
        if is_control && self.options.reuse == Reuse::AtOnce && self.irps.live.len() >= AT_A_TIME {
            self.irps.waiting.push_back((number, order));
        } else {
            self.send(number, order, None)?;
        }
        Ok(number)
    }

    /// Refuses the requests that are not on their way yet: the device is going.
    pub(crate) fn refuse_waiting(&mut self) {
        for (number, _) in mem::take(&mut self.irps.waiting) {
            let refused = Completion { status: STATUS_DELETE_PENDING, information: 0, output: Vec::new() };
            self.irps.done.insert(number, refused);
        }
    }

    /// Fills an IRP in, in new memory or another one's, and hands it to the driver on top in a thread of its own.
    fn send(&mut self, number: u64, order: Order, used: Option<&Irp>) -> Result<Option<Id>, Finding> {
        let device = self.devices.top_of(self.nodes[order.node].pdo);
        let stack = self.stack_size(device)?;
        let (address, used_buffer) = match used {
            Some(used) => (used.address, used.buffer),
            None => (self.memory.allocate(irp_size(stack) as u64, Owner::Irp, 0, KERNEL), None),
        };
        let buffer = self.buffer(order.input.len().max(order.output), used_buffer)?;
        self.fill(address, stack, &order, buffer)?;
        let purpose = order.to_string();
        self.irps.live.insert(number, Irp::new(address, stack, buffer, order));
        match self.call_driver(number, device)? {
            Answer::Call { routine, arguments, then } => {
                Ok(Some(self.begin(Kind::Thread, purpose, PASSIVE_LEVEL, (routine, arguments), then)))
            }
            _ => Ok(None),
        }
    }

    /// A system buffer of this length: another request's, if it is of the same.
    fn buffer(&mut self, length: usize, used: Option<Buffer>) -> Result<Option<Buffer>, Finding> {
        if used.is_some_and(|used| used.length == length) {
            return Ok(used);
        }
        used.map_or(Ok(()), |used| self.memory.free(used.address, KERNEL))?;
        let allocate = || self.memory.allocate(length as u64, Owner::Irp, 0, KERNEL);
        Ok((length != 0).then(allocate).map(|address| Buffer { address, length }))
    }

    fn fill(
        &mut self,
        address: u64,
        stack: u8,
        order: &Order,
        buffer: Option<Buffer>,
    ) -> Result<(), Finding> {
        let memory = &mut self.memory;
        let size = irp_size(stack);
        memory.write_bytes(address, &vec![0; size])?;
        memory.write(address + TYPE, IRP_TYPE)?;
        memory.write(address + SIZE, u16::try_from(size).expect("stacks are low"))?;
        // "Passing PnP IRPs Down the Device Stack" for the one; the same goes for power and WMI (0xC9, 0x20F and 0x210).
        let first = if order.major == IRP_MJ_DEVICE_CONTROL { NO_STATUS } else { STATUS_NOT_SUPPORTED };
        memory.write(address + STATUS, first.cast_unsigned())?;
        memory.write(address + STACK_COUNT, stack)?;
        memory.write(address + LOCATION, stack + 1)?;
        let top = address + size as u64;
        memory.write(address + CURRENT, top)?;
        let first = top - LOCATION_SIZE;
        memory.write(first + MAJOR, order.major)?;
        memory.write(first + MINOR, order.minor)?;
        for (index, parameter) in order.parameters.into_iter().enumerate() {
            memory.write(first + PARAMETERS + 8 * index as u64, parameter)?;
        }
        if let Some(Buffer { address: buffer, length }) = buffer {
            memory.write(address + SYSTEM_BUFFER, buffer)?;
            memory.write_bytes(buffer, &vec![UNWRITTEN; length])?;
            memory.write_bytes(buffer, &order.input)?;
        }
        Ok(())
    }

    /// All stack locations have been left: the IRP is the I/O manager's again.
    pub(super) fn is_complete(&mut self, number: u64, answer: u64, by: Option<Id>) -> Outcome {
        let irp = self.irps.live.remove(&number).expect("it is complete once");
        let status = self.status_of(irp.address)?;
        irp.check_passing(status)?;
        let completion = self.result_of(&irp, status)?;
        self.note(None, What::Notes(format!("the IRP at {:#x} is complete: {status:#x}", irp.address)));
        self.irps.done.insert(number, completion);
        for (index, visit) in irp.visits.iter().enumerate().filter(|(_, visit)| visit.returned.is_none()) {
            let passed = irp.passed[usize::from(visit.location)].expect("all have been left");
            self.irps.returning.insert((number, index), passed);
        }
        if let Some(next) = self.irps.next_like(&irp.order) {
            return self.hand_over(&irp, next, answer, by);
        }
        self.irps.gone.insert(irp.address);
        self.memory.free(irp.address, KERNEL)?;
        irp.buffer.map_or(Ok(()), |buffer| self.memory.free(buffer.address, KERNEL))?;
        Ok(Answer::Return(answer))
    }

    /// The memory is the next request's at once, as StorPort does with its request blocks. If there is another CPU, that
    /// one hands it to the driver, and who has completed the last one waits.
    fn hand_over(&mut self, used: &Irp, next: (u64, Order), answer: u64, by: Option<Id>) -> Outcome {
        let (number, order) = next;
        let to = self.send(number, order, Some(used))?;
        match (to, by.and_then(|id| self.context(id).cpu)) {
            (Some(to), Some(cpu)) if self.cpus.len() > 1 => {
                self.context_mut(to).avoids = Some(cpu);
                Ok(Answer::Block(Wait::Handover { to, until_step: self.steps + HANDOVER, answer }))
            }
            _ => Ok(Answer::Return(answer)),
        }
    }

    fn result_of(&self, irp: &Irp, status: NTSTATUS) -> Result<Completion, Finding> {
        let information: u64 = self.memory.read(irp.address + INFORMATION)?;
        let length = usize::try_from(information).unwrap_or(usize::MAX);
        let has_output = irp.order.major == IRP_MJ_DEVICE_CONTROL && status >= 0;
        if has_output && length > irp.order.output {
            let facts = format!("Information is {information}, the output buffer has {}", irp.order.output);
            return Err(Verdict::IrpInformation.because(facts));
        }
        let output = match irp.buffer {
            Some(buffer) if has_output => self.memory.read_bytes(buffer.address, length)?,
            _ => Vec::new(),
        };
        Ok(Completion { status, information, output })
    }
}

/// The size of an IRP with so many stack locations.
fn irp_size(stack: u8) -> usize {
    size_of::<IRP>() + usize::from(stack) * size_of::<IO_STACK_LOCATION>()
}
