//! How the cluster is: first what is wrong, then nodes, then shards.

use kv::ClusterId;
use kv::cluster::{BusStatus, Liveness, NodeDuty, NodeStatus, ReplicaStatus, Role, ShardStatus, Status};
use kv::fault::Faults;
use kv::view::{Duty, Member};
use serde_json::{Value, json};

use super::health::{Health, count, is_changing};
use super::names::Names;
use crate::exit::Error;
use crate::fault;
use crate::print::Output;

/// More shards than these are not listed one by one unless that is asked for: nobody reads a page of lines that are all alike.
const SHARDS_LISTED: usize = 16;

/// Prints the cluster's id, how it is, its nodes and its shards: each of them, or those that need a look.
pub fn print(
    cluster: ClusterId,
    status: &Status,
    faults: &[Faults],
    all: bool,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    if out.json {
        out.object(&object(cluster, status, faults))?;
        return Ok(());
    }
    out.line(&format!("Cluster {cluster}"))?;
    print_health(status, faults, out)?;
    print_nodes(status, faults, out)?;
    print_shards(status, all, out)
}

fn print_health(status: &Status, faults: &[Faults], out: &mut Output<'_>) -> Result<(), Error> {
    let Health { wrong, under_way } = Health::of(status);
    let sizes = [count(status.nodes.len() as u64, "node"), count(status.shards.len() as u64, "shard")];
    let verdict = if wrong.is_empty() { "All is well." } else { "Not well:" };
    let leader = status.directory.as_ref().and_then(|directory| directory.leader);
    let directory = leader.map_or_else(String::new, |leader| {
        format!("; {} leads the directory", Names::of(status).name(leader))
    });
    out.line(&format!("{}{directory}. {verdict}", sizes.join(", ")))?;
    wrong.iter().try_for_each(|text| out.line(&format!("  {text}")))?;
    if !faults.is_empty() {
        out.line("Faults, on purpose:")?;
        faults.iter().flat_map(fault::sentences).try_for_each(|text| out.line(&format!("  {text}")))?;
    }
    if !under_way.is_empty() {
        out.line("Under way:")?;
        under_way.iter().try_for_each(|text| out.line(&format!("  {text}")))?;
    }
    out.line("")?;
    Ok(())
}

/// Prints the nodes alone.
pub fn print_nodes(status: &Status, faults: &[Faults], out: &mut Output<'_>) -> Result<(), Error> {
    if out.json {
        status.nodes.iter().try_for_each(|node| out.object(&node_object(node, faults)))?;
        return Ok(());
    }
    let zoned = status.nodes.iter().any(|node| !node.zone.is_empty());
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let row = |node: &NodeStatus| {
        let pid = if node.pid == 0 { "-".into() } else { node.pid.to_string() };
        let mut row = vec![node.name.clone(), or_dash(&node.address), pid];
        row.extend(zoned.then(|| or_dash(&node.zone)));
        row.extend([node.leads.to_string(), node.replicas.to_string(), state(node, faults)]);
        row
    };
    let rows: Vec<_> = status.nodes.iter().map(row).collect();
    let mut head = vec!["NODE", "ADDRESS", "PID"];
    head.extend(zoned.then_some("ZONE"));
    head.extend(["LEADS", "REPLICAS", "STATE"]);
    out.table(&head, &rows)?;
    Ok(())
}

/// Whether it lives, what it is asked to do where that is not what all do, and what is wrong with it on purpose.
fn state(node: &NodeStatus, faults: &[Faults]) -> String {
    let mut words = vec![node.state.name()];
    words.extend((node.duty != NodeDuty::Serve).then(|| node.duty.name()));
    if let Some(faults) = faults_of(node, faults) {
        words.extend((faults.slow_micros > 0).then_some("slow"));
        words.extend((!faults.cut.is_empty()).then_some("cut off"));
    }
    words.join(", ")
}

fn faults_of<'a>(node: &NodeStatus, faults: &'a [Faults]) -> Option<&'a Faults> {
    faults.iter().find(|faults| faults.node == node.name)
}

fn print_shards(status: &Status, all: bool, out: &mut Output<'_>) -> Result<(), Error> {
    let every = status.shards.len();
    let is_listed =
        |shard: &&ShardStatus| all || every <= SHARDS_LISTED || shard.leader.is_none() || is_changing(shard);
    let limit = if all { every } else { SHARDS_LISTED };
    let rows: Vec<_> =
        status.shards.iter().filter(is_listed).take(limit).map(|shard| shard_row(shard, status)).collect();
    if !rows.is_empty() {
        out.line("")?;
        let head: &[&str] = match has_keyspaces(status) {
            true => &["SHARD", "KEYSPACE", "SLOTS", "LEADER", "TERM", "REPLICAS"],
            false => &["SHARD", "SLOTS", "LEADER", "TERM", "REPLICAS"],
        };
        out.table(head, &rows)?;
    }
    if rows.len() < every {
        let rest = count((every - rows.len()) as u64, "shard");
        out.line(&format!("\n{rest} not listed: cluster status --all lists every one."))?;
    }
    Ok(())
}

