//! A simulated store with concurrent clients: every interleaving that a seed draws.

pub mod receipt;
pub mod store;

use check::generate::{Generator, Keys, Rng, Workload};
use check::history::{History, Recorder, Ticket};
use kv::{Answer, Error, Op, Request};
use receipt::reply;
use store::Store;

/// What a simulation is like.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What the clients ask.
    pub workload: Workload,
    /// For how many keys.
    pub keys: u64,
    /// How many clients there are.
    pub clients: u64,
    /// How many ops they ask together.
    pub ops: usize,
    /// Of 100 ops, so many are answered as in doubt: of these a third happen before, a third later, a third never.
    pub in_doubt: u64,
    /// Of 100 ops, so many fail.
    pub failing: u64,
}

/// What a store may do wrong, from the middle of the simulation on, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// An append is acknowledged and forgotten.
    LostAppend,
    /// An append happens twice.
    DoubleAppend,
    /// A get answers with what was there before an append that was acknowledged.
    StaleGet,
}

/// A client's op on its way.
struct Flight {
    client: usize,
    ticket: Option<Ticket>,
    op: Op,
    fate: Fate,
    answer: Option<Result<Answer, Error>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Fails,
    InDoubtThenHappens,
    HappensThenInDoubt,
    InDoubt,
}

/// Runs a simulation; at the end every key is read.
pub fn simulate(setup: Setup, defect: Defect, seed: u64) -> History {
    Simulation::new(setup, defect, seed).run()
}

struct Simulation {
    setup: Setup,
    defect: Defect,
    rng: Rng,
    store: Store,
    recorder: Recorder,
    generators: Vec<Generator>,
    flights: Vec<Flight>,
    asked: usize,
    now: u64,
}

impl Simulation {
    fn new(setup: Setup, defect: Defect, seed: u64) -> Simulation {
        let keys = Keys { count: setup.keys, skew: 0.5 };
        let generator = |client| Generator::client(setup.workload, keys, seed, client);
        Simulation {
            setup,
            defect,
            rng: Rng::new(seed ^ 0x5eed),
            store: Store::default(),
            recorder: Recorder::new(),
            generators: (0..setup.clients).map(generator).collect(),
            flights: Vec::new(),
            asked: 0,
            now: 0,
        }
    }

    fn run(mut self) -> History {
        while self.asked < self.setup.ops || !self.flights.is_empty() {
            self.now += 1;
            let client = self.rng.below(self.setup.clients) as usize;
            match self.flights.iter().position(|flight| flight.client == client && flight.ticket.is_some()) {
                None if self.asked < self.setup.ops => self.ask(client),
                _ if self.flights.is_empty() => {}
                _ => {
                    let flight = self.rng.below(self.flights.len() as u64) as usize;
                    self.advance(flight);
                }
            }
        }
        self.read_all()
    }

    fn ask(&mut self, client: usize) {
        let op = self.generators[client].next_op();
        let fate = match self.rng.below(100) {
            dice if dice < self.setup.failing => Fate::Fails,
            dice if dice < self.setup.failing + self.setup.in_doubt => match self.rng.below(3) {
                0 => Fate::HappensThenInDoubt,
                1 => Fate::InDoubtThenHappens,
                _ => Fate::InDoubt,
            },
            _ => Fate::Answered,
        };
        let ticket = Some(self.recorder.invoke(client as u64, &Request::new(op.clone()), self.now));
        self.flights.push(Flight { client, ticket, op, fate, answer: None });
        self.asked += 1;
    }

    /// Takes a flight one step on: it happens, or its client hears of it.
    fn advance(&mut self, at: usize) {
        let (fate, happened) = (self.flights[at].fate, self.flights[at].answer.is_some());
        match (fate, happened) {
            (Fate::Answered | Fate::HappensThenInDoubt, false) => self.happen(at),
            (Fate::InDoubtThenHappens, false) if self.flights[at].ticket.is_none() => {
                self.happen(at);
                self.flights.swap_remove(at);
            }
            (Fate::InDoubtThenHappens, false) => {
                let ticket = self.flights[at].ticket.take().expect("it was just seen");
                self.recorder.complete(ticket, &Err(Error::InDoubt("no answer".into())), self.now);
            }
            _ => self.answer(at),
        }
    }

    fn happen(&mut self, at: usize) {
        let op = self.flights[at].op.clone();
        let stale = self.store.clone();
        let mut answer = self.store.apply(&op);
        let due = self.asked >= self.setup.ops / 2 && self.flights[at].fate == Fate::Answered;
        let appends = matches!(&op, Op::Update { function: kv::Function::Append { .. }, .. });
        match self.defect {
            Defect::LostAppend if due && appends => self.store = stale,
            Defect::DoubleAppend if due && appends => answer = self.store.apply(&op).and(answer),
            _ => {
                self.flights[at].answer = Some(answer);
                return;
            }
        }
        self.defect = Defect::None;
        self.flights[at].answer = Some(answer);
    }

    fn answer(&mut self, at: usize) {
        let flight = self.flights.swap_remove(at);
        let result = match flight.fate {
            Fate::Answered => flight.answer.expect("it happened").map(reply),
            Fate::Fails => Err(Error::Unavailable("no leader".into())),
            _ => Err(Error::InDoubt("no answer".into())),
        };
        let ticket = flight.ticket.expect("an op is answered once");
        self.recorder.complete(ticket, &result, self.now);
    }

    fn read_all(mut self) -> History {
        let mut keys: Vec<kv::Key> = Vec::new();
        for operation in self.recorder.history().operations() {
            operation.op.for_each_key(&mut |key| keys.push(key.clone()));
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let get = Op::Get { key: key.clone(), at: None };
            if self.defect == Defect::StaleGet {
                let before = self.store.apply(&get);
                let function = kv::Function::Append { side: kv::Side::Right, value: "last;".into() };
                let append = Op::Update { key, function };
                let answer = self.store.apply(&append);
                self.serial(&append, answer);
                self.serial(&get, before);
                self.defect = Defect::None;
                continue;
            }
            let answer = self.store.apply(&get);
            self.serial(&get, answer);
        }
        self.recorder.into_history()
    }

    fn serial(&mut self, op: &Op, answer: Result<Answer, Error>) {
        self.now += 1;
        let ticket = self.recorder.invoke(0, &Request::new(op.clone()), self.now);
        self.recorder.complete(ticket, &answer.map(reply), self.now);
    }
}
