//! More ports than a page has words.
#![forbid(unsafe_code)]

use xen_sim::GuestConfig;
use xenbus::event::OpenError;

use crate::support::{Bench, comes, dispatch};

/// A guest whose ports are all its own.
fn config(highest: u32) -> GuestConfig {
    GuestConfig { has_store: false, max_evtchn_port: highest, ..GuestConfig::default() }
}

/// Each port is heard of, wherever its word is: the array grows as ports appear.
#[test]
fn beyond_the_second_page() {
    for (fifo, pages) in [(true, 3 + 1), (false, 0)] {
        let bench = Bench::new(config(4095), 2600, fifo);
        let channels: Vec<_> =
            (1..=2500).map(|_| dispatch(|at| bench.events().ipi(at, 0)).expect("there is one")).collect();
        for (number, channel) in (1..).zip(&channels) {
            assert_eq!(channel.port().0, number);
            assert!(!comes(channel), "nobody has sent");
        }
        for channel in &channels {
            dispatch(|at| channel.notify(at)).expect("it is its own other end");
        }
        bench.settle();
        for channel in &channels {
            assert!(comes(channel), "port {}", channel.port());
            assert!(!comes(channel), "once");
            assert_eq!(channel.counts().events, 1);
        }
        let audit = bench.machine.audit(&bench.guest);
        let most = audit.tallies().iter().find(|tally| tally.of[0] == "page").map(|tally| tally.count);
        assert_eq!(most, Some(pages), "no page too many");
        drop(channels);
        bench.end();
    }
}

/// A port beyond the table is closed again, and the error says which, and how large the table is. So is one for whose
/// word there is no page, which can be had when there is one.
#[test]
fn what_has_no_place_is_closed_again() {
    let bench = Bench::new(config(4095), 1100, true);
    let open = || dispatch(|at| bench.events().ipi(at, 0));
    let mut channels: Vec<_> = (1..1024).map(|_| open().expect("there is one")).collect();
    for _ in 0..3 {
        bench.guest.fail_allocation(1);
        assert!(matches!(open(), Err(OpenError::NoMemory(port)) if port.0 == 1024));
    }
    channels.extend((1024..1100).map(|_| open().expect("there is one")));
    for _ in 0..3 {
        let error = open().expect_err("the table ends there");
        assert!(matches!(error, OpenError::BeyondTable { port, size: 1100 } if port.0 == 1100), "{error}");
        assert_eq!(error.to_string(), "port 1100 is beyond the table of 1100; lend more slots");
    }
    drop(channels);
    bench.end();
}

/// The array ends, too: a table that is larger is of no use there.
#[test]
fn beyond_the_array() {
    let bench = Bench::new(config(u32::MAX), 20_000, true);
    let open = || dispatch(|at| bench.events().ipi(at, 0));
    let channels: Vec<_> = (1..16_384).map(|_| open().expect("there is one")).collect();
    assert!(matches!(open(), Err(OpenError::BeyondTable { port, size: 16_384 }) if port.0 == 16_384));
    drop(channels);
    bench.end();
}

/// Xen has no more ports than its toolstack allows.
#[test]
fn no_port_is_left() {
    for fifo in [true, false] {
        let bench = Bench::new(config(3), 8, fifo);
        let open = || dispatch(|at| bench.events().ipi(at, 0));
        let _channels = [(); 3].map(|()| open().expect("there is one"));
        assert!(matches!(open(), Err(OpenError::Xen(xenbus::Errno::ENOSPC))));
    }
}
