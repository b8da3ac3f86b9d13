//! The guest's life: it finds Xen, starts the bus, does what it is there for, stops the bus, and shuts down.
#![expect(unsafe_code, reason = "the first processor begins here, and runs the executor")]

use core::{
    fmt, hint,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::select;
use kexec::{Executor, Pool, irql::Dispatch, sync::ManualEvent, task_size, time::sleep, yield_now};
use lab_parts::{Body as _, End, Order, Part, Room, Tally, order::NoOrder};
use static_cell::{ConstStaticCell, StaticCell};
use xen_abi::{
    cpuid,
    hvm::params::CallbackVia,
    sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT},
};
use xenbus::{
    bus::{Native, StartError},
    clock::Zone,
    console::{Console, LineEnds},
    crash,
    event::{AttachError, Config, Events, Slot, StopError, Upcall, Upcalls, Vcpu},
    grant::{Frame, Grants},
    hypercall::sched,
    store::{Store, Xenstore as _, optional},
    suspend::Suspend,
    x86,
};

use crate::{
    body::Machine,
    cpus,
    hlt::{self, CLOCK, Hlt},
    interrupts,
    rendezvous::{self, AllCpus},
    report,
    seam::Guest,
    smp,
    twins::{self, Kind, Twins},
};

/// Bytes of the largest task: a case of the suite has up to 20 KiB, and two pages of room.
const TASK: usize = 48 * 1024;

/// How the guest has begun: the toolstack says so.
const KIND: &str = "data/lab/kind";

/// How long it may take from one suspend to the next, or to the end; time in which the guest does not run is not counted.
/// A store that does not answer is told of sooner.
const LIFE: Duration = Duration::from_mins(3);

static TASKS: Pool<TASK, 3> = Pool::new();
static ERRANDS: Pool<{ task_size(&attach) }, 1> = Pool::new();

static SLOTS: [Slot; 64] = [const { Slot::new() }; 64];
static VCPUS: [Vcpu<Guest>; smp::MOST] = [const { Vcpu::new() }; smp::MOST];
static EVENTS: Events<Guest> = Events::new(&SLOTS, &VCPUS);
static FRAMES: [Frame<Guest>; 2] = [const { Frame::new() }; 2];
static GRANTS: StaticCell<Grants<Guest>> = StaticCell::new();
static STORE: Store<Guest> = Store::new();
static CONSOLE: Console<Guest> = Console::new(LineEnds::AsTheyAre);
static SUSPEND: Suspend = Suspend::new();
static NATIVE: StaticCell<Native<Guest>> = StaticCell::new();
static ROOM: ConstStaticCell<Room> = ConstStaticCell::new([0; size_of::<Room>()]);
static UPCALLS: [AtomicU32; smp::MOST] = [const { AtomicU32::new(0) }; smp::MOST];
/// How often the guest has been suspended.
static SUSPENDS: AtomicU32 = AtomicU32::new(0);
/// The services are not needed any more.
static OVER: ManualEvent = ManualEvent::new(false);

/// What runs the guest's own tasks.
fn executor() -> &'static Executor<Hlt> {
    smp::executor(0)
}

/// Xen has events, for the virtual CPU that runs this.
pub(crate) fn upcall() {
    let number = smp::number();
    UPCALLS[number].fetch_add(1, Relaxed);
    while EVENTS.upcall(number, 64) == Upcall::More {}
}

/// The alarm of its executor has gone off.
pub(crate) fn alarm() {
    smp::executor(smp::number()).platform().go_off();
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
    unsafe { interrupts::prepare() };
    // SAFETY: likewise, and interrupts are off.
    unsafe { smp::begin(0) };
    let guest = match Guest::find() {
        Ok(guest) => guest,
        Err(not_xen) => report::crash(format_args!("{not_xen}")),
    };
    CLOCK.start(guest.xen().leaf() + cpuid::TIME);
    smp::begin_others(&guest);
    let Ok(task) = executor().spawn(&TASKS, live, guest) else { unreachable!("this is the first task") };
    // SAFETY: interrupts are on, and nobody else has a token.
    unsafe { hlt::run(executor(), |at| serve_suspend(at, &guest), || task.is_finished()) };
    let end = match task.try_take() {
        Ok(Ok(Ok(end))) => end,
        Ok(Ok(Err(stopped))) => report::crash(format_args!("{stopped}")),
        _ => unreachable!("it has ended, and nobody aborts it"),
    };
    let reason = match end {
        End::PowerOff => SHUTDOWN_POWEROFF,
        End::Reboot => SHUTDOWN_REBOOT,
        End::Crash => panic!("as it was to"),
    };
    let survived = sched::shutdown(&guest, reason);
    report::crash(format_args!("Xen does not end the guest, which is to {end:?}: {survived:?}"))
}

