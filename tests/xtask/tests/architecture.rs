//! Compares the repository with its rules, and the rules with repositories that break them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use xtask::architecture::{
    Arrow, Library, Package, When, Workspace,
    files::{self, LONGEST, XENBUS_UNSAFE},
    rooms::{NEVERS, ROOMS},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the package is in the repository")
}

#[test]
fn the_packages_keep_to_their_rooms() {
    let workspace = Workspace::read(&root()).expect("the manifests can be read");
    assert!(workspace.packages.iter().any(|package| package.name == "xtask"), "not this workspace");
    let violations = workspace.violations();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_files_keep_to_the_rules() {
    let violations = files::violations(&root()).expect("the files can be read");
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// A repository in files that breaks rules of each kind.
fn crooked_house(folder: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    if root.exists() {
        fs::remove_dir_all(&root).expect("a house of before can be torn down");
    }
    let package = |name: &str, rest: &str| format!("[package]\nname = {name:?}\n{rest}");
    let [_missing, idle, unsafe_files @ ..] = XENBUS_UNSAFE;
    let unsafe_code = "#![expect(unsafe_code, reason = \"memory\")]\nunsafe fn f() {}\n".to_owned();
    let unsafe_files = unsafe_files.map(|name| (name, unsafe_code.clone()));
    let others = [
        (
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"kexec\", \"xenvif\", \"xenvbd\"]\n".to_owned(),
        ),
        (
            "kexec/Cargo.toml",
            package("kexec", "[dependencies]\ntokio = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n"),
        ),
        ("kexec/src/lib.rs", "//! Nothing is denied.\n".to_owned()),
        ("xenvif/Cargo.toml", package("xenvif", "[dev-dependencies]\nxenvbd.path = \"../xenvbd\"\n")),
        ("xenvif/src/lib.rs", "\n".repeat(LONGEST + 1)),
        ("xenvbd/Cargo.toml", package("xenvbd", "[build-dependencies]\nkexec.path = \"../kexec\"\n")),
        ("xenvbd/src/lib.rs", String::new()),
        ("docs/manual.md", String::new()),
        (idle, "#![forbid(unsafe_code)]\n".to_owned()),
        ("xenbus/src/ring.rs", unsafe_code),
    ];
    for (name, text) in others.into_iter().chain(unsafe_files) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
    root
}

#[test]
fn what_is_wrong_in_manifests_is_found() {
    let violations =
        Workspace::read(&crooked_house("manifests")).expect("the manifests can be read").violations();
    assert_one(&violations, &["`tokio`"]);
    assert_one(&violations, &["`xenvif` depends on `xenvbd` in its tests", "never"]);
    assert_eq!(violations.len(), 2, "{violations:?}");
}

#[test]
fn what_is_wrong_in_files_is_found() {
    let violations = files::violations(&crooked_house("files")).expect("the files can be read");
    assert_one(&violations, &["kexec/src/lib.rs", "deny(unsafe_code)"]);
    assert_one(&violations, &["xenvif/src/lib.rs", "lines"]);
    assert_one(&violations, &["docs/"]);
    let [missing, idle, ..] = XENBUS_UNSAFE;
    assert_one(&violations, &[missing, "not there"]);
    assert_one(&violations, &[idle, "strike it out"]);
    assert_one(&violations, &["xenbus/src/ring.rs", "uses `unsafe`"]);
    assert_eq!(violations.len(), 6, "{violations:?}");
}

/// A workspace with a package in each room, where nothing depends on anything.
fn full_house() -> Workspace {
    let packages = ROOMS.iter().map(|room| {
        let folder = room.folder.replace('*', "one");
        let name = room.package.map_or_else(|| folder.replace('/', "-"), str::to_owned);
        Package { name, folder }
    });
    Workspace { packages: packages.collect(), ..Workspace::default() }
}

fn with_arrow(from: &str, to: &str, when: When) -> Vec<String> {
    let mut workspace = full_house();
    workspace.arrows.push(Arrow { from: from.to_owned(), to: to.to_owned(), when });
    workspace.violations()
}

fn with_library(name: &str, when: When, default_features: bool, features: &[&str]) -> Vec<String> {
    let mut workspace = full_house();
    let features = features.iter().map(|&feature| feature.to_owned()).collect();
    workspace.executor_libraries.push(Library { name: name.to_owned(), when, default_features, features });
    workspace.violations()
}

fn assert_one(violations: &[String], parts: &[&str]) {
    let fits = |violation: &String| parts.iter().all(|part| violation.contains(part));
    assert!(violations.iter().any(fits), "no violation names {parts:?}: {violations:?}");
}

#[test]
fn the_arrows_of_the_design_are_allowed() {
    assert_eq!(full_house().violations(), [""; 0]);
    for (from, to) in [
        ("xenbus", "xen-abi"),
        ("xenvif", "xenbus"),
        ("xenvbd", "xenbus"),
        ("xeniface", "xenbus"),
        ("xennet", "xenvif"),
        ("xenbus", "kexec"),
        ("kexec-nt", "nt-sys"),
        ("xenbus-client", "kexec-nt"),
        ("xenvbd-driver", "kexec-nt"),
        ("xenvbd-driver", "xenvbd"),
        ("xen-sim", "xen-abi"),
        ("tests-harness", "xenvbd"),
        ("examples-one", "xen-sim"),
    ] {
        assert_eq!(with_arrow(from, to, When::Always), [""; 0]);
    }
    assert_eq!(with_arrow("xenvbd", "xen-sim", When::InTests), [""; 0]);
}

#[test]
fn an_arrow_that_the_design_does_not_have_is_caught() {
    for (from, to) in [
        ("xen-abi", "xenbus"),
        ("xenbus", "xenvif"),
        ("xennet", "xenbus"),
        ("nt-sys", "kexec"),
        ("xenvbd-driver", "xenvif"),
        ("xenvbd", "xen-sim"),
        ("xenvbd", "examples-one"),
        ("xtask", "kexec"),
    ] {
        assert_one(&with_arrow(from, to, When::Always), &[from, to, "does not allow"]);
    }
}

#[test]
fn tests_of_the_strict_rooms_are_bound_too() {
    for (from, to) in [("kexec", "kexec-bench"), ("xen-abi", "kexec"), ("xen-sim", "tests-harness")] {
        assert_one(&with_arrow(from, to, When::InTests), &[from, to, "in its tests", "does not allow"]);
    }
}

#[test]
fn every_never_is_caught_even_in_tests() {
    for never in NEVERS {
        for (from, to) in never.from.iter().flat_map(|from| never.to.iter().map(move |to| (from, to))) {
            for when in [When::Always, When::InTests] {
                assert_one(&with_arrow(from, to, when), &[from, to, "never", never.because]);
            }
        }
    }
}

#[test]
fn the_nevers_of_the_design_are_in_the_table() {
    for (from, to) in [
        ("kexec", "xen-abi"),
        ("kexec", "xenbus"),
        ("xenbus", "kexec-nt"),
        ("xenvif", "nt-sys"),
        ("xeniface", "xenbus-client"),
        ("xenvif", "xenvbd"),
        ("xenvbd", "xenvif"),
        ("xen-sim", "xenbus"),
        ("xen-sim", "xenvbd"),
        ("xen-sim", "xennet"),
    ] {
        assert_one(&with_arrow(from, to, When::InTests), &[from, to, "never"]);
    }
}

#[test]
fn a_package_without_a_room_is_caught_by_name() {
    let mut workspace = full_house();
    workspace.packages.push(Package { name: "xenusb".to_owned(), folder: "xenusb".to_owned() });
    workspace.packages.push(Package { name: "deep".to_owned(), folder: "examples/one/deep".to_owned() });
    let violations = workspace.violations();
    assert_one(&violations, &["`xenusb`", "no room"]);
    assert_one(&violations, &["`deep`", "no room"]);
    assert_eq!(violations.len(), 2);
}

#[test]
fn a_package_in_the_room_of_another_is_caught() {
    let mut workspace = full_house();
    workspace.packages.push(Package { name: "sim".to_owned(), folder: "tests/sim".to_owned() });
    assert_one(&workspace.violations(), &["`sim`", "`xen-sim`"]);
}

#[test]
fn kexec_depends_on_known_libraries_without_std_only() {
    assert_eq!(with_library("pin-project", When::Always, false, &[]), [""; 0]);
    assert_eq!(with_library("proptest", When::InTests, true, &["std"]), [""; 0]);
    assert_one(&with_library("tokio", When::Always, false, &[]), &["`tokio`"]);
    assert_one(
        &with_library("futures-util", When::Always, true, &[]),
        &["`futures-util`", "default features"],
    );
    assert_one(&with_library("futures-util", When::Always, false, &["std"]), &["`futures-util`", "`std`"]);
}

#[test]
fn an_unknown_folder_at_the_top_is_caught() {
    for known in ["kexec", "tests", "target", ".ci", ".git"] {
        assert_eq!(files::unknown_folder(known), None);
    }
    for unknown in ["utils", "docs", "crates", "Tests"] {
        assert_one(&files::unknown_folder(unknown).into_iter().collect::<Vec<_>>(), &[unknown]);
    }
}

#[test]
fn a_file_must_say_whether_it_uses_unsafe() {
    let complaint = |name, text| files::undeclared(name, text).expect("this is Rust");
    let fine = |name, text| assert_eq!(complaint(name, text), None);
    let caught = |name, text| assert_one(&complaint(name, text).into_iter().collect::<Vec<_>>(), &[name]);

    fine("kexec/src/lib.rs", "//! Docs.\n#![no_std]\n#![deny(unsafe_code)]\nmod a;");
    caught("kexec/src/lib.rs", "//! Docs.\n#![no_std]\nmod a;");
    caught("kexec/src/lib.rs", "#![forbid(missing_docs)]\nmod a;");

    fine("kexec/src/time.rs", "//! Docs.\n\n#![forbid(unsafe_code)]\nuse a;");
    fine(
        "kexec/src/task.rs",
        "//! Docs.\n#![expect(\n    unsafe_code,\n    reason = \"memory\",\n)]\nuse a;",
    );
    caught("kexec/src/task.rs", "//! Docs.\n#![expect(unsafe_code)]\nuse a;");
    caught("kexec/src/task.rs", "//! `#![forbid(unsafe_code)]`\n// #![forbid(unsafe_code)]\nuse a;");
    fine("kexec/src/sync.rs", "//! Docs.\n#![deny(unsafe_code)]\nmod a;");
    caught("kexec/src/task.rs", "#![deny(unsafe_code)]\nuse a;");
    caught("kexec/src/task.rs", "use a;\nmod b { #![forbid(unsafe_code)] }");
    caught("kexec/src/platform/mock.rs", "");
}

#[test]
fn unsafe_in_other_files_of_xenbus_is_caught() {
    let complaint = |name, text| files::unlisted(name, text).expect("this is Rust");
    let fine = |name, text| assert_eq!(complaint(name, text), None);
    let caught = |name, text| assert_one(&complaint(name, text).into_iter().collect::<Vec<_>>(), &[name]);

    for listed in XENBUS_UNSAFE {
        fine(listed, "unsafe impl Sync for A {}");
        fine(listed, "fn f() { unsafe { g() } }");
        caught(listed, "#![expect(unsafe_code, reason = \"unsafe\")]\n// unsafe\nfn f() {}");
    }
    fine("xenbus/src/ring.rs", "//! unsafe\n#![forbid(unsafe_code)]\nfn f() {}");
    caught("xenbus/src/ring.rs", "#![expect(unsafe_code, reason = \"memory\")]\nunsafe fn f() {}");
    caught("xenbus/src/ring.rs", "#[unsafe(no_mangle)]\nfn f() {}");
    caught("xenbus/src/ring/tests.rs", "fn f() { unsafe { g() } }");
}

#[test]
fn a_long_file_is_caught() {
    assert_eq!(files::too_long("a.rs", &"\n".repeat(LONGEST)), None);
    assert!(
        files::too_long("a.rs", &"\n".repeat(LONGEST + 1)).is_some_and(|message| message.contains("a.rs"))
    );
}
