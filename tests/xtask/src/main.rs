//! `cargo xtask`: see the library beside this file.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use xtask::{
    bench,
    cli::{self, Request},
    dist,
    host::Host,
    joints, lab, mutants, run, tasks,
};

/// The exit code for a command line that makes no sense, as with most command-line tools.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let request = match cli::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(message) => {
            eprintln!("error: {message}\n`cargo xtask help` says what each of them does");
            return ExitCode::from(USAGE);
        }
    };
    match carry_out(request) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was asked for passed.
fn carry_out(request: Request) -> anyhow::Result<bool> {
    let host = Host::find()?;
    match request {
        Request::Help => {
            println!("{}", cli::help());
            Ok(true)
        }
        Request::Test { skips } => Ok(run::all_levels(&host, skips)),
        Request::Bench { name, arguments } => bench::run(&host, name, &arguments).map(|()| true),
        Request::Dist(order) => dist::run(&host, &order).map(|()| true),
        Request::Joints { filter } => {
            let tally = joints::run(&host, filter.as_deref())?;
            Ok(tally.loose == 0)
        }
        Request::Lab { words } => lab::run(&host, &words),
        Request::Mutants { filter } => {
            let tally = mutants::run(&host, filter.as_deref())?;
            Ok(tally.survived == 0)
        }
        Request::Tasks { arguments } => tasks::run(&host, &arguments),
    }
}
