//! IRPs: they are the I/O manager's, lent to drivers from the call of a dispatch routine to their completion.
//!
//! Here: down the stack of drivers, and up again; [`request`]: before and after. What a dispatch routine returned and how the IRP was
//! completed are compared when both are known, whichever comes first: Driver Verifier's "I/O Verification" (bug
//! check 0xC9) lists what must agree.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem::offset_of,
};

use nt_sys::{
    DRIVER_OBJECT, FALSE, IO_STACK_LOCATION, IRP, NTSTATUS, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED, STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING,
    TRUE,
};

use crate::{
    call::{Answer, Call, Outcome, Then},
    cpu::{Id, State, Wait},
    dpc::status,
    kernel::Kernel,
    machine::Resume,
    nt::Completion,
    verdict::{Finding, Verdict},
};

mod request;

use request::Buffer;
pub(crate) use request::Order;

/// What an IRP's status is before anybody sets it, where the I/O manager does not define it: no driver may complete an
/// IRP with it (bug check 0xC9, 0x06).
const NO_STATUS: NTSTATUS = -1;
const TYPE: u64 = offset_of!(IRP, Type) as u64;
const SIZE: u64 = offset_of!(IRP, Size) as u64;
const SYSTEM_BUFFER: u64 = offset_of!(IRP, AssociatedIrp) as u64;
const STATUS: u64 = offset_of!(IRP, IoStatus) as u64;
const INFORMATION: u64 = STATUS + offset_of!(nt_sys::IO_STATUS_BLOCK, Information) as u64;
const PENDING_RETURNED: u64 = offset_of!(IRP, PendingReturned) as u64;
const STACK_COUNT: u64 = offset_of!(IRP, StackCount) as u64;
const LOCATION: u64 = offset_of!(IRP, CurrentLocation) as u64;
const CANCEL_ROUTINE: u64 = offset_of!(IRP, CancelRoutine) as u64;
const CURRENT: u64 =
    offset_of!(IRP, Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation) as u64;

const LOCATION_SIZE: u64 = size_of::<IO_STACK_LOCATION>() as u64;
const MAJOR: u64 = offset_of!(IO_STACK_LOCATION, MajorFunction) as u64;
const MINOR: u64 = offset_of!(IO_STACK_LOCATION, MinorFunction) as u64;
const CONTROL: u64 = offset_of!(IO_STACK_LOCATION, Control) as u64;
const PARAMETERS: u64 = offset_of!(IO_STACK_LOCATION, Parameters) as u64;
const DEVICE: u64 = offset_of!(IO_STACK_LOCATION, DeviceObject) as u64;
const COMPLETION_ROUTINE: u64 = offset_of!(IO_STACK_LOCATION, CompletionRoutine) as u64;
const CONTEXT: u64 = offset_of!(IO_STACK_LOCATION, Context) as u64;

const MAJOR_FUNCTION: u64 = offset_of!(DRIVER_OBJECT, MajorFunction) as u64;

/// All IRPs.
#[derive(Debug, Default)]
pub(crate) struct Irps {
    /// Those that are on their way, by number.
    live: BTreeMap<u64, Irp>,
    /// What became of the others.
    done: BTreeMap<u64, Completion>,
    /// Where the others were, to tell a second completion from a bad pointer.
    gone: BTreeSet<u64>,
    /// How the stack locations were left of those whose dispatch routines have not returned, by IRP and visit.
    returning: BTreeMap<(u64, usize), Passed>,
    /// Requests that wait for memory of others, when it is used again at once.
    waiting: VecDeque<(u64, Order)>,
}

/// An IRP that is on its way.
#[derive(Debug)]
pub(crate) struct Irp {
    address: u64,
    stack: u8,
    buffer: Option<Buffer>,
    pub(crate) order: Order,
    /// The dispatch routines that it came to.
    visits: Vec<Visit>,
    /// How each stack location was left, from the lowest.
    passed: Vec<Option<Passed>>,
    /// Whether the bus driver has seen it.
    pub(crate) reached_bus: bool,
    /// Whether the bus driver holds it.
    pub(crate) is_at_bus: bool,
    /// Who waits for it to come back up from a stack location.
    sender: Option<(u8, Id)>,
}

