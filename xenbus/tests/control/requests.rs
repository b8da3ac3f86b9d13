//! What the toolstack asks for.
#![forbid(unsafe_code)]

use std::time::Duration;

use futures_util::future::join;
use kexec::time::{sleep, timeout};
use xen_abi::io::xs_wire::XsError;
use xen_sim::{Fault, Peer, Request as Ask, Suspend as Fate, xenstored};
use xenbus::{
    control::{Features, News, NotWithdrawn, Owner, Request, Words},
    store::{PATIENCE, TransactionError},
};

use crate::play::{Part, Scene, owner, play, polled};

const SHUTDOWN: &str = "control/shutdown";

fn listener(name: &'static str, words: Words) -> Owner {
    owner(name, Features::empty(), words)
}

/// What comes within a minute.
async fn news(part: &mut Part<'_>) -> Option<News> {
    timeout(Duration::from_mins(1), part.next()).await.ok()
}

async fn asked(part: &mut Part<'_>) -> Option<Request> {
    match news(part).await {
        Some(News::Asked(request)) => Some(request),
        None => None,
        Some(other) => panic!("{other}"),
    }
}

/// Every word that a toolstack has is understood, acknowledged, and told once.
#[test]
fn each_word() {
    play(async |scene| {
        let mut part = scene.published(listener("XENBUS", Words::all())).await;
        for (request, expected) in [
            (Ask::PowerOff, Request::PowerOff),
            (Ask::Reboot, Request::Reboot),
            (Ask::Halt, Request::Halt),
            (Ask::Suspend(Fate::Cancelled), Request::Suspend),
            (Ask::Sleep, Request::Sleep),
            (Ask::Hibernate, Request::Hibernate),
        ] {
            assert!(scene.rig.machine().toolstack().request(scene.rig.guest(), request));
            assert_eq!(asked(&mut part).await, Some(expected));
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some(""), "it is acknowledged");
            assert_eq!(expected.to_string(), request.command());
        }
        scene.write(SHUTDOWN, "crash");
        assert_eq!(asked(&mut part).await, Some(Request::Crash));
        assert_eq!(asked(&mut part).await, None, "nothing is told twice");
        part.stop().await.expect("it may");
    });
}

/// A word that nobody knows is named, and acknowledged: the toolstack need not wait for ever. Nothing is mistaken for
/// a word that only begins like one.
#[test]
fn unknown_words() {
    play(async |scene| {
        let mut part = scene.published(listener("XENBUS", Words::all())).await;
        let long = "suspend".repeat(20);
        for (word, named) in [
            ("fly", "`fly`"),
            ("Suspend", "`Suspend`"),
            ("suspend ", "`suspend `"),
            ("suspend\n", "`suspend\\n`"),
            (&long, "`suspendsuspendsuspendsus`"),
        ] {
            scene.write(SHUTDOWN, word);
            let request = asked(&mut part).await.expect("it is told");
            assert!(matches!(request, Request::Unknown(_)), "{request:?}");
            assert!(request.to_string().starts_with(named), "{request}");
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some(""));
        }
        part.stop().await.expect("it may");
    });
}

/// Of two who listen each takes its own, and what is nobody's stays where it is.
#[test]
fn two_listen() {
    play(async |scene| {
        let mut bus = scene.published(listener("XENBUS", Words::SUSPEND)).await;
        let mut agent = scene.published(listener("XENIFACE", Words::POWER_OFF | Words::REBOOT)).await;
        for (word, is_for_bus, is_for_agent) in [
            ("suspend", true, false),
            ("reboot", false, true),
            ("s3", false, false),
            ("poweroff", false, true),
        ] {
            scene.write(SHUTDOWN, word);
            let (by_bus, by_agent) = join(asked(&mut bus), asked(&mut agent)).await;
            assert_eq!((by_bus.is_some(), by_agent.is_some()), (is_for_bus, is_for_agent), "{word}");
            let left = if is_for_bus || is_for_agent { "" } else { word };
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some(left), "{word}");
        }
        for part in [bus, agent] {
            part.stop().await.expect("it may");
        }
    });
}

