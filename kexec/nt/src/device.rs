//! A function device: its place in the stack, its PnP life, its requests.
//!
//! ```text
//!  AddDevice ──▶ Stopped ──1──▶ Running ──2──▶ Quiet ──3──▶ deleted
//!                   └───────────────────────────────────3──▶
//! ```
//!
//! 1. `IRP_MN_START_DEVICE`, once the devices below have started: [`Function::start`].
//! 2. `IRP_MN_SURPRISE_REMOVAL` or `IRP_MN_REMOVE_DEVICE`: [`Function::quiesce`] ends all requests.
//! 3. `IRP_MN_REMOVE_DEVICE`: once nobody is in the device any more, [`Function::stop`]; then the
//!    devices below are removed, and this one is detached and deleted.
//!
//! The PnP manager sends one of these at a time. Requests come at any time, from any CPU; each holds the remove lock
//! until it has been answered. Everything else is passed on to the device below.
#![expect(unsafe_code, reason = "WDM's routines take pointers to objects that the driver and NT share")]

use core::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicU8,
        Ordering::{Acquire, Release},
    },
};

use kexec::irql::{Dispatch, Level, Passive, Raise};
use nt_sys::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_POWER_PAGABLE, DRIVER_OBJECT, FALSE,
    FILE_DEVICE_SECURE_OPEN, FILE_DEVICE_UNKNOWN, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE,
    IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL, IRP_MN_CANCEL_REMOVE_DEVICE,
    IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_SURPRISE_REMOVAL, METHOD_BUFFERED, NTSTATUS, PDEVICE_OBJECT, PDRIVER_OBJECT,
    PIRP, STATUS_DEVICE_NOT_READY, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE,
    STATUS_SUCCESS, STATUS_UNSUCCESSFUL, UCHAR, ntddk,
};

use crate::{
    irp::{Below, Dispatched, Irp},
    irql::Cpu,
    registry::DeviceKey,
    remove_lock::{Held, RemoveLock},
    request::Request,
    status::{self, Status},
};

/// What a driver does for its device; the rest is done here.
pub trait Function: 'static {
    /// What exists between start and removal.
    type Running: Send + Sync + 'static;

    /// Starts the device, whose lower devices have started.
    ///
    /// # Errors
    ///
    /// The device does not start; NT removes it.
    fn start(device: &Device, passive: &mut Passive) -> Result<Self::Running, Status>;

    /// Serves a device control request, at once or later. May be called after `quiesce`.
    fn control(running: &Self::Running, level: &mut Dispatch, request: Request) -> Dispatched;

    /// Ends every request that was to be answered later, and lets no new one begin. Called once, before
    /// [`stop`](Self::stop).
    fn quiesce(running: &Self::Running, passive: &mut Passive);

    /// Takes down what [`start`](Self::start) built. Nobody else has it any more.
    fn stop(running: Self::Running, passive: &mut Passive);
}

/// The device that is being started.
#[derive(Debug)]
pub struct Device {
    pdo: PDEVICE_OBJECT,
    driver: Driver,
}

/// The driver whose code this is.
#[derive(Clone, Copy, Debug)]
pub struct Driver(PDRIVER_OBJECT);

impl Driver {
    /// # Safety
    ///
    /// The driver object is the one with which NT called the `DriverEntry` of this image.
    #[must_use]
    pub unsafe fn assume(object: NonNull<DRIVER_OBJECT>) -> Self {
        Self(object.as_ptr())
    }

    /// Its driver object, which is there for as long as its code can run.
    pub(crate) fn object(self) -> PDRIVER_OBJECT {
        self.0
    }
}

impl Device {
    /// Its driver.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Its key in the registry.
    ///
    /// # Safety
    ///
    /// The key is not used any more when [`Function::stop`] has returned, or [`Function::start`] with an error.
    #[must_use]
    pub unsafe fn key(&self) -> DeviceKey {
        // SAFETY: the caller's promise: until then, ours is attached to it.
        unsafe { DeviceKey::new(self.pdo) }
    }

    /// The bus driver's device, at the bottom of the stack.
    pub(crate) fn pdo(&self) -> PDEVICE_OBJECT {
        self.pdo
    }
}

