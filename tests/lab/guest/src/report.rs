//! What the guest says, line by line: to Xen's log, which takes it at once, and to its console.
//!
//! ```text
//! lab 0.123 nodes::what_was_written_is_read: passed
//! lab 4.560 +and what was too long for a line of Xen's log
//! ```
//!
//! The last line of a life is its verdict: `lab 5.000 end: 45 passed, 0 failed`.
#![deny(unsafe_code)]

use core::{
    fmt::{self, Write as _},
    hint,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use kexec::{Table, irql::Dispatch, task_table::Row, time::timeout};
use xenbus::{console::Console, store::Text, unplug::PortLog, x86::Native};

use crate::{hlt::CLOCK, life, seam::Guest};

/// Bytes of a line.
pub(crate) const LINE: usize = 1024;

/// Xen's log breaks lines that are longer than about 200 bytes (`hvm_print_line`, `xen/arch/x86/hvm/hvm.c`): so many
/// for the text.
const PIECE: usize = 160;

/// How long somebody may take to read what is in the console's ring.
const PATIENCE: Duration = Duration::from_secs(5);

/// One virtual CPU is writing to Xen's log, which puts lines together of bytes, whosever they are.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// How long another waits for that. Then it writes all the same: the one that wrote may have crashed.
const TURN: Duration = Duration::from_secs(1);

/// Says a line, with the time before it.
pub(crate) async fn say(at: &Dispatch, console: &Console<Guest>, what: impl fmt::Display) {
    let line = line(what);
    log(&line);
    // If nobody reads it, it has been said all the same.
    let _ = timeout(PATIENCE, async {
        console.write_all(at, line.as_bytes()).await?;
        console.write_all(at, b"\n").await
    })
    .await;
}

/// Says a line to Xen's log only: there is no console yet, or no more.
pub(crate) fn note(what: impl fmt::Display) {
    log(&line(what));
}

/// Says of each task of a pool where it waits.
pub(crate) fn tasks<const S: usize>(table: &Table<S>) {
    for task in table.tasks().filter(Row::is_task) {
        note(format_args!("task {}: {}, {}", task.name, task.whereabouts(), task.history()));
    }
}

/// The last words. The toolstack sees that the guest has crashed.
pub(crate) fn crash(what: fmt::Arguments<'_>) -> ! {
    note(format_args!("crash: {what}"));
    life::end_crashed()
}

fn line(what: impl fmt::Display) -> Text<LINE> {
    let since = Duration::from_nanos(CLOCK.now().as_nanos());
    let time = format_args!("lab {}.{:03}", since.as_secs(), since.subsec_millis());
    Text::of(format_args!("{time} {what}")).unwrap_or_else(|cut| {
        Text::of(format_args!("{time} {cut}")).unwrap_or_else(|_| unreachable!("it is short"))
    })
}

/// Xen's log, in pieces that it does not break.
fn log(line: &str) {
    let is_late = CLOCK.limit(TURN);
    while IS_TAKEN.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() && !is_late() {
        hint::spin_loop();
    }
    let (xen, mut rest, mut is_first) = (PortLog::of_xen(&Native), line, true);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        // Nobody says whether it was kept.
        let _ = write!(xen.line(), "{}{piece}", if is_first { "" } else { "lab +" });
        (rest, is_first) = (after, false);
    }
    IS_TAKEN.store(false, Release);
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crash(format_args!("{info}"))
}
