//! Where jobs on the table run: in the driver's thread when the engine is in memory, on a thread of their own when it
//! touches a disk. Flushes and compactions run on another thread, beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use node::{Done, Executor, Input, Job, Ran};
use storage::{EngineError, Kind};

use crate::Failure;
use crate::inbox::{Inbox, Message};
use crate::log::Request;

/// The table is flushed when it holds this much that is not: it bounds the memory of a node.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;

/// Takes jobs.
pub(crate) enum Engine {
    /// Runs them at once.
    Here(Box<Runner>),
    /// Sends them to the engine's thread.
    There(Sender<Vec<Job>>),
}

impl Engine {
    /// For this executor; completions that come later go to `inbox`.
    pub fn new(executor: Executor, kind: Kind, inbox: Arc<Inbox>, log: Sender<Request>) -> Engine {
        let runner = Runner {
            executor,
            background: background(inbox.clone()),
            inbox,
            log,
            asked: false,
            tidying: Tidying::default(),
        };
        match kind {
            Kind::Memory => Engine::Here(Box::new(runner)),
            Kind::Disk => Engine::There(start(runner)),
        }
    }

    /// Runs jobs or has them run; what is done at once is returned.
    pub fn run(&mut self, jobs: Vec<Job>) -> Result<Vec<Done>, Failure> {
        match self {
            Engine::Here(runner) => runner.run(jobs).map_err(fatal),
            Engine::There(sender) => {
                // When the thread has ended, its reason is in the inbox.
                let _ = sender.send(jobs);
                Ok(Vec::new())
            }
        }
    }
}

/// Runs jobs one after the other.
pub(crate) struct Runner {
    executor: Executor,
    background: Sender<Background>,
    inbox: Arc<Inbox>,
    log: Sender<Request>,
    asked: bool,
    tidying: Tidying,
}

/// At most one compaction is under way or waits; after one that failed there is a pause.
#[derive(Default)]
struct Tidying {
    under_way: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    pause_until: Option<Instant>,
}

/// The pause after a compaction that a full disk did not let through.
const TIDYING_PAUSE: Duration = Duration::from_secs(5);

impl Tidying {
    fn may_begin(&mut self) -> bool {
        if self.under_way.load(Ordering::Acquire) {
            return false;
        }
        if self.failed.swap(false, Ordering::AcqRel) {
            self.pause_until = Some(Instant::now() + TIDYING_PAUSE);
        }
        self.pause_until.is_none_or(|until| Instant::now() >= until)
    }
}

type Background = Box<dyn FnOnce() -> Result<Option<Done>, EngineError> + Send>;

impl Runner {
    fn run(&mut self, jobs: Vec<Job>) -> Result<Vec<Done>, EngineError> {
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.executor.run(job)? {
                Ran::Done(done) => all.push(done),
                Ran::Later(later) => {
                    self.asked = false;
                    // The background thread ends only after a failure, which the inbox has then.
                    let _ = self.background.send(Box::new(move || later().map(Some)));
                }
            }
        }
        self.maintain();
        Ok(all)
    }

    fn maintain(&mut self) {
        if self.tidying.may_begin()
            && let Some(step) = self.executor.table().maintain()
        {
            self.tidying.under_way.store(true, Ordering::Release);
            let (under_way, failed) = (self.tidying.under_way.clone(), self.tidying.failed.clone());
            let _ = self.background.send(Box::new(move || {
                let tidied = step();
                failed.store(tidied.is_err(), Ordering::Release);
                under_way.store(false, Ordering::Release);
                tidied.map(|()| None)
            }));
        }
        if !self.asked && self.executor.table().bytes_unflushed() >= UNFLUSHED_BYTES_MAX {
            self.asked = true;
            let _ = self.log.send(Request::CheckpointNow);
        }
    }
}

fn start(mut runner: Runner) -> Sender<Vec<Job>> {
    let (sender, receiver): (Sender<Vec<Job>>, Receiver<Vec<Job>>) = channel();
    let run = move || {
        while let Ok(mut jobs) = receiver.recv() {
            jobs.extend(receiver.try_iter().flatten());
            match runner.run(jobs) {
                Ok(done) => runner.inbox.extend(done.into_iter().map(Input::Done)),
                Err(error) => return runner.inbox.push(Message::Fatal(fatal(error))),
            }
        }
    };
    thread::Builder::new().name("engine".into()).spawn(run).expect("a thread can be started");
    sender
}

fn background(inbox: Arc<Inbox>) -> Sender<Background> {
    let (sender, receiver): (Sender<Background>, Receiver<Background>) = channel();
    let run = move || {
        while let Ok(work) = receiver.recv() {
            match work() {
                Ok(Some(done)) => inbox.input(Input::Done(done)),
                Ok(None) => {}
                Err(error) if error.is_full() => tracing::warn!(%error, "a compaction waits for space"),
                Err(error) => return inbox.push(Message::Fatal(fatal(error))),
            }
        }
    };
    thread::Builder::new().name("background".into()).spawn(run).expect("a thread can be started");
    sender
}

fn fatal(error: EngineError) -> Failure {
    Failure::Failed(format!(
        "the engine failed: {error}; the node ends, and recovers from its log at the next start"
    ))
}
