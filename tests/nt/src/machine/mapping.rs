//! Memory at fixed addresses: whatever runs there sees the same pointers in every process.
#![expect(unsafe_code, reason = "maps memory and reaches into it by address")]

use std::{io, ops::Range, ptr};

use libc::{PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};

/// The size of a page.
pub(super) const PAGE: u64 = 4096;

/// What may be done with some pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) writable: bool,
    pub(super) executable: bool,
}

/// A range of memory of our own, readable and writable at first; unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    range: Range<u64>,
}

impl Mapping {
    /// Maps `bytes`, rounded up to pages, at `base`, where nothing else may be.
    pub(super) fn new(base: u64, bytes: &[u8]) -> io::Result<Self> {
        let range = base..base + (bytes.len() as u64).next_multiple_of(PAGE);
        map(&range, PROT_READ | PROT_WRITE)?;
        let mapping = Self { range };
        // SAFETY: it has just been mapped, is as long as that, and no one else knows of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at(base), bytes.len()) };
        Ok(mapping)
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Sets what may be done with these pages, which are the mapping's.
    pub(super) fn protect(&self, pages: &Range<u64>, access: Access) -> io::Result<()> {
        assert!(encloses(&self.range, pages), "{pages:#x?} is not within {:#x?}", self.range);
        let write = if access.writable { PROT_WRITE } else { PROT_NONE };
        let execute = if access.executable { PROT_EXEC } else { PROT_NONE };
        protect(pages, PROT_READ | write | execute)
    }

    /// Copies from there, which is the mapping's.
    pub(super) fn read(&self, address: u64, buffer: &mut [u8]) {
        let from = address..address + buffer.len() as u64;
        assert!(encloses(&self.range, &from), "{from:#x?} is not within {:#x?}", self.range);
        // SAFETY: within the mapping, every page of which can be read. Driver code does not run meanwhile.
        unsafe { ptr::copy_nonoverlapping(at(address), buffer.as_mut_ptr(), buffer.len()) };
    }

    /// Copies to there. The pages, which are the mapping's, must be writable.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        let to = address..address + bytes.len() as u64;
        assert!(encloses(&self.range, &to), "{to:#x?} is not within {:#x?}", self.range);
        // SAFETY: within the mapping, where nothing of Rust lives. Driver code does not run meanwhile.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at(address), bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping's.
        let failed = unsafe { libc::munmap(at(self.range.start).cast(), length(&self.range)) };
        assert_eq!(failed, 0, "could not unmap {:#x?}: {}", self.range, io::Error::last_os_error());
    }
}

/// Keeps a range of addresses, for the life of the process, for memory that is made later.
pub(super) fn reserve(range: &Range<u64>) -> io::Result<()> {
    map(range, PROT_NONE)
}

/// Makes memory of reserved pages.
pub(super) fn commit(range: &Range<u64>) -> io::Result<()> {
    protect(range, PROT_READ | PROT_WRITE)
}

/// Turns committed memory into zeroes.
///
/// # Safety
///
/// It is private memory of ours, in which nothing is alive.
pub(super) unsafe fn clear(range: &Range<u64>) -> io::Result<()> {
    // SAFETY: the caller's promise.
    done(unsafe { libc::madvise(at(range.start).cast(), length(range), libc::MADV_DONTNEED) })
}

fn map(range: &Range<u64>, protection: libc::c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: it replaces no mapping.
    let mapped = unsafe { libc::mmap(at(range.start).cast(), length(range), protection, flags, -1, 0) };
    done(if mapped == libc::MAP_FAILED { -1 } else { 0 })
}

fn protect(range: &Range<u64>, protection: libc::c_int) -> io::Result<()> {
    // SAFETY: this file's callers name memory of their own, in which no reference of Rust points.
    done(unsafe { libc::mprotect(at(range.start).cast(), length(range), protection) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn encloses(outer: &Range<u64>, inner: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn length(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}

/// The memory there, which Rust's own never is.
fn at(address: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut(address as usize)
}
