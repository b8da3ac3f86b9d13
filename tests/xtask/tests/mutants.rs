//! Runs the mutants of a small workspace whose survivors are known.
//!
//! Its library has no atomics: an ordering that is only handed through is seen by a plain test, and the
//! build takes a second.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use xtask::mutants::{Project, Tally, structural::Structural};

const MANIFEST: &str = r#"
[workspace]
resolver = "3"
members = ["kexec", "elsewhere"]
[workspace.package]
edition = "2024"
[workspace.lints.rust]
missing_docs = "deny"
[profile.loom]
inherits = "release"
"#;

const MODELS_MANIFEST: &str = r#"
[package]
name = "kexec-loom"
edition.workspace = true
[lints]
workspace = true
[lib]
name = "kexec"
path = "../../kexec/src/lib.rs"
"#;

const BUILD_SCRIPT: &str = r#"fn main() { println!("cargo::rustc-cfg=loom"); }"#;

const LIBRARY: &str = r"//! A library.
#![no_std]
#![deny(unsafe_code)]
mod inner;
#[cfg(not(loom))]
mod absent;
mod platform;
pub use inner::*;
";

const INNER: &str = r"#![forbid(unsafe_code)]
use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};

pub fn same(ordering: Ordering) -> Ordering { ordering }

pub fn killed() -> Ordering { same(Release) }

pub fn half() -> Ordering {
    same(
        AcqRel,
    )
}

pub fn hangs() { while same(Ordering::Acquire) == Relaxed {} }

pub fn unseen() -> Ordering { same(Acquire) }

pub fn answer() -> u32 { 6 * 7 }

#[cfg(not(loom))]
pub fn never() -> Ordering { same(Release) }
#[cfg(test)]
mod tests {
    #[test]
    fn of_its_own() { assert_eq!(super::killed(), super::Release); }
}
";

const PLATFORM: &str = "use core::sync::atomic::Ordering;\npub fn f() { crate::same(Ordering::Release); }\n";

const MODELS: &str = r"
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

#[test]
fn killer() { assert_eq!(kexec::killed(), Release); }
#[test]
fn half_blind() { assert!(matches!(kexec::half(), AcqRel | Acquire)); }
#[test]
fn hanger() { kexec::hangs(); }
#[test]
fn answerer() { assert_eq!(kexec::answer(), 42); }
";

const ANSWER: Structural =
    Structural { name: "no-answer", file: "kexec/src/inner.rs", original: "6*7", replacement: "54" };

/// The small workspace, written anew.
fn scratch(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    for (name, text) in [
        ("Cargo.toml", MANIFEST),
        ("Cargo.lock", "version = 4\n"),
        ("tests/loom/Cargo.toml", MODELS_MANIFEST),
        ("tests/loom/build.rs", BUILD_SCRIPT),
        ("tests/loom/tests/models.rs", MODELS),
        ("kexec/src/lib.rs", LIBRARY),
        ("kexec/src/inner.rs", INNER),
        ("kexec/src/absent.rs", "pub fn f() { crate::same(core::sync::atomic::Ordering::Release); }\n"),
        ("kexec/src/platform/mod.rs", PLATFORM),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
    root
}

fn run_in(root: &Path, structural: &[Structural], filter: Option<&str>) -> anyhow::Result<Tally> {
    let work = root.join("target");
    Project { root, work: &work, target: &work, structural, patience: Duration::from_millis(500) }.run(filter)
}

#[test]
fn killed_and_survivors_are_told_apart() {
    let root = scratch("mutants");
    let run = |structural, filter| run_in(&root, structural, filter);
    let tally = run(&[ANSWER], None).expect("it builds and passes");
    // Survivors: `half` weakened to what its test still accepts, and `unseen`.
    assert_eq!(tally, Tally { killed: 4, timed_out: 1, survived: 2 });
    assert!(tally.outcome().is_err());

    let tally = run(&[ANSWER], Some("inner.rs:6")).expect("one mutant is there");
    assert_eq!(tally, Tally { killed: 1, timed_out: 0, survived: 0 });
    let tally = run(&[ANSWER], Some("no-answer")).expect("one mutant is there");
    assert_eq!(tally, Tally { killed: 1, timed_out: 0, survived: 0 });
    let error = run(&[], Some("absent.rs")).expect_err("the models do not compile it");
    assert!(error.to_string().contains("`absent.rs`"), "{error:#}");
}

#[test]
fn a_model_that_fails_by_itself_is_an_error() {
    let root = scratch("unsound");
    fs::write(root.join("tests/loom/tests/more.rs"), "#[test]\nfn broken() { panic!(); }\n")
        .expect("writable");
    let error = format!("{:#}", run_in(&root, &[], None).expect_err("nothing can be said of the mutants"));
    assert!(error.contains("more::broken does not even pass without a mutant"), "{error}");
}

#[test]
fn a_mutant_that_no_longer_applies_is_an_error() {
    let root = scratch("stale");
    for (name, file, original) in [
        ("gone", "kexec/src/inner.rs", "6 * 8"),
        ("twice", "kexec/src/inner.rs", "Release"),
        ("moved", "kexec/src/outer.rs", "6 * 7"),
        ("absent", "kexec/src/absent.rs", "Ordering::Release"),
    ] {
        let entry = Structural { name, file, original, replacement: "1" };
        let error = format!("{:#}", run_in(&root, &[entry], None).expect_err(name));
        assert!(error.contains(&format!("`{name}` no longer applies")), "{error}");
        assert!(error.contains(file), "{error}");
    }
}
