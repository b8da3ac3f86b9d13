//! The remove lock: a device is not deleted while somebody is in it.
#![expect(unsafe_code, reason = "NT is given the lock's address")]

use core::{cell::UnsafeCell, fmt, mem::MaybeUninit, ptr};

use kexec::irql::Passive;
use nt_sys::{IO_REMOVE_LOCK, PIO_REMOVE_LOCK, PVOID, ntddk};

use crate::status::Status;

const TAG: u32 = u32::from_le_bytes(*b"Kexr");

/// The size by which NT knows a free build's lock from a checked one's.
#[expect(clippy::cast_possible_truncation, reason = "32 bytes")]
const SIZE: u32 = size_of::<IO_REMOVE_LOCK>() as u32;

/// A device's remove lock.
pub(crate) struct RemoveLock(UnsafeCell<MaybeUninit<IO_REMOVE_LOCK>>);

// SAFETY: NT serializes what is done to the lock.
unsafe impl Sync for RemoveLock {}

impl RemoveLock {
    /// A lock that is still to be [initialized](Self::init).
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Makes it ready, at `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// The lock stays where it is, is initialized once, and not used before.
    pub(crate) unsafe fn init(&self) {
        // Neither a time nor a count is watched: those are for checked builds.
        // SAFETY: the caller's promise.
        unsafe { ntddk::IoInitializeRemoveLockEx(self.lock(), TAG, 0, 0, SIZE) };
    }

    /// Keeps the device from being deleted. Up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// `STATUS_DELETE_PENDING`: it is being removed.
    pub(crate) fn acquire(&'static self, tag: PVOID) -> Result<Held, Status> {
        let file = c"".as_ptr();
        // SAFETY: the device's makers have initialized its lock.
        let status = unsafe { ntddk::IoAcquireRemoveLockEx(self.lock(), tag, file, 0, SIZE) };
        Status::check(status)?;
        Ok(Held { lock: self, tag })
    }

    fn lock(&self) -> PIO_REMOVE_LOCK {
        self.0.get().cast()
    }
}

/// The right to be in the device. Dropping it, up to `DISPATCH_LEVEL`, is the last touch of the device.
#[derive(Debug)]
pub(crate) struct Held {
    lock: &'static RemoveLock,
    tag: PVOID,
}

// SAFETY: the lock is not a thread's; its tag is a name, not memory that is used.
unsafe impl Send for Held {}

impl Held {
    /// Lets nobody in any more, and waits until everybody else is out.
    pub(crate) fn wait_for_others(self, _passive: &mut Passive) {
        // SAFETY: acquired by this value, whose drop is not run; the caller may wait.
        unsafe { ntddk::IoReleaseRemoveLockAndWaitEx(self.lock.lock(), self.tag, SIZE) };
        let _released = core::mem::ManuallyDrop::new(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: acquired by this value.
        unsafe { ntddk::IoReleaseRemoveLockEx(self.lock.lock(), self.tag, SIZE) };
    }
}

impl fmt::Debug for RemoveLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoveLock({:p})", ptr::from_ref(self))
    }
}
