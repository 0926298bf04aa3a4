//! Golden scripts of `single`: what the one replica of a shard does, step by step, as text.
//!
//! A script (`tests/single/*.txt`) is comments (`#`), commands (`>`) and what they bring about: what the replica writes, applies,
//! answers, refuses and says, then its state. The commands stand in [`Script::command`].
//!
//! `REGENERATE=1 cargo test -p replication` writes the outputs anew; every changed line wants an explanation.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod scripted;

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::Bytes;
use kv::{Class, Epoch, Level, NodeId, Position, ReplicaId, Scope, Version};
use replication::observe::describe;
use replication::single::Single;
use replication::{Input, Instant, Output, Recovery, Replicate, Ticket, Token, View};

#[test]
fn golden_scripts_come_out_as_written() {
    scripted::come_out_as_written("single", Script::play);
}

/// A replica, its log and its table.
#[derive(Default)]
struct Script {
    replica: Option<Single>,
    /// With the appends that are not synced yet.
    log: Vec<(Bytes, Option<Ticket>)>,
    appends: VecDeque<Ticket>,
    applies: VecDeque<Position>,
    /// What the table has applied, and of that what a crash leaves.
    applied: Position,
    flushed: Position,
    next_token: Token,
    text: String,
}

impl Script {
    fn play(text: &str) -> String {
        let mut script = Script::default();
        script.start();
        for line in text.lines().filter(|line| line.starts_with(['>', '#'])) {
            writeln!(script.text, "{line}").unwrap();
            if let Some(command) = line.strip_prefix("> ") {
                let words: Vec<&str> = command.split(' ').collect();
                script.command(words[0], words.get(1).map_or(0, |word| word.parse().expect("a number")));
                script.show_state();
            }
        }
        script.text
    }

    fn command(&mut self, command: &str, number: u64) {
        match command {
            "propose" => {
                let token = self.token();
                self.step(Input::Propose { ops: vec![(token, Bytes::from_static(b"op"))] });
            }
            "read" => {
                let token = self.token();
                self.step(Input::Read { token, scope: Scope::Shard, level: Level::Linearizable });
            }
            // The rows of a read are there.
            "fetched" => self.step(Input::Fetched { token: number }),
            // It is to order nothing more; the shard goes on in this epoch.
            "seal" => self.step(Input::Seal { next: Epoch(number), among: Vec::new() }),
            // All appends are synced.
            "sync" => self.sync(),
            // The table applies what it was given.
            "apply" => {
                while let Some(at) = self.applies.pop_front() {
                    self.applied = at;
                    self.step(Input::Applied { index: at.index });
                }
            }
            "flush" => self.flushed = self.applied,
            // The log is what a checkpoint writes, and the table is flushed.
            "checkpoint" => {
                self.flushed = self.applied;
                let kept = self.replica.as_ref().unwrap().checkpoint();
                self.log = kept.into_iter().map(|record| (record, None)).collect();
                let records: Vec<String> = self.log.iter().map(|(record, _)| describe(record)).collect();
                writeln!(self.text, "log: {}", records.join("; ")).unwrap();
            }
            // What is not synced or not flushed is lost, and it starts again.
            "crash" => {
                self.log.retain(|(_, unsynced)| unsynced.is_none());
                self.applied = self.flushed;
                (self.appends, self.applies) = Default::default();
                self.start();
                self.step(Input::Tick { now: Instant(2), clock: Version::new(9, ReplicaId(1)) });
            }
            _ => panic!("there is no command '{command}'"),
        }
    }

    fn start(&mut self) {
        let mut recovery = Recovery::default();
        self.log.iter().for_each(|(record, _)| recovery.replay(record).unwrap());
        let view = View::of(Epoch(1), &[NodeId(1)]);
        self.replica = Some(Single::new(NodeId(1), view, recovery, self.applied).unwrap());
    }

    fn sync(&mut self) {
        for ticket in Vec::from_iter(self.appends.drain(..)) {
            for (_, unsynced) in &mut self.log {
                unsynced.take_if(|own| *own <= ticket);
            }
            self.step(Input::Durable { ticket });
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.replica.as_mut().unwrap().step(input, &mut out);
        for output in out {
            let line = match output {
                Output::Append { ticket, records, .. } => {
                    let described: Vec<String> = records.iter().map(describe).collect();
                    self.log.extend(records.into_iter().map(|record| (record, Some(ticket))));
                    self.appends.push_back(ticket);
                    format!("append {ticket}: {}", described.join("; "))
                }
                Output::Apply { at, tokens, .. } => {
                    self.applies.push_back(at);
                    format!("apply {at} tokens {tokens:?}")
                }
                Output::Fetch { tokens } => format!("fetch {tokens:?}"),
                Output::Answer { token, reached, .. } => format!("answer {token} {reached}"),
                Output::Refuse { token, error } => format!("refuse {token} {:?}: {error}", error.outcome()),
                Output::Sealed { at } => format!("sealed at {at}"),
                other => panic!("{other:?} is not single's"),
            };
            writeln!(self.text, "{line}").unwrap();
        }
    }

    fn show_state(&mut self) {
        let replica = self.replica.as_ref().unwrap();
        let status = replica.status();
        let route = replica.route(Class::Blind, Level::Linearizable);
        writeln!(
            self.text,
            "  {:?} last={} durable={} applied={} route={route:?}",
            status.role, status.last, status.durable, status.applied
        )
        .unwrap();
    }
}
