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
    /// founds the cluster. Never changes. None = this node joined the cluster later.
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
    /// The node was a member and is none any more, for this reason: the folder must not be started again.
    pub gone: Option<String>,
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

/// What a data folder says of a node that is to join a cluster that is there, until it is given an id. The folder holds nothing
/// else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joiner {
    /// Its name. Never changes.
    pub name: String,
    /// Of the folder, up to this process. By its incarnation the cluster knows it again: who asks twice is given one id.
    pub lineage: Lineage,
    /// What fails together with it; empty = nothing.
    pub zone: String,
}

impl Joiner {
    /// Of a new folder. `random` gives a new random number at each call.
    pub fn new(name: &str, zone: &str, random: &mut dyn FnMut() -> u64) -> Joiner {
        Joiner { name: name.into(), lineage: Lineage::new(random), zone: zone.into() }
    }

    /// At the next start of the folder. It must be written before anything is said to anybody.
    #[must_use]
    pub fn started(&self, random: &mut dyn FnMut() -> u64) -> Joiner {
        Joiner { lineage: self.lineage.next(random), ..self.clone() }
    }

    /// With the id that the cluster gave it. It must be written before the node says that it is there.
    pub fn joined(&self, me: NodeId, cluster: ClusterId, terms: String) -> Identity {
        let Joiner { name, lineage, zone } = self.clone();
        Identity {
            me,
            name,
            founders: Vec::new(),
            terms,
            cluster: Some(cluster),
            lineage,
            zone,
            begun: false,
            copy: None,
            gone: None,
        }
    }
}

impl Identity {
    /// Of a new folder of a cluster that is founded: here, and nowhere else, ids are given to its nodes. The founder draws the
    /// id of the cluster. `random` gives a new random number at each call.
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
            gone: None,
        }
    }

    /// At the next start of the folder. It must be written before anything is said to anybody.
    #[must_use]
    pub fn started(&self, random: &mut dyn FnMut() -> u64) -> Identity {
        Identity { lineage: self.lineage.next(random), ..self.clone() }
    }

    /// What this node does while it does not know its cluster.
    pub fn waits(&self) -> String {
        let founder = self.founders.first().map_or("another node", |(_, founder)| founder);
        format!("{} waits for {founder}, which founds the cluster", self.name)
    }
}

fn draw(random: &mut dyn FnMut() -> u64) -> ClusterId {
    std::iter::repeat_with(random).find_map(ClusterId::new).expect("not all random numbers are 0")
}
