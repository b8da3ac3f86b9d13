//! Where the images are that `cargo xtask dist` has built, and whether they are newer than their sources.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// A folder with a folder for each image; without it, `dist` in the target directory is meant.
const FOLDER: &str = "NT_SIM_IMAGES";

/// What an image is built from, beside the library below the folder of its own.
const SOURCES: &[(&str, &[&str])] =
    &[("probe", &["kexec/nt-sys", "tests/nt/probe"]), ("xenbus", &["kexec", "xenbus"])];

/// An image file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// Reads an image that is not older than its sources. The error says what to do.
pub(crate) fn read(name: &str) -> Result<File, String> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/nt is two folders deep");
    let (folder, is_given) = match std::env::var_os(FOLDER) {
        Some(folder) => (PathBuf::from(folder), true),
        None => (target_directory(workspace).join("dist"), false),
    };
    let path = folder.join(name).join(format!("{name}.sys"));
    let missing = |error: io::Error| format!("{}: {error}; run `cargo xtask dist`", path.display());
    let bytes = fs::read(&path).map_err(missing)?;
    let built = fs::metadata(&path).and_then(|file| file.modified()).map_err(missing)?;
    // An image from elsewhere is taken as it is.
    let sources = SOURCES.iter().find(|(image, _)| *image == name && !is_given);
    for root in sources.into_iter().flat_map(|(_, roots)| *roots) {
        if let Some(newer) = newer_source(&workspace.join(root), built) {
            let (path, newer) = (path.display(), newer.display());
            return Err(format!("{path} is older than {newer}; run `cargo xtask dist`"));
        }
    }
    Ok(File { path, bytes })
}

fn target_directory(workspace: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// A source file below a folder that is newer than the image.
fn newer_source(folder: &Path, built: SystemTime) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            // Tests are in no image.
            return if path.ends_with("tests") { None } else { newer_source(&path, built) };
        }
        let is_source = path.extension().is_some_and(|extension| extension == "rs" || extension == "def");
        let is_newer = || fs::metadata(&path).and_then(|file| file.modified()).is_ok_and(|time| time > built);
        (is_source && is_newer()).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_newer_source_is_found_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("nt-sim-images-{}", std::process::id()));
        for (path, text) in
            [("src/deep/lib.rs", "source"), ("def/hal.def", "source"), ("tests/a.rs", "no source")]
        {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
            fs::write(path, text).expect("there is room");
        }
        let newer = |built| newer_source(&folder, built).is_some();
        assert!(newer(SystemTime::UNIX_EPOCH));
        assert!(!newer(SystemTime::now() + Duration::from_mins(1)));
        fs::remove_file(folder.join("src/deep/lib.rs")).expect("it is there");
        assert!(newer(SystemTime::UNIX_EPOCH), "a .def is a source");
        fs::remove_file(folder.join("def/hal.def")).expect("it is there");
        assert!(!newer(SystemTime::UNIX_EPOCH), "tests are in no image");
        fs::remove_dir_all(folder).expect("it is there");
    }

    #[test]
    fn a_missing_image_says_what_to_do() {
        let error = read("no-such-image").expect_err("there is none");
        assert!(error.contains("no-such-image.sys") && error.contains("cargo xtask dist"), "{error}");
    }
}
