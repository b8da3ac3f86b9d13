//! What guests do to xenstored: the corpus, and inputs by chance.
#![forbid(unsafe_code)]

mod corpus;

use std::{collections::BTreeSet, fs, path::PathBuf};

use xen_fuzz::{mutated, script, seeded, xs_wire_server};

/// Set it to write the corpus that `corpus.rs` describes.
const BLESS: &str = "XEN_FUZZ_BLESS";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/xs_wire_server")
}

/// Every file of the corpus, those that a fuzzer has found too.
fn files() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder()).expect("the corpus is there");
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.expect("it can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("it can be read"))
        })
        .collect();
    files.sort();
    files
}

/// The seeds are bytes, but they are written in words: each is what its description says, and breaks the rule that it
/// is named after.
#[test]
fn seeds_are_what_they_are_called() {
    let files = files();
    for seed in corpus::seeds() {
        let input = script(seed.options, &seed.actions);
        if std::env::var_os(BLESS).is_some() {
            fs::write(folder().join(seed.name), &input).expect("the corpus can be written");
        } else {
            let file = files.iter().find(|(name, _)| name == seed.name).map(|(_, input)| input);
            assert_eq!(file, Some(&input), "{} is another: set {BLESS} to write it", seed.name);
        }
        let broken = xs_wire_server(&input);
        if seed.name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_') {
            assert!(broken.contains(seed.name), "{} has broken {broken:?}", seed.name);
        } else {
            assert_eq!(broken, BTreeSet::new(), "{} breaks nothing", seed.name);
        }
    }
}

/// What was found once is not found again.
#[test]
fn the_corpus_holds() {
    for (name, input) in files() {
        println!("{name}: {:?}", xs_wire_server(&input));
    }
}

/// Chance finds what nobody has thought of: half of it from nothing, half from the corpus with a few bytes changed.
#[test]
fn inputs_by_chance() {
    let corpus: Vec<Vec<u8>> = files().into_iter().map(|(_, input)| input).collect();
    let mut broken = BTreeSet::new();
    for seed in 0..50_000 {
        broken.append(&mut xs_wire_server(&seeded(seed, 200)));
        broken.append(&mut xs_wire_server(&mutated(seed, &corpus)));
    }
    // Else it would not have come far.
    for seed in corpus::seeds().into_iter().filter(|seed| seed.name.contains('_')) {
        let is_rule = seed.name.chars().any(|letter| letter.is_ascii_uppercase());
        assert!(!is_rule || broken.contains(seed.name), "{} was not broken by chance", seed.name);
    }
}
