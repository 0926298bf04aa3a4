//! Tenants: each has a keyspace made, uses it for a while, has it altered, and has it dropped; then it comes again under the same
//! name.
//!
//! A tenant does one thing after the other, so what a read may show follows from what it did before: the last write that was
//! acknowledged, and whatever was in doubt since the keyspace was made. What it writes says in which of its lives, so a value of
//! an earlier life is found out wherever it comes from.

use std::time::Duration;

use kv::admin::Ask;
use kv::keyspace::{Secondaries, Wish};
use kv::{Answer, Error, Key, NodeId, Op, Outcome, Protocol, Reply, Request, Value};

use super::tenant::{Asked, Call, FIRST, NAMES, Stage, Tenant};
use crate::events::{Event, Whose};
use crate::faults::Fault;
use crate::world::World;

/// Of drops in 100, of so many who leads a shard does not hear.
const UNHEARD_PERCENT: u64 = 60;
/// The keys of a keyspace.
const KEYS: u64 = 4;
/// A request is given up after this.
const TIMEOUT_MICROS: u64 = 2_000_000;
/// And its answer is not waited for any longer than this.
const PATIENCE_MICROS: u64 = 2_500_000;
/// Things that are done in a keyspace before it is dropped, at most: often few, so that names come again while faults last.
const WORK_MAX: [u64; 2] = [4, 12];

impl World {
    /// Looks after each tenant.
    pub(super) fn serve_tenants(&mut self) {
        for place in 0..NAMES.len() {
            let mut tenant = std::mem::take(&mut self.operator.tenants[place]);
            self.serve_tenant(place, &mut tenant);
            self.operator.tenants[place] = tenant;
        }
    }

    /// The answer to a tenant has come.
    pub(crate) fn tenant_answered(&mut self, whose: Whose, result: Option<Result<Reply, Error>>) {
        let tenant = &mut self.operator.tenants[whose.client - FIRST];
        if let Some(call) = tenant.call.as_mut().filter(|call| call.number == whose.call) {
            call.result = Some(result);
        }
    }

    fn serve_tenant(&mut self, place: usize, tenant: &mut Tenant) {
        if let Some((asked, ask)) = tenant.asked.take() {
            return self.await_ask(place, tenant, asked, ask);
        }
        if let Some(call) = tenant.call.take() {
            return self.await_call(place, tenant, call);
        }
        if self.calm || !self.random.percent(60) {
            return;
        }
        let name = NAMES[place].to_owned();
        match tenant.stage {
            // Who was lost just now counts as alive yet, and a keyspace that begins on lost nodes is never there.
            Stage::Absent if self.random.percent(60) && !self.lacks_machines() => {
                let wish = self.draw_wish();
                self.ask_for_tenant(tenant, Ask::CreateKeyspace { name, wish });
            }
            Stage::Absent => {}
            Stage::Works(0) => {
                tenant.unheard = self.keep_from_hearing(&name);
                self.ask_for_tenant(tenant, Ask::DropKeyspace { name });
            }
            Stage::Works(left) => {
                tenant.stage = Stage::Works(left - 1);
                if self.random.percent(15) {
                    let wish = self.draw_wish();
                    let replicas = match tenant.protocol {
                        // Who was lost just now counts as alive yet, and may be whom few copies are left to.
                        _ if self.lacks_machines() => None,
                        None => wish.replicas.filter(|_| wish.protocol.is_none()),
                        // Its copies stay where they are.
                        Some(Protocol::TwoPhase) => None,
                        Some(_) => self.random.percent(50).then(|| self.random.pick(&[2, 3, 5])),
                    };
                    let of_primary = match tenant.protocol {
                        Some(Protocol::Primary) => self.draw_sync(),
                        _ => Wish::default(),
                    };
                    let Wish { sync, min_copies, interval_micros, .. } = of_primary;
                    let wish = Wish {
                        shards: None,
                        protocol: None,
                        replicas,
                        sync,
                        min_copies,
                        interval_micros,
                        ..wish
                    };
                    tenant.may_expire |= wish.ttl_micros.is_some_and(|ttl| ttl > 0);
                    return self.ask_for_tenant(tenant, Ask::AlterKeyspace { name, wish, dry_run: false });
                }
                self.call_of_tenant(place, tenant);
            }
        }
    }

