//! What a shard master waits for: that its cluster is as it is to be.

use std::time::Duration;

use kv::Error;
use kv::admin::{Answer, Ask};
use kv::cluster::{Liveness, NodeDuty, NodeStatus, Status};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::Store;

/// How long a server may take to come or go with all that moves: many times what it takes, for a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);
/// How long the directory has for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the directory one thing; again while nobody decides.
pub(super) async fn administer(store: &Store, ask: Ask) -> Result<Answer, Error> {
    let until = Instant::now() + LIMIT;
    loop {
        let (send, receive) = oneshot::channel();
        // Who asks may have gone away.
        store.admin.administer(ask.clone(), TIMEOUT, Box::new(|answer| drop(send.send(answer))));
        let stopping = || Err(Error::Unavailable("the shard master is stopping".into()));
        let answer = receive.await.unwrap_or_else(|_| stopping());
        match answer {
            Err(Error::Unavailable(_) | Error::InDoubt(_)) if Instant::now() < until => sleep(LOOK).await,
            answer => return answer,
        }
    }
}

/// The node of a name.
pub(super) fn node<'a>(status: &'a Status, name: &str) -> Option<&'a NodeStatus> {
    status.nodes.iter().find(|node| node.name == name)
}

/// Until a node serves, and nothing moves any more.
pub(super) async fn has_come(store: &Store, name: &str) -> Result<(), Error> {
    let is_there = |status: &Status| {
        node(status, name).is_some_and(|node| node.state == Liveness::Alive && node.duty == NodeDuty::Serve)
    };
    wait(store, &is_there, "has not come yet: see that its process runs, and join it again").await
}

/// Until a node is gone, and nothing moves any more.
pub(super) async fn has_gone(store: &Store, name: &str) -> Result<(), Error> {
    let is_gone = |status: &Status| node(status, name).is_none();
    wait(store, &is_gone, "still has data: see that all servers run, and let it leave again").await
}

async fn wait(store: &Store, is_so: &(dyn Fn(&Status) -> bool + Sync), why: &str) -> Result<(), Error> {
    let until = Instant::now() + LIMIT;
    loop {
        if is_so(&store.cluster.status())
            && let Answer::Moves(moves) = administer(store, Ask::Moves).await?
            && moves.is_empty()
        {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::InDoubt(format!("the server {why}; what moves, goes on")));
        }
        sleep(LOOK).await;
    }
}
