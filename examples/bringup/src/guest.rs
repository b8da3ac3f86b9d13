//! The guest: all that `xenbus` has, at work.
//!
//! ```text
//! live       finds Xen, unplugs what is emulated, starts the bus; at the end stops it, and shuts down
//! control    what the toolstack asks for
//! devices    a device task for each echo device, from when it comes to when it goes
//! device     the life of one frontend
//! terminal   answers what is typed at the console
//! ```

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use echo::{Echo, Told};
use kexec::{
    JoinHandle, irql::Dispatch, platform::mock::keep, shielded, sync::ManualEvent, time::timeout,
    until_cancelled,
};
use xen_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};
use xen_harness::{BusDriver, BusError, Rig};
use xen_sim::{Guest as Platform, GuestFrame};
use xenbus::{
    Errno, NotXen,
    bus::{
        Bus,
        children::{Change, Children, Name},
    },
    clock::Zone,
    console::{Console, ConsoleError},
    control::{Control, Distribution, Features, News, NotWithdrawn, Owner, Request, Words},
    frontend::{End, serve},
    hypercall::sched,
    store::Text,
    suspend::Full,
    unplug::{Policy, Unplug, UnplugError, Unplugged, Wish},
    version, x86,
};

use crate::timeline::Timeline;

/// The class of the devices that it has drivers for.
const CLASS: &str = "device/echo";

/// As many devices of it as it can have at a time.
const DEVICES: usize = 4;

/// The longest that it lives: its toolstack waits for less.
const LIFE: Duration = Duration::from_mins(10);

/// What it calls itself.
const DRIVER: Distribution = match Distribution::new("Xen_Project", "BRINGUP", [0, 1, 0, 0]) {
    Ok(driver) => driver,
    Err(_) => panic!("these are names"),
};

/// The guest, and what it has of Xen.
pub(crate) struct Guest {
    /// It suspends the guest, which no task can that is captured then.
    rig: Rig,
    platform: Platform,
    pub(crate) bus: &'static BusDriver,
    pub(crate) timeline: Timeline,
    children: Children<'static, DEVICES>,
    /// Numbers that each device complements in its life.
    numbers: u64,
    /// Numbers that were complemented.
    complemented: AtomicU64,
    /// Devices that have not complemented all of theirs yet.
    busy: AtomicU64,
    /// What the toolstack wants to become of the guest.
    asked: Mutex<Option<Request>>,
    /// It is to end.
    end: ManualEvent,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lived {
    /// Numbers that its devices have complemented.
    pub(crate) complemented: u64,
}

/// Why the guest has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    NotXen(NotXen),
    Xen(Errno),
    Unplug(UnplugError),
    Listeners(Full),
    Bus(BusError),
    Control(NotWithdrawn),
}

impl Guest {
    pub(crate) fn new(rig: &Rig, bus: &'static BusDriver, timeline: Timeline, numbers: u64) -> Self {
        Self {
            rig: rig.clone(),
            platform: rig.guest().clone(),
            bus,
            timeline,
            children: Children::new(CLASS, &[]),
            numbers,
            complemented: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            asked: Mutex::default(),
            end: ManualEvent::new(false),
        }
    }

    /// Whether its devices have nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.load(Relaxed) == 0
    }

    fn say(&self, what: impl fmt::Display) {
        self.timeline.say("guest", what);
    }

    /// Suspends itself, as it was asked to, and says what has become of it.
    async fn suspend(&self, at: &Dispatch) {
        self.rig.suspended().await;
        match self.bus.suspends().last() {
            Some(Ok(suspended)) => self.say(suspended),
            Some(Err(error)) => self.say(error),
            None => {}
        }
        self.tell_the_time(at);
    }

    fn tell_the_time(&self, at: &Dispatch) {
        let system = self.bus.bus().system_time(at, &self.platform, 0);
        let wall = self.bus.bus().wall_time(at, &self.platform, 0, Zone::Utc);
        match (system, wall) {
            (Ok(system), Ok(wall)) => self.say(format_args!(
                "this host is up for {:?}, and the FILETIME is {}",
                Duration::from_nanos(system.0),
                wall.filetime().unwrap_or_default()
            )),
            (Err(error), _) | (_, Err(error)) => self.say(error),
        }
    }

    /// Has a task end, and waits for it.
    async fn join<T>(&self, task: JoinHandle<T>) -> Option<T> {
        task.abort();
        task.await.ok()
    }
}

