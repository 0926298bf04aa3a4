//! The members of a shard have other duties, as one of them asks: where the directory says who orders and who is in sync.
//!
//! A replica asks ([`kv::view::Change`]) as it knows the shard. The map takes it only while that is so, epoch and revision, and only from
//! who is a member under this number, on this folder, and in sync. What it takes beyond that:
//!
//! | who asks | may |
//! |---|---|
//! | who orders | have others in sync or not, make one that is in sync the one that orders, take members of a change in and others out |
//! | another that is in sync | order, the one that did being out of sync |
//! | who is astray | begin anew, under another number ([`force`](crate::force)) |
//!
//! A part of a shard that is cut, or goes on under `primary`, may ask as well, before all of its members have opened: the parts are shards
//! then. Whoever takes that sees to it that those who are in sync have opened, for who comes later begins with nothing.
//!
//! Nobody is in sync without the word of who orders, who alone knows what was acknowledged; and nobody orders who was not in sync.

use kv::view::{Change as Asked, Duty, Member, Revision};
use kv::{NodeId, Protocol, ReplicaId, ShardId};
use mutant::Mutant;

use crate::map::{Map, Shard};
use crate::refusal::Refusal;

impl Map {
    pub(crate) fn revise(&mut self, id: ShardId, asked: &Asked) -> Result<(), Refusal> {
        if let Some((from, ..)) = self.part(id).filter(|_| self.is_asked(id)) {
            self.finish_split(from)?;
        }
        let row = self.shards.get(&id).filter(|row| row.protocol == Protocol::Primary);
        let row = row.ok_or(Refusal::Overtaken(id))?;
        let is_blind = mutant::is(Mutant::CompareAndSetWithoutIncarnation);
        if (row.epoch, row.revision) != (asked.epoch, asked.revision) && !is_blind {
            return Err(Refusal::Overtaken(id));
        }
        let may_ask = |member: &&Member| {
            (member.incarnation == asked.by.incarnation || is_blind)
                && (is_in_sync(member) || member.duty == Duty::Astray)
                && key(member) == key(&asked.by)
        };
        let by = row.member(asked.by.node).filter(may_ask).copied().ok_or(Refusal::Overtaken(id))?;
        if by.duty == Duty::Astray {
            return self.begin_anew(id, &by);
        }
        let members = match by.duty {
            Duty::Primary => self.as_primary_asks(id, row, &asked.members),
            _ => takeover(row, &by).filter(|members| *members == asked.members),
        };
        let mut members = members.ok_or_else(|| {
            Refusal::Invalid(format!(
                "shard {id}: its replica on node {} asks for what it may not have",
                by.node
            ))
        })?;
        if mutant::is(Mutant::PromotedReplicaBehind) && by.duty != Duty::Primary {
            promote_another(row, &mut members);
        }
        let was = primary(&row.members);
        let is_there = |to: &[Member]| members.iter().map(key).eq(to.iter().map(key));
        let is_done =
            self.changes.get(&id).is_some_and(|change| change.epoch == row.epoch && is_there(&change.to));
        if is_done {
            self.changes.remove(&id);
        }
        let orders = primary(&members).ok_or(Refusal::Overtaken(id))?;
        let shard = self.shards.get_mut(&id).ok_or(Refusal::NoChange(id))?;
        let leads = members.iter().any(|member| member.node == shard.leader);
        if was != Some(orders) || !leads {
            shard.leader = orders;
        }
        (shard.members, shard.revision) = (members, Revision(shard.revision.0 + 1));
        Ok(())
    }

