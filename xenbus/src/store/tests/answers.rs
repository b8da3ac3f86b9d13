//! What answers say, and what is no answer.
#![forbid(unsafe_code)]

use std::{format, string::ToString, vec, vec::Vec};

use xen_abi::io::xs_wire::MessageType;

use super::super::{
    answer::{self, Names, Piece},
    error::{Asked, Excerpt, StoreError},
    path::{Cut, Path, Text, ToPath},
    permission::{Access, Permission},
    request::Request,
};

/// A value is a number to its last byte, or it is none: what `strtoul` makes of the rest is how drivers come to use
/// values that nobody has written.
#[test]
fn numbers() {
    assert_eq!(answer::number::<u32>(b"4294967295"), Some(u32::MAX));
    assert_eq!(answer::number::<u32>(b"007"), Some(7));
    assert_eq!(answer::number::<i32>(b"-2147483648"), Some(i32::MIN));
    assert_eq!(answer::number::<u64>(b"18446744073709551615"), Some(u64::MAX));
    for wrong in [
        &b""[..],
        b"+1",
        b"-1",
        b" 1",
        b"1 ",
        b"1\0",
        b"1\n",
        b"0x1",
        b"1.0",
        b"4294967296",
        b"\xFF",
        b"\xB2",
    ] {
        assert_eq!(answer::number::<u32>(wrong), None, "{wrong:?}");
    }
    assert_eq!(answer::number::<u8>(b"256"), None);
    assert_eq!(answer::number::<u16>(b"65536"), None);
}

/// A list is names with a nul each, and nothing else: a name with a slash would be another node's.
#[test]
fn lists_of_names() {
    let names = |list| Names::parse(list).map(Vec::from_iter);
    assert_eq!(names(b""), Some(vec![]));
    assert_eq!(names(b"a\0vif-1_@\0"), Some(vec!["a", "vif-1_@"]));
    for wrong in [&b"a"[..], b"a\0b", b"\0", b"a\0\0", b"a/b\0", b"a b\0", b"\xC3\xA4\0", b"a\x7F\0"] {
        assert_eq!(names(wrong), None, "{wrong:?}");
    }
}

/// The last piece is the one with an empty name at its end; any other one has a name, or the list would never end.
#[test]
fn pieces_of_lists() {
    let piece = |answer| Piece::parse(answer).map(|piece| (piece.generation, piece.names, piece.is_last));
    assert_eq!(piece(b"12\0a\0b\0"), Some((12, &b"a\0b\0"[..], false)));
    assert_eq!(piece(b"12\0a\0b\0\0"), Some((12, &b"a\0b\0"[..], true)));
    assert_eq!(piece(b"0\0\0"), Some((0, &b""[..], true)));
    for wrong in
        [&b""[..], b"12", b"12\0", b"\0\0", b"x\0a\0", b"-1\0a\0", b"12\0a", b"12\0a\0\0\0", b"12\0\0a\0"]
    {
        assert_eq!(piece(wrong), None, "{wrong:?}");
    }
}

/// Permissions go over the wire and come back; one that nobody can have written is none.
#[test]
fn permissions() {
    let list = [
        Permission::new(0, Access::None),
        Permission::new(1, Access::Read),
        Permission::new(65535, Access::Write),
        Permission::new(32757, Access::Both),
    ];
    let mut wire = Vec::new();
    Request::plain(MessageType::SetPerms, "x").permissions(&list).payload(|byte| wire.push(byte));
    assert_eq!(wire, b"x\0n0\0r1\0w65535\0b32757\0");
    let mut read = Vec::new();
    assert_eq!(answer::permissions(&wire[2..], |permission| read.push(permission)), Some(4));
    assert_eq!(read, list);
    for wrong in [&b""[..], b"r1", b"\0", b"r\0", b"x1\0", b"r65536\0", b"r-1\0", b"r1\0r", b"1\0", b"r1 \0"]
    {
        assert_eq!(answer::permissions(wrong, |_| ()), None, "{wrong:?}");
    }
}

/// What becomes a path, and what is none: of a nul, xenstored would see two strings.
#[test]
fn paths() {
    let checked = |path: Path<'_>| path.checked(MessageType::Read).map(|path| path.to_string()).ok();
    let long = "p".repeat(3071);
    assert_eq!(checked(("/a", "b").to_path()).as_deref(), Some("/a/b"));
    assert_eq!(checked(("", "b").to_path()).as_deref(), Some("b"));
    assert_eq!(checked(("a/", "b").to_path()).as_deref(), Some("a/b"));
    assert_eq!(checked(Path::new("a").join("").join("b")).as_deref(), Some("a/b"));
    assert_eq!(checked(Path::new("a").join("b").join("c").join("d")).as_deref(), Some("a/b/c/d"));
    assert_eq!(checked(("/", &*long).to_path()).map(|path| path.len()), Some(3072));
    assert_eq!(checked(long[..2048].to_path()).map(|path| path.len()), Some(2048));
    let too_many = Path::new("a").join("b").join("c").join("d").join("e");
    for wrong in [Path::new(""), ("", "").to_path(), "a\0b".to_path(), too_many, too_many.join("f")] {
        assert_eq!(checked(wrong), None, "{wrong}");
    }
    assert_eq!(checked(("/a", &*long).to_path()), None, "an absolute path has 3072 bytes at most");
    assert_eq!(checked(long[..2049].to_path()), None, "a relative one 2048");
    assert_eq!(
        "a\0b".to_path().checked(MessageType::Write),
        Err(StoreError::Path { asked: Asked::new(MessageType::Write, "a\0b"), length: 3 })
    );
}

/// Text is whole or not at all.
#[test]
fn text() {
    assert_eq!(Text::<5>::of(12345).as_deref(), Ok("12345"));
    assert_eq!(Text::<5>::of(123_456), Err(Cut(6)));
    assert_eq!(Text::<5>::of(format_args!("{}{}{}", "abcd", "ef", "g")), Err(Cut(7)), "the `g` would fit");
    assert_eq!(Text::<0>::of(""), Ok(Text::EMPTY));
}

/// Whoever reads an error in a log finds the key and the value, whatever was in them, and what to do.
#[test]
fn errors_name_key_and_value() {
    let asked =
        Asked::new(MessageType::Read, ("/local/domain/0/backend/vif/12/0", "feature-multicast-control"));
    let value = Excerpt::from(&b"\0\"evil\"\n and rather long, too long to keep"[..]);
    assert_eq!(
        StoreError::Value { asked, value, wanted: answer::name::<u8>() }.to_string(),
        "XS_READ ..ckend/vif/12/0/feature-multicast-control: `\\x00\\\"evil\\\"\\n and rather long`.. of 42 bytes is not a \
         decimal number of 8 bits; correct the node"
    );
    assert_eq!(format!("{:?}", Asked::new(MessageType::Write, "a")), "XS_WRITE a");
    assert_eq!(Asked::new(MessageType::TransactionStart, "").to_string(), "XS_TRANSACTION_START");
    assert!(size_of::<StoreError>() <= 96, "an error is small: {}", size_of::<StoreError>());
}
