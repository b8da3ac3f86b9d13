//! What a backend and a toolstack do, and how an input says it.
#![forbid(unsafe_code)]

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The backend's key `which` gets the `value`.
    Write,
    /// The same of the frontend's key.
    WriteFront,
    /// The backend's key is removed.
    Remove,
    /// The same of the frontend's.
    RemoveFront,
    /// The backend's directory is removed, the frontend's, or both.
    Vanish,
    /// A toolstack makes the device, as if there had been none.
    Make,
    /// The frontend's directory is made anew, and is not the guest's any more.
    Take,
    /// The backend does from now on what it should, or does no more.
    Behave,
    /// One of the guest's next requests is refused, for the reason `value`.
    Refuse,
    /// One of its next requests has the `value` as its answer.
    Answer,
    /// The guest suspends itself: in vain, or to go on in another domain.
    Suspend,
    /// So many seconds go by.
    Time,
    /// From now on the frontend stays when it is wanted back, or lets go at once.
    Stay,
    /// The driver is stopped, and another one comes.
    Stop,
}

const KINDS: [Kind; 14] = [
    Kind::Write,
    Kind::WriteFront,
    Kind::Remove,
    Kind::RemoveFront,
    Kind::Vanish,
    Kind::Make,
    Kind::Take,
    Kind::Behave,
    Kind::Refuse,
    Kind::Answer,
    Kind::Suspend,
    Kind::Time,
    Kind::Stay,
    Kind::Stop,
];

/// The backend's keys.
pub const BACKEND: [&str; 4] = ["state", "online", "sectors", "hotplug-status"];

/// The frontend's.
pub const FRONTEND: [&str; 4] = ["backend", "backend-id", "state", "ring-ref"];

/// What a key can be: the states are where their numbers are.
pub const VALUES: [&str; 24] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "",
    " 4",
    "+4",
    "-1",
    "04",
    "4\n",
    "4294967295",
    "4294967296",
    "connected",
    "\u{e4}",
    "/",
    "..",
    "/local/domain/0/backend/other",
    "/a//b",
];

/// What an answer can be besides.
pub const ANSWERS: [&[u8]; 4] = [b"\xFF\xFE", b"2", b"OK\0", b""];

/// Something that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub kind: Kind,
    /// With which of several.
    pub which: u8,
    /// What it is then.
    pub value: u8,
}

impl Action {
    /// Bytes of an action.
    pub const SIZE: usize = 3;

    /// That.
    #[must_use]
    pub const fn new(kind: Kind, which: u8, value: u8) -> Self {
        Self { kind, which, value }
    }

    /// Whether the backend says that it is connected, or that it wants to close.
    pub(super) fn is_patient(self) -> bool {
        let says = (one_of(BACKEND, self.which), one_of(VALUES, self.value));
        self.kind == Kind::Write && matches!(says, ("state", "4" | "5"))
    }

    fn of([kind, which, value]: [u8; Self::SIZE]) -> Self {
        Self { kind: KINDS[usize::from(kind) % KINDS.len()], which, value }
    }
}

/// The actions of an input.
pub(super) fn decode(input: &[u8]) -> impl Iterator<Item = Action> {
    input.as_chunks().0.iter().copied().map(Action::of)
}

/// The input that stands for these actions.
#[must_use]
pub fn encode(actions: &[Action]) -> Vec<u8> {
    let number = |kind| KINDS.iter().position(|one| *one == kind).and_then(|kind| u8::try_from(kind).ok());
    let bytes = |action: &Action| [number(action.kind).unwrap_or(0), action.which, action.value];
    actions.iter().flat_map(bytes).collect()
}

/// One of several.
pub(super) const fn one_of<T: Copy, const N: usize>(all: [T; N], which: u8) -> T {
    all[which as usize % N]
}
