//! What the dialects see of a node: the waist.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use kv::admin::{Admin, Answer, Answered, Ask};
use kv::cluster::{Cluster, Located, Location, Status, Terms};
use kv::fault::{self, Fault};
use kv::watch::{Watch, Watcher, Watching};
use kv::{Charge, ClusterId, Completions, Error, Key, KeyValue, Reply, Request, Slot};
use node::Part;
use node::gather::{Gather, Split, split};
use tokio::sync::watch;

use crate::bus::Buses;
use crate::desk::Desk;
use crate::faults::Faults;
use crate::inbox::{Inboxes, Message, Sink};
use crate::routes::Routes;
use crate::transport::Identities;
use crate::unknown::Unknown;
use crate::view::View;
use crate::{outbox, reached, watches};

/// Founders that start together meet within this.
pub(crate) const WAITS_LONG: Duration = Duration::from_secs(15);
/// What to do when nobody comes: those that founded the cluster may have left it since, and a folder that was lost may be of one
/// that is there.
pub(crate) const JOIN_INSTEAD: &str = "if the cluster is there already, start this node with --join HOST:PORT of any of its nodes in place of --peers";

/// A node, to those who ask it.
pub(crate) struct Handle {
    inboxes: Inboxes,
    /// Of the threads that serve connections.
    desks: Arc<[Arc<Desk>]>,
    routes: Arc<Routes>,
    view: Arc<View>,
    membership: Membership,
    faults: Arc<Faults>,
    buses: Arc<Buses>,
    unknown: Unknown,
}

/// Which cluster the node belongs to, once it knows.
pub(crate) struct Membership {
    cluster: watch::Receiver<Option<ClusterId>>,
    /// What it does until then, and since when.
    waits: String,
    since: Instant,
    /// What its nodes have in common.
    terms: Terms,
    /// Whom it has met.
    identities: Arc<Identities>,
    /// What it says to everybody once it has left the cluster.
    left: OnceLock<String>,
}

impl Membership {
    pub fn of(identities: Arc<Identities>, terms: Terms) -> Membership {
        let (cluster, waits) = (identities.cluster(), identities.waits());
        Membership { cluster, waits, since: Instant::now(), terms, identities, left: OnceLock::new() }
    }

    /// What it waits for, and what to do when that takes long.
    fn waits(&self) -> String {
        match self.since.elapsed() >= WAITS_LONG {
            true => format!("{}; {JOIN_INSTEAD}", self.waits),
            false => self.waits.clone(),
        }
    }

    fn check_left(&self) -> Result<(), Error> {
        self.left.get().map_or(Ok(()), |why| Err(Error::Unavailable(why.clone())))
    }
}

impl Handle {
    pub fn new(
        inboxes: Inboxes,
        desks: Arc<[Arc<Desk>]>,
        routes: Arc<Routes>,
        view: Arc<View>,
        (membership, faults, buses): (Membership, Arc<Faults>, Arc<Buses>),
    ) -> Handle {
        let unknown = Unknown::new(inboxes.clone());
        Handle { inboxes, desks, routes, view, membership, faults, buses, unknown }
    }

    /// The node has left the cluster: nothing is done here any more, for this reason.
    pub fn leave(&self, why: String) {
        self.membership.left.get_or_init(|| why);
    }

    /// The version clock, in microseconds since 1970.
    pub fn clock(&self) -> u64 {
        self.view.clock()
    }

    /// Puts a part before the driver of its shard: that of this thread finds it in its next turn, another one a moment later.
    fn put(&self, part: Part, sink: Sink) {
        let (here, to) = (outbox::here(), self.inboxes.core_of(part.shard));
        let ask = Message::Ask { core: here, part, sink };
        match here == to {
            true => self.inboxes.of(to).push(ask),
            false => self.desks[here].put(to, ask),
        }
    }

    /// What takes an answer, as late as this node's responses are.
    fn late<T: Send + 'static>(&self, answer: Box<dyn FnOnce(T) + Send>) -> Box<dyn FnOnce(T) + Send> {
        if !self.faults.may_be() {
            return answer;
        }
        let faults = self.faults.clone();
        Box::new(move |result| faults.respond(move || answer(result)))
    }

    fn ask(&self, request: Request, charge: &Charge, answer: Sink) {
        tracing::trace!("a request is to be split");
        let answer = self.late(answer);
        if let Err(left) = self.membership.check_left() {
            return answer(Err(left));
        }
        match split(&self.routes.present(), request, charge) {
            Err(Error::NoKeyspace(keyspace)) => {
                self.unknown.look_up(keyspace, Box::new(|error| answer(Err(error))));
            }
            Err(error) => answer(Err(error)),
            Ok(Split::One(part)) => self.put(part, answer),
            Ok(Split::Several(parts, gather)) => {
                for (part, sink) in gathered(parts, gather, answer) {
                    self.put(part, sink);
                }
            }
        }
    }
}

