//! Which cluster a client asks: the one of the first given node that told it, for the client's whole life.

use std::sync::OnceLock;

use kv::ClusterId;

/// The cluster of a client.
#[derive(Debug, Default)]
pub(super) struct Ours(OnceLock<ClusterId>);

impl Ours {
    /// Its id, once a node has told it.
    pub(super) fn id(&self) -> Option<ClusterId> {
        self.0.get().copied()
    }

    /// Takes the id that a node told, if it is the first; returns the client's.
    pub(super) fn meet(&self, told: ClusterId) -> ClusterId {
        *self.0.get_or_init(|| told)
    }
}
