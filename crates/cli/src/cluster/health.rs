//! What is wrong with a cluster and what is under way, in a few sentences.

use kv::ShardId;
use kv::cluster::{BusStatus, Liveness, NodeDuty, NodeStatus, ShardStatus, Status};
use kv::view::Duty;

/// What a newcomer should know first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong. Empty = all is well.
    pub wrong: Vec<String>,
    /// What changes as somebody asked.
    pub under_way: Vec<String>,
}

impl Health {
    /// Of what a node sees.
    pub fn of(status: &Status) -> Health {
        let mut health = Health::default();
        status.nodes.iter().for_each(|node| health.note_node(node));
        let is_away = |shard: &ShardStatus| shard.leader.is_none();
        let leaderless = shards(status, |shard| is_away(shard) && !shard.protocol.is_merged());
        if !leaderless.is_empty() {
            let which = list(&leaderless);
            health
                .wrong
                .push(format!("no leader: {which}; no write is taken there, and no read but stale ones"));
            health.wrong.push("a shard has a leader again when most nodes with a replica are up".into());
        }
        let too_few = shards(status, |shard| is_away(shard) && shard.protocol.is_merged());
        if !too_few.is_empty() {
            health.wrong.push(format!(
                "too few replicas reach each other: {}; what their weights do not allow fails until more nodes are up",
                list(&too_few)
            ));
        }
        if status.directory.as_ref().is_some_and(|directory| directory.leader.is_none()) {
            health
                .wrong
                .push("nobody leads the directory: nothing moves, and no node joins or leaves".into());
        }
        for BusStatus { broker, down, .. } in &status.buses {
            let why = down
                .as_ref()
                .map(|why| format!("the asked node has no connection to the bus {broker}: {why}"));
            health.wrong.extend(why);
        }
        let changing = shards(status, is_changing);
        if !changing.is_empty() {
            health.under_way.push(format!("members change: {}; see cluster moves", list(&changing)));
        }
        health
    }

    fn note_node(&mut self, node: &NodeStatus) {
        let NodeStatus { name, replicas, .. } = node;
        let left = count(*replicas, "replica");
        match node.duty {
            NodeDuty::Serve => {}
            NodeDuty::Drain if *replicas == 0 => self.under_way.push(format!("{name} is drained")),
            NodeDuty::Drain => self.under_way.push(format!("{name} is being drained: {left} to go")),
            NodeDuty::Leave => self.under_way.push(format!("{name} leaves: {left} to go")),
            // It is dead, and that is no news.
            NodeDuty::Gone => return self.under_way.push(format!("{name} is replaced: {left} to go")),
        }
        match node.state {
            Liveness::Alive => {}
            Liveness::Suspect => {
                self.wrong.push(format!("{name} is suspect: it was not heard of for a moment"))
            }
            Liveness::Dead => self
                .wrong
                .push(format!("{name} is dead: {} without their replica on it", count(*replicas, "shard"))),
        }
    }
}

/// Whether the members of a shard are on their way to be others.
pub fn is_changing(shard: &ShardStatus) -> bool {
    shard.members.iter().any(|member| !matches!(member.duty, Duty::Voter | Duty::Primary))
}

