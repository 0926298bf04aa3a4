//! The loop of a core: what happened, one turn of the driver, what is to be done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kv::admin::Answered;
use node::gather::Split;
use node::log::Request;
use node::stop::{Standing, Step, Stop};
use node::{Driver, Input, Now, Part, Work};
use tokio::time::{MissedTickBehavior, interval};

use crate::Failure;
use crate::bus::Buses;
use crate::desk::Desk;
use crate::engine::Engine;
use crate::handle::gathered;
use crate::inbox::{Inbox, Inboxes, Message, PullSink, Sink};
use crate::log::Requests;
use crate::outbox::{Outbox, Outboxes};
use crate::routes::Routes;
use crate::time::now;
use crate::transport::Transport;
use crate::view::View;

/// The driver is given the time at least so often: half of the protocols' tick.
const TICK: Duration = Duration::from_millis(25);
/// To show how so many shards are takes a fraction of a millisecond.
const SHARDS_SHOWN_A_TICK: usize = 64;
/// When turns have had no more than so many inputs for a while there is time to sync in this thread.
const QUIET_INPUTS_MAX: usize = 2;
/// After a turn with more, it takes some dozen small ones until that counts as a while: clients that were answered together
/// come back one after the other, and the first must not make the others wait for its sync.
const CROWD_DECAY: usize = 8;
/// A turn that takes longer than this is told in the journal: heartbeats were late.
const TURN_SLOW: Duration = Duration::from_millis(50);

/// What the cores of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub inboxes: Inboxes,
    pub view: Arc<View>,
    pub routes: Arc<Routes>,
    pub log: Requests,
    pub transport: Arc<Transport>,
    pub buses: Arc<Buses>,
    /// Of the threads that serve connections: those with a driver, and others.
    pub outboxes: Arc<[Arc<Outbox>]>,
    /// Likewise.
    pub desks: Arc<[Arc<Desk>]>,
}

/// A driver and those who carry its work out.
pub(crate) struct Core {
    /// Which one of the node's, from 0.
    place: usize,
    driver: Driver,
    inbox: Arc<Inbox>,
    engine: Engine,
    shared: Shared,
    /// Who takes an answer, and the core whose thread that is.
    sinks: HashMap<u64, (usize, Sink)>,
    /// Who takes an answer of the directory. Of the first core.
    askers: HashMap<u64, Answered>,
    /// Who takes what a watch is answered.
    pullers: HashMap<u64, PullSink>,
    outboxes: Outboxes,
    /// How many inputs turns had lately.
    crowd: usize,
    next_client: u64,
    /// Ticks until it is shown again how it stands.
    ticks_unshown: usize,
    /// The stop of the node. Of the first core.
    stop: Option<Stop>,
    log_ended: bool,
}

impl Core {
    pub fn new(place: usize, driver: Driver, engine: Engine, shared: Shared) -> Core {
        // Clients may ask for the time before the first turn.
        shared.view.show_clock(place, &driver);
        Core {
            place,
            driver,
            inbox: shared.inboxes.of(place).clone(),
            engine,
            sinks: HashMap::new(),
            askers: HashMap::new(),
            pullers: HashMap::new(),
            outboxes: Outboxes::new(place, shared.outboxes.clone()),
            crowd: 0,
            next_client: 0,
            ticks_unshown: 0,
            stop: None,
            log_ended: false,
            shared,
        }
    }

