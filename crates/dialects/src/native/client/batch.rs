//! Many requests at once: one message for each node that leads keys of theirs.
//!
//! The message is the first attempt of each request in it. What it did not settle goes on alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kv::{Completions, Error, Reply, Request};

use super::attempt::Failure;
use super::call::{Call, Target, patience, silent, within};
use super::{Node, Shared};
use crate::native::{BATCH_OPERATIONS_MAX, proto};

/// A message takes no more requests once it has so many bytes: the answers to others should not wait for a large one.
const BATCH_BYTES_MAX: usize = 1 << 20;

type Answers = Arc<Mutex<Box<dyn Completions>>>;

/// A request of a batch, at its index.
struct Part {
    index: usize,
    call: Call,
    target: Target,
}

/// Asks several requests and completes each.
pub(super) fn submit(shared: &Arc<Shared>, requests: Vec<Request>, completions: Box<dyn Completions>) {
    let shared = shared.clone();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let answers: Answers = Arc::new(Mutex::new(completions));
        let mut parts = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            match Call::new(&shared, request, None) {
                Ok(mut call) => match call.begin().await {
                    Ok(()) => {
                        let target = call.target();
                        parts.push(Part { index, call, target });
                    }
                    Err(error) => complete(&answers, index, Err(error)),
                },
                Err(error) => complete(&answers, index, Err(error)),
            }
        }
        for parts in group(parts) {
            shared.runtime.spawn(ask(shared.clone(), parts, answers.clone()));
        }
    });
}

/// The requests by the node to ask and the time they have: the slowest answer of a message holds up the others.
fn group(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut full = Vec::new();
    let mut open: HashMap<(String, Duration), (usize, Vec<Part>)> = HashMap::new();
    for part in parts {
        let key = (part.target.node.address.clone(), part.call.timeout());
        let (bytes, group) = open.entry(key).or_default();
        *bytes += part.call.size();
        group.push(part);
        if *bytes >= BATCH_BYTES_MAX || group.len() == BATCH_OPERATIONS_MAX {
            *bytes = 0;
            full.push(std::mem::take(group));
        }
    }
    full.extend(open.into_values().map(|(_, group)| group).filter(|group| !group.is_empty()));
    full
}

async fn ask(shared: Arc<Shared>, mut parts: Vec<Part>, answers: Answers) {
    if parts.len() == 1 {
        let part = parts.remove(0);
        return complete(&answers, part.index, part.call.run().await);
    }
    let results = attempt(&mut parts).await;
    for (mut part, result) in parts.into_iter().zip(results) {
        match part.call.judge(&part.target, result) {
            Some(result) => complete(&answers, part.index, result),
            None => {
                let answers = answers.clone();
                shared.runtime.spawn(async move { complete(&answers, part.index, part.call.run().await) });
            }
        }
    }
}

/// One result per part. What befell the message befell each.
async fn attempt(parts: &mut [Part]) -> Vec<Result<Reply, Failure>> {
    match attempt_all(parts).await {
        Ok(results) => results,
        Err(failure) => parts.iter().map(|_| Err(failure.clone())).collect(),
    }
}

async fn attempt_all(parts: &mut [Part]) -> Result<Vec<Result<Reply, Failure>>, Failure> {
    let node: Arc<Node> = parts[0].target.node.clone();
    let budget = parts[0].call.budget();
    let link = within(budget, &node).await?;
    let operation = |part: &mut Part| {
        part.call.reached();
        proto::Operation { operation: Some(part.call.message(budget)) }
    };
    let operations = parts.iter_mut().map(operation).collect();
    match tokio::time::timeout(patience(budget), link.ask_batch(operations)).await {
        Ok(results) => results,
        Err(_) => {
            link.broken();
            Err(silent(&node, budget))
        }
    }
}

fn complete(answers: &Answers, index: usize, result: Result<Reply, Error>) {
    answers.lock().expect("no completion panics").complete(index, result);
}