/// Why a life has ended before its time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stopped {
    Grants,
    Start(StartError),
    Attach(AttachError),
    Tasks,
    Order(NoOrder),
    Stop(StopError),
}

/// From start to stop; returns how the guest is to end.
async fn live(at: &mut Dispatch, guest: Guest) -> Result<End, Stopped> {
    let at = &*at;
    report::note(format_args!("begins on Xen {}, at leaf {:#x}", guest.xen().version(), guest.xen().leaf()));
    let _watch = executor().spawn(&TASKS, watch, ()).map_err(|_| Stopped::Tasks)?;
    let twins = twins::send_away(at, guest.xen().leaf(), &SUSPEND);
    let grants = Grants::new(guest, SUSPEND.epochs(), &FRAMES).map_err(|_| Stopped::Grants)?;
    let grants = &*GRANTS.init(grants);
    let bus = &*NATIVE.init(Native::new(guest, &SUSPEND, &EVENTS, grants, &STORE).with_console(&CONSOLE));
    let machine = Machine {
        guest,
        bus,
        events: &EVENTS,
        grants,
        store: &STORE,
        console: &CONSOLE,
        suspend: &SUSPEND,
        upcalls: &UPCALLS,
    };
    play(at, &machine, twins, ROOM.take()).await
}

/// Says where everybody waits, if they are not done in time.
async fn watch(_: &mut Dispatch, (): ()) {
    loop {
        let before = SUSPENDS.load(Relaxed);
        sleep(LIFE).await;
        if SUSPENDS.load(Relaxed) == before {
            break;
        }
    }
    report::tasks(TASKS.as_table());
    report::tasks(ERRANDS.as_table());
    cpus::tell_of_players();
    report::crash(format_args!("not done after {LIFE:?}"))
}

/// The guest's part in a scenario. The bus is started for each step of it: one that has been stopped starts again.
async fn play(at: &Dispatch, machine: &Machine, mut twins: Twins, room: &mut Room) -> Result<End, Stopped> {
    let mut tally = Tally::default();
    let order = with_bus(at, machine.bus, true, async || {
        greet(at, machine).await;
        let mut room = [0; 8];
        let kind = STORE.read(at, KIND, &mut room).await.ok();
        let kind = kind.and_then(|kind| Kind::named(str::from_utf8(kind).ok()?));
        tell_of(at, machine, &twins, kind, &mut tally).await;
        Order::read(at, &STORE).await.map(|order| (order, kind))
    });
    let (order, kind) = order.await?.map_err(Stopped::Order)?;
    report::note(format_args!("plays {}, with {}", order.part, order.profile.name));
    let end = if order.part == Part::Wire {
        lab_parts::on_the_wire(at, machine, &order, room, &mut tally).await;
        End::PowerOff
    } else {
        let part = async || lab_parts::perform(at, machine, &order, room, &mut tally).await;
        with_bus(at, machine.bus, order.fifo, part).await?
    };
    let untimely = interrupts::untimely();
    if untimely > 0 {
        report::note(format_args!("{untimely} interrupts have come between sti and hlt"));
    }
    twins.look_again();
    with_bus(at, machine.bus, order.fifo, async || {
        tell_of(at, machine, &twins, kind, &mut tally).await;
        machine.say(at, format_args!("end: {tally}")).await;
    })
    .await?;
    Ok(end)
}

