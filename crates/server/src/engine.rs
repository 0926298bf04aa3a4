//! Where jobs on a core's table run: in its driver's thread when they are short, on a thread of their own when they may take long.
//!
//! The engine `memory` never takes long. `disk` may: a large entry, a range, or any job while a flush or a compaction holds
//! the tree. A few small jobs with nothing of that going on are run at once, which saves two changes of threads; so are reads
//! of what is in memory, whatever goes on. Keys that replicas of other nodes ask for are reads like those of clients.
//! Flushes of all cores run on one thread more and compactions on another ([`Beside`]), beside the jobs: no flush waits for a
//! compaction.
//!
//! What is not flushed is in memory, twice at most: what is being written, and what is being flushed, of all cores together. When
//! both are full the engine's threads wait for the flush, and with them whoever waits for an answer; the drivers go on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kv::Op;
use kv::merged::Look;
use node::log::Request;
use node::{Done, Executor, Job, Ran};
use storage::{EngineError, Kind};

use crate::Failure;
use crate::inbox::{Inboxes, Message, thread};
use crate::journal::Seldom;
use crate::log::Requests;

/// The tables are flushed when they hold this much together that is not: enough that a flush is one long write, and most rows
/// that are written again and again are flushed once; little enough beside the memory of any machine, at twice as much.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;
/// So much is flushed after a while, however little is written, and whatever a dropped keyspace leaves: space of what was removed
/// comes back, and a start is short.
const UNFLUSHED_BYTES_AGED: u64 = 1 << 20;
/// That while.
const UNFLUSHED_AGE: Duration = Duration::from_secs(60);
/// Entries of more bytes than this all together do not run in the driver's thread: some 160 small writes, half a millisecond.
const HERE_BYTES_MAX: usize = 32 << 10;
/// How long the table waits before it tries again.
const PAUSE: Duration = Duration::from_millis(20);
/// More reads, or keys that other replicas ask for, than this do not run in the driver's thread.
const HERE_READS_MAX: usize = 64;

/// Takes the jobs of one core.
pub(crate) struct Engine {
    runner: Arc<Mutex<Runner>>,
    busy: Arc<AtomicUsize>,
    /// The engine's thread, and how many batches it has whose results did not come back.
    thread: Option<Sender<Vec<Job>>>,
    outstanding: usize,
}

impl Engine {
    /// For the executor of a core; completions that come later go to its inbox.
    pub fn new(core: usize, executor: Executor, kind: Kind, inboxes: &Inboxes, beside: Beside) -> Engine {
        let busy = beside.busy.clone();
        let runner = Runner {
            core,
            cores: inboxes.count(),
            executor,
            beside,
            unflushed: 0,
            on_disk: kind.flushes_what_is_new(),
            flushed_at: Instant::now(),
            tidying: Tidying::default(),
            memory_bytes_max: UNFLUSHED_BYTES_MAX,
        };
        let runner = Arc::new(Mutex::new(runner));
        let thread = (kind == Kind::Disk).then(|| start(runner.clone(), inboxes, core));
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
            _ => self.runner().run(jobs, false).map_err(fatal),
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
        jobs.iter().all(|job| match job {
            Job::Read { shard, op, .. } => table.is_in_memory(*shard, op),
            Job::Look { shard, what, .. } => table.looks_in_memory(*shard, what),
            _ => false,
        })
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
            Job::Look { what: Look::Keys(keys), .. } => reads += keys.len(),
            _ => return false,
        }
    }
    bytes <= HERE_BYTES_MAX && reads <= HERE_READS_MAX
}

/// What the engines of all cores share: the threads beside them, and what is not flushed.
#[derive(Clone)]
pub(crate) struct Beside {
    flushes: Sender<Background>,
    compactions: Sender<Background>,
    /// Flushes and compactions that are under way or wait.
    busy: Arc<AtomicUsize>,
    /// Bytes of all tables that are not flushed.
    unflushed: Arc<AtomicU64>,
    flushing: Arc<Flushing>,
    log: Requests,
}

impl Beside {
    /// Starts the threads. Completions go to the core whose table it was.
    pub fn start(inboxes: &Inboxes, log: Requests) -> Beside {
        let busy = Arc::new(AtomicUsize::new(0));
        let thread = |name| background(name, inboxes.clone(), busy.clone());
        let (flushes, compactions) = (thread("flush"), thread("compaction"));
        Beside { flushes, compactions, busy, unflushed: Arc::default(), flushing: Arc::default(), log }
    }

    fn run(&self, thread: &Sender<Background>, core: usize, work: Work) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        // The thread ends only after a failure, which the first inbox has then.
        let _ = thread.send(Background { core, work });
    }
}

/// Runs the jobs of one core, one after the other.
pub(crate) struct Runner {
    core: usize,
    /// How many there are.
    cores: usize,
    executor: Executor,
    beside: Beside,
    /// What of [`Beside::unflushed`] is this table's.
    unflushed: u64,
    /// A flush writes only what is new, so that it is worth it after a while, and what is flushed needs no memory.
    on_disk: bool,
    flushed_at: Instant,
    tidying: Tidying,
    /// Of one of the two memories.
    memory_bytes_max: u64,
}

/// Flushes that are under way or wait.
#[derive(Default)]
struct Flushing {
    flushes: Mutex<Flushes>,
    ended: Condvar,
}

#[derive(Default)]
struct Flushes {
    count: usize,
    /// A checkpoint was asked for, and the flushes of these cores did not come yet.
    awaited: BTreeSet<usize>,
}

