//! Why a request was not answered, named by what the caller can do about it.

use crate::Version;

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has no effect and never will.
    Failed,
    /// It may have happened, or may yet happen. Ask again with the same request id, or read.
    InDoubt,
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request makes no sense; the text says what would.
    #[error("{0}")]
    Invalid(String),
    /// Beyond a limit.
    #[error("{what} is too large: {size}, and the limit is {limit}")]
    TooLarge {
        /// What is.
        what: String,
        /// Its size, in bytes or a count as `what` says.
        size: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// The present value does not allow the op (an increment of a text, say).
    #[error("{0}")]
    Conflict(String),
    /// The state at that version is no longer kept.
    #[error(
        "the state at version {asked} is trimmed: the oldest that is kept is {oldest}; ask for a later version"
    )]
    Trimmed {
        /// The version that was asked for.
        asked: Version,
        /// The oldest version that can be read.
        oldest: Version,
    },
    /// The version lies in the future.
    #[error(
        "version {asked} is in the future: the newest is {newest}; ask for one that was already given out"
    )]
    Future {
        /// The version that was asked for.
        asked: Version,
        /// The newest version.
        newest: Version,
    },
    /// The keyspace holds what its quota allows; what would add to it is refused. The text says what to do.
    #[error("{0}")]
    OverQuota(String),
    /// There is no such keyspace.
    #[error(
        "there is no keyspace '{0}': 'capstan keyspace list' names those that there are, and 'capstan keyspace create' makes one"
    )]
    NoKeyspace(String),
    /// Another node serves this; between nodes, and to clients that route on their own.
    #[error("this node does not lead the key's shard; try {}", .try_next.as_deref().unwrap_or("another node in a moment"))]
    WrongNode {
        /// Address of the node to try.
        try_next: Option<String>,
    },
    /// Not now: no leader, too much queued, disk full, stopping. Nothing happened; try again later.
    #[error("{0}")]
    Unavailable(String),
    /// It may have happened or may yet happen.
    #[error("{0}")]
    InDoubt(String),
}

impl Error {
    /// What became of the request.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::InDoubt(_) => Outcome::InDoubt,
            _ => Outcome::Failed,
        }
    }

    /// What is told instead of an answer for which there is no room at whoever asked or on the way there.
    pub fn no_room(nothing_happened: bool) -> Error {
        let full = "too many bytes of answers wait to be taken by whoever asked";
        if nothing_happened {
            Error::Unavailable(format!(
                "{full}, and this one was not told; nothing has changed: take them faster, or ask for less at once"
            ))
        } else {
            Error::InDoubt(format!(
                "{full}, and what this write found is not told: it has happened, unless its conditions failed; read \
                 the keys to see which"
            ))
        }
    }

    /// The error of a write that was sent before and may have been run then: unless it says what the store found when it ran
    /// the write, it is no proof that nothing happened.
    pub fn after_doubt(self) -> Error {
        match self {
            Error::Conflict(_)
            | Error::Invalid(_)
            | Error::TooLarge { .. }
            | Error::OverQuota(_)
            | Error::InDoubt(_) => self,
            error => Error::InDoubt(format!(
                "it may have happened when it was sent before: {error}; read to see what is there before you write again"
            )),
        }
    }

    /// Whether the same request may succeed a little later without any change.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::WrongNode { .. } | Error::InDoubt(_))
    }
}
