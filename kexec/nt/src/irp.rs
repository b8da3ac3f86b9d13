//! An IRP is owned, and completed once.
#![expect(unsafe_code, reason = "NT lends an IRP as a pointer; here it becomes a value that is given back")]

use core::{fmt, ptr::NonNull};

use kexec::irql::Passive;
use nt_sys::{
    IO_NO_INCREMENT, IO_STACK_LOCATION, IO_STATUS_BLOCK, IO_STATUS_BLOCK_STATUS, IRP, NTSTATUS,
    PDEVICE_OBJECT, PIO_STACK_LOCATION, PVOID, SL_PENDING_RETURNED, STATUS_INVALID_DEVICE_STATE,
    STATUS_PENDING, ntddk,
};

/// An IRP that is this driver's to complete or to pass on.
///
/// Dropping it does neither, and leaks it: whoever has one says what becomes of it.
#[must_use = "an IRP that is neither completed nor passed on hangs whoever waits for it"]
pub(crate) struct Irp(NonNull<IRP>);

// SAFETY: an IRP belongs to a driver, not to a thread.
unsafe impl Send for Irp {}

/// What a dispatch routine returns to NT: only whoever did something with the IRP has one.
#[must_use = "it is what the dispatch routine returns"]
#[derive(Debug)]
pub struct Dispatched(NTSTATUS);

impl Dispatched {
    pub(crate) fn status(self) -> NTSTATUS {
        self.0
    }
}

impl Irp {
    /// # Safety
    ///
    /// The IRP was given to this driver, by a call of a dispatch routine, and nobody else here has it.
    pub(crate) unsafe fn new(irp: NonNull<IRP>) -> Self {
        Self(irp)
    }

    /// Tells it apart from others, for as long as it is owned.
    pub(crate) fn tag(&self) -> PVOID {
        self.0.as_ptr().cast()
    }

    /// Where the IRP says which of its locations is this driver's.
    ///
    /// No reference to an IRP is made anywhere: NT may write its `Cancel` at any time.
    fn current(&self) -> *mut PIO_STACK_LOCATION {
        // SAFETY: the IRP is this value's; while it is here, this view of the union is the one in use.
        unsafe {
            &raw mut (*self.0.as_ptr()).Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation
        }
    }

    /// `IoGetCurrentIrpStackLocation`.
    fn location(&self) -> PIO_STACK_LOCATION {
        // SAFETY: the IRP is this value's.
        unsafe { self.current().read() }
    }

    /// This driver's part of the IRP.
    pub(crate) fn stack(&self) -> &IO_STACK_LOCATION {
        // SAFETY: NT keeps it valid while the IRP is here, and it is this driver's.
        unsafe { &*self.location() }
    }

    fn stack_mut(&mut self) -> &mut IO_STACK_LOCATION {
        // SAFETY: as in `stack`.
        unsafe { &mut *self.location() }
    }

    /// What will be completed with, unless it is set again.
    pub(crate) fn set_status(&mut self, status: NTSTATUS, information: usize) {
        let block = IO_STATUS_BLOCK {
            __bindgen_anon_1: IO_STATUS_BLOCK_STATUS { Status: status },
            Information: information as u64,
        };
        // SAFETY: the IRP is this value's.
        unsafe { (*self.0.as_ptr()).IoStatus = block };
    }

    /// The buffer that NT copies in and out, for methods that have one.
    pub(crate) fn system_buffer(&mut self) -> *mut u8 {
        // SAFETY: the IRP is this value's.
        let buffer = unsafe { &raw const (*self.0.as_ptr()).AssociatedIrp.SystemBuffer };
        // SAFETY: as above; whatever the view, it is a pointer.
        unsafe { buffer.read() }.cast()
    }

    /// Gives the IRP back to NT. Up to `DISPATCH_LEVEL`.
    ///
    /// This is the last touch: its memory may be another request's before this returns.
    pub(crate) fn complete(mut self, status: NTSTATUS, information: usize) -> Dispatched {
        self.set_status(status, information);
        // SAFETY: the IRP is this value's, which ends here.
        unsafe { ntddk::IofCompleteRequest(self.0.as_ptr(), IO_NO_INCREMENT) };
        Dispatched(status)
    }

    /// Marks the IRP pending, hands it to `keep`, and tells NT that it will be completed later (or has been).
    pub(crate) fn pend(mut self, keep: impl FnOnce(Self)) -> Dispatched {
        self.stack_mut().Control |= SL_PENDING_RETURNED;
        keep(self);
        Dispatched(STATUS_PENDING)
    }

    /// Passes the IRP on to `lower` with the same parameters, and forgets it: `IoSkipCurrentIrpStackLocation`.
    pub(crate) fn pass(self, lower: Below) -> Dispatched {
        let irp = self.0.as_ptr();
        // SAFETY: the location above is part of the same IRP: at most the end of the array.
        let above = unsafe { self.location().add(1) };
        // SAFETY: the IRP is this value's.
        unsafe { self.current().write(above) };
        // SAFETY: as above.
        let number = unsafe { &mut (*irp).CurrentLocation };
        *number = number.wrapping_add(1);
        // SAFETY: the IRP is this value's, which ends here, and the device below is there while ours is.
        Dispatched(unsafe { ntddk::IofCallDriver(lower.0, irp) })
    }

    /// Passes the IRP on to `lower` with the same parameters, and waits until it comes back. What it came back with.
    ///
    /// The completion routine is the system's. One of ours might still be running when our image is unloaded.
    pub(crate) fn pass_and_wait(&mut self, lower: Below, _passive: &mut Passive) -> NTSTATUS {
        // SAFETY: at `PASSIVE_LEVEL`, as the token says; the device below is there while ours is, and when this
        // returns the IRP is this value's again.
        if unsafe { ntddk::IoForwardIrpSynchronously(lower.0, self.0.as_ptr()) } == nt_sys::FALSE {
            return STATUS_INVALID_DEVICE_STATE;
        }
        // SAFETY: the IRP is this value's.
        let status = unsafe { &raw const (*self.0.as_ptr()).IoStatus.__bindgen_anon_1.Status };
        // SAFETY: as above; what the drivers below have set is an integer in any case.
        unsafe { status.read() }
    }
}

/// The device below ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Below(pub(crate) PDEVICE_OBJECT);

impl fmt::Debug for Irp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Irp({:p})", self.0)
    }
}
