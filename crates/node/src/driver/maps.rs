//! The map on its way: from other nodes, to other nodes, into the log.
//!
//! Each announcement names the revision that its sender knows. Who is behind asks, once for all its cores, and the answer reaches
//! each of them. The first core writes it to the log, so that the next start serves without asking anybody.

use std::sync::Arc;

use kv::NodeId;
use placement::map::Map;

use super::{Driver, Work};
use crate::record;
use crate::wire::Frame;

impl Driver {
    /// A map: one that is no later than the known one says nothing new.
    pub(super) fn take_map(&mut self, map: Arc<Map>) {
        let before = self.node.config.map.clone();
        let Some(strangers) = self.node.take_map(map) else { return };
        self.core.note_gone_shards(&before, &self.node);
        for node in strangers {
            self.core.disconnected(&self.node, node);
        }
        self.keep_map();
        self.core.share_with(&self.node);
        self.core.host(&self.node);
        self.core.tell_views(&self.node);
        self.core.tell_syncs(&before, &self.node);
        self.core.want_members(&self.node);
        self.core.hand_over_shards(&self.node);
        self.core.follow_settings(&self.node);
        self.note_map();
    }

    /// Has the map in the log, and its owner know of it.
    fn keep_map(&mut self) {
        if self.node.is_first() {
            let map = self.node.config.map.clone();
            tracing::info!(revision = map.revision, "a map is known");
            self.core.records.push(record::map(&map));
            self.core.work.push(Work::Map(map));
        }
    }

    /// A node is behind.
    pub(super) fn tell_map(&mut self, to: NodeId) {
        if self.node.is_first() {
            let map = self.node.config.map.clone();
            self.core.send(to, &Frame::Map(map));
        }
    }

    /// Asks for a later map when it is time.
    pub(super) fn ask_for_map(&mut self) {
        if let Some(from) = self.node.takes_map_question() {
            self.core.send(from, &Frame::WantMap);
        }
    }
}
