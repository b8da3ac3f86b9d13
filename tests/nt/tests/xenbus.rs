//! The shipped `xenbus.sys`, from `DriverEntry` to its unload, and as a crash dump enters it.
//!
//! Every joint between the driver, kexec and NT is used here; `cargo xtask joints` breaks them one at a time and
//! expects a test of this file to fail.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "xenbus/passive.rs"]
mod passive;
#[path = "xenbus/unknown.rs"]
mod unknown;

use std::{collections::BTreeMap, time::Duration};

use nt_sim::{
    Completion, Device, Dump, Failure, Nt, Options, Preempt, Request, Reuse, Schedule, Verdict,
    xen::{self, Mood, Vendor},
};
use nt_sys::{
    IRP_MN_QUERY_STOP_DEVICE, NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_CANCELLED, STATUS_DELETE_PENDING,
    STATUS_DEVICE_BUSY, STATUS_DEVICE_NOT_READY, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_IO_DEVICE_ERROR, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS,
};

/// The driver's, by its number: the interface, not a name that both sides share.
const IOCTL_XENBUS_VERSION: u32 = 0x0022_2000;
/// `HYPERVISOR_xen_version`
const XEN_VERSION: u64 = 17;
/// What the driver is built to serve at the same time.
const REQUESTS: usize = 16;

/// So many seeds, each on one CPU and on several, in both orders, with both fates of an IRP's memory.
fn runs(seeds: u64) -> impl Iterator<Item = Options> {
    const CPUS: [usize; 4] = [1, 2, 4, 8];
    (0..seeds).flat_map(|seed| {
        CPUS.into_iter().enumerate().map(move |(index, cpus)| {
            let turn = seed + index as u64;
            Options {
                cpus,
                schedule: if turn & 1 == 0 { Schedule::Uniform } else { Schedule::Priority },
                reuse: if turn & 2 == 0 { Reuse::Never } else { Reuse::AtOnce },
                preempt: if turn.is_multiple_of(5) { Preempt::Atomics } else { Preempt::Calls },
                ..Options::new(seed)
            }
        })
    })
}

/// Runs a scenario to the end, at which nothing may be left. A failure says which run it was.
fn once<T>(options: Options, scenario: impl FnOnce(&Nt) -> Result<T, Failure>) -> T {
    let name = options.to_string();
    let nt = Nt::boot(options);
    match scenario(&nt).and_then(|result| nt.finish().map(|()| result)) {
        Ok(result) => result,
        Err(failure) => panic!("{name}: {failure}"),
    }
}

/// Runs a scenario once for each of these.
fn each(runs: impl Iterator<Item = Options>, scenario: impl Fn(&Nt) -> Result<(), Failure>) {
    runs.for_each(|options| once(options, &scenario));
}

/// A device that is found and started, and after the scenario removed and unloaded.
fn live<T>(nt: &Nt, scenario: impl FnOnce(&Device) -> Result<T, Failure>) -> Result<T, Failure> {
    let driver = nt.load("xenbus")?;
    let device = driver.add_device()?;
    device.start()?;
    let result = scenario(&device)?;
    device.remove()?;
    driver.unload()?;
    Ok(result)
}

fn ask(device: &Device) -> Result<Request, Failure> {
    device.control(IOCTL_XENBUS_VERSION, &[], 4)
}

fn ask_often(device: &Device, times: usize) -> Result<Vec<Request>, Failure> {
    (0..times).map(|_| ask(device)).collect()
}

/// Waits for the answer, which is Xen's version.
fn expect_answer(request: Request) -> Result<(), Failure> {
    let completion = request.wait()?;
    assert!(is_answer(&completion), "{completion:?}");
    Ok(())
}

/// Waits for the answer or the refusal of a device that is going. Whether it was cancelled.
fn expect_answer_or_end(request: Request) -> Result<bool, Failure> {
    let completion = request.wait()?;
    let refused = matches!(completion.status, STATUS_CANCELLED | STATUS_DELETE_PENDING);
    assert!(is_answer(&completion) || refused, "{completion:?}");
    Ok(completion.status == STATUS_CANCELLED)
}

