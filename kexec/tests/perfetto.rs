//! The picture of a run: what is on it, and that a viewer can read it, whatever happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    future::pending,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures_util::future::{join, select};
use kexec::{
    Budget, Executor, Pool, TaskRef,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    span,
    task_table::Label,
    trace::{self, InSpan, Output, Perfetto},
    yield_now,
};
use serde_json::Value;

use self::scenario::{Exec, woken};

#[path = "perfetto/scenario.rs"]
mod scenario;

/// An image has one output: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws what `f` does.
fn picture(f: impl FnOnce()) -> String {
    let picture = keep(Perfetto::new());
    let output = keep(Output::new(picture));
    trace::set_output(Some(output));
    f();
    trace::set_output(None);
    picture.json()
}

/// An object of the picture.
#[derive(Clone, Debug)]
struct Object {
    phase: char,
    /// Process and thread.
    track: (u64, u64),
    /// In nanoseconds; the end is that of a slice.
    time: u64,
    end: u64,
    name: String,
    arguments: Value,
}

/// Reads a picture as a viewer does: by time, and in the order of the file where that is the same.
fn read(json: &str) -> Vec<Object> {
    let value: Value = serde_json::from_str(json).expect("it is JSON");
    let number = |object: &Value, name: &str| object[name].as_u64().unwrap_or_default();
    // Microseconds; a number has lost the zeros at its end.
    let nanos = |object: &Value, name: &str| {
        let text = object[name].to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or(("0", "0"));
        format!("{whole}{fraction:0<3}").parse::<u64>().expect("it is a time")
    };
    let object = |object: &Value| Object {
        phase: object["ph"].as_str().and_then(|phase| phase.chars().next()).expect("it has a phase"),
        track: (number(object, "pid"), number(object, "tid")),
        time: nanos(object, "ts"),
        end: nanos(object, "ts") + nanos(object, "dur"),
        name: object["name"].as_str().unwrap_or_default().to_owned(),
        arguments: object["args"].clone(),
    };
    let mut objects: Vec<_> =
        value["traceEvents"].as_array().expect("there are objects").iter().map(object).collect();
    objects.sort_by_key(|object| object.time);
    objects
}

/// The names of all tracks; no two may have the same number.
fn tracks(objects: &[Object]) -> BTreeMap<(u64, u64), String> {
    let mut tracks = BTreeMap::new();
    let mut threads = BTreeSet::new();
    for object in objects.iter().filter(|object| object.name == "thread_name") {
        let name = object.arguments["name"].as_str().expect("it has a name").to_owned();
        assert!(threads.insert(object.track.1), "two tracks of one number: {object:?}");
        tracks.insert(object.track, name);
    }
    tracks
}

/// Slices nest, close, and are on a track with a name.
fn check(objects: &[Object]) {
    let tracks = tracks(objects);
    // The ends of the slices that are open, where they are known.
    let mut open: BTreeMap<(u64, u64), Vec<Option<u64>>> = BTreeMap::new();
    for object in objects.iter().filter(|object| object.phase != 'M') {
        assert!(tracks.contains_key(&object.track), "no such track: {object:?}");
        let open = open.entry(object.track).or_default();
        while open.last().is_some_and(|end| end.is_some_and(|end| end <= object.time)) {
            open.pop();
        }
        match object.phase {
            'B' | 'X' => {
                assert_eq!(open.last().copied().flatten(), None, "inside of what has no parts: {object:?}");
                open.push((object.phase == 'X').then_some(object.end));
            }
            'E' => assert_eq!(open.pop(), Some(None), "ends what has not begun: {object:?}"),
            'i' => {}
            phase => panic!("{phase}: {object:?}"),
        }
    }
    for (track, open) in open {
        assert!(open.iter().all(Option::is_some), "{track:?} has a span that does not end");
    }
}

