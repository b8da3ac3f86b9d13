//! What guests do, and how an input says it.
#![forbid(unsafe_code)]

/// A number that is interesting in some place: which kind it is, and which of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// What kind of number.
    pub kind: Kind,
    /// Which of them.
    pub which: u8,
}

/// Writes an enumeration of which each byte is one.
macro_rules! coded {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $what:literal])+ $variant:ident,)* }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $what])+ $variant,)*
        }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            fn decode(byte: u8) -> Self {
                Self::ALL[usize::from(byte) % Self::ALL.len()]
            }

            fn encode(self) -> u8 {
                Self::ALL.iter().position(|one| *one == self).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
            }
        }
    };
}

coded! {
    /// Kinds of numbers.
    Kind {
        /// The number itself.
        Small,
        /// An address that the guest's arguments can have, a multiple of eight from their beginning.
        Argument,
        /// The same, but three bytes further.
        Misaligned,
        /// So many bytes before the end of all arguments.
        End,
        /// The number of a page that the guest has, or had.
        Page,
        /// The address of one.
        PageAddress,
        /// A power of two.
        Power,
        /// The largest number, less so many.
        Huge,
    }
}

coded! {
    /// What is done.
    Deed {
        /// A hypercall: its number, and five arguments.
        Call,
        /// A number is written where arguments are: at an address, a number.
        Poke,
        /// `GNTTABOP_map_grant_ref`: a place, flags, an entry, a domain, a count.
        Map,
        /// `GNTTABOP_unmap_grant_ref`: a place, a handle, a count.
        Unmap,
        /// `GNTTABOP_copy`: a page, a domain, an offset, twice, and flags, whose kind is the length.
        Copy,
        /// Another grant table command: which, a domain, a count, an address.
        Table,
        /// `XENMEM_add_to_physmap`: a space, an index, a place, a size, a domain, where it begins.
        Place,
        /// `XENMEM_remove_from_physmap`: a place, a domain.
        Remove,
        /// A change of the reservation: which, an order, flags, three extents, a domain.
        Extents,
        /// An entry of the grant table is written: which, flags, a domain, a page, how.
        Entry,
        /// A page is touched: which, where, how, with what.
        Touch,
        /// The kernel is asked: for a page, a hole, a page of the toolstack's; or a page is given back: which.
        Kernel,
        /// A backend: what it does, with an entry, at an offset.
        Backend,
        /// An event channel command: which, two domains, and what is behind them.
        Event,
        /// A command about a virtual CPU: which, whose, and two words of its argument.
        Vcpu,
        /// A parameter of the domain's, or another command of that call: which, a domain, an index, a value.
        Hvm,
        /// A scheduler command: which, two words of its argument; and what becomes of a guest that suspends.
        Sched,
        /// A register of the processor's is written: which, counted from the first of Xen's, with what.
        Msr,
    }
}

/// Something that a guest does, or a backend with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub deed: Deed,
    /// The lowest bit says which guest, the next on which of its processors.
    pub who: u8,
    /// With which numbers; those that it does not need are ignored.
    pub numbers: [Number; 7],
}

impl Action {
    /// Bytes of an action.
    pub const SIZE: usize = 16;

    /// Any bytes are one.
    #[must_use]
    pub fn decode(bytes: [u8; Self::SIZE]) -> Self {
        let [deed, who, numbers @ ..] = bytes;
        let number =
            |index: usize| Number { kind: Kind::decode(numbers[index * 2]), which: numbers[index * 2 + 1] };
        Self { deed: Deed::decode(deed), who, numbers: std::array::from_fn(number) }
    }

    /// The bytes that say this.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..2].copy_from_slice(&[self.deed.encode(), self.who]);
        for (bytes, number) in bytes[2..].chunks_exact_mut(2).zip(self.numbers) {
            bytes.copy_from_slice(&[number.kind.encode(), number.which]);
        }
        bytes
    }

    /// The first guest does something, on its first processor, with these numbers and zeros.
    #[must_use]
    pub fn new(deed: Deed, given: &[(Kind, u8)]) -> Self {
        let mut numbers = [Number { kind: Kind::Small, which: 0 }; 7];
        for (number, (kind, which)) in numbers.iter_mut().zip(given) {
            *number = Number { kind: *kind, which: *which };
        }
        Self { deed, who: 0, numbers }
    }

    /// The second guest does it.
    #[must_use]
    pub fn by_the_other(self) -> Self {
        Self { who: self.who | 1, ..self }
    }
}

/// What an input says: how much the guests may have, in the first byte, and whole actions, no more than are worth the
/// time.
#[must_use]
pub fn decode(input: &[u8]) -> (u8, Vec<Action>) {
    const MOST: usize = 64;
    let (options, actions) = input.split_first().unwrap_or((&0, &[]));
    let actions = actions.chunks_exact(Action::SIZE).filter_map(|chunk| chunk.try_into().ok());
    (*options, actions.map(Action::decode).take(MOST).collect())
}

/// The input that says this.
#[must_use]
pub fn encode(options: u8, actions: &[Action]) -> Vec<u8> {
    [options].into_iter().chain(actions.iter().flat_map(|action| action.encode())).collect()
}
