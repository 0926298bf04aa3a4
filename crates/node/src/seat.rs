//! What the map wants of this node for a shard.

use kv::view::{Duty, Member, Revision, View};
use kv::{Epoch, NodeId, Protocol, ReplicaId, ShardId};
use mutant::Mutant;
use placement::map::{Map, Phase, Shard};

/// A node's seat in a shard, as a map says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// How the replicas agree.
    pub protocol: Protocol,
    /// The members as the directory knows them; with this node, which learns first where it is to become one.
    pub view: View,
    /// The number of this node's replica.
    pub number: ReplicaId,
    /// The revision of the map.
    pub revision: u64,
    /// The shard is handed over to it by the replicas of this epoch: it begins with the state that they leave, not with nothing.
    pub inherits: Option<Epoch>,
}

impl Seat {
    /// Of a node; `None` = the shard needs no replica there. Whoever is a member has one, and whoever is to become one.
    pub fn of(map: &Map, shard: ShardId, me: NodeId) -> Option<Seat> {
        let Some(row) = map.shards.get(&shard) else { return Seat::of_part(map, shard, me) };
        let (protocol, revision) = (row.protocol, map.revision);
        let seat = |view, number, inherits| Some(Seat { protocol, view, number, revision, inherits });
        if let Some(member) = row.member(me) {
            return seat(row.view(), member.replica, None);
        }
        let change = map.changes.get(&shard)?;
        let member = *change.to.iter().find(|member| member.node == me)?;
        if change.epoch > row.epoch {
            let view = View { epoch: change.epoch, revision: Revision(1), members: change.to.clone() };
            return seat(view, member.replica, Some(row.epoch));
        }
        let mut view = row.view();
        if protocol == Protocol::Primary {
            // Who orders takes it in by a revision to come. Until then it knows of none, so that no two views are of the same.
            view.revision = Revision(0);
            let orders = view.members.iter_mut().filter(|member| member.duty == Duty::Primary);
            orders.for_each(|member| member.duty = Duty::Voter);
        }
        let place = view.members.partition_point(|other| other.node < me);
        view.members.insert(place, Member { duty: Duty::Learner, ..member });
        seat(view, member.replica, None)
    }

    /// In a part of a shard that is cut: it begins with what the shard leaves to it.
    fn of_part(map: &Map, part: ShardId, me: NodeId) -> Option<Seat> {
        let (_, row, ..) = map.part(part)?;
        let (of_part, inherits, revision) = (map.row_of_part(part)?, Some(row.epoch), map.revision);
        let number = of_part.member(me)?.replica;
        Some(Seat { protocol: of_part.protocol, view: of_part.view(), number, revision, inherits })
    }

    /// Whether a replica may begin with nothing: where the shard has none before, or its protocol brings it what it lacks.
    pub fn begins_empty(&self) -> bool {
        let is_brought_up = match self.protocol {
            Protocol::Raft | Protocol::Primary => true,
            Protocol::Single | Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast => false,
        };
        self.inherits.is_none() && (is_brought_up || self.view.epoch == Epoch(1))
    }
}

/// The members that a map wants of a shard now. As long as a change may be given up they are those of before, and those that are to
/// come learn; from then on they are those that it is to have, without who is gone before it came. A shard that is handed over has
/// those of before until its epoch ends.
pub(crate) fn wanted_of(map: &Map, shard: ShardId, row: &Shard) -> Vec<Member> {
    let Some(change) = map.changes.get(&shard).filter(|change| change.epoch == row.epoch) else {
        return row.members.clone();
    };
    if change.phase == Phase::Switch || mutant::is(Mutant::SwitchesWhileItCopies) {
        return map.left_of(row, change);
    }
    let comes = change.to.iter().filter(|member| row.member(member.node).is_none());
    let learns = comes.map(|member| Member { duty: Duty::Learner, ..*member });
    let mut members: Vec<Member> = row.members.iter().copied().chain(learns).collect();
    members.sort_by_key(|member| member.node);
    members
}

