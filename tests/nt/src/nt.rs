//! A running system, and what a scenario does with it.
#![forbid(unsafe_code)]

use std::{
    cell::{RefCell, RefMut},
    fmt,
    rc::Rc,
    time::Duration,
};

use nt_sys::{
    IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL, IRP_MN_CANCEL_REMOVE_DEVICE,
    IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_SURPRISE_REMOVAL, NTSTATUS,
};

use crate::{
    images,
    irp::Order,
    kernel::{Due, Kernel, World},
    machine::{Image, Patch, Preempt},
    schedule::Schedule,
    verdict::{Failure, Verdict},
    xen,
};

/// What a run depends on, beside the image and the scenario.
#[derive(Clone, Debug)]
pub struct Options {
    /// All chance comes from it.
    pub seed: u64,
    /// From 1 to 64.
    pub cpus: usize,
    /// Who goes next.
    pub schedule: Schedule,
    /// What becomes of the memory of an IRP when it is complete.
    pub reuse: Reuse,
    /// Where a thread or a DPC may be overtaken by another CPU.
    pub preempt: Preempt,
    /// One allocation in so many fails; zero is none.
    pub allocation_failures: u64,
    /// Exports that this Windows does not have.
    pub lacks: &'static [&'static str],
    /// The hypervisor.
    pub xen: xen::Config,
}

/// What becomes of the memory of an IRP, and of its buffer, when it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It cannot be touched any more: whoever does is found at the instruction.
    Never,
    /// It becomes the next request's, which another CPU hands to the driver before `IofCompleteRequest` returns: what
    /// StorPort does with its request blocks.
    AtOnce,
}

impl Options {
    /// Four CPUs, a kind Xen, nothing fails.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            cpus: 4,
            schedule: Schedule::Uniform,
            reuse: Reuse::Never,
            preempt: Preempt::Calls,
            allocation_failures: 0,
            lacks: &[],
            xen: xen::Config::DEFAULT,
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, cpus, schedule, reuse, preempt, allocation_failures, lacks, xen } = self;
        write!(f, "seed {seed}, {cpus} CPUs, {schedule:?}, {reuse:?}, {preempt:?}")?;
        if *allocation_failures != 0 {
            write!(f, ", one allocation in {allocation_failures} fails")?;
        }
        if !lacks.is_empty() {
            write!(f, ", without {}", lacks.join(", "))?;
        }
        if *xen != xen::Config::DEFAULT {
            write!(f, ", {xen:?}")?;
        }
        Ok(())
    }
}

type Shared = Rc<RefCell<Kernel>>;

/// A running system. Only one runs at a time in a process: [`boot`](Self::boot) waits for another thread's.
#[derive(Debug)]
pub struct Nt(Shared);

/// A driver that has been loaded.
#[derive(Debug)]
#[must_use = "a driver that is not unloaded is a leak"]
pub struct Driver {
    kernel: Shared,
    name: String,
    /// Its driver object.
    object: u64,
}

/// A device, from `AddDevice` to its removal.
#[derive(Debug)]
#[must_use = "a device that is not removed is a leak"]
pub struct Device {
    kernel: Shared,
    node: usize,
}

/// A request on its way.
#[derive(Debug)]
#[must_use = "nobody looks at what becomes of it"]
pub struct Request {
    kernel: Shared,
    number: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// `IoStatus.Status`
    pub status: NTSTATUS,
    /// `IoStatus.Information`
    pub information: u64,
    /// So much of the output buffer, if the request succeeded.
    pub output: Vec<u8>,
}

/// The hypervisor below, and the device that it shows.
#[derive(Debug)]
pub struct Xen(Shared);

impl Nt {
    /// Starts a system.
    #[must_use]
    pub fn boot(options: Options) -> Self {
        Self(Rc::new(RefCell::new(Kernel::new(options, World::Running))))
    }

