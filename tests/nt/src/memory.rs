//! Memory that the driver can see, and how the kernel's doubles reach it.
//!
//! A double is given addresses by the driver and believes none of them: every access is to a pool block that is
//! allocated, to the stack of somebody who is running, or to a section of an image, or it is a [`Finding`].
#![expect(unsafe_code, reason = "driver memory is reached by address, after the address was checked")]

use std::{collections::BTreeMap, ops::Range, ptr};

use crate::{
    machine::Image,
    pool::{Block, Owner},
    verdict::{Finding, Verdict},
};

pub(crate) const PAGE: u64 = 4096;
/// Where pool memory lies: the same in each process, so that a run does not depend on it.
const ARENA: Range<u64> = 0x6000_0000_0000..0x6010_0000_0000;

/// Addresses for pool blocks. Each gets pages of its own, once: what is freed is never used again, and whatever
/// lies around a block cannot be touched.
#[derive(Debug)]
struct Arena {
    next: u64,
}

impl Arena {
    fn reserve() -> Self {
        let length = usize::try_from(ARENA.end - ARENA.start).expect("a 64-bit host");
        // SAFETY: nothing is mapped over: the kernel refuses with MAP_FIXED_NOREPLACE if it had to.
        let at = unsafe {
            libc::mmap(
                ptr::with_exposed_provenance_mut(as_usize(ARENA.start)),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        assert_eq!(at.expose_provenance(), as_usize(ARENA.start), "the addresses for pool memory are taken");
        Self { next: ARENA.start + PAGE }
    }

    /// Pages that can be touched, with one that cannot on either side.
    fn open(&mut self, length: u64) -> Range<u64> {
        let pages = self.next..self.next + length;
        assert!(pages.end + PAGE < ARENA.end, "the driver has used up the addresses for pool memory");
        self.next = pages.end + PAGE;
        protect(&pages, libc::PROT_READ | libc::PROT_WRITE);
        pages
    }

    /// Makes pages of the arena inaccessible for good.
    fn close(pages: &Range<u64>) {
        protect(pages, libc::PROT_NONE);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let length = as_usize(ARENA.end - ARENA.start);
        // SAFETY: `reserve` mapped exactly this, and nobody is given a pointer to it.
        let result = unsafe { libc::munmap(ptr::with_exposed_provenance_mut(as_usize(ARENA.start)), length) };
        assert_eq!(result, 0, "pool memory could not be unmapped");
    }
}

fn protect(pages: &Range<u64>, protection: i32) {
    assert!(ARENA.start <= pages.start && pages.end <= ARENA.end, "only the arena's pages");
    let length = as_usize(pages.end - pages.start);
    // SAFETY: the pages are the arena's (asserted above), which this process uses through checked addresses only.
    let result = unsafe {
        libc::mprotect(ptr::with_exposed_provenance_mut(as_usize(pages.start)), length, protection)
    };
    assert_eq!(result, 0, "the protection of pool memory could not be changed: are there too many mappings?");
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).expect("a 64-bit host")
}

/// An integer, as it lies in memory.
pub(crate) trait Word: Copy {
    const SIZE: usize;
    /// Of the first bytes.
    fn from_bytes(bytes: [u8; 8]) -> Self;
    /// Into the first bytes.
    fn into_bytes(self) -> [u8; 8];
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl Word for $word {
            const SIZE: usize = size_of::<$word>();

            fn from_bytes(bytes: [u8; 8]) -> Self {
                let mut own = [0; size_of::<$word>()];
                own.copy_from_slice(&bytes[..Self::SIZE]);
                Self::from_le_bytes(own)
            }

            fn into_bytes(self) -> [u8; 8] {
                u64::from(self).to_le_bytes()
            }
        }
    )*};
}

words!(u8, u16, u32, u64);

