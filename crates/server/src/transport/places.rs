//! Where the nodes are that the map names: where the map says, or where this start was told, whichever came last.

use std::collections::BTreeMap;

use kv::NodeId;
use node::identity::Nodes;
use placement::map::Map;

/// What a start was told of where nodes are. It counts until the map says something new of a node.
#[derive(Debug)]
pub(crate) struct Places(BTreeMap<NodeId, Place>);

#[derive(Debug)]
struct Place {
    /// As the map had it at the start.
    before: String,
    /// As the start was told.
    told: String,
}

impl Places {
    /// Name and HOST:PORT of each, as the settings have them, beside the map of the start.
    pub fn new(peers: &[(String, String)], map: &Map) -> Places {
        let place = |(name, told): &(String, String)| {
            let (id, node) = map.node_named(name)?;
            Some((id, Place { before: node.peer.clone(), told: told.clone() }))
        };
        Places(peers.iter().filter_map(place).collect())
    }

    /// The nodes of a map, and where they are.
    pub fn nodes(&self, map: &Map) -> Nodes {
        let mut nodes = Nodes::of(map);
        for (id, Place { before, told }) in &self.0 {
            if let Some(member) = nodes.members.get_mut(id).filter(|member| member.address == *before) {
                member.address.clone_from(told);
            }
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use kv::Protocol;
    use placement::{Event, Founder, Founding};

    use super::*;

    fn map() -> Map {
        let founder = |name: &str| Founder { name: name.into(), peer: format!("{name}:1") };
        let nodes = ["n1", "n2"].map(founder).to_vec();
        Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 2, protocol: Protocol::Raft })
    }

    fn address(nodes: &Nodes, node: u64) -> &str {
        &nodes.members[&NodeId(node)].address
    }

    #[test]
    fn place_that_a_start_is_told_counts_until_the_map_has_another() {
        let map = map();
        let told = [("n2", "moved:1"), ("n9", "nobody:1")].map(|(name, at)| (name.into(), at.into()));
        let places = Places::new(&told, &map);
        let nodes = places.nodes(&map);
        assert_eq!((address(&nodes, 1), address(&nodes, 2)), ("n1:1", "moved:1"));
        let announced = |node, peer: &str| Event::Announced {
            node: NodeId(node),
            incarnation: node,
            peer: peer.into(),
            address: String::new(),
            zone: String::new(),
        };
        let later = map.apply(&announced(1, "elsewhere:1")).unwrap();
        let nodes = places.nodes(&later);
        assert_eq!((address(&nodes, 1), address(&nodes, 2)), ("elsewhere:1", "moved:1"));
        assert_eq!((nodes.revision, nodes.members[&NodeId(1)].incarnation), (2, 1));
        let later = later.apply(&announced(2, "again:1")).unwrap();
        assert_eq!(address(&places.nodes(&later), 2), "again:1");
    }
}
