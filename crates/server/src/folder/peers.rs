//! `peers.json`: the lives that the other nodes were met in last.

use std::path::Path;

use node::identity::{Lives, come_back};
use serde::{Deserialize, Serialize};

use super::format;
use super::identity::node_id;
use crate::Failure;

/// Format 1 knew incarnations only.
const FORMAT: u32 = 2;

/// The file.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    nodes: Vec<Peer>,
}

#[derive(Serialize, Deserialize)]
struct Peer {
    id: u64,
    #[serde(flatten)]
    life: format::Written,
}

/// The content of the file.
pub(super) fn encode(lives: &Lives) -> Vec<u8> {
    let peer = |(id, life): (&kv::NodeId, &_)| Peer { id: id.0, life: format::written(life) };
    let written = Written { format: FORMAT, nodes: lives.iter().map(peer).collect() };
    serde_json::to_vec_pretty(&written).expect("it has text keys only")
}

/// The lives in a file of a node with this name.
pub(super) fn read(file: &Path, text: &str, name: &str) -> Result<Lives, Failure> {
    let shown = file.display();
    let damaged = |error: String| {
        Failure::Refused(format!(
            "{shown} is damaged ({error}): restore it from a copy; or move the data folder away, {}",
            come_back(name)
        ))
    };
    let found = format::of(text).map_err(damaged)?;
    if found != FORMAT {
        return Err(Failure::Refused(format!(
            "{shown} has format {found}, and this version of capstan has format {FORMAT}: start the node with the version \
             that made it"
        )));
    }
    parse(text).map_err(damaged)
}

fn parse(text: &str) -> Result<Lives, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut lives = Lives::new();
    for Peer { id, life } in written.nodes {
        if lives.insert(node_id(id)?, format::life(&life)?).is_some() {
            return Err(format!("it has node {id} twice"));
        }
    }
    Ok(lives)
}