/// All memory that the driver can see.
#[derive(Debug)]
pub(crate) struct Memory {
    arena: Arena,
    /// Pool blocks, freed ones too, by the first of their pages.
    pub(crate) blocks: BTreeMap<u64, Block>,
    /// The stacks on which driver code is running.
    stacks: BTreeMap<u64, u64>,
    pub(crate) images: Vec<Image>,
}

/// Where an address lies.
enum Place<'a> {
    Mapped,
    Image(&'a Image),
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { arena: Arena::reserve(), blocks: BTreeMap::new(), stacks: BTreeMap::new(), images: Vec::new() }
    }

    /// Pages for a block, filled with zeros.
    pub(crate) fn open(&mut self, length: u64) -> Range<u64> {
        self.arena.open(length)
    }

    /// Makes a block's pages inaccessible for good.
    pub(crate) fn close(pages: &Range<u64>) {
        Arena::close(pages);
    }

    pub(crate) fn add_stack(&mut self, stack: &Range<u64>) {
        self.stacks.insert(stack.start, stack.end);
    }

    pub(crate) fn remove_stack(&mut self, stack: &Range<u64>) {
        self.stacks.remove(&stack.start);
    }

    /// The block in whose pages, or before whose pages, an address lies.
    pub(crate) fn block_near(&self, address: u64) -> Option<&Block> {
        let below = self.blocks.range(..=address).next_back().map(|(_, block)| block);
        match below {
            Some(block) if address < block.pages.end + PAGE => Some(block),
            _ => self.blocks.range(address..).next().map(|(_, block)| block).filter(|_| is_pool(address)),
        }
    }

    fn find(&self, address: u64, length: usize) -> Result<Place<'_>, Finding> {
        let end = address.saturating_add(length as u64);
        if is_pool(address) {
            let block = self.block_near(address).ok_or_else(|| stray(address))?;
            return if !block.is_allocated() {
                Err(block.touched(address))
            } else if block.start <= address && end <= block.start + block.size {
                Ok(Place::Mapped)
            } else {
                Err(Verdict::BadPointer.because(format!("{address:#x} is beside {block}")))
            };
        }
        if let Some((_, &top)) = self.stacks.range(..=address).next_back()
            && end <= top
        {
            return Ok(Place::Mapped);
        }
        let image = self.images.iter().find(|image| image.range().contains(&address));
        image.map(Place::Image).ok_or_else(|| stray(address))
    }

    pub(crate) fn read_bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, Finding> {
        // Before there is room for it: the length is the driver's.
        self.check(address, length)?;
        let mut bytes = vec![0; length];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<(), Finding> {
        match self.find(address, bytes.len())? {
            Place::Image(image) => image.read(address, bytes).map_err(|_| stray(address)),
            Place::Mapped => {
                let from = ptr::with_exposed_provenance::<u8>(as_usize(address));
                // SAFETY: `find` has checked that all of it is mapped and can be read; it is nobody's `&mut`.
                unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
                Ok(())
            }
        }
    }

    pub(crate) fn write_bytes(&mut self, address: u64, bytes: &[u8]) -> Result<(), Finding> {
        match self.find(address, bytes.len())? {
            Place::Image(image) => image.write(address, bytes).map_err(|_| {
                Verdict::BadPointer.because(format!("{address:#x} is in a section that is not writable"))
            }),
            Place::Mapped => {
                let to = ptr::with_exposed_provenance_mut::<u8>(as_usize(address));
                // SAFETY: `find` has checked that all of it is mapped and can be written; nobody has a reference.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
                Ok(())
            }
        }
    }

    pub(crate) fn read<T: Word>(&self, address: u64) -> Result<T, Finding> {
        let mut bytes = [0; 8];
        self.read_into(address, &mut bytes[..T::SIZE])?;
        Ok(T::from_bytes(bytes))
    }

    pub(crate) fn write<T: Word>(&mut self, address: u64, value: T) -> Result<(), Finding> {
        self.write_bytes(address, &value.into_bytes()[..T::SIZE])
    }

    /// Whether an object of this size can be there.
    pub(crate) fn check(&self, address: u64, size: usize) -> Result<(), Finding> {
        self.find(address, size).map(|_| ())
    }

    /// Whether a byte is there, and is never paged out.
    pub(crate) fn check_nonpaged(&self, address: u64) -> Result<(), Finding> {
        self.check(address, 1)?;
        match self.block_near(address) {
            Some(block) if block.owner == (Owner::Driver { paged: true }) => {
                Err(Verdict::BadPointer.because(format!("{address:#x} is in {block}, which is paged")))
            }
            _ => Ok(()),
        }
    }

    /// Text that ends with a zero.
    pub(crate) fn read_text(&self, address: u64) -> Result<String, Finding> {
        let mut text = Vec::new();
        loop {
            match self.read::<u8>(address + text.len() as u64)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                byte => text.push(byte),
            }
        }
    }

    /// Bytes of a block whose pages may be touched beyond what was allocated.
    pub(crate) fn bytes_of_pages(&self, range: Range<u64>) -> Vec<u8> {
        let inside = |block: &Block| block.is_allocated() && range.end <= block.pages.end;
        assert!(self.block_near(range.start).is_some_and(inside), "only an allocated block's pages");
        let mut bytes = vec![0; as_usize(range.end - range.start)];
        let from = ptr::with_exposed_provenance::<u8>(as_usize(range.start));
        // SAFETY: the pages of an allocated block are mapped (asserted above).
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    /// What a dump of the driver's memory has: the sections that images have kept, and the pages of all allocated blocks.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let sections =
            self.images.iter().flat_map(|image| image.sections().iter().map(move |one| (image, one)));
        let kept = sections.filter(|(_, section)| !section.discardable).map(|(image, section)| {
            let mut bytes = vec![0; as_usize(section.range.end - section.range.start)];
            image.read(section.range.start, &mut bytes).expect("a section is within its image");
            bytes.resize(bytes.len().next_multiple_of(as_usize(PAGE)), 0);
            bytes
        });
        let blocks = self.blocks.values().filter(|block| block.is_allocated());
        kept.chain(blocks.map(|block| self.bytes_of_pages(block.pages.clone()))).flatten().collect()
    }

    /// Fills bytes of a block's pages.
    pub(crate) fn fill_pages(&mut self, range: Range<u64>, byte: u8) {
        let inside = |block: &Block| block.is_allocated() && range.end <= block.pages.end;
        assert!(self.block_near(range.start).is_some_and(inside), "only an allocated block's pages");
        let to = ptr::with_exposed_provenance_mut::<u8>(as_usize(range.start));
        // SAFETY: the pages of an allocated block are mapped (asserted above), and nobody has a reference.
        unsafe { ptr::write_bytes(to, byte, as_usize(range.end - range.start)) };
    }

    /// What it means that driver code touched this address and could not.
    pub(crate) fn blame(&self, address: u64, is_write: bool) -> Finding {
        if is_pool(address)
            && let Some(block) = self.block_near(address)
        {
            return if block.is_allocated() {
                Verdict::PoolOverrun.because(format!("{address:#x} is beside {block}"))
            } else {
                block.touched(address)
            };
        }
        let in_image = self.images.iter().any(|image| image.range().contains(&address));
        if in_image && is_write {
            return Verdict::ReadOnlyWrite.because(format!("write to {address:#x}"));
        }
        Verdict::PageFault.because(format!("{} {address:#x}", if is_write { "write to" } else { "read of" }))
    }
}

impl Block {
    /// A freed block was touched.
    fn touched(&self, address: u64) -> Finding {
        let verdict = if self.owner == Owner::Irp { Verdict::IrpTouched } else { Verdict::UseAfterFree };
        verdict.because(format!("{address:#x} is in {self}"))
    }
}

fn is_pool(address: u64) -> bool {
    ARENA.contains(&address)
}

fn stray(address: u64) -> Finding {
    Verdict::BadPointer.because(format!("{address:#x} is no memory of the driver's"))
}
