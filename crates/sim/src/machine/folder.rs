//! What a machine's data folder keeps of who its node is: the server's two files without their form. The log and the engine's
//! rows are kept apart.

use kv::NodeId;
use node::identity::{Identity, Incarnations, Kept};

/// What a data folder keeps. It survives the process and the power, as each file is replaced in one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// `None` = the folder is new.
    pub(super) identity: Option<Identity>,
    pub(super) incarnations: Incarnations,
    full: bool,
    fails: bool,
}

impl Folder {
    /// Who its node is, once it was started.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Its life. 0 = it is new.
    pub fn incarnation(&self) -> u64 {
        self.identity.as_ref().map_or(0, |identity| identity.incarnation)
    }

    /// The incarnation that another node was met under.
    pub fn met(&self, node: NodeId) -> Option<u64> {
        self.incarnations.get(&node).copied()
    }

    /// While it is full, nothing is written.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// The next write fails.
    pub fn fail_next(&mut self) {
        self.fails = true;
    }

    pub(super) fn keep(&mut self, kept: &Kept) -> Result<(), &'static str> {
        if std::mem::take(&mut self.fails) {
            return Err("the disk failed");
        }
        if self.full {
            return Err("the disk is full");
        }
        match kept.clone() {
            Kept::Identity(identity) => self.identity = Some(identity),
            Kept::Incarnations(incarnations) => self.incarnations = incarnations,
        }
        Ok(())
    }
}