#[derive(Debug)]
struct Visit {
    /// The stack location, from one.
    location: u8,
    routine: u64,
    returned: Option<NTSTATUS>,
}

#[derive(Clone, Copy, Debug)]
struct Passed {
    marked: bool,
    status: NTSTATUS,
}

impl Irp {
    fn new(address: u64, stack: u8, buffer: Option<Buffer>, order: Order) -> Self {
        Self {
            address,
            stack,
            buffer,
            order,
            visits: Vec::new(),
            passed: vec![None; usize::from(stack) + 1],
            reached_bus: false,
            is_at_bus: false,
            sender: None,
        }
    }
}

impl Irps {
    pub(crate) fn live(&self, irp: u64) -> Option<&Irp> {
        self.live.get(&irp)
    }

    pub(crate) fn live_mut(&mut self, irp: u64) -> &mut Irp {
        self.live.get_mut(&irp).expect("an IRP that is on its way")
    }

    pub(crate) fn is_done(&self, irp: u64) -> bool {
        self.done.contains_key(&irp)
    }

    pub(crate) fn take(&mut self, irp: u64) -> Option<Completion> {
        self.done.remove(&irp)
    }

    /// Takes a request that can have the memory of one like this.
    fn next_like(&mut self, order: &Order) -> Option<(u64, Order)> {
        let is_alike = |(_, next): &(u64, Order)| (next.node, next.major) == (order.node, order.major);
        self.waiting.remove(self.waiting.iter().position(is_alike)?)
    }

    fn at(&self, address: u64) -> Option<u64> {
        self.live.iter().find(|(_, irp)| irp.address == address).map(|(&number, _)| number)
    }

    /// The IRPs of a device that were not completed.
    pub(crate) fn lost(&self, node: usize) -> Vec<String> {
        let of_node = self.live.values().filter(|irp| irp.order.node == node);
        of_node.map(|irp| format!("the IRP at {:#x} ({})", irp.address, irp.order)).collect()
    }
}

impl Kernel {
    // Down the stack.

    /// `IofCallDriver`: `IoCallDriver`.
    pub(crate) fn iof_call_driver(&mut self, call: &Call) -> Outcome {
        let irp = self.irp_at(call.argument(1))?;
        self.call_driver(irp, call.argument(0))
    }

    /// `IoForwardIrpSynchronously`: the same parameters for the driver below, and back when that has completed it. The
    /// completion routine is the system's, so that no code of the driver's runs late.
    pub(crate) fn io_forward_irp_synchronously(&mut self, call: &Call) -> Outcome {
        let number = self.irp_at(call.argument(1))?;
        let Irp { address, stack, .. } = self.irps.live[&number];
        let location = self.location(address, stack)?;
        if location == 1 {
            return Ok(Answer::Return(FALSE.into()));
        }
        let (current, next) = (location_at(address, location), location_at(address, location - 1));
        let parameters = self.memory.read_bytes(current, offset_of!(IO_STACK_LOCATION, CompletionRoutine))?;
        self.memory.write_bytes(next, &parameters)?;
        self.memory.write(next + CONTROL, 0_u8)?;
        self.memory.write(next + COMPLETION_ROUTINE, 0_u64)?;
        self.irps.live_mut(number).sender = Some((location - 1, call.id));
        match self.call_driver(number, call.argument(0))? {
            Answer::Return(_) if self.irps.live[&number].sender.is_none() => Ok(Answer::Return(TRUE.into())),
            Answer::Return(_) => Ok(Answer::Block(Wait::Irp { irp: address })),
            _ => {
                Err(Verdict::NotModelled
                    .because("IoForwardIrpSynchronously to a driver that is not the bus's"))
            }
        }
    }

