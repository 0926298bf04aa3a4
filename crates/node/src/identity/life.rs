//! The lives of nodes: which folder, at which of its starts, in which process; and what it says when one is met again.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader, put_list, put_uint};

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
    /// A later start than the last of them, or the same one, of a folder in which that start was another process: a copy, one
    /// of two.
    Twice,
}

/// A life, and what its folder says of those before it. Who has met the node compares: so a copy does not pass for a later start,
/// however often it was started before it met anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The last life.
    pub life: Life,
    /// The processes of the starts before, the latest first; of at most [`Lineage::EARLIER_MAX`].
    pub earlier: Vec<u64>,
}

impl Lineage {
    /// So many earlier starts are known: more than a node needs that is started again and again and meets nobody for minutes.
    pub const EARLIER_MAX: usize = 64;

    /// The first life of a new folder.
    pub fn new(random: &mut dyn FnMut() -> u64) -> Lineage {
        let life = Life { incarnation: random() | 1, starts: 1, process: random() };
        Lineage { life, earlier: Vec::new() }
    }

    /// The next life of the folder.
    #[must_use]
    pub fn next(&self, random: &mut dyn FnMut() -> u64) -> Lineage {
        let life = Life { starts: self.life.starts + 1, process: random(), ..self.life };
        let earlier = std::iter::once(&self.life.process).chain(&self.earlier);
        Lineage { life, earlier: earlier.take(Lineage::EARLIER_MAX).copied().collect() }
    }

    /// What it is beside the life that its node was met in last.
    pub(super) fn beside(&self, last: &Life) -> Beside {
        let Life { incarnation, starts, process } = self.life;
        if incarnation != last.incarnation {
            return Beside::OtherFolder;
        }
        let Some(since) = starts.checked_sub(last.starts) else { return Beside::Earlier };
        if since == 0 {
            return if process == last.process { Beside::Same } else { Beside::Twice };
        }
        let then = usize::try_from(since - 1).ok().and_then(|place| self.earlier.get(place));
        if then.is_none_or(|process| *process == last.process) { Beside::Later } else { Beside::Twice }
    }
}

pub(super) fn put_lineage(into: &mut BytesMut, lineage: &Lineage) {
    let Lineage { life, earlier } = lineage;
    into.put_u64(life.incarnation);
    put_uint(into, life.starts);
    into.put_u64(life.process);
    put_list(into, earlier, |into, process| into.put_u64(*process));
}

pub(super) fn read_lineage(reader: &mut Reader) -> Result<Lineage, Malformed> {
    let life = Life { incarnation: reader.u64()?, starts: reader.uint()?, process: reader.u64()? };
    let earlier = reader.list(Reader::u64)?;
    if earlier.len() > Lineage::EARLIER_MAX {
        return Err(Malformed("a node says more of its earlier starts than is known"));
    }
    Ok(Lineage { life, earlier })
}
