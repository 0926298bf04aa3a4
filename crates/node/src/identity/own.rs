//! What a data folder says of its node.

use kv::{ClusterId, NodeId};

use super::life::Lineage;

/// What a data folder says of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id that was given to this node. Never changes.
    pub me: NodeId,
    /// Its name. Never changes.
    pub name: String,
    /// The nodes that the cluster was founded with, with the ids that were given to them, this one among them. The first one
    /// founds the cluster. Never changes.
    pub founders: Vec<(NodeId, String)>,
    /// What must be the same on all nodes of a cluster for ever, in text. Other clusters may have the same. Never changes.
    pub terms: String,
    /// The cluster it belongs to; `None` until it has learned that. Never changes afterwards.
    pub cluster: Option<ClusterId>,
    /// Of the folder, up to this process.
    pub lineage: Lineage,
    /// What fails together with it; empty = nothing.
    pub zone: String,
    /// The log has held something that was acknowledged to somebody: without one the node must not start again.
    pub begun: bool,
    /// The folder is a copy and must not be started again, for this reason.
    pub copy: Option<String>,
}

/// What is said to a node at its first start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// The names of all nodes, in any order. None at all = it is alone.
    pub names: Vec<String>,
    /// What must be the same on all nodes of a cluster for ever, in text.
    pub terms: String,
    /// What fails together with it; empty = nothing.
    pub zone: String,
}

impl Identity {
    /// Of a new folder: here, and nowhere else, ids are given to nodes. The founder draws the id of the cluster.
    /// `random` gives a new random number at each call.
    ///
    /// # Panics
    /// When the node's own name is not among all names.
    pub fn new(start: &Start, random: &mut dyn FnMut() -> u64) -> Identity {
        let mut names = start.names.clone();
        if names.is_empty() {
            names.push(start.name.clone());
        }
        names.sort();
        let founders: Vec<(NodeId, String)> = (1..).map(NodeId).zip(names).collect();
        let me = founders.iter().find(|(_, name)| *name == start.name).map(|(id, _)| *id);
        let me = me.expect("a node is one of its cluster");
        let founds = founders[0].0 == me;
        Identity {
            me,
            name: start.name.clone(),
            founders,
            terms: start.terms.clone(),
            lineage: Lineage::new(random),
            cluster: founds.then(|| draw(random)),
            zone: start.zone.clone(),
            begun: false,
            copy: None,
        }
    }

    /// At the next start of the folder. It must be written before anything is said to anybody.
    #[must_use]
    pub fn started(&self, random: &mut dyn FnMut() -> u64) -> Identity {
        Identity { lineage: self.lineage.next(random), ..self.clone() }
    }

    /// What this node does while it does not know its cluster.
    pub fn waits(&self) -> String {
        format!("{} waits for {}, which founds the cluster", self.name, self.founders[0].1)
    }
}

fn draw(random: &mut dyn FnMut() -> u64) -> ClusterId {
    std::iter::repeat_with(random).find_map(ClusterId::new).expect("not all random numbers are 0")
}
