//! Runs in which the keys of clients have no order: what members weigh, and what is left out.
//!
//! Such shards are tried hardest by what comes late, and by clocks that differ. So messages are late by up to ten seconds, longer than a tombstone
//! stays; clients delete where the clock is furthest ahead, and put where it is furthest behind as soon as a tombstone has gone; and they send their
//! writes again at other nodes, which must not run them twice.
//!
//! In some runs the keyspace goes on under other protocols and comes back. In most of those one member weighs as much as a write takes, and is
//! held away, with clients that ask it, when its shards are to have an order: they must wait for it.
//!
//! # Caveats
//!
//! In some runs the keyspace goes on under other protocols and comes back (`operator`). What is looked at there is what clients see, and
//! that all comes to rest: those that watch every step know one protocol a shard.
//!
//! In these runs copies stay where they are: no folder of theirs is lost or put back, and nobody leaves. That what was on a lost node is made
//! again on another one is for the tests of `placement` and of real nodes.

use kv::Protocol;
use placement::map::{DEFAULT, Map};

use crate::options::Options;
use crate::random::Random;
use crate::settings::Settings;

/// What members may weigh, the first of more of them again.
const WEIGHTS: [&[u32]; 6] = [&[1], &[1], &[1, 2, 1], &[3, 1, 1], &[2, 1], &[1, 1, 2]];

/// Of 100 runs that go on under other protocols, in so many one member weighs as much as it takes alone: so it must not be left behind.
const HEAVY_PERCENT: u64 = 80;

/// Of 100 runs so many go on under other protocols, and come back.
const RECASTS_PERCENT: u64 = 35;

/// Leaves out what such a keyspace does not offer.
pub(crate) fn tame(options: &Options, settings: &mut Settings) {
    // Members stay, and nobody is given what changes.
    (settings.operates, settings.watchers, settings.unordered) = (false, 0, true);
    settings.grace_micros = node::GRACE_MICROS;
    let mut random = Random::new(options.seed.rotate_left(23) ^ 0x7265_6361);
    let can_go = options.protocol == Protocol::Quorum && options.nodes > 1;
    settings.recasts = can_go && random.percent(RECASTS_PERCENT);
    if settings.recasts {
        // What runs out is told by versions, which those that look at one protocol alone know.
        settings.mortal_percent = 0;
    }
}

/// Draws what members weigh.
pub(crate) fn weigh(options: &Options, recasts: bool, map: &mut Map) {
    if options.protocol != Protocol::Quorum {
        return;
    }
    let mut random = Random::new(options.seed.rotate_left(29) ^ 0x7765_6967);
    let is_heavy = recasts && random.percent(HEAVY_PERCENT);
    for row in map.shards.values_mut().filter(|row| row.keyspace == DEFAULT) {
        let heavy = [&[row.members.len() as u32][..], &vec![1; row.members.len() - 1]].concat();
        let weights = if is_heavy { &heavy[..] } else { random.pick(&WEIGHTS) }.iter().cycle();
        row.members.iter_mut().zip(weights).for_each(|(member, weight)| member.weight = *weight);
    }
}
