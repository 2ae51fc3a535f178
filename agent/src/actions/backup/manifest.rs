//! The manifest: one JSON document whose entries stand one on a line, so that it is written and read as a stream.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::member::{Member, MemberKind, hex};

/// Longest line: a path and a link target of 4096 bytes each, three bytes per escaped byte, and the fields.
const LINE_MAX_BYTES: u64 = 64 * 1024;
/// The form this release writes. Frozen 2026-11-21; a change of meaning is a new number.
pub(super) const FORMAT: u32 = 1;

/// What the archive is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) backup: String,
    pub(super) node: String,
    pub(super) service: String,
    /// Milliseconds since 1970 when reading began.
    pub(super) created_ms: i64,
    pub(super) paths: Vec<String>,
    pub(super) exclude: Vec<String>,
}

/// What the archive holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) members: u64,
    pub(super) files: u64,
    pub(super) content_bytes: u64,
    pub(super) skipped: u64,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LineKind {
    File,
    Folder,
    Link,
    HardLink,
    /// Not in the archive; `why` says why.
    Skipped,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Name in the archive.
    pub(super) path: String,
    /// `path` and `link` hold `%XX` for every byte that is not printable ASCII, and for `%`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) encoded: bool,
    pub(super) kind: LineKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970, and the rest in nanoseconds.
    pub(super) mtime: i64,
    pub(super) mtime_ns: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) sha256: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) link: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) why: String,
}

impl Line {
    /// The line of a member.
    pub(super) fn of(member: &Member, mtime_ns: i128, sha256: String) -> Self {
        let kind = match member.kind {
            MemberKind::File => LineKind::File,
            MemberKind::Folder => LineKind::Folder,
            MemberKind::Link => LineKind::Link,
            MemberKind::HardLink => LineKind::HardLink,
        };
        let (path, link, encoded) = names(&member.path, &member.link);
        let second = 1_000_000_000;
        Self {
            path,
            encoded,
            kind,
            size: member.size,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: i64::try_from(mtime_ns.div_euclid(second)).unwrap_or(0),
            mtime_ns: u32::try_from(mtime_ns.rem_euclid(second)).unwrap_or(0),
            sha256,
            link,
            why: String::new(),
        }
    }

    /// The line of something left out.
    pub(super) fn skipped(member: &Member, mtime_ns: i128, why: &str) -> Self {
        let line = Self::of(member, mtime_ns, String::new());
        Self { kind: LineKind::Skipped, why: why.to_owned(), ..line }
    }

    /// The member that this line promises; `None` for a skipped one. An error when its escapes are broken.
    pub(super) fn member(&self) -> Result<Option<Member>, &'static str> {
        let kind = match self.kind {
            LineKind::File => MemberKind::File,
            LineKind::Folder => MemberKind::Folder,
            LineKind::Link => MemberKind::Link,
            LineKind::HardLink => MemberKind::HardLink,
            LineKind::Skipped => return Ok(None),
        };
        let name = |text: &str| {
            if self.encoded { unescape(text).ok_or("a broken escape") } else { Ok(text.as_bytes().to_vec()) }
        };
        Ok(Some(Member {
            path: name(&self.path)?,
            kind,
            size: self.size,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: u64::try_from(self.mtime).unwrap_or(0),
            link: name(&self.link)?,
        }))
    }
}

/// Both names as text. Only names that no JSON reader or terminal stumbles over stay as they are.
fn names(path: &[u8], link: &[u8]) -> (String, String, bool) {
    let plain = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|t| !t.chars().any(char::is_control));
    match (std::str::from_utf8(path), std::str::from_utf8(link)) {
        (Ok(p), Ok(l)) if plain(path) && plain(link) => (p.to_owned(), l.to_owned(), false),
        _ => (escape(path), escape(link), true),
    }
}

