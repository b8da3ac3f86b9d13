//! kexec at work: a disk, its interrupt, and reads that are completed exactly once.
//!
//! Three threads of the host play a machine: the disk ([`device`]); the DPC in which the driver's executor
//! runs ([`driver`]); and, on the main thread, the storage port above the driver ([`port`]).
//! Half-way through, the disk hangs and is reset; in the end it is removed with requests outstanding.
//! What the last screen marks `ok` was checked: the exit code is 1 if anything marked is not so.

mod device;
mod driver;
mod port;

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use kexec::{Cancelled, Slot, SpawnError, platform::thread::passive};

use crate::{
    device::{Disk, SLOTS, content, ring},
    driver::{EXECUTOR, READ_SIZE, READS, RINGS, checksum, queue},
    port::{Port, books},
};

const HELP: &str = "\
usage: doorbell [--requests N] [--seed N]

  --requests N   how many blocks to read, 1000 to 1000000 (200000)
  --seed N       when the disk answers, and in which order (1)
  --help         print this
";

fn main() -> ExitCode {
    // A thread that panics must not leave the others waiting for it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
    match options(std::env::args().skip(1)) {
        Ok(Some((requests, seed))) => {
            let began = Instant::now();
            let port = play(requests, seed);
            if show(&port, requests, began.elapsed()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprint!("error: {message}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// How many requests, and the seed; None if help is wanted.
fn options(mut words: impl Iterator<Item = String>) -> Result<Option<(u64, u64)>, String> {
    let (mut requests, mut seed) = (200_000, 1);
    while let Some(word) = words.next() {
        let (option, range) = match word.as_str() {
            "--requests" => (&mut requests, 1_000..=1_000_000),
            "--seed" => (&mut seed, 0..=u64::MAX),
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("there is no option `{other}`")),
        };
        let value = words.next().ok_or(format!("`{word}` needs a number after it"))?;
        let number = value.parse().ok().filter(|number| range.contains(number));
        let wrong = || format!("`{word} {value}`: not a number from {} to {}", range.start(), range.end());
        *option = number.ok_or_else(wrong)?;
    }
    Ok(Some((requests, seed)))
}

/// From the disk's arrival to its removal.
fn play(requests: u64, mut seed: u64) -> Port {
    let random = move |bound| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).map_or(0, |random| random % bound)
    };
    let say = |what: &str| eprintln!("{}{what}", if stderr().is_terminal() { "\r\x1b[K" } else { "" });

    EXECUTOR.start().expect("this is the only start");
    let interrupt = driver::connect();
    let disk = thread::spawn(move || device::serve(interrupt, random));

    let mut port = Port::default();
    for lba in 0..requests {
        if lba == requests / 2 {
            say("the disk hangs, until the port loses patience and resets it");
            ring().disk = Disk::Hangs;
        }
        port.start(lba);
        if lba.is_multiple_of(requests / 100) && stderr().is_terminal() {
            eprint!("\r{lba} of {requests} requests started ");
        }
    }

    say("the disk is removed, with requests outstanding");
    // Lets nobody in, cancels every task, waits until all are gone; then, until no doorbell is on its way.
    let closed = pollster::block_on(EXECUTOR.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
    // Until here the disk may have woken the ring's task, which is gone: that does no harm.
    ring().disk = Disk::Gone;
    ring().notify();
    disk.join().expect("the disk does not panic");
    port
}

/// Prints the last screen. Whether all that it claims is so.
fn show(port: &Port, requests: u64, time: Duration) -> bool {
    let (books, stats, queue, ring) = (books(), EXECUTOR.stats(), queue(), ring());
    let count = |is: &dyn Fn(u64, &[_]) -> bool| {
        (0..).zip(&books.outcomes).filter(|&(lba, outcomes)| is(lba, outcomes)).count() as u64
    };
    let once = count(&|_, outcomes| outcomes.len() == 1);
    let right = count(&|lba, outcomes| outcomes.contains(&Ok(checksum(&content(lba)))));
    let cancelled = count(&|_, outcomes| outcomes.contains(&Err(Cancelled)));
    let live = port.tasks.iter().filter(|task| task.is_live()).count();
    let shut = matches!(EXECUTOR.spawn(&RINGS, driver::serve_ring, ()), Err(SpawnError::Closed(_)));
    // Whatever makes a task ready: its spawn, the interrupt, another task, an abort.
    let wakes = 1 + requests + port.resets + ring.interrupts + queue.wakes + port.aborted;
    let each = |what: u64, per: u64| format!("{}.{}", what / per.max(1), what * 10 / per.max(1) % 10);

    let mut screen = Screen { lines: Vec::new(), holds: true };
    screen.head(&format!("{requests} reads of 512 bytes over a ring of {SLOTS} slots, in {time:.1?}"));
    screen.claim(
        once == requests,
        once,
        &format!("of {requests} were completed by one epilogue, exactly once"),
    );
    screen.claim(right + cancelled == requests, right, "returned the data of their block");
    screen.claim(cancelled >= port.aborted, cancelled, "were cancelled, by a reset or by the close");
    screen.claim(port.refused > 0, port.refused, "times no slot was free: given back, and tried again");
    screen.head("the ring");
    let batch = each(requests, ring.notifications);
    screen.row(ring.notifications, &format!("notifications of the disk, one for {batch} requests"));
    let batch = each(requests, ring.interrupts);
    screen.row(ring.interrupts, &format!("interrupts, one for {batch} responses"));
    let aborted = format!("times the disk was reset, which aborted {} requests", port.aborted);
    screen.claim(port.aborted > 0, port.resets, &aborted);
    screen.head("the executor");
    screen.row(wakes, "wakes: spawns, interrupts, tasks that wake one another, aborts");
    screen.row(stats.runs, &format!("runs, each after one doorbell, for {} wakes", each(wakes, stats.runs)));
    screen.row(stats.polls, &format!("polls, {} in a run", each(stats.polls, stats.runs)));
    screen.row(stats.overruns, "runs ended at their budget, with tasks left for the next one");
    screen.row(stats.stale, "polls of a slot whose task had gone");
    screen.head("memory");
    let size = size_of::<Slot<READ_SIZE>>();
    screen.row(size, &format!("bytes a slot, of which {READ_SIZE} are the task and its SRB"));
    screen.row(READS.high_water(), &format!("of {SLOTS} slots in use at the same time, at most"));
    screen.head("after close and silence");
    screen.claim(EXECUTOR.live() == 0, EXECUTOR.live(), "tasks hold a slot");
    screen.claim(live == 0, live, "requests have a live task");
    screen.claim(queue.waiting.is_empty(), queue.waiting.len(), "reads wait for an answer");
    screen.claim(shut, u8::from(!shut), "new tasks are let in");
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{}", screen.lines.join("\n"));
    screen.holds
}

struct Screen {
    lines: Vec<String>,
    holds: bool,
}

impl Screen {
    fn head(&mut self, what: &str) {
        self.lines.push(what.to_owned());
    }

    fn row(&mut self, figure: impl Display, what: &str) {
        self.lines.push(format!("     {figure:>9}  {what}"));
    }

    fn claim(&mut self, holds: bool, figure: impl Display, what: &str) {
        if !holds {
            eprintln!("error: this must not be: {figure} {what}");
        }
        self.holds &= holds;
        self.lines.push(format!("  {} {figure:>9}  {what}", if holds { "ok" } else { "NO" }));
    }
}
