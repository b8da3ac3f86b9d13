//! Events from everywhere: entries are whole, levels are not forgotten, an output is seen as it was made.

use core::sync::atomic::AtomicU64;

use crate::support::{Leaked, Place, model};
use kexec_loom::trace::{Exchange, Level, LevelError, Levels, Places, Totals};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

/// What is read is the entry that was asked for, whole, or nothing.
#[test]
fn an_entry_that_is_overwritten() {
    model(|| {
        let ring = Arc::new(Places::<1, 2>::new());
        let shared = ring.clone();
        let writer = thread::spawn(move || {
            for number in 1..=2 {
                shared.push(&[number; 2]);
            }
        });
        for number in 0..2 {
            let entry = ring.read(number);
            assert!(entry.is_none_or(|words| words == [number + 1; 2]), "{number}: {entry:?}");
        }
        writer.join().unwrap();
        assert_eq!(ring.read(1), Some([2; 2]));
    });
}

/// Two writers want one place: one has it, or one after the other; what is not written is counted.
#[test]
fn two_writers_of_one_place() {
    model(|| {
        let ring = Arc::new(Places::<1, 2>::new());
        let shared = ring.clone();
        let writer = thread::spawn(move || shared.push(&[7; 2]));
        ring.push(&[8; 2]);
        let entries = [0, 1].map(|number| ring.read(number));
        assert!(entries.iter().flatten().all(|words| *words == [7; 2] || *words == [8; 2]), "{entries:?}");
        writer.join().unwrap();
        let entries = [0, 1].map(|number| ring.read(number));
        let Totals { events, lost } = ring.totals();
        assert_eq!((events, entries.iter().flatten().count()), (2, 1), "{lost} lost: {entries:?}");
        assert!(entries.iter().flatten().all(|words| *words == [7; 2] || *words == [8; 2]), "{entries:?}");
        assert!(lost == 0 && entries[1].is_some() || lost == 1, "{lost} lost: {entries:?}");
    });
}

/// A place in the source that looks while its module's level is being set does not keep what it finds for ever.
#[test]
fn a_level_is_set_while_it_is_looked_up() {
    model(|| {
        let levels = Arc::new(Levels::new());
        levels.publish(|| true);
        let looks = levels.clone();
        let site = thread::spawn(move || {
            let seen = AtomicU64::new(0);
            looks.allow(Level::Debug, "ring", &seen);
            seen
        });
        levels.set("ring", Some(Level::Debug)).unwrap();
        levels.publish(|| true);
        let seen = site.join().unwrap();
        assert!(levels.reach(Level::Debug) && levels.allow(Level::Debug, "ring", &seen));
    });
}

/// Two who set levels: each sees the names that the other has taken, or is told that it is busy; and the highest level is
/// that of both.
#[test]
fn two_set_levels() {
    model(|| {
        let levels = Arc::new(Levels::new());
        let other = levels.clone();
        let set = |levels: &Levels, level| {
            let result = levels.set("ring", Some(level));
            levels.publish(|| true);
            result
        };
        let setter = thread::spawn(move || set(&other, Level::Warn));
        let results = [set(&levels, Level::Trace), setter.join().unwrap()];
        let busy = |result: &Result<(), LevelError<'_>>| *result == Err(LevelError::Busy);
        assert!(results.contains(&Ok(())) && results.iter().all(|result| result.is_ok() || busy(result)));
        // A rule is left for another module only if these two have shared theirs.
        levels.set("store", Some(Level::Debug)).unwrap();
        levels.publish(|| true);
        let level = levels.level_of("ring::x").unwrap();
        let set_by_both = results.iter().all(Result::is_ok);
        let expected = if results[0].is_ok() { Level::Trace } else { Level::Warn };
        assert!(level == expected || set_by_both && level == Level::Warn);
        assert!(levels.reach(level.max(Level::Debug)));
    });
}

/// Somebody begins to listen while a level is being set: of the two that publish, the later one has seen both.
#[test]
fn an_output_comes_while_a_level_is_set() {
    model(|| {
        let levels = Arc::new(Levels::new());
        let listens = Arc::new(AtomicBool::new(false));
        let (other, hears) = (levels.clone(), listens.clone());
        let output = thread::spawn(move || {
            hears.store(true, Relaxed);
            other.publish(|| hears.load(Relaxed));
        });
        levels.set("ring", Some(Level::Debug)).unwrap();
        levels.publish(|| listens.load(Relaxed));
        output.join().unwrap();
        assert!(levels.reach(Level::Debug));
    });
}

/// An output is made on one thread and used on another; whoever takes it back sees it as it was made.
#[test]
fn an_output_is_seen_as_it_was_made() {
    model(|| {
        let slot = Arc::new(Exchange::<Place>::new());
        let made = Leaked::new(Place::new());
        let (target, output) = (slot.clone(), *made);
        let maker = thread::spawn(move || {
            output.write();
            target.replace(Some(output));
        });
        if let Some(output) = slot.get() {
            assert_eq!(output.read(), 1);
        }
        if let Some(output) = slot.replace(None) {
            assert_eq!(output.read(), 1);
        }
        maker.join().unwrap();
    });
}
