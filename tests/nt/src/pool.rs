//! Pool memory: each block ends at a page that cannot be touched, and is never used again once it is freed.
#![forbid(unsafe_code)]

use std::{fmt, ops::Range};

use crate::{
    call::{Answer, Call, Outcome},
    kernel::Kernel,
    memory::{Memory, PAGE},
    verdict::{Finding, Verdict},
};

/// `ExAllocatePoolWithTag`: nonpaged blocks are aligned so on 64-bit systems.
const ALIGNMENT: u64 = 16;
/// What a new block holds: its contents are not defined.
const NEW: u8 = 0xA5;
/// What lies between a block and the ends of its pages.
const SLACK: u8 = 0xFD;

/// Stands for the kernel where a caller's address is expected.
pub(crate) const KERNEL: u64 = 0;

/// `POOL_TYPE`: the types that a driver of today uses.
const NON_PAGED: [u64; 2] = [0, 512];
const PAGED: u64 = 1;

/// Whose a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The driver's, by `ExAllocatePoolWithTag`.
    Driver { paged: bool },
    /// A device object with its extension.
    Device,
    /// An IRP, or its buffer.
    Irp,
    /// The kernel's own.
    Kernel,
}

/// A pool block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) pages: Range<u64>,
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) owner: Owner,
    tag: u32,
    /// Who allocated and who freed it, by address.
    allocated_by: u64,
    freed_by: Option<u64>,
}

impl Block {
    pub(crate) fn is_allocated(&self) -> bool {
        self.freed_by.is_none()
    }

    /// Whether any byte of it is in the range.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + self.size
    }

    /// The parts of its pages that are not its own.
    fn slack(&self) -> [Range<u64>; 2] {
        [self.pages.start..self.start, self.start + self.size..self.pages.end]
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the block of {} bytes at {:#x}", self.size, self.start)?;
        if self.tag != 0 {
            write!(f, " with the tag '{}'", self.tag.to_le_bytes().escape_ascii())?;
        }
        if self.allocated_by != KERNEL {
            write!(f, ", allocated by {:#x}", self.allocated_by)?;
        }
        match self.freed_by {
            None => Ok(()),
            Some(KERNEL) => f.write_str(", freed by the kernel"),
            Some(caller) => write!(f, ", freed by {caller:#x}"),
        }
    }
}

impl Memory {
    /// A new block, at the end of its pages as far as its alignment allows.
    pub(crate) fn allocate(&mut self, size: u64, owner: Owner, tag: u32, caller: u64) -> u64 {
        let pages = self.open(size.max(1).next_multiple_of(PAGE));
        let start = pages.end - size.max(1).next_multiple_of(ALIGNMENT);
        let block =
            Block { pages: pages.clone(), start, size, owner, tag, allocated_by: caller, freed_by: None };
        let slack = block.slack();
        let own = block.range();
        self.blocks.insert(pages.start, block);
        for range in slack {
            self.fill_pages(range, SLACK);
        }
        self.fill_pages(own, if matches!(owner, Owner::Driver { .. }) { NEW } else { 0 });
        start
    }

    /// Memory of the kernel's own, filled with zeros, which drivers may read or write.
    pub(crate) fn allocate_kernel(&mut self, size: usize) -> u64 {
        self.allocate(size as u64, Owner::Kernel, 0, KERNEL)
    }

    /// Frees the block that begins here, and says what it had in it.
    pub(crate) fn free(&mut self, start: u64, caller: u64) -> Result<(), Finding> {
        let block = self.block_near(start).filter(|block| block.start == start && block.is_allocated());
        let Some(block) = block else { return Err(Verdict::BadFree.because(format!("{start:#x}"))) };
        for range in block.slack() {
            let bytes = self.bytes_of_pages(range.clone());
            if let Some(index) = bytes.iter().position(|&byte| byte != SLACK) {
                let address = range.start + index as u64;
                return Err(Verdict::PoolSlack.because(format!("{address:#x} is beside {block}")));
            }
        }
        let pages = block.pages.clone();
        Self::close(&pages);
        if let Some(block) = self.blocks.get_mut(&pages.start) {
            block.freed_by = Some(caller);
        }
        Ok(())
    }
}

impl Kernel {
    /// `ExAllocatePoolWithTag`: paged pool only below `DISPATCH_LEVEL`.
    pub(crate) fn ex_allocate_pool_with_tag(&mut self, call: &Call) -> Outcome {
        let (kind, size, tag) = (call.argument(0), call.argument(1), call.narrow(2));
        let paged = kind & 0xFFFF_FFFF == PAGED;
        if !paged && !NON_PAGED.contains(&(kind & 0xFFFF_FFFF)) {
            return Err(Verdict::BadPointer.because(format!("{kind:#x} is no POOL_TYPE that is known here")));
        }
        if paged {
            call.only_below_dispatch("paged pool")?;
        }
        if self.allocation_fails() {
            return Ok(Answer::Return(0));
        }
        Ok(Answer::Return(self.memory.allocate(size, Owner::Driver { paged }, tag, call.caller())))
    }

    /// `ExFreePoolWithTag`: the tag is the one that the block was allocated with.
    pub(crate) fn ex_free_pool_with_tag(&mut self, call: &Call) -> Outcome {
        let (address, tag) = (call.argument(0), call.narrow(1));
        let block = self.memory.block_near(address).filter(|block| block.start == address);
        let Some(block) = block else {
            return Err(Verdict::BadFree.because(format!("{address:#x} is not where a pool block begins")));
        };
        let Owner::Driver { paged } = block.owner else {
            return Err(Verdict::BadFree.because(format!("{block} is not the driver's")));
        };
        if !block.is_allocated() {
            return Err(Verdict::BadFree.because(format!("{block}, is freed again")));
        }
        if block.tag != tag {
            let tag = tag.to_le_bytes().escape_ascii().to_string();
            return Err(Verdict::BadFree.because(format!("{block}, is freed with the tag '{tag}'")));
        }
        if paged {
            call.only_below_dispatch("paged pool")?;
        }
        self.release(address, call.caller())?;
        Ok(Answer::Return(0))
    }

    /// Frees a block, unless the kernel still uses something in it.
    pub(crate) fn release(&mut self, start: u64, caller: u64) -> Result<(), Finding> {
        if let Some(block) = self.memory.block_near(start) {
            let range = block.range();
            if let Some(use_) = self.in_use(&range) {
                return Err(Verdict::FreedInUse.because(format!("{use_} is in {block}")));
            }
        }
        self.memory.free(start, caller)
    }

    /// What the kernel would still touch of this memory, in words.
    pub(crate) fn in_use(&self, range: &Range<u64>) -> Option<String> {
        self.dpc_in(range)
            .or_else(|| self.timer_in(range))
            .or_else(|| self.waiter_in(range))
            .or_else(|| self.lock_in(range))
            .or_else(|| self.remove_lock_in(range))
    }

    /// What the code of an image has allocated and never freed.
    pub(crate) fn check_leaks(&self, image: &Range<u64>) -> Result<(), Finding> {
        let is_leak = |block: &&Block| {
            let is_drivers = matches!(block.owner, Owner::Driver { .. });
            block.is_allocated() && is_drivers && image.contains(&block.allocated_by)
        };
        let leaks: Vec<String> = self.memory.blocks.values().filter(is_leak).map(Block::to_string).collect();
        match leaks.as_slice() {
            [] => Ok(()),
            leaks => Err(Verdict::Leak.because(leaks.join("; "))),
        }
    }
}
