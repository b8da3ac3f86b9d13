//! Bytes that are no table: each is an error in words, or rows that mean nothing; none is a panic.

use kexec::task_table::{
    ScopeHead, Tree,
    read::{Damage, Found, NoImage, find},
};

use crate::forms::{compact, sample};

/// Reads and prints all that can be read. How much was found, and what is wrong with the rest.
fn read(bytes: &[u8]) -> (usize, Vec<(usize, Damage)>) {
    let (mut found, mut damages) = (0, Vec::new());
    for (offset, one) in find(bytes) {
        match one {
            Ok(Found::Table(table)) => {
                let rows = table.rows(&NoImage);
                assert_eq!(rows.clone().count(), table.used() as usize);
                let rows: Vec<_> = rows.collect();
                assert!(!Tree::of(rows.iter().copied()).to_string().is_empty());
                assert!(rows.iter().all(|row| !row.to_string().is_empty()));
                found += 1;
            }
            Ok(Found::Scope(scope)) => {
                // Never open, or something to show.
                assert!(scope.read(&NoImage).is_none_or(|scope| !format!("{scope:?}").is_empty()));
                found += 1;
            }
            Err(damage) => {
                assert!(!damage.to_string().is_empty());
                damages.push((offset, damage));
            }
        }
    }
    (found, damages)
}

/// Offset of the slots in a compact copy, and the size of one.
const SLOTS: usize = 144;
const SLOT: usize = 88;

/// Each byte of a small table, with each other value: a damaged head is found out or harmless; in a slot anything can be.
#[test]
fn every_byte_damaged() {
    let whole = compact(sample());
    assert_eq!(read(&whole), (1, Vec::new()));
    let mut bytes = whole.clone();
    let mut refused = 0_u32;
    for index in 0..whole.len() {
        for flip in if cfg!(miri) { 255..=255 } else { 1..=255 } {
            bytes[index] ^= flip;
            let (found, damages) = read(&bytes);
            assert!(found + damages.len() <= 1, "byte {index}");
            match index {
                0..8 => assert_eq!((found, damages.len()), (0, 0), "without its magic it is not found"),
                8..12 => {
                    assert!(matches!(damages[..], [(0, Damage::Version(_))]), "byte {index}: {damages:?}");
                }
                SLOTS.. => assert_eq!(found, 1, "byte {index}: any words are a row"),
                _ => {}
            }
            refused += u32::from(!damages.is_empty());
            bytes[index] ^= flip;
        }
    }
    assert_eq!(bytes, whole);
    assert!(refused > 20, "{refused} damages were found out");
}

/// Each cut is refused with the bytes that are missing.
#[test]
fn every_cut() {
    let whole = compact(sample());
    for length in 0..whole.len() {
        let (found, damages) = read(&whole[..length]);
        assert_eq!(found, 0, "{length} bytes");
        let needed = if length < SLOTS { SLOTS } else { whole.len() };
        let expected = (length >= 8).then_some((0, Damage::CutShort { needed, given: length }));
        assert_eq!(damages, Vec::from_iter(expected));
    }
    let text = Damage::CutShort { needed: 360, given: 100 }.to_string();
    assert_eq!(text, "it is cut short: it has 360 bytes, and 100 are left; copy all of the memory");
}

/// The bytes of a head at an offset, as another number.
fn with(offset: usize, number: u32) -> Vec<u8> {
    let mut bytes = compact(sample());
    bytes[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// What a refusal says: what is there, and what could be.
#[test]
fn refusals_in_words() {
    for (offset, number, expected) in [
        (8, 2, "it is of version 2, and this reader knows version 1; use the reader that was built with it"),
        (12, 64, "it is damaged: the size of the head is 64, and must be 144"),
        (16, 0x1_0000, "it is damaged: the number of slots is 65536, and must be from 0 to 65535"),
        (16, 2, "it is damaged: the number of used slots is 3, and must be from 0 to 2"),
        (20, 80, "it is damaged: the size of a slot is 80, and must be from 88 to 16777216"),
        (24, 81, "it is damaged: the place of the state in a slot is 81, and must be from 0 to 80"),
        (
            28,
            u32::MAX,
            "it is damaged: the place of the executor in a slot is 4294967295, and must be from 0 to 80",
        ),
        (32, 17, "it is damaged: the place of the record in a slot is 17, and must be from 0 to 16"),
        (36, 48, "it is damaged: the size of a record is 48, and must be 72"),
        (72, 5, "it is damaged: the number of used slots is 5, and must be from 0 to 4"),
        (76, 2, "it is damaged: the lane is 2, and must be from 0 to 1"),
    ] {
        let (found, damages) = read(&with(offset, number));
        let texts: Vec<_> = damages.iter().map(|(_, damage)| damage.to_string()).collect();
        assert_eq!((found, texts), (0, vec![expected.to_owned()]));
    }
}

/// Tables are found wherever they are aligned, beside others and behind a damaged one.
#[test]
fn several_tables_in_one_dump() {
    let table = compact(sample());
    let mut dump = vec![0; 4096];
    dump.extend(&table);
    dump.extend([1; 4]);
    dump.extend(&table);
    dump.extend([1; 4]);
    dump.extend(with(8, 7));
    dump.extend(&table);
    let found: Vec<_> = find(&dump).map(|(offset, found)| (offset, found.err())).collect();
    let size = table.len();
    let expected =
        [(4096, None), (4096 + 2 * size + 8, Some(Damage::Version(7))), (4096 + 3 * size + 8, None)];
    assert_eq!(found, expected, "the second one is not aligned to eight bytes");
}

/// A scope's head is held to the same.
#[test]
fn a_damaged_scope() {
    let head = |version: u32, size: u32| {
        let mut bytes = b"kexecSCP".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.resize(size_of::<ScopeHead>(), 0);
        bytes
    };
    assert_eq!(read(&head(1, 56)), (1, Vec::new()));
    assert_eq!(read(&head(3, 56)), (0, vec![(0, Damage::Version(3))]));
    let (found, damages) = read(&head(1, 57));
    assert_eq!((found, damages.len()), (0, 1));
    assert!(damages[0].1.to_string().contains("the size of a scope's head is 57, and must be 56"));
    let short = Damage::CutShort { needed: 56, given: 40 };
    assert_eq!(read(&head(1, 56)[..40]), (0, vec![(0, short)]));
}

/// Random bytes, alone, behind the head of a table, and in its slots.
#[cfg(not(miri))]
mod random {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn bytes_anywhere(bytes in vec(any::<u8>(), 0..512)) {
            prop_assert_eq!(read(&bytes).0, 0);
        }

        #[test]
        fn bytes_behind_a_magic(bytes in vec(any::<u8>(), 0..512), is_scope in any::<bool>()) {
            let magic = if is_scope { b"kexecSCP" } else { b"kexecTBL" };
            let (found, damages) = read(&[&magic[..], &bytes].concat());
            prop_assert!(found + damages.len() >= 1);
        }

        #[test]
        fn numbers_in_the_head(numbers in vec((0_usize..24, any::<u32>()), 1..4)) {
            let mut bytes = compact(sample());
            for (index, number) in numbers {
                bytes[8 + 4 * index..][..4].copy_from_slice(&(number % 200).to_le_bytes());
            }
            read(&bytes);
        }

        #[test]
        fn bytes_in_the_slots(slots in vec(any::<u8>(), 3 * SLOT)) {
            let mut bytes = compact(sample());
            bytes[SLOTS..].copy_from_slice(&slots);
            prop_assert!(read(&bytes).0 >= 1);
        }
    }
}
