//! What people and joining nodes ask, as events of the map.

use kv::Error;
use kv::admin::{Answer, Ask, Joining};
use kv::cluster::NodeDuty;
use placement::map::Map;
use placement::{Event, Refusal};
use replication::Instant;

use super::duties::Reign;
use super::{dump, moves};

/// What is decided about an ask.
pub(super) struct Decision {
    /// The map that makes it so; `None` = the map stays as it is.
    pub next: Option<Map>,
    /// The answer, once that is written, or the present one is known to be the last.
    pub answer: Result<Answer, Error>,
}

/// Decides an ask by the map as it is.
pub(super) fn decide(reign: &mut Reign, ask: &Ask, now: Instant) -> Decision {
    let answer = match ask {
        Ask::Moves => Ok(Answer::Moves(reign.moves(now))),
        Ask::Dump => Ok(Answer::Rows(dump::rows(&reign.map))),
        Ask::Join(joining) => return change(&reign.map, &join(joining), |next| joined(next, joining)),
        Ask::Abort { shard } => return change(&reign.map, &Event::Abort { shard: *shard }, done),
        Ask::Node { name, duty, fewer, dry_run } => {
            return change_node(&reign.map, &to(name, *duty, *fewer), *dry_run);
        }
        Ask::Split { keyspace, shards, dry_run } => {
            let event = Event::Split { keyspace: keyspace.clone(), shards: *shards };
            return change_node(&reign.map, &event, *dry_run);
        }
        Ask::Replace { name, .. } if reign.is_silent_lately(name) => Err(Error::Unavailable(format!(
            "node '{name}' has been silent for some seconds only, and may be about to come back: ask again in a moment"
        ))),
        Ask::Replace { name, lose, dry_run } => {
            let event = Event::Replace { name: name.clone(), lose: *lose };
            return change_node(&reign.with_dead(name), &event, *dry_run);
        }
    };
    Decision { next: None, answer }
}

fn join(joining: &Joining) -> Event {
    let Joining { name, incarnation, peer, address, zone } = joining.clone();
    Event::Join { name, incarnation, peer, address, zone }
}

fn to(name: &str, duty: NodeDuty, fewer: bool) -> Event {
    let name = name.to_owned();
    match duty {
        NodeDuty::Serve => Event::Serve { name },
        NodeDuty::Drain => Event::Drain { name, fewer },
        NodeDuty::Leave => Event::Leave { name, fewer },
        NodeDuty::Gone => Event::Replace { name, lose: false },
    }
}

fn joined(map: &Map, joining: &Joining) -> Answer {
    let (node, _) = map.node_of(joining.incarnation).expect("who has joined has a row");
    let cluster = map.cluster.expect("a map that was written names its cluster");
    Answer::Joined { node, cluster, map: map.encode() }
}

fn done(_: &Map) -> Answer {
    Answer::Done
}

fn change_node(map: &Map, event: &Event, dry_run: bool) -> Decision {
    if !dry_run {
        return change(map, event, done);
    }
    let moves = |next: Map| Answer::Moves(moves::planned(&next));
    Decision { next: None, answer: map.apply(event).map(moves).map_err(refused) }
}

fn change(map: &Map, event: &Event, answer: impl FnOnce(&Map) -> Answer) -> Decision {
    match map.apply(event) {
        Ok(next) => Decision { answer: Ok(answer(&next)), next: Some(next) },
        Err(refusal) => Decision { next: None, answer: Err(refused(refusal)) },
    }
}

/// A refusal as whoever asks gets it: what cannot be as the cluster is, or only not now.
fn refused(refusal: Refusal) -> Error {
    let why = refusal.to_string();
    match refusal {
        Refusal::NotFounded
        | Refusal::Stuck { .. }
        | Refusal::Switching(_)
        | Refusal::Overtaken(_)
        | Refusal::Splitting { .. } => Error::Unavailable(why),
        _ => Error::Invalid(why),
    }
}
