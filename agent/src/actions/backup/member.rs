//! Members of the archive: what each one is, and its bytes in GNU `tar` form, as every `tar` reads it.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Folder,
    Link,
    /// Another name of a file that is a member already.
    HardLink,
}

/// One member, as it is written and as it is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Bytes, without a leading or trailing slash.
    pub(super) path: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970; `tar` knows no earlier time.
    pub(super) mtime: u64,
    /// Target of a link, path of a hard link's first name; else empty.
    pub(super) link: Vec<u8>,
}

impl Member {
    /// A short fingerprint of everything that must be the same in manifest and archive.
    pub(super) fn digest(&self, content_sha256: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        for part in [self.path.as_slice(), self.link.as_slice(), content_sha256.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update([self.kind as u8]);
        for number in [self.size, u64::from(self.mode), u64::from(self.uid), u64::from(self.gid), self.mtime]
        {
            hash.update(number.to_le_bytes());
        }
        let full: [u8; 32] = hash.finalize().into();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        short
    }

    const fn entry_type(&self) -> tar::EntryType {
        match self.kind {
            MemberKind::File => tar::EntryType::Regular,
            MemberKind::Folder => tar::EntryType::Directory,
            MemberKind::Link => tar::EntryType::Symlink,
            MemberKind::HardLink => tar::EntryType::Link,
        }
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// Bytes of a `tar` block.
const BLOCK: usize = 512;
/// Longest name that fits into a header; a longer one gets a member of its own before it.
const NAME_IN_HEADER: usize = 100;

/// Writes members one after the other. The crate's builder is not used: it rewrites names and copies to the reader's end,
/// while here names are kept byte for byte and a file has exactly the length its header told.
pub(super) struct TarWriter<W: Write> {
    out: W,
    /// Content bytes still owed to the member begun last.
    owed: u64,
    /// Its whole size, for the padding.
    size: u64,
}

impl<W: Write> TarWriter<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, owed: 0, size: 0 }
    }

    /// Writes a member's header; its content must follow in full.
    pub(super) fn begin(&mut self, member: &Member) -> io::Result<()> {
        if self.owed != 0 {
            return Err(io::Error::other("the member before is not complete"));
        }
        let mut name = member.path.clone();
        if member.kind == MemberKind::Folder {
            name.push(b'/');
        }
        let mut header = tar::Header::new_gnu();
        self.long(&member.link, tar::EntryType::GNULongLink)?;
        self.long(&name, tar::EntryType::GNULongName)?;
        put(&mut header.as_old_mut().name, &name);
        put(&mut header.as_old_mut().linkname, &member.link);
        header.set_entry_type(member.entry_type());
        let size = if member.kind == MemberKind::File { member.size } else { 0 };
        header.set_size(size);
        header.set_mode(member.mode);
        header.set_uid(u64::from(member.uid));
        header.set_gid(u64::from(member.gid));
        header.set_mtime(member.mtime);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        (self.owed, self.size) = (size, size);
        Ok(())
    }

    /// A name that does not fit into a header.
    fn long(&mut self, name: &[u8], kind: tar::EntryType) -> io::Result<()> {
        if name.len() <= NAME_IN_HEADER {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        put(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let size = name.len() as u64 + 1;
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.pad(size)
    }

    /// Writes content of the member begun last.
    pub(super) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.owed = self
            .owed
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("more content than the header told"))?;
        self.out.write_all(bytes)?;
        if self.owed == 0 { self.pad(self.size) } else { Ok(()) }
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][over..]) }
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.owed != 0 {
            return Err(io::Error::other("the last member is not complete"));
        }
        self.out.write_all(&[0; BLOCK * 2])?;
        Ok(self.out)
    }
}

/// Copies what fits; a longer name stands in the member before.
fn put(field: &mut [u8; NAME_IN_HEADER], text: &[u8]) {
    let n = text.len().min(NAME_IN_HEADER);
    field[..n].copy_from_slice(&text[..n]);
}
