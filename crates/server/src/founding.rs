//! What a cluster begins with, as its first nodes are started.

use kv::cluster::Terms;
use kv::{NodeId, Protocol};
use placement::map::{DEFAULT, Map};
use placement::{Founder, Founding, Limits};

use crate::folder::Folder;
use crate::{Config, Failure};

/// The map that the cluster begins with: all its first nodes are started alike, and have the same.
pub(crate) fn founding(config: &Config, folder: &Folder) -> Result<Map, Failure> {
    let founders = &folder.identity().founders;
    if founders.len() > 1 && config.peers.is_empty() {
        return Err(Failure::Refused(format!(
            "node {} has not heard yet where the nodes are that it was to found a cluster with: start it with --peers, as before",
            config.name
        )));
    }
    let listed = |name: &String| config.peers.iter().find(|(other, _)| other == name).map(|(_, peer)| peer);
    // Of one that is alone nobody else has to know the same.
    let own = |name: &String| config.peer().filter(|_| *name == config.name);
    let founder = |(_, name): &(NodeId, String)| Founder {
        name: name.clone(),
        peer: listed(name).or(own(name)).cloned().unwrap_or_default(),
    };
    let nodes: Vec<Founder> = founders.iter().map(founder).collect();
    // One that keeps nothing is alone for ever.
    let usual = if config.data.is_none() { Protocol::Single } else { Protocol::Raft };
    let protocol = config.protocol.unwrap_or(usual);
    let Terms { shards, replicas, .. } = folder.terms();
    if config.by_zones
        && let [founder] = &nodes[..]
    {
        return Ok(Map::founding_by_zones(founder.clone(), shards, protocol));
    }
    let founding = Founding { cluster: None, nodes, shards, replicas, protocol };
    let mut map = match config.weighed {
        Some(weighed) => Map::founding_weighed(&founding, weighed),
        None => Map::founding(&founding),
    };
    if protocol == Protocol::Broadcast {
        map.keyspaces.get_mut(DEFAULT).into_iter().for_each(|own| own.bus = config.bus.clone());
    }
    Ok(map)
}

/// How much moves at once. Shards of a cluster by zones are many and small, and who asks waits until all have moved.
pub(crate) fn limits(config: &Config) -> Limits {
    let per_node = if config.by_zones { config.moves.max } else { Limits::default().per_node };
    Limits { changes: config.moves.max, per_node }
}
