//! The benchmarks, each in a package of its own that does the measuring.

use anyhow::{Result, anyhow};

use crate::{
    command::CommandLine,
    host::{Host, Need},
};

/// One benchmark.
#[derive(Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// Its name on the command line.
    pub name: &'static str,
    package: &'static str,
    binary: &'static str,
}

/// Every benchmark.
const BENCHMARKS: &[Benchmark] = &[Benchmark { name: "exec", package: "kexec-bench", binary: "exec" }];

/// What counts instructions, and what shows them.
const NEEDS: &[Need] = &[
    Need {
        what: "valgrind",
        packages: &["valgrind"],
        rustup: None,
        present: |host| host.program("valgrind").word("--version").succeeds(),
    },
    Need {
        what: "objdump",
        packages: &["binutils"],
        rustup: None,
        present: |host| host.program("objdump").word("--version").succeeds(),
    },
];

/// The benchmark of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Benchmark> {
    BENCHMARKS.iter().find(|benchmark| benchmark.name == name)
}

/// The names of all, for a message.
#[must_use]
pub fn names() -> String {
    BENCHMARKS.iter().map(|benchmark| benchmark.name).collect::<Vec<_>>().join(", ")
}

/// Runs one, with arguments of its own.
///
/// # Errors
///
/// A tool is missing, or the benchmark fails.
pub fn run(host: &Host, benchmark: &Benchmark, arguments: &[String]) -> Result<()> {
    host.supply(NEEDS).map_err(|missing| anyhow!(missing))?;
    let line = host
        .cargo()
        .words("run --release --package")
        .word(benchmark.package)
        .word("--bin")
        .word(benchmark.binary)
        .word("--");
    arguments.iter().fold(line, CommandLine::word).run()
}
