//! Drivers: loading, `DriverEntry`, `AddDevice`, `Unload`, and what may not be left when an image goes.
#![forbid(unsafe_code)]

use std::{fmt, mem::offset_of, ops::Range};

use nt_sys::{DRIVER_EXTENSION, DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};

use crate::{
    call::Then,
    cpu::{Kind, PASSIVE_LEVEL},
    dpc::Deferred,
    exports::{self, Export},
    images,
    kernel::Kernel,
    machine::{Binding, IMAGE_BASE, IMAGE_STRIDE, Image, LoadOptions, Native},
    verdict::{Failure, Finding, Verdict},
};

/// `IO_TYPE_DRIVER`.
const DRIVER: u16 = 4;

const SIZE: u64 = offset_of!(DRIVER_OBJECT, Size) as u64;
const START: u64 = offset_of!(DRIVER_OBJECT, DriverStart) as u64;
const LENGTH: u64 = offset_of!(DRIVER_OBJECT, DriverSize) as u64;
const EXTENSION: u64 = offset_of!(DRIVER_OBJECT, DriverExtension) as u64;
const NAME: u64 = offset_of!(DRIVER_OBJECT, DriverName) as u64;
const INIT: u64 = offset_of!(DRIVER_OBJECT, DriverInit) as u64;
const UNLOAD: u64 = offset_of!(DRIVER_OBJECT, DriverUnload) as u64;
const ADD_DEVICE: u64 = offset_of!(DRIVER_EXTENSION, AddDevice) as u64;
const SERVICE: u64 = offset_of!(DRIVER_EXTENSION, ServiceKeyName) as u64;
const BUFFER: u64 = offset_of!(UNICODE_STRING, Buffer) as u64;

impl Kernel {
    /// Maps an image and binds what it imports. The address of `DriverEntry`.
    pub(crate) fn load_image(&mut self, name: &str) -> Result<u64, Failure> {
        let file = images::read(name).unwrap_or_else(|error| panic!("{error}"));
        let options = LoadOptions {
            base: IMAGE_BASE + self.memory.images.len() as u64 * IMAGE_STRIDE,
            preempt: self.options.preempt,
            symbols: Some(file.path),
        };
        let (imports, lacks) = (&mut self.imports, self.options.lacks);
        let mut bind = |module: &str, symbol: &str| {
            if lacks.contains(&symbol) {
                return None;
            }
            if module.eq_ignore_ascii_case(exports::NT)
                && let Some(native) = Native::named(symbol)
            {
                return Some(Binding::Native(native));
            }
            exports::find(module, symbol).map(|export| Binding::Export(number_of(imports, export)))
        };
        match Image::load(&self.machine, &format!("{name}.sys"), &file.bytes, &options, &mut bind) {
            Ok(image) => {
                let entry = image.entry();
                self.memory.images.push(image);
                Ok(entry)
            }
            Err(error) => Err(self.fail(Verdict::MissingExport.because(error.to_string()), None)),
        }
    }

    /// Calls driver code in a thread of its own and waits for its result.
    pub(crate) fn call(
        &mut self,
        what: impl fmt::Display,
        irql: u8,
        routine: u64,
        arguments: [u64; 2],
    ) -> Result<u64, Failure> {
        let [first, second] = arguments;
        let call = (routine, [first, second, 0, 0]);
        let id = self.begin(Kind::Thread, &what, irql, call, Then::Keep);
        self.run_until(&what, &|kernel| kernel.results.contains_key(&id))?;
        Ok(self.results.remove(&id).expect("it has returned"))
    }

    /// `DRIVER_INITIALIZE`: the driver object, and what `DriverEntry` says.
    pub(crate) fn load_driver(&mut self, image: &str, service: &str) -> Result<(u64, NTSTATUS), Failure> {
        self.alive()?;
        let entry = self.load_image(image)?;
        let (object, path) =
            self.create_driver(entry, service).map_err(|finding| self.fail(finding, None))?;
        let status = self.call(format!("DriverEntry of {image}"), PASSIVE_LEVEL, entry, [object, path])?;
        Ok((object, as_status(status)))
    }

    fn create_driver(&mut self, entry: u64, service: &str) -> Result<(u64, u64), Finding> {
        let range = self.memory.images.last().expect("it has just been loaded").range();
        let object = self.memory.allocate_kernel(size_of::<DRIVER_OBJECT>());
        let extension = self.memory.allocate_kernel(size_of::<DRIVER_EXTENSION>());
        self.memory.write(object, DRIVER)?;
        self.memory.write(object + SIZE, u16::try_from(size_of::<DRIVER_OBJECT>()).expect("it is small"))?;
        self.memory.write(object + START, range.start)?;
        self.memory
            .write(object + LENGTH, u32::try_from(range.end - range.start).expect("images are small"))?;
        self.memory.write(object + EXTENSION, extension)?;
        self.memory.write(object + INIT, entry)?;
        self.memory.write(extension, object)?;
        self.write_string(object + NAME, &format!("\\Driver\\{service}"))?;
        self.write_string(extension + SERVICE, service)?;
        let path = self.memory.allocate_kernel(size_of::<UNICODE_STRING>());
        self.write_string(
            path,
            &format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{service}"),
        )?;
        Ok((object, path))
    }

