//! Dumps of this very program, read with the file of this very program.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Once,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Table,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    task_table::{BuildId, Label, Row, ScopeHead, set_build_id},
    yield_now,
};
use kexec_tasks::{
    cli::Request,
    image::{ImageError, ImageFile},
    report::{Candidate, Refusal, Report, Trust},
};

type Slots = &'static Table<256>;

async fn reset(_: &mut Dispatch, (): ()) {
    yield_now().label("backend to be Closed").await;
}

async fn waits(_: &mut Dispatch, (): ()) {
    std::future::pending::<()>().await;
}

/// Tasks of two executors in one table. This program has said which build it is.
fn sample() -> Slots {
    static SAID: Once = Once::new();
    SAID.call_once(|| set_build_id(BuildId::of_this_program().expect("its file can be read")));
    let executor = |name| keep(Executor::named(name, Mock::new(Plan::CALM), Budget::new(1, Duration::MAX)));
    let (disk, net): (&Executor<Mock>, &Executor<Mock>) = (executor("disk"), executor("net"));
    let slots: Slots = keep(Pool::<256, 8>::control());
    disk.spawn(slots, reset, ()).expect("a slot is free").detach();
    net.spawn(slots, waits, ()).expect("a slot is free").detach();
    disk.spawn(slots, waits, ()).expect("a slot is free").detach();
    disk.step();
    net.step();
    slots
}

fn compact(slots: Slots) -> Vec<u8> {
    let mut bytes = vec![0; slots.saved_size()];
    slots.save(&mut bytes).expect("there is room");
    bytes
}

/// What a debugger's dump has of a value.
fn memory<T: ?Sized>(of: &T) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(of)];
    let at = std::ptr::from_ref(of).addr() as u64;
    File::open("/proc/self/mem").expect("it is Linux").read_exact_at(&mut bytes, at).expect("it is mapped");
    bytes
}

fn this_program() -> Vec<u8> {
    fs::read("/proc/self/exe").expect("it is Linux")
}

fn candidates() -> [Candidate; 1] {
    [Candidate { name: "this program".to_owned(), image: ImageFile::parse(this_program()) }]
}

/// The rows in a dump, by this program's own file.
fn rows(dump: &[u8]) -> Vec<String> {
    let candidates = candidates();
    let report = Report::of(dump, &candidates, Trust::Build).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(report.warnings, [""; 0]);
    report.rows.iter().map(|row| format!("{row:?}")).collect()
}

/// Live, compact and raw: every field, and every text, whether from memory or from the file.
#[test]
fn three_forms_say_the_same() {
    let slots = sample();
    let live: Vec<String> = slots.tasks().map(|row| format!("{row:?}")).collect();
    assert_eq!(live.len(), 3);
    assert!(live[0].contains("backend to be Closed") && live[0].contains("host::reset"), "{live:#?}");
    assert_eq!(rows(&compact(slots)), live);
    assert_eq!(rows(&memory(slots)), live);
}

