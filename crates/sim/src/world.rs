//! The world: all machines, the network, the clients, and the loop that lets happen what is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use check::history::Recorder;
use check::window::Window;
use kv::view::{Member, View};
use kv::{Index, Key, NodeId, Page, Protocol, ShardId, Value};
use node::cores::Deal;
use node::identity::Identity;
use node::route::Keyspaces;
use node::wire::Frame;
use placement::map::{DEFAULT, Keyspace, Map};
use placement::{Founder, Founding, Limits};
use replication::MemberStatus;

use check::generate::{Place, Workload};

use crate::clients::client::Client;
use crate::events::{Event, Events};
use crate::faults::{Fault, Faults};
use crate::machine::Machine;
use crate::machine::clock::Clock;
use crate::machine::place::{address, place};
use crate::net::links::Network;
use crate::operator::chore::Operator;
use crate::operator::forcing::Forcing;
use crate::operator::tenant::is_tenant;
use crate::options::Options;
use crate::outcome::Stats;
use crate::random::Random;
use crate::settings::Settings;
use crate::sometimes::SOMETIMES;
use crate::trace::Trace;
use crate::unordered;
use crate::watch::{Kind, Seen, Watch, in_frame};
use crate::watchers::watcher::Watcher;
use crate::zoned::Zoned;

/// Copies are compared so often.
const INSPECT_MICROS: u64 = 500_000;
/// A node has at most so many cores.
const CORES_MAX: usize = 3;

/// Everything there is in a run.
pub(crate) struct World {
    pub events: Events,
    pub random: Random,
    pub settings: Settings,
    /// The nodes that found the cluster: those with the ids up to this one.
    pub founders: u64,
    /// The newest map that is known to be written.
    pub placed: Arc<Map>,
    pub operator: Operator,
    /// In runs in which an election is forced: how far that is.
    pub forcing: Option<Forcing>,
    /// The keyspaces of clients.
    pub keyspaces: Keyspaces,
    pub faults: Faults,
    pub workload: Workload,
    pub steps: u64,
    pub machines: Vec<Machine>,
    pub network: Network,
    pub clients: Vec<Client>,
    pub watchers: Vec<Watcher>,
    pub zoned: Zoned,
    pub recorder: Recorder,
    /// Writes in doubt, by what they wrote.
    pub doubts: BTreeMap<Place, u32>,
    /// What the last reads found, and the last page of the scan.
    pub last_values: BTreeMap<Key, Value>,
    pub last_page: Page,
    /// Since when nobody leads a shard, once the faults are over.
    pub ownerless: BTreeMap<ShardId, u64>,
    pub watch: Watch,
    pub stats: Stats,
    pub violations: Vec<String>,
    /// What proves that the history is not linearizable.
    pub window: Option<Window>,
    /// The next fault strikes this node.
    pub haunted: Option<NodeId>,
    /// Who was cut off last from all others, and until when.
    pub cut_off: Option<(NodeId, u64)>,
    /// No fault begins before this.
    pub quiet_until: u64,
    /// The faults are over.
    pub calm: bool,
    pub lives: u64,
    tracer: Trace,
}

impl World {
    pub fn new(options: &Options, tracer: Trace) -> World {
        let mut random = Random::new(options.seed);
        let mut settings = Settings::draw(&mut random);
        if options.workload == Workload::Once {
            settings = settings.for_many_clients(&mut random);
        }
        let nodes = u64::from(options.nodes);
        let mut zoned = Zoned::draw(options.seed, options.protocol);
        // In most runs only some kinds of faults happen: then each happens more often, and with other things around it.
        let all = options.faults.clone();
        let kept = random.pick(&[30, 60, 100]);
        // What a client's request is valid for counts by the clock of the cluster: one that is hours off takes hours.
        let tame = options.workload == Workload::Once;
        let faults = all.only(|fault| random.percent(kept) && !(tame && fault == Fault::Clock));
        // A zone may have one copy of a shard, and an old one, put back, cannot be told from the true one.
        let is_zoned = zoned.count().is_some();
        let mut faults = faults.only(|fault| !is_zoned || fault != Fault::Restore);
        let forcing = Forcing::of(options, &mut settings, &mut faults, &zoned);
        if forcing.is_none() {
            zoned.wait_for_somebody();
        }
        if options.protocol.is_merged() {
            unordered::tame(options, &mut settings);
        }
        let steps = if forcing.is_some() { 2 * options.steps } else { options.steps };
        let mut watch = watch_of(&settings);
        let recorder = Recorder::of_shards(settings.shards);
        settings.zones = zoned.count().unwrap_or(settings.zones);
        let mut placed = founding(nodes, &settings, options.protocol);
        zoned.lay_out(&mut placed);
        unordered::weigh(options, settings.recasts, &mut placed);
        let placed = Arc::new(placed);
        watch.know(&placed);
        let machines =
            (1..=nodes).map(|id| Machine::new(NodeId(id), Clock::draw(&mut random), placed.clone()));
        let machines = machines.collect();
        World {
            events: Events::default(),
            keyspaces: Keyspaces::new(&placed),
            placed,
            operator: Operator::default(),
            forcing,
            settings,
            founders: nodes,
            faults,
            workload: options.workload,
            steps,
            machines,
            network: Network::default(),
            clients: Vec::new(),
            watchers: Vec::new(),
            zoned,
            recorder,
            doubts: BTreeMap::new(),
            last_values: BTreeMap::new(),
            last_page: Page::default(),
            ownerless: BTreeMap::new(),
            watch,
            stats: Stats::default(),
            violations: Vec::new(),
            window: None,
            haunted: None,
            cut_off: None,
            quiet_until: 0,
            calm: false,
            lives: 0,
            tracer,
            random,
        }
    }

