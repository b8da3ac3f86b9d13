//! What can happen, and the bytes that stand for it.
//!
//! The bytes are read from the front to the back, so that an input can also be written by hand: see [`script`].
#![forbid(unsafe_code)]

use arbitrary::{Result, Unstructured};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A guest sends a request of any type and payload.
    Request {
        /// Which.
        guest: usize,
        /// The type, which need not be one.
        r#type: u32,
        /// In which transaction.
        tx: Tx,
        /// Anything.
        payload: Vec<Part>,
    },
    /// A guest sends bytes.
    Bytes {
        /// Which.
        guest: usize,
        /// Anything.
        bytes: Vec<u8>,
    },
    /// A guest writes a word of its page, by which it is no longer one that keeps to the rules.
    Word {
        /// Which.
        guest: usize,
        /// The indices in their order, the features, the state, and the error.
        word: u8,
        /// Anything.
        value: u32,
    },
    /// The daemon does so many steps for a guest, which takes nothing.
    Serve {
        /// Which.
        guest: usize,
        /// How many.
        steps: u8,
    },
    /// A guest takes what there is.
    Take {
        /// Which.
        guest: usize,
    },
    /// The daemon does all it can, and everybody takes what there is.
    Settle,
    /// Dom0 does something.
    Tools {
        /// What.
        kind: Kind,
        /// With which node, if it is with one.
        path: &'static str,
    },
    /// Something goes wrong on purpose.
    Fault {
        /// For whom.
        guest: usize,
        /// What.
        fault: u8,
    },
    /// Time goes by.
    Time {
        /// So long.
        seconds: u8,
    },
}

/// The transaction of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tx {
    /// None.
    None,
    /// One of those that the guest has open.
    Open(u8),
    /// This one.
    Number(u32),
}

/// What dom0 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Creates and introduces a domain.
    Create(usize),
    /// Introduces it, once more perhaps.
    Introduce(usize),
    /// Disconnects it.
    Release(usize),
    /// It is no more.
    Destroy(usize),
    /// It has shut down.
    ShutDown(usize),
    /// It has not, after all.
    Resume(usize),
    /// Its target is the next guest.
    Target(usize),
    /// Writes a node.
    Write,
    /// Removes a node.
    Rm,
    /// Gives a node to a guest.
    Give(usize),
    /// Watches a node.
    Watch,
    /// Takes its events.
    Events,
}

/// A part of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A string that means something, and a nul.
    Known(&'static str),
    /// Anything.
    Bytes(Vec<u8>),
    /// So many bytes of a value.
    Long(u16),
}

impl Part {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Known(string) => [string.as_bytes(), &[0]].concat(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Long(length) => vec![b'v'; usize::from(*length)],
        }
    }
}

/// Strings that mean something somewhere: bytes by chance hardly ever would.
const KNOWN: &[&str] = &[
    "a",
    "a/b",
    "a/b/c",
    "b",
    "/",
    "/local/domain/1",
    "/local/domain/1/a",
    "/local/domain/2/a",
    "/tool",
    "/shared",
    "/shared/x",
    "@releaseDomain",
    "@introduceDomain",
    "",
    "t",
    "u",
    "n1",
    "r2",
    "b0",
    "w3",
    "n2",
    "T",
    "F",
    "0",
    "1",
    "65535",
    "x y",
    "a//b",
    "a/",
    "OK",
];

/// A tag from here on is not that of a known string.
const BYTES: u8 = 0xF0;
const LONG: u8 = 0xF8;

/// A value that just fits a node, one that does not, and all that a message can hold.
const LONGEST: u16 = 4096;

/// Nodes that dom0 does something with.
const NODES: &[&str] = &[
    "/shared",
    "/shared/x",
    "/local/domain/1/a",
    "/local/domain/2",
    "/",
    "@releaseDomain",
    "/tool",
    "bad path",
];

