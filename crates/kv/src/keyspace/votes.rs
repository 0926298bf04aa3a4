//! What reads and writes must weigh, and what each member does, under [`Protocol::Quorum`](crate::Protocol::Quorum).

use std::fmt;

use super::{REPLICAS_MAX, Settings, Wish};
use crate::Protocol;

/// The most that one member weighs: more says nothing that smaller numbers do not.
pub const WEIGHT_MAX: u16 = 100;

/// What the members of a shard weigh, in the order of their nodes: those of 1 to [`REPLICAS_MAX`] members, each 1 to [`WEIGHT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    each: [u16; REPLICAS_MAX as usize],
    count: u16,
}

/// What the members of the shards of a keyspace weigh, and how much reads and writes need of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// What each member weighs.
    pub weights: Weights,
    /// What reads and writes must weigh.
    pub votes: Votes,
}

/// How much the members must weigh that a read hears, and those that have what a write stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Those that a read hears.
    pub read: u32,
    /// Those that have what a write stores.
    pub write: u32,
}

impl Votes {
    /// A majority for both, of members that weigh so much together.
    pub fn majority(total: u32) -> Votes {
        let most = total / 2 + 1;
        Votes { read: most, write: most }
    }

    /// Checks them for members of these weights; the text says what would do.
    pub fn check(self, weights: &[u32]) -> Result<(), String> {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let (read, write) = (u64::from(self.read), u64::from(self.write));
        if read == 0 || write == 0 {
            return Err("a read and a write each need members that weigh 1 or more".into());
        }
        if read > total || write > total {
            return Err(format!("all members together weigh {total}: a read or a write cannot need more"));
        }
        if read + write <= total {
            return Err(format!(
                "a read of {read} may miss a write of {write}: together {}, they must be more than all members weigh, {total}, as in read {}, write {}",
                read + write,
                total / 2 + 1,
                total / 2 + 1
            ));
        }
        Ok(())
    }

    /// Whether one member alone weighs enough for a write: what it has, and loses, nobody else need have.
    pub fn is_met_by_one(self, weights: &[u32]) -> bool {
        weights.iter().any(|weight| *weight >= self.write)
    }
}

impl Weights {
    /// These, in the order of their nodes; the text says what would do.
    pub fn new(weights: &[u32]) -> Result<Weights, String> {
        let mut each = [0; REPLICAS_MAX as usize];
        if weights.is_empty() || weights.len() > each.len() {
            return Err(format!(
                "a shard has 1 to {REPLICAS_MAX} replicas: give a weight for each, as in 1,2,1"
            ));
        }
        for (place, weight) in each.iter_mut().zip(weights) {
            let fits = u16::try_from(*weight).ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
            *place = fits.ok_or_else(|| format!("a replica weighs 1 to {WEIGHT_MAX}, not {weight}"))?;
        }
        Ok(Weights { each, count: weights.len() as u16 })
    }

    /// Of so many members that weigh the same.
    pub fn equal(replicas: u16) -> Weights {
        let count = replicas.clamp(1, REPLICAS_MAX);
        let mut each = [0; REPLICAS_MAX as usize];
        each[..usize::from(count)].fill(1);
        Weights { each, count }
    }

    /// How many members they are of.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Each, in the order of the nodes.
    pub fn each(&self) -> Vec<u32> {
        self.each[..usize::from(self.count)].iter().map(|weight| u32::from(*weight)).collect()
    }

    /// All together.
    pub fn total(&self) -> u32 {
        self.each().iter().sum()
    }
}

impl fmt::Display for Weights {
    /// As it is read: `1,2,1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.each().iter().map(u32::to_string).collect();
        f.write_str(&each.join(","))
    }
}

impl Weighed {
    /// Members that weigh the same, and a majority of them for reads and for writes.
    pub fn equal(replicas: u16) -> Weighed {
        let weights = Weights::equal(replicas);
        Weighed { weights, votes: Votes::majority(weights.total()) }
    }

