//! The Plug and Play manager, and the bus driver below: what becomes of a device from `AddDevice` to removal.
//!
//! The bus is like PCI: each device has a physical device object, a port range, a memory range and an interrupt. The
//! bus driver's dispatch routine is here, too; it sometimes pends `IRP_MN_START_DEVICE` and `IRP_MN_QUERY_CAPABILITIES`,
//! and then completes them from a thread or a DPC.
#![forbid(unsafe_code)]

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use nt_sys::{
    IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL, IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_QUERY_REMOVE_DEVICE,
    IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_SURPRISE_REMOVAL, NTSTATUS, STATUS_NOT_SUPPORTED,
    STATUS_PENDING, STATUS_SUCCESS,
};

use crate::{
    call::{Answer, Outcome, Then},
    cpu::{DISPATCH_LEVEL, Kind, PASSIVE_LEVEL},
    dpc::status,
    irp::{Irp, Order},
    kernel::{Due, Kernel},
    nt::Completion,
    verdict::{Failure, Finding, Verdict},
};

/// The devices that there are.
#[derive(Debug, Default)]
pub(crate) struct Nodes(Vec<Node>);

/// A device, as the Plug and Play manager knows it.
#[derive(Debug)]
pub(crate) struct Node {
    /// The physical device object.
    pub(crate) pdo: u64,
    pub(crate) interrupt: Interrupt,
    /// Where its line, if it is active, will be seen.
    pub(crate) line: Option<usize>,
    /// The bus driver has done its part of `IRP_MN_START_DEVICE`.
    pub(crate) is_started_below: bool,
    /// It has been removed.
    pub(crate) is_gone: bool,
}

/// The translated interrupt resource of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupt {
    pub(crate) irql: u8,
    pub(crate) vector: u32,
    pub(crate) affinity: u64,
}

/// The device IRQL and the vector of the device's line.
const DEVICE_IRQL: u8 = 9;
const VECTOR: u32 = 0x51;
/// The ports and the memory of Xen's platform device: its address is the bus's choice.
const PORTS: (u64, u32) = (0xC000, 0x100);
const REGISTERS: (u64, u32) = (0xF200_0000, 0x0100_0000);

/// `CM_PARTIAL_RESOURCE_DESCRIPTOR`: types, share dispositions, flags.
const PORT: u8 = 1;
const INTERRUPT: u8 = 2;
const MEMORY: u8 = 3;
const EXCLUSIVE: u8 = 1;
const SHARED: u8 = 3;
const PORT_IO: u16 = 1;
/// `INTERFACE_TYPE::PCIBus`.
const PCI_BUS: u32 = 5;

/// `IRP_MN_QUERY_CAPABILITIES`: an example of what the bus driver answers.
const QUERY_CAPABILITIES: u8 = 0x09;

impl Deref for Nodes {
    type Target = Vec<Node>;

    fn deref(&self) -> &Vec<Node> {
        &self.0
    }
}

impl DerefMut for Nodes {
    fn deref_mut(&mut self) -> &mut Vec<Node> {
        &mut self.0
    }
}

impl Nodes {
    /// The device whose physical device object this is.
    pub(crate) fn of_pdo(&self, pdo: u64) -> Option<usize> {
        self.0.iter().position(|node| node.pdo == pdo)
    }
}

impl Kernel {
    /// The bus driver finds a device.
    pub(crate) fn enumerate(&mut self) -> Result<usize, Finding> {
        let pdo = self.create_bus_device()?;
        let affinity = u64::MAX >> (64 - self.cpus.len());
        let interrupt = Interrupt { irql: DEVICE_IRQL, vector: VECTOR, affinity };
        self.nodes.push(Node { pdo, interrupt, line: None, is_started_below: false, is_gone: false });
        Ok(self.nodes.len() - 1)
    }

    /// Sends an IRP without a buffer and waits for it.
    pub(crate) fn ask(&mut self, node: usize, function: (u8, u8)) -> Result<NTSTATUS, Failure> {
        let (number, what) = self.begin_to_ask(node, function)?;
        self.wait_for(number, &what).map(|completion| completion.status)
    }

    /// Sends an IRP without a buffer: its number, and what it is.
    pub(crate) fn begin_to_ask(
        &mut self,
        node: usize,
        (major, minor): (u8, u8),
    ) -> Result<(u64, String), Failure> {
        self.alive()?;
        let parameters = match (major, minor) {
            (IRP_MJ_PNP, IRP_MN_START_DEVICE) => {
                let lists = [false, true].map(|translated| self.resources(node, translated));
                [lists[0], lists[1], 0, 0]
            }
            _ => [0; 4],
        };
        let order = Order { node, major, minor, parameters, input: Vec::new(), output: 0 };
        let what = order.to_string();
        let number = self.order(order).map_err(|finding| self.fail(finding, None))?;
        Ok((number, what))
    }

