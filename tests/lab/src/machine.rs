//! QEMU, which plays the whole machine, Xen's virtualisation included; from its start to its end.
//!
//! # Why these options
//!
//! Software emulation of AMD's virtualisation (TCG) has gaps. Each of these was a crash without it:
//!
//! | | without it |
//! |---|---|
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
    order::{Daemon, Order},
    timeline::{Tally, Timeline},
};

/// How long it may take until the control domain is up, and until all has ended: several times what they take where
/// somebody else computes, too.
const BOOT: Duration = Duration::from_mins(2);
const LIFE: Duration = Duration::from_mins(6);

/// MiB of the machine's memory, and of the control domain's in it.
const MEMORY: u32 = 640;
const CONTROL_DOMAIN: u32 = 400;
/// MiB that must be free, in memory and on the disk.
const FREE_MEMORY: u64 = 800;
const FREE_DISK: u64 = 1200;

const QEMU: &str = "qemu-system-x86_64";

/// How many lines of the log are shown of a machine that has come to nothing.
const LAST_LINES: usize = 12;

/// A machine that has not been started.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Where its files are.
    folder: PathBuf,
    daemon: Daemon,
}

/// Whether there is enough of everything.
pub(crate) fn has_room(lab: &Path) -> Result<()> {
    fs::create_dir_all(lab).with_context(|| format!("could not make {}", lab.display()))?;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    enough("memory", memory.and_then(first_number), FREE_MEMORY)?;
    let disk = Command::new("df").args(["--output=avail", "-k"]).arg(lab).output();
    let disk = disk.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    enough("disk", disk.lines().nth(1).and_then(first_number), FREE_DISK)
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

impl Machine {
    /// Puts a machine's files together.
    pub(crate) fn new(image: &Image, order: &Order, daemon: Daemon) -> Result<Self> {
        let folder = order.folder.join("machine");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let guest =
            fs::read(&order.guest).with_context(|| format!("no guest in {}", order.guest.display()))?;
        // Linked, because QEMU takes the names of what is loaded with Xen apart at spaces and commas.
        for (name, path) in [("xen", image.xen()), ("vmlinux", image.kernel())] {
            let path = path.canonicalize().with_context(|| format!("no {}", path.display()))?;
            std::os::unix::fs::symlink(path, folder.join(name))?;
        }
        fs::write(folder.join("dom0.cpio"), image.file_system(&guest)?)?;
        Ok(Self { folder, daemon })
    }

    /// Starts it, shows what is said, and waits for its end.
    pub(crate) fn run(&self) -> Result<Tally> {
        let path = self.folder.with_file_name(format!("{}.log", self.daemon));
        let log = File::create(&path).with_context(|| format!("could not make {}", path.display()))?;
        let begin = Instant::now();
        let outcome = self.watch(begin, log);
        println!("took {:.1} s; all that was said is in {}", begin.elapsed().as_secs_f64(), path.display());
        outcome.map_err(|error| anyhow!("{error:#} (see {})", path.display()))
    }

    fn watch(&self, begin: Instant, log: File) -> Result<Tally> {
        let mut qemu = Running(self.start()?);
        let lines = lines_of(&mut qemu.0)?;
        let mut heard = Heard { timeline: Timeline::default(), log, last: Vec::new() };
        let ended_in_time = heard.listen(begin, &lines);
        if ended_in_time.is_ok() {
            let status = qemu.0.wait().context("QEMU is gone")?;
            if heard.last.is_empty() {
                let said = fs::read_to_string(self.folder.join("qemu.txt")).unwrap_or_default();
                bail!("{QEMU} ended at once ({status}): {}", said.lines().next().unwrap_or("without a word"));
            }
        }
        let outcome = ended_in_time.and_then(|()| heard.timeline.outcome());
        if outcome.is_err() {
            println!("the last that was said:");
            heard.last.iter().for_each(|line| println!("  {line}"));
        }
        outcome
    }

    fn start(&self) -> Result<Child> {
        let kernel = format!(
            "vmlinux console=hvc0 quiet loglevel=4 panic=1 random.trust_cpu=on nokaslr mitigations=off lab.store={}",
            self.daemon.name()
        );
        let xen = format!(
            "console=com1 com1=115200,8n1 dom0_mem={CONTROL_DOMAIN}M,max:{CONTROL_DOMAIN}M dom0_max_vcpus=1 \
             loglvl=info guest_loglvl=all spec-ctrl=eager-fpu"
        );
        let said = File::create(self.folder.join("qemu.txt"))?;
        Command::new(QEMU)
            .args(["-accel", "tcg", "-cpu", "EPYC,-smap,-monitor,-rdtscp", "-smp", "1"])
            .args(["-m", &MEMORY.to_string()])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
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
    timeline: Timeline,
    log: File,
    /// The last lines, whoever said them.
    last: Vec<String>,
}

impl Heard {
    /// Until there is nothing more to be heard, or it takes too long.
    fn listen(&mut self, begin: Instant, lines: &Receiver<String>) -> Result<()> {
        loop {
            let (limit, what) = if self.timeline.is_up() {
                (LIFE, "the guest is not done")
            } else {
                (BOOT, "the control domain is not up")
            };
            match lines.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(line) => self.take(&line)?,
                Err(RecvTimeoutError::Timeout) => bail!("{what} after {} s", limit.as_secs()),
                Err(RecvTimeoutError::Disconnected) => {
                    show(self.timeline.end_of_line());
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}").context("the log cannot be written")?;
        if self.last.len() == LAST_LINES {
            self.last.remove(0);
        }
        self.last.push(line.to_owned());
        show(self.timeline.take(line));
        Ok(())
    }
}

fn show(line: Option<String>) {
    if let Some(line) = line {
        println!("{line}");
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
