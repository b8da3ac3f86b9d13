//! Events: what passes, in which form, how often, and where it goes.

use std::{
    cell::Cell,
    env, fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    time::Instant,
    trace::{self, Both, Event, Level, LevelError, Limit, Output, Ring, Sink, Stderr, UpTo},
    yield_now,
};
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

/// An image has one output: one test at a time, with the levels as they are at first.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    trace::set_level(Level::Info).expect("nobody else sets it");
    for module in ["facade", "facade::inner", "facade::inner::deep"] {
        trace::clear_module_level(module).expect("nobody else sets it");
    }
    turn
}

/// Keeps the lines.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn event(&self, event: &Event<'_>) {
        let line = event.to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });

fn clock() -> Instant {
    Instant::from_nanos(NOW.get())
}

fn pass(time: Duration) {
    NOW.set(clock().after(time).as_nanos());
}

/// Sends events to a sink while `f` runs.
fn with<S: Sink + 'static>(sink: S, clock: Option<fn() -> Instant>, f: impl FnOnce(&'static S)) {
    let sink = Box::leak(Box::new(sink));
    let output = Output::new(sink);
    trace::set_output(Some(Box::leak(Box::new(match clock {
        Some(clock) => output.with_clock(clock),
        None => output,
    }))));
    f(sink);
    trace::set_output(None);
}

