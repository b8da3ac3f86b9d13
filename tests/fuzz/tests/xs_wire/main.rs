//! What xenstored does to a client: the corpus, and inputs by chance.
#![forbid(unsafe_code)]

mod corpus;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use xen_fuzz::{mutated, seeded, xs_wire, xs_wire::script};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/xs_wire")
}

/// Each committed input, and its name.
fn committed() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder()).expect("the corpus is there").flatten();
    let read = |path: PathBuf| fs::read(path).expect("it can be read");
    let files = files.map(|file| (file.file_name().to_string_lossy().into_owned(), read(file.path())));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// The committed inputs say what they are named for, so that one can be changed in words: `XEN_FUZZ_BLESS=1` writes
/// them. Each meets what it is to meet.
#[test]
fn the_corpus_is_what_it_says() {
    for seed in corpus::seeds() {
        let input = script(&seed.actions);
        if env::var_os("XEN_FUZZ_BLESS").is_some() {
            fs::write(folder().join(seed.name), &input).expect("the corpus can be written");
        }
        assert_eq!(fs::read(folder().join(seed.name)).ok().as_ref(), Some(&input), "{}", seed.name);
        let met = xs_wire(&input);
        for what in seed.meets {
            assert!(met.contains(what), "{} has met {met:?}", seed.name);
        }
    }
}

/// Whatever is in the corpus, be it found by a fuzzer, does no harm, and does the same again.
#[test]
fn the_corpus_does_no_harm() {
    for (name, input) in committed() {
        assert_eq!(xs_wire(&input), xs_wire(&input), "{name}");
    }
}

/// Chance finds what nobody has thought of. It goes far: on the way everything is met that the seeds meet.
#[test]
fn inputs_by_chance() {
    let corpus: Vec<Vec<u8>> = committed().into_iter().map(|(_, input)| input).collect();
    let mut met = BTreeSet::new();
    for seed in 0..50_000 {
        met.append(&mut xs_wire(&seeded(seed, 200)));
        met.append(&mut xs_wire(&mutated(seed, &corpus)));
    }
    let expected: BTreeSet<_> = corpus::seeds().into_iter().flat_map(|seed| seed.meets).copied().collect();
    let missed: Vec<_> = expected.difference(&met).collect();
    assert!(missed.is_empty(), "never met: {missed:?}; met: {met:?}");
}
