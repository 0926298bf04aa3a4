//! Where jobs on the table run: in the driver's thread when they are short, on a thread of their own when they may take long.
//!
//! The engine `memory` never takes long. `disk` may: a large entry, a range, or any job while a flush or a compaction holds
//! the tree. A few small jobs with nothing of that going on are run at once, which saves two changes of threads; so are reads
//! of what is in memory, whatever goes on.
//! Flushes run on a third thread and compactions on a fourth, beside the jobs: no flush waits for a compaction.
//!
//! What is not flushed is in memory, twice at most: what is being written, and what is being flushed. When both are full the
//! engine's thread waits for the flush, and with it whoever waits for an answer; the driver goes on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kv::Op;
use node::log::Request;
use node::{Done, Executor, Job, Ran};
use storage::{EngineError, Kind};

use crate::Failure;
use crate::inbox::{Inbox, Message, thread};
use crate::journal::Seldom;
use crate::log::Requests;

/// The table is flushed when it holds this much that is not: enough that a flush is one long write, and most rows that are
/// written again and again are flushed once; little enough beside the memory of any machine, at twice as much.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;
/// So much is flushed after a while, however little is written: space of what was removed comes back, and a start is short.
const UNFLUSHED_BYTES_AGED: u64 = 1 << 20;
/// That while.
const UNFLUSHED_AGE: Duration = Duration::from_secs(60);
/// Entries of more bytes than this all together do not run in the driver's thread: some 160 small writes, half a millisecond.
const HERE_BYTES_MAX: usize = 32 << 10;
/// How long the table waits before it tries again.
const PAUSE: Duration = Duration::from_millis(20);
/// More reads than this do not run in the driver's thread.
const HERE_READS_MAX: usize = 64;

/// Takes jobs.
pub(crate) struct Engine {
    runner: Arc<Mutex<Runner>>,
    busy: Arc<AtomicUsize>,
    /// The engine's thread, and how many batches it has whose results did not come back.
    thread: Option<Sender<Vec<Job>>>,
    outstanding: usize,
}

impl Engine {
    /// For this executor; completions that come later go to `inbox`.
    pub fn new(executor: Executor, kind: Kind, inbox: Arc<Inbox>, log: Requests) -> Engine {
        let busy = Arc::new(AtomicUsize::new(0));
        let start_background = |name| background(name, inbox.clone(), busy.clone());
        let runner = Runner {
            executor,
            flushes: start_background("flush"),
            compactions: start_background("compaction"),
            busy: busy.clone(),
            log,
            asked: false,
            on_disk: kind == Kind::Disk,
            flushed_at: Instant::now(),
            flushing: Arc::default(),
            tidying: Tidying::default(),
            memory_bytes_max: UNFLUSHED_BYTES_MAX,
        };
        let runner = Arc::new(Mutex::new(runner));
        let thread = (kind == Kind::Disk).then(|| start(runner.clone(), inbox));
        Engine { runner, busy, thread, outstanding: 0 }
    }

    /// Runs jobs or has them run, in order; what is done at once is returned.
    pub fn run(&mut self, jobs: Vec<Job>) -> Result<Vec<Done>, Failure> {
        match &self.thread {
            Some(thread) if !self.may_run_here(&jobs) => {
                self.outstanding += 1;
                // When the thread has ended, its reason is in the inbox.
                let _ = thread.send(jobs);
                Ok(Vec::new())
            }
            _ => self.runner().run(jobs).map_err(fatal),
        }
    }

    /// Tidies up while there are no jobs.
    pub fn rest(&mut self) {
        if self.outstanding == 0 && self.busy.load(Ordering::Acquire) == 0 {
            self.runner().maintain();
        }
    }

    /// The results of one batch came back from the thread.
    pub fn finished(&mut self) {
        self.outstanding -= 1;
    }

    fn may_run_here(&self, jobs: &[Job]) -> bool {
        let is_quiet = || self.busy.load(Ordering::Acquire) == 0;
        self.outstanding == 0 && are_short(jobs) && (is_quiet() || self.are_in_memory(jobs))
    }

    /// Whether all are reads that need not wait for what holds the tree.
    fn are_in_memory(&self, jobs: &[Job]) -> bool {
        let runner = self.runner();
        let table = runner.executor.table();
        let is_in_memory =
            |job: &Job| matches!(job, Job::Read { shard, op, .. } if table.is_in_memory(*shard, op));
        jobs.iter().all(is_in_memory)
    }

    fn runner(&self) -> MutexGuard<'_, Runner> {
        self.runner.lock().expect("a panic of the engine ends the process")
    }
}

fn are_short(jobs: &[Job]) -> bool {
    let (mut bytes, mut reads) = (0, 0);
    for job in jobs {
        match job {
            Job::Apply { entry, .. } => bytes += entry.len(),
            Job::Read { op: Op::Get { .. }, .. } => reads += 1,
            _ => return false,
        }
    }
    bytes <= HERE_BYTES_MAX && reads <= HERE_READS_MAX
}

/// Runs jobs one after the other.
pub(crate) struct Runner {
    executor: Executor,
    flushes: Sender<Background>,
    compactions: Sender<Background>,
    /// Flushes and compactions that are under way or wait.
    busy: Arc<AtomicUsize>,
    log: Requests,
    /// A checkpoint was asked for, and its flush did not come yet.
    asked: bool,
    /// A flush writes only what is new, so that it is worth it after a while, and what is flushed needs no memory.
    on_disk: bool,
    flushed_at: Instant,
    flushing: Arc<Flushing>,
    tidying: Tidying,
    /// Of one of the two memories.
    memory_bytes_max: u64,
}

