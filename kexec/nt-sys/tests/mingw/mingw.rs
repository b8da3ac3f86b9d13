//! mingw-w64: the compiler that judges, and the import libraries.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::facts::Fact;

const GCC: &str = "x86_64-w64-mingw32-gcc";
const NM: &str = "x86_64-w64-mingw32-nm";
const REMEDY: &str =
    "apt-get install --no-install-recommends gcc-mingw-w64-x86-64-win32 mingw-w64-x86-64-dev";

/// Only reads; every warning is an error.
const READ: [&str; 5] = ["-xc", "-", "-std=gnu11", "-fsyntax-only", "-Werror"];
/// One line for each error, which for one inside a macro is the line that uses the macro.
const REPORT: [&str; 2] = ["-fdiagnostics-plain-output", "-ftrack-macro-expansion=0"];
/// Windows 10, version 1809.
const VERSION: [&str; 2] = ["-D_WIN32_WINNT=0x0A00", "-DNTDDI_VERSION=0x0A000006"];

/// What the compiler has against those of the facts that are not true, by their names.
///
/// The compiler is told that each fact is a file of its own, of that name, so its errors come with the names.
pub(crate) fn denied(facts: &[Fact]) -> BTreeMap<String, String> {
    let mut source = "#include <ntddk.h>\n#include <stddef.h>\n".to_owned();
    for Fact { name, c } in facts {
        writeln!(source, "#line 1 {name:?}\n{c}").expect("a string takes everything");
    }
    let headers = import_library("ntoskrnl").with_file_name("../include/ddk");
    let output = run(
        Command::new(GCC)
            .args(READ)
            .args(REPORT)
            .args(VERSION)
            .arg("-isystem")
            .arg(headers)
            .env("LC_ALL", "C"),
        &source,
    );

    let said = String::from_utf8_lossy(&output.stderr);
    let mut denied = BTreeMap::new();
    for line in said.lines() {
        let Some((place, reason)) = line.split_once(": error: ") else { continue };
        let fact = place.split_once(":1:").map(|(name, _column)| name);
        let fact = fact.filter(|name| facts.iter().any(|fact| fact.name == *name));
        let fact = fact.unwrap_or_else(|| panic!("the headers themselves do not compile:\n{said}"));
        denied.entry(fact.to_owned()).or_insert_with(|| reason.to_owned());
    }
    assert_eq!(output.status.success(), denied.is_empty(), "{GCC} did not get as far as the facts:\n{said}");
    denied
}

/// The names that a module exports.
pub(crate) fn exports(module: &str) -> BTreeSet<String> {
    let library = import_library(module);
    let output = run(Command::new(NM).args(["--defined-only", "--format=posix"]).arg(&library), "");
    let symbols = String::from_utf8_lossy(&output.stdout);
    let symbols = symbols.lines().filter_map(|line| line.split(' ').next());
    let names: BTreeSet<String> =
        symbols.filter_map(|symbol| symbol.strip_prefix("__imp_")).map(str::to_owned).collect();
    assert!(!names.is_empty(), "{NM} finds nothing in {}: {output:?}", library.display());
    names
}

fn import_library(module: &str) -> PathBuf {
    let output = run(Command::new(GCC).arg(format!("-print-file-name=lib{module}.a")), "");
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
    // What it does not find, it prints as it was asked for.
    assert!(path.is_absolute(), "mingw-w64 has no import library for {module}: {REMEDY}");
    path
}

fn run(command: &mut Command, input: &str) -> Output {
    let name = command.get_program().display().to_string();
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("{name} is not installed: {REMEDY}"),
        _ => panic!("{name}: {error}"),
    });
    // It reads all of its input before it says anything, or none.
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).unwrap_or_else(|error| panic!("{name} does not read: {error}"));
    drop(stdin);
    child.wait_with_output().unwrap_or_else(|error| panic!("{name}: {error}"))
}
