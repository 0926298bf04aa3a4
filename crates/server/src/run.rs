//! The life of a node: open, recover, serve, stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use dialects::Store;
use kv::ShardId;
use kv::cluster::{Cluster, Terms};
use kv::keyspace;
use node::cores::Deal;
use node::identity::{Identity, come_back};
use node::log::{Request, Settings};
use node::{Driver, Executor, Input, Recovery};
use placement::map::Map;
use rustix::fs::Mode;
use rustix::process::umask;
use storage::{Applied, History, Kind, Options, Resources, Table};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::bus::Buses;
use crate::connections::{Connections, Door, Refusal, Serving};
use crate::core::{Core, Shared};
use crate::descriptors::Descriptors;
use crate::desk::Desk;
use crate::engine::{Beside, Engine, pause};
use crate::faults::Faults;
use crate::folder::{Folder, Opened};
use crate::founding::{founding, limits};
use crate::handle::{Handle, JOIN_INSTEAD, Membership, WAITS_LONG};
use crate::inbox::{Inboxes, Message};
use crate::join::Joined;
use crate::outbox::outboxes;
use crate::routes::Routes;
use crate::signals::Signals;
use crate::transport::{Identities, Places, Transport};
use crate::view::View;
use crate::waiting::meanwhile;
use crate::{Config, Failure, Listen, join, journal, listen, log, thread, time};

