//! What is kept beside the data of a node: the ports where nodes find it, and of which shard master a server is.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use dialects::classic::shards::Seat;
use serde::{Deserialize, Serialize};

use crate::classic::keep;
use crate::exit::Error;

const FILE: &str = "shards.json";
const FILE_NEW: &str = "shards.json.new";

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Of a shard master.
    ShardMaster,
    /// Of a server.
    ShardServer,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Whose folder it is.
    pub program: Program,
    /// Where other nodes connect.
    pub peer_port: u16,
    /// Where clients of nodes connect.
    pub native_port: u16,
    /// Its place with a master.
    pub seat: Option<Place>,
}

/// A server's place with a master. (An earlier version wrote more.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    join: Vec<String>,
    name: String,
    zone: String,
}

impl From<Place> for Seat {
    fn from(Place { join, name, zone }: Place) -> Seat {
        Seat { join, name, zone }
    }
}

impl From<Seat> for Place {
    fn from(Seat { join, name, zone }: Seat) -> Place {
        Place { join, name, zone }
    }
}

/// What a folder keeps; at the first start free ports are found.
pub fn open(folder: &Path, program: Program, host: &str) -> Result<Kept, Error> {
    let path = folder.join(FILE);
    let shown = path.display();
    let kept = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map_err(|error| {
            Error::Usage(format!("reading {shown}: {error}; put a copy of it back, or take another --data"))
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            refuse_foreign(folder)?;
            let [peer_port, native_port] = free_ports(host)?;
            let kept = Kept { program, peer_port, native_port, seat: None };
            write(folder, &kept)?;
            kept
        }
        Err(error) => return Err(Error::Usage(format!("reading {shown}: {error}"))),
    };
    match kept.program == program {
        true => Ok(kept),
        false => Err(Error::Usage(format!(
            "{} is the folder of a {}: take another --data",
            folder.display(),
            if kept.program == Program::ShardMaster { "shard master" } else { "shard server" }
        ))),
    }
}

/// Writes it down, so that it is there after a loss of power.
pub fn write(folder: &Path, kept: &Kept) -> Result<(), Error> {
    keep::write(folder, FILE, FILE_NEW, kept)
}

/// A folder that holds other things is not taken for a new one.
fn refuse_foreign(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::Usage(format!("making {}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(failed)?;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != FILE_NEW {
            return Err(Error::Usage(format!(
                "{} holds {} and no {FILE}, so it is not the folder of this program; take another --data",
                folder.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

/// Two ports that nobody has.
fn free_ports(host: &str) -> Result<[u16; 2], Error> {
    let host = if host == "*" { "0.0.0.0" } else { host };
    let none = |error| Error::Usage(format!("{host} is no address of this machine to listen on: {error}"));
    let bind = || TcpListener::bind(format!("{host}:0")).map_err(none);
    // Both are held until both are known, so they differ.
    let both = [bind()?, bind()?];
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port()).map_err(none);
    Ok([port(&both[0])?, port(&both[1])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_keeps_ports_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = open(folder.path(), Program::ShardServer, "localhost").unwrap();
        assert_ne!(kept.peer_port, kept.native_port);
        let (join, name, zone) = (vec!["h:1".into()], "h:2".into(), "1".into());
        kept.seat = Some(Place { join, name, zone });
        write(folder.path(), &kept).unwrap();
        assert_eq!(open(folder.path(), Program::ShardServer, "localhost").unwrap(), kept);
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        let earlier = text.replace(r#""zone""#, r#""may_be_old": false, "zone""#);
        assert_ne!(earlier, text);
        fs::write(folder.path().join(FILE), earlier).unwrap();
        assert_eq!(
            open(folder.path(), Program::ShardServer, "localhost").unwrap(),
            kept,
            "an earlier version's"
        );
        let other = open(folder.path(), Program::ShardMaster, "localhost").unwrap_err().to_string();
        assert!(other.contains("is the folder of a shard server"), "{other}");
    }

    #[test]
    fn folder_of_something_else_or_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.json"), "{}").unwrap();
        let refused = || open(folder.path(), Program::ShardMaster, "localhost").unwrap_err().to_string();
        assert!(refused().contains("holds identity.json and no shards.json"), "{}", refused());
        fs::write(folder.path().join(FILE), "not JSON").unwrap();
        assert!(refused().contains("put a copy of it back"), "{}", refused());
    }
}
