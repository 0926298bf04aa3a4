//! When a local cluster is ready: each node answers, and every shard has a leader in the eyes of each.

use std::fmt;
use std::sync::Arc;
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

/// Tells who is not ready, again and again until nobody is left or `tell` says that it is enough.
pub fn watch(
    runtime: &Handle,
    members: &[Member],
    tell: impl Fn(Vec<Waiting>) -> bool + Send + 'static,
) -> Result<(), kv::Error> {
    let inside = runtime.enter();
    let store = |member: &Member| {
        connect::store(std::slice::from_ref(&member.address), 1).map(|store| (member.name.clone(), store))
    };
    let stores: Vec<(String, Arc<dyn Store>)> = members.iter().map(store).collect::<Result<_, _>>()?;
    drop(inside);
    runtime.spawn(async move {
        loop {
            let waiting = waiting(&stores).await;
            let done = waiting.is_empty();
            if !tell(waiting) || done {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}

/// Nodes are ready within a second or so: ask often.
const PAUSE: Duration = Duration::from_millis(50);
/// A node that does not answer in this time is not ready.
const ANSWER_MAX: Duration = Duration::from_secs(1);

async fn waiting(stores: &[(String, Arc<dyn Store>)]) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    for (name, store) in stores {
        let why = match tokio::time::timeout(ANSWER_MAX, store.status()).await {
            Ok(Ok(status)) if is_ready(&status, stores.len()) => continue,
            Ok(Err(error)) => own_words(name, &error.to_string()),
            _ => None,
        };
        waiting.push(Waiting { name: name.clone(), why });
    }
    waiting
}

/// What a node says of itself, if it does; not that it cannot be reached, which goes without saying while it starts.
fn own_words(name: &str, error: &str) -> Option<String> {
    error.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)
}

fn is_ready(status: &Status, nodes: usize) -> bool {
    let led = status.shards.iter().all(|shard| shard.leader.is_some());
    status.nodes.len() >= nodes && !status.shards.is_empty() && led
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
        assert!(is_ready(&status(Some(NodeId(1))), 1));
        assert!(!is_ready(&status(None), 1));
        assert!(!is_ready(&status(Some(NodeId(1))), 2));
        assert!(!is_ready(&Status::default(), 0));
    }
}
