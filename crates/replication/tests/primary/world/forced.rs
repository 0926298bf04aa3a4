//! An election that the operator forces.

use kv::{NodeId, ReplicaId};
use replication::{Duty, Replicate, Revision, View};

use super::{Node, World};

impl World {
    /// The operator has a replica order, whoever is in sync: what it lacks is lost.
    pub fn force(&mut self, id: u64) {
        let View { epoch, revision, mut members } = self.view().clone();
        for member in &mut members {
            member.duty = if member.node.0 == id { Duty::Primary } else { Duty::Astray };
        }
        self.views.push(View { epoch, revision: Revision(revision.0 + 1), members });
        let last = self.replica(id).unwrap().status().last;
        self.applied.retain(|index, _| *index <= last);
        self.shown = self.shown.min(last);
    }

    /// Whether a replica knows that it is astray.
    pub fn is_astray(&self, id: u64) -> bool {
        let member = self.replica(id).and_then(|replica| replica.view().member(NodeId(id)));
        member.is_some_and(|member| member.duty == Duty::Astray)
    }

    /// Who is astray gets another number, and a replica that has nothing.
    pub fn begin_anew(&mut self, id: u64) {
        let View { epoch, revision, mut members } = self.view().clone();
        let numbers = self.views.iter().flat_map(|view| view.members.iter().map(|member| member.replica.0));
        let number = ReplicaId(numbers.max().unwrap() + 1);
        for member in members.iter_mut().filter(|member| member.node.0 == id) {
            (member.replica, member.duty) = (number, Duty::Learner);
        }
        let view = View { epoch, revision: Revision(revision.0 + 1), members };
        self.views.push(view.clone());
        self.crash(id);
        let lives = self.nodes[&id].lives;
        self.nodes.insert(id, Node { given: Some(view), ..Node::empty(lives) });
        self.start(id);
        let others = self.ids().into_iter().filter(|other| *other != id && !self.is_cut(id, *other));
        Vec::from_iter(others).into_iter().for_each(|other| self.connect(id, other));
    }
}