/// Every byte that is not printable ASCII, and `%`, as `%XX`.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if (b' '..=b'~').contains(byte) && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push_str(&hex(&[*byte]));
        }
    }
    text
}

/// The bytes of an escaped text.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let pair = [*rest.next()?, *rest.next()?];
        let digits = std::str::from_utf8(&pair).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    Some(bytes)
}

/// Writes a manifest as a stream.
pub(super) struct ManifestWriter<W: Write> {
    out: W,
    hash: Sha256,
    bytes: u64,
    any: bool,
    pub(super) totals: Totals,
}

impl<W: Write> ManifestWriter<W> {
    pub(super) fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut this = Self { out, hash: Sha256::new(), bytes: 0, any: false, totals: Totals::default() };
        this.put(b"{\"header\":")?;
        this.put(&serde_json::to_vec(header)?)?;
        this.put(b",\"entries\":[")?;
        Ok(this)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.out.write_all(bytes)
    }

    pub(super) fn line(&mut self, line: &Line) -> io::Result<()> {
        match line.kind {
            LineKind::Skipped => self.totals.skipped += 1,
            LineKind::File => {
                self.totals.members += 1;
                self.totals.files += 1;
                self.totals.content_bytes = self.totals.content_bytes.saturating_add(line.size);
            }
            LineKind::Folder | LineKind::Link | LineKind::HardLink => self.totals.members += 1,
        }
        self.put(if self.any { b",\n" } else { b"\n" })?;
        self.any = true;
        self.put(&serde_json::to_vec(line)?)
    }

    /// Ends it; gives back what it wrote to, its size and its sha256.
    pub(super) fn finish(mut self) -> io::Result<(W, u64, String)> {
        let totals = serde_json::to_vec(&self.totals)?;
        self.put(b"\n],\"totals\":")?;
        self.put(&totals)?;
        self.put(b"}\n")?;
        self.out.flush()?;
        Ok((self.out, self.bytes, hex(&self.hash.finalize())))
    }
}

/// Reads a manifest as a stream: header, then `each` line, then totals.
pub(super) struct ManifestReader<R: BufRead> {
    input: R,
    hash: Sha256,
    pub(super) header: Header,
}

#[derive(Deserialize)]
struct Tail {
    totals: Totals,
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("manifest: {}", why.into()))
}

impl<R: BufRead> ManifestReader<R> {
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let first = read_line(&mut input, &mut hash)?;
        let json = first
            .strip_prefix(b"{\"header\":")
            .and_then(|rest| rest.strip_suffix(b",\"entries\":[\n"))
            .ok_or_else(|| broken("it does not begin with a header"))?;
        let header: Header = serde_json::from_slice(json).map_err(|e| broken(e.to_string()))?;
        if header.format != FORMAT {
            return Err(broken(format!("format {} is not known to this agent", header.format)));
        }
        Ok(Self { input, hash, header })
    }

    /// The next line, or the totals and the whole manifest's sha256.
    pub(super) fn next(&mut self) -> io::Result<Result<Line, (Totals, String)>> {
        let line = read_line(&mut self.input, &mut self.hash)?;
        if let Some(rest) = line.strip_prefix(b"],") {
            let mut json = vec![b'{'];
            json.extend_from_slice(rest);
            let tail: Tail = serde_json::from_slice(&json).map_err(|e| broken(e.to_string()))?;
            if !self.input.fill_buf()?.is_empty() {
                return Err(broken("something follows its end"));
            }
            return Ok(Err((tail.totals, hex(&self.hash.clone().finalize()))));
        }
        let json = line.strip_suffix(b"\n").unwrap_or(&line);
        let json = json.strip_suffix(b",").unwrap_or(json);
        serde_json::from_slice(json).map(Ok).map_err(|e| broken(e.to_string()))
    }
}

fn read_line(input: &mut impl BufRead, hash: &mut Sha256) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(broken("it is cut off, or a line is too long"));
    }
    hash.update(&line);
    Ok(line)
}
