//! Where jobs on a core's table run: at once, as with the engine in memory, or a little later, as on the engine's thread. Long
//! work runs beside them, in order, later still.

use std::collections::VecDeque;

use bytes::Bytes;
use node::{Done, Executor, Job, Ran};
use storage::{Asked, EngineError};

use super::engine::Passed;

/// Long work on the background thread.
pub(crate) type Background = Box<dyn FnOnce() -> Result<Done, EngineError> + Send>;

/// The thread of a core's table.
pub(crate) struct Worker {
    /// Jobs wait for the engine's thread.
    there: bool,
    passed: Passed,
    waiting: VecDeque<Job>,
}

/// A job that is done.
pub(crate) struct RanJob {
    pub done: Done,
    /// The entry that it applied.
    pub entry: Option<Bytes>,
    /// What it asked of the rows.
    pub asked: Asked,
}

/// What came of running jobs.
#[derive(Default)]
pub(crate) struct Worked {
    pub ran: Vec<RanJob>,
    /// Long work that was begun.
    pub begun: Vec<Background>,
}

impl Worker {
    pub fn new(there: bool, passed: Passed) -> Worker {
        Worker { there, passed, waiting: VecDeque::new() }
    }

    pub fn is_there(&self) -> bool {
        self.there
    }

    /// Leaves jobs to the engine's thread; true when it had nothing to do, and has now.
    pub fn leave(&mut self, jobs: Vec<Job>) -> bool {
        let was_idle = self.waiting.is_empty();
        self.waiting.extend(jobs);
        was_idle && !self.waiting.is_empty()
    }

    /// The engine's thread runs all that waits.
    pub fn run_waiting(&mut self, executor: &mut Executor) -> Result<Worked, EngineError> {
        let jobs = std::mem::take(&mut self.waiting);
        self.run(jobs, executor)
    }

    pub fn run(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        executor: &mut Executor,
    ) -> Result<Worked, EngineError> {
        let mut worked = Worked::default();
        for job in jobs {
            let entry = if let Job::Apply { entry, .. } = &job { Some(entry.clone()) } else { None };
            self.take_asked(executor);
            self.passed.of_entry(entry.is_some());
            match executor.run(job)? {
                Ran::Done(done) => worked.ran.push(RanJob { done, entry, asked: self.take_asked(executor) }),
                Ran::Later(later) => worked.begun.push(later),
            }
        }
        if let Some(free) = executor.table_mut().let_go() {
            free()?;
        }
        Ok(worked)
    }

    /// What was asked since the last time; removed rows that are passed over again and again count as read.
    fn take_asked(&self, executor: &Executor) -> Asked {
        let asked = executor.table().take_asked();
        Asked { read: asked.read + self.passed.take(), ..asked }
    }
}
