//! Which build of an image a table is of.
#![forbid(unsafe_code)]

use core::fmt;

use super::read::long;

/// The name of one build of an image: what the linker wrote into the file, or a hash of the file.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct BuildId([u8; 16]);

impl BuildId {
    /// Nobody has said it.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// That of a PE image is the GUID of its debug directory, as it lies in the file.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// That of a program's file: of an ELF file with a GNU build id its first 16 bytes, else a hash of all of the file.
    #[must_use]
    pub fn of_file(file: &[u8]) -> Self {
        Self(gnu_build_id(file).unwrap_or_else(|| hash(file)))
    }

    /// That of the program that runs.
    ///
    /// # Errors
    ///
    /// Its file cannot be read.
    #[cfg(feature = "std")]
    pub fn of_this_program() -> std::io::Result<Self> {
        // On Linux the file is there even if it was replaced meanwhile, as a build does.
        let path = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        std::fs::read(path).map(|file| Self::of_file(&file))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    pub(super) fn words(self) -> [u64; 2] {
        [long(&self.0, 0), long(&self.0, 8)]
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

/// FNV-1a of 128 bits: it need only tell one build from another.
fn hash(file: &[u8]) -> [u8; 16] {
    const BASIS: u128 = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let mix = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    file.iter().fold(BASIS, mix).to_le_bytes()
}

/// What the note says that linkers write for `--build-id`, if this is a 64-bit ELF file that has one (System V ABI, "Program
/// Header", "Note Section").
fn gnu_build_id(file: &[u8]) -> Option<[u8; 16]> {
    const IDENTIFICATION: &[u8] = b"\x7FELF\x02\x01";
    const PT_NOTE: usize = 4;
    file.strip_prefix(IDENTIFICATION)?;
    let (table, entry, entries) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    (0..entries).find_map(|index| {
        let header = file.get(index.checked_mul(entry)?.checked_add(table)?..)?;
        if number(header, 0, 4)? != PT_NOTE {
            return None;
        }
        let (offset, length) = (number(header, 8, 8)?, number(header, 32, 8)?);
        find_in_notes(file.get(offset..)?.get(..length)?)
    })
}

fn find_in_notes(mut notes: &[u8]) -> Option<[u8; 16]> {
    const NT_GNU_BUILD_ID: usize = 3;
    loop {
        let (name, description) = (number(notes, 0, 4)?, number(notes, 4, 4)?);
        let kind = number(notes, 8, 4)?;
        let rest = notes.get(12..)?;
        let after_name = rest.get(name.checked_next_multiple_of(4)?..)?;
        if kind == NT_GNU_BUILD_ID && rest.get(..name)? == b"GNU\0" {
            return after_name.get(..description)?.first_chunk().copied();
        }
        notes = after_name.get(description.checked_next_multiple_of(4)?..)?;
    }
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let field = bytes.get(at..)?.get(..size)?;
    let number = field.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number).ok()
}
