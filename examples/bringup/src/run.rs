//! One run, to be looked at.

use std::{
    fs::{self, File},
    io::{Write, stdout},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kexec::{
    Scope,
    platform::mock::keep,
    trace::{self, Output, Perfetto},
};
use xen_harness::{BusDriver, Player, Rig};
use xen_sim::GuestConfig;

use crate::{
    arguments::Arguments,
    guest::{Guest, Lived, live},
    picture::{self, Line},
    plot::Plot,
    timeline::{self, Timeline},
};

/// No guest lives longer.
const LIMIT: Duration = Duration::from_mins(10);

/// Numbers that each device complements; one goes before it has done so, and comes again.
const NUMBERS: u64 = 1000;

static PICTURE: Perfetto = Perfetto::new();
static OUTPUT: Output = Output::new(&PICTURE);

/// Runs the guest once, and says what came of it.
pub(crate) fn once(wanted: &Arguments) -> ExitCode {
    // Better now than after the run.
    for file in wanted.trace.iter().chain(&wanted.picture) {
        if let Err(error) = File::create(file) {
            eprintln!("{}: cannot be written: {error}", file.display());
            return ExitCode::from(2);
        }
    }
    let mut player = Player::new(wanted.seed);
    let (looks_at_all, is_traced) =
        (wanted.trace.is_some(), wanted.trace.is_some() || wanted.picture.is_some());
    let lines: Arc<Mutex<Vec<Line>>> = Arc::default();
    let seen = lines.clone();
    let config = GuestConfig { name: "bringup".into(), ..GuestConfig::default() };
    let rig = Rig::watched(&mut player, config, |machine| {
        machine.observe(move |line| {
            if looks_at_all || !line.is_detail {
                timeline::print(line.at, &line.who, &line.what);
            }
            if !line.is_detail {
                let line = Line { at: line.at, who: line.who.clone(), what: line.what.clone() };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    });
    let bus = BusDriver::new(&rig, &mut player, keep(Scope::new("guest")), true);
    let timeline = Timeline::new(bus.executor(), true);
    if is_traced {
        trace::set_output(Some(&OUTPUT));
        bus.executor().trace_tasks(true);
    }
    let guest: &Guest = keep(Guest::new(&rig, bus, timeline, NUMBERS));
    Plot::Long.begin(&rig, &mut player, guest);
    let task = bus.spawn(live, guest).expect("a slot is free");
    while !task.is_finished() && player.step(LIMIT) {}
    let time = player.time();
    let outcome = task.try_take();
    let closed = player.close();
    let mut screen = vec![String::new()];
    let mut is_right = true;
    match outcome {
        Ok(Ok(Ok(Lived { complemented }))) => {
            screen.push(format!("  {complemented:>8} numbers complemented by echo devices"));
            is_right &= complemented >= 2 * NUMBERS;
        }
        Ok(Ok(Err(stopped))) => {
            screen.push(format!("  the guest has stopped: {stopped}"));
            is_right = false;
        }
        Ok(Err(_)) | Err(_) => {
            screen.push("  the guest has not come to its end".into());
            is_right = false;
        }
    }
    if let Err(executor) = closed {
        screen.push(format!("  the executor `{executor}` cannot be closed: a task of it does not end"));
        is_right = false;
    }
    screen.extend(rig.machine().counts().iter().map(|(what, count)| format!("  {count:>8} {what}")));
    let polls = bus.executor().stats().polls;
    screen.push(format!("  {polls:>8} polls, {:.3} ms of virtual time", time.as_secs_f64() * 1e3));
    trace::set_output(None);
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let traced = wanted.trace.as_ref().map(|file| (file, "open it in ui.perfetto.dev", PICTURE.json()));
    let drawn = wanted.picture.as_ref();
    let drawn = drawn.map(|file| (file, "open it in a browser", picture::draw(&PICTURE.json(), &lines)));
    for (file, hint, text) in traced.into_iter().chain(drawn) {
        match fs::write(file, text) {
            Ok(()) => screen.push(format!("  the run is in {}: {hint}", file.display())),
            Err(error) => {
                screen.push(format!("  {}: cannot be written: {error}", file.display()));
                is_right = false;
            }
        }
    }
    // The verdict comes last, after what it is about.
    let audit = rig.machine().audit(rig.guest());
    let text = audit.to_string();
    let (verdict, findings) = text.split_once('\n').unwrap_or((&text, ""));
    screen.extend(findings.lines().chain([verdict]).map(str::to_owned));
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{}", screen.join("\n"));
    if is_right && audit.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
