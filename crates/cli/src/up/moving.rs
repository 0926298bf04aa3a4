//! What moves to nodes that have just joined.

use std::collections::BTreeMap;
use std::time::Duration;

use kv::admin::{Answer, Ask, Move};
use kv::cluster::Status;
use tokio::runtime::Handle;

use crate::connect::{self, Store};

/// Asks the cluster at these addresses what moves to these nodes, until something does or it is clear that nothing will. Then
/// tells it.
pub fn watch(
    runtime: &Handle,
    addresses: &[String],
    nodes: Vec<String>,
    tell: impl FnOnce(String) + Send + 'static,
) -> Result<(), kv::Error> {
    let inside = runtime.enter();
    let store = connect::store(addresses, 1)?;
    drop(inside);
    runtime.spawn(async move {
        for _ in 0..LOOKS_MAX {
            // A cluster that cannot answer now may be able to a moment later.
            if let Some(text) = look(store.as_ref(), &nodes).await {
                return tell(text);
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}

/// The directory plans anew several times a second.
const PAUSE: Duration = Duration::from_millis(250);
/// Nodes that nothing has moved to by then get nothing.
const LOOKS_MAX: usize = 40;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);

async fn look(store: &dyn Store, nodes: &[String]) -> Option<String> {
    let Ok(Answer::Moves(moves)) = store.administer(Ask::Moves, ANSWER_MAX).await else { return None };
    let status = store.status().await.ok()?;
    describe(&moves, &status, nodes)
}

/// How many replicas go to each of these nodes; `None` = none to any.
fn describe(moves: &[Move], status: &Status, nodes: &[String]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for moved in moves {
        let to = status.nodes.iter().find(|node| Some(node.id) == moved.to && nodes.contains(&node.name));
        to.into_iter().for_each(|node| *counts.entry(&node.name).or_default() += 1);
    }
    let counts: Vec<String> = counts.into_iter().map(|(name, count)| format!("{count} to {name}")).collect();
    (!counts.is_empty()).then(|| {
        format!("moving replicas, {}: 'capstan cluster moves --wait' shows how far", counts.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use kv::NodeId;

    use super::*;
    use crate::fake::{moved, node};

    #[test]
    fn moves_are_counted_by_the_nodes_that_have_joined() {
        let status = Status { nodes: (1..=5).map(node).collect(), ..Status::default() };
        let to = |shard, id| Move { to: Some(NodeId(id)), ..moved(shard) };
        let moves = [to(1, 4), to(2, 5), to(3, 4), to(4, 1), Move { to: None, ..moved(5) }];
        let joined = ["n4".to_owned(), "n5".to_owned()];
        let text = describe(&moves, &status, &joined).unwrap();
        assert!(text.starts_with("moving replicas, 2 to n4, 1 to n5: "), "{text}");
        assert_eq!(describe(&moves[3..], &status, &joined), None);
    }
}
