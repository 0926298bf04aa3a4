//! The files of the folder as plain functions over bytes; see [`crate::fuzz`].

use std::path::Path;

use bytes::Bytes;
use kv::{ClusterId, NodeId};
use node::identity::{Identity, Joiner, Life, Lineage, Lives};
use storage::{History, Kind};

use super::identity::{self, Fixed, Found};
use super::peers;
use crate::{Config, Moves};

/// `identity.json`, as the node `n1` finds it, which was one of three or has joined.
pub fn identity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let check = |text: &str| identity::check(Path::new("data"), text, &config());
    let Ok(found) = check(text) else { return };
    let (again, lineage) = match &found {
        Found::Node(found, fixed) => {
            assert!(found.name == "n1" && [0, 3].contains(&found.founders.len()), "it is of {found:?}");
            let is_founder = found.founders.contains(&(found.me, found.name.clone()));
            assert!(
                is_founder || found.cluster.is_some(),
                "it is one of the three, or was given its cluster"
            );
            (identity::encode(found, fixed), &found.lineage)
        }
        Found::Joiner(joiner) => (identity::encode_joiner(joiner), &joiner.lineage),
    };
    assert!(lineage.life.incarnation != 0 && lineage.life.starts != 0, "it was started");
    let again = String::from_utf8(again).expect("JSON is UTF-8");
    assert_eq!(check(&again).expect("as it was written"), found);
}

/// Identities.
pub fn identity_samples() -> Vec<Bytes> {
    let adopting = Identity { cluster: None, ..sample() };
    let joiner = Joiner { name: "n1".into(), lineage: sample().lineage, zone: "east".into() };
    let joined = joiner.joined(NodeId(4), cluster(), config().terms().to_string());
    let fixed = Fixed::new(&config());
    let mut samples: Vec<Bytes> =
        [sample(), adopting, joined].map(|sample| identity::encode(&sample, &fixed).into()).to_vec();
    samples.push(identity::encode_joiner(&joiner).into());
    samples
}

/// `peers.json`.
pub fn peers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| peers::read(Path::new("peers.json"), text, "n1");
    if let Ok(lives) = read(text) {
        let again = String::from_utf8(peers::encode(&lives)).expect("JSON is UTF-8");
        assert_eq!(read(&again).expect("as it was written"), lives);
    }
}

/// Lives of other nodes.
pub fn peers_samples() -> Vec<Bytes> {
    let last = Life { incarnation: u64::MAX, starts: 300, process: 0 };
    let lives = Lives::from([(NodeId(2), LIFE), (NodeId(3), last)]);
    [lives, Lives::new()].map(|lives| peers::encode(&lives).into()).to_vec()
}

fn config() -> Config {
    Config {
        name: "n1".into(),
        data: Some("data".into()),
        listen: Vec::new(),
        peers: ["n3", "n1", "n2"].map(|name| (name.into(), String::new())).to_vec(),
        join: vec!["n9:7401".into()],
        advertise_peer: None,
        listen_peer: None,
        zone: None,
        engine: Kind::Disk,
        history: Some(History::All),
        deleted_micros: Some(u64::MAX),
        shards: Some(1),
        replicas: None,
        cores: None,
        entry_cache_bytes: 0,
        checkpoint_bytes: 0,
        protocol: None,
        weighed: None,
        lab: false,
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        moves: Moves::default(),
        stderr: crate::Stderr::Nothing,
    }
}

fn cluster() -> ClusterId {
    ClusterId::new(0xabc).expect("it is not 0")
}

const LIFE: Life = Life { incarnation: 9, starts: 2, process: 5 };

fn sample() -> Identity {
    Identity {
        me: NodeId(1),
        lineage: Lineage { life: LIFE, earlier: vec![7] },
        cluster: Some(cluster()),
        begun: true,
        ..identity::new(&config())
    }
}
