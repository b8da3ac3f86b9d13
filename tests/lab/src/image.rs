//! What a machine of the lab boots: Xen, the control domain's kernel, and its file system.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cpio::Archive,
    disk, elf,
    kind::Kind,
    order::{Order, Play},
    packages::{DEVICE_MODEL, Packages},
};

/// The folder of an image, complete.
#[derive(Debug)]
pub(crate) struct Image {
    folder: PathBuf,
    /// Of the guests that it can make.
    kind: Kind,
}

/// The control domain's script.
const INIT: &[u8] = include_bytes!("../dom0/init");
/// What guests are made of, for `xl`.
const PVH: &str = include_str!("../dom0/pvh.cfg");
const HVM: &str = include_str!("../dom0/hvm.cfg");

/// Programs of Xen's.
const XEN_PROGRAMS: &[&str] =
    &["xl", "xenstored", "oxenstored", "xenconsoled", "xen-init-dom0", "libxl-save-helper"];
/// Programs that speak with xenstored.
const STORE_PROGRAMS: &[&str] = &["xenstore-ls", "xenstore-read", "xenstore-write"];
/// Modules of the kernel's that xenstored, xenconsoled and xl use.
const MODULES: &[&str] = &["xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs"];
/// What the script uses of busybox.
const APPLETS: &[&str] = &[
    "cat", "date", "dd", "echo", "grep", "insmod", "ip", "killall", "ls", "mkdir", "mkfifo", "mount",
    "poweroff", "printf", "ps", "rm", "sed", "setsid", "sh", "sleep", "tail", "test", "timeout", "tr",
];
const FOLDERS: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "etc/xen",
    "lab",
    "lab/scenarios",
    "lib",
    "lib64",
    "modules",
    "proc",
    "run",
    "sys",
    "tmp",
    "usr",
    "usr/lib",
    "usr/lib/xen-4.17",
    "usr/lib/xen-4.17/bin",
    "usr/lib/xen-4.17/boot",
    "usr/libexec",
    "usr/share",
    "usr/share/qemu",
    "usr/share/qemu/keymaps",
    "usr/share/seabios",
    "var",
    "var/lib",
    "var/lib/xen",
    "var/log",
    "var/log/xen",
];
/// Where Debian puts Xen's programs.
const XEN_FOLDER: &str = "usr/lib/xen-4.17/bin";
/// What begins a guest with emulated devices, and plays them.
const HVM_LOADER: &str = "usr/lib/xen-4.17/boot/hvmloader";
const BIOS: &str = "usr/share/seabios/bios-256k.bin";
const EMULATOR: &str = "usr/libexec/xen-qemu-system-i386";
/// Asked for although there is no keyboard.
const KEYMAP: &str = "usr/share/qemu/keymaps/en-us";
/// Loaded although nobody names it: for threads that are cancelled, as xl's are.
const UNNAMED: &str = "libgcc_s.so.1";

/// The image of today's packages: one that is there already, or a new one.
pub(crate) fn of_packages(lab: &Path, kind: Kind) -> Result<Image> {
    let packages = Packages::of_today(match kind {
        Kind::Pvh => &[],
        Kind::Hvm => DEVICE_MODEL,
    })?;
    // This source, too: how an image is made is a part of what it is.
    let key = packages.key(&[INIT, include_bytes!("image.rs")]);
    let image = Image { folder: lab.join(format!("image-{key}")), kind };
    if !image.folder.is_dir() {
        // Under another name until it is complete: who is interrupted has made none.
        let draft = lab.join("image-draft");
        if draft.exists() {
            fs::remove_dir_all(&draft)?;
        }
        make(&packages, lab, kind, &draft).context("the lab's image could not be made")?;
        fs::rename(&draft, &image.folder)?;
    }
    Ok(image)
}

