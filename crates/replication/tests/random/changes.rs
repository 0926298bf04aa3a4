//! The same faults while members change: a directory that wants other members now and then, and says so to whoever leads, at
//! any time, again and again.
//!
//! Whatever happens: replicas that know of a change know of the same, no two lead in a term, and what is agreed on is in the
//! logs of whoever belongs to the group when all is calm again.

use std::collections::BTreeMap;

use kv::NodeId;
use kv::cluster::Role;
use replication::{Duty, Member, Replicate, View};

use super::cluster::member;
use super::{EVENTS, Run, SEEDS};

/// Nodes that there are.
const NODES: u64 = 6;

/// What the directory knows.
#[derive(Default)]
pub struct Directory {
    /// Whom the group is to have.
    wanted: Vec<Member>,
    /// The highest number that it gave to a replica.
    given: u16,
    /// Every view that a replica was in.
    views: BTreeMap<u64, View>,
}

#[test]
fn raft_random_changes_of_members_break_no_promise() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(SEEDS / 2), |seed| seed..seed + 1);
    let alone = seeds.end - seeds.start == 1;
    let mut sometimes = BTreeMap::new();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| Run::new(seed).go_changing());
        let again = "SEED=n cargo test -p replication --test random raft_random_changes";
        let seen = run.unwrap_or_else(|_| panic!("seed {seed} fails: run it alone with {again}"));
        seen.into_iter().for_each(|(what, count)| *sometimes.entry(what).or_insert(0) += count);
    }
    println!("{sometimes:#?}");
    for what in
        ["joint", "learner", "joiner leads", "leaver leads", "removed", "given up", "restart in between"]
    {
        assert!(alone || sometimes.contains_key(what), "the test never saw: {what}");
    }
}

