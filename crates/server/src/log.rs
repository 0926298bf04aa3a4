//! The log's thread: it gives the owner of the log all that queued while it was busy, which is one write and one sync, and carries
//! out what follows. What that is, [`node::log`] decides.
//!
//! While little happens, a driver's own thread does it ([`Requests::append_here`]): a sync costs less than waking another thread
//! and being woken by it, and nothing else waits for the driver meanwhile. Whoever does it holds the keeper, so appends keep
//! their order: the thread takes what is queued only when it holds the keeper, and a driver appends only when nothing is
//! queued. What follows comes into the inboxes of all cores while the keeper is held, whoever appended.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use node::identity::come_back;
use node::log::{Owner, Report, Request, Settings};
use replication::Instant;
use wal::{Disk, FileDisk, Log, Nowhere, OpenError, Position, Record};

use crate::Failure;
use crate::inbox::{Inboxes, Message, thread};
use crate::time::now;

/// Asks for what the log is to do.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// From the start until it has finished or failed.
    keeper: Mutex<Option<Keeper>>,
}

/// What wakes the log's thread.
#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    /// The disk has finished something in the background, or the owner wants its turn at another time.
    is_woken: bool,
}

impl Requests {
    /// Asks the thread; never waits.
    pub fn ask(&self, request: Request) {
        self.0.queue().requests.push(request);
        self.0.wake.notify_one();
    }

    /// Appends and syncs in this thread if the log has nothing else to do, else asks its thread. Either way what follows comes
    /// into the inboxes, in the order in which it happened.
    pub fn append_here(&self, request: Request, inboxes: &Inboxes) -> Result<(), Failure> {
        let mut keeper = match self.0.keeper.try_lock() {
            Ok(keeper) => keeper,
            Err(TryLockError::WouldBlock) => {
                self.ask(request);
                return Ok(());
            }
            Err(TryLockError::Poisoned(_)) => panic!("{PANICKED}"),
        };
        let is_idle = self.0.queue().requests.is_empty();
        let Some(keeper) = keeper.as_mut().filter(|_| is_idle) else {
            self.ask(request);
            return Ok(());
        };
        keeper.owner.take(request);
        keeper.turn(inboxes)?;
        if keeper.owner.due() != keeper.awaited {
            self.0.disk_woke();
        }
        Ok(())
    }
}

const PANICKED: &str = "a panic of the log ends the process";

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of the queue panics")
    }

    fn disk_woke(&self) {
        self.queue().is_woken = true;
        self.wake.notify_one();
    }

    /// The thread: until the owner has finished.
    fn run(&self, inboxes: &Inboxes) -> Result<(), Failure> {
        loop {
            let patience = {
                let mut held = self.keeper.lock().expect(PANICKED);
                let keeper = held.as_mut().expect("it is there until this thread ends");
                let Queue { requests, .. } = std::mem::take(&mut *self.queue());
                requests.into_iter().for_each(|request| keeper.owner.take(request));
                keeper.turn(inboxes)?;
                if keeper.owner.is_finished() {
                    *held = None;
                    return Ok(());
                }
                keeper.patience()
            };
            let queue = self.queue();
            if queue.requests.is_empty() && !queue.is_woken {
                // Whichever it is, time or a request: the next turn sees.
                drop(self.wake.wait_timeout(queue, patience).expect("no holder of the queue panics"));
            }
        }
    }
}

/// An open log.
pub(crate) struct OpenLog {
    log: Log,
    disk: Box<dyn Disk + Send>,
    requests: Requests,
}

/// Opens the log of a node in a folder, or one that is kept nowhere; `visit` gets its records in order.
pub(crate) fn open(
    folder: Option<&Path>,
    log_id: u64,
    name: &str,
    visit: &mut dyn FnMut(Record) -> Result<(), Failure>,
) -> Result<OpenLog, Failure> {
    let requests = Requests(Arc::default());
    let cannot = |why: String| {
        let place = folder.map_or("memory".into(), |folder| folder.display().to_string());
        Failure::Refused(format!(
            "cannot open the log in {place}: {why}. If the other nodes are well, move this node's data folder away, {}",
            come_back(name)
        ))
    };
    let mut disk = disk(folder, &requests).map_err(|error| cannot(error.to_string()))?;
    let mut bad = Ok(());
    let mut each = |_: Position, record: Record| {
        if bad.is_ok() {
            bad = visit(record);
        }
    };
    let opened = Log::open(&mut *disk, wal::Config::new(log_id), &mut each);
    let (log, recovered) = opened.map_err(|error| match error {
        OpenError::Disk { error: ref why, .. } if why.may_pass() => Failure::Failed(error.to_string()),
        error => cannot(error.to_string()),
    })?;
    bad?;
    if let Some(cut) = recovered.cut {
        tracing::warn!(?cut, "cut a torn write off the end of the log: it was not acknowledged");
    }
    Ok(OpenLog { log, disk, requests })
}

