//! What a keyspace under quorum promises by what its replicas weigh.

use kv::keyspace::{Votes, Weighed, Wish};
use kv::{Protocol, keyspace::Settings};

/// What it promises, and what becomes of that when nodes fail. `members` are its nodes and what their replicas weigh, where there is one shard.
pub fn promises(weighed: Weighed, members: &[(String, u32)]) -> Vec<(&'static str, String)> {
    let Weighed { weights, votes: Votes { read, write } } = weighed;
    let (total, each) = (weights.total(), weights.each());
    let weigh = match members {
        _ if each.iter().all(|weight| *weight == each[0]) => format!("{} each, {total} together", each[0]),
        [] => format!("{weights} in the order of the nodes of each shard, {total} together"),
        members => {
            let each = members.iter().map(|(node, weight)| format!("{node} {weight}"));
            format!("{}; {total} together", Vec::from_iter(each).join(", "))
        }
    };
    let mut told = vec![
        (
            "protocol",
            "quorum: no leader; any copy takes a request, and each key is a register of its own".into(),
        ),
        (
            "promises",
            "linearizable for each key; updates, transactions and reads at a version are refused".into(),
        ),
        ("replicas weigh", weigh),
        ("acknowledged", format!("when it is on the disks of replicas that weigh {write} of {total}")),
        (
            "nodes stop",
            format!(
                "reads go on while those up weigh {}, and writes while they weigh {}; what begins below has failed and is stored nowhere",
                most(read, write, total).0,
                most(read, write, total).1
            ),
        ),
        (
            "disks are lost",
            format!(
                "what was acknowledged outlives the loss of any that weigh less than {write} together; what was on a node that is given up is \
                 made again on another one, by way of raft"
            ),
        ),
    ];
    if let Some(told_alone) = alone(weighed) {
        told.push(("one alone", told_alone));
    }
    told
}

/// What reads and writes need of those that are up. A write looks for the newest version first, as a read does.
fn most(read: u32, write: u32, total: u32) -> (u32, u32) {
    (read.min(total), write.max(read).min(total))
}

/// That one replica weighs enough for a write, if one does.
pub fn alone(weighed: Weighed) -> Option<String> {
    let is_alone = weighed.votes.is_met_by_one(&weighed.weights.each());
    is_alone.then(|| {
        format!(
            "one replica alone weighs {} or more: what it acknowledges may be on its disk only, and is lost with that; give it less, or \
             have writes need more",
            weighed.votes.write
        )
    })
}

/// What is to be told of a wish, if one replica alone would weigh enough for a write.
pub fn warning(wish: &Wish) -> Option<String> {
    (wish.protocol == Some(Protocol::Quorum)).then(|| Settings::of(wish).weighed).flatten().and_then(alone)
}