fn lines(clock: Option<fn() -> Instant>, f: impl FnOnce(&'static Lines)) -> Vec<String> {
    let mut lines = Vec::new();
    with(Lines::default(), clock, |sink| {
        f(sink);
        lines = sink.take();
    });
    lines
}

mod inner {
    pub(crate) fn emit() {
        kexec::error!(limit: kexec::trace::Limit::NONE, "e");
        kexec::warn!(limit: kexec::trace::Limit::NONE, "w");
        kexec::info!(limit: kexec::trace::Limit::NONE, "i");
        kexec::debug!(limit: kexec::trace::Limit::NONE, "d");
        kexec::trace!(limit: kexec::trace::Limit::NONE, "t");
        deep::emit();
    }

    mod deep {
        pub(super) fn emit() {
            kexec::debug!(limit: kexec::trace::Limit::NONE, "deep");
        }
    }
}

/// A module whose name only begins like another's.
mod inner2 {
    pub(crate) fn emit() {
        kexec::debug!(limit: kexec::trace::Limit::NONE, "2");
    }
}

/// The messages that the modules emit.
fn messages() -> String {
    let lines = lines(None, |_| {
        inner::emit();
        inner2::emit();
    });
    let message = |line: &String| line.rsplit(": ").next().unwrap_or_default().to_owned();
    lines.iter().map(message).collect::<Vec<_>>().join(" ")
}

/// What a line looks like, and that lines come in the order of the code.
#[test]
fn format_and_order() {
    let _alone = alone();
    let lines = lines(None, |_| {
        let (name, ports) = ("vbd", [3, 5]);
        kexec::error!("{name} of {}: {ports:?}", 51_712);
        kexec::event!(Level::Warn, "{{{name:>5}}}");
        kexec::info!("plain",);
    });
    assert_eq!(lines, ["ERROR facade: vbd of 51712: [3, 5]", "WARN  facade: {  vbd}", "INFO  facade: plain"]);
}

/// An event that is off does not evaluate its arguments, whether nobody listens or its level is too low.
#[test]
fn off_is_off() {
    let _alone = alone();
    let evaluated = Cell::new(0);
    let count = || evaluated.set(evaluated.get() + 1);
    kexec::error!("{:?}", count());
    let lines = lines(None, |_| {
        kexec::debug!("{:?}", count());
        kexec::info!("{:?}", count());
    });
    assert_eq!((lines.len(), evaluated.get()), (1, 1));
}

/// The level of an event can be found out from where it comes from, and so can its place.
#[test]
fn an_event_knows_its_place() {
    struct Places(Mutex<Vec<(Level, String)>>);
    impl Sink for Places {
        fn event(&self, event: &Event<'_>) {
            let site = event.site();
            let place = format!("{}:{} {}", site.file(), site.line(), site.module());
            self.0.lock().unwrap().push((event.level(), place));
        }
    }
    let _alone = alone();
    with(Places(Mutex::default()), None, |places| {
        let line = line!() + 1;
        kexec::warn!("here");
        let place = format!("kexec/tests/facade.rs:{line} facade");
        assert_eq!(*places.0.lock().unwrap(), [(Level::Warn, place)]);
    });
}

/// The default level, and each module's own, changed between the same events; a module's name is matched as a whole.
#[test]
fn levels_at_run_time() {
    let _alone = alone();
    assert_eq!(messages(), "e w i");
    trace::set_level(None).unwrap();
    assert_eq!(messages(), "");
    trace::set_level(Level::Error).unwrap();
    assert_eq!(messages(), "e");
    trace::set_level(Level::Trace).unwrap();
    assert_eq!(messages(), "e w i d t deep 2");
    trace::set_level(Level::Info).unwrap();
    trace::set_module_level("facade::inner", Level::Warn).unwrap();
    assert_eq!(messages(), "e w");
    trace::set_module_level("facade::inner::deep", Level::Debug).unwrap();
    assert_eq!(messages(), "e w deep");
    trace::set_module_level("facade", Level::Trace).unwrap();
    assert_eq!(messages(), "e w deep 2", "the inner ones have their own");
    trace::clear_module_level("facade::inner").unwrap();
    assert_eq!(messages(), "e w i d t deep 2");
    trace::set_module_level("facade::inner", None).unwrap();
    assert_eq!(messages(), "deep 2");
    trace::clear_module_level("nobody has named this").unwrap();
    trace::set_levels(" error,facade =info, facade::inner= debug,facade::inner::deep=off,, ").unwrap();
    assert_eq!(messages(), "e w i d");
    let levels = ["facade::inner::x", "facade::x", "x"].map(trace::level_of);
    assert_eq!(levels, [Level::Debug, Level::Info, Level::Error].map(Some));
}

/// Levels that cannot be set: the error says which, and nothing has changed.
#[test]
fn levels_that_are_none() {
    let _alone = alone();
    let long = "x".repeat(49);
    let error = |text: &str| trace::set_levels(text).expect_err("it is wrong").to_string();
    assert_eq!(error("loud"), "`loud` is no level; the levels are off, error, warn, info, debug and trace");
    assert_eq!(
        error("facade=Debug"),
        "`Debug` is no level; the levels are off, error, warn, info, debug and trace"
    );
    assert_eq!(error("=debug"), "`` cannot name a module here: give 1 to 48 bytes, or an outer module");
    assert_eq!(trace::set_module_level(&long, Level::Warn), Err(LevelError::Module(&long)));
    assert_eq!(messages(), "e w i");
    trace::set_level(Level::Debug).unwrap();
    assert!(trace::set_levels("warn, facade = ?, error").is_err());
    assert_eq!(messages(), "e w", "what stands before the error was set");
}

proptest! {
    /// A registry value may be anything.
    #[test]
    fn any_text_of_levels(
        text in prop::collection::vec(
            prop_oneof![any::<char>().prop_map(String::from), "[=,: ]|info|off|facade|inner"],
            0..20,
        )
    ) {
        let _alone = alone();
        // The names of modules are remembered for ever: these are not to be.
        let text = text.concat().replace('=', "");
        let known = ["off", "error", "warn", "info", "debug", "trace"];
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let unknown = parts.clone().find(|part| !known.contains(part));
        assert_eq!(trace::set_levels(&text), unknown.map_or(Ok(()), |part| Err(LevelError::Unknown(part))));
    }
}

/// The exact events that pass, by virtual time, and the exact numbers that are told.
#[test]
fn limits() {
    let _alone = alone();
    NOW.set(0);
    let emit = |times: u32| {
        for n in 0..times {
            kexec::info!(limit: Limit::new(4, Duration::from_millis(100)), "{n}");
        }
    };
    let sets: Vec<Vec<String>> = {
        let mut sets = Vec::new();
        with(Lines::default(), Some(clock), |sink| {
            let mut after = |wait: u64, times: u32| {
                pass(Duration::from_millis(wait));
                emit(times);
                let short = |line: &String| line.replace("INFO  facade: ", "");
                sets.push(sink.take().iter().map(short).collect());
            };
            after(0, 10);
            after(24, 10);
            after(1, 10);
            after(50, 10);
            after(10_000, 10);
            // The clock goes back, by more than an interval.
            NOW.set(5_000_000_000);
            after(0, 10);
            after(25, 1);
            // And by less: the account is a new one all the same.
            NOW.set(4_990_000_000);
            after(0, 1);
            // At the end of time nothing can be told apart, and nothing is suppressed.
            NOW.set(u64::MAX);
            after(0, 10);
        });
        sets
    };
    let expected: [&[&str]; 9] = [
        &["0", "1", "2", "3"],
        &[],
        &["0 (16 suppressed)"],
        &["0 (9 suppressed)", "1"],
        &["0 (8 suppressed)", "1", "2", "3"],
        &["0 (6 suppressed)", "1", "2", "3"],
        &["0 (6 suppressed)"],
        &["0"],
        &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    ];
    assert_eq!(sets, expected);
}

/// Without a clock, the first events pass and then one in 256; each place has its own account, and may have none.
#[test]
fn limits_by_number() {
    let _alone = alone();
    let lines = lines(None, |_| {
        for n in 0..1_000 {
            kexec::info!(limit: Limit::new(3, Duration::from_secs(1)), "a {n}");
        }
        for n in 0..20 {
            kexec::info!(limit: Limit::new(0, Duration::MAX), "b {n}");
            kexec::info!(limit: Limit::NONE, "c {n}");
        }
    });
    let of = |place: &str| -> Vec<_> {
        lines.iter().filter_map(|line| line.strip_prefix(&format!("INFO  facade: {place} "))).collect()
    };
    let a = ["0", "1", "2", "256 (253 suppressed)", "512 (255 suppressed)", "768 (255 suppressed)"];
    assert_eq!(of("a"), a);
    assert_eq!(of("b"), ["0"], "none is less than one");
    assert_eq!(of("c").len(), 20);
}

/// Two sinks see the same; one of them only what is urgent.
#[test]
fn several_sinks() {
    let _alone = alone();
    with(
        Both(Lines::default(), Both(UpTo(Level::Warn, Lines::default()), Ring::<4>::new())),
        None,
        |sinks| {
            kexec::info!("a");
            kexec::warn!("b");
            assert_eq!(sinks.0.take(), ["INFO  facade: a", "WARN  facade: b"]);
            assert_eq!(sinks.1.0.1.take(), ["WARN  facade: b"]);
            let kept: Vec<_> = sinks.1.1.entries().map(|entry| entry.to_string()).collect();
            assert_eq!(kept, ["INFO  facade: a", "WARN  facade: b"]);
        },
    );
}

/// Lines on standard error, with the time if there is a clock: seen from a process that runs this test once more.
#[test]
fn standard_error() {
    let _alone = alone();
    if env::var_os("KEXEC_FACADE_EMITS").is_some() {
        NOW.set(12_000_345_678);
        with(Stderr, Some(clock), |_| kexec::warn!("with a time"));
        with(Stderr, None, |_| kexec::error!("without"));
        return;
    }
    let this = env::current_exe().expect("it has a path");
    let mut child = Command::new(this);
    child.args(["standard_error", "--exact", "--nocapture"]).env("KEXEC_FACADE_EMITS", "");
    let output = child.output().expect("it starts");
    let lines = String::from_utf8(output.stderr).expect("it is text");
    let expected = "[   12.000345] WARN  facade: with a time\nERROR facade: without\n";
    assert!(lines.contains(expected), "{lines}");
}

/// The output is replaced while it is used: every event goes to one of the two.
#[test]
fn replacing_the_output() {
    const EVENTS: u64 = 2_000;
    static OUTPUTS: [Output; 2] = [Output::new(&RINGS[0]), Output::new(&RINGS[1])];
    static RINGS: [Ring<8>; 2] = [Ring::new(), Ring::new()];
    let _alone = alone();
    trace::set_output(Some(&OUTPUTS[0]));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                for output in OUTPUTS.iter().rev() {
                    let before = trace::set_output(Some(output)).expect("there was one");
                    assert!(OUTPUTS.iter().any(|known| std::ptr::eq(known, before)));
                }
            }
        });
        for n in 0..EVENTS {
            kexec::warn!(limit: Limit::NONE, "{n}");
        }
        done.store(true, Relaxed);
    });
    trace::set_output(None);
    assert_eq!(RINGS.iter().map(|ring| ring.totals().events).sum::<u64>(), EVENTS);
}

