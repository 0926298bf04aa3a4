//! The clocks of a machine: each runs at its own rate; the wall clock is off and may jump.

use node::Now;
use replication::Instant;

use crate::random::Random;

/// True time at the start of every run, in microseconds since 1970: the first second of 2026.
pub(crate) const EPOCH_MICROS: u64 = 1_767_225_600_000_000;

/// At the start wall clocks are off by at most this.
const WALL_OFF_MICROS: u64 = 5_000_000;

/// The clocks of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// True time of the last change of rate, and what the machine's time since it was first switched on was then.
    since: u64,
    elapsed: u64,
    /// Machine time at the last boot.
    booted: u64,
    /// How much faster than true time it runs, in parts per million.
    rate_ppm: i64,
    wall_offset: i64,
}

impl Clock {
    /// Of a machine that has been up for a while.
    pub fn new(up_micros: u64, rate_ppm: i64, wall_offset: i64) -> Clock {
        Clock {
            since: 0,
            elapsed: up_micros,
            booted: 0,
            rate_ppm,
            wall_offset: wall_offset - up_micros as i64,
        }
    }

    /// Of a machine that is switched on already, for longer or shorter, and whose wall clock is off.
    pub fn draw(random: &mut Random) -> Clock {
        let up = random.between(1_000_000, 1_000_000_000);
        let off = random.between(0, 2 * WALL_OFF_MICROS) as i64 - WALL_OFF_MICROS as i64;
        Clock::new(up, 0, off)
    }

    /// What it shows at a true time.
    pub fn read(&self, now: u64) -> Now {
        let elapsed = self.elapsed(now);
        Now {
            instant: Instant(elapsed - self.booted),
            wall: (EPOCH_MICROS + elapsed).saturating_add_signed(self.wall_offset),
        }
    }

    /// The machine boots: what counts since the boot begins anew.
    pub fn boot(&mut self, now: u64) {
        self.booted = self.elapsed(now);
    }

    /// From now on it runs at another rate.
    pub fn set_rate(&mut self, now: u64, rate_ppm: i64) {
        self.elapsed = self.elapsed(now);
        self.since = now;
        self.rate_ppm = rate_ppm;
    }

    /// The wall clock jumps.
    pub fn jump(&mut self, micros: i64) {
        self.wall_offset += micros;
    }

    /// The wall clock is set right.
    pub fn set_right(&mut self, now: u64) {
        let wall = self.read(now).wall as i64;
        self.wall_offset += (EPOCH_MICROS + now) as i64 - wall;
    }

    fn elapsed(&self, now: u64) -> u64 {
        let passed = now - self.since;
        let drift = passed as i64 * self.rate_ppm / 1_000_000;
        (self.elapsed + passed).saturating_add_signed(drift)
    }
}