/// The guest's life: it comes up, does what it is asked to, and shuts down.
pub(crate) async fn live(at: &mut Dispatch, guest: &'static Guest) -> Result<Lived, Stopped> {
    let (at, platform) = (&*at, &guest.platform);
    // Everybody knows the maker of its processor: there is no page to be lent.
    let found = x86::Found::on(platform, || None::<GuestFrame>).map_err(Stopped::NotXen)?;
    let version = version(platform).await.map_err(Stopped::Xen)?;
    guest.say(format_args!("found {found}: Xen {version}, where it is domain {}", platform.domain()));

    // Before anybody looks for disks, here and in each next domain.
    let policy = Policy { disks: Wish::Forced, nics: Wish::Forced, boot_emulated: false };
    let unplugged = Unplugged::new(Unplug::new(policy.devices(), 1), platform.clone());
    let unplugged = keep(unplugged.map_err(Stopped::Unplug)?);
    let unplugged = guest.bus.suspend().register(at, unplugged).map_err(Stopped::Listeners)?;
    guest.say(format_args!("has unplugged {:?}", policy.devices()));

    let lived = guest.bus.run(at, async |_| {
        guest.tell_the_time(at);
        let tasks = (
            guest.bus.spawn(control, guest)?,
            guest.bus.spawn(devices, guest)?,
            guest.bus.spawn(terminal, guest)?,
        );
        // A guest that nobody can tell anything does not live for ever.
        let _ = until_cancelled(timeout(LIFE, guest.end.wait())).await;
        guest.say("closes its devices");
        let (control, devices, terminal) = tasks;
        guest.join(devices).await;
        guest.join(terminal).await;
        Ok(guest.join(control).await)
    });
    let control = lived.await.and_then(|lived| lived).map_err(Stopped::Bus)?;
    drop(unplugged);
    if let Some(Err(error)) = control {
        return Err(Stopped::Control(error));
    }

    let (reason, word) = match *locked(&guest.asked) {
        Some(Request::Reboot) => (SHUTDOWN_REBOOT, "reboots"),
        _ => (SHUTDOWN_POWEROFF, "switches itself off"),
    };
    guest.say(word);
    sched::shutdown(platform, reason).map_err(Stopped::Xen)?;
    Ok(Lived { complemented: guest.complemented.load(Relaxed) })
}

/// What the toolstack asks for.
async fn control(at: &mut Dispatch, guest: &'static Guest) -> Result<(), NotWithdrawn> {
    let at = &*at;
    let bus = guest.bus.bus();
    let features = Features::SUSPEND | Features::POWER_OFF | Features::REBOOT;
    let words = Words::SUSPEND | Words::POWER_OFF | Words::HALT | Words::REBOOT | Words::UNKNOWN;
    let owner = Owner { features, words, driver: DRIVER };
    let control = Control::new(at, bus.store(), bus.epochs(), owner);
    let withdrawn = control.serve(async |news| {
        guest.say(news);
        match news {
            News::Asked(Request::Suspend) => guest.suspend(at).await,
            News::Asked(Request::Unknown(_)) | News::Published { .. } | News::Failed(_) => {}
            News::Asked(request) => {
                *locked(&guest.asked) = Some(request);
                guest.end.set();
            }
        }
    });
    withdrawn.await
}

/// Devices come, are served, and go.
async fn devices(at: &mut Dispatch, guest: &'static Guest) {
    let (at, bus) = (&*at, guest.bus.bus());
    let mut served: Vec<(Name, JoinHandle<()>)> = Vec::new();
    shielded(async {
        let mut room = [0; 256];
        let follow = guest.children.follow(at, bus.store(), &mut room, {
            async |change| match change {
                Change::Arrived(name) => {
                    guest.say(format_args!("{CLASS}/{} is there", &*name));
                    if let Ok(task) = guest.bus.spawn(device, (guest, name)) {
                        served.push((name, task));
                    }
                }
                Change::Departed(name) => {
                    guest.say(format_args!("{CLASS}/{} has gone", &*name));
                    if let Some((_, task)) = served.iter_mut().find(|(other, _)| *other == name) {
                        task.abort();
                        let _ = task.await;
                    }
                    served.retain(|(_, task)| !task.is_finished());
                }
                Change::Trouble(trouble) => guest.say(trouble),
            }
        });
        let _ = until_cancelled(follow).await;
        for (_, task) in &served {
            task.abort();
        }
        for (_, task) in served {
            let _ = task.await;
        }
    })
    .await;
}

/// A frontend's life.
async fn device(at: &mut Dispatch, (guest, name): (&'static Guest, Name)) {
    let directory = Text::<64>::of(format_args!("{CLASS}/{}", &*name)).expect("both are short");
    let mut left = guest.numbers;
    guest.busy.fetch_add(1, Relaxed);
    let mut echo = Echo::new(0..guest.numbers, |told| match told {
        Told::News(news) => guest.say(format_args!("{}: {news}", &*directory)),
        Told::Complemented(_) => {
            left -= 1;
            guest.complemented.fetch_add(1, Relaxed);
            if left == 0 {
                guest.busy.fetch_sub(1, Relaxed);
            }
        }
    });
    let end = serve(at, &guest.bus.bus(), &directory, &mut echo).await;
    if left > 0 {
        guest.busy.fetch_sub(1, Relaxed);
    }
    guest.say(format_args!("{}: {end}", &*directory));
    if end == End::Gone {
        guest.children.ended(at, &name);
    }
}

/// Answers what is typed, in each domain that the guest is.
async fn terminal(at: &mut Dispatch, guest: &'static Guest) {
    let (at, console, epochs) = (&*at, guest.bus.console(), guest.bus.suspend().epochs());
    loop {
        let epoch = epochs.now();
        if let Err(error) = converse(at, console).await {
            guest.say(error);
        }
        epochs.after(at, epoch).await;
    }
}

async fn converse(at: &Dispatch, console: &Console<Platform>) -> Result<(), ConsoleError> {
    console.write_all(at, b"type something\n").await?;
    let mut typed = [0; 80];
    loop {
        let length = console.read(at, &mut typed).await?;
        console.write_all(at, b"you have typed: ").await?;
        console.write_all(at, &typed[..length]).await?;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotXen(error) => error.fmt(f),
            Self::Xen(errno) => write!(f, "Xen answered {errno}"),
            Self::Unplug(error) => error.fmt(f),
            Self::Listeners(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
        }
    }
}
