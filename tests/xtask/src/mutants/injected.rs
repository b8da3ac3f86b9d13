//! Added to a copy of the library by `cargo xtask mutants`: decides which mutant a process runs.
//!
//! All mutants are in one build, and the environment picks one per process, so that hundreds of runs
//! cost one compilation.

extern crate std;

use core::sync::atomic::Ordering;
use std::{
    collections::BTreeSet,
    env::var,
    fs::OpenOptions,
    io::Write,
    string::{String, ToString},
    sync::{Mutex, OnceLock, PoisonError},
};

/// `NUMBER:ORDERING` for a weakened ordering, or the name of a structural mutant.
static MUTANT: OnceLock<Option<String>> = OnceLock::new();
/// The weakened ordering, taken apart.
static WEAKENED: OnceLock<Option<(usize, Ordering)>> = OnceLock::new();

/// The ordering at one site of the source.
pub(crate) fn order(site: usize, original: Ordering) -> Ordering {
    reached(|| site.to_string());
    match WEAKENED.get_or_init(weakened) {
        Some((number, weaker)) if *number == site => *weaker,
        _ => original,
    }
}

/// Whether the structural mutant of this name is on.
pub(crate) fn is(name: &str) -> bool {
    reached(|| name.to_string());
    mutant() == Some(name)
}

fn mutant() -> Option<&'static str> {
    MUTANT.get_or_init(|| var("KEXEC_MUTANT").ok()).as_deref()
}

fn weakened() -> Option<(usize, Ordering)> {
    let (number, ordering) = mutant()?.split_once(':')?;
    let ordering = match ordering {
        "Relaxed" => Ordering::Relaxed,
        "Acquire" => Ordering::Acquire,
        "Release" => Ordering::Release,
        "AcqRel" => Ordering::AcqRel,
        _ => panic!("KEXEC_MUTANT asks for `{ordering}`"),
    };
    Some((number.parse().expect("KEXEC_MUTANT begins with a number"), ordering))
}

/// Where to write the sites that are reached, one per line, each once.
static REACHED: OnceLock<Option<String>> = OnceLock::new();
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn reached(site: impl FnOnce() -> String) {
    let Some(path) = REACHED.get_or_init(|| var("KEXEC_MUTANT_REACHED").ok()) else {
        return;
    };
    let site = site();
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.insert(site.clone()) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the list can be opened");
        std::writeln!(file, "{site}").expect("the list can be written");
    }
}
