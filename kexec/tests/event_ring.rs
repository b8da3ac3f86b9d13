//! The ring of events: what it keeps, what it cuts, and what it counts when everybody writes at once.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use kexec::{
    time::Instant,
    trace::{self, Level, Limit, Output, Ring, Totals},
};

/// An image has one output: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends events to a ring while `f` runs.
fn with<const N: usize, const WORDS: usize>(
    clock: Option<fn() -> Instant>,
    f: impl FnOnce(&'static Ring<N, WORDS>),
) {
    let ring = Box::leak(Box::new(Ring::new()));
    let output = Output::new(ring);
    let output = if let Some(clock) = clock { output.with_clock(clock) } else { output };
    trace::set_output(Some(Box::leak(Box::new(output))));
    f(ring);
    trace::set_output(None);
}

fn texts<const N: usize, const WORDS: usize>(ring: &Ring<N, WORDS>) -> Vec<(u64, String)> {
    ring.entries().map(|entry| (entry.number(), entry.text().to_owned())).collect()
}

/// The last events are there, the oldest first, and the numbers tell how many are not.
#[test]
fn the_last_ones() {
    let _alone = alone();
    with::<4, 16>(None, |ring| {
        assert_eq!(texts(ring), []);
        for n in 0..3 {
            kexec::info!(limit: Limit::NONE, "{n}");
        }
        assert_eq!(texts(ring), [0, 1, 2].map(|n| (n, format!("event_ring: {n}"))));
        for n in 3..11 {
            kexec::info!(limit: Limit::NONE, "{n}");
        }
        assert_eq!(texts(ring), [7, 8, 9, 10].map(|n| (n, format!("event_ring: {n}"))));
        assert_eq!(ring.totals(), Totals { events: 11, lost: 0 });
    });
}

/// Everything that an event has is in its entry.
#[test]
fn the_whole_entry() {
    let _alone = alone();
    with::<4, 16>(Some(|| Instant::from_nanos(7)), |ring| {
        for n in 0..20 {
            kexec::warn!(limit: Limit::new(2, std::time::Duration::from_secs(1)), "{n}");
        }
        trace::set_output(Some(Box::leak(Box::new(Output::new(ring)))));
        for level in 0..300 {
            kexec::error!(limit: Limit::new(1, std::time::Duration::MAX), "{level}");
        }
        let entries: Vec<_> = ring.entries().collect();
        let all: Vec<_> =
            entries.iter().map(|e| (e.time().map(Instant::as_nanos), e.level(), e.suppressed())).collect();
        assert_eq!(
            all,
            [
                (Some(7), Level::Warn, 0),
                (Some(7), Level::Warn, 0),
                (None, Level::Error, 0),
                (None, Level::Error, 255)
            ]
        );
        assert_eq!(entries[3].to_string(), "ERROR event_ring: 256 (255 suppressed)");
    });
}

/// A line that is too long is cut between two characters, wherever the boundary lies, and says so.
#[test]
fn long_lines_are_cut() {
    let _alone = alone();
    // 32 bytes of text, 12 of them for the module.
    with::<1, 6>(None, |ring| {
        for start in 0..8 {
            let text = format!("{}{}", "a".repeat(start), "é💾".repeat(9));
            kexec::info!(limit: Limit::NONE, "{text}");
            let entry = ring.entries().next().expect("it is there");
            let kept = entry.text().strip_prefix("event_ring: ").expect("the module is whole");
            assert!(text.starts_with(kept) && entry.is_cut());
            assert!((17..=20).contains(&kept.len()), "as much as fits: {kept}");
            assert!(entry.to_string().ends_with(".."));
            // Piece by piece: what comes after the cut is not squeezed in.
            kexec::info!(limit: Limit::NONE, "{}{}{}", "b".repeat(19), "💾", "c");
            let entry = ring.entries().next().expect("it is there");
            assert_eq!(entry.text(), format!("event_ring: {}", "b".repeat(19)));
        }
        kexec::info!(limit: Limit::NONE, "{}", "d".repeat(20));
        assert!(!ring.entries().next().expect("it is there").is_cut(), "it fits exactly");
    });
}

/// Many threads write while others read. Every entry that is read is whole, and the counts add up.
#[test]
fn a_crowd() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 5_000;
    let _alone = alone();
    with::<4, 16>(None, |ring| {
        let done = AtomicBool::new(false);
        let check = |number, text: &str| {
            let fields: Vec<u64> = text
                .trim_start_matches("event_ring: ")
                .split(' ')
                .map(|n| n.parse().expect("whole"))
                .collect();
            let [writer, n, product] = fields[..] else { panic!("{number}: {text}") };
            assert_eq!(product, (writer + 1) * (n + 1_000_000), "{number}: {text}");
        };
        let read = || {
            let mut last = None;
            for entry in ring.entries() {
                assert!(last < Some(entry.number()), "in order");
                last = Some(entry.number());
                check(entry.number(), entry.text());
            }
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        for n in 0..EACH {
                            kexec::info!(limit: Limit::NONE, "{writer} {n} {}", (writer + 1) * (n + 1_000_000));
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    read();
                }
            });
            for writer in writers {
                writer.join().expect("no panic");
            }
            done.store(true, Relaxed);
        });
        read();
        let Totals { events, lost } = ring.totals();
        assert_eq!(events, WRITERS * EACH);
        let left = ring.entries().count() as u64;
        assert!(left <= 4 && left + lost >= 4, "{left} are left and {lost} were lost");
    });
}

/// A debugger finds the ring, and the text in it, with nothing but its eyes.
#[test]
#[expect(unsafe_code, reason = "a dump is bytes")]
fn in_a_dump() {
    let _alone = alone();
    with::<2, 8>(None, |ring| {
        kexec::error!("no answer");
        // SAFETY: the ring is made of words that are all initialized, and nobody writes them now.
        let dump =
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(ring).cast::<u8>(), size_of_val(ring)) };
        assert!(dump.starts_with(b"kexec event ring"));
        assert!(dump.windows(21).any(|bytes| bytes == b"event_ring: no answer"));
    });
}