impl Action {
    /// The next action of an input.
    ///
    /// # Errors
    ///
    /// The input ends in the middle of it.
    pub(super) fn decode(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(input)? % 10 {
            0 | 1 => Self::Request {
                guest: guest(input)?,
                r#type: match byte(input)? {
                    0xFF => input.arbitrary()?,
                    kind => (kind % 28).into(),
                },
                tx: match byte(input)? % 8 {
                    0..=3 => Tx::None,
                    4..=6 => Tx::Open(byte(input)?),
                    _ => Tx::Number(input.arbitrary()?),
                },
                payload: (0..byte(input)? % 5).map(|_| Part::decode(input)).collect::<Result<_>>()?,
            },
            2 => Self::Bytes { guest: guest(input)?, bytes: bytes(input)?.to_vec() },
            3 => Self::Word { guest: guest(input)?, word: byte(input)?, value: input.arbitrary()? },
            4 => Self::Serve { guest: guest(input)?, steps: byte(input)? },
            5 => Self::Take { guest: guest(input)? },
            6 => Self::Settle,
            7 => Self::Tools {
                kind: Kind::decode(input)?,
                path: NODES[usize::from(byte(input)?) % NODES.len()],
            },
            8 => Self::Fault { guest: guest(input)?, fault: byte(input)? },
            _ => Self::Time { seconds: byte(input)? },
        })
    }

    fn encode(&self, script: &mut Vec<u8>) {
        match self {
            Self::Request { guest, r#type, tx, payload } => {
                script.extend([0, number(*guest)]);
                match u8::try_from(*r#type) {
                    Ok(known @ 0..28) => script.push(known),
                    _ => script.extend([&[0xFF][..], &r#type.to_le_bytes()].concat()),
                }
                match tx {
                    Tx::None => script.push(0),
                    Tx::Open(which) => script.extend([4, *which]),
                    Tx::Number(number) => script.extend([&[7][..], &number.to_le_bytes()].concat()),
                }
                script.push(number(payload.len()));
                for part in payload {
                    part.encode(script);
                }
            }
            Self::Bytes { guest, bytes } => {
                script.extend([2, number(*guest), number(bytes.len())]);
                script.extend(bytes);
            }
            Self::Word { guest, word, value } => {
                script.extend([3, number(*guest), *word]);
                script.extend(value.to_le_bytes());
            }
            Self::Serve { guest, steps } => script.extend([4, number(*guest), *steps]),
            Self::Take { guest } => script.extend([5, number(*guest)]),
            Self::Settle => script.push(6),
            Self::Tools { kind, path } => {
                script.push(7);
                kind.encode(script);
                script.push(number(NODES.iter().position(|node| node == path).expect("a known node")));
            }
            Self::Fault { guest, fault } => script.extend([8, number(*guest), *fault]),
            Self::Time { seconds } => script.extend([9, *seconds]),
        }
    }
}

impl Part {
    fn decode(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(input)? {
            tag @ 0..BYTES => Self::Known(KNOWN[usize::from(tag) % KNOWN.len()]),
            BYTES..LONG => Self::Bytes(bytes(input)?.to_vec()),
            LONG.. => Self::Long(input.arbitrary::<u16>()? % (LONGEST + 1)),
        })
    }

    fn encode(&self, script: &mut Vec<u8>) {
        match self {
            Self::Known(string) => {
                let index = KNOWN.iter().position(|known| known == string);
                script.push(number(index.expect("a known string")));
            }
            Self::Bytes(bytes) => {
                script.extend([BYTES, number(bytes.len())]);
                script.extend(bytes);
            }
            Self::Long(length) => {
                script.push(LONG);
                script.extend(length.to_le_bytes());
            }
        }
    }
}

impl Kind {
    fn decode(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(input)? % 12 {
            0 => Self::Create(guest(input)?),
            1 => Self::Introduce(guest(input)?),
            2 => Self::Release(guest(input)?),
            3 => Self::Destroy(guest(input)?),
            4 => Self::ShutDown(guest(input)?),
            5 => Self::Resume(guest(input)?),
            6 => Self::Target(guest(input)?),
            7 => Self::Give(guest(input)?),
            8 => Self::Write,
            9 => Self::Rm,
            10 => Self::Watch,
            _ => Self::Events,
        })
    }

    fn encode(self, script: &mut Vec<u8>) {
        match self {
            Self::Create(guest) => script.extend([0, number(guest)]),
            Self::Introduce(guest) => script.extend([1, number(guest)]),
            Self::Release(guest) => script.extend([2, number(guest)]),
            Self::Destroy(guest) => script.extend([3, number(guest)]),
            Self::ShutDown(guest) => script.extend([4, number(guest)]),
            Self::Resume(guest) => script.extend([5, number(guest)]),
            Self::Target(guest) => script.extend([6, number(guest)]),
            Self::Give(guest) => script.extend([7, number(guest)]),
            Self::Write => script.push(8),
            Self::Rm => script.push(9),
            Self::Watch => script.push(10),
            Self::Events => script.push(11),
        }
    }
}

/// The input that stands for these actions, after the options.
///
/// # Panics
///
/// A string or node is none of the known ones, a list is too long, or there is no such guest.
#[must_use]
pub fn script(options: u8, actions: &[Action]) -> Vec<u8> {
    let mut script = vec![options];
    for action in actions {
        action.encode(&mut script);
    }
    script
}

fn byte(input: &mut Unstructured<'_>) -> Result<u8> {
    input.arbitrary()
}

fn guest(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(usize::from(byte(input)? % 3))
}

fn bytes<'i>(input: &mut Unstructured<'i>) -> Result<&'i [u8]> {
    let length = byte(input)?;
    input.bytes(length.into())
}

fn number(number: usize) -> u8 {
    u8::try_from(number).expect("it fits a byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that is written by hand must be the input that it looks like.
    #[test]
    fn a_script_is_read_as_it_was_written() {
        let payload = vec![Part::Known("a"), Part::Bytes(vec![1, 2]), Part::Long(4096)];
        let mut actions = vec![
            Action::Request { guest: 2, r#type: 27, tx: Tx::None, payload },
            Action::Request { guest: 1, r#type: 28, tx: Tx::Open(200), payload: Vec::new() },
            Action::Request { guest: 0, r#type: u32::MAX, tx: Tx::Number(1 << 31), payload: Vec::new() },
            Action::Bytes { guest: 1, bytes: vec![7; 255] },
            Action::Word { guest: 1, word: 200, value: 0xDEAD_BEEF },
            Action::Serve { guest: 1, steps: 255 },
            Action::Take { guest: 2 },
            Action::Settle,
            Action::Fault { guest: 1, fault: 11 },
            Action::Time { seconds: 21 },
        ];
        let kinds = [
            Kind::Create(1),
            Kind::Introduce(1),
            Kind::Release(1),
            Kind::Destroy(1),
            Kind::ShutDown(1),
            Kind::Resume(1),
            Kind::Target(1),
            Kind::Give(1),
            Kind::Write,
            Kind::Rm,
            Kind::Watch,
            Kind::Events,
        ];
        actions.extend(kinds.map(|kind| Action::Tools { kind, path: "/tool" }));
        let script = script(3, &actions);
        let mut input = Unstructured::new(&script);
        assert_eq!(byte(&mut input), Ok(3));
        for action in actions {
            assert_eq!(Action::decode(&mut input), Ok(action));
        }
        assert!(input.is_empty());
    }
}
