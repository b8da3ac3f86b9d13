//! Which drivers the guest has.
#![forbid(unsafe_code)]

use futures_util::future::join;
use xen_sim::Suspend as Fate;
use xenbus::control::{
    BadName, DRIVERS_MAX, Distribution, Features, NAME_MAX, News, NotPublished, Owner, Words,
};

use crate::play::{Part, Scene, driver, owner, play};

fn of(driver: Distribution) -> Owner {
    Owner { features: Features::empty(), words: Words::empty(), driver }
}

fn named(name: &'static str) -> Owner {
    owner(name, Features::empty(), Words::empty())
}

/// At which index a driver is published.
async fn index(part: &mut Part<'_>) -> Result<u8, NotPublished> {
    match part.next().await {
        News::Published { driver, .. } => driver,
        news => panic!("{news}"),
    }
}

fn at(scene: &Scene<'_>, index: u8) -> Option<String> {
    scene.key(&format!("drivers/{index}"))
}

/// The form that toolstacks parse: four parts with a space between any two, of which the last may be empty.
#[test]
fn the_form() {
    let longest = "x".repeat(NAME_MAX).leak();
    let limits = Distribution::new(longest, longest, [u16::MAX; 4]).expect("these are names").debug();
    for (driver, expected) in [
        (driver("XENBUS"), "Xen_Project XENBUS 9.1.0.42 ".to_owned()),
        (driver("XENVIF").debug(), "Xen_Project XENVIF 9.1.0.42 (DEBUG)".to_owned()),
        (limits, format!("{longest} {longest} 65535.65535.65535.65535 (DEBUG)")),
    ] {
        play(async move |scene| {
            let mut part = scene.part(of(driver));
            assert_eq!(index(&mut part).await, Ok(0));
            assert_eq!(at(scene, 0), Some(expected));
            part.stop().await.expect("it may");
            assert_eq!(at(scene, 0), None);
        });
    }
}

/// What would not come out as four parts is no name.
#[test]
fn names() {
    let long = "x".repeat(NAME_MAX + 1).leak();
    for (name, bad) in [
        ("", BadName::Length(0)),
        (long, BadName::Length(NAME_MAX + 1)),
        ("Xen Project", BadName::Byte(b' ')),
        ("Xen\0", BadName::Byte(0)),
        ("Xen\n", BadName::Byte(b'\n')),
        ("Z\u{e4}hler", BadName::Byte(0xC3)),
        ("Xen\x7F", BadName::Byte(0x7F)),
    ] {
        assert_eq!(Distribution::new(name, "XENBUS", [0; 4]), Err(bad), "{name}");
        assert_eq!(Distribution::new("Xen", name, [0; 4]), Err(bad), "{name}");
    }
    assert!(BadName::Byte(b' ').to_string().contains("0x20"));
    assert!(BadName::Length(41).to_string().contains("41"));
}

/// A driver has the index that it had before, in whatever version; another vendor's of that name, and what only
/// begins like it, is another. A new one gets the first that is free.
#[test]
fn which_index() {
    for (before, expected) in [
        (&[][..], 0),
        (&[(0, "Xen_Project XENVIF 9.1.0.42 "), (2, "x")], 1),
        (&[(0, "x"), (1, ""), (2, "y")], 3),
        (&[(0, "Xen_Project XENBUS 1.2.3.4 (DEBUG)")], 0),
        (&[(7, "Xen_Project XENBUS 1.2.3.4 ")], 7),
        (&[(255, "Xen_Project XENBUS")], 255),
        (&[(0, "Other XENBUS 9.1.0.42 "), (1, "Xen_Project XENBUSES 9.1.0.42 ")], 2),
        (&[(0, "Xen_Project  XENBUS 9.1.0.42 "), (1, "XENBUS Xen_Project 9.1.0.42 ")], 2),
    ] {
        play(async move |scene| {
            for (index, value) in before {
                scene.write(&format!("drivers/{index}"), value);
                scene.give(&format!("drivers/{index}"));
            }
            let mut part = scene.part(of(driver("XENBUS")));
            assert_eq!(index(&mut part).await, Ok(expected), "{before:?}");
            assert_eq!(at(scene, expected).as_deref(), Some("Xen_Project XENBUS 9.1.0.42 "));
            part.stop().await.expect("it may");
            assert_eq!(at(scene, expected), None);
            for (index, value) in before.iter().filter(|(index, _)| *index != expected) {
                assert_eq!(at(scene, *index).as_deref(), Some(*value), "others are as they were");
            }
        });
    }
}

