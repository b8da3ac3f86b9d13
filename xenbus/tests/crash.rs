//! The last words of a guest, and its end.
#![expect(unsafe_code, reason = "a hypervisor of a test's own")]

use std::fmt;

use kexec::{
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan},
        thread::passive,
    },
};
use xen_abi::{hypercall::SCHED_OP, sched::SHUTDOWN_POWEROFF};
use xen_sim::{Fault, Guest, GuestConfig, Machine, Peer, Shutdown};
use xenbus::{
    Errno, Hypervisor,
    console::{Console, LineEnds},
    crash::{self, Heard, Outlets, Survived},
    hypercall::sched,
    unplug::{LONGEST_LINE, PortLog},
};

fn at_dispatch<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    passive(|level| level.raised(&Mock::<Dispatch>::new(Plan::CALM), |at| work(at)))
}

/// The toolstack learns of a crash; whoever calls learns what is wrong if he still lives. (The simulation stops
/// nobody.)
#[test]
fn the_toolstack_is_told() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    assert_eq!(machine.toolstack().shutdown(&guest), None);
    assert_eq!(crash::end(&guest), Survived::Resumed);
    assert_eq!(machine.toolstack().shutdown(&guest), Some(Shutdown::Crash));
    let audit = machine.audit(&guest);
    assert!(audit.is_clean(), "{audit}");
}

/// With a dump to write, the guest goes on; and when it switches itself off later, that is a crash.
#[test]
fn a_crash_that_is_told_later() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    assert_eq!(crash::latch(&guest), Ok(()));
    assert_eq!(machine.toolstack().shutdown(&guest), None, "it still runs");
    sched::shutdown(&guest, SHUTDOWN_POWEROFF).expect("it may");
    assert_eq!(machine.toolstack().shutdown(&guest), Some(Shutdown::Crash));
}

/// A Xen that refuses everything.
struct Unwilling;

// SAFETY: it touches no memory.
unsafe impl Hypervisor for Unwilling {
    unsafe fn hypercall(&self, number: u32, _: [u64; 5]) -> i64 {
        assert_eq!(number, SCHED_OP);
        -1
    }
}

/// A Xen that refuses is no reason to go on as if nothing had been: the caller learns why, and what is left.
#[test]
fn xen_refuses() {
    assert_eq!(crash::end(&Unwilling), Survived::Refused(Errno::EPERM));
    assert_eq!(crash::latch(&Unwilling), Err(Errno::EPERM));
    for (survived, words) in
        [(Survived::Refused(Errno::EPERM), ["EPERM", "reset"]), (Survived::Resumed, ["resumed", "reset"])]
    {
        let text = survived.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

/// A guest that has all outlets, and what it says there.
fn say(text: fmt::Arguments<'_>, before: impl FnOnce(&Guest, &Console<Guest>)) -> (Heard, [Vec<String>; 3]) {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    let console = Console::new(LineEnds::CrLf);
    let heard = at_dispatch(|at| {
        console.connect(at, &guest).expect("it has one");
        before(&guest, &console);
        let outlets = Outlets {
            console: Some(&console),
            device_model: PortLog::of_the_device_model(&guest).ok(),
            xen: Some(PortLog::of_xen(&guest)),
        };
        outlets.line(at, text)
    });
    machine.run(10_000);
    let toolstack = machine.toolstack();
    let console = String::from_utf8(toolstack.console(&guest)).expect("a text");
    let lines = console.split_inclusive("\r\n").map(str::to_owned).collect();
    (heard, [toolstack.log(&guest), toolstack.xen_log(&guest), lines])
}

/// One line in each outlet, as it is but for what is no text.
#[test]
fn all_outlets_hear() {
    let (heard, [device_model, xen, console]) =
        say(format_args!("bugcheck {:#x}\nin {}", 0x7E, "xenvbd"), |_, _| ());
    assert_eq!(heard, Heard::all());
    assert_eq!(device_model, ["bugcheck 0x7e in xenvbd"]);
    assert_eq!(xen, device_model);
    assert_eq!(console, ["bugcheck 0x7e in xenvbd\r\n"]);
}

/// An outlet that takes nothing, or not all, is no reason for the others not to; and it is said which they are.
#[test]
fn some_outlets_hear() {
    let long = "x".repeat(LONGEST_LINE + 1);
    let (heard, [device_model, xen, console]) = say(format_args!("{long}"), |_, _| ());
    assert_eq!(heard, Heard::CONSOLE);
    assert_eq!((&device_model, &device_model[..]), (&xen, &[long[1..].to_owned()][..]));
    assert_eq!(console, [long + "\r\n"]);

    let nobody_reads = |guest: &Guest, console: &Console<Guest>| {
        guest.machine().inject(guest, Fault::Wedge(Peer::Console));
        at_dispatch(|at| console.try_write(at, &[b'x'; 2046])).expect("there is room");
    };
    let (heard, [device_model, xen, _]) = say(format_args!("ab"), nobody_reads);
    assert_eq!(heard, Heard::DEVICE_MODEL | Heard::XEN, "there is no room for the line's end");
    assert_eq!((&device_model[..], &xen[..]), (&["ab".to_owned()][..], &["ab".to_owned()][..]));

    let gone = |_: &Guest, console: &Console<Guest>| at_dispatch(|at| console.disconnect(at));
    let (heard, [.., console]) = say(format_args!("ab"), gone);
    assert_eq!((heard, console.len()), (Heard::DEVICE_MODEL | Heard::XEN, 0));
}

/// Where there is no outlet at all, nothing is heard, and nothing else happens.
#[test]
fn nobody_hears() {
    let machine = Machine::new(1);
    let guest =
        machine.create(GuestConfig { has_store: false, has_platform: false, ..GuestConfig::default() });
    let outlets: Outlets<'_, Guest, Guest> =
        Outlets { console: None, device_model: PortLog::of_the_device_model(&guest).ok(), xen: None };
    assert_eq!(at_dispatch(|at| outlets.line(at, format_args!("help"))), Heard::empty());
}
