//! The services of the bus as one, and the bus as a child's driver sees it.
//!
//! - here: what its services do for who uses them;
//! - `refused`: what Xen, or the guest's kernel, does not let it have;
//! - `vcpus`: virtual CPUs with a `vcpu_info` of their own;
//! - `platform`: a Xen that refuses, and a bus on it.
#![deny(unsafe_code)]

mod platform;
mod refused;
mod vcpus;

use std::{cell::Cell, collections::BTreeSet, fmt, time::Duration};

use kexec::{Scope, irql::Dispatch, platform::mock::keep, time::sleep};
use xen_abi::{
    DomId, event_channel::EvtchnPort, grant_table::GrantRef, hvm::params::HVM_PARAM_CONSOLE_EVTCHN,
};
use xen_harness::{BusDriver, Player, Rig};
use xen_sim::{Access as Use, Clock, DeviceConfig, Emulated, Guest, GuestConfig, Suspend, echo::Echo};
use xenbus::{
    bus::{Bus, Cache, Channel, SharedPage},
    clock::{ClockError, WallTime, Zone},
    console::ConsoleError,
    event::{ChannelError, Worked},
    frontend::{Device, complain},
    grant::{Lender, Peer, Rights, ShareError},
    hypercall::hvm,
    page::Ram,
    seam::{Access, Place},
    store::StoreError,
    suspend::{Failure, ResumeError, Step, Suspended},
    unplug::{PRODUCT, Policy, Unplug, UnplugError, Unplugged, Wish},
};

/// Does something on a bus, once, and has the auditor see that nothing is left of it.
fn play<T: Send + 'static>(
    config: GuestConfig,
    work: impl AsyncFnOnce(&Dispatch, &'static BusDriver, &Rig) -> T + Send + 'static,
) -> T {
    let mut player = Player::new(1);
    let rig = Rig::new(&mut player, config);
    let driver = BusDriver::new(&rig, &mut player, keep(Scope::new("guest")), true);
    let life = async |at: &mut Dispatch, rig: Rig| {
        let at = &*at;
        driver.run(at, async |_| work(at, driver, &rig).await).await
    };
    let task = driver.spawn(life, rig.clone()).expect("there is room for a task");
    while !task.is_finished() && player.step(player.time() + Duration::from_hours(1)) {}
    let outcome =
        task.try_take().expect("it has ended").expect("it ends by itself").expect("the bus starts and stops");
    player.close().expect("all tasks end");
    let audit = rig.machine().audit(rig.guest());
    assert!(audit.is_clean(), "{audit}");
    outcome
}

/// What the driver of a device can do with a queue's grants, on whatever bus.
fn grants<B: Bus>(
    bus: &B,
    at: &Dispatch,
    lender: impl Lender + fmt::Debug,
    map: impl Fn(GrantRef, Rights),
    unmap: impl Fn(),
) -> Result<(), ShareError> {
    let mut cache = bus.cache::<64>();
    assert_eq!(cache.reserve(at, 65), Err(ShareError::NoRoom(64)));
    cache.reserve(at, 33)?;
    let word = Place::<u32>::new(4);

    let shared = cache.share(at, Peer::untrusted(DomId(0)), Rights::Write)?;
    shared.store(word, 7);
    map(shared.reference(), Rights::Write);
    // It cannot be taken back yet, and is as it was.
    let held = cache.unshare(at, shared).expect_err("somebody has it");
    assert_eq!(held.what.load(word), 7);
    unmap();
    cache.unshare(at, held.what).expect("nobody has it any more");

    let to = Peer::trusted(DomId(0)).trust().expect("it is");
    let mut loan = cache.loan::<_, 2>(to, lender);
    assert_eq!(cache.lend(at, &mut loan, 9, Rights::Read), Err(ShareError::NoPage(9)));
    map(cache.lend(at, &mut loan, 0, Rights::Read)?, Rights::Read);
    let held = cache.take_back(at, loan).expect_err("somebody has it");
    unmap();
    cache.take_back(at, held.what).expect("nobody has it any more");
    Ok(())
}

/// A queue's grants over the traits are those of `xenbus::grant`: nothing is given back that somebody has, and
/// nothing is lost.
#[test]
fn a_queue_has_its_grants() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let page = Ram::allocate(rig.guest()).expect("there is RAM");
        let mapping = Cell::new(None);
        let (dom0, guest) = (rig.machine().dom0(), rig.guest());
        let map = |grant, rights| {
            let written = dom0.map(guest, grant, Use::Write);
            assert_eq!(written.is_ok(), rights == Rights::Write);
            let mapped = written.or_else(|_| dom0.map(guest, grant, Use::Read));
            mapping.set(Some(mapped.expect("it is granted")));
        };
        let unmap = || dom0.unmap(mapping.take().expect("it was mapped")).expect("it is mapped");
        grants(&driver.bus(), at, page, map, unmap).expect("there are references");
        assert_eq!(driver.grants().counters().taken, 0, "all of them are back");
    });
}

