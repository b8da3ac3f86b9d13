//! What a frontend does when a connection cannot be had, and when another backend comes.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use kexec::{Scope, platform::mock::keep};
use xen_abi::io::xs_wire::XsError;
use xen_harness::{Player, Rig};
use xen_sim::{DeviceConfig, DeviceId, Fault, Peer, Protocol, Side, echo::Echo as Backend, xenstored};
use xenbus::frontend::{End, News, Why};

use crate::world::{Driver, LIMIT, rig};

/// More than are complemented in the time of a test.
const MANY: u64 = u64::MAX;

/// A backend that is of no use now and then.
struct Moody {
    inner: Backend,
    is_useful: Arc<AtomicBool>,
}

impl Protocol for Moody {
    fn class(&self) -> &str {
        self.inner.class()
    }

    fn offer(&mut self, side: &mut Side<'_>) -> Result<(), String> {
        self.inner.offer(side)?;
        if !self.is_useful.load(Relaxed) {
            side.write("feature-echo", "0");
        }
        Ok(())
    }

    fn connect(&mut self, side: &mut Side<'_>) -> Result<(), String> {
        self.inner.connect(side)
    }

    fn work(&mut self, side: &mut Side<'_>) -> Result<bool, String> {
        self.inner.work(side)
    }

    fn disconnect(&mut self) {
        self.inner.disconnect();
    }

    fn garbage(&mut self) {
        self.inner.garbage();
    }
}

/// Lets so much time go by.
fn pass(player: &mut Player, time: Duration) {
    let later = player.time() + time;
    while player.step(later) {}
}

/// A backend that is of no use is tried again: soon at first, then less and less often, but no less than once a minute;
/// and soon again after a connection. It breaks no protocol, and is not complained of.
#[test]
fn a_backend_that_is_of_no_use() {
    let mut player = Player::new(1);
    let is_useful = Arc::new(AtomicBool::new(false));
    let (rig, device) = rig(&mut player, Moody { inner: Backend::new(), is_useful: is_useful.clone() });
    let driver = Driver::new(&rig, &mut player, keep(Scope::new("guest")), MANY, true);
    let outcome = driver.spawn();
    let failures = || driver.news().iter().filter(|news| matches!(news, News::Failed(_))).count();

    pass(&mut player, Duration::from_secs(10));
    let at_first = failures();
    assert!((3..=5).contains(&at_first), "{at_first}");
    pass(&mut player, Duration::from_mins(2));
    let before = failures();
    assert!(before <= at_first + 5, "less and less often: {before}");
    pass(&mut player, Duration::from_mins(8));
    let seldom = failures() - before;
    assert!((7..=8).contains(&seldom), "{seldom}");
    let complaint = format!("/local/domain/{}/error/device/echo/0/error", rig.guest().domain());
    assert_eq!(rig.machine().toolstack().read(&complaint), None);

    is_useful.store(true, Relaxed);
    while driver.connections() == 0 && player.step(LIMIT) {}
    assert_eq!(driver.connections(), 1);
    is_useful.store(false, Relaxed);
    rig.machine().inject(rig.guest(), Fault::Close(device));
    let before = failures();
    pass(&mut player, Duration::from_secs(10));
    assert!(failures() >= before + 3, "it begins with a short pause: {}", failures() - before);

    while !outcome.is_finished() && player.step(Duration::from_hours(1)) {}
    assert!(matches!(outcome.try_take(), Ok(Ok(Ok(_)))));
    player.close().expect("all tasks end");
    let audit = rig.machine().audit(rig.guest());
    assert!(audit.is_clean(), "{audit}");
}

/// A driver whose backend has broken the protocol, and which has given it up.
fn given_up(player: &mut Player) -> (Rig, DeviceId, &'static Driver) {
    let (rig, device) = rig(player, Backend::new());
    let driver = Driver::new(&rig, player, keep(Scope::new("guest")), MANY, true);
    driver.spawn().detach();
    while driver.connections() == 0 && player.step(LIMIT) {}
    rig.machine().inject(rig.guest(), Fault::Garbage(Peer::Device(device)));
    pass(player, Duration::from_mins(2));
    assert_eq!((driver.connections(), waits(driver)), (1, 1), "{:?}", driver.news());
    (rig, device, driver)
}

