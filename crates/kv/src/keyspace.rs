//! Keyspaces: how they are named, what they are asked to be, and what they hold.

mod bus;
mod sync;
mod votes;

use std::fmt;

pub use bus::{Broker, Bus};
pub use sync::{Awaited, Secondaries, SyncMode};
pub use votes::{Votes, WEIGHT_MAX, Weighed, Weights};

use crate::{Error, Protocol};

/// The longest name of a keyspace, in bytes: that of a label in the names of hosts, so that tools take it.
pub const NAME_BYTES_MAX: usize = 63;
/// Shards of a keyspace when it is created: all of them are written by one transaction of the directory, and dropped by one.
pub const SHARDS_MAX: u32 = 4096;
/// Shards of all keyspaces together: every node keeps each in its map, and in what it hears of others.
pub const SHARDS_TOTAL_MAX: usize = 16_384;
/// Keyspaces of a cluster.
pub const KEYSPACES_MAX: usize = 1024;
/// Replicas of a shard: more outlive no more than clients would notice, and each takes a copy of every write.
pub const REPLICAS_MAX: u16 = 15;

/// What a keyspace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How the replicas of its shards agree.
    pub protocol: Protocol,
    /// Replicas of each shard, where there are nodes enough.
    pub replicas: u16,
    /// Whom a write waits for, under [`Protocol::Primary`].
    pub sync: Option<SyncMode>,
    /// What its members weigh, under [`Protocol::Quorum`].
    pub weighed: Option<Weighed>,
    /// What carries its writes from replica to replica, under [`Protocol::Broadcast`].
    pub bus: Bus,
    /// What its shards keep of keys.
    pub keep: Keep,
    /// When it is full.
    pub quota: Quota,
}

/// What shards keep of their keys; an entry of their log sets it, so all replicas keep the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Revisions of a key; `None` = as the cluster was founded.
    pub history: Option<History>,
    /// How long those of a deleted key are kept, in microseconds; `u64::MAX` = for ever; `None` = as the cluster was founded.
    pub deleted_micros: Option<u64>,
    /// How long a value lasts that is stored without a deadline, in microseconds; `None` = for ever.
    pub ttl_micros: Option<u64>,
}

/// How many revisions of a key are kept, the newest included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The newest so many; at least 1.
    Count(u32),
    /// All.
    All,
    /// Those that were the newest at some time in so many microseconds before now; some that are older go with a later write of
    /// their key only.
    Micros(u64),
}

/// What a keyspace may hold; what it takes more is refused. Of each key its newest value counts, and the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of keys and values; `None` = no limit.
    pub bytes: Option<u64>,
    /// Keys; `None` = no limit.
    pub keys: Option<u64>,
}

/// What a shard or a keyspace holds. Of each key its newest value counts, and the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Keys, those too that have expired and are not removed yet.
    pub keys: u64,
}

/// What a shard goes by when it applies its log. An entry of the log sets it ([`crate::Op::Advance`]), so all replicas go by the
/// same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What it keeps of its keys.
    pub keep: Keep,
    /// Its keyspace is full: what would add to it is refused.
    pub full: Option<Full>,
}

/// A keyspace that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// What it may hold.
    pub quota: Quota,
    /// What it held when that was noticed.
    pub usage: Usage,
}

/// What a shard goes by, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it goes by.
    pub rules: Rules,
    /// What it holds.
    pub usage: Usage,
}

/// What a keyspace is to be. `None` = as usual for one that is created, as it is for one that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How the replicas of its shards agree; usually [`Protocol::Raft`].
    pub protocol: Option<Protocol>,
    /// Replicas of each shard, where there are nodes enough; usually 3, or 1 where the protocol has one.
    pub replicas: Option<u16>,
    /// How many shards; usually 1.
    pub shards: Option<u32>,
    /// For whom a write waits, under [`Protocol::Primary`]; usually for all.
    pub sync: Option<Secondaries>,
    /// Copies below which nothing is acknowledged, where it waits for all; usually 2.
    pub min_copies: Option<u16>,
    /// How often those get what is written for whom it does not wait, in microseconds; usually 100 ms.
    pub interval_micros: Option<u64>,
    /// What its replicas weigh, in the order of their nodes, under [`Protocol::Quorum`]; usually all the same.
    pub weights: Option<Weights>,
    /// How much those must weigh that a read hears; usually a majority.
    pub read: Option<u32>,
    /// How much those must weigh that have what a write stores; usually a majority.
    pub write: Option<u32>,
    /// What carries its writes from replica to replica, under [`Protocol::Broadcast`]; usually the nodes' own connections.
    pub bus: Option<Bus>,
    /// Revisions of a key; usually as the cluster was founded.
    pub history: Option<History>,
    /// How long those of a deleted key are kept, in microseconds; `u64::MAX` = for ever. Usually as the cluster was founded.
    pub deleted_micros: Option<u64>,
    /// How long a value lasts that is stored without a deadline, in microseconds; 0 = for ever, as usual.
    pub ttl_micros: Option<u64>,
    /// Bytes that it may hold; 0 = no limit, as usual.
    pub quota_bytes: Option<u64>,
    /// Keys that it may hold; 0 = no limit, as usual.
    pub quota_keys: Option<u64>,
}