    /// Gives an IRP that has come back up to who waits for it.
    fn give_back(&mut self, number: u64, location: u8) -> bool {
        let Some((_, id)) = self.irps.live[&number].sender.filter(|(from, _)| *from == location) else {
            return false;
        };
        self.irps.live_mut(number).sender = None;
        let context = self.context_mut(id);
        if matches!(context.state, State::Blocked(_)) {
            context.next = Resume::Return(TRUE.into());
            context.state = State::Ready;
        }
        true
    }

    fn irp_at(&self, address: u64) -> Result<u64, Finding> {
        if let Some(irp) = self.irps.at(address) {
            return Ok(irp);
        }
        if self.irps.gone.contains(&address) {
            return Err(Verdict::IrpCompletedTwice.because(format!("the IRP at {address:#x} is complete")));
        }
        Err(Verdict::BadPointer.because(format!("there is no IRP at {address:#x}")))
    }

    /// Makes the next stack location the current one and calls the dispatch routine of the device's driver.
    fn call_driver(&mut self, number: u64, device: u64) -> Outcome {
        let driver = self.devices.driver_of(device)?;
        let irp = &self.irps.live[&number];
        let (address, stack) = (irp.address, irp.stack);
        if irp.is_at_bus {
            return Err(Verdict::IrpStack.because("the IRP is still with the driver below"));
        }
        let location = self.location(address, stack)?.checked_sub(1).filter(|&location| location != 0);
        let Some(location) = location else {
            return Err(Verdict::IrpStack.because("there is no stack location left for a driver below"));
        };
        let current = location_at(address, location);
        self.check_location(number, location)?;
        self.memory.write(address + LOCATION, location)?;
        self.memory.write(address + CURRENT, current)?;
        self.memory.write(current + DEVICE, device)?;
        let major: u8 = self.memory.read(current + MAJOR)?;
        let Some(driver) = driver else { return self.bus_dispatches(number, major, current + MINOR) };
        let routine: u64 = self.memory.read(driver + MAJOR_FUNCTION + 8 * u64::from(major))?;
        if routine == 0 {
            // `DRIVER_OBJECT`: what a driver does not set is a routine of the I/O manager's.
            self.set_status(number, STATUS_INVALID_DEVICE_REQUEST)?;
            return self.complete(number, status(STATUS_INVALID_DEVICE_REQUEST), None);
        }
        let visits = &mut self.irps.live_mut(number).visits;
        visits.push(Visit { location, routine, returned: None });
        let then = Then::Dispatch { irp: number, visit: visits.len() - 1 };
        Ok(Answer::Call { routine, arguments: [device, address, 0, 0], then })
    }

    /// Whether the driver above has prepared the location that it hands on: bug check 0xC9, 0x206 and 0x212.
    fn check_location(&self, number: u64, location: u8) -> Result<(), Finding> {
        let irp = &self.irps.live[&number];
        if irp.visits.iter().any(|visit| visit.location == location) {
            return Ok(());
        }
        let current = location_at(irp.address, location);
        let (major, minor): (u8, u8) =
            (self.memory.read(current + MAJOR)?, self.memory.read(current + MINOR)?);
        if (major, minor) != (irp.order.major, irp.order.minor) {
            let facts =
                format!("the next location is for IRP {major:#04x} {minor:#04x}: it was not filled in");
            return Err(Verdict::IrpStack.because(facts));
        }
        if self.memory.read::<u8>(current + CONTROL)? & SL_PENDING_RETURNED != 0 {
            let facts = "the next location is marked pending: IoCopyCurrentIrpStackLocationToNext clears it";
            return Err(Verdict::IrpStack.because(facts));
        }
        Ok(())
    }

    /// The number of the current location, which the pointer must agree with.
    fn location(&self, address: u64, stack: u8) -> Result<u8, Finding> {
        let (location, current): (u8, u64) =
            (self.memory.read(address + LOCATION)?, self.memory.read(address + CURRENT)?);
        if location == 0 || location > stack + 1 || current != location_at(address, location) {
            let facts = format!("CurrentLocation is {location}, CurrentStackLocation {current:#x}");
            return Err(Verdict::IrpStack.because(facts));
        }
        Ok(location)
    }

