//! How a process decides who its node is and whom it meets: what must be written is in the folder first.

use kv::NodeId;
use node::Input;
use node::identity::{Greeter, Identity, Kept, Nodes, Start, Step};
use wal::Crash;

use super::folder::Folder;
use crate::world::World;

impl World {
    /// Opens the folder of a node that starts, or makes it; the start is counted in it.
    pub(super) fn open_folder(&mut self, id: NodeId) -> Result<Greeter, &'static str> {
        let identity = match self.machine(id).folder.identity.clone() {
            Some(identity) => identity.started(&mut || self.random.next()),
            None => self.new_identity(id),
        };
        self.machine_mut(id).folder.keep(&Kept::Identity(Box::new(identity.clone())))?;
        let Folder { lives, .. } = &self.machine(id).folder;
        Ok(Greeter::new(identity, lives.clone(), Nodes::of(&self.machine(id).first_map)))
    }

    fn new_identity(&mut self, id: NodeId) -> Identity {
        let start = Start {
            name: name(id),
            names: (1..=self.founders).map(NodeId).map(name).collect(),
            terms: self.terms(),
            zone: self.zone_of(id),
        };
        let identity = Identity::new(&start, &mut || self.random.next());
        assert_eq!(identity.me, id, "ids are given in the order of the names");
        identity
    }

    /// What must be the same on all nodes.
    pub fn terms(&self) -> String {
        format!("shards={}", self.settings.shards)
    }

    /// Asks a node until it is decided, and writes what must be written before. An error says why that was not possible.
    pub fn decide<T>(
        &mut self,
        id: NodeId,
        mut ask: impl FnMut(&mut Greeter) -> Step<T>,
    ) -> Result<T, &'static str> {
        let known = |world: &World| {
            let greeter = &world.machine(id).process.as_ref()?.greeter;
            Some((greeter.identity().cluster, greeter.nodes().revision))
        };
        let before = known(self);
        loop {
            let machine = self.machine_mut(id);
            let Some(process) = &mut machine.process else { return Err("it is down") };
            match ask(&mut process.greeter) {
                Step::Say(said) => {
                    if known(self) != before {
                        self.tell_cluster(id);
                        self.follow_nodes(id);
                    }
                    return Ok(said);
                }
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

    /// The directory of a node is told which cluster it is of, as soon as the folder says so.
    pub(super) fn tell_cluster(&mut self, id: NodeId) {
        let process = self.machine(id).process.as_ref();
        if let Some(cluster) = process.and_then(|process| process.greeter.identity().cluster) {
            self.give(id, [Input::Cluster(cluster)]);
        }
    }

    /// Why a node serves nobody yet: it does not know which cluster it is of.
    pub fn waits_for_its_cluster(&self, id: NodeId) -> Option<String> {
        let identity = self.machine(id).process.as_ref()?.greeter.identity();
        identity.cluster.is_none().then(|| identity.waits())
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

/// The name of a founder.
fn name(id: NodeId) -> String {
    format!("n{id}")
}
