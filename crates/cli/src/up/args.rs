//! The options of `capstan up`.

use std::path::PathBuf;

use super::member::PEER_PORT_OFFSET;
use crate::pace::Pace;
use crate::parse::{self, Deleted, Engine, History};

/// The options of `capstan up`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan up                        three nodes, data in ./capstan-data
  capstan up --nodes 5 --data /tmp/five --base-port 8400
  capstan up --engine memory --history all
  capstan up < /dev/null &          no shell; stop it with kill
  capstan up --rejoin n2            n2 comes back after its folder was lost
The nodes are n1, n2 and so on; clients connect to base port + 1, + 2 and so
on. Started again, it goes on with what is in the folder: nodes, engine,
history and shards are fixed by the first start.")]
pub struct Args {
    /// How many nodes [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    pub nodes: Option<u16>,
    /// The folder of the cluster; made when it is not there
    #[arg(long, value_name = "FOLDER", default_value = "./capstan-data")]
    pub data: PathBuf,
    /// Ports are counted from here
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=BASE_PORT_MAX))]
    pub base_port: u16,
    /// Where rows are kept [default: disk]
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// How many revisions of a key are kept: a count, or all [default: 16]
    #[arg(long, value_name = "N|all")]
    pub history: Option<History>,
    /// How long those of a deleted key are kept: a duration, or all [default: 5m]
    #[arg(long, value_name = "DURATION|all")]
    pub deleted_history: Option<Deleted>,
    /// How many shards [default: 4]
    #[arg(long, value_name = "N", value_parser = parse::shards)]
    pub shards: Option<u32>,
    /// Memory per node for entries that a slow node may still need
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub entry_cache: Option<usize>,
    /// How replicas go from node to node
    #[command(flatten)]
    pub pace: Pace,
    /// This node's folder was lost or moved away: the others make it whole
    #[arg(long, value_name = "NODE", value_parser = parse::name)]
    pub rejoin: Option<String>,
}

/// As many as there are ports between those for clients and those for peers.
const NODES_MAX: i64 = PEER_PORT_OFFSET as i64;
/// The highest base that leaves room for the ports above it.
const BASE_PORT_MAX: i64 = u16::MAX as i64 - 2 * NODES_MAX;