    /// It, but for what is wished, for so many replicas. What reads and writes need is a majority where the weights are others.
    pub(super) fn with(self, replicas: u16, wish: &Wish) -> Weighed {
        let stays = self.weights.count() == replicas;
        let weights = wish.weights.unwrap_or(if stays { self.weights } else { Weights::equal(replicas) });
        let votes = if weights == self.weights { self.votes } else { Votes::majority(weights.total()) };
        let (read, write) = (wish.read.unwrap_or(votes.read), wish.write.unwrap_or(votes.write));
        Weighed { weights, votes: Votes { read, write } }
    }

    /// On how many replicas an acknowledged write is at least: as few as weigh enough.
    pub fn copies(self) -> u16 {
        let mut weight = 0;
        let fewest = self.heaviest().into_iter().take_while(|own| {
            let is_too_little = weight < self.votes.write;
            weight += own;
            is_too_little
        });
        fewest.count() as u16
    }

    /// How many replicas may be down, whichever, with those left weighing enough for writes, and for the reads that they begin with.
    pub fn spare(self) -> u16 {
        let needed = self.votes.read.max(self.votes.write);
        let mut left = self.weights.total();
        let down = self.heaviest().into_iter().take_while(|own| {
            left = left.saturating_sub(*own);
            left >= needed
        });
        down.count() as u16
    }

    fn heaviest(self) -> Vec<u32> {
        let mut each = self.weights.each();
        each.sort_unstable_by(|one, other| other.cmp(one));
        each
    }

    /// The wish for just this.
    pub fn wish(self) -> Wish {
        let Votes { read, write } = self.votes;
        Wish { weights: Some(self.weights), read: Some(read), write: Some(write), ..Wish::default() }
    }
}

impl Wish {
    /// What of it makes no sense for a keyspace that is to have these settings: for whom writes wait, what members weigh, and what needs an
    /// order where there is none.
    pub fn check_for(&self, settings: &Settings) -> Result<(), String> {
        self.check_sync(settings)?;
        self.check_bus(settings)?;
        if settings.protocol.is_merged() {
            self.check_unordered(settings.protocol)?;
        }
        let Some(Weighed { weights, votes }) = settings.weighed else {
            let named = [
                self.weights.map(|_| "--weights"),
                self.read.map(|_| "--read"),
                self.write.map(|_| "--write"),
            ];
            return match named.into_iter().flatten().next() {
                Some(name) => Err(format!(
                    "{name} is for keyspaces under quorum: under {} replicas are not weighed",
                    settings.protocol
                )),
                None => Ok(()),
            };
        };
        if weights.count() != settings.replicas {
            return Err(format!(
                "there are {} weights for {} replicas: give one for each, in the order of their nodes",
                weights.count(),
                settings.replicas
            ));
        }
        votes.check(&weights.each())
    }

