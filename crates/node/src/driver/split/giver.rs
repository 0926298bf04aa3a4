//! The replica of a shard that is cut: it gives its rows to its parts on its node, core by core.

use std::collections::BTreeMap;

use kv::{Epoch, NodeId, Position, ShardId};
use mutant::Mutant;
use storage::ShardSnapshot;

use super::super::Work;
use super::super::core::Core;
use super::Word;
use crate::job::Job;
use crate::node::Node;

/// What a replica knows of the parts of its shard on its node.
#[derive(Debug, Default)]
pub(in crate::driver) struct CutHere {
    /// The cores that have asked, and whether their parts have a copy.
    cores: BTreeMap<usize, bool>,
    /// The node, once the parts of all its cores have one.
    pub ready: Option<NodeId>,
}

impl Core {
    /// The parts of a core are to have the rows of a shard here, or wait for its end.
    pub(super) fn take_want_parts(
        &mut self,
        node: &Node,
        (from, epoch): (ShardId, Epoch),
        core: usize,
        has_copy: bool,
    ) {
        let parts = node.config.map.parts_of(from);
        let Some(replica) = self.replicas.get_mut(&from).filter(|replica| replica.view().epoch == epoch)
        else {
            return;
        };
        if parts.is_empty() {
            return;
        }
        replica.cut.cores.insert(core, has_copy);
        let has_copy_on = |core| replica.cut.cores.get(&core).copied().unwrap_or(false);
        let all = parts.iter().all(|part| has_copy_on(node.config.deal.core_of(part.shard)));
        if all && replica.cut.ready.replace(node.config.me).is_none() {
            self.has_news = true;
        }
        if !has_copy || replica.sealed.is_some() || mutant::is(Mutant::PartOpensBeforeTheSeal) {
            self.work.push(Work::Run(Job::Freeze { shard: from, core }));
        }
    }

    /// A replica orders nothing more: parts that have a copy get the end of it.
    pub(in crate::driver) fn give_end(&mut self, shard: ShardId) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        let waits = replica.cut.cores.iter().filter(|(_, has_copy)| **has_copy);
        let freeze = |(core, _): (&usize, &bool)| Work::Run(Job::Freeze { shard, core: *core });
        self.work.extend(waits.map(freeze));
    }

    /// A shard that is cut was frozen.
    pub(in crate::driver) fn frozen(&mut self, shard: ShardId, core: usize, snapshot: Box<ShardSnapshot>) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        let at = Position::new(snapshot.applied.index, snapshot.applied.term);
        let (epoch, is_end) = (replica.view().epoch, replica.sealed == Some(at));
        // Who watches is told nothing where writes have no order, and cannot go on from there.
        let kept = (is_end && !replica.kind.is_merged()).then(|| self.feeds.all_of(shard)).flatten();
        let word = Word::Frozen { from: shard, epoch, is_end, snapshot, kept };
        self.work.push(Work::Tell { core, word: super::super::Word::Split(word) });
    }
}
