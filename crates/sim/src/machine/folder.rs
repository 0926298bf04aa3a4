//! What a machine's data folder keeps of who its node is: the server's two files without their form. The log and the engine's
//! rows are kept apart.

use kv::NodeId;
use node::identity::{Identity, Kept, Life, Lives};

/// What a data folder keeps. It survives the process and the power, as each file is replaced in one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// `None` = the folder is new.
    pub identity: Option<Identity>,
    pub lives: Lives,
    full: bool,
    fails: bool,
}

impl Folder {
    /// Who its node is, once it was started.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What tells it from other folders. 0 = it is new.
    pub fn incarnation(&self) -> u64 {
        self.life().map_or(0, |life| life.incarnation)
    }

    /// Its last start; `None` = it is new.
    pub fn life(&self) -> Option<Life> {
        self.identity.as_ref().map(|identity| identity.lineage.life)
    }

    /// The life that another node was met in last.
    pub fn met(&self, node: NodeId) -> Option<Life> {
        self.lives.get(&node).copied()
    }

    /// The same files on a disk that is well.
    pub fn copy(&self) -> Folder {
        Folder { full: false, fails: false, ..self.clone() }
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
            Kept::Identity(identity) => self.identity = Some(*identity),
            Kept::Lives(lives) => self.lives = lives,
        }
        Ok(())
    }
}