fn disk(folder: Option<&Path>, requests: &Requests) -> io::Result<Box<dyn Disk + Send>> {
    let Some(folder) = folder else { return Ok(Box::new(Nowhere::new())) };
    let shared = requests.0.clone();
    Ok(Box::new(FileDisk::open(folder, Box::new(move || shared.disk_woke()))?))
}

impl OpenLog {
    /// Where to send requests.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Starts the thread, which ends with [`Message::LogEnded`] when its owner has [finished](Request::Finish). `begins` is
    /// called before the first word that something is durable.
    pub fn start(self, inboxes: &Inboxes, begins: Begins, settings: Settings) {
        let OpenLog { log, disk, requests: Requests(shared) } = self;
        let owner = Owner::new(log, settings, inboxes.count(), now().instant);
        let keeper = Keeper { owner, disk, begins: Some(begins), awaited: None };
        *shared.keeper.lock().expect(PANICKED) = Some(keeper);
        let to = inboxes.clone();
        let run = move || {
            let ended = shared.run(&to);
            to.first().push(ended.map_or_else(Message::Fatal, |()| Message::LogEnded));
        };
        thread(inboxes.first(), "log", run);
    }
}

/// Notes in the data folder that there is a log from now on.
pub(crate) type Begins = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// The owner of the log, and what its turns need.
struct Keeper {
    owner: Owner,
    disk: Box<dyn Disk + Send>,
    /// Until it is called.
    begins: Option<Begins>,
    /// When the thread gives it a turn by itself.
    awaited: Option<Instant>,
}

impl Keeper {
    /// A turn. What drivers are given comes into their inboxes while this is held, so nothing overtakes what happened before.
    fn turn(&mut self, inboxes: &Inboxes) -> Result<(), Failure> {
        let report = self.owner.turn(&mut *self.disk, now().instant);
        let report = report.map_err(|fatal| Failure::Failed(fatal.to_string()))?;
        if let Some(begins) = self.begins.take_if(|_| report.begun) {
            begins().map_err(|error| Failure::Failed(error.to_string()))?;
        }
        self.note(&report);
        (0..inboxes.count()).for_each(|core| inboxes.of(core).extend(report.inputs(core)));
        Ok(())
    }

    /// How long the thread may sleep.
    fn patience(&mut self) -> Duration {
        self.awaited = self.owner.due();
        self.awaited.map_or(Duration::MAX, |due| Duration::from_micros(due.since(now().instant)))
    }