fn is_answer(completion: &Completion) -> bool {
    let output = 0x0004_0011_u32.to_le_bytes().to_vec();
    *completion == Completion { status: STATUS_SUCCESS, information: 4, output }
}

/// The whole way: found, started, asked, interrupted, answered, removed, unloaded; nothing is left.
#[test]
fn a_life() {
    each(runs(60), |nt| {
        live(nt, |device| {
            assert_eq!(nt.xen().calls(XEN_VERSION), 1, "one hypercall on the way up");
            let said = nt.said();
            assert!(said.iter().any(|line| line.contains("Xen 4.17, CPUID leaf 0x40000000")), "{said:?}");
            for _ in 0..4 {
                let requests = ask_often(device, 4)?;
                nt.xen().upcall();
                requests.into_iter().try_for_each(expect_answer)?;
            }
            assert_eq!(nt.xen().calls(XEN_VERSION), 17, "one for each request, and the first");
            Ok(())
        })
    });
}

/// Upcall, KDPC, task, hypercall, completion: no time passes but theirs.
#[test]
fn a_request_is_answered_by_its_upcall() {
    each(runs(20), |nt| {
        live(nt, |device| {
            let request = ask(device)?;
            nt.settle()?;
            assert!(!request.is_done(), "nothing has happened yet");
            let before = nt.time();
            nt.xen().upcall();
            expect_answer(request)?;
            let waited = nt.time().saturating_sub(before);
            assert!(waited < Duration::from_millis(1), "it waited for something else: {waited:?}");
            Ok(())
        })
    });
}

/// The same seed is the same run, to the last step; another seed is another one.
#[test]
fn a_run_is_a_function_of_its_seed() {
    let digest = |seed| {
        once(Options { preempt: Preempt::Atomics, ..Options::new(seed) }, |nt| {
            live(nt, |device| {
                let request = ask(device)?;
                nt.xen().upcall();
                expect_answer(request)
            })?;
            Ok(nt.digest())
        })
    };
    for seed in 0..20 {
        assert_eq!(digest(seed), digest(seed), "seed {seed}");
    }
    assert_ne!(digest(1), digest(2));
}

/// An interrupt that never comes costs a beat, which is the executor's KTIMER's: its KDPC is the doorbell's.
#[test]
fn a_beat_answers_when_no_upcall_comes() {
    each(runs(40), |nt| {
        live(nt, |device| {
            for _ in 0..3 {
                let before = nt.time();
                expect_answer(ask(device)?)?;
                let waited = nt.time().saturating_sub(before);
                // A beat is 100 ms, tolerates 10 more, and ends at a tick.
                assert!(waited <= Duration::from_millis(130), "this took {waited:?}");
            }
            Ok(())
        })
    });
}

/// Requests that nobody has answered are cancelled by the removal, each once; it waits for all of them.
#[test]
fn a_removal_ends_all_requests() {
    let mut cancelled = 0;
    for (options, surprise) in runs(40).flat_map(|options| [(options.clone(), false), (options, true)]) {
        cancelled += once(options, |nt| {
            let driver = nt.load("xenbus")?;
            let device = driver.add_device()?;
            device.start()?;
            let requests = ask_often(&device, 6)?;
            nt.xen().upcall();
            if surprise { device.surprise_remove() } else { device.remove() }?;
            let mut cancelled = 0;
            for request in requests {
                cancelled += u32::from(expect_answer_or_end(request)?);
            }
            driver.unload()?;
            Ok(cancelled)
        });
    }
    assert!(cancelled > 100, "only {cancelled} requests were still waiting: the test has lost its point");
}

/// Upcalls go on while the device is removed: each finds an executor to wake, until the interrupt is disconnected.
#[test]
fn upcalls_during_a_removal_harm_nobody() {
    each(runs(40), |nt| {
        let driver = nt.load("xenbus")?;
        let device = driver.add_device()?;
        device.start()?;
        let requests = ask_often(&device, 3)?;
        (1..100).for_each(|microseconds| nt.xen().upcall_in(Duration::from_micros(microseconds)));
        device.surprise_remove()?;
        for request in requests {
            expect_answer_or_end(request)?;
        }
        driver.unload()
    });
}

