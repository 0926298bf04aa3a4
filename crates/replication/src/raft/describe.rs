//! What a replica is at present: its status, and one line for people.

use kv::ReplicaId;
use kv::cluster::Role;

use crate::{Duty, Member, MemberStatus, Revision, Status};

use super::core::Core;
use super::replica::Raft;

impl Raft {
    pub(super) fn present(&self) -> Status {
        let core = &self.core;
        Status {
            role: core.role(),
            leader: core.leader().and_then(|leader| self.node_of(leader)),
            term: core.term(),
            last: core.last(),
            durable: core.durable(),
            commit: core.commit(),
            applied: self.applied.index,
            members: core.view().members.iter().filter_map(|member| self.member_status(member)).collect(),
            wants_the_gone: core.role() == Role::Leader && self.wants_the_gone,
            lease_reads: 0,
            counts: Default::default(),
        }
    }

    fn member_status(&self, member: &Member) -> Option<MemberStatus> {
        let progress = self.core.progress(member.replica).filter(|_| self.core.role() == Role::Leader)?;
        let Member { node, replica, duty, .. } = *member;
        let (snapshot, ready) = (self.core.awaits_snapshot(replica), self.has_caught_up(replica));
        let log_bytes = self.core.log().bytes_up_to(progress.matched);
        Some(MemberStatus { node, replica, duty, matched: progress.matched, snapshot, ready, log_bytes })
    }

    /// Such as `n1@2 leader last=4@2 durable=4 commit=3 applied=3 leased progress={2:4→5 3:3→4!}`: node and term, role, the
    /// last entry of its log and that entry's term, how far the log is synced, agreed on and applied.
    ///
    /// A leader's progress is, for each other member, the last index that it acknowledged, and the index that is sent next.
    /// Behind it stands `?` while the leader tries out where the two logs meet, `!` while it waits for a word before it sends
    /// more, and `snapshot` while one is on its way. `lacks=3` is an index up to which it lost entries that it had
    /// acknowledged. `sealed=4` is the entry with which its epoch has ended, `may-be-sealed` that it has one that is not known to be
    /// agreed on. Once members have changed, `members={n1 n2- n4#7+}` names them: the number behind `#` when it is not the
    /// node's, `?` who learns, `+` who joins, `-` who leaves. `wants-the-gone`: the members that it was asked for will never be
    /// there.
    pub fn describe(&self) -> String {
        let core = &self.core;
        let (id, term, role) = (self.config.id, core.term(), self.role_word());
        let (last, of_term) = (core.last(), core.log().term(core.last()).unwrap_or_default());
        let (durable, commit, applied) = (core.durable(), core.commit(), self.applied.index);
        let mut line = format!(
            "n{id}@{term} {role} last={last}@{of_term} durable={durable} commit={commit} applied={applied}"
        );
        if !self.guard.is_whole(durable) {
            line.push_str(&format!(" lacks={}", self.guard.whole_at()));
        }
        if let Some(end) = self.seal.end() {
            line.push_str(&format!(" sealed={}", end.at.index));
        } else if self.is_sealed() {
            line.push_str(" may-be-sealed");
        }
        if core.has_committed() && self.lease.is_valid(self.now) {
            line.push_str(" leased");
        }
        if let Some(to) = core.transferee() {
            line.push_str(&format!(" transfers-to={}", self.named(to)));
        }
        if core.view().revision > Revision(1) {
            line.push_str(&format!(" members={{{}}}", self.members_words().join(" ")));
        }
        if self.present().wants_the_gone {
            line.push_str(" wants-the-gone");
        }
        if self.sleep.asleep {
            line.push_str(" asleep");
        }
        if core.role() == Role::Leader {
            line.push_str(&format!(" progress={{{}}}", self.progress().join(" ")));
        }
        line
    }

    fn role_word(&self) -> String {
        match (self.core.role(), self.core.leader()) {
            (Role::Follower, None) => "follower of nobody".into(),
            (Role::Follower, Some(leader)) => format!("follower of {}", self.named(leader)),
            (role, _) => role.name().into(),
        }
    }

    fn progress(&self) -> Vec<String> {
        self.others().map(|id| progress(&self.core, id)).collect()
    }

    /// The node of a replica, and its number if that is another.
    fn named(&self, replica: ReplicaId) -> String {
        match self.node_of(replica) {
            Some(node) if node.0 == u64::from(replica.0) => format!("n{node}"),
            Some(node) => format!("n{node}#{replica}"),
            None => format!("#{replica}"),
        }
    }

    fn members_words(&self) -> Vec<String> {
        let word = |member: &Member| {
            let duty = match member.duty {
                Duty::Voter | Duty::Primary => "",
                Duty::Learner | Duty::Astray => "?",
                Duty::Joining => "+",
                Duty::Leaving => "-",
            };
            format!("{}{duty}", self.named(member.replica))
        };
        self.core.view().members.iter().map(word).collect()
    }
}

fn progress(core: &Core, id: ReplicaId) -> String {
    let Some(progress) = core.progress(id) else { return format!("{id}:-") };
    let (mark, wait) = (if progress.probes { "?" } else { "" }, if progress.waits { "!" } else { "" });
    let snapshot = if progress.snapshot { "snapshot" } else { "" };
    format!("{id}:{}→{}{snapshot}{mark}{wait}", progress.matched, progress.next)
}