/// A word that was there before anybody listened is taken; one that is replaced or taken back before anybody looks
/// was never there; and a node that is not there at all, as a toolstack without requests has it, asks for nothing.
#[test]
fn as_it_is_found() {
    play(async |scene| {
        scene.write(SHUTDOWN, "reboot");
        let mut part = scene.part(listener("XENBUS", Words::all()));
        assert_eq!(part.next().await, News::Asked(Request::Reboot), "before anything is published");
        assert!(matches!(part.next().await, News::Published { .. }));
        assert_eq!(asked(&mut part).await, None);
        scene.write(SHUTDOWN, "reboot");
        scene.write(SHUTDOWN, "poweroff");
        assert_eq!(asked(&mut part).await, Some(Request::PowerOff));
        scene.write(SHUTDOWN, "suspend");
        scene.write(SHUTDOWN, "");
        assert_eq!(asked(&mut part).await, None);
        scene.rm(SHUTDOWN);
        assert_eq!(asked(&mut part).await, None);
        scene.write(SHUTDOWN, "halt");
        // The node is the toolstack's now: the guest may not acknowledge, and does nothing that it could not.
        let refused = news(&mut part).await;
        assert!(matches!(refused, Some(News::Failed(_))), "{refused:?}");
        assert_eq!(scene.key(SHUTDOWN).as_deref(), Some("halt"));
        part.stop().await.expect("it may");
    });
}

/// What is asked for while the last request is still being done is told after that.
#[test]
fn the_next_one() {
    play(async |scene| {
        let mut part = scene.published(listener("XENBUS", Words::all())).await;
        for word in ["reboot", "reboot", "poweroff"] {
            scene.write(SHUTDOWN, word);
            assert_eq!(asked(&mut part).await.map(|request| request.to_string()).as_deref(), Some(word));
        }
        part.stop().await.expect("it may");
    });
}

/// All that is told from now on.
async fn told(part: &mut Part<'_>) -> Vec<Request> {
    let mut told = Vec::new();
    for _ in 0..16 {
        match news(part).await {
            Some(News::Asked(request)) => told.push(request),
            Some(_) => {}
            None => return told,
        }
    }
    panic!("news, and no end of it: {told:?}")
}

/// What becomes of a word if its listener loses interest after each number of polls, and comes back after something
/// has happened. The number of polls, whether the word was acknowledged when that happened, and what is told.
fn interrupted(
    word: &'static str,
    then: impl AsyncFn(&Scene<'_>) + Copy + Send + 'static,
) -> Vec<(bool, Vec<String>)> {
    let mut outcomes = Vec::new();
    for polls in 1.. {
        let outcome = play(async move |scene: &Scene<'_>| {
            let mut part = scene.published(listener("XENBUS", Words::all())).await;
            scene.write(SHUTDOWN, word);
            if let Some(news) = polled(polls, part.next()).await {
                assert!(matches!(news, News::Asked(_)), "{news}");
                part.stop().await.expect("it may");
                return None;
            }
            // Whatever is on its way arrives, or does so after that.
            if polls.is_multiple_of(2) {
                sleep(Duration::from_millis(10)).await;
            }
            let was_acknowledged = scene.key(SHUTDOWN).as_deref() == Some("");
            then(scene).await;
            let told = told(&mut part).await.iter().map(Request::to_string).collect();
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some(""), "nothing is left");
            part.stop().await.expect("it may");
            Some((was_acknowledged, told))
        });
        match outcome {
            Some(outcome) => outcomes.push(outcome),
            None => break,
        }
    }
    assert!(outcomes.len() > 8, "{outcomes:?}");
    assert!(outcomes.iter().any(|(was_acknowledged, _)| *was_acknowledged), "{outcomes:?}");
    outcomes
}

/// A listener that loses interest in the middle of it has lost nothing: the word is told to its next call, once,
/// whether it was acknowledged or not.
#[test]
fn interest_is_lost() {
    for (_, told) in interrupted("suspend", async |_| ()) {
        assert_eq!(told, ["suspend"]);
    }
}

/// Two words, the second as soon as the first is gone: both are told, in order.
#[test]
fn interest_is_lost_and_another_word_comes() {
    let then = async |scene: &Scene<'_>| {
        if scene.key(SHUTDOWN).as_deref() == Some("") {
            scene.write(SHUTDOWN, "reboot");
        }
    };
    for (was_acknowledged, told) in interrupted("poweroff", then) {
        if was_acknowledged {
            assert_eq!(told, ["poweroff", "reboot"]);
        } else {
            assert_eq!(told, ["poweroff"]);
        }
    }
}

/// In between the guest has moved. A word that was not acknowledged is gone with its domain. One that was is still to
/// be done; but not a suspend, which has been done.
#[test]
fn interest_is_lost_and_the_guest_moves() {
    let then = async |scene: &Scene<'_>| scene.suspend(Fate::Migrated);
    for (_, told) in interrupted("suspend", then) {
        assert!(told.is_empty(), "{told:?}");
    }
    let outcomes = interrupted("poweroff", then);
    for (was_acknowledged, told) in &outcomes {
        assert!(told.len() <= 1, "{told:?}");
        assert!(!was_acknowledged || told == &["poweroff"], "{told:?}");
    }
}

