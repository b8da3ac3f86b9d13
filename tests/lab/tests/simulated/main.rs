//! The scenarios of the lab, on the simulated Xen: what a real one was seen to do, it does.
//!
//! - `stage`: what a guest's part plays on;
//! - `toolstack`: the steps of its toolstack.
#![forbid(unsafe_code)]

mod stage;
mod toolstack;

use std::path::Path;

use xen_lab::scenario::{self, Scenario};

use self::stage::play;

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    scenario::all(&folder).expect("they make sense")
}

/// What a guest does on a real Xen, and passes there, it passes here. What only one kind of guest can do is for machines
/// that this one is not.
#[test]
fn every_scenario_passes() {
    let mut failures = Vec::new();
    for scenario in scenarios().iter().filter(|scenario| scenario.only.is_none() && scenario.cpus == 1) {
        match play(scenario) {
            Ok(tally) => println!("{:<16} {tally}", scenario.name),
            Err(why) => failures.push(format!("{}: {why}", scenario.name)),
        }
    }
    assert_eq!(failures, Vec::<String>::new());
}

/// A scenario that cannot fail shows nothing: each step that is left out or put in the wrong place is noticed.
#[test]
fn a_scenario_can_fail() {
    let play = |text: &str| play(&Scenario::parse("changed", text).expect("it makes sense"));
    let fails = |text: &str, why: &str| {
        let message = play(text).map(|tally| tally.to_string()).expect_err("it is noticed");
        assert!(message.contains(why), "{text}\n{message}");
    };
    fails("#\npart traffic\nwait busy\nask poweroff\nends reboot", "reboot");
    fails("#\npart grants\nwait shared\nends poweroff", "has not ended");
    fails("#\npart traffic\nwait busy\ncheckpoint\nwait resumed-1\nask poweroff\nends poweroff", "resumed-1");
    fails(
        "#\npart traffic\nwait busy\nmigrate\nwait cancelled-1\nask poweroff\nends poweroff",
        "cancelled-1",
    );
    fails("#\npart grants\nwait shared\nwait held\nrelease\nends poweroff", "held");
    fails("#\npart grants\nwait shared\npeer hold\nrelease\nwait held\nends poweroff", "failed");
    fails("#\npart storm\nwait ready\npeer storm 100\nends poweroff", "has not ended");
    fails("#\npart echo\nwait ready\npeer hold\nends poweroff", "word 1");
    fails("#\npart time\nends crash", "crash");
    fails("#\npart crash\nends poweroff", "Crash");
}
