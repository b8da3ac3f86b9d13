//! Every leaf of the library parks under its name, at its place, with its label.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    panic::Location,
    path::{Path, PathBuf},
    time::Duration,
};

use kexec::{
    Budget, Executor, PassiveWork, Pool, Scope, Table,
    irql::Passive,
    platform::mock::{Mock, Plan, keep},
    sync::{AutoEvent, ManualEvent, Mutex, RundownRef, Semaphore, Watch, channel::Channel, oneshot::OneShot},
    task_table::{Label, Row, UNLABELLED},
    time::{interval, sleep},
};

use crate::support::{after_one_poll, executor, never, slots, spawn};

const LABEL: &str = "a step";

/// A leaf: its kind, the row of a task that is parked at it, and the line where the case begins. The leaf is made between
/// that and the next case.
struct Case {
    kind: &'static str,
    row: Row<'static>,
    line: u32,
}

/// A case whose future, labelled with [`LABEL`], parks at its first poll.
#[track_caller]
fn case<F: Future>(kind: &'static str, future: impl FnOnce() -> F + Send + 'static) -> Case {
    Case { kind, row: after_one_poll(|| future().label(LABEL)), line: Location::caller().line() }
}

/// All leaves. A new kind has a case here, or `every_kind_has_a_case` fails.
fn cases() -> Vec<Case> {
    vec![
        case("yield", || kexec::yield_now()),
        case("task to end", || spawn(executor(), slots(), never)),
        case("executor to close", || {
            let closing = executor();
            spawn(closing, slots(), never).detach();
            closing.close().expect("nobody else closes it")
        }),
        case("free slot", || {
            let full: &'static Table<512> = keep(Pool::<512, 1>::new());
            spawn(executor(), full, never).detach();
            full.vacancy()
        }),
        case("scope to close", || {
            let scope = keep(Scope::new("device"));
            let member = executor().within(scope).spawn_with(slots(), never);
            member.expect("a slot is free").detach();
            scope.close().expect("nobody else closes it")
        }),
        case("cancellation", || kexec::cancelled()),
        case("passive work", || {
            let worker = Executor::leak(Mock::<Passive>::new(Plan::CALM), Budget::DEFAULT);
            let work: &'static PassiveWork<_, 256> =
                keep(PassiveWork::new(worker, keep(Pool::<256, 1>::new())));
            work.run(async |_at: &mut Passive| ())
        }),
        case("sleep", || sleep(Duration::from_secs(1))),
        case("interval", || Box::leak(Box::new(interval(Duration::from_secs(1)))).tick()),
        case("event", || keep(AutoEvent::new(false)).wait()),
        case("event", || keep(ManualEvent::new(false)).wait()),
        case("mutex", || {
            let mutex = keep(Mutex::new(()));
            let held = mutex.try_lock();
            keep(std::sync::Mutex::new(held));
            mutex.lock()
        }),
        case("semaphore", || {
            let semaphore = keep(Semaphore::new(1));
            keep(semaphore.try_acquire(1));
            semaphore.acquire(1)
        }),
        case("one-shot", || {
            let (sender, receiver) = keep(OneShot::<()>::new()).claim().expect("it is free");
            keep(std::sync::Mutex::new(Some(sender)));
            receiver
        }),
        case("channel send", || {
            let (sender, receiver) = keep(Channel::<(), 1>::new()).claim().expect("it is free");
            keep(std::sync::Mutex::new(Some(receiver)));
            sender.try_send(()).expect("there is room");
            keep(sender).send(())
        }),
        case("channel receive", || {
            let (sender, receiver) = keep(Channel::<(), 1>::new()).claim().expect("it is free");
            keep(std::sync::Mutex::new(Some(sender)));
            let receiver = Box::leak(Box::new(receiver));
            receiver.recv()
        }),
        case("watch", || {
            let watcher = Box::leak(Box::new(keep(Watch::new(0)).watcher()));
            watcher.changed()
        }),
        case("rundown", || {
            let used = keep(RundownRef::new());
            keep(std::sync::Mutex::new(used.acquire()));
            used.run_down()
        }),
    ]
}

/// The row says at which leaf the task is parked: its kind, this file and the case's lines, its label.
#[test]
fn every_leaf_shows_itself() {
    let cases = cases();
    let next = cases.iter().skip(1).map(|case| case.line).chain([u32::MAX]);
    for (Case { kind, row, line }, next) in cases.iter().zip(next) {
        assert_eq!((row.kind, row.label), (Some(*kind), Some(LABEL)), "{row}");
        let place = row.place.expect("a leaf has a place");
        assert_eq!(place.file, file!(), "{row}");
        assert!((*line..next).contains(&place.line), "{row} is not made in line {line} or after");
    }
}

/// A kind in the sources that no case names would be a leaf that nobody has seen parked. A name there twice would be two
/// leaves that cannot be told apart.
#[test]
fn every_kind_has_a_case() {
    let mut in_sources = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).expect("a source can be read");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: String = code.collect::<Vec<_>>().join("\n");
        for after in code.split("Kind::new(").skip(1) {
            let name = after.trim_start().strip_prefix('"').and_then(|name| name.split_once('"'));
            let (name, _) =
                name.unwrap_or_else(|| panic!("{}: a kind without a literal name", path.display()));
            in_sources.push(name.to_owned());
        }
    }
    let names: BTreeSet<String> = in_sources.iter().cloned().collect();
    assert_eq!(names.len(), in_sources.len(), "two kinds have one name: {in_sources:?}");
    let with_case: BTreeSet<String> = cases().iter().map(|case| case.kind.to_owned()).collect();
    assert_eq!(names, with_case, "the kinds in the sources, and those that have a case here");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the sources are there");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// A future of another library has neither kind nor place; a label is its task's all the same.
#[test]
fn a_foreign_leaf_is_unlabelled() {
    let row = after_one_poll(never);
    assert_eq!((row.kind, row.place, row.label), (Some(UNLABELLED), None, None));
    assert_eq!(row.whereabouts().to_string(), "parked at unlabelled");
    let row = after_one_poll(|| never().label(LABEL));
    assert_eq!((row.kind, row.place, row.label), (Some(UNLABELLED), None, Some(LABEL)));
    assert_eq!(row.whereabouts().to_string(), "parked at unlabelled \"a step\"");
}
