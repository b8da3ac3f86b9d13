//! What can happen, and the bytes that stand for it.
//!
//! The bytes are read from the front to the back, so that an input can also be written by hand: see [`script`].
#![forbid(unsafe_code)]

use arbitrary::{Result, Unstructured};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The guest asks, in the place of what it has asked there before.
    Ask {
        /// The place.
        which: u8,
        /// What.
        ask: Ask,
    },
    /// It does not want to know any more.
    Drop {
        /// The place.
        which: u8,
    },
    /// The oldest request is answered as it should be.
    Serve,
    /// A request is answered.
    Reply {
        /// Which of those that are open, in the order in which they came.
        which: u8,
        /// How.
        form: Form,
        /// Anything.
        payload: Vec<Part>,
    },
    /// The last watch that was set has an event.
    Event {
        /// What its path is,
        path: Part,
        /// unless it is the one that is watched.
        is_right: bool,
    },
    /// Bytes for the guest.
    Bytes(Vec<u8>),
    /// A word of the page is set.
    Word {
        /// The indices in their order, the features, the state, and the error.
        word: u8,
        /// Anything.
        value: u32,
    },
    /// An index is moved a little.
    Move {
        /// Which.
        word: u8,
        /// By so much.
        by: i16,
    },
    /// The connection begins anew, if the guest has asked for that.
    Renew,
    /// The guest connects, to an empty ring: as after a suspend.
    Connect,
    /// The guest cuts the connection.
    Disconnect,
    /// Time goes by.
    Time {
        /// So long.
        seconds: u8,
    },
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A value.
    Read,
    /// A value, and at once.
    Soon,
    /// A number.
    Number,
    /// Sets a value, a long one.
    Write,
    /// Makes a node.
    Make,
    /// Removes it.
    Remove,
    /// The names of its children.
    Directory,
    /// Who may do what with it.
    Permissions,
    /// Says who may.
    SetPermissions,
    /// Watches it, for three events.
    Watch,
    /// Reads it in a transaction.
    Transaction,
    /// The same, and thinks better of it.
    Abort,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Right,
    /// It has this type.
    Type(u32),
    /// It is to this request.
    Id(u32),
    /// It is of this transaction.
    Transaction(u32),
    /// It says that it has this length.
    Length(u32),
}

/// A part of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Something that means something.
    Known(&'static [u8]),
    /// Anything.
    Bytes(Vec<u8>),
    /// So many bytes of a value.
    Long(u16),
}

impl Part {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Known(known) => known.to_vec(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Long(length) => vec![b'v'; usize::from(*length)],
        }
    }
}

const ASKS: [Ask; 12] = [
    Ask::Read,
    Ask::Soon,
    Ask::Number,
    Ask::Write,
    Ask::Make,
    Ask::Remove,
    Ask::Directory,
    Ask::Permissions,
    Ask::SetPermissions,
    Ask::Watch,
    Ask::Transaction,
    Ask::Abort,
];

/// What means something somewhere: bytes by chance hardly ever would.
const KNOWN: &[&[u8]] = &[
    b"OK\0",
    b"12",
    b"1",
    b"0\0",
    b"17\0",
    b"4294967296",
    b"a\0",
    b"a\0b\0",
    b"a/b\0",
    b"5\0a\0",
    b"5\0a\0b\0\0",
    b"6\0a\0",
    b"n0\0",
    b"n0\0r1\0b65535\0",
    b"x1\0",
    b"\0",
    b"EAGAIN\0",
    b"E2BIG\0",
    b"ENOENT\0",
    b"EEXIST\0",
    b"ENOSPC\0",
    b"EWHATEVER\0",
    b"a/below",
    b"abc",
];

/// A tag from here on is not that of a known part.
const BYTES: u8 = 0xF0;
const LONG: u8 = 0xF8;

/// The type of an error is one of four by chance.
const ERROR: u32 = 16;

impl Action {
    /// The actions of an input, at most so many.
    pub(super) fn decode_all(input: &[u8], most: usize) -> Vec<Self> {
        let mut input = Unstructured::new(input);
        let mut actions = Vec::new();
        while actions.len() < most
            && !input.is_empty()
            && let Ok(action) = Self::decode(&mut input)
        {
            actions.push(action);
        }
        actions
    }

