//! `peers.json`: under which incarnation each of the other nodes was met.

use std::path::Path;

use node::identity::{Identity, Incarnations};
use serde::{Deserialize, Serialize};

use super::format::{self, incarnation_text};
use super::identity::node_id;
use crate::Failure;

const FORMAT: u32 = 1;

/// The file.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    nodes: Vec<Peer>,
}

#[derive(Serialize, Deserialize)]
struct Peer {
    id: u64,
    /// For people: the id counts.
    name: String,
    incarnation: String,
}

/// The content of the file.
pub(super) fn encode(identity: &Identity, known: &Incarnations) -> Vec<u8> {
    let peer = |(id, incarnation): (&kv::NodeId, &u64)| Peer {
        id: id.0,
        name: identity.name_of(*id).unwrap_or_default().to_owned(),
        incarnation: incarnation_text(*incarnation),
    };
    let written = Written { format: FORMAT, nodes: known.iter().map(peer).collect() };
    serde_json::to_vec_pretty(&written).expect("it has text keys only")
}

/// The incarnations in a file of a folder with this identity.
pub(super) fn read(file: &Path, text: &str, identity: &Identity) -> Result<Incarnations, Failure> {
    let shown = file.display();
    let damaged = |error: String| {
        Failure::Refused(format!(
            "{shown} is damaged ({error}): restore it from a copy, or move the data folder away and start this node with \
             --rejoin"
        ))
    };
    let found = format::number(text).map_err(damaged)?;
    if found != FORMAT {
        return Err(Failure::Refused(format!(
            "{shown} has format {found}, and this version of capstan has format {FORMAT}: start the node with the version \
             that made it"
        )));
    }
    parse(text, identity).map_err(damaged)
}

fn parse(text: &str, identity: &Identity) -> Result<Incarnations, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut known = Incarnations::new();
    for Peer { id, incarnation, .. } in written.nodes {
        let id = node_id(id)?;
        if !identity.others().any(|other| other == id) {
            return Err(format!("{id} is no other node of this cluster"));
        }
        known.insert(id, format::incarnation(&incarnation)?);
    }
    Ok(known)
}
