//! Ends the process when driver code neither calls the kernel nor returns: nothing else could go on then, virtual time
//! stands still, and a test would hang in silence.
#![forbid(unsafe_code)]

use std::{
    fmt, process,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// Seconds of real time for one step of driver code, if not [`DEFAULT`].
const PATIENCE: &str = "NT_SIM_PATIENCE";
/// A step takes microseconds.
const DEFAULT: u64 = 20;

/// Entered and left so often: odd while driver code runs.
static CROSSINGS: AtomicU64 = AtomicU64::new(0);
/// Where it was last seen.
static CALLER: AtomicU64 = AtomicU64::new(0);
/// The run of the process: there is one at a time.
static RUN: Mutex<String> = Mutex::new(String::new());

/// Begins to watch a run.
pub(crate) fn watch(run: &impl fmt::Display) {
    static START: Once = Once::new();
    *RUN.lock().unwrap_or_else(PoisonError::into_inner) = run.to_string();
    START.call_once(|| {
        let patience = std::env::var(PATIENCE).ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT);
        thread::spawn(move || keep_watch(Duration::from_secs(patience)));
    });
}

/// Driver code goes on after its call that returns here.
pub(crate) fn enters(caller: u64) {
    CALLER.store(caller, Relaxed);
    CROSSINGS.fetch_add(1, Relaxed);
}

/// Driver code has stopped.
pub(crate) fn leaves() {
    CROSSINGS.fetch_add(1, Relaxed);
}

fn keep_watch(patience: Duration) {
    let mut seen = 0;
    loop {
        thread::sleep(patience);
        let now = CROSSINGS.load(Relaxed);
        if now == seen && now % 2 == 1 {
            let run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!(
                "Hang: driver code has called nothing and not returned for {patience:?}\n  \
                 after the call that returned to {:#x}\n  in the run of {run}\n  \
                 NT_SIM_TRACE=1 shows the way there",
                CALLER.load(Relaxed)
            );
            process::abort();
        }
        seen = now;
    }
}
