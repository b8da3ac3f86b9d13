//! A device's interrupt line, and who serves it.
#![expect(unsafe_code, reason = "NT is given the service's address, and calls back with it")]

use core::{fmt, ptr};

use kexec::irql::Passive;
use nt_sys::{
    BOOLEAN, CONNECT_LINE_BASED, IO_CONNECT_INTERRUPT_FORMS, IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_INTERRUPT_CONTEXT, IO_DISCONNECT_INTERRUPT_PARAMETERS,
    PKINTERRUPT, PVOID, ntddk,
};

use crate::{device::Device, status::Status};

/// What is done when the device interrupts.
pub trait Service: Sync + 'static {
    /// Called at the device's IRQL, which is above `DISPATCH_LEVEL`: wakes a task, takes no lock. Whether the
    /// interrupt was the device's: a line may be shared.
    fn interrupt(&self) -> bool;
}

/// A connected interrupt.
///
/// Dropping it leaves it connected, since nobody can say at which level that happens.
#[must_use = "it stays connected until `disconnect`"]
pub struct Interrupt(PKINTERRUPT);

// SAFETY: the object is NT's, and no thread's.
unsafe impl Send for Interrupt {}
// SAFETY: a shared one can do nothing.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// Connects the device's line-based interrupt. Its service may be called before this returns.
    ///
    /// # Errors
    ///
    /// What NT says: `STATUS_NOT_FOUND` if the device has no line.
    pub fn connect<S: Service>(
        device: &Device,
        _passive: &mut Passive,
        service: &'static S,
    ) -> Result<Self, Status> {
        let mut interrupt = ptr::null_mut();
        let line = IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
            PhysicalDeviceObject: device.pdo(),
            InterruptObject: &raw mut interrupt,
            ServiceRoutine: Some(serve::<S>),
            ServiceContext: ptr::from_ref(service).cast_mut().cast(),
            SpinLock: ptr::null_mut(),
            SynchronizeIrql: 0,
            FloatingSave: nt_sys::FALSE,
        };
        let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
            Version: CONNECT_LINE_BASED,
            __bindgen_anon_1: IO_CONNECT_INTERRUPT_FORMS { LineBased: line },
        };
        // SAFETY: at `PASSIVE_LEVEL`; the service is there for ever, or until its owner has disconnected it.
        Status::check(unsafe { ntddk::IoConnectInterruptEx(&raw mut parameters) })?;
        Ok(Self(interrupt))
    }

    /// Disconnects it, and waits for a service in progress, and for the DPCs that it has queued: one that was interrupted
    /// between a wake and its doorbell may have rung for an executor that was closed and silenced meanwhile.
    pub fn disconnect(self, _passive: &mut Passive) {
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: CONNECT_LINE_BASED,
            ConnectionContext: IO_DISCONNECT_INTERRUPT_CONTEXT { InterruptObject: self.0 },
        };
        // SAFETY: at `PASSIVE_LEVEL`; connected by `connect`, and this is its only owner.
        unsafe { ntddk::IoDisconnectInterruptEx(&raw mut parameters) };
        // SAFETY: at `PASSIVE_LEVEL`, as the token says.
        unsafe { ntddk::KeFlushQueuedDpcs() };
    }
}

unsafe extern "C" fn serve<S: Service>(_interrupt: PKINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: the context that `connect` gave.
    let service = unsafe { &*context.cast::<S>() };
    BOOLEAN::from(service.interrupt())
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({:p})", self.0)
    }
}