/// Flushes that are under way or wait.
#[derive(Default)]
struct Flushing {
    count: Mutex<usize>,
    ended: Condvar,
}

impl Flushing {
    fn begin(self: &Arc<Flushing>) -> Begun {
        *self.count() += 1;
        Begun(self.clone())
    }

    fn is_under_way(&self) -> bool {
        *self.count() > 0
    }

    /// Until none is, whether they went well or not.
    fn wait(&self) {
        let waited = self.ended.wait_while(self.count(), |count| *count > 0);
        drop(waited.expect("no holder of the count panics"));
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().expect("no holder of the count panics")
    }
}

/// A flush, until it has run or is never going to.
struct Begun(Arc<Flushing>);

impl Drop for Begun {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.ended.notify_all();
    }
}

/// At most one compaction is under way or waits; after one that failed there is a pause.
#[derive(Default)]
struct Tidying {
    under_way: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    pause_until: Option<Instant>,
}

/// The pause after a compaction that a full disk, or want of file descriptors, did not let through.
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
            if matches!(job, Job::Apply { .. } | Job::InstallChunk { .. }) {
                self.wait_for_room();
            }
            match self.executor.run(job)? {
                Ran::Done(done) => all.push(done),
                Ran::Later(flush) => {
                    (self.asked, self.flushed_at) = (false, Instant::now());
                    let begun = self.flushing.begin();
                    self.beside(
                        &self.flushes,
                        Box::new(move || {
                            let flushed = flush().map(Some);
                            drop(begun);
                            flushed
                        }),
                    );
                }
            }
        }
        self.maintain();
        Ok(all)
    }

    /// Waits for the flush that is under way when what it writes and what came since are as much as may be. Never in the
    /// driver's thread: no write runs there while a flush is under way.
    fn wait_for_room(&self) {
        if self.on_disk && self.executor.table().bytes_unflushed() >= 2 * self.memory_bytes_max {
            self.flushing.wait();
        }
    }

    fn beside(&self, thread: &Sender<Background>, work: Background) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        // The thread ends only after a failure, which the inbox has then.
        let _ = thread.send(work);
    }

    fn maintain(&mut self) {
        if let Some(free) = self.executor.table_mut().let_go() {
            self.beside(&self.flushes, Box::new(move || free().map(|()| None)));
        }
        if self.tidying.may_begin()
            && let Some(step) = self.executor.table().maintain()
        {
            self.tidying.under_way.store(true, Ordering::Release);
            let (under_way, failed) = (self.tidying.under_way.clone(), self.tidying.failed.clone());
            self.beside(
                &self.compactions,
                Box::new(move || {
                    let tidied = step();
                    failed.store(tidied.is_err(), Ordering::Release);
                    under_way.store(false, Ordering::Release);
                    tidied.map(|()| None)
                }),
            );
        }
        let unflushed = self.executor.table().bytes_unflushed();
        let is_old = || unflushed >= UNFLUSHED_BYTES_AGED && self.flushed_at.elapsed() >= UNFLUSHED_AGE;
        let is_due = !self.asked && !self.flushing.is_under_way();
        if is_due && (unflushed >= self.memory_bytes_max || self.on_disk && is_old()) {
            self.asked = true;
            self.log.ask(Request::CheckpointNow);
        }
    }
}

fn start(runner: Arc<Mutex<Runner>>, inbox: Arc<Inbox>) -> Sender<Vec<Job>> {
    let (sender, receiver): (Sender<Vec<Job>>, Receiver<Vec<Job>>) = channel();
    let owner = inbox.clone();
    let run = move || {
        while let Ok(jobs) = receiver.recv() {
            let ran = runner.lock().expect("a panic of the engine ends the process").run(jobs);
            match ran {
                Ok(done) => inbox.push(Message::Done(done)),
                Err(error) => return inbox.push(Message::Fatal(fatal(error))),
            }
        }
    };
    thread(&owner, "engine", run);
    sender
}

fn background(name: &'static str, inbox: Arc<Inbox>, busy: Arc<AtomicUsize>) -> Sender<Background> {
    let (sender, receiver): (Sender<Background>, Receiver<Background>) = channel();
    let owner = inbox.clone();
    let run = move || {
        while let Ok(work) = receiver.recv() {
            let ended = work();
            busy.fetch_sub(1, Ordering::AcqRel);
            match ended {
                Ok(Some(done)) => inbox.input(node::Input::Done(done)),
                Ok(None) => {}
                Err(error) if error.may_pass() => tracing::warn!(%error, "a compaction waits"),
                Err(error) => return inbox.push(Message::Fatal(fatal(error))),
            }
        }
    };
    thread(&owner, name, run);
    sender
}

/// Waits a little before the table reads again what it could not read for want of file descriptors or memory.
pub(crate) fn pause() {
    static TOLD: Mutex<Option<Seldom>> = Mutex::new(None);
    let mut told = TOLD.lock().expect("no holder of the time panics");
    if let Some(times) = told.get_or_insert_default().happened() {
        tracing::warn!(
            times,
            "the table waits for file descriptors or memory: what else runs on this machine?"
        );
    }
    drop(told);
    std::thread::sleep(PAUSE);
}

fn fatal(error: EngineError) -> Failure {
    Failure::Failed(format!(
        "the engine failed: {error}; the node ends, and recovers from its log at the next start"
    ))
}

#[cfg(test)]
mod tests;
