//! A driver that does nothing but to write to its console, and to read from it.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::bitmaps;
use futures_util::future::join3;
use kexec::{
    irql::Dispatch,
    time::{Elapsed, timeout},
};
use xen_abi::{
    event_channel::EvtchnPort,
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
    sched::SHUTDOWN_SUSPEND,
};
use xen_sim::Guest;
use xenbus::{
    Errno,
    console::{ConnectError, Console, ConsoleError, LineEnds},
    hypercall::{event_channel, hvm, sched},
    page::{MapError, XenPage},
};

/// The interrupt line by which upcalls come.
const LINE: u8 = 28;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is typed: more than the ring takes.
pub(crate) const QUESTION: &[u8] = &[b'?'; 1100];

/// What is written, by two at the same time: more than the ring takes, in lines.
pub(crate) fn answers() -> [String; 2] {
    ["one line\n", "and another\n"].map(|line| line.repeat(200))
}

pub(crate) struct Driver {
    pub(crate) platform: Guest,
    pub(crate) console: Console<Guest>,
    /// There while the driver is up.
    shared: Mutex<Option<Arc<XenPage<Guest>>>>,
    port: Mutex<Option<EvtchnPort>>,
    /// Writes and reads that were begun again, because a suspend had come in between.
    pub(crate) repeats: AtomicU64,
}

/// Why it has stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stopped {
    Xen(Errno),
    SharedInfo(MapError),
    Connect(ConnectError),
    Console(ConsoleError),
    TimedOut(Elapsed),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    pub(crate) fn new(platform: Guest) -> Self {
        Self {
            platform,
            console: Console::new(LineEnds::CrLf),
            shared: Mutex::default(),
            port: Mutex::default(),
            repeats: AtomicU64::new(0),
        }
    }

    pub(crate) fn upcall(&self, vcpu: u32) {
        let shared = locked(&self.shared).clone();
        let (Some(shared), Ok(vcpu)) = (shared, usize::try_from(vcpu)) else { return };
        let port = *locked(&self.port);
        while bitmaps::take_pending(&**shared, vcpu, |come| {
            if Some(come) == port {
                self.console.notify();
            }
        }) {}
    }

    /// Suspends the guest, and connects again in what may be another domain.
    pub(crate) fn suspend(&self, at: &Dispatch) {
        if sched::shutdown(&self.platform, SHUTDOWN_SUSPEND) == Ok(false) {
            self.console.disconnect(at);
            let was_up = locked(&self.port).take().is_some();
            if was_up {
                // If that fails, there is no port.
                let _ = self.plug_in(at);
            }
        }
    }

    fn plug_in(&self, at: &Dispatch) -> Result<(), Stopped> {
        let before = locked(&self.shared).take();
        let shared = match before {
            Some(shared) => {
                shared.renew().map_err(Stopped::SharedInfo)?;
                shared
            }
            None => Arc::new(XenPage::shared_info(&self.platform).map_err(Stopped::SharedInfo)?),
        };
        bitmaps::mask_all(&**shared);
        *locked(&self.shared) = Some(shared);
        hvm::set_param(&self.platform, HVM_PARAM_CALLBACK_IRQ, CallbackVia::Gsi(LINE).to_param())
            .map_err(Stopped::Xen)?;
        let port = self.console.connect(at, &self.platform).map_err(Stopped::Connect)?;
        *locked(&self.port) = Some(port);
        event_channel::unmask(&self.platform, port).map_err(Stopped::Xen)
    }

    fn unplug(&self, at: &Dispatch) {
        *locked(&self.port) = None;
        self.console.disconnect(at);
        // Without a line there are no upcalls, which would find nothing.
        let _ = hvm::set_param(&self.platform, HVM_PARAM_CALLBACK_IRQ, 0);
        drop(locked(&self.shared).take());
    }

    /// Whether what was cut by a suspend is to be begun again.
    fn is_back(&self, error: ConsoleError) -> bool {
        let is_back = error == ConsoleError::Disconnected && locked(&self.port).is_some();
        self.repeats.fetch_add(is_back.into(), Relaxed);
        is_back
    }

    async fn write(&self, at: &Dispatch, answer: &str) -> Result<(), Stopped> {
        loop {
            let writes = self.console.write_all(at, answer.as_bytes());
            match timeout(PATIENCE, writes).await.map_err(Stopped::TimedOut)? {
                Err(error) if self.is_back(error) => {}
                outcome => return outcome.map_err(Stopped::Console),
            }
        }
    }

    async fn read(&self, at: &Dispatch) -> Result<Vec<u8>, Stopped> {
        let mut read = Vec::new();
        while read.len() < QUESTION.len() {
            let mut room = [0; 1000];
            let reads = self.console.read(at, &mut room);
            match timeout(PATIENCE, reads).await.map_err(Stopped::TimedOut)? {
                Ok(length) => read.extend(&room[..length]),
                // What was in the old domain's ring is lost.
                Err(error) if self.is_back(error) => return Ok(read),
                Err(error) => return Err(Stopped::Console(error)),
            }
        }
        Ok(read)
    }
}

/// Writes and reads at the same time: what was read.
pub(crate) async fn live(at: &mut Dispatch, driver: &'static Driver) -> Result<Vec<u8>, Stopped> {
    let up = Up { driver, at };
    driver.plug_in(up.at)?;
    let [one, other] = answers();
    let (one, other, read) =
        join3(driver.write(up.at, &one), driver.write(up.at, &other), driver.read(up.at)).await;
    one.and(other).and(read)
}

/// The driver is up; whatever ends that, it lets go of what is Xen's.
struct Up<'a> {
    driver: &'a Driver,
    at: &'a Dispatch,
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.driver.unplug(self.at);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driver")
    }
}
