//! Asks Xen's headers about every constant, structure and field of this crate.
//!
//! The [`sources`] of the crate are put into C ([`to_c`]), as a list of [`facts`]: conditions that a C compiler, which
//! has read the [`headers`], finds true or denies. Nothing on either side is forgotten: what only one of them has is
//! among the [`exceptions`].
//!
//! The headers are those of Xen 4.17 (Debian's libxen-dev). To add one: include it in `headers.rs`, and say in
//! [`FAMILIES`] how the names begin that are all to be here.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![forbid(unsafe_code)]

mod exceptions;
mod facts;
mod headers;
mod sources;
mod to_c;

use std::{collections::BTreeSet, fmt::Write as _};

use exceptions::{EXCEPTIONS, Exception, FAMILIES, LEFT_OUT, OURS};
use facts::{Comparison, Fact};
use headers::Headers;
use sources::Sources;
use xen_abi::{
    hvm::emulated_unplug::{PRODUCTS, Product},
    io::{blkif, netif, ring, xs_wire::XsError},
    seam::PAGE_SIZE,
};

/// Every constant has its value, every structure its layout, and every field its place, its size and its sign.
#[test]
fn the_headers_agree() {
    let Comparison { types, facts, .. } = Comparison::new(&Sources::of_the_crate(), &Headers::read());
    judge(&wrong(&types, facts, EXCEPTIONS));
}

/// What cannot be compared is known to be so.
#[test]
fn nothing_of_ours_is_unknown_to_the_headers() {
    let Comparison { mut ours, .. } = Comparison::new(&Sources::of_the_crate(), &Headers::read());
    let mut wrong = Vec::new();
    for (names, why) in OURS {
        wrong.extend(names.iter().filter(|name| !ours.remove(**name)).map(|name| obsolete(name, why)));
    }
    wrong.extend(
        ours.iter().map(|path| format!("{path}\n    is in no header: say its name in C, or why it has none")),
    );
    judge(&wrong);
}

/// What a header has is here, or was left out on purpose.
#[test]
fn nothing_of_the_headers_is_forgotten() {
    let headers = Headers::read();
    let Comparison { covered, .. } = Comparison::new(&Sources::of_the_crate(), &headers);
    let mut missing: BTreeSet<String> = FAMILIES.iter().flat_map(|prefix| headers.family(prefix)).collect();
    missing.retain(|name| !covered.contains(name));
    let mut wrong = Vec::new();
    for (names, why) in LEFT_OUT {
        for name in *names {
            let before = missing.len();
            match name.strip_suffix('*') {
                Some(prefix) => missing.retain(|missing| !missing.starts_with(prefix)),
                None => missing.retain(|missing| missing != name),
            }
            if missing.len() == before {
                wrong.push(obsolete(name, why));
            }
        }
    }
    wrong.extend(missing.iter().map(|name| format!("{name}\n    is not here: add it, or say why not")));
    judge(&wrong);
}

/// A ring has as many slots as the header's macro says, in so many pages and around each size that has twice as many;
/// and they are where the header has them.
#[test]
fn slots_of_rings_of_every_size() {
    let mut facts = Vec::new();
    for (ring, slot) in [
        ("blkif", blkif::SLOT_SIZE),
        ("netif_tx", netif::TX_SLOT_SIZE),
        ("netif_rx", netif::RX_SLOT_SIZE),
        ("xen_netif_ctrl", netif::control::SLOT_SIZE),
    ] {
        let pages = (1..=64).map(|pages| pages * PAGE_SIZE);
        let powers = (0..16).map(|power| ring::slot_offset(slot, 1 << power));
        for size in pages.chain(powers.flat_map(|size| [size - 1, size, size + 1])) {
            let slots = ring::slots(size, slot);
            facts.push(Fact::that(format!("__CONST_RING_SIZE({ring}, {size}) == {slots}")));
        }
        for index in [0, 1, 1000] {
            let offset = ring::slot_offset(slot, index);
            facts.push(Fact::that(format!("offsetof(struct {ring}_sring, ring[{index}]) == {offset}")));
        }
    }
    judge(&wrong("", facts, &[]));
}

