//! QEMU, which plays the whole machine, Xen's virtualisation included; from its start to its end.
//!
//! # Why these options
//!
//! Software emulation of AMD's virtualisation (TCG) has gaps. Each of these was a crash without it:
//!
//! | | without it |
//! |---|---|
//! | `-accel tcg,thread=single` | a guest has triple faults: see `README.md`, "Lost wake-ups" |
//! | `-cpu ..,-smap` | an `IRET` to user mode reads the stack as the kernel, and faults |
//! | `-cpu ..,-monitor` | `MWAIT` with extensions, which Xen uses to be idle, is a general protection fault |
//! | `-cpu ..,-rdtscp` | `RDTSCP` of a guest exits as an `RDTSC`, and Xen finds another instruction there |
//! | `spec-ctrl=eager-fpu` | lazily switched registers of a guest are seen by programs of the control domain |
//! | `-no-reboot` | a machine that crashes begins again, and never ends |

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    image::Image,
    kind::Kind,
    order::{Boot, Order},
    timeline::{Played, Timeline},
};

/// How long it may take until the control domain is up, and between two things that it says: several times what they take
/// where somebody else computes, too. What the control domain waits for itself it does not wait for so long.
const BOOT: Duration = Duration::from_mins(2);
const SILENCE: Duration = Duration::from_mins(4);

const QEMU: &str = "qemu-system-x86_64";

/// A shell of a machine that is kept: a socket in its folder.
const SHELL: &str = "shell";

/// How many lines of the log are shown of a machine that has come to nothing.
const LAST_LINES: usize = 12;

/// A machine that has not been started.
#[derive(Debug)]
pub(crate) struct Machine<'o> {
    /// Where its files are.
    folder: PathBuf,
    order: &'o Order,
    boot: &'o Boot,
}

/// What has come of a machine.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was told of each play.
    pub(crate) plays: Vec<Played>,
    /// Whether it has come to its end.
    pub(crate) end: Result<()>,
}

/// Whether there is enough of everything, for so many machines at once.
pub(crate) fn has_room(lab: &Path, kind: Kind, machines: usize) -> Result<()> {
    fs::create_dir_all(lab).with_context(|| format!("could not make {}", lab.display()))?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    enough("memory", memory.and_then(first_number), kind.free_memory() * machines as u64)?;
    let disk = Command::new("df").args(["--output=avail", "-k"]).arg(lab).output();
    let disk = disk.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    enough("disk", disk.lines().nth(1).and_then(first_number), kind.free_disk())
}

/// The first number of a line.
fn first_number(line: &str) -> Option<u64> {
    line.split_whitespace().next()?.parse().ok()
}

/// Who does not know how much there is tries.
fn enough(what: &str, kibibytes: Option<u64>, wanted: u64) -> Result<()> {
    match kibibytes.map(|kibibytes| kibibytes / 1024) {
        Some(free) if free < wanted => bail!("the lab takes {wanted} MiB of {what}, and {free} MiB are free"),
        _ => Ok(()),
    }
}

impl<'o> Machine<'o> {
    /// Puts a machine's files together.
    pub(crate) fn new(image: &Image, order: &'o Order, boot: &'o Boot) -> Result<Self> {
        let folder = order.folder.join(format!("machine-{}", boot.daemon));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        // Linked, because QEMU takes the names of what is loaded with Xen apart at spaces and commas.
        for (name, path) in [("xen", image.xen()), ("vmlinux", image.kernel())] {
            let path = path.canonicalize().with_context(|| format!("no {}", path.display()))?;
            std::os::unix::fs::symlink(path, folder.join(name))?;
        }
        fs::write(folder.join("dom0.cpio"), image.file_system(order, &boot.plays)?)?;
        Ok(Self { folder, order, boot })
    }

    /// Starts it, shows what is said, and waits for its end; if it is kept, until somebody ends it.
    pub(crate) fn run(&self) -> Outcome {
        let log = self.folder.with_file_name(format!("{}.log", self.boot.daemon));
        let begin = Instant::now();
        let daemon = self.boot.daemon.name();
        let mut heard = Heard { daemon, timeline: Timeline::default(), last: Vec::new() };
        let listened = self.watch(begin, &log, &mut heard);
        let (took, path) = (begin.elapsed().as_secs_f64(), log.display());
        println!("{daemon}: took {took:.1} s; all that was said is in {path}");
        let (plays, end) = heard.timeline.outcome();
        if listened.is_err() || end.is_err() {
            println!("{daemon}: the last that was said:");
            heard.last.iter().for_each(|line| println!("  {line}"));
        }
        let end = listened.and(end).map_err(|error| anyhow!("{error:#} (see {path})"));
        Outcome { plays, end }
    }

