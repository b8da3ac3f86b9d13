//! The program as it is started finds its own claims true.

use std::process::Command;

#[test]
fn its_claims_hold() {
    let output = Command::new(env!("CARGO_BIN_EXE_scope")).output().expect("it was built for this test");
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{screen}");
    assert!(screen.contains("ok all 8 buffers are free again"), "{screen}");
}
