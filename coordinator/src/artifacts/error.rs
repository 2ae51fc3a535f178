//! Why bytes of an artifact were not taken or not given.

use std::io;
use std::path::{Path, PathBuf};

use quorate_durable::LowSpace;
use quorate_model::{Reason, Refusal};

/// The fact of a refused offset that names the right one; clients go on there.
pub const EXPECTED_OFFSET: &str = "expected";

/// Why bytes were not taken or not given.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// This member keeps none.
    #[error("this member keeps no artifacts")]
    Off,
    /// Larger than this member takes.
    #[error("it has {size} bytes; {max} is the most this member takes")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// All artifacts together would be too large.
    #[error("with it there would be {total} bytes of artifacts; {max} is the most this member keeps")]
    Full {
        /// All of them, this one included.
        total: u64,
        /// The limit.
        max: u64,
    },
    /// Too many at once.
    #[error("{max} uploads are open on this member already")]
    TooManyUploads {
        /// The limit.
        max: usize,
    },
    /// The disk would get too full.
    #[error("this member's disk has too little room for it: {0}")]
    LowSpace(#[from] LowSpace),
    /// The disk is full.
    #[error("this member's disk is full")]
    DiskFull,
    /// Nobody began it here, or it was given up.
    #[error("no upload of it is open on this member")]
    NotOpen,
    /// The part does not begin where the bytes that are there end.
    #[error("{expected} bytes are there; the part begins at {offset}")]
    Offset {
        /// Where the part begins.
        offset: u64,
        /// Where it should.
        expected: u64,
    },
    /// A part without bytes, or with too many.
    #[error("a part has 1 to {max} bytes")]
    BadPart {
        /// The limit.
        max: u64,
    },
    /// More bytes than were announced.
    #[error("it has {size} bytes, and more came")]
    TooMuch {
        /// The size announced.
        size: u64,
    },
    /// Bytes are missing.
    #[error("{received} of {size} bytes are there")]
    Incomplete {
        /// Bytes that are there.
        received: u64,
        /// The size announced.
        size: u64,
    },
    /// The bytes are not those of the digest.
    #[error("the bytes that came have the sha256 {found}; all of them were thrown away")]
    Digest {
        /// What they are.
        found: String,
    },
    /// The size announced is not the one it has.
    #[error("it has {size} bytes, not {said}")]
    Size {
        /// What it has.
        size: u64,
        /// What was said.
        said: u64,
    },
    /// No complete copy here.
    #[error("this member does not have its bytes")]
    NotHere,
    /// No member could give them.
    #[error("no member could give its bytes: {0}")]
    NoSource(String),
    /// Beyond its end.
    #[error("it has {size} bytes")]
    BeyondEnd {
        /// Its size.
        size: u64,
    },
    /// The file system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The work did not run to its end.
    #[error("the work on it did not end: the member stops")]
    Stopped,
}

impl ArtifactError {
    /// For `map_err`: a full disk is told apart from a broken one.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { what, path, source },
        }
    }

    /// Its stable code.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Off | Self::NotOpen | Self::Incomplete { .. } => Reason::WrongState,
            Self::TooLarge { .. } | Self::Full { .. } | Self::TooManyUploads { .. } => Reason::LimitReached,
            Self::LowSpace(_) | Self::DiskFull => Reason::LowSpace,
            Self::Offset { .. } => Reason::OffsetMismatch,
            Self::BadPart { .. } | Self::TooMuch { .. } | Self::BeyondEnd { .. } => Reason::InvalidArgument,
            Self::Digest { .. } => Reason::DigestMismatch,
            Self::Size { .. } => Reason::Conflict,
            // Another member may have them now, or this one a little later.
            Self::NotHere | Self::NoSource(_) | Self::Stopped => Reason::ArtifactUnavailable,
            Self::Io { .. } => Reason::Internal,
        }
    }

    /// As a refusal of what was asked about this artifact.
    #[must_use]
    pub fn refusal(&self, digest: &quorate_model::Digest) -> Refusal {
        let refusal = Refusal::new(self.reason(), format!("artifact {digest}: {self}"));
        match self {
            Self::Offset { expected, .. } => refusal.with_detail(EXPECTED_OFFSET, expected.to_string()),
            Self::NotOpen => refusal.with_hint("begin the upload at this member (BeginUpload)"),
            Self::NotHere | Self::NoSource(_) => {
                refusal.with_hint("quorate artifact show names the members that have it")
            }
            Self::Off
            | Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::TooManyUploads { .. }
            | Self::LowSpace(_)
            | Self::DiskFull
            | Self::BadPart { .. }
            | Self::TooMuch { .. }
            | Self::Incomplete { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::BeyondEnd { .. }
            | Self::Io { .. }
            | Self::Stopped => refusal,
        }
    }
}