/// A task whose turn takes long, here in the hypervisor, keeps its memory until it has ended: the removal waits.
#[test]
fn a_removal_waits_for_a_slow_task() {
    const SLOW: Duration = Duration::from_millis(20);
    let xen = xen::Config { takes: SLOW, ..xen::Config::DEFAULT };
    let mut waited = 0;
    for options in runs(20).filter(|options| options.cpus > 1) {
        let removal = once(Options { xen, ..options }, |nt| {
            let driver = nt.load("xenbus")?;
            let device = driver.add_device()?;
            device.start()?;
            let request = ask(&device)?;
            nt.settle()?;
            nt.xen().upcall();
            nt.pass(Duration::from_millis(1))?;
            // It goes on for the better part of its time.
            assert_eq!(nt.xen().calls(XEN_VERSION), 2, "the request's hypercall has begun");
            let before = nt.time();
            device.remove()?;
            let removal = nt.time().saturating_sub(before);
            // It had begun, and ends as it would have.
            expect_answer(request)?;
            driver.unload()?;
            Ok(removal)
        });
        waited += u32::from(removal >= SLOW / 2);
    }
    assert!(waited >= 55, "the removal found the task at work in {waited} of 60 runs only");
}

/// The removal waits as well when there is no memory for the event that it would wait for: it looks now and then.
#[test]
fn a_removal_waits_without_memory() {
    let xen = xen::Config { takes: Duration::from_millis(50), ..xen::Config::DEFAULT };
    let mut looked = 0;
    for options in runs(60).filter(|options| options.cpus > 1) {
        looked += once(Options { xen, allocation_failures: 8, ..options }, |nt| {
            let driver = nt.load("xenbus")?;
            if let Ok(device) = driver.try_add_device()? {
                if device.try_start()? == STATUS_SUCCESS {
                    let request = ask(&device)?;
                    nt.settle()?;
                    nt.xen().upcall();
                    nt.pass(Duration::from_millis(1))?;
                    device.surprise_remove()?;
                    expect_answer_or_end(request)?;
                } else {
                    device.surprise_remove()?;
                }
            }
            driver.unload()?;
            let looks = |line: &&String| line.contains(" KeDelayExecutionThread(");
            Ok(nt.trace().iter().filter(looks).count())
        });
    }
    assert!(looked > 10, "nobody had to do without memory: {looked}");
}

/// Upcalls come while requests are being completed: they wake tasks whose requests are gone, in slots that are
/// another's, while the memory of the request is another's, too.
#[test]
fn an_upcall_inside_a_completion_wakes_nobody_that_is_not_there() {
    let mut inside = 0;
    for seed in 0..60 {
        let options = Options { reuse: Reuse::AtOnce, preempt: Preempt::Atomics, ..Options::new(seed) };
        inside += once(options, |nt| {
            live(nt, |device| {
                for _ in 0..3 {
                    for request in ask_often(device, 8)? {
                        // Within the next 10 µs, in which some of them are completed.
                        (0..20).for_each(|_| nt.xen().upcall());
                        expect_answer(request)?;
                    }
                }
                Ok(interrupts_inside_completions(&nt.trace()))
            })
        });
    }
    assert!(inside > 30, "only {inside} upcalls came inside a completion: the test has lost its point");
}

/// How many interrupts a trace has between the call of `IofCompleteRequest` by some context and its return to it.
fn interrupts_inside_completions(trace: &[String]) -> usize {
    let mut completing: Vec<String> = Vec::new();
    let mut inside = 0;
    for line in trace {
        if line.contains("begins: the interrupt service routine") {
            inside += usize::from(!completing.is_empty());
        }
        let Some(Step { context, what, .. }) = Step::of(line) else { continue };
        if what.starts_with("IofCompleteRequest(") {
            completing.push(context);
        } else if what == "=" {
            completing.retain(|other| *other != context);
        }
    }
    inside
}

/// A line of a trace in which somebody does something.
struct Step<'l> {
    irql: u8,
    /// The kind of context, and its number.
    context: String,
    /// The first word of what it does.
    what: &'l str,
}