/// A keyspace as the directory's leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// What it is.
    pub settings: Settings,
    /// How many shards it has.
    pub shards: u32,
    /// How many of them change their members, their bounds or their protocol.
    pub changing: u32,
    /// How many of them are under another protocol yet, and are to go on under its own.
    pub under_another: u32,
    /// What it holds; `None` = nobody says it of some shard.
    pub usage: Option<Usage>,
}

impl Protocol {
    /// Those that a keyspace can have.
    pub const ALL: [Protocol; 6] = [
        Protocol::Single,
        Protocol::Raft,
        Protocol::Primary,
        Protocol::TwoPhase,
        Protocol::Quorum,
        Protocol::Broadcast,
    ];

    /// How many replicas a shard can have under it.
    pub fn replicas(self) -> std::ops::RangeInclusive<u16> {
        match self {
            Protocol::Single => 1..=1,
            Protocol::Raft | Protocol::Quorum | Protocol::Broadcast => 1..=REPLICAS_MAX,
            // One more than may be lost: fewer than two are refused.
            Protocol::Primary | Protocol::TwoPhase => 2..=REPLICAS_MAX,
        }
    }
}

impl Settings {
    /// Those of a keyspace that is created, of a wish that is [sound](Wish::validate).
    pub fn of(wish: &Wish) -> Settings {
        let protocol = wish.protocol.unwrap_or(Protocol::Raft);
        let replicas = usual_replicas(protocol);
        let sync = (protocol == Protocol::Primary).then_some(SyncMode::USUAL);
        let weighed = (protocol == Protocol::Quorum).then(|| Weighed::equal(replicas));
        let (keep, quota) = Default::default();
        let usual = Settings { protocol, replicas, sync, weighed, bus: Bus::Peers, keep, quota };
        usual.with(wish)
    }

    /// These under a protocol: what makes no sense there is as usual. One copy is what `single` has, and nothing that others wish for.
    fn under(self, protocol: Protocol) -> Settings {
        let stays = self.protocol == protocol
            || self.protocol != Protocol::Single && protocol.replicas().contains(&self.replicas);
        let replicas = if stays { self.replicas } else { usual_replicas(protocol) };
        let is_primary = protocol == Protocol::Primary;
        let sync = is_primary.then(|| self.sync.unwrap_or(SyncMode::USUAL));
        let is_quorum = protocol == Protocol::Quorum;
        let weighed = is_quorum.then(|| self.weighed.unwrap_or(Weighed::equal(replicas)));
        let keep = match protocol {
            // Copies need not have seen all revisions: nobody reads older ones.
            Protocol::Quorum => Keep { ttl_micros: self.keep.ttl_micros, ..Keep::default() },
            // What is deleted goes once all know of it.
            Protocol::Broadcast => Keep { deleted_micros: None, ..self.keep },
            _ => self.keep,
        };
        let bus = if protocol == Protocol::Broadcast { self.bus } else { Bus::Peers };
        Settings { protocol, replicas, sync, weighed, bus, keep, ..self }
    }

