//! The program as it is started: it finds its own claims true, and says what is wrong with a command line.

use std::process::{Command, Output};

fn doorbell(words: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_doorbell"));
    program.args(words.split_whitespace()).output().expect("the program was built for this test")
}

#[test]
fn its_claims_hold() {
    for seed in 1..=3 {
        let output = doorbell(&format!("--requests 3000 --seed {seed}"));
        let (screen, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "seed {seed}:\n{screen}\n{errors}");
        assert!(
            screen.contains("ok      3000  of 3000 were completed by one epilogue, exactly once"),
            "{screen}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_named() {
    for (words, named) in [
        ("--requests many", "`--requests many`"),
        ("--requests 999", "`--requests 999`"),
        ("--seed -1", "`--seed -1`"),
        ("--seed", "`--seed` needs"),
        ("--speed 9", "`--speed`"),
    ] {
        let output = doorbell(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {errors}");
        assert!(errors.contains(named), "{words}: {errors}");
    }
    assert!(doorbell("--help").status.success());
}
