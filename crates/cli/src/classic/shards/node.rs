//! What both programs have in common: the settings of their nodes, where they are reached, and folders of a time.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use server::{Config, Kind, Listen, Moves, Stderr};

use crate::classic::host;
use crate::exit::Error;

/// A node needs few: it shares its machine with all the others.
const CORES: usize = 1;
/// Shards are many and small, and whoever asks waits until all have moved: so many at once as a node takes copies of.
const MOVES_MAX: usize = 32;

/// The settings of such a node: those of `capstan serve` where nothing else is said.
pub(super) fn config(name: &str, data: Option<PathBuf>, listen: Vec<Listen>, ready: String) -> Config {
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
        weighed: None,
        cores: Some(CORES),
        entry_cache_bytes: Config::ENTRY_CACHE_BYTES,
        moves: Moves { max: MOVES_MAX, bytes_per_second: 0, ..Moves::default() },
        checkpoint_bytes: Config::CHECKPOINT_BYTES,
        lab: false,
        by_zones: false,
        ends_when_left: false,
        bus: Default::default(),
        stderr: Stderr::Line(ready),
    }
}

/// The host of HOST:PORT.
pub(super) fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Where others reach HOST:PORT: by this machine's name where that is every address of it.
pub(super) fn reached(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "*" | "0.0.0.0" | "[::]" => format!("{}:{port}", host::full_name()),
        _ => address.into(),
    }
}

/// A folder for the time of this process.
pub(super) fn temporary() -> Result<PathBuf, Error> {
    let folder = env::temp_dir().join(format!("capstan-shards-{}", process::id()));
    // One that a process of this id has left behind is nobody's.
    let made = remove(&folder).and_then(|()| fs::create_dir_all(&folder));
    made.map(|()| folder.clone())
        .map_err(|error| Error::Usage(format!("making {}: {error}; or give --data", folder.display())))
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
