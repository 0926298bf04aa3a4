//! Who belongs to the group, and how that changes.
//!
//! The directory says whom the group is to have ([`crate::Input::Want`]); whoever leads goes there step by step, each an entry
//! that says who the members are from there on:
//!
//! ```text
//!   wanted 1 2 4       members                        counted
//!   1. learn           1 2 3 4(learner)               2 of 1 2 3
//!   2. join            1 2 3(leaving) 4(joining)      2 of 1 2 3 and 2 of 1 2 4     once 4 has caught up
//!   3. leave           1 2 4                          2 of 1 2 4                    once that is agreed on
//! ```
//!
//! The next step follows from the members of now alone ([`next`]): a leader that takes over in the middle goes on from there. It
//! takes no step before it has committed an entry of its term, and none while one is on its way. Who is wanted as a learner is
//! brought up to date and joins when it is wanted to count: until then the members of before can be wanted again, and nothing has
//! changed. Once they join, it goes through: step 3 is taken whatever is wanted.
//!
//! Why two sets count in between: members that hear of a change at different times would else elect two leaders, one by a
//! majority of before and one by a majority of after. While both count, each decision meets each of before and each of after.
//!
//! A member that is to go and leads hands its role over before step 3.

use kv::ReplicaId;
use kv::cluster::Role;
use mutant::Mutant;

use super::replica::Raft;
use crate::{Duty, Index, Member, Output, View};

/// A learner that lacks at most so many entries has caught up: it takes them in while it joins.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// What a leader does next for the members that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// They are there, or nothing else is wanted.
    Done,
    /// Somebody has yet to catch up, or another is to lead.
    Wait,
    /// These become the members.
    Take(Vec<Member>),
}

/// The next step from the members of now to those that are wanted, for the replica that leads; `ready`: who has caught up.
pub(super) fn next(
    view: &View,
    wanted: Option<&[Member]>,
    leader: ReplicaId,
    ready: impl Fn(ReplicaId) -> bool,
) -> Step {
    if view.is_joint() {
        let leaves = view.replica(leader).is_some_and(|member| member.duty == Duty::Leaving);
        return if leaves { Step::Wait } else { Step::Take(left(&view.members)) };
    }
    let Some(wanted) = wanted else { return Step::Done };
    let is_wanted = |member: &Member| wanted.iter().any(|other| other.replica == member.replica);
    // Who learns and is not wanted any more goes at once; so does nobody else.
    let stay = view.members.iter().filter(|member| member.duty == Duty::Voter || is_wanted(member)).copied();
    // A node has one replica of a shard at a time: a new one comes when the old one is gone. So does who has a higher number, for
    // of two that come the lower one is never the later.
    let is_new = |member: &&Member| view.replica(member.replica).is_none();
    let strangers = || wanted.iter().filter(is_new);
    let has_to_wait = strangers().filter(|member| view.member(member.node).is_some());
    let first = has_to_wait.map(|member| member.replica).min();
    let come = strangers().filter(|member| first.is_none_or(|first| member.replica < first));
    let come = come.map(|member| Member { duty: Duty::Learner, ..*member });
    let learning = in_order(stay.chain(come).collect());
    if learning != view.members {
        return Step::Take(learning);
    }
    let is_to_learn = |member: &Member| {
        wanted.iter().any(|other| other.replica == member.replica && other.duty == Duty::Learner)
    };
    let will = |member: &Member| match (member.duty, is_wanted(member)) {
        (Duty::Voter, true) => Duty::Voter,
        (Duty::Voter, false) => Duty::Leaving,
        _ if is_to_learn(member) => Duty::Learner,
        _ => Duty::Joining,
    };
    let joint: Vec<Member> = learning.iter().map(|member| Member { duty: will(member), ..*member }).collect();
    let joining = || joint.iter().filter(|member| member.duty == Duty::Joining);
    if joint == view.members || !joint.iter().any(|member| member.duty.will_count()) {
        return Step::Done;
    }
    match joining().all(|member| ready(member.replica)) {
        true if mutant::is(Mutant::MembersChangeAtOnce) => Step::Take(left(&joint)),
        true => Step::Take(joint),
        false => Step::Wait,
    }
}

/// The members that there are when those that leave have left.
fn left(joint: &[Member]) -> Vec<Member> {
    let stay = joint.iter().filter(|member| member.duty != Duty::Leaving);
    let counts = |member: &Member| if member.duty == Duty::Joining { Duty::Voter } else { member.duty };
    stay.map(|member| Member { duty: counts(member), ..*member }).collect()
}