/// The products are those of the header's list: as many, and each with its number.
#[test]
fn products_with_a_number() {
    let mut macros = "#define ONE(name, number) + 1\n".to_owned();
    let mut facts = vec![Fact::that(format!("0 PVDRIVERS_PRODUCT_LIST(ONE) == {}", PRODUCTS.len()))];
    for (index, Product { name, number }) in PRODUCTS.into_iter().enumerate() {
        let same = format!("__builtin_strcmp(its_name, {name:?}) == 0 && its_number == {number}");
        writeln!(macros, "#define IS_{index}(its_name, its_number) + ({same})")
            .expect("a string takes everything");
        facts.push(Fact::new(
            format!("the number of {name} is {number}"),
            format!("0 PVDRIVERS_PRODUCT_LIST(IS_{index}) == 1"),
        ));
    }
    judge(&wrong(&macros, facts, &[]));
}

/// Xenstored's errors are those of the header's array: in that order, by name and number.
#[test]
fn errors_of_xenstored() {
    let ours: Vec<_> = XsError::ALL.iter().map(|error| (error.name().to_owned(), error.number())).collect();
    assert_eq!(ours, Headers::read().xenstore_errors());
}

/// A word's place is called like the word: a mistake there would be a place like any other.
#[test]
fn places_are_called_like_their_fields() {
    let sources = Sources::of_the_crate();
    let mut places: Vec<(String, String)> = sources.places().collect();
    assert!(!places.is_empty(), "there are no places");
    places.retain(|(place, field)| !place.ends_with(&format!("::{}", field.to_uppercase())));
    let wrong = places.iter().map(|(place, field)| format!("{place}\n    is the place of {field}"));
    judge(&wrong.collect::<Vec<_>>());
}

