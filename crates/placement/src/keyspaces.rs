//! Keyspaces come, change and go.
//!
//! A keyspace is created with all its shards, each on the nodes that leave the counts over all keyspaces as even as they can be;
//! nothing that is there moves for it. The ids of its shards are new, and never given again: so nothing that a keyspace held
//! can come back with another one of the same name, wherever a node was meanwhile. A keyspace that is dropped takes its
//! shards and their changes along; the nodes then drop what they have of them, and its name is free when enough of them have
//! (module `dropped`). What is altered moves by the plan, like all else; its protocol too (module `recast`).

use kv::keyspace::{KEYSPACES_MAX, SHARDS_TOTAL_MAX, Settings, Wish, check_name};
use kv::{Protocol, ShardId, SlotRange};
use mutant::Mutant;

use crate::map::{Arrangement, Keyspace, Map, NodeDuty};
use crate::refusal::Refusal;

/// Shards of a keyspace that is created with no word on them.
const SHARDS_USUAL: u32 = 1;

impl Map {
    pub(crate) fn create(&mut self, name: &str, wish: &Wish) -> Result<(), Refusal> {
        check_name(name).map_err(Refusal::Invalid)?;
        if let Some(present) = self.keyspaces.get(name) {
            return match differs(present.settings(), self.shards_of(name).len(), wish) {
                None => Ok(()),
                Some(differs) => Err(Refusal::OtherKeyspace { name: name.into(), differs }),
            };
        }
        if self.holds_back(name) {
            return Err(self.still_served(name, &self.dropped[name].waits_for(|_| false)));
        }
        self.dropped.remove(name);
        // Names that are not free yet count: what is held for them is bounded as well.
        let are = self.keyspaces.len() - 1 + self.dropped.len();
        if are >= KEYSPACES_MAX {
            return Err(Refusal::TooManyKeyspaces(are));
        }
        let (settings, count) = (Settings::of(wish), wish.shards.unwrap_or(SHARDS_USUAL));
        let (are, more, most) = (self.shards.len(), count as usize, SHARDS_TOTAL_MAX);
        let last = self.next_shard.0.checked_add(count);
        let Some(last) = last.filter(|_| are + more <= most) else {
            return Err(Refusal::TooManyShards { are, more, most });
        };
        let Settings { protocol, replicas, sync, weighed, bus, keep, quota } = settings.clone();
        wish.check_for(&settings).map_err(Refusal::Invalid)?;
        let usual = Keyspace::new(protocol, replicas, Arrangement::Even);
        let keyspace = Keyspace { keep, quota, sync, weighed, bus, ..usual };
        self.keyspaces.insert(name.into(), keyspace);
        let first = match mutant::is(Mutant::ShardIdGivenAgain) {
            true => self.shards.keys().next_back().map_or(0, |last| last.0) + 1,
            false => self.next_shard.0,
        };
        for index in 0..count {
            let shard = crate::founding::shard(name, protocol, SlotRange::nth(index, count));
            self.shards.insert(ShardId(first + index), shard);
        }
        self.next_shard = ShardId(last);
        self.settle();
        // With fewer than a majority of what it should have, it would lose what others of its kind do not.
        let serving = self.nodes.values().filter(|node| node.duty == NodeDuty::Serve).count();
        let wanted = usize::from(replicas).min(serving);
        let fewest = self.shards_of(name).iter().map(|(_, shard)| shard.members.len()).min().unwrap_or(0);
        let is_whole = matches!(protocol, Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast);
        if is_whole && fewest < usize::from(replicas) {
            return Err(Refusal::TooFewForAll { replicas, nodes: fewest });
        }
        match self.shards_of(name).iter().any(|(_, shard)| 2 * shard.members.len() <= wanted) {
            true => Err(Refusal::NoNodes),
            false => Ok(()),
        }
    }

    pub(crate) fn alter(&mut self, name: &str, wish: &Wish) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownKeyspace(name.into());
        let keyspace = self.keyspaces.get(name).filter(|keyspace| keyspace.is_for_clients());
        let keyspace = keyspace.ok_or_else(unknown)?;
        let (is, known, is_weighed) = (keyspace.settings(), keyspace.weighed, self.is_weighed(name));
        let wish = Wish { protocol: Some(wish.protocol.unwrap_or(is.protocol)), ..wish.clone() };
        wish.validate().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let settings = Settings { weighed: known.filter(|_| is_weighed), ..is.clone() }.with(&wish);
        wish.check_for(&settings).map_err(Refusal::Invalid)?;
        if settings.protocol != is.protocol {
            self.may_recast(name, &settings, wish.shards)?;
            if is_weighed && settings.weighed.is_some_and(|weighed| Some(weighed) != known) {
                return Err(Refusal::Recast { keyspace: name.into(), protocol: is.protocol });
            }
        } else if matches!(is.protocol, Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast)
            && settings.replicas != is.replicas
        {
            return Err(Refusal::ReplicasStay(name.into()));
        } else if settings.weighed != is.weighed {
            // Members that go by others would miss what those wrote who go by these.
            return Err(Refusal::Invalid(format!(
                "what the replicas of keyspace '{name}' weigh, and what reads and writes need of it, stays as long as it is under quorum: go to \
                 another protocol first (capstan keyspace alter {name} --protocol raft), and from there to quorum again"
            )));
        }
        let keyspace = self.keyspaces.get_mut(name).ok_or_else(unknown)?;
        let Settings { protocol, replicas, sync, weighed, bus, keep, quota } = settings;
        // Who is asked by weight yet is asked by the same ones until the end.
        let weighed = if is_weighed { keyspace.weighed } else { weighed.or(keyspace.weighed) };
        let arrangement = keyspace.arrangement;
        *keyspace = Keyspace { protocol, replicas, arrangement, sync, weighed, bus, keep, quota };
        let are = self.shards_of(name).len();
        let wished = wish.shards.map(|shards| shards as usize).filter(|shards| *shards != are);
        wished.map_or(Ok(()), |shards| self.split(name, shards))
    }

    /// Whether so many nodes are enough for what is not to have fewer copies than its keyspace says.
    pub(crate) fn keeps_copies(&self, node: &str, left: usize) -> Result<(), Refusal> {
        let copies =
            |(name, keyspace): (&String, &Keyspace)| Some((name.clone(), keyspace.sync?.min_copies()));
        let lacks = |(_, copies): &(String, u16)| usize::from(*copies) > left;
        match self.keyspaces.iter().filter_map(copies).find(lacks) {
            None => Ok(()),
            Some((keyspace, copies)) => {
                Err(Refusal::TooFewCopies { node: node.into(), keyspace, copies, left })
            }
        }
    }
}

/// What is otherwise than wished, if anything is.
fn differs(is: Settings, shards: usize, wish: &Wish) -> Option<String> {
    let number = |what: &str, is: u64, wished: Option<u64>| {
        wished.filter(|wished| *wished != is).map(|wished| format!("it has {is} {what}, not {wished}"))
    };
    let protocol = |wished: &Protocol| *wished != is.protocol;
    let protocol = wish.protocol.filter(protocol).map(|_| format!("its protocol is {}", is.protocol));
    let replicas = number("replicas", u64::from(is.replicas), wish.replicas.map(u64::from));
    let shards = number("shards", shards as u64, wish.shards.map(u64::from));
    let other = (is.clone().with(wish) != is)
        .then(|| "its history, time to live, quota, sync, weights or bus are others".into());
    protocol.or(replicas).or(shards).or(other)
}