/// What a track shows, but for slices of no length.
fn shown(objects: &[Object], name: &str) -> Vec<String> {
    let tracks = tracks(objects);
    let (track, _) = tracks.iter().find(|(_, track)| *track == name).expect("there is a track of this name");
    let on_it = objects.iter().filter(|object| object.track == *track && object.phase != 'M');
    on_it
        .filter_map(|object| match object.phase {
            'X' if object.end > object.time => Some(format!("{} {}", object.name, object.end - object.time)),
            'B' => Some(format!("> {}", object.name)),
            'E' => Some(format!("< {}", object.arguments["end"].as_str().unwrap_or_default())),
            _ => None,
        })
        .collect()
}

/// The picture of the scenario, byte for byte. A change is looked at in a viewer, and blessed with `KEXEC_BLESS=1`.
#[test]
fn a_small_day() {
    let _alone = alone();
    let json = picture(scenario::run);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/perfetto/scenario.json");
    if env::var_os("KEXEC_BLESS").is_some() {
        fs::write(&golden, &json).expect("the picture can be written");
    }
    check(&read(&json));
    assert_eq!(json, fs::read_to_string(&golden).expect("it has been blessed"));
}

/// What a reader of the picture of that day sees on the track of one task: each wait under its name, the spans around it.
#[test]
fn waits_have_names() {
    let _alone = alone();
    let objects = read(&picture(scenario::run));
    let lines = shown(&objects, "perfetto::scenario::connect #1");
    let expected = [
        "poll 3000",
        "> handshake",
        "poll 2000",
        "> second",
        r#"wake kexec/tests/perfetto/scenario.rs:LINE "first \"answer\"" 17000"#,
        "poll 1000",
        "< dropped",
        "poll 4000",
        "< completed",
    ];
    let line = lines[4].split([':', ' ']).nth(2).expect("it has a line");
    assert!(line.parse::<u32>().is_ok(), "{line}");
    assert_eq!(lines, expected.map(|text| text.replace("LINE", line)));
}

/// Names may be anything: what a backend calls itself goes into messages.
#[test]
fn any_name_is_json() {
    let _alone = alone();
    let names = [
        "\"",
        "\\",
        "\u{0}\u{1f}\u{7f}",
        "\n\r\t",
        "\u{2028}\u{feff}",
        "💾 Ünï",
        "</script>",
        "{\"a\":[1]}",
        "",
    ];
    let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
    executor.trace_tasks(true);
    let json = picture(|| {
        for name in names {
            kexec::error!(limit: trace::Limit::NONE, "{name}");
        }
        let labelled = async |_: &mut Dispatch, ()| {
            for name in ["\"", "\u{0}\\", "💾"] {
                woken(1).label(name).in_span(span!("\"\\\u{1}")).await;
            }
        };
        let task =
            executor.spawn(keep(Pool::<256, 1>::new()), labelled, ()).expect("a slot is free").detach();
        for _ in 0..4 {
            executor.settle();
            executor.platform().pass(Duration::from_micros(1));
            task.wake();
        }
    });
    let objects = read(&json);
    check(&objects);
    let marks: Vec<_> = objects
        .iter()
        .filter(|object| object.arguments["level"] == "ERROR")
        .map(|object| &object.name)
        .collect();
    assert_eq!(marks, names);
    assert_eq!(objects.iter().filter(|object| object.name == "\"\\\u{1}").count(), 3);
}

