//! Each file in `ui` breaks one rule, which it states, and must not compile, for the reason in the `.stderr`
//! beside it; each in `ui/pass` shows the right way, and must run.
//!
//! The reasons are in the words of one compiler, the oldest that the workspace supports; another one is not held
//! to them. After a change: `TRYBUILD=overwrite cargo test -p kexec --all-features --test ui`, and read the diff.
#![cfg(not(miri))]
#![cfg(feature = "std")]

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn ui() {
    let rustc = Rustc::that_cargo_calls();
    let (compared, others): (Vec<_>, Vec<_>) =
        rules().into_iter().partition(|rule| rustc.words_it_like(rule));
    let tests = trybuild::TestCases::new();
    // With one of these among the tests, all are built and not just checked: a task is measured no earlier.
    tests.pass("tests/ui/pass/*.rs");
    for rule in compared {
        tests.compile_fail(rule);
    }
    if !others.is_empty() {
        // Not by `eprintln`, which nobody sees when a test passes.
        let _ = writeln!(
            std::io::stderr(),
            "tests/ui: the snapshots are of Rust {VERSION}; {} of them were not compared, because this compiler, \
             or one that has the library's source code to quote from, words it in another way",
            others.len(),
        );
    }
}

/// The compiler whose words the snapshots have.
const VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

fn rules() -> Vec<PathBuf> {
    let folder = fs::read_dir("tests/ui").expect("tests run in the folder of their package");
    let files = folder.map(|entry| entry.expect("the folder can be read").path());
    let mut rules: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "rs")).collect();
    rules.sort();
    rules
}

struct Rustc {
    is_of_the_snapshots: bool,
    quotes_the_library: bool,
}

impl Rustc {
    fn that_cargo_calls() -> Self {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |question: &[&str]| {
            let answer = Command::new(&rustc).args(question).output().expect("this was compiled by it");
            String::from_utf8_lossy(&answer.stdout).trim().to_owned()
        };
        let (about, sysroot) = (ask(&["-vV"]), ask(&["--print", "sysroot"]));
        // A distribution's own build has other paths to the library.
        let elsewhere = about.contains("commit-hash: unknown");
        Self {
            is_of_the_snapshots: about.contains(&format!("\nrelease: {VERSION}.")),
            quotes_the_library: elsewhere
                || Path::new(&sysroot).join("lib/rustlib/src/rust/library").exists(),
        }
    }

    fn words_it_like(&self, rule: &Path) -> bool {
        let snapshot = fs::read_to_string(rule.with_extension("stderr")).unwrap_or_default();
        self.is_of_the_snapshots && !(self.quotes_the_library && snapshot.contains("$RUST"))
    }
}
