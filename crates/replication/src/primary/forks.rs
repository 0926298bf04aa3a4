//! An election that the operator forces: what who orders then writes down, and what becomes of those that are astray.
//!
//! The term of who was made to order opens with the word that others may have gone another way ([`kv::ledger`]), and so does each
//! later one while some of them have not begun anew. Who is astray applies what its log holds, for its owner to find what is lost of it;
//! when that is taken over ([`Input::Released`](crate::Input::Released)) it asks to begin anew.

use bytes::Bytes;
use kv::ledger::Note;
use kv::{Entry, Op, ReplicaId, Stamped};

use super::replica::Primary;
use super::seal::sealed;
use crate::{Duty, Member, Output};

/// What a replica knows of forced elections.
#[derive(Debug, Default)]
pub(super) struct Forks {
    /// Astray itself: what it has that others lack is theirs.
    pub(super) is_released: bool,
    /// In a term before, of this life, some were astray.
    pub(super) had_astray: bool,
}

impl Primary {
    /// Whether another one was made to order that was not in sync: what is here may have gone another way.
    pub(super) fn is_astray(&self) -> bool {
        self.view.replica(self.replica).is_some_and(|member| member.duty == Duty::Astray)
    }

    /// Whether a member is astray.
    pub(super) fn has_astray(&self) -> bool {
        self.view.members.iter().any(|member| member.duty == Duty::Astray)
    }

    /// The first entry of a term: who is astray, if somebody is or was before; else nothing.
    pub(super) fn first_of_term(&self) -> Bytes {
        if !self.has_astray() && !self.forks.had_astray {
            return Bytes::new();
        }
        let is_astray = |member: &&Member| member.duty == Duty::Astray;
        let astray: Vec<ReplicaId> =
            self.view.members.iter().filter(is_astray).map(|member| member.replica).collect();
        let op = Op::Note(Note::Fork { astray });
        Entry::encode(self.clock, &[Stamped { id: None, op }.encode()])
    }

    /// Another one was made to order that was not in sync. What the log here holds may have been acknowledged: it is applied whole, for
    /// what is lost of it to be found, and nobody is shown it any more.
    pub(super) fn settle_astray(&mut self, out: &mut Vec<Output>) {
        if self.is_astray() {
            self.commit = self.log.last();
            out.extend(self.reads.drain().map(sealed));
        }
    }

    /// Whether all that its log holds is applied, of who is astray: then it can begin anew.
    pub(super) fn is_whole_astray(&self) -> bool {
        self.is_astray() && self.installing.is_none() && self.applied.index == self.log.last()
    }
}
