//! What a machine's data folder keeps of who its node is, and how a process decides over it: the server's two files without
//! their form. The log and the engine's rows are kept apart.

use kv::NodeId;
use node::identity::{Greeter, Identity, Incarnations, Kept, Start, Step};
use wal::Crash;

use crate::events::Event;
use crate::world::World;

/// What could not be noted is tried again so often, as by the server.
const NOTE_AGAIN_MICROS: u64 = 1_000_000;

/// What a data folder keeps. It survives the process and the power, as each file is replaced in one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// `None` = the folder is new.
    identity: Option<Identity>,
    incarnations: Incarnations,
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

    fn keep(&mut self, kept: &Kept) -> Result<(), &'static str> {
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

impl World {
    /// Opens the folder of a node that starts, or makes it.
    pub(super) fn open_folder(&mut self, id: NodeId) -> Result<Greeter, &'static str> {
        if self.machine(id).folder.identity.is_none() {
            let start = Start {
                name: name(id),
                names: self.ids().map(name).collect(),
                options: format!("shards={}", self.settings.shards),
                rejoin: self.machine(id).rejoining,
            };
            let identity = Identity::new(&start, &mut || self.random.next());
            assert_eq!(identity.me, id, "ids are given in the order of the names");
            self.machine_mut(id).folder.keep(&Kept::Identity(identity))?;
        }
        let Folder { identity, incarnations, .. } = &self.machine(id).folder;
        Ok(Greeter::new(identity.clone().expect("it was made"), incarnations.clone()))
    }

    /// Asks a node until it is decided, and writes what must be written before. An error says why that was not possible.
    pub fn decide<T>(
        &mut self,
        id: NodeId,
        mut ask: impl FnMut(&mut Greeter) -> Step<T>,
    ) -> Result<T, &'static str> {
        loop {
            let machine = self.machine_mut(id);
            let Some(process) = &mut machine.process else { return Err("it is down") };
            match ask(&mut process.greeter) {
                Step::Say(said) => return Ok(said),
                Step::Write(write) => match machine.folder.keep(&write.kept) {
                    Ok(()) => process.greeter.written(write),
                    Err(why) => {
                        self.note("a decision could not be written down");
                        self.trace(|| format!("{id} cannot note {}: {why}", write.what));
                        return Err(why);
                    }
                },
            }
        }
    }

    /// Why a node serves nobody yet: it does not know which cluster it is of.
    pub fn waits_for_its_cluster(&self, id: NodeId) -> Option<String> {
        let identity = self.machine(id).process.as_ref()?.greeter.identity();
        identity.cluster.is_none().then(|| identity.waits())
    }

    /// A node is whole again, which it notes, if not now then later, as in the server.
    pub fn rejoined(&mut self, id: NodeId, life: u64) {
        match self.decide(id, Greeter::rejoined) {
            Ok(()) => {
                self.note("a wiped node was made whole");
                self.trace(|| format!("{id} is whole again"));
                self.machine_mut(id).rejoining = false;
            }
            Err(_) => self.events.after(NOTE_AGAIN_MICROS, Event::Rejoined { node: id, life }),
        }
    }

    /// Something is about to be acknowledged; false = that could not be noted, and the process has ended.
    pub(super) fn log_begins(&mut self, id: NodeId) -> bool {
        let noted = self.decide(id, Greeter::log_begins);
        if let Err(why) = noted {
            self.kill_and_restart(id, Crash::Process, why);
        }
        noted.is_ok()
    }
}

fn name(id: NodeId) -> String {
    format!("n{id}")
}