impl Image {
    pub(crate) fn xen(&self) -> PathBuf {
        self.folder.join("xen")
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// The control domain's file system, with all that it takes for these plays.
    pub(crate) fn file_system(&self, order: &Order, plays: &[Play]) -> Result<Vec<u8>> {
        let (guest, peer) = (read(&order.guest)?, read(&order.peer)?);
        // Those that it would find there are of another system than the one that has built it.
        let libraries = elf::needed(&peer).context("in the guest's peer")?;
        ensure!(libraries.is_empty(), "the guest's peer is not linked statically: {}", libraries.join(", "));
        let mut all = fs::read(self.folder.join("dom0.cpio"))?;
        let mut archive = Archive::default();
        archive.file("lab/peer", &peer);
        let cpus = format!("vcpus = {}\n", order.cpus);
        archive.file("lab/guest", &guest);
        archive.file("lab/pvh.cfg", (PVH.to_owned() + &cpus).as_bytes());
        if self.kind == Kind::Hvm {
            archive.file("lab/disk", &disk::of(&guest)?);
            archive.file("lab/hvm.cfg", (HVM.to_owned() + &cpus).as_bytes());
        }
        for Play { scenario, .. } in plays {
            archive.file(&format!("lab/scenarios/{}", scenario.name), scenario.text.as_bytes());
        }
        let lines = plays.iter().map(|Play { scenario, kind }| format!("{} {kind}\n", scenario.name));
        archive.file("lab/plays", lines.collect::<String>().as_bytes());
        all.extend(archive.finish());
        Ok(all)
    }
}

fn make(packages: &Packages, lab: &Path, kind: Kind, draft: &Path) -> Result<()> {
    let root = draft.join("root");
    packages.unpack(&lab.join("packages"), &root)?;
    println!("makes the image of the control domain for {kind} guests");
    let boot = root.join("boot");
    let xen = only(&boot, |name| name.starts_with("xen-") && name.strip_suffix(".gz").is_some())?;
    fs::write(draft.join("xen"), through("gzip", &fs::read(xen)?)?)?;
    let kernel = only(&boot, |name| name.starts_with("vmlinuz-"))?;
    fs::write(draft.join("vmlinux"), unpacked(&fs::read(kernel)?)?)?;
    fs::write(draft.join("dom0.cpio"), file_system(&root, kind)?)?;
    // It has ten times the size of what was taken from it.
    fs::remove_dir_all(&root)?;
    Ok(())
}

fn file_system(root: &Path, kind: Kind) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    archive.link("var/run", "../run");
    archive.file("init", INIT);
    archive.file("etc/xen/xl.conf", b"");
    // Without it, it does not know where Xen's kernel interface is.
    archive.file("etc/xen/oxenstored.conf", &read(&root.join("etc/xen/oxenstored.conf"))?);
    archive.file("bin/busybox", &read(&root.join("bin/busybox"))?);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }

    let mut libraries = Libraries { root, found: BTreeMap::new() };
    for program in XEN_PROGRAMS {
        let bytes = read(&root.join(XEN_FOLDER).join(program))?;
        libraries.take_for(program, &bytes)?;
        archive.file(&format!("{XEN_FOLDER}/{program}"), &bytes);
        archive.link(&format!("bin/{program}"), &format!("../{XEN_FOLDER}/{program}"));
    }
    for program in STORE_PROGRAMS {
        let bytes = read(&root.join("usr/bin").join(program))?;
        libraries.take_for(program, &bytes)?;
        archive.file(&format!("bin/{program}"), &bytes);
    }
    if kind == Kind::Hvm {
        let emulator = read(&root.join(EMULATOR))?;
        libraries.take_for(EMULATOR, &emulator)?;
        archive.file(EMULATOR, &emulator);
        for file in [HVM_LOADER, BIOS, KEYMAP] {
            archive.file(file, &read(&root.join(file))?);
        }
    }
    libraries.take(UNNAMED)?;
    for (name, bytes) in libraries.found {
        // The one that loads the others is where every program looks for it.
        let folder = if name.starts_with("ld-linux") { "lib64" } else { "lib" };
        archive.file(&format!("{folder}/{name}"), &bytes);
    }

    let mut modules = Modules { all: BTreeMap::new(), order: String::new(), archive: &mut archive };
    modules.look_in(&root.join("lib/modules"))?;
    MODULES.iter().try_for_each(|module| modules.take(module))?;
    let order = modules.order;
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}

/// The shared libraries of some programs.
struct Libraries<'r> {
    root: &'r Path,
    found: BTreeMap<String, Vec<u8>>,
}

impl Libraries<'_> {
    fn take_for(&mut self, program: &str, bytes: &[u8]) -> Result<()> {
        let names = elf::needed(bytes).with_context(|| format!("in {program}"))?;
        names.iter().try_for_each(|name| self.take(name))
    }

    fn take(&mut self, name: &str) -> Result<()> {
        if self.found.contains_key(name) {
            return Ok(());
        }
        let folders =
            ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|folder| self.root.join(folder));
        let path = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let path = path.with_context(|| format!("no package of the lab's has the library {name}"))?;
        let bytes = read(&path)?;
        self.found.insert(name.to_owned(), bytes.clone());
        self.take_for(name, &bytes)
    }
}

/// Modules of the kernel's, in the order in which they can be loaded.
struct Modules<'a> {
    /// Where each is, whatever way its name is written.
    all: BTreeMap<String, PathBuf>,
    order: String,
    archive: &'a mut Archive,
}

impl Modules<'_> {
    fn look_in(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                self.look_in(&path)?;
            } else if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
                self.all.insert(name.replace('-', "_"), path.clone());
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        let file = format!("{name}.ko");
        if self.order.lines().any(|line| line == file) {
            return Ok(());
        }
        let path = self.all.get(&name).with_context(|| format!("the kernel has no module {name}"))?;
        let bytes = read(path)?;
        for other in elf::depends(&bytes).with_context(|| format!("in {file}"))? {
            self.take(&other)?;
        }
        self.archive.file(&format!("modules/{file}"), &bytes);
        self.order.push_str(&file);
        self.order.push('\n');
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("no {}", path.display()))
}

/// The one file of a folder.
fn only(folder: &Path, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| is_it(&name.to_string_lossy())));
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => bail!("in {} there are {} files where one was expected", folder.display(), files.len()),
    }
}

/// The kernel in a bzImage, which Xen would have to unpack each time: `Documentation/arch/x86/boot.rst` of Linux.
fn unpacked(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("the kernel is cut short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "the kernel is no bzImage");
    // A zero is a four.
    let sectors = usize::from(image[0x1F1]);
    let setup = (if sectors == 0 { 4 } else { sectors } + 1) * 512;
    let (offset, length) = (word(0x248)?, word(0x24C)?);
    let payload = image.get(setup + offset..setup + offset + length).context("the kernel is cut short")?;
    // Four bytes after the end of what was packed say how long it is.
    let packed = payload.get(..length.saturating_sub(4)).unwrap_or(payload);
    ensure!(packed.starts_with(b"\xFD7zXZ\0"), "the kernel is packed in a way that the lab does not know");
    through("xz", packed)
}

/// What a program makes of bytes that it unpacks.
fn through(program: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    let mut input = child.stdin.take().context("it was asked for")?;
    let output = std::thread::scope(|scope| {
        // It writes while it reads. If it stops reading, it fails.
        scope.spawn(move || std::io::Write::write_all(&mut input, bytes));
        child.wait_with_output()
    })?;
    ensure!(output.status.success(), "{program} failed ({})", output.status);
    Ok(output.stdout)
}
