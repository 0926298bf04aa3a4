//! The loop of a node: what happened, one turn of the driver, what is to be done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use node::log::Request;
use node::stop::{Standing, Step, Stop};
use node::{Driver, Input, Now, Work};
use tokio::time::{MissedTickBehavior, interval};

use crate::Failure;
use crate::engine::Engine;
use crate::handle::View;
use crate::inbox::{Inbox, Message, Sink};
use crate::log::Requests;
use crate::outbox::Outboxes;
use crate::time::now;
use crate::transport::Transport;

/// The driver is given the time at least so often: half of the protocols' tick.
const TICK: Duration = Duration::from_millis(25);
/// When turns have had no more than so many inputs for a while there is time to sync in this thread.
const QUIET_INPUTS_MAX: usize = 2;
/// After a turn with more, it takes some dozen small ones until that counts as a while: clients that were answered together
/// come back one after the other, and the first must not make the others wait for its sync.
const CROWD_DECAY: usize = 8;
/// How often all that is ready on this thread runs before a turn: sockets are read first, and then who waits for them.
const GATHERINGS: usize = 2;
/// A turn that takes longer than this is told in the journal: heartbeats were late.
const TURN_SLOW: Duration = Duration::from_millis(50);

/// A driver and those who carry its work out.
pub(crate) struct Core {
    pub driver: Driver,
    pub inbox: Arc<Inbox>,
    pub view: Arc<View>,
    pub engine: Engine,
    pub log: Requests,
    pub transport: Transport,
    /// Who takes an answer, and the core whose thread that is.
    sinks: HashMap<u64, (usize, Sink)>,
    outboxes: Outboxes,
    /// How many inputs turns had lately.
    crowd: usize,
    next_client: u64,
    stop: Option<Stop>,
    log_ended: bool,
}

impl Core {
    pub fn new(
        driver: Driver,
        inbox: Arc<Inbox>,
        view: Arc<View>,
        engine: Engine,
        log: Requests,
        transport: Transport,
        outboxes: Outboxes,
    ) -> Core {
        Core {
            driver,
            inbox,
            view,
            engine,
            log,
            transport,
            sinks: HashMap::new(),
            outboxes,
            crowd: 0,
            next_client: 0,
            stop: None,
            log_ended: false,
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
                    self.stop = Some(Stop::begin(now().instant));
                }
            }
            // What is ready comes along: requests that lie in sockets, answers of nodes. A turn for each would cost more.
            for _ in 0..GATHERINGS {
                tokio::task::yield_now().await;
            }
            self.take_messages(&mut messages, &mut inputs)?;
            loop {
                let is_quiet = self.is_quiet(inputs.len());
                self.turn(&mut inputs, &mut work);
                let append = if is_quiet { only_append(&mut work) } else { None };
                self.carry_out(&mut work, &mut inputs)?;
                if let Some(append) = append {
                    // What goes to other nodes leaves first: they sync meanwhile.
                    tokio::task::yield_now().await;
                    self.log.append_here(append, &self.inbox)?;
                    self.take_messages(&mut messages, &mut inputs)?;
                }
                if inputs.is_empty() {
                    break;
                }
            }
            if self.is_stopped() {
                return Ok(());
            }
        }
    }

    /// Whether little happens, with so many inputs in this turn.
    fn is_quiet(&mut self, inputs: usize) -> bool {
        self.crowd = inputs.max(self.crowd - self.crowd.div_ceil(CROWD_DECAY));
        self.crowd <= QUIET_INPUTS_MAX
    }

    fn take_messages(&mut self, messages: &mut Vec<Message>, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        self.inbox.take(messages, self.sinks.len());
        messages.drain(..).try_for_each(|message| self.receive(message, inputs))
    }

    fn receive(&mut self, message: Message, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        match message {
            Message::Input(input) => inputs.push(input),
            Message::Ask { core, part, sink } => {
                tracing::trace!("a part goes into the turn");
                self.next_client += 1;
                self.sinks.insert(self.next_client, (core, sink));
                inputs.push(Input::Part { client: self.next_client, part });
            }
            Message::Done(done) => {
                self.engine.finished();
                inputs.extend(done.into_iter().map(Input::Done));
            }
            Message::LogEnded => self.log_ended = true,
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
                "a turn took long: whatever came meanwhile had to wait, heartbeats too"
            );
        }
        self.view.clock.store(self.driver.clients_micros(), Ordering::Relaxed);
    }

    /// Hands work out. What the engine did at once is input of the next turn, which reads the clock again.
    fn carry_out(&mut self, work: &mut Vec<Work>, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        let mut jobs = Vec::new();
        for work in work.drain(..) {
            match work {
                Work::Append { ticket, records, checkpoint } => {
                    self.log.ask(Request::Append { ticket, records, checkpoint });
                }
                Work::Release => {
                    self.log.ask(Request::Release);
                    self.stop.iter_mut().for_each(Stop::checkpoint_ended);
                }
                Work::CheckpointFailed => {
                    self.log.ask(Request::CheckpointFailed);
                    self.stop.iter_mut().for_each(Stop::checkpoint_ended);
                }
                Work::Send { to, frame } => self.transport.send(to, frame),
                Work::Run(job) => jobs.push(job),
                Work::Answer { client, result } => {
                    if let Some((core, sink)) = self.sinks.remove(&client) {
                        tracing::trace!("an answer leaves the turn");
                        self.outboxes.answer(core, sink, result);
                    }
                }
                Work::SendSnapshot { shard, to, header, snapshot } => {
                    self.transport.send_snapshot(shard, to, header, snapshot);
                }
                Work::Rejoined => self.transport.rejoined(),
                Work::SnapshotTaken { stream, taken } => self.transport.snapshot_taken(stream, taken),
            }
        }
        self.outboxes.send();
        if !jobs.is_empty() {
            inputs.extend(self.engine.run(jobs)?.into_iter().map(Input::Done));
        }
        Ok(())
    }

    fn show(&self) {
        *self.view.status.lock().expect("no holder of the status panics") = self.driver.status();
    }

    /// Moves a stop on; true when the process is to end.
    fn is_stopped(&mut self) -> bool {
        let standing = || Standing {
            handed_over: self.driver.has_handed_over(),
            open_parts: self.driver.open_parts(),
            log_finished: self.log_ended,
        };
        match self.stop.as_mut().and_then(|stop| stop.turn(now().instant, standing())) {
            Some(Step::Flush) => self.inbox.input(Input::Checkpoint),
            Some(Step::Write) => self.log.ask(Request::Finish),
            Some(Step::End) => return true,
            None => {}
        }
        false
    }
}

/// Takes the append out of a turn's work, if there is one and it is no part of a checkpoint.
fn only_append(work: &mut Vec<Work>) -> Option<Request> {
    let is_append = |work: &Work| matches!(work, Work::Append { .. });
    let place = work.iter().position(is_append)?;
    if work[place + 1..].iter().any(is_append) {
        return None;
    }
    match work.remove(place) {
        Work::Append { ticket, records, checkpoint: false } => {
            Some(Request::Append { ticket, records, checkpoint: false })
        }
        other => {
            work.insert(place, other);
            None
        }
    }
}
