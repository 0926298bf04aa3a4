//! The log's thread: one write and one sync for all that queued while it was busy.
//!
//! The disk counts as full when the log cannot grow, and as soon as a checkpoint did not find room: a log that went on
//! growing would take the very space that the next checkpoint needs to shorten it. Until one succeeds, writes are refused.
//! A file that cannot be opened for want of file descriptors counts like that as well.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node::Input;
use wal::{DiskError, FileDisk, Log, OpenError, Position, Record};

use crate::Failure;
use crate::inbox::{Inbox, Message, thread};

/// When the disk is full, this much is worth a checkpoint: it gives back a segment at least.
const CHECKPOINT_EARLY_BYTES: u64 = 32 << 20;
/// A full disk is tried again so often.
const RETRY: Duration = Duration::from_millis(200);
/// A checkpoint that did not find room is tried again so often: each try writes what room there is.
const RETRY_CHECKPOINT: Duration = Duration::from_secs(2);
/// While a checkpoint is under way the log is tried again this seldom: the two would take the room from each other.
const RETRY_BESIDE_CHECKPOINT: Duration = Duration::from_secs(5);

/// What the log's thread is asked.
pub(crate) enum Request {
    /// Append, then report [`Input::Durable`] with this ticket.
    Append { ticket: u64, records: Vec<Record>, checkpoint: bool },
    /// What lies before the last checkpoint may go.
    Release,
    /// The last checkpoint failed.
    CheckpointFailed,
    /// The table holds much that is not flushed: make a checkpoint however short the log is.
    CheckpointNow,
    /// The disk has finished something in the background.
    Wake,
    /// Write what is queued and end.
    Stop,
}

/// An open log with the requests that it wakes itself with.
pub(crate) struct OpenLog {
    log: Log,
    disk: FileDisk,
    requests: Sender<Request>,
    receiver: Receiver<Request>,
}

/// Opens the log of a data folder; `visit` gets its records in order.
pub(crate) fn open(
    folder: &Path,
    log_id: u64,
    visit: &mut dyn FnMut(Record) -> Result<(), Failure>,
) -> Result<OpenLog, Failure> {
    let (requests, receiver) = channel();
    let waker = requests.clone();
    let wake = Box::new(move || {
        // The thread may have ended already.
        let _ = waker.send(Request::Wake);
    });
    let cannot = |why: String| {
        Failure::Refused(format!(
            "cannot open the log in {}: {why}. If the other nodes are well, move this node's data folder away and \
             start it with --rejoin: they make it whole",
            folder.display()
        ))
    };
    let mut disk = FileDisk::open(folder, wake).map_err(|error| cannot(error.to_string()))?;
    let mut bad = Ok(());
    let mut each = |_: Position, record: Record| {
        if bad.is_ok() {
            bad = visit(record);
        }
    };
    let opened = Log::open(&mut disk, wal::Config::new(log_id), &mut each);
    let (log, recovered) = opened.map_err(|error| match error {
        OpenError::Disk { error: ref why, .. } if why.may_pass() => Failure::Failed(error.to_string()),
        error => cannot(error.to_string()),
    })?;
    bad?;
    if let Some(cut) = recovered.cut {
        tracing::warn!(?cut, "cut a torn write off the end of the log: it was not acknowledged");
    }
    Ok(OpenLog { log, disk, requests, receiver })
}

impl OpenLog {
    /// Where to send requests.
    pub fn requests(&self) -> Sender<Request> {
        self.requests.clone()
    }

    /// Starts the thread. `begins` is called before the first word that something is durable; a checkpoint is due when the log
    /// has grown by `checkpoint_bytes`.
    pub fn start(self, inbox: Arc<Inbox>, begins: Begins, checkpoint_bytes: u64) -> JoinHandle<()> {
        let mut writer = Writer {
            // A long log of an earlier life gets its checkpoint now: it must not grow from start to start.
            checkpoint_at: checkpoint_bytes,
            checkpoint_bytes,
            log: self.log,
            disk: self.disk,
            inbox,
            begins: Some(begins),
            tickets: Vec::new(),
            mark: None,
            checkpointing: false,
            wanted: false,
            no_room: false,
            attempted: Instant::now(),
            retried: Instant::now(),
            full: false,
        };
        let (receiver, inbox) = (self.receiver, writer.inbox.clone());
        let run = move || {
            if let Err(failure) = writer.run(&receiver) {
                writer.inbox.push(Message::Fatal(failure));
            }
        };
        thread(&inbox, "log", run)
    }
}

/// Notes in the data folder that there is a log from now on.
pub(crate) type Begins = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

