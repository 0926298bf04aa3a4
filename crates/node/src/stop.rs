//! The steps of a stop: a node that is asked to end hands over what it leads, flushes its table, and writes what its log has
//! queued.
//!
//! ```text
//!   begin ──▶ hand over ── handed over, no open part ──▶ Flush ── checkpoint ended ──▶ Write ── log written ──▶ End
//!             at most 2 s                                at most 10 s                  at most 10 s
//! ```
//!
//! Each step ends when it is done or when its time is over, whichever comes first. What a step did not finish costs time, never
//! data: an election in place of a hand-over, a replay in place of a flush; what the log has not written was not acknowledged.

use replication::Instant;

use crate::cores::Together;

/// How long leaderships may take to be handed over: one election.
const HAND_OVER_MICROS: u64 = 2_000_000;
/// How long the last flush may take; without it the next start replays the log.
const FLUSH_MICROS: u64 = 10_000_000;
/// How long the log may take to write what is queued.
const WRITE_MICROS: u64 = 10_000_000;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give the driver of each core [`crate::Input::Checkpoint`], so that the next start has nothing to replay.
    Flush,
    /// Give the owner of the log [`crate::log::Request::Finish`].
    Write,
    /// End the process.
    End,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// [`crate::Driver::has_handed_over`], of all cores.
    pub handed_over: bool,
    /// [`crate::Driver::open_parts`], of all cores together.
    pub open_parts: usize,
    /// [`crate::log::Owner::is_finished`].
    pub log_finished: bool,
}

/// How far a stop is.
#[derive(Clone, Debug)]
pub struct Stop {
    cores: usize,
    doing: Doing,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    HandOver,
    /// Until the checkpoint has ended at all cores.
    Flush(Together),
    Write,
    Nothing,
}

impl Stop {
    /// A node of so many cores is asked to stop: the driver of each is given [`crate::Input::Stop`].
    pub fn begin(now: Instant, cores: usize) -> Stop {
        Stop { cores, doing: Doing::HandOver, until: now.plus(HAND_OVER_MICROS) }
    }

    /// A core's part of a checkpoint ended, well or badly ([`crate::Work::Release`], [`crate::Work::CheckpointFailed`]).
    pub fn checkpoint_ended(&mut self, core: usize) {
        if let Doing::Flush(ended) = &mut self.doing {
            ended.say(core);
        }
    }

    /// Moves it on after a turn of the driver: each step is said once, in order.
    pub fn turn(&mut self, now: Instant, standing: Standing) -> Option<Step> {
        let is_done = match &self.doing {
            Doing::HandOver => standing.handed_over && standing.open_parts == 0,
            Doing::Flush(ended) => ended.is_complete(),
            Doing::Write => standing.log_finished,
            Doing::Nothing => return None,
        };
        if !is_done && now < self.until {
            return None;
        }
        let (doing, micros, step) = match self.doing {
            Doing::HandOver => (Doing::Flush(Together::new(self.cores)), FLUSH_MICROS, Step::Flush),
            Doing::Flush(_) => (Doing::Write, WRITE_MICROS, Step::Write),
            Doing::Write | Doing::Nothing => (Doing::Nothing, 0, Step::End),
        };
        (self.doing, self.until) = (doing, now.plus(micros));
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Standing = Standing { handed_over: false, open_parts: 3, log_finished: false };

    fn at(micros: u64) -> Instant {
        Instant(1_000_000 + micros)
    }

    #[test]
    fn stop_of_a_node_that_is_done_at_once_waits_for_nothing() {
        let mut stop = Stop::begin(at(0), 2);
        let handed_over = Standing { handed_over: true, open_parts: 0, ..BUSY };
        assert_eq!(stop.turn(at(0), BUSY), None);
        assert_eq!(stop.turn(at(0), Standing { open_parts: 1, ..handed_over }), None, "a part is open");
        assert_eq!(stop.turn(at(0), handed_over), Some(Step::Flush));
        assert_eq!(stop.turn(at(0), handed_over), None, "the table is being flushed");
        stop.checkpoint_ended(1);
        assert_eq!(stop.turn(at(0), handed_over), None, "at one core of two");
        stop.checkpoint_ended(0);
        assert_eq!(stop.turn(at(0), handed_over), Some(Step::Write));
        assert_eq!(stop.turn(at(0), handed_over), None, "the log has something to write");
        assert_eq!(stop.turn(at(0), Standing { log_finished: true, ..handed_over }), Some(Step::End));
        assert_eq!(stop.turn(at(99_000_000), handed_over), None);
    }

    #[test]
    fn stop_of_a_node_that_is_never_done_takes_each_step_when_the_time_of_the_one_before_is_over() {
        let mut stop = Stop::begin(at(0), 2);
        let mut steps = Vec::new();
        for second in 0..60 {
            steps.extend(stop.turn(at(second * 1_000_000), BUSY).map(|step| (second, step)));
        }
        assert_eq!(steps, [(2, Step::Flush), (12, Step::Write), (22, Step::End)]);
    }

    #[test]
    fn checkpoint_that_ends_before_the_flush_is_not_taken_for_it() {
        let mut stop = Stop::begin(at(0), 2);
        (0..2).for_each(|core| stop.checkpoint_ended(core));
        let handed_over = Standing { handed_over: true, open_parts: 0, log_finished: true };
        assert_eq!(stop.turn(at(0), handed_over), Some(Step::Flush));
        assert_eq!(stop.turn(at(0), handed_over), None);
    }
}
