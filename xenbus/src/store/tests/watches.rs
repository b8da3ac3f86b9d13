//! The table of watches, and what is taken for an event.
#![forbid(unsafe_code)]

use std::{format, string::ToString, vec::Vec};

use xen_abi::io::xs_wire::{MessageType, XsError};

use super::super::{
    error::{Asked, StoreError},
    path::{Path, Text, ToPath},
    watch::{ToSay, WatchEvent, Watches},
};

const DISCONNECTED: StoreError = StoreError::Disconnected;

fn refused(error: XsError) -> StoreError {
    StoreError::Refused { asked: Asked::new(MessageType::Watch, "x"), error }
}

/// A table with a watch of this path that is armed, and how xenstored calls it.
fn armed(path: &str) -> (Watches<4>, usize, Text<10>) {
    let mut watches = Watches::new();
    let place = watches.add(path.to_path()).expect("there is a place");
    let what = say(&mut watches, Ok(()));
    assert_eq!(what.kind, MessageType::Watch);
    assert_eq!(watches.is_armed(place), Ok(true));
    (watches, place, what.token())
}

/// Says what is to be said next, and gets this answer.
fn say<const W: usize>(watches: &mut Watches<W>, answer: Result<(), StoreError>) -> ToSay {
    let what = watches.to_say().expect("there is something to say");
    assert!(watches.saying(&what).is_some());
    watches.said(&what, answer, true);
    what
}

fn event(path: &str, token: &str) -> Vec<u8> {
    format!("{path}\0{token}\0").into_bytes()
}

/// However many events come, they are one; the first says that it is the first.
#[test]
fn events_are_one() {
    let (mut watches, place, token) = armed("data");
    assert_eq!(watches.take(place), None, "nothing has come yet");
    for _ in 0..3 {
        assert_eq!(watches.event(&event("data", &token)), Some(place));
    }
    assert_eq!(watches.take(place), Some(Ok(WatchEvent::Initial)));
    assert_eq!(watches.take(place), None);
    for _ in 0..1000 {
        assert_eq!(watches.event(&event("data/a/b", &token)), Some(place));
    }
    assert_eq!(watches.take(place), Some(Ok(WatchEvent::Changed)));
    assert_eq!(watches.take(place), None);
}

/// What names no watch that is set, or no path that it can be about, is no event.
#[test]
fn events_are_not_believed() {
    let (mut watches, place, token) = armed("data");
    let other = watches.add("other".to_path()).expect("there is a place");
    let wrong = [
        event("data", ""),
        event("data", &token[..9]),
        event("data", &format!("{}0", &*token)),
        event("data", &token.replace("00000001", "00000002")),
        event("data", &format!("{other:02x}{}", &token[2..])),
        event("data", &format!("ff{}", &token[2..])),
        event("data", &format!("+0{}", &token[2..])),
        event("", &token),
        event("dat", &token),
        event("database", &token),
        event("/data", &token),
        event("/local/domain/0", &token),
        b"data".to_vec(),
        b"data\0".to_vec(),
        format!("data\0{}", &*token).into_bytes(),
        Vec::new(),
        [0xFF; 64].to_vec(),
    ];
    for event in wrong {
        assert_eq!(watches.event(&event), None, "{}", event.escape_ascii());
    }
    assert_eq!(watches.take(place), None);
    let mut special = Watches::<1>::new();
    let place = special.add(Path::new("@releaseDomain")).expect("there is a place");
    let token = say(&mut special, Ok(())).token();
    assert_eq!(special.event(&event("@releaseDomain/5", &token)), Some(place));
    let mut root = Watches::<1>::new();
    let place = root.add(Path::new("/")).expect("there is a place");
    let token = say(&mut root, Ok(())).token();
    assert_eq!(root.event(&event("/tool", &token)), Some(place));
}

