//! The seeds in words. What is named after a rule breaks it; what is not breaks none.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::MessageType;
use xen_fuzz::{Action, Kind, Part, Tx};

/// An input, and what it is for.
pub(crate) struct Seed {
    pub(crate) name: &'static str,
    pub(crate) options: u8,
    pub(crate) actions: Vec<Action>,
}

/// The daemon offers all features.
const FEATURES: u8 = 1;
/// Its quotas are small.
const SMALL: u8 = 2;

/// All of them.
pub(crate) fn seeds() -> Vec<Seed> {
    let all = [meetings(), messages(), nodes(), quotas(), watches_and_transactions(), ends()];
    all.into_iter().flatten().collect()
}

fn seed(name: &'static str, options: u8, actions: impl IntoIterator<Item = Action>) -> Seed {
    // Everybody takes what there is after each request, so that the next one sees what has come of it.
    let settled = |action| match action {
        Action::Request { .. } => vec![action, Action::Settle],
        other => vec![other],
    };
    Seed { name, options, actions: actions.into_iter().flat_map(settled).collect() }
}

/// A request of guest 1, which is the first: its strings with their nuls.
fn ask(kind: MessageType, strings: &[&'static str]) -> Action {
    ask_in(Tx::None, kind, strings)
}

fn ask_in(tx: Tx, kind: MessageType, strings: &[&'static str]) -> Action {
    let payload = strings.iter().map(|&string| Part::Known(string)).collect();
    Action::Request { guest: 0, r#type: kind as u32, tx, payload }
}

/// The same of guest 2.
fn other(kind: MessageType, strings: &[&'static str]) -> Action {
    match ask(kind, strings) {
        Action::Request { r#type, tx, payload, .. } => Action::Request { guest: 1, r#type, tx, payload },
        action => action,
    }
}

fn write(path: &'static str, length: u16) -> Action {
    let payload = vec![Part::Known(path), Part::Long(length)];
    Action::Request { guest: 0, r#type: Write as u32, tx: Tx::None, payload }
}

fn tools(kind: Kind, path: &'static str) -> Action {
    Action::Tools { kind, path }
}

const IN_FIRST: Tx = Tx::Open(0);
const START: (MessageType, &[&str]) = (MessageType::TransactionStart, &[""]);

use MessageType::{
    Directory, DirectoryPart, GetDomainPath, GetFeature, GetPerms, Introduce, Mkdir, Read, ResetWatches, Rm,
    SetPerms, TransactionEnd, Unwatch, Watch, Write,
};

/// What guests do when all is well.
fn meetings() -> Vec<Seed> {
    vec![
        seed(
            "every-request",
            FEATURES,
            [
                ask(Write, &["a", "OK"]),
                ask(Read, &["a"]),
                ask(Mkdir, &["a/b"]),
                ask(Directory, &["a"]),
                ask(DirectoryPart, &["a", "0"]),
                ask(GetPerms, &["a"]),
                ask(SetPerms, &["a", "n1", "r2"]),
                ask(Watch, &["a", "t", "1"]),
                ask(Unwatch, &["a", "t"]),
                ask(GetDomainPath, &["1"]),
                ask(GetFeature, &[]),
                ask(ResetWatches, &[""]),
                ask(START.0, START.1),
                ask_in(IN_FIRST, TransactionEnd, &["F"]),
                ask(Rm, &["a"]),
            ],
        ),
        seed(
            "frontend-publishes",
            0,
            [
                ask(Watch, &["/local/domain/2/a", "t"]),
                ask(START.0, START.1),
                ask_in(IN_FIRST, Write, &["a/b", "1"]),
                ask_in(IN_FIRST, Write, &["a/b/c", "1"]),
                ask_in(IN_FIRST, TransactionEnd, &["T"]),
                other(Write, &["a", "1"]),
                ask(Write, &["a", "0"]),
                ask(Rm, &["a"]),
            ],
        ),
        seed(
            "one-watches-the-other",
            0,
            [
                other(Watch, &["/local/domain/1", "t"]),
                other(Watch, &["/local/domain/1/a", "u"]),
                ask(SetPerms, &["/local/domain/1", "n1", "r2"]),
                ask(Write, &["a/b/c", "1"]),
                ask(SetPerms, &["a", "n1"]),
                ask(Rm, &["a"]),
            ],
        ),
        seed(
            "domains-come-and-go",
            FEATURES,
            [
                ask(Watch, &["@releaseDomain", "t"]),
                ask(Watch, &["@releaseDomain", "u", "1"]),
                tools(Kind::ShutDown(1), "/tool"),
                tools(Kind::Resume(1), "/tool"),
                other(Write, &["a/b", "1"]),
                tools(Kind::Destroy(1), "/tool"),
                tools(Kind::Create(1), "/tool"),
                tools(Kind::Target(0), "/tool"),
                ask(Write, &["/local/domain/2/a", "1"]),
                tools(Kind::Release(1), "/tool"),
                Action::Settle,
            ],
        ),
        seed(
            "introduced-again",
            0,
            [
                ask(Watch, &["a", "t"]),
                ask(START.0, START.1),
                Action::Bytes { guest: 0, bytes: vec![2, 0, 0] },
                Action::Serve { guest: 0, steps: 9 },
                tools(Kind::Introduce(0), "/tool"),
                ask(Watch, &["a", "t"]),
            ],
        ),
        seed(
            "events-nobody-takes",
            0,
            [
                ask(Watch, &["/shared", "t"]),
                tools(Kind::Write, "/shared"),
                tools(Kind::Give(0), "/shared"),
                tools(Kind::Write, "/shared/x"),
                Action::Serve { guest: 0, steps: 9 },
                Action::Time { seconds: 21 },
                Action::Take { guest: 0 },
                tools(Kind::Rm, "/shared"),
            ],
        ),
    ]
}

fn messages() -> Vec<Seed> {
    let header = |len: u32| [2_u32, 1, 0, len].map(u32::to_le_bytes).concat();
    vec![
        seed(
            "PAYLOAD_LIMIT",
            FEATURES,
            [
                ask(Watch, &["a", "t"]),
                Action::Bytes { guest: 0, bytes: header(4097) },
                Action::Settle,
                tools(Kind::Release(0), "/tool"),
                tools(Kind::Create(0), "/tool"),
            ],
        ),
        seed(
            "RING_INDICES",
            0,
            [
                ask(Watch, &["a", "t"]),
                Action::Word { guest: 0, word: 1, value: 0x8000_0000 },
                Action::Serve { guest: 0, steps: 2 },
                tools(Kind::Introduce(0), "/tool"),
            ],
        ),
        seed(
            "KNOWN_TYPES",
            0,
            [
                ask(GetFeature, &[]),
                Action::Request { guest: 0, r#type: u32::MAX, tx: Tx::None, payload: Vec::new() },
            ],
        ),
        seed("PRIVILEGED_TYPES", 0, [ask(Introduce, &["1", "1", "1"])]),
        seed("PAYLOAD_SYNTAX", 0, [ask(Read, &["a", "b"]), ask(Write, &[]), ask(Watch, &["a"])]),
        seed("NUMBER_SYNTAX", 0, [ask(GetDomainPath, &["a"]), ask(GetDomainPath, &["65535"])]),
        seed(
            "INJECTED",
            0,
            [
                Action::Fault { guest: 0, fault: 0 },
                ask(Mkdir, &["a"]),
                Action::Fault { guest: 0, fault: 3 },
                ask(Mkdir, &["a"]),
                tools(Kind::Introduce(0), "/tool"),
                ask(Mkdir, &["a"]),
            ],
        ),
        seed(
            "half-a-message",
            0,
            [
                Action::Bytes { guest: 0, bytes: header(9)[..7].to_vec() },
                Action::Serve { guest: 0, steps: 3 },
                Action::Bytes { guest: 0, bytes: header(9)[7..].to_vec() },
                Action::Serve { guest: 0, steps: 3 },
            ],
        ),
    ]
}

fn nodes() -> Vec<Seed> {
    vec![
        seed("PATH_CHARACTERS", 0, [ask(Mkdir, &["x y"])]),
        seed("PATH_SLASHES", 0, [ask(Mkdir, &["a//b"]), ask(Mkdir, &["a/"]), ask(Read, &[""])]),
        seed("PATH_SPECIAL", 0, [ask(Mkdir, &["@releaseDomain"])]),
        seed(
            "PATH_LENGTH",
            SMALL,
            [Action::Request {
                guest: 0,
                r#type: Mkdir as u32,
                tx: Tx::None,
                payload: vec![Part::Long(120), Part::Known("")],
            }],
        ),
        seed("NODE_EXISTS", 0, [ask(Read, &["a"]), ask(Rm, &["a/b"])]),
        seed("NODE_ACCESS", 0, [ask(Read, &["/tool"]), ask(Write, &["/local/domain/2/a", "1"])]),
        seed(
            "TREE_WHOLE",
            0,
            [
                ask(Mkdir, &["a/b"]),
                ask(START.0, START.1),
                ask_in(IN_FIRST, Directory, &["a"]),
                ask(Rm, &["a/b"]),
                ask_in(IN_FIRST, Rm, &["a"]),
                ask_in(IN_FIRST, TransactionEnd, &["T"]),
            ],
        ),
        seed("PERMISSION_SYNTAX", 0, [ask(Mkdir, &["a"]), ask(SetPerms, &["a", "t"])]),
        seed(
            "PERMISSION_COUNT",
            0,
            [
                ask(Mkdir, &["a"]),
                Action::Request {
                    guest: 0,
                    r#type: SetPerms as u32,
                    tx: Tx::None,
                    payload: vec![
                        Part::Known("a"),
                        Part::Known("n1"),
                        Part::Bytes(b"r2\0r2\0r2\0r2\0".to_vec()),
                    ],
                },
            ],
        ),
        seed(
            "OWNER_EXISTS",
            0,
            [tools(Kind::Destroy(2), "/tool"), ask(Mkdir, &["a"]), ask(SetPerms, &["a", "w3"])],
        ),
        seed("OWNER_STAYS", 0, [ask(Mkdir, &["a"]), ask(SetPerms, &["a", "n2"])]),
        seed("ROOT_STAYS", 0, [tools(Kind::Rm, "/")]),
    ]
}

fn quotas() -> Vec<Seed> {
    vec![
        seed(
            "QUOTA_NODES",
            SMALL,
            [ask(Mkdir, &["a/b/c"]), ask(Mkdir, &["b"]), ask(Mkdir, &["T"]), ask(Mkdir, &["F"])],
        ),
        seed("QUOTA_NODE_SIZE", SMALL, [write("a", 100), write("a", 200)]),
        seed(
            "QUOTA_WATCHES",
            SMALL,
            [ask(Watch, &["a", "t"]), ask(Watch, &["a", "u"]), ask(Watch, &["b", "t"])],
        ),
        seed(
            "QUOTA_TRANSACTIONS",
            SMALL,
            [ask(START.0, START.1), ask(START.0, START.1), ask(START.0, START.1)],
        ),
        seed(
            "QUOTA_TRANSACTION_NODES",
            SMALL,
            [ask(START.0, START.1), ask_in(IN_FIRST, Read, &["a/b/c"]), ask_in(IN_FIRST, Read, &["b"])],
        ),
        seed(
            "QUOTA_MEMORY",
            SMALL,
            [
                Action::Request {
                    guest: 0,
                    r#type: Watch as u32,
                    tx: Tx::None,
                    payload: vec![Part::Known("a"), Part::Long(1900), Part::Known("")],
                },
                ask(Write, &["a", "1"]),
            ],
        ),
        seed(
            "nobody-listens",
            SMALL,
            [
                ask(Watch, &["a", "t"]),
                Action::Serve { guest: 0, steps: 50 },
                write("a", 100),
                Action::Take { guest: 0 },
            ],
        ),
    ]
}

fn watches_and_transactions() -> Vec<Seed> {
    vec![
        seed("WATCH_ONCE", 0, [ask(Watch, &["a", "t"]), ask(Watch, &["/local/domain/1/a", "t"])]),
        seed("WATCH_EXISTS", 0, [ask(Unwatch, &["a", "t"])]),
        seed("WATCH_DEPTH", 0, [ask(Watch, &["a", "t", "1"])]),
        seed("TRANSACTION_OPEN", 0, [ask_in(Tx::Number(9), Read, &["a"]), ask(TransactionEnd, &["T"])]),
        seed("TRANSACTION_NOT_NESTED", 0, [ask(START.0, START.1), ask_in(IN_FIRST, START.0, START.1)]),
        seed("TRANSACTION_END_SYNTAX", 0, [ask(START.0, START.1), ask_in(IN_FIRST, TransactionEnd, &["t"])]),
        seed(
            "TRANSACTION_CONFLICT",
            0,
            [
                ask(START.0, START.1),
                ask_in(IN_FIRST, Mkdir, &["a"]),
                ask(Mkdir, &["b"]),
                ask_in(IN_FIRST, TransactionEnd, &["T"]),
            ],
        ),
        seed(
            "TRANSACTION_FAILED",
            SMALL,
            [
                ask(START.0, START.1),
                ask_in(IN_FIRST, Read, &["a/b/c"]),
                ask_in(IN_FIRST, Read, &["b"]),
                ask_in(IN_FIRST, TransactionEnd, &["T"]),
            ],
        ),
    ]
}

/// How connections end, and begin again.
fn ends() -> Vec<Seed> {
    vec![
        seed(
            "guest-begins-anew",
            FEATURES,
            [
                ask(Watch, &["a", "t"]),
                ask(START.0, START.1),
                Action::Word { guest: 0, word: 5, value: 1 },
                Action::Serve { guest: 0, steps: 3 },
                ask(Watch, &["a", "t"]),
            ],
        ),
        seed(
            "guest-dies-in-a-transaction",
            0,
            [
                ask(START.0, START.1),
                ask_in(IN_FIRST, Write, &["a", "1"]),
                tools(Kind::Destroy(0), "/tool"),
                tools(Kind::Create(0), "/tool"),
                ask(Mkdir, &["a"]),
            ],
        ),
        seed("INTRODUCE_REAL", 0, [tools(Kind::Destroy(0), "/tool"), tools(Kind::Introduce(0), "/tool")]),
        seed("DOMAIN_INTRODUCED", 0, [tools(Kind::Release(0), "/tool"), tools(Kind::Resume(0), "/tool")]),
    ]
}
