//! Asks mingw-w64's DDK headers about every layout, constant, type and prototype of `nt-sys`, and its import
//! libraries about every export.
//!
//! What `nt-sys` says becomes a list of [`facts`]: lines of C that compile where they are true. The compiler
//! ([`mingw`]) reads them after the headers and denies those that are not. Where Windows is with `nt-sys` and against
//! the headers, there is an [`Exception`], which says what the headers have instead: that is asked, too, so no
//! exception outlives its reason.
//!
//! The headers are those of mingw-w64 10. They tell what NT's interface looks like, not what it does.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![forbid(unsafe_code)]

mod facts;
mod mingw;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use facts::{Declarations, Fact};
use nt_sys::{
    CTL_CODE,
    layout::{LAYOUTS, Layout},
};

/// Facts that the headers deny although they are true.
struct Exception {
    facts: &'static [&'static str],
    /// What the headers have: a condition in C.
    instead: &'static str,
    why: &'static str,
}

const LAYOUT_EXCEPTIONS: &[Exception] = &[
    Exception {
        facts: &["sizeof(DEVICE_OBJECT) == 0x150", "_Alignof(DEVICE_OBJECT) == 16"],
        instead: "sizeof(DEVICE_OBJECT) == 0x148 && _Alignof(DEVICE_OBJECT) == 8",
        why: "wdm.h aligns it to MEMORY_ALLOCATION_ALIGNMENT",
    },
    Exception {
        facts: &["_Alignof(IRP) == 16"],
        instead: "_Alignof(IRP) == 8",
        why: "wdm.h aligns it to MEMORY_ALLOCATION_ALIGNMENT",
    },
    Exception {
        facts: &[
            "offsetof(KDPC, TargetInfoAsUlong) == 0x0",
            "sizeof(((KDPC *)0)->TargetInfoAsUlong) == sizeof(ULONG)",
        ],
        instead: "offsetof(KDPC, Type) == 0 && offsetof(KDPC, Number) + sizeof(USHORT) == sizeof(ULONG)",
        why: "the headers are older than the union around the three fields",
    },
    Exception {
        facts: &[
            "sizeof(((KDPC *)0)->DpcListEntry) == sizeof(SINGLE_LIST_ENTRY)",
            "offsetof(KDPC, ProcessorHistory) == 0x10",
            "sizeof(((KDPC *)0)->ProcessorHistory) == sizeof(KAFFINITY)",
        ],
        instead: "offsetof(KDPC, DpcListEntry.Blink) == 0x10 && sizeof(LIST_ENTRY *) == sizeof(KAFFINITY)",
        why: "the headers are older than Windows 8.1, which put the history where the entry had its second link",
    },
    Exception {
        facts: &["sizeof(((DISPATCHER_HEADER *)0)->Reserved1) == sizeof(UCHAR)"],
        instead: "offsetof(DISPATCHER_HEADER, DpcActive) + sizeof(UCHAR) == offsetof(DISPATCHER_HEADER, SignalState)",
        why: "the headers name the byte as other objects have it, and not as events do",
    },
];

const TYPE_EXCEPTIONS: &[Exception] = &[
    Exception {
        facts: &["sizeof(enum _MODE) == sizeof(KPROCESSOR_MODE)"],
        instead: "sizeof(enum _MODE) == 4 && sizeof(KPROCESSOR_MODE) == 1",
        why: "C converts the constants when they are passed; ours have the type of the parameters",
    },
    Exception {
        facts: &["__builtin_types_compatible_p(PKINTERRUPT, KINTERRUPT *)"],
        instead: "__builtin_types_compatible_p(PKINTERRUPT, struct _KINTERRUPT *)",
        why: "the headers have the tag without the name, and neither is ever defined",
    },
];

const PROTOTYPE_EXCEPTIONS: &[Exception] = &[Exception {
    facts: &[
        "NTSTATUS IoCreateSystemThread(PVOID, PHANDLE, ULONG, POBJECT_ATTRIBUTES, HANDLE, PCLIENT_ID, PKSTART_ROUTINE, PVOID)",
    ],
    instead: "__builtin_types_compatible_p(__typeof__(PsCreateSystemThread), \
              NTSTATUS(PHANDLE, ULONG, POBJECT_ATTRIBUTES, HANDLE, PCLIENT_ID, PKSTART_ROUTINE, PVOID))",
    why: "the headers are older than Windows 8, which put one parameter before those of PsCreateSystemThread",
}];

