//! How the raft crate is led from one set of members to another.
//!
//! An entry of the log says who the members are, not what changes: so the crate's own form of a change, which is to be proposed
//! to it and given back, is passed by. Its `Changer` is asked for each step, and the steps count when the last one is done.

use ::raft::Changer;
use ::raft::eraftpb::{ConfChangeSingle, ConfChangeType, Entry, EntryType};
use bytes::{Bytes, BytesMut};
use kv::ReplicaId;
use kv::cluster::Role;

use super::{Core, highest, wire};
use crate::{Duty, Member, Revision, View};

/// One step of the way.
enum Step {
    /// Who counted before a change that is under way counts no more.
    Leave,
    /// One member comes, goes, or counts from now on.
    One(ConfChangeSingle),
    /// These come and go together; until that is left, both sets count.
    Enter(Vec<ConfChangeSingle>),
}

impl Core {
    /// Whether a change of members may be appended now: none is on its way.
    pub(in super::super) fn may_change_members(&self) -> bool {
        self.may_propose() && !self.raw.raft.has_pending_conf()
    }

    /// Appends an entry that makes these the members, as a leader that [may](Core::may_change_members). Whether it did.
    pub(in super::super) fn propose_members(&mut self, members: Vec<Member>) -> bool {
        let index = self.last().next();
        let mut data = BytesMut::new();
        View { epoch: self.head.epoch, revision: Revision(index.0), members }.encode(&mut data);
        let mut entry = Entry { data: data.freeze(), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        let raft = &mut self.raw.raft;
        if !raft.append_entry(&mut [entry]) {
            return false;
        }
        raft.pending_conf_index = index.0;
        raft.bcast_append();
        true
    }

    /// Appends the entry that ends the epoch, as a leader that [may change members](Core::may_change_members). Whether it did.
    pub(in super::super) fn propose_seal(&mut self, data: Bytes) -> bool {
        let mut entry = Entry { data, ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChange);
        let raft = &mut self.raw.raft;
        let is_appended = raft.append_entry(&mut [entry]);
        if is_appended {
            raft.bcast_append();
        }
        is_appended
    }

    /// An entry that says who the members are is given out: from here on they count. Who does not count itself any more neither
    /// leads nor asks to.
    pub(in super::super) fn take_members(&mut self, view: View) {
        assert_eq!(view.epoch, self.head.epoch, "a replica serves one epoch");
        self.lead_to(&view);
        self.highest = self.highest.max(highest(&view));
        let store = self.raw.mut_store();
        store.snapshots.get_mut().keep(|replica| view.replica(replica).is_some());
        store.views.push_back(view);
        let raft = &mut self.raw.raft;
        raft.post_conf_change();
        if !raft.promotable() && self.role() != Role::Follower {
            let raft = &mut self.raw.raft;
            raft.become_follower(raft.term, ::raft::INVALID_ID);
        }
        self.keep_timeout();
    }

    /// Whether a number was given to a member before: then it is no new replica's.
    pub(in super::super) fn has_seen(&self, replica: ReplicaId) -> bool {
        replica <= self.highest
    }

    fn lead_to(&mut self, view: &View) {
        if !self.raw.raft.prs().conf().to_conf_state().voters_outgoing.is_empty() {
            self.change(Step::Leave);
        }
        // First those that counted before, and who is to count as one who learns; then the others go.
        let before = if view.is_joint() { Duty::did_count } else { Duty::will_count };
        let voters = singles(ConfChangeType::AddNode, wire::ids(view, before));
        let others = wire::ids(view, |duty| matches!(duty, Duty::Learner | Duty::Joining));
        let learners = singles(ConfChangeType::AddLearnerNode, others);
        let known = self.raw.raft.prs().iter().map(|(id, _)| *id);
        let strangers = known.filter(|id| view.replica(wire::replica(*id)).is_none());
        let gone = singles(ConfChangeType::RemoveNode, strangers);
        for step in [voters, learners, gone].concat() {
            self.change(Step::One(step));
        }
        if view.is_joint() {
            let joining = wire::ids(view, |duty| duty == Duty::Joining);
            let leaving = wire::ids(view, |duty| duty == Duty::Leaving);
            let joining = singles(ConfChangeType::AddNode, joining);
            self.change(Step::Enter([joining, singles(ConfChangeType::RemoveNode, leaving)].concat()));
        }
    }

    fn change(&mut self, step: Step) {
        let last = self.last();
        let progress = self.raw.raft.mut_prs();
        let mut changer = Changer::new(progress);
        let changed = match step {
            Step::Leave => changer.leave_joint(),
            Step::One(one) => changer.simple(&[one]),
            Step::Enter(all) => changer.enter_joint(false, &all),
        };
        let (conf, changes) = changed.expect("members that count stay at every step");
        progress.apply_conf(conf, changes, last.0);
    }
}

fn singles(change: ConfChangeType, ids: impl Iterator<Item = u64>) -> Vec<ConfChangeSingle> {
    let single = |id| {
        let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
        single.set_change_type(change);
        single
    };
    ids.map(single).collect()
}