/// Whichever answer of xenstored's is lost on the way: the word is told, once.
#[test]
fn an_answer_is_lost() {
    let (mut doubts, mut losses) = (0, 0);
    for polls in 1.. {
        let failed = play(async move |scene| {
            let mut part = scene.published(listener("XENBUS", Words::all())).await;
            scene.write(SHUTDOWN, "reboot");
            let mut next = Box::pin(part.next());
            if polled(polls, next.as_mut()).await.is_some() {
                drop(next);
                part.stop().await.expect("it may");
                return None;
            }
            assert!(scene.rig.machine().distort(scene.rig.guest(), xenstored::Fault::Swallow));
            let mut failed = Vec::new();
            let mut news = next.await;
            while let News::Failed(error) = news {
                failed.push(error);
                news = part.next().await;
            }
            assert_eq!(news, News::Asked(Request::Reboot));
            while let Some(news) = self::news(&mut part).await {
                let News::Failed(error) = news else { panic!("{news}") };
                failed.push(error);
            }
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some(""));
            part.stop().await.expect("it may");
            // A transaction whose number was lost is there as long as the connection.
            scene.suspend(Fate::Migrated);
            Some(failed)
        });
        let Some(failed) = failed else { break };
        losses += failed.len();
        doubts += failed.iter().filter(|error| matches!(error, TransactionError::Unknown(_))).count();
    }
    assert!(losses > 4 && doubts > 0, "the answer to a commit was among {losses}, {doubts} times");
}

/// The toolstack takes its word back while it is being taken, once more perhaps by a listener who had lost interest
/// in it: either the guest has it, or the toolstack.
#[test]
fn taken_back_meanwhile() {
    let mut outcomes = [0; 2];
    for (first, second) in (0..16).flat_map(|first| (1..24).map(move |second| (first, second))) {
        let was_told = play(async move |scene| {
            let mut part = scene.published(listener("XENBUS", Words::all())).await;
            scene.write(SHUTDOWN, "suspend");
            let mut has_it = first > 0 && polled(first, part.next()).await.is_some();
            // What is on its way arrives.
            sleep(Duration::from_millis(10)).await;
            {
                let mut next = Box::pin(part.next());
                has_it |= polled(second, next.as_mut()).await.is_some();
                let is_there = scene.key(SHUTDOWN).as_deref() == Some("suspend");
                if is_there {
                    scene.write(SHUTDOWN, "");
                }
                if !has_it {
                    has_it = matches!(timeout(Duration::from_mins(1), next).await, Ok(News::Asked(_)));
                }
                assert_ne!(has_it, is_there, "{first} {second}");
            }
            assert_eq!(told(&mut part).await, [], "{first} {second}");
            part.stop().await.expect("it may");
            has_it
        });
        outcomes[usize::from(was_told)] += 1;
    }
    assert!(outcomes.iter().all(|times| *times > 50), "{outcomes:?}");
}

/// The toolstack replaces its word by one that is another's while it is being taken: that is left where it is.
#[test]
fn replaced_meanwhile() {
    for polls in 1..14 {
        play(async move |scene| {
            let mut part = scene.published(listener("XENBUS", Words::SUSPEND)).await;
            scene.write(SHUTDOWN, "suspend");
            let mut next = Box::pin(part.next());
            let mut had = polled(polls, next.as_mut()).await;
            let was_there = scene.key(SHUTDOWN).as_deref() == Some("suspend");
            scene.write(SHUTDOWN, "reboot");
            if had.is_none() {
                had = timeout(Duration::from_mins(1), next).await.ok();
            } else {
                drop(next);
            }
            assert_eq!(had, (!was_there).then_some(News::Asked(Request::Suspend)), "{polls}");
            assert_eq!(told(&mut part).await, [], "{polls}");
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some("reboot"), "{polls}");
            part.stop().await.expect("it may");
        });
    }
}

