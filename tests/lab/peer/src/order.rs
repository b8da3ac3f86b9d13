//! What was asked for.
#![forbid(unsafe_code)]

use std::{num::NonZeroU64, str::FromStr};

/// One invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The guest.
    pub(crate) domain: u16,
    /// Its port.
    pub(crate) port: u32,
    pub(crate) play: Play,
}

/// What is done, with which of the guest's grants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Play {
    Hold { references: Vec<u32> },
    Storm { reference: u32, count: NonZeroU64 },
    Echo { reference: u32 },
}

const USAGE: &str = "usage: peer hold DOMAIN PORT REF.. | storm DOMAIN PORT REF COUNT | echo DOMAIN PORT REF";

impl Order {
    /// Reads the words of a command line.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let name = words.next().ok_or(USAGE)?;
        if !["hold", "storm", "echo"].contains(&name.as_str()) {
            return Err(format!("there is no `{name}`; {USAGE}"));
        }
        let (domain, port) = (number(words.next(), "DOMAIN")?, number(words.next(), "PORT")?);
        let reference = number(words.next(), "REF")?;
        let play = match name.as_str() {
            "hold" => {
                let others = words.by_ref().map(|word| number(Some(word), "REF"));
                Play::Hold {
                    references: [Ok(reference)].into_iter().chain(others).collect::<Result<_, _>>()?,
                }
            }
            "storm" => Play::Storm { reference, count: number(words.next(), "COUNT")? },
            _ => Play::Echo { reference },
        };
        match words.next() {
            Some(word) => Err(format!("`{word}` is one word too many; {USAGE}")),
            None => Ok(Self { domain, port, play }),
        }
    }
}

fn number<N: FromStr>(word: Option<String>, what: &str) -> Result<N, String> {
    let word = word.ok_or_else(|| format!("{what} is missing; {USAGE}"))?;
    word.parse().map_err(|_| format!("`{word}` is no {what}; {USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, String> {
        Order::parse(line.split_whitespace().map(str::to_owned))
    }

    /// Each number is where the usage has it: a port taken for a reference would map a stranger's page.
    #[test]
    fn words_are_taken_in_their_order() {
        let order = |play| Ok(Order { domain: 3, port: 7, play });
        assert_eq!(parsed("hold 3 7 8"), order(Play::Hold { references: vec![8] }));
        assert_eq!(parsed("hold 3 7 8 10 9"), order(Play::Hold { references: vec![8, 10, 9] }));
        let count = NonZeroU64::new(1000).expect("it is not zero");
        assert_eq!(parsed("storm 3 7 8 1000"), order(Play::Storm { reference: 8, count }));
        assert_eq!(parsed("echo 3 7 8"), order(Play::Echo { reference: 8 }));
    }

    /// A script that says nonsense is told which word it is, and what would be sense.
    #[test]
    fn messages_name_what_is_wrong() {
        for (line, named) in [
            ("", "usage"),
            ("hodl 3 7 8", "`hodl`"),
            ("hold", "DOMAIN is missing"),
            ("hold 3", "PORT is missing"),
            ("hold 3 7", "REF is missing"),
            ("storm 3 7 8", "COUNT is missing"),
            ("hold 65536 7 8", "`65536` is no DOMAIN"),
            ("hold 3 -7 8", "`-7` is no PORT"),
            ("hold 3 7 8 0x9", "`0x9` is no REF"),
            ("storm 3 7 8 0", "`0` is no COUNT"),
            ("storm 3 7 8 1 2", "`2` is one word too many"),
            ("echo 3 7 8 9", "`9` is one word too many"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(named) && message.contains("usage"), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
