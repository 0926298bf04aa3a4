//! What the log asks of a disk.
//!
//! While the log runs, work is submitted under a token and completes later, in any order. Before it runs, recovery
//! reads and repairs at once. A disk serves one log; tokens are the log's.

use std::fmt;
use std::io;

use bytes::Bytes;
use rustix::io::Errno;

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Io {
    /// Makes a segment of `bytes` written zeros. Complete when the zeros and the name of the segment survive a
    /// power loss. A segment is there as a whole or not at all, and a refusal leaves nothing behind.
    Create {
        /// Number of the new segment.
        segment: u64,
        /// Its length.
        bytes: u64,
    },
    /// Writes inside a segment. Complete when a read would see it; it is durable only after a [`Io::Sync`].
    Write {
        /// Number of the segment.
        segment: u64,
        /// Where, from the segment's start.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Makes all completed writes of a segment durable.
    Sync {
        /// Number of the segment.
        segment: u64,
    },
    /// Removes a segment for good: complete when no power loss brings it back.
    Remove {
        /// Number of the segment.
        segment: u64,
    },
}

impl Io {
    /// The segment it works on.
    pub fn segment(&self) -> u64 {
        match *self {
            Io::Create { segment, .. }
            | Io::Write { segment, .. }
            | Io::Sync { segment }
            | Io::Remove { segment } => segment,
        }
    }

    /// What kind of work it is.
    pub fn operation(&self) -> Operation {
        match self {
            Io::Create { .. } => Operation::Create,
            Io::Write { .. } => Operation::Write,
            Io::Sync { .. } => Operation::Sync,
            Io::Remove { .. } => Operation::Remove,
        }
    }
}

/// The kinds of work, for errors and for injected faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Listing the segments, or telling one's length.
    List,
    /// Reading, at recovery.
    Read,
    /// [`Io::Create`].
    Create,
    /// [`Io::Write`].
    Write,
    /// [`Io::Sync`].
    Sync,
    /// [`Io::Remove`].
    Remove,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::List => "listing",
            Operation::Read => "reading",
            Operation::Create => "creating",
            Operation::Write => "writing",
            Operation::Sync => "syncing",
            Operation::Remove => "removing",
        })
    }
}

/// Why a piece of work failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space or quota is left; it may be retried when there is some.
    #[error("the disk or the quota is full")]
    Full,
    /// The process or the system is out of file descriptors or memory, so a file was not opened: nothing was done, and it may
    /// be retried.
    #[error("{message}")]
    Short {
        /// The system's words.
        message: String,
    },
    /// Anything else.
    #[error("{message}")]
    Io {
        /// What kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
}

impl DiskError {
    /// Of a file that could not be opened.
    pub fn opening(error: io::Error) -> DiskError {
        let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        match short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
            true => DiskError::Short { message: error.to_string() },
            false => error.into(),
        }
    }

    /// Nothing was done, and it may be retried.
    pub fn may_pass(&self) -> bool {
        matches!(self, DiskError::Full | DiskError::Short { .. })
    }
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
            kind => DiskError::Io { kind, message: error.to_string() },
        }
    }
}

impl From<io::ErrorKind> for DiskError {
    fn from(kind: io::ErrorKind) -> Self {
        io::Error::from(kind).into()
    }
}

/// A place for segments.
pub trait Disk {
    /// Accepts work under a token. It may be done at once or later, never partly forgotten: each token completes
    /// exactly once, or never if the process ends first.
    fn submit(&mut self, token: u64, io: Io);

    /// Adds the tokens that completed since the last call.
    fn completions(&mut self, into: &mut Vec<(u64, Result<(), DiskError>)>);

    /// Recovery: the numbers of all segments, in any order.
    fn segments(&mut self) -> Result<Vec<u64>, DiskError>;

    /// Recovery: the length of a segment.
    fn segment_bytes(&mut self, segment: u64) -> Result<u64, DiskError>;

    /// Recovery: exactly `len` bytes of a segment.
    fn read(&mut self, segment: u64, offset: u64, len: usize) -> Result<Bytes, DiskError>;

    /// Recovery: writes inside a segment, as [`Io::Write`].
    fn write(&mut self, segment: u64, offset: u64, bytes: Bytes) -> Result<(), DiskError>;

    /// Recovery: makes the writes to a segment durable, as [`Io::Sync`].
    fn sync(&mut self, segment: u64) -> Result<(), DiskError>;
}

/// The file name of a segment inside the log's folder.
pub fn segment_file_name(segment: u64) -> String {
    format!("{segment:016}.log")
}
