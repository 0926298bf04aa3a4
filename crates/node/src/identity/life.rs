//! The lives of nodes: which folder, at which of its starts, in which process; and what it says when one is met again.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader, put_list, put_uint};
use mutant::Mutant;

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

/// Lives as they are told to a newcomer.
pub fn encode_lives(lives: &Lives) -> Bytes {
    let (mut into, lives): (_, Vec<(&NodeId, &Life)>) = (BytesMut::new(), lives.iter().collect());
    put_list(&mut into, &lives, |into, (node, life)| {
        put_uint(into, node.0);
        put_life(into, life);
    });
    into.freeze()
}

/// Lives that a newcomer is told. No bytes at all, as of a node of an earlier version = none.
pub fn decode_lives(bytes: Bytes) -> Result<Lives, Malformed> {
    if bytes.is_empty() {
        return Ok(Lives::new());
    }
    let listed = Reader::new(bytes).list(|reader| Ok((NodeId(reader.uint()?), read_life(reader)?)))?;
    if !listed.is_sorted_by(|(one, _), (other, _)| one < other) {
        return Err(Malformed("lives are not in the order of their nodes"));
    }
    Ok(listed.into_iter().collect())
}

/// The lives that node `me`, which knows these, knows when it is told those. What it has met itself stands, but for what came
/// after it: whoever tells may be behind.
pub fn introduced(me: NodeId, mut known: Lives, told: Lives) -> Lives {
    if mutant::is(Mutant::NewcomerKnowsNoLives) {
        return known;
    }
    for (node, life) in told.into_iter().filter(|(node, _)| *node != me) {
        let last = known.entry(node).or_insert(life);
        if life.incarnation == last.incarnation && life.starts > last.starts {
            *last = life;
        }
    }
    known
}

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
    put_life(into, life);
    put_list(into, earlier, |into, process| into.put_u64(*process));
}

pub(super) fn read_lineage(reader: &mut Reader) -> Result<Lineage, Malformed> {
    let life = read_life(reader)?;
    let earlier = reader.list(Reader::u64)?;
    if earlier.len() > Lineage::EARLIER_MAX {
        return Err(Malformed("a node says more of its earlier starts than is known"));
    }
    Ok(Lineage { life, earlier })
}

fn put_life(into: &mut BytesMut, life: &Life) {
    into.put_u64(life.incarnation);
    put_uint(into, life.starts);
    into.put_u64(life.process);
}

fn read_life(reader: &mut Reader) -> Result<Life, Malformed> {
    Ok(Life { incarnation: reader.u64()?, starts: reader.uint()?, process: reader.u64()? })
}

/// The codec as plain functions over bytes; see [`crate::fuzz`].
pub(crate) mod fuzz {
    use kv::fuzz::round_trip;

    use super::*;

    /// What a newcomer is told of the others.
    pub fn lives(bytes: &[u8]) {
        if !bytes.is_empty() {
            round_trip(bytes, |bytes| decode_lives(bytes.clone()), encode_lives);
        }
    }

    /// Lives.
    pub fn lives_samples() -> Vec<Bytes> {
        let life = |incarnation| Life { incarnation, starts: 300, process: u64::MAX };
        let lives = Lives::from([(NodeId(1), life(7)), (NodeId(300), life(u64::MAX))]);
        [lives, Lives::new()].map(|lives| encode_lives(&lives)).to_vec()
    }
}
