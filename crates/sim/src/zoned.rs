//! Clusters whose clients' keyspace is laid out by zones, as that of the classic shards is; and reads of which nobody but the node at hand
//! is asked.
//!
//! What such a read is answered is judged like any other answer: it is of the level that its receipt tells, and shows the state that
//! this names. What the node may not answer it refuses.

use kv::keyspace::SyncMode;
use kv::{Class, Op, Protocol};
use placement::map::{Arrangement, DEFAULT, Map, Zone};

use crate::random::Random;

/// Of the seeds in 100 whose keys are kept by `primary` so many have them laid out by zones.
const ZONED_PERCENT: u64 = 30;
/// Of the others so many have clients that ask the node at hand alone.
const HERE_PERCENT: u64 = 15;
/// Of the reads of such clients so many are of it.
const READS_PERCENT: u64 = 25;

/// What a run has of it; of a seed of its own, so that all others are as they would be without.
#[derive(Clone, Debug)]
pub(crate) struct Zoned {
    /// What each zone says of its writes, by its number; `None` = the keyspace is not laid out by zones.
    pub zones: Option<Vec<Option<u16>>>,
    /// Clients ask the node at hand alone.
    asks_here: bool,
    random: Random,
}

impl Zoned {
    pub fn draw(seed: u64, protocol: Protocol) -> Zoned {
        let mut random = Random::new(seed.rotate_left(13) ^ 0x7a6f_6e65);
        let is_zoned = protocol == Protocol::Primary && random.percent(ZONED_PERCENT);
        let count = random.between(1, 3);
        let zones = (0..count).map(|_| random.pick(&[None, Some(0), Some(1), Some(1), Some(2)])).collect();
        let asks_here = is_zoned || random.percent(HERE_PERCENT);
        Zoned { zones: is_zoned.then_some(zones), asks_here, random }
    }

    /// The number of zones; `None` = they are not what shards are laid out by.
    pub fn count(&self) -> Option<u64> {
        self.zones.as_ref().map(|zones| zones.len() as u64)
    }

    /// Whether writes wait for nobody in some zone.
    pub fn waits_for_nobody(&self) -> bool {
        self.zones.iter().flatten().any(|said| *said == Some(0))
    }

    /// No zone has its writes wait for nobody: what is acknowledged may be lost then, and the run could not be judged.
    pub fn wait_for_somebody(&mut self) {
        self.zones.iter_mut().flatten().for_each(|said| *said = said.filter(|count| *count > 0));
    }

    /// Whether nobody but the node at hand is asked for an op.
    pub fn is_here(&mut self, op: &Op) -> bool {
        self.asks_here && op.class() == Class::Read && self.random.percent(READS_PERCENT)
    }

    /// The first map, laid out so: one node has everything until others have named their zones.
    pub fn lay_out(&self, map: &mut Map) {
        let Some(zones) = &self.zones else { return };
        let keyspace = map.keyspaces.get_mut(DEFAULT).expect("there is a keyspace for clients");
        keyspace.arrangement = Arrangement::Zones;
        keyspace.sync = Some(SyncMode::All { min_copies: 1 });
        let said = (0..).zip(zones).filter_map(|(number, said)| Some((number, (*said)?)));
        map.zones.extend(said.map(|(number, secondaries): (u64, u16)| (name(number), Zone { secondaries })));
    }
}

/// The name of a zone.
pub(crate) fn name(number: u64) -> String {
    format!("z{number}")
}
