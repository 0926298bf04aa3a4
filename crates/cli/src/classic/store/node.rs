//! One node of a store: an ordinary node whose clients are those of the store.

use std::path::PathBuf;
use std::sync::Arc;

use dialects::classic::store::Store;
use kv::Protocol;
use kv::keyspace::{Votes, Weighed, Weights};
use server::{Config, Kind, Listen, Moves, Stderr};

use crate::exit::{Code, Error};
use crate::{parse, serve};

/// How the nodes of a store agree that have a master, and how those that weigh something: the one place that says it.
const CENTRALIZED: Protocol = Protocol::TwoPhase;
const DECENTRALIZED: Protocol = Protocol::Quorum;
/// All keys are of one shard: so one node is the master of all of them.
const SHARDS: u32 = 1;
/// A node needs few: it shares its machine with all the others.
const CORES: usize = 1;

/// The options of a node of a store, as the program that starts them all gives them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Its name
    #[arg(long, value_parser = parse::name)]
    name: String,
    /// Its data folder
    #[arg(long)]
    data: PathBuf,
    /// Where clients connect
    #[arg(long, value_delimiter = ',', value_parser = parse::address)]
    listen: Vec<String>,
    /// Where others on this machine reach it
    #[arg(long, value_parser = parse::address)]
    advertise: String,
    /// Where the nodes of the store connect to each other
    #[arg(long, value_delimiter = ',', value_parser = parse::peer)]
    peers: Vec<(String, String)>,
    /// What the nodes weigh, in the order of their names; without it one of them is the master
    #[arg(long, value_parser = parse::weights, requires_all = ["read", "write"])]
    weights: Option<Weights>,
    /// How much those must weigh that a get hears
    #[arg(long, requires = "weights")]
    read: Option<u32>,
    /// How much those must weigh that have a put
    #[arg(long, requires = "weights")]
    write: Option<u32>,
    /// End when this process ends
    #[arg(long)]
    parent: i32,
}

/// Runs a node until a signal stops it.
pub fn run(args: Args) -> Result<Code, Error> {
    serve::end_with(args.parent)?;
    serve::start(config(args))?;
    Ok(Code::Done)
}

/// Its settings: those of `capstan serve` where nothing else is said.
fn config(args: Args) -> Config {
    let Args { name, data, listen, advertise, peers, weights, read, write, .. } = args;
    let votes = read.zip(write).map(|(read, write)| Votes { read, write });
    let weighed = weights.zip(votes).map(|(weights, votes)| Weighed { weights, votes });
    let dialect = Arc::new(Store::new());
    let at = |address: String| Listen {
        advertise: Some(advertise.clone()),
        ..Listen::new(dialect.clone(), address)
    };
    Config {
        name,
        engine: Kind::Disk,
        data: Some(data),
        listen: listen.into_iter().map(at).collect(),
        join: Vec::new(),
        advertise_peer: None,
        listen_peer: None,
        zone: None,
        history: None,
        deleted_micros: None,
        shards: Some(SHARDS),
        // It has at most as many as a shard may.
        replicas: u16::try_from(peers.len()).ok(),
        protocol: Some(if weighed.is_some() { DECENTRALIZED } else { CENTRALIZED }),
        weighed,
        peers,
        cores: Some(CORES),
        entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
        moves: Moves::default(),
        checkpoint_bytes: Config::CHECKPOINT_BYTES,
        // Its clients have it answer late.
        lab: true,
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        stderr: Stderr::Nothing,
    }
}