    fn draw_wish(&mut self) -> Wish {
        // One copy may be served by a node that is cut off from all others. An old one, put back, nobody could tell from that.
        let few = if self.faults.has(Fault::Restore) { 3 } else { 1 };
        let (shards, replicas) = (self.random.between(1, 3) as u32, self.random.pick(&[3, few, 5]));
        let quota_keys = self.random.pick(&[0, 2, 3]);
        let ttl_micros = self.random.pick(&[0, 300_000, 2_000_000]);
        let kept = if self.random.percent(40) { self.draw_history() } else { Wish::default() };
        let protocol = match self.random.below(100) {
            0..25 => Some(Protocol::TwoPhase),
            25..45 => Some(Protocol::Primary),
            _ => None,
        };
        let of_primary = if protocol == Some(Protocol::Primary) { self.draw_sync() } else { Wish::default() };
        let Wish { sync, min_copies, interval_micros, .. } = of_primary;
        Wish {
            protocol,
            ttl_micros: self.random.percent(30).then_some(ttl_micros),
            shards: self.random.percent(50).then_some(shards),
            replicas: match protocol {
                Some(Protocol::TwoPhase) => Some(self.random.pick(&[2, 2, 3])),
                Some(_) => Some(self.random.pick(&[2, 3, 3])),
                None => self.random.percent(50).then_some(replicas),
            },
            quota_keys: self.random.percent(60).then_some(quota_keys),
            sync,
            min_copies,
            interval_micros,
            ..kept
        }
    }

    /// For whom a write waits; all of it is refused where there are too few replicas. Where it waits for nobody acknowledged writes may be
    /// lost: that is judged in runs of their own ([`super::forcing`]).
    pub(super) fn draw_sync(&mut self) -> Wish {
        let sync = self.random.pick(&[Secondaries::All, Secondaries::All, Secondaries::Count(1)]);
        let of_all = sync == Secondaries::All;
        Wish {
            sync: Some(sync),
            min_copies: of_all.then(|| self.random.pick(&[1, 2, 2])),
            interval_micros: (!of_all).then(|| self.random.pick(&[20_000, 100_000, 700_000])),
            ..Wish::default()
        }
    }

    /// A keyspace is about to be dropped: now and then one that leads a shard of it does not hear of that for a while. Who that
    /// is.
    fn keep_from_hearing(&mut self, name: &str) -> Option<NodeId> {
        let leaders: Vec<NodeId> =
            self.placed.shards_of(name).iter().map(|(_, shard)| shard.leader).collect();
        let cuts = self.faults.has(Fault::Partition) && !leaders.is_empty();
        if !cuts || !self.random.percent(UNHEARD_PERCENT) {
            return None;
        }
        let leader = self.random.pick(&leaders);
        self.cut_off(leader, None, 0);
        Some(leader)
    }

    fn ask_for_tenant(&mut self, tenant: &mut Tenant, ask: Ask) {
        let asked = self.ask_directory(ask.clone(), None);
        tenant.asked = asked.map(|asked| (asked, ask));
    }

    fn await_ask(&mut self, place: usize, tenant: &mut Tenant, asked: Asked, ask: Ask) {
        let is_over = self.events.now() >= asked.until;
        match self.operator.answers.remove(&asked.client) {
            None if !is_over => tenant.asked = Some((asked, ask)),
            None => {
                self.operator.unanswered.insert(NAMES[place]);
                self.ask_for_tenant_again(tenant, ask);
            }
            Some(Ok(_)) => self.tenant_is_served(tenant, &ask),
            // It may still be on its way, and be done after what is asked next.
            Some(Err(error)) if error.outcome() == Outcome::InDoubt => {
                self.operator.unanswered.insert(NAMES[place]);
                self.ask_for_tenant_again(tenant, ask);
            }
            Some(Err(Error::Unavailable(_))) if !self.calm => self.ask_for_tenant_again(tenant, ask),
            Some(Err(Error::Unavailable(_))) => {}
            // It was dropped late, or made late: it is as that ask wanted it, and is dropped next.
            Some(Err(Error::Invalid(_))) if self.operator.unanswered.remove(NAMES[place]) => {
                tenant.stage = Stage::Works(0);
            }
            Some(Err(error)) => {
                self.violation(format!("what a tenant asks can be: {tenant:?}: {ask:?}: {error}"));
            }
        }
    }

