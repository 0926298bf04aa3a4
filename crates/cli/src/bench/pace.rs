//! The clock of an open loop: lets requests go at fixed times, whoever is busy.
//!
//! A thread of its own keeps it: timers of the runtime are a millisecond coarse, which is more than a request takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Gives out requests as they fall due.
pub struct Pace {
    start: Instant,
    rate: u32,
    total: u64,
    taken: AtomicU64,
    due: Arc<Semaphore>,
}

/// Requests that fall due so close together go at once: a thread cannot sleep for less.
const STEP: Duration = Duration::from_micros(100);

impl Pace {
    /// Begins to give out `rate` requests per second, for so long, to so many clients.
    pub fn start(start: Instant, rate: u32, duration: Duration, clients: usize) -> Pace {
        let total = due_after(duration, rate);
        let due = Arc::new(Semaphore::new(0));
        let give = due.clone();
        std::thread::Builder::new()
            .name("pace".into())
            .spawn(move || keep(start, rate, total, clients, &give))
            .expect("a process can start a thread");
        Pace { start, rate, total, taken: AtomicU64::new(0), due }
    }

    /// Waits for the next request to fall due, and tells when that was; `None` when there are no more.
    pub async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.expect("it is never closed").forget();
        let index = self.taken.fetch_add(1, Ordering::Relaxed);
        (index < self.total).then(|| self.start + due_at(index, self.rate))
    }
}

fn keep(start: Instant, rate: u32, total: u64, clients: usize, due: &Semaphore) {
    let mut given = 0;
    while given < total {
        // The first is due at the start.
        let now = (due_after(start.elapsed(), rate) + 1).min(total);
        due.add_permits((now - given) as usize);
        given = now;
        let next = due_at(given, rate).saturating_sub(start.elapsed());
        std::thread::sleep(next.max(STEP));
    }
    // One more for each client, which tells it that there are no more.
    due.add_permits(clients);
}

/// How many requests are due after so long.
fn due_after(elapsed: Duration, rate: u32) -> u64 {
    (elapsed.as_micros() * u128::from(rate) / 1_000_000) as u64
}

/// When the request of this number, from 0, is due after the start.
fn due_at(index: u64, rate: u32) -> Duration {
    Duration::from_nanos((u128::from(index) * 1_000_000_000 / u128::from(rate)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_due_times_are_even() {
        assert_eq!(due_at(0, 1000), Duration::ZERO);
        assert_eq!(due_at(1500, 1000), Duration::from_millis(1500));
        assert_eq!(due_after(Duration::from_millis(1500), 1000), 1500);
        assert_eq!(due_after(Duration::from_secs(86_400), 10_000_000), 864_000_000_000);
    }

    #[test]
    fn pace_gives_out_all_and_then_none_to_each_client() {
        let start = Instant::now();
        let duration = Duration::from_millis(20);
        let pace = Pace::start(start, 1000, duration, 2);
        let due = crate::connect::runtime().block_on(async {
            let mut due = Vec::new();
            while let Some(at) = pace.next().await {
                due.push(at - start);
            }
            assert_eq!(pace.next().await, None);
            due
        });
        assert_eq!(due, (0..20).map(Duration::from_millis).collect::<Vec<_>>());
    }
}
