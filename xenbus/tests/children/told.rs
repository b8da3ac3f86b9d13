//! What is told, in which order, and what is not.
#![forbid(unsafe_code)]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use kexec::time::sleep;
use xenbus::bus::children::RETRY;

use crate::scene::{followed, play};

/// Each is told once as it comes and once as it goes, in the order of that; what happens below it is its own.
#[test]
fn devices_come_and_go() {
    followed(&[], async |scene| {
        assert_eq!(scene.told().await, "", "there is no such class yet");
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "+0");
        scene.attach(&["1", "51712"]);
        assert_eq!(scene.told().await, "+1 +51712");
        scene.write("0/state", "4");
        scene.write("1/queue-0/ring-ref", "8");
        assert_eq!(scene.told().await, "");
        scene.detach(&["1"]);
        assert_eq!(scene.told().await, "-1");
        scene.attach(&["1"]);
        assert_eq!(scene.told().await, "+1");
        // Who goes makes room before who comes is told.
        scene.attach(&["2"]);
        scene.detach(&["0"]);
        assert_eq!(scene.told().await, "-0 +2");
        // The whole class.
        scene.detach_all();
        let mut gone: Vec<_> = scene.told().await.split(' ').map(str::to_owned).collect();
        gone.sort_unstable();
        assert_eq!(gone, ["-1", "-2", "-51712"]);
        scene.attach(&["1"]);
        assert_eq!(scene.told().await, "+1");
    });
}

/// Those that no toolstack makes are there from the beginning, and stay, whether or not one makes them as well.
#[test]
fn some_are_always_there() {
    followed(&["console", "keyboard"], async |scene| {
        assert_eq!(scene.told().await, "+console +keyboard");
        scene.attach(&["keyboard", "0"]);
        assert_eq!(scene.told().await, "+0");
        scene.detach(&["keyboard"]);
        assert_eq!(scene.told().await, "");
        scene.detach_all();
        assert_eq!(scene.told().await, "-0");
    });
}

/// One that is taken away and made anew between two looks has the name that it had. Who has served the first to its
/// end says so; then the other one is told.
#[test]
fn another_of_the_same_name() {
    followed(&[], async |scene| {
        scene.attach(&["0", "1"]);
        assert_eq!(scene.told().await, "+0 +1");
        scene.detach(&["0"]);
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "", "there is one as before");
        scene.ended("0");
        assert_eq!(scene.told().await, "-0");
        sleep(RETRY).await;
        assert_eq!(scene.told().await, "+0");
        sleep(2 * RETRY).await;
        assert_eq!(scene.told().await, "", "once is enough");
    });
}

/// It has ended, and is seen to be away after that, as it is when a device is detached in good order: the next one is
/// told at once.
#[test]
fn the_next_after_a_good_end() {
    followed(&[], async |scene| {
        scene.attach(&["0", "1"]);
        assert_eq!(scene.told().await, "+0 +1");
        scene.ended("0");
        scene.ended("0");
        assert_eq!(scene.told().await, "-0", "it is told once");
        scene.detach(&["0"]);
        assert_eq!(scene.told().await, "", "it was told already");
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "+0");
        // Its directory is gone first.
        scene.detach(&["0"]);
        assert_eq!(scene.told().await, "-0");
        scene.ended("0");
        assert_eq!(scene.told().await, "");
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "+0");
        // What never was there has not ended either.
        for nobody in ["2", "", "00", &"x".repeat(33)] {
            scene.ended(nobody);
        }
        assert_eq!(scene.told().await, "");
    });
}

/// However often it ends, and whatever happens besides, it is told anew no more often than that.
#[test]
fn one_that_ends_again_and_again() {
    followed(&[], async |scene| {
        scene.attach(&["0"]);
        assert_eq!(scene.told().await, "+0");
        for _ in 0..3 {
            scene.ended("0");
            assert_eq!(scene.told().await, "-0");
            for _ in 0..8 {
                scene.write("1/state", "1");
                scene.ended("0");
                assert!(!scene.told().await.contains('0'));
            }
            // Others do not keep it waiting.
            let mut told = String::new();
            for _ in 0..4 {
                scene.write("1/state", "1");
                told += &scene.told().await;
            }
            assert_eq!(told, "+0");
        }
    });
}

/// Dropped at any poll, it leaves nothing behind; called again, it tells of all that are there.
#[test]
fn dropped_at_every_poll() {
    play(&["console"], async |scene| {
        scene.attach(&["0", "1"]);
        let mut polls = 0;
        loop {
            polls += 1;
            let mut left = polls;
            {
                let mut follow = pin!(scene.follow());
                poll_fn(|cx| {
                    left -= 1;
                    assert!(follow.as_mut().poll(cx).is_pending(), "it follows for ever");
                    if left == 0 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            scene.bus.store.settled(scene.at).await;
            if scene.told().await == "+console +0 +1" && polls > 8 {
                break;
            }
        }
    });
}
