//! What is open at the gate of a node.

use std::collections::BTreeMap;

use kv::{Class, Error, Op, Reply, Version};
use node::gather::Gather;

use crate::events::Whose;
use crate::machine::clocks::Clocks;

/// The open requests of one process.
pub(crate) struct Gate {
    pub(super) parts: BTreeMap<u64, OpenPart>,
    pub(super) requests: BTreeMap<u64, Open>,
    /// Parts that became several when they were planned again: who makes one result of theirs, and the part.
    pub(super) replanned: BTreeMap<u64, (Gather, OpenPart)>,
    pub(super) names: u64,
}

/// A part of an open request.
pub(super) struct OpenPart {
    pub(super) request: u64,
    /// It is of a part that was planned again.
    pub(super) within: Option<u64>,
    /// Which part of it.
    pub(super) index: usize,
    pub(super) op: Op,
    /// Where its keys have no order: the newest version of them that was answered before.
    pub(super) floor: Version,
}

pub(super) struct Open {
    pub(super) whose: Whose,
    /// When it arrived.
    pub(super) asked_at: u64,
    /// And what the version clocks showed then.
    pub(super) clocks: Clocks,
    /// Who makes one answer of several.
    pub(super) gather: Option<Gather>,
}

/// What the result of a part was.
pub(super) enum Taken {
    /// One of several.
    Part,
    /// The last: the result of the request.
    Whole(Whose, Box<Result<Reply, Error>>),
    /// Of nothing that is open.
    Unknown,
}

impl Gate {
    pub fn new(life: u64) -> Gate {
        // Names of different lives differ, so that an answer for an earlier life would be seen.
        Gate {
            parts: BTreeMap::new(),
            requests: BTreeMap::new(),
            replanned: BTreeMap::new(),
            names: life << 32,
        }
    }

    /// How many parts wait for their answer.
    pub fn open(&self) -> usize {
        self.parts.len()
    }

    /// A read and its request.
    pub(super) fn read(&self, name: u64) -> Option<(&Op, &Open)> {
        let part = self.parts.get(&name)?;
        let reads = part.op.class() == Class::Read;
        Some((Some(&part.op).filter(|_| reads)?, self.requests.get(&part.request)?))
    }

    pub(super) fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Takes the result of a part.
    pub(super) fn take(&mut self, name: u64, result: Result<Reply, Error>) -> Taken {
        let Some(part) = self.parts.remove(&name) else { return Taken::Unknown };
        self.take_of(part, result)
    }

    fn take_of(&mut self, part: OpenPart, result: Result<Reply, Error>) -> Taken {
        let OpenPart { request, within, index, .. } = part;
        if let Some(within) = within {
            let (gather, _) = self.replanned.get_mut(&within).expect("it is there while a part of it is");
            let Some(whole) = gather.put(index, result) else { return Taken::Part };
            let (_, part) = self.replanned.remove(&within).expect("it was just looked at");
            return self.take_of(part, whole);
        }
        let open = self.requests.get_mut(&request).expect("a request is open while one of its parts is");
        let whole = match &mut open.gather {
            Some(gather) => gather.put(index, result),
            None => Some(result),
        };
        let Some(whole) = whole else { return Taken::Part };
        let open = self.requests.remove(&request).expect("it was just looked at");
        Taken::Whole(open.whose, Box::new(whole))
    }
}