/// What xenstored refuses has not been done: a word that is taken back then was never had.
#[test]
fn refused_meanwhile() {
    let mut refusals = 0;
    for polls in 1.. {
        let refused = play(async move |scene| {
            let mut part = scene.published(listener("XENBUS", Words::all())).await;
            scene.write(SHUTDOWN, "suspend");
            let mut next = Box::pin(part.next());
            if polled(polls, next.as_mut()).await.is_some() {
                drop(next);
                part.stop().await.expect("it may");
                return None;
            }
            assert!(scene.rig.machine().distort(scene.rig.guest(), xenstored::Fault::Refuse(XsError::EIO)));
            let news = next.await;
            let is_refused = matches!(news, News::Failed(_));
            assert_eq!(scene.key(SHUTDOWN).as_deref(), Some(if is_refused { "suspend" } else { "" }));
            scene.write(SHUTDOWN, "");
            assert_eq!(told(&mut part).await, [], "{polls}");
            part.stop().await.expect("it may");
            // A transaction whose end was refused is there as long as the connection.
            scene.suspend(Fate::Migrated);
            Some(is_refused)
        });
        let Some(is_refused) = refused else { break };
        refusals += u32::from(is_refused);
    }
    assert!(refusals > 4, "{refusals}");
}

/// A xenstored that hangs is noticed, and asked again now and then, not all the time; in another domain all is well
/// again.
#[test]
fn xenstored_hangs() {
    play(async |scene| {
        let mut part = scene.published(owner("XENBUS", Features::SUSPEND, Words::all())).await;
        scene.rig.machine().inject(scene.rig.guest(), Fault::Wedge(Peer::Xenstored));
        scene.write(SHUTDOWN, "reboot");
        let mut failures = 0_u32;
        let end = async {
            loop {
                let news = part.next().await;
                assert!(matches!(news, News::Failed(_)) && failures < 1000, "{failures}: {news}");
                failures += 1;
            }
        };
        assert!(timeout(Duration::from_mins(10), end).await.is_err());
        assert!((10..=120).contains(&failures), "{failures}");
        scene.suspend(Fate::Migrated);
        assert!(matches!(part.next().await, News::Published { .. }));
        scene.write(SHUTDOWN, "reboot");
        assert_eq!(asked(&mut part).await, Some(Request::Reboot));
        scene.rig.machine().inject(scene.rig.guest(), Fault::Wedge(Peer::Xenstored));
        assert_eq!(part.stop().await, Err(NotWithdrawn::TimedOut(PATIENCE)), "this has an end, too");
        scene.suspend(Fate::Migrated);
    });
}

/// Without a connection, it tries now and then; with the next one, everything is as it was.
#[test]
fn there_is_no_connection() {
    play(async |scene| {
        let mut part = scene.published(listener("XENBUS", Words::all())).await;
        scene.bus.store.disconnect(scene.at);
        let mut failures = 0_u32;
        let end = async {
            loop {
                let news = part.next().await;
                assert!(matches!(news, News::Failed(_)) && failures < 1000, "{failures}: {news}");
                failures += 1;
            }
        };
        assert!(timeout(Duration::from_mins(1), end).await.is_err());
        assert!((5..=15).contains(&failures), "{failures}");
        scene.suspend(Fate::Migrated);
        scene.write(SHUTDOWN, "reboot");
        assert_eq!(told(&mut part).await, [Request::Reboot]);
        part.stop().await.expect("it may");
    });
}

/// Whichever request is refused once when the guest has moved: the watch is set all the same, and all is published.
#[test]
fn refused_after_a_move() {
    for polls in 1.. {
        let is_over = play(async move |scene| {
            let mut part = scene.published(owner("XENBUS", Features::SUSPEND, Words::all())).await;
            assert_eq!(told(&mut part).await, []);
            scene.suspend(Fate::Migrated);
            let mut next = Box::pin(part.next());
            let first = polled(polls, next.as_mut()).await;
            assert!(scene.rig.machine().distort(scene.rig.guest(), xenstored::Fault::Refuse(XsError::EIO)));
            let mut published = match first {
                Some(news) => news,
                None => next.as_mut().await,
            };
            drop(next);
            while let News::Failed(_) = published {
                published = part.next().await;
            }
            let epoch = scene.bus.suspend.epochs().now();
            let expected = News::Published { epoch, refused: Features::empty(), driver: Ok(0) };
            assert_eq!(published, expected, "{polls}");
            // It may be refused now, when it looks for a word.
            assert_eq!(told(&mut part).await, []);
            scene.write(SHUTDOWN, "reboot");
            assert_eq!(told(&mut part).await, [Request::Reboot], "{polls}");
            part.stop().await.expect("it may");
            // A transaction whose end was refused is there as long as the connection.
            scene.suspend(Fate::Migrated);
            first.is_some()
        });
        if is_over {
            assert!(polls > 8, "{polls}");
            break;
        }
    }
}
