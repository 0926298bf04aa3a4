//! `identity.json`: whose folder it is, and what was fixed at the first start.

use std::path::Path;

use kv::NodeId;
use kv::cluster::Terms;
use node::identity::{Identity, Joiner, Lineage, Start, come_back};
use serde::{Deserialize, Serialize};
use storage::Kind;

use super::format;
use crate::{Config, Failure};

/// Format 1 knew no cluster ids; in format 2 a node's id was its place among the names; format 3 did not count starts.
const FORMAT: u32 = 5;
/// Every node had an id, every founder each shard, and one that came back with nothing could be on its way to be whole; the
/// rest is the same.
const FORMAT_BEFORE: u32 = 4;

/// What cannot change later, besides the node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub terms: Terms,
    pub engine: Kind,
}

/// What a folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is of a node that has an id.
    Node(Box<Identity>, Fixed),
    /// It is of one that asked for an id, and has none yet.
    Joiner(Joiner),
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    /// `None` = the node is to join a cluster, and was given none yet.
    id: Option<u64>,
    name: String,
    /// 16 hexadecimal digits; `None` until the node has learned it.
    cluster: Option<String>,
    #[serde(flatten)]
    life: format::Written,
    /// The processes of the starts before, the latest first.
    earlier: Vec<String>,
    founders: Vec<Listed>,
    /// Those of the cluster, once it is known which that is.
    #[serde(flatten)]
    fixed: Option<WrittenFixed>,
    zone: String,
    begun: bool,
    /// Of the format before: it has forgotten what it had promised.
    #[serde(default, skip_serializing)]
    rejoining: bool,
    /// Why the folder must not be started again.
    copy: Option<String>,
    /// Why its node is no member any more.
    gone: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    id: u64,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenFixed {
    shards: u32,
    /// `None`, in the format before = on every founder.
    replicas: Option<u16>,
    history: String,
    deleted_micros: u64,
    engine: String,
}

impl Fixed {
    /// Of a node that founds a cluster.
    pub fn new(config: &Config) -> Fixed {
        Fixed { terms: config.terms(), engine: config.engine }
    }

    fn written(&self) -> WrittenFixed {
        let Terms { shards, replicas, history, deleted_micros } = self.terms;
        let history = history.map_or("all".into(), |count| count.to_string());
        WrittenFixed {
            shards,
            replicas: Some(replicas),
            history,
            deleted_micros,
            engine: self.engine.name().into(),
        }
    }

    fn read(written: &WrittenFixed, founders: usize) -> Result<Fixed, String> {
        let WrittenFixed { shards, replicas, history, deleted_micros, engine } = written;
        let history = match history.as_str() {
            "all" => None,
            count => Some(count.parse().map_err(|_| format!("'{}' is no history", count.escape_debug()))?),
        };
        let engine = [Kind::Memory, Kind::Disk].into_iter().find(|kind| kind.name() == engine);
        let engine = engine.ok_or("it names an engine that is none")?;
        let replicas = replicas.or(u16::try_from(founders).ok()).filter(|replicas| *replicas > 0);
        let replicas = replicas.ok_or("its shards have no replicas")?;
        let terms = Terms { shards: *shards, replicas, history, deleted_micros: *deleted_micros };
        Ok(Fixed { terms, engine })
    }
}

/// Of a new folder of a node that founds a cluster.
pub(super) fn new(config: &Config) -> Identity {
    let start = Start {
        name: config.name.clone(),
        names: config.peers.iter().map(|(name, _)| name.clone()).collect(),
        terms: config.terms().to_string(),
        zone: config.zone.clone().unwrap_or_default(),
    };
    Identity::new(&start, &mut crate::random)
}

/// The content of the file of a node that was given no id yet.
pub(super) fn encode_joiner(joiner: &Joiner) -> Vec<u8> {
    let Joiner { name, lineage, zone } = joiner.clone();
    serialize(&Written {
        format: FORMAT,
        id: None,
        name,
        cluster: None,
        life: format::written(&lineage.life),
        earlier: earlier(&lineage),
        founders: Vec::new(),
        fixed: None,
        zone,
        begun: false,
        rejoining: false,
        copy: None,
        gone: None,
    })
}

/// The content of the file.
pub(super) fn encode(identity: &Identity, fixed: &Fixed) -> Vec<u8> {
    let listed = |(id, name): &(NodeId, String)| Listed { id: id.0, name: name.clone() };
    serialize(&Written {
        format: FORMAT,
        id: Some(identity.me.0),
        name: identity.name.clone(),
        cluster: identity.cluster.map(|id| id.to_string()),
        life: format::written(&identity.lineage.life),
        earlier: earlier(&identity.lineage),
        founders: identity.founders.iter().map(listed).collect(),
        fixed: Some(fixed.written()),
        zone: identity.zone.clone(),
        begun: identity.begun,
        rejoining: false,
        copy: identity.copy.clone(),
        gone: identity.gone.clone(),
    })
}

fn earlier(lineage: &Lineage) -> Vec<String> {
    lineage.earlier.iter().map(|process| format::text(*process)).collect()
}

fn serialize(written: &Written) -> Vec<u8> {
    serde_json::to_vec_pretty(written).expect("it has text keys only")
}

