//! Device objects, and how they are stacked.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, mem::offset_of};

use nt_sys::{
    DEVICE_OBJECT, DO_DEVICE_INITIALIZING, STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_SUCH_DEVICE,
    STATUS_SUCCESS,
};

use crate::{
    call::{Answer, Call, Outcome},
    dpc::status,
    kernel::Kernel,
    pool::{KERNEL, Owner},
    verdict::{Finding, Verdict},
};

/// `IO_TYPE_DEVICE`.
const DEVICE: u16 = 3;

const SIZE: u64 = offset_of!(DEVICE_OBJECT, Size) as u64;
const DRIVER: u64 = offset_of!(DEVICE_OBJECT, DriverObject) as u64;
const ATTACHED: u64 = offset_of!(DEVICE_OBJECT, AttachedDevice) as u64;
const FLAGS: u64 = offset_of!(DEVICE_OBJECT, Flags) as u64;
const CHARACTERISTICS: u64 = offset_of!(DEVICE_OBJECT, Characteristics) as u64;
const EXTENSION: u64 = offset_of!(DEVICE_OBJECT, DeviceExtension) as u64;
const TYPE: u64 = offset_of!(DEVICE_OBJECT, DeviceType) as u64;
const STACK_SIZE: u64 = offset_of!(DEVICE_OBJECT, StackSize) as u64;

/// The device objects there are, by address.
#[derive(Debug, Default)]
pub(crate) struct Devices(BTreeMap<u64, Device>);

#[derive(Debug)]
struct Device {
    /// The driver object of its driver; none is the bus driver's.
    driver: Option<u64>,
    above: Option<u64>,
    below: Option<u64>,
    /// Of which device it is a software representation, once it was attached.
    node: Option<usize>,
}

impl Devices {
    /// The driver that an IRP for this device goes to; none is the bus driver.
    pub(crate) fn driver_of(&self, device: u64) -> Result<Option<u64>, Finding> {
        self.get(device).map(|device| device.driver)
    }

    fn get(&self, device: u64) -> Result<&Device, Finding> {
        self.0.get(&device).ok_or_else(|| no_device(device))
    }

    fn get_mut(&mut self, device: u64) -> Result<&mut Device, Finding> {
        self.0.get_mut(&device).ok_or_else(|| no_device(device))
    }

    /// The device on top of a stack.
    pub(crate) fn top_of(&self, mut device: u64) -> u64 {
        while let Some(above) = self.0.get(&device).and_then(|device| device.above) {
            device = above;
        }
        device
    }

    /// A driver's device objects.
    pub(crate) fn of_driver(&self, driver: u64) -> impl Iterator<Item = u64> {
        self.0.iter().filter(move |(_, device)| device.driver == Some(driver)).map(|(&address, _)| address)
    }

    /// The device objects that drivers have put on top of the bus driver's.
    pub(crate) fn of_node(&self, node: usize) -> impl Iterator<Item = u64> {
        self.0.iter().filter(move |(_, device)| device.node == Some(node)).map(|(&address, _)| address)
    }
}

fn no_device(device: u64) -> Finding {
    Verdict::BadPointer.because(format!("there is no device object at {device:#x}"))
}

impl Kernel {
    /// A device object of the bus driver's.
    pub(crate) fn create_bus_device(&mut self) -> Result<u64, Finding> {
        self.create_device(None, 0, 0, 0, KERNEL)
    }

