//! Builds the kernel images, `.sys` and `.pdb`, on any host, and holds them to the rules.
//!
//! How it goes, in the order of the modules:
//!
//! 1. `build` compiles a package to a static library and links that, with `linker`, against import libraries that
//!    `def` makes from the lists of what the oldest supported Windows exports;
//! 2. `pe` reads the image, `lint` says what is wrong with it, and `imports` compares what it imports with the
//!    committed list;
//! 3. `reproduce`, if asked, builds it again from another folder and expects the same bytes;
//! 4. if nothing is wrong, it goes into `target/dist`, with a text in which `report` describes it.

mod build;
mod def;
mod imports;
mod linker;
mod lint;
mod pe;
mod report;
mod reproduce;

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};

pub(crate) use self::reproduce::copy_sources;
use self::{
    build::{Built, Tools, Tree},
    lint::Subject,
    pe::Pe,
    report::Report,
};
use crate::{
    host::{Host, Need, Rustup},
    levels::{Outcome, passed},
    toolchain::{self, Target},
};

/// A kernel image that we build.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// What it is called, without `.sys`.
    pub name: &'static str,
    package: &'static str,
    purpose: Purpose,
    /// The committed list of its imports, from the top of the repository.
    imports: &'static str,
}

/// Whom an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Shipped,
    TestOnly,
}

/// Every image: this table is the place to add one.
const IMAGES: &[Image] = &[
    Image {
        name: "xenbus",
        package: "xenbus-driver",
        purpose: Purpose::Shipped,
        imports: "xenbus/driver/imports.txt",
    },
    Image {
        name: "probe",
        package: "nt-probe",
        purpose: Purpose::TestOnly,
        imports: "tests/nt/probe/imports.txt",
    },
];

/// What the images are compiled for.
const TARGET: Target = Target { triple: "x86_64-pc-windows-msvc", choice: "XTASK_DIST" };

/// What building them needs.
pub const NEEDS: &[Need] = &[
    Need {
        what: "a Rust toolchain that can build for x86_64-pc-windows-msvc",
        packages: toolchain::PACKAGES,
        rustup: Some(Rustup::Target(TARGET.triple)),
        present: |host| TARGET.is_there(host),
    },
    Need {
        what: "a linker for Windows",
        packages: linker::PACKAGES,
        rustup: None,
        present: Tools::have_linker,
    },
];

/// What is asked of a build.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Which images; none stands for all.
    pub images: Vec<&'static Image>,
    /// Whether their imports are right as they are, and the lists to be rewritten.
    pub bless: bool,
    /// Whether to build each again, from another folder, and expect the same.
    pub check_reproducible: bool,
}

/// The image of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.name == name)
}

/// The names of all, for a message.
#[must_use]
pub fn names() -> String {
    IMAGES.iter().map(|image| image.name).collect::<Vec<_>>().join(", ")
}

/// Builds all images, each of them twice.
///
/// # Errors
///
/// See [`run`].
pub fn level(host: &Host) -> Result<Outcome> {
    make(host, &Order { check_reproducible: true, ..Order::default() })?;
    let images: Vec<String> = IMAGES.iter().map(|image| format!("{}.sys", image.name)).collect();
    passed(format_args!("{}, the same from another folder", images.join(", ")))
}

/// Builds images and puts those with which nothing is wrong into `target/dist`.
///
/// # Errors
///
/// A tool is missing, or an image does not build, breaks a rule, or is not the same when it is built again.
pub fn run(host: &Host, order: &Order) -> Result<()> {
    host.supply(NEEDS).map_err(|missing| anyhow!(missing))?;
    make(host, order)
}