/// Makes `driver` the driver of `F`'s devices. For `DriverEntry`.
///
/// # Safety
///
/// The driver object is the one that NT called `DriverEntry` with, in this call.
pub unsafe fn install<F: Function>(driver: NonNull<DRIVER_OBJECT>) {
    #[cfg(windows)]
    crate::image::identify();
    let driver = driver.as_ptr();
    // SAFETY: the driver object is valid, and ours to fill.
    let extension = unsafe { (*driver).DriverExtension };
    // SAFETY: NT keeps the extension for as long as the driver object.
    unsafe { (*extension).AddDevice = Some(add_device::<F>) };
    // SAFETY: as above.
    unsafe { (*driver).DriverUnload = Some(unload) };
    // SAFETY: as above.
    let table = unsafe { &mut (*driver).MajorFunction };
    let routines: [(UCHAR, Routine); 7] = [
        (IRP_MJ_CREATE, succeed::<F>),
        (IRP_MJ_CLEANUP, succeed::<F>),
        (IRP_MJ_CLOSE, succeed::<F>),
        (IRP_MJ_DEVICE_CONTROL, control::<F>),
        (IRP_MJ_PNP, pnp::<F>),
        (IRP_MJ_POWER, pass::<F>),
        (IRP_MJ_SYSTEM_CONTROL, pass::<F>),
    ];
    for (function, routine) in routines {
        if let Some(entry) = table.get_mut(usize::from(function)) {
            *entry = Some(routine);
        }
    }
}

type Routine = unsafe extern "C" fn(PDEVICE_OBJECT, PIRP) -> NTSTATUS;

/// What NT keeps with each device object for us.
struct Extension<F: Function> {
    lock: RemoveLock,
    device: PDEVICE_OBJECT,
    pdo: PDEVICE_OBJECT,
    /// NT writes it when the device is attached, before the device can be called.
    lower: UnsafeCell<PDEVICE_OBJECT>,
    state: AtomicU8,
    /// There is a value in every state but [`STOPPED`].
    running: UnsafeCell<MaybeUninit<F::Running>>,
    _function: PhantomData<fn() -> F>,
}

const STOPPED: u8 = 0;
const RUNNING: u8 = 1;
const QUIET: u8 = 2;

/// Dispatch routines that have nothing to do with PnP see the extension through this.
struct Entered<F: Function> {
    extension: &'static Extension<F>,
    irp: Irp,
    held: Held,
}

unsafe extern "C" fn unload(_driver: PDRIVER_OBJECT) {
    // Devices are gone by now, and nothing belongs to the driver alone.
}

/// `AddDevice`.
unsafe extern "C" fn add_device<F: Function>(driver: PDRIVER_OBJECT, pdo: PDEVICE_OBJECT) -> NTSTATUS {
    // SAFETY: NT calls this with its objects, at `PASSIVE_LEVEL`.
    status::code(unsafe { Extension::<F>::attach(driver, pdo) })
}

