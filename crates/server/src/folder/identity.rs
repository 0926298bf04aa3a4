//! `identity.json`: whose folder it is, and what was fixed at the first start.

use std::path::Path;

use kv::ClusterId;
use serde::{Deserialize, Serialize};
use storage::{History, Kind};

use crate::{Config, Failure};

/// Whose folder it is, and what was fixed at the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The layout of the folder. Rises when an older program could not read it.
    pub format: u32,
    pub name: String,
    /// The cluster it belongs to; `None` until it has learned that. Never changes afterwards.
    #[serde(default, with = "as_text")]
    pub cluster: Option<ClusterId>,
    pub incarnation: u64,
    /// Names of all nodes, sorted: a node's id is its place, from 1. The first one founds the cluster.
    pub nodes: Vec<String>,
    pub shards: u32,
    pub history: String,
    pub deleted_micros: u64,
    pub engine: String,
    /// Its log has held something that was acknowledged to somebody: without one it must not start again.
    #[serde(default)]
    pub begun: bool,
    /// It came back with nothing and must be made whole by the others before it votes.
    #[serde(default)]
    pub rejoining: bool,
    /// It replaced a folder that was lost, and not all of the others have met it: some know this node under the old one.
    #[serde(default)]
    pub newcomer: bool,
}

/// Format 1 knew no cluster ids, and remembered requests without a digest.
const FORMAT: u32 = 2;

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Identity {
    /// Of a new folder. The founder of a cluster draws its id here, unless the cluster is there and only its folder was lost.
    pub(super) fn new(config: &Config) -> Identity {
        let mut nodes: Vec<String> = config.peers.iter().map(|(name, _)| name.clone()).collect();
        if nodes.is_empty() {
            nodes.push(config.name.clone());
        }
        nodes.sort();
        let identity = Identity {
            format: FORMAT,
            name: config.name.clone(),
            cluster: None,
            incarnation: crate::random() | 1,
            nodes,
            shards: config.shards,
            history: match config.history {
                History::All => "all".into(),
                History::Count(count) => count.to_string(),
            },
            deleted_micros: config.deleted_micros,
            engine: match config.engine {
                Kind::Memory => "memory".into(),
                Kind::Disk => "disk".into(),
            },
            begun: false,
            rejoining: config.rejoin,
            newcomer: config.rejoin,
        };
        Identity { cluster: identity.founds().then(draw), ..identity }
    }

    /// The node that founds the cluster.
    pub fn founder(&self) -> &str {
        &self.nodes[0]
    }

    /// Whether it draws the id of the cluster. One that comes back to a cluster that is there is told it.
    fn founds(&self) -> bool {
        self.name == self.founder() && !self.rejoining
    }

    /// What must be equal on all nodes of a cluster, in text. Other clusters may have the same.
    pub fn options(&self) -> String {
        let Identity { shards, history, deleted_micros, .. } = self;
        format!("nodes={} shards={shards} history={history} deleted={deleted_micros}us", self.nodes.join(","))
    }
}

fn draw() -> ClusterId {
    std::iter::repeat_with(crate::random).find_map(ClusterId::new).expect("not all random numbers are 0")
}

/// The identity in a file, if it fits what this start wants.
pub(super) fn check(path: &Path, text: &str, wanted: &Identity) -> Result<Identity, Failure> {
    let shown = path.display();
    let damaged = |error| {
        Failure::Refused(format!("{shown}/identity.json is damaged ({error}): restore it from a copy"))
    };
    let Format { format } = serde_json::from_str(text).map_err(damaged)?;
    if format != FORMAT {
        return Err(Failure::Refused(format!(
            "the data folder {shown} has format {format}, and this version of capstan has format {FORMAT}: start it with the \
             version that made it; to take the data along, print it there with 'capstan range '' --json', and put it into a \
             new folder with 'capstan putall --json'"
        )));
    }
    let found: Identity = serde_json::from_str(text).map_err(damaged)?;
    let differs = |what: &str, found: &str, wanted: &str| {
        Err(Failure::Refused(format!(
            "the data folder {shown} was made with {what} {found}, and this start says {wanted}: start it with \
             {found}, or give --data another folder"
        )))
    };
    if found.name != wanted.name {
        return differs("the node name", &found.name, &wanted.name);
    }
    if found.nodes != wanted.nodes {
        return differs("the nodes", &found.nodes.join(","), &wanted.nodes.join(","));
    }
    if found.shards != wanted.shards {
        return differs("--shards", &found.shards.to_string(), &wanted.shards.to_string());
    }
    if found.history != wanted.history {
        return differs("--history", &found.history, &wanted.history);
    }
    if found.deleted_micros != wanted.deleted_micros {
        let shown = |micros: u64| if micros == u64::MAX { "all".into() } else { format!("{micros}us") };
        return differs("--deleted-history", &shown(found.deleted_micros), &shown(wanted.deleted_micros));
    }
    if found.engine != wanted.engine {
        return differs("--engine", &found.engine, &wanted.engine);
    }
    Ok(found)
}

/// An id as the text that commands print.
mod as_text {
    use kv::ClusterId;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(id: &Option<ClusterId>, into: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(into)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ClusterId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(Error::custom)).transpose()
    }
}

/// The file as a plain function over bytes; see [`crate::fuzz`].
pub(crate) mod fuzz {
    use bytes::Bytes;

    use super::*;

    /// `identity.json`, as the node `n1` of three finds it.
    pub fn identity(bytes: &[u8]) {
        let (Ok(text), wanted) = (std::str::from_utf8(bytes), sample()) else { return };
        if let Ok(found) = check(Path::new("data"), text, &wanted) {
            assert_eq!((found.name.as_str(), found.options()), ("n1", wanted.options()));
            let again = serde_json::to_string(&found).expect("an identity has text keys only");
            assert_eq!(check(Path::new("data"), &again, &wanted).expect("as it was written"), found);
        }
    }

    /// Identities.
    pub fn identity_samples() -> Vec<Bytes> {
        let adopting = Identity { cluster: None, rejoining: true, ..sample() };
        let samples = [sample(), adopting].map(|sample| serde_json::to_vec_pretty(&sample));
        samples.map(|bytes| Bytes::from(bytes.expect("it has text keys only"))).to_vec()
    }

    fn sample() -> Identity {
        Identity {
            format: FORMAT,
            name: "n1".into(),
            cluster: ClusterId::new(0xabc),
            incarnation: 9,
            nodes: ["n1", "n2", "n3"].map(String::from).to_vec(),
            shards: 1,
            history: "all".into(),
            deleted_micros: u64::MAX,
            engine: "disk".into(),
            begun: true,
            rejoining: false,
            newcomer: false,
        }
    }
}
