//! The options of `capstan up`.

use std::path::PathBuf;

use super::member::NODES_MAX;
use crate::pace::Pace;
use crate::parse::{self, Deleted, Engine, History};

/// The options of `capstan up`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  capstan up                        three nodes, data in ./capstan-data
  capstan up --nodes 5 --shards 64 --replicas 3 --data /tmp/five
  capstan up --nodes 5              two more than there were: they join it
  capstan up --engine memory --history all
  capstan up < /dev/null &          no shell; stop it with kill
The nodes are n1, n2 and so on; clients connect to base port + 1, + 2 and so
on. Started again, it goes on with what is in the folder: engine, history,
shards and replicas are fixed by the first start, nodes may join by --nodes and
leave by 'capstan cluster leave'. With 3 replicas a shard serves on while one
of its nodes is down, with 5 while two are; 2 or 4 survive no more than 1 or 3,
but keep one copy more.")]
pub struct Args {
    /// How many nodes [default: 3; of a cluster that is there, as many as it has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
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
    /// On how many nodes each shard is, where there are so many [default: 3]
    #[arg(long, value_name = "N", value_parser = parse::replicas)]
    pub replicas: Option<u16>,
    /// Have the nodes take faults (capstan fault): for tests, not for data that matters
    #[arg(long)]
    pub lab: bool,
    /// Memory per node for entries that a slow node may still need
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub entry_cache: Option<usize>,
    /// How replicas go from node to node
    #[command(flatten)]
    pub pace: Pace,
}

/// The highest base that leaves room for the ports above it.
const BASE_PORT_MAX: i64 = u16::MAX as i64 - 2 * NODES_MAX as i64;
