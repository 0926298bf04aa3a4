//! The programs of a store whose servers each have a range of the keys, or share one: a shard master and its servers.
//!
//! ```text
//!   shard-master h:50000        a node: the directory, and the rows while no server is there
//!   shard-server h:50001        a node by itself ── Join(h:50001) ──▶ a node of the master's cluster
//!                                      ▲                                     │
//!                                      └──────────── Leave(h:50001) ─────────┘
//! ```
//!
//! A server changes what it is by starting anew in the same process ([`member`]): what it is to be stands in its folder
//! ([`kept`]), so it goes on from there whatever ends it.
//!
//! # Caveats
//!
//! Without `--data` a folder of the system's temporary ones is used, and removed at the end; after a kill -9 it stays there.

mod kept;
mod master;
mod member;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use server::{Config, Kind, Listen, Moves, Stderr};

use super::host;
use crate::exit::Error;

pub use master::{Args as MasterArgs, run as run_master};
pub use member::{Args as ServerArgs, run as run_server};

/// A node needs few: it shares its machine with all the others.
const CORES: usize = 1;
/// Shards are many and small, and whoever asks waits until all have moved: so many at once as a node takes copies of.
const MOVES_MAX: usize = 32;

/// The settings of such a node: those of `capstan serve` where nothing else is said.
fn config(name: &str, data: Option<PathBuf>, listen: Vec<Listen>, ready: String) -> Config {
    Config {
        name: name.into(),
        engine: if data.is_some() { Kind::Disk } else { Kind::Memory },
        data,
        listen,
        peers: Vec::new(),
        join: Vec::new(),
        advertise_peer: None,
        listen_peer: None,
        zone: None,
        history: None,
        deleted_micros: None,
        shards: None,
        replicas: None,
        protocol: None,
        cores: Some(CORES),
        entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
        moves: Moves { max: MOVES_MAX, bytes_per_second: 0, ..Moves::default() },
        checkpoint_bytes: Config::CHECKPOINT_BYTES,
        lab: false,
        by_zones: false,
        ends_when_left: false,
        stderr: Stderr::Line(ready),
    }
}

/// The host of HOST:PORT.
fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Where others reach HOST:PORT: by this machine's name where that is every address of it.
fn reached(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "*" | "0.0.0.0" | "[::]" => format!("{}:{port}", host::full_name()),
        _ => address.into(),
    }
}

/// A folder for the time of this process.
fn temporary() -> Result<PathBuf, Error> {
    let folder = env::temp_dir().join(format!("capstan-shards-{}", process::id()));
    // One that a process of this id has left behind is nobody's.
    let made = remove(&folder).and_then(|()| fs::create_dir_all(&folder));
    made.map(|()| folder.clone())
        .map_err(|error| Error::Usage(format!("making {}: {error}; or give --data", folder.display())))
}

/// Removes a folder with all that is in it, if it is there.
fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
