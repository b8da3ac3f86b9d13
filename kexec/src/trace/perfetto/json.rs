//! The text of a picture: one JSON object a line.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};
use std::string::String;

/// The objects so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Text(String);

/// A string, quoted.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// Nanoseconds, in the format's unit.
struct Microseconds(u64);

/// What an arrow does at a slice, by its number.
#[derive(Clone, Copy)]
pub(super) enum Arrow {
    None,
    Begins(u64),
    Ends(u64),
}

/// The members of an object, by name; nothing if there are none.
pub(super) struct Arguments<'a>(pub(super) &'a [(&'static str, String)]);

impl Text {
    pub(super) fn name_process(&mut self, process: usize, name: &str) {
        self.name("process_name", process, 0, name);
    }

    pub(super) fn name_thread(&mut self, process: usize, thread: usize, name: &str) {
        self.name("thread_name", process, thread, name);
    }

    fn name(&mut self, what: &str, process: usize, thread: usize, name: &str) {
        let name = Quoted(name);
        self.line(format_args!(
            r#"{{"ph":"M","name":"{what}","pid":{process},"tid":{thread},"args":{{"name":{name}}}}}"#
        ));
    }

    /// An object of a phase, on a track, at a time, with members of its own.
    pub(super) fn object(
        &mut self,
        phase: char,
        (process, thread): (usize, usize),
        time: u64,
        rest: fmt::Arguments<'_>,
    ) {
        let time = Microseconds(time);
        self.line(format_args!(r#"{{"ph":"{phase}","pid":{process},"tid":{thread},"ts":{time}{rest}}}"#));
    }

    /// A slice with its end.
    pub(super) fn slice(
        &mut self,
        track: (usize, usize),
        (begin, end): (u64, u64),
        name: &str,
        arguments: &[(&'static str, String)],
        arrow: Arrow,
    ) {
        let (name, duration) = (Quoted(name), Microseconds(end.saturating_sub(begin)));
        let arguments = Arguments(arguments);
        self.object('X', track, begin, format_args!(r#","dur":{duration},"name":{name}{arrow}{arguments}"#));
    }

    fn line(&mut self, object: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "{}{object}", if self.0.is_empty() { "" } else { ",\n" });
    }

    /// The whole file.
    pub(super) fn close(&self) -> String {
        std::format!("{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{}\n]}}\n", self.0)
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                '\0'..' ' => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

impl fmt::Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Begins(arrow) => write!(f, r#","bind_id":{arrow},"flow_out":true"#),
            Self::Ends(arrow) => write!(f, r#","bind_id":{arrow},"flow_in":true"#),
        }
    }
}

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(r#","args":{"#)?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", Quoted(name), Quoted(value))?;
        }
        f.write_char('}')
    }
}
