//! What a data folder says of its node.

use kv::{ClusterId, NodeId};

/// What a data folder says of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id that was given to this node.
    pub me: NodeId,
    /// All nodes of the cluster with the ids that were given to them when it was founded, this one among them. The first one
    /// founds the cluster. Never changes.
    pub nodes: Vec<(NodeId, String)>,
    /// What else must be the same on all nodes of a cluster, in text. Never changes.
    pub options: String,
    /// The cluster it belongs to; `None` until it has learned that. Never changes afterwards.
    pub cluster: Option<ClusterId>,
    /// The life of the folder: random, never 0. Never changes.
    pub incarnation: u64,
    /// The log has held something that was acknowledged to somebody: without one the node must not start again.
    pub begun: bool,
    /// It came back with nothing and must be made whole by the others before it votes.
    pub rejoining: bool,
    /// It replaced a folder that was lost, and not all of the others have met it: some know this node under the old one.
    pub newcomer: bool,
}

/// What is said to a node at its first start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// The names of all nodes, in any order. None at all = it is alone.
    pub names: Vec<String>,
    /// What else must be the same on all nodes of a cluster, in text.
    pub options: String,
    /// Its cluster is there, and its folder was lost.
    pub rejoin: bool,
}

impl Identity {
    /// Of a new folder: here, and nowhere else, ids are given to nodes. The founder draws the id of the cluster, unless the
    /// cluster is there and only the founder's folder was lost. `random` gives a new random number at each call.
    ///
    /// # Panics
    /// When the node's own name is not among all names.
    pub fn new(start: &Start, random: &mut dyn FnMut() -> u64) -> Identity {
        let mut names = start.names.clone();
        if names.is_empty() {
            names.push(start.name.clone());
        }
        names.sort();
        let nodes: Vec<(NodeId, String)> = (1..).map(NodeId).zip(names).collect();
        let me = nodes.iter().find(|(_, name)| *name == start.name).map(|(id, _)| *id);
        let me = me.expect("a node is one of its cluster");
        let founds = nodes[0].0 == me && !start.rejoin;
        Identity {
            me,
            nodes,
            options: start.options.clone(),
            incarnation: random() | 1,
            cluster: founds.then(|| draw(random)),
            begun: false,
            rejoining: start.rejoin,
            newcomer: start.rejoin,
        }
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        self.name_of(self.me).expect("a node is one of its cluster")
    }

    /// The name of a node; `None` = it is not of this cluster.
    pub fn name_of(&self, node: NodeId) -> Option<&str> {
        self.nodes.iter().find(|(id, _)| *id == node).map(|(_, name)| name.as_str())
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().map(|(id, _)| *id).filter(|id| *id != self.me)
    }

    /// The node that founds the cluster.
    pub fn founder(&self) -> &str {
        &self.nodes[0].1
    }

    /// What must be equal on all nodes of a cluster, in text. Other clusters may have the same.
    pub fn terms(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|(id, name)| format!("{id}:{name}")).collect();
        format!("nodes={} {}", nodes.join(","), self.options)
    }

    /// What this node does while it does not know its cluster.
    pub fn waits(&self) -> String {
        let name = self.name();
        match self.rejoining {
            true => format!(
                "{name} comes back with nothing and waits for another node to tell it which cluster it is of"
            ),
            false => format!("{name} waits for {}, which founds the cluster", self.founder()),
        }
    }
}

fn draw(random: &mut dyn FnMut() -> u64) -> ClusterId {
    std::iter::repeat_with(random).find_map(ClusterId::new).expect("not all random numbers are 0")
}
