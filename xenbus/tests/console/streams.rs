//! Bytes in both directions, in pieces of every size.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use xen_abi::io::console::OUT_SIZE;
use xen_sim::{Fault, Guest, GuestConfig, Machine, Peer};
use xenbus::console::{Console, LineEnds};

use crate::{ENOUGH, at_dispatch, indices, page, start_at};

/// A guest whose console is connected, after so many bytes both ways.
fn connected(seed: u64, first: u32, ends: LineEnds) -> (Machine, Guest, Console<Guest>) {
    let machine = Machine::new(seed);
    let guest = machine.create(GuestConfig::default());
    start_at(&page(&guest), first);
    let console = Console::new(ends);
    at_dispatch(|at| console.connect(at, &guest)).expect("it has one");
    (machine, guest, console)
}

/// Writes as often as it takes, and lets the daemon go on a little after each time. What is taken fits.
fn write(machine: &Machine, guest: &Guest, console: &Console<Guest>, mut rest: &[u8], steps: u64) {
    let mut turns = 0;
    while !rest.is_empty() {
        let taken = at_dispatch(|at| console.try_write(at, rest)).expect("nobody else is there");
        rest = &rest[taken..];
        let [.., consumed, produced] = indices(&page(guest));
        assert!(produced.wrapping_sub(consumed) as usize <= OUT_SIZE, "more than fits");
        machine.run(if taken == 0 { ENOUGH } else { steps });
        turns += 1;
        assert!(turns < 10_000, "it does not get rid of {} bytes", rest.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// What is written comes out, as it is: over the end of the ring and of 32 bits, whatever the pieces are and
    /// whenever the daemon takes some of it.
    #[test]
    fn what_is_written_comes_out(
        seed: u64,
        first in prop_oneof![any::<u32>(), u32::MAX - 3000..=u32::MAX],
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), 0..4_u64), 1..8),
    ) {
        let (machine, guest, console) = connected(seed, first, LineEnds::AsTheyAre);
        for (piece, steps) in &pieces {
            write(&machine, &guest, &console, piece, *steps);
        }
        machine.run(ENOUGH);
        let expected: Vec<u8> = pieces.into_iter().flat_map(|(piece, _)| piece).collect();
        prop_assert!(machine.toolstack().console(&guest) == expected);
    }

    /// Each line ends in a carriage return and a line feed, once, wherever the ring is full and the pieces end.
    #[test]
    fn lines_end_as_terminals_like_it(
        seed: u64,
        first: u32,
        pieces in prop::collection::vec(("[ab\r\n]{0,3000}", 0..4_u64), 1..4),
    ) {
        let (machine, guest, console) = connected(seed, first, LineEnds::CrLf);
        for (piece, steps) in &pieces {
            write(&machine, &guest, &console, piece.as_bytes(), *steps);
        }
        machine.run(ENOUGH);
        let text: String = pieces.into_iter().map(|(piece, _)| piece).collect();
        let expected = text.replace("\r\n", "\n").replace('\n', "\r\n");
        prop_assert!(machine.toolstack().console(&guest) == expected.as_bytes());
    }

    /// What is typed is read, as it is, by readers with any room, and nothing else is.
    #[test]
    fn what_is_typed_is_read(
        seed: u64,
        first in prop_oneof![any::<u32>(), u32::MAX - 3000..=u32::MAX],
        text in prop::collection::vec(any::<u8>(), 1..5000),
        rooms in prop::collection::vec((1..1500_usize, 1..4_u64), 1..8),
    ) {
        let (machine, guest, console) = connected(seed, first, LineEnds::CrLf);
        machine.toolstack().type_in(&guest, &text);
        let mut got: Vec<u8> = Vec::new();
        for (room, steps) in rooms.into_iter().cycle().take(20_000) {
            machine.run(steps);
            let mut into = vec![0xEE; room];
            let read = at_dispatch(|at| console.try_read(at, &mut into)).expect("nobody else is there");
            prop_assert!(into[read..].iter().all(|byte| *byte == 0xEE));
            got.extend(&into[..read]);
            if got.len() >= text.len() {
                break;
            }
        }
        prop_assert!(got == text);
    }
}

/// With nobody at the other end, the ring takes what fits and not a byte more; who writes is not kept waiting.
#[test]
fn nobody_reads() {
    for ends in [LineEnds::AsTheyAre, LineEnds::CrLf] {
        let (machine, guest, console) = connected(1, 77, ends);
        machine.inject(&guest, Fault::Wedge(Peer::Console));
        let write = |text: &[u8]| at_dispatch(|at| console.try_write(at, text));
        assert_eq!(write(&[b'x'; OUT_SIZE - 1]), Ok(OUT_SIZE - 1));
        let line = usize::from(ends != LineEnds::CrLf);
        assert_eq!(write(b"\n\n"), Ok(line), "{ends:?}: an end of two bytes is written whole");
        assert_eq!(write(b"yy"), Ok(1 - line));
        assert_eq!(write(b"zz"), Ok(0));
        assert_eq!(write(b""), Ok(0));
        let [.., consumed, produced] = indices(&page(&guest));
        assert_eq!(produced.wrapping_sub(consumed) as usize, OUT_SIZE);
    }
}
