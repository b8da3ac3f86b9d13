//! Every check there is has been tripped: a crime for each, and how soon it is found.

use std::collections::BTreeSet;

use nt_sim::{Dump, Failure, Options, Report, Reuse, Schedule, Verdict, xen};

use crate::life;

/// A crime, and what must be found.
struct Row {
    /// As the probe knows it.
    crime: &'static str,
    verdict: Verdict,
    /// The numbers of CPUs on which it must be found,
    cpus: &'static [usize],
    /// within so many seeds.
    within: u64,
}

const ANY: &[usize] = &[1, 2, 4];
const SEVERAL: &[usize] = &[2, 4];

/// Whatever is wrong in every run is found in the first.
const fn always(crime: &'static str, verdict: Verdict) -> Row {
    Row { crime, verdict, cpus: ANY, within: 1 }
}

/// What is wrong in some interleavings only.
const fn within(within: u64, cpus: &'static [usize], crime: &'static str, verdict: Verdict) -> Row {
    Row { crime, verdict, cpus, within }
}

const CRIMES: &[Row] = &[
    // The device's life.
    always("entry-fails", Verdict::Refused),
    always("timer-at-unload", Verdict::InUseAtUnload),
    always("still-initializing", Verdict::DeviceInitializing),
    always("keeps-start", Verdict::NotForwarded),
    always("connects-too-early", Verdict::StartOrder),
    always("copies-pending", Verdict::IrpStack),
    within(10, ANY, "completes-below", Verdict::IrpCompletedTwice),
    always("forwards-unprepared", Verdict::IrpStack),
    always("answers-unknown", Verdict::IrpStatus),
    within(10, ANY, "loses-pending", Verdict::IrpPending),
    always("keeps-power", Verdict::NotForwarded),
    always("fails-remove", Verdict::RemoveFailed),
    within(10, ANY, "keeps-requests", Verdict::Hang),
    within(10, ANY, "loses-requests", Verdict::IrpLost),
    always("timer-left", Verdict::FreedInUse),
    always("interrupt-left", Verdict::InterruptLeft),
    within(120, SEVERAL, "no-flush", Verdict::FreedInUse),
    always("deleted-attached", Verdict::DeviceLeft),
    always("device-left", Verdict::DeviceLeft),
    always("remove-lock-tag", Verdict::RemoveLock),
    always("remove-lock-held", Verdict::FreedInUse),
    always("remove-lock-unwaited", Verdict::FreedInUse),
    // Requests, the interrupt, DPCs.
    always("status-unset", Verdict::IrpStatus),
    always("other-status", Verdict::IrpStatus),
    always("much-information", Verdict::IrpInformation),
    always("completes-twice", Verdict::IrpCompletedTwice),
    always("touches-completed", Verdict::IrpTouched),
    always("touches-buffer", Verdict::IrpTouched),
    always("touches-later", Verdict::IrpTouched),
    always("completes-under-lock", Verdict::LockAtCompletion),
    always("completes-cancelable", Verdict::IrpStack),
    always("marked-only", Verdict::IrpPending),
    always("neither-nor", Verdict::IrpPending),
    always("unmarked-pending", Verdict::IrpPending),
    always("isr-sets-event", Verdict::IrqlAtCall),
    always("unclaimed", Verdict::InterruptUnclaimed),
    within(60, SEVERAL, "unlocked", Verdict::IrpTouched),
    always("dpc-keeps-lock", Verdict::LockAtReturn),
    always("clobbers", Verdict::Clobbered),
    // Levels and locks.
    always("flushes-at-dispatch", Verdict::IrqlAtCall),
    always("paged-at-dispatch", Verdict::IrqlAtCall),
    always("stays-raised", Verdict::IrqlAtReturn),
    always("raises-down", Verdict::IrqlOrder),
    always("lowers-up", Verdict::IrqlOrder),
    always("lowers-too-far", Verdict::IrqlOrder),
    always("lowers-under-lock", Verdict::IrqlOrder),
    always("locks-twice", Verdict::LockRecursive),
    always("unlocks-free", Verdict::LockNotOwned),
    always("unlocks-mismatch", Verdict::LockMismatch),
    always("waits-at-dispatch", Verdict::WaitAtDispatch),
    within(40, SEVERAL, "locks-in-circle", Verdict::Deadlock),
    always("waits-forever", Verdict::Hang),
    always("spins-forever", Verdict::Hang),
    // Memory.
    always("recurses", Verdict::StackOverflow),
    always("overruns", Verdict::PoolOverrun),
    always("slack", Verdict::PoolSlack),
    always("uses-freed", Verdict::UseAfterFree),
    always("frees-twice", Verdict::BadFree),
    always("frees-other-tag", Verdict::BadFree),
    always("frees-nothing", Verdict::BadFree),
    always("frees-dpc", Verdict::FreedInUse),
    always("frees-timer", Verdict::FreedInUse),
    always("frees-lock", Verdict::FreedInUse),
    always("frees-event", Verdict::FreedInUse),
    always("leaks", Verdict::Leak),
    always("bad-pointer", Verdict::BadPointer),
    always("paged-address", Verdict::BadPointer),
    always("null-pointer", Verdict::PageFault),
    always("writes-constant", Verdict::ReadOnlyWrite),
    // Kernel objects.
    always("blank-dpc", Verdict::NotInitialized),
    always("blank-timer", Verdict::NotInitialized),
    always("blank-event", Verdict::NotInitialized),
    always("blank-lock", Verdict::NotInitialized),
    always("dpc-again", Verdict::Reinitialized),
    always("timer-again", Verdict::Reinitialized),
    always("remove-lock-again", Verdict::Reinitialized),
    always("remove-lock-free", Verdict::RemoveLock),
    // Threads and handles.
    always("thread-left", Verdict::ThreadLeft),
    always("user-handle", Verdict::UserHandle),
    always("closes-twice", Verdict::BadHandle),
    always("handle-left", Verdict::HandleLeft),
    // The machine.
    always("panics", Verdict::Bugcheck),
    always("wrong-hypercall", Verdict::Exception),
    always("disables", Verdict::Privileged),
    always("reads-port", Verdict::Privileged),
    always("writes-port", Verdict::Privileged),
    always("reads-register", Verdict::Privileged),
    always("hypercall-page", Verdict::Exception),
    always("second-hypercall-page", Verdict::Exception),
    always("hypercall-page-beside", Verdict::BadPointer),
    always("other-register", Verdict::Privileged),
    always("misaligns", Verdict::Misaligned),
    always("cannot-unwind", Verdict::Unwind),
    always("format", Verdict::FormatString),
    always("waits-next", Verdict::NotModelled),
];