impl KeyValue for Handle {
    fn submit(&self, mut requests: Vec<Request>, mut completions: Box<dyn Completions>) {
        let charge = completions.charge();
        if requests.len() == 1 {
            let request = requests.remove(0);
            return self.ask(request, &charge, Box::new(move |result| completions.complete(0, result)));
        }
        let completions = Arc::new(Mutex::new(completions));
        for (index, request) in requests.into_iter().enumerate() {
            let completions = completions.clone();
            let complete = move |result| {
                completions.lock().expect("no completion panics").complete(index, result);
            };
            self.ask(request, &charge, Box::new(complete));
        }
    }
}

impl Watch for Handle {
    fn watch(&self, asked: Watching) -> Box<dyn Watcher> {
        let (inboxes, routes) = (self.inboxes.clone(), self.routes.clone());
        let watch = match self.membership.check_left() {
            Ok(()) => watches::Watch::begin(asked, inboxes, routes, &self.unknown, self.clock()),
            Err(left) => watches::Watch::refused(left, inboxes, routes),
        };
        self.faults.watched(Box::new(watch))
    }
}

impl Admin for Handle {
    fn administer(&self, ask: Ask, timeout: Duration, answer: Answered) {
        if let Err(left) = self.membership.check_left() {
            return answer(Err(left));
        }
        let answer = self.late(answer);
        let timeout_micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        let inboxes = self.inboxes.clone();
        let pass =
            move |ask, answer| inboxes.first().push(Message::Administer { ask, timeout_micros, answer });
        let (Ask::Join(joining), Ok(runtime)) = (&ask, tokio::runtime::Handle::try_current()) else {
            return pass(ask, answer);
        };
        let (joining, identities) = (joining.clone(), self.membership.identities.clone());
        let answer: Answered =
            Box::new(move |result| answer(result.map(|joined| with_lives(joined, &identities))));
        runtime.spawn(async move {
            match reached::check(&joining).await {
                Ok(()) => pass(ask, answer),
                Err(error) => answer(Err(error)),
            }
        });
    }

    fn fault(&self, fault: Option<Fault>) -> Result<fault::Faults, Error> {
        self.faults.put(fault)
    }
}

impl Cluster for Handle {
    fn id(&self) -> Result<ClusterId, Error> {
        self.membership.check_left()?;
        let known = *self.membership.cluster.borrow();
        known.ok_or_else(|| Error::Unavailable(self.membership.waits()))
    }

    fn terms(&self) -> Terms {
        self.membership.terms
    }

    fn status(&self) -> Status {
        Status { buses: self.buses.status(), ..self.view.status() }
    }

    fn locate(&self, keyspace: &str, key: &Key, answer: Located) {
        let shard = match self.routes.present().shards(keyspace) {
            Ok(shards) => shards.shard_of(key),
            Err(_) => {
                return self.unknown.look_up(keyspace.into(), Box::new(|error| answer(Err(error))));
            }
        };
        let status = self.status();
        let leader = status.shards.iter().find(|known| known.id == shard).and_then(|known| known.leader);
        let address = status.nodes.into_iter().find(|node| Some(node.id) == leader).map(|node| node.address);
        answer(Ok(Location { slot: Slot::of(key), shard, leader, address }));
    }
}

/// The parts of a request, each with who takes its result; with the last one, `answer` is given what they come to.
pub(crate) fn gathered(parts: Vec<Part>, gather: Gather, answer: Sink) -> impl Iterator<Item = (Part, Sink)> {
    let gathering = Arc::new(Mutex::new((gather, Some(answer))));
    parts.into_iter().enumerate().map(move |(index, part)| {
        let gathering = gathering.clone();
        let sink: Sink = Box::new(move |result| put(&gathering, index, result));
        (part, sink)
    })
}

/// Has a newcomer know in which lives the others were met.
fn with_lives(answer: Answer, identities: &Identities) -> Answer {
    match answer {
        Answer::Joined { node, cluster, map, .. } => {
            Answer::Joined { node, cluster, map, lives: identities.acquaintances() }
        }
        answer => answer,
    }
}

/// Takes the result of a part, on any thread; the last one's answers the request.
fn put(gathering: &Mutex<(Gather, Option<Sink>)>, index: usize, result: Result<Reply, Error>) {
    let mut inner = gathering.lock().expect("no gathering panics");
    let Some(whole) = inner.0.put(index, result) else { return };
    let answer = inner.1.take();
    drop(inner);
    if let Some(answer) = answer {
        answer(whole);
    }
}