    fn decode(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(input)? % 16 {
            0..=2 => Self::Ask { which: byte(input)?, ask: ASKS[usize::from(byte(input)?) % ASKS.len()] },
            3 => Self::Drop { which: byte(input)? },
            4 | 5 => Self::Serve,
            6..=8 => Self::Reply {
                which: byte(input)?,
                form: Form::decode(input)?,
                payload: (0..byte(input)? % 3).map(|_| Part::decode(input)).collect::<Result<_>>()?,
            },
            9 => Self::Event { is_right: byte(input)? % 2 == 0, path: Part::decode(input)? },
            10 => Self::Bytes(bytes(input)?.to_vec()),
            11 => Self::Word { word: byte(input)?, value: input.arbitrary()? },
            12 => Self::Move { word: byte(input)?, by: input.arbitrary()? },
            13 => Self::Renew,
            14 => match byte(input)? % 3 {
                0 => Self::Disconnect,
                _ => Self::Connect,
            },
            _ => Self::Time { seconds: byte(input)? },
        })
    }

    fn encode(&self, script: &mut Vec<u8>) {
        match self {
            Self::Ask { which, ask } => {
                let index = ASKS.iter().position(|known| known == ask);
                script.extend([0, *which, number(index.expect("a known question"))]);
            }
            Self::Drop { which } => script.extend([3, *which]),
            Self::Serve => script.push(4),
            Self::Reply { which, form, payload } => {
                script.extend([6, *which]);
                form.encode(script);
                script.push(number(payload.len()));
                for part in payload {
                    part.encode(script);
                }
            }
            Self::Event { path, is_right } => {
                script.extend([9, u8::from(!is_right)]);
                path.encode(script);
            }
            Self::Bytes(bytes) => {
                script.extend([10, number(bytes.len())]);
                script.extend(bytes);
            }
            Self::Word { word, value } => {
                script.extend([11, *word]);
                script.extend(value.to_le_bytes());
            }
            Self::Move { word, by } => {
                script.extend([12, *word]);
                script.extend(by.to_le_bytes());
            }
            Self::Renew => script.push(13),
            Self::Disconnect => script.extend([14, 0]),
            Self::Connect => script.extend([14, 1]),
            Self::Time { seconds } => script.extend([15, *seconds]),
        }
    }
}

impl Form {
    fn decode(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(input)? % 12 {
            0..=4 => Self::Right,
            5..=7 => Self::Type(ERROR),
            8 => Self::Type(input.arbitrary()?),
            9 => Self::Id(input.arbitrary()?),
            10 => Self::Transaction(input.arbitrary()?),
            _ => Self::Length(input.arbitrary()?),
        })
    }

    fn encode(self, script: &mut Vec<u8>) {
        let (tag, value) = match self {
            Self::Right => return script.push(0),
            Self::Type(ERROR) => return script.push(5),
            Self::Type(value) => (8, value),
            Self::Id(value) => (9, value),
            Self::Transaction(value) => (10, value),
            Self::Length(value) => (11, value),
        };
        script.push(tag);
        script.extend(value.to_le_bytes());
    }
}

impl Part {
    fn decode(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(input)? {
            tag @ 0..BYTES => Self::Known(KNOWN[usize::from(tag) % KNOWN.len()]),
            BYTES..LONG => Self::Bytes(bytes(input)?.to_vec()),
            LONG.. => Self::Long(input.arbitrary::<u16>()? % 4200),
        })
    }

    fn encode(&self, script: &mut Vec<u8>) {
        match self {
            Self::Known(known) => {
                let index = KNOWN.iter().position(|other| other == known);
                script.push(number(index.expect("a known part")));
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

/// The input that stands for these actions.
///
/// # Panics
///
/// A part is none of the known ones, or a list is too long.
#[must_use]
pub fn script(actions: &[Action]) -> Vec<u8> {
    let mut script = Vec::new();
    for action in actions {
        action.encode(&mut script);
    }
    script
}

fn byte(input: &mut Unstructured<'_>) -> Result<u8> {
    input.arbitrary()
}

/// Up to 63 bytes, which their number comes before.
fn bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = byte(input)? % 64;
    input.bytes(length.into())
}

fn number(number: usize) -> u8 {
    u8::try_from(number).expect("it is small")
}
