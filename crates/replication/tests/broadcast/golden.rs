//! Golden scripts: what the members of a broadcast shard do, step by step, as text.
//!
//! A script (`tests/broadcast/scripts/*.txt`) shows one behaviour, which its name states. It is comments (`#`), commands (`>`) and what
//! they bring about: what members write, send, apply, look at, answer and refuse, then each member whose state is another than before, as
//! [`replication::broadcast::Broadcast::describe`] puts it. The commands stand in [`Script::command`].
//!
//! `REGENERATE=1 cargo test -p replication` writes the outputs anew; every changed line wants an explanation.

use std::collections::BTreeMap;
use std::fmt::Write;

use kv::merged::Row;
use kv::{Answer, Entry, Epoch, Level, NodeId, Op, RequestId, Version};
use replication::broadcast::{self, Broadcast};
use replication::observe::describe as describe_record;
use replication::{Gathered, Input, Output, Replicate};

use super::cluster::Cluster;

#[test]
fn golden_scripts_come_out_as_written() {
    super::scripted::come_out_as_written("broadcast/scripts", Script::play);
}

struct Script {
    cluster: Cluster,
    /// The members as they were shown last.
    shown: BTreeMap<u64, String>,
    text: String,
    held: Vec<(u64, u64, bytes::Bytes)>,
    /// Only what requests come to is shown.
    is_brief: bool,
}

