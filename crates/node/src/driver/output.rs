//! What replicas want done, handed out or carried out.

use bytes::Bytes;
use kv::ShardId;
use replication::{Input, Output};

use super::core::Core;
use super::replica::Applying;
use super::writes::Kept;
use super::{Word, Work};
use crate::job::Job;
use crate::node::Node;
use crate::wire::Frame;

impl Core {
    pub fn output(&mut self, node: &Node, shard: ShardId, output: Output) {
        match output {
            Output::Append { ticket, records, install } => self.append_of(shard, ticket, records, install),
            Output::Send { to, body } => {
                assert_ne!(to, node.config.me, "a replica knows what it would tell itself");
                let is_response = self.replicas[&shard].protocol.is_response(&body);
                let frame = self.frame(shard, body);
                self.work.push(Work::Send { to, frame, is_response });
            }
            Output::Publish { body } => self.publish(node, shard, body),
            Output::Apply { at, entry, tokens, copies } => {
                let replica = self.replicas.get_mut(&shard).expect("a replica that has outputs is there");
                replica.applies(at.term, &entry, Applying { index: at.index, tokens, copies });
                tracing::trace!("an entry goes to the table");
                self.work.push(Work::Run(Job::Apply { shard, at, entry }));
            }
            Output::Fetch { tokens } => tokens.into_iter().for_each(|token| self.fetch(node, shard, token)),
            Output::Answer { token, reached, staleness_micros, copies } => {
                self.answer_read(node, shard, token, (reached, staleness_micros, copies));
            }
            Output::Look { ticket, what } => self.work.push(Work::Run(Job::Look { shard, ticket, what })),
            Output::Reply { token, outcome, version, reached, staleness_micros, copies } => {
                let kept = Kept { version, reached, staleness_micros, copies };
                self.gathered(node, shard, token, outcome, kept);
            }
            Output::Refuse { token, error } => self.refused(node, shard, token, error),
            Output::MakeSnapshot { to } => {
                // How far an earlier one is, or was, says nothing of it.
                self.copied(shard, to, None);
                self.work.push(Work::Run(Job::Snapshot { shard, to }));
            }
            Output::SendSnapshot { to, header } => {
                let snapshot =
                    self.replicas.get_mut(&shard).and_then(|replica| replica.snapshots.remove(&to));
                match snapshot {
                    Some(snapshot) => self.work.push(Work::SendSnapshot { shard, to, header, snapshot }),
                    None => self.give(shard, Input::SnapshotSent { to, arrived: false }),
                }
            }
            Output::Ask(change) => {
                self.work.push(Work::Tell { core: 0, word: Word::Revise { shard, change } });
            }
            Output::Sealed { at } => self.sealed(shard, at),
            Output::DiscardSnapshot => self.discard_snapshot(shard),
            Output::Lacking { last } => {
                tracing::warn!(%shard, %last, "this node lacks entries it may have acknowledged: no vote until it has them");
            }
            Output::Whole => tracing::info!(%shard, "what was lacking of a shard is here again"),
            Output::PeerLacks { node, acknowledged, last } => {
                tracing::warn!(%node, %shard, %acknowledged, %last, "a node has lost entries it had acknowledged");
            }
        }
    }
    /// Sends a message to all other members: one frame, encoded once, and to a broker once.
    fn publish(&mut self, node: &Node, shard: ShardId, body: Bytes) {
        let frame = self.frame(shard, body);
        if node.config.map.broker_of(shard).is_some() {
            return self.work.push(Work::Publish(shard, frame));
        }
        let (me, members) = (node.config.me, &self.replicas[&shard].protocol.view().members);
        let others = Vec::from_iter(members.iter().map(|member| member.node).filter(|other| *other != me));
        let send = |to| Work::Send { to, frame: frame.clone(), is_response: false };
        self.work.extend(others.into_iter().map(send));
    }

    fn frame(&self, shard: ShardId, body: Bytes) -> Bytes {
        let view = self.replicas[&shard].protocol.view();
        Frame::Protocol { shard, epoch: view.epoch, revision: view.revision, body }.encode()
    }
}
