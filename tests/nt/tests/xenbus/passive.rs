//! What the driver does at `PASSIVE_LEVEL`: an executor with a thread of its own, that writes to the registry.

use std::time::Duration;

use nt_sim::{Device, Options};
use nt_sys::{REG_DWORD, STATUS_INSUFFICIENT_RESOURCES};

use super::{Step, ask, each, expect_answer_or_end, live, once, runs};

/// The names of the values, and the version that the simulated Xen has.
const XEN_VERSION: &str = "XenVersion";
const UPCALL_SEEN: &str = "UpcallSeen";
const VERSION: u32 = 0x0004_0011;

fn value(device: &Device, name: &str) -> Option<u32> {
    let (kind, data) = device.value(name)?;
    assert_eq!(kind, REG_DWORD, "{name}");
    Some(u32::from_le_bytes(data.try_into().expect("a REG_DWORD has four bytes")))
}

/// Work for a task of the DPC's is done by the thread. Another task waits there for the first upcall: a wake from the
/// level of an interrupt, where no event may be set, reaches it, and needs no timer for that.
#[test]
fn the_registry_says_what_was_found() {
    each(runs(40), |nt| {
        live(nt, |device| {
            nt.settle()?;
            assert_eq!(value(device, XEN_VERSION), Some(VERSION));
            assert_eq!(value(device, UPCALL_SEEN), Some(0), "nobody has called");
            let before = nt.time();
            for _ in 0..3 {
                nt.xen().upcall();
                nt.settle()?;
                assert_eq!(value(device, UPCALL_SEEN), Some(1));
            }
            let waited = nt.time().saturating_sub(before);
            assert!(waited < Duration::from_millis(1), "it waited for something else: {waited:?}");
            Ok(())
        })
    });
}

/// The removal finds work at `PASSIVE_LEVEL` that has not begun, that is in the middle of a call, or whose task is parked:
/// it waits for the call, the rest is not done, and the thread is gone before memory and image are.
#[test]
fn a_removal_ends_work_at_passive_level() {
    let mut unwritten = [0, 0];
    for (options, surprise) in runs(40).flat_map(|options| [(options.clone(), false), (options, true)]) {
        let written = once(options, |nt| {
            let driver = nt.load("xenbus")?;
            let device = driver.add_device()?;
            device.start()?;
            let request = ask(&device)?;
            let written = [XEN_VERSION, UPCALL_SEEN].map(|name| value(&device, name).is_some());
            if surprise { device.surprise_remove() } else { device.remove() }?;
            expect_answer_or_end(request)?;
            driver.unload()?;
            Ok(written)
        });
        for (count, written) in unwritten.iter_mut().zip(written) {
            *count += u32::from(!written);
        }
    }
    assert!(unwritten.iter().all(|&count| count > 20), "unwritten when the removal began: {unwritten:?}");
}

/// The first upcall comes while the device is removed, so that the last run was rung for by the KDPC: it is not in memory
/// that is freed when it has not returned.
#[test]
fn the_first_upcall_comes_during_a_removal() {
    let mut relayed = 0;
    for (index, options) in runs(150).enumerate() {
        let trace = once(options, |nt| {
            let driver = nt.load("xenbus")?;
            let device = driver.add_device()?;
            device.start()?;
            nt.settle()?;
            nt.xen().upcall_in(Duration::from_nanos(100 * (index as u64 % 100)));
            device.surprise_remove()?;
            driver.unload()?;
            Ok(nt.trace())
        });
        let worker = WorkerTrace::of(&trace);
        let rings = worker.rings(&trace);
        relayed += u32::from(rings.iter().any(|step| step.context.starts_with("dpc ")));
    }
    assert!(relayed > 200, "only {relayed} upcalls came in time: the test has lost its point");
}

/// A wake from below is raised around push and doorbell, as for a KDPC. Only the thread itself rings at its own level, when a
/// run has used up its budget of time with somebody left to poll: a write may take longer than that.
#[test]
fn its_doorbell_is_rung_at_dispatch_level_or_by_itself() {
    let mut again = 0;
    for options in runs(40) {
        let trace = once(options, |nt| {
            live(nt, |_| nt.settle())?;
            Ok(nt.trace())
        });
        let worker = WorkerTrace::of(&trace);
        let rings = worker.rings(&trace);
        assert!(rings.len() >= 2, "two tasks are spawned there");
        for ring in rings {
            if ring.context == worker.thread && ring.irql == 0 {
                again += 1;
            } else {
                assert_eq!(ring.irql, 2, "{} rings", ring.context);
            }
        }
    }
    assert!(again > 20, "only {again} runs ended at their budget: the test has lost its point");
}

/// Without room for a value, that is said, and harms nobody; without a thread the device does not start.
#[test]
fn low_memory_at_passive_level_is_survived() {
    let (mut unwritten, mut threadless) = (0, 0);
    for options in runs(120) {
        let (status, said, trace) = once(Options { allocation_failures: 12, ..options }, |nt| {
            let driver = nt.load("xenbus")?;
            let mut status = STATUS_INSUFFICIENT_RESOURCES;
            if let Ok(device) = driver.try_add_device()? {
                status = device.try_start()?;
                nt.settle()?;
                device.surprise_remove()?;
            }
            driver.unload()?;
            Ok((status, nt.said(), nt.trace()))
        });
        let complaint = |line: &&String| line.contains("is not in the registry: status 0xc000009a");
        unwritten += said.iter().filter(complaint).count();
        if trace.windows(2).any(|lines| {
            lines[0].contains(" IoCreateSystemThread(") && lines[1].ends_with(&format!("= {REFUSED:#x}"))
        }) {
            assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
            threadless += 1;
        }
    }
    assert!(unwritten >= 10 && threadless >= 5, "{unwritten} unwritten, {threadless} without a thread");
}

/// `STATUS_INSUFFICIENT_RESOURCES`, as the trace has it.
const REFUSED: u32 = STATUS_INSUFFICIENT_RESOURCES.cast_unsigned();

/// The worker's thread in a trace, and the event that it waits for.
struct WorkerTrace {
    thread: String,
    doorbell: String,
}

impl WorkerTrace {
    fn of(trace: &[String]) -> Self {
        let begins = trace.iter().find_map(|line| line.trim_end().strip_suffix(" begins: a system thread"));
        let words: Vec<&str> = begins.expect("there is a worker").split_whitespace().rev().take(2).collect();
        let thread = format!("{} {}", words[1], words[0]);
        let mut steps = trace.iter().filter_map(|line| Step::of(line));
        let doorbell = steps.find_map(|step| {
            let event = step.what.strip_prefix("KeWaitForSingleObject(")?.strip_suffix(',')?;
            (step.context == thread).then(|| event.to_owned())
        });
        Self { thread, doorbell: doorbell.expect("it waits for its doorbell") }
    }

    /// Whoever sets the doorbell's event.
    fn rings<'t>(&self, trace: &'t [String]) -> Vec<Step<'t>> {
        let ring = format!("KeSetEvent({},", self.doorbell);
        trace.iter().filter_map(|line| Step::of(line)).filter(|step| step.what == ring).collect()
    }
}
