//! Who belongs to a shard: its members under an epoch and a revision.
//!
//! An epoch rises when a shard is handed over: to another protocol, to other bounds, or to other members where the protocol
//! cannot change them itself. Within an epoch the revision rises with members and their duties. A replica keeps the view it
//! knows in its log: in a record of its own, and in each that stands for a whole state.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::codec::{Malformed, Reader, put_list, put_uint};
use crate::{Epoch, NodeId, ReplicaId};

/// Rises with the members of a shard and their duties, within an epoch. Starts at 1; 0 is before the first members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The members of a shard at a moment. Ordered by time: a later epoch is later, then a later revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// In which the members serve.
    pub epoch: Epoch,
    /// Starts at 1.
    pub revision: Revision,
    /// In the order of their nodes; at least one.
    pub members: Vec<Member>,
}

/// What a replica asks of its directory: in this epoch and revision, make these the members, under the next revision. It holds only
/// while epoch and revision are these, and for who asks only as the member that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The epoch as who asks knows it.
    pub epoch: Epoch,
    /// The revision as who asks knows it.
    pub revision: Revision,
    /// Who asks: node, number, and life of its node's folder.
    pub by: Member,
    /// The members as they are to be; the same ones, with other duties or the same.
    pub members: Vec<Member>,
}

/// A replica that belongs to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub node: NodeId,
    /// Its number in the shard: what its versions carry.
    pub replica: ReplicaId,
    /// The life of the node's data folder that it belongs to; 0 = not known.
    pub incarnation: u64,
    /// What it is there for.
    pub duty: Duty,
    /// How much it weighs where replicas are weighed.
    pub weight: u32,
}

/// What a member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It counts where a majority is counted.
    Voter,
    /// It counts like a voter, and orders for the others: where the directory says which member does.
    Primary,
    /// It is brought up to date, and does not count.
    Learner,
    /// The operator had another one order that was not in sync: what this one has may have gone another way. It counts for nothing and
    /// serves nobody, until it begins anew under another number.
    Astray,
    /// A change of members is under way: it counts among those that are to be, not yet among those that were.
    Joining,
    /// A change of members is under way: it counts among those that were, no more among those that are to be.
    Leaving,
}

impl Duty {
    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Duty::Voter => "voter",
            Duty::Primary => "primary",
            Duty::Learner => "learner",
            Duty::Astray => "astray",
            Duty::Joining => "joining",
            Duty::Leaving => "leaving",
        }
    }

    /// Whether it counts once a change that is under way is over.
    pub fn will_count(self) -> bool {
        matches!(self, Duty::Voter | Duty::Primary | Duty::Joining)
    }

    /// Whether it counted before a change that is under way began.
    pub fn did_count(self) -> bool {
        matches!(self, Duty::Voter | Duty::Primary | Duty::Leaving)
    }
}

impl View {
    /// The first view of an epoch in which these nodes vote alike, with replicas numbered in this order from 1.
    ///
    /// # Panics
    ///
    /// Without nodes, or with more than there are numbers for replicas.
    pub fn of(epoch: Epoch, nodes: &[NodeId]) -> View {
        assert!(!nodes.is_empty(), "a shard has a member");
        assert!(nodes.is_sorted_by(|one, other| one < other), "members are in the order of their nodes");
        let member = |(place, &node): (usize, &NodeId)| {
            let number = u16::try_from(place + 1).ok().filter(|number| *number <= ReplicaId::MAX.0);
            let replica = ReplicaId(number.expect("a shard has at most 1023 members"));
            Member { node, replica, incarnation: 0, duty: Duty::Voter, weight: 1 }
        };
        View { epoch, revision: Revision(1), members: nodes.iter().enumerate().map(member).collect() }
    }

    /// The member on a node.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// The member of a number.
    pub fn replica(&self, replica: ReplicaId) -> Option<&Member> {
        self.members.iter().find(|member| member.replica == replica)
    }