/// A page that nobody waits for, and that the other domain has let go of only later, is the guest's again.
#[test]
fn a_page_comes_back_late() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let page = driver.bus().share(at, Peer::untrusted(DomId(0)), Rights::Write).expect("there is a page");
        let dom0 = rig.machine().dom0();
        let mapping = dom0.map(rig.guest(), page.reference(), Use::Write).expect("it is granted");
        drop(page);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(driver.grants().counters().quarantined, 1);
        dom0.unmap(mapping).expect("it is mapped");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(driver.grants().counters().quarantined, 0, "the bus looks after it");
    });
}

/// A channel over the traits is that of `xenbus::event`: what its owner says of the last event is heard, and the place
/// is the one that it asked for.
#[test]
fn a_channel_is_a_channel() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let channel = driver.bus().open(at, DomId(0)).expect("there is a port");
        assert_eq!(Channel::bind(&channel, at, 0), Ok(()));
        assert_eq!(
            Channel::bind(&channel, at, 1),
            Err(ChannelError::NoSuchPlace(1)),
            "there is one virtual CPU"
        );
        let dom0 = rig.machine().dom0();
        let other =
            dom0.bind_interdomain(rig.guest(), Channel::port(&channel).0).expect("it waits for that domain");
        for (worked, fruitless) in [(Worked::Something, 0), (Worked::Nothing, 1), (Worked::Something, 1)] {
            dom0.send(other).expect("it is connected");
            assert_eq!(Channel::next(&channel, at, worked).await, Ok(()));
            assert_eq!(channel.counts().fruitless, fruitless);
        }
        assert_eq!(Channel::notify(&channel, at), Ok(()));
    });
}

/// A port that somebody else still has is waited for, and what has come meanwhile, without an event that the bus would
/// have seen, is not left lying.
#[test]
fn a_port_that_is_taken_at_first() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let port = hvm::get_param(rig.guest(), HVM_PARAM_CONSOLE_EVTCHN).expect("Xen tells it");
        let port = EvtchnPort(u32::try_from(port).expect("it is one"));
        let taken = driver.events().fixed(at, port).expect("the bus has not begun to listen");
        let mut typed = [0; 16];
        let (read, ()) = futures_util::future::join(driver.console().read(at, &mut typed), async {
            sleep(Duration::from_secs(3)).await;
            rig.machine().toolstack().type_in(rig.guest(), "x");
            taken.wait(at).await.expect("somebody types");
            drop(taken);
        })
        .await;
        assert_eq!(read, Ok(1));
    });
}

/// What is said to the toolstack has an end: more than that is not said in part.
#[test]
fn a_complaint_that_is_too_long() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let path = format!("/local/domain/{}/error/device/echo/0/error", rig.guest().domain());
        for (why, said) in [
            ("a file is open".to_owned(), "a file is open"),
            ("x".repeat(4000), "too much is wrong to be said here"),
        ] {
            complain(at, driver.bus().store(), "device/echo/0", why).await;
            assert_eq!(rig.machine().toolstack().read(&path).as_deref(), Some(said));
        }
    });
}

/// Who writes to the console, or waits for what is typed, learns that the guest has moved, and goes on at the next one.
#[test]
fn the_console_goes_on_in_the_next_domain() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let (console, toolstack) = (driver.console(), rig.machine().toolstack());
        console.write_all(at, b"before\n").await.expect("it is connected");
        let mut typed = [0; 16];
        let (lost, ()) = futures_util::future::join(console.read(at, &mut typed), async {
            sleep(Duration::from_millis(1)).await;
            assert_eq!(toolstack.console(rig.guest()), b"before\r\n");
            moved(rig).await;
        })
        .await;
        assert_eq!(lost, Err(ConsoleError::Disconnected));
        console.write_all(at, b"after\n").await.expect("it is connected again");
        toolstack.type_in(rig.guest(), "typed");
        // It comes in any pieces.
        let mut length = 0;
        while length < "typed".len() {
            length += console.read(at, &mut typed[length..]).await.expect("somebody types");
        }
        assert_eq!(&typed[..length], b"typed");
        sleep(Duration::from_millis(1)).await;
        assert!(toolstack.console(rig.guest()).ends_with(b"after\r\n"));
    });
}

