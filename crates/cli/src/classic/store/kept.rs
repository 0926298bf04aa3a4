//! What is kept of a store beside the data of its nodes: which nodes it has. A file with others is not taken for the same store.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

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
    /// All of them have served: what their folders hold cannot be made up.
    begun: bool,
}

/// Checks that these nodes are those of the folder, or writes them down where it is new.
pub fn settle(folder: &Path, nodes: &[String]) -> Result<Kept, Error> {
    let Some(kept) = read(folder)? else {
        refuse_foreign(folder)?;
        let kept = Kept { nodes: nodes.to_vec(), begun: false };
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
    let is_lost = |name: &&String| kept.begun && !folder.join(name).join(IDENTITY).exists();
    match nodes.iter().find(is_lost) {
        None => Ok(kept),
        Some(name) => Err(Error::Usage(format!(
            "the folder of {name} in {shown} is gone, and with it what it had promised to the others: put it back, or take \
             another --data"
        ))),
    }
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

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn folder_is_of_its_nodes_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let kept = settle(folder.path(), &names(&["master", "a", "b"])).unwrap();
        assert_eq!(settle(folder.path(), &names(&["master", "b", "a"])).unwrap(), kept);
        let other = settle(folder.path(), &names(&["master", "a"])).unwrap_err().to_string();
        assert!(other.contains("holds a store of master, a, b, and the file has master, a"), "{other}");
    }

    #[test]
    fn folder_of_a_node_that_has_served_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = names(&["master", "a"]);
        let mut kept = settle(folder.path(), &nodes).unwrap();
        assert!(settle(folder.path(), &nodes).is_ok(), "nobody has served yet");
        note_begun(folder.path(), &mut kept).unwrap();
        let lost = settle(folder.path(), &nodes).unwrap_err().to_string();
        assert!(lost.contains("the folder of master"), "{lost}");
        for name in &nodes {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(IDENTITY), "{}").unwrap();
        }
        assert_eq!(settle(folder.path(), &nodes).unwrap(), kept);
    }

    #[test]
    fn folder_of_something_else_or_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cluster.json"), "{}").unwrap();
        let foreign = settle(folder.path(), &names(&["master"])).unwrap_err().to_string();
        assert!(foreign.contains("holds cluster.json and no store.json"), "{foreign}");
        fs::write(folder.path().join(FILE), "not JSON").unwrap();
        let damaged = settle(folder.path(), &names(&["master"])).unwrap_err().to_string();
        assert!(damaged.contains("put a copy of it back"), "{damaged}");
    }
}