    /// All nodes start, the clients begin, and the first fault is planned.
    pub fn begin(&mut self) {
        let settings = self.settings.clone();
        self.trace(|| format!("{:?}", Settings { padding: settings.padding.len().to_string(), ..settings }));
        for node in Vec::from_iter(self.ids()) {
            let delay = self.random.between(0, 300_000);
            self.events.after(delay, Event::Start { node });
        }
        self.start_clients();
        self.start_watchers();
        self.events.after(1_000_000, Event::Fault);
        self.events.after(INSPECT_MICROS, Event::Inspect);
        self.begin_to_operate();
    }

    /// Lets the next thing happen; false when there is none, or when something did not hold.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.events.next() else { return false };
        self.happen(event);
        for what in self.watch.take_seen() {
            self.note(what);
        }
        let broken = self.watch.take_broken();
        broken.into_iter().for_each(|why| self.unless_forced(why));
        self.violations.is_empty()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, life, core } if self.lives(node, life) => self.tick(node, life, core),
            Event::Turn { node, life, core } if self.lives(node, life) => self.turn(node, core),
            Event::Disk { node, life, token } if self.lives(node, life) => self.disk_done(node, token),
            Event::Retry { node, life } if self.lives(node, life) => self.wake_log(node),
            Event::Engine { node, life, core } if self.lives(node, life) => self.run_engine(node, core),
            Event::Background { node, life } if self.lives(node, life) => self.run_background(node),
            Event::Connect { from, to, life } if self.lives(from, life) => self.connect(from, to, life),
            Event::Hello { attempt, hello } if self.lives(attempt.from, attempt.life) => {
                self.hello(attempt, hello);
            }
            Event::Welcome { attempt, called, welcome } if self.lives(attempt.from, attempt.life) => {
                self.welcome(attempt, called, welcome);
            }
            Event::NotConnected { attempt } if self.lives(attempt.from, attempt.life) => {
                self.not_connected(attempt);
            }
            Event::Broken { from, to, life, number } if self.lives(from, life) => {
                self.link_broken(from, to, number)
            }
            Event::Frame { from, to, number, bytes } => self.frame(from, to, number, bytes),
            Event::Stray { from, to, folders, bytes } => self.stray(from, to, folders, bytes),
            Event::Bulk { stream, step, part } => self.bulk_part(stream, step, part),
            Event::BulkAnswer { stream, step, taken } => self.bulk_answer(stream, step, taken),
            Event::BulkTimeout { stream, step } => self.bulk_timeout(stream, step),
            Event::Ask { client } => self.ask(client),
            Event::Arrive { node, life, whose, request } => self.arrive(node, life, whose, *request),
            Event::Answer { whose, result, .. } if is_tenant(whose) => {
                self.tenant_answered(whose, result.map(|result| *result))
            }
            Event::Answer { whose, left, result } => {
                self.answer_arrived(whose, left, result.map(|result| *result))
            }
            Event::Patience { whose } => self.patience_over(whose),
            Event::Again { whose } => self.again(whose),
            Event::Watch { watcher } => self.look_out(watcher),
            Event::Fault => self.next_fault(),
            Event::Heal(heal) => self.heal(heal),
            Event::Start { node } if self.is_held(node) => {}
            Event::Start { node } => self.start(node),
            Event::Inspect => self.inspect(),
            Event::Operate => self.operate(),
            Event::Retire { node } => self.retire(node),
            // Of a life that is over.
            Event::Tick { .. } | Event::Turn { .. } | Event::Disk { .. } | Event::Retry { .. } => {}
            Event::Engine { .. } | Event::Background { .. } => {}
            Event::Connect { .. } | Event::Hello { .. } | Event::Welcome { .. } => {}
            Event::NotConnected { .. } | Event::Broken { .. } => {}
        }
    }

    pub fn lives(&self, node: NodeId, life: u64) -> bool {
        self.machine(node).life() == Some(life)
    }

    /// Compares copies that applied the same, and has a closer look at those of one node, each time another.
    fn inspect(&mut self) {
        self.events.after(INSPECT_MICROS, Event::Inspect);
        let turn = (self.events.now() / INSPECT_MICROS) as usize % self.machines.len();
        let broken = self.compare_copies();
        broken.into_iter().for_each(|why| self.unless_forced(why));
        let wrong = self.audit_copies(self.machines[turn].id);
        wrong.into_iter().for_each(|why| self.violation(why));
    }

    /// Copies of a node whose expiry is not as it must be.
    pub fn audit_copies(&self, id: NodeId) -> Vec<String> {
        let Some(process) = &self.machine(id).process else { return Vec::new() };
        let audit = |shard| process.cores.table(shard)?.audit(shard).err();
        let wrong = self.shards().into_iter().filter_map(audit);
        wrong.map(|why| format!("expiry is as it must be: {id}: {why}")).collect()
    }

    pub fn compare_copies(&mut self) -> Vec<String> {
        let mut broken = Vec::new();
        for shard in self.shards() {
            for machine in &self.machines {
                let Some(process) = &machine.process else { continue };
                let Some(table) = process.cores.table(shard) else { continue };
                let applied = table.applied(shard).index;
                if self.watch.merged.has(shard) {
                    let status = process.cores.replica_status(shard);
                    let is_whole = status
                        .is_some_and(|status| (status.applied, status.last) == (status.last, Index(applied)));
                    let wrong = is_whole.then(|| self.watch.merged.compare(machine.id, shard, table));
                    broken.extend(wrong.flatten());
                    continue;
                }
                let digest = table.digest(shard).expect("the engine in memory reads");
                broken.extend(self.watch.digests.see(machine.id, shard, applied, digest).err());
            }
        }
        broken
    }

    /// The nodes whose machines are there, up or down.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.machines.iter().filter(|machine| machine.there).map(|machine| machine.id)
    }

    /// One of them.
    pub fn any_node(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.ids().collect();
        self.random.pick(&ids)
    }

    pub fn machine(&self, id: NodeId) -> &Machine {
        &self.machines[place(id)]
    }

    pub fn machine_mut(&mut self, id: NodeId) -> &mut Machine {
        &mut self.machines[place(id)]
    }

    pub fn is_paused(&self, id: NodeId) -> bool {
        self.machine(id).paused_until > self.events.now()
    }

    pub fn see(&mut self, seen: Seen<'_>) {
        let view = self.counting(&seen);
        let are_most = |by: &BTreeSet<NodeId>| {
            view.as_ref().is_some_and(|view| view.has_majority(|node| by.contains(&node)))
        };
        if let Err(why) = self.watch.proofs.see(&seen, &are_most) {
            self.unless_forced(why);
        }
        self.watch.see(&seen);
    }

    /// The members that count for a leader that asks for a round of reads, or hears an answer to one.
    fn counting(&self, seen: &Seen<'_>) -> Option<View> {
        match seen {
            Seen::Heard { node, shard, message, .. } if message.kind == Kind::HeartbeatResponse => {
                self.members_for_leader(*node, *shard)
            }
            Seen::Sent { node, shard, message, .. } if message.kind == Kind::Heartbeat => {
                self.members_for_leader(*node, *shard)
            }
            _ => None,
        }
    }

    /// The members that count for a leader now. It tells others of them only when its disk knows of them.
    pub fn members_for_leader(&self, node: NodeId, shard: ShardId) -> Option<View> {
        let cores = &self.machine(node).process.as_ref()?.cores;
        let mut view = cores.view(shard)?.clone();
        let counting = cores.replica_status(shard)?.members;
        let member = |told: MemberStatus| {
            let MemberStatus { node, replica, duty, .. } = told;
            Member { node, replica, incarnation: 0, duty, weight: 1 }
        };
        view.members = counting.into_iter().map(member).collect();
        Some(view).filter(|view| !view.members.is_empty())
    }

    /// Rounds of reads count by the members that count now, for each leader of a shard.
    pub fn recount_rounds(&mut self, shard: ShardId) {
        for leader in self.leaders(shard) {
            let status = self.machine(leader).process.as_ref().and_then(|it| it.cores.replica_status(shard));
            let (Some(status), Some(view)) = (status, self.members_for_leader(leader, shard)) else {
                continue;
            };
            let are_most = |by: &BTreeSet<NodeId>| view.has_majority(|node| by.contains(&node));
            self.watch.proofs.recount(leader, shard, status.term, self.events.now(), &are_most);
        }
    }

    /// Something that must happen sometimes happened.
    pub fn note(&mut self, what: &'static str) {
        assert!(SOMETIMES.binary_search(&what).is_ok(), "'{what}' stands in the list");
        *self.stats.sometimes.entry(what).or_default() += 1;
    }

    /// Something did not hold: the run ends.
    pub fn violation(&mut self, why: String) {
        self.trace(|| format!("VIOLATION {why}"));
        self.violations.push(format!("at {}: {why}", crate::trace::time(self.events.now()).trim_start()));
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        self.tracer.add(self.events.now(), line);
    }

    pub fn watch_frame(&mut self, from: NodeId, to: NodeId, bytes: &bytes::Bytes) {
        let message = in_frame(bytes).filter(|(shard, _)| !self.watch.merged.has(*shard));
        if message.as_ref().is_some_and(|(_, message)| message.kind == Kind::TimeoutNow) {
            self.note("a leadership was handed over");
        }
        if let Some(why) = self.watch.merged.published(from, bytes) {
            self.violation(why);
        }
        if let Some(frame) = node::observe::of_members(bytes) {
            self.note("a message of another epoch was answered");
            if let Frame::View { shard, .. } = frame {
                self.see(Seen::Members { node: from, to, shard });
            }
        }
        if let Some((shard, message)) = &message {
            let now = self.events.now();
            let clock = self.machine(from).clock.read(now).instant.0;
            self.see(Seen::Sent { node: from, to, shard: *shard, message, now, clock });
        }
        self.trace(|| {
            let round = message.map(|(_, message)| message.round_text()).unwrap_or_default();
            format!("{from} -> {to} {}{round}", crate::trace::frame(bytes))
        });
    }

    pub fn node_config(&mut self, identity: &Identity, map: Arc<Map>) -> node::Config {
        let (id, seed) = (identity.me, self.random.next());
        node::Config {
            me: id,
            // Each life has its number of cores, which no other draw depends on.
            deal: Deal::new(node::mix(seed) as usize % CORES_MAX + 1, map.nodes.len()),
            map,
            seed,
            entry_cache_bytes: self.settings.entry_cache_bytes,
            pid: id.0 as u32,
            address: address(&identity.name),
            peer: address(&identity.name),
            zone: identity.zone.clone(),
            incarnation: identity.lineage.life.incarnation,
            grace_micros: self.settings.grace_micros,
            limits: Limits::default(),
            volatile: false,
            history: None,
        }
    }

    pub fn shards(&self) -> Vec<ShardId> {
        let parts = self.placed.splits.values().flat_map(|split| split.parts.iter().map(|part| part.shard));
        self.placed.shards.keys().copied().chain(parts).collect()
    }
}

