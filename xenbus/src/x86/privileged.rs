//! Registers and ports of Xen's own, and of its device model: what may be written to them, and by whom.
//!
//! A register or a port can do anything, a write to all of memory included. So each of these is had only by who has
//! found out that it is what it is taken for:
//!
//! - [`PageRegister`]: Xen's CPUID leaves name it;
//! - [`PlatformDevice`]: it answers with its magic number;
//! - [`LogPort`]: of a device that was found, or one that does nothing with a byte, whosever it is.
//!
//! Sources: `xen/include/public/arch-x86/cpuid.h`, leaf 3; `docs/misc/hvm-emulated-unplug.pandoc`.
#![expect(unsafe_code, reason = "registers and ports, of which only Xen's documents say what they do")]

use core::ops::Range;

use xen_abi::{
    console_io::XEN_HVM_DEBUGCONS_IOPORT,
    cpuid,
    hvm::emulated_unplug::{BLOCKED, CONTROL, MAGIC, Product, VERSION},
    seam::{Access, PAGE_SIZE, Processor},
};

use super::{PageError, find::Leaves};
use crate::unplug::Devices;

/// The registers that a write reaches Xen by: its own are from the first on, or from 0x40000200 on if it plays
/// Viridian, whose are the first (`guest_wrmsr`, `xen/arch/x86/msr.c`).
const REGISTERS: Range<u32> = 0x4000_0000..0x4000_0300;

/// The register by which Xen fills a page with the entries of its hypercalls.
#[derive(Debug)]
pub(super) struct PageRegister<'p, P> {
    processor: &'p P,
    number: u32,
}

impl<'p, P: Processor> PageRegister<'p, P> {
    /// The one that Xen's leaves name.
    ///
    /// # Errors
    ///
    /// They name none, or one that is no hypervisor's.
    pub(super) fn find(processor: &'p P, leaves: Leaves) -> Result<Self, PageError> {
        let [pages, number, ..] = processor.cpuid(leaves.leaf(cpuid::HYPERCALL_PAGE));
        if pages == 0 {
            return Err(PageError::NotOffered);
        }
        if !REGISTERS.contains(&number) {
            return Err(PageError::StrangeRegister(number));
        }
        Ok(Self { processor, number })
    }

    /// Has Xen write the entries into a page of RAM. For any other, it raises a general protection fault.
    pub(super) fn fill(&self, page: &impl Access) {
        // The lowest bits are the number of the page that is wanted: the first.
        let address = page.gfn().0.wrapping_mul(PAGE_SIZE as u64);
        // SAFETY: Xen's leaves name this register, which is no processor's own. Xen writes to the page before the
        // instruction ends, and keeps nothing of it; who has an `Access` may write any bytes there, and whoever else
        // uses the page expects that.
        unsafe { self.processor.write_msr(self.number, address) };
    }
}

/// The Xen platform device: who has this has read its magic number, without which nothing is written.
#[derive(Debug)]
pub(crate) struct PlatformDevice<'p, P> {
    processor: &'p P,
    is_blocked: bool,
}

impl<'p, P: Processor> PlatformDevice<'p, P> {
    /// What else the port reads as, if nobody is there.
    pub(crate) fn find(processor: &'p P) -> Result<Self, u16> {
        // SAFETY: in a guest that is a port of the platform device, or nobody's. Elsewhere it is a register of a DMA
        // controller's, and none that reading has an effect on.
        let magic = unsafe { processor.read_port(CONTROL) };
        match magic {
            MAGIC | BLOCKED => Ok(Self { processor, is_blocked: magic == BLOCKED }),
            other => Err(other),
        }
    }

    /// The host has refused the drivers. It still takes what they log.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The protocol's version.
    pub(crate) fn version(&self) -> u8 {
        // SAFETY: the platform device is there, and says its version.
        unsafe { self.processor.read_port(VERSION) }
    }

    /// Says who is there.
    pub(crate) fn announce(&self, product: Product, build: u32) {
        // SAFETY: the platform device is there, and takes two bytes for the product's number.
        unsafe { self.processor.write_port(VERSION, product.number) };
        // SAFETY: likewise four bytes, for the build's.
        unsafe { self.processor.write_port(CONTROL, build) };
    }

    /// Takes emulated devices away.
    pub(crate) fn unplug(&self, devices: Devices) {
        // SAFETY: the platform device is there, and takes two bytes for what to unplug. The devices' memory was never
        // the guest's.
        unsafe { self.processor.write_port(CONTROL, devices.bits()) };
    }

    /// Its log.
    pub(crate) const fn log(&self) -> LogPort<'p, P> {
        LogPort { processor: self.processor, number: VERSION }
    }
}

/// A port that takes a log, byte by byte.
#[derive(Debug)]
pub(crate) struct LogPort<'p, P> {
    processor: &'p P,
    number: u16,
}

impl<'p, P> LogPort<'p, P> {
    /// That of Xen's own. What is written to it elsewhere is lost.
    pub(crate) const fn of_xen(processor: &'p P) -> Self {
        Self { processor, number: XEN_HVM_DEBUGCONS_IOPORT }
    }
}

impl<P: Processor> LogPort<'_, P> {
    /// Writes a byte of the log.
    pub(crate) fn put(self, byte: u8) {
        // SAFETY: what takes a byte at either port does no more with it than to log it.
        unsafe { self.processor.write_port(self.number, byte) };
    }
}

// By hand: it is a number and a reference, whatever the processor is.
impl<P> Clone for LogPort<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for LogPort<'_, P> {}