    /// Waits for a request. It is over for who sent it when it is complete and its thread has returned.
    pub(crate) fn wait_for(&mut self, number: u64, what: &dyn fmt::Display) -> Result<Completion, Failure> {
        self.run_until(what, &|kernel| {
            kernel.irps.is_done(number) && !kernel.dispatching().any(|irp| irp == number)
        })?;
        Ok(self.irps.take(number).expect("it is done"))
    }

    /// Removes a device whose removal the drivers cannot refuse any more.
    ///
    /// "Handling an `IRP_MN_QUERY_REMOVE_DEVICE` Request", `IRP_MN_SURPRISE_REMOVAL`: this comes when all handles are
    /// closed. Nobody is in a dispatch routine then, or on the way to one; requests that were pended may be left.
    pub(crate) fn remove(&mut self, node: usize) -> Result<(), Failure> {
        self.refuse_waiting();
        self.run_until(&"the requests on their way to the driver", &|kernel| {
            kernel.dispatching().next().is_none()
        })?;
        self.ask(node, (IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE))?;
        self.check_removed(node).map_err(|finding| self.fail(finding, None))?;
        self.nodes[node].is_gone = true;
        Ok(())
    }

    fn check_removed(&self, node: usize) -> Result<(), Finding> {
        // "Handling an IRP_MN_REMOVE_DEVICE Request": all resources for the device have been released; 0xC9, 0x21D and 0x21E.
        if let Some(interrupt) = self.interrupts.of(node) {
            return Err(
                Verdict::InterruptLeft.because(format!("the interrupt {interrupt:#x}, after removal"))
            );
        }
        if let Some(device) = self.devices.of_node(node).next() {
            return Err(
                Verdict::DeviceLeft.because(format!("the device object at {device:#x}, after removal"))
            );
        }
        match self.irps.lost(node).as_slice() {
            [] => Ok(()),
            lost => Err(Verdict::IrpLost.because(lost.join(", "))),
        }
    }

    /// `CM_RESOURCE_LIST` with one list: ports, memory, interrupt. Raw and translated differ in the interrupt.
    fn resources(&mut self, node: usize, translated: bool) -> u64 {
        let Interrupt { irql, vector, affinity } = self.nodes[node].interrupt;
        let (level, vector) = if translated { (u32::from(irql), vector) } else { (11, 11) };
        let mut bytes = Vec::new();
        bytes.extend([1, PCI_BUS, 0].map(u32::to_le_bytes).concat());
        bytes.extend([1_u16, 1].map(u16::to_le_bytes).concat());
        bytes.extend(3_u32.to_le_bytes());
        let mut add = |kind: u8, share: u8, flags: u16, words: [u32; 4]| {
            bytes.extend([kind, share]);
            bytes.extend(flags.to_le_bytes());
            bytes.extend(words.map(u32::to_le_bytes).concat());
        };
        add(PORT, EXCLUSIVE, PORT_IO, [low(PORTS.0), high(PORTS.0), PORTS.1, 0]);
        add(MEMORY, EXCLUSIVE, 0, [low(REGISTERS.0), high(REGISTERS.0), REGISTERS.1, 0]);
        add(INTERRUPT, SHARED, 0, [level, vector, low(affinity), high(affinity)]);
        let list = self.memory.allocate_kernel(bytes.len());
        self.memory.write_bytes(list, &bytes).expect("it has just been allocated");
        list
    }

    // The bus driver.

    /// The dispatch routine of the bus driver.
    pub(crate) fn bus_dispatches(&mut self, number: u64, major: u8, minor: u64) -> Outcome {
        let minor: u8 = self.memory.read(minor)?;
        self.irps.live_mut(number).reached_bus = true;
        match (major, minor) {
            (IRP_MJ_PNP, IRP_MN_START_DEVICE | QUERY_CAPABILITIES) if self.dice.hits(2) => {
                self.mark_pending(number)?;
                self.irps.live_mut(number).is_at_bus = true;
                let delay = 1 + self.dice.below(10_000);
                self.schedule(delay, Due::BusCompletes { irp: number });
                Ok(Answer::Return(status(STATUS_PENDING)))
            }
            _ => {
                let result = self.bus_does(number, major, minor)?;
                self.complete(number, status(result), None)
            }
        }
    }

