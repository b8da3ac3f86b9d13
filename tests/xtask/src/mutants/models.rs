//! Builds the models once and runs them one by one.
//!
//! Each model runs in a process of its own, so that the first failure ends the work on a mutant, a model
//! that hangs can be stopped, and one that aborts takes nothing else with it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::command::CommandLine;

/// One test of one binary.
#[derive(Debug)]
pub(super) struct Model {
    /// For the reader: `BINARY::TEST`.
    pub(super) name: String,
    binary: PathBuf,
    test: String,
}

/// A model that passes without a mutant, and what it took.
#[derive(Debug)]
pub(super) struct Sound<'m> {
    pub(super) model: &'m Model,
    /// Which sites and structural mutants it comes by.
    pub(super) reached: BTreeSet<String>,
    pub(super) time: Duration,
}

/// How a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Passed,
    Failed,
    TimedOut,
}

/// Cargo in the mutated copy of the sources.
#[derive(Debug)]
pub(super) struct Build<'p> {
    /// Where it runs; paths are shown as they are from there.
    pub(super) root: &'p Path,
    /// The copy.
    pub(super) tree: &'p Path,
    /// Where the build goes: the dependencies of the models may be there already.
    pub(super) target: &'p Path,
}

impl Build<'_> {
    /// What the library is compiled with.
    pub(super) fn configuration(&self) -> Result<String> {
        self.cargo("rustc --lib").words("-- --print cfg").capture()
    }

    /// Compiles the models and lists them.
    pub(super) fn models(&self) -> Result<Vec<Model>> {
        let messages = self.cargo("test --no-run --message-format json-render-diagnostics").capture()?;
        let mut models = Vec::new();
        for message in Message::parse_stream(messages.as_bytes()) {
            if let Message::CompilerArtifact(artifact) = message?
                && let (true, Some(binary)) = (artifact.profile.test, artifact.executable)
            {
                models.extend(list(&artifact.target.name, binary.as_std_path())?);
            }
        }
        Ok(models)
    }

    fn cargo(&self, command: &str) -> CommandLine {
        CommandLine::cargo(self.root)
            .words(command)
            .words("--package kexec-loom --profile loom --manifest-path")
            .path(&self.tree.join("Cargo.toml"))
            .word("--target-dir")
            .path(self.target)
    }
}

fn list(name: &str, binary: &Path) -> Result<Vec<Model>> {
    let output = Command::new(binary)
        .args(["--list", "--format", "terse"])
        .output()
        .with_context(|| format!("could not start {}", binary.display()))?;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let tests = output.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(tests
        .map(|test| Model {
            name: format!("{name}::{test}"),
            binary: binary.to_owned(),
            test: test.to_owned(),
        })
        .collect())
}

impl Model {
    /// Runs it without a mutant; it must pass. `notes` is a file that is free for it.
    pub(super) fn prove(&self, notes: &Path, limit: Duration) -> Result<Sound<'_>> {
        if notes.exists() {
            fs::remove_file(notes).with_context(|| format!("could not remove {}", notes.display()))?;
        }
        let begin = Instant::now();
        let ending = finish(self.command().env("KEXEC_MUTANT_REACHED", notes), limit)?;
        let time = begin.elapsed();
        if ending != Ending::Passed {
            bail!(
                "the model {} does not even pass without a mutant ({ending:?} after {:.1} s); run it alone: \
                 `cargo test --profile loom --package kexec-loom {}`",
                self.name,
                time.as_secs_f64(),
                self.test
            );
        }
        // There is no file if it comes by nothing.
        let reached = fs::read_to_string(notes).unwrap_or_default().lines().map(str::to_owned).collect();
        Ok(Sound { model: self, reached, time })
    }

    /// Runs it with the mutant of this key.
    pub(super) fn challenge(&self, mutant: &str, limit: Duration) -> Result<Ending> {
        finish(self.command().env("KEXEC_MUTANT", mutant), limit)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args([&self.test, "--exact", "--test-threads", "1"]);
        command.env_remove("KEXEC_MUTANT").env_remove("KEXEC_MUTANT_REACHED").env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Waits for the end, but not longer than `limit`.
fn finish(command: &mut Command, limit: Duration) -> Result<Ending> {
    let mut child =
        command.spawn().with_context(|| format!("could not start {}", command.get_program().display()))?;
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Ending::Passed } else { Ending::Failed });
        }
        if Instant::now() >= deadline {
            stop(&mut child)?;
            return Ok(Ending::TimedOut);
        }
        thread::sleep(pause);
        // Short models are over soon; long ones need not be asked often.
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn stop(child: &mut Child) -> Result<()> {
    child.kill().context("could not stop a model")?;
    child.wait().context("could not wait for a model that was stopped")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(program: &str, argument: &str) -> Ending {
        finish(Command::new(program).arg(argument), Duration::from_millis(200)).expect("it starts")
    }

    #[test]
    fn endings_are_told_apart() {
        assert_eq!(ending("true", ""), Ending::Passed);
        assert_eq!(ending("false", ""), Ending::Failed);
        assert_eq!(ending("sleep", "60"), Ending::TimedOut);
    }
}