/// What is printed, to the last line but for addresses and numbers of lines.
#[test]
fn the_tree_of_a_dump() {
    let slots = sample();
    let (bytes, candidates) = (compact(slots), candidates());
    let report = Report::of(&bytes, &candidates, Trust::Build).expect("it is whole");
    let [first, second, third]: [Row<'_>; 3] =
        slots.tasks().collect::<Vec<_>>().try_into().expect("three tasks");
    let expected = format!(
        "\
table at 0x0: 3 of 8 slots were ever used
names from this program, build {}

executor disk at {:#x}: 2 tasks
  host::reset
    queued, was at yield, {} \"backend to be Closed\"
    #1 in slot 0, control, 1 poll, 1 wake, spawned at {}
  host::waits
    queued, not yet polled
    #1 in slot 2, control, 0 polls, 0 wakes, spawned at {}
executor net at {:#x}: 1 task
  host::waits
    parked at unlabelled
    #1 in slot 1, control, 1 poll, 0 wakes, spawned at {}
",
        BuildId::of_this_program().expect("its file can be read"),
        first.executor.address,
        first.place.expect("it shows its place"),
        first.site.expect("it has a site"),
        third.site.expect("it has a site"),
        second.executor.address,
        second.site.expect("it has a site"),
    );
    assert_eq!(report.to_string(), expected);
}

/// The memory of scopes is read with that of the tables.
#[test]
fn scopes_in_a_dump() {
    let scope: &'static ScopeHead = keep(ScopeHead::new());
    scope.open("device", None);
    let mut dump = memory(sample());
    dump.extend(memory(scope));
    let candidates = candidates();
    let report = Report::of(&dump, &candidates, Trust::Build).expect("it is whole");
    assert_eq!(report.scopes, [scope.read().expect("it was opened")]);
}

/// A table of another build is refused with both names; forced, it is read with a warning.
#[test]
fn another_build() {
    let mut bytes = compact(sample());
    bytes[48] ^= 1;
    let candidates = candidates();
    let refusal = Report::of(&bytes, &candidates, Trust::Build).expect_err("it is another build");
    let own = BuildId::of_this_program().expect("its file can be read");
    let text = refusal.to_string();
    assert!(text.contains("the table is of build ") && text.contains("and no image is that one"), "{text}");
    assert!(text.contains(&format!("this program is build {own}")) && text.contains("--image"), "{text}");
    assert!(!text.contains("--force"), "a wrong image is no use: {text}");
    let report = Report::of(&bytes, &candidates, Trust::Anything).expect("it is forced");
    assert!(report.warnings[0].contains("the names may be wrong"), "{:?}", report.warnings);
    assert_eq!(report.rows.len(), 3);
}

/// A table that does not say its build is not believed to be of any.
#[test]
fn no_build() {
    let mut bytes = compact(sample());
    bytes[48..64].fill(0);
    let candidates = candidates();
    let refusal = Report::of(&bytes, &candidates, Trust::Build).expect_err("it may be any build");
    let text = refusal.to_string();
    assert!(text.contains("does not say which build it is of") && text.contains("--force"), "{text}");
    let report = Report::of(&bytes, &candidates, Trust::Anything).expect("it is forced");
    assert!(report.to_string().contains("warning: at 0x0: the table does not say"), "{report}");
    assert!(report.to_string().contains("backend to be Closed"), "{report}");
}

/// Without an image, and with files that are none, the refusal says what was given.
#[test]
fn wrong_images() {
    let bytes = compact(sample());
    let text = Report::of(&bytes, &[], Trust::Anything).expect_err("there is no image").to_string();
    assert!(text.contains("no image was given") && text.contains("--image"), "{text}");

    let no_image = ImageFile::parse(b"MZ, or so it says".to_vec());
    assert!(matches!(no_image, Err(ImageError::Malformed(_))));
    let mut stripped = this_program();
    let anchor = stripped.windows(16).rposition(|window| window == b"kexec task table").expect("it has one");
    stripped[anchor] ^= 1;
    let no_anchor = ImageFile::parse(stripped);
    assert_eq!(no_anchor.as_ref().err(), Some(&ImageError::NoAnchor));
    let candidates = [("text", no_image), ("stripped", no_anchor)]
        .map(|(name, image)| Candidate { name: name.to_owned(), image });
    let text = Report::of(&bytes, &candidates, Trust::Anything).expect_err("neither is one").to_string();
    assert!(text.contains("  text: it is no image that can be read: "), "{text}");
    assert!(text.contains("  stripped: no kexec with a task table is linked into it"), "{text}");
}

/// Files that are cut short, or damaged here and there, are refused or read; nothing panics.
#[test]
fn damaged_images() {
    let whole = this_program();
    let (bytes, mut read) = (compact(sample()), 0);
    let mut look = |file: Vec<u8>| {
        let candidates = [Candidate { name: "damaged".to_owned(), image: ImageFile::parse(file) }];
        match Report::of(&bytes, &candidates, Trust::Anything) {
            Ok(report) => read += usize::from(!report.to_string().is_empty()),
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    };
    for part in 0..20 {
        look(whole[..whole.len() / 20 * part].to_vec());
    }
    // Headers are in the first bytes, the table of sections in the last ones.
    for at in (0..512).step_by(9).chain((whole.len() - 3000..whole.len()).step_by(61)) {
        let mut damaged = whole.clone();
        damaged[at..][..8.min(whole.len() - at)].fill(0xFF);
        look(damaged);
    }
    assert!(read > 20, "{read} of them were read all the same");
}

/// A compiler that lays out its structures in another way is noticed by what the anchor refers to.
#[test]
fn another_compilers_layout() {
    let mut other = this_program();
    // The file's name in the location that the anchor refers to.
    let name = b"kexec/src/task_table/anchor.rs";
    let places: Vec<usize> =
        (0..other.len() - name.len()).filter(|at| other[*at..].starts_with(name)).collect();
    assert!(!places.is_empty(), "the anchor's location is in the file");
    for at in places {
        other[at + name.len() - 1] = b'x';
    }
    assert_eq!(ImageFile::parse(other).err(), Some(ImageError::Layout));
}

/// Nothing like a table, and a damaged one: the message has the offset and what to do.
#[test]
fn no_table() {
    let text = Report::of(&[7; 100], &[], Trust::Build).expect_err("there is none").to_string();
    assert!(text.contains("these 100 bytes") && text.contains("Table::save"), "{text}");
    let mut dump = vec![0; 64];
    dump.extend(&compact(sample())[..200]);
    let refusal = Report::of(&dump, &[], Trust::Build).expect_err("it is cut short");
    assert!(matches!(refusal, Refusal::Damaged { offset: 64, .. }));
    let text = refusal.to_string();
    assert!(text.starts_with("at 0x40 there is a task table, but it is cut short"), "{text}");
}

/// What is damaged beside what is whole is a warning.
#[test]
fn damage_beside_a_table() {
    let mut dump = compact(sample());
    let offset = dump.len();
    dump.extend(&compact(sample())[..200]);
    let candidates = candidates();
    let report = Report::of(&dump, &candidates, Trust::Build).expect("one is whole");
    assert_eq!((report.rows.len(), report.warnings.len()), (3, 1));
    assert!(
        report.warnings[0].starts_with(&format!("at {offset:#x}: it is cut short")),
        "{:?}",
        report.warnings
    );
}

/// Words that refer to nothing are shown as lost; nothing is read beyond the file.
#[test]
fn damaged_references() {
    let mut bytes = compact(sample());
    // The name of the first task: a distance far outside, and then a length that no name has.
    let name = 144 + 16 + 3 * 8;
    bytes[name..name + 4].copy_from_slice(&i32::MIN.to_le_bytes());
    assert!(rows(&bytes)[0].contains("name: \"?\""), "{:#?}", rows(&bytes));
    let mut bytes = compact(sample());
    bytes[name + 4..name + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(rows(&bytes)[0].contains("name: \"?\""), "{:#?}", rows(&bytes));
}

/// The command itself, from files.
#[test]
fn the_command() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let dump = folder.join("tasks.bin");
    fs::write(&dump, memory(sample())).expect("there is room");
    let request = |words: &[&str]| Request::parse(words.iter().map(|word| (*word).to_owned()));
    let dump = dump.to_string_lossy();
    let printed = request(&[&dump, "--image", "/proc/self/exe"]).expect("it makes sense").carry_out();
    let printed = printed.expect("it is whole, and of this program");
    assert!(printed.contains("executor disk at 0x") && printed.contains("  host::reset\n"), "{printed}");
    let refused = request(&[&dump]).expect("it makes sense").carry_out().expect_err("there is no image");
    assert!(refused.starts_with(&*dump), "it names the file: {refused}");
}