    /// Runs until it is to end, or the node cannot go on. The first core ends the node in good order when `stop` asks for that;
    /// the others are asked when it is over.
    async fn run(&mut self, mut stop: impl Future<Output = ()> + Unpin) -> Result<(), Failure> {
        let (mut messages, mut inputs, mut work) = (Vec::new(), Vec::new(), Vec::new());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = self.inbox.wait() => {}
                _ = ticks.tick() => {
                    self.show_now_and_then();
                    self.engine.rest();
                }
                () = &mut stop, if self.stop.is_none() => match self.place {
                    0 => {
                        self.shared.inboxes.input(Input::Stop);
                        self.stop = Some(Stop::begin(now().instant, self.shared.inboxes.count()));
                    }
                    _ => return Ok(()),
                },
            }
            // What is ready comes along: sockets are read, and who waits for them runs. A turn for each request would cost more.
            tokio::task::yield_now().await;
            self.take_messages(&mut messages, &mut inputs)?;
            loop {
                let is_quiet = self.is_quiet(inputs.len());
                self.turn(&mut inputs, &mut work);
                let append = if is_quiet { self.only_append(&mut work) } else { None };
                self.carry_out(&mut work, &mut inputs)?;
                if let Some(append) = append {
                    // What goes to other nodes leaves first: they sync meanwhile.
                    tokio::task::yield_now().await;
                    self.shared.log.append_here(append, &self.shared.inboxes)?;
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

    /// Runs as [`Core::run`] does. What was not answered by its end is answered as such, and what comes later is refused.
    pub async fn run_to_its_end(mut self, stop: impl Future<Output = ()> + Unpin) -> Result<(), Failure> {
        let ended = self.run(stop).await;
        let inbox = self.inbox.clone();
        drop(self);
        inbox.close();
        ended
    }

    /// Shows how the core stands: with many shards not at each tick, for that takes a look at all of them.
    fn show_now_and_then(&mut self) {
        if self.ticks_unshown == 0 {
            self.ticks_unshown = self.driver.map().shards.len() / SHARDS_SHOWN_A_TICK;
            self.shared.view.show(self.place, &self.driver);
        } else {
            self.ticks_unshown -= 1;
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
            Message::Administer { ask, timeout_micros, answer } => {
                self.next_client += 1;
                self.askers.insert(self.next_client, answer);
                inputs.push(Input::Administer { client: self.next_client, ask, timeout_micros });
            }
            Message::Pull { pull, sink } => {
                self.next_client += 1;
                self.pullers.insert(self.next_client, sink);
                inputs.push(Input::Pull { client: self.next_client, pull });
            }
            Message::Done(done) => {
                self.engine.finished();
                inputs.extend(done.into_iter().map(Input::Done));
            }
            Message::LogEnded => self.log_ended = true,
            Message::CheckpointEnded { core } => {
                self.stop.iter_mut().for_each(|stop| stop.checkpoint_ended(core));
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
                "a turn took long: whatever came meanwhile had to wait, heartbeats too"
            );
        }
        self.shared.view.show_clock(self.place, &self.driver);
    }

    /// Hands work out. What the engine did at once is input of the next turn, which reads the clock again.
    fn carry_out(&mut self, work: &mut Vec<Work>, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        let mut jobs = Vec::new();
        let (core, shared) = (self.place, &self.shared);
        for work in work.drain(..) {
            match work {
                Work::Append { ticket, records, checkpoint } => {
                    shared.log.ask(Request::Append { core, ticket, records, checkpoint });
                }
                Work::Release => {
                    shared.log.ask(Request::Release { core });
                    shared.inboxes.first().push(Message::CheckpointEnded { core });
                }
                Work::CheckpointFailed => {
                    shared.log.ask(Request::CheckpointFailed { core });
                    shared.inboxes.first().push(Message::CheckpointEnded { core });
                }
                Work::Send { to, frame, is_response } => shared.transport.send(to, frame, is_response),
                Work::Publish(shard, frame) => shared.buses.publish(shard, frame),
                Work::Run(job) => jobs.push(job),
                Work::Answer { client, result } => {
                    if let Some((core, sink)) = self.sinks.remove(&client) {
                        tracing::trace!("an answer leaves the turn");
                        self.outboxes.answer(core, sink, result);
                    }
                }
                Work::Administered { client, result } => {
                    if let Some(answer) = self.askers.remove(&client) {
                        answer(result);
                    }
                }
                Work::Replan { client, planned } => {
                    if let Some((core, sink)) = self.sinks.remove(&client) {
                        put_again(shared, &mut self.outboxes, (core, sink), planned);
                    }
                }
                Work::Tell { core, word } => shared.inboxes.of(core).input(Input::Told(word)),
                Work::Pulled { client, answer } => {
                    if let Some(take) = self.pullers.remove(&client) {
                        take(answer);
                    }
                }
                Work::Decided(map) => shared.inboxes.input(Input::Map(map)),
                Work::Announced(replicas) => shared.inboxes.input(Input::Announced(replicas)),
                Work::SendSnapshot { shard, to, header, snapshot } => {
                    shared.transport.send_snapshot(shard, to, header, snapshot);
                }
                Work::Map(map) => {
                    shared.routes.follow(&map);
                    shared.transport.follow(&map);
                    shared.buses.follow(&map);
                }
                Work::SnapshotTaken { stream, taken } => shared.transport.snapshot_taken(stream, taken),
            }
        }
        self.outboxes.send();
        if !jobs.is_empty() {
            inputs.extend(self.engine.run(jobs)?.into_iter().map(Input::Done));
        }
        Ok(())
    }

    /// Moves a stop on; true when the process is to end.
    fn is_stopped(&mut self) -> bool {
        let Shared { view, inboxes, log, .. } = &self.shared;
        if self.driver.is_stopping() {
            view.show(self.place, &self.driver);
        }
        let standing = || {
            let cores = (0..inboxes.count()).map(|core| view.standing(core));
            let first = Standing { handed_over: true, open_parts: 0, log_finished: self.log_ended };
            cores.fold(first, |all, core| Standing {
                handed_over: all.handed_over && core.handed_over,
                open_parts: all.open_parts + core.open_parts,
                ..all
            })
        };
        match self.stop.as_mut().and_then(|stop| stop.turn(now().instant, standing())) {
            Some(Step::Flush) => inboxes.input(Input::Checkpoint),
            Some(Step::Write) => log.ask(Request::Finish),
            Some(Step::End) => return true,
            None => {}
        }
        false
    }

    /// Takes the append out of a turn's work, if there is one and it is no part of a checkpoint.
    fn only_append(&self, work: &mut Vec<Work>) -> Option<Request> {
        let is_append = |work: &Work| matches!(work, Work::Append { .. });
        let place = work.iter().position(is_append)?;
        if work[place + 1..].iter().any(is_append) {
            return None;
        }
        match work.remove(place) {
            Work::Append { ticket, records, checkpoint: false } => {
                Some(Request::Append { core: self.place, ticket, records, checkpoint: false })
            }
            other => {
                work.insert(place, other);
                None
            }
        }
    }
}

/// What comes of a part that was planned again goes to its cores' inboxes, in the name of the core that asked.
fn put_again(
    shared: &Shared,
    outboxes: &mut Outboxes,
    (core, sink): (usize, Sink),
    planned: Result<Split, kv::Error>,
) {
    let put = |(part, sink): (Part, Sink)| {
        shared.inboxes.of(shared.inboxes.core_of(part.shard)).push(Message::Ask { core, part, sink });
    };
    match planned {
        Ok(Split::One(part)) => put((part, sink)),
        Ok(Split::Several(parts, gather)) => gathered(parts, gather, sink).for_each(put),
        Err(error) => outboxes.answer(core, sink, Err(error)),
    }
}
