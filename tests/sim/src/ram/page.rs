//! A page of the machine's memory.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use xen_abi::seam::{Beyond, PAGE_SIZE};

/// A page of the machine's memory, which is there as long as somebody has it: a guest at a place of its memory, whoever has
/// mapped it by a grant, Xen. To take it out of a guest takes it from nobody else.
#[derive(Clone)]
pub(crate) struct Page(Arc<Inside>);

struct Inside {
    /// What it is full of until it is first used: so long it takes no room.
    fill: u8,
    bytes: Mutex<Vec<u8>>,
}

/// The bytes of a page, while they are looked at.
pub(crate) type Bytes<'p> = MutexGuard<'p, Vec<u8>>;

impl Page {
    /// As Xen and kernels hand them out.
    pub(crate) fn zeroed() -> Self {
        Self::full_of(0)
    }

    /// As one is that a kernel has got back, and used for something else.
    pub(crate) fn used() -> Self {
        Self::full_of(0xDB)
    }

    fn full_of(fill: u8) -> Self {
        Self(Arc::new(Inside { fill, bytes: Mutex::default() }))
    }

    /// Its bytes. Nobody may ask for them who is looking at them.
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        let mut bytes = self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.resize(PAGE_SIZE, self.0.fill);
        bytes
    }

    /// Copies some of them out.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        Beyond::check(offset, into.len())?;
        into.copy_from_slice(&self.bytes()[offset..][..into.len()]);
        Ok(())
    }

    /// Overwrites some of them.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result<(), Beyond> {
        Beyond::check(offset, from.len())?;
        self.bytes()[offset..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    /// Whether it is the same page, and not only as full.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether somebody else has it, too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shared() { "Page (shared)" } else { "Page" })
    }
}
