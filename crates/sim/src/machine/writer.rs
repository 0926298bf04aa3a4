//! The owner of a node's log, as the server's log thread is: it hands the log what the driver appends, tells what is
//! durable, begins checkpoints and gives old segments away.

use std::collections::VecDeque;

use node::Input;
use wal::{Fatal, Log, MemoryDisk, Position, Record};

/// What the log is asked.
pub(crate) enum Request {
    Append { ticket: u64, records: Vec<Record>, checkpoint: bool },
    Release,
    CheckpointFailed,
}

/// What a turn of the log came to.
#[derive(Default)]
pub(crate) struct Written {
    pub inputs: Vec<Input>,
    /// New work of the disk.
    pub tokens: Vec<u64>,
    /// A full disk is to be tried again after a while.
    pub retry: bool,
}

pub(crate) struct Writer {
    log: Log,
    /// The log's own ticket and the driver's, of appends that are not durable.
    tickets: VecDeque<(u64, u64)>,
    /// Where the running checkpoint began.
    mark: Option<Position>,
    checkpointing: bool,
    checkpoint_at: u64,
    checkpoint_bytes: u64,
    full: bool,
    /// The last token of the disk that was told.
    told: u64,
}

impl Writer {
    pub fn new(log: Log, checkpoint_bytes: u64) -> Writer {
        Writer {
            checkpoint_at: log.bytes_live() + checkpoint_bytes,
            log,
            tickets: VecDeque::new(),
            mark: None,
            checkpointing: false,
            checkpoint_bytes,
            full: false,
            told: 0,
        }
    }

    pub fn take(&mut self, request: Request) {
        match request {
            Request::Append { ticket, records, checkpoint } => {
                if checkpoint {
                    self.mark = Some(self.log.head());
                }
                let own = self.log.append(records);
                self.tickets.push_back((own, ticket));
            }
            Request::Release => {
                if let Some(mark) = self.mark.take() {
                    self.log.release(mark);
                }
                self.checkpointing = false;
                self.checkpoint_at = self.log.bytes_live() + self.checkpoint_bytes;
            }
            Request::CheckpointFailed => {
                self.mark = None;
                self.checkpointing = false;
                self.checkpoint_at = self.log.bytes_live() + self.checkpoint_bytes / 4;
            }
        }
    }

    pub fn retry(&mut self) {
        self.log.retry();
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    pub fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    pub fn turn(&mut self, disk: &mut MemoryDisk) -> Result<Written, Fatal> {
        self.log.turn(disk)?;
        let mut written = Written::default();
        self.report(&mut written);
        let told = self.told;
        written.tokens.extend(disk.pending().iter().map(|(token, _)| *token).filter(|token| *token > told));
        self.told = written.tokens.iter().copied().fold(told, u64::max);
        Ok(written)
    }

    fn report(&mut self, written: &mut Written) {
        let durable = self.log.durable();
        let mut last = None;
        while let Some((_, ticket)) = self.tickets.pop_front_if(|(own, _)| *own <= durable) {
            last = Some(ticket);
        }
        written.inputs.extend(last.map(|ticket| Input::Durable { ticket }));
        if self.log.is_full() != self.full {
            self.full = !self.full;
            written.inputs.push(Input::DiskFull(self.full));
            written.retry = self.full;
        }
        if !self.checkpointing && self.log.bytes_live() >= self.checkpoint_at {
            self.checkpointing = true;
            written.inputs.push(Input::Checkpoint);
        }
    }
}