/// What a file says, if it fits what this start wants.
pub(super) fn check(folder: &Path, text: &str, config: &Config) -> Result<Found, Failure> {
    let shown = folder.display();
    let damaged = |error: String| {
        Failure::Refused(format!("{shown}/identity.json is damaged ({error}): restore it from a copy"))
    };
    let found = format::of(text).map_err(damaged)?;
    if ![FORMAT, FORMAT_BEFORE].contains(&found) {
        return Err(Failure::Refused(format!(
            "the data folder {shown} has format {found}, and this version of capstan has format {FORMAT}: start it with the \
             version that made it; to take the data along, print it there with 'capstan range '' --json', and put it into a \
             new folder with 'capstan putall --json'"
        )));
    }
    let written: Written = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if written.rejoining {
        return Err(Failure::Refused(format!(
            "the data folder {shown} is of a node that came back with nothing, and was not made whole by the version of capstan \
             that made it: move it away, {}",
            come_back(&config.name)
        )));
    }
    let found = read(written).map_err(damaged)?;
    check_name(folder, &found, config)?;
    match &found {
        Found::Joiner(_) if config.join.is_empty() => Err(Failure::Refused(format!(
            "the data folder {shown} is of node {}, which was to join a cluster and was given no id yet: start it with --join \
             HOST:PORT of any node of that cluster, or remove the folder, which holds nothing yet",
            config.name
        ))),
        Found::Joiner(_) => Ok(found),
        Found::Node(identity, fixed) => {
            check_options(folder, identity, fixed, config)?;
            match identity.copy.as_ref().or(identity.gone.as_ref()) {
                Some(why) => {
                    let why = format!("the data folder {shown} must not be started again: {why}");
                    Err(if identity.copy.is_none() { Failure::Left(why) } else { Failure::Refused(why) })
                }
                None => Ok(found),
            }
        }
    }
}

fn read(written: Written) -> Result<Found, String> {
    let earlier = written.earlier.iter().map(|text| format::number(text)).collect::<Result<Vec<u64>, _>>()?;
    let lineage = Lineage { life: format::life(&written.life)?, earlier };
    let (name, zone) = (written.name, written.zone);
    let Some(id) = written.id else { return Ok(Found::Joiner(Joiner { name, lineage, zone })) };
    let me = node_id(id)?;
    let cluster = written.cluster.map(|text| text.parse()).transpose()?;
    let founders = read_founders(written.founders)?;
    let fixed = written.fixed.ok_or("it does not say what was fixed at the first start")?;
    let fixed = Fixed::read(&fixed, founders.len())?;
    // Who joined is none of them, and was given its cluster with its id.
    if !founders.contains(&(me, name.clone())) && (!founders.is_empty() || cluster.is_none()) {
        return Err("it does not list its own node".into());
    }
    let identity = Identity {
        me,
        name,
        founders,
        terms: fixed.terms.to_string(),
        cluster,
        lineage,
        zone,
        begun: written.begun,
        copy: written.copy,
        gone: written.gone,
    };
    Ok(Found::Node(Box::new(identity), fixed))
}

fn read_founders(listed: Vec<Listed>) -> Result<Vec<(NodeId, String)>, String> {
    let node = |Listed { id, name }| Ok((node_id(id)?, name));
    let founders = listed.into_iter().map(node).collect::<Result<Vec<(NodeId, String)>, String>>()?;
    for (place, (id, name)) in founders.iter().enumerate() {
        if founders[..place].iter().any(|(other, others)| other == id || others == name) {
            return Err(format!("it lists a node twice: {id}, {name}"));
        }
    }
    Ok(founders)
}

/// The id of a node with this number.
pub(super) fn node_id(number: u64) -> Result<NodeId, String> {
    match number {
        0 => Err("0 is no id of a node".into()),
        id => Ok(NodeId(id)),
    }
}

fn differs(folder: &Path, what: &str, found: &str, wanted: &str) -> Failure {
    Failure::Refused(format!(
        "the data folder {} was made with {what} {found}, and this start says {wanted}: start it with {found}, or give --data \
         another folder",
        folder.display()
    ))
}

fn check_name(folder: &Path, found: &Found, config: &Config) -> Result<(), Failure> {
    let name = match found {
        Found::Node(identity, _) => &identity.name,
        Found::Joiner(joiner) => &joiner.name,
    };
    if *name == config.name { Ok(()) } else { Err(differs(folder, "the node name", name, &config.name)) }
}

fn check_options(folder: &Path, identity: &Identity, fixed: &Fixed, config: &Config) -> Result<(), Failure> {
    let founders = names(identity.founders.iter().map(|(_, name)| name));
    let asked = names(config.peers.iter().map(|(name, _)| name));
    // Of who joined nobody here knows the founders; and who starts without --peers says nothing of them.
    if !founders.is_empty() && !asked.is_empty() && founders != asked {
        return Err(Failure::Refused(format!(
            "the data folder {} is of a cluster that was founded with the nodes {founders}, and --peers lists {asked}: start it \
             with {founders}; other nodes are added by starting them with --join, or give --data another folder",
            folder.display()
        )));
    }
    if let Some((option, found, wanted)) = config.contradicts(&fixed.terms) {
        return Err(differs(folder, option, &found, &wanted));
    }
    if fixed.engine != config.engine {
        return Err(differs(folder, "--engine", fixed.engine.name(), config.engine.name()));
    }
    Ok(())
}

/// Names in order, as text.
fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_unstable();
    names.join(",")
}
