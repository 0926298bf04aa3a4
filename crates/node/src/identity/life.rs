//! The lives of nodes: which folder, at which of its starts, in which process; and what it says when one is met again.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader, put_uint};

/// A life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Of the data folder: random, never 0. Another folder has another.
    pub incarnation: u64,
    /// How often the folder was started, this time included. From 1.
    pub starts: u64,
    /// Of the process: random. A copy of the folder that was started as often has another.
    pub process: u64,
}

/// The lives that the other nodes were met in last.
pub type Lives = BTreeMap<NodeId, Life>;

/// What a life is, beside the one that a node was met in last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// The same one.
    Same,
    /// A later start of the same folder.
    Later,
    /// One of another folder.
    OtherFolder,
    /// An earlier start of the folder.
    Earlier,
    /// The same start of the folder, in another process.
    Twice,
}

impl Life {
    /// The first one of a new folder.
    pub fn new(random: &mut dyn FnMut() -> u64) -> Life {
        Life { incarnation: random() | 1, starts: 1, process: random() }
    }

    /// The next one of the folder.
    #[must_use]
    pub fn next(&self, random: &mut dyn FnMut() -> u64) -> Life {
        Life { starts: self.starts + 1, process: random(), ..*self }
    }

    /// What it is beside the one that its node was met in last.
    pub(super) fn beside(&self, last: &Life) -> Beside {
        if self.incarnation != last.incarnation {
            return Beside::OtherFolder;
        }
        match self.starts.cmp(&last.starts) {
            std::cmp::Ordering::Less => Beside::Earlier,
            std::cmp::Ordering::Greater => Beside::Later,
            std::cmp::Ordering::Equal if self.process == last.process => Beside::Same,
            std::cmp::Ordering::Equal => Beside::Twice,
        }
    }
}

pub(super) fn put_life(into: &mut BytesMut, life: Life) {
    into.put_u64(life.incarnation);
    put_uint(into, life.starts);
    into.put_u64(life.process);
}

pub(super) fn read_life(reader: &mut Reader) -> Result<Life, Malformed> {
    Ok(Life { incarnation: reader.u64()?, starts: reader.uint()?, process: reader.u64()? })
}
