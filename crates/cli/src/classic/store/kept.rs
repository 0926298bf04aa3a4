//! What is kept of a store beside the data of its nodes: which nodes it has, and what they weigh. A file with others is not taken for the
//! same store.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use kv::keyspace::Weighed;
use serde::{Deserialize, Serialize};

use super::file::Store;
use crate::classic::keep;
use crate::exit::Error;

const FILE: &str = "store.json";
const FILE_NEW: &str = "store.json.new";
/// Of the program that runs it.
const LOCK: &str = "lock";
/// What the folder of every node has.
const IDENTITY: &str = "identity.json";

/// The nodes of the store in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Their names, the master first.
    nodes: Vec<String>,
    /// What they weigh, and what reads and writes need of it, as text; `None` = one of them is the master.
    #[serde(default)]
    weighed: Option<String>,
    /// All of them have served: what their folders hold cannot be made up.
    begun: bool,
}

/// Checks that these nodes are those of the folder, or writes them down where it is new.
pub fn settle(folder: &Path, store: &Store) -> Result<Kept, Error> {
    let nodes: &[String] = &store.nodes.iter().map(|node| node.name.clone()).collect::<Vec<String>>();
    let weighed = store.weighed.map(words);
    let Some(kept) = read(folder)? else {
        refuse_foreign(folder)?;
        let kept = Kept { nodes: nodes.to_vec(), weighed, begun: false };
        write(folder, &kept)?;
        return Ok(kept);
    };
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let shown = folder.display();
    if sorted(&kept.nodes) != sorted(nodes) {
        return Err(Error::Usage(format!(
            "{shown} holds a store of {}, and the file has {}: take the file of that store, or another --data",
            kept.nodes.join(", "),
            nodes.join(", ")
        )));
    }
    if let (Some(kept), Some(weighed)) = (&kept.weighed, &weighed)
        && kept != weighed
    {
        return Err(Error::Usage(format!(
            "{shown} holds a store of {kept}, and by the file it is of {weighed}: who goes by the one would miss what was written by the \
             other. Take the file of that store, or another --data"
        )));
    }
    let is_lost = |name: &&String| kept.begun && !folder.join(name).join(IDENTITY).exists();
    match nodes.iter().find(is_lost) {
        None => Ok(kept),
        Some(name) => Err(Error::Usage(format!(
            "the folder of {name} in {shown} is gone, and with it what it had promised to the others: put it back, or take \
             another --data"
        ))),
    }
}

/// What the nodes weigh, and what is needed of it.
fn words(Weighed { weights, votes }: Weighed) -> String {
    format!("weights {weights} by name, read {}, write {}", votes.read, votes.write)
}

/// All nodes have served.
pub fn note_begun(folder: &Path, kept: &mut Kept) -> Result<(), Error> {
    if !kept.begun {
        kept.begun = true;
        write(folder, kept)?;
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Option<Kept>, Error> {
    let path = folder.join(FILE);
    let broken = |error: &dyn std::fmt::Display| {
        Error::Usage(format!(
            "reading {}: {error}; put a copy of it back, or take another --data",
            path.display()
        ))
    };
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| broken(&error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(&error)),
    }
}

fn write(folder: &Path, kept: &Kept) -> Result<(), Error> {
    keep::write(folder, FILE, FILE_NEW, kept)
}

/// A folder that holds other things is not taken for a new store's.
fn refuse_foreign(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::Usage(format!("reading {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != LOCK && name != FILE_NEW {
            return Err(Error::Usage(format!(
                "{} holds {} and no {FILE}, so it is not the folder of a store; take another --data",
                folder.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classic::store::file;

    fn centralized(slaves: &[&str]) -> Store {
        let slave = |(index, id): (usize, &&str)| format!("  - {{id: {id}, ip: h, port: {}}}\n", index + 2);
        let slaves: String = slaves.iter().enumerate().map(slave).collect();
        file::decode(format!("master: {{ip: h, port: 1}}\nslaves:\n{slaves}").as_bytes())
            .expect("the folder is the test's own, and the file sound")
    }

    fn decentralized(sizes: &str) -> Store {
        let nodes = "nodes: [{ip: h, port: 1}, {ip: h, port: 2}, {ip: h, port: 3}]";
        file::decode(format!("{nodes}\n{sizes}").as_bytes())
            .expect("the folder is the test's own, and the file sound")
    }

    #[test]
    fn folder_is_of_its_nodes_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let kept = settle(folder.path(), &centralized(&["a", "b"]))
            .expect("the folder is the test's own, and the file sound");
        assert_eq!(
            settle(folder.path(), &centralized(&["b", "a"]))
                .expect("the folder is the test's own, and the file sound"),
            kept
        );
        let other = settle(folder.path(), &centralized(&["a"])).unwrap_err().to_string();
        assert!(
            other.contains("store of master, slave_a, slave_b, and the file has master, slave_a"),
            "{other}"
        );
        let other = settle(folder.path(), &decentralized("")).unwrap_err().to_string();
        assert!(other.contains("and the file has node_1, node_2, node_3"), "{other}");
    }

    #[test]
    fn folder_is_of_nodes_that_weigh_so_much() {
        let folder = tempfile::tempdir().expect("the folder is the test's own, and the file sound");
        let kept = settle(folder.path(), &decentralized(""))
            .expect("the folder is the test's own, and the file sound");
        let said = decentralized("quorum_sizes: {read: 2, write: 3}");
        assert_eq!(
            settle(folder.path(), &said).expect("the folder is the test's own, and the file sound"),
            kept,
            "that is what is usual"
        );
        let other =
            settle(folder.path(), &decentralized("quorum_sizes: {write: 4}")).unwrap_err().to_string();
        assert!(other.contains("weights 1,2,1 by name, read 2, write 3, and by the file"), "{other}");
    }

    #[test]
    fn folder_that_knows_of_no_weights_is_that_of_a_master() {
        let folder = tempfile::tempdir().expect("the folder is the test's own, and the file sound");
        fs::write(folder.path().join(FILE), r#"{"nodes":["master","slave_a"],"begun":false}"#)
            .expect("the folder is the test's own, and the file sound");
        assert!(settle(folder.path(), &centralized(&["a"])).is_ok());
    }

    #[test]
    fn folder_of_a_node_that_has_served_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let store = centralized(&["a"]);
        let mut kept =
            settle(folder.path(), &store).expect("the folder is the test's own, and the file sound");
        assert!(settle(folder.path(), &store).is_ok(), "nobody has served yet");
        note_begun(folder.path(), &mut kept).unwrap();
        let lost = settle(folder.path(), &store).unwrap_err().to_string();
        assert!(lost.contains("the folder of master"), "{lost}");
        for node in &store.nodes {
            fs::create_dir(folder.path().join(&node.name))
                .expect("the folder is the test's own, and the file sound");
            fs::write(folder.path().join(&node.name).join(IDENTITY), "{}")
                .expect("the folder is the test's own, and the file sound");
        }
        assert_eq!(
            settle(folder.path(), &store).expect("the folder is the test's own, and the file sound"),
            kept
        );
    }

    #[test]
    fn folder_of_something_else_or_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cluster.json"), "{}").unwrap();
        let foreign = settle(folder.path(), &centralized(&["a"])).unwrap_err().to_string();
        assert!(foreign.contains("holds cluster.json and no store.json"), "{foreign}");
        fs::write(folder.path().join(FILE), "not JSON").unwrap();
        let damaged = settle(folder.path(), &centralized(&["a"])).unwrap_err().to_string();
        assert!(damaged.contains("put a copy of it back"), "{damaged}");
    }
}
