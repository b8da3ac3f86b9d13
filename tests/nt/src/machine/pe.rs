//! A PE file as a loader sees it: laid out in memory, relocated, its imports bound.
//!
//! Everything here works on a copy in ordinary memory; `PE Format` (Microsoft Learn) is the source.
#![forbid(unsafe_code)]

use std::ops::Range;

use object::{
    LittleEndian as LE,
    pe::{self, ImageNtHeaders64},
    read::pe::{ImageNtHeaders, ImageOptionalHeader, Import, PeFile64},
};

use super::{image::LoadError, mapping::PAGE};

/// A part of an image with protections of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; `headers` for what precedes the first one.
    pub name: String,
    /// The addresses at which it is mapped.
    pub range: Range<u64>,
    /// Whether driver code may write there.
    pub writable: bool,
    /// Whether driver code may run there.
    pub executable: bool,
    /// Whether it is gone once the driver has been initialised.
    pub discardable: bool,
}

impl Section {
    pub(super) fn pages(&self) -> Range<u64> {
        self.range.start..self.range.end.next_multiple_of(PAGE)
    }
}

/// An import and the slot that the loader fills.
#[derive(Debug)]
pub(super) struct ImportSlot {
    pub(super) module: String,
    pub(super) symbol: String,
    pub(super) rva: usize,
}

/// A file laid out as in memory.
#[derive(Debug)]
pub(super) struct Layout<'file> {
    file: PeFile64<'file>,
    bytes: &'file [u8],
    /// The image at its preferred base.
    pub(super) memory: Vec<u8>,
}

impl<'file> Layout<'file> {
    pub(super) fn parse(bytes: &'file [u8]) -> Result<Self, LoadError> {
        let file = PeFile64::parse(bytes)?;
        if file.nt_headers().file_header.machine.get(LE) != pe::IMAGE_FILE_MACHINE_AMD64 {
            return Err(LoadError::Malformed("it is not for x86-64".to_owned()));
        }
        let header = file.nt_headers().optional_header();
        let mut memory = vec![0; header.size_of_image() as usize];
        place(&mut memory, 0, bytes, 0, header.size_of_headers())?;
        for section in file.section_table().iter() {
            let length = section.size_of_raw_data.get(LE).min(section.virtual_size.get(LE));
            let (rva, offset) = (section.virtual_address.get(LE), section.pointer_to_raw_data.get(LE));
            place(&mut memory, rva, bytes, offset, length)?;
        }
        Ok(Self { file, bytes, memory })
    }

    /// The headers and the sections, at that base.
    pub(super) fn sections(&self, base: u64) -> Vec<Section> {
        let header = self.file.nt_headers().optional_header();
        let end = base + u64::from(header.size_of_headers());
        let headers = Section {
            name: "headers".to_owned(),
            range: base..end,
            writable: false,
            executable: false,
            discardable: false,
        };
        let sections = self.file.section_table().iter().map(|section| {
            let start = base + u64::from(section.virtual_address.get(LE));
            let is = |flag| section.characteristics.get(LE) & flag != 0;
            Section {
                name: String::from_utf8_lossy(section.raw_name()).into_owned(),
                range: start..start + u64::from(section.virtual_size.get(LE)),
                writable: is(pe::IMAGE_SCN_MEM_WRITE),
                executable: is(pe::IMAGE_SCN_MEM_EXECUTE),
                discardable: is(pe::IMAGE_SCN_MEM_DISCARDABLE),
            }
        });
        std::iter::once(headers).chain(sections).collect()
    }

    pub(super) fn entry(&self) -> u32 {
        self.file.nt_headers().optional_header().address_of_entry_point()
    }

    /// Where the table of functions lies (.pdata).
    pub(super) fn exception_directory(&self) -> Range<usize> {
        let Some(directory) = self.file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION) else {
            return 0..0;
        };
        let start = directory.virtual_address.get(LE) as usize;
        start..start + directory.size.get(LE) as usize
    }

    /// Moves the image from its preferred base to `base`.
    pub(super) fn relocate(&mut self, base: u64) -> Result<(), LoadError> {
        let distance = base.wrapping_sub(self.file.nt_headers().optional_header().image_base());
        let directories = self.file.data_directories();
        let Some(mut blocks) = directories.relocation_blocks(self.bytes, &self.file.section_table())? else {
            return Ok(());
        };
        while let Some(block) = blocks.next()? {
            for relocation in block {
                let rva = relocation.virtual_address as usize;
                match relocation.typ {
                    pe::IMAGE_REL_BASED_ABSOLUTE => {} // padding
                    pe::IMAGE_REL_BASED_DIR64 => {
                        let slot = word(&mut self.memory, rva)?;
                        *slot = u64::from_le_bytes(*slot).wrapping_add(distance).to_le_bytes();
                    }
                    other => {
                        let what = format!("the relocation at {rva:#x} is of type {other:?}, not DIR64");
                        return Err(LoadError::Malformed(what));
                    }
                }
            }
        }
        Ok(())
    }

    /// Every import.
    pub(super) fn imports(&self) -> Result<Vec<ImportSlot>, LoadError> {
        let mut slots = Vec::new();
        let Some(table) = self.file.import_table()? else { return Ok(slots) };
        let mut descriptors = table.descriptors()?;
        while let Some(descriptor) = descriptors.next()? {
            let module = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).into_owned();
            let mut thunks = table.thunks(descriptor.original_first_thunk.get(LE))?;
            let mut rva = descriptor.first_thunk.get(LE) as usize;
            while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
                let symbol = match table.import::<ImageNtHeaders64>(thunk)? {
                    Import::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
                    Import::Ordinal(number) => format!("#{number}"),
                };
                slots.push(ImportSlot { module: module.clone(), symbol, rva });
                rva += size_of::<u64>();
            }
        }
        Ok(slots)
    }

    /// Fills an import's slot.
    pub(super) fn bind(&mut self, slot: &ImportSlot, address: u64) -> Result<(), LoadError> {
        *word(&mut self.memory, slot.rva)? = address.to_le_bytes();
        Ok(())
    }
}

/// Copies a part of the file to where it belongs.
fn place(memory: &mut [u8], rva: u32, file: &[u8], offset: u32, length: u32) -> Result<(), LoadError> {
    let part = |start: u32| start as usize..start as usize + length as usize;
    match (memory.get_mut(part(rva)), file.get(part(offset))) {
        (Some(to), Some(from)) => {
            to.copy_from_slice(from);
            Ok(())
        }
        _ => Err(LoadError::Malformed(format!(
            "{length:#x} bytes at {offset:#x} in the file, {rva:#x} in memory, are not within both"
        ))),
    }
}

fn word(memory: &mut [u8], rva: usize) -> Result<&mut [u8; 8], LoadError> {
    memory
        .get_mut(rva..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or_else(|| LoadError::Malformed(format!("the word at {rva:#x} is outside of the image")))
}
