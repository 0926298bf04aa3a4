//! Which shard of its keyspace a key belongs to, as the newest map has it: for all threads that take requests.

use std::sync::{Arc, RwLock};

use node::route::Keyspaces;
use placement::map::Map;

/// The keyspaces of clients.
pub(crate) struct Routes(RwLock<Arc<Keyspaces>>);

impl Routes {
    /// By the map that the node starts with.
    pub fn new(map: &Map) -> Routes {
        Routes(RwLock::new(Arc::new(Keyspaces::new(map))))
    }

    /// A later map is known.
    pub fn follow(&self, map: &Map) {
        let keyspaces = Arc::new(Keyspaces::new(map));
        *self.0.write().expect("no holder of the routes panics") = keyspaces;
    }

    /// As they are now.
    pub fn present(&self) -> Arc<Keyspaces> {
        self.0.read().expect("no holder of the routes panics").clone()
    }
}
