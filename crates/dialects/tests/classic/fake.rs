//! A small store, and servers in front of it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dialects::{Account, Dialect, End, Stop, Stopper, Store, Stream};
use kv::admin::{Admin, Answered, Ask};
use kv::cluster::{Cluster, Located, Status, Terms};
use kv::fault::{Fault, Faults};
use kv::watch::{Watch, Watcher, Watching};
use kv::{
    Answer, ClusterId, Completions, Epoch, Error, Expect, Function, Key, KeyAnswer, KeyValue, Level, NodeId,
    Op, Page, Protocol, Receipt, ReplicaId, Reply, Request, Row, ShardId, Value, Version,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The keyspace of every listener here.
const KEYSPACE: &str = "classic";

/// Changes rows before an op is run.
type Meddle = Box<dyn FnMut(&Op, &mut Rows) + Send>;

/// Keys in order, each with its value and the number of the write.
#[derive(Debug, Default)]
pub struct Rows {
    rows: BTreeMap<Key, (Value, u64)>,
    writes: u64,
}

/// A store that knows the ops that classic dialects ask.
pub struct Fake {
    rows: Mutex<Rows>,
    /// Rows of a page, however many are asked for.
    page_rows: usize,
    seen: Mutex<Vec<Request>>,
    /// What becomes of the next requests; `None` = they are run.
    verdicts: Mutex<VecDeque<Option<Error>>>,
    meddle: Mutex<Option<Meddle>>,
    cluster: Mutex<Result<ClusterId, Error>>,
    faults: Mutex<Vec<Fault>>,
}

impl Rows {
    pub fn put(&mut self, key: Key, value: Value) {
        self.writes += 1;
        self.rows.insert(key, (value, self.writes));
    }

    fn get(&self, key: &Key) -> Option<Row> {
        let (value, write) = self.rows.get(key)?;
        let version = Version::new(*write, ReplicaId(1));
        let (key, value) = (key.clone(), value.clone());
        Some(Row { key, value, version, created: version, changes: 1, deadline: None })
    }

    fn run(&mut self, op: &Op, page_rows: usize) -> Answer {
        match op {
            Op::Get { key, at: None } => Answer::Row(self.get(key)),
            Op::Put { key, value, deadline: None, previous: false } => {
                self.put(key.clone(), value.clone());
                Answer::Put { previous: None }
            }
            Op::GetAll { keys, at: None } => Answer::Many(
                keys.iter().map(|key| KeyAnswer { key: key.clone(), result: Ok(self.get(key)) }).collect(),
            ),
            Op::Range(range) => {
                assert!(range.keys_only && range.limit as usize <= kv::PAGE_ROWS_MAX);
                let limit = page_rows.min(range.limit as usize);
                let after = |key: &&Key| range.page.as_ref().is_none_or(|page| *key > page);
                let keys: Vec<Key> = self.rows.keys().filter(after).take(limit + 1).cloned().collect();
                let row = |key: &Key| Row { value: Bytes::new(), ..self.get(key).unwrap() };
                let rows: Vec<Row> = keys.iter().take(limit).map(row).collect();
                let next = (keys.len() > limit).then(|| rows[limit - 1].key.clone());
                Answer::Page(Page { count: rows.len() as u64, rows, next })
            }
            Op::PutAll { rows } => {
                rows.iter().for_each(|(key, value)| self.put(key.clone(), value.clone()));
                Answer::Many(
                    rows.iter().map(|(key, _)| KeyAnswer { key: key.clone(), result: Ok(None) }).collect(),
                )
            }
            Op::Update { key, function: Function::Insert { value, deadline: None } } => {
                self.put_if(key, value, |row| row.is_none())
            }
            Op::Update { key, function: Function::CompareAndPut { expect, value, deadline: None } } => self
                .put_if(key, value, |row| match expect {
                    Expect::Absent => row.is_none(),
                    Expect::Version(version) => row.is_some_and(|row| row.version == *version),
                    other => panic!("nobody expects {other:?}"),
                }),
            other => panic!("no classic dialect asks {other:?}"),
        }
    }

    fn put_if(&mut self, key: &Key, value: &Value, met: impl Fn(Option<&Row>) -> bool) -> Answer {
        let current = self.get(key);
        if met(current.as_ref()) {
            self.put(key.clone(), value.clone());
            Answer::Condition { met: true, current: None }
        } else {
            Answer::Condition { met: false, current }
        }
    }
}

impl Fake {
    pub fn new(page_rows: usize) -> Arc<Fake> {
        Arc::new(Fake {
            rows: Mutex::default(),
            page_rows,
            seen: Mutex::default(),
            verdicts: Mutex::default(),
            meddle: Mutex::default(),
            cluster: Mutex::new(Ok(ClusterId::new(1).unwrap())),
            faults: Mutex::default(),
        })
    }

    /// Stores a row past all dialects.
    pub fn put(&self, key: &[u8], value: &[u8]) {
        self.rows.lock().unwrap().put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    /// The value of a key.
    pub fn value(&self, key: &[u8]) -> Option<Bytes> {
        self.rows.lock().unwrap().rows.get(key).map(|(value, _)| value.clone())
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.lock().unwrap().rows.len()
    }

    /// The keys in their order.
    pub fn keys(&self) -> Vec<Bytes> {
        self.rows.lock().unwrap().rows.keys().cloned().collect()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// What becomes of the next requests; `None` = they are run.
    pub fn judge(&self, verdicts: impl IntoIterator<Item = Option<Error>>) {
        self.verdicts.lock().unwrap().extend(verdicts);
    }

    /// All requests are run from now on.
    pub fn judge_no_more(&self) {
        self.verdicts.lock().unwrap().clear();
    }

    /// Has somebody else change rows before each op.
    pub fn meddle(&self, meddle: impl FnMut(&Op, &mut Rows) + Send + 'static) {
        *self.meddle.lock().unwrap() = Some(Box::new(meddle));
    }

    /// The node belongs to no cluster yet.
    pub fn leave(&self, why: Error) {
        *self.cluster.lock().unwrap() = Err(why);
    }

    /// The node belongs to a cluster.
    pub fn join(&self) {
        *self.cluster.lock().unwrap() = Ok(ClusterId::new(1).unwrap());
    }

    /// Which faults were put on the node.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap().clone()
    }

    fn ask(&self, request: Request) -> Result<Reply, Error> {
        assert_eq!(request.keyspace, KEYSPACE);
        self.seen.lock().unwrap().push(request.clone());
        if let Some(Some(error)) = self.verdicts.lock().unwrap().pop_front() {
            return Err(error);
        }
        let mut rows = self.rows.lock().unwrap();
        if let Some(meddle) = &mut *self.meddle.lock().unwrap() {
            meddle(&request.op, &mut rows);
        }
        Ok(Reply { answer: rows.run(&request.op, self.page_rows), receipt: receipt() })
    }
}

impl KeyValue for Fake {
    fn submit(&self, requests: Vec<Request>, mut completions: Box<dyn Completions>) {
        for (index, request) in requests.into_iter().enumerate() {
            completions.complete(index, self.ask(request));
        }
    }
}

impl Admin for Fake {
    fn administer(&self, _: Ask, _: Duration, _: Answered) {
        unreachable!("no classic dialect changes the cluster")
    }

    fn fault(&self, fault: Option<Fault>) -> Result<Faults, Error> {
        self.faults.lock().unwrap().extend(fault);
        Ok(Faults::default())
    }
}

impl Watch for Fake {
    fn watch(&self, _: Watching) -> Box<dyn Watcher> {
        unreachable!("no classic dialect watches keys")
    }
}

impl Cluster for Fake {
    fn id(&self) -> Result<ClusterId, Error> {
        self.cluster.lock().unwrap().clone()
    }

    fn terms(&self) -> Terms {
        unreachable!("no classic dialect asks what nodes have in common")
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn locate(&self, _: &str, _: &Key, _: Located) {
        unreachable!("no classic dialect asks where a key is")
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

fn receipt() -> Receipt {
    Receipt {
        version: Version::new(1, ReplicaId(1)),
        shard: ShardId(1),
        protocol: Protocol::Single,
        epoch: Epoch(1),
        asked: Level::Linearizable,
        reached: Level::Linearizable,
        copies: 1,
        staleness_micros: 0,
        node: NodeId(1),
    }
}

/// A server on a port of its own.
pub struct Server {
    pub store: Arc<Fake>,
    pub address: String,
    ended: Arc<AtomicUsize>,
    _stopper: Stopper,
    serving: JoinHandle<()>,
}

/// How a server is to be.
pub struct Setup {
    /// Rows of a page, however many are asked for.
    pub page_rows: usize,
    /// Whether clients may end it.
    pub may_end: bool,
    /// Where it listens.
    pub listen: String,
    /// What all connections together may hold.
    pub account: Account,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            page_rows: kv::PAGE_ROWS_MAX,
            may_end: true,
            listen: "127.0.0.1:0".into(),
            account: Account::default(),
        }
    }
}

impl Server {
    pub async fn start(dialect: &str, options: &[&str]) -> Server {
        Server::start_with(dialect, options, Setup::default()).await
    }

    pub async fn start_with(dialect: &str, options: &[&str], setup: Setup) -> Server {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let dialect = dialects::named(dialect, &options).unwrap();
        let store = Fake::new(setup.page_rows);
        let listener = TcpListener::bind(&setup.listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ended = Arc::new(AtomicUsize::new(0));
        let (stopper, stop) = Stop::new();
        let behind = Arc::new(Store {
            keys: store.clone(),
            cluster: store.clone(),
            admin: store.clone(),
            watch: store.clone(),
            clock: Arc::new(|| 1),
            keyspace: KEYSPACE.into(),
            advertise: address.clone(),
            serving: watch::channel(true).1,
            end: setup.may_end.then(|| {
                let ended = ended.clone();
                Arc::new(move || {
                    ended.fetch_add(1, Ordering::SeqCst);
                    Box::pin(std::future::ready(())) as Pin<Box<dyn Future<Output = ()> + Send>>
                }) as Arc<End>
            }),
        });
        let serving = tokio::spawn(accept(listener, dialect, behind, stop, setup.account));
        Server { store, address, ended, _stopper: stopper, serving }
    }

    /// How often a client has ended it.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// Ends it at once: its port closes, its connections break.
    pub async fn kill(self) {
        self.serving.abort();
        assert!(self.serving.await.unwrap_err().is_cancelled());
    }
}

async fn accept(
    listener: TcpListener,
    dialect: Arc<dyn Dialect>,
    store: Arc<Store>,
    stop: Stop,
    account: Account,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = Stream { bytes: Box::new(stream), account: account.clone() };
        connections.spawn(dialect.serve(stream, store.clone(), stop.clone()));
    }
}
