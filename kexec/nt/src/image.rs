//! The image that this is linked into, as it lies in memory.
//!
//! From "PE Format" (Microsoft Learn): the optional header's sixth data directory leads to the debug directory, whose
//! `CodeView` entry begins with `RSDS` and a GUID that the linker made of the image's contents. The PDB has the same.
#![cfg(windows)]
#![expect(unsafe_code, reason = "the linker says where the image begins, and its headers say the rest")]

use kexec::task_table::{BuildId, set_build_id};

/// Says in the task tables of this image which build it is. Callable at any level: headers and debug directory are
/// nonpaged, as all that is in no section whose name begins with `PAGE`.
pub(crate) fn identify() {
    if let Some(guid) = codeview_guid() {
        set_build_id(BuildId::new(guid));
    }
}

unsafe extern "C" {
    /// The image's first word: the linker defines it.
    static __ImageBase: u32;
}

/// Where the offset of the PE signature is (`IMAGE_DOS_HEADER::e_lfanew`).
const SIGNATURE: u32 = 0x3C;
/// From the signature to the number of data directories, and to the first of them. They have eight bytes each.
const DIRECTORIES: u32 = 24 + 108;
const FIRST_DIRECTORY: u32 = 24 + 112;
/// `IMAGE_DIRECTORY_ENTRY_DEBUG`
const DEBUG: u32 = 6;
/// `IMAGE_DEBUG_DIRECTORY`: its size, and where the type, the size and the address of the data are.
const ENTRY: u32 = 28;
const TYPE: u32 = 12;
const SIZE: u32 = 16;
const ADDRESS: u32 = 20;
const IMAGE_DEBUG_TYPE_CODEVIEW: u32 = 2;

/// None if the linker wrote none.
fn codeview_guid() -> Option<[u8; 16]> {
    // The linker's numbers, which do not overflow.
    let at = u32::wrapping_add;
    let header = word(SIGNATURE);
    if word(at(header, DIRECTORIES)) <= DEBUG {
        return None;
    }
    let place = at(header, FIRST_DIRECTORY + DEBUG * 8);
    let (directory, size) = (word(place), word(at(place, 4)));
    let mut entries = (0..size / ENTRY).map(|index| at(directory, index.wrapping_mul(ENTRY)));
    let entry = entries.find(|entry| word(at(*entry, TYPE)) == IMAGE_DEBUG_TYPE_CODEVIEW)?;
    let data = word(at(entry, ADDRESS));
    if word(at(entry, SIZE)) < 20 || word(data) != u32::from_le_bytes(*b"RSDS") {
        return None;
    }
    let mut guid = [0; 16];
    for (part, offset) in guid.as_chunks_mut::<4>().0.iter_mut().zip((4..).step_by(4)) {
        *part = word(at(data, offset)).to_le_bytes();
    }
    Some(guid)
}

/// The little-endian word at this distance from the image's beginning, which the image's own headers have told.
fn word(rva: u32) -> u32 {
    let base = &raw const __ImageBase;
    // SAFETY: the linker's headers lead to nothing outside of the image.
    let place = unsafe { base.byte_add(rva as usize) };
    // SAFETY: as above; the sections with the headers and the debug directory stay in memory while the image does.
    unsafe { place.read_unaligned() }
}
