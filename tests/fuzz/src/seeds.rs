//! Inputs from a number.
#![forbid(unsafe_code)]

/// Bytes that depend on the seed alone, at most so many.
#[must_use]
pub fn seeded(seed: u64, most: usize) -> Vec<u8> {
    let mut chance = Chance(seed);
    let length = chance.below(most + 1);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| chance.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// One of a corpus's inputs with some bytes changed, or two, one after the other.
///
/// # Panics
///
/// The corpus is empty.
#[must_use]
pub fn mutated(seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut chance = Chance(!seed);
    let mut input = corpus[chance.below(corpus.len())].clone();
    if chance.below(2) == 0 {
        // Without the options, which are the first byte.
        input.extend(corpus[chance.below(corpus.len())].iter().skip(1));
    }
    for _ in 0..chance.below(5) {
        if !input.is_empty() {
            let at = chance.below(input.len());
            match chance.below(3) {
                0 => input[at] = chance.byte(),
                1 => input.insert(at, chance.byte()),
                _ => _ = input.remove(at),
            }
        }
    }
    input
}

/// `SplitMix64`: every seed gives another sequence, those of neighbours too.
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