impl<'l> Step<'l> {
    fn of(line: &'l str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_time, _unit, _cpu, "irql", irql, kind, number, what, ..] = words[..] else { return None };
        Some(Self { irql: irql.parse().ok()?, context: format!("{kind} {number}"), what })
    }
}

/// Between a push and its doorbell a thread must not be preempted, so no doorbell is rung below `DISPATCH_LEVEL`.
#[test]
fn doorbells_are_rung_at_dispatch_level() {
    let trace = once(Options::new(7), |nt| {
        live(nt, |device| {
            let request = ask(device)?;
            nt.xen().upcall();
            expect_answer(request)
        })?;
        Ok(nt.trace())
    });
    let steps = trace.iter().filter_map(|line| Step::of(line));
    let doorbells: Vec<Step<'_>> = steps.filter(|step| step.what.starts_with("KeInsertQueueDpc(")).collect();
    assert!(doorbells.len() >= 4, "start, beat, upcall and close ring: {}", doorbells.len());
    for doorbell in doorbells {
        assert!(doorbell.irql >= 2, "{} rings at IRQL {}", doorbell.context, doorbell.irql);
    }
}

/// DPCs are flushed for each executor: the one that is silenced first must not rely on the other, nor the other on it.
#[test]
fn each_executor_is_silenced() {
    each(runs(5), |nt| {
        live(nt, |_| Ok(()))?;
        let trace = nt.trace();
        let flushes = trace.iter().filter_map(|line| Step::of(line));
        let flushes = flushes.filter(|step| step.what == "KeFlushQueuedDpcs()").count();
        assert_eq!(
            flushes, 3,
            "one for the DPC's, one for the worker's, one for what the last interrupt has rung"
        );
        Ok(())
    });
}

/// What makes no sense is refused with the status that says why, and harms nobody.
#[test]
fn bad_requests_are_refused() {
    let status = |device: &Device, code, room| {
        device.control(code, &[], room)?.wait().map(|completion| completion.status)
    };
    each(runs(10), |nt| {
        let driver = nt.load("xenbus")?;
        let device = driver.add_device()?;
        assert_eq!(status(&device, IOCTL_XENBUS_VERSION, 4)?, STATUS_DEVICE_NOT_READY, "not started");
        device.start()?;
        for (code, why) in [
            (IOCTL_XENBUS_VERSION + 4, "a code that is not known"),
            (IOCTL_XENBUS_VERSION + 1, "METHOD_IN_DIRECT"),
            (IOCTL_XENBUS_VERSION + 2, "METHOD_OUT_DIRECT"),
            (IOCTL_XENBUS_VERSION + 3, "METHOD_NEITHER"),
            (u32::MAX, "nonsense"),
        ] {
            assert_eq!(status(&device, code, 4)?, STATUS_INVALID_DEVICE_REQUEST, "{why}");
        }
        for room in 0..4 {
            let answer = status(&device, IOCTL_XENBUS_VERSION, room)?;
            assert_eq!(answer, STATUS_BUFFER_TOO_SMALL, "{room} bytes of room");
        }
        let request = device.control(IOCTL_XENBUS_VERSION, b"input that nobody asked for", 100)?;
        nt.xen().upcall();
        expect_answer(request)?;
        device.remove()?;
        driver.unload()
    });
}

/// One more than there is room for is told so at once; those that are being served do not notice.
#[test]
fn one_request_too_many_is_refused() {
    each(runs(10).map(|options| Options { reuse: Reuse::Never, ..options }), |nt| {
        live(nt, |device| {
            let served = ask_often(device, REQUESTS)?;
            nt.settle()?;
            assert_eq!(ask(device)?.wait()?.status, STATUS_DEVICE_BUSY);
            nt.xen().upcall();
            served.into_iter().try_for_each(expect_answer)
        })
    });
}

/// What the device does not know goes to the one below; it cannot be stopped for rebalancing, and says so.
#[test]
fn everything_else_is_passed_on() {
    each(runs(10), |nt| {
        live(nt, |device| {
            assert!(device.plug_and_play(IRP_MN_QUERY_STOP_DEVICE)? < 0, "it refuses to be stopped");
            device.almost_remove()?;
            for minor in [0x02, 0x09] {
                device.power(minor)?;
                device.system_control(minor)?;
                device.plug_and_play(minor + 5)?;
            }
            // And goes on as before.
            let request = ask(device)?;
            nt.xen().upcall();
            expect_answer(request)
        })
    });
}