    fn write_string(&mut self, at: u64, text: &str) -> Result<(), Finding> {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = u16::try_from(bytes.len()).expect("names are short");
        let buffer = self.memory.allocate_kernel(bytes.len());
        self.memory.write_bytes(buffer, &bytes)?;
        self.memory.write(at, length)?;
        self.memory.write(at + 2, length)?;
        self.memory.write(at + BUFFER, buffer)
    }

    /// `DRIVER_ADD_DEVICE`, for a device that the bus driver has found.
    pub(crate) fn add_device(&mut self, driver: u64) -> Result<(usize, NTSTATUS), Failure> {
        self.alive()?;
        let node = self.enumerate().map_err(|finding| self.fail(finding, None))?;
        let add_device =
            self.memory.read(driver + EXTENSION).and_then(|at: u64| self.memory.read(at + ADD_DEVICE));
        let add_device: u64 = add_device.map_err(|finding| self.fail(finding, None))?;
        if add_device == 0 {
            return Err(self.fail(Verdict::Refused.because("the driver has no AddDevice routine"), None));
        }
        let pdo = self.nodes[node].pdo;
        let status = as_status(self.call("AddDevice", PASSIVE_LEVEL, add_device, [driver, pdo])?);
        let added: Vec<u64> = self.devices.of_node(node).collect();
        if status >= 0 {
            added
                .iter()
                .try_for_each(|&device| self.check_initialized(device))
                .map_err(|finding| self.fail(finding, None))?;
        }
        Ok((node, status))
    }

    /// `DRIVER_UNLOAD`.
    pub(crate) fn unload_driver(&mut self, driver: u64) -> Result<(), Failure> {
        self.alive()?;
        let unload: u64 = self.memory.read(driver + UNLOAD).map_err(|finding| self.fail(finding, None))?;
        if unload == 0 {
            return Err(self.fail(Verdict::Refused.because("the driver has no Unload routine"), None));
        }
        self.call("Unload", PASSIVE_LEVEL, unload, [driver, 0]).map(|_| ())
    }

    /// An error if this is no driver object.
    pub(crate) fn check_driver(&self, object: u64) -> Result<(), Finding> {
        self.memory.check(object, size_of::<DRIVER_OBJECT>())?;
        match self.memory.read::<u16>(object)? {
            DRIVER => Ok(()),
            other => Err(Verdict::NotModelled.because(format!("the object at {object:#x}, of type {other}"))),
        }
    }

    /// The image goes, after its threads, and after the DPCs that are queued: `KeCancelTimer` says that the system
    /// flushes them.
    pub(crate) fn forget_driver(&mut self, name: &str, driver: u64) -> Result<(), Failure> {
        self.let_threads_exit(driver)?;
        let before = self.number();
        self.run_until(&"the DPCs that were queued at unload", &|kernel| kernel.is_flushed(before))?;
        let index = self
            .memory
            .images
            .iter()
            .position(|image| image.name().strip_suffix(".sys") == Some(name))
            .expect("it was loaded");
        let range = self.memory.images[index].range();
        let checked = self
            .check_unused(&range, driver)
            .and_then(|()| self.check_leaks(&range))
            .and_then(|()| self.check_handles(&range));
        checked.map_err(|finding| self.fail(finding, None))?;
        self.memory.images.remove(index);
        Ok(())
    }

    /// What would still lead into an image that goes.
    fn check_unused(&self, range: &Range<u64>, driver: u64) -> Result<(), Finding> {
        if let Some(device) = self.devices.of_driver(driver).next() {
            return Err(Verdict::DeviceLeft.because(format!("{device:#x}, when the driver is unloaded")));
        }
        let timer = self.timer_into(range).map(|timer| format!("the KTIMER at {timer:#x} is set"));
        let queued = self.cpus.iter().flat_map(|cpu| &cpu.dpcs).find_map(|queued| match queued.what {
            Deferred::Dpc(dpc) if self.routine_of(dpc).is_some_and(|routine| range.contains(&routine)) => {
                Some(format!("the KDPC at {dpc:#x} is queued"))
            }
            _ => None,
        });
        let running = self.contexts.iter().find_map(|(&id, context)| {
            let name = context.name(id);
            context.frames.iter().any(|frame| range.contains(&frame.routine)).then(|| format!("{name} runs"))
        });
        match timer.or(queued).or(running) {
            Some(use_) => Err(Verdict::InUseAtUnload.because(use_)),
            None => Ok(()),
        }
    }
}

/// The number of an export for the machine.
fn number_of(imports: &mut Vec<&'static Export>, export: &'static Export) -> u32 {
    let known = imports.iter().position(|known| known.name == export.name);
    let index = known.unwrap_or_else(|| {
        imports.push(export);
        imports.len() - 1
    });
    u32::try_from(index).expect("there are not so many exports")
}

pub(crate) fn as_status(value: u64) -> NTSTATUS {
    u32::try_from(value & 0xFFFF_FFFF).expect("32 bits").cast_signed()
}
