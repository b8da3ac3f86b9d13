//! What was asked for.

use std::{fmt, path::PathBuf};

/// One invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The guest's image.
    pub(crate) guest: PathBuf,
    /// Where packages, images and logs are.
    pub(crate) folder: PathBuf,
    /// The xenstoreds that the guest is to meet, one after the other.
    pub(crate) daemons: Vec<Daemon>,
}

/// A xenstored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// In C.
    Xenstored,
    /// In OCaml.
    Oxenstored,
}

impl Daemon {
    const ALL: [Self; 2] = [Self::Xenstored, Self::Oxenstored];

    /// What the program is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xenstored => "xenstored",
            Self::Oxenstored => "oxenstored",
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Order {
    /// Reads the words of a command line: the guest's image, the folder, and then daemons; without any, all.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let (Some(guest), Some(folder)) = (words.next(), words.next()) else {
            return Err(
                "usage: xen-lab GUEST FOLDER [xenstored|oxenstored..]; `cargo xtask lab` does that".into()
            );
        };
        let mut daemons = Vec::new();
        for word in words {
            let daemon = Daemon::ALL.into_iter().find(|daemon| daemon.name() == word);
            daemons.push(daemon.ok_or_else(|| {
                format!("the lab knows no `{word}`; there is: {}", Daemon::ALL.map(Daemon::name).join(", "))
            })?);
        }
        if daemons.is_empty() {
            daemons = Daemon::ALL.to_vec();
        }
        Ok(Self { guest: guest.into(), folder: folder.into(), daemons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, String> {
        Order::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_a_name_it_is_all() {
        assert_eq!(parsed("g f").expect("enough").daemons, Daemon::ALL);
        assert_eq!(parsed("g f oxenstored").expect("enough").daemons, [Daemon::Oxenstored]);
    }

    #[test]
    fn messages_name_the_wrong_word_and_the_right_ones() {
        assert!(parsed("g").expect_err("too little").contains("usage"));
        let message = parsed("g f xenstord").expect_err("no such daemon");
        assert!(message.contains("`xenstord`") && message.contains("oxenstored"), "{message}");
    }
}