impl Script {
    fn play(text: &str) -> String {
        let cluster = Cluster::new(3);
        let (shown, held, is_brief) = Default::default();
        let mut script = Script { cluster, shown, text: String::new(), held, is_brief };
        for line in text.lines().filter(|line| line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.command(words[0], &words[1..]);
                let is_shown = !["shard", "settle"].contains(&words[0]);
                script.show(is_shown);
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        match command {
            // So many members; connected, and at rest.
            "shard" => {
                self.cluster = Cluster::new(number(0));
                self.cluster.ids().into_iter().for_each(|id| self.cluster.start(id));
                self.cluster.connect_all();
                self.settle();
            }
            // Only requests, what they come to, and what `table` prints is shown from here on; or everything again.
            "brief" => self.is_brief = true,
            "full" => self.is_brief = false,
            // So many milliseconds pass, and all look at the clock.
            "wait" => {
                self.cluster.now += number(0) * 1000;
                self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
            }
            // Time passes, and everything happens, until nobody wants anything any more; what was done is not shown.
            "settle" => self.settle(),
            "run" => self.cluster.run(),
            "connect" if words.is_empty() => self.cluster.connect_all(),
            "connect" => self.cluster.connect(node(words[0]), node(words[1])),
            "disconnect" => self.cluster.disconnect(node(words[0]), node(words[1])),
            // What is on its way from one node to another is late; it goes on when it is released.
            "hold" => {
                let (a, b) = (node(words[0]), node(words[1]));
                let net = std::mem::take(&mut self.cluster.net);
                let (held, rest): (Vec<_>, Vec<_>) =
                    net.into_iter().partition(|(from, to, _)| (*from, *to) == (a, b));
                self.cluster.net = rest;
                self.held.extend(held);
            }
            "release" => self.cluster.net.append(&mut self.held),
            // What is on its way (from one node to another) arrives, is lost, or arrives twice.
            "deliver" | "drop" | "double" => {
                let chosen = |from, to| words.is_empty() || (from, to) == (node(words[0]), node(words[1]));
                let net = std::mem::take(&mut self.cluster.net);
                let (now, later): (Vec<_>, Vec<_>) =
                    net.into_iter().partition(|(from, to, _)| chosen(*from, *to));
                self.cluster.net = later;
                let times = ["drop", "deliver", "double"].iter().position(|other| *other == command).unwrap();
                (0..times).for_each(|_| now.iter().for_each(|packet| self.cluster.deliver(packet.clone())));
            }
            _ => self.member(command, node(words[0]), &words[1..]),
        }
    }

    /// What one member is asked.
    fn member(&mut self, command: &str, id: u64, words: &[&str]) {
        let cluster = &mut self.cluster;
        match command {
            // Keys with values, as k=v: all in one turn.
            "put" => drop(cluster.write(id, words.iter().map(|word| (None, put(word))).collect())),
            // The same with an id: its number first.
            "request" => drop(cluster.write(id, vec![(Some(request(words[0])), put(words[1]))])),
            // Whether a request that comes again happens once here.
            "remembers" => {
                let does = cluster.member(id).is_some_and(|member| member.remembers(&request(words[0])));
                writeln!(self.text, "n{id} {}", if does { "remembers it" } else { "does not know it" })
                    .unwrap();
            }
            "delete" => drop(cluster.write(id, words.iter().map(|key| (None, delete(key))).collect())),
            "delete-range" => {
                let op = Op::DeleteRange { from: text(words[0]), to: Some(text(words[1])) };
                cluster.write(id, vec![(None, op)]);
            }
            "expiring" => {
                let Op::Put { key, value, previous, .. } = put(words[0]) else { unreachable!() };
                let after = words[1].parse::<i64>().unwrap() * 1000;
                let deadline = Some(cluster.now.saturating_add_signed(after));
                cluster.write(id, vec![(None, Op::Put { key, value, previous, deadline })]);
            }
            "append" => {
                let side = kv::Side::Right;
                let function = kv::Function::Append { side, value: text(words[1]) };
                cluster.write(id, vec![(None, Op::Update { key: text(words[0]), function })]);
            }
            "get" => {
                let level = words.get(1).map_or(Level::Local, |level| level.parse().unwrap());
                cluster.read(id, text(words[0]), level);
            }
            _ => self.process(command, id, words),
        }
    }

    /// What becomes of its process, and what is seen of it.
    fn process(&mut self, command: &str, id: u64, words: &[&str]) {
        let cluster = &mut self.cluster;
        match command {
            // What its table holds.
            "table" => {
                let rows = Vec::from_iter(cluster.node(id).table.rows.values().map(show_row));
                let last = show_version(cluster.node(id).table.last);
                writeln!(self.text, "n{id} holds {}, last {last}", rows.join(" ")).unwrap();
            }
            "counts" => writeln!(self.text, "n{id} {:?}", cluster.member(id).unwrap().counts()).unwrap(),
            // Its clock is so many milliseconds ahead.
            "ahead" => drop(cluster.ahead.insert(id, words[0].parse::<i64>().unwrap() * 1000)),
            "forget" => cluster.step(id, Input::Forget { token: words[0].parse().unwrap() }),
            "sync" => cluster.sync(id, words.first().map_or(usize::MAX, |count| count.parse().unwrap())),
            // Its table does what it is to do, or the first so many things.
            "work" => {
                let count = words.first().map_or(usize::MAX, |count| count.parse().unwrap());
                let mut done = 0;
                while !cluster.node(id).jobs.is_empty() && done < count {
                    cluster.job(id);
                    done += 1;
                }
            }
            "crash" => cluster.crash(id),
            "start" => cluster.start(id),
            "flush" => {
                cluster.flush(id);
                let records: Vec<String> = cluster.node(id).log.iter().map(describe_record).collect();
                writeln!(self.text, "n{id} log: {}", records.join("; ")).unwrap();
            }
            "seal" => cluster.step(id, seal(id, words)),
            _ => panic!("there is no command '{command}'"),
        }
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            self.cluster.run();
            let members = self.cluster.nodes.values().filter_map(|node| node.member.as_ref());
            let mut dues = members.map(Broadcast::due);
            if dues.all(|due| due == replication::Instant::MAX) {
                return;
            }
            self.cluster.now += 1_000_000;
            self.cluster.ids().into_iter().for_each(|id| self.cluster.tick(id));
        }
        panic!("it never rests:\n{}", self.text);
    }

    fn show(&mut self, is_shown: bool) {
        for (id, output) in std::mem::take(&mut self.cluster.outputs) {
            let is_shown = is_shown
                || matches!(output, Output::Reply { .. } | Output::Refuse { .. } | Output::Answer { .. });
            if let Some(line) = self.line(output).filter(|_| is_shown) {
                writeln!(self.text, "n{id} {line}").unwrap();
            }
        }
        for id in self.cluster.ids() {
            let state = self.cluster.member(id).map_or(format!("n{id} is down"), Broadcast::describe);
            if self.shown.get(&id) != Some(&state) {
                if is_shown && !self.is_brief {
                    writeln!(self.text, "  {state}").unwrap();
                }
                self.shown.insert(id, state);
            }
        }
    }

