//! The seam below `xenbus`: this Xen, and pages of a memory that is at its own addresses.
//!
//! ```text
//! 2 MiB ..        the image, and in it the pages that are handed out
//! 0xE000_0000 ..  nothing: holes, for pages of Xen's own
//! 0xF000_0000 ..  of an HVM guest: devices
//! 0xFEC0_0000 ..  interrupt controllers; and above them, what the toolstack has put there
//! ```
#![expect(unsafe_code, reason = "the memory of a machine is what its addresses say")]

use core::{
    cell::UnsafeCell,
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
};

use xen_abi::hvm::params::HVM_PARAM_STORE_PFN;
use xenbus::{
    Hypervisor,
    hypercall::hvm,
    seam::{Gfn, Mapped, Memory, NoMemory, PAGE_SIZE},
    x86::Xen,
};

/// Words of pages: so many times 64.
const RAM_WORDS: usize = 4;
const HOLE_WORDS: usize = 1;

/// Where there is nothing, neither RAM nor a device.
const HOLES: usize = 0xE000_0000;

/// All that the boot code has mapped.
const MAPPED: usize = 4 << 30;

static RAM: [Page; RAM_WORDS * 64] = [const { Page(UnsafeCell::new([0; PAGE_SIZE])) }; RAM_WORDS * 64];
static RAM_TAKEN: Taken<RAM_WORDS> = Taken::new();
static HOLES_TAKEN: Taken<HOLE_WORDS> = Taken::new();

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; PAGE_SIZE]>);

// SAFETY: it is reached by its address only, by whoever was handed it.
unsafe impl Sync for Page {}

/// The guest, as `xenbus` sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    xen: Xen,
}

impl Guest {
    /// Looks for the Xen below.
    pub(crate) fn find() -> Result<Self, xenbus::NotXen> {
        Xen::detect(|| ram().ok()).map(|xen| Self { xen })
    }

    /// The page of the ring that is shared with xenstored, for whoever takes the part of the bus.
    pub(crate) fn store_ring(&self) -> Option<Mapped> {
        let gfn = hvm::get_param(self, HVM_PARAM_STORE_PFN).ok().map(Gfn)?;
        // SAFETY: the toolstack puts such pages where no RAM of the guest's is, and whoever else writes there does so
        // as the ring's protocol says, or is found out.
        unsafe { self.existing(gfn) }.ok()
    }

    /// The Xen below.
    pub(crate) const fn xen(&self) -> &Xen {
        &self.xen
    }
}

// SAFETY: the calls are Xen's own.
unsafe impl Hypervisor for Guest {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        // SAFETY: passed on.
        unsafe { self.xen.hypercall(number, arguments) }
    }
}

// SAFETY: each page is handed out to one until it is given back, is where its number says, and stays there.
unsafe impl Memory for Guest {
    type Frame = Mapped;

    fn allocate(&self) -> Result<Mapped, NoMemory> {
        ram()
    }

    fn hole(&self) -> Result<Mapped, NoMemory> {
        let index = HOLES_TAKEN.take().ok_or(NoMemory)?;
        // SAFETY: nobody else has this one, and it is mapped.
        Ok(unsafe { page_at(HOLES + index * PAGE_SIZE) })
    }

    unsafe fn existing(&self, Gfn(gfn): Gfn) -> Result<Mapped, NoMemory> {
        let address = usize::try_from(gfn).ok().and_then(|gfn| gfn.checked_mul(PAGE_SIZE));
        let address = address.filter(|address| (PAGE_SIZE..MAPPED).contains(address)).ok_or(NoMemory)?;
        // SAFETY: it is mapped, and who else has it is what the caller answers for.
        Ok(unsafe { page_at(address) })
    }

    unsafe fn free(&self, frame: Mapped) {
        let address = frame.address().as_ptr().addr();
        let index = |first: usize| address.wrapping_sub(first) / PAGE_SIZE;
        let ram = index(RAM.as_ptr().addr());
        if ram < RAM.len() {
            RAM_TAKEN.give(ram);
        } else if index(HOLES) < HOLE_WORDS * 64 {
            HOLES_TAKEN.give(index(HOLES));
        }
        // Else it is the toolstack's, and stays what it is.
    }
}

/// A page of zeros.
fn ram() -> Result<Mapped, NoMemory> {
    let page = RAM_TAKEN.take().and_then(|index| RAM.get(index)).ok_or(NoMemory)?;
    let bytes = NonNull::new(page.0.get()).ok_or(NoMemory)?;
    // SAFETY: nobody else has it.
    unsafe { bytes.write_bytes(0, 1) };
    let address = bytes.as_ptr().expose_provenance();
    // SAFETY: nobody else has it until it is given back, and memory is at its own addresses.
    Ok(unsafe { Mapped::new(bytes.cast(), Gfn((address / PAGE_SIZE) as u64)) })
}

/// The page at an address that the boot code has mapped.
///
/// # Safety
///
/// It is a page's address, not zero, and mapped; nobody else has it, or as `Mapped` may meet.
unsafe fn page_at(address: usize) -> Mapped {
    // SAFETY: it is not zero.
    let pointer = unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(address)) };
    // SAFETY: passed on; memory is at its own addresses.
    unsafe { Mapped::new(pointer, Gfn((address / PAGE_SIZE) as u64)) }
}

/// Which of so many things are somebody's.
struct Taken<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Taken<WORDS> {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// The number of one that was nobody's.
    fn take(&self) -> Option<usize> {
        self.0.iter().enumerate().find_map(|(number, word)| {
            let free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
            let before = word.fetch_update(AcqRel, Relaxed, free).ok()?;
            Some(number * 64 + before.trailing_ones() as usize)
        })
    }

    fn give(&self, index: usize) {
        if let Some(word) = self.0.get(index / 64) {
            word.fetch_and(!(1 << (index % 64)), AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two have at once is memory that both write to.
    #[test]
    fn each_is_taken_once() {
        let taken = Taken::<2>::new();
        let all: Vec<_> = core::iter::from_fn(|| taken.take()).collect();
        assert_eq!(all, (0..128).collect::<Vec<_>>());
        taken.give(70);
        taken.give(3);
        assert_eq!((taken.take(), taken.take(), taken.take()), (Some(3), Some(70), None));
    }
}
