//! Other hypervisors, an older Windows, a crash dump, a driver that never stops.

use std::{env, process::Command};

use nt_sim::{
    Dump, Nt, Options, Verdict,
    xen::{Config, Mood, Vendor},
};
use nt_sys::{STATUS_NOT_SUPPORTED, STATUS_SUCCESS};

use crate::life;

/// `__HYPERVISOR_xen_version`
const XEN_VERSION: u64 = 17;

#[test]
fn an_import_that_the_kernel_lacks_is_named_and_so_are_all_others() {
    let lacks = &["KeInsertQueueDpc", "IoConnectInterruptEx"];
    let nt = Nt::boot(Options { lacks, ..Options::new(1) });
    let failure = nt.load("probe").expect_err("it cannot be loaded");
    assert_eq!(failure.verdict, Verdict::MissingExport);
    for name in lacks {
        assert!(failure.facts.contains(&format!("ntoskrnl.exe!{name}")), "{failure}");
    }
    assert!(!failure.facts.contains("KeSetEvent"), "{failure}");
}

#[test]
fn a_dump_is_entered_and_says_what_it_finds() {
    let mut dump = Dump::load("probe", Options::new(1)).expect("it loads");
    assert_eq!(dump.enter().expect("nothing is wrong"), STATUS_SUCCESS);
    assert_eq!(dump.said(), ["dump on Xen 40011\n"]);
    assert_eq!(dump.hypercalls(XEN_VERSION), 1);
}

#[test]
fn a_hypercall_may_be_refused() {
    let xen = Config { mood: Mood::Refusing, ..Config::DEFAULT };
    let mut dump = Dump::load("probe", Options { xen, ..Options::new(1) }).expect("it loads");
    assert_eq!(dump.enter().expect("nothing is wrong"), STATUS_NOT_SUPPORTED);
}

#[test]
fn without_xen_and_on_the_other_processor_a_hypercall_is_an_exception() {
    for xen in
        [Config { mood: Mood::Absent, ..Config::DEFAULT }, Config { vendor: Vendor::Amd, ..Config::DEFAULT }]
    {
        let mut dump = Dump::load("probe", Options { xen, ..Options::new(1) }).expect("it loads");
        let failure = dump.enter().expect_err("there is no such instruction");
        assert_eq!(failure.verdict, Verdict::Exception, "{failure}");
    }
}

#[test]
fn a_failure_stays_what_it_was() {
    let nt = Nt::boot(Options::new(1));
    let failure = nt.load_as("probe", "probe-entry-fails").expect_err("it refuses");
    assert_eq!(nt.settle(), Err(failure.clone()));
    assert_eq!(nt.load("probe").expect_err("the run is over"), failure);
}

/// Set for a process that is to run driver code that never stops.
const CHILD: &str = "NT_SIM_LOOP";

#[test]
fn driver_code_that_never_stops_ends_the_process_with_a_word() {
    if env::var_os(CHILD).is_some() {
        life::live(&Options::new(1), "loops-silently").expect_err("it does not come to this");
        return;
    }
    let test = "worlds::driver_code_that_never_stops_ends_the_process_with_a_word";
    let program = env::current_exe().expect("this test is a program");
    let mut child = Command::new(program);
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").env("NT_SIM_PATIENCE", "1");
    let child = child.output().expect("it can be run again");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success() && said.contains("Hang: driver code"), "{said}");
    assert!(said.contains("seed 1, 4 CPUs"), "{said}");
}
