//! For whom a write waits, where its keyspace says it: under [`Protocol::Primary`](crate::Protocol::Primary).

use std::fmt;

use super::{Settings, Wish, duration};

/// The longest time after which members that nobody waits for get what is written, in microseconds: an hour.
const INTERVAL_MICROS_MAX: u64 = 3_600_000_000;
/// The shortest: a millisecond.
const INTERVAL_MICROS_MIN: u64 = 1_000;

/// Who has a write before it is acknowledged, in a shard under [`Protocol::Primary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// All that are in sync, which are all that can be reached.
    All {
        /// With fewer in sync nothing is acknowledged.
        min_copies: u16,
    },
    /// The primary and so many of the others.
    Some {
        /// How many.
        secondaries: u16,
        /// Those that nobody waits for get what is written so often, in microseconds.
        interval_micros: u64,
    },
}

/// Whom the writes of one shard wait for: what its keyspace says ([`SyncMode`]), or its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// So many may be in sync at most, the primary too, at least 1; `None` = all.
    pub most: Option<u16>,
    /// With fewer in sync nothing is acknowledged.
    pub least: u16,
    /// Those that nobody waits for get what is written so often, in microseconds.
    pub interval_micros: u64,
}

/// How many secondaries have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secondaries {
    /// All that are in sync.
    All,
    /// So many.
    Count(u16),
}

impl SyncMode {
    /// What a keyspace has that says nothing of it.
    pub const USUAL: SyncMode = SyncMode::All { min_copies: 2 };
    const USUAL_INTERVAL_MICROS: u64 = 100_000;

    /// With fewer copies nothing is acknowledged.
    pub fn min_copies(self) -> u16 {
        match self {
            SyncMode::All { min_copies } => min_copies,
            SyncMode::Some { secondaries, .. } => secondaries.saturating_add(1),
        }
    }

    /// So many may be in sync at most; `None` = all.
    pub fn copies(self) -> Option<u16> {
        match self {
            SyncMode::All { .. } => None,
            SyncMode::Some { .. } => Some(self.min_copies()),
        }
    }

    /// The wish for just this.
    pub fn wish(self) -> Wish {
        let usual = Wish::default();
        match self {
            SyncMode::All { min_copies } => {
                Wish { sync: Some(Secondaries::All), min_copies: Some(min_copies), ..usual }
            }
            SyncMode::Some { secondaries, interval_micros } => Wish {
                sync: Some(Secondaries::Count(secondaries)),
                interval_micros: Some(interval_micros),
                ..usual
            },
        }
    }

    /// It, but for what is wished.
    pub(super) fn with(self, wish: &Wish) -> SyncMode {
        let (secondaries, min_copies, interval_micros) = match self {
            SyncMode::All { min_copies } => (Secondaries::All, min_copies, SyncMode::USUAL_INTERVAL_MICROS),
            SyncMode::Some { secondaries, interval_micros } => {
                (Secondaries::Count(secondaries), SyncMode::USUAL.min_copies(), interval_micros)
            }
        };
        match wish.sync.unwrap_or(secondaries) {
            Secondaries::All => SyncMode::All { min_copies: wish.min_copies.unwrap_or(min_copies) },
            Secondaries::Count(secondaries) => SyncMode::Some {
                secondaries,
                interval_micros: wish.interval_micros.unwrap_or(interval_micros),
            },
        }
    }
}

impl Awaited {
    /// So many secondaries, or all that there are while there are fewer; the others get what is written every second.
    pub fn at_most(secondaries: u16) -> Awaited {
        Awaited { most: Some(secondaries.saturating_add(1)), least: 1, interval_micros: 1_000_000 }
    }
}

impl From<SyncMode> for Awaited {
    fn from(sync: SyncMode) -> Awaited {
        let interval_micros = match sync {
            SyncMode::All { .. } => SyncMode::USUAL_INTERVAL_MICROS,
            SyncMode::Some { interval_micros, .. } => interval_micros,
        };
        Awaited { most: sync.copies(), least: sync.min_copies(), interval_micros }
    }
}

impl fmt::Display for SyncMode {
    /// Such as `all,min-copies=2`, or `1,interval=100ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncMode::All { min_copies } => write!(f, "all,min-copies={min_copies}"),
            SyncMode::Some { secondaries, interval_micros } => {
                write!(f, "{secondaries},interval={}", duration(*interval_micros))
            }
        }
    }
}

