//! Names that are none, and more than there is room for.
#![forbid(unsafe_code)]

use kexec::time::sleep;
use xen_sim::xenstored;
use xenbus::bus::children::{NAME, RETRY, Trouble};

use crate::scene::{MOST, followed};

/// What a name means is for who serves it: here it is told as it is, if it fits; one that does not is told by its
/// length, once, and does not hide the others.
#[test]
fn names_that_are_none() {
    let long: &str = "9".repeat(NAME + 1).leak();
    let longest: &str = "9".repeat(NAME).leak();
    followed(&[], async move |scene| {
        scene.attach(&["zero", long, "00"]);
        assert_eq!(scene.told().await, "+zero +00 name-of-33!");
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "+0", "it is known of the other");
        scene.attach(&[longest]);
        assert_eq!(scene.told().await, format!("+{longest}"));
        scene.detach(&[long]);
        assert_eq!(scene.told().await, "");
        scene.attach(&[long]);
        assert_eq!(scene.told().await, "name-of-33!", "it was over");
    });
}

/// More than there is room for: as many as there is room for are told, and the next when one of them goes.
#[test]
fn too_many() {
    followed(&[], async |scene| {
        assert_eq!(MOST, 4);
        scene.attach(&["0", "1", "2", "3", "4", "5"]);
        assert_eq!(scene.told().await, "+0 +1 +2 +3 more-than-4!");
        scene.detach(&["1"]);
        assert_eq!(scene.told().await, "-1 +4");
        scene.detach(&["5"]);
        assert_eq!(scene.told().await, "");
        // Those who have ended have their places until they are away.
        scene.ended("0");
        assert_eq!(scene.told().await, "-0");
        scene.attach(&["6"]);
        assert_eq!(scene.told().await, "more-than-4!");
        scene.detach(&["0"]);
        assert_eq!(scene.told().await, "+6");
    });
}

/// Names for which there is no room: nothing is taken to have changed, and when there is room again, all is told.
#[test]
fn no_room() {
    followed(&[], async |scene| {
        scene.attach(&["0", "1"]);
        assert_eq!(scene.told().await, "+0 +1");
        let absurd = "x".repeat(crate::scene::ROOM);
        scene.attach(&[&absurd]);
        scene.detach(&["0"]);
        assert_eq!(scene.told().await, "store!");
        scene.detach(&[&absurd]);
        scene.attach(&["2"]);
        assert_eq!(scene.told().await, "-0 +2");
    });
}

/// A list that is no list changes nothing, and is asked for again.
#[test]
fn no_list() {
    for payload in [&b"\xFF\0"[..], b"0", b"\0", b"0\0a/b\0"] {
        followed(&[], async move |scene| {
            scene.attach(&["0"]);
            assert_eq!(scene.told().await, "+0");
            let fault = xenstored::Fault::Payload(payload.to_vec());
            assert!(scene.rig.machine().distort(scene.rig.guest(), fault));
            scene.detach(&["0"]);
            assert_eq!(scene.told().await, "store!", "{payload:?}");
            sleep(RETRY).await;
            assert_eq!(scene.told().await, "-0");
        });
    }
}

/// What is told says what to do.
#[test]
fn troubles_in_words() {
    let of = |trouble: Trouble| trouble.to_string();
    assert_eq!(of(Trouble::Name(33)), "a device's name of 33 bytes; 32 are the most");
    assert_eq!(of(Trouble::TooMany(4)), "more devices than 4, for which there is room");
}