/// Whether shards are of several keyspaces.
fn has_keyspaces(status: &Status) -> bool {
    status.shards.windows(2).any(|pair| pair[0].keyspace != pair[1].keyspace)
}

fn shard_row(shard: &ShardStatus, status: &Status) -> Vec<String> {
    let names = Names::of(status);
    let members = shard.members.iter().map(|member| (member.node, Some(member)));
    // Whoever has a copy and is no member: where members are not known, or one that is to go.
    let strangers = shard.replicas.iter().filter(|replica| {
        replica.applied > 0 && !shard.members.iter().any(|member| member.node == replica.node)
    });
    let all = members.chain(strangers.map(|replica| (replica.node, None)));
    let replica = |(node, member): (kv::NodeId, Option<&Member>)| {
        let known = shard.replicas.iter().find(|replica| replica.node == node);
        let applied = known.map_or(0, |replica| replica.applied);
        let is_dead = status.nodes.iter().any(|known| known.id == node && known.state == Liveness::Dead);
        let mark = match (known.map(|replica| replica.role), member) {
            _ if is_dead => "!",
            (Some(Role::Leader), _) => "*",
            (_, Some(Member { duty: Duty::Learner | Duty::Joining, .. })) => "+",
            (_, Some(Member { duty: Duty::Leaving, .. })) => "-",
            (_, None) if !shard.members.is_empty() => "-",
            _ => "",
        };
        format!("{}:{applied}{mark}", names.name(node))
    };
    let mut row = vec![shard.id.to_string()];
    row.extend(has_keyspaces(status).then(|| shard.keyspace.clone()));
    row.extend([
        format!("{}-{}", shard.slots.first, shard.slots.last),
        match shard.leader {
            Some(_) if shard.protocol.is_merged() => "any".into(),
            leader => leader.map_or_else(|| "-".into(), |leader| names.name(leader)),
        },
        term(shard.term),
        all.map(replica).collect::<Vec<_>>().join(" "),
    ]);
    row
}

fn object(cluster: ClusterId, status: &Status, faults: &[Faults]) -> Value {
    let names = Names::of(status);
    let shards: Vec<Value> = status.shards.iter().map(|shard| shard_object(shard, &names)).collect();
    let nodes: Vec<Value> = status.nodes.iter().map(|node| node_object(node, faults)).collect();
    let directory = status.directory.as_ref().map(|shard| shard_object(shard, &names));
    json!({
        "cluster": cluster.to_string(),
        "nodes": nodes,
        "shards": shards,
        "directory": directory,
        "revision": status.revision,
        "buses": status.buses.iter().map(bus_object).collect::<Vec<_>>(),
    })
}

fn bus_object(BusStatus { broker, down, waiting, dropped }: &BusStatus) -> Value {
    json!({ "broker": broker, "down": down, "waiting": waiting, "dropped": dropped })
}

fn node_object(node: &NodeStatus, faults: &[Faults]) -> Value {
    let mut object = json!({
        "name": node.name,
        "address": node.address,
        "pid": node.pid,
        "state": node.state.name(),
        "leads": node.leads,
        "id": node.id.0,
        "replicas": node.replicas,
        "peer": node.peer,
        "zone": node.zone,
        "duty": node.duty.name(),
    });
    if let Some(faults) = faults_of(node, faults) {
        object["faults"] = fault::object(faults);
    }
    object
}

fn shard_object(shard: &ShardStatus, names: &Names<'_>) -> Value {
    let replica = |replica: &ReplicaStatus| {
        json!({
            "node": names.name(replica.node),
            "role": replica.role.name(),
            "applied": replica.applied,
            "lease_reads": replica.lease_reads,
        })
    };
    let member = |member: &Member| {
        json!({
            "node": names.name(member.node),
            "replica": member.replica.0,
            "duty": member.duty.name(),
        })
    };
    json!({
        "shard": shard.id.0,
        "slots": [shard.slots.first.0, shard.slots.last.0],
        "leader": shard.leader.map(|leader| names.name(leader)),
        "term": shard.term,
        "replicas": shard.replicas.iter().map(replica).collect::<Vec<_>>(),
        "epoch": shard.epoch.0,
        "members": shard.members.iter().map(member).collect::<Vec<_>>(),
        "keyspace": shard.keyspace,
    })
}

/// A term as people read it: since a shard was under `primary` its epoch stands before it, as in `3.1`; and where a node of a `two-phase`
/// shard was declared dead, how often that was, as in `1.2.5`.
fn term(term: u64) -> String {
    let (epochs, rulings, rest) = (term >> 32, term >> 28 & 0xf, term & 0x0fff_ffff);
    match (epochs, rulings) {
        (0, 0) => rest.to_string(),
        (epochs, 0) => format!("{}.{rest}", epochs + 1),
        (epochs, rulings) => format!("{}.{rulings}.{rest}", epochs + 1),
    }
}
