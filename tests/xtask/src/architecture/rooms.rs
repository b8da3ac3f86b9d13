//! The rooms of the house, and the arrows between them.

use std::fmt;

/// A folder of the repository where a package may live.
#[derive(Debug)]
pub struct Room {
    /// From the top of the repository; the last part may be `*`.
    pub folder: &'static str,
    /// The package's name, where others refer to it by name.
    pub package: Option<&'static str>,
    /// Which packages of the workspace it may depend on.
    pub may_use: Uses,
    /// Whether that goes for its tests, too.
    pub tests: Tests,
}

/// Which packages of the workspace a package may depend on.
#[derive(Debug)]
pub enum Uses {
    /// All.
    Anything,
    /// These.
    Only(&'static [&'static str]),
}

/// What a package's tests may depend on.
#[derive(Debug, PartialEq, Eq)]
pub enum Tests {
    /// What the package itself may depend on, and nothing else.
    Bound,
    /// Anything that no [`Never`] rules out.
    Free,
}

/// A dependency that must not be, not even in tests.
#[derive(Debug)]
pub struct Never {
    /// None of these packages
    pub from: &'static [&'static str],
    /// depends on any of these.
    pub to: &'static [&'static str],
    /// Why.
    pub because: &'static str,
}

/// The folders at the top of the repository. A folder appears with its first content.
pub const FOLDERS: &[&str] =
    &["kexec", "xenbus", "xenvif", "xennet", "xenvbd", "xeniface", "examples", "tests"];

/// The libraries from outside that kexec may use, without their default features.
pub const EXECUTOR_LIBRARIES: &[&str] =
    &["futures-util", "pin-project", "heapless", "atomic-waker", "bitflags"];

use Tests::{Bound, Free};
use Uses::{Anything, Only};

/// Every room there is.
#[rustfmt::skip]
pub const ROOMS: &[Room] = &[
    // The executor, which knows no system and no Xen, and Windows as a platform of it.
    room("kexec",           Some("kexec"),         Only(&[]), Bound),
    room("kexec/nt-sys",    Some("nt-sys"),        Only(&[]), Bound),
    room("kexec/nt",        Some("kexec-nt"),      Only(&["kexec", "nt-sys"]), Free),
    // Xen: its ABI, and the bus for async code.
    room("xenbus/abi",      Some("xen-abi"),       Only(&[]), Bound),
    room("xenbus",          Some("xenbus"),        Only(&["kexec", "xen-abi"]), Free),
    room("xenbus/client",   Some("xenbus-client"), Only(&["kexec", "kexec-nt", "nt-sys", "xen-abi", "xenbus"]), Free),
    // The frontends.
    room("xenvif",          Some("xenvif"),        Only(&["kexec", "xen-abi", "xenbus"]), Free),
    room("xenvbd",          Some("xenvbd"),        Only(&["kexec", "xen-abi", "xenbus"]), Free),
    room("xeniface",        Some("xeniface"),      Only(&["kexec", "xen-abi", "xenbus"]), Free),
    room("xennet",          Some("xennet"),        Only(&["kexec", "xenvif"]), Free),
    // The drivers: thin shells around the library beside them.
    room("xenbus/driver",   None, Only(&["kexec", "kexec-nt", "nt-sys", "xen-abi", "xenbus", "xenbus-client"]), Free),
    room("xenbus/filter",   None, Only(&["kexec", "kexec-nt", "nt-sys", "xen-abi", "xenbus", "xenbus-client"]), Free),
    room("xenvif/driver",   None, Only(&["kexec", "kexec-nt", "nt-sys", "xenbus-client", "xenvif"]), Free),
    room("xennet/driver",   None, Only(&["kexec", "kexec-nt", "nt-sys", "xenbus-client", "xennet"]), Free),
    room("xenvbd/driver",   None, Only(&["kexec", "kexec-nt", "nt-sys", "xenbus-client", "xenvbd"]), Free),
    room("xeniface/driver", None, Only(&["kexec", "kexec-nt", "nt-sys", "xenbus-client", "xeniface"]), Free),
    room("xeniface/agent",  None, Only(&["xeniface"]), Free),
    // The other end of each ring, written from the specifications alone.
    room("tests/sim",       Some("xen-sim"),       Only(&["xen-abi"]), Bound),
    // What any xenstore does for a guest: runs in a guest on any Xen.
    room("tests/store",     Some("xenstore-suite"), Only(&["kexec", "xen-abi", "xenbus"]), Free),
    // Whatever brings things together.
    room("tests/nt",        Some("nt-sim"),        Anything, Free),
    room("tests/nt/probe",  Some("nt-probe"),      Only(&["nt-sys"]), Bound),
    // What a guest does on any Xen; and one for a real Xen, which has nothing but what it is to show.
    room("tests/lab/parts", Some("lab-parts"),     Only(&["kexec", "xen-abi", "xenbus", "xenstore-suite"]), Free),
    room("tests/lab/guest", Some("lab-guest"),     Only(&["kexec", "lab-parts", "xen-abi", "xenbus"]), Free),
    // A guest for a real Xen, which has nothing but what it is to show.
    // The other end of what that guest shares.
    room("tests/lab/peer",  Some("lab-peer"),      Only(&[]), Bound),
    room("tests/lab",       None,                  Anything, Free),
    room("tests/harness",   None,                  Anything, Free),
    room("tests/loom",      Some("kexec-loom"),    Anything, Free),
    room("tests/fuzz",      None,                  Anything, Free),
    room("tests/bench",     Some("kexec-bench"),   Anything, Free),
    room("tests/bench/bare", Some("kexec-bare"),   Only(&[]), Bound),
    room("tests/tasks",     Some("kexec-tasks"),   Only(&["kexec"]), Bound),
    room("tests/xtask",     Some("xtask"),         Only(&[]), Bound),
    room("examples/*",      None,                  Anything, Free),
];

