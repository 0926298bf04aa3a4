//! The decoder of this crate as a plain function over bytes, for the crate `fuzz`, and sound bytes to begin with.

use bytes::Bytes;
use kv::fuzz::round_trip;
use kv::keyspace::Wish;
use kv::{ClusterId, Protocol};

use crate::event::Event;
use crate::map::Map;
use crate::plan::{Limits, plan};
use crate::{Founder, Founding};

/// Larger maps are not planned here: their plans take time and find nothing more.
const NODES_MAX: usize = 16;

/// A map as a whole: what decodes holds what must, and so does what is planned for it.
pub fn map(bytes: &[u8]) {
    let Some(map) = round_trip(bytes, Map::decode, Map::encode) else { return };
    assert_eq!(map.check(), Ok(()), "what decodes holds what must");
    assert!(
        Map::transaction(&Map::default(), &map).validate().is_ok() || map.rows().len() > kv::KEYS_PER_OP_MAX
    );
    if map.nodes.len() <= NODES_MAX && map.keyspaces.len() <= NODES_MAX {
        let next = plan(&map, &Limits { changes: 8, per_node: 2 });
        assert_eq!(next.map_or(Ok(()), |next| next.check()), Ok(()), "what is planned holds what must");
    }
}

/// Maps of one and of three nodes, of a node more, without a keyspace that was dropped, and the one that nobody knows anything of.
pub fn map_samples() -> Vec<Bytes> {
    let founder = |name: &str| Founder { name: name.into(), peer: format!("{name}:7421") };
    let founding = |names: &[&str], protocol, shards| {
        let nodes = names.iter().map(|name| founder(name)).collect();
        Map::founding(&Founding { cluster: ClusterId::new(7), nodes, shards, replicas: 3, protocol })
    };
    let three = founding(&["n1", "n2", "n3"], Protocol::Raft, 5);
    let join = Event::Join {
        name: "n4".into(),
        incarnation: 9,
        peer: "n4:7421".into(),
        address: "n4:7401".into(),
        zone: "here".into(),
    };
    let four = three.apply(&join).expect("nobody has its name");
    let moving = plan(&four, &Limits { changes: 8, per_node: 8 }).expect("it has no replicas yet");
    let one = founding(&["n1"], Protocol::Single, 1);
    let (name, wish) = (String::from("tea"), Wish::default());
    let with = three.apply(&Event::Create { name: name.clone(), wish }).expect("there is room");
    let dropped = with.apply(&Event::Drop { name }).expect("it is there");
    [Map::default(), one, three, four, moving, dropped].iter().map(Map::encode).collect()
}