fn in_order(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by_key(|member| member.node);
    members
}

impl Raft {
    /// Members that are agreed on: they count from now on. That they are agreed on is written.
    pub(super) fn take_members(&mut self, view: View, out: &mut Vec<Output>) {
        self.lease.revoke();
        self.core.take_members(view.clone());
        let ticket = self.outbox.issue();
        self.known.learn(ticket, view);
        out.push(Output::Append { ticket, records: vec![self.core.commit_record()], install: false });
    }

    /// The directory wants these members. Only a leader is asked, again and again: one that stops leading forgets it, lest it
    /// comes back to members of long ago.
    pub(super) fn want(&mut self, members: Vec<Member>) {
        if self.core.role() != Role::Leader || self.is_sealed() {
            return;
        }
        self.wants_the_gone = self.names_the_gone(&members);
        if self.wants_the_gone {
            return;
        }
        let is_there = next(self.core.view(), Some(&members), self.replica, |_| true) == Step::Done;
        self.wanted = Some(members).filter(|_| !is_there);
        if self.wanted.is_some() {
            self.wake();
        }
    }

    /// Whether these name a replica that was a member and is none any more. Its number is not given again: it may have voted, and
    /// have forgotten that.
    fn names_the_gone(&self, members: &[Member]) -> bool {
        let view = self.core.view();
        let strangers = members.iter().filter(|member| view.replica(member.replica).is_none());
        strangers.into_iter().any(|member| self.core.has_seen(member.replica))
    }

    /// Takes the next step towards the members that are wanted, if one can be taken. Whether an entry was appended.
    pub(super) fn change_members(&mut self) -> bool {
        let is_idle = self.wanted.is_none() && !self.core.view().is_joint();
        if is_idle || self.is_sealed() || !self.core.has_committed() || !self.core.may_change_members() {
            return false;
        }
        self.wanted = self.wanted.take().filter(|members| !self.names_the_gone(members));
        match next(self.core.view(), self.wanted.as_deref(), self.replica, |replica| {
            self.has_caught_up(replica)
        }) {
            Step::Done => self.wanted = None,
            Step::Wait => {}
            Step::Take(members) => return self.core.propose_members(members),
        }
        false
    }

    /// Whether a member has almost all there is and takes the rest in; or just all, for nobody takes in what is not there.
    pub(super) fn has_caught_up(&self, replica: ReplicaId) -> bool {
        let last = self.core.last();
        let least = Index(last.0.saturating_sub(CAUGHT_UP_ENTRIES));
        let caught_up = |progress: super::core::Progress| {
            progress.matched == last || (!progress.probes && progress.matched >= least)
        };
        self.core.progress(replica).is_some_and(|progress| !progress.snapshot && caught_up(progress))
    }

    /// A tick is over: a leader that leaves hands its role over, to the member that is furthest of those that know of the change.
    /// Who has not applied it yet could not ask to be elected, and writes would wait for nothing.
    pub(super) fn step_aside(&mut self) {
        let view = self.core.view();
        let leaves = view.replica(self.replica).is_some_and(|member| member.duty == Duty::Leaving);
        if !leaves || self.core.transferee().is_some() {
            return;
        }
        let stay = view.members.iter().filter(|member| member.duty.will_count());
        let progress = |member: &Member| Some((self.core.progress(member.replica)?, member.replica));
        let know = stay.filter_map(progress).filter(|(progress, _)| progress.commit.0 >= view.revision.0);
        if let Some((_, replica)) = know.max_by_key(|(progress, _)| progress.matched) {
            self.core.transfer(replica);
        }
    }
}

#[cfg(test)]
mod tests {
    use kv::{Epoch, NodeId};

    use super::*;

    /// Members such as `1 2-leaving 4`, each on the node of its number unless that is said (`7@3`: number 7 on node 3).
    fn members(text: &str) -> Vec<Member> {
        let member = |word: &str| {
            let (whose, duty) = word.split_once('-').unwrap_or((word, "voter"));
            let (number, node) = whose.split_once('@').unwrap_or((whose, whose));
            let duty = match duty {
                "voter" => Duty::Voter,
                "learner" => Duty::Learner,
                "joining" => Duty::Joining,
                _ => Duty::Leaving,
            };
            let (node, replica) = (NodeId(node.parse().unwrap()), ReplicaId(number.parse().unwrap()));
            Member { node, replica, incarnation: 0, duty, weight: 1 }
        };
        text.split(' ').map(member).collect()
    }