/// Exports that the import libraries lack although the modules have them, and why.
const EXPORT_EXCEPTIONS: &[(&str, &str)] = &[
    ("__chkstk", "x64 kernels export it for Microsoft's compiler (ReactOS's ntoskrnl.spec); GCC has its own"),
    ("IoCreateSystemThread", "the libraries are older than Windows 8"),
];

#[test]
fn layouts() {
    judge(Declarations::of_the_crate().layouts(LAYOUTS), LAYOUT_EXCEPTIONS);
}

#[test]
fn constants() {
    let mut facts = Declarations::of_the_crate().constants;
    // One argument at a time.
    for [device, function, method, access] in [[0x22, 0, 0, 0], [0, 0x801, 0, 0], [0, 0, 3, 0], [0, 0, 0, 2]]
    {
        let code = CTL_CODE(device, function, method, access);
        facts.push(Fact::that(format!("CTL_CODE({device}, {function}, {method}, {access}) == {code:#x}")));
    }
    judge(facts, &[]);
}

#[test]
fn types() {
    judge(Declarations::of_the_crate().types, TYPE_EXCEPTIONS);
}

#[test]
fn prototypes() {
    judge(Declarations::of_the_crate().prototypes.into_values().collect(), PROTOTYPE_EXCEPTIONS);
}

