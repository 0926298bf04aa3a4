//! One owner an epoch, and one epoch that serves: of a shard that is handed over nobody serves an epoch but the one who began it,
//! nor any epoch once a later one has begun (the guarantee of `node`'s hand-over).

use std::collections::BTreeMap;

use kv::{Epoch, NodeId, ShardId};

use super::logs::Logs;
use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct OneOwner {
    /// Of each shard: its latest epoch, and who owns it in that.
    owners: BTreeMap<ShardId, (Epoch, NodeId)>,
}

impl Invariant for OneOwner {
    fn name(&self) -> &'static str {
        "one owner an epoch"
    }

    fn see(&mut self, seen: &Seen<'_>, _: &Logs) -> Result<(), String> {
        let Seen::Owns { node, shard, epoch } = *seen else { return Ok(()) };
        let (latest, owner) = *self.owners.entry(shard).or_insert((epoch, node));
        if epoch > latest {
            self.owners.insert(shard, (epoch, node));
            return Ok(());
        }
        match (epoch, node) == (latest, owner) {
            true => Ok(()),
            false => Err(format!(
                "{node} owns shard {shard} in epoch {epoch}, and {owner} began to own it in epoch {latest}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(owners: &[(u64, u64)]) -> Vec<bool> {
        let mut one_owner = OneOwner::default();
        let owns = |(node, epoch): &(u64, u64)| {
            let (node, epoch) = (NodeId(*node), Epoch(*epoch));
            one_owner.see(&Seen::Owns { node, shard: ShardId(1), epoch }, &Logs::default()).is_ok()
        };
        owners.iter().map(owns).collect()
    }

    #[test]
    fn second_owner_of_an_epoch_and_owner_of_one_that_is_over_are_seen() {
        assert_eq!(see(&[(1, 1), (1, 1), (2, 2), (2, 2)]), [true; 4]);
        assert_eq!(see(&[(1, 1), (2, 1)]), [true, false]);
        assert_eq!(see(&[(1, 1), (2, 2), (1, 1)]), [true, true, false]);
    }
}