    fn step(now: &str, wanted: &str, leader: u16, ready: &[u16]) -> Step {
        let mut view = View::of(Epoch(1), &[NodeId(1)]);
        view.members = members(now);
        let wanted = (!wanted.is_empty()).then(|| members(wanted));
        next(&view, wanted.as_deref(), ReplicaId(leader), |replica| ready.contains(&replica.0))
    }

    fn take(text: &str) -> Step {
        Step::Take(members(text))
    }

    #[test]
    fn members_come_learning_and_count_when_they_have_caught_up() {
        assert_eq!(step("1 2 3", "1 2 4", 1, &[]), take("1 2 3 4-learner"));
        assert_eq!(step("1 2 3 4-learner", "1 2 4", 1, &[]), Step::Wait);
        assert_eq!(step("1 2 3 4-learner", "1 2 4", 1, &[4]), take("1 2 3-leaving 4-joining"));
        assert_eq!(step("1 2 3-leaving 4-joining", "1 2 4", 1, &[]), take("1 2 4"));
        assert_eq!(step("1 2 4", "1 2 4", 1, &[]), Step::Done);
        assert_eq!(step("1", "1 2 3", 1, &[]), take("1 2-learner 3-learner"));
        assert_eq!(step("1 2-learner 3-learner", "1 2 3", 1, &[2]), Step::Wait, "they join together");
    }

    #[test]
    fn members_wanted_as_learners_do_not_join_until_they_are_wanted_to_count() {
        assert_eq!(step("1 2 3", "1 2 3 4-learner", 1, &[]), take("1 2 3 4-learner"));
        assert_eq!(step("1 2 3 4-learner", "1 2 3 4-learner", 1, &[4]), Step::Done);
        assert_eq!(step("1 2 3 4-learner", "1 2 4", 1, &[4]), take("1 2 3-leaving 4-joining"));
        assert_eq!(step("1 2 3 4-learner", "1 2 3", 1, &[4]), take("1 2 3"));
    }

    #[test]
    fn members_that_only_go_go_without_waiting() {
        assert_eq!(step("1 2 3", "1 2", 1, &[]), take("1 2 3-leaving"));
        assert_eq!(step("1 2 3", "", 1, &[]), Step::Done);
    }

    #[test]
    fn members_that_join_go_through_whatever_is_wanted() {
        for wanted in ["", "1 2 3", "5"] {
            assert_eq!(step("1 2 3-leaving 4-joining", wanted, 1, &[]), take("1 2 4"));
        }
    }

    #[test]
    fn members_wanted_no_more_stop_learning() {
        assert_eq!(step("1 2 3 4-learner", "1 2 3", 1, &[4]), take("1 2 3"));
        assert_eq!(step("1 2 3 4-learner", "1 2 5", 1, &[4]), take("1 2 3 5-learner"));
    }

    #[test]
    fn members_leader_that_goes_hands_over_first() {
        assert_eq!(step("1 2-learner", "2", 1, &[2]), take("1-leaving 2-joining"));
        assert_eq!(step("1-leaving 2-joining", "2", 1, &[2]), Step::Wait);
        assert_eq!(step("1-leaving 2-joining", "2", 2, &[]), take("2"));
    }

    #[test]
    fn members_new_replica_on_a_node_comes_when_the_old_one_is_gone() {
        assert_eq!(step("1 2 3", "1 2 7@3", 1, &[]), take("1 2 3-leaving"));
        assert_eq!(step("1 2", "1 2 7@3", 1, &[]), take("1 2 7@3-learner"));
        assert_eq!(step("1", "7@1", 1, &[]), Step::Done, "nobody would be left meanwhile");
    }

    #[test]
    fn members_come_in_the_order_of_their_numbers() {
        let wanted = "1 2 8@4-learner 9@5-learner";
        assert_eq!(step("1 2 6@4-learner", wanted, 1, &[]), take("1 2"));
        assert_eq!(step("1 2", wanted, 1, &[]), take("1 2 8@4-learner 9@5-learner"));
        assert_eq!(step("1 2 6@4-learner", "1 2 8@4-learner 7@5-learner", 1, &[]), take("1 2 7@5-learner"));
    }
}
