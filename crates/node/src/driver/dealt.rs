//! Which cores something is for: what names a shard goes to the shard's core, what concerns the whole node to each.

use kv::ShardId;

use super::Input;
use crate::cores::Deal;
use crate::wire::Frame;

impl Input {
    /// Gives an input to the core that it is for, or to each.
    ///
    /// # Panics
    /// When a node has several cores, and it is a completion: those go to the core that asked.
    pub fn deal(self, deal: &Deal, give: &mut dyn FnMut(usize, Input)) {
        let shard = match &self {
            _ if deal.cores() == 1 => return give(0, self),
            Input::Part { part, .. } => Some(part.shard),
            Input::Pull { pull, .. } => Some(pull.shard),
            Input::Frame { bytes, .. } => Frame::shard_of(bytes),
            Input::Cluster(_) | Input::Administer { .. } => Some(ShardId::DIRECTORY),
            Input::Snapshot { shard, .. }
            | Input::SnapshotProgress { shard, .. }
            | Input::SnapshotSent { shard, .. } => Some(*shard),
            _ => None,
        };
        match shard {
            Some(shard) => give(deal.core_of(shard), self),
            None => (0..deal.cores()).for_each(|core| give(core, self.of_the_node())),
        }
    }

    /// Another of the same, of what concerns the whole node.
    fn of_the_node(&self) -> Input {
        match self {
            Input::Frame { from, bytes } => Input::Frame { from: *from, bytes: bytes.clone() },
            Input::PeerUp { node } => Input::PeerUp { node: *node },
            Input::PeerDown { node } => Input::PeerDown { node: *node },
            Input::DiskFull(full) => Input::DiskFull(*full),
            Input::Map(map) => Input::Map(map.clone()),
            Input::Announced(replicas) => Input::Announced(replicas.clone()),
            Input::Checkpoint => Input::Checkpoint,
            Input::Stop => Input::Stop,
            Input::Part { .. }
            | Input::Pull { .. }
            | Input::Snapshot { .. }
            | Input::SnapshotProgress { .. }
            | Input::SnapshotSent { .. } => unreachable!("what names a shard is for one core"),
            Input::Cluster(_) | Input::Administer { .. } => {
                unreachable!("the directory is the first core's")
            }
            Input::Durable { .. } | Input::Done(_) => panic!("a completion goes to the core that asked"),
            Input::Told(_) => panic!("what a core says to another goes to that one"),
        }
    }
}
