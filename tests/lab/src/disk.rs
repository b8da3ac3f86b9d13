//! The disk from which a BIOS begins the guest: `guest/src/sector.rs`.
//!
//! ```text
//! sector 0      the boot sector, a section of the guest's file; and its table, which is filled in here
//! sector 1 ..   the guest's segments as they are in memory, in pieces
//! .. 1 MiB      nothing
//! ```
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};

use crate::elf::{self, Program};

const SECTOR: usize = 512;
/// Bytes that the boot sector has read at a time: the disk's controller reaches no further than to a multiple of that.
const PIECE: usize = 64 * 1024;
/// Where its table is: words of four bytes, up to the two that say that it is one.
const TABLE: usize = 486;
const WORDS: usize = 6;
const SIGNATURE: [u8; 2] = [0x55, 0xAA];

/// A BIOS has what is below, and Xen what is far above.
const LOWEST: u32 = 1 << 20;
/// No guest of the lab's is as large.
const LARGEST: usize = 32 << 20;
/// No BIOS is to stumble over a disk that is too small for a partition.
const SMALLEST_DISK: usize = 1 << 20;

/// A disk for a guest, by its file.
pub(crate) fn of(guest: &[u8]) -> Result<Vec<u8>> {
    let program = elf::program(guest, LARGEST).context("the guest's file")?;
    let sector = elf::section(guest, ".boot_sector").context("the guest's file")?;
    disk(sector, &program)
}

fn disk(sector: &[u8], program: &Program) -> Result<Vec<u8>> {
    let Program { entry, address, bytes, zeros } = program;
    ensure!(*address >= LOWEST, "the guest begins at {address:#x}, where the BIOS is");
    ensure!(
        usize::try_from(*address)?.is_multiple_of(PIECE),
        "the guest begins at {address:#x}, which is no multiple of {PIECE:#x}"
    );
    ensure!(!bytes.is_empty(), "the guest has nothing that could be loaded");
    let is_blank =
        sector.get(TABLE..TABLE + WORDS * 4).is_some_and(|table| table.iter().all(|byte| *byte == 0));
    ensure!(
        is_blank && sector.len() == SECTOR && sector.ends_with(&SIGNATURE),
        "the guest's boot sector is none, or has no table at {TABLE}"
    );
    let pieces = bytes.len().div_ceil(PIECE);
    // In whole words: what is one byte too many is in the page of the last.
    let words = zeros.div_ceil(4);
    let end = u32::try_from(bytes.len()).ok().and_then(|length| address.checked_add(length));
    let end = end.context("the guest is too long")?;
    let table: [u32; WORDS] = [pieces.try_into()?, 1, *address, end, words.try_into()?, *entry];

    let mut disk = sector.to_vec();
    disk.splice(TABLE..TABLE + WORDS * 4, table.into_iter().flat_map(u32::to_le_bytes));
    disk.extend(bytes);
    disk.resize((SECTOR + pieces * PIECE).max(SMALLEST_DISK).next_multiple_of(SECTOR), 0);
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(length: usize) -> Program {
        let bytes = (1..=251).cycle().take(length).collect();
        Program { entry: 0x20_0040, address: 0x20_0000, bytes, zeros: 9 }
    }

    fn sector() -> Vec<u8> {
        let mut sector = vec![0xCC; TABLE];
        sector.extend([0; WORDS * 4]);
        sector.extend(SIGNATURE);
        sector
    }

    /// The sector's table is all that it knows: pieces that cover the guest and lie on the disk, and where they go.
    #[test]
    fn the_table_says_what_is_where() {
        for (length, pieces) in [(1, 1), (PIECE, 1), (PIECE + 1, 2), (40 * PIECE + 1, 41)] {
            let disk = disk(&sector(), &program(length)).expect("a guest and a sector");
            let word = |index: usize| {
                let at = TABLE + index * 4;
                u32::from_le_bytes(disk[at..at + 4].try_into().expect("four bytes"))
            };
            let end = 0x20_0000 + u32::try_from(length).expect("it is short");
            assert_eq!([0, 1, 2, 3, 4, 5].map(word), [pieces, 1, 0x20_0000, end, 3, 0x20_0040]);
            assert_eq!(disk[..TABLE], [0xCC; TABLE]);
            assert_eq!(disk[TABLE + WORDS * 4..SECTOR], SIGNATURE);
            assert_eq!(disk[SECTOR..SECTOR + length], program(length).bytes);
            assert!(disk[SECTOR + length..].iter().all(|byte| *byte == 0));
            assert!(disk.len() >= SECTOR + pieces as usize * PIECE, "the last piece is whole");
            assert!(disk.len() >= SMALLEST_DISK && disk.len().is_multiple_of(SECTOR));
        }
    }

    /// What a BIOS would stumble over, somebody hears of before.
    #[test]
    fn what_cannot_begin_is_refused() {
        let refused = |sector: &[u8], program: &Program| {
            disk(sector, program).expect_err("there is something wrong").to_string()
        };
        let low = Program { address: 0x8000, ..program(1) };
        assert!(refused(&sector(), &low).contains("0x8000, where the BIOS is"));
        assert!(refused(&sector(), &program(0)).contains("nothing that could be loaded"));
        let askew = Program { address: 0x20_8000, ..program(1) };
        assert!(refused(&sector(), &askew).contains("no multiple of 0x10000"));
        let high = Program { address: 0xFFFF_0000, ..program(PIECE) };
        assert!(refused(&sector(), &high).contains("too long"));
        let (mut unsigned, mut filled) = (sector(), sector());
        unsigned[511] = 0;
        filled[TABLE + WORDS * 4 - 1] = 1;
        for wrong in [&sector()[..510], &unsigned, &filled, &[]] {
            assert!(refused(wrong, &program(1)).contains("boot sector is none"));
        }
    }
}
