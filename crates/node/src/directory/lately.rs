//! What was done lately, so that an ask which comes once more is answered once more, and not done once more.
//!
//! A desk sends an ask again that is not answered, and on a slow way the second one may come when the first was answered long ago.
//! By then who asked may have gone on: a keyspace that was dropped is there again, and must not be dropped for what was asked before.

use std::collections::VecDeque;

use kv::admin::Answer;
use replication::Instant;

use super::Asker;

/// So long an ask may come once more: longer than one that is open is sent again, and is on its way.
const LATELY_MICROS: u64 = 10_000_000;
/// So many are remembered: as many as may wait for a leader at once.
const LATELY_MAX: usize = 64;

/// Who was answered what, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Lately(VecDeque<(Instant, Asker, Answer)>);

impl Lately {
    /// What an asker asked was done, and this is the answer.
    pub fn done(&mut self, now: Instant, asker: Asker, answer: Answer) {
        if self.0.len() == LATELY_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, asker, answer));
    }

    /// What the asker was answered, if that was lately.
    pub fn answer(&mut self, now: Instant, asker: Asker) -> Option<&Answer> {
        while self.0.pop_front_if(|(at, ..)| now.since(*at) >= LATELY_MICROS).is_some() {}
        self.0.iter().find(|(_, other, _)| *other == asker).map(|(.., answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use kv::NodeId;

    use super::*;

    #[test]
    fn answers_are_known_for_a_while_to_those_who_were_given_them() {
        let asker = |token| Asker::Node { node: NodeId(3), token };
        let mut lately = Lately::default();
        for token in 0..=LATELY_MAX as u64 {
            lately.done(Instant(token), asker(token), Answer::Done);
        }
        assert_eq!(lately.answer(Instant(99), asker(0)), None, "there is no room for more");
        assert_eq!(lately.answer(Instant(99), asker(1)), Some(&Answer::Done));
        assert_eq!(lately.answer(Instant(99), Asker::Own(1)), None);
        assert_eq!(lately.answer(Instant(1 + LATELY_MICROS), asker(1)), None, "it is long ago");
        assert_eq!(lately.answer(Instant(1 + LATELY_MICROS), asker(2)), Some(&Answer::Done));
    }
}
