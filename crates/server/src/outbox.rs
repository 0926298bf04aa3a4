//! Answers on their way to the threads that asked.
//!
//! An answer wakes the task that waits for it. Where that task is of another thread's runtime, each wake-up locks that runtime's
//! queue and may cost a system call. So the answers of a turn go to each thread in one piece, with one wake-up, and the thread
//! gives them to its tasks itself.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use kv::{Error, Reply};
use tokio::sync::Notify;

use crate::inbox::Sink;

/// An answer, and who takes it.
type Answer = (Sink, Result<Reply, Error>);

/// What waits for one thread.
#[derive(Default)]
pub(crate) struct Outbox {
    answers: Mutex<Vec<Answer>>,
    notify: Notify,
}

impl Outbox {
    /// Gives out what comes, on the thread that runs this. Never ready.
    pub async fn give_out(&self) {
        loop {
            self.notify.notified().await;
            let answers = std::mem::take(&mut *self.answers.lock().expect("no holder of the answers panics"));
            answers.into_iter().for_each(|(sink, result)| sink(result));
        }
    }

    fn add(&self, more: &mut Vec<Answer>) {
        self.answers.lock().expect("no holder of the answers panics").append(more);
        self.notify.notify_one();
    }
}

thread_local! {
    static HOME: Cell<usize> = const { Cell::new(0) };
}

/// This thread is this core's from now on. Threads that do not say so are the first core's.
pub(crate) fn settle(core: usize) {
    HOME.set(core);
}

/// The core whose thread this is.
pub(crate) fn here() -> usize {
    HOME.get()
}

/// The outboxes of all cores, and what a turn of one of them has for each.
pub(crate) struct Outboxes {
    own: usize,
    all: Arc<[Arc<Outbox>]>,
    turn: Vec<Vec<Answer>>,
}

/// An outbox for each of so many cores.
pub(crate) fn outboxes(cores: usize) -> Arc<[Arc<Outbox>]> {
    (0..cores).map(|_| Arc::default()).collect()
}

impl Outboxes {
    /// Those of all cores, for the driver of `own`.
    pub fn new(own: usize, all: Arc<[Arc<Outbox>]>) -> Outboxes {
        Outboxes { own, turn: all.iter().map(|_| Vec::new()).collect(), all }
    }

    /// Answers: at once on the driver's own thread, else with [`Outboxes::send`].
    pub fn answer(&mut self, core: usize, sink: Sink, result: Result<Reply, Error>) {
        match core == self.own {
            true => sink(result),
            false => self.turn[core].push((sink, result)),
        }
    }

    /// Sends what the turn has for other threads.
    pub fn send(&mut self) {
        for (answers, outbox) in self.turn.iter_mut().zip(&*self.all) {
            if !answers.is_empty() {
                outbox.add(answers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_of_a_turn_come_to_their_core_in_order() {
        let all = outboxes(3);
        let mut outboxes = Outboxes::new(0, all.clone());
        let given = Arc::new(Mutex::new(Vec::new()));
        let sink = |name: u8| -> Sink {
            let given = given.clone();
            Box::new(move |_| given.lock().unwrap().push(name))
        };
        let answered = || Err(Error::Unavailable(String::new()));
        for (core, name) in [(1, 1), (0, 0), (2, 2), (1, 3)] {
            outboxes.answer(core, sink(name), answered());
        }
        assert_eq!(*given.lock().unwrap(), [0], "the driver's own are answered at once");
        outboxes.send();
        let first = all[1].clone();
        tokio::select! {
            biased;
            () = first.give_out() => {}
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(*given.lock().unwrap(), [0, 1, 3]);
    }
}