    pub(crate) fn set_status(&mut self, number: u64, status: NTSTATUS) -> Result<(), Finding> {
        self.memory.write(self.irps.live[&number].address + STATUS, status.cast_unsigned())
    }

    /// The status that an IRP has on its way.
    pub(crate) fn status_so_far(&self, number: u64) -> Result<NTSTATUS, Finding> {
        self.status_of(self.irps.live[&number].address)
    }

    /// `IoMarkIrpPending`, by the driver that has the current location.
    pub(crate) fn mark_pending(&mut self, number: u64) -> Result<(), Finding> {
        let address = self.irps.live[&number].address;
        let current: u64 = self.memory.read(address + CURRENT)?;
        self.mark(current)
    }

    fn mark(&mut self, location: u64) -> Result<(), Finding> {
        let control: u8 = self.memory.read(location + CONTROL)?;
        self.memory.write(location + CONTROL, control | SL_PENDING_RETURNED)
    }

    /// A dispatch routine has returned.
    pub(crate) fn dispatched(&mut self, number: u64, visit: usize, value: u64, routine: u64) -> Outcome {
        let returned = u32::try_from(value & 0xFFFF_FFFF).expect("32 bits").cast_signed();
        let at_routine = |finding: Finding| finding.at(routine);
        if let Some(irp) = self.irps.live.get_mut(&number) {
            irp.visits[visit].returned = Some(returned);
            self.compare(number, visit).map_err(at_routine)?;
        } else {
            let visit = self.irps.returning.remove(&(number, visit));
            let passed = visit.expect("an IRP that is done remembers whom it came from");
            agree(returned, passed).map_err(at_routine)?;
        }
        Ok(Answer::Return(value))
    }

    /// Compares what a dispatch routine returned with how its stack location was left, as far as both are known.
    fn compare(&mut self, number: u64, visit: usize) -> Result<(), Finding> {
        let irp = &self.irps.live[&number];
        let Visit { location, returned, .. } = irp.visits[visit];
        let Some(returned) = returned else { return Ok(()) };
        if let Some(passed) = irp.passed[usize::from(location)] {
            return agree(returned, passed);
        }
        if returned != STATUS_PENDING {
            // 0x226: returned without passing down or completing this IRP, or forgot to return STATUS_PENDING.
            let facts = format!("{returned:#x} was returned, and the IRP is not complete");
            return Err(Verdict::IrpPending.because(facts));
        }
        let is_last = visit + 1 == irp.visits.len() && !irp.is_at_bus;
        let control: u8 = self.memory.read(location_at(irp.address, location) + CONTROL)?;
        if is_last && control & SL_PENDING_RETURNED == 0 {
            return Err(unmarked());
        }
        Ok(())
    }

    // Up the stack.

    /// `IofCompleteRequest`: `IoCompleteRequest`.
    pub(crate) fn iof_complete_request(&mut self, call: &Call) -> Outcome {
        let number = self.irp_at(call.argument(0))?;
        let irp = &self.irps.live[&number];
        let address = irp.address;
        if irp.is_at_bus {
            return Err(Verdict::IrpCompletedTwice.because("the IRP is still with the driver below"));
        }
        if self.location(address, irp.stack)? > irp.stack {
            return Err(Verdict::IrpCompletedTwice.because("the IRP is being completed already"));
        }
        // `IoCompleteRequest`: never while holding a spin lock.
        if let Some(lock) = self.locks.held_by(call.id).next() {
            return Err(Verdict::LockAtCompletion.because(format!("the lock at {lock:#x}")));
        }
        let result = self.status_of(address)?;
        if result == STATUS_PENDING || result == NO_STATUS {
            return Err(Verdict::IrpStatus.because(format!("the IRP is completed with {result:#x}")));
        }
        if self.memory.read::<u64>(address + CANCEL_ROUTINE)? != 0 {
            return Err(Verdict::IrpStack.because("the IRP is completed with a cancel routine (0xC9, 0x07)"));
        }
        self.complete(number, 0, Some(call.id))
    }

