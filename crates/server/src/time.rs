//! The clocks, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use node::Now;
use replication::Instant;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME (it counts on while the machine sleeps, so a lease cannot outlive a nap) and the wall clock.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let micros = boot.tv_sec as u64 * 1_000_000 + boot.tv_nsec as u64 / 1_000;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    Now { instant: Instant(micros), wall }
}
