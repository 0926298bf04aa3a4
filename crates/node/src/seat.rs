//! What the map wants of this node for a shard.

use kv::view::{Duty, Member, View};
use kv::{NodeId, Protocol, ReplicaId, ShardId};
use placement::map::{Change, Map, Phase, Shard};

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
}

impl Seat {
    /// Of a node; `None` = the shard needs no replica there. Whoever is a member has one, and whoever is to become one.
    pub fn of(map: &Map, shard: ShardId, me: NodeId) -> Option<Seat> {
        let row = map.shards.get(&shard)?;
        let mut view = row.view();
        let number = match view.member(me) {
            Some(member) => member.replica,
            None => {
                let mut change = map.changes.get(&shard)?.to.iter();
                let member = *change.find(|member| member.node == me)?;
                let place = view.members.partition_point(|other| other.node < me);
                view.members.insert(place, Member { duty: Duty::Learner, ..member });
                member.replica
            }
        };
        Some(Seat { protocol: row.protocol, view, number, revision: map.revision })
    }
}

/// The members that a map wants of a shard now. As long as a change may be given up they are those of before, and those that are to
/// come learn; from then on they are those that it is to have.
pub(crate) fn wanted_of(row: &Shard, change: Option<&Change>) -> Vec<Member> {
    let Some(change) = change else { return row.members.clone() };
    if change.phase == Phase::Switch {
        return change.to.clone();
    }
    let comes = change.to.iter().filter(|member| row.member(member.node).is_none());
    let learns = comes.map(|member| Member { duty: Duty::Learner, ..*member });
    let mut members: Vec<Member> = row.members.iter().copied().chain(learns).collect();
    members.sort_by_key(|member| member.node);
    members
}

#[cfg(test)]
mod tests {
    use kv::view::Revision;
    use placement::map::Why;
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
}
