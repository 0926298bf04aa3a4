//! The places of machines.

use kv::NodeId;

/// Where a node's machine stands in the list: simulated nodes have the ids from 1.
pub(crate) fn place(id: NodeId) -> usize {
    id.0 as usize - 1
}

/// Where a node is reached, if names had addresses.
pub(crate) fn address(name: &str) -> String {
    format!("{name}:7400")
}