    fn note(&self, report: &Report) {
        match report.full {
            Some(true) => {
                let why = self.owner.refusal();
                tracing::error!(%why, "writes are refused until that has passed; reads go on");
            }
            Some(false) => tracing::info!("the disk has space again: writes go on"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use bytes::Bytes;
    use node::Input;
    use node::cores::Deal;

    use crate::inbox::Inbox;

    fn inboxes(cores: usize) -> Inboxes {
        Inboxes::new(Deal::new(cores, 1))
    }

    /// Waits for a message that is looked for.
    async fn until(inbox: &Inbox, is: impl Fn(&Message) -> bool) {
        let come = async {
            let mut messages = Vec::new();
            loop {
                inbox.take(&mut messages, 0);
                if messages.drain(..).any(|message| is(&message)) {
                    return;
                }
                inbox.wait().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), come).await.expect("it comes");
    }

    #[tokio::test]
    async fn log_that_finishes_has_written_what_was_queued_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(Some(folder.path()), 1, "n1", &mut |_| Ok(())).unwrap();
        let (requests, inboxes) = (log.requests(), inboxes(1));
        let inbox = inboxes.first();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let begins = move || {
            begins.store(true, Ordering::SeqCst);
            Ok(())
        };
        log.start(&inboxes, Box::new(begins), Settings::default());
        // More than the first segment holds: the rest waits for one to be made.
        let body = Bytes::from(vec![7; 6 << 20]);
        for ticket in 1..=5 {
            let records = vec![Record { stream: 1, kind: 1, body: body.clone() }];
            requests.ask(Request::Append { core: 0, ticket, records, checkpoint: false });
        }
        requests.ask(Request::Finish);
        until(inbox, |message| matches!(message, Message::LogEnded)).await;
        assert!(begun.load(Ordering::SeqCst));
        let mut found = 0;
        let count = &mut |_| {
            found += 1;
            Ok(())
        };
        open(Some(folder.path()), 1, "n1", count).unwrap();
        assert_eq!(found, 5);
    }

    fn append(ticket: u64) -> Request {
        let records = vec![Record { stream: 1, kind: 1, body: Bytes::from_static(b"record") }];
        Request::Append { core: 0, ticket, records, checkpoint: false }
    }

    /// What has become durable.
    fn tickets(inbox: &Inbox) -> Vec<u64> {
        let mut messages = Vec::new();
        inbox.take(&mut messages, 0);
        let ticket = |message| match message {
            Message::Input(Input::Durable { ticket }) => Some(ticket),
            _ => None,
        };
        messages.into_iter().filter_map(ticket).collect()
    }

    #[tokio::test]
    async fn append_here_keeps_the_order_of_appends_and_of_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(Some(folder.path()), 1, "n1", &mut |_| Ok(())).unwrap();
        let (requests, inboxes) = (log.requests(), inboxes(1));
        let inbox = inboxes.first();
        log.start(&inboxes, Box::new(|| Ok(())), Settings::default());
        let mut durable = Vec::new();
        for ticket in 1..=400 {
            // Some go to the thread, which may be busy with them when the next one comes.
            match ticket % 3 {
                0 => requests.ask(append(ticket)),
                _ => requests.append_here(append(ticket), &inboxes).unwrap(),
            }
            durable.extend(tickets(inbox));
        }
        while durable.last() != Some(&400) {
            inbox.wait().await;
            durable.extend(tickets(inbox));
        }
        assert!(durable.is_sorted(), "what is durable rises: {durable:?}");
        requests.ask(Request::Finish);
        until(inbox, |message| matches!(message, Message::LogEnded)).await;
        requests.append_here(append(401), &inboxes).unwrap();
        let mut found = 0;
        let count = &mut |_| {
            found += 1;
            Ok(())
        };
        open(Some(folder.path()), 1, "n1", count).unwrap();
        assert_eq!(found, 400);
    }

    #[tokio::test]
    async fn appends_of_two_threads_are_each_durable_to_their_core_in_their_order() {
        const APPENDS: u64 = 300;
        let folder = tempfile::tempdir().unwrap();
        let log = open(Some(folder.path()), 1, "n1", &mut |_| Ok(())).unwrap();
        let (requests, inboxes) = (log.requests(), inboxes(2));
        log.start(&inboxes, Box::new(|| Ok(())), Settings::default());
        let append = |core: usize| {
            let (requests, inboxes) = (&requests, &inboxes);
            move || {
                for ticket in 1..=APPENDS {
                    let records = vec![Record { stream: 1, kind: 1, body: Bytes::from_static(b"record") }];
                    let request = Request::Append { core, ticket, records, checkpoint: false };
                    match ticket % 3 {
                        0 => requests.ask(request),
                        _ => requests.append_here(request, inboxes).unwrap(),
                    }
                }
            }
        };
        std::thread::scope(|scope| (0..2).for_each(|core| drop(scope.spawn(append(core)))));
        for core in 0..2 {
            let mut durable = Vec::new();
            durable.extend(tickets(inboxes.of(core)));
            while durable.last() != Some(&APPENDS) {
                inboxes.of(core).wait().await;
                durable.extend(tickets(inboxes.of(core)));
            }
            assert!(durable.is_sorted(), "what is durable rises: {durable:?}");
        }
        requests.ask(Request::Finish);
        until(inboxes.first(), |message| matches!(message, Message::LogEnded)).await;
        let mut found = 0;
        let count = &mut |_| {
            found += 1;
            Ok(())
        };
        open(Some(folder.path()), 1, "n1", count).unwrap();
        assert_eq!(found, 2 * APPENDS);
    }

    #[tokio::test]
    async fn checkpoint_that_is_asked_for_reaches_the_driver() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(Some(folder.path()), 1, "n1", &mut |_| Ok(())).unwrap();
        let (requests, inboxes) = (log.requests(), inboxes(1));
        let inbox = inboxes.first();
        log.start(&inboxes, Box::new(|| Ok(())), Settings::default());
        requests.ask(Request::CheckpointNow);
        until(inbox, |message| matches!(message, Message::Input(Input::Checkpoint))).await;
        requests.ask(Request::Finish);
        until(inbox, |message| matches!(message, Message::LogEnded)).await;
    }
}
