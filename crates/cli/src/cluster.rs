//! How the cluster is: who lives, who leads, where a key is.

use std::collections::BTreeMap;

use clap::Subcommand;
use kv::cluster::{Location, Role, ShardStatus, Status};
use kv::{ClusterId, Key, NodeId};
use serde_json::{Value, json};

use crate::connect::Store;
use crate::escape;
use crate::exit::{Code, Error};
use crate::parse::KeyWord;
use crate::print::{Output, put_bytes};

/// A question about the cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print nodes and shards
    #[command(after_help = "\
Examples:
  capstan cluster status
  capstan cluster status --json   {cluster, nodes, shards} for scripts
The id of a cluster was drawn when it was founded, and no other has it.
A replica stands as its node and the last entry it applied; * leads.")]
    Status,
    /// Print where a key is: its slot, shard and leader
    #[command(after_help = "\
Examples:
  capstan cluster query user:7
  capstan cluster query '{7}name'   the same slot as every key with {7}")]
    Query {
        /// The key
        key: KeyWord,
    },
}

/// Runs a question and prints its answer.
pub async fn run(command: &Command, store: &dyn Store, out: &mut Output<'_>) -> Result<Code, Error> {
    match command {
        Command::Status => {
            let status = store.status().await?;
            print_status(store.cluster().await?, &status, out)?;
        }
        Command::Query { key } => {
            let location = store.locate(key.0.clone()).await?;
            print_location(&key.0, &location, &store.status().await?, out)?;
        }
    }
    Ok(Code::Done)
}

/// Prints the cluster's id, nodes and shards.
fn print_status(cluster: ClusterId, status: &Status, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        out.object(&status_object(cluster, status))?;
        return Ok(());
    }
    out.line(&format!("Cluster {cluster}\n"))?;
    print_nodes(status, out)?;
    out.line("")?;
    let names = names(status);
    let rows: Vec<_> = status.shards.iter().map(|shard| shard_row(shard, &names)).collect();
    out.table(&["SHARD", "SLOTS", "LEADER", "TERM", "REPLICAS"], &rows)?;
    Ok(())
}

/// Prints the nodes alone.
pub fn print_nodes(status: &Status, out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        nodes(status).iter().try_for_each(|node| out.object(node))?;
        return Ok(());
    }
    let rows: Vec<_> = status
        .nodes
        .iter()
        .map(|node| {
            let pid = if node.pid == 0 { "-".into() } else { node.pid.to_string() };
            let address = if node.address.is_empty() { "-".into() } else { node.address.clone() };
            vec![node.name.clone(), address, pid, node.leads.to_string(), node.state.name().into()]
        })
        .collect();
    out.table(&["NODE", "ADDRESS", "PID", "LEADS", "STATE"], &rows)?;
    Ok(())
}

fn print_location(
    key: &Key,
    location: &Location,
    status: &Status,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    let leader = location.leader.map(|leader| name(leader, &names(status)));
    if out.json {
        let mut object = serde_json::Map::new();
        put_bytes(&mut object, "key", key);
        object.insert("slot".into(), location.slot.0.into());
        object.insert("shard".into(), location.shard.0.into());
        object.insert("leader".into(), leader.into());
        out.object(&object.into())?;
        return Ok(());
    }
    let row = vec![
        location.slot.to_string(),
        location.shard.to_string(),
        leader.unwrap_or_else(|| "-".into()),
        escape::write(key).into_owned(),
    ];
    // A key with blanks stays on its line.
    out.columns(&["SLOT", "SHARD", "LEADER", "KEY"], &[row])?;
    Ok(())
}

type Names<'a> = BTreeMap<NodeId, &'a str>;

fn names(status: &Status) -> Names<'_> {
    status.nodes.iter().map(|node| (node.id, node.name.as_str())).collect()
}

fn name(node: NodeId, names: &Names<'_>) -> String {
    names.get(&node).map_or_else(|| format!("node-{node}"), ToString::to_string)
}

fn shard_row(shard: &ShardStatus, names: &Names<'_>) -> Vec<String> {
    let replicas: Vec<String> = shard
        .replicas
        .iter()
        .map(|replica| {
            let star = if replica.role == Role::Leader { "*" } else { "" };
            format!("{}:{}{star}", name(replica.node, names), replica.applied)
        })
        .collect();
    vec![
        shard.id.to_string(),
        format!("{}-{}", shard.slots.first, shard.slots.last),
        shard.leader.map_or_else(|| "-".into(), |leader| name(leader, names)),
        shard.term.to_string(),
        replicas.join(" "),
    ]
}

