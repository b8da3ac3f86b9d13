//! A kernel image as a file: what the rules ask about it.
//!
//! The format is that of "PE Format" in Microsoft's documentation, where the fields' names are from, too.

use std::{mem::offset_of, ops::Range};

use anyhow::{Context, Result, anyhow};
use object::{
    LittleEndian as LE,
    pe::{
        self, ImageDebugDirectory, ImageFileHeader, ImageNtHeaders64, ImageOptionalHeader64,
        ImageRuntimeFunctionEntry, ImageSectionHeader,
    },
    pod::{self, Pod},
    read::pe::{Import, PeFile64},
};

/// A PE32+ image.
#[derive(Debug)]
pub(super) struct Pe<'d> {
    bytes: &'d [u8],
    file: PeFile64<'d>,
    pub(super) sections: Vec<Section<'d>>,
    /// What the unwind information covers.
    pub(super) functions: &'d [ImageRuntimeFunctionEntry],
    pub(super) debug: &'d [ImageDebugDirectory],
    /// What it imports, sorted: `ntoskrnl.exe!KeInsertQueueDpc`, or `hal.dll!#7` if it is by number.
    pub(super) imports: Vec<String>,
}

/// One of its sections.
#[derive(Debug)]
pub(super) struct Section<'d> {
    pub(super) name: String,
    pub(super) characteristics: u32,
    /// Where it is in memory, from the start of the image.
    pub(super) memory: Range<u32>,
    /// Where it is in the file.
    file: Range<u32>,
    /// What the file has of it.
    pub(super) data: &'d [u8],
}

impl<'d> Pe<'d> {
    /// Reads headers and tables.
    ///
    /// # Errors
    ///
    /// This is no PE32+ image, or not all of one.
    pub(super) fn parse(bytes: &'d [u8]) -> Result<Self> {
        let file = PeFile64::parse(bytes).context("this is no PE32+ image")?;
        let sections = file.section_table().iter().map(|header| Section::parse(header, bytes));
        let sections = sections.collect::<Result<_>>()?;
        Ok(Self {
            bytes,
            sections,
            functions: table(&file, pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION)?,
            debug: table(&file, pe::IMAGE_DIRECTORY_ENTRY_DEBUG)?,
            imports: imports(&file).context("in the table of imports")?,
            file,
        })
    }

    pub(super) fn file_header(&self) -> &'d ImageFileHeader {
        &self.file.nt_headers().file_header
    }

    pub(super) fn optional_header(&self) -> &'d ImageOptionalHeader64 {
        &self.file.nt_headers().optional_header
    }

    /// The section that an address in the image is in.
    pub(super) fn section_at(&self, address: u32) -> Option<&Section<'d>> {
        self.sections.iter().find(|section| section.memory.contains(&address))
    }

    /// Address and size of a data directory, if the image has it.
    pub(super) fn directory(&self, index: usize) -> Option<(u32, u32)> {
        let (address, size) = self.file.data_directory(index)?.address_range();
        (address != 0 || size != 0).then_some((address, size))
    }

    /// The bytes at an address in the image, if the file has them.
    pub(super) fn at(&self, address: u32, size: u32) -> Option<&'d [u8]> {
        let section = self.section_at(address)?;
        let begin = usize::try_from(address - section.memory.start).ok()?;
        section.data.get(begin..begin.checked_add(usize::try_from(size).ok()?)?)
    }

    /// The checksum that the header should have.
    pub(super) fn checksum(&self) -> u32 {
        let headers = usize::try_from(self.file.dos_header().nt_headers_offset()).unwrap_or(usize::MAX);
        let header = headers + offset_of!(ImageNtHeaders64, optional_header);
        checksum(self.bytes, header + offset_of!(ImageOptionalHeader64, check_sum))
    }

    /// What part of the image is at an offset in its file.
    pub(super) fn part_at(&self, offset: usize) -> &str {
        let holds =
            |section: &&Section<'_>| u32::try_from(offset).is_ok_and(|offset| section.file.contains(&offset));
        self.sections.iter().find(holds).map_or("the headers", |section| &section.name)
    }
}

impl<'d> Section<'d> {
    fn parse(header: &ImageSectionHeader, bytes: &'d [u8]) -> Result<Self> {
        let name = String::from_utf8_lossy(header.raw_name()).into_owned();
        let range = |start: u32, size: u32| start.checked_add(size).map(|end| start..end);
        let memory = range(header.virtual_address.get(LE), header.virtual_size.get(LE));
        let file = range(header.pointer_to_raw_data.get(LE), header.size_of_raw_data.get(LE));
        let whole = |memory, file| {
            let data = header.pe_data(bytes).ok()?;
            Some(Self {
                name: name.clone(),
                characteristics: header.characteristics.get(LE),
                memory,
                file,
                data,
            })
        };
        let section = memory.zip(file).and_then(|(memory, file)| whole(memory, file));
        section.ok_or_else(|| anyhow!("the section {name} reaches beyond the file"))
    }

    /// Whether it has one of these characteristics.
    pub(super) fn is(&self, characteristic: u32) -> bool {
        self.characteristics & characteristic != 0
    }
}

/// The entries of a data directory; none, if the image does not have it.
fn table<'d, T: Pod>(file: &PeFile64<'d>, index: usize) -> Result<&'d [T]> {
    let directory = file.data_directory(index).filter(|directory| directory.address_range() != (0, 0));
    let Some(directory) = directory else {
        return Ok(&[]);
    };
    let data = directory.data(file.data(), &file.section_table());
    let (address, size) = directory.address_range();
    data.ok()
        .and_then(|data| pod::slice_from_all_bytes(data).ok())
        .with_context(|| format!("data directory {index} is not a table of {size:#x} bytes at {address:#x}"))
}

fn imports(file: &PeFile64<'_>) -> Result<Vec<String>> {
    let mut imports = Vec::new();
    let Some(table) = file.import_table()? else {
        return Ok(imports);
    };
    let mut modules = table.descriptors()?;
    while let Some(module) = modules.next()? {
        let name = String::from_utf8_lossy(table.name(module.name.get(LE))?);
        let mut thunks = table.thunks(module.original_first_thunk.get(LE))?;
        while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
            imports.push(match table.import::<ImageNtHeaders64>(thunk)? {
                Import::Ordinal(number) => format!("{name}!#{number}"),
                Import::Name(_, symbol) => format!("{name}!{}", String::from_utf8_lossy(symbol)),
            });
        }
    }
    imports.sort();
    Ok(imports)
}

/// The checksum of a file that has one at `field`: its other 16-bit words added up, with the carry added back,
/// and its length.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let mut sum = 0_u32;
    for (offset, word) in (0..).step_by(2).zip(bytes.chunks(2)) {
        if offset != field && offset != field + 2 {
            let high = word.get(1).copied().unwrap_or_default();
            sum += u32::from(u16::from_le_bytes([word[0], high]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    sum.wrapping_add(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_adds_words_and_carries() {
        assert_eq!(checksum(&[0xff, 0xff, 0x02, 0x00], 4), 0x2 + 4);
        assert_eq!(checksum(&[0x34, 0x12, 9, 9, 9, 9, 0x01], 2), 0x1235 + 7);
    }
}