/// What a sink emits, and what a message emits while it is formatted, is suppressed: there is no loop, and it is told.
#[test]
fn events_inside_of_a_sink() {
    struct Talkative(Lines);
    impl Sink for Talkative {
        fn event(&self, event: &Event<'_>) {
            inside();
            self.0.event(event);
        }
    }
    struct Chatty;
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            inside();
            f.write_str("chatty")
        }
    }
    fn inside() {
        kexec::error!(limit: Limit::NONE, "inside");
    }
    let _alone = alone();
    with(Talkative(Lines::default()), None, |sink| {
        kexec::info!("one");
        kexec::info!("{Chatty}");
        inside();
        let lines = ["INFO  facade: one", "INFO  facade: chatty", "ERROR facade: inside (3 suppressed)"];
        assert_eq!(sink.0.take(), lines);
    });
}

/// A sink that panics takes the caller with it, and no one else: the next event arrives.
#[test]
fn a_sink_that_panics() {
    struct Fragile(AtomicBool, Lines);
    impl Sink for Fragile {
        fn event(&self, event: &Event<'_>) {
            assert!(self.0.swap(false, Relaxed), "no more");
            self.1.event(event);
        }
    }
    let _alone = alone();
    with(Fragile(AtomicBool::new(true), Lines::default()), None, |sink| {
        for _ in 0..100 {
            sink.0.store(false, Relaxed);
            assert!(catch_unwind(AssertUnwindSafe(|| kexec::error!(limit: Limit::NONE, "lost"))).is_err());
            sink.0.store(true, Relaxed);
            kexec::error!(limit: Limit::NONE, "seen");
            assert_eq!(sink.1.take(), ["ERROR facade: seen"]);
        }
    });
}

