//! Tests the tests of the simulated NT: each joint between a driver, kexec and NT is broken, and a test must fail.
//!
//! A scenario that passes proves little by itself; it may be looking the other way. So the sources of `xenbus.sys`
//! are copied, one step at a time is left out or done wrongly, the image is built from that, and the test that is
//! said to watch this joint is run on it. It must fail; there is no way to allow a survivor.
//!
//! The joints are in [`table`].

pub mod table;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};

use self::table::{JOINTS, Joint};
use crate::{
    dist::{self, Workshop},
    host::Host,
    levels::{Outcome, passed},
};

/// The image whose joints they are.
const IMAGE: &str = "xenbus";

/// How many joints there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The test failed without it.
    pub held: usize,
    /// The test did not notice.
    pub loose: usize,
}

impl Tally {
    /// As the result of a level.
    ///
    /// # Errors
    ///
    /// A test did not notice a broken joint.
    pub fn outcome(self) -> Result<Outcome> {
        let Self { held, loose } = self;
        if loose != 0 {
            bail!("{loose} of {} broken joints were not noticed", held + loose);
        }
        passed(format_args!("{held} joints, each seen to break"))
    }
}

/// Breaks the joints whose name contains `filter`, and prints a line for each.
///
/// # Errors
///
/// A joint no longer applies, none matches, an image does not build, or the tests fail with everything in place.
pub fn run(host: &Host, filter: Option<&str>) -> Result<Tally> {
    let joints: Vec<&Joint> =
        JOINTS.iter().filter(|joint| filter.is_none_or(|filter| joint.name.contains(filter))).collect();
    if joints.is_empty() {
        bail!("no joint matches `{}`; without a filter they are all listed", filter.unwrap_or_default());
    }
    let bench = Bench::set_up(host)?;
    println!("{} joints; first the tests with everything in place", joints.len());
    bench.build()?;
    if !bench.passes(None)? {
        bail!("the tests fail with everything in place: `cargo test --package nt-sim --test {IMAGE}`");
    }
    let mut loose = Vec::new();
    for (index, joint) in joints.iter().enumerate() {
        let begin = Instant::now();
        let fate = if bench.survives(joint)? {
            loose.push(joint.name);
            format!("NOT NOTICED by {}", joint.test)
        } else {
            format!("noticed by {}", joint.test)
        };
        let seconds = begin.elapsed().as_secs_f64();
        println!("[{}/{}] {}: {fate} ({seconds:.1} s)", index + 1, joints.len(), joint.name);
    }
    if !loose.is_empty() {
        println!("\nThese were not noticed:\n  {}\n\n{ADVICE}\n", loose.join("\n  "));
    }
    Ok(Tally { held: joints.len() - loose.len(), loose: loose.len() })
}

/// What to do about a joint that can be broken unnoticed.
const ADVICE: &str = "\
The image that was built last is in target/joints. For each of them, either
 - let a test of tests/nt/tests/xenbus.rs fail without the step, and name that test in the table; or
 - if nothing goes wrong without it, the step is not needed: take it out.";

/// Where joints are broken: a copy of the sources, and what is built from it.
#[derive(Debug)]
struct Bench<'h> {
    host: &'h Host,
    workshop: Workshop,
    source: PathBuf,
    target: PathBuf,
    images: PathBuf,
}

impl<'h> Bench<'h> {
    fn set_up(host: &'h Host) -> Result<Self> {
        let work = host.target().join("joints");
        let (source, target, images) = (work.join("source"), work.join("target"), work.join("images"));
        if source.exists() {
            fs::remove_dir_all(&source).with_context(|| format!("could not remove {}", source.display()))?;
        }
        dist::copy_sources(host, &source)?;
        Ok(Self { host, workshop: Workshop::find(host)?, source, target, images })
    }

    fn build(&self) -> Result<()> {
        self.workshop.build(IMAGE, &self.source, &self.target, &self.images.join(IMAGE))
    }

    /// Whether the test passes, or all of them do.
    fn passes(&self, test: Option<&str>) -> Result<bool> {
        let line = self
            .host
            .cargo()
            .set("NT_SIM_IMAGES", &self.images.to_string_lossy())
            .words("test --quiet --package nt-sim --test")
            .word(IMAGE);
        let line = match test {
            Some(test) => line.words("-- --exact").word(test),
            None => line,
        };
        let output = line.outcome()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if test.is_some() && !said.contains("running 1 test") {
            let (test, complaint) = (test.unwrap_or_default(), String::from_utf8_lossy(&output.stderr));
            bail!("`{test}` of tests/nt/tests/{IMAGE}.rs was not run:\n{said}{complaint}");
        }
        Ok(output.status.success())
    }

    /// Whether the test of a joint passes when the joint is broken.
    fn survives(&self, joint: &Joint) -> Result<bool> {
        let path = self.source.join(joint.file);
        let sound =
            fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        fs::write(&path, broken(&sound, joint)?)?;
        let survives = self
            .build()
            .with_context(|| format!("with `{}`", joint.name))
            .and_then(|()| self.passes(Some(joint.test)));
        fs::write(&path, sound)?;
        survives
    }
}

/// The source without the joint.
fn broken(sound: &str, joint: &Joint) -> Result<String> {
    let Joint { name, file, original, replacement, .. } = joint;
    match sound.matches(original).count() {
        1 => Ok(sound.replacen(original, replacement, 1)),
        0 => bail!("{name}: {file} does not contain `{original}` any more; look at the table in {TABLE}"),
        many => bail!("{name}: {file} contains `{original}` {many} times; give more of it in {TABLE}"),
    }
}

const TABLE: &str = "tests/xtask/src/joints/table.rs";

#[cfg(test)]
mod tests {
    use super::*;

    /// Each entry applies to the sources as they are, so that a change cannot retire one silently.
    #[test]
    fn every_joint_can_be_broken() {
        let host = Host::find().expect("the tests run in the repository");
        for joint in JOINTS {
            let sound = fs::read_to_string(host.root().join(joint.file)).expect("the file is there");
            let broken = broken(&sound, joint).unwrap_or_else(|error| panic!("{error}"));
            assert_ne!(broken, sound, "{}", joint.name);
        }
    }

    #[test]
    fn names_are_different() {
        for (index, joint) in JOINTS.iter().enumerate() {
            assert!(JOINTS[..index].iter().all(|other| other.name != joint.name), "{}", joint.name);
        }
    }

    #[test]
    fn what_does_not_apply_says_where_to_look() {
        let joint = Joint { name: "n", file: "f", original: "step();", replacement: "", test: "t" };
        assert_eq!(broken("a step(); b", &joint).expect("it applies"), "a  b");
        let message = |text| broken(text, &joint).expect_err("it does not apply").to_string();
        assert!(message("nothing").contains(TABLE) && message("nothing").contains("`step();`"));
        assert!(message("step(); step();").contains("2 times"));
    }
}
