//! Which table is of which image, and what is said about it.

use std::{error::Error, fmt};

use kexec::task_table::{
    BuildId, Row, Scope, Tree,
    read::{Damage, Find, Found, ScopeCopy, TableCopy, find},
};

use crate::image::{ImageError, ImageFile};

/// A file that may be the image of a table.
#[derive(Debug)]
pub struct Candidate {
    /// What it is called.
    pub name: String,
    /// The image, or why it is none.
    pub image: Result<ImageFile, ImageError>,
}

/// Whether an image is taken though it cannot be shown to be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only one whose build is the table's.
    Build,
    /// Any, with a warning.
    Anything,
}

/// What is in a dump: [`Display`](fmt::Display) shows it.
#[derive(Debug)]
pub struct Report<'i> {
    tables: Vec<(usize, TableCopy<'i>)>,
    /// What is not as it should be, a sentence each.
    pub warnings: Vec<String>,
    /// Where the texts are from.
    images: Vec<(BuildId, &'i str)>,
    /// All tasks.
    pub rows: Vec<Row<'i>>,
    /// All scopes that were ever open.
    pub scopes: Vec<Scope<'i>>,
}

/// Why nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing like a table in so many bytes.
    NoTable(usize),
    /// There is something like a table, but it is damaged.
    Damaged {
        /// Where.
        offset: usize,
        /// How.
        damage: Damage,
    },
    /// The image of a table is none of the candidates.
    NoImage {
        /// Where the table is.
        offset: usize,
        /// What build it is of.
        build: BuildId,
        /// The candidates, a line each.
        candidates: Vec<String>,
    },
}

impl<'i> Report<'i> {
    /// Reads a dump, with texts from those candidates that its tables are of.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub fn of(dump: &'i [u8], candidates: &'i [Candidate], trust: Trust) -> Result<Self, Refusal> {
        let Contents { tables, scopes, damages } = Contents::of(find(dump));
        let used = tables.iter().filter(|(_, table)| table.used() != 0);
        if tables.is_empty() {
            return Err(match damages[..] {
                [(offset, damage), ..] => Refusal::Damaged { offset, damage },
                [] => Refusal::NoTable(dump.len()),
            });
        }
        let mut report = Self {
            warnings: damages.iter().map(|(offset, damage)| format!("at {offset:#x}: {damage}")).collect(),
            images: Vec::new(),
            rows: Vec::new(),
            scopes: Vec::new(),
            tables: tables.clone(),
        };
        let mut anchors = Vec::new();
        for (offset, table) in used {
            let (candidate, image) = report.choose(*offset, table.build(), candidates, trust)?;
            report.rows.extend(table.rows(image));
            let chosen = (table.build(), candidate.name.as_str());
            if !report.images.contains(&chosen) {
                report.images.push(chosen);
            }
            anchors.push((table.anchor(), image));
        }
        for scope in scopes {
            // A scope does not say its build: it is of the same image as the tables with its anchor.
            let image = anchors.iter().find(|(anchor, _)| *anchor == scope.anchor()).map(|(_, image)| *image);
            report.scopes.extend(image.and_then(|image| scope.read(image)));
        }
        Ok(report)
    }

    /// The image of a table.
    fn choose(
        &mut self,
        offset: usize,
        build: BuildId,
        candidates: &'i [Candidate],
        trust: Trust,
    ) -> Result<(&'i Candidate, &'i ImageFile), Refusal> {
        let mut images = candidates.iter().filter_map(|one| Some((one, one.image.as_ref().ok()?)));
        let is_known = build != BuildId::UNKNOWN;
        if let Some(right) = images.clone().find(|(_, image)| is_known && image.is(build)) {
            return Ok(right);
        }
        if trust == Trust::Anything
            && let Some((candidate, image)) = images.next()
        {
            self.warnings.push(format!(
                "at {offset:#x}: {}, and {} is build {}: the names may be wrong",
                Whose(build),
                candidate.name,
                image.build()
            ));
            return Ok((candidate, image));
        }
        Err(Refusal::NoImage {
            offset,
            build,
            candidates: candidates.iter().map(ToString::to_string).collect(),
        })
    }
}

/// What was found in a dump, with the offsets.
struct Contents<'d> {
    tables: Vec<(usize, TableCopy<'d>)>,
    scopes: Vec<ScopeCopy>,
    damages: Vec<(usize, Damage)>,
}

impl<'d> Contents<'d> {
    fn of(found: Find<'d>) -> Self {
        let mut contents = Self { tables: Vec::new(), scopes: Vec::new(), damages: Vec::new() };
        for (offset, found) in found {
            match found {
                Ok(Found::Table(table)) => contents.tables.push((offset, table)),
                Ok(Found::Scope(scope)) => contents.scopes.push(scope),
                Err(damage) => contents.damages.push((offset, damage)),
            }
        }
        contents
    }
}

/// What a table says of its build.
struct Whose(BuildId);

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            BuildId::UNKNOWN => f.write_str("the table does not say which build it is of"),
            build => write!(f, "the table is of build {build}"),
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.image {
            Ok(image) => write!(f, "{} is build {}", self.name, image.build()),
            Err(error) => write!(f, "{}: {error}", self.name),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (offset, table) in &self.tables {
            let (used, slots) = (table.used(), table.slots());
            writeln!(f, "table at {offset:#x}: {used} of {slots} slots were ever used")?;
        }
        for (build, name) in &self.images {
            writeln!(f, "names from {name}, build {build}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        write!(f, "\n{}", Tree::of(self.rows.iter().copied()).with(self.scopes.iter().copied()))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable(bytes) => write!(
                f,
                "there is no task table in these {bytes} bytes: none that begins with \"kexecTBL\" at a multiple of 8. \
                 Dump the memory of a pool or table of tasks, or what `Table::save` has written"
            ),
            Self::Damaged { offset, damage } => {
                write!(f, "at {offset:#x} there is a task table, but {damage}")
            }
            Self::NoImage { offset, build, candidates } => {
                write!(f, "at {offset:#x}: {}", Whose(*build))?;
                if candidates.is_empty() {
                    f.write_str(", and no image was given")?;
                } else if *build == BuildId::UNKNOWN {
                    write!(f, ", so that no image can be shown to be its own:")?;
                } else {
                    f.write_str(", and no image is that one:")?;
                }
                candidates.iter().try_for_each(|candidate| write!(f, "\n  {candidate}"))?;
                f.write_str("\ngive the file that was running with `--image IMAGE`")?;
                if *build == BuildId::UNKNOWN {
                    f.write_str(" and, if you are sure of it, `--force`")?;
                }
                Ok(())
            }
        }
    }
}

impl Error for Refusal {}
