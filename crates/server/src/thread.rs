//! The threads of the cores beyond the first, which has the process's own.

use std::panic::resume_unwind;

use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::Failure;
use crate::connections::Serving;
use crate::core::{Core, Shared};
use crate::inbox::{Message, thread};
use crate::outbox;

/// Starts the thread of a core: it serves connections, and has a driver where the engine lets each core have one. The driver ends when `over`
/// is true, the thread when the connections have ended.
pub(crate) fn start(
    place: usize,
    driving: Option<Core>,
    serving: Serving,
    shared: &Shared,
    mut over: watch::Receiver<bool>,
) {
    let (shared, first) = (shared.clone(), shared.inboxes.first().clone());
    let run = move || {
        outbox::settle(place);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            carry(place, &shared);
            let serving = tokio::spawn(serving);
            if let Some(core) = driving {
                let asked = Box::pin(async move {
                    // The sender lives as long as the node.
                    let _ = over.wait_for(|over| *over).await;
                });
                if let Err(failure) = drive(core, asked).await {
                    shared.inboxes.first().push(Message::Fatal(failure));
                }
            }
            // What it answers last is given out meanwhile.
            let _ = serving.await;
        });
    };
    thread(&first, "core", run);
}

/// Runs a driver to its end, as a task among those of its runtime: when it yields, what is ready runs before it goes on, and
/// sockets are looked at once. What a runtime blocks on is run before all tasks, so it would have to yield twice for that.
pub(crate) async fn drive(
    core: Core,
    stop: impl Future<Output = ()> + Unpin + Send + 'static,
) -> Result<(), Failure> {
    let ended = tokio::spawn(core.run_to_its_end(stop)).await;
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

/// Has what goes to other cores, and what comes back, carried on this runtime.
pub(crate) fn carry(place: usize, shared: &Shared) {
    let (outbox, desk) = (shared.outboxes[place].clone(), shared.desks[place].clone());
    tokio::spawn(async move { outbox.give_out().await });
    tokio::spawn(async move { desk.carry().await });
}
