//! `identity.json`: whose folder it is, and what was fixed at the first start.

use std::path::Path;

use kv::NodeId;
use node::identity::{Identity, Lineage, Start};
use serde::{Deserialize, Serialize};
use storage::{History, Kind};

use super::format;
use crate::{Config, Failure};

/// Format 1 knew no cluster ids; in format 2 a node's id was its place among the names; format 3 did not count starts; in format 4 every
/// node had all shards.
const FORMAT: u32 = 5;

/// What cannot change later, besides the node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fixed {
    shards: u32,
    replicas: u16,
    history: String,
    deleted_micros: u64,
    engine: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    id: u64,
    name: String,
    /// 16 hexadecimal digits; `None` until the node has learned it.
    cluster: Option<String>,
    #[serde(flatten)]
    life: format::Written,
    /// The processes of the starts before, the latest first.
    earlier: Vec<String>,
    founders: Vec<Listed>,
    #[serde(flatten)]
    fixed: Fixed,
    zone: String,
    begun: bool,
    rejoining: bool,
    newcomer: bool,
    /// Why the folder must not be started again.
    copy: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    id: u64,
    name: String,
}

impl Fixed {
    pub fn new(config: &Config) -> Fixed {
        Fixed {
            shards: config.shards,
            replicas: config.replicas(),
            history: match config.history {
                History::All => "all".into(),
                History::Count(count) => count.to_string(),
            },
            deleted_micros: config.deleted_micros,
            engine: match config.engine {
                Kind::Memory => "memory".into(),
                Kind::Disk => "disk".into(),
            },
        }
    }

    /// What of it must be the same on all nodes of a cluster for ever, in text.
    fn terms(&self) -> String {
        let Fixed { shards, replicas, history, deleted_micros, engine: _ } = self;
        format!("shards={shards} replicas={replicas} history={history} deleted={deleted_micros}us")
    }
}

/// Of a new folder.
pub(super) fn new(config: &Config) -> Identity {
    let start = Start {
        name: config.name.clone(),
        names: config.peers.iter().map(|(name, _)| name.clone()).collect(),
        terms: Fixed::new(config).terms(),
        zone: config.zone.clone().unwrap_or_default(),
        rejoin: config.rejoin,
    };
    Identity::new(&start, &mut crate::random)
}

/// The content of the file.
pub(super) fn encode(identity: &Identity, fixed: &Fixed) -> Vec<u8> {
    let listed = |(id, name): &(NodeId, String)| Listed { id: id.0, name: name.clone() };
    let written = Written {
        format: FORMAT,
        id: identity.me.0,
        name: identity.name.clone(),
        cluster: identity.cluster.map(|id| id.to_string()),
        life: format::written(&identity.lineage.life),
        earlier: identity.lineage.earlier.iter().map(|process| format::text(*process)).collect(),
        founders: identity.founders.iter().map(listed).collect(),
        fixed: fixed.clone(),
        zone: identity.zone.clone(),
        begun: identity.begun,
        rejoining: identity.rejoining,
        newcomer: identity.newcomer,
        copy: identity.copy.clone(),
    };
    serde_json::to_vec_pretty(&written).expect("it has text keys only")
}

/// The identity in a file, if it fits what this start wants.
pub(super) fn check(folder: &Path, text: &str, config: &Config) -> Result<Identity, Failure> {
    let shown = folder.display();
    let damaged = |error: String| {
        Failure::Refused(format!("{shown}/identity.json is damaged ({error}): restore it from a copy"))
    };
    let found = format::of(text).map_err(damaged)?;
    if found != FORMAT {
        return Err(Failure::Refused(format!(
            "the data folder {shown} has format {found}, and this version of capstan has format {FORMAT}: start it with the \
             version that made it; to take the data along, print it there with 'capstan range '' --json', and put it into a \
             new folder with 'capstan putall --json'"
        )));
    }
    let written: Written = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let (identity, fixed) = read(written).map_err(damaged)?;
    check_options(folder, &identity, &fixed, config)?;
    match &identity.copy {
        Some(why) => {
            Err(Failure::Refused(format!("the data folder {shown} must not be started again: {why}")))
        }
        None => Ok(identity),
    }
}

fn read(written: Written) -> Result<(Identity, Fixed), String> {
    let listed = |Listed { id, name }| Ok((node_id(id)?, name));
    let founders =
        written.founders.into_iter().map(listed).collect::<Result<Vec<(NodeId, String)>, String>>()?;
    for (place, (id, name)) in founders.iter().enumerate() {
        if founders[..place].iter().any(|(other, others)| other == id || others == name) {
            return Err(format!("it lists a node twice: {id}, {name}"));
        }
    }
    let me = node_id(written.id)?;
    if !founders.contains(&(me, written.name.clone())) {
        return Err("it does not list its own node".into());
    }
    let earlier = written.earlier.iter().map(|text| format::number(text)).collect::<Result<Vec<u64>, _>>()?;
    let identity = Identity {
        me,
        name: written.name,
        founders,
        terms: written.fixed.terms(),
        cluster: written.cluster.map(|text| text.parse()).transpose()?,
        lineage: Lineage { life: format::life(&written.life)?, earlier },
        zone: written.zone,
        begun: written.begun,
        rejoining: written.rejoining,
        newcomer: written.newcomer,
        copy: written.copy,
    };
    Ok((identity, written.fixed))
}

/// The id of a node with this number.
pub(super) fn node_id(number: u64) -> Result<NodeId, String> {
    match number {
        0 => Err("0 is no id of a node".into()),
        id => Ok(NodeId(id)),
    }
}

fn check_options(folder: &Path, identity: &Identity, fixed: &Fixed, config: &Config) -> Result<(), Failure> {
    let wanted = Fixed::new(config);
    let differs = |what: &str, found: &str, wanted: &str| {
        Err(Failure::Refused(format!(
            "the data folder {} was made with {what} {found}, and this start says {wanted}: start it with \
             {found}, or give --data another folder",
            folder.display()
        )))
    };
    if identity.name != config.name {
        return differs("the node name", &identity.name, &config.name);
    }
    let (found, asked) = (names(identity.founders.iter().map(|(_, name)| name)), names(asked_names(config)));
    if found != asked {
        return differs("the nodes", &found, &asked);
    }
    if fixed.shards != wanted.shards {
        return differs("--shards", &fixed.shards.to_string(), &wanted.shards.to_string());
    }
    if fixed.replicas != wanted.replicas {
        return differs("--replicas", &fixed.replicas.to_string(), &wanted.replicas.to_string());
    }
    if fixed.history != wanted.history {
        return differs("--history", &fixed.history, &wanted.history);
    }
    if fixed.deleted_micros != wanted.deleted_micros {
        let shown = |micros: u64| if micros == u64::MAX { "all".into() } else { format!("{micros}us") };
        return differs("--deleted-history", &shown(fixed.deleted_micros), &shown(wanted.deleted_micros));
    }
    if fixed.engine != wanted.engine {
        return differs("--engine", &fixed.engine, &wanted.engine);
    }
    Ok(())
}

/// Names in order, as text.
fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_unstable();
    names.join(",")
}

fn asked_names(config: &Config) -> impl Iterator<Item = &String> {
    let alone = config.peers.is_empty().then_some(&config.name);
    alone.into_iter().chain(config.peers.iter().map(|(name, _)| name))
}
