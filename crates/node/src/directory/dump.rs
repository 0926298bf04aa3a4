//! The rows of the directory as text for people, under the keys that they have.

use std::fmt::Write;

use kv::admin::Row;
use kv::cluster::Liveness;
use kv::keyspace::duration;
use kv::view::Member;
use placement::map::{
    Arrangement, Change, Dropped, Holders, Keyspace, Map, Node, Part, Phase, Shard, Split, Zone,
};

/// All rows of a map in the order of their keys.
pub(super) fn rows(map: &Map) -> Vec<Row> {
    let cluster = map.cluster.map_or_else(|| "-".into(), |cluster| cluster.to_string());
    let mut rows = vec![
        row("cluster".into(), format!("{cluster} next-node={} next-shard={}", map.next_node, map.next_shard)),
        row("revision".into(), map.revision.to_string()),
    ];
    rows.extend(
        map.keyspaces.iter().map(|(name, keyspace)| row(format!("keyspace/{name}"), keyspace_text(keyspace))),
    );
    rows.extend(map.nodes.iter().map(|(id, node)| row(format!("node/{:020}", id.0), node_text(node))));
    rows.extend(map.shards.iter().map(|(id, shard)| row(format!("shard/{:010}", id.0), shard_text(shard))));
    rows.extend(
        map.changes.iter().map(|(id, change)| row(format!("change/{:010}", id.0), change_text(change))),
    );
    rows.extend(map.splits.iter().map(|(id, split)| row(format!("split/{:010}", id.0), split_text(split))));
    rows.extend(map.zones.iter().map(|(name, zone)| row(format!("zone/{name}"), zone_text(zone))));
    rows.extend(
        map.dropped.iter().map(|(name, dropped)| row(format!("dropped/{name}"), dropped_text(dropped))),
    );
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows
}

fn row(key: String, value: String) -> Row {
    Row { key, value }
}

fn keyspace_text(keyspace: &Keyspace) -> String {
    let arrangement = match keyspace.arrangement {
        Arrangement::Even => "even",
        Arrangement::Contiguous => "contiguous",
        Arrangement::Zones => "zones",
        Arrangement::First => "first",
    };
    let mut text = format!("{} replicas={} arrangement={arrangement}", keyspace.protocol, keyspace.replicas);
    let Keyspace { keep, quota, .. } = keyspace;
    let weighed = keyspace.settings().weighed;
    let time = |micros: u64| if micros == u64::MAX { "all".into() } else { duration(micros) };
    let told = [
        ("history", keep.history.map(|history| history.to_string())),
        ("deleted-history", keep.deleted_micros.map(time)),
        ("ttl", keep.ttl_micros.map(time)),
        ("quota-bytes", quota.bytes.map(|bytes| bytes.to_string())),
        ("quota-keys", quota.keys.map(|keys| keys.to_string())),
        ("sync", keyspace.sync.map(|sync| sync.to_string())),
        ("weights", weighed.map(|weighed| weighed.weights.to_string())),
        ("read", weighed.map(|weighed| weighed.votes.read.to_string())),
        ("write", weighed.map(|weighed| weighed.votes.write.to_string())),
        ("bus", keyspace.bus.broker().map(|broker| broker.to_string())),
    ];
    for (name, value) in told.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        write!(text, " {name}={value}").expect("a string takes all");
    }
    text
}

fn node_text(node: &Node) -> String {
    let state = match node.state {
        Liveness::Alive => "alive",
        Liveness::Suspect => "suspect",
        Liveness::Dead => "dead",
    };
    let mut text = format!("{} {} {state}", node.name, node.duty.name());
    for (name, value) in [("peer", &node.peer), ("address", &node.address), ("zone", &node.zone)] {
        if !value.is_empty() {
            write!(text, " {name}={value}").expect("a string takes all");
        }
    }
    write!(text, " incarnation={:016x}", node.incarnation).expect("a string takes all");
    text
}

fn shard_text(shard: &Shard) -> String {
    format!(
        "{} slots={}-{} {} epoch={} revision={} members={} leader={} next-replica={}",
        shard.keyspace,
        shard.slots.first,
        shard.slots.last,
        shard.protocol,
        shard.epoch,
        shard.revision,
        members_text(&shard.members),
        shard.leader,
        shard.next_replica
    )
}

fn split_text(split: &Split) -> String {
    let part = |part: &Part| format!(" {}={}-{}", part.shard, part.slots.first, part.slots.last);
    let parts: String = split.parts.iter().map(part).collect();
    format!("count={}{parts}", split.count)
}

fn zone_text(zone: &Zone) -> String {
    format!("secondaries={}", zone.secondaries)
}

fn change_text(change: &Change) -> String {
    let phase = match change.phase {
        Phase::Copy => "copy",
        Phase::Switch => "switch",
    };
    format!("{phase} to={} epoch={} why={:?}", members_text(&change.to), change.epoch, change.why)
}

/// Sets of nodes, each with how many of them cannot serve alone.
fn dropped_text(dropped: &Dropped) -> String {
    let set = |Holders { nodes, harmless }: &Holders| {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        format!(" nodes={} harmless={harmless}", nodes.join(","))
    };
    let sets: String = dropped.holders.iter().map(set).collect();
    format!("revision={}{sets}", dropped.revision)
}

/// NODE#REPLICA each.
fn members_text(members: &[Member]) -> String {
    let texts: Vec<String> =
        members.iter().map(|member| format!("{}#{}", member.node, member.replica)).collect();
    texts.join(",")
}
