//! Tests the loom models: each atomic ordering in kexec is weakened, and a model must fail.
//!
//! A model that passes proves little by itself; it may be looking the other way. A model that fails as
//! soon as one ordering is weaker shows that it looks there, and that the ordering is needed.
//!
//! How it goes, in the order of the modules:
//!
//! 1. `tree` copies the library and the models into a workspace of their own;
//! 2. `modules` finds the files of the library that the models compile, and in them what `cfg` leaves;
//! 3. `orderings` finds the sites, and `structural` has the mutants that are written by hand;
//! 4. `inject` puts a switch around each of these, with `wrap`; `injected.rs` turns on one per process;
//! 5. `models` builds all that once, and `challenge` runs the models against each mutant.
//!
//! A mutant counts as killed when a model fails, aborts, or does not end. There is no way to allow a
//! survivor.

mod cfg;
mod challenge;
mod inject;
mod models;
mod modules;
mod orderings;
pub mod structural;
mod tree;
mod wrap;

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};

pub use self::challenge::Tally;
use self::{
    cfg::Configuration,
    models::Build,
    structural::{STRUCTURAL, Structural},
};
use crate::host::Host;

/// What a run works on.
#[derive(Debug)]
pub struct Project<'p> {
    /// The top of the repository.
    pub root: &'p Path,
    /// Where the copy goes.
    pub work: &'p Path,
    /// Where its build goes.
    pub target: &'p Path,
    /// The mutants written by hand.
    pub structural: &'p [Structural],
    /// How long a model may take with a mutant. One that is slow without a mutant gets ten times that.
    pub patience: Duration,
}

/// Runs the mutants of this repository whose line of output contains `filter`.
///
/// # Errors
///
/// The models do not build or pass, a mutant no longer applies, or none matches.
pub fn run(host: &Host, filter: Option<&str>) -> Result<Tally> {
    let target = host.target();
    let project = Project {
        root: host.root(),
        work: &target.join("mutants"),
        target: &target,
        structural: STRUCTURAL,
        patience: Duration::from_secs(30),
    };
    project.run(filter)
}

impl Project<'_> {
    /// Runs those mutants whose line of output contains `filter`, and prints a line for each.
    ///
    /// # Errors
    ///
    /// The models do not build or pass, a mutant no longer applies, or none matches.
    pub fn run(&self, filter: Option<&str>) -> Result<Tally> {
        let tree = self.work.join("tree");
        let build = Build { root: self.root, tree: &tree, target: self.target };

        tree::copy(self.root, &tree)?;
        let configuration = Configuration::new(&build.configuration()?);
        let mut mutants = inject::all(&tree, &configuration, self.structural)?;
        mutants.retain(|mutant| filter.is_none_or(|filter| mutant.label.contains(filter)));
        if mutants.is_empty() {
            match filter {
                Some(filter) => bail!("no mutant matches `{filter}`; without a filter they are all listed"),
                None => bail!("there is no atomic ordering in {}", tree::LIBRARY),
            }
        }

        let models = build.models()?;
        if models.is_empty() {
            bail!("there is no model in {}", tree::MODELS);
        }
        println!("{} mutants, {} models; first the models without a mutant", mutants.len(), models.len());
        let sound = challenge::prove(&models, self.work)?;
        let fates = challenge::all(&mutants, sound, self.patience)?;
        let survivors: Vec<&str> = mutants
            .iter()
            .zip(&fates)
            .filter(|(_, fate)| fate.survived())
            .map(|(mutant, _)| mutant.label.as_str())
            .collect();
        if !survivors.is_empty() {
            println!("\nThese survived:\n  {}\n\n{ADVICE}\n", survivors.join("\n  "));
        }
        let tally = Tally::of(&fates);
        println!("{tally}");
        Ok(tally)
    }
}

/// What to do about a survivor.
const ADVICE: &str = "\
No model fails without what these mutants take away. For each of them, either
 - write a model in tests/loom/tests/models that fails with the mutant and passes without it, and run
   `cargo xtask mutants FILE:LINE` meanwhile; doorbells and flags that a model adds should be Relaxed,
   or they lend their ordering to the code under test; or
 - if there is no execution that goes wrong, the ordering is stronger than it needs to be: weaken it.
Loom takes SeqCst for AcqRel: an ordering that must be SeqCst cannot be shown to be needed here.";