#[cfg(test)]
mod tests {
    use placement::map::{Change, Why};
    use placement::{Founder, Founding};

    use super::*;

    const SHARD: ShardId = ShardId(1);

    #[test]
    fn seat_is_that_of_a_member_or_of_one_that_learns_to_be() {
        let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
        let (nodes, protocol) = ((1..=5).map(founder).collect(), Protocol::Raft);
        let mut map = Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 3, protocol });
        let row = &map.shards[&SHARD];
        let (epoch, old) = (row.epoch, row.members.clone());
        let new = Member { node: NodeId(5), replica: ReplicaId(4), ..old[1] };
        let to = vec![old[1], old[2], new];
        map.changes.insert(SHARD, Change { to, epoch, phase: Phase::Copy, why: Why::Balance });
        let number = |node| Seat::of(&map, SHARD, NodeId(node)).map(|seat| seat.number.0);
        assert_eq!([1, 2, 3, 4, 5].map(number), [Some(1), Some(2), Some(3), None, Some(4)]);
        let seat = Seat::of(&map, SHARD, NodeId(5)).unwrap();
        assert_eq!((seat.revision, seat.view.revision), (1, Revision(1)));
        let duties: Vec<(u64, Duty)> =
            seat.view.members.iter().map(|member| (member.node.0, member.duty)).collect();
        let [first, second, third] = [1, 2, 3].map(|node| (node, Duty::Voter));
        assert_eq!(duties, [first, second, third, (5, Duty::Learner)]);
    }

    #[test]
    fn seat_of_who_comes_to_a_primary_is_of_no_revision_of_the_map() {
        let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
        let (nodes, protocol) = ((1..=3).map(founder).collect(), Protocol::Primary);
        let mut map = Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 2, protocol });
        let (epoch, old) = (map.shards[&SHARD].epoch, map.shards[&SHARD].members.clone());
        let comes = (1..=3).map(NodeId).find(|node| old.iter().all(|member| member.node != *node)).unwrap();
        let new = Member { node: comes, replica: ReplicaId(3), duty: Duty::Voter, ..old[1] };
        let mut to = vec![old[0], new];
        to.sort_by_key(|member| member.node);
        map.changes.insert(SHARD, Change { to, epoch, phase: Phase::Copy, why: Why::Balance });
        let view = Seat::of(&map, SHARD, comes).unwrap().view;
        assert_eq!(view.revision, Revision(0));
        assert!(view.members.iter().all(|member| member.duty != Duty::Primary));
    }

    #[test]
    fn seat_of_an_heir_is_in_the_epoch_that_it_is_to_begin() {
        let founder = |id| Founder { name: format!("n{id}"), peer: String::new() };
        let (nodes, protocol) = ((1..=2).map(founder).collect(), Protocol::Single);
        let mut map = Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 1, protocol });
        let (owner, heir) = (map.shards[&SHARD].members[0], NodeId(3 - map.shards[&SHARD].members[0].node.0));
        let to = vec![Member { node: heir, replica: ReplicaId(2), ..owner }];
        map.changes.insert(SHARD, Change { to, epoch: Epoch(2), phase: Phase::Copy, why: Why::Balance });
        let of = |map: &Map, node| {
            let seat = Seat::of(map, SHARD, node)?;
            Some((seat.view.epoch.0, seat.number.0, seat.inherits, seat.begins_empty()))
        };
        assert_eq!(of(&map, owner.node), Some((1, 1, None, true)), "it serves until it is sealed");
        assert_eq!(of(&map, heir), Some((2, 2, Some(Epoch(1)), false)));
        let change = map.changes.remove(&SHARD).unwrap();
        let row = map.shards.get_mut(&SHARD).unwrap();
        (row.members, row.epoch) = (change.to, change.epoch);
        assert_eq!(of(&map, owner.node), None);
        assert_eq!(of(&map, heir), Some((2, 2, None, false)), "it never begins with nothing");
    }
}
