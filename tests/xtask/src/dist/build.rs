//! From a package to a kernel image: cargo makes a static library of it, and one linker line an image of that.
//!
//! Why not let rustc link: it makes a DLL of everything that is no program, with an export table, and with the
//! name of a temporary folder in the PDB, which is another each time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Image, TARGET, def, linker::Linker};
use crate::{command::CommandLine, host::Host, toolchain::Toolchain};

/// The profile of the workspace that images are built with.
const PROFILE: &str = "driver";

/// Sources, and where what is made of them goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'t> {
    pub(super) root: &'t Path,
    pub(super) target: &'t Path,
}

/// What builds.
#[derive(Debug)]
pub(super) struct Tools {
    toolchain: Toolchain,
    linker: Linker,
    /// Which they are, for the report.
    pub(super) description: String,
    cargo_home: PathBuf,
    sysroot: PathBuf,
}

/// An image and its symbols, in the folder where they were linked.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) sys: PathBuf,
    pub(super) pdb: PathBuf,
}

impl Built {
    /// The bytes of image and symbols.
    ///
    /// # Errors
    ///
    /// One cannot be read.
    pub(super) fn read(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("could not read {}", path.display()));
        Ok((read(&self.sys)?, read(&self.pdb)?))
    }

    /// Puts both into `folder`, with a report.
    ///
    /// # Errors
    ///
    /// They cannot be put there.
    pub(super) fn deliver(&self, folder: &Path, report: &str) -> Result<()> {
        let deliver = || {
            fs::create_dir_all(folder)?;
            for file in [&self.sys, &self.pdb] {
                fs::copy(file, folder.join(file.file_name().unwrap_or_default()))?;
            }
            fs::write(folder.join("report.txt"), report)
        };
        deliver().with_context(|| format!("could not put {} into {}", self.sys.display(), folder.display()))
    }
}

impl Tools {
    /// Finds them.
    ///
    /// # Errors
    ///
    /// One is missing.
    pub(super) fn find(host: &Host) -> Result<Self> {
        let toolchain = TARGET.toolchain(host)?.context("there is no toolchain for Windows")?;
        let linker = Linker::find(host, toolchain).context("there is no linker for Windows")?;
        let sysroot = toolchain.sysroot(host)?;
        let cargo_home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
            .context("neither CARGO_HOME nor HOME says where cargo keeps the packages")?;
        let description =
            format!("{} with {}, {}", toolchain.version(host)?, toolchain.origin(), linker.version);
        Ok(Self { toolchain, linker, description, cargo_home, sysroot })
    }

    /// Whether there is a linker that goes with the toolchain.
    pub(super) fn have_linker(host: &Host) -> bool {
        let toolchain = TARGET.toolchain(host).ok().flatten();
        toolchain.is_some_and(|toolchain| Linker::find(host, toolchain).is_some())
    }