/// Sources that are wrong in every way, with something true beside each lie.
#[test]
fn a_lie_is_found() {
    let lies = Sources::of(
        r#"
        pub const EVTCHNOP_SEND: u64 = 4;
        pub const EVTCHNOP_CLOSE: u64 = 4;
        pub const GTF_READING: u16 = 1 << 3;
        pub const GTF_WRITING: u16 = 1 << 3;
        pub const GTF_OF_OURS: u16 = 1;
        /// `__HYPERVISOR_sched_op`: with another name in C.
        pub const SCHED_OP: u32 = HVM_OP_OF_OURS - 5;
        /// `__HYPERVISOR_hvm_op`: as well.
        pub const HVM_OP: u32 = HVM_OP_OF_OURS + 1;
        const HVM_OP_OF_OURS: u32 = 34;
        /// `__HYPERVISOR_of_ours`: which C does not have.
        pub const OF_OURS: u32 = 34;
        pub const XEN_IO_PROTO_ABI_ARM: &str = "arm-abi";
        pub const XEN_IO_PROTO_ABI_X86_64: &str = "x86_32-abi";
        pub const DOMID_IO: DomId = DomId(0x7FF1);
        pub const DOMID_XEN: DomId = DomId(0x7FF1);
        errnos! { ENOENT = 2, ENOSYS = 2, }
        errors! { EIO = 5; /** Not used. */ EROFS = 5; }
        message_types! { Read = 2, "XS_READ"; /** Creates it. */ Write = 2, "XS_WRITE"; }
        statuses! { BAD_PAGE = -9, "GNTST_bad_page", "bad"; NO_SPACE = 13, "GNTST_no_space", "full"; }

        /// `domid_t`
        #[repr(transparent)]
        pub struct DomId(pub u16);
        /// `evtchn_port_t`
        #[repr(transparent)]
        pub struct EvtchnPort(pub i64);

        /// `enum xenbus_state`
        #[repr(u32)]
        pub enum XenbusState {
            /// `XenbusStateClosed`
            Closed = 6,
            /// `XenbusStateClosing`
            Closing = 6,
        }

        /// `struct evtchn_alloc_unbound`
        #[repr(C)]
        pub struct TrueOne { pub dom: DomId, pub remote_dom: DomId, pub port: u32 }
        /// `struct evtchn_alloc_unbound`
        #[repr(C)]
        pub struct Swapped { pub remote_dom: DomId, pub dom: DomId, pub port: u32 }
        /// `struct evtchn_bind_interdomain`
        #[repr(C)]
        pub struct Hidden { pub remote_dom: DomId, pub padding: [u8; 6], pub local_port: u32 }
        /// `struct gnttab_copy_ptr`
        #[repr(C)]
        pub struct Unaligned { pub u: [u32; 2], pub domid: DomId, pub offset: u16, pub padding: u32 }
        /// `struct gnttab_query_size`
        #[repr(C)]
        pub struct Unsigned { pub dom: DomId, pub nr_frames: u32, pub max_nr_frames: u32, pub status: u16 }
        /// `struct xen_hvm_get_time`
        #[repr(C)]
        pub struct Wrong { pub now: u32, pub then: u32 }
        /// `u.gso` of `struct netif_extra_info`
        #[repr(C)]
        pub struct Part { pub size: u16, pub r#type: u8, pub pad: u8, pub features: u8 }
        "#,
    );
    let Comparison { types, facts, ours, .. } = Comparison::new(&lies, &Headers::read());
    assert_eq!(ours, ["GTF_OF_OURS".to_owned()].into());

    // No exception: the first fact is true, and what is said of the headers is not.
    let exception = Exception {
        facts: &["EVTCHNOP_SEND == EVTCHNOP_send"],
        instead: "EVTCHNOP_send == 5",
        why: "there is no reason",
    };
    let wrong = wrong(&types, facts, &[exception]);
    let found: BTreeSet<&str> = wrong.iter().filter_map(|complaint| complaint.lines().next()).collect();
    let expected = [
        "EVTCHNOP_SEND == EVTCHNOP_send",
        "EVTCHNOP_send == 5",
        "EVTCHNOP_CLOSE == EVTCHNOP_close",
        "GTF_WRITING == GTF_writing",
        "HVM_OP == __HYPERVISOR_hvm_op",
        "OF_OURS == __HYPERVISOR_of_ours",
        "XEN_IO_PROTO_ABI_X86_64 == XEN_IO_PROTO_ABI_X86_64",
        "DOMID_XEN == DOMID_XEN",
        "Errno::ENOSYS == XEN_ENOSYS",
        "XsError::EROFS == EROFS",
        "MessageType::Write == XS_WRITE",
        "GrantError::NO_SPACE == GNTST_no_space",
        "EvtchnPort: size",
        "EvtchnPort: sign",
        "XenbusState::Closing == XenbusStateClosing",
        "Swapped.dom: offset",
        "Swapped.remote_dom: offset",
        "Hidden.remote_port: missing",
        "Unaligned: alignment",
        "Unsigned.status: sign",
        "Wrong: alignment",
        "Wrong.now: size",
        "Wrong.then: offset",
        "Wrong.then: size",
        "Wrong.then: sign",
        "Part.features: size",
    ];
    assert_eq!(found, expected.into());
}

/// Fails if something is wrong.
fn judge(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// All facts that the headers deny for no known reason, and all exceptions that are none.
fn wrong(types: &str, mut facts: Vec<Fact>, exceptions: &[Exception]) -> Vec<String> {
    assert!(!facts.is_empty(), "there is nothing to judge");
    facts.extend(exceptions.iter().map(|exception| Fact::that(exception.instead)));
    let mut denied = Headers::denied(types, &facts);
    let mut wrong = Vec::new();
    for Exception { facts, why, .. } in exceptions {
        let idle = facts.iter().filter(|fact| denied.remove(**fact).is_none());
        wrong.extend(idle.map(|fact| obsolete(fact, why)));
    }
    wrong.extend(denied.iter().map(|(fact, reason)| format!("{fact}\n    the headers: {reason}")));
    wrong
}

fn obsolete(what: &str, why: &str) -> String {
    format!("{what}\n    needs no exception: delete the one that says `{why}`")
}
