//! Memory with addresses of its own.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{BadAddress, Linear};

/// The memory of a guest that is not a part of this process: so many bytes from an address on, and nothing else.
#[derive(Clone, Debug)]
pub struct Arena {
    first: u64,
    bytes: Vec<u8>,
}

impl Arena {
    /// So many bytes, all zero.
    #[must_use]
    pub fn new(first: u64, length: usize) -> Self {
        Self { first, bytes: vec![0; length] }
    }

    /// Reads a structure, which need not be aligned.
    ///
    /// # Errors
    ///
    /// It does not lie in the arena.
    pub fn get<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, BadAddress> {
        let memory: &dyn Linear = self;
        memory.get(address)
    }

    /// Writes a structure, which need not be aligned.
    ///
    /// # Errors
    ///
    /// It does not lie in the arena.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        address: u64,
        value: &T,
    ) -> Result<(), BadAddress> {
        self.write(address, value.as_bytes())
    }

    /// Where some bytes begin.
    fn index(&self, address: u64, length: usize) -> Result<usize, BadAddress> {
        let bad = BadAddress(address);
        let index = address.checked_sub(self.first).and_then(|offset| usize::try_from(offset).ok());
        let index = index.ok_or(bad)?;
        let end = index.checked_add(length).ok_or(bad)?;
        if end <= self.bytes.len() { Ok(index) } else { Err(bad) }
    }
}

impl Linear for Arena {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        let index = self.index(address, into.len())?;
        into.copy_from_slice(&self.bytes[index..][..into.len()]);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), BadAddress> {
        let index = self.index(address, from.len())?;
        self.bytes[index..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end is where a structure lies in part, and the end of all addresses where a sum would overflow.
    #[test]
    fn has_nothing_beyond_its_ends() {
        let mut arena = Arena::new(0x1000, 16);
        assert_eq!(arena.put(0x1008, &7_u64), Ok(()));
        assert_eq!(arena.get(0x1008), Ok(7_u64));
        for address in [0xFFF, 0x1009, 0x1010, 0, u64::MAX] {
            assert_eq!(arena.get::<u64>(address), Err(BadAddress(address)));
            assert_eq!(arena.put(address, &1_u64), Err(BadAddress(address)));
        }
        assert_eq!(Arena::new(u64::MAX, 1).get(u64::MAX), Ok(0_u8));
        assert_eq!(Arena::new(u64::MAX, 1).get::<u16>(u64::MAX), Err(BadAddress(u64::MAX)));
    }
}