    fn watch(&self, begin: Instant, log: &Path, heard: &mut Heard) -> Result<()> {
        let log = File::create(log).with_context(|| format!("could not make {}", log.display()))?;
        let mut qemu = Running(self.start()?);
        let lines = lines_of(&mut qemu.0)?;
        heard.listen(begin, &lines, log)?;
        if self.order.is_kept && heard.timeline.is_done() {
            let socket = self.folder.join(SHELL);
            println!(
                "the machine is kept: `socat - UNIX-CONNECT:{}` is a shell of the control domain;",
                socket.display()
            );
            println!("Ctrl-C ends the machine");
            for _ in lines {}
        }
        let status = qemu.0.wait().context("QEMU is gone")?;
        if heard.last.is_empty() {
            let said = fs::read_to_string(self.folder.join("qemu.txt")).unwrap_or_default();
            bail!("{QEMU} ended at once ({status}): {}", said.lines().next().unwrap_or("without a word"));
        }
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let Order { cpus, has_threads, is_kept, .. } = self.order;
        let kernel = format!(
            "vmlinux console=hvc0 quiet loglevel=4 panic=1 random.trust_cpu=on nokaslr mitigations=off lab.store={} \
             lab.keep={}",
            self.boot.daemon.name(),
            if *is_kept { "yes" } else { "no" }
        );
        let kind = self.boot.kind();
        let control_domain = kind.control_domain();
        let xen = format!(
            "console=com1 com1=115200,8n1 dom0_mem={control_domain}M,max:{control_domain}M dom0_max_vcpus=1 \
             loglvl=info guest_loglvl=all spec-ctrl=eager-fpu"
        );
        let said = File::create(self.folder.join("qemu.txt"))?;
        let threads = if *has_threads { "tcg,thread=multi" } else { "tcg,thread=single" };
        let shell = [
            "-chardev",
            &format!("socket,id=shell,path={SHELL},server=on,wait=off"),
            "-serial",
            "chardev:shell",
        ];
        // It is gone if the lab is, however that ends.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", QEMU])
            .args(["-accel", threads, "-cpu", "EPYC,-smap,-monitor,-rdtscp", "-smp", &cpus.to_string()])
            .args(["-m", &kind.memory().to_string()])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .args(if *is_kept { &shell[..] } else { &[] })
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(["-kernel", "xen", "-append", &xen, "-initrd", &format!("{kernel},dom0.cpio")])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .with_context(|| format!("could not start {QEMU}; Debian's package qemu-system-x86 has it"))
    }
}

/// A QEMU, which is gone when this is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What has been heard of a machine.
struct Heard {
    /// Whose machine it is.
    daemon: &'static str,
    timeline: Timeline,
    /// The last lines, whoever said them.
    last: Vec<String>,
}

impl Heard {
    /// Until there is nothing more to be heard, all is done, or it takes too long.
    fn listen(&mut self, begin: Instant, lines: &Receiver<String>, mut log: File) -> Result<()> {
        loop {
            let limit = if self.timeline.is_up() { SILENCE } else { BOOT.saturating_sub(begin.elapsed()) };
            match lines.recv_timeout(limit) {
                Ok(line) => {
                    writeln!(log, "{line}").context("the log cannot be written")?;
                    self.take(&line);
                }
                Err(RecvTimeoutError::Timeout) if self.timeline.is_up() => {
                    let playing = self.timeline.playing().unwrap_or("nothing");
                    bail!("nobody has said anything for {} s, while it plays {playing}", SILENCE.as_secs())
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the control domain is not up after {} s", BOOT.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let line = self.timeline.end_of_line();
                    self.show(line.as_deref());
                    return Ok(());
                }
            }
            if self.timeline.is_done() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, line: &str) {
        if self.last.len() == LAST_LINES {
            self.last.remove(0);
        }
        self.last.push(line.to_owned());
        let line = self.timeline.take(line);
        self.show(line.as_deref());
    }

    fn show(&self, lines: Option<&str>) {
        for line in lines.into_iter().flat_map(str::lines) {
            println!("{}: {line}", self.daemon);
        }
    }
}

/// The lines that it says, by a thread that ends with it.
fn lines_of(qemu: &mut Child) -> Result<Receiver<String>> {
    let mut said = BufReader::new(qemu.stdout.take().context("it was asked for")?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        while said.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line);
            if sender.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_is_named() {
        let message = enough("memory", Some(1024), 800).expect_err("that is 1 MiB").to_string();
        assert_eq!(message, "the lab takes 800 MiB of memory, and 1 MiB are free");
        assert!(enough("memory", Some(800 * 1024), 800).is_ok());
        assert!(enough("memory", None, 800).is_ok(), "who does not know tries");
        assert_eq!(first_number("  12345 kB"), Some(12345));
    }
}
