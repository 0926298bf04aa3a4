//! When a node is asked to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a node to stop. None is lost from when they are listened to on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn listen() -> Signals {
        let terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
        let interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
        Signals { terminate, interrupt }
    }

    /// Until one has come.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
