//! What guests do to Xen: the corpus, and inputs by chance.
#![forbid(unsafe_code)]

mod corpus;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use corpus::corpus;
use xen_fuzz::{
    hypercall_args,
    hypercall_args::{Action, encode},
    mutated, seeded,
};
use xen_sim::Mistake;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/hypercall_args")
}

/// Each committed input, and its name.
fn committed() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder()).expect("the corpus is there").flatten();
    let read = |path: PathBuf| fs::read(path).expect("it can be read");
    files.map(|file| (file.file_name().to_string_lossy().into_owned(), read(file.path()))).collect()
}

/// The committed inputs say what they are named for, so that one can be changed in words: `XEN_FUZZ_BLESS=1` writes
/// them.
#[test]
fn the_corpus_is_what_it_says() {
    for (name, actions) in corpus() {
        let input = encode(0, &actions);
        if env::var_os("XEN_FUZZ_BLESS").is_some() {
            fs::write(folder().join(name), &input).expect("the corpus can be written");
        }
        assert_eq!(fs::read(folder().join(name)).ok(), Some(input), "{name}");
    }
}

/// Whatever is in the corpus, be it found by a fuzzer, does no harm, and does the same again.
#[test]
fn the_corpus_does_no_harm() {
    for (name, input) in committed() {
        assert_eq!(hypercall_args(&input), hypercall_args(&input), "{name}");
    }
}

/// Chance finds what nobody has thought of. It goes far: on the way each mistake is made that can be made here.
#[test]
fn inputs_by_chance() {
    let corpus: Vec<_> = corpus().iter().map(|(_, actions)| encode(0, actions)).collect();
    let mut met = BTreeSet::new();
    for seed in 0..50_000 {
        met.append(&mut hypercall_args(&seeded(seed, 32 * Action::SIZE)));
        met.append(&mut hypercall_args(&mutated(seed, &corpus)));
    }
    // Nobody runs the guests, so that they have neither tasks nor timers nor poll boundaries; and they do not speak
    // to the store.
    let elsewhere = [
        Mistake::TaskLeft,
        Mistake::TimerLeft,
        Mistake::NothingTested,
        Mistake::WatchLeft,
        Mistake::TransactionLeft,
    ];
    let made = Mistake::ALL.iter().filter(|mistake| !elsewhere.contains(mistake));
    let missed: Vec<_> =
        made.map(|mistake| format!("{mistake:?}")).filter(|name| !met.contains(name)).collect();
    assert!(missed.is_empty(), "never made: {missed:?}; met: {met:?}");
}
