//! One child process, shown before it runs.
//!
//! What is shown can be pasted into a shell: whoever reads a failure wants to run that step alone.

use std::{
    ffi::OsString,
    fmt,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// A command line with its environment.
#[derive(Debug)]
pub struct CommandLine {
    command: Command,
    shown: String,
}

/// How the tests of a `cargo test` fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those that ran and passed, over all binaries.
    pub passed: u32,
    /// Those marked `#[ignore]`.
    pub ignored: u32,
}

impl CommandLine {
    /// `program` in the directory `root`, without what `cargo run` set for this process.
    ///
    /// Left in place, cargo's variables about *this* package would be seen by every build script of the
    /// child, and change from one run to the next.
    #[must_use]
    pub fn new(root: &Path, program: &str) -> Self {
        let mut command = Command::new(program);
        command.current_dir(root).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        Self { command, shown: program.to_owned() }
    }

    /// The cargo that runs us, which a shell knows as `cargo`.
    #[must_use]
    pub fn cargo(root: &Path) -> Self {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut line = Self::new(root, &program.to_string_lossy());
        "cargo".clone_into(&mut line.shown);
        line
    }

    /// Adds the words of `text`, which must not need quoting.
    #[must_use]
    pub fn words(self, text: &str) -> Self {
        text.split_whitespace().fold(self, Self::word)
    }

    /// Adds one argument.
    #[must_use]
    pub fn word(mut self, word: impl AsRef<str>) -> Self {
        self.command.arg(word.as_ref());
        self.shown.push(' ');
        self.shown.push_str(&quoted(word.as_ref()));
        self
    }

    /// Adds a path as one argument.
    #[must_use]
    pub fn path(self, path: &Path) -> Self {
        self.word(path.to_string_lossy())
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self.shown = format!("{name}={} {}", quoted(value), self.shown);
        self
    }

    /// Runs it in `folder` instead. Comes last, for it is shown first.
    #[must_use]
    pub fn inside(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self.shown = format!("cd {} && {}", quoted(&folder.to_string_lossy()), self.shown);
        self
    }

    /// Removes environment variables that are set for us and would mislead the child.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    /// Shows the line, runs it, and lets it print.
    ///
    /// # Errors
    ///
    /// It could not be started, or failed.
    pub fn run(mut self) -> Result<()> {
        self.show();
        let status = self.command.status().with_context(|| format!("could not start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Shows the line, runs it, and holds back what it prints.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn outcome(mut self) -> Result<Output> {
        self.show();
        self.command.output().with_context(|| format!("could not start `{}`", self.shown))
    }

    /// Like [`run`](Self::run), and counts the tests that libtest reports on the way.
    ///
    /// # Errors
    ///
    /// It could not be started, failed, or ran no test at all, which is no way to pass.
    pub fn run_tests(mut self) -> Result<Totals> {
        self.show();
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start `{}`", self.shown))?;
        let mut totals = Totals::default();
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line)? != 0 {
                std::io::stdout().write_all(&line)?;
                totals.add(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        if totals.passed == 0 {
            bail!("`{}` ran no test", self.shown);
        }
        Ok(totals)
    }

    /// Whether it runs and succeeds; it prints nothing. For asking what is there.
    #[must_use]
    pub fn succeeds(self) -> bool {
        self.answer().is_some()
    }

    /// What it prints, without the surrounding white space, if it succeeds. For asking what is there.
    #[must_use]
    pub fn answer(mut self) -> Option<String> {
        let output = self.command.stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Shows the line, runs it with its messages visible, and returns what it printed.
    ///
    /// # Errors
    ///
    /// It could not be started, or failed.
    pub fn capture(mut self) -> Result<String> {
        self.show();
        let output = self
            .command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("could not start `{}`", self.shown))?;
        if !output.status.success() {
            bail!("`{}` failed ({})", self.shown, output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn show(&self) {
        println!("$ {self}");
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Totals {
    /// Takes in a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; ..`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let words: Vec<&str> = counts.split([' ', ';']).filter(|word| !word.is_empty()).collect();
            words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse::<u32>().ok())
        };
        self.passed += count("passed").unwrap_or(0);
        self.ignored += count("ignored").unwrap_or(0);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed", self.passed)?;
        if self.ignored != 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

/// As a shell would need it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_a_shell_would_take_it() {
        let line = CommandLine::new(Path::new("/"), "cargo")
            .words("test --release")
            .word("a b")
            .word("it's")
            .set("MIRIFLAGS", "-Za -Zb");
        assert_eq!(line.to_string(), r"MIRIFLAGS='-Za -Zb' cargo test --release 'a b' 'it'\''s'");
    }

    #[test]
    fn a_line_runs_where_it_says() {
        let line = CommandLine::new(Path::new("/"), "pwd").set("A", "b").inside(Path::new("/usr"));
        assert_eq!(line.to_string(), "cd /usr && A=b pwd");
        assert_eq!(line.outcome().expect("it starts").stdout, b"/usr\n");
    }

    #[test]
    fn totals_are_added_over_binaries() {
        let mut totals = Totals::default();
        totals.add("running 3 tests\n");
        totals.add(
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        totals.add("test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
        assert_eq!(totals, Totals { passed: 42, ignored: 1 });
        assert_eq!(totals.to_string(), "42 passed, 1 ignored");
    }

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let line = || CommandLine::new(Path::new("/"), "false").word("now");
        let error = line().run().expect_err("false fails");
        assert!(error.to_string().contains("`false now` failed"), "{error}");
        assert!(!line().succeeds());
        let error = CommandLine::new(Path::new("/"), "no-such-program").run().expect_err("not there");
        assert!(error.to_string().contains("could not start `no-such-program`"), "{error}");
    }

    #[test]
    fn a_run_without_tests_does_not_pass() {
        let error = CommandLine::new(Path::new("/"), "true").run_tests().expect_err("no test ran");
        assert!(error.to_string().contains("ran no test"), "{error}");
    }
}