    fn line(&self, output: Output) -> Option<String> {
        Some(match output {
            Output::Refuse { token, error } => format!("refuse {token} {:?}: {error}", error.outcome()),
            Output::Reply { token, outcome: Gathered::Written(answer), reached, copies, version, .. } => {
                let (answer, version) = (show_answer(&answer), show_version(version));
                format!("reply {token}: {answer}, version {version}, {reached}, copies {copies}")
            }
            Output::Answer { token, reached, staleness_micros, .. } => {
                let row = self.cluster.fetched[&token].as_ref().map_or("nothing".into(), show_row);
                let behind = match staleness_micros {
                    u64::MAX => "nobody knows how far behind".into(),
                    micros => format!("{micros} us behind"),
                };
                format!("answer {token}: {row}, {reached}, {behind}")
            }
            Output::Sealed { at } => format!("sealed at {at}"),
            _ if self.is_brief => return None,
            Output::Append { ticket, records, .. } => {
                let records: Vec<String> = records.iter().map(describe_record).collect();
                format!("append {ticket}: {}", records.join("; "))
            }
            Output::Send { to, body } => format!("-> n{to} {}", broadcast::describe(&body)),
            Output::Apply { at, entry, .. } => {
                format!("apply {at} {}", show_entry(&Entry::decode(&entry).unwrap()))
            }
            Output::Publish { body } => format!("publish {}", broadcast::describe(&body)),
            Output::Look { .. } | Output::Fetch { .. } => return None,
            other => panic!("{other:?} is not broadcast's"),
        })
    }
}

/// In which epoch the shard goes on, and on which nodes; it alone if none is said.
fn seal(id: u64, words: &[&str]) -> Input {
    let named = |words: &&str| words.split(',').map(|word| NodeId(node(word))).collect();
    let among = words.get(1).map_or(vec![NodeId(id)], named);
    Input::Seal { next: Epoch(words[0].parse().unwrap()), among }
}

fn show_entry(entry: &Entry) -> String {
    let show = |op: &Op| match op {
        Op::Merge { rows } => Vec::from_iter(rows.iter().map(show_row)).join(" "),
        Op::Collect { tombstones } => {
            let names = tombstones.iter().map(|(key, _)| key.escape_ascii().to_string());
            format!("collect {}", Vec::from_iter(names).join(" "))
        }
        Op::Advance { to, .. } => format!("last {}", show_version(*to)),
        other => panic!("{other:?} is not broadcast's"),
    };
    Vec::from_iter(entry.ops.iter().map(|stamped| show(&stamped.op))).join("; ")
}

fn show_row(row: &Row) -> String {
    let expired = if row.expired { "+" } else { "" };
    let value = row.value.as_ref().map_or("-".into(), |value| format!("={}", value.escape_ascii()));
    format!("{}@{}{expired}{value}", row.key.escape_ascii(), show_version(row.version))
}

fn show_version(version: Version) -> String {
    format!("{}.{}", version.micros(), version.replica())
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Put { .. } => "stored".into(),
        Answer::Deleted { count, .. } => format!("{count} deleted"),
        other => panic!("{other:?} is not asked for"),
    }
}

fn put(word: &str) -> Op {
    let (key, value) = word.split_once('=').expect("a key and its value, as k=v");
    Op::Put { key: text(key), value: text(value), deadline: None, previous: false }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: text(key), previous: false }
}

fn text(word: &str) -> bytes::Bytes {
    word.to_owned().into()
}

/// The id of a request of one client.
fn request(word: &str) -> RequestId {
    let (valid_until, answered_below) = (Version::MAX, 1);
    RequestId { client: 7, sequence: word.parse().unwrap(), valid_until, answered_below }
}

/// A node, which is written as n1.
fn node(word: &str) -> u64 {
    word.strip_prefix('n').and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("'{word}' is no node"))
}