    fn kernel(&self) -> RefMut<'_, Kernel> {
        self.0.borrow_mut()
    }

    /// Loads an image that `cargo xtask dist` has built, as the service of its own name.
    ///
    /// # Errors
    ///
    /// What a check found, [`Verdict::MissingExport`], or [`Verdict::Refused`]: `DriverEntry` failed.
    ///
    /// # Panics
    ///
    /// The image is missing or older than its sources.
    pub fn load(&self, image: &str) -> Result<Driver, Failure> {
        self.load_as(image, image)
    }

    /// Loads an image as this service.
    ///
    /// # Errors
    ///
    /// See [`load`](Self::load).
    pub fn load_as(&self, image: &str, service: &str) -> Result<Driver, Failure> {
        match self.try_load_as(image, service)? {
            Ok(driver) => Ok(driver),
            Err(status) => Err(self.kernel().refused(&format!("DriverEntry of {image}"), status)),
        }
    }

    /// Loads an image whose `DriverEntry` may well fail: then it is unloaded, and this is its status.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn try_load_as(&self, image: &str, service: &str) -> Result<Result<Driver, NTSTATUS>, Failure> {
        let (object, status) = self.kernel().load_driver(image, service)?;
        let driver = Driver { kernel: Rc::clone(&self.0), name: image.to_owned(), object };
        if status < 0 {
            self.kernel().forget_driver(&driver.name, object)?;
            return Ok(Err(status));
        }
        Ok(Ok(driver))
    }

    /// The hypervisor.
    #[must_use]
    pub fn xen(&self) -> Xen {
        Xen(Rc::clone(&self.0))
    }

    /// Lets everything happen that happens without time: until nothing can run, and nothing but timers is due.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn settle(&self) -> Result<(), Failure> {
        self.kernel().settle()
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn pass(&self, time: Duration) -> Result<(), Failure> {
        self.kernel().pass(units(time))
    }

    /// The virtual time since the start.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.kernel().now * 100)
    }

    /// What drivers have said with `DbgPrintEx`, call by call.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.kernel().said.clone()
    }

    /// A dump of the memory that drivers have: the sections of images but those that were discarded, and the pages of all
    /// pool blocks. Where each of them was is not in it.
    #[must_use]
    pub fn memory(&self) -> Vec<u8> {
        self.kernel().memory.dump()
    }

    /// The last 65,536 lines of the trace.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.kernel().trace.lines().collect()
    }

    /// A number for all that has happened. Two runs with the same one were the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.kernel().trace.digest()
    }

    /// The end: every driver has been unloaded.
    ///
    /// # Errors
    ///
    /// What a check found, or [`Verdict::Leak`]: of a whole driver.
    pub fn finish(self) -> Result<(), Failure> {
        let mut kernel = self.kernel();
        kernel.settle()?;
        let left = kernel.memory.images.first().map(|image| format!("{} is still loaded", image.name()));
        left.map_or(Ok(()), |facts| Err(kernel.fail(Verdict::Leak.because(facts), None)))
    }
}

impl Driver {
    /// The file that was loaded.
    ///
    /// # Panics
    ///
    /// It is there no more.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        images::read(&self.name).unwrap_or_else(|error| panic!("{error}")).bytes
    }

    /// The bus driver finds a device, and the driver is to add one of its own: `AddDevice`.
    ///
    /// # Errors
    ///
    /// What a check found, or [`Verdict::Refused`].
    pub fn add_device(&self) -> Result<Device, Failure> {
        let added = self.try_add_device()?;
        added.map_err(|status| self.kernel.borrow_mut().refused("AddDevice", status))
    }

    /// The same, where `AddDevice` may well fail; then this is its status.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn try_add_device(&self) -> Result<Result<Device, NTSTATUS>, Failure> {
        let (node, status) = self.kernel.borrow_mut().add_device(self.object)?;
        Ok(if status < 0 { Err(status) } else { Ok(Device { kernel: Rc::clone(&self.kernel), node }) })
    }

    /// Where the bytes that run are not those of the file, with the instructions that are there; relocations and the
    /// addresses of imports aside, which Windows writes as well.
    #[must_use]
    pub fn patches(&self) -> Vec<String> {
        let kernel = self.kernel.borrow();
        let images =
            kernel.memory.images.iter().filter(|image| image.name().strip_suffix(".sys") == Some(&self.name));
        let name = |image: &Image, patch: &Patch| {
            format!("{}: {}", image.place(image.range().start + u64::from(patch.rva)), patch.instruction)
        };
        images.flat_map(|image| image.patches().iter().map(move |patch| name(image, patch))).collect()
    }

    /// Unloads the driver, which has no device any more.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn unload(self) -> Result<(), Failure> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.unload_driver(self.object)?;
        kernel.forget_driver(&self.name, self.object)
    }
}

impl Device {
    fn ask(&self, major: u8, minor: u8) -> Result<NTSTATUS, Failure> {
        self.kernel.borrow_mut().ask(self.node, (major, minor))
    }

    fn ask_to(&self, what: &str, minor: u8) -> Result<(), Failure> {
        let status = self.ask(IRP_MJ_PNP, minor)?;
        if status < 0 { Err(self.kernel.borrow_mut().refused(what, status)) } else { Ok(()) }
    }

    /// `IRP_MN_START_DEVICE`, which must succeed.
    ///
    /// # Errors
    ///
    /// What a check found, or [`Verdict::Refused`].
    pub fn start(&self) -> Result<(), Failure> {
        self.ask_to("IRP_MN_START_DEVICE", IRP_MN_START_DEVICE)
    }

