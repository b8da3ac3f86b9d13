//! What happens, and how an input says it.
#![forbid(unsafe_code)]

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An upcall, with a budget of one more than `which`.
    Upcall,
    /// The owner of a channel asks for its next event.
    Ask,
    /// A port's word is `value`.
    Word,
    /// It is `value` after one more access of the next upcall.
    Later,
    /// Bits of it change at each access of the next upcall: those of `value`.
    Restless,
    /// The control block's `ready` is `value`.
    Ready,
    /// The head of a queue is `value`.
    Head,
}

const KINDS: [Kind; 7] =
    [Kind::Upcall, Kind::Ask, Kind::Word, Kind::Later, Kind::Restless, Kind::Ready, Kind::Head];

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub kind: Kind,
    /// Of which port or queue.
    pub which: u8,
    /// With which value.
    pub value: u32,
}

impl Action {
    /// Bytes of an action.
    pub const SIZE: usize = 6;

    /// It happens to this port or queue.
    #[must_use]
    pub const fn new(kind: Kind, which: u8, value: u32) -> Self {
        Self { kind, which, value }
    }

    fn of(bytes: [u8; Self::SIZE]) -> Self {
        let [kind, which, value @ ..] = bytes;
        let value = u32::from_le_bytes(value);
        // Three in four links go to ports that are there, or to their neighbours.
        let value =
            if kind & 0xC0 == 0xC0 { value } else { value & 0xF000_000F | u32::from(kind & 0x40) << 4 };
        Self { kind: KINDS[usize::from(kind & 0x3F) % KINDS.len()], which, value }
    }
}

/// What an input says: whole actions, no more than are worth the time.
#[must_use]
pub fn decode(input: &[u8]) -> Vec<Action> {
    const MOST: usize = 64;
    let actions = input.chunks_exact(Action::SIZE).filter_map(|chunk| chunk.try_into().ok());
    actions.map(Action::of).take(MOST).collect()
}

/// The input that says this.
#[must_use]
pub fn encode(actions: &[Action]) -> Vec<u8> {
    let bytes = |action: &Action| {
        let kind = KINDS.iter().position(|kind| *kind == action.kind).unwrap_or(0);
        let [a, b, c, d] = action.value.to_le_bytes();
        [u8::try_from(kind).unwrap_or(0) | 0xC0, action.which, a, b, c, d]
    };
    actions.iter().flat_map(bytes).collect()
}