    /// What may have been done is asked until that is known.
    fn ask_for_tenant_again(&mut self, tenant: &mut Tenant, ask: Ask) {
        let until = self.events.now();
        self.ask_for_tenant(tenant, ask.clone());
        // No node is up: the next look tries again.
        let nobody = Asked { client: 0, until };
        tenant.asked.get_or_insert((nobody, ask));
    }

    fn tenant_is_served(&mut self, tenant: &mut Tenant, ask: &Ask) {
        match ask {
            Ask::CreateKeyspace { wish, .. } => {
                self.note("a keyspace was created");
                let may_expire = wish.ttl_micros.is_some_and(|ttl| ttl > 0);
                let (life, calls, protocol) = (tenant.life + 1, tenant.calls, wish.protocol);
                let unheard = tenant.unheard;
                let work_max = self.random.pick(&WORK_MAX);
                let stage = Stage::Works(self.random.between(1, work_max));
                *tenant = Tenant { life, calls, stage, may_expire, protocol, unheard, ..Tenant::default() };
            }
            Ask::DropKeyspace { .. } => {
                self.note("a keyspace was dropped");
                tenant.stage = Stage::Absent;
            }
            _ => self.note("a keyspace was altered"),
        }
    }

    fn call_of_tenant(&mut self, place: usize, tenant: &mut Tenant) {
        let key: Key = format!("t{}", self.random.below(KEYS)).into();
        tenant.calls += 1;
        let number = tenant.calls;
        let value: Value = format!("{}:{number}", tenant.life).into();
        let unheard = tenant.unheard.filter(|id| self.machine(*id).process.is_some());
        let unheard = unheard.filter(|_| self.random.percent(50));
        let op = match self.random.below(100) {
            _ if unheard.is_some() => Op::Get { key, at: None },
            0..50 => Op::Put { key, value, deadline: None, previous: false },
            50..60 => Op::Delete { key, previous: false },
            _ => Op::Get { key, at: None },
        };
        let ids: Vec<kv::NodeId> = self.ids().filter(|id| self.machine(*id).process.is_some()).collect();
        if ids.is_empty() {
            return;
        }
        // Who is behind may know another keyspace of the name.
        let node = unheard.unwrap_or_else(|| self.pick_by_map(&ids, false));
        let timeout = Duration::from_micros(TIMEOUT_MICROS);
        let request = Request { keyspace: NAMES[place].into(), timeout, ..Request::new(op.clone()) };
        let Some(life) = self.machine(node).life() else { return };
        self.trace(|| format!("tenant {} asks {node} {}", NAMES[place], crate::trace::op(&op)));
        let whose = Whose { client: FIRST + place, call: number, attempt: 0 };
        let delay = self.settings.client_network.draw(&mut self.random);
        self.events.after(delay, Event::Arrive { node, life, whose, request: Box::new(request) });
        let until = self.events.now() + PATIENCE_MICROS;
        tenant.call = Some(Call { number, op, until, result: None });
    }

    fn await_call(&mut self, place: usize, tenant: &mut Tenant, mut call: Call) {
        let result = match call.result.take() {
            None if self.events.now() < call.until => {
                tenant.call = Some(call);
                return;
            }
            None | Some(None) => Err(Error::InDoubt("no answer".into())),
            Some(Some(result)) => result,
        };
        let is_sure = result.is_ok();
        match (&call.op, result) {
            (Op::Get { key, .. }, Ok(Reply { answer: Answer::Row(row), .. })) => {
                let shown = row.map(|row| row.value);
                if shown.is_none() && tenant.must_hold(key) {
                    self.note("a value expired that was stored without a deadline");
                }
                if !tenant.may_show(key, &shown) {
                    self.violation(format!(
                        "a keyspace shows what was written in it: {} shows {shown:?} at {key:?} to {tenant:?}",
                        NAMES[place]
                    ));
                }
            }
            (_, Err(Error::OverQuota(_))) => self.note("a keyspace was full"),
            (_, Err(error)) if error.outcome() == Outcome::Failed => {}
            (Op::Put { key, value, .. }, _) => tenant.holds(key, Some(value.clone()), is_sure),
            (Op::Delete { key, .. }, _) => tenant.holds(key, None, is_sure),
            _ => {}
        }
    }
}