impl Flushing {
    /// A core's flush begins.
    fn begin(self: &Arc<Flushing>, core: usize) -> Begun {
        let mut flushes = self.flushes();
        flushes.count += 1;
        flushes.awaited.remove(&core);
        Begun(self.clone())
    }

    /// Whether a checkpoint is to be asked for, with so many cores: none is on its way. It is from then on.
    fn asks(&self, cores: usize) -> bool {
        let mut flushes = self.flushes();
        let asks = flushes.count == 0 && flushes.awaited.is_empty();
        if asks {
            flushes.awaited = (0..cores).collect();
        }
        asks
    }

    /// Until none is under way, whether they went well or not.
    fn wait(&self) {
        let waited = self.ended.wait_while(self.flushes(), |flushes| flushes.count > 0);
        drop(waited.expect("no holder of the count panics"));
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().expect("no holder of the count panics")
    }
}

/// A flush, until it has run or is never going to.
struct Begun(Arc<Flushing>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.flushes().count -= 1;
        self.0.ended.notify_all();
    }
}

/// At most one compaction is under way or waits; after one that failed there is a pause. The first core sees to it.
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

type Work = Box<dyn FnOnce() -> Result<Option<Done>, EngineError> + Send>;

/// Long work for a core.
struct Background {
    core: usize,
    work: Work,
}

impl Runner {
    /// Runs jobs. `may_wait`: for memory, when there is too much that is not flushed.
    fn run(&mut self, jobs: Vec<Job>, may_wait: bool) -> Result<Vec<Done>, EngineError> {
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            if may_wait && matches!(job, Job::Apply { .. } | Job::InstallChunk { .. } | Job::Cut { .. }) {
                self.wait_for_room();
            }
            match self.executor.run(job)? {
                Ran::Done(done) => all.push(done),
                Ran::Later(flush) => {
                    self.flushed_at = Instant::now();
                    let begun = self.beside.flushing.begin(self.core);
                    let flush = move || {
                        let flushed = flush().map(Some);
                        drop(begun);
                        flushed
                    };
                    self.beside.run(&self.beside.flushes, self.core, Box::new(flush));
                }
            }
        }
        self.maintain();
        Ok(all)
    }

    /// Waits for the flushes that are under way when what they write and what came since are as much as may be.
    fn wait_for_room(&mut self) {
        if self.on_disk && self.bytes_unflushed() >= 2 * self.memory_bytes_max {
            self.beside.flushing.wait();
        }
    }

    /// Of all tables, this one as it is now.
    fn bytes_unflushed(&mut self) -> u64 {
        let own = self.executor.table().bytes_unflushed();
        let more = own.wrapping_sub(std::mem::replace(&mut self.unflushed, own));
        self.beside.unflushed.fetch_add(more, Ordering::AcqRel).wrapping_add(more)
    }

    fn maintain(&mut self) {
        if let Some(free) = self.executor.table_mut().let_go() {
            let free = move || free().map(|()| None);
            self.beside.run(&self.beside.flushes, self.core, Box::new(free));
        }
        if self.core == 0
            && self.tidying.may_begin()
            && let Some(step) = self.executor.table().maintain()
        {
            self.tidying.under_way.store(true, Ordering::Release);
            let (under_way, failed) = (self.tidying.under_way.clone(), self.tidying.failed.clone());
            let step = move || {
                let tidied = step();
                failed.store(tidied.is_err(), Ordering::Release);
                under_way.store(false, Ordering::Release);
                tidied.map(|()| None)
            };
            self.beside.run(&self.beside.compactions, self.core, Box::new(step));
        }
        let unflushed = self.bytes_unflushed();
        let is_worth_it = unflushed >= UNFLUSHED_BYTES_AGED || self.executor.table().has_gone();
        let is_old = || is_worth_it && self.flushed_at.elapsed() >= UNFLUSHED_AGE;
        let is_much = unflushed >= self.memory_bytes_max || self.on_disk && is_old();
        if is_much && self.beside.flushing.asks(self.cores) {
            self.beside.log.ask(Request::CheckpointNow);
        }
    }
}

fn start(runner: Arc<Mutex<Runner>>, inboxes: &Inboxes, core: usize) -> Sender<Vec<Job>> {
    let (sender, receiver): (Sender<Vec<Job>>, Receiver<Vec<Job>>) = channel();
    let (inbox, first) = (inboxes.of(core).clone(), inboxes.first().clone());
    let run = move || {
        while let Ok(jobs) = receiver.recv() {
            let ran = runner.lock().expect("a panic of the engine ends the process").run(jobs, true);
            match ran {
                Ok(done) => inbox.push(Message::Done(done)),
                Err(error) => return first.push(Message::Fatal(fatal(error))),
            }
        }
    };
    thread(inboxes.first(), "engine", run);
    sender
}

fn background(name: &'static str, inboxes: Inboxes, busy: Arc<AtomicUsize>) -> Sender<Background> {
    let (sender, receiver): (Sender<Background>, Receiver<Background>) = channel();
    let first = inboxes.first().clone();
    let run = move || {
        while let Ok(Background { core, work }) = receiver.recv() {
            let ended = work();
            busy.fetch_sub(1, Ordering::AcqRel);
            match ended {
                Ok(Some(done)) => inboxes.of(core).input(node::Input::Done(done)),
                Ok(None) => {}
                Err(error) if error.may_pass() => tracing::warn!(%error, "a compaction waits"),
                Err(error) => return inboxes.first().push(Message::Fatal(fatal(error))),
            }
        }
    };
    thread(&first, name, run);
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
