//! A keyspace without an order goes on under other protocols, and comes back.

use kv::Protocol;
use kv::keyspace::Wish;
use placement::map::DEFAULT;

use crate::world::World;

/// Of 100 looks at what is to be done so many begin a change of protocol, while none is under way.
const RECAST_PERCENT: u64 = 10;

impl World {
    /// Another protocol for the keys of clients, now and then.
    pub fn draw_recast(&mut self) -> Option<Wish> {
        let is_time = self.settings.recasts && !self.calm && !self.is_recasting();
        if !is_time || !self.random.percent(RECAST_PERCENT) {
            return None;
        }
        let to = self.random.pick(&[Protocol::Raft, Protocol::Primary, Protocol::TwoPhase]);
        let to = if self.is_without_order() { to } else { Protocol::Quorum };
        Some(Wish { protocol: Some(to), ..Wish::default() })
    }

    fn is_without_order(&self) -> bool {
        self.placed.keyspaces[DEFAULT].protocol == Protocol::Quorum
    }
}
