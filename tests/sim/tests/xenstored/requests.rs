//! Messages: which types there are, who may send them, and what has to be in them.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{MessageType, XENSTORE_SERVER_FEATURE_ERROR, XsError};
use xen_sim::xenstored::{Config, Features};

use crate::world::{World, strings, text};

/// `REPLIES`: a guest finds the reply by its number, type and transaction, and may send several requests before it looks.
#[test]
fn replies_come_in_order_with_the_numbers_of_their_requests() {
    let mut world = World::of([1]);
    let tx = world.start_transaction(1).expect("its first");
    let requests = [
        world.send(1, MessageType::Read, tx, &strings(["nothing"])),
        world.send(1, MessageType::Mkdir, 0, &strings(["new"])),
        world.send(1, MessageType::Directory, 0, &strings([""])),
    ];
    world.settle();
    let replies: Vec<_> = world.guest(1).messages.drain(..).collect();
    let numbers: Vec<u32> = replies.iter().map(|(header, _)| header.req_id).collect();
    assert_eq!(numbers, requests);
    let kinds: Vec<u32> = replies.iter().map(|(header, _)| header.r#type).collect();
    let error = MessageType::Error as u32;
    assert_eq!(kinds, [error, MessageType::Mkdir as u32, error]);
    assert_eq!(replies.iter().map(|(header, _)| header.tx_id).collect::<Vec<_>>(), [tx, 0, 0]);
    assert_eq!(replies[0].1, b"ENOENT\0");
}

/// `KNOWN_TYPES`: an old daemon says ENOSYS to what came later, and that is how a guest finds out.
#[test]
fn unknown_types_and_those_of_replies_are_not_done() {
    let mut world = World::of([1]);
    let later =
        [MessageType::GetFeature, MessageType::SetFeature, MessageType::GetQuota, MessageType::SetQuota];
    let replies = [MessageType::WatchEvent, MessageType::Error];
    let known = later.iter().chain(&replies).map(|&kind| kind as u32);
    for r#type in known.chain([20, 27, 0xFFFF, u32::MAX]) {
        let request = world.send_type(1, r#type, 0, b"1\0");
        let refused = world.reply(1, r#type, 0, request);
        assert_eq!(refused, Err((XsError::ENOSYS, "KNOWN_TYPES")), "{type}");
    }
    assert_eq!(world.tools().features(1).map_err(|refusal| refusal.error), Err(XsError::ENOSYS));
}

/// `PRIVILEGED_TYPES`: a guest that could introduce domains could read their messages.
#[test]
fn guests_are_not_dom0() {
    let features = Features { offered: 0, feature_requests: true, quota_requests: true };
    let mut world = World::with(&Config { features, ..Config::default() });
    world.start(1);
    for kind in [
        MessageType::Control,
        MessageType::Introduce,
        MessageType::Release,
        MessageType::IsDomainIntroduced,
        MessageType::Resume,
        MessageType::SetTarget,
        MessageType::SetFeature,
        MessageType::GetQuota,
        MessageType::SetQuota,
    ] {
        let refused = world.ask(1, kind, 0, &strings(["1", "2", "3"]));
        assert_eq!(refused, Err((XsError::EACCES, "PRIVILEGED_TYPES")), "{kind}");
    }
    // Of its own features it may know.
    assert_eq!(world.ask(1, MessageType::GetFeature, 0, b"1\0"), Err((XsError::EACCES, "PRIVILEGED_TYPES")));
    assert_eq!(world.ask(1, MessageType::GetFeature, 0, b""), Ok(b"0\0".to_vec()));
}

/// A daemon that has the request says what its pages say.
#[test]
fn get_feature_is_what_the_page_says() {
    let features =
        Features { offered: XENSTORE_SERVER_FEATURE_ERROR, feature_requests: true, quota_requests: false };
    let mut world = World::with(&Config { features, ..Config::default() });
    world.start(1);
    assert_eq!(world.ask(1, MessageType::GetFeature, 0, b""), Ok(b"2\0".to_vec()));
    assert_eq!(world.state(1), [2, 0, 0]);
}

/// `PAYLOAD_SYNTAX`: strings are found by their nuls, so one too few or too many must not be guessed at.
#[test]
fn payloads_have_the_strings_of_their_type() {
    let mut world = World::of([1]);
    world.write(1, 0, "a", "value").expect("its own");
    let cases: &[(MessageType, &[&[u8]])] = &[
        (MessageType::Read, &[b"", b"a", b"a\0a\0", b"a\0\0"]),
        (MessageType::Directory, &[b"", b"a", b"a\0b\0"]),
        (MessageType::DirectoryPart, &[b"", b"a\0", b"a\x000", b"a\x000\x000\0"]),
        (MessageType::GetPerms, &[b"", b"a"]),
        (MessageType::Write, &[b"", b"a"]),
        (MessageType::Mkdir, &[b"", b"a", b"a\0b\0"]),
        (MessageType::Rm, &[b"", b"a", b"a\0b\0"]),
        (MessageType::SetPerms, &[b"", b"a"]),
        (MessageType::Watch, &[b"", b"a\0", b"a\0token", b"a\0b\x001\x001\0"]),
        (MessageType::Unwatch, &[b"", b"a\0", b"a\0b\0c\0"]),
        (MessageType::GetDomainPath, &[b"", b"1", b"1\x002\0"]),
    ];
    for &(kind, payloads) in cases {
        for payload in payloads {
            let refused = world.ask(1, kind, 0, payload);
            assert_eq!(refused, Err((XsError::EINVAL, "PAYLOAD_SYNTAX")), "{kind} {payload:?}");
        }
    }
    assert_eq!(world.read(1, 0, "a").as_deref(), Ok("value"), "nothing has happened to it");
}

/// `NUMBER_SYNTAX`: a domain, an offset or a depth that is no number is not taken for zero.
#[test]
fn numbers_are_numbers() {
    let mut world = World::of([1]);
    world.mkdir(1, 0, "a").expect("its own");
    for number in ["", "x", "-1", "65536", "0x1", " 1", "99999999999"] {
        let refused = world.ask(1, MessageType::GetDomainPath, 0, &strings([number]));
        assert_eq!(refused, Err((XsError::EINVAL, "NUMBER_SYNTAX")), "{number:?}");
    }
    for number in ["", "x", "-1", "4294967296"] {
        let refused = world.ask(1, MessageType::DirectoryPart, 0, &strings(["a", number]));
        assert_eq!(refused, Err((XsError::EINVAL, "NUMBER_SYNTAX")), "{number:?}");
        let refused = world.ask(1, MessageType::Watch, 0, &strings(["a", "t", number]));
        assert_eq!(refused, Err((XsError::EINVAL, "NUMBER_SYNTAX")), "{number:?}");
    }
}

/// A guest need not know its own number to find its home, nor that there is such a domain.
#[test]
fn a_domain_has_a_path() {
    let mut world = World::of([1]);
    for (domid, path) in [("1", "/local/domain/1\0"), ("007", "/local/domain/7\0")] {
        let answer = world.ask(1, MessageType::GetDomainPath, 0, &strings([domid]));
        assert_eq!(answer.map(|path| text(&path)).as_deref(), Ok(path));
    }
}

/// `REPLY_LIMIT`: a list that does not fit is an error, not a list that ends early.
#[test]
fn a_reply_that_is_too_long_is_an_error() {
    let mut world = World::of([1]);
    let name = "n".repeat(100);
    for index in 0..40 {
        let path = format!("/local/domain/1/{name}{index}");
        world.tools().write(None, &path, b"").expect("dom0 has no quota");
        if index == 38 {
            assert!(world.directory(1, 0, "/local/domain/1").is_ok(), "these fit");
        }
    }
    assert_eq!(world.directory(1, 0, "/local/domain/1"), Err((XsError::E2BIG, "REPLY_LIMIT")));
}