const XEN: &[&str] =
    &["xen-abi", "xenbus", "xenbus-client", "xenvif", "xennet", "xenvbd", "xeniface", "xen-sim"];
const SERVICES_AND_FRONTENDS: &[&str] =
    &["xenbus", "xenbus-client", "xenvif", "xennet", "xenvbd", "xeniface"];
const PORTABLE: &[&str] = &["kexec", "xen-abi", "xenbus", "xenvif", "xennet", "xenvbd", "xeniface"];
const WINDOWS: &[&str] = &["kexec-nt", "nt-sys", "xenbus-client"];

/// What must never be.
pub const NEVERS: &[Never] = &[
    Never { from: &["kexec"], to: XEN, because: "the executor knows no Xen" },
    Never { from: PORTABLE, to: WINDOWS, because: "a portable library runs without Windows" },
    Never { from: &["xenvif"], to: &["xenvbd"], because: "the frontends know nothing of each other" },
    Never { from: &["xenvbd"], to: &["xenvif"], because: "the frontends know nothing of each other" },
    Never {
        from: &["xen-sim"],
        to: SERVICES_AND_FRONTENDS,
        because: "two ends that share code share its mistakes, and the tests would not notice",
    },
];

/// A row of the table.
const fn room(folder: &'static str, package: Option<&'static str>, may_use: Uses, tests: Tests) -> Room {
    Room { folder, package, may_use, tests }
}

impl Room {
    /// The room at this folder.
    #[must_use]
    pub fn of(folder: &str) -> Option<&'static Self> {
        ROOMS.iter().find(|room| match room.folder.strip_suffix("/*") {
            Some(parent) => folder.rsplit_once('/').is_some_and(|(above, _)| above == parent),
            None => room.folder == folder,
        })
    }
}

impl Uses {
    pub(super) fn allows(&self, package: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Only(packages) => packages.contains(&package),
        }
    }
}

impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("anything"),
            Self::Only([]) => f.write_str("no other package of the workspace"),
            Self::Only(packages) => f.write_str(&packages.join(", ")),
        }
    }
}
