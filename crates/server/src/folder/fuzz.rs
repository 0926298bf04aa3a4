//! The files of the folder as plain functions over bytes; see [`crate::fuzz`].

use std::path::Path;

use bytes::Bytes;
use kv::{ClusterId, NodeId};
use node::identity::{Identity, Incarnations};
use storage::{History, Kind};

use super::identity::{self, Fixed};
use super::peers;
use crate::Config;

/// `identity.json`, as the node `n1` of three finds it.
pub fn identity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let check = |text: &str| identity::check(Path::new("data"), text, &config());
    if let Ok(found) = check(text) {
        assert_eq!((found.name(), found.nodes.len()), ("n1", 3));
        assert!(found.incarnation != 0 && found.others().count() == 2, "it is one of the three");
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

/// `peers.json`, as the node `n1` of three finds it.
pub fn peers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| peers::read(Path::new("peers.json"), text, &sample());
    if let Ok(known) = read(text) {
        let again = String::from_utf8(peers::encode(&sample(), &known)).expect("JSON is UTF-8");
        assert_eq!(read(&again).expect("as it was written"), known);
    }
}

/// Incarnations.
pub fn peers_samples() -> Vec<Bytes> {
    let known = Incarnations::from([(NodeId(2), 5), (NodeId(3), u64::MAX)]);
    [known, Incarnations::new()].map(|known| peers::encode(&sample(), &known).into()).to_vec()
}

fn config() -> Config {
    Config {
        name: "n1".into(),
        data: Some("data".into()),
        listen: Vec::new(),
        peers: ["n3", "n1", "n2"].map(|name| (name.into(), String::new())).to_vec(),
        engine: Kind::Disk,
        history: History::All,
        deleted_micros: u64::MAX,
        shards: 1,
        cores: None,
        entry_cache_bytes: 0,
        checkpoint_bytes: 0,
        rejoin: false,
        stderr: crate::Stderr::Nothing,
    }
}

fn sample() -> Identity {
    Identity {
        me: NodeId(1),
        incarnation: 9,
        cluster: ClusterId::new(0xabc),
        begun: true,
        ..identity::new(&config())
    }
}