    fn status_of(&self, address: u64) -> Result<NTSTATUS, Finding> {
        Ok(self.memory.read::<u32>(address + STATUS)?.cast_signed())
    }

    /// Leaves one stack location after the other, from the current one upwards, calling the completion routine that the
    /// driver above has put there.
    pub(crate) fn complete(&mut self, number: u64, answer: u64, by: Option<Id>) -> Outcome {
        let Irp { address, stack, .. } = self.irps.live[&number];
        loop {
            let location = self.location(address, stack)?;
            if location > stack {
                return self.is_complete(number, answer, by);
            }
            let current = location_at(address, location);
            let control: u8 = self.memory.read(current + CONTROL)?;
            let marked = control & SL_PENDING_RETURNED != 0;
            let status = self.status_of(address)?;
            self.leave(number, location, Passed { marked, status })?;
            self.memory.write(address + PENDING_RETURNED, u8::from(marked))?;
            self.memory.write(address + LOCATION, location + 1)?;
            self.memory.write(address + CURRENT, current + LOCATION_SIZE)?;
            if self.give_back(number, location) {
                return Ok(Answer::Return(answer));
            }
            let invoked = if status >= 0 { SL_INVOKE_ON_SUCCESS } else { SL_INVOKE_ON_ERROR };
            let routine: u64 = self.memory.read(current + COMPLETION_ROUTINE)?;
            if control & invoked != 0 && routine != 0 {
                let context: u64 = self.memory.read(current + CONTEXT)?;
                let above = current + LOCATION_SIZE;
                let device = if location < stack { self.memory.read(above + DEVICE)? } else { 0 };
                let then = Then::Completion { irp: number, answer };
                return Ok(Answer::Call { routine, arguments: [device, address, context, 0], then });
            }
            if marked && location < stack {
                self.mark(current + LOCATION_SIZE)?;
            }
        }
    }

    /// A completion routine has returned: `IO_COMPLETION_ROUTINE`.
    pub(crate) fn go_on_completing(&mut self, irp: u64, value: u64, answer: u64, by: Id) -> Outcome {
        if value & 0xFFFF_FFFF == status(STATUS_MORE_PROCESSING_REQUIRED) {
            return Ok(Answer::Return(answer));
        }
        if self.irps.live(irp).is_none() {
            return Err(
                Verdict::IrpCompletedTwice.because("a completion routine has completed the IRP itself")
            );
        }
        self.complete(irp, answer, Some(by))
    }

    fn leave(&mut self, number: u64, location: u8, passed: Passed) -> Result<(), Finding> {
        let irp = self.irps.live_mut(number);
        irp.passed[usize::from(location)] = Some(passed);
        let visits = irp.visits.iter().enumerate().filter(|(_, visit)| visit.location == location);
        for (visit, routine) in visits.map(|(index, visit)| (index, visit.routine)).collect::<Vec<_>>() {
            self.compare(number, visit).map_err(|finding| finding.at(routine))?;
        }
        Ok(())
    }
}

fn location_at(address: u64, location: u8) -> u64 {
    address + size_of::<IRP>() as u64 + (u64::from(location) - 1) * LOCATION_SIZE
}

/// Whether a dispatch routine returned what it must after its stack location was left like this.
fn agree(returned: NTSTATUS, passed: Passed) -> Result<(), Finding> {
    match (returned == STATUS_PENDING, passed.marked) {
        (true, false) => Err(unmarked()),
        (false, true) => {
            Err(Verdict::IrpPending.because(format!("marked pending, but {returned:#x} was returned")))
        }
        // 0x224: a status that is inconsistent with the IRP's IoStatus.Status field.
        (false, false) if returned != passed.status => {
            let facts = format!("{returned:#x} was returned, and the IRP's status is {:#x}", passed.status);
            Err(Verdict::IrpStatus.because(facts))
        }
        _ => Ok(()),
    }
}

fn unmarked() -> Finding {
    Verdict::IrpPending.because("STATUS_PENDING was returned, but IoMarkIrpPending was not called")
}