impl Wish {
    /// What of it makes no sense for a keyspace that is to have these settings.
    pub fn check_sync(&self, settings: &Settings) -> Result<(), String> {
        let Wish { sync, min_copies, interval_micros, .. } = self;
        let Some(mode) = settings.sync else {
            let named = [
                sync.map(|_| "--sync"),
                min_copies.map(|_| "--min-copies"),
                interval_micros.map(|_| "--interval"),
            ];
            return match named.into_iter().flatten().next() {
                Some(name) => Err(format!(
                    "{name} is for keyspaces under primary: under {} who has a write is settled",
                    settings.protocol
                )),
                None => Ok(()),
            };
        };
        let replicas = settings.replicas;
        match mode {
            SyncMode::All { .. } if interval_micros.is_some() => {
                Err("an interval is for those that no write waits for, and with sync all it waits for each: give a number, as in \
                     --sync 1, or no interval"
                    .into())
            }
            SyncMode::Some { secondaries, .. } if min_copies.is_some() => Err(format!(
                "with sync {secondaries} a write waits for so many beside the primary, never fewer: min-copies is for --sync all"
            )),
            SyncMode::All { min_copies } if !(1..=replicas).contains(&min_copies) => {
                Err(format!("min-copies is 1 to {replicas}, as many as there are replicas"))
            }
            SyncMode::Some { secondaries, .. } if secondaries >= replicas => Err(format!(
                "of {replicas} replicas one is the primary: a write can wait for 0 to {} of the others",
                replicas - 1
            )),
            SyncMode::Some { interval_micros, .. }
                if !(INTERVAL_MICROS_MIN..=INTERVAL_MICROS_MAX).contains(&interval_micros) =>
            {
                Err(format!(
                    "an interval is {} to {}",
                    duration(INTERVAL_MICROS_MIN),
                    duration(INTERVAL_MICROS_MAX)
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    fn wish(sync: Option<Secondaries>, min_copies: Option<u16>, interval_micros: Option<u64>) -> Wish {
        Wish { protocol: Some(Protocol::Primary), sync, min_copies, interval_micros, ..Wish::default() }
    }

    #[test]
    fn write_waits_for_all_unless_a_number_is_wished() {
        let sync = |wish: &Wish| Settings::of(wish).sync;
        assert_eq!(sync(&wish(None, None, None)), Some(SyncMode::USUAL));
        assert_eq!(sync(&Wish::default()), None, "raft says itself for whom it waits");
        let one = Settings::of(&wish(Some(Secondaries::Count(1)), None, Some(5_000)));
        assert_eq!(one.sync, Some(SyncMode::Some { secondaries: 1, interval_micros: 5_000 }));
        let two = one.clone().with(&Wish { sync: Some(Secondaries::Count(2)), ..Wish::default() }).sync;
        assert_eq!(
            two,
            Some(SyncMode::Some { secondaries: 2, interval_micros: 5_000 }),
            "what is not named stays"
        );
        let all = one.with(&Wish { sync: Some(Secondaries::All), ..Wish::default() }).sync;
        assert_eq!(all, Some(SyncMode::USUAL));
    }

    #[test]
    fn wish_that_makes_no_sense_is_refused_with_what_does() {
        let refused = |wish: Wish, says: &str| {
            let why = wish.check_sync(&Settings::of(&wish)).expect_err(says);
            assert!(why.contains(says), "{why}");
        };
        let raft = Wish { sync: Some(Secondaries::All), ..Wish::default() };
        refused(raft, "--sync is for keyspaces under primary");
        refused(wish(None, None, Some(5_000)), "give a number, as in --sync 1");
        refused(wish(Some(Secondaries::Count(1)), Some(2), None), "min-copies is for --sync all");
        refused(wish(Some(Secondaries::Count(3)), None, None), "0 to 2 of the others");
        refused(wish(None, Some(4), None), "min-copies is 1 to 3");
        refused(wish(None, Some(0), None), "min-copies is 1 to 3");
        refused(wish(Some(Secondaries::Count(0)), None, Some(1)), "an interval is 1ms to 1h");
        let sound = wish(Some(Secondaries::Count(0)), None, Some(1_000));
        assert_eq!(sound.check_sync(&Settings::of(&sound)), Ok(()));
    }
}
