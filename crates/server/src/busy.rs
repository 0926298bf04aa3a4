//! Whether a connection is busy: it counts among those of its core as long as requests come on it.
//!
//! New connections go to the core with the fewest others, so that several clients use several cores, and one alone is served on
//! the thread that drives the first shards. What is open and asks next to nothing (a shell, a program that looks at the cluster
//! now and then) must not send the next client elsewhere: so it does not count, until it asks.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// It is looked so often whether something comes.
const LOOK: Duration = Duration::from_secs(1);
/// Fewer bytes than this in that time are signs of life, and a question now and then.
const HEARD_BYTES_MIN: usize = 4 << 10;

/// Whether a connection is, as its reader sees it.
pub(crate) struct Busy {
    /// Of which each that counts has a clone.
    core: Weak<()>,
    counts: Option<Arc<()>>,
    /// Bytes that came since it was last looked.
    heard: usize,
    /// When it is looked next, if that is set: not while nothing comes.
    look: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Busy {
    /// Of a new connection, which counts.
    pub fn new(counts: Arc<()>) -> Busy {
        let core = Arc::downgrade(&counts);
        Busy { core, counts: Some(counts), heard: 0, look: Box::pin(sleep(LOOK)), is_set: true }
    }

    /// So many bytes came, perhaps none. Called whenever the connection is read.
    pub fn hear(&mut self, bytes: usize, cx: &mut Context<'_>) {
        self.heard = self.heard.saturating_add(bytes);
        if bytes > 0 && !self.is_set {
            self.set();
        }
        while self.is_set && self.look.as_mut().poll(cx) == Poll::Ready(()) {
            if self.goes_on() { self.set() } else { self.is_set = false }
        }
    }

    fn set(&mut self) {
        self.is_set = true;
        self.look.as_mut().reset(Instant::now() + LOOK);
    }

    /// Counts or not from now on, by what came. Whether anything did.
    fn goes_on(&mut self) -> bool {
        let heard = std::mem::take(&mut self.heard);
        match heard >= HEARD_BYTES_MIN {
            true if self.counts.is_none() => self.counts = self.core.upgrade(),
            true => {}
            false => self.counts = None,
        }
        heard > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connection_counts_while_requests_come_and_not_when_it_says_little() {
        let core = Arc::new(());
        let mut busy = Busy::new(core.clone());
        let mut counts_after = |bytes| {
            busy.heard = bytes;
            (busy.goes_on(), Arc::strong_count(&core) > 1)
        };
        assert_eq!(counts_after(HEARD_BYTES_MIN), (true, true), "as it was from the beginning");
        assert_eq!(counts_after(HEARD_BYTES_MIN - 1), (true, false));
        assert_eq!(counts_after(0), (false, false));
        assert_eq!(counts_after(HEARD_BYTES_MIN), (true, true));
        drop(busy);
        assert_eq!(Arc::strong_count(&core), 1, "a connection that has ended counts no more");
    }
}
