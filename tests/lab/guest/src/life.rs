//! The guest's life: it finds Xen, starts the bus, does what it is there for, stops the bus, and shuts down.
#![expect(unsafe_code, reason = "the first processor begins here, and runs the executor")]

use core::{fmt, hint, pin::pin, time::Duration};

use futures_util::future::select;
use kexec::{
    Budget, Executor, Pool, irql::Dispatch, sync::ManualEvent, task_table::Row, time::sleep, yield_now,
};
use static_cell::{ConstStaticCell, StaticCell};
use xen_abi::{cpuid, hvm::params::CallbackVia, sched::SHUTDOWN_POWEROFF};
use xenbus::{
    bus::{Native, StartError},
    clock::Zone,
    console::{Console, LineEnds},
    crash,
    event::{self, Config, Events, OpenError, Slot, StopError, Upcall, Vcpu},
    grant::{Frame, Grants},
    hypercall::sched,
    seam::Processor,
    store::{Store, Xenstore as _, optional},
    suspend::Suspend,
    x86,
};

use xenstore_suite::Ground;

use crate::{
    hlt::Hlt,
    interrupts, report,
    seam::Guest,
    suite::{self, Tally},
};

/// Bytes of the largest task: a case of the suite has up to 20 KiB, and two pages of room.
const TASK: usize = 48 * 1024;

/// How long all of it may take. A store that does not answer is told of sooner.
const LIFE: Duration = Duration::from_mins(3);

static EXECUTOR: Executor<Hlt> = Executor::named("guest", Hlt::new(), Budget::DEFAULT);
static TASKS: Pool<TASK, 3> = Pool::new();

static SLOTS: [Slot; 64] = [const { Slot::new() }; 64];
static VCPUS: [Vcpu<Guest>; 1] = [Vcpu::new()];
static EVENTS: Events<Guest> = Events::new(&SLOTS, &VCPUS);
static FRAMES: [Frame<Guest>; 2] = [const { Frame::new() }; 2];
static GRANTS: StaticCell<Grants<Guest>> = StaticCell::new();
static STORE: Store<Guest> = Store::new();
static CONSOLE: Console<Guest> = Console::new(LineEnds::AsTheyAre);
static SUSPEND: Suspend = Suspend::new();
static NATIVE: StaticCell<Native<Guest>> = StaticCell::new();
static ROOM: ConstStaticCell<[u8; xenstore_suite::ROOM]> = ConstStaticCell::new([0; xenstore_suite::ROOM]);
/// The services are not needed any more.
static OVER: ManualEvent = ManualEvent::new(false);

/// What runs the guest's tasks.
pub(crate) fn executor() -> &'static Executor<Hlt> {
    &EXECUTOR
}

/// Xen has events.
pub(crate) fn upcall() {
    while EVENTS.upcall(0, 64) == Upcall::More {}
}

/// The alarm of the executor has gone off.
pub(crate) fn alarm() {
    EXECUTOR.platform().go_off();
}

/// The guest has crashed, and has said why.
pub(crate) fn end_crashed() -> ! {
    if let Ok(guest) = Guest::find() {
        report::note(crash::end(&guest));
    }
    loop {
        hint::spin_loop();
    }
}

/// The beginning of everything, on the boot stack.
pub(crate) fn begin() -> ! {
    // SAFETY: this is where the boot code goes, once.
    unsafe { interrupts::begin() };
    let guest = match Guest::find() {
        Ok(guest) => guest,
        Err(not_xen) => report::crash(format_args!("{not_xen}")),
    };
    let [_, _, kilohertz, _] = x86::Native.cpuid(guest.xen().leaf() + cpuid::TIME);
    EXECUTOR.platform().start_clock(kilohertz);
    let Ok(task) = EXECUTOR.spawn(&TASKS, live, guest) else { unreachable!("this is the first task") };
    // SAFETY: interrupts are on, and nobody else has a token.
    unsafe { crate::hlt::run(&EXECUTOR, || task.is_finished()) };
    match task.try_take() {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(stopped))) => report::crash(format_args!("{stopped}")),
        _ => unreachable!("it has ended, and nobody aborts it"),
    }
    let survived = sched::shutdown(&guest, SHUTDOWN_POWEROFF);
    report::crash(format_args!("Xen does not switch the guest off: {survived:?}"))
}

/// Why a life has ended before its time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stopped {
    Grants,
    Start(StartError),
    Tasks,
    Events(event::StartError),
    Channel(OpenError),
    NoStore,
    Stop(StopError),
}

/// From start to stop.
async fn live(at: &mut Dispatch, guest: Guest) -> Result<(), Stopped> {
    let at = &*at;
    report::note(format_args!("begins on Xen {}, at leaf {:#x}", guest.xen().version(), guest.xen().leaf()));
    let _watch = EXECUTOR.spawn(&TASKS, watch, ()).map_err(|_| Stopped::Tasks)?;
    work(at, guest).await
}