    /// The members that count; while a change is under way, those that will when it is over.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|member| member.duty.will_count()).map(|member| member.node)
    }

    /// Whether a change of members is under way: until it is over, a majority of those that were *and* one of those that are
    /// to be is needed.
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| matches!(member.duty, Duty::Joining | Duty::Leaving))
    }

    /// Whether the nodes that it is true of are a majority.
    pub fn has_majority(&self, of: impl Fn(NodeId) -> bool) -> bool {
        let most = |counts: fn(Duty) -> bool| {
            let set = || self.members.iter().filter(|member| counts(member.duty));
            2 * set().filter(|member| of(member.node)).count() > set().count()
        };
        most(Duty::will_count) && most(Duty::did_count)
    }

    /// On how many nodes what is agreed on is at least. While a change of members is under way that is a majority of those that
    /// counted before: it may have been agreed on before the others counted too.
    pub fn majority(&self) -> usize {
        self.members.iter().filter(|member| member.duty.did_count()).count() / 2 + 1
    }

    /// Whether another view came after this one.
    pub fn is_before(&self, other: &View) -> bool {
        (self.epoch, self.revision) < (other.epoch, other.revision)
    }

    /// Whether another view has the same members, whatever their duties.
    pub fn has_nodes_of(&self, other: &View) -> bool {
        self.members.iter().map(|member| member.node).eq(other.members.iter().map(|member| member.node))
    }

    /// Its bytes.
    pub fn encode(&self, into: &mut BytesMut) {
        put_uint(into, self.epoch.0);
        put_uint(into, self.revision.0);
        put_list(into, &self.members, |into, member| member.encode(into));
    }

    /// From its bytes.
    pub fn decode(reader: &mut Reader) -> Result<View, Malformed> {
        let (epoch, revision) = (Epoch(reader.uint()?), Revision(reader.uint()?));
        let view = View { epoch, revision, members: reader.list(Member::decode)? };
        if view.is_sound() {
            Ok(view)
        } else {
            Err(Malformed("the members of a shard are not in order, or none"))
        }
    }

    /// Whether members are in order, each on a node and with a number of its own, and some count.
    fn is_sound(&self) -> bool {
        let numbers = BTreeSet::from_iter(self.members.iter().map(|member| member.replica));
        let is_number = |replica: &ReplicaId| (1..=ReplicaId::MAX.0).contains(&replica.0);
        self.members.is_sorted_by(|one, other| one.node < other.node)
            && self.members.first().is_some_and(|first| first.node.0 > 0)
            && numbers.len() == self.members.len()
            && numbers.iter().all(is_number)
            && self.has_majority(|_| true)
    }
}

impl Member {
    fn encode(&self, into: &mut BytesMut) {
        put_uint(into, self.node.0);
        put_uint(into, u64::from(self.replica.0));
        into.put_u64(self.incarnation);
        into.put_u8(match self.duty {
            Duty::Voter => 1,
            Duty::Learner => 2,
            Duty::Joining => 3,
            Duty::Leaving => 4,
            Duty::Primary => 5,
            Duty::Astray => 6,
        });
        put_uint(into, u64::from(self.weight));
    }

    fn decode(reader: &mut Reader) -> Result<Member, Malformed> {
        Ok(Member {
            node: NodeId(reader.uint()?),
            replica: ReplicaId(reader.u16()?),
            incarnation: reader.u64()?,
            duty: match reader.u8()? {
                1 => Duty::Voter,
                2 => Duty::Learner,
                3 => Duty::Joining,
                4 => Duty::Leaving,
                5 => Duty::Primary,
                6 => Duty::Astray,
                _ => return Err(Malformed("a member of a shard has an unknown duty")),
            },
            weight: reader.u32()?,
        })
    }
}

impl Change {
    /// Its bytes.
    pub fn encode(&self, into: &mut BytesMut) {
        self.by.encode(into);
        self.asked().encode(into);
    }

    /// From its bytes.
    pub fn decode(reader: &mut Reader) -> Result<Change, Malformed> {
        let by = Member::decode(reader)?;
        let View { epoch, revision, members } = View::decode(reader)?;
        Ok(Change { epoch, revision, by, members })
    }