    /// These, but for what is wished.
    pub fn with(self, wish: &Wish) -> Settings {
        let set = |wished: Option<u64>, is: Option<u64>| match wished {
            None => is,
            Some(0) => None,
            some => some,
        };
        let protocol = wish.protocol.unwrap_or(self.protocol);
        let Settings { protocol, replicas, sync, weighed, bus, keep, quota } = self.under(protocol);
        let of_weights = weighed.and(wish.weights).map(|weights| weights.count());
        let replicas = wish.replicas.or(of_weights).unwrap_or(replicas);
        Settings {
            protocol,
            replicas,
            sync: sync.map(|sync| sync.with(wish)),
            weighed: weighed.map(|weighed| weighed.with(replicas, wish)),
            bus: wish.bus.clone().filter(|_| protocol == Protocol::Broadcast).unwrap_or(bus),
            keep: Keep {
                history: wish.history.or(keep.history),
                deleted_micros: wish.deleted_micros.or(keep.deleted_micros),
                ttl_micros: set(wish.ttl_micros, keep.ttl_micros),
            },
            quota: Quota {
                bytes: set(wish.quota_bytes, quota.bytes),
                keys: set(wish.quota_keys, quota.keys),
            },
        }
    }
}

/// Replicas of a shard where nothing is said of them.
fn usual_replicas(protocol: Protocol) -> u16 {
    const USUAL: u16 = 3;
    USUAL.min(*protocol.replicas().end())
}

impl Wish {
    /// Checks it against the limits.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Invalid(why));
        if let Some(shards) = self.shards.filter(|shards| !(1..=SHARDS_MAX).contains(shards)) {
            return refuse(format!("a keyspace cannot have {shards} shards: give it 1 to {SHARDS_MAX}"));
        }
        let replicas = self.protocol.unwrap_or(Protocol::Raft).replicas();
        if let Some(wished) = self.replicas.filter(|wished| !replicas.contains(wished)) {
            let protocol = self.protocol.unwrap_or(Protocol::Raft);
            let few = match (replicas.start(), replicas.end()) {
                (least, most) if least == most => most.to_string(),
                (least, most) => format!("{least} to {most}"),
            };
            return refuse(format!("a shard cannot have {wished} replicas: under {protocol} it has {few}"));
        }
        if matches!(self.history, Some(History::Count(0) | History::Micros(0))) {
            return refuse("a key keeps 1 revision at least, the newest: give a history of 1 or more".into());
        }
        if self.deleted_micros == Some(0) {
            return refuse("what is deleted is kept for some time: give a deleted history above 0".into());
        }
        Ok(())
    }
}

impl Quota {
    /// That a keyspace which holds so much is full; `None` = it is not.
    pub fn full(&self, usage: Usage) -> Option<Full> {
        let is_over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used >= limit);
        let is_full = is_over(self.bytes, usage.bytes) || is_over(self.keys, usage.keys);
        is_full.then_some(Full { quota: *self, usage })
    }
}

impl Full {
    /// Whether the reason is the same as another one's: how much is held by now is not.
    pub fn is_like(&self, other: &Full) -> bool {
        let over = |Full { quota, usage }: &Full| {
            let over = |limit: Option<u64>, used| limit.is_some_and(|limit| used >= limit);
            (over(quota.bytes, usage.bytes), over(quota.keys, usage.keys))
        };
        self.quota == other.quota && over(self) == over(other)
    }

    /// The error of an op that would take a shard from what it holds to what it would hold then; `None` = it adds nothing of
    /// which there is too much.
    pub fn refuses(&self, before: Usage, after: Usage) -> Option<Error> {
        let over = |what: &str, limit: Option<u64>, used: u64, grows: bool| {
            limit.filter(|limit| used >= *limit && grows).map(|limit| {
                Error::OverQuota(format!(
                    "the keyspace is full: it holds {used} {what}, and its quota is {limit}; delete keys, or raise the quota \
                     (capstan keyspace alter NAME --quota-{what}); what does not grow it is taken"
                ))
            })
        };
        let Full { quota, usage } = self;
        over("keys", quota.keys, usage.keys, after.keys > before.keys)
            .or_else(|| over("bytes", quota.bytes, usage.bytes, after.bytes > before.bytes))
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.bytes += other.bytes;
        self.keys += other.keys;
    }
}

impl fmt::Display for History {
    /// As it is read: a count, `all`, or a duration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            History::Count(count) => write!(f, "{count}"),
            History::All => f.write_str("all"),
            History::Micros(micros) => f.write_str(&duration(*micros)),
        }
    }
}

/// A time as commands take it: in the largest unit of which it is a whole number.
pub fn duration(micros: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "us"),
    ];
    let unit = UNITS.into_iter().find(|(unit, _)| micros.is_multiple_of(*unit) && micros > 0);
    let (unit, name) = unit.unwrap_or((1, "us"));
    format!("{}{name}", micros / unit)
}

