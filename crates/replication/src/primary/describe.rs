//! What a replica is at present, for people and for who watches.

use kv::ReplicaId;
use kv::cluster::Role;

use super::order::Order;
use super::replica::Primary;
use crate::{Duty, Member, MemberStatus, Status};

impl Primary {
    pub(super) fn present(&self) -> Status {
        Status {
            role: if self.order.is_some() { Role::Leader } else { Role::Follower },
            leader: self.primary().map(|primary| primary.node),
            term: self.term(),
            last: self.log.last(),
            durable: self.syncs.durable(),
            commit: self.commit,
            applied: self.applied.index,
            members: self.view.members.iter().filter_map(|member| self.member_status(member)).collect(),
            wants_the_gone: false,
            lease_reads: self.lease_reads,
            counts: Default::default(),
        }
    }

    fn member_status(&self, member: &Member) -> Option<MemberStatus> {
        let order = self.order.as_ref()?;
        let Member { node, replica, duty, .. } = *member;
        let follower = order.followers.get(&replica).map(|follower| &follower.progress);
        let matched = follower.map_or(self.syncs.durable(), |progress| progress.matched);
        let snapshot = follower.is_some_and(|progress| progress.snapshot);
        let ready = duty != Duty::Learner || order.joining.contains_key(&replica);
        let log_bytes = self.log.bytes_up_to(matched);
        Some(MemberStatus { node, replica, duty, matched, snapshot, ready, log_bytes })
    }

    /// Such as `n1@2 primary last=4@2 durable=4 commit=3 applied=3 leased progress={2:4→5 3:3→4?}`: node and revision, role, the last
    /// entry of its log and that entry's term, how far the log is synced, agreed on and applied. `opens` = it does not order yet.
    ///
    /// Of a primary's members each has the last index that it acknowledged, and the index that is sent next; behind it `?` while it is
    /// tried out where the two logs meet, `snapshot` while one is on its way, `+` while it is waited for and not known to be in sync.
    /// `in-sync={1 2}` stands where not all are.
    pub fn describe(&self) -> String {
        let (id, revision, last) = (self.config.id, self.view.revision, self.log.last());
        let of_term = self.log.term(last).unwrap_or_default();
        let (role, durable) = (self.role_word(), self.syncs.durable());
        let (commit, applied) = (self.commit, self.applied.index);
        let mut line = format!(
            "n{id}@{revision} {role} last={last}@{of_term} durable={durable} commit={commit} applied={applied}"
        );
        let mut add = |is_so: bool, word: &str| line.push_str(if is_so { word } else { "" });
        add(self.seal.end().is_some(), " sealed");
        add(self.seal.end().is_none() && self.is_sealed(), " may-be-sealed");
        add(self.moment().is_leased, " leased");
        add(self.is_lossy, " lossy");
        add(self.sleep.asleep, " asleep");
        if self.in_sync().count() < self.view.members.len() {
            let in_sync: Vec<String> = self.in_sync().map(|replica| replica.to_string()).collect();
            line.push_str(&format!(" in-sync={{{}}}", in_sync.join(" ")));
        }
        if let Some(order) = &self.order {
            let progress: Vec<String> = self.others().map(|replica| progress(order, replica)).collect();
            line.push_str(&format!(" progress={{{}}}", progress.join(" ")));
        }
        line
    }

    fn role_word(&self) -> String {
        match (&self.order, self.primary()) {
            (Some(order), _) if order.opened.is_some() => "primary".into(),
            (Some(_), _) => "primary opens".into(),
            (None, Some(primary)) if primary.replica == self.replica => "was primary".into(),
            (None, Some(primary)) => {
                let role = match (self.is_in_sync(), self.is_astray()) {
                    (true, _) => "secondary",
                    (false, true) => "astray, not",
                    (false, false) => "learner",
                };
                format!("{role} of n{}", primary.node)
            }
            (None, None) => "member of nobody".into(),
        }
    }
}

fn progress(order: &Order, replica: ReplicaId) -> String {
    let Some(follower) = order.followers.get(&replica) else { return format!("{replica}:-") };
    let progress = &follower.progress;
    let probes = if progress.probes { "?" } else { "" };
    let snapshot = if progress.snapshot { "snapshot" } else { "" };
    let joins = if order.joining.contains_key(&replica) { "+" } else { "" };
    format!("{replica}:{}→{}{snapshot}{probes}{joins}", progress.matched, progress.next)
}
