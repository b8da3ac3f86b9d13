//! The program as it is started, and the command that it tells its user to type.

use std::process::Command;

use kexec_tasks::cli::Request;

/// It finds the two, and what is read from the file is the tree that it has printed.
#[test]
fn the_file_says_what_the_program_said() {
    let program = env!("CARGO_BIN_EXE_deadlock");
    let file = std::env::temp_dir().join(format!("deadlock-{}.tasks", std::process::id()));
    let file = file.to_str().expect("it is text");
    let output = Command::new(program).arg(file).output().expect("it was built for this test");
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{screen}");
    let words = screen.lines().last().and_then(|line| line.strip_prefix("  cargo xtask tasks "));
    let words = words.expect("it says what to type").split_whitespace().map(str::to_owned);
    let read = Request::parse(words).expect("it makes sense").carry_out().expect("the file is whole");
    std::fs::remove_file(file).expect("it was written");

    let tasks = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim_end_matches("   <===").trim().to_owned());
        lines.filter(|line| line.starts_with("parked at") || line.starts_with('#')).collect()
    };
    assert_eq!(tasks(&read), tasks(&screen));
    assert_eq!(screen.matches("<===").count(), 2, "{screen}");
}
