//! The last that a guest does: it says why it dies, and has the toolstack know that it has crashed.
//!
//! | | the guest | the toolstack is told of a crash |
//! |---|---|---|
//! | [`latch`] | goes on: it has a dump to write | when it shuts down, whatever reason it gives then |
//! | [`end`] | is stopped, all of its CPUs | at once (`on_crash`) |
//!
//! Nothing here waits, locks or allocates: other CPUs may have stopped in the middle of anything.
//!
//! ```
//! use kexec::irql::Dispatch;
//! use xen_abi::seam::Processor;
//! use xenbus::{crash::{self, Outlets, Survived}, page::Seam};
//!
//! fn bugcheck<P: Seam, C: Processor>(at: &Dispatch, xen: &P, outlets: &Outlets<'_, P, C>, code: u32) -> Survived {
//!     outlets.line(at, format_args!("bugcheck {code:#010x}"));
//!     crash::end(xen)
//! }
//! ```
//!
//! Source: `xen/include/public/sched.h`; `domain_shutdown` (`xen/common/domain.c`).
#![forbid(unsafe_code)]

use core::fmt::{self, Write as _};

use bitflags::bitflags;
use kexec::irql::Dispatch;
use xen_abi::{Errno, Hypervisor, sched::SHUTDOWN_CRASH, seam::Processor};

use crate::{console::Console, hypercall::sched, page::Seam, unplug::PortLog};

/// Has the toolstack take the guest's next shutdown for a crash. The first reason that a guest gives counts, so that
/// this is for good. Callable at any level.
///
/// # Errors
///
/// What Xen answered: the shutdown will be what it says it is.
pub fn latch<H: Hypervisor>(hypervisor: &H) -> Result<(), Errno> {
    sched::shutdown_code(hypervisor, SHUTDOWN_CRASH)
}

/// Stops the guest, which has crashed. Callable at any level; does not return, unless for one of the reasons that it
/// then returns.
pub fn end<H: Hypervisor>(hypervisor: &H) -> Survived {
    match sched::shutdown(hypervisor, SHUTDOWN_CRASH) {
        Ok(_) => Survived::Resumed,
        Err(errno) => Survived::Refused(errno),
    }
}

/// Why a guest lives that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the guest still runs, and must end in another way"]
pub enum Survived {
    /// Xen did not stop it.
    Refused(Errno),
    /// Xen did, and somebody lets it go on.
    Resumed,
}

impl fmt::Display for Survived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => write!(f, "Xen does not stop the crashed guest: {errno}; reset it"),
            Self::Resumed => f.write_str("the crashed guest was resumed; reset it"),
        }
    }
}

/// Where a guest that dies can still be heard: each of these that there is.
#[derive(Debug)]
pub struct Outlets<'a, P: Seam, C: Processor> {
    /// Its own console.
    pub console: Option<&'a Console<P>>,
    /// The log of its device model.
    pub device_model: Option<PortLog<'a, C>>,
    /// Xen's.
    pub xen: Option<PortLog<'a, C>>,
}

bitflags! {
    /// The [`Outlets`] that have taken a line as a whole.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Heard: u8 {
        /// The console had room, and nobody was in the middle of using it.
        const CONSOLE = 1 << 0;
        /// The line was not too long for the log. Nobody says whether it was kept.
        const DEVICE_MODEL = 1 << 1;
        /// Likewise.
        const XEN = 1 << 2;
    }
}

impl<P: Seam, C: Processor> Outlets<'_, P, C> {
    /// Writes a line to each, and says which have taken all of it. What is no text in it becomes spaces. At
    /// `DISPATCH_LEVEL` or above, `HIGH_LEVEL` included.
    #[expect(clippy::must_use_candidate, reason = "there is little to be done for whoever is not heard")]
    pub fn line(&self, at: &Dispatch, text: fmt::Arguments<'_>) -> Heard {
        let port =
            |log: &Option<PortLog<'_, C>>| log.as_ref().is_some_and(|log| log.line().write_fmt(text).is_ok());
        let console = |console| {
            let mut line = ConsoleLine { console, at };
            line.write_fmt(text).and_then(|()| line.put(b"\n")).is_ok()
        };
        let mut heard = Heard::empty();
        heard.set(Heard::DEVICE_MODEL, port(&self.device_model));
        heard.set(Heard::XEN, port(&self.xen));
        heard.set(Heard::CONSOLE, self.console.is_some_and(console));
        heard
    }
}

/// A line for the console, as far as there is room.
struct ConsoleLine<'a, P: Seam> {
    console: &'a Console<P>,
    at: &'a Dispatch,
}

impl<P: Seam> ConsoleLine<'_, P> {
    fn put(&self, bytes: &[u8]) -> fmt::Result {
        let is_whole = self.console.try_write(self.at, bytes) == Ok(bytes.len());
        if is_whole { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<P: Seam> fmt::Write for ConsoleLine<'_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut words = text.split(|letter: char| letter.is_ascii_control());
        self.put(words.next().unwrap_or_default().as_bytes())?;
        words.try_for_each(|word| self.put(b" ").and_then(|()| self.put(word.as_bytes())))
    }
}