/// How events come: by the FIFO ABI, or in bitmaps.
pub(crate) fn config(fifo: bool) -> Config<'static> {
    let callback = CallbackVia::Vector(interrupts::UPCALL);
    Config { vcpus: smp::running(), callback, fifo, epoch: SUSPEND.epochs().now() }
}

/// Does some work while the bus runs.
async fn with_bus<T>(
    at: &Dispatch,
    bus: &'static Native<Guest>,
    fifo: bool,
    work: impl AsyncFnOnce() -> T,
) -> Result<T, Stopped> {
    bus.start(at, config(fifo)).map_err(Stopped::Start)?;
    attach_others().await?;
    OVER.reset();
    let services = executor().spawn(&TASKS, serve, bus).map_err(|_| Stopped::Tasks)?;
    let outcome = work().await;
    bus.settled(at).await;
    OVER.set();
    let _ = services.await;
    loop {
        match bus.stop(at) {
            Ok(()) => return Ok(outcome),
            // It may be what this task was woken from.
            Err(StopError::Upcall(_) | StopError::InUse) => yield_now().await,
            Err(error) => return Err(Stopped::Stop(error)),
        }
    }
}

/// Gives each of the other virtual CPUs upcalls of its own, on itself.
async fn attach_others() -> Result<(), Stopped> {
    for number in 1..smp::running().len() {
        let attached = smp::executor(number).spawn(&ERRANDS, attach, number).map_err(|_| Stopped::Tasks)?;
        attached.await.map_err(|_| Stopped::Tasks)?.map_err(Stopped::Attach)?;
    }
    Ok(())
}

async fn attach(at: &mut Dispatch, place: usize) -> Result<Upcalls, AttachError> {
    EVENTS.attach_vcpu(at, place, None)
}

/// Does what virtual CPU 0 does between two runs.
fn serve_suspend(at: &Dispatch, guest: &Guest) {
    rendezvous::serve(at, || {
        SUSPENDS.fetch_add(1, Relaxed);
        SUSPEND.suspend(at, guest, &AllCpus)
    });
}

async fn serve(at: &mut Dispatch, bus: &'static Native<Guest>) {
    select(pin!(bus.serve(at)), pin!(OVER.wait())).await;
}

/// Who and where it is.
async fn greet(at: &Dispatch, machine: &Machine) {
    let say = async |what: fmt::Arguments<'_>| machine.say(at, what).await;
    match xenbus::version(&machine.guest).await {
        Ok(version) => say(format_args!("Xen is {version}, by its hypercall")).await,
        Err(errno) => say(format_args!("Xen does not tell its version: {errno}")).await,
    }
    let abi = if EVENTS.is_fifo() == Some(true) { "FIFO" } else { "two-level" };
    say(format_args!("events come by the {abi} ABI")).await;
    match machine.bus.wall_time(at, &x86::Native, 0, Zone::Utc) {
        Ok(time) => say(format_args!("it is {} s since 1970", time.unix_nanoseconds() / 1_000_000_000)).await,
        Err(error) => say(format_args!("{error}")).await,
    }
    let mut room = [0; 64];
    for node in ["domid", "name", "vm"] {
        match optional(STORE.read(at, node, &mut room).await) {
            Ok(value) => {
                let value = value.map_or("not there", |value| str::from_utf8(value).unwrap_or("no text"));
                say(format_args!("{node} is {value}")).await;
            }
            Err(error) => say(format_args!("{error}")).await,
        }
    }
}

/// What has become of the emulated devices.
async fn tell_of(at: &Dispatch, machine: &Machine, twins: &Twins, kind: Option<Kind>, tally: &mut Tally) {
    match twins.judge(kind) {
        Ok(()) => tally.passed += 1,
        Err(strange) => {
            tally.failed += 1;
            machine.say(at, format_args!("FAILED: emulated devices: {strange}")).await;
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grants => f.write_str("Xen does not tell how large the grant table is"),
            Self::Start(error) => error.fmt(f),
            Self::Attach(error) => error.fmt(f),
            Self::Tasks => f.write_str("no room for another task"),
            Self::Stop(error) => error.fmt(f),
            Self::Order(error) => error.fmt(f),
        }
    }
}
