//! The data folder: whose it is, and that only one process has it.
//!
//! `identity.json` is written at the first start: the node's name, the cluster it belongs to, a random incarnation, and the
//! options that cannot change later; and again when a folder that replaced a lost one is whole and known to all.
//! `peers.json` remembers the incarnations of the other nodes, so that a node that comes back with a wiped or foreign folder
//! under a known name is noticed. `lock` is held for the life of the process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use storage::{History, Kind};

use crate::{Config, Failure};

/// Whose folder it is, and what was fixed at the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The layout of the folder. Rises when an older program could not read it.
    pub format: u32,
    pub name: String,
    pub incarnation: u64,
    /// Names of all nodes, sorted: a node's id is its place, from 1.
    pub nodes: Vec<String>,
    pub shards: u32,
    pub history: String,
    pub engine: String,
    /// It came back with nothing and must be made whole by the others before it votes.
    #[serde(default)]
    pub rejoining: bool,
    /// It replaced a folder that was lost, and not all of the others have met it: some know this node under the old one.
    #[serde(default)]
    pub newcomer: bool,
}

const FORMAT: u32 = 1;

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pub identity: Identity,
    _lock: File,
}

impl Folder {
    /// Opens it, or makes it at the first start.
    pub fn open(config: &Config) -> Result<Folder, Failure> {
        let path = config.data.clone();
        let refused = |what: &str, error: io::Error| {
            Failure::Refused(format!("cannot {what} the data folder {}: {error}", path.display()))
        };
        fs::create_dir_all(&path).map_err(|error| refused("make", error))?;
        let lock = File::create(path.join("lock")).map_err(|error| refused("write in", error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::Refused(format!(
                "the data folder {} is in use by another process: stop that one, or give --data another folder",
                path.display()
            ))
        })?;
        let wanted = identity(config);
        let file = path.join("identity.json");
        let identity = match read(&file).map_err(|error| refused("read", error))? {
            Some(text) => check(&path, &text, &wanted)?,
            None if path.join("log").exists() => {
                return Err(Failure::Refused(format!(
                    "the data folder {} has a log and no identity.json: it is damaged; restore the file, or move the \
                     folder away and start this node with --rejoin",
                    path.display()
                )));
            }
            None => {
                write(&file, &wanted).map_err(|error| refused("write in", error))?;
                wanted
            }
        };
        Ok(Folder { path, identity, _lock: lock })
    }

    /// Where the log's segments are.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the engine's files are.
    pub fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// Where the journal's daily files are.
    pub fn journal(path: &Path) -> PathBuf {
        path.join("journal")
    }

    /// The incarnations of the other nodes that were met, by name.
    pub fn known_peers(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let file = self.path.join("peers.json");
        let failed = |why: String| Failure::Refused(format!("cannot read {}: {why}", file.display()));
        match read(&file).map_err(|error| failed(error.to_string()))? {
            Some(text) => parse_peers(&text).map_err(failed),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Remembers the incarnations of the other nodes.
    pub fn remember_peers(&self, peers: &BTreeMap<String, u64>) -> io::Result<()> {
        write(&self.path.join("peers.json"), peers)
    }

    /// Writes an identity that has changed: the folder was made whole, or is known to all.
    pub fn remember_identity(&self, identity: &Identity) -> io::Result<()> {
        write(&self.path.join("identity.json"), identity)
    }
}

impl Identity {
    /// The same on all nodes of one cluster, and on no other: what must be equal, in text.
    pub fn cluster(&self) -> String {
        format!("nodes={} shards={} history={}", self.nodes.join(","), self.shards, self.history)
    }
}

fn identity(config: &Config) -> Identity {
    let mut nodes: Vec<String> = config.peers.iter().map(|(name, _)| name.clone()).collect();
    if nodes.is_empty() {
        nodes.push(config.name.clone());
    }
    nodes.sort();
    Identity {
        format: FORMAT,
        name: config.name.clone(),
        incarnation: crate::random() | 1,
        nodes,
        shards: config.shards,
        history: match config.history {
            History::All => "all".into(),
            History::Count(count) => count.to_string(),
        },
        engine: match config.engine {
            Kind::Memory => "memory".into(),
            Kind::Disk => "disk".into(),
        },
        rejoining: config.rejoin,
        newcomer: config.rejoin,
    }
}

fn check(path: &Path, text: &str, wanted: &Identity) -> Result<Identity, Failure> {
    let shown = path.display();
    let found: Identity = serde_json::from_str(text).map_err(|error| {
        Failure::Refused(format!("{shown}/identity.json is damaged ({error}): restore it from a copy"))
    })?;
    let differs = |what: &str, found: &str, wanted: &str| {
        Err(Failure::Refused(format!(
            "the data folder {shown} was made with {what} {found}, and this start says {wanted}: start it with \
             {found}, or give --data another folder"
        )))
    };
    if found.format != FORMAT {
        return differs("format", &found.format.to_string(), &FORMAT.to_string());
    }
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
    if found.engine != wanted.engine {
        return differs("--engine", &found.engine, &wanted.engine);
    }
    Ok(found)
}

fn parse_peers(text: &str) -> Result<BTreeMap<String, u64>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn read(file: &Path) -> io::Result<Option<String>> {
    match File::open(file) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file so that after a power loss it is the old one or the new one.
fn write(file: &Path, content: &impl Serialize) -> io::Result<()> {
    let folder = file.parent().expect("a file of the data folder is in it");
    let new = file.with_extension("new");
    let mut writer = File::create(&new)?;
    writer.write_all(&serde_json::to_vec_pretty(content)?)?;
    writer.sync_all()?;
    fs::rename(&new, file)?;
    File::open(folder)?.sync_all()
}

/// The files of the folder as plain functions over bytes; see [`crate::fuzz`].
pub(crate) mod fuzz {
    use bytes::Bytes;

    use super::*;

    /// `identity.json`, as the node `n1` of three finds it.
    pub fn identity(bytes: &[u8]) {
        let (Ok(text), wanted) = (std::str::from_utf8(bytes), sample()) else { return };
        if let Ok(found) = check(Path::new("data"), text, &wanted) {
            assert_eq!((found.name.as_str(), found.cluster()), ("n1", wanted.cluster()));
            let again = serde_json::to_string(&found).expect("an identity has text keys only");
            assert_eq!(check(Path::new("data"), &again, &wanted).expect("as it was written"), found);
        }
    }

    /// `peers.json`.
    pub fn peers(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(peers) = parse_peers(text) {
            let again = serde_json::to_string(&peers).expect("names are text");
            assert_eq!(parse_peers(&again), Ok(peers));
        }
    }

    /// Identities.
    pub fn identity_samples() -> Vec<Bytes> {
        [sample(), Identity { rejoining: true, shards: 4, ..sample() }].map(|sample| bytes(&sample)).to_vec()
    }

    /// Incarnations.
    pub fn peers_samples() -> Vec<Bytes> {
        vec![bytes(&BTreeMap::from([("n2", 5), ("n3", u64::MAX)]))]
    }

    fn bytes(content: &impl Serialize) -> Bytes {
        serde_json::to_vec_pretty(content).expect("it has text keys only").into()
    }

    fn sample() -> Identity {
        Identity {
            format: FORMAT,
            name: "n1".into(),
            incarnation: 9,
            nodes: ["n1", "n2", "n3"].map(String::from).to_vec(),
            shards: 1,
            history: "all".into(),
            engine: "disk".into(),
            rejoining: false,
            newcomer: false,
        }
    }
}
