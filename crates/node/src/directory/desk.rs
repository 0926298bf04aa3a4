//! The desk: what people ask of the directory at this node, passed on to whoever leads it, until it is answered or the time is up.
//!
//! Every ask may be sent again, so one whose answer does not come is. What it comes to in the end says what is known: an answer
//! is an answer; without one, nothing was changed if nobody ever had it, and else nobody knows.

use std::collections::BTreeMap;

use kv::admin::{Answer, Ask};
use kv::{Error, NodeId};
use replication::Instant;

use super::{Output, Standing};
use crate::session::mix;

/// So many asks may be open at a node; more are refused. People ask, and nodes that join.
const OPEN_MAX: usize = 256;
/// One that nobody took is tried again after this: long enough for news of a leader to arrive.
const RETRY_MICROS: u64 = 50_000;
/// One that was passed on and not answered is passed on again after this: it may be lost with a connection.
const RESEND_MICROS: u64 = 1_000_000;

/// All that is asked at this node.
#[derive(Debug)]
pub(super) struct Desk {
    now: Instant,
    open: BTreeMap<u64, Open>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    client: u64,
    ask: Ask,
    deadline: Instant,
    state: State,
    /// Somebody may have done it.
    in_doubt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits to be passed on, not before this.
    Waits(Instant),
    /// This node leads: it is to have it.
    ToOwn,
    /// This node's leader has it.
    AtOwn,
    /// Another node has it, since then.
    At(NodeId, Instant),
}

impl Desk {
    /// Nothing is asked yet. The names of two lives of a node must not meet.
    pub fn new(seed: u64) -> Desk {
        Desk { now: Instant::default(), open: BTreeMap::new(), next: mix(seed) >> 1 }
    }

    /// Somebody asks.
    pub fn take(&mut self, client: u64, ask: Ask, timeout_micros: u64, out: &mut Vec<Output>) {
        let refused = match ask.validate() {
            Ok(()) if self.open.len() < OPEN_MAX => None,
            Ok(()) => Some(Error::Unavailable(
                "this node has too many questions to the directory open: ask again in a moment".into(),
            )),
            Err(error) => Some(error),
        };
        if let Some(error) = refused {
            return out.push(Output::Answer { client, result: Err(error) });
        }
        let (deadline, state) = (self.now.plus(timeout_micros), State::Waits(self.now));
        self.next += 1;
        self.open.insert(self.next, Open { client, ask, deadline, state, in_doubt: false });
    }

    /// The time passes: what is due is passed on, and what is overdue given up.
    pub fn tick(&mut self, standing: &Standing, out: &mut Vec<Output>) {
        self.now = standing.now;
        let overdue: Vec<u64> = self.pick(|open, now| open.deadline <= now);
        for token in overdue {
            let open = self.open.remove(&token).expect("it was picked of those that are open");
            out.push(Output::Answer { client: open.client, result: Err(open.verdict()) });
        }
        for token in self.pick(Open::is_due) {
            let open = self.open.get_mut(&token).expect("it was picked of those that are open");
            open.doubt();
            open.state = match standing.leader {
                _ if standing.leads => State::ToOwn,
                Some(to) => {
                    out.push(Output::Pass { to, token, ask: open.ask.clone() });
                    State::At(to, standing.now)
                }
                None => State::Waits(standing.now.plus(RETRY_MICROS)),
            };
        }
    }

    /// What this node's leader is to be asked now.
    pub fn for_own_leader(&mut self) -> Vec<(u64, Ask)> {
        let mut asks = Vec::new();
        for (token, open) in &mut self.open {
            if open.state == State::ToOwn {
                open.state = State::AtOwn;
                asks.push((*token, open.ask.clone()));
            }
        }
        asks
    }

    /// A leader answers: on another node, or (`None`) on this one.
    pub fn told(
        &mut self,
        from: Option<NodeId>,
        token: u64,
        result: Result<Answer, Error>,
        out: &mut Vec<Output>,
    ) {
        let Some(open) = self.open.get_mut(&token) else { return };
        let has_it = match open.state {
            State::At(node, _) => from == Some(node),
            State::AtOwn => from.is_none(),
            State::Waits(_) | State::ToOwn => false,
        };
        let result = match result {
            // An answer of one that had it earlier is an answer. What it refused, another one may do.
            Err(_) if !has_it => return,
            Err(Error::WrongNode { .. }) => return open.wait(self.now),
            Err(Error::InDoubt(_)) => {
                open.doubt();
                return open.wait(self.now);
            }
            // What is refused when it is asked again may be refused because it was done the first time.
            Err(error) if open.in_doubt => Err(Error::InDoubt(format!(
                "the directory may have done it when it was first asked; asked again, it said: {error}"
            ))),
            result => result,
        };
        let client = open.client;
        self.open.remove(&token);
        out.push(Output::Answer { client, result });
    }

    /// The connection to a node broke: what it was asked may never be answered.
    pub fn disconnected(&mut self, node: NodeId) {
        for open in self.open.values_mut() {
            if matches!(open.state, State::At(to, _) if to == node) {
                open.doubt();
                open.wait(self.now);
            }
        }
    }

    fn pick(&self, which: impl Fn(&Open, Instant) -> bool) -> Vec<u64> {
        self.open.iter().filter(|(_, open)| which(open, self.now)).map(|(token, _)| *token).collect()
    }
}

impl Open {
    /// Whether it is to be passed on (again).
    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Waits(at) => at <= now,
            State::At(_, since) => now.since(since) >= RESEND_MICROS,
            State::ToOwn | State::AtOwn => false,
        }
    }

    fn wait(&mut self, now: Instant) {
        self.state = State::Waits(now.plus(RETRY_MICROS));
    }

    /// Who had it until now may have done it, or may do it yet.
    fn doubt(&mut self) {
        let was_given = !matches!(self.state, State::Waits(_) | State::ToOwn);
        self.in_doubt |= was_given && self.ask.changes();
    }

    /// What it is answered when it is given up now.
    fn verdict(&self) -> Error {
        let was_given = !matches!(self.state, State::Waits(_) | State::ToOwn);
        if self.ask.changes() && (self.in_doubt || was_given) {
            return Error::InDoubt(
                "no answer from the directory in time: it may have been done, or may yet be; ask the same again".into(),
            );
        }
        Error::Unavailable(
            "no node leads the directory at present, as far as this one can tell, and nothing was changed: check with \
             'capstan cluster status' that a majority of the directory's nodes is up, and ask again"
                .into(),
        )
    }
}