/// On an Intel or an AMD processor, with or without Viridian in front, of any version.
#[test]
fn finds_every_xen() {
    for vendor in [Vendor::Intel, Vendor::Amd] {
        for base in [0x4000_0000, 0x4000_0100, 0x4000_FF00] {
            let config = xen::Config { vendor, base, version: (4, 99), ..xen::Config::DEFAULT };
            let said = once(Options { xen: config, ..Options::new(1) }, |nt| live(nt, |_| Ok(nt.said())));
            let expected = format!("Xen 4.99, CPUID leaf {base:#x}");
            assert!(said.iter().any(|line| line.contains(&expected)), "{config:?}: {said:?}");
        }
    }
}

/// How a start ends with such a Xen, and what was said; the removal leaves nothing either way.
fn start(options: Options) -> (NTSTATUS, Vec<String>) {
    once(options, |nt| {
        let driver = nt.load("xenbus")?;
        let status = match driver.try_add_device()? {
            Ok(device) => {
                let status = device.try_start()?;
                device.surprise_remove()?;
                status
            }
            Err(status) => status,
        };
        driver.unload()?;
        Ok((status, nt.said()))
    })
}

fn with(mood: Mood, options: &Options) -> Options {
    Options { xen: xen::Config { mood, ..xen::Config::DEFAULT }, ..options.clone() }
}

/// Without Xen, or with one that does not tell its version, the device does not start, and says why.
#[test]
fn does_not_start_without_xen() {
    for (mood, expected, why) in [
        (Mood::Absent, STATUS_NO_SUCH_DEVICE, "no Xen"),
        (Mood::Refusing, STATUS_IO_DEVICE_ERROR, "ENOSYS (38)"),
        (Mood::Busy { calls: u64::MAX }, STATUS_IO_DEVICE_ERROR, "EAGAIN (11)"),
    ] {
        for options in runs(5) {
            let (status, said) = start(with(mood, &options));
            assert_eq!(status, expected, "{mood:?}");
            assert!(said.iter().any(|line| line.contains(why)), "{mood:?}: {said:?}");
        }
    }
}

/// A Xen that is busy for a while is asked again, between the turns of other tasks.
#[test]
fn a_busy_xen_is_asked_again() {
    for options in runs(5) {
        let (status, said) = start(with(Mood::Busy { calls: 15 }, &options));
        assert_eq!(status, STATUS_SUCCESS, "{said:?}");
    }
}

/// Whatever a hostile Xen answers, the start succeeds or fails, and the removal leaves nothing.
#[test]
fn a_hostile_xen_harms_nobody() {
    let mut started = 0;
    for options in runs(100) {
        let (status, said) = start(with(Mood::Hostile, &options));
        assert!(matches!(status, STATUS_SUCCESS | STATUS_IO_DEVICE_ERROR), "{status:#x}: {said:?}");
        started += u32::from(status == STATUS_SUCCESS);
    }
    assert!((1..400).contains(&started), "some of its answers are versions, some are not: {started}");
}

/// Every allocation may fail: the start fails with that status, or does without; nothing is left behind.
#[test]
fn low_memory_is_survived() {
    let (mut failed, mut started) = (0, 0);
    for options in runs(60) {
        let (status, said) = start(Options { allocation_failures: 6, ..options });
        match status {
            STATUS_SUCCESS => started += 1,
            STATUS_INSUFFICIENT_RESOURCES => failed += 1,
            other => panic!("{other:#x}: {said:?}"),
        }
    }
    assert!(failed > 50 && started > 20, "{failed} failed, {started} started");
}