fn status_object(cluster: ClusterId, status: &Status) -> Value {
    let names = names(status);
    let shards: Vec<Value> = status.shards.iter().map(|shard| shard_object(shard, &names)).collect();
    json!({"cluster": cluster.to_string(), "nodes": nodes(status), "shards": shards})
}

fn nodes(status: &Status) -> Vec<Value> {
    let object = |node: &kv::cluster::NodeStatus| json!({"name": node.name, "address": node.address, "pid": node.pid, "state": node.state.name(), "leads": node.leads});
    status.nodes.iter().map(object).collect()
}

fn shard_object(shard: &ShardStatus, names: &Names<'_>) -> Value {
    let replica = |replica: &kv::cluster::ReplicaStatus| json!({"node": name(replica.node, names), "role": replica.role.name(), "applied": replica.applied});
    json!({
        "shard": shard.id.0,
        "slots": [shard.slots.first.0, shard.slots.last.0],
        "leader": shard.leader.map(|leader| name(leader, names)),
        "term": shard.term,
        "replicas": shard.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use kv::cluster::{Liveness, NodeStatus, ReplicaStatus};
    use kv::{Epoch, Protocol, ShardId, Slot, SlotRange};

    use super::*;
    use crate::fake::CLUSTER;

    fn status() -> Status {
        let node = |id, state| NodeStatus {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("127.0.0.1:740{id}"),
            pid: 4240 + id as u32,
            state,
            leads: u32::from(id == 1),
        };
        let replica = |id, role| ReplicaStatus { node: NodeId(id), role, applied: 7 };
        let shard = ShardStatus {
            id: ShardId(1),
            slots: SlotRange { first: Slot(0), last: Slot(16383) },
            protocol: Protocol::Raft,
            epoch: Epoch(1),
            leader: Some(NodeId(1)),
            term: 3,
            replicas: vec![replica(1, Role::Leader), replica(2, Role::Follower), replica(3, Role::Unknown)],
        };
        Status { nodes: vec![node(1, Liveness::Alive), node(2, Liveness::Dead)], shards: vec![shard] }
    }

    fn printed(json: bool, print: impl FnOnce(&mut Output<'_>)) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        print(&mut Output { out: &mut out, err: &mut err, terminal: false, json });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_as_table_names_nodes() {
        let expect = "\
Cluster 0000000000000abc

NODE  ADDRESS         PID   LEADS  STATE
n1    127.0.0.1:7401  4241  1      alive
n2    127.0.0.1:7402  4242  0      dead

SHARD  SLOTS    LEADER  TERM  REPLICAS
1      0-16383  n1      3     n1:7* n2:7 node-3:7
";
        assert_eq!(printed(false, |out| print_status(CLUSTER, &status(), out).unwrap()), expect);
    }

    #[test]
    fn status_as_json_has_the_promised_fields() {
        let expect = concat!(
            r#"{"cluster":"0000000000000abc","nodes":[{"name":"n1","address":"127.0.0.1:7401","pid":4241,"state":"alive","leads":1},"#,
            r#"{"name":"n2","address":"127.0.0.1:7402","pid":4242,"state":"dead","leads":0}],"#,
            r#""shards":[{"shard":1,"slots":[0,16383],"leader":"n1","term":3,"replicas":["#,
            r#"{"node":"n1","role":"leader","applied":7},{"node":"n2","role":"follower","applied":7},"#,
            r#"{"node":"node-3","role":"unknown","applied":7}]}]}"#,
            "\n"
        );
        assert_eq!(printed(true, |out| print_status(CLUSTER, &status(), out).unwrap()), expect);
    }

    #[test]
    fn location_is_printed_with_the_leaders_name() {
        let location = Location { slot: Slot(5), shard: ShardId(1), leader: Some(NodeId(1)), address: None };
        let key = Key::from_static(b"k");
        let text = printed(false, |out| print_location(&key, &location, &status(), out).unwrap());
        assert_eq!(text, "SLOT  SHARD  LEADER  KEY\n5     1      n1      k\n");
        let json = printed(true, |out| print_location(&key, &location, &status(), out).unwrap());
        assert_eq!(json, "{\"key\":\"k\",\"slot\":5,\"shard\":1,\"leader\":\"n1\"}\n");
        let nobody = Location { leader: None, ..location };
        let json = printed(true, |out| print_location(&key, &nobody, &status(), out).unwrap());
        assert_eq!(json, "{\"key\":\"k\",\"slot\":5,\"shard\":1,\"leader\":null}\n");
    }
}
