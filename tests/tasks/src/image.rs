//! The file of an image: where the texts are that a table refers to.
//!
//! References are counted from the image's anchor. What is there are structures of Rust's, which hold pointers: in a PE
//! file, they are for the base that the image prefers; in an ELF file, relocations have them.

use std::{collections::BTreeMap, error::Error, fmt, ops::Range, str};

use kexec::task_table::{
    BuildId, Place,
    read::{ANCHOR_MAGIC, Image},
};
use object::{Object, ObjectSection, RelocationFlags, SectionKind, elf};

/// No name, path or label is so long: a text that is longer is damage.
const LONGEST: u32 = 4096;

/// `core::panic::Location`, as this compiler has it: the file's name (pointer and length), line, column.
const LOCATION: usize = 24;

/// A PE or ELF file that has an anchor.
#[derive(Debug)]
pub struct ImageFile {
    bytes: Vec<u8>,
    /// Where the parts of the file are when they are loaded.
    parts: Vec<Part>,
    /// Pointers that the loader writes, by where they are.
    pointers: BTreeMap<u64, u64>,
    anchor: u64,
    builds: Vec<BuildId>,
}

#[derive(Debug)]
struct Part {
    address: u64,
    file: Range<usize>,
    writable: bool,
}

impl ImageFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let file = object::File::parse(&*bytes)?;
        if !(file.is_64() && file.is_little_endian()) {
            return Err(ImageError::Malformed("it is not for a 64-bit, little-endian CPU".to_owned()));
        }
        let parts = file
            .sections()
            .filter_map(|section| Part::of(section.kind(), section.address(), section.file_range()?))
            .collect();
        let pointers = file.dynamic_relocations().into_iter().flatten();
        let pointers = pointers.filter(|(_, relocation)| is_relative(relocation.flags()));
        let pointers = pointers.map(|(at, relocation)| (at, relocation.addend().cast_unsigned())).collect();
        let codeview = file.pdb_info().ok().flatten().map(|codeview| BuildId::new(codeview.guid()));
        let builds = codeview.into_iter().chain([BuildId::of_file(&bytes)]).collect();
        let mut image = Self { parts, pointers, anchor: 0, builds, bytes };
        image.anchor = image.find_anchor()?;
        image.check_layout()?;
        Ok(image)
    }

    /// Whether it is this build.
    #[must_use]
    pub fn is(&self, build: BuildId) -> bool {
        self.builds.contains(&build)
    }

    /// What the build is called that it is.
    #[must_use]
    pub fn build(&self) -> BuildId {
        self.builds.first().copied().unwrap_or_default()
    }

    fn find_anchor(&self) -> Result<u64, ImageError> {
        // It is followed by the build id, which is not in the file.
        let begin = [&ANCHOR_MAGIC[..], &[0; 16]].concat();
        let found = self.parts.iter().filter(|part| part.writable).flat_map(|part| {
            let bytes = self.bytes.get(part.file.clone()).unwrap_or_default();
            let addresses = (0..).map(|offset: u64| part.address.wrapping_add(offset));
            let windows = addresses.zip(bytes.windows(begin.len()));
            windows.filter(|(address, bytes)| address.is_multiple_of(16) && *bytes == begin)
        });
        let found = found.map(|(address, _)| address);
        match found.collect::<Vec<_>>()[..] {
            [anchor] => Ok(anchor),
            [] => Err(ImageError::NoAnchor),
            [..] => Err(ImageError::Anchors),
        }
    }

    /// Reads what the anchor refers to, and sees whether it is what it must be.
    fn check_layout(&self) -> Result<(), ImageError> {
        let after_build = self.anchor.wrapping_add(32);
        let place = self.pointer(after_build).and_then(|at| self.place_at(at));
        let kind = self.pointer(after_build.wrapping_add(8)).and_then(|at| self.string_at(at));
        let is_anchors = |place: Place<'_>| place.file.ends_with("anchor.rs") && place.line != 0;
        if place.is_some_and(is_anchors) && kind.is_some() { Ok(()) } else { Err(ImageError::Layout) }
    }

    /// So many bytes of what is loaded there.
    fn at(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.parts.iter().find_map(|part| {
            let from = usize::try_from(address.checked_sub(part.address)?).ok()?;
            self.bytes.get(part.file.clone())?.get(from..from.checked_add(length)?)
        })
    }

    fn number<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        self.at(address, N)?.try_into().ok()
    }

    fn pointer(&self, address: u64) -> Option<u64> {
        let relocated = self.pointers.get(&address).copied();
        relocated.or_else(|| self.number(address).map(u64::from_le_bytes))
    }

    fn text_at(&self, address: u64, length: u32) -> Option<&str> {
        if length > LONGEST {
            return None;
        }
        str::from_utf8(self.at(address, length as usize)?).ok()
    }

    /// What a `&str` refers to, which is there.
    fn string_at(&self, address: u64) -> Option<&str> {
        let length = u64::from_le_bytes(self.number(address.checked_add(8)?)?);
        self.text_at(self.pointer(address)?, u32::try_from(length).ok()?)
    }

    fn place_at(&self, address: u64) -> Option<Place<'_>> {
        let numbers = self.at(address, LOCATION)?.as_chunks::<4>().0;
        let [.., line, column] = *numbers else { return None };
        let [line, column] = [line, column].map(u32::from_le_bytes);
        Some(Place { file: self.string_at(address)?, line, column })
    }

    fn beside_anchor(&self, distance: i32) -> u64 {
        self.anchor.wrapping_add_signed(distance.into())
    }
}

impl Image for ImageFile {
    fn text(&self, distance: i32, length: u32) -> Option<&str> {
        self.text_at(self.beside_anchor(distance), length)
    }

    fn place(&self, distance: i32) -> Option<Place<'_>> {
        self.place_at(self.beside_anchor(distance))
    }

    fn kind(&self, distance: i32) -> Option<&str> {
        self.string_at(self.beside_anchor(distance))
    }
}

impl Part {
    /// A section with this address, and with this place (offset and size) in the file, if it is one that is loaded.
    fn of(kind: SectionKind, address: u64, (offset, size): (u64, u64)) -> Option<Self> {
        let writable = match kind {
            SectionKind::Data => true,
            SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => false,
            _ => return None,
        };
        let file = usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(size)?).ok()?;
        Some(Self { address, file, writable })
    }
}

/// Whether a relocation is "the image's base and the addend".
fn is_relative(flags: RelocationFlags) -> bool {
    matches!(flags, RelocationFlags::Elf { r_type: elf::R_X86_64_RELATIVE | elf::R_AARCH64_RELATIVE })
}

/// Why a file cannot be the image of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is no PE or ELF file.
    Malformed(String),
    /// It has no anchor.
    NoAnchor,
    /// It has several.
    Anchors,
    /// The compiler lays something out in another way than this reader knows.
    Layout,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "it is no image that can be read: {what}"),
            Self::NoAnchor => f.write_str("no kexec with a task table is linked into it"),
            Self::Anchors => {
                f.write_str("more than one kexec is linked into it, and a table is of one of them")
            }
            Self::Layout => f.write_str(
                "its compiler lays out `Location` or `&str` in a way that this reader does not know; \
                 read it with the tools of its own sources",
            ),
        }
    }
}

impl Error for ImageError {}

impl From<object::Error> for ImageError {
    fn from(error: object::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}