/// The second entry: no driver object, no registry path, nothing of NT; the same question, and its answer.
#[test]
fn the_dump_asks_the_same_question() {
    for (mood, expected, calls) in [
        (Mood::Kind, STATUS_SUCCESS, 1),
        (Mood::Busy { calls: 5 }, STATUS_SUCCESS, 6),
        (Mood::Busy { calls: u64::MAX }, STATUS_IO_DEVICE_ERROR, 16),
        (Mood::Refusing, STATUS_IO_DEVICE_ERROR, 1),
        (Mood::Absent, STATUS_NO_SUCH_DEVICE, 0),
    ] {
        for vendor in [Vendor::Intel, Vendor::Amd] {
            let xen = xen::Config { mood, vendor, ..xen::Config::DEFAULT };
            let answer = Dump::load("xenbus", Options { xen, ..Options::new(1) })
                .and_then(|mut dump| Ok((dump.enter()?, dump.hypercalls(XEN_VERSION), dump.said().to_vec())));
            let answer = answer.unwrap_or_else(|failure| panic!("{mood:?}: {failure}"));
            assert_eq!(answer, (expected, calls, Vec::new()), "{mood:?}: nobody listens during a dump");
        }
    }
}

/// An import that this Windows does not have fails the load by its name, and so does every other one.
#[test]
fn missing_exports_are_named() {
    let nt = Nt::boot(Options { lacks: &["KeInsertQueueDpc", "IofCompleteRequest"], ..Options::new(1) });
    let failure = nt.load("xenbus").expect_err("it needs both");
    assert_eq!(failure.verdict, Verdict::MissingExport);
    let text = failure.to_string();
    assert!(text.contains("KeInsertQueueDpc") && text.contains("IofCompleteRequest"), "{text}");
}

/// The bytes that run are those that were linked, but for the instructions that a host would execute wrongly: here they
/// are, and each is answered by the fake Xen or the processor of the simulation.
#[test]
fn every_patched_place_is_named() {
    let patches = once(Options::new(1), |nt| {
        let driver = nt.load("xenbus")?;
        let patches = driver.patches();
        driver.unload()?;
        Ok(patches)
    });
    println!("{}", patches.join("\n"));
    let ends_with = |instruction: &str| patches.iter().filter(|patch| patch.ends_with(instruction)).count();
    let (cpuid, intel, amd) = (ends_with(" cpuid"), ends_with(" vmcall"), ends_with(" vmmcall"));
    assert_eq!(cpuid + intel + amd, patches.len(), "{patches:#?}");
    assert!(cpuid >= 3 && intel >= 1 && intel == amd, "{patches:#?}");
    assert!(patches.iter().all(|patch| patch.starts_with("xenbus.sys+0x")), "{patches:#?}");
}

/// What one request costs once the device runs: this is the table of the driver's README. No memory, one doorbell, one
/// hypercall.
#[test]
fn what_a_request_costs() {
    let costs = once(Options { cpus: 1, ..Options::new(3) }, |nt| {
        live(nt, |device| {
            nt.settle()?;
            // The first upcall is noted in the registry.
            nt.xen().upcall();
            nt.settle()?;
            let before = nt.trace().len();
            let request = ask(device)?;
            nt.settle()?;
            nt.xen().upcall();
            expect_answer(request)?;
            nt.settle()?;
            Ok(costs(&nt.trace()[before..]))
        })
    });
    let expected = [
        ("IoAcquireRemoveLockEx", 1),
        ("IoReleaseRemoveLockEx", 1),
        ("IofCompleteRequest", 1),
        ("KeGetCurrentIrql", 3),
        ("KeInsertQueueDpc", 1),
        ("KeLowerIrql", 1),
        ("KeQueryPerformanceCounter", 2),
        ("KeRaiseIrqlToDpcLevel", 1),
        ("KeReadStateTimer", 2),
        ("vmcall", 1),
    ];
    assert_eq!(costs, BTreeMap::from(expected.map(|(name, times)| (name.to_owned(), times))));
}

/// How often each export was called and each instruction trapped.
fn costs(trace: &[String]) -> BTreeMap<String, u32> {
    let mut costs = BTreeMap::new();
    for step in trace.iter().filter_map(|line| Step::of(line)) {
        if let Some((name, _)) = step.what.split_once('(').filter(|(name, _)| !name.is_empty()) {
            *costs.entry(name.to_owned()).or_default() += 1;
        }
    }
    costs
}
