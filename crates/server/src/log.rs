//! The log's thread: it gives the owner of the log all that queued while it was busy, which is one write and one sync, and carries
//! out what follows. What that is, [`node::log`] decides.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use node::log::{Owner, Report, Request, Settings};
use wal::{Disk, FileDisk, Log, Nowhere, OpenError, Position, Record};

use crate::Failure;
use crate::inbox::{Inbox, Message, thread};
use crate::time::now;

/// What wakes the log's thread.
enum Wake {
    /// Its owner is asked something.
    Ask(Request),
    /// The disk has finished something in the background.
    Disk,
}

/// Asks the log's thread.
#[derive(Clone)]
pub(crate) struct Requests(Sender<Wake>);

impl Requests {
    /// Asks; never waits.
    pub fn ask(&self, request: Request) {
        // When the thread has ended, its reason is in the inbox.
        let _ = self.0.send(Wake::Ask(request));
    }
}

/// An open log with the requests that it wakes itself with.
pub(crate) struct OpenLog {
    log: Log,
    disk: Box<dyn Disk + Send>,
    requests: Requests,
    receiver: Receiver<Wake>,
}

/// Opens the log in a folder, or one that is kept nowhere; `visit` gets its records in order.
pub(crate) fn open(
    folder: Option<&Path>,
    log_id: u64,
    visit: &mut dyn FnMut(Record) -> Result<(), Failure>,
) -> Result<OpenLog, Failure> {
    let (requests, receiver) = channel();
    let cannot = |why: String| {
        let place = folder.map_or("memory".into(), |folder| folder.display().to_string());
        Failure::Refused(format!(
            "cannot open the log in {place}: {why}. If the other nodes are well, move this node's data folder away and \
             start it with --rejoin: they make it whole"
        ))
    };
    let mut disk = disk(folder, requests.clone()).map_err(|error| cannot(error.to_string()))?;
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
    Ok(OpenLog { log, disk, requests: Requests(requests), receiver })
}

fn disk(folder: Option<&Path>, requests: Sender<Wake>) -> io::Result<Box<dyn Disk + Send>> {
    let Some(folder) = folder else { return Ok(Box::new(Nowhere::new())) };
    let wake = move || {
        // The thread may have ended already.
        let _ = requests.send(Wake::Disk);
    };
    Ok(Box::new(FileDisk::open(folder, Box::new(wake))?))
}

impl OpenLog {
    /// Where to send requests.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Starts the thread, which ends with [`Message::LogEnded`] when its owner has [finished](Request::Finish). `begins` is
    /// called before the first word that something is durable.
    pub fn start(self, inbox: Arc<Inbox>, begins: Begins, settings: Settings) {
        let OpenLog { log, disk, requests, receiver } = self;
        let owner = Owner::new(log, settings, now().instant);
        let keeper = Keeper { owner, disk, inbox: inbox.clone(), begins: Some(begins), _requests: requests };
        let to = inbox.clone();
        let run = move || {
            let ended = keeper.run(&receiver);
            to.push(ended.map_or_else(Message::Fatal, |()| Message::LogEnded));
        };
        thread(&inbox, "log", run);
    }
}

/// Notes in the data folder that there is a log from now on.
pub(crate) type Begins = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// What the thread has.
struct Keeper {
    owner: Owner,
    disk: Box<dyn Disk + Send>,
    inbox: Arc<Inbox>,
    /// Until it is called.
    begins: Option<Begins>,
    /// So that the other end of what it receives is never gone.
    _requests: Requests,
}

impl Keeper {
    fn run(mut self, receiver: &Receiver<Wake>) -> Result<(), Failure> {
        loop {
            let report = self.owner.turn(&mut *self.disk, now().instant);
            self.carry_out(report.map_err(|fatal| Failure::Failed(fatal.to_string()))?)?;
            if self.owner.is_finished() {
                return Ok(());
            }
            // It holds a sender itself, so an error is the end of its patience.
            if let Ok(wake) = receiver.recv_timeout(self.patience()) {
                self.take(wake);
            }
            receiver.try_iter().for_each(|wake| self.take(wake));
        }
    }

    /// How long it may sleep.
    fn patience(&self) -> Duration {
        self.owner.due().map_or(Duration::MAX, |due| Duration::from_micros(due.since(now().instant)))
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Ask(request) => self.owner.take(request),
            Wake::Disk => {}
        }
    }

    fn carry_out(&mut self, report: Report) -> Result<(), Failure> {
        if let Some(begins) = self.begins.take_if(|_| report.begun) {
            begins().map_err(|error| Failure::Failed(error.to_string()))?;
        }
        match report.full {
            Some(true) => {
                let why = self.owner.refusal();
                tracing::error!(%why, "writes are refused until that has passed; reads go on");
            }
            Some(false) => tracing::info!("the disk has space again: writes go on"),
            None => {}
        }
        report.inputs().for_each(|input| self.inbox.input(input));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use node::Input;

    use super::*;

    /// Waits for a message that is looked for.
    async fn until(inbox: &Inbox, is: impl Fn(&Message) -> bool) {
        let come = async {
            let mut messages = Vec::new();
            loop {
                inbox.take(&mut messages);
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
        let log = open(Some(folder.path()), 1, &mut |_| Ok(())).unwrap();
        let (requests, inbox) = (log.requests(), Arc::new(Inbox::default()));
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let begins = move || {
            begins.store(true, Ordering::SeqCst);
            Ok(())
        };
        log.start(inbox.clone(), Box::new(begins), Settings::default());
        // More than the first segment holds: the rest waits for one to be made.
        let body = Bytes::from(vec![7; 6 << 20]);
        for ticket in 1..=5 {
            let records = vec![Record { stream: 1, kind: 1, body: body.clone() }];
            requests.ask(Request::Append { ticket, records, checkpoint: false });
        }
        requests.ask(Request::Finish);
        until(&inbox, |message| matches!(message, Message::LogEnded)).await;
        assert!(begun.load(Ordering::SeqCst));
        let mut found = 0;
        let count = &mut |_| {
            found += 1;
            Ok(())
        };
        open(Some(folder.path()), 1, count).unwrap();
        assert_eq!(found, 5);
    }

    #[tokio::test]
    async fn checkpoint_that_is_asked_for_reaches_the_driver() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(Some(folder.path()), 1, &mut |_| Ok(())).unwrap();
        let (requests, inbox) = (log.requests(), Arc::new(Inbox::default()));
        log.start(inbox.clone(), Box::new(|| Ok(())), Settings::default());
        requests.ask(Request::CheckpointNow);
        until(&inbox, |message| matches!(message, Message::Input(Input::Checkpoint))).await;
        requests.ask(Request::Finish);
        until(&inbox, |message| matches!(message, Message::LogEnded)).await;
    }
}
