//! The rules about who may depend on whom, and what a file must say of itself.
//!
//! An arrow in a drawing holds until the first hurried afternoon. Here the drawing is a table, in
//! [`rooms`], and the test of this package, `tests/architecture.rs`, compares the repository with it.
//! The rules are plain functions over names, so that the test can also give them a repository that
//! breaks each one and see that it is caught. [`files`] has those that read files.

pub mod files;
pub mod rooms;

use std::{fmt, path::Path};

use anyhow::{Context, Result};
use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand};

use self::rooms::{EXECUTOR_LIBRARIES, NEVERS, Never, Room, Tests};

/// A package of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, from the top of the repository.
    pub folder: String,
}

/// That one package of the workspace depends on another.
#[derive(Clone, Debug)]
pub struct Arrow {
    /// Which depends.
    pub from: String,
    /// On which.
    pub to: String,
    /// When.
    pub when: When,
}

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The package itself, or its build script.
    Always,
    /// The package's tests and examples.
    InTests,
}

/// That a package depends on a library from outside.
#[derive(Clone, Debug)]
pub struct Library {
    /// The library's package.
    pub name: String,
    /// What for.
    pub when: When,
    /// Whether its default features are on.
    pub default_features: bool,
    /// Its features that are asked for.
    pub features: Vec<String>,
}

/// The packages of the workspace and what lies between them.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// Its packages.
    pub packages: Vec<Package>,
    /// Their dependencies on one another.
    pub arrows: Vec<Arrow>,
    /// What kexec depends on from outside.
    pub executor_libraries: Vec<Library>,
}

impl Workspace {
    /// Reads the manifests of the repository at `root`, without looking at anything from outside.
    ///
    /// # Errors
    ///
    /// Cargo cannot make sense of them.
    pub fn read(root: &Path) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo could not read the manifests")?;
        Ok(Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        let mut workspace = Self::default();
        for package in metadata.workspace_packages() {
            let folder = package.manifest_path.parent().unwrap_or(&package.manifest_path);
            let folder = folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder);
            workspace.packages.push(Package { name: package.name.to_string(), folder: folder.to_string() });
            for dependency in &package.dependencies {
                let when = When::of(dependency.kind);
                if dependency.path.is_some() {
                    let (from, to) = (package.name.to_string(), dependency.name.clone());
                    workspace.arrows.push(Arrow { from, to, when });
                } else if package.name == "kexec" {
                    workspace.executor_libraries.push(Library::of(dependency, when));
                }
            }
        }
        workspace
    }

    /// What breaks a rule, one sentence each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let packages = self.packages.iter().filter_map(misplaced);
        let unknown = self.arrows.iter().filter_map(|arrow| self.unknown_arrow(arrow));
        let forbidden = self.arrows.iter().flat_map(forbidden_arrow);
        let libraries = self.executor_libraries.iter().filter_map(unwelcome);
        packages.chain(unknown).chain(forbidden).chain(libraries).collect()
    }

    /// A dependency that the package's room does not allow.
    fn unknown_arrow(&self, arrow: &Arrow) -> Option<String> {
        // A package without a room is reported by itself.
        let from = self.packages.iter().find(|package| package.name == arrow.from)?;
        let room = Room::of(&from.folder)?;
        // A package that asks for its own features in its tests goes nowhere.
        let allowed = arrow.from == arrow.to
            || room.may_use.allows(&arrow.to)
            || arrow.when == When::InTests && room.tests == Tests::Free;
        (!allowed).then(|| {
            format!("{arrow}, which the room `{}` does not allow: it may use {}", room.folder, room.may_use)
        })
    }
}

/// Why a dependency is ruled out, whatever its room says.
fn forbidden_arrow(arrow: &Arrow) -> impl Iterator<Item = String> {
    let applies =
        |never: &&Never| never.from.contains(&arrow.from.as_str()) && never.to.contains(&arrow.to.as_str());
    NEVERS.iter().filter(applies).map(move |never| format!("{arrow}, which must never be: {}", never.because))
}

/// A package in no room, or in that of another.
fn misplaced(package: &Package) -> Option<String> {
    let Package { name, folder } = package;
    let Some(room) = Room::of(folder) else {
        return Some(format!(
            "the package `{name}` in {folder}/ has no room: add one in tests/xtask/src/architecture/rooms.rs, \
             and say there what it may depend on"
        ));
    };
    let owner = room.package.filter(|owner| owner != name)?;
    Some(format!("the package `{name}` is in {folder}/, the room of `{owner}`"))
}

/// A library that kexec must not depend on, or not like this.
fn unwelcome(library: &Library) -> Option<String> {
    let Library { name, when, default_features, features } = library;
    if *when == When::InTests {
        return None;
    }
    if !EXECUTOR_LIBRARIES.contains(&name.as_str()) {
        let known = EXECUTOR_LIBRARIES.join(", ");
        return Some(format!("kexec depends on `{name}`, which is none of those that it may use: {known}"));
    }
    if *default_features {
        return Some(format!("kexec depends on `{name}` with its default features, which may need std"));
    }
    let std = features.iter().any(|feature| feature == "std");
    std.then(|| format!("kexec depends on `{name}` with its feature `std`"))
}

impl When {
    fn of(kind: DependencyKind) -> Self {
        if kind == DependencyKind::Development { Self::InTests } else { Self::Always }
    }
}

impl Library {
    fn of(dependency: &Dependency, when: When) -> Self {
        Self {
            name: dependency.name.clone(),
            when,
            default_features: dependency.uses_default_features,
            features: dependency.features.clone(),
        }
    }
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Always => "",
            When::InTests => " in its tests",
        };
        write!(f, "`{}` depends on `{}`{when}", self.from, self.to)
    }
}
