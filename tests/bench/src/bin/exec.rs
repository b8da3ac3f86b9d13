//! Compares kexec with other executors; see [`kexec_bench::exec`].

use std::env;
use std::process::ExitCode;

use kexec_bench::exec;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match exec::main(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