    /// What the bus driver does for an IRP, and the status that it completes it with. "Passing PnP IRPs Down the Device
    /// Stack": the status of what it does not know stays as it is.
    fn bus_does(&mut self, number: u64, major: u8, minor: u8) -> Result<NTSTATUS, Finding> {
        let node = self.irps.live_mut(number).order.node;
        match (major, minor) {
            (IRP_MJ_PNP, IRP_MN_START_DEVICE) => self.nodes[node].is_started_below = true,
            (IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE | IRP_MN_SURPRISE_REMOVAL) => {
                self.nodes[node].is_started_below = false;
            }
            (IRP_MJ_PNP, IRP_MN_QUERY_REMOVE_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE | QUERY_CAPABILITIES)
            | (IRP_MJ_POWER, _) => {}
            _ => return self.status_so_far(number),
        }
        self.set_status(number, STATUS_SUCCESS)?;
        Ok(STATUS_SUCCESS)
    }

    /// The bus driver has finished with an IRP that it had pended.
    pub(crate) fn bus_completes(&mut self, number: u64) -> Result<(), Finding> {
        if self.dice.hits(2) {
            self.queue_for_bus(number);
            return Ok(());
        }
        self.complete_for_bus(number, Kind::Thread, PASSIVE_LEVEL, None)
    }

    /// The same, in a DPC.
    pub(crate) fn bus_completes_at_dispatch(&mut self, number: u64, cpu: usize) -> Result<(), Finding> {
        let kind = Kind::Dpc { serial: self.number(), dpc: 0 };
        self.complete_for_bus(number, kind, DISPATCH_LEVEL, Some(cpu))
    }

    fn complete_for_bus(
        &mut self,
        number: u64,
        kind: Kind,
        irql: u8,
        cpu: Option<usize>,
    ) -> Result<(), Finding> {
        let irp = self.irps.live_mut(number);
        irp.is_at_bus = false;
        let (major, minor) = (irp.order.major, irp.order.minor);
        let purpose = format!("the bus driver completes {}", irp.order);
        self.bus_does(number, major, minor)?;
        if let Answer::Call { routine, arguments, then } = self.complete(number, 0, None)? {
            let id = self.begin(kind, purpose, irql, (routine, arguments), then);
            if let Some(cpu) = cpu {
                self.place_on(cpu, id);
            }
        }
        Ok(())
    }

    /// The IRPs that dispatch routines were called with that have not returned.
    fn dispatching(&self) -> impl Iterator<Item = u64> {
        self.contexts.values().flat_map(|context| &context.frames).filter_map(|frame| match frame.then {
            Then::Dispatch { irp, .. } => Some(irp),
            _ => None,
        })
    }
}

impl Irp {
    /// What the I/O manager and Driver Verifier look at when a Plug and Play, power or WMI IRP is complete.
    pub(crate) fn check_passing(&self, result: NTSTATUS) -> Result<(), Finding> {
        let Order { major, minor, .. } = self.order;
        if ![IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL].contains(&major) {
            return Ok(());
        }
        let facts = |what: &str| format!("{}, {what} {result:#x}", self.order);
        let never_fails =
            [IRP_MN_REMOVE_DEVICE, IRP_MN_SURPRISE_REMOVAL, IRP_MN_CANCEL_REMOVE_DEVICE].contains(&minor);
        // `IRP_MN_REMOVE_DEVICE`, `IRP_MN_SURPRISE_REMOVAL`, `IRP_MN_CANCEL_REMOVE_DEVICE`: drivers must not fail it.
        if major == IRP_MJ_PNP && never_fails && result < 0 {
            return Err(Verdict::RemoveFailed.because(facts("completed with")));
        }
        // 0x22D to 0x232, 0x220: only an IRP that fails is completed before the bus driver has seen it.
        let may_stop = major == IRP_MJ_PNP && result < 0 && result != STATUS_NOT_SUPPORTED;
        if !self.reached_bus && !may_stop {
            return Err(Verdict::NotForwarded.because(facts("completed by a driver above with")));
        }
        // 0x213: the status of an IRP that the driver does not understand.
        let is_unknown = match major {
            IRP_MJ_PNP => minor > IRP_MN_SURPRISE_REMOVAL,
            major => major == IRP_MJ_SYSTEM_CONTROL,
        };
        if is_unknown && result != STATUS_NOT_SUPPORTED {
            return Err(Verdict::IrpStatus.because(facts("which no driver knows, completed with")));
        }
        Ok(())
    }
}

fn low(number: u64) -> u32 {
    u32::try_from(number & 0xFFFF_FFFF).expect("32 bits")
}

fn high(number: u64) -> u32 {
    u32::try_from(number >> 32).expect("32 bits")
}
