//! What the guest does when it is asked to.
#![forbid(unsafe_code)]

use xen_sim::Suspend as Fate;
use xenbus::control::{Features, News, Words};

use crate::play::{Scene, owner, play, polled};

/// Those whose nodes the toolstack has made, with nothing in them, and whether there is one.
const NODES: [(Features, &str, bool); 7] = [
    (Features::SUSPEND, "control/feature-suspend", true),
    (Features::POWER_OFF, "control/feature-poweroff", true),
    (Features::REBOOT, "control/feature-reboot", true),
    (Features::SLEEP, "control/feature-s3", true),
    (Features::HIBERNATE, "control/feature-s4", true),
    (Features::BALLOON, "control/feature-balloon", false),
    (Features::LAPTOP_SLATE_MODE, "control/feature-laptop-slate-mode", false),
];

/// What a feature's node has to be if these are published: none are where the guest may not make them.
fn expected(scene: &Scene<'_>, published: Features) {
    for (feature, node, is_there) in NODES {
        let value = if published.contains(feature) { "1" } else { "" };
        assert_eq!(scene.key(node).as_deref(), is_there.then_some(value), "{node}");
    }
}

/// All that the guest may publish is published, and the rest is named; in the end the nodes are as they were, for the
/// next driver to find them. It is called for each epoch, without a word from anybody.
#[test]
fn published_and_withdrawn() {
    play(async |scene| {
        let refused = Features::BALLOON | Features::LAPTOP_SLATE_MODE;
        for _ in 0..2 {
            expected(scene, Features::empty());
            let mut part = scene.part(owner("XENBUS", Features::all(), Words::all()));
            let published =
                || News::Published { epoch: scene.bus.suspend.epochs().now(), refused, driver: Ok(0) };
            assert_eq!(part.next().await, published());
            expected(scene, Features::all());
            for _ in 0..3 {
                scene.suspend(Fate::Migrated);
                expected(scene, Features::empty());
                assert_eq!(part.next().await, published());
                expected(scene, Features::all());
            }
            part.stop().await.expect("it may");
        }
        expected(scene, Features::empty());
    });
}

/// Where the guest may make nodes, it makes those that are missing, and removes them, and no others.
#[test]
fn made_and_removed() {
    play(async |scene| {
        let node = "control/feature-balloon";
        scene.give("control");
        let owner = owner("XENBUS", Features::BALLOON | Features::SUSPEND, Words::empty());
        let part = scene.published(owner).await;
        assert_eq!(scene.key(node).as_deref(), Some("1"));
        part.stop().await.expect("it may");
        assert_eq!(scene.key(node), None);
        expected(scene, Features::empty());
        // Another toolstack has made it.
        let part = scene.published(owner).await;
        scene.rm("control/feature-suspend");
        part.stop().await.expect("what is not there need not go");
        assert_eq!(scene.key("control/feature-suspend"), None);
    });
}

/// Two owners publish what is theirs, and do not touch what is the other's, when they come and when they go.
#[test]
fn two_owners() {
    play(async |scene| {
        let bus = Features::SUSPEND;
        let agent = Features::POWER_OFF | Features::REBOOT | Features::SLEEP | Features::HIBERNATE;
        let bus_part = scene.published(owner("XENBUS", bus, Words::SUSPEND)).await;
        expected(scene, bus);
        let agent_part = scene.published(owner("XENIFACE", agent, !Words::SUSPEND)).await;
        expected(scene, bus | agent);
        bus_part.stop().await.expect("it may");
        expected(scene, agent);
        let mut bus_part = scene.published(owner("XENBUS", bus, Words::SUSPEND)).await;
        agent_part.stop().await.expect("it may");
        expected(scene, bus);
        scene.suspend(Fate::Migrated);
        assert!(matches!(bus_part.next().await, News::Published { .. }));
        expected(scene, bus);
        bus_part.stop().await.expect("it may");
        expected(scene, Features::empty());
    });
}

/// A suspend that was cancelled has emptied nothing, and nothing is written again.
#[test]
fn not_after_a_cancelled_suspend() {
    play(async |scene| {
        let mut part = scene.published(owner("XENBUS", Features::SUSPEND, Words::all())).await;
        scene.write("control/feature-suspend", "mine");
        scene.suspend(Fate::Cancelled);
        scene.write("control/shutdown", "reboot");
        let news = part.next().await;
        assert!(matches!(news, News::Asked(_)), "{news}");
        assert_eq!(scene.key("control/feature-suspend").as_deref(), Some("mine"));
        part.stop().await.expect("it may");
    });
}

/// A guest that moves while what it has published is withdrawn has nothing published any more.
#[test]
fn moved_while_it_stops() {
    for polls in 1.. {
        let is_over = play(async move |scene| {
            let part = scene.published(owner("XENBUS", Features::SUSPEND, Words::all())).await;
            let mut stop = Box::pin(part.stop());
            let stopped = polled(polls, stop.as_mut()).await;
            if stopped.is_none() {
                scene.suspend(Fate::Migrated);
                assert_eq!(stop.await, Ok(()));
                expected(scene, Features::empty());
            }
            stopped.is_some()
        });
        if is_over {
            assert!(polls > 4, "{polls}");
            break;
        }
    }
}
