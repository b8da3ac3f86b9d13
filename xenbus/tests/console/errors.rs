//! A console that is not there, and a backend that lies.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    hvm::params::HVM_PARAM_CONSOLE_EVTCHN,
    io::console::{IN_PROD, IN_SIZE, OUT_CONS},
    sched::SHUTDOWN_SUSPEND,
    seam::{Access as _, Place},
};
use xen_sim::{GuestConfig, Machine, Suspend};
use xenbus::{
    console::{ConnectError, Console, ConsoleError, LineEnds, Violation},
    hypercall::{hvm, sched},
};

use crate::{ENOUGH, at_dispatch, indices, page, start_at};

/// Without a console, or a place for its page, there is no connection, and whoever writes is told.
#[test]
fn there_is_none() {
    let machine = Machine::new(1);
    let console = Console::new(LineEnds::AsTheyAre);
    let alone = machine.create(GuestConfig { has_store: false, ..GuestConfig::default() });
    let poor = machine.create(GuestConfig::default());
    poor.fail_allocation(1);
    at_dispatch(|at| {
        assert_eq!(console.try_write(at, b"x"), Err(ConsoleError::Disconnected), "not yet");
        assert_eq!(console.connect(at, &alone), Err(ConnectError::NoConsole { gfn: 0, port: 0 }));
        assert_eq!(console.connect(at, &poor), Err(ConnectError::NoMemory));
        assert_eq!(console.try_write(at, b"x"), Err(ConsoleError::Disconnected));
        assert_eq!(console.try_read(at, &mut [0]), Err(ConsoleError::Disconnected));
        assert_eq!(console.connect(at, &poor).map(|port| port.0), Ok(2), "there is one now");
        assert_eq!(console.try_write(at, b"x"), Ok(1));
        // A port that nobody has is none, nor is one that cannot be.
        let own = hvm::get_param(&poor, HVM_PARAM_CONSOLE_EVTCHN).expect("it may");
        for port in [0, 1 << 32 | own] {
            hvm::set_param(&poor, HVM_PARAM_CONSOLE_EVTCHN, port).expect("it may");
            let gfn = page(&poor).gfn().0;
            assert_eq!(console.connect(at, &poor), Err(ConnectError::NoConsole { gfn, port }));
        }
        hvm::set_param(&poor, HVM_PARAM_CONSOLE_EVTCHN, own).expect("it may");
        // A connection that fails leaves none.
        assert_eq!(console.connect(at, &alone), Err(ConnectError::NoConsole { gfn: 0, port: 0 }));
        assert_eq!(console.try_write(at, b"x"), Err(ConsoleError::Disconnected));
    });
    for guest in [alone, poor] {
        let audit = machine.audit(&guest);
        assert!(audit.is_clean(), "{audit}");
    }
}

/// An index that cannot be, by little or by much, ends the connection with its name and value: nothing is moved, nobody
/// is notified, either way, until there is another connection.
#[test]
fn violations() {
    const FIRST: u32 = u32::MAX - 9;
    const OUT: u32 = 2048;
    const IN: u32 = 1024;
    /// An index of the backend's, and where it is instead.
    type Lie = (Place<u32>, u32);
    const OUTPUT_TOO_FAR: u32 = FIRST.wrapping_add(1);
    const OUTPUT_TOO_OLD: u32 = FIRST.wrapping_sub(OUT + 1);
    const INPUT_TOO_FAR: u32 = FIRST.wrapping_add(IN + 1);
    const INPUT_BACK: u32 = FIRST.wrapping_sub(1);
    let lies: [(Lie, Violation); 4] = [
        ((OUT_CONS, OUTPUT_TOO_FAR), Violation::Output { consumed: OUTPUT_TOO_FAR, produced: FIRST }),
        ((OUT_CONS, OUTPUT_TOO_OLD), Violation::Output { consumed: OUTPUT_TOO_OLD, produced: FIRST }),
        ((IN_PROD, INPUT_TOO_FAR), Violation::Input { consumed: FIRST, produced: INPUT_TOO_FAR }),
        ((IN_PROD, INPUT_BACK), Violation::Input { consumed: FIRST, produced: INPUT_BACK }),
    ];
    for ((index, lie), violation) in lies {
        let machine = Machine::new(1);
        let guest = machine.create(GuestConfig::default());
        let page = page(&guest);
        start_at(&page, FIRST);
        let console = Console::new(LineEnds::AsTheyAre);
        at_dispatch(|at| {
            console.connect(at, &guest).expect("it has one");
            page.store(index, lie);
            let (before, calls) = (indices(&page), machine.counts());
            // Each direction looks at its own indices first; what it finds holds for both.
            let both = [console.try_write(at, b"x"), console.try_read(at, &mut [0])];
            let other = if index == OUT_CONS { both[1] } else { both[0] };
            let own = if index == OUT_CONS { both[0] } else { both[1] };
            assert_eq!(own, Err(ConsoleError::Violation(violation)));
            if index == OUT_CONS {
                assert_eq!(other, own);
                assert_eq!((indices(&page), machine.counts()), (before, calls), "nothing was done");
            } else {
                assert_eq!(other, Ok(1), "it was right until then");
            }
            let broken = Err(ConsoleError::Violation(violation));
            let before = indices(&page);
            assert_eq!([console.try_write(at, b"x"), console.try_read(at, &mut [0])], [broken; 2]);
            assert_eq!(indices(&page), before);

            start_at(&page, 0);
            console.connect(at, &guest).expect("it has one");
            assert_eq!(console.try_write(at, b"again"), Ok(5));
        });
        machine.run(ENOUGH);
        assert!(machine.toolstack().console(&guest).ends_with(b"again"));
    }
}

