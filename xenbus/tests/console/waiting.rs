//! Those who wait at the console, poll by poll: in whatever order an executor polls them.
#![forbid(unsafe_code)]

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use xen_abi::{
    io::console::{IN_SIZE, OUT_CONS, OUT_SIZE},
    seam::Access as _,
};
use xen_sim::{Fault, Guest, GuestConfig, Machine, Peer};
use xenbus::console::{Console, ConsoleError, LineEnds, Violation};

use crate::{ENOUGH, at_dispatch, page};

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn guest(seed: u64) -> (Machine, Guest, Console<Guest>) {
    let machine = Machine::new(seed);
    let guest = machine.create(GuestConfig::default());
    let console = Console::new(LineEnds::AsTheyAre);
    at_dispatch(|at| console.connect(at, &guest)).expect("it has one");
    (machine, guest, console)
}

/// What one writes stays in one piece, although another one comes first when there is room; who waits for nothing is
/// kept waiting by nobody.
#[test]
fn one_writer_after_the_other() {
    let (machine, guest, console) = guest(1);
    let (one, other) = ([b'1'; 2 * OUT_SIZE], [b'2'; 2 * OUT_SIZE]);
    at_dispatch(|at| {
        let mut one = pin!(console.write_all(at, &one));
        let mut other = pin!(console.write_all(at, &other));
        assert!(poll(one.as_mut()).is_pending(), "there is no room for all of it");
        assert_eq!(console.try_write(at, b"-"), Ok(0));
        machine.run(ENOUGH);
        assert_eq!(console.try_write(at, b"-"), Ok(1));
        let (mut one_is_done, mut other_is_done) = (false, false);
        for _ in 0..10 {
            console.notify();
            other_is_done = other_is_done || poll(other.as_mut()) == Poll::Ready(Ok(()));
            one_is_done = one_is_done || poll(one.as_mut()) == Poll::Ready(Ok(()));
            machine.run(ENOUGH);
            if other_is_done {
                break;
            }
        }
        assert!(one_is_done && other_is_done);
    });
    let expected = [&one[..OUT_SIZE], b"-", &one[OUT_SIZE..], &other].concat();
    assert!(machine.toolstack().console(&guest) == expected);
}

/// Who waits in either direction learns what somebody else has found, and that the connection was cut: no event comes
/// to say so.
#[test]
fn nobody_waits_for_nothing() {
    let broken = Violation::Output { consumed: 2049, produced: 2048 };
    for is_cut in [false, true] {
        let (machine, guest, console) = guest(1);
        machine.inject(&guest, Fault::Wedge(Peer::Console));
        at_dispatch(|at| {
            let mut room = [0; IN_SIZE];
            let mut reads = pin!(console.read(at, &mut room));
            let mut writes = pin!(console.write_all(at, &[b'x'; OUT_SIZE + 1]));
            for _ in 0..2 {
                assert!(poll(reads.as_mut()).is_pending(), "nothing was typed");
                assert!(poll(writes.as_mut()).is_pending(), "nobody reads");
            }
            let why = if is_cut {
                console.disconnect(at);
                ConsoleError::Disconnected
            } else {
                page(&guest).store(OUT_CONS, 2049);
                let why = ConsoleError::Violation(broken);
                assert_eq!(console.try_write(at, b"x"), Err(why));
                why
            };
            assert_eq!(poll(reads.as_mut()), Poll::Ready(Err(why)));
            assert_eq!(poll(writes.as_mut()), Poll::Ready(Err(why)));
        });
    }
}

/// A future that waits at a connection does not go on at the next one, where half of what it has written is not; a new
/// one does.
#[test]
fn a_wait_ends_with_its_connection() {
    let (machine, guest, console) = guest(1);
    at_dispatch(|at| {
        let mut room = [0; 4];
        let mut reads = pin!(console.read(at, &mut room));
        let mut writes = pin!(console.write_all(at, &[b'x'; OUT_SIZE + 1]));
        assert!(poll(reads.as_mut()).is_pending() && poll(writes.as_mut()).is_pending());
        console.connect(at, &guest).expect("it has one");
        machine.toolstack().type_in(&guest, "typed");
        machine.run(ENOUGH);
        assert_eq!(poll(reads.as_mut()), Poll::Ready(Err(ConsoleError::Disconnected)));
        assert_eq!(poll(writes.as_mut()), Poll::Ready(Err(ConsoleError::Disconnected)));
        let mut room = [0; 4];
        assert_eq!(poll(pin!(console.read(at, &mut room))), Poll::Ready(Ok(4)));
        assert_eq!(&room, b"type");
        assert_eq!(poll(pin!(console.read(at, &mut []))), Poll::Ready(Ok(0)), "no room is no wait");
        assert_eq!(poll(pin!(console.write_all(at, b""))), Poll::Ready(Ok(())));
    });
}
