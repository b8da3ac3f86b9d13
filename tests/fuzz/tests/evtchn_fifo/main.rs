//! What Xen could put into the queues of event channels: the corpus, and inputs by chance.
#![forbid(unsafe_code)]

mod corpus;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use corpus::corpus;
use xen_fuzz::{
    evtchn_fifo,
    evtchn_fifo::{Action, encode},
    mutated, seeded,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/evtchn_fifo")
}

/// The committed inputs say what they are named for, so that one can be changed in words: `XEN_FUZZ_BLESS=1` writes
/// them.
#[test]
fn the_corpus_is_what_it_says() {
    for (name, _, actions) in corpus() {
        let input = encode(&actions);
        if env::var_os("XEN_FUZZ_BLESS").is_some() {
            fs::write(folder().join(name), &input).expect("the corpus can be written");
        }
        assert_eq!(fs::read(folder().join(name)).ok(), Some(input), "{name}");
    }
}

/// Whatever is in the corpus, be it found by a fuzzer, does no harm, and does the same again; what was thought of meets
/// what it is meant to.
#[test]
fn the_corpus_does_no_harm() {
    for (name, meant, actions) in corpus() {
        let met = evtchn_fifo(&encode(&actions));
        assert!(meant.iter().all(|meant| met.contains(meant)), "{name}: {met:?}");
    }
    for file in fs::read_dir(folder()).expect("the corpus is there").flatten() {
        let input = fs::read(file.path()).expect("it can be read");
        assert_eq!(evtchn_fifo(&input), evtchn_fifo(&input), "{}", file.path().display());
    }
}

/// Chance finds what nobody has thought of. On the way, all is met that can be met.
#[test]
fn inputs_by_chance() {
    let corpus: Vec<_> = corpus().iter().map(|(.., actions)| encode(actions)).collect();
    let mut met = BTreeSet::new();
    for seed in 0..50_000 {
        met.append(&mut evtchn_fifo(&seeded(seed, 32 * Action::SIZE)));
        met.append(&mut evtchn_fifo(&mutated(seed, &corpus)));
    }
    let all = ["armed", "beyond", "more", "not linked", "restless", "stray", "taken", "told"];
    assert_eq!(met, BTreeSet::from(all));
}