/// A place at the edge is none of these: a ring that is full or empty, on either side, is right.
#[test]
fn no_violations() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    let page = page(&guest);
    let console = Console::new(LineEnds::AsTheyAre);
    at_dispatch(|at| {
        console.connect(at, &guest).expect("it has one");
        page.store(OUT_CONS, 0_u32.wrapping_sub(2048));
        assert_eq!(console.try_write(at, b"x"), Ok(0), "it is full");
        page.store(OUT_CONS, 0);
        assert_eq!(console.try_write(at, b"x"), Ok(1), "it is empty");
        page.store(IN_PROD, 1024);
        assert_eq!(console.try_read(at, &mut [0; IN_SIZE + 1]), Ok(IN_SIZE), "it is full");
        assert_eq!(console.try_read(at, &mut [0]), Ok(0), "it is empty");
    });
}

/// After a suspend that was cancelled all goes on; after one that was not, nothing of the old domain's is touched, and
/// there is another console.
#[test]
fn a_suspend() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    let console = Console::new(LineEnds::AsTheyAre);
    at_dispatch(|at| {
        console.connect(at, &guest).expect("it has one");
        assert_eq!(console.try_write(at, b"one "), Ok(4));
        assert_eq!(sched::shutdown(&guest, SHUTDOWN_SUSPEND), Ok(true), "cancelled");
        assert_eq!(console.try_write(at, b"two "), Ok(4));
        machine.run(ENOUGH);

        machine.toolstack().expect_suspend(&guest, Suspend::Migrated);
        assert_eq!(sched::shutdown(&guest, SHUTDOWN_SUSPEND), Ok(false), "a new domain");
        console.disconnect(at);
        let calls = machine.counts();
        assert_eq!(console.try_write(at, b"lost"), Err(ConsoleError::Disconnected));
        assert_eq!(console.try_read(at, &mut [0]), Err(ConsoleError::Disconnected));
        assert_eq!(machine.counts(), calls);

        console.connect(at, &guest).expect("it has one");
        assert_eq!(console.try_write(at, b"three"), Ok(5));
        console.disconnect(at);
    });
    machine.run(ENOUGH);
    assert_eq!(machine.toolstack().console(&guest), b"one two three");
    let audit = machine.audit(&guest);
    assert!(audit.is_clean(), "{audit}");
}

/// A log names the index, its value, the parameter, and what to do.
#[test]
fn errors_say_what_to_do() {
    let output = ConsoleError::Violation(Violation::Output { consumed: 0xAB, produced: 0xCD });
    let input = ConsoleError::Violation(Violation::Input { consumed: 0xAB, produced: 0xCD });
    for (text, words) in [
        (output.to_string(), ["out_cons is 0xab", "out_prod is 0xcd", "next connect"]),
        (input.to_string(), ["in_prod is 0xcd", "in_cons is 0xab", "next connect"]),
        (ConsoleError::Busy.to_string(), ["somebody", "just now", "ask again"]),
        (ConsoleError::Disconnected.to_string(), ["no connection", "ask again", "connect"]),
        (ConnectError::Xen(Errno::EINVAL).to_string(), ["Xen", "console", "EINVAL"]),
        (ConnectError::NoConsole { gfn: 0x1F, port: 7 }.to_string(), ["no console", "page 0x1f", "port 7"]),
        (ConnectError::NoMemory.to_string(), ["console", "cannot be mapped", "ask again"]),
    ] {
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}