fn make(host: &Host, order: &Order) -> Result<()> {
    let tools = Tools::find(host)?;
    let target = host.target();
    let dist = |image: &Image| target.join("dist").join(image.name);
    let all: Vec<&Image> = IMAGES.iter().collect();
    let images = if order.images.is_empty() { &all } else { &order.images };

    let mut candidates = Vec::new();
    let mut problems = Vec::new();
    for image in images {
        println!("\n-- {}.sys", image.name);
        // If this build fails, the result of an earlier one must not be taken for its own.
        remove(&dist(image))?;
        match Candidate::make(&tools, Tree { root: host.root(), target: &target }, image, order.bless) {
            Ok(candidate) => candidates.push(candidate),
            Err(error) => problems.push(format!("{}.sys: {error:#}", image.name)),
        }
    }
    if order.check_reproducible {
        println!("\n-- again, from another folder");
        let elsewhere = target.join("again");
        remove(&elsewhere)?;
        let tree = Tree { root: &elsewhere.join("source"), target: &elsewhere.join("target") };
        copy_sources(host, tree.root)?;
        for candidate in &mut candidates {
            let again = tools.build(tree, candidate.image);
            let differences = again.and_then(|again| reproduce::differences(&candidate.built, &again));
            candidate.problems.extend(differences.unwrap_or_else(|error| vec![format!("{error:#}")]));
        }
    }
    for Candidate { image, built, report, problems: own } in &candidates {
        if own.is_empty() {
            built.deliver(&dist(image), report)?;
        }
        problems.extend(own.iter().map(|problem| format!("{}: {problem}", built.sys.display())));
    }
    if problems.is_empty() {
        return Ok(());
    }
    println!("\n{}\n", problems.join("\n"));
    bail!("what is wrong with the images is listed above, and they are not in target/dist")
}

/// An image that was built.
struct Candidate {
    image: &'static Image,
    built: Built,
    report: String,
    /// What is wrong with it.
    problems: Vec<String>,
}

impl Candidate {
    /// Builds and examines an image.
    fn make(tools: &Tools, tree: Tree<'_>, image: &'static Image, bless: bool) -> Result<Self> {
        let built = tools.build(tree, image)?;
        let (sys, pdb) = built.read()?;
        let pe = Pe::parse(&sys).with_context(|| format!("in {}", built.sys.display()))?;

        let folders = tools.aliases(tree).map(|(folder, _)| folder);
        let subject = Subject { name: image.name, pe: &pe, sys: &sys, pdb: &pdb, folders: &folders };
        let mut problems: Vec<String> = lint::violations(&subject).iter().map(ToString::to_string).collect();
        if let Some(change) = imports::change(tree.root, image.imports, &pe.imports)? {
            if bless {
                imports::bless(tree.root, image.imports, &pe.imports)?;
                println!("\n{}", change.note());
            } else {
                problems.push(change.complaint());
            }
        }
        let report = Report { image, pe: &pe, sys: &sys, pdb: &pdb, tools: &tools.description }.to_string();
        print!("\n{report}");
        Ok(Self { image, built, report, problems })
    }
}

/// Builds images from other sources than these, and looks at nothing.
#[derive(Debug)]
pub(crate) struct Workshop(Tools);

impl Workshop {
    /// Finds the tools.
    ///
    /// # Errors
    ///
    /// One is missing.
    pub(crate) fn find(host: &Host) -> Result<Self> {
        host.supply(NEEDS).map_err(|missing| anyhow!(missing))?;
        Tools::find(host).map(Self)
    }

    /// Builds an image from the sources at `root`, by way of `target`, and puts it into `folder`.
    ///
    /// # Errors
    ///
    /// It does not build.
    pub(crate) fn build(&self, image: &str, root: &Path, target: &Path, folder: &Path) -> Result<()> {
        let image = find(image).with_context(|| format!("there is no image `{image}`"))?;
        self.0.build(Tree { root, target }, image)?.deliver(folder, "built for a test\n")
    }
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("could not remove {}", folder.display()))?;
    }
    Ok(())
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shipped => "shipped",
            Self::TestOnly => "for tests, never shipped",
        })
    }
}