    /// What a keyspace promises by entries of an ordered log.
    fn check_unordered(&self, protocol: Protocol) -> Result<(), String> {
        let is_kept = protocol == Protocol::Broadcast;
        let is_set = |wished: Option<u64>| wished.is_some_and(|wished| wished > 0);
        let refused = [
            (self.history.is_some() && !is_kept, "--history", "older revisions cannot be read"),
            (
                self.deleted_micros.is_some(),
                "--deleted-history",
                "what is deleted goes once all copies know of it",
            ),
            (is_set(self.ttl_micros), "--ttl", "give values their time as they are stored (put --ttl)"),
            (is_set(self.quota_bytes), "--quota-bytes", "copies would not agree on when it is full"),
            (is_set(self.quota_keys), "--quota-keys", "copies would not agree on when it is full"),
        ];
        match refused.into_iter().find(|(is_wished, ..)| *is_wished) {
            Some((_, name, why)) => Err(format!(
                "{name} cannot be kept under {protocol}, where writes have no order: {why}; raft, primary, two-phase and single keep it"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_that_may_miss_each_other_are_refused() {
        let weights = [1, 2, 1];
        assert_eq!(Votes { read: 2, write: 3 }.check(&weights), Ok(()));
        assert!(Votes { read: 2, write: 2 }.check(&weights).unwrap_err().contains("as in read 3, write 3"));
        assert!(Votes { read: 0, write: 5 }.check(&weights).is_err());
        assert!(Votes { read: 5, write: 5 }.check(&weights).unwrap_err().contains("weigh 4"));
        assert_eq!(Votes::majority(4).check(&weights), Ok(()));
        assert!(Votes { read: 3, write: 2 }.is_met_by_one(&weights));
        assert!(!Votes { read: 2, write: 3 }.is_met_by_one(&weights));
    }

    #[test]
    fn copies_and_spare_ones_follow_from_the_heaviest() {
        let weighed = |weights: &[u32], read, write| {
            let weighed = Weighed {
                weights: Weights::new(weights).expect("the weights are sound"),
                votes: Votes { read, write },
            };
            (weighed.copies(), weighed.spare())
        };
        assert_eq!(weighed(&[1, 1, 1], 2, 2), (2, 1));
        assert_eq!(weighed(&[1, 2, 1], 2, 3), (2, 0), "without the heavy one the others weigh 2");
        assert_eq!(weighed(&[1, 3, 1], 3, 3), (1, 0));
        assert_eq!(weighed(&[1, 1, 1, 1, 1], 1, 5), (5, 0));
    }

    fn wish(weights: &[u32], read: Option<u32>, write: Option<u32>) -> Wish {
        let weights = (!weights.is_empty()).then(|| Weights::new(weights).expect("the weights are sound"));
        Wish { protocol: Some(Protocol::Quorum), weights, read, write, ..Wish::default() }
    }

    #[test]
    fn weights_say_how_many_replicas_there_are_and_a_majority_is_usual() {
        let usual = Settings::of(&wish(&[], None, None));
        assert_eq!((usual.replicas, usual.weighed), (3, Some(Weighed::equal(3))));
        let heavy = Settings::of(&wish(&[1, 2, 1, 1, 1], None, None));
        assert_eq!(
            (heavy.replicas, heavy.weighed.expect("the weights are sound").votes),
            (5, Votes { read: 4, write: 4 })
        );
        let chosen = Settings::of(&wish(&[1, 2, 1], Some(2), Some(3)));
        assert_eq!(
            chosen.weighed.expect("the weights are sound").wish(),
            Wish { protocol: None, ..wish(&[1, 2, 1], Some(2), Some(3)) }
        );
        assert_eq!(Settings::of(&Wish::default()).weighed, None, "raft weighs nobody");
    }

    #[test]
    fn wish_that_cannot_be_kept_is_refused_with_what_can() {
        let refused = |wish: Wish, says: &str| {
            let why = wish.check_for(&Settings::of(&wish)).expect_err(says);
            assert!(why.contains(says), "{why}");
        };
        refused(Wish { read: Some(2), ..Wish::default() }, "--read is for keyspaces under quorum");
        refused(Wish { replicas: Some(5), ..wish(&[1, 2, 1], None, None) }, "3 weights for 5 replicas");
        refused(
            wish(&[1, 2, 1], Some(2), Some(2)),
            "together 4, they must be more than all members weigh, 4",
        );
        refused(wish(&[], Some(1), None), "together 3");
        refused(Wish { ttl_micros: Some(1), ..wish(&[], None, None) }, "--ttl cannot be kept under quorum");
        refused(Wish { quota_keys: Some(9), ..wish(&[], None, None) }, "--quota-keys cannot be kept");
        let sound = Wish { ttl_micros: Some(0), ..wish(&[1, 2, 1], Some(2), Some(3)) };
        assert_eq!(sound.check_for(&Settings::of(&sound)), Ok(()));
        assert!(Weights::new(&[1, 0]).unwrap_err().contains("weighs 1 to 100, not 0"));
        assert!(Weights::new(&[1; 16]).is_err() && Weights::new(&[]).is_err());
    }
}
