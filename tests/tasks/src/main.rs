//! Prints the task tables in a dump: `cargo xtask tasks`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use kexec_tasks::cli::{Request, USAGE};

/// The exit code for a command line that makes no sense, as with most command-line tools.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(message) => {
            eprintln!("error: {message}\n{USAGE}");
            return ExitCode::from(BAD_USAGE);
        }
    };
    match request.carry_out() {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