struct Writer {
    log: Log,
    disk: FileDisk,
    inbox: Arc<Inbox>,
    /// Until it is called.
    begins: Option<Begins>,
    /// The log's own ticket and the driver's, of appends that are not durable.
    tickets: Vec<(u64, u64)>,
    /// Where the running checkpoint began.
    mark: Option<Position>,
    checkpointing: bool,
    /// One was asked for since the last one began.
    wanted: bool,
    checkpoint_at: u64,
    checkpoint_bytes: u64,
    /// The last checkpoint did not find room.
    no_room: bool,
    /// When the last checkpoint began.
    attempted: Instant,
    /// When the log was last asked to try again.
    retried: Instant,
    /// What the driver was told last.
    full: bool,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Request>) -> Result<(), Failure> {
        loop {
            let mut stop = match receiver.recv_timeout(if self.full { RETRY } else { Duration::MAX }) {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            self.retry();
            for request in receiver.try_iter() {
                stop |= self.take(request);
            }
            self.log.turn(&mut self.disk).map_err(|fatal| Failure::Failed(fatal.to_string()))?;
            self.report()?;
            if stop {
                return Ok(());
            }
        }
    }

    /// True when it is to stop.
    fn take(&mut self, request: Request) -> bool {
        match request {
            Request::Append { ticket, records, checkpoint } => {
                if checkpoint {
                    self.mark = Some(self.log.head());
                }
                let own = self.log.append(records);
                self.tickets.push((own, ticket));
            }
            Request::Release => {
                if let Some(mark) = self.mark.take() {
                    self.log.release(mark);
                }
                self.checkpointing = false;
                self.no_room = false;
                self.checkpoint_at = self.log.bytes_live() + self.checkpoint_bytes;
            }
            Request::CheckpointFailed => {
                self.mark = None;
                self.checkpointing = false;
                self.no_room = true;
            }
            Request::CheckpointNow => self.wanted = true,
            Request::Wake => {}
            Request::Stop => return true,
        }
        false
    }

    fn retry(&mut self) {
        let pause = if self.checkpointing { RETRY_BESIDE_CHECKPOINT } else { RETRY };
        if self.log.is_full() && self.retried.elapsed() >= pause {
            self.retried = Instant::now();
            self.log.retry();
        }
    }

    fn report(&mut self) -> Result<(), Failure> {
        let durable = self.log.durable();
        let done = self.tickets.iter().take_while(|(own, _)| *own <= durable).count();
        if let Some((_, ticket)) = self.tickets.drain(..done).next_back() {
            if let Some(begins) = self.begins.take_if(|_| self.log.bytes_live() > 0) {
                begins().map_err(|error| Failure::Failed(error.to_string()))?;
            }
            self.inbox.input(Input::Durable { ticket });
        }
        if (self.log.is_full() || self.no_room) != self.full {
            self.full = !self.full;
            if self.full {
                let why = self.log.refusal().unwrap_or(&DiskError::Full);
                tracing::error!(%why, "writes are refused until that has passed; reads go on");
            } else {
                tracing::info!("the disk has space again: writes go on");
            }
            self.inbox.input(Input::DiskFull(self.full));
        }
        if !self.checkpointing && self.is_checkpoint_due() {
            self.attempted = Instant::now();
            (self.checkpointing, self.wanted) = (true, false);
            self.inbox.input(Input::Checkpoint);
        }
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        let long = self.wanted || self.log.bytes_live() >= self.checkpoint_at;
        // On a full disk an early one may make the room that is missing.
        let early = self.no_room || self.log.is_full() && self.log.bytes_live() >= CHECKPOINT_EARLY_BYTES;
        (long && !self.no_room) || (early && self.attempted.elapsed() >= RETRY_CHECKPOINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for the next checkpoint that the log asks for.
    async fn checkpoint(inbox: &Inbox) {
        let asked = async {
            let mut messages = Vec::new();
            loop {
                inbox.take(&mut messages);
                if messages.drain(..).any(|message| matches!(message, Message::Input(Input::Checkpoint))) {
                    return;
                }
                inbox.wait().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asked).await.expect("the log asks for a checkpoint");
    }

    #[tokio::test]
    async fn checkpoint_asked_for_beside_one_under_way_comes_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), 1, &mut |_| Ok(())).unwrap();
        let (requests, inbox) = (log.requests(), Arc::new(Inbox::default()));
        let thread = log.start(inbox.clone(), Box::new(|| Ok(())), 64 << 20);
        requests.send(Request::CheckpointNow).unwrap();
        checkpoint(&inbox).await;
        requests.send(Request::CheckpointNow).unwrap();
        requests.send(Request::Release).unwrap();
        checkpoint(&inbox).await;
        requests.send(Request::Stop).unwrap();
        thread.join().unwrap();
    }
}