impl<F: Function> Extension<F> {
    /// # Safety
    ///
    /// As for `AddDevice`.
    unsafe fn attach(driver: PDRIVER_OBJECT, pdo: PDEVICE_OBJECT) -> Result<(), Status> {
        const { assert!(align_of::<Self>() <= 16, "NT aligns a device extension to 16 bytes") };
        const {
            assert!(
                size_of::<Self>() <= 0xFFFF - size_of::<DEVICE_OBJECT>(),
                "DEVICE_OBJECT::Size has 16 bits"
            );
        };
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let size = size_of::<Self>() as u32;
        let mut device = ptr::null_mut();
        // SAFETY: the driver object is NT's; the device has no name.
        Status::check(unsafe {
            ntddk::IoCreateDevice(
                driver,
                size,
                ptr::null_mut(),
                FILE_DEVICE_UNKNOWN,
                FILE_DEVICE_SECURE_OPEN,
                FALSE,
                &raw mut device,
            )
        })?;
        // SAFETY: just created; the extension is as large as was asked for.
        let place = unsafe { (*device).DeviceExtension }.cast::<Self>();
        let extension = Self {
            lock: RemoveLock::new(),
            device,
            pdo,
            lower: UnsafeCell::new(ptr::null_mut()),
            state: AtomicU8::new(STOPPED),
            running: UnsafeCell::new(MaybeUninit::uninit()),
            _function: PhantomData,
        };
        // SAFETY: as above, and aligned, as asserted.
        unsafe { place.write(extension) };
        // SAFETY: written just now; it stays until the device is deleted.
        let extension: &'static Self = unsafe { &*place };
        // SAFETY: it stays where it is, and nobody has it yet.
        unsafe { extension.lock.init() };
        // SAFETY: both devices are there, and the place for the answer is the device's.
        let attached = unsafe { ntddk::IoAttachDeviceToDeviceStackSafe(device, pdo, extension.lower.get()) };
        if let Err(status) = Status::check(attached) {
            // SAFETY: nobody else has the device.
            unsafe { ntddk::IoDeleteDevice(device) };
            return Err(status);
        }
        // SAFETY: NT keeps the device below while ours is attached to it.
        let inherited = unsafe { (*extension.lower().0).Flags } & DO_POWER_PAGABLE;
        // SAFETY: until `DO_DEVICE_INITIALIZING` is cleared, which this does last, nobody else uses the flags.
        let flags = unsafe { &mut (*device).Flags };
        *flags |= DO_BUFFERED_IO | inherited;
        *flags &= !DO_DEVICE_INITIALIZING;
        Ok(())
    }

    fn lower(&self) -> Below {
        // SAFETY: written before the device could be called, and not since.
        Below(unsafe { *self.lower.get() })
    }

    fn place(&self) -> *mut F::Running {
        self.running.get().cast()
    }

    /// What `start` returned, unless the device is stopped.
    fn running(&self) -> Option<&F::Running> {
        if self.state.load(Acquire) == STOPPED {
            return None;
        }
        // SAFETY: written before the state said so, and there until `stop`, when nobody is in the device.
        Some(unsafe { &*self.place() })
    }

    /// (1)
    fn start(&self, passive: &mut Passive) -> Result<(), Status> {
        if self.state.load(Acquire) != STOPPED {
            return Err(Status::failure(STATUS_INVALID_DEVICE_STATE));
        }
        // SAFETY: NT keeps the device until we delete it.
        let driver = Driver(unsafe { (*self.device).DriverObject });
        let running = F::start(&Device { pdo: self.pdo, driver }, passive)?;
        // SAFETY: in this state, nobody reads it; PnP requests come one at a time.
        unsafe { self.place().write(running) };
        self.state.store(RUNNING, Release);
        Ok(())
    }

    /// (2)
    fn quiesce(&self, passive: &mut Passive) {
        if self.state.load(Acquire) == RUNNING {
            if let Some(running) = self.running() {
                F::quiesce(running, passive);
            }
            self.state.store(QUIET, Release);
        }
    }

    /// (3)
    fn remove(&self, mut irp: Irp, held: Held, passive: &mut Passive) -> Dispatched {
        self.quiesce(passive);
        held.wait_for_others(passive);
        if self.state.swap(STOPPED, Acquire) != STOPPED {
            // SAFETY: there was a value, and nobody is in the device who could use it.
            let running = unsafe { self.place().read() };
            F::stop(running, passive);
        }
        let (lower, device) = (self.lower(), self.device);
        irp.set_status(STATUS_SUCCESS, 0);
        let dispatched = irp.pass(lower);
        // SAFETY: ours is attached to it.
        unsafe { ntddk::IoDetachDevice(lower.0) };
        // SAFETY: nobody is in the device, nor will be; the extension is not used after this.
        unsafe { ntddk::IoDeleteDevice(device) };
        dispatched
    }
}

