//! Nodes that end and start again. In a crash, what is not synced of a log, and not flushed of a table, is lost.

use kv::NodeId;
use node::{Input, SnapshotPart};

use super::{Cluster, Node, SentSnapshot};

impl Cluster {
    /// A node stops at once.
    pub fn kill(&mut self, id: NodeId) -> Node {
        let node = self.nodes.remove(&id).expect("it is there");
        for other in Vec::from_iter(self.nodes.keys().copied()) {
            self.input(other, Input::PeerDown { node: id });
        }
        node
    }

    /// A node begins another life, with nothing of the one before but its place among the others.
    pub fn begin_anew(&mut self, id: NodeId, seed: u64) {
        let node = Node::new(id, seed, 1, self.map.clone());
        self.nodes.insert(id, node);
        for other in Vec::from_iter(self.nodes.keys().copied().filter(|other| *other != id)) {
            self.input(id, Input::PeerUp { node: other });
        }
    }

    /// A node starts again, with what its log and its engine have kept.
    pub fn restart(&mut self, id: NodeId) {
        let Node { log, engine, folder, founding, .. } = self.nodes.remove(&id).expect("it is there");
        let node = Node::begin((id, id.0 + 100), 1, founding, log, (engine, folder), self.instant);
        self.nodes.insert(id, node);
        for other in Vec::from_iter(self.nodes.keys().copied().filter(|other| *other != id)) {
            self.input(other, Input::PeerDown { node: id });
            self.input(other, Input::PeerUp { node: id });
            self.input(id, Input::PeerUp { node: other });
        }
    }

    /// A node ends where it is, and starts again.
    pub fn crash(&mut self, id: NodeId) {
        let node = self.node(id);
        node.log.truncate(node.synced);
        let broken = |sent: &SentSnapshot| sent.from == id || sent.to == id;
        let (lost, on_their_way): (Vec<SentSnapshot>, _) =
            std::mem::take(&mut self.snapshots).into_iter().partition(broken);
        self.snapshots = on_their_way;
        let streams: Vec<u64> =
            self.streams.iter().filter(|(_, sent)| broken(sent)).map(|(stream, _)| *stream).collect();
        self.restart(id);
        for SentSnapshot { from, to, shard, .. } in lost.into_iter().filter(|sent| sent.to == id) {
            self.input(from, Input::SnapshotSent { shard, to, arrived: false });
        }
        for stream in streams {
            let SentSnapshot { from, to, shard, .. } = self.streams.remove(&stream).expect("it is there");
            if from == id {
                self.input(to, Input::Snapshot { stream, from, shard, part: SnapshotPart::Broken });
            } else {
                self.input(from, Input::SnapshotSent { shard, to, arrived: false });
            }
        }
    }

    /// The logs sync again.
    pub fn quicken(&mut self) {
        self.slow.clear();
        for (id, input) in std::mem::take(&mut self.held) {
            self.node(id).cores[0].inputs.push_back(input);
        }
    }

    /// A node has taken a turn: those crash now whose time has come.
    pub(super) fn count_turn(&mut self) {
        self.turns += 1;
        if let Some((_, nodes)) = self.crash.take_if(|(turns, _)| *turns <= self.turns) {
            nodes.into_iter().for_each(|id| self.crash(id));
        }
        if let Some((_, id)) = self.checkpoint.take_if(|(turns, _)| *turns <= self.turns) {
            self.input(id, Input::Checkpoint);
        }
    }
}

impl Node {
    pub(super) fn append(&mut self, core: usize, ticket: u64, records: Vec<wal::Record>, checkpoint: bool) {
        if checkpoint {
            self.checkpoint = Some(self.log.len());
        }
        self.log.extend(records);
        self.unsynced.push_back((core, ticket, self.log.len()));
    }

    /// A checkpoint is complete: what was before it goes. Where several cores have parts in it, it stays.
    pub(super) fn release(&mut self) {
        let Some(begin) = self.checkpoint.take().filter(|_| self.cores.len() == 1) else { return };
        self.log.drain(..begin);
        self.synced -= begin;
        self.unsynced.iter_mut().for_each(|(_, _, end)| *end -= begin);
    }

    /// What a core is about to learn of its appends is so.
    pub(super) fn note_synced(&mut self, core: usize) {
        for input in &self.cores[core].inputs {
            if let Input::Durable { ticket } = input {
                let is_it = |(of, own, _): &(usize, u64, usize)| *of == core && own <= ticket;
                while let Some((_, _, end)) = self.unsynced.pop_front_if(|append| is_it(append)) {
                    self.synced = end;
                }
            }
        }
    }
}
