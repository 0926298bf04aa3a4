//! Members become fewer: people have declared one dead for good, and the directory says the others under another revision.
//!
//! # How
//!
//! Each revision has lives of its own: the high bits of a life's number rise with the revision, by as much. So whoever knows of the
//! revision takes nothing of a life before it, and no number is given twice, though nobody may know which ones the dead master used.
//!
//! - The master stays: what was not decided is given up, as at every beginning of a life. From then on only those are asked who are left.
//! - The master is dead: one of the others is the master. It cannot tell which entries of its tail were decided. What was is in the log of
//!   every member, so it gives up none: it begins its life *behind* the tail, and when all who are left have voted for that, the tail is
//!   decided as well.
//!
//! ```text
//!   n1 (master)   4@1 | 5@1 6@1          decided 5, told its writer, and burnt down
//!   n2            4@1 | 5@1 6@1          declared: n2 is the master, under revision 2
//!   n3            4@1 | 5@1
//!
//!   n2 (master)   4@1 | 5@1 6@1 7@1.1    life 1.1 begins behind what it has: 5@1 is kept, and 6@1 comes about
//!   n3            4@1 | 5@1 6@1 7@1.1    all have voted: decided up to 7
//! ```
//!
//! # Caveats
//!
//! A write that the dead master gave up may be in such a tail, and come about though its writer was told that it never will. And who is
//! declared dead while it runs answers reads of before, until it hears of the revision: it has to be off.

use kv::view::Member;
use kv::{Index, Term};

use super::master::Master;
use super::participant::Participant;
use super::{Part, TwoPhase};
use crate::entries::Entries;
use crate::record::Record;
use crate::{Duty, Output, Revision, View};

/// A revision's lives have numbers of so many bits: more than anybody begins.
const LIVES_BITS: u32 = 28;
/// Members become fewer at most so often in an epoch, and the lives of all that are below the terms of the next epoch, whatever orders in
/// it: see [`crate::primary`].
const _: () = assert!((kv::keyspace::REPLICAS_MAX as u64 + 1) << LIVES_BITS <= 1 << 32);

/// An epoch begins with it.
const FIRST_REVISION: Revision = Revision(1);

impl TwoPhase {
    /// The directory says who belongs to the shard.
    pub(super) fn take_view(&mut self, view: View, out: &mut Vec<Output>) {
        assert_eq!(view.epoch, self.view.epoch, "a replica serves one epoch");
        if !self.view.is_before(&view) || !self.may_follow(&view) {
            return;
        }
        let revisions = view.revision.0 - self.view.revision.0;
        self.life = Term((round(self.life) + revisions) << LIVES_BITS);
        (self.view, self.is_view_logged) = (view, false);
        self.has_met |= self.view.members.len() == 1;
        let (others, is_master) = (self.others(), self.master() == self.id);
        match &mut self.part {
            Part::Master(master) => master.keep(&others),
            Part::Participant(_) if is_master => {
                let kept = self.journal.last();
                let mut master = Master::new(others.into_iter(), self.decided, kept);
                master.greet_all(self.now);
                self.part = Part::Master(Box::new(master));
            }
            Part::Participant(participant) => *participant = Participant::default(),
        }
        if is_master {
            return self.begin_life(out);
        }
        let view = Record::View(self.view.clone()).encode(self.head());
        self.is_view_logged = true;
        let decision = self.decision(self.decided);
        self.journal.append(vec![view, decision], out);
    }

    /// Whether the members of a view are some of those of now, this one among them, and one orders; who orders now goes on.
    fn may_follow(&self, view: &View) -> bool {
        let is_known = |member: &Member| {
            self.view.member(member.node).is_some_and(|known| known.replica == member.replica)
        };
        let orders = view.members.iter().filter(|member| member.duty == Duty::Primary).count();
        let own = view.member(self.id).map(|own| own.duty);
        let stays = own.is_some_and(|duty| duty == Duty::Primary || !self.is_master());
        stays && orders == 1 && view.members.iter().all(is_known)
    }
}

/// Before the lives of a view, for who knew of none before it: `life` is what its epoch began with.
pub(super) fn first_life(life: Term, view: &View) -> Term {
    match view.revision.0 - FIRST_REVISION.0 {
        0 => life,
        revisions => Term((round(life) + revisions) << LIVES_BITS),
    }
}

/// To which revision a life belongs, counted from some number on.
fn round(life: Term) -> u64 {
    life.0 >> LIVES_BITS
}

/// Whether a life is of a revision that comes after that of another: who has heard of it lives there.
pub(super) fn is_of_later_revision(life: Term, other: Term) -> bool {
    round(life) > round(other)
}

/// The last entry of a log that is of a revision before that of a life: what a master of it keeps.
pub(super) fn kept(log: &Entries, life: Term) -> Index {
    let base = log.base().index;
    let earlier = log.above(base).take_while(|entry| round(entry.term) < round(life));
    earlier.last().map_or(base, |entry| entry.index)
}
