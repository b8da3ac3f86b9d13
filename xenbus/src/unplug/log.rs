//! Lines for the logs of the host.
#![forbid(unsafe_code)]

use core::fmt;

use xen_abi::seam::Processor;

use crate::x86::privileged::{LogPort, PlatformDevice};

/// Bytes of a line, its end not counted: each costs an exit.
pub const LONGEST_LINE: usize = 255;

/// A log of the host's that a port takes, line by line. Both ends limit how much they take, and neither says so.
#[derive(Debug)]
pub struct PortLog<'p, P> {
    port: LogPort<'p, P>,
}

impl<'p, P: Processor> PortLog<'p, P> {
    /// That of the device model. It is there for drivers that the host refuses, too. Callable at any level.
    ///
    /// # Errors
    ///
    /// What its port reads as, if there is no such device model: see
    /// [`UnplugError::NoProtocol`](super::UnplugError::NoProtocol).
    pub fn of_the_device_model(processor: &'p P) -> Result<Self, u16> {
        Ok(Self { port: PlatformDevice::find(processor)?.log() })
    }

    /// That of Xen itself, for debugging: nothing may come of it. In a guest of Xen's; callable at any level.
    #[must_use]
    pub const fn of_xen(processor: &'p P) -> Self {
        Self { port: LogPort::of_xen(processor) }
    }

    /// Begins a line, which ends when it is dropped. Callable at any level.
    ///
    /// Nothing keeps the lines of two CPUs apart.
    #[must_use]
    pub const fn line(&self) -> Line<'p, P> {
        Line { port: self.port, room: LONGEST_LINE }
    }
}

/// A line that is being written. What is no text becomes spaces, line ends included: nobody's words look like a line of
/// somebody else's.
///
/// What is beyond [`LONGEST_LINE`] is cut off, and an error of the write.
#[derive(Debug)]
pub struct Line<'p, P: Processor> {
    port: LogPort<'p, P>,
    room: usize,
}

impl<P: Processor> fmt::Write for Line<'_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            let byte = if byte.is_ascii_control() { b' ' } else { byte };
            self.port.put(byte);
        }
        Ok(())
    }
}

impl<P: Processor> Drop for Line<'_, P> {
    fn drop(&mut self) {
        self.port.put(b'\n');
    }
}
