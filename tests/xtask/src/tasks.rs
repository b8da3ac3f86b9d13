//! Prints the tasks in a dump: by a package of its own, which knows the task table's format from kexec.
//!
//! This package must build, and say what is wrong, while kexec does not.

use std::path::{Path, PathBuf, absolute};

use anyhow::Result;

use crate::host::Host;

/// Shows the tree, or says why not. Without an image among the arguments, those that `dist` has built are looked through.
///
/// # Errors
///
/// There is no current directory.
pub fn run(host: &Host, arguments: &[String]) -> Result<bool> {
    let line = host.cargo().words("run --quiet --package kexec-tasks --");
    let line = arguments.iter().try_fold(line, |line, word| {
        // The program runs at the top of the repository, and is told paths from where we are.
        if word.starts_with("--") { Ok(line.word(word)) } else { absolute(word).map(|path| line.path(&path)) }
    })?;
    let given = arguments.iter().any(|word| word == "--image");
    let built = if given { Vec::new() } else { built_images(&host.target().join("dist")) };
    let line = built.iter().fold(line, |line, image| line.word("--image").path(image));
    // It has said what is wrong.
    Ok(line.run().is_ok())
}

/// The `.sys` files in the folders of a folder, in the order of their names.
fn built_images(dist: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = entries(dist).into_iter().flat_map(|folder| entries(&folder));
    let mut images: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "sys")).collect();
    images.sort();
    images
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn built_images_are_found_and_nothing_else() {
        let dist = std::env::temp_dir().join(format!("xtask-tasks-{}", std::process::id()));
        for file in ["b/b.sys", "a/a.sys", "a/a.pdb", "c.sys"] {
            let path = dist.join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
            fs::write(path, "").expect("there is room");
        }
        assert_eq!(built_images(&dist), [dist.join("a/a.sys"), dist.join("b/b.sys")]);
        fs::remove_dir_all(&dist).expect("it is there");
        assert_eq!(built_images(&dist), [""; 0].map(PathBuf::from), "nothing has been built");
    }
}