/// Says where everybody waits, if they are not done in time.
async fn watch(_: &mut Dispatch, (): ()) {
    sleep(LIFE).await;
    for task in TASKS.as_table().tasks().filter(Row::is_task) {
        report::note(format_args!("task {}: {}, {}", task.name, task.whereabouts(), task.history()));
    }
    report::crash(format_args!("not done after {LIFE:?}"))
}

/// What is tried: the bus, and the suite on it; the ring itself, below the bus; and the bus once more.
async fn work(at: &Dispatch, guest: Guest) -> Result<(), Stopped> {
    let grants = Grants::new(guest, SUSPEND.epochs(), &FRAMES).map_err(|_| Stopped::Grants)?;
    let bus = Native::new(guest, &SUSPEND, &EVENTS, GRANTS.init(grants), &STORE).with_console(&CONSOLE);
    let (bus, room) = (&*NATIVE.init(bus), ROOM.take());
    let mut tally = Tally::default();

    let daemon = with_bus(at, bus, async || {
        greet(at, guest, bus).await;
        suite::through_the_store(at, &CONSOLE, &STORE, room, &mut tally).await
    });
    if let Some((domain, profile)) = daemon.await? {
        let config = Config { fifo: false, ..config() };
        EVENTS.start(at, guest, config).map_err(Stopped::Events)?;
        let ground = Ground { home: suite::HOME, domain, profile, room };
        suite::on_the_wire(at, guest, &EVENTS, ground, &mut tally).await?;
        stop(|| EVENTS.stop(at)).await?;
    }
    with_bus(at, bus, async || report::say(at, &CONSOLE, format_args!("end: {tally}")).await).await
}

/// How events come to the bus: by the FIFO ABI, if Xen has it.
fn config() -> Config<'static> {
    let callback = CallbackVia::Vector(interrupts::UPCALL);
    Config { vcpus: &[0], callback, fifo: true, epoch: SUSPEND.epochs().now() }
}

/// Does some work while the bus runs.
async fn with_bus<T>(
    at: &Dispatch,
    bus: &'static Native<Guest>,
    work: impl AsyncFnOnce() -> T,
) -> Result<T, Stopped> {
    bus.start(at, config()).map_err(Stopped::Start)?;
    OVER.reset();
    let services = EXECUTOR.spawn(&TASKS, serve, bus).map_err(|_| Stopped::Tasks)?;
    let outcome = work().await;
    bus.settled(at).await;
    OVER.set();
    let _ = services.await;
    stop(|| bus.stop(at)).await?;
    Ok(outcome)
}

/// Stops what may not be stopped by what was woken from it.
async fn stop(stop: impl Fn() -> Result<(), StopError>) -> Result<(), Stopped> {
    loop {
        match stop() {
            Ok(()) => return Ok(()),
            Err(StopError::Upcall(_) | StopError::InUse) => yield_now().await,
            Err(error) => return Err(Stopped::Stop(error)),
        }
    }
}

async fn serve(at: &mut Dispatch, bus: &'static Native<Guest>) {
    select(pin!(bus.serve(at)), pin!(OVER.wait())).await;
}

/// Who and where it is.
async fn greet(at: &Dispatch, guest: Guest, bus: &Native<Guest>) {
    let say = async |what: fmt::Arguments<'_>| report::say(at, &CONSOLE, what).await;
    match xenbus::version(&guest).await {
        Ok(version) => say(format_args!("Xen is {version}, by its hypercall")).await,
        Err(errno) => say(format_args!("Xen does not tell its version: {errno}")).await,
    }
    let abi = if EVENTS.is_fifo() == Some(true) { "FIFO" } else { "two-level" };
    say(format_args!("events come by the {abi} ABI")).await;
    match bus.wall_time(at, &x86::Native, 0, Zone::Utc) {
        Ok(time) => say(format_args!("it is {} s since 1970", time.unix_nanoseconds() / 1_000_000_000)).await,
        Err(error) => say(format_args!("{error}")).await,
    }
    let mut room = [0; 64];
    for node in ["domid", "name", "vm", "data/lab/store"] {
        match optional(STORE.read(at, node, &mut room).await) {
            Ok(value) => {
                let value = value.map_or("not there", |value| str::from_utf8(value).unwrap_or("no text"));
                say(format_args!("{node} is {value}")).await;
            }
            Err(error) => say(format_args!("{error}")).await,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grants => f.write_str("Xen does not tell how large the grant table is"),
            Self::Start(error) => error.fmt(f),
            Self::Tasks => f.write_str("no room for another task"),
            Self::Stop(error) => error.fmt(f),
            Self::Events(error) => error.fmt(f),
            Self::Channel(error) => error.fmt(f),
            Self::NoStore => f.write_str("Xen does not tell where the ring of xenstore is"),
        }
    }
}
