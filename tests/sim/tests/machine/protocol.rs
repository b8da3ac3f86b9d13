//! What a backend of one's own has: keys, a clock, chance; and what becomes of it when it has nothing to offer.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use xen_abi::io::xenbus::XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising};
use xen_sim::{DeviceConfig, DeviceId, Fault, Peer, Protocol, Side};

use crate::{
    frontend::{FRONT, back},
    kernel::Kernel,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a backend was asked to do, and when.
type Log = Arc<Mutex<Vec<(u64, &'static str)>>>;

/// A backend that has no ring, and does something each second.
struct Clockwork {
    log: Log,
    has_something: bool,
}

impl Clockwork {
    fn note(&self, side: &Side<'_>, what: &'static str) {
        self.log.lock().expect("no backend panics").push((side.now().as_secs(), what));
    }
}

impl Protocol for Clockwork {
    fn class(&self) -> &'static str {
        "echo"
    }

    fn offer(&mut self, side: &mut Side<'_>) -> Result<(), String> {
        self.note(side, "offer");
        if !std::mem::replace(&mut self.has_something, true) {
            return Err("there is no such clock".into());
        }
        let hands = side.read("hands").ok_or("the toolstack has not said how many hands")?;
        side.write("feature-hands", &hands);
        Ok(())
    }

    fn connect(&mut self, side: &mut Side<'_>) -> Result<(), String> {
        self.note(side, "connect");
        assert_eq!(side.read_frontend("state").as_deref(), Some("3"));
        side.wake_at(Some(side.now() + SECOND));
        Ok(())
    }

    fn work(&mut self, side: &mut Side<'_>) -> Result<bool, String> {
        self.note(side, "work");
        side.wake_at(Some(side.now() + SECOND));
        Ok(false)
    }

    fn disconnect(&mut self) {}

    fn garbage(&mut self) {}
}

fn attach(kernel: &Kernel, has_something: bool) -> (DeviceId, Log) {
    let log = Log::default();
    let protocol = Box::new(Clockwork { log: log.clone(), has_something });
    let backend = vec![("hands".to_owned(), "2".to_owned())];
    let config = DeviceConfig { index: 0, frontend: Vec::new(), backend, protocol };
    (kernel.machine.toolstack().attach(&kernel.guest, config), log)
}

fn take(log: &Log) -> Vec<(u64, &'static str)> {
    std::mem::take(&mut *log.lock().expect("no backend panics"))
}

/// A backend is woken when it wants to be, and not before; when it is no longer connected, nothing wakes it.
#[test]
fn woken_in_time() {
    let mut kernel = Kernel::alone(1);
    let (device, log) = attach(&kernel, true);
    assert_eq!(kernel.backend(), Some(InitWait));
    assert_eq!(kernel.read(&format!("{}/feature-hands", back(&kernel))).as_deref(), Ok("2"));
    assert_eq!(kernel.machine.next_alarm(), None);
    kernel.say(Initialised);
    assert_eq!(kernel.backend(), Some(Connected));
    assert_eq!(take(&log), [(0, "offer"), (0, "connect"), (0, "work")]);
    for second in 1..4 {
        assert_eq!(kernel.machine.next_alarm(), Some(SECOND * u32::try_from(second).expect("few")));
        kernel.machine.pass(SECOND / 2);
        kernel.settle();
        assert_eq!(take(&log), [], "half a second before {second}");
        kernel.machine.pass(SECOND / 2);
        kernel.settle();
        assert_eq!(take(&log), [(second, "work")]);
    }
    kernel.machine.inject(&kernel.guest, Fault::Close(device));
    kernel.settle();
    assert_eq!(kernel.machine.next_alarm(), Some(SECOND * 4), "it is connected still");
    kernel.say(Closed);
    assert_eq!(kernel.machine.next_alarm(), None);
    kernel.machine.pass(SECOND * 10);
    kernel.settle();
    assert_eq!(take(&log), []);
}

/// One that hangs, or is dead, is woken no more: it would keep the clock going for ever.
#[test]
fn not_woken_any_more() {
    for fault in [Fault::Wedge, Fault::Kill] {
        let mut kernel = Kernel::alone(1);
        let (device, log) = attach(&kernel, true);
        kernel.say(Initialised);
        kernel.settle();
        take(&log);
        kernel.machine.inject(&kernel.guest, fault(Peer::Device(device)));
        assert_eq!(kernel.machine.next_alarm(), None);
        kernel.machine.pass(SECOND * 10);
        kernel.settle();
        assert_eq!(take(&log), []);
    }
}

/// A backend that has nothing to offer says why; when its frontend has closed and begins anew, it is asked again.
#[test]
fn nothing_to_offer() {
    let mut kernel = Kernel::alone(1);
    let (_, log) = attach(&kernel, false);
    assert_eq!(kernel.backend(), Some(Closing));
    assert_eq!(kernel.error().as_deref(), Some("there is no such clock"));
    kernel.say(Closed);
    assert_eq!(kernel.backend(), Some(Closed));
    kernel.say(Initialising);
    assert_eq!(kernel.backend(), Some(InitWait));
    assert_eq!(take(&log), [(0, "offer"), (0, "offer")]);
    assert_eq!(kernel.read(&format!("{FRONT}/state")).as_deref(), Ok("1"));
}