    /// `IRP_MN_START_DEVICE`, which may well fail; this is its status.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn try_start(&self) -> Result<NTSTATUS, Failure> {
        self.ask(IRP_MJ_PNP, IRP_MN_START_DEVICE)
    }

    /// Begins an `IRP_MN_START_DEVICE`, so that others may be on their way as well.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn begin_start(&self) -> Result<Request, Failure> {
        let mut kernel = self.kernel.borrow_mut();
        let (number, _) = kernel.begin_to_ask(self.node, (IRP_MJ_PNP, IRP_MN_START_DEVICE))?;
        Ok(Request { kernel: Rc::clone(&self.kernel), number })
    }

    /// Begins an `IRP_MJ_DEVICE_CONTROL` with `METHOD_BUFFERED`.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn control(&self, code: u32, input: &[u8], output: usize) -> Result<Request, Failure> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.alive()?;
        let parameters = [output as u64, input.len() as u64, code.into(), 0];
        let (node, input) = (self.node, input.to_vec());
        let order = Order { node, major: IRP_MJ_DEVICE_CONTROL, minor: 0, parameters, input, output };
        let number = kernel.order(order).map_err(|finding| kernel.fail(finding, None))?;
        Ok(Request { kernel: Rc::clone(&self.kernel), number })
    }

    /// Any Plug and Play IRP without parameters, and what became of it: drivers pass on what they do not know.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn plug_and_play(&self, minor: u8) -> Result<NTSTATUS, Failure> {
        self.ask(IRP_MJ_PNP, minor)
    }

    /// A power IRP.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn power(&self, minor: u8) -> Result<NTSTATUS, Failure> {
        self.ask(IRP_MJ_POWER, minor)
    }

    /// A WMI IRP.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn system_control(&self, minor: u8) -> Result<NTSTATUS, Failure> {
        self.ask(IRP_MJ_SYSTEM_CONTROL, minor)
    }

    /// A value of the device's key in the registry, `Device Parameters`: its type (`REG_DWORD`), and its data.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<(u32, Vec<u8>)> {
        self.kernel.borrow().value(self.node, name)
    }

    /// `IRP_MN_QUERY_REMOVE_DEVICE`, and then `IRP_MN_CANCEL_REMOVE_DEVICE`.
    ///
    /// # Errors
    ///
    /// What a check found, or [`Verdict::Refused`].
    pub fn almost_remove(&self) -> Result<(), Failure> {
        self.ask_to("IRP_MN_QUERY_REMOVE_DEVICE", IRP_MN_QUERY_REMOVE_DEVICE)?;
        self.ask_to("IRP_MN_CANCEL_REMOVE_DEVICE", IRP_MN_CANCEL_REMOVE_DEVICE)
    }

    /// An orderly removal: `IRP_MN_QUERY_REMOVE_DEVICE`, and then `IRP_MN_REMOVE_DEVICE`.
    ///
    /// # Errors
    ///
    /// What a check found, or [`Verdict::Refused`].
    pub fn remove(self) -> Result<(), Failure> {
        self.ask_to("IRP_MN_QUERY_REMOVE_DEVICE", IRP_MN_QUERY_REMOVE_DEVICE)?;
        self.kernel.borrow_mut().remove(self.node)
    }

    /// The device is gone: `IRP_MN_SURPRISE_REMOVAL`, and then `IRP_MN_REMOVE_DEVICE`.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn surprise_remove(self) -> Result<(), Failure> {
        self.ask(IRP_MJ_PNP, IRP_MN_SURPRISE_REMOVAL)?;
        self.kernel.borrow_mut().remove(self.node)
    }
}

impl Request {
    /// Lets the system run until the request is complete.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn wait(self) -> Result<Completion, Failure> {
        let mut kernel = self.kernel.borrow_mut();
        let number = self.number;
        kernel.wait_for(number, &"a request")
    }

    /// Whether it is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.kernel.borrow().irps.is_done(self.number)
    }
}

impl Xen {
    /// Interrupts the guest, within 10 µs.
    pub fn upcall(&self) {
        let mut kernel = self.0.borrow_mut();
        let delay = 1 + kernel.dice.below(100);
        kernel.schedule(delay, Due::Upcall);
    }

    /// Interrupts the guest when so much time has passed.
    pub fn upcall_in(&self, time: Duration) {
        self.0.borrow_mut().schedule(units(time).max(1), Due::Upcall);
    }

    /// How often a hypercall of this number was made.
    #[must_use]
    pub fn calls(&self, number: u64) -> u64 {
        self.0.borrow().xen.calls(number)
    }
}

/// In units of 100 ns, by which time is counted here.
fn units(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / 100).unwrap_or(u64::MAX / 2)
}

impl Kernel {
    /// The driver refused what the scenario expects it to do.
    fn refused(&mut self, what: &str, status: NTSTATUS) -> Failure {
        self.fail(Verdict::Refused.because(format!("{what} failed with {status:#x}")), None)
    }
}
