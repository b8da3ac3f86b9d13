//! Suspends, and a xenstored that is no help.
#![forbid(unsafe_code)]

use std::time::Duration;

use kexec::time::sleep;
use xen_abi::io::xs_wire::XsError;
use xen_sim::{DeviceConfig, Fault, Peer, Suspend as Fate, echo::Echo, xenstored};
use xenbus::bus::children::RETRY;

use crate::scene::followed;

/// A suspend that was cancelled has changed nothing. After another one, who is there still has not been away, for its
/// frontend; who is not has departed, and who is there for the first time has arrived.
#[test]
fn suspends() {
    followed(&["0", "1"], async |scene| {
        assert_eq!(scene.told().await, "+0 +1");
        scene.attach(&["2"]);
        assert_eq!(scene.told().await, "+2");
        scene.suspend(Fate::Cancelled);
        assert_eq!(scene.told().await, "");
        scene.suspend(Fate::Migrated);
        scene.attach(&["3"]);
        assert_eq!(scene.told().await, "-2 +3");
        scene.suspend(Fate::Migrated);
        scene.attach(&["3"]);
        assert_eq!(scene.told().await, "");
        // Its watch is one of this domain.
        scene.attach(&["2"]);
        assert_eq!(scene.told().await, "+2");
    });
}

/// A device that the toolstack itself has moved with the guest is no news.
#[test]
fn a_device_that_is_moved() {
    followed(&[], async |scene| {
        let config = DeviceConfig {
            index: 0,
            frontend: Vec::new(),
            backend: Vec::new(),
            protocol: Box::new(Echo::new()),
        };
        let device = scene.rig.machine().toolstack().attach(scene.rig.guest(), config);
        scene.attach(&["echo"]);
        assert_eq!(scene.told().await, "+echo");
        scene.suspend(Fate::Migrated);
        assert_eq!(scene.told().await, "-echo");
        assert!(scene.rig.machine().toolstack().remove(device));
        assert_eq!(scene.told().await, "");
    });
}

/// A refusal is told once, however often it comes; when it is over, all is told that was not.
#[test]
fn refused() {
    followed(&[], async |scene| {
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "+0");
        // It asks as often as that, whatever happens.
        for _ in 0..3 {
            assert!(scene.rig.machine().distort(scene.rig.guest(), xenstored::Fault::Refuse(XsError::EIO)));
        }
        scene.detach(&["0"]);
        assert_eq!(scene.told().await, "store!");
        sleep(RETRY).await;
        assert_eq!(scene.told().await, "");
        sleep(RETRY).await;
        assert_eq!(scene.told().await, "");
        sleep(RETRY).await;
        assert_eq!(scene.told().await, "-0");
    });
}

/// One that does not answer, or has ended the connection, is told, and what is known stays so: in another domain it
/// goes on.
#[test]
fn until_another_domain() {
    for fault in [Fault::Wedge(Peer::Xenstored), Fault::Kill(Peer::Xenstored)] {
        followed(&[], async move |scene| {
            scene.attach(&["0", "1"]);
            assert_eq!(scene.told().await, "+0 +1");
            scene.write("0/state", "1");
            scene.inject(fault);
            sleep(Duration::from_mins(5)).await;
            let told = scene.told().await;
            assert!(told.split(' ').all(|what| what == "store!" || what.is_empty()), "{fault}: {told}");
            scene.suspend(Fate::Migrated);
            scene.attach(&["1", "2"]);
            sleep(2 * RETRY).await;
            let told = scene.told().await;
            let changes: Vec<_> = told.split(' ').filter(|what| *what != "store!").collect();
            assert_eq!(changes, ["-0", "+2"], "{fault}");
        });
    }
}