/// The shared page is another in the next domain, and both clocks are told by that.
#[test]
fn both_clocks_go_on_in_the_next_domain() {
    // What a second host's clock shows is its own affair; this one is the same.
    let config = GuestConfig { clock: Clock::default(), ..GuestConfig::default() };
    play(config, async |at, driver, rig| {
        let bus = driver.bus();
        let wall =
            |place| -> Result<WallTime, ClockError> { bus.wall_time(at, rig.guest(), place, Zone::Utc) };
        let before = wall(0).expect("Xen tells it").filetime().expect("it is after 1601");
        sleep(Duration::from_secs(3)).await;
        moved(rig).await;
        let after = wall(0).expect("Xen tells it").filetime().expect("it is after 1601");
        let passed = Duration::from_nanos((after - before) * 100);
        assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&passed), "{passed:?}");
        assert!(bus.system_time(at, rig.guest(), 0).is_ok());
        // There is one virtual CPU.
        assert_eq!(bus.system_time(at, rig.guest(), 1), Err(ClockError::NoVcpu(1)));
        assert_eq!(wall(7), Err(ClockError::NoVcpu(7)));
    });
}

/// Another device model has plugged in all that was taken away: it goes again before anybody looks.
#[test]
fn emulated_devices_stay_away() {
    play(GuestConfig::default(), async |at, driver, rig| {
        let emulated = || rig.machine().toolstack().emulated(rig.guest());
        assert!(emulated().contains(&Emulated::Nic));
        let policy = Policy { nics: Wish::Forced, ..Policy::default() };
        let unplug = Unplug::new(policy.devices(), 1);
        let unplugged: &Unplugged<Guest> =
            keep(Unplugged::new(unplug, rig.guest().clone()).expect("there is a platform device"));
        let others: BTreeSet<Emulated> = emulated();
        assert!(!others.contains(&Emulated::Nic) && !others.is_empty());
        moved(rig).await;
        assert!(emulated().contains(&Emulated::Nic), "nobody has asked for that");
        let _registration = driver.suspend().register(at, unplugged).expect("there is room");
        moved(rig).await;
        assert_eq!(emulated(), others);
        // If they are not let go any more, that is told.
        let key = format!("/mh/driver-blacklist/{}/1", PRODUCT.name);
        rig.machine().toolstack().write(&key, "");
        moved(rig).await;
        assert!(emulated().contains(&Emulated::Nic));
        let suspends = driver.suspends();
        let Some(Ok(Suspended::Resumed(resumed))) = suspends.last() else { panic!("{suspends:?}") };
        let error = ResumeError::Unplug(UnplugError::Blocked { product: PRODUCT, build: 1 });
        assert_eq!(resumed.first, Some(Failure { listener: "unplug", step: Step::Early, error }));
    });
}

/// `trusted` is the toolstack's word on a backend, which stands for trust if it says nothing (`io/blkif.h`).
#[test]
fn whether_a_backend_is_trusted() {
    for (key, expected) in [
        (None, Ok(true)),
        (Some("1"), Ok(true)),
        (Some("0"), Ok(false)),
        (Some("2"), Ok(false)),
        (Some("yes"), Err("yes")),
    ] {
        play(GuestConfig::default(), async move |at, driver, rig| {
            let keys = key.map(|value| ("trusted".to_owned(), value.to_owned()));
            let device = DeviceConfig {
                index: 0,
                frontend: keys.into_iter().collect(),
                backend: Vec::new(),
                protocol: Box::new(Echo::new()),
            };
            let device = rig.machine().toolstack().attach(rig.guest(), device);
            let bus = driver.bus();
            let found = Device::find(at, bus.store(), "device/echo/0").await;
            match (found, expected) {
                (Ok(Some(device)), Ok(is_trusted)) => {
                    assert_eq!(device.peer().is_trusted(), is_trusted, "{key:?}");
                }
                (Err(error @ StoreError::Value { .. }), Err(value)) => {
                    let text = error.to_string();
                    assert!(text.contains("device/echo/0/trusted") && text.contains(value), "{text}");
                }
                (found, _) => panic!("{key:?}: {found:?}"),
            }
            rig.machine().toolstack().remove(device);
        });
    }
}

/// Has the guest move to another host.
async fn moved(rig: &Rig) {
    let before = rig.guest().domain();
    rig.machine().toolstack().expect_suspend(rig.guest(), Suspend::Migrated);
    rig.suspended().await;
    assert_ne!(rig.guest().domain(), before);
}
