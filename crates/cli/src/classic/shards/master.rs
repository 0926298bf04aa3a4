//! The shard master: a node that founds a cluster by zones, keeps the directory, and answers who has which key.

use std::path::PathBuf;
use std::sync::Arc;

use dialects::classic::shards::{SHARDS, ShardMaster};
use dialects::native::Native;
use kv::Protocol;
use server::{Config, Listen};

use super::kept::{self, Kept, Program};
use super::node::{self, host_of, reached, remove, temporary};
use crate::exit::{Code, Error};
use crate::{parse, serve};

/// Its name as a node: no server has it, for each is named HOST:PORT.
const NAME: &str = "shard-master";

/// The options of a shard master.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where clients and servers connect
    #[arg(value_name = "HOST:PORT", value_parser = parse::address)]
    listen: String,
    /// Ranges that servers which join by themselves share; those after them are replicas [default: ranges are joined one by one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS)))]
    shards: Option<u32>,
    /// Keep the directory in this folder [default: it ends with the master]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs a shard master until a signal stops it.
pub fn run(args: &Args) -> Result<Code, Error> {
    let folder = args.data.clone().map_or_else(temporary, Ok)?;
    let ended = kept::open(&folder, Program::ShardMaster, host_of(&args.listen))
        .and_then(|kept| serve::start(config(args, folder.join("node"), &kept)));
    if args.data.is_none() {
        // What cannot be removed is the system's to remove.
        let _ = remove(&folder);
    }
    ended.map(|()| Code::Done)
}

/// Its settings.
fn config(args: &Args, data: PathBuf, kept: &Kept) -> Config {
    let (host, advertise) = (host_of(&args.listen), reached(&args.listen));
    let own = |port: u16| format!("{host}:{port}");
    let reach = |port: u16| Some(reached(&own(port)));
    let native = Listen {
        advertise: reach(kept.native_port),
        ..Listen::new(Arc::new(Native::new()), own(kept.native_port))
    };
    let dialect = Arc::new(ShardMaster::new(NAME, args.shards));
    let listen = Listen { advertise: Some(advertise.clone()), ..Listen::new(dialect, args.listen.clone()) };
    let ready = format!("shard-master: serving at {advertise}; Ctrl-C or SIGTERM ends it");
    Config {
        shards: Some(SHARDS),
        protocol: Some(if args.shards.is_some() { Protocol::Primary } else { Protocol::Single }),
        weighed: None,
        listen_peer: Some(own(kept.peer_port)),
        advertise_peer: reach(kept.peer_port),
        by_zones: true,
        ..node::config(NAME, Some(data), vec![native, listen], ready)
    }
}
