//! An archive as Linux unpacks it into its first file system: `Documentation/driver-api/early-userspace/buffer-format.rst`
//! of its sources. Several of them in one file are unpacked one after the other.

/// An archive in the "new" format, all of whose files are root's.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

const FOLDER: u32 = 0o04_0755;
const FILE: u32 = 0o10_0755;
const LINK: u32 = 0o12_0777;

impl Archive {
    /// A folder, which comes before what is in it.
    pub(crate) fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[]);
    }

    /// A file, which can be executed.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, FILE, bytes);
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, name: &str, to: &str) {
        self.entry(name, LINK, to.as_bytes());
    }

    /// All of it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.files += 1;
        let length = |of: usize| u32::try_from(of).expect("files are smaller than 4 GiB");
        let (links, zero) = (1, 0);
        let fields = [self.files, mode, zero, zero, links, zero, length(bytes.len()), zero, zero, zero, zero];
        self.bytes.extend(b"070701");
        for field in fields.into_iter().chain([length(name.len() + 1), zero]) {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
    }

    /// Names and contents begin at multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte what `cpio -H newc` writes.
    #[test]
    fn a_file_has_a_header_a_name_and_contents() {
        let mut archive = Archive::default();
        archive.file("ab", b"hello");
        let expected = concat!(
            "070701",
            "00000001000081ed000000000000000000000001000000000000000500000000000000000000000000000000",
            "0000000300000000",
            "ab\0\0\0\0hello\0\0\0"
        );
        let bytes = archive.finish();
        // The header has 110 bytes, and the name three: contents begin at 116.
        assert_eq!(bytes[110..116], *b"ab\0\0\0\0");
        assert_eq!(String::from_utf8_lossy(&bytes[..expected.len()]), expected);
        assert!(bytes.len().is_multiple_of(4));
    }
}
