//! The loop of a node: what happened, one turn of the driver, what is to be done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use node::{Driver, Input, Now, Work};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Failure;
use crate::engine::Engine;
use crate::handle::View;
use crate::inbox::{Inbox, Message, Sink};
use crate::log;
use crate::time::now;
use crate::transport::Transport;

/// The driver is given the time at least so often: half of the protocols' tick.
const TICK: Duration = Duration::from_millis(25);
/// A turn that takes longer than this is told in the journal: heartbeats were late.
const TURN_SLOW: Duration = Duration::from_millis(50);

/// A driver and those who carry its work out.
pub(crate) struct Core {
    pub driver: Driver,
    pub inbox: Arc<Inbox>,
    pub view: Arc<View>,
    pub engine: Engine,
    pub log: Sender<log::Request>,
    pub transport: Transport,
    sinks: HashMap<u64, Sink>,
    next_client: u64,
    stop: Option<Stop>,
}

/// How far a stop is.
enum Stop {
    /// Leaderships are being handed over, until this time at the latest.
    HandOver(Instant),
    /// The table is being flushed, so that the next start has nothing to replay.
    Flush(Instant),
}

/// How long leaderships may take to be handed over at a stop: one election.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long the last flush may take; without it the next start replays the log.
const LAST_FLUSH: Duration = Duration::from_secs(10);

impl Core {
    pub fn new(
        driver: Driver,
        inbox: Arc<Inbox>,
        view: Arc<View>,
        engine: Engine,
        log: Sender<log::Request>,
        transport: Transport,
    ) -> Core {
        Core {
            driver,
            inbox,
            view,
            engine,
            log,
            transport,
            sinks: HashMap::new(),
            next_client: 0,
            stop: None,
        }
    }

    /// Runs until the node is stopped (by `stop`) or cannot go on.
    pub async fn run(&mut self, mut stop: impl Future<Output = ()> + Unpin) -> Result<(), Failure> {
        let (mut messages, mut inputs, mut work) = (Vec::new(), Vec::new(), Vec::new());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = self.inbox.wait() => {}
                _ = ticks.tick() => {
                    self.show();
                    self.engine.rest();
                }
                () = &mut stop, if self.stop.is_none() => {
                    inputs.push(Input::Stop);
                    self.stop = Some(Stop::HandOver(Instant::now() + HAND_OVER));
                }
            }
            self.inbox.take(&mut messages);
            for message in messages.drain(..) {
                self.receive(message, &mut inputs)?;
            }
            loop {
                self.turn(&mut inputs, &mut work);
                self.carry_out(&mut work, &mut inputs)?;
                if inputs.is_empty() {
                    break;
                }
            }
            if self.is_stopped() {
                return Ok(());
            }
        }
    }

    fn receive(&mut self, message: Message, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        match message {
            Message::Input(input) => inputs.push(input),
            Message::Ask { part, sink } => {
                tracing::trace!("a part goes into the turn");
                self.next_client += 1;
                self.sinks.insert(self.next_client, sink);
                inputs.push(Input::Part { client: self.next_client, part });
            }
            Message::Done(done) => {
                self.engine.finished();
                inputs.extend(done.into_iter().map(Input::Done));
            }
            Message::Fatal(failure) => return Err(failure),
        }
        Ok(())
    }

    fn turn(&mut self, inputs: &mut Vec<Input>, work: &mut Vec<Work>) {
        let began: Now = now();
        let count = inputs.len();
        self.driver.turn(began, inputs, work);
        let took = Duration::from_micros(now().instant.since(began.instant));
        if took > TURN_SLOW {
            tracing::warn!(
                millis = took.as_millis() as u64,
                inputs = count,
                "a turn took long: heartbeats were late"
            );
        }
        self.view.clock.store(self.driver.clock_micros(), Ordering::Relaxed);
    }

    /// Hands work out. What the engine did at once is input of the next turn, which reads the clock again.
    fn carry_out(&mut self, work: &mut Vec<Work>, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        let mut jobs = Vec::new();
        for work in work.drain(..) {
            match work {
                Work::Append { ticket, records, checkpoint } => {
                    self.ask_log(log::Request::Append { ticket, records, checkpoint });
                }
                Work::Release => {
                    self.ask_log(log::Request::Release);
                    self.flushed();
                }
                Work::CheckpointFailed => {
                    self.ask_log(log::Request::CheckpointFailed);
                    self.flushed();
                }
                Work::Send { to, frame } => self.transport.send(to, frame),
                Work::Run(job) => jobs.push(job),
                Work::Answer { client, result } => {
                    if let Some(sink) = self.sinks.remove(&client) {
                        tracing::trace!("an answer leaves the turn");
                        sink(result);
                    }
                }
                Work::SendSnapshot { shard, to, header, snapshot } => {
                    self.transport.send_snapshot(shard, to, header, snapshot);
                }
                Work::Rejoined => self.transport.rejoined(),
                Work::SnapshotTaken { stream, taken } => self.transport.snapshot_taken(stream, taken),
            }
        }
        if !jobs.is_empty() {
            inputs.extend(self.engine.run(jobs)?.into_iter().map(Input::Done));
        }
        Ok(())
    }

    fn ask_log(&self, request: log::Request) {
        // When the log's thread has ended, its reason is in the inbox.
        let _ = self.log.send(request);
    }

    fn show(&self) {
        *self.view.status.lock().expect("no holder of the status panics") = self.driver.status();
    }

    /// Moves a stop on.
    fn is_stopped(&mut self) -> bool {
        match self.stop {
            None => false,
            Some(Stop::HandOver(until)) => {
                let drained = self.driver.has_handed_over() && self.driver.open_parts() == 0;
                if drained || Instant::now() >= until {
                    self.inbox.input(Input::Checkpoint);
                    self.stop = Some(Stop::Flush(Instant::now() + LAST_FLUSH));
                }
                false
            }
            Some(Stop::Flush(until)) => Instant::now() >= until,
        }
    }

    fn flushed(&mut self) {
        if let Some(Stop::Flush(until)) = &mut self.stop {
            *until = Instant::now();
        }
    }
}
