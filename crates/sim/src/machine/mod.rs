//! A machine and the process on it: production drivers, one a core, with a log on a disk in memory, tables over an engine that
//! keeps what was flushed, and clocks of its own.
//!
//! What survives the process is the machine's: the disk, the flushed rows, who it is. What does not is the process's.

mod bounds;
pub(crate) mod clock;
pub(crate) mod clocks;
mod cores;
mod decide;
pub(crate) mod engine;
pub(crate) mod folder;
mod log;
mod log_thread;
pub(crate) mod place;
mod sight;
mod start;
mod stop;
mod turn;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;

use kv::NodeId;
use node::identity::Greeter;
use node::stop::Stop;
use placement::map::Map;
use wal::{Crash, MemoryDisk};

use crate::clients::open::Gate;
use crate::events::DataFolder;
use clock::Clock;
use cores::Cores;
use engine::Flushed;
use folder::Folder;
use log_thread::LogThread;
use worker::Background;

/// A driver is given the time at least so often, as by the server.
pub(crate) const TICK_MICROS: u64 = 25_000;
/// However slow a disk is, it needs no longer for one thing.
const DISK_MICROS_MAX: u64 = 3_000_000;

/// A machine: what survives its process.
pub(crate) struct Machine {
    pub id: NodeId,
    /// It is there: up, or to be started again. One that is not never comes back.
    pub there: bool,
    /// The map that its node begins with in a new folder.
    pub first_map: Arc<Map>,
    pub disk: MemoryDisk,
    pub table: Flushed,
    /// What the data folder keeps of who the node is; its incarnation is the log's identity too.
    pub folder: Folder,
    /// Its own folder, when it was started with an empty one in its place, or with an old copy of it.
    pub own: Option<Box<FolderCopy>>,
    /// A copy of the folder, from a time when its node was down.
    pub copy: Option<FolderCopy>,
    pub clock: Clock,
    /// What the version clock of each core showed at the end of the last turn, in microseconds since 1970. Starts at 0.
    pub version_clocks: Vec<u64>,
    /// The process is stopped until then.
    pub paused_until: u64,
    /// How much slower than usual the disk is.
    pub slowness: u64,
    /// The power goes when more than a sector of the log has been written and not synced.
    pub power_goes: bool,
    /// The next sync of the log fails.
    pub sync_fails: bool,
    /// This bit of the log was flipped: its segment, its byte, and which of that it is.
    pub flipped: Option<(u64, u64, u8)>,
    pub process: Option<Process>,
}

impl Machine {
    pub fn new(id: NodeId, clock: Clock, first_map: Arc<Map>) -> Machine {
        Machine {
            id,
            there: true,
            first_map,
            disk: MemoryDisk::new(),
            table: Flushed::default(),
            folder: Folder::default(),
            own: None,
            copy: None,
            clock,
            version_clocks: vec![0],
            paused_until: 0,
            slowness: 1,
            power_goes: false,
            sync_fails: false,
            flipped: None,
            process: None,
        }
    }

    /// Puts an empty folder, or this copy of its own, in the place of its own one. Its node is down.
    pub fn set_astray(&mut self, copy: Option<FolderCopy>) {
        let own = self.copied();
        let FolderCopy { disk, table, folder } = copy.unwrap_or_default();
        (self.disk, self.table, self.folder) = (disk, table, folder);
        (self.own, self.sync_fails) = (Some(Box::new(own)), false);
    }

    /// Gives the node its own folder back. It is down.
    pub fn give_back(&mut self) {
        let own = self.own.take().expect("a node that is astray has a folder of its own");
        let FolderCopy { disk, table, folder } = *own;
        (self.disk, self.table, self.folder) = (disk, table, folder);
        self.sync_fails = false;
    }

    /// Copies the folder. Its node is down.
    pub fn copy_folder(&mut self) {
        self.copy = Some(self.copied());
    }

    fn copied(&self) -> FolderCopy {
        assert!(self.process.is_none(), "a folder that is written to is not copied");
        let (mut disk, table, folder) = (self.disk.clone(), self.table.copy(), self.folder.copy());
        // What would go wrong with the disk is not in the copy.
        disk.crash(Crash::Process, &mut || true);
        disk.limit_bytes(None);
        FolderCopy { disk, table, folder }
    }

    /// The data folder that it has now.
    pub fn data_folder(&self) -> DataFolder {
        DataFolder { incarnation: self.folder.incarnation(), is_astray: self.own.is_some() }
    }

    /// Whether what it has lacks what it had acknowledged.
    pub fn is_unsound(&self) -> bool {
        self.own.is_some() || self.flipped.is_some()
    }

    /// The latest of its version clocks.
    pub fn version_clock(&self) -> u64 {
        self.version_clocks.iter().copied().max().unwrap_or_default()
    }

    pub fn life(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.life)
    }
}

/// A copy of a folder, with all that is in it.
#[derive(Default)]
pub(crate) struct FolderCopy {
    disk: MemoryDisk,
    table: Flushed,
    pub folder: Folder,
}

/// A process: what does not survive.
pub(crate) struct Process {
    pub life: u64,
    pub greeter: Greeter,
    pub cores: Cores,
    pub log: node::log::Owner,
    pub log_thread: LogThread,
    /// Long work of all cores, in order: the core that began it, and what it is.
    pub background: VecDeque<(usize, Background)>,
    pub gate: Gate,
    pub stop: Option<Stop>,
}

#[cfg(test)]
mod tests {
    use node::identity::{Identity, Start};

    use super::*;

    /// A machine whose folder was started.
    fn machine() -> Machine {
        let mut machine = Machine::new(NodeId(1), Clock::new(0, 0, 0), Arc::default());
        let start = Start { name: "n1".into(), names: Vec::new(), terms: String::new(), zone: String::new() };
        machine.folder.identity = Some(Identity::new(&start, &mut || 7));
        machine
    }

    #[test]
    fn folder_that_is_a_copy_is_another_one_than_the_true_one() {
        let mut machine = machine();
        machine.copy_folder();
        let own = machine.data_folder();
        let copy = machine.copy.take();
        machine.set_astray(copy);
        assert_eq!(machine.data_folder().incarnation, own.incarnation);
        assert_ne!(machine.data_folder(), own, "what was sent to the true one is not for a copy");
        machine.give_back();
        assert_eq!(machine.data_folder(), own);
    }
}
