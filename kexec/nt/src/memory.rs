//! What a device allocates once, and keeps until its executor has been run down.
#![expect(unsafe_code, reason = "memory from the pool becomes values, and goes back")]

use core::{
    fmt,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

use kexec::{Lane, Table};
use nt_sys::{_POOL_TYPE::NonPagedPoolNx, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, ntddk};

use crate::status::Status;

/// `Kexc` in a debugger's pool listing.
const TAG: u32 = u32::from_le_bytes(*b"Kexc");

/// The pool aligns to this on x86-64 (`MEMORY_ALLOCATION_ALIGNMENT`).
const ALIGN: usize = 16;

/// The nonpaged memory of a device: values that are shared between CPUs and levels, and outlive everything but the device.
///
/// Values are handed out as `'static`, since nothing takes them back but the unsafe [`free`](Self::free). If that
/// is never called they stay, which is what the memory of a task that does not end must do.
pub struct DeviceMemory {
    newest: *mut Block,
}

// SAFETY: the list is this owner's, wherever it goes.
unsafe impl Send for DeviceMemory {}
// SAFETY: a shared one can do nothing.
unsafe impl Sync for DeviceMemory {}

/// In front of every value.
#[repr(C, align(16))]
struct Block {
    older: *mut Self,
}

impl DeviceMemory {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { newest: ptr::null_mut() }
    }

    /// Room for a value. Callable at `DISPATCH_LEVEL` and below.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn room<T>(&mut self) -> Result<&'static mut MaybeUninit<T>, Status> {
        const { assert!(align_of::<T>() <= ALIGN, "the pool aligns to 16 bytes") };
        let room = self.allocate(size_of::<T>())?.cast::<MaybeUninit<T>>();
        // SAFETY: just allocated, for this alone; any bytes will do; it stays until `free`.
        Ok(unsafe { &mut *room.as_ptr() })
    }

    /// Puts a value there. It will not be dropped. Callable at `DISPATCH_LEVEL` and below.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn put<T>(&mut self, value: T) -> Result<&'static T, Status> {
        self.room().map(|room| &*room.write(value))
    }

    /// Makes a table of tasks. Callable at `DISPATCH_LEVEL` and below.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`; `STATUS_INVALID_PARAMETER` for more slots than a table can have.
    pub fn table<const S: usize>(&mut self, slots: usize, lane: Lane) -> Result<&'static Table<S>, Status> {
        let too_many = Status::failure(STATUS_INVALID_PARAMETER);
        let layout = Table::<S>::layout(slots).ok_or(too_many)?;
        let memory = self.allocate(layout.size())?;
        // SAFETY: just allocated, for this alone. It goes back in `free` only, whose caller answers for the rest.
        unsafe { Table::init(memory, slots, lane) }.map_err(|_| too_many)
    }

    /// Gives everything back. Callable at `DISPATCH_LEVEL` and below.
    ///
    /// # Safety
    ///
    /// Nobody uses any of the values any more, nor will. For an executor or a table of tasks that is what
    /// [`kexec::Executor`] and [`Table::init`] say.
    pub unsafe fn free(self) {
        let mut block = self.newest;
        while !block.is_null() {
            // SAFETY: a block of this list, which is not used for anything else.
            let older = unsafe { (*block).older };
            // SAFETY: it came from the pool, with this tag, and the caller says that nobody uses it.
            unsafe { ntddk::ExFreePoolWithTag(block.cast(), TAG) };
            block = older;
        }
    }

    /// So many bytes behind a block's header.
    fn allocate(&mut self, bytes: usize) -> Result<NonNull<u8>, Status> {
        let no_memory = Status::failure(STATUS_INSUFFICIENT_RESOURCES);
        let size = bytes.checked_add(size_of::<Block>()).and_then(|size| u64::try_from(size).ok());
        // SAFETY: the caller is at `DISPATCH_LEVEL` or below.
        let block = unsafe { ntddk::ExAllocatePoolWithTag(NonPagedPoolNx, size.ok_or(no_memory)?, TAG) };
        let block = NonNull::new(block.cast::<Block>()).ok_or(no_memory)?;
        // SAFETY: new memory, large enough and aligned as the pool aligns.
        unsafe { block.write(Block { older: self.newest }) };
        self.newest = block.as_ptr();
        // SAFETY: the bytes behind the header are part of the allocation.
        Ok(unsafe { block.add(1) }.cast())
    }
}

impl Default for DeviceMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory").field("empty", &self.newest.is_null()).finish_non_exhaustive()
    }
}