/// Events at interrupt level, in the middle of wakes, runs and other events' tasks: all arrive, and a seed has one order.
#[test]
fn events_from_interrupts() {
    let _alone = alone();
    let storm = |seed| {
        let interrupts = keep(AtomicU64::new(0));
        let executor: &'static Executor<Mock> = Executor::leak(Mock::new(Plan::wild(seed)), Budget::DEFAULT);
        executor.platform().on_interrupt(|| {
            let n = interrupts.fetch_add(1, Relaxed);
            kexec::warn!(limit: Limit::NONE, "interrupt {n}");
        });
        let lines = lines(None, |_| {
            let slots = keep(Pool::<256, 4>::new());
            for task in 0..4 {
                let emits = async move |_: &mut Dispatch, ()| {
                    for n in 0..10 {
                        kexec::info!(limit: Limit::NONE, "task {task} {n}");
                        yield_now().await;
                    }
                };
                executor.spawn(slots, emits, ()).expect("a slot is free").detach();
            }
            executor.settle();
        });
        let of = |prefix: &str| lines.iter().filter(|line| line.starts_with(prefix)).count() as u64;
        assert_eq!((of("WARN "), of("INFO ")), (interrupts.load(Relaxed), 40), "seed {seed}");
        lines
    };
    for seed in 0..100 {
        assert_eq!(storm(seed), storm(seed), "seed {seed}");
    }
}
