//! Which shard a key belongs to, as the newest map has it: for all threads that take requests.

use std::sync::{Arc, RwLock};

use node::route::ShardMap;
use placement::map::Map;

/// The shards of clients' keys.
pub(crate) struct Routes(RwLock<Arc<ShardMap>>);

impl Routes {
    /// By the map that the node starts with.
    pub fn new(map: &Map) -> Routes {
        let shards = ShardMap::new(map).expect("a cluster is founded with a keyspace for clients");
        Routes(RwLock::new(Arc::new(shards)))
    }

    /// A later map is known.
    pub fn follow(&self, map: &Map) {
        if let Some(shards) = ShardMap::new(map) {
            *self.0.write().expect("no holder of the routes panics") = Arc::new(shards);
        }
    }

    /// As they are now.
    pub fn present(&self) -> Arc<ShardMap> {
        self.0.read().expect("no holder of the routes panics").clone()
    }
}