    /// The members as who orders asks for them; `None` = they cannot be.
    fn as_primary_asks(&self, id: ShardId, row: &Shard, asked: &[Member]) -> Option<Vec<Member>> {
        let change = self.changes.get(&id).filter(|change| change.epoch == row.epoch);
        let to = change.map_or(&row.members, |change| &change.to);
        let known = |member: &Member| {
            let mut known = row.members.iter().chain(to);
            known.find(|known| key(known) == key(member)).copied()
        };
        let stays = |member: &&Member| to.iter().any(|other| key(other) == key(member));
        let is_asked = |member: &&Member| asked.iter().any(|other| key(other) == key(member));
        let members: Option<Vec<Member>> = asked
            .iter()
            .map(|member| {
                let before = row.members.iter().find(|before| key(before) == key(member));
                let is_sound = match member.duty {
                    Duty::Primary => before.is_some_and(is_in_sync),
                    Duty::Voter => before.is_some_and(|before| before.duty != Duty::Astray),
                    Duty::Learner => before.is_none_or(|before| before.duty != Duty::Astray),
                    Duty::Astray => before.is_some_and(|before| before.duty == Duty::Astray),
                    Duty::Joining | Duty::Leaving => false,
                };
                known(member).filter(|_| is_sound).map(|known| Member { duty: member.duty, ..known })
            })
            .collect();
        let one_orders = asked.iter().filter(|member| member.duty == Duty::Primary).count() == 1;
        let keeps = row.members.iter().filter(|member| stays(member)).all(|member| is_asked(&member));
        let is_sorted = asked.is_sorted_by(|one, other| one.node < other.node);
        members.filter(|_| one_orders && keeps && is_sorted)
    }
}

/// The members when one of them orders that did not, and the one that did is not in sync.
fn takeover(row: &Shard, by: &Member) -> Option<Vec<Member>> {
    let duty = |member: &Member| match member.duty {
        _ if key(member) == key(by) => Duty::Primary,
        Duty::Primary => Duty::Learner,
        duty => duty,
    };
    Some(row.members.iter().map(|member| Member { duty: duty(member), ..*member }).collect())
}

/// Makes another one order that does not, be it in sync or not.
fn promote_another(row: &Shard, members: &mut [Member]) {
    let was = primary(&row.members);
    let behind = |member: &&mut Member| {
        Some(member.node) != was
            && !row.members.iter().any(|before| key(before) == key(member) && is_in_sync(before))
    };
    if let Some(place) = members.iter_mut().find(behind).map(|member| member.node) {
        for member in members.iter_mut() {
            let duty = if member.duty == Duty::Primary { Duty::Voter } else { member.duty };
            member.duty = if member.node == place { Duty::Primary } else { duty };
        }
    }
}

/// Whether a member is in sync: what is acknowledged is in its log.
pub(crate) fn is_in_sync(member: &Member) -> bool {
    matches!(member.duty, Duty::Primary | Duty::Voter)
}

fn key(member: &Member) -> (NodeId, ReplicaId) {
    (member.node, member.replica)
}

fn primary(members: &[Member]) -> Option<NodeId> {
    members.iter().find(|member| member.duty == Duty::Primary).map(|member| member.node)
}

#[cfg(test)]
mod tests {
    use kv::Epoch;
    use kv::admin::{Ruled, Ruling};
    use kv::cluster::Liveness;
    use kv::keyspace::{Secondaries, Wish};

    use super::*;
    use crate::{Event, Founder, Founding};

    const SHARD: ShardId = ShardId(2);

    /// Three nodes, and a keyspace under `primary` with one shard on all of them.
    fn map() -> Map {
        let founder = |id| Founder { name: format!("n{id}"), peer: "here:1".into() };
        let (nodes, protocol) = ((1..=3).map(founder).collect(), Protocol::Raft);
        let map = Map::founding(&Founding { cluster: None, nodes, shards: 1, replicas: 3, protocol });
        let wish = Wish { protocol: Some(Protocol::Primary), ..Wish::default() };
        let map = map.apply(&Event::Create { name: "k".into(), wish }).unwrap();
        assert_eq!(map.check(), Ok(()));
        map
    }

    /// The members of the shard with these duties, in their order: p orders, s is in sync, l is not.
    fn members(map: &Map, duties: &str) -> Vec<Member> {
        let duty = |letter| match letter {
            'p' => Duty::Primary,
            's' => Duty::Voter,
            'a' => Duty::Astray,
            _ => Duty::Learner,
        };
        let members = map.shards[&SHARD].members.iter().zip(duties.chars());
        members.map(|(member, letter)| Member { duty: duty(letter), ..*member }).collect()
    }

    fn duties(map: &Map) -> String {
        let letter = |member: &Member| match member.duty {
            Duty::Primary => 'p',
            Duty::Voter => 's',
            Duty::Astray => 'a',
            _ => 'l',
        };
        map.shards[&SHARD].members.iter().map(letter).collect()
    }