/// What the probe does wrong while a dump is written: Xen's version tells it.
const IN_A_DUMP: &[(u16, Verdict)] = &[(1, Verdict::NotInDump), (2, Verdict::Hang)];

/// What other tests trip.
const ELSEWHERE: &[Verdict] = &[Verdict::MissingExport];

/// The first run in which anything is found.
fn first(row: &Row, cpus: usize) -> Option<(Options, Failure)> {
    let schedules = [Schedule::Uniform, Schedule::Priority];
    let runs = (0..row.within).flat_map(|seed| schedules.map(|schedule| (seed, schedule)));
    runs.map(|(seed, schedule)| Options { cpus, schedule, ..Options::new(seed) })
        .find_map(|options| life::live(&options, row.crime).err().map(|failure| (options, failure)))
}

#[test]
fn every_crime_is_found() {
    let mut missed = Vec::new();
    for row in CRIMES {
        for &cpus in row.cpus {
            match first(row, cpus) {
                Some((options, failure)) if failure.verdict == row.verdict => {
                    let Report { verdict, place, .. } = &*failure;
                    let run = format!("seed {} {:?}", options.seed, options.schedule);
                    println!("{:20} {cpus} CPUs  {:18} {run:16} {place}", row.crime, format!("{verdict:?}"));
                }
                Some((_, failure)) => {
                    missed.push(format!("{}: not {:?} but {failure}", row.crime, row.verdict));
                }
                None => {
                    let Row { crime, verdict, within, .. } = row;
                    missed.push(format!("{crime}: no {verdict:?} within {within} seeds on {cpus} CPUs"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_crime_in_a_dump_is_found() {
    for &(minor, verdict) in IN_A_DUMP {
        let xen = xen::Config { version: (0xFF, minor), ..xen::Config::DEFAULT };
        let mut dump = Dump::load("probe", Options { xen, ..Options::new(1) }).expect("it loads");
        let failure = dump.enter().expect_err("it commits a crime");
        assert_eq!(failure.verdict, verdict, "{failure}");
    }
}

#[test]
fn every_check_has_its_crime() {
    let tripped: BTreeSet<Verdict> = CRIMES
        .iter()
        .map(|row| row.verdict)
        .chain(IN_A_DUMP.iter().map(|&(_, verdict)| verdict))
        .chain(ELSEWHERE.iter().copied())
        .collect();
    let never: Vec<&Verdict> = Verdict::ALL.iter().filter(|verdict| !tripped.contains(verdict)).collect();
    assert!(never.is_empty(), "no crime trips {never:?}");
}

/// Where the memory of a request is used again at once, a late touch finds another request: that one gets a wrong answer.
#[test]
fn memory_that_is_used_again_turns_a_late_touch_into_damage() {
    let life = |seed| life::live(&Options { reuse: Reuse::AtOnce, ..Options::new(seed) }, "touches-later");
    assert!((0..20).any(|seed| life(seed).is_ok_and(|memory| memory.wrong_answers != 0)));
}