/// Names that are no index are nobody's, and not in the way, even if a number can be read from them.
#[test]
fn other_nodes() {
    play(async |scene| {
        for name in ["00", "+0", "-0", "256", "0x0", "zero", "99999999999999999999"] {
            scene.write(&format!("drivers/{name}"), "x");
        }
        for name in ["01", "+2"] {
            scene.write(&format!("drivers/{name}"), "Xen_Project XENBUS 1.2.3.4 ");
        }
        let mut part = scene.part(of(driver("XENBUS")));
        assert_eq!(index(&mut part).await, Ok(0));
        part.stop().await.expect("it may");
        assert_eq!(scene.key("drivers/01").as_deref(), Some("Xen_Project XENBUS 1.2.3.4 "));
    });
}

/// There is room for 256; the next is told that there is none, and leaves the others alone. One that is too long to
/// be read is somebody else's.
#[test]
fn full() {
    play(async |scene| {
        for index in 0..DRIVERS_MAX {
            scene.write(&format!("drivers/{index}"), &"y".repeat(1 + 8 * (index % 32)));
        }
        let mut part = scene.part(of(driver("XENBUS")));
        let full = index(&mut part).await;
        assert_eq!(full, Err(NotPublished::Full));
        assert!(full.is_err_and(|why| why.to_string().contains("256")));
        part.stop().await.expect("there is nothing to remove");
        scene.rm("drivers/255");
        let mut part = scene.part(of(driver("XENBUS")));
        assert_eq!(index(&mut part).await, Ok(255));
        part.stop().await.expect("it may");
        for index in 0..255 {
            assert!(at(scene, index).is_some_and(|value| value.starts_with('y')));
        }
    });
}

/// Several drivers at the same time each get an index of their own, after every migration, where the directory is
/// empty; and perhaps another than before.
#[test]
fn several() {
    play(async |scene| {
        let mut bus = scene.part(named("XENBUS"));
        let mut net = scene.part(named("XENVIF"));
        assert_eq!(index(&mut bus).await, Ok(0));
        assert_eq!(index(&mut net).await, Ok(1));
        for _ in 0..4 {
            scene.suspend(Fate::Migrated);
            assert_eq!(at(scene, 0).or(at(scene, 1)), None, "it is empty");
            let (by_bus, by_net) = join(index(&mut bus), index(&mut net)).await;
            let mut indices = [by_bus.expect("there is room"), by_net.expect("there is room")];
            for (index, name) in indices.into_iter().zip(["XENBUS", "XENVIF"]) {
                assert_eq!(at(scene, index), Some(format!("Xen_Project {name} 9.1.0.42 ")));
            }
            indices.sort_unstable();
            assert_eq!(indices, [0, 1]);
        }
        scene.suspend(Fate::Migrated);
        assert_eq!(index(&mut net).await, Ok(0), "it is first now");
        assert_eq!(index(&mut bus).await, Ok(1));
        net.stop().await.expect("it may");
        assert_eq!((at(scene, 0), at(scene, 1).is_some()), (None, true));
        bus.stop().await.expect("it may");
        assert_eq!(at(scene, 1), None);
    });
}

/// A guest that may not publish is told so, once, and goes on.
#[test]
fn forbidden() {
    play(async |scene| {
        scene.rm("drivers");
        let mut part = scene.part(owner("XENBUS", Features::SUSPEND, Words::all()));
        let refused = index(&mut part).await;
        let Err(NotPublished::Forbidden(why)) = refused else { panic!("{refused:?}") };
        assert!(why.to_string().contains("drivers/0") && why.to_string().contains("EACCES"), "{why}");
        assert_eq!(scene.key("control/feature-suspend").as_deref(), Some("1"));
        scene.write("control/shutdown", "halt");
        assert!(matches!(part.next().await, News::Asked(_)));
        part.stop().await.expect("there is nothing to remove");
    });
}