/// After a loss everything is set again, by other names; each owner is told that it is, and nothing of before counts.
#[test]
fn watches_are_set_again() {
    let (mut watches, place, token) = armed("data");
    watches.event(&event("data", &token));
    assert_eq!(watches.take(place), Some(Ok(WatchEvent::Initial)));
    watches.event(&event("data", &token));
    watches.lose(DISCONNECTED);
    assert_eq!(watches.is_armed(place), Err(DISCONNECTED));
    watches.connected();
    assert_eq!(watches.take(place), None, "it is connected again before anybody looks");
    assert_eq!(watches.event(&event("data", &token)), None);
    let again = say(&mut watches, Ok(())).token();
    assert_ne!(again.to_string(), token.to_string());
    assert_eq!(watches.event(&event("data", &again)), Some(place));
    assert_eq!(watches.take(place), Some(Ok(WatchEvent::Rearmed)));

    watches.lose(DISCONNECTED);
    assert_eq!(watches.take(place), Some(Err(DISCONNECTED)), "it is not");
    assert_eq!(watches.take(place), None, "that is said once");
}

/// A watch that cannot be set says why, once, and is tried again with the next connection. One that is set already,
/// because an answer was lost, is set; and its owner looks, since its event may have come before.
#[test]
fn answers_to_watch() {
    let mut watches = Watches::<2>::new();
    let place = watches.add(Path::new("data")).expect("there is a place");
    let first = say(&mut watches, Err(refused(XsError::ENOSPC)));
    assert_eq!(watches.is_armed(place), Err(refused(XsError::ENOSPC)));
    assert_eq!(watches.take(place), Some(Err(refused(XsError::ENOSPC))));
    assert!(watches.to_say().is_none(), "not again in this connection");
    assert_eq!(watches.event(&event("data", &first.token())), None, "it is not set");
    watches.lose(DISCONNECTED);
    watches.connected();
    say(&mut watches, Err(refused(XsError::EEXIST)));
    assert_eq!(watches.is_armed(place), Ok(true));
    assert_eq!(watches.take(place), Some(Ok(WatchEvent::Initial)));

    // Without an answer it may be set, and what may be set is removed.
    let other = watches.add(Path::new("data")).expect("there is a place");
    let late =
        StoreError::TimedOut { asked: Asked::new(MessageType::Watch, "data"), after: super::super::PATIENCE };
    say(&mut watches, Err(late));
    assert_eq!(watches.take(other), Some(Err(late)));
    watches.remove(other);
    assert_eq!(say(&mut watches, Ok(())).kind, MessageType::Unwatch);
    assert!(watches.to_say().is_none());
}

/// What was dropped is removed, whenever it was dropped; what was never said needs no word. A place is another's only
/// after that.
#[test]
fn watches_are_removed() {
    let mut watches = Watches::<1>::new();
    let place = watches.add(Path::new("data")).expect("there is a place");
    assert_eq!(watches.add(Path::new("data")), Err(StoreError::Watches(1)));
    watches.remove(place);
    assert!(watches.to_say().is_none(), "xenstored knows nothing of it");

    // While it is being said.
    let place = watches.add(Path::new("data")).expect("there is a place again");
    let what = watches.to_say().expect("it is to be set");
    assert!(watches.saying(&what).is_some());
    watches.remove(place);
    watches.said(&what, Ok(()), true);
    assert_eq!(watches.event(&event("data", &what.token())), None, "nobody listens");
    assert_eq!(watches.add(Path::new("data")), Err(StoreError::Watches(1)), "it may be set still");

    // It could not be said: it is said again.
    let what = watches.to_say().expect("it is to be removed");
    assert_eq!(what.kind, MessageType::Unwatch);
    watches.said(&what, Err(DISCONNECTED), false);
    assert_eq!(say(&mut watches, Err(refused(XsError::ENOENT))).kind, MessageType::Unwatch);
    assert!(watches.to_say().is_none() && watches.add(Path::new("data")).is_ok());
}

/// A path that is too long to be kept is refused, and one that is none.
#[test]
fn paths_that_are_kept() {
    let mut watches = Watches::<2>::new();
    assert!(watches.add("p".repeat(256).to_path()).is_ok());
    assert!(matches!(watches.add("p".repeat(257).to_path()), Err(StoreError::TooLong { length: 257, .. })));
    assert!(matches!(watches.add("".to_path()), Err(StoreError::Path { .. })));
}