/// Tasks that span, join, select, are aborted and woken from interrupts, under a seed.
fn storm(seed: u64) -> String {
    picture(|| {
        let slots = keep(Pool::<1024, 12>::new());
        let executor: Exec =
            Executor::leak(Mock::new(Plan::wild(seed)), Budget::new(5, Duration::from_micros(20)));
        executor.trace_tasks(true);
        let task = async move |_: &mut Dispatch, n: u32| {
            let pass = |micros| executor.platform().pass(Duration::from_micros(micros));
            for round in 0..n {
                let one = async {
                    pass(1);
                    yield_now().label("one").await;
                    pass(u64::from(round % 2));
                };
                let two = async {
                    yield_now().await;
                    yield_now().in_span(span!("inner")).await;
                };
                join(one.in_span(span!("one")), two.in_span(span!("two"))).await;
                let never = Box::pin(pending::<()>().in_span(span!("never")));
                select(never, Box::pin(yield_now())).await;
                let _function = span!("function").enter();
                pass(1);
            }
            if n == 3 {
                pending::<()>().in_span(span!("for ever")).await;
            }
        };
        let names: Vec<TaskRef> =
            (0..8).map(|n| executor.spawn(slots, task, n % 5).expect("a slot is free").detach()).collect();
        for name in &names {
            executor.platform().haunt(*name);
        }
        executor.platform().on_interrupt(move || kexec::info!(limit: trace::Limit::NONE, "interrupt"));
        names[4].abort();
        for _ in 0..40 {
            executor.step();
        }
        names[2].abort();
        executor.settle();
        executor.trace_tasks(false);
        names[3].wake();
        executor.settle();
        assert_eq!(executor.live(), 1, "the one that waits for ever is left");
    })
}

/// Slices nest and close, each task has one track, and a seed has one picture, whatever comes together.
#[test]
fn slices_nest_in_any_storm() {
    let _alone = alone();
    for seed in 0..60 {
        let json = storm(seed);
        let objects = read(&json);
        check(&objects);
        let tasks = tracks(&objects).into_values().filter(|name| name.contains("storm")).count();
        assert_eq!(tasks, 8, "seed {seed}");
        assert_eq!(json, storm(seed), "seed {seed}");
    }
}

/// What no task does is on a track for its thread, and spans of futures that a host's own executor polls are.
#[test]
fn outside_of_tasks() {
    let _alone = alone();
    let json = picture(|| {
        let here = || {
            let _outer = span!("outer").enter();
            kexec::info!(limit: trace::Limit::NONE, "from a thread");
            pollster::block_on(async {}.in_span(span!("blocked on")));
        };
        here();
        thread::spawn(here).join().expect("no panic");
        // Dropped unpolled: it never began.
        drop(async {}.in_span(span!("not begun")));
    });
    let objects = read(&json);
    check(&objects);
    assert_eq!(tracks(&objects).into_values().collect::<Vec<_>>(), ["thread 1", "thread 2"]);
    for thread in ["thread 1", "thread 2"] {
        let both = ["> outer", "> blocked on", "< completed", "< completed"];
        assert_eq!(shown(&objects, thread), both);
    }
    assert_eq!(objects.iter().filter(|object| object.name == "from a thread").count(), 2);
}

/// A picture may begin and end anywhere: in the middle of waits, spans and runs.
#[test]
fn a_picture_of_the_middle() {
    let _alone = alone();
    let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
    let task = async move |_: &mut Dispatch, ()| {
        woken(2).in_span(span!("seen by nobody")).await;
        executor.platform().pass(Duration::from_micros(1));
        woken(1).in_span(span!("half")).await;
    };
    let task = executor.spawn(keep(Pool::<512, 1>::new()), task, ()).expect("a slot is free").detach();
    executor.settle();
    let mut half = String::new();
    let all = picture(|| {
        executor.trace_tasks(true);
        for _ in 0..2 {
            task.wake();
            executor.settle();
        }
        half = picture(|| {
            executor.platform().pass(Duration::from_micros(1));
            task.wake();
        });
    });
    for json in [&half, &all] {
        check(&read(json));
    }
    assert!(all.contains("half") && !all.contains("seen by nobody"), "{all}");
    assert!(!half.contains("half"), "{half}");
    executor.settle();
    assert_eq!(executor.live(), 0);
}

/// A file that can be opened elsewhere; a folder that is not there is an error, and no panic.
#[test]
fn a_picture_in_a_file() {
    let picture = Perfetto::new();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("picture.json");
    picture.save(&file).expect("it can be written");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), picture.json());
    assert!(picture.save(file.join("no folder")).is_err());
}