    fn ask(map: &Map, node: u64, duties: &str) -> Event {
        let row = &map.shards[&SHARD];
        let by = *row.member(NodeId(node)).unwrap();
        let change = Asked { epoch: row.epoch, revision: row.revision, by, members: members(map, duties) };
        Event::Revise { shard: SHARD, change }
    }

    fn revise(map: &Map, node: u64, duties: &str) -> Result<Map, Refusal> {
        let next = map.apply(&ask(map, node, duties))?;
        assert_eq!(next.check(), Ok(()));
        Ok(next)
    }

    /// The same, n1 ordering.
    fn led() -> Map {
        let map = map();
        let place = duties(&map).find('p').unwrap() as u64 + 1;
        let led = if place == 1 { map } else { revise(&map, place, "pss").unwrap() };
        assert_eq!(duties(&led), "pss");
        led
    }

    #[test]
    fn primary_has_members_in_sync_or_not_and_each_change_is_a_revision() {
        let map = led();
        let without = revise(&map, 1, "psl").unwrap();
        assert_eq!(
            (duties(&without), without.shards[&SHARD].revision.0),
            ("psl".into(), map.shards[&SHARD].revision.0 + 1)
        );
        let again = revise(&without, 1, "pss").unwrap();
        let same = revise(&again, 1, "pss").unwrap();
        assert_eq!(same.shards[&SHARD].revision.0, again.shards[&SHARD].revision.0 + 1, "it restarted");
    }

    #[test]
    fn member_in_sync_takes_over_and_one_that_is_not_does_not() {
        let map = led();
        let taken = revise(&map, 2, "lps").unwrap();
        assert_eq!((duties(&taken), taken.shards[&SHARD].leader), ("lps".into(), NodeId(2)));
        assert!(revise(&map, 2, "sps").is_err(), "the one before is in sync no more");
        assert!(revise(&map, 2, "lpl").is_err(), "nobody else is touched");
        let without = revise(&map, 1, "psl").unwrap();
        assert!(revise(&without, 3, "lsp").is_err());
        assert!(revise(&without, 2, "lps").is_err(), "who does not order has nobody in sync");
        assert!(revise(&without, 1, "lsp").is_err(), "nobody orders who was not in sync");
    }

    fn force(map: &Map, node: &str) -> Result<(Map, Vec<Ruled>), Refusal> {
        let forced = map.ruled("k", &Ruling::ForcePrimary { node: node.into() })?;
        assert_eq!(forced.0.check(), Ok(()));
        Ok(forced)
    }

    fn dead(map: &Map, node: u64) -> Map {
        map.apply(&Event::Health { node: NodeId(node), state: Liveness::Dead }).unwrap()
    }

    #[test]
    fn forced_replica_orders_alone_and_the_others_begin_anew_under_other_numbers() {
        let map = dead(&revise(&led(), 1, "pll").unwrap(), 1);
        let (forced, told) = force(&map, "n2").unwrap();
        assert_eq!((duties(&forced), forced.shards[&SHARD].leader), ("apa".into(), NodeId(2)));
        assert_eq!((told.len(), told[0].done), (1, true));
        assert_eq!(told[0].why, "n2 orders it, without what only n1 had");
        let again = force(&forced, "n2").unwrap();
        assert_eq!((again.0.revision, again.1[0].done), (forced.revision, true), "it is so already");
        assert!(revise(&forced, 2, "apl").is_err(), "nobody who is astray is brought up to date");
        assert!(revise(&forced, 2, "spa").is_err(), "or comes in sync");
        let anew = revise(&forced, 3, "apa").unwrap();
        assert_eq!((duties(&anew), anew.shards[&SHARD].members[2].replica), ("apl".into(), ReplicaId(4)));
        let synced = revise(&anew, 2, "aps").unwrap();
        let anew = revise(&synced, 1, "aps").unwrap();
        assert_eq!((duties(&anew), anew.shards[&SHARD].members[0].replica), ("lps".into(), ReplicaId(5)));
    }

