//! When a local cluster is ready: each node answers, and every shard has a leader in the eyes of each.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv::cluster::Status;
use tokio::runtime::Handle;

use super::member::Member;
use crate::connect::{self, Store};

/// A node that is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub name: String,
    /// What it says of itself, such as that it waits for another node.
    pub why: Option<String>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{} ({why})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What came of asking a node how the cluster is.
#[derive(Clone, Debug)]
pub struct Look {
    /// The node's name.
    pub name: String,
    /// The cluster as it sees it; else what it says of itself, if it says anything.
    pub seen: Result<Status, Option<String>>,
}

/// Asks the nodes how the cluster is, again and again until nobody listens: all of them, and often, until it is ready; then one
/// after the other.
pub fn watch(
    runtime: &Handle,
    members: &[Member],
    is_ready: Arc<AtomicBool>,
    tell: impl Fn(Vec<Look>) -> bool + Send + 'static,
) -> Result<(), kv::Error> {
    let inside = runtime.enter();
    let store = |member: &Member| {
        connect::store(std::slice::from_ref(&member.address), 1).map(|store| (member.name.clone(), store))
    };
    let stores: Vec<(String, Arc<dyn Store>)> = members.iter().map(store).collect::<Result<_, _>>()?;
    drop(inside);
    runtime.spawn(async move {
        for turn in 0.. {
            let is_ready = is_ready.load(Ordering::Relaxed);
            let one = turn % stores.len();
            let (asked, pause) =
                if is_ready { (&stores[one..=one], PAUSE_READY) } else { (&stores[..], PAUSE) };
            let mut looks = Vec::new();
            for (name, store) in asked {
                looks.push(look(name, store.as_ref()).await);
            }
            if !tell(looks) {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    Ok(())
}

/// Nodes are ready within a second or so: ask often.
const PAUSE: Duration = Duration::from_millis(50);
/// Who leaves a cluster that runs is noticed soon enough, and asking costs nothing to speak of.
const PAUSE_READY: Duration = Duration::from_secs(1);
/// A node that does not answer in this time is not ready.
const ANSWER_MAX: Duration = Duration::from_secs(1);

async fn look(name: &str, store: &dyn Store) -> Look {
    let seen = match tokio::time::timeout(ANSWER_MAX, store.status()).await {
        Ok(answer) => answer.map_err(|error| own_words(name, &error.to_string())),
        Err(_) => Err(None),
    };
    Look { name: name.into(), seen }
}

/// Those of the nodes that are not ready, as all of these were asked.
pub fn waiting(looks: &[Look], nodes: &[String]) -> Vec<Waiting> {
    let awaited = looks.iter().filter(|look| nodes.contains(&look.name));
    let waits = |look: &Look| match &look.seen {
        Ok(status) if is_ready(status, nodes) => None,
        Ok(_) => Some(Waiting { name: look.name.clone(), why: None }),
        Err(why) => Some(Waiting { name: look.name.clone(), why: why.clone() }),
    };
    awaited.filter_map(waits).collect()
}

/// What a node says of itself, if it does; not that it cannot be reached, which goes without saying while it starts.
fn own_words(name: &str, error: &str) -> Option<String> {
    error.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)
}

fn is_ready(status: &Status, nodes: &[String]) -> bool {
    let led = status.shards.iter().all(|shard| shard.leader.is_some());
    let is_known = |name: &String| status.nodes.iter().any(|node| node.name == *name);
    nodes.iter().all(is_known) && !status.shards.is_empty() && led
}

#[cfg(test)]
mod tests {
    use kv::NodeId;
    use kv::cluster::ShardStatus;

    use super::*;
    use crate::fake::{node, shard};

    fn status(leader: Option<NodeId>) -> Status {
        let shard = ShardStatus { leader, ..shard(1) };
        Status { nodes: vec![node(1)], shards: vec![shard], ..Status::default() }
    }

    #[test]
    fn waiting_node_is_told_with_its_own_words_only() {
        let why = own_words("n2", "n2 waits for n1, which founds the cluster");
        let waiting = Waiting { name: "n2".into(), why };
        assert_eq!(waiting.to_string(), "n2 (waits for n1, which founds the cluster)");
        assert_eq!(own_words("n2", "cannot reach any of 127.0.0.1:7402"), None);
    }

    #[test]
    fn ready_needs_every_node_and_every_leader() {
        let names = |count: u64| (1..=count).map(|number| format!("n{number}")).collect::<Vec<String>>();
        assert!(is_ready(&status(Some(NodeId(1))), &names(1)));
        assert!(!is_ready(&status(None), &names(1)));
        assert!(!is_ready(&status(Some(NodeId(1))), &names(2)), "n2 has not joined yet");
        assert!(!is_ready(&Status::default(), &[]));
    }

    #[test]
    fn waiting_are_the_awaited_that_do_not_answer_or_see_too_little() {
        let look = |name: &str, seen| Look { name: name.into(), seen };
        let looks = [
            look("n1", Ok(status(Some(NodeId(1))))),
            look("n2", Ok(status(None))),
            look("n3", Err(Some("joins".into()))),
            look("n4", Err(None)),
        ];
        let names = |text: &str| text.split(' ').map(String::from).collect::<Vec<String>>();
        let found = |nodes: &str| -> Vec<String> {
            waiting(&looks, &names(nodes)).iter().map(Waiting::to_string).collect()
        };
        assert!(found("n1").is_empty());
        assert_eq!(found("n1 n3"), ["n1", "n3 (joins)"], "n1 does not know it yet");
        assert_eq!(waiting(&looks[1..], &names("n2")).len(), 1);
    }
}