impl<F: Function> Entered<F> {
    /// Takes the IRP, and the remove lock.
    ///
    /// # Safety
    ///
    /// NT has called a dispatch routine of `F`'s driver with these.
    unsafe fn new(device: PDEVICE_OBJECT, irp: PIRP) -> Result<Self, Dispatched> {
        // SAFETY: the device is one that `attach` made.
        let extension = unsafe { (*device).DeviceExtension }.cast::<Extension<F>>();
        // SAFETY: it stays until the device is deleted, which waits for the lock that is taken here.
        let extension: &'static Extension<F> = unsafe { &*extension };
        // SAFETY: NT's IRPs are not null.
        let irp = unsafe { NonNull::new_unchecked(irp) };
        // SAFETY: it is ours, from here on.
        let irp = unsafe { Irp::new(irp) };
        match extension.lock.acquire(irp.tag()) {
            Ok(held) => Ok(Self { extension, irp, held }),
            Err(status) => Err(irp.complete(status.code(), 0)),
        }
    }
}

/// `IRP_MJ_CREATE`, `IRP_MJ_CLEANUP`, `IRP_MJ_CLOSE`: anyone may open the device, and nothing is kept with it.
unsafe extern "C" fn succeed<F: Function>(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: passed on.
    let entered = unsafe { Entered::<F>::new(device, irp) };
    let dispatched = entered.map(|entered| entered.irp.complete(STATUS_SUCCESS, 0));
    dispatched.unwrap_or_else(|refused| refused).status()
}

/// `IRP_MJ_POWER`, `IRP_MJ_SYSTEM_CONTROL`: the device below knows.
unsafe extern "C" fn pass<F: Function>(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: passed on.
    let entered = unsafe { Entered::<F>::new(device, irp) };
    let dispatched = entered.map(|entered| entered.irp.pass(entered.extension.lower()));
    dispatched.unwrap_or_else(|refused| refused).status()
}

/// `IRP_MJ_DEVICE_CONTROL`.
unsafe extern "C" fn control<F: Function>(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: passed on.
    let dispatched = unsafe { Entered::<F>::new(device, irp) }.map(|Entered { extension, irp, held }| {
        // SAFETY: this is a device control request.
        let code = unsafe { irp.stack().Parameters.DeviceIoControl.IoControlCode };
        if code & 3 != METHOD_BUFFERED {
            return irp.complete(STATUS_INVALID_DEVICE_REQUEST, 0);
        }
        match extension.running() {
            Some(running) => {
                let _raised = Cpu.raise();
                // SAFETY: raised just now, and this routine has no other token.
                let mut level = unsafe { Dispatch::assume() };
                F::control(running, &mut level, Request::new(irp, held))
            }
            None => irp.complete(STATUS_DEVICE_NOT_READY, 0),
        }
    });
    dispatched.unwrap_or_else(|refused| refused).status()
}

/// `IRP_MJ_PNP`.
unsafe extern "C" fn pnp<F: Function>(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: NT sends PnP requests at `PASSIVE_LEVEL`, and the token ends with this call.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: passed on.
    let dispatched = unsafe { Entered::<F>::new(device, irp) }.map(|Entered { extension, mut irp, held }| {
        let lower = extension.lower();
        match irp.stack().MinorFunction {
            IRP_MN_START_DEVICE => {
                let below = Status::check(irp.pass_and_wait(lower, &mut passive));
                irp.complete(status::code(below.and_then(|()| extension.start(&mut passive))), 0)
            }
            // It cannot be stopped and started elsewhere: its interrupt is what it is.
            IRP_MN_QUERY_STOP_DEVICE => irp.complete(STATUS_UNSUCCESSFUL, 0),
            IRP_MN_QUERY_REMOVE_DEVICE | IRP_MN_CANCEL_REMOVE_DEVICE | IRP_MN_CANCEL_STOP_DEVICE => {
                irp.set_status(STATUS_SUCCESS, 0);
                irp.pass(lower)
            }
            IRP_MN_SURPRISE_REMOVAL => {
                extension.quiesce(&mut passive);
                irp.set_status(STATUS_SUCCESS, 0);
                irp.pass(lower)
            }
            IRP_MN_REMOVE_DEVICE => extension.remove(irp, held, &mut passive),
            _ => irp.pass(lower),
        }
    });
    dispatched.unwrap_or_else(|refused| refused).status()
}

impl<F: Function> fmt::Debug for Extension<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extension").field("state", &self.state).finish_non_exhaustive()
    }
}
