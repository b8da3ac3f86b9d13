//! The command line.

use std::{fs, path::PathBuf};

use crate::{
    image::ImageFile,
    report::{Candidate, Report, Trust},
};

/// How it is asked.
pub const USAGE: &str = "usage: tasks FILE [--image IMAGE].. [--force]

Prints the tasks in a dump as a tree: executors, scopes, tasks, and where each of them waits.

  FILE           what `Table::save` has written, or any copy of memory in which a pool or table of tasks is in one
                 piece: a debugger's `.writemem`, a dump of virtual memory
  --image IMAGE  the .sys or program that was running, from which the names are; of several, those are taken that are
                 of the tables' builds
  --force        take the first image though it is not shown to be the right one";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    file: PathBuf,
    images: Vec<PathBuf>,
    trust: Trust,
}

impl Request {
    /// Reads the words after the command's name.
    ///
    /// # Errors
    ///
    /// A message for whoever typed them.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut file, mut images, mut trust) = (None, Vec::new(), Trust::Build);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--image" => {
                    let image = words.next().ok_or("`--image` is followed by the file of an image")?;
                    images.push(PathBuf::from(image));
                }
                "--force" => trust = Trust::Anything,
                option if option.starts_with("--") => return Err(format!("there is no option `{option}`")),
                _ if file.is_some() => {
                    return Err(format!("`{word}` is a second FILE; one is read at a time"));
                }
                _ => file = Some(PathBuf::from(word)),
            }
        }
        let file = file.ok_or("the FILE is missing")?;
        Ok(Self { file, images, trust })
    }

    /// Reads the files. What is to be printed.
    ///
    /// # Errors
    ///
    /// A message that names the file, what is wrong with it and what to do.
    pub fn carry_out(&self) -> Result<String, String> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let dump = read(&self.file)?;
        let candidate = |path: &PathBuf| {
            let image = ImageFile::parse(read(path)?);
            Ok(Candidate { name: path.display().to_string(), image })
        };
        let candidates = self.images.iter().map(candidate).collect::<Result<Vec<_>, String>>()?;
        let report = Report::of(&dump, &candidates, self.trust);
        report
            .map(|report| report.to_string())
            .map_err(|refusal| format!("{}: {refusal}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        Request::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_come_in_any_order() {
        let request = Request {
            file: "dump".into(),
            images: vec!["a.sys".into(), "b.sys".into()],
            trust: Trust::Anything,
        };
        assert_eq!(parsed("--image a.sys dump --force --image b.sys"), Ok(request));
        assert_eq!(parsed("dump").map(|request| request.trust), Ok(Trust::Build));
    }

    #[test]
    fn messages_name_the_word() {
        let message = |line| parsed(line).expect_err("this makes no sense");
        assert!(message("").contains("FILE"));
        assert!(message("a b").contains("`b`"));
        assert!(message("a --imgae b").contains("`--imgae`"));
        assert!(message("a --image").contains("`--image`"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let missing = parsed("no-such-file").expect("it makes sense").carry_out();
        assert!(missing.is_err_and(|message| message.starts_with("no-such-file: ")));
    }
}
