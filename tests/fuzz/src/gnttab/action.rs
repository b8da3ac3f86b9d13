//! What is done, and how an input says it.
#![forbid(unsafe_code)]

/// Writes the enumeration of deeds, of which each byte is one.
macro_rules! deeds {
    ($($(#[doc = $what:literal])+ $variant:ident,)*) => {
        /// What is done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Deed {
            $($(#[doc = $what])+ $variant,)*
        }

        impl Deed {
            const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    };
}

deeds! {
    /// A page is shared: by which queue; with whom, and for writing or not; how often.
    Share,
    /// A page is taken back: by which queue; which.
    End,
    /// A page that is shared is dropped: which.
    Drop,
    /// Pages are lent: how many; one more than there are or not.
    Lend,
    /// What is lent is taken back: by which queue; which.
    Return,
    /// What is lent is dropped: which.
    DropLoan,
    /// The control domain maps a page: an entry; for writing or not.
    Map,
    /// It writes to a page that it has mapped: which; where.
    Write,
    /// It unmaps a page: which.
    Unmap,
    /// It copies from or to a page: an entry; which.
    Copy,
    /// The guest maps a page of its own, as another would: an entry; for writing or not.
    MapForeign,
    /// It unmaps that: which; with a look at the answer or not.
    UnmapForeign,
    /// Quarantine is looked after.
    Tend,
    /// The guest is suspended: and moved, or not.
    Suspend,
    /// So many references are reserved: by which queue.
    Reserve,
    /// The queues begin anew.
    Restart,
    /// The table is closed.
    Close,
    /// The n-th page from now is not to be had.
    FailAllocation,
    /// The flags of an entry are written: an entry; which.
    Flags,
    /// Bytes of the table are written: an entry; which.
    Bytes,
}

/// Something that is done, with three numbers; those that it does not need are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub deed: Deed,
    /// With which numbers.
    pub numbers: [u8; 3],
}

impl Action {
    /// Bytes of an action.
    pub const SIZE: usize = 4;

    fn decode([deed, numbers @ ..]: [u8; Self::SIZE]) -> Self {
        Self { deed: Deed::ALL[usize::from(deed) % Deed::ALL.len()], numbers }
    }

    fn encode(self) -> [u8; Self::SIZE] {
        let deed = Deed::ALL.iter().position(|deed| *deed == self.deed).and_then(|at| u8::try_from(at).ok());
        let [one, two, three] = self.numbers;
        [deed.expect("it is one of them"), one, two, three]
    }
}

/// What an input says: how much there is, in the first byte, and whole actions, no more than are worth the time.
#[must_use]
pub fn decode(input: &[u8]) -> (u8, Vec<Action>) {
    const MOST: usize = 96;
    let (options, actions) = input.split_first().unwrap_or((&0, &[]));
    let actions = actions.chunks_exact(Action::SIZE).filter_map(|chunk| chunk.try_into().ok());
    (*options, actions.map(Action::decode).take(MOST).collect())
}

/// The input that says this.
#[must_use]
pub fn encode(options: u8, actions: &[Action]) -> Vec<u8> {
    [options].into_iter().chain(actions.iter().flat_map(|action| action.encode())).collect()
}