    /// The members as they are to be, under the revision of before.
    fn asked(&self) -> View {
        View { epoch: self.epoch, revision: self.revision, members: self.members.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_round_trips() {
        let mut view = View::of(Epoch(3), &[NodeId(1), NodeId(5), NodeId(1 << 40)]);
        view.members[1] = Member { incarnation: u64::MAX, duty: Duty::Learner, weight: 7, ..view.members[1] };
        assert_eq!(view.replica(ReplicaId(2)), Some(&view.members[1]));
        let mut into = BytesMut::new();
        view.encode(&mut into);
        assert_eq!(View::decode(&mut Reader::new(into.freeze())), Ok(view.clone()));
        assert_eq!((view.voters().count(), view.majority()), (2, 2));
        assert_eq!(view.member(NodeId(5)).map(|member| member.replica), Some(ReplicaId(2)));
    }

    /// Nodes 1.. with these duties.
    fn of(duties: &[Duty]) -> View {
        let nodes = Vec::from_iter((1..=duties.len() as u64).map(NodeId));
        let mut view = View::of(Epoch(1), &nodes);
        view.members.iter_mut().zip(duties).for_each(|(member, duty)| member.duty = *duty);
        view
    }

    #[test]
    fn change_round_trips() {
        let mut view = View::of(Epoch(3), &[NodeId(1), NodeId(5)]);
        view.members[1].duty = Duty::Primary;
        let (by, members) = (view.members[1], view.members);
        let change = Change { epoch: Epoch(3), revision: Revision(7), by, members };
        let mut into = BytesMut::new();
        change.encode(&mut into);
        assert_eq!(Change::decode(&mut Reader::new(into.freeze())), Ok(change));
    }

    #[test]
    fn view_majority_is_one_of_each_set_while_members_change() {
        use Duty::{Joining, Learner, Leaving, Voter};
        let has = |view: &View, nodes: &[u64]| view.has_majority(|node| nodes.contains(&node.0));
        let three = of(&[Voter, Voter, Voter, Learner]);
        assert!(has(&three, &[1, 3]) && !has(&three, &[1, 4]) && !three.is_joint());
        // Node 4 takes the place of node 3.
        let swap = of(&[Voter, Voter, Leaving, Joining]);
        assert!(
            has(&swap, &[1, 2]) && has(&swap, &[1, 3, 4]) && !has(&swap, &[1, 3]) && !has(&swap, &[1, 4])
        );
        assert!(swap.is_joint());
        let grows = of(&[Voter, Voter, Voter, Joining, Joining]);
        assert!(!has(&grows, &[1, 2]) && has(&grows, &[1, 2, 4]));
        let all = of(&[Leaving, Leaving, Leaving, Joining, Joining, Joining]);
        assert!(has(&all, &[1, 2, 5, 6]) && !has(&all, &[1, 2, 3, 4]));
        let majorities = [&three, &swap, &all, &of(&[Voter]), &of(&[Voter, Joining, Joining])];
        assert_eq!(majorities.map(View::majority), [2, 2, 2, 1, 1]);
        assert_eq!(swap.voters().map(|node| node.0).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn view_without_order_or_members_is_refused() {
        for nodes in [vec![], vec![2, 1], vec![1, 1], vec![0]] {
            let mut view = View::of(Epoch(1), &[NodeId(9)]);
            let member = view.members[0];
            view.members = nodes.into_iter().map(|node| Member { node: NodeId(node), ..member }).collect();
            let mut into = BytesMut::new();
            view.encode(&mut into);
            assert!(View::decode(&mut Reader::new(into.freeze())).is_err(), "{view:?}");
        }
        let mut twice = of(&[Duty::Voter, Duty::Voter]);
        twice.members[1].replica = ReplicaId(1);
        for view in [twice, of(&[Duty::Learner]), of(&[Duty::Joining]), of(&[Duty::Leaving, Duty::Learner])] {
            let mut into = BytesMut::new();
            view.encode(&mut into);
            assert!(View::decode(&mut Reader::new(into.freeze())).is_err(), "{view:?}");
        }
    }

    #[test]
    fn view_later_epoch_is_later_than_any_revision() {
        let (one, other) = (View::of(Epoch(1), &[NodeId(1)]), View::of(Epoch(2), &[NodeId(1)]));
        let revised = View { revision: Revision(9), ..one.clone() };
        assert!(one.is_before(&revised) && revised.is_before(&other) && !other.is_before(&revised));
    }
}