#[test]
fn exports() {
    let definitions = definitions();
    let mut wrong = Vec::new();
    for (module, names) in &definitions {
        let exports = mingw::exports(module);
        for name in names {
            let exception = EXPORT_EXCEPTIONS.iter().find(|(exception, _why)| exception == name);
            match (exports.contains(name), exception) {
                (false, None) => wrong.push(format!("{module} does not export {name}")),
                (true, Some((_, why))) => wrong.push(obsolete(name, why)),
                (true, None) | (false, Some(_)) => {}
            }
        }
    }
    for function in Declarations::of_the_crate().prototypes.keys() {
        let modules: Vec<_> = definitions.iter().filter(|(_, names)| names.contains(function)).collect();
        if modules.len() != 1 {
            wrong.push(format!("{function} is in {} of the files in def/, not in one", modules.len()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Sources that are wrong in every way, with something true beside each lie.
#[test]
fn a_lie_is_found() {
    let text = r#"
        pub const STATUS_PENDING: NTSTATUS = 0x0000_0103;
        pub const STATUS_TIMEOUT: NTSTATUS = 0x0000_0103;
        pub const STATUS_UNSUCCESSFUL: NTSTATUS = error(0xC000_0001);
        pub const STATUS_CANCELLED: NTSTATUS = error(0xC000_0121);
        pub const STATUS_OF_OURS: NTSTATUS = 0;
        pub mod _EVENT_TYPE { pub type Type = i32; }
        pub mod _TIMER_TYPE { pub type Type = i8; }
        pub type UCHAR = u8;
        pub type USHORT = u8;
        pub type ULONG = i32;
        pub type PULONG = *mut ULONG;
        pub type PCSTR = *mut i8;
        pub type PDRIVER_UNLOAD = Option<unsafe extern "C" fn(PDRIVER_OBJECT)>;
        pub type PKSERVICE_ROUTINE = Option<unsafe extern "C" fn(PKINTERRUPT, PVOID) -> ULONG>;
        unsafe extern "C" {
            pub fn KeBugCheckEx(a: ULONG, b: ULONG_PTR, c: ULONG_PTR, d: ULONG_PTR, e: ULONG_PTR) -> !;
            pub fn KeFlushQueuedDpcs() -> !;
            pub fn KeGetCurrentIrql() -> ULONG;
            pub fn DbgPrintEx(ComponentId: ULONG, Level: ULONG, Format: PCSTR) -> ULONG;
            pub fn KeClearEvent(Event: PKTIMER);
            pub fn KeOfOurs();
        }
        pub struct KEVENT { pub Header: DISPATCHER_HEADER }
        pub struct DISPATCHER_HEADER { pub __bindgen_anon_1: LOCK, pub SignalState: LONGLONG }
        pub union LOCK { pub Lock: LONG }
    "#;
    let row = Layout {
        name: "KEVENT",
        size: 0x20,
        align: 4,
        fields: &[("Header.__bindgen_anon_1.Lock", 0), ("Header.SignalState", 8)],
    };
    let lies = Declarations::of(syn::parse_file(text).expect("these are items").items);
    let layouts = lies.layouts(&[row]);
    let facts = [lies.constants, lies.types, lies.prototypes.into_values().collect(), layouts].concat();

    // No exception: the first fact is true, and what is said of the headers is not.
    let exception = Exception {
        facts: &["STATUS_PENDING == 0x00000103"],
        instead: "STATUS_PENDING == 0x102",
        why: "there is no reason",
    };

    let wrong = wrong(facts, &[exception]);
    let found: BTreeSet<&str> = wrong.iter().filter_map(|complaint| complaint.lines().next()).collect();
    let expected = [
        "STATUS_PENDING == 0x00000103",
        "STATUS_PENDING == 0x102",
        "STATUS_TIMEOUT == 0x00000103",
        "STATUS_CANCELLED == (NTSTATUS)0xC0000121",
        "STATUS_OF_OURS == 0",
        "sizeof(enum _TIMER_TYPE) == sizeof(char)",
        "sizeof(USHORT) == sizeof(unsigned char) && (USHORT)-1 > 0",
        "sizeof(ULONG) == sizeof(int) && (ULONG)-1 < 0",
        "__builtin_types_compatible_p(PCSTR, char *)",
        "__builtin_types_compatible_p(PKSERVICE_ROUTINE, ULONG (*)(PKINTERRUPT, PVOID))",
        "__attribute__((noreturn)) void KeFlushQueuedDpcs(void)",
        "ULONG KeGetCurrentIrql(void)",
        "ULONG DbgPrintEx(ULONG, ULONG, PCSTR)",
        "void KeClearEvent(PKTIMER)",
        "void KeOfOurs(void)",
        "sizeof(KEVENT) == 0x20",
        "_Alignof(KEVENT) == 4",
        "offsetof(KEVENT, Header.SignalState) == 0x8",
        "sizeof(((KEVENT *)0)->Header.SignalState) == sizeof(LONGLONG)",
    ];
    assert_eq!(found, expected.into());
}

/// Fails if something is wrong.
fn judge(facts: Vec<Fact>, exceptions: &[Exception]) {
    assert!(!facts.is_empty(), "there is nothing to judge");
    let wrong = wrong(facts, exceptions);
    assert!(
        wrong.is_empty(),
        "\n{}\nMicrosoft's documentation decides: correct nt-sys, or make an exception",
        wrong.join("\n")
    );
}

/// All facts that the headers deny for no known reason, and all exceptions that are none.
fn wrong(mut facts: Vec<Fact>, exceptions: &[Exception]) -> Vec<String> {
    facts.extend(exceptions.iter().map(|exception| Fact::that(exception.instead)));
    let mut denied = mingw::denied(&facts);
    let mut wrong = Vec::new();
    for Exception { facts, why, .. } in exceptions {
        wrong.extend(
            facts.iter().filter(|fact| denied.remove(**fact).is_none()).map(|fact| obsolete(fact, why)),
        );
    }
    wrong.extend(denied.iter().map(|(fact, reason)| format!("{fact}\n    the headers: {reason}")));
    wrong
}

fn obsolete(fact: &str, why: &str) -> String {
    format!("{fact}\n    is not denied: delete the exception `{why}`")
}

/// The names in each `.def` file, by the module that exports them.
fn definitions() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("def");
    let files = fs::read_dir(folder).expect("the folder can be read");
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let definition = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("the file can be read");
        let (_library, exports) = text.split_once("EXPORTS").expect("a .def file has a section EXPORTS");
        let names = exports.lines().filter_map(|line| line.split(';').next()?.split_whitespace().next());
        (path.file_stem().expect("it has a name").display().to_string(), names.map(str::to_owned).collect())
    };
    paths.map(definition).collect()
}
