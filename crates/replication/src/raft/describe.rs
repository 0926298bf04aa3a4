//! What a replica is at present, in one line for people.

use kv::cluster::Role;
use kv::{Index, NodeId};

use super::core::Core;
use super::replica::Raft;

impl Raft {
    /// Such as `n1@2 leader last=4@2 durable=4 commit=3 applied=3 leased progress={2:4→5 3:3→4!}`: node and term, role, the
    /// last entry of its log and that entry's term, how far the log is synced, agreed on and applied.
    ///
    /// A leader's progress is, for each other member, the last index that it acknowledged, and the index that is sent next.
    /// Behind it stands `?` while the leader tries out where the two logs meet, `!` while it waits for a word before it sends
    /// more, and `snapshot` while one is on its way. `lacks=3` is an index up to which it lost entries that it had
    /// acknowledged.
    pub fn describe(&self) -> String {
        let core = &self.core;
        let (id, term, role) = (self.config.id, core.term(), self.role_word());
        let (last, of_term) = (core.last(), core.log().term(core.last()).unwrap_or_default());
        let (durable, commit, applied) = (core.durable(), core.commit(), self.applied.index);
        let mut line = format!(
            "n{id}@{term} {role} last={last}@{of_term} durable={durable} commit={commit} applied={applied}"
        );
        match self.guard.whole_at() {
            Index::MAX => line.push_str(" lacks=all"),
            index if !self.guard.is_whole(durable) => line.push_str(&format!(" lacks={index}")),
            _ => {}
        }
        if core.has_committed() && self.lease.is_valid(self.now) {
            line.push_str(" leased");
        }
        if let Some(to) = core.transferee() {
            line.push_str(&format!(" transfers-to=n{to}"));
        }
        if core.role() == Role::Leader {
            line.push_str(&format!(" progress={{{}}}", self.progress().join(" ")));
        }
        line
    }

    fn role_word(&self) -> String {
        match (self.core.role(), self.core.leader()) {
            (Role::Follower, None) => "follower of nobody".into(),
            (Role::Follower, Some(leader)) => format!("follower of n{leader}"),
            (role, _) => role.name().into(),
        }
    }

    fn progress(&self) -> Vec<String> {
        self.others().map(|id| progress(&self.core, id)).collect()
    }
}

fn progress(core: &Core, id: NodeId) -> String {
    let Some(progress) = core.progress(id) else { return format!("{id}:-") };
    let (mark, wait) = (if progress.probes { "?" } else { "" }, if progress.waits { "!" } else { "" });
    let snapshot = if progress.snapshot { "snapshot" } else { "" };
    format!("{id}:{}→{}{snapshot}{mark}{wait}", progress.matched, progress.next)
}