    /// The folders of this machine that a build of `tree` sees, and the names that go into the image instead.
    pub(super) fn aliases<'a>(&'a self, tree: Tree<'a>) -> [(&'a Path, &'static str); 4] {
        let mut aliases = [
            (tree.root, "/source"),
            (tree.target, "/target"),
            (&self.cargo_home, "/cargo"),
            (&self.sysroot, "/rust"),
        ];
        // If one is inside another, rustc takes the last that fits.
        aliases.sort_by_key(|(folder, _)| folder.components().count());
        aliases
    }

    /// Builds the image.
    ///
    /// # Errors
    ///
    /// It does not compile, or does not link.
    pub(super) fn build(&self, tree: Tree<'_>, image: &Image) -> Result<Built> {
        let library = self.compile(tree, image)?;
        let folder = tree.target.join("link").join(image.name);
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        // The PDB names what was linked, so everything is in one folder and called by its plain name.
        let input = format!("{}.lib", image.name);
        fs::copy(&library, folder.join(&input))
            .with_context(|| format!("could not copy {}", library.display()))?;
        let mut inputs = vec![input];
        inputs.extend(def::import_libraries(tree.root, &folder)?);
        self.link(&folder, image, &inputs)
    }

    /// Compiles the package and all it depends on into one static library.
    fn compile(&self, tree: Tree<'_>, image: &Image) -> Result<PathBuf> {
        let mut flags =
            vec!["-Ctarget-feature=+crt-static".to_owned(), "-Cforce-unwind-tables=yes".to_owned()];
        for (folder, alias) in self.aliases(tree) {
            flags.push(format!("--remap-path-prefix={}={alias}", folder.display()));
        }
        let flags = toml::Value::try_from(flags)?;
        self.toolchain
            .cargo(tree.root, "rustc")
            .words("--crate-type staticlib --profile")
            .word(PROFILE)
            .word("--package")
            .word(image.package)
            .word("--target-dir")
            .path(tree.target)
            .word("--target")
            .word(TARGET.triple)
            .word("--config")
            .word(format!("target.{}.rustflags={flags}", TARGET.triple))
            // These would go before the flags above, or instead of them.
            .without(&["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"])
            .run()?;
        let name = format!("{}.lib", image.package.replace('-', "_"));
        Ok(tree.target.join(TARGET.triple).join(PROFILE).join(name))
    }

    fn link(&self, folder: &Path, image: &Image, inputs: &[String]) -> Result<Built> {
        let sys = format!("{}.sys", image.name);
        let pdb = format!("{}.pdb", image.name);
        let line = self
            .linker
            .command(folder)
            .words("/NOLOGO /WX /MACHINE:X64 /DRIVER /SUBSYSTEM:NATIVE,10.0 /ENTRY:DriverEntry /NODEFAULTLIB")
            .words("/OSVERSION:10.0 /VERSION:1.0 /DYNAMICBASE /HIGHENTROPYVA /NXCOMPAT /INTEGRITYCHECK")
            // The checksum, which Windows looks at; and nothing that is not referred to.
            .words("/RELEASE /OPT:REF,ICF")
            // The memory of code that runs once is given back, if there is any.
            .words("/SECTION:INIT,ERD")
            // The same bytes whenever and wherever.
            .words("/BREPRO /DEBUG /PDBSOURCEPATH:/target")
            .word(format!("/PDBALTPATH:{pdb}"))
            .word(format!("/PDB:{pdb}"))
            .word(format!("/OUT:{sys}"));
        let line = inputs.iter().fold(line, CommandLine::word).inside(folder);
        let shown = line.to_string();
        let output = line.outcome()?;
        if output.status.success() {
            return Ok(Built { sys: folder.join(sys), pdb: folder.join(pdb) });
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let advice = advice(&said, image.package);
        bail!("{advice}{}\nfrom `{shown}` ({})", said.trim_end(), output.status)
    }
}

/// What to do about the symbols that the linker did not find, a line for each.
fn advice(said: &str, package: &str) -> String {
    let symbols = said.lines().filter_map(|line| line.split_once("undefined symbol: "));
    let names = symbols.map(|(_, symbol)| symbol.trim().trim_start_matches("__imp_"));
    names
        .map(|name| match name {
            "DriverEntry" => format!(
                "`{package}` has no entry point: let it have an `#[unsafe(no_mangle)] extern \"system\" fn DriverEntry`\n"
            ),
            _ => format!(
                "`{name}` is in none of the files in {}: if Windows 10 1809 exports it, add it to the one of the module \
                 that does, with its comment; if a later one does, look it up with MmGetSystemRoutineAddress\n",
                def::FOLDER
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_is_not_found_comes_with_advice() {
        let said = "\
rust-lld: error: <root>: undefined symbol: DriverEntry
rust-lld: error: undefined symbol: __imp_ExAllocatePool2
>>> referenced by /source/xenbus/driver/src/lib.rs:26
>>>               xenbus.lib(xenbus_driver.o):(DriverEntry)
";
        let advice = advice(said, "xenbus-driver");
        let lines: Vec<&str> = advice.lines().collect();
        assert_eq!(lines.len(), 2, "{advice}");
        assert!(lines[0].starts_with("`xenbus-driver` has no entry point"), "{advice}");
        assert!(
            lines[1].starts_with("`ExAllocatePool2` is in none of the files in kexec/nt-sys/def"),
            "{advice}"
        );
    }

    #[test]
    fn other_complaints_need_none() {
        assert_eq!(
            advice("rust-lld: error: could not open 'hal.lib': No such file or directory\n", "nt-probe"),
            ""
        );
    }
}