impl Run {
    fn go_changing(mut self) -> BTreeMap<&'static str, u64> {
        self.directory.wanted = (1..=3).map(|id| member(id, id as u16)).collect();
        self.directory.given = 3;
        (0..200).for_each(|_| self.calm());
        for _ in 0..EVENTS {
            match self.random.below(40) {
                0 => self.want_others(),
                1..4 => self.say_what_is_wanted(),
                _ => self.event(),
            }
            self.host();
            self.check();
            self.check_views();
        }
        self.converge_on_members();
        self.seen
    }

    /// The members as the last change that was agreed on has them.
    fn latest(&self) -> View {
        let views = self.ids().into_iter().filter_map(|id| self.cluster.learned_view(id));
        let seen = self.directory.views.last_key_value().map(|(_, view)| view.clone());
        views.chain(seen).max_by_key(|view| view.revision).expect("somebody has a view")
    }

    /// The directory wants other members: some that there are, and some new ones, which get numbers that nobody had.
    fn want_others(&mut self) {
        let latest = self.latest();
        let is_over = !latest.is_joint() && self.directory.wanted.len() == latest.members.len();
        if !is_over && self.random.below(4) > 0 {
            return;
        }
        let learns = latest.members.iter().any(|member| member.duty == Duty::Learner);
        let mut wanted = Vec::new();
        for id in 1..=NODES {
            match latest.member(NodeId(id)) {
                Some(member) if member.duty == Duty::Leaving => {}
                Some(member) if self.random.below(3) > 0 => {
                    wanted.push(Member { duty: Duty::Voter, ..*member })
                }
                None if self.random.below(3) == 0 => {
                    self.directory.given += 1;
                    wanted.push(member(id, self.directory.given));
                }
                _ => {}
            }
        }
        if !wanted.is_empty() {
            let gives_up = learns
                && latest
                    .members
                    .iter()
                    .filter(|member| member.duty == Duty::Learner)
                    .all(|member| !wanted.iter().any(|other| other.replica == member.replica));
            *self.seen.entry("given up").or_default() += u64::from(gives_up);
            self.directory.wanted = wanted;
        }
    }

    /// Whoever leads hears what is wanted, as its node knows it.
    fn say_what_is_wanted(&mut self) {
        let wanted = self.directory.wanted.clone();
        for id in self.ids() {
            if self.cluster.replica(id).is_some_and(|replica| replica.status().role == Role::Leader) {
                self.if_running(id, |run| run.cluster.want(id, &wanted));
            }
        }
    }

    /// Nodes make the replicas that they are to have, and drop those that they are not to have any more, some time.
    fn host(&mut self) {
        let latest = self.latest();
        let wanted = self.directory.wanted.clone();
        let is_meant = |node: u64, replica| {
            let is = |member: &Member| member.node == NodeId(node) && member.replica == replica;
            wanted.iter().any(is) || latest.members.iter().any(is)
        };
        // Until a majority knows of the members they may need the votes of those that have left.
        let knows = |node: NodeId| {
            let replica = self.cluster.replica(node.0).filter(|_| latest.member(node).is_some());
            replica.is_some_and(|replica| replica.view().revision == latest.revision)
        };
        let is_known = latest.has_majority(knows);
        for id in self.ids() {
            let replica = self.cluster.number(id);
            if is_known && !is_meant(id, replica) && self.random.below(20) == 0 {
                self.lose_requests(id);
                self.cluster.remove(id);
                *self.seen.entry("removed").or_default() += 1;
            }
        }
        for Member { node, replica, .. } in wanted {
            let like = self.ids().into_iter().find(|id| {
                self.cluster.replica(*id).is_some_and(|other| other.view().revision == latest.revision)
            });
            if let (false, Some(like)) = (self.ids().contains(&node.0), like) {
                self.cluster.join(node.0, replica.0, like);
            }
        }
    }

    fn check_views(&mut self) {
        for id in self.ids() {
            let Some(replica) = self.cluster.replica(id) else { continue };
            let (view, role) = (replica.view().clone(), replica.status().role);
            let own =
                replica.status().members.into_iter().find(|member| member.replica == self.cluster.number(id));
            let (duty, is_joint) = (own.map(|member| member.duty), view.is_joint());
            let learns = view.members.iter().any(|member| member.duty == Duty::Learner);
            assert!(
                role != Role::Leader || duty.is_some_and(|duty| duty != Duty::Learner),
                "who does not count leads: {}",
                replica.describe()
            );
            if self.cluster.learned_view(id).is_some() {
                let known = self.directory.views.entry(view.revision.0).or_insert_with(|| view.clone());
                assert_eq!(*known, view, "two changes under one revision");
            }
            let mut saw = |what, is: bool| *self.seen.entry(what).or_default() += u64::from(is);
            saw("joint", is_joint);
            saw("learner", learns);
            saw("joiner leads", role == Role::Leader && duty == Some(Duty::Joining));
            saw("leaver leads", role == Role::Leader && duty == Some(Duty::Leaving));
            saw("restart in between", is_joint && replica.status().applied < replica.status().commit);
        }
        self.seen.retain(|_, count| *count > 0);
    }

    /// All faults end: the group comes to the members that are wanted, and these to one state.
    fn converge_on_members(&mut self) {
        self.cuts.0.clear();
        self.stopped.clear();
        let is_there = |run: &Run| {
            let (view, wanted) = (run.latest(), &run.directory.wanted);
            let numbers = |members: &[Member]| Vec::from_iter(members.iter().map(|member| member.replica));
            !view.is_joint() && numbers(&view.members) == numbers(wanted)
        };
        for round in 0..6000 {
            // What was on its way may have ended in members that went on without those that were wanted.
            if round % 1000 == 0 {
                let latest = self.latest();
                let count = latest.members.iter().filter(|member| member.duty.will_count());
                self.directory.wanted = count.map(|member| Member { duty: Duty::Voter, ..*member }).collect();
            }
            if round % 10 == 0 {
                self.say_what_is_wanted();
            }
            self.host();
            self.calm();
            self.check_views();
            let hosts = Vec::from_iter(self.directory.wanted.iter().map(|member| member.node.0));
            if round > 600 && is_there(self) && self.ids() == hosts {
                break;
            }
        }
        let wanted = &self.directory.wanted;
        let states = self.ids().into_iter().filter_map(|id| self.cluster.replica(id)).map(|it| it.describe());
        let states = states.collect::<Vec<_>>().join("\n");
        assert!(is_there(self), "the group did not come to its members, {wanted:?}:\n{states}");
        self.converge();
    }
}
