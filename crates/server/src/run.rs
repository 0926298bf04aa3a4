//! The life of a node: open, recover, serve, stop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use dialects::native::Health;
use kv::{NodeId, Protocol, ShardId};
use node::identity::Identity;
use node::log::{Request, Settings};
use node::route::ShardMap;
use node::{Driver, Executor, Recovery};
use rustix::fs::Mode;
use rustix::process::umask;
use storage::{Applied, Options, Resources, Table};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::connections::{self, listen};
use crate::core::Core;
use crate::descriptors::Descriptors;
use crate::engine::Engine;
use crate::engine::pause;
use crate::folder::Folder;
use crate::handle::{Handle, Membership, View};
use crate::inbox::Inbox;
use crate::transport::{Identities, Transport};
use crate::{Config, Failure, journal, log, time};

/// Runs a node until SIGTERM or SIGINT, or until it cannot go on.
pub fn run(config: Config) -> Result<(), Failure> {
    config.validate().map_err(Failure::Refused)?;
    // What is stored is for this user alone.
    umask(Mode::RWXG | Mode::RWXO);
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let cores = config.cores.unwrap_or_else(processors).max(1);
    let descriptors = Descriptors::claim(&config, cores)?;
    let folder = Folder::open(&config)?;
    let _journal =
        journal::start(folder.journal().as_deref(), config.journal_stderr).map_err(Failure::Refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start a runtime: {error}")))?;
    let ended = runtime.block_on(serve(config, folder, cores, descriptors));
    if let Err(failure) = &ended {
        tracing::error!(%failure, "the node ends");
    }
    ended
}

async fn serve(
    config: Config,
    folder: Folder,
    cores: usize,
    descriptors: Descriptors,
) -> Result<(), Failure> {
    if let Some(note) = folder.note() {
        tracing::warn!(data = data(&config), note, "the data folder was open to other users");
    }
    let clients = listen(&config.listen, "clients")?;
    let peers = own_address(&config).map_or(Ok(Vec::new()), |address| listen(address, "other nodes"))?;
    let address = announced(&config, &clients)?;
    let node = node_config(&config, &folder, address.clone());
    let inbox = Arc::new(Inbox::default());
    let (driver, executor, log) = recover(&folder, &node, &config, descriptors.table_files)?;
    let identities = Arc::new(Identities::new(folder)?);
    let requests = log.requests();
    let begins = identities.clone();
    let settings = Settings { checkpoint_bytes: config.checkpoint_bytes, ..Settings::default() };
    log.start(inbox.clone(), Box::new(move || begins.log_begins()), settings);
    let engine = Engine::new(executor, config.engine, inbox.clone(), requests.clone());
    let view = Arc::new(View::default());
    let membership = Membership { cluster: identities.cluster(), waits: identities.waits() };
    let handle = Arc::new(Handle::new(inbox.clone(), node.map.clone(), view.clone(), membership));
    let addresses = peer_addresses(&config, &node);
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot start: {error}"));
    let transport = Transport::start(peers, descriptors.nodes, addresses, identities.clone(), inbox.clone())
        .map_err(failed)?;
    let mut core = Core::new(driver, inbox, view, engine, requests.clone(), transport);

    let (stop_connections, stopped) = watch::channel(false);
    let service = connections::dialects(handle);
    tokio::spawn(connections::serve(clients, service.routes, cores, descriptors.clients, stopped));
    let (files, connections) = (descriptors.limit, descriptors.clients);
    tracing::info!(files, connections, "descriptors are shared out");
    let health = service.health.clone();
    let readiness = tokio::spawn(become_ready(config, address, identities, health.clone()));
    let stop = Box::pin(async move {
        stop_signal().await;
        readiness.abort();
        tracing::info!("stopping: leaderships are handed over");
        health.set_serving(false).await;
    });
    let ended = core.run(stop).await;
    // Connections end with the runtime; what was not answered by now is in doubt for its client.
    let _ = stop_connections.send(true);
    // Of a node that did not come to its last step, too.
    requests.ask(Request::Finish);
    tracing::info!("stopped");
    ended
}

/// Says that it is ready, at once when the node knows its cluster, and until then whom it waits for.
async fn become_ready(config: Config, address: String, identities: Arc<Identities>, health: Health) {
    let mut cluster = identities.cluster();
    if cluster.borrow().is_none() {
        health.set_serving(false).await;
        tracing::info!(why = identities.waits(), "not ready yet");
    }
    // The sender is among the identities.
    let Ok(cluster) = cluster.wait_for(Option::is_some).await.map(|cluster| *cluster) else { return };
    health.set_serving(true).await;
    let cluster = cluster.expect("it was waited for");
    tracing::info!(node = %config.name, %cluster, address, data = data(&config), "ready");
}

/// Where its data is, for the journal.
fn data(config: &Config) -> String {
    config.data.as_ref().map_or("in memory only".into(), |folder| folder.display().to_string())
}

/// Where clients are told to connect.
fn announced(config: &Config, listeners: &[TcpListener]) -> Result<String, Failure> {
    if let Some(advertise) = &config.advertise {
        return Ok(advertise.clone());
    }
    let first = listeners.first().expect("there is one, or listening has failed").local_addr();
    let first = first.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let elsewhere = |(_, peer): &(String, String)| {
        peer.parse().is_ok_and(|peer: SocketAddr| !peer.ip().to_canonical().is_loopback())
    };
    if first.ip().to_canonical().is_loopback() && config.peers.iter().any(elsewhere) {
        tracing::warn!(
            address = %first,
            "clients on other machines cannot follow this address to this node: give --listen or --advertise one that they reach"
        );
    }
    Ok(first.to_string())
}

async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn own_address(config: &Config) -> Option<&str> {
    let own = config.peers.iter().find(|(name, _)| *name == config.name);
    own.filter(|_| config.peers.len() > 1).map(|(_, address)| address.as_str())
}

fn peer_addresses(config: &Config, node: &node::Config) -> BTreeMap<NodeId, String> {
    let id = |name: &str| node.nodes.iter().find(|(_, known)| known == name).map(|(id, _)| *id);
    let others = config.peers.iter().filter(|(name, _)| *name != config.name);
    others.filter_map(|(name, address)| Some((id(name)?, address.clone()))).collect()
}

fn node_config(config: &Config, folder: &Folder, address: String) -> node::Config {
    let &Identity { me, ref nodes, rejoining, .. } = folder.identity();
    node::Config {
        me,
        protocol: if nodes.len() == 1 { Protocol::Single } else { Protocol::Raft },
        nodes: nodes.clone(),
        map: ShardMap::of(config.shards),
        seed: crate::random(),
        entry_cache_bytes: config.entry_cache_bytes,
        pid: std::process::id(),
        address,
        rejoining,
        volatile: config.data.is_none(),
    }
}

/// Log first, then the table at the generations that the log names, then the driver.
fn recover(
    folder: &Folder,
    node: &node::Config,
    config: &Config,
    table_files: usize,
) -> Result<(Driver, Executor, log::OpenLog), Failure> {
    let mut recovery = Recovery::default();
    let mut logged = BTreeSet::new();
    let mut replay = |record: wal::Record| {
        logged.insert(ShardId(record.stream));
        recovery.replay(&record).map_err(|error| Failure::Refused(error.to_string()))
    };
    let log = log::open(folder.log().as_deref(), folder.identity().incarnation, &mut replay)?;
    let mut table = open_table(folder.engine().as_deref(), config, table_files)?;
    let mut applied: BTreeMap<ShardId, Applied> = BTreeMap::new();
    for &(shard, _) in node.map.shards() {
        let loaded = table.load(shard, recovery.generation(shard)).map_err(|error| engine_failure(&error))?;
        // Every checkpoint writes something of each shard at the log's head.
        if loaded.index > 0 && !logged.contains(&shard) {
            return Err(folder.log_is_lost());
        }
        applied.insert(shard, loaded);
    }
    let driver = Driver::new(node.clone(), recovery, &applied, time::now());
    let driver = driver.map_err(|error| Failure::Refused(error.to_string()))?;
    Ok((driver, Executor::new(table), log))
}

fn open_table(folder: Option<&Path>, config: &Config, files: usize) -> Result<Table, Failure> {
    let resources = Resources { files, pause: Some(pause), ..Resources::default() };
    let engine = match folder {
        Some(folder) => {
            storage::open_with(config.engine, folder, resources).map_err(|error| engine_failure(&error))?
        }
        None => storage::open_volatile(),
    };
    Ok(Table::open(engine, Options { deleted_micros: config.deleted_micros, ..Options::of(config.history) }))
}

fn engine_failure(error: &storage::EngineError) -> Failure {
    if error.may_pass() {
        return Failure::Failed(error.to_string());
    }
    Failure::Refused(format!(
        "cannot open the engine: {error}. If the other nodes are well, move this node's data folder away and start it \
         with --rejoin: they make it whole"
    ))
}
