//! The maps that are written are one history: of one revision there is one map, and each is sound (the guarantee of
//! `node`'s directory, `placement::map::Map::check`).

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::NodeId;
use placement::map::Map;

/// The maps that nodes said are written.
#[derive(Default)]
pub(crate) struct Maps {
    written: BTreeMap<u64, Arc<Map>>,
}

impl Maps {
    /// A node says that a map is written: what is wrong with it.
    pub fn decided(&mut self, node: NodeId, map: &Arc<Map>) -> Option<String> {
        let known = self.written.entry(map.revision).or_insert_with(|| map.clone());
        if known != map {
            return Some(format!(
                "one map a revision: {node} has written {map:?}, and revision {} was {known:?}",
                map.revision
            ));
        }
        map.check().err().map(|why| format!("maps are sound: {node} has written {map:?}: {why}"))
    }
}