/// Whether this can be the name of a keyspace that clients ask; the text says what can.
pub fn check_name(name: &str) -> Result<(), String> {
    let shown = name.escape_debug();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        return Err(format!(
            "'{shown}' is no name for a keyspace: use 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.'"
        ));
    }
    if name.starts_with(['_', '.', '-']) {
        return Err(format!(
            "'{shown}' is no name for a keyspace: it begins with a letter or a digit ('_' is for the store's own)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wish_beyond_the_limits_is_refused_with_what_they_are() {
        let wrong = [
            Wish { shards: Some(0), ..Wish::default() },
            Wish { shards: Some(SHARDS_MAX + 1), ..Wish::default() },
            Wish { replicas: Some(REPLICAS_MAX + 1), ..Wish::default() },
            Wish { replicas: Some(3), protocol: Some(Protocol::Single), ..Wish::default() },
            Wish { history: Some(History::Count(0)), ..Wish::default() },
            Wish { deleted_micros: Some(0), ..Wish::default() },
        ];
        for wish in wrong {
            assert!(matches!(wish.validate(), Err(Error::Invalid(_))), "{wish:?}");
        }
        let single = Wish { protocol: Some(Protocol::Single), ..Wish::default() };
        assert_eq!((single.validate(), Settings::of(&single).replicas), (Ok(()), 1));
    }

    #[test]
    fn settings_with_a_wish_keep_what_is_not_wished_and_zero_takes_a_limit_away() {
        let wish = Wish { quota_keys: Some(7), ttl_micros: Some(9), ..Wish::default() };
        let settings = Settings::of(&wish);
        assert_eq!((settings.quota.keys, settings.keep.ttl_micros, settings.replicas), (Some(7), Some(9), 3));
        let other = settings.with(&Wish { quota_keys: Some(0), replicas: Some(5), ..Wish::default() });
        assert_eq!((other.quota.keys, other.keep.ttl_micros, other.replicas), (None, Some(9), 5));
    }

    #[test]
    fn settings_under_another_protocol_keep_what_makes_sense_there() {
        let to = |settings: Settings, protocol| {
            let settings = settings.with(&Wish { protocol: Some(protocol), ..Wish::default() });
            let told = (settings.replicas, settings.sync);
            (settings, told)
        };
        let five = Settings::of(&Wish { replicas: Some(5), ttl_micros: Some(9), ..Wish::default() });
        let (primary, told) = to(five.clone(), Protocol::Primary);
        assert_eq!((told, primary.keep), ((5, Some(SyncMode::USUAL)), five.keep));
        let (single, told) = to(primary, Protocol::Single);
        assert_eq!(told, (1, None));
        assert_eq!(to(single, Protocol::Raft).1, (3, None), "one copy was not a wish");
        assert_eq!(to(five, Protocol::TwoPhase).1, (5, None));
    }

    #[test]
    fn quota_that_is_reached_refuses_and_says_what_to_do() {
        let quota = Quota { bytes: Some(100), keys: None };
        assert_eq!(quota.full(Usage { bytes: 99, keys: 1 << 40 }), None);
        let full = quota.full(Usage { bytes: 100, keys: 1 }).expect("it is full");
        let (before, more) = (Usage { bytes: 30, keys: 3 }, Usage { bytes: 31, keys: 3 });
        assert_eq!((full.refuses(before, before), full.refuses(more, before)), (None, None));
        assert_eq!(full.refuses(before, Usage { bytes: 30, keys: 4 }), None);
        let refused = full.refuses(before, more).expect("it grows").to_string();
        assert!(
            refused.contains("holds 100 bytes, and its quota is 100; delete keys, or raise"),
            "{refused}"
        );
    }

    #[test]
    fn duration_is_told_in_its_largest_whole_unit() {
        let told = [90_000_000, 3_600_000_000, 1_500, 86_400_000_000].map(duration);
        assert_eq!(told, ["90s", "1h", "1500us", "1d"]);
    }

    #[test]
    fn name_of_letters_digits_and_marks_is_one() {
        for name in ["default", "a", "7", "Orders-2026_v1.1", &"n".repeat(NAME_BYTES_MAX)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn name_that_is_reserved_too_long_or_of_other_letters_is_refused_with_what_can_be() {
        for name in ["", "_directory", "_", ".", "-a", "a b", "a/b", "ä", &"n".repeat(NAME_BYTES_MAX + 1)] {
            let refused = check_name(name).expect_err(name);
            assert!(refused.contains("is no name for a keyspace: "), "{refused}");
        }
    }
}
