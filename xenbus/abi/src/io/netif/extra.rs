//! `io/netif.h`, section "Extra Info": what a packet may carry beside its bytes.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

/// `struct netif_extra_info`. What it says depends on its type: [`gso`](Self::gso), [`mcast`](Self::mcast) and
/// [`hash`](Self::hash) read it as each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExtraInfo {
    /// `XEN_NETIF_EXTRA_TYPE_*`.
    pub r#type: u8,
    /// [`XEN_NETIF_EXTRA_FLAG_MORE`], or zero.
    pub flags: u8,
    /// What it says.
    pub u: [u16; 3],
}

/// No extra.
pub const XEN_NETIF_EXTRA_TYPE_NONE: u8 = 0;
/// A [`Gso`].
pub const XEN_NETIF_EXTRA_TYPE_GSO: u8 = 1;
/// A [`Mcast`]: the backend is to let packets to this address through. No packet comes with it.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// A [`Mcast`]: no longer. No packet comes with it.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// A [`struct@Hash`].
pub const XEN_NETIF_EXTRA_TYPE_HASH: u8 = 4;
/// All types are below this.
pub const XEN_NETIF_EXTRA_TYPE_MAX: u8 = 5;

/// Another extra follows.
pub const XEN_NETIF_EXTRA_FLAG_MORE: u8 = 1 << 0;

/// `u.gso` of `struct netif_extra_info`: the packet is to be cut into several.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Gso {
    /// Bytes of payload in each of them, at most.
    pub size: u16,
    /// `XEN_NETIF_GSO_TYPE_*`.
    pub r#type: u8,
    /// Zero.
    pub pad: u8,
    /// Zero: there are none.
    pub features: u16,
}

/// Not to be cut.
pub const XEN_NETIF_GSO_TYPE_NONE: u8 = 0;
/// As TCP over IPv4 (`feature-gso-tcpv4`).
pub const XEN_NETIF_GSO_TYPE_TCPV4: u8 = 1;
/// As TCP over IPv6 (`feature-gso-tcpv6`).
pub const XEN_NETIF_GSO_TYPE_TCPV6: u8 = 2;

/// `u.mcast` of `struct netif_extra_info`: a multicast address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Mcast {
    /// As on the wire.
    pub addr: [u8; 6],
}

/// `u.hash` of `struct netif_extra_info`: the hash of the packet's addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Hash {
    /// Over what: the number of the bit of
    /// [`XEN_NETIF_CTRL_HASH_TYPE_*`](super::control::XEN_NETIF_CTRL_HASH_TYPE_IPV4).
    pub r#type: u8,
    /// How: [`XEN_NETIF_CTRL_HASH_ALGORITHM_*`](super::control::XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ).
    pub algorithm: u8,
    /// The hash, its lowest byte first.
    pub value: [u8; 4],
}

impl ExtraInfo {
    /// What it says, if it is a [`XEN_NETIF_EXTRA_TYPE_GSO`].
    #[must_use]
    pub const fn gso(self) -> Gso {
        transmute!(self.u)
    }

    /// What it says, if it is a [`XEN_NETIF_EXTRA_TYPE_MCAST_ADD`] or a [`XEN_NETIF_EXTRA_TYPE_MCAST_DEL`].
    #[must_use]
    pub const fn mcast(self) -> Mcast {
        transmute!(self.u)
    }

    /// What it says, if it is a [`XEN_NETIF_EXTRA_TYPE_HASH`].
    #[must_use]
    pub const fn hash(self) -> Hash {
        transmute!(self.u)
    }
}

impl From<Gso> for ExtraInfo {
    fn from(gso: Gso) -> Self {
        Self { r#type: XEN_NETIF_EXTRA_TYPE_GSO, flags: 0, u: transmute!(gso) }
    }
}

impl From<Hash> for ExtraInfo {
    fn from(hash: Hash) -> Self {
        Self { r#type: XEN_NETIF_EXTRA_TYPE_HASH, flags: 0, u: transmute!(hash) }
    }
}

impl Mcast {
    /// As an extra that adds the address.
    #[must_use]
    pub const fn add(self) -> ExtraInfo {
        ExtraInfo { r#type: XEN_NETIF_EXTRA_TYPE_MCAST_ADD, flags: 0, u: transmute!(self) }
    }

    /// As an extra that deletes the address.
    #[must_use]
    pub const fn delete(self) -> ExtraInfo {
        ExtraInfo { r#type: XEN_NETIF_EXTRA_TYPE_MCAST_DEL, flags: 0, u: transmute!(self) }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;

    /// The bytes are those of the header's pictures, whichever half of a device made them.
    #[test]
    fn each_kind_has_the_bytes_of_the_header() {
        let gso = Gso { size: 0x05B4, r#type: XEN_NETIF_GSO_TYPE_TCPV6, pad: 0, features: 0 };
        let mcast = Mcast { addr: [1, 0, 0x5E, 0, 0, 0xFB] };
        let hash = Hash { r#type: 3, algorithm: 1, value: [0x78, 0x56, 0x34, 0x12] };

        assert_eq!(ExtraInfo::from(gso).as_bytes(), [1, 0, 0xB4, 5, 2, 0, 0, 0]);
        assert_eq!(mcast.add().as_bytes(), [2, 0, 1, 0, 0x5E, 0, 0, 0xFB]);
        assert_eq!(mcast.delete().as_bytes(), [3, 0, 1, 0, 0x5E, 0, 0, 0xFB]);
        assert_eq!(ExtraInfo::from(hash).as_bytes(), [4, 0, 3, 1, 0x78, 0x56, 0x34, 0x12]);

        assert_eq!(ExtraInfo::from(gso).gso(), gso);
        assert_eq!(mcast.add().mcast(), mcast);
        assert_eq!(ExtraInfo::from(hash).hash(), hash);
    }
}