/// So many of something.
pub fn count(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn shards(status: &Status, is_meant: impl Fn(&ShardStatus) -> bool) -> Vec<ShardId> {
    status.shards.iter().filter(|shard| is_meant(shard)).map(|shard| shard.id).collect()
}

/// More runs of numbers than these say no more to anybody.
const RUNS_MAX: usize = 8;

/// Shards as runs of their numbers.
fn list(shards: &[ShardId]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for ShardId(id) in shards {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *id => *last = *id,
            _ => runs.push((*id, *id)),
        }
    }
    let run = |&(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let shown = runs.iter().take(RUNS_MAX).map(run).collect::<Vec<_>>().join(", ");
    let more = if runs.len() > RUNS_MAX { ", and more" } else { "" };
    match shards {
        [one] => format!("shard {one}"),
        many => format!("{} shards ({shown}{more})", many.len()),
    }
}

#[cfg(test)]
mod tests {
    use kv::{NodeId, ReplicaId};

    use super::*;
    use crate::fake::{node, shard};

    fn healthy() -> Status {
        let nodes = (1..=3).map(node).collect();
        Status {
            nodes,
            shards: (1..=20).map(shard).collect(),
            directory: Some(shard(0)),
            revision: 1,
            buses: Vec::new(),
        }
    }

    #[test]
    fn health_of_a_cluster_that_is_well_is_empty() {
        assert_eq!(Health::of(&healthy()), Health::default());
    }

    #[test]
    fn shards_without_a_leader_by_their_protocol_are_told_when_nobody_takes_requests() {
        let mut status = healthy();
        for shard in &mut status.shards[..2] {
            shard.protocol = kv::Protocol::Quorum;
        }
        assert_eq!(Health::of(&status), Health::default());
        status.shards[1].leader = None;
        let told = "too few replicas reach each other: shard 2; what their weights do not allow fails until more nodes are up";
        assert_eq!(Health::of(&status).wrong, [told]);
    }

    #[test]
    fn health_tells_dead_nodes_and_shards_without_leaders() {
        let mut status = healthy();
        status.nodes[1].state = Liveness::Dead;
        status.nodes[2].state = Liveness::Suspect;
        [2, 3, 4, 9].into_iter().for_each(|index: usize| status.shards[index].leader = None);
        status.directory = Some(ShardStatus { leader: None, ..shard(0) });
        let Health { wrong, under_way } = Health::of(&status);
        assert_eq!(under_way, [""; 0]);
        assert_eq!(
            wrong,
            [
                "n2 is dead: 20 shards without their replica on it",
                "n3 is suspect: it was not heard of for a moment",
                "no leader: 4 shards (3-5, 10); no write is taken there, and no read but stale ones",
                "a shard has a leader again when most nodes with a replica are up",
                "nobody leads the directory: nothing moves, and no node joins or leaves",
            ]
        );
    }

    #[test]
    fn broker_without_a_connection_is_told_with_the_reason() {
        let bus = |down: Option<&str>| BusStatus {
            broker: "mqtt://b:1883/capstan".into(),
            down: down.map(str::to_owned),
            ..BusStatus::default()
        };
        let status = |down| Status { buses: vec![bus(down)], ..healthy() };
        assert_eq!(Health::of(&status(None)), Health::default());
        let told = "the asked node has no connection to the bus mqtt://b:1883/capstan: nobody listens there";
        assert_eq!(Health::of(&status(Some("nobody listens there"))).wrong, [told]);
    }

    #[test]
    fn health_tells_what_is_under_way() {
        let mut status = healthy();
        let duties = [NodeDuty::Drain, NodeDuty::Leave, NodeDuty::Gone];
        status.nodes.iter_mut().zip(duties).for_each(|(node, duty)| node.duty = duty);
        (status.nodes[0].replicas, status.nodes[1].replicas) = (0, 1);
        status.nodes[2].state = Liveness::Dead;
        let learner = kv::view::Member {
            node: NodeId(4),
            replica: ReplicaId(4),
            duty: Duty::Learner,
            incarnation: 0,
            weight: 1,
        };
        status.shards[6].members.push(learner);
        let Health { wrong, under_way } = Health::of(&status);
        assert_eq!(wrong, [""; 0], "a node that is replaced is not expected back");
        assert_eq!(
            under_way,
            [
                "n1 is drained",
                "n2 leaves: 1 replica to go",
                "n3 is replaced: 20 replicas to go",
                "members change: shard 7; see cluster moves",
            ]
        );
    }

    #[test]
    fn list_of_many_runs_is_cut() {
        let odd: Vec<ShardId> = (0..20).map(|number| ShardId(2 * number + 1)).collect();
        assert_eq!(list(&odd), "20 shards (1, 3, 5, 7, 9, 11, 13, 15, and more)");
    }
}
