//! What the log holds, and where.

use std::fmt;

use bytes::Bytes;

/// The longest body of a record. Entries are batches of at most 1 MiB and values are far below this, so a longer
/// one is a bug of the owner; it also bounds the memory that recovery needs for one batch.
pub const RECORD_BYTES_MAX: usize = 32 << 20;

/// One record: opaque to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which shard it belongs to; 0 = the node itself.
    pub stream: u32,
    /// The owner's tag.
    pub kind: u8,
    /// The owner's bytes, at most [`RECORD_BYTES_MAX`].
    pub body: Bytes,
}

/// A place in the log. Places rise over segments and restarts; the default lies before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Bytes from the start of the segment.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}