/// The first map of a cluster.
fn founding(nodes: u64, settings: &Settings, protocol: Protocol) -> Map {
    let count = u16::try_from(nodes).unwrap_or(u16::MAX);
    let founder = |id: u64| Founder { name: format!("n{id}"), peer: address(&format!("n{id}")) };
    let nodes = (1..=nodes).map(founder).collect();
    let replicas = match protocol {
        Protocol::Single => 1,
        Protocol::Raft => settings.replicas,
        Protocol::Primary => settings.replicas.max(*protocol.replicas().start()),
        // It has all of them from the beginning.
        Protocol::TwoPhase | Protocol::Quorum | Protocol::Broadcast => settings.replicas.min(count),
    };
    let shards = settings.shards;
    let mut map =
        Map::founding(&Founding { cluster: None, nodes, shards, replicas, protocol: Protocol::Raft });
    // The directory is kept by raft, whatever keeps the keys.
    let keyspace = map.keyspaces.get_mut(DEFAULT).expect("there is a keyspace for clients");
    *keyspace = Keyspace::new(protocol, keyspace.replicas, keyspace.arrangement);
    map.shards.values_mut().filter(|row| row.keyspace == DEFAULT).for_each(|row| row.protocol = protocol);
    map.name_masters();
    map
}

/// Who watches a run.
fn watch_of(settings: &Settings) -> Watch {
    let mut watch = Watch::new();
    watch.rows.kept_by(settings.table);
    if settings.recasts {
        watch.look_away();
    }
    watch
}