/// How often it has begun.
fn waits(driver: &Driver) -> usize {
    driver.news().iter().filter(|news| matches!(news, News::Waits)).count()
}

/// It has ended, with nothing left.
fn assert_gone(player: &mut Player, rig: &Rig, driver: &Driver) {
    pass(player, Duration::from_mins(3));
    assert_eq!(driver.ends(), [End::Gone], "{:?}", driver.news());
    player.close().expect("all tasks end");
    let audit = rig.machine().audit(rig.guest());
    assert!(audit.is_clean(), "{audit}");
}

/// The toolstack gives the device another backend, with the guest where it was: that one has broken nothing.
#[test]
fn another_backend_in_the_same_domain() {
    let mut player = Player::new(1);
    let (rig, device, driver) = given_up(&mut player);
    let toolstack = rig.machine().toolstack();
    let config = DeviceConfig {
        index: 1,
        frontend: Vec::new(),
        backend: Vec::new(),
        protocol: Box::new(Backend::new()),
    };
    let other = toolstack.attach(rig.guest(), config);
    let domain = rig.guest().domain();
    let backend = toolstack.read(&format!("/local/domain/{domain}/device/echo/1/backend"));
    toolstack.write(
        &format!("/local/domain/{domain}/device/echo/0/backend"),
        &backend.expect("the toolstack has written it"),
    );
    pass(&mut player, Duration::from_mins(2));
    assert!(waits(driver) > 1, "it begins with that one: {:?}", driver.news());
    assert!(toolstack.remove(other) && toolstack.remove(device));
    assert_gone(&mut player, &rig, driver);
}

/// A store that refuses to say whether there is another backend has not said so, nor that the device is gone.
#[test]
fn a_store_that_refuses_meanwhile() {
    let mut player = Player::new(1);
    let (rig, device, driver) = given_up(&mut player);
    for _ in 0..3 {
        assert!(rig.machine().distort(rig.guest(), xenstored::Fault::Refuse(XsError::EIO)));
        pass(&mut player, Duration::from_mins(3));
        assert_eq!((driver.connections(), waits(driver)), (1, 1), "{:?}", driver.news());
        assert_eq!(driver.ends(), []);
    }
    assert!(rig.machine().toolstack().remove(device));
    assert_gone(&mut player, &rig, driver);
}

/// The toolstack wants a device back that nobody serves any more, and takes its frontend away with nobody saying so in
/// the backend's directory: the frontend ends.
#[test]
fn a_device_that_goes_meanwhile() {
    for is_told in [true, false] {
        let mut player = Player::new(1);
        let (rig, device, driver) = given_up(&mut player);
        let (toolstack, domain) = (rig.machine().toolstack(), rig.guest().domain());
        if is_told {
            // One that does nothing any more: otherwise it would be gone as well.
            rig.machine().inject(rig.guest(), Fault::Wedge(Peer::Device(device)));
            toolstack.write(&format!("/local/domain/0/backend/echo/{domain}/0/online"), "0");
        } else {
            toolstack.rm(&format!("/local/domain/{domain}/device/echo/0"));
        }
        pass(&mut player, Duration::from_mins(3));
        assert_eq!(driver.ends(), [End::Gone], "{:?}", driver.news());
        toolstack.remove(device);
        assert_gone(&mut player, &rig, driver);
    }
}

/// A driver that is stopped while the store says nothing cannot tell anybody; it takes its connection apart all the
/// same.
#[test]
fn stopped_without_a_store() {
    let mut player = Player::new(1);
    let (rig, _) = rig(&mut player, Backend::new());
    let driver = Driver::new(&rig, &mut player, keep(Scope::new("guest")), 1000, true);
    let outcome = driver.spawn();
    while driver.connections() == 0 && player.step(LIMIT) {}
    rig.machine().inject(rig.guest(), Fault::Wedge(Peer::Xenstored));
    while !outcome.is_finished() && player.step(Duration::from_hours(1)) {}
    assert_eq!(outcome.try_take().expect("it has ended"), Ok(Ok(1000)), "its device works on");
    assert_eq!(driver.news().last(), Some(&News::Disconnected(Why::Lost)), "{:?}", driver.news());
    assert_eq!(driver.ends(), [End::Stopped]);
    player.close().expect("all tasks end");
}