    /// `IoCreateDevice`: the extension is part of the block, and filled with zeros.
    pub(crate) fn io_create_device(&mut self, call: &Call) -> Outcome {
        let (driver, extension, name) = (call.argument(0), call.narrow(1), call.argument(2));
        let (kind, characteristics, result) = (call.narrow(3), call.narrow(4), call.argument(6));
        if name != 0 {
            return Err(Verdict::NotModelled.because("a named device object"));
        }
        self.memory.check(driver, size_of::<nt_sys::DRIVER_OBJECT>())?;
        if self.allocation_fails() {
            return Ok(Answer::Return(status(STATUS_INSUFFICIENT_RESOURCES)));
        }
        let device = self.create_device(Some(driver), extension, kind, characteristics, call.caller())?;
        self.memory.write(result, device)?;
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    fn create_device(
        &mut self,
        driver: Option<u64>,
        extension: u32,
        kind: u32,
        characteristics: u32,
        caller: u64,
    ) -> Result<u64, Finding> {
        let object = size_of::<DEVICE_OBJECT>() as u64;
        let owner = if driver.is_some() { Owner::Device } else { Owner::Kernel };
        let device = self.memory.allocate(object + u64::from(extension), owner, 0, caller);
        let memory = &mut self.memory;
        memory.write(device, DEVICE)?;
        memory.write(device + SIZE, u16::try_from(object).expect("it is small"))?;
        memory.write(device + DRIVER, driver.unwrap_or(0))?;
        memory.write(device + FLAGS, DO_DEVICE_INITIALIZING)?;
        memory.write(device + CHARACTERISTICS, characteristics)?;
        memory.write(device + EXTENSION, if extension == 0 { 0 } else { device + object })?;
        memory.write(device + TYPE, kind)?;
        memory.write(device + STACK_SIZE, 1_u8)?;
        self.devices.0.insert(device, Device { driver, above: None, below: None, node: None });
        Ok(device)
    }

    /// `IoDeleteDevice`: of a device that is attached to nothing, and whose interrupts are disconnected. Nothing here
    /// refers to a device object for longer than a call, so its memory goes at once.
    pub(crate) fn io_delete_device(&mut self, call: &Call) -> Outcome {
        let address = call.argument(0);
        let device = self.devices.get(address)?;
        if device.below.is_some() || device.above.is_some() {
            return Err(Verdict::DeviceLeft.because(format!("{address:#x} is deleted before it is detached")));
        }
        if let Some(interrupt) = device.node.and_then(|node| self.interrupts.of(node)) {
            let facts = format!("the interrupt {interrupt:#x} is connected while {address:#x} is deleted");
            return Err(Verdict::InterruptLeft.because(facts));
        }
        self.release(address, call.caller())?;
        self.devices.0.remove(&address);
        Ok(Answer::Return(0))
    }

    /// `IoAttachDeviceToDeviceStack` returns the device that was on top.
    pub(crate) fn io_attach_device_to_device_stack(&mut self, call: &Call) -> Outcome {
        Ok(Answer::Return(self.attach(call.argument(0), call.argument(1))?.unwrap_or(0)))
    }

    /// `IoAttachDeviceToDeviceStackSafe` writes that device to where the caller says, before an IRP can arrive.
    pub(crate) fn io_attach_device_to_device_stack_safe(&mut self, call: &Call) -> Outcome {
        let below = self.attach(call.argument(0), call.argument(1))?;
        let result = call.argument(2);
        self.memory.write(result, below.unwrap_or(0))?;
        let refused = below.is_none();
        Ok(Answer::Return(status(if refused { STATUS_NO_SUCH_DEVICE } else { STATUS_SUCCESS })))
    }

    fn attach(&mut self, source: u64, target: u64) -> Result<Option<u64>, Finding> {
        self.devices.get(target)?;
        if self.nodes.of_pdo(target).is_some_and(|node| self.nodes[node].is_gone) {
            return Ok(None);
        }
        let top = self.devices.top_of(target);
        let node = self.devices.get(top)?.node.or_else(|| self.nodes.of_pdo(top));
        let device = self.devices.get_mut(source)?;
        if device.below.is_some() || source == top {
            return Err(Verdict::DeviceLeft.because(format!("{source:#x} is attached already")));
        }
        device.below = Some(top);
        device.node = node;
        self.devices.get_mut(top)?.above = Some(source);
        self.memory.write(top + ATTACHED, source)?;
        let height: u8 = self.memory.read(top + STACK_SIZE)?;
        self.memory.write(source + STACK_SIZE, height + 1)?;
        Ok(Some(top))
    }

    /// `IoDetachDevice`: of the device that is attached to this one.
    pub(crate) fn io_detach_device(&mut self, call: &Call) -> Outcome {
        let target = call.argument(0);
        let Some(above) = self.devices.get_mut(target)?.above.take() else {
            let facts = format!("nothing is attached to the device at {target:#x}");
            return Err(Verdict::DeviceLeft.because(facts));
        };
        self.devices.get_mut(above)?.below = None;
        self.memory.write(target + ATTACHED, 0_u64)?;
        Ok(Answer::Return(0))
    }

    /// The stack locations that an IRP for this device has.
    pub(crate) fn stack_size(&self, device: u64) -> Result<u8, Finding> {
        self.memory.read(device + STACK_SIZE)
    }

    /// `DO_DEVICE_INITIALIZING`: `AddDevice` clears it.
    pub(crate) fn check_initialized(&self, device: u64) -> Result<(), Finding> {
        let flags: u32 = self.memory.read(device + FLAGS)?;
        if flags & DO_DEVICE_INITIALIZING == 0 {
            return Ok(());
        }
        Err(Verdict::DeviceInitializing.because(format!("the device object at {device:#x}")))
    }
}
