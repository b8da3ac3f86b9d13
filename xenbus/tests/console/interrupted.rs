//! Whoever writes can be interrupted by somebody who writes as well: on the same CPU, at any moment.
#![expect(
    unsafe_code,
    reason = "a seam of a test's own, in which something happens between any two accesses"
)]

use std::sync::{Arc, Mutex, PoisonError};

use xen_abi::seam::{Access, Beyond, Gfn, Memory, NoMemory, Place, Word};
use xen_sim::{Guest, GuestConfig, GuestFrame, Machine};
use xenbus::{
    Hypervisor,
    console::{Console, ConsoleError, LineEnds},
};

use crate::{ENOUGH, at_dispatch};

/// What an interrupt does, and how many accesses are left before it comes.
type Interrupt = (Box<dyn FnMut() + Send>, u32);

/// A guest with an interrupt on its way.
#[derive(Clone)]
struct Interrupted {
    guest: Guest,
    interrupt: Arc<Mutex<Option<Interrupt>>>,
}

impl Interrupted {
    /// An access to a page.
    fn tick(&self) {
        let mut pending = self.interrupt.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((mut interrupt, left)) = pending.take() else { return };
        if left > 0 {
            *pending = Some((interrupt, left - 1));
            return;
        }
        drop(pending);
        interrupt();
    }
}

// SAFETY: the calls are the guest's.
unsafe impl Hypervisor for Interrupted {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        // SAFETY: passed on.
        unsafe { self.guest.hypercall(number, arguments) }
    }
}

// SAFETY: the pages are the guest's.
unsafe impl Memory for Interrupted {
    type Frame = Frame;

    fn allocate(&self) -> Result<Frame, NoMemory> {
        Ok(Frame { frame: self.guest.allocate()?, on: self.clone() })
    }

    fn hole(&self) -> Result<Frame, NoMemory> {
        Ok(Frame { frame: self.guest.hole()?, on: self.clone() })
    }

    unsafe fn existing(&self, gfn: Gfn) -> Result<Frame, NoMemory> {
        // SAFETY: passed on.
        let frame = unsafe { self.guest.existing(gfn) }?;
        Ok(Frame { frame, on: self.clone() })
    }

    unsafe fn free(&self, frame: Frame) {
        // SAFETY: passed on.
        unsafe { self.guest.free(frame.frame) };
    }
}

/// A page of its.
struct Frame {
    frame: GuestFrame,
    on: Interrupted,
}

// SAFETY: each access is one of the guest's frame's, and what comes before it touches nothing of it.
unsafe impl Access for Frame {
    fn gfn(&self) -> Gfn {
        self.frame.gfn()
    }

    fn load<W: Word>(&self, place: Place<W>) -> W {
        self.on.tick();
        self.frame.load(place)
    }

    fn store<W: Word>(&self, place: Place<W>, value: W) {
        self.on.tick();
        self.frame.store(place, value);
    }

    fn swap<W: Word>(&self, place: Place<W>, value: W) -> W {
        self.on.tick();
        self.frame.swap(place, value)
    }

    fn fetch_or<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.on.tick();
        self.frame.fetch_or(place, bits)
    }

    fn fetch_and<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.on.tick();
        self.frame.fetch_and(place, bits)
    }

    fn compare_exchange<W: Word>(&self, place: Place<W>, current: W, new: W) -> Result<W, W> {
        self.on.tick();
        self.frame.compare_exchange(place, current, new)
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        self.on.tick();
        self.frame.read_bytes(offset, into)
    }

    fn write_bytes(&self, offset: usize, from: &[u8]) -> Result<(), Beyond> {
        self.on.tick();
        self.frame.write_bytes(offset, from)
    }
}

/// An interrupt that writes, between any two accesses of who writes or reads: it is told that the console is busy
/// instead of waiting for who cannot go on, and what was interrupted is whole.
#[test]
fn an_interrupt_never_waits() {
    /// What is interrupted.
    type Work = fn(&Console<Interrupted>);
    let works: [(&str, Work); 3] = [
        ("connects", |_| ()),
        ("writes", |console| assert_eq!(at_dispatch(|at| console.try_write(at, b"line\n")), Ok(5))),
        ("reads", |console| assert_eq!(at_dispatch(|at| console.try_read(at, &mut [0; 9])), Ok(5))),
    ];
    for (name, work) in works {
        let mut interrupts = 0;
        for after in 0_u32.. {
            let machine = Machine::new(1);
            let platform =
                Interrupted { guest: machine.create(GuestConfig::default()), interrupt: Arc::default() };
            let console = Arc::new(Console::new(LineEnds::CrLf));
            let found = Arc::new(Mutex::new(None));
            machine.toolstack().type_in(&platform.guest, "typed");
            machine.run(ENOUGH);
            let interrupt = {
                let (console, found) = (Arc::clone(&console), Arc::clone(&found));
                move || *found.lock().unwrap() = Some(at_dispatch(|at| console.try_write(at, b"!")))
            };
            let arm = || *platform.interrupt.lock().unwrap() = Some((Box::new(interrupt), after));
            if name == "connects" {
                arm();
                at_dispatch(|at| console.connect(at, &platform)).expect("it has one");
            } else {
                at_dispatch(|at| console.connect(at, &platform)).expect("it has one");
                arm();
            }
            work(&console);
            let has_come = platform.interrupt.lock().unwrap().take().is_none();
            machine.run(ENOUGH);
            let written = machine.toolstack().console(&platform.guest);
            let expected = if name == "writes" { &b"line\r\n"[..] } else { b"" };
            assert_eq!(written, expected, "{name}, interrupted after {after} accesses");
            if !has_come {
                break;
            }
            interrupts += 1;
            // While it is connected, there is nobody to be in the way of.
            let busy = if name == "connects" { ConsoleError::Disconnected } else { ConsoleError::Busy };
            assert_eq!(*found.lock().unwrap(), Some(Err(busy)), "{name}, after {after} accesses");
        }
        assert!(interrupts >= 2, "{name}: interrupted {interrupts} times");
    }
}
