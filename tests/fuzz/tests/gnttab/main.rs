//! What backends do with what they are granted: the corpus, and inputs by chance.
#![forbid(unsafe_code)]

mod corpus;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use corpus::corpus;
use xen_fuzz::{
    gnttab,
    gnttab::{Action, encode},
    mutated, seeded,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/gnttab")
}

/// The committed inputs say what they are named for, so that one can be changed in words, and come as far as they
/// should: `XEN_FUZZ_BLESS=1` writes them.
#[test]
fn the_corpus_is_what_it_says() {
    for (name, met, actions) in corpus() {
        let input = encode(0, &actions);
        if env::var_os("XEN_FUZZ_BLESS").is_some() {
            fs::write(folder().join(name), &input).expect("the corpus can be written");
        }
        assert_eq!(fs::read(folder().join(name)).ok(), Some(input.clone()), "{name}");
        assert!(gnttab(&input).contains(met), "{name} does not come as far as `{met}`");
    }
}

/// Whatever is in the corpus, be it found by a fuzzer, does no harm, and does the same again.
#[test]
fn the_corpus_does_no_harm() {
    for file in fs::read_dir(folder()).expect("the corpus is there").flatten() {
        let input = fs::read(file.path()).expect("it can be read");
        assert_eq!(gnttab(&input), gnttab(&input), "{}", file.path().display());
    }
}

/// Chance finds what nobody has thought of. It goes far: on the way all is met that can be met here.
#[test]
fn inputs_by_chance() {
    let corpus: Vec<_> = corpus().iter().map(|(.., actions)| encode(0, actions)).collect();
    let mut met = BTreeSet::new();
    for seed in 0..50_000 {
        met.append(&mut gnttab(&seeded(seed, 32 * Action::SIZE)));
        met.append(&mut gnttab(&mutated(seed, &corpus)));
    }
    let expected = [
        "Quarantined",
        "Held",
        "Kept",
        "InUse",
        "Full",
        "Table",
        "TooHigh",
        "NoRoom",
        "Resumed",
        "Cancelled",
        "StillGranted",
        "Ended",
        "Returned",
        "NoMemory",
    ];
    let missed: Vec<_> = expected.iter().filter(|name| !met.contains(**name)).collect();
    assert!(missed.is_empty(), "never met: {missed:?}; met: {met:?}");
}