/// Runs a node until SIGTERM or SIGINT, or until it cannot go on.
pub fn run(config: Config) -> Result<(), Failure> {
    config.validate().map_err(Failure::Refused)?;
    // What is stored is for this user alone.
    umask(Mode::RWXG | Mode::RWXO);
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let cores = config.cores.unwrap_or_else(processors).max(1);
    let folder = Opened::open(&config)?;
    let _journal = journal::start(folder.journal().as_deref(), &config.stderr).map_err(Failure::Refused)?;
    if let Some(note) = folder.note() {
        tracing::warn!(data = data(&config), note, "the data folder was open to other users");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start a runtime: {error}")))?;
    let ended = runtime.block_on(serve(config, folder, cores));
    match &ended {
        Ok(()) => {}
        Err(Failure::Left(why)) => tracing::info!(why, "the node ends"),
        Err(failure) => tracing::error!(%failure, "the node ends"),
    }
    ended
}

async fn serve(config: Config, opened: Opened, cores: usize) -> Result<(), Failure> {
    // Before anybody can see that it is there.
    let mut signals = Signals::listen();
    let listeners = config.listen.iter().map(Listener::open).collect::<Result<Vec<_>, _>>()?;
    let address = announced(&config, &listeners);
    let begun = tokio::select! {
        begun = Begun::of(&config, opened, &address, &listeners) => begun?,
        () = signals.asked() => {
            tracing::info!("stopped before it was one of a cluster");
            return Ok(());
        }
    };
    let Begun { folder, log, recovery, map, listeners: peers } = begun;
    let node = node_config(&config, &folder, map, drivers(&config, cores), address.clone());
    let descriptors = Descriptors::claim(&node.map, cores, !node.peer.is_empty())?;
    let peers = peers.map_or_else(|| listen::to_nodes(&config, &node.peer), Ok)?;
    let inboxes = Inboxes::new(node.deal);
    let recovered = recover(&folder, &node, &config, recovery, descriptors.table_files)?;
    let terms = folder.terms();
    let identities = Arc::new(Identities::new(folder, &node.map, Places::new(&config.peers, &node.map))?);
    let requests = log.requests();
    start_log(log, &config, identities.clone(), &inboxes);
    let view = Arc::new(View::new(inboxes.count()));
    let desks: Arc<[Arc<Desk>]> = (0..cores).map(|_| Arc::new(Desk::new(inboxes.all()))).collect();
    let membership = Membership::of(identities.clone(), terms);
    let faults = Faults::new(config.lab, identities.me(), identities.nodes());
    let routes = Arc::new(Routes::new(&node.map));
    let met = (identities.clone(), faults.clone());
    let buses = Arc::new(Buses::start(&node.map, node.incarnation, inboxes.clone(), met.clone()));
    let beside = (membership, faults.clone(), buses.clone());
    let handle = Arc::new(Handle::new(inboxes.clone(), desks.clone(), routes.clone(), view.clone(), beside));
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot start: {error}"));
    let rate = config.moves.bytes_per_second;
    let transport = Transport::start(peers, descriptors.nodes, met, inboxes.clone(), rate).map_err(failed)?;
    let shared = Shared {
        inboxes: inboxes.clone(),
        view,
        routes,
        log: requests.clone(),
        transport: Arc::new(transport),
        buses,
        outboxes: outboxes(cores),
        desks,
    };

    let (refusal, ending) = (Refusal::new(), Arc::new(Ending::default()));
    let serving = watch::Sender::new(true);
    let behind = Behind {
        handle: handle.clone(),
        serving: serving.subscribe(),
        refusal: refusal.clone(),
        ending: ending.clone(),
    };
    let doors = listeners.into_iter().map(|listener| behind.door(listener)).collect();
    let (connections, tasks) =
        Connections::start(doors, &refusal, cores, descriptors.clients).map_err(failed)?;
    let first = start_cores(recovered, tasks, config.engine, &shared, &ending);
    let (files, most) = (descriptors.limit, descriptors.clients);
    tracing::info!(files, connections = most, "descriptors are shared out");
    watch_membership(&config, &identities, inboxes, handle, &serving);
    let readiness = tokio::spawn(become_ready(config, address, identities, serving.clone()));
    let stop = asked_to_stop(signals, ending.clone(), refusal, serving, readiness, faults);
    let ended = thread::drive(first, Box::pin(stop)).await;
    ending.over.send_replace(true);
    connections.end().await;
    // Of a node that did not come to its last step, too.
    requests.ask(Request::Finish);
    tracing::info!("stopped");
    ended
}

/// What a node begins with.
struct Begun {
    folder: Folder,
    log: log::OpenLog,
    recovery: Recovery,
    map: Arc<Map>,
    /// Where it listens for other nodes, if it does so already.
    listeners: Option<Vec<std::net::TcpListener>>,
}

impl Begun {
    /// Reads the log. Who is not one of a cluster yet asks to be, before that.
    async fn of(
        config: &Config,
        opened: Opened,
        address: &str,
        clients: &[Listener],
    ) -> Result<Begun, Failure> {
        let (folder, given, listeners) = match opened {
            Opened::Node(folder) => (folder, None, None),
            Opened::Joining(joining) => {
                let joined = join::join(config, joining, address);
                let Joined { folder, map, listeners } = meanwhile(config, clients, joined).await?;
                (folder, Some(map), Some(listeners))
            }
        };
        let mut recovery = Recovery::default();
        let log = read_log(&folder, &mut recovery)?;
        let map = match recovery.take_map().or(given) {
            Some(map) => map,
            None if folder.identity().founders.is_empty() => {
                meanwhile(config, clients, join::map_again(config, &folder, address)).await?
            }
            None => founding(config, &folder)?,
        };
        Ok(Begun { folder, log, recovery, map: Arc::new(map), listeners })
    }
}

/// Starts the log, which has it noted when it first holds something.
fn start_log(log: log::OpenLog, config: &Config, identities: Arc<Identities>, inboxes: &Inboxes) {
    let settings = Settings { checkpoint_bytes: config.checkpoint_bytes, ..Settings::default() };
    log.start(inboxes, Box::new(move || identities.log_begins()), settings);
}

/// Has the first core's connections served on this runtime, and gives each other core its thread. Returns the first one.
fn start_cores(
    recovered: Vec<(Driver, Executor)>,
    connections: Vec<Serving>,
    engine: Kind,
    shared: &Shared,
    ending: &Ending,
) -> Core {
    let beside = Beside::start(&shared.inboxes, shared.log.clone());
    let mut cores = recovered.into_iter().enumerate().map(|(place, (driver, executor))| {
        let engine = Engine::new(place, executor, engine, &shared.inboxes, beside.clone());
        Core::new(place, driver, engine, shared.clone())
    });
    let first = cores.next().expect("a node has a core");
    let mut connections = connections.into_iter();
    tokio::spawn(connections.next().expect("the first core serves connections"));
    thread::carry(0, shared);
    for (place, serving) in (1..).zip(connections) {
        thread::start(place, cores.next(), serving, shared, ending.over.subscribe());
    }
    first
}

/// Until the node is asked to stop, and nobody can connect any more.
async fn asked_to_stop(
    mut signals: Signals,
    ending: Arc<Ending>,
    refusal: Refusal,
    serving: watch::Sender<bool>,
    readiness: JoinHandle<()>,
    faults: Arc<Faults>,
) {
    tokio::select! {
        () = signals.asked() => {}
        () = ending.asked.notified() => tracing::info!("a client has ended this node"),
    }
    readiness.abort();
    faults.end();
    tracing::info!("stopping: leaderships are handed over");
    serving.send_replace(false);
    refusal.refuse().await;
}

/// A listener, bound.
pub(crate) struct Listener {
    pub listen: Listen,
    pub sockets: Vec<std::net::TcpListener>,
    /// Where others are told to connect.
    pub advertise: String,
}

impl Listener {
    fn open(listen: &Listen) -> Result<Listener, Failure> {
        let sockets = crate::listen::listen(&listen.address, "clients")?;
        let first = sockets.first().expect("there is one, or listening has failed").local_addr();
        let first = first.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
        let advertise = listen.advertise.clone().unwrap_or_else(|| first.to_string());
        tracing::info!(dialect = listen.dialect.name(), address = %listen.address, advertise, "listening");
        Ok(Listener { listen: listen.clone(), sockets, advertise })
    }
}

/// The end of a node, as clients may ask for it.
#[derive(Default)]
struct Ending {
    asked: Notify,
    /// The driver has come to its end.
    over: watch::Sender<bool>,
}

/// What stands behind all listeners of a node.
struct Behind {
    handle: Arc<Handle>,
    serving: watch::Receiver<bool>,
    refusal: Refusal,
    ending: Arc<Ending>,
}

impl Behind {
    fn door(&self, listener: Listener) -> Door {
        let Listener { listen, sockets, advertise } = listener;
        let clock = self.handle.clone();
        let store = Store {
            keys: self.handle.clone(),
            cluster: self.handle.clone(),
            admin: self.handle.clone(),
            watch: self.handle.clone(),
            clock: Arc::new(move || clock.clock()),
            keyspace: listen.keyspace,
            advertise,
            serving: self.serving.clone(),
            end: listen.may_end.then(|| self.end()),
        };
        Door { sockets, dialect: listen.dialect, store: Arc::new(store) }
    }

    /// Ends the process for a client. When it is ready nobody can connect, and nothing is left to do but to end connections: so
    /// whoever hears of it finds the port free.
    fn end(&self) -> Arc<dialects::End> {
        let (refusal, ending) = (self.refusal.clone(), self.ending.clone());
        Arc::new(move || {
            let (refusal, ending) = (refusal.clone(), ending.clone());
            Box::pin(async move {
                refusal.refuse().await;
                ending.asked.notify_one();
                // The sender is here.
                let _ = ending.over.subscribe().wait_for(|over| *over).await;
            })
        })
    }
}

/// Sees to what follows from which cluster the node is of, and from leaving it.
fn watch_membership(
    config: &Config,
    identities: &Arc<Identities>,
    inboxes: Inboxes,
    handle: Arc<Handle>,
    serving: &watch::Sender<bool>,
) {
    tokio::spawn(tell_cluster(identities.clone(), inboxes.clone()));
    if let Some(cluster) = *identities.cluster().borrow() {
        let inboxes = inboxes.clone();
        tokio::spawn(join::check_cluster(config.join.clone(), config.name.clone(), cluster, inboxes));
    }
    tokio::spawn(note_left(identities.clone(), handle, serving.clone(), (inboxes, config.ends_when_left)));
}

/// Tells the directory which cluster it is of, as soon as that is known.
async fn tell_cluster(identities: Arc<Identities>, inboxes: Inboxes) {
    let mut cluster = identities.cluster();
    // The sender is among the identities.
    let Ok(cluster) = cluster.wait_for(Option::is_some).await.map(|cluster| *cluster) else { return };
    inboxes.input(Input::Cluster(cluster.expect("it was waited for")));
}

/// Says so when the node has left its cluster, to its journal and from then on to every client.
async fn note_left(
    identities: Arc<Identities>,
    handle: Arc<Handle>,
    serving: watch::Sender<bool>,
    (inboxes, ends): (Inboxes, bool),
) {
    // The sender is among the identities.
    if identities.left().wait_for(|left| *left).await.is_err() {
        return;
    }
    let others = handle.status().nodes.into_iter().filter(|node| node.id != identities.me());
    let others: Vec<String> = others.map(|node| node.address).filter(|other| !other.is_empty()).collect();
    let others = others.join(", ");
    tracing::warn!(others, "this node has left the cluster: nobody needs it any more, and it may be stopped");
    let why = format!("this node has left the cluster: connect to {others}");
    handle.leave(why.clone());
    serving.send_replace(false);
    if ends {
        inboxes.first().push(Message::Fatal(Failure::Left(why)));
    }
}

/// Says that it is ready, at once when the node knows its cluster, and until then whom it waits for.
async fn become_ready(
    config: Config,
    address: String,
    identities: Arc<Identities>,
    serving: watch::Sender<bool>,
) {
    let mut cluster = identities.cluster();
    if cluster.borrow().is_none() {
        serving.send_replace(false);
        tracing::info!(why = identities.waits(), "not ready yet");
    }
    if tokio::time::timeout(WAITS_LONG, cluster.wait_for(Option::is_some)).await.is_err() {
        tracing::warn!(why = identities.waits(), what_to_do = JOIN_INSTEAD, "still not ready");
    }
    // The sender is among the identities.
    let Ok(cluster) = cluster.wait_for(Option::is_some).await.map(|cluster| *cluster) else { return };
    serving.send_replace(true);
    let cluster = cluster.expect("it was waited for");
    tracing::info!(node = %config.name, %cluster, address, data = data(&config), "ready");
    journal::ready(&config.stderr);
}

/// Where its data is, for the journal.
fn data(config: &Config) -> String {
    config.data.as_ref().map_or("in memory only".into(), |folder| folder.display().to_string())
}

/// Where clients of the cluster are told to connect: to the first listener.
fn announced(config: &Config, listeners: &[Listener]) -> String {
    let Listener { listen, sockets, advertise } = listeners.first().expect("a node has one, it was checked");
    let elsewhere = |(_, peer): &(String, String)| {
        peer.parse().is_ok_and(|peer: SocketAddr| !peer.ip().to_canonical().is_loopback())
    };
    let is_loopback = |socket: &std::net::TcpListener| {
        socket.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    };
    if listen.advertise.is_none()
        && sockets.first().is_some_and(is_loopback)
        && config.peers.iter().any(elsewhere)
    {
        tracing::warn!(
            address = advertise,
            "clients on other machines cannot follow this address to this node: give --listen or --advertise one that they reach"
        );
    }
    advertise.clone()
}

/// How many cores may have a driver; the others serve connections. A checkpoint flushes the table of every driver: where each
/// flush writes the rows of all tables again, it would take several times the time and the space.
fn drivers(config: &Config, cores: usize) -> usize {
    let keeps_nothing = config.data.is_none();
    if keeps_nothing || config.engine.flushes_what_is_new() { cores } else { 1 }
}

fn node_config(
    config: &Config,
    folder: &Folder,
    map: Arc<Map>,
    cores: usize,
    address: String,
) -> node::Config {
    let Identity { me, lineage, zone, .. } = folder.identity();
    let before = map.nodes.get(me).map(|node| &node.peer);
    let peer = config.peer().or(before).cloned().unwrap_or_default();
    node::Config {
        me: *me,
        deal: Deal::new(cores, map.nodes.len()),
        map,
        seed: crate::random(),
        entry_cache_bytes: config.entry_cache_bytes,
        pid: std::process::id(),
        address,
        peer,
        zone: zone.clone(),
        incarnation: lineage.life.incarnation,
        grace_micros: config.moves.grace_micros,
        limits: limits(config),
        volatile: config.data.is_none(),
        history: Some(folder.terms().history.map_or(keyspace::History::All, keyspace::History::Count)),
    }
}

fn read_log(folder: &Folder, recovery: &mut Recovery) -> Result<log::OpenLog, Failure> {
    let mut replay =
        |record: wal::Record| recovery.replay(&record).map_err(|error| Failure::Refused(error.to_string()));
    let Identity { name, lineage, .. } = folder.identity();
    log::open(folder.log().as_deref(), lineage.life.incarnation, name, &mut replay)
}

/// The driver and the table of each core: the tables at the generations that the log names, then the drivers.
fn recover(
    folder: &Folder,
    node: &node::Config,
    config: &Config,
    recovery: Recovery,
    table_files: usize,
) -> Result<Vec<(Driver, Executor)>, Failure> {
    let engine = open_engine(folder.engine().as_deref(), config, table_files)?;
    let Terms { history, deleted_micros, .. } = folder.terms();
    let history = history.map_or(History::All, History::Count);
    // Of copies without an order nobody reads older revisions, but where the rules of a shard say so.
    let merged_history = Some(History::Count(1));
    let options = Options { deleted_micros, merged_history, ..Options::of(history) };
    let deal = node.deal;
    let mut tables: Vec<Table> = (0..deal.cores()).map(|_| Table::open(engine.clone(), options)).collect();
    let mut applied: BTreeMap<ShardId, Applied> = BTreeMap::new();
    for (shard, (generation, layout)) in recovery.replicas(node.me, &node.map) {
        let table = &mut tables[deal.core_of(shard)];
        let loaded = table.load_as(shard, generation, layout);
        let loaded = loaded.map_err(|error| engine_failure(&error, &config.name))?;
        // Every checkpoint writes something of each shard at the log's head.
        if loaded.index > 0 && !recovery.knows(shard) {
            return Err(folder.log_is_lost());
        }
        applied.insert(shard, loaded);
    }
    let drivers = Driver::all(node.clone(), recovery, &applied, time::now());
    let drivers = drivers.map_err(|error| Failure::Refused(error.to_string()))?;
    Ok(drivers.into_iter().zip(tables.into_iter().map(Executor::new)).collect())
}

fn open_engine(
    folder: Option<&Path>,
    config: &Config,
    files: usize,
) -> Result<Arc<dyn storage::Engine>, Failure> {
    let resources = Resources { files, pause: Some(pause), ..Resources::default() };
    match folder {
        Some(folder) => {
            let opened = storage::open_with(config.engine, folder, resources);
            opened.map_err(|error| engine_failure(&error, &config.name))
        }
        None => Ok(storage::open_volatile()),
    }
}

fn engine_failure(error: &storage::EngineError, name: &str) -> Failure {
    if error.may_pass() {
        return Failure::Failed(error.to_string());
    }
    Failure::Refused(format!(
        "cannot open the engine: {error}. If the other nodes are well, move this node's data folder away, {}",
        come_back(name)
    ))
}
