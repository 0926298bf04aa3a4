//! The files of the folder as plain functions over bytes; see [`crate::fuzz`].

use std::path::Path;

use bytes::Bytes;
use kv::{ClusterId, NodeId};
use node::identity::{Identity, Life, Lineage, Lives};
use storage::{History, Kind};

use super::identity::{self, Fixed};
use super::peers;
use crate::{Config, Moves};

/// `identity.json`, as the node `n1` of three finds it.
pub fn identity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let check = |text: &str| identity::check(Path::new("data"), text, &config());
    if let Ok(found) = check(text) {
        assert_eq!((found.name.as_str(), found.founders.len()), ("n1", 3));
        assert!(found.lineage.life.incarnation != 0 && found.lineage.life.starts != 0, "it was started");
        assert!(found.founders.contains(&(found.me, found.name.clone())), "it is one of the three");
        let again = identity::encode(&found, &Fixed::new(&config()));
        let again = String::from_utf8(again).expect("JSON is UTF-8");
        assert_eq!(check(&again).expect("as it was written"), found);
    }
}

/// Identities.
pub fn identity_samples() -> Vec<Bytes> {
    let adopting = Identity { cluster: None, rejoining: true, ..sample() };
    let fixed = Fixed::new(&config());
    [sample(), adopting].map(|sample| identity::encode(&sample, &fixed).into()).to_vec()
}

/// `peers.json`.
pub fn peers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| peers::read(Path::new("peers.json"), text);
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
        advertise_peer: None,
        listen_peer: None,
        zone: None,
        engine: Kind::Disk,
        history: History::All,
        deleted_micros: u64::MAX,
        shards: 1,
        cores: None,
        entry_cache_bytes: 0,
        checkpoint_bytes: 0,
        moves: Moves::default(),
        rejoin: false,
        stderr: crate::Stderr::Nothing,
    }
}

const LIFE: Life = Life { incarnation: 9, starts: 2, process: 5 };

fn sample() -> Identity {
    Identity {
        me: NodeId(1),
        lineage: Lineage { life: LIFE, earlier: vec![7] },
        cluster: ClusterId::new(0xabc),
        begun: true,
        ..identity::new(&config())
    }
}
