//! When a node that ended is started again.

use std::time::Duration;

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start it again after so long.
    After(Duration),
    /// Leave it: it said that starting it again would not help.
    Never,
}

/// The ends of one node so far, as far as they matter.
#[derive(Debug)]
pub struct Restarts {
    delay: Duration,
}

/// A crash may be chance: the first delay is hardly noticed.
const DELAY_MIN: Duration = Duration::from_millis(200);
/// A node that keeps crashing must not keep the machine busy, and be back soon once its trouble is over.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// A node that lived so long had overcome what ended it before.
const LIVED_WELL: Duration = Duration::from_secs(10);
/// The exit code by which a node says that starting it again would not help.
const CODE_NEVER: i32 = 2;

impl Default for Restarts {
    fn default() -> Restarts {
        Restarts { delay: DELAY_MIN }
    }
}

impl Restarts {
    /// Takes note of an end, and tells what follows.
    pub fn ended(&mut self, lived: Duration, end: End) -> Next {
        if end == End::Code(CODE_NEVER) {
            return Next::Never;
        }
        if lived >= LIVED_WELL {
            self.delay = DELAY_MIN;
        }
        let delay = self.delay;
        self.delay = (delay * 2).min(DELAY_MAX);
        Next::After(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn restart_delay_doubles_up_to_its_limit() {
        let mut restarts = Restarts::default();
        let mut delays = Vec::new();
        for _ in 0..7 {
            let Next::After(delay) = restarts.ended(SHORT, End::Signal(9)) else {
                panic!("a signal is no reason")
            };
            delays.push(delay.as_millis());
        }
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn restart_delay_is_short_again_after_a_good_life() {
        let mut restarts = Restarts::default();
        restarts.ended(SHORT, End::Code(101));
        restarts.ended(SHORT, End::Code(101));
        assert_eq!(restarts.ended(LIVED_WELL, End::Code(0)), Next::After(DELAY_MIN));
    }

    #[test]
    fn restart_is_left_when_the_node_says_so() {
        assert_eq!(Restarts::default().ended(SHORT, End::Code(2)), Next::Never);
        assert_eq!(Restarts::default().ended(SHORT, End::Signal(2)), Next::After(DELAY_MIN));
    }
}