    #[test]
    fn lost_primary_is_followed_where_writes_wait_for_nobody_and_elsewhere_is_not() {
        let alter = |map: &Map, secondaries| {
            let sync = Some(Secondaries::Count(secondaries));
            map.apply(&Event::Alter { name: "k".into(), wish: Wish { sync, ..Wish::default() } }).unwrap()
        };
        let orphaned = |map: &Map| map.orphaned_shards(|node| !map.lives(node));
        let alone = revise(&led(), 1, "pll").unwrap();
        let (some, none) = (alter(&dead(&alone, 1), 1), alter(&dead(&alone, 1), 0));
        assert_eq!((orphaned(&some), orphaned(&none)), (vec![], vec![SHARD]));
        assert!(some.clone().follow(SHARD, NodeId(2)).is_err(), "a write waits for another one");
        let mut followed = none.clone();
        followed.follow(SHARD, NodeId(2)).unwrap();
        assert_eq!((followed.check(), duties(&followed)), (Ok(()), "apa".into()));
        assert_eq!((followed.revision, orphaned(&followed)), (none.revision + 1, vec![]));
        let lost = dead(&followed, 2);
        assert_eq!(orphaned(&lost), [SHARD], "it is lost again");
        assert!(lost.clone().follow(SHARD, NodeId(3)).is_err(), "who is astray begins anew first");
        let drained = followed.apply(&Event::Drain { name: "n1".into(), fewer: true }).unwrap_or(followed);
        let next = crate::plan(&drained, &crate::Limits::default()).unwrap_or(drained);
        assert!(!next.changes.contains_key(&SHARD), "and tells what only it has before it is let go");
        assert!(revise(&lost, 3, "apa").unwrap().follow(SHARD, NodeId(3)).is_ok());
        let two = alter(&dead(&revise(&led(), 1, "psl").unwrap(), 1), 0);
        assert_eq!(orphaned(&two), [], "one that is in sync takes over by itself");
        assert!(two.clone().follow(SHARD, NodeId(3)).is_err());
    }

    #[test]
    fn force_where_nobody_needs_it_is_refused_with_the_reason() {
        let refused = |map: &Map, keyspace: &str, node: &str| {
            let ruling = Ruling::ForcePrimary { node: node.into() };
            map.ruled(keyspace, &ruling).unwrap_err().to_string()
        };
        let map = led();
        assert!(refused(&map, "k", "n2").contains("in sync and alive: n1, n2, n3"));
        let two = dead(&revise(&map, 1, "psl").unwrap(), 1);
        assert!(refused(&two, "k", "n3").contains("in sync and alive: n2"), "{}", refused(&two, "k", "n3"));
        let lost = dead(&two, 2);
        assert!(refused(&lost, "k", "n2").contains("not heard of"));
        assert!(refused(&lost, "k", "n9").contains("no node is named"));
        assert!(refused(&lost, "default", "n3").contains("is under raft"));
        assert!(refused(&lost, "tea", "n3").contains("tea"));
        assert!(force(&lost, "n3").is_ok());
    }

    #[test]
    fn node_with_one_of_the_fewest_copies_is_not_drained() {
        let drain = |map: &Map, name: &str| map.apply(&Event::Drain { name: name.into(), fewer: true });
        let fewer = drain(&map(), "n1").unwrap();
        let refused = drain(&fewer, "n2");
        assert!(matches!(refused, Err(Refusal::TooFewCopies { copies: 2, left: 1, .. })), "{refused:?}");
    }

    #[test]
    fn change_of_an_earlier_revision_or_another_folder_is_overtaken() {
        let map = led();
        let late = ask(&map, 2, "lps");
        let next = revise(&map, 1, "psl").unwrap();
        assert_eq!(next.apply(&late), Err(Refusal::Overtaken(SHARD)));
        let Event::Revise { mut change, .. } = ask(&map, 2, "lps") else { unreachable!() };
        change.by.incarnation += 1;
        assert_eq!(
            map.apply(&Event::Revise { shard: SHARD, change: change.clone() }),
            Err(Refusal::Overtaken(SHARD))
        );
        change.epoch = Epoch(2);
        assert!(map.apply(&Event::Revise { shard: SHARD, change }).is_err());
    }
}
