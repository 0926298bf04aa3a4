//! Runs in which the keys of clients have no order: what members weigh, and what is left out.
//!
//! Such shards are tried hardest by what comes late, and by clocks that differ. So messages are late by up to ten seconds, longer than a tombstone
//! stays; clients delete where the clock is furthest ahead, and put where it is furthest behind as soon as a tombstone has gone; and they send their
//! writes again at other nodes, which must not run them twice.
//!
//! # Caveats
//!
//! The copies of such a shard stay where they are, and one that is lost is not made again. So no folder of theirs is lost or put back, and
//! nobody leaves.

use kv::Protocol;
use placement::map::{DEFAULT, Map};

use crate::options::Options;
use crate::random::Random;
use crate::settings::Settings;

/// What members may weigh, the first of more of them again.
const WEIGHTS: [&[u32]; 6] = [&[1], &[1], &[1, 2, 1], &[3, 1, 1], &[2, 1], &[1, 1, 2]];

/// Leaves out what such a keyspace does not offer.
pub(crate) fn tame(settings: &mut Settings) {
    // Members stay, and nobody is given what changes.
    (settings.operates, settings.watchers) = (false, 0);
    settings.grace_micros = node::GRACE_MICROS;
}

/// Draws what members weigh.
pub(crate) fn weigh(options: &Options, map: &mut Map) {
    if options.protocol != Protocol::Quorum {
        return;
    }
    let mut random = Random::new(options.seed.rotate_left(29) ^ 0x7765_6967);
    for row in map.shards.values_mut().filter(|row| row.keyspace == DEFAULT) {
        let weights = random.pick(&WEIGHTS).iter().cycle();
        row.members.iter_mut().zip(weights).for_each(|(member, weight)| member.weight = *weight);
    }
}
