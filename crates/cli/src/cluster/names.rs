//! Nodes by their names.

use std::collections::BTreeMap;

use kv::NodeId;
use kv::cluster::Status;

/// The names of the nodes of a cluster.
pub struct Names<'a>(BTreeMap<NodeId, &'a str>);

impl<'a> Names<'a> {
    /// As a status has them.
    pub fn of(status: &'a Status) -> Names<'a> {
        Names(status.nodes.iter().map(|node| (node.id, node.name.as_str())).collect())
    }

    /// The name of a node; of one that is none of the cluster any more, its id.
    pub fn name(&self, node: NodeId) -> String {
        self.0.get(&node).map_or_else(|| format!("node-{node}"), ToString::to_string)
    }
}
