//! How fast a node sends copies of shards: all of them together, so many bytes a second.
//!
//! Copies share the disks and the network with clients. Each piece takes its place behind those that were given one before, so
//! several copies go on side by side, and none of them twice as fast because it is alone for a moment.

use std::time::{Duration, Instant};

/// What a sleep took too long is made up for, as far as this.
const SLACK: Duration = Duration::from_millis(100);

/// The room for copies.
#[derive(Debug)]
pub(crate) struct Rate {
    /// 0 = as fast as it goes.
    bytes_per_second: u64,
    /// When what was given room so far has been sent; `None` = nothing was.
    free: Option<Instant>,
}

impl Rate {
    /// For so many bytes a second; 0 = as fast as it goes.
    pub fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second, free: None }
    }

    /// Gives room to so many bytes: how long they wait before they are sent.
    pub fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let begins = self.free.map_or(now, |free| free.max(earliest));
        let micros = bytes as u128 * 1_000_000 / u128::from(self.bytes_per_second);
        self.free = Some(begins + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
        begins.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rate_of_several_copies_is_that_of_one() {
        let (mut rate, now) = (Rate::new(1000), Instant::now());
        let waits: Vec<Duration> = (0..4).map(|_| rate.take(500, now)).collect();
        assert_eq!(waits, [Duration::ZERO, SECOND / 2, SECOND, SECOND * 3 / 2]);
        assert_eq!(rate.take(500, now + SECOND), SECOND, "half a second of it is over");
    }

    #[test]
    fn rate_that_was_not_used_is_not_saved_up() {
        let (mut rate, now) = (Rate::new(1000), Instant::now());
        rate.take(1, now);
        let later = now + 60 * SECOND;
        assert_eq!(rate.take(1000, later), Duration::ZERO);
        assert_eq!(rate.take(1, later), SECOND - SLACK);
    }

    #[test]
    fn rate_without_a_limit_lets_nothing_wait() {
        let (mut rate, now) = (Rate::new(0), Instant::now());
        assert!((0..9).all(|_| rate.take(usize::MAX, now) == Duration::ZERO));
    }
}
