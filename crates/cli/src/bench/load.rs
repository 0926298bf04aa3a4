//! The clients of a bench: tasks of one thread, each asking one request at a time.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use kv::{Error, Key, Outcome, Value};
use tokio::task::JoinSet;

use super::pace::Pace;
use super::target::Target;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Store values.
    Put,
    /// Read values.
    Get,
    /// Both by turns of chance, half and half.
    Mixed,
    /// By turns of chance, a third each: store a value for good, for a while, delete one.
    Churn,
    /// Only whether the server is there.
    Echo,
}

/// What is asked.
pub struct Load {
    /// Which op.
    pub work: Work,
    /// How many clients.
    pub clients: usize,
    /// How long it is measured.
    pub duration: Duration,
    /// Requests per second of all clients together; `None` = as many as go.
    pub rate: Option<u32>,
    /// The keys. Which of them a client takes depends on its number alone.
    pub keys: Vec<Key>,
    /// The value.
    pub value: Value,
    /// How long what is stored is kept, where that is for a while; `None` = all is kept for good.
    pub ttl: Option<Duration>,
}

/// What became of it.
pub struct Tally {
    /// How long answers took, in microseconds.
    pub latency_micros: Histogram<u64>,
    /// What was not answered.
    pub failures: Failures,
    /// How long that took.
    pub elapsed: Duration,
}

/// Requests that failed.
#[derive(Debug, Default)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// How many of them are in doubt.
    pub in_doubt: u64,
    /// Why the first one in doubt failed; where none is, the first.
    pub worst: Option<Error>,
}

impl Failures {
    fn add(&mut self, error: Error) {
        let in_doubt = u64::from(error.outcome() == Outcome::InDoubt);
        self.append(Failures { count: 1, in_doubt, worst: Some(error) });
    }

    /// What failed after these.
    fn append(&mut self, later: Failures) {
        if self.worst.is_none() || (self.in_doubt == 0 && later.in_doubt > 0) {
            self.worst = later.worst;
        }
        self.count += later.count;
        self.in_doubt += later.in_doubt;
    }
}

impl Tally {
    /// Nothing asked yet, but for what failed before.
    fn new(failures: Failures) -> Tally {
        Tally {
            latency_micros: Histogram::new_with_max(LATENCY_MICROS_MAX, LATENCY_DIGITS)
                .expect("the bounds are constants within what a histogram can hold"),
            failures,
            elapsed: Duration::ZERO,
        }
    }

    /// Requests that were answered.
    pub fn done(&self) -> u64 {
        self.latency_micros.len()
    }

    /// Answers per second.
    pub fn per_second(&self) -> f64 {
        self.done() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn add(&mut self, latency: Duration, result: Result<(), Error>) {
        match result {
            Ok(()) => self.latency_micros.saturating_record(latency.as_micros() as u64),
            Err(error) => self.failures.add(error),
        }
    }

    /// What came after that.
    fn append(&mut self, later: Tally) {
        self.latency_micros.add(&later.latency_micros).expect("the bounds are the same constants");
        self.failures.append(later.failures);
        self.elapsed += later.elapsed;
    }
}

/// Stores all keys, so that reads find them.
pub async fn preload(load: &Load, target: &Target) -> Result<(), Error> {
    for keys in load.keys.chunks(preload_rows(load.value.len())) {
        let rows = keys.iter().map(|key| (key.clone(), load.value.clone())).collect();
        target.put_all(rows).await?;
    }
    Ok(())
}

/// Runs the clients for so long without measuring them: connections open, caches fill. Returns what failed.
pub async fn warm_up(load: &Arc<Load>, target: &Arc<Target>, duration: Duration) -> Failures {
    let shared = Arc::new(Shared::new(load.clone(), duration, Failures::default()));
    clients(&shared, target).await;
    std::mem::take(&mut shared.tally().failures)
}

/// Runs the clients to their end and measures them. What failed before counts as well.
pub async fn run(load: &Arc<Load>, target: &Arc<Target>, failures: Failures) -> Tally {
    let shared = Arc::new(Shared::new(load.clone(), load.duration, failures));
    let progress = tokio::spawn(show_progress(shared.clone()));
    clients(&shared, target).await;
    progress.abort();
    shared.take(shared.start)
}

/// The same, and says after each interval what it came to. What is left at the end counts as one where it is half as long.
///
/// # Errors
/// Where `say` cannot say it.
pub async fn run_in_intervals(
    load: &Arc<Load>,
    target: &Arc<Target>,
    failures: Failures,
    interval: Duration,
    say: &mut dyn FnMut(&Tally) -> Result<(), crate::exit::Error>,
) -> Result<Tally, crate::exit::Error> {
    let shared = Arc::new(Shared::new(load.clone(), load.duration, Failures::default()));
    let (mut total, mut began) = (Tally::new(failures), shared.start);
    let mut clients = pin!(clients(&shared, target));
    loop {
        let is_over = tokio::select! {
            () = &mut clients => true,
            () = tokio::time::sleep_until((began + interval).into()) => false,
        };
        let tally = shared.take(began);
        began += tally.elapsed;
        if !is_over || tally.elapsed * 2 >= interval {
            say(&tally)?;
        }
        total.append(tally);
        if is_over {
            return Ok(total);
        }
    }
}

async fn clients(shared: &Arc<Shared>, target: &Arc<Target>) {
    let mut clients = JoinSet::new();
    for index in 0..shared.load.clients {
        clients.spawn(client(shared.clone(), target.clone(), index as u64));
    }
    clients.join_all().await;
}

/// Longer than any request waits.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;
/// Within a thousandth.
const LATENCY_DIGITS: u8 = 3;
/// After an error a client without a rate waits so long, so as not to hammer a store that is away.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Requests that were due and not yet asked when the time is over are asked for so long.
const GRACE: Duration = Duration::from_secs(10);
/// How often the progress bar moves.
const PROGRESS: Duration = Duration::from_millis(200);
/// Bytes of one step of the preload.
const PRELOAD_BYTES: usize = 1 << 20;
/// Rows of one step of the preload.
const PRELOAD_ROWS: usize = 1000;

fn preload_rows(value_bytes: usize) -> usize {
    (PRELOAD_BYTES / value_bytes.max(1)).clamp(1, PRELOAD_ROWS)
}

struct Shared {
    load: Arc<Load>,
    start: Instant,
    duration: Duration,
    pace: Option<Pace>,
    // Of one thread: never contended.
    tally: Mutex<Tally>,
}

impl Shared {
    fn new(load: Arc<Load>, duration: Duration, failures: Failures) -> Shared {
        let start = Instant::now();
        let pace = load.rate.map(|rate| Pace::start(start, rate, duration, load.clients));
        Shared { load, start, duration, pace, tally: Mutex::new(Tally::new(failures)) }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("recording does not panic")
    }

    /// What was counted since then; what comes is counted anew.
    fn take(&self, since: Instant) -> Tally {
        let mut tally = std::mem::replace(&mut *self.tally(), Tally::new(Failures::default()));
        tally.elapsed = since.elapsed();
        tally
    }

    /// When the next request is due; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        match &self.pace {
            Some(_) if now > self.start + self.duration + GRACE => None,
            Some(pace) => pace.next().await,
            None => (now < self.start + self.duration).then_some(now),
        }
    }
}

async fn client(shared: Arc<Shared>, target: Arc<Target>, seed: u64) {
    let mut random = Random(seed);
    while let Some(due) = shared.next().await {
        let result = once(&shared.load, &target, &mut random).await;
        let failed = result.is_err();
        shared.tally().add(due.elapsed(), result);
        if failed && shared.pace.is_none() {
            tokio::time::sleep(ERROR_PAUSE).await;
        } else {
            // A store that answers at once would never let the others go on.
            tokio::task::consume_budget().await;
        }
    }
}

async fn once(load: &Load, target: &Target, random: &mut Random) -> Result<(), Error> {
    let number = random.next();
    let key = load.keys[(number % load.keys.len() as u64) as usize].clone();
    let value = || load.value.clone();
    // The high bits choose what is done, the low ones the key.
    match (load.work, (number >> 32) % 6) {
        (Work::Echo, _) => target.echo().await,
        (Work::Get, _) | (Work::Mixed, 0..3) => target.get(key).await,
        (Work::Put | Work::Mixed, _) | (Work::Churn, 0..2) => target.put(key, value(), load.ttl).await,
        (Work::Churn, 2..4) => target.put(key, value(), None).await,
        (Work::Churn, _) => target.delete(key).await,
    }
}

async fn show_progress(shared: Arc<Shared>) {
    if !io::stderr().is_terminal() {
        return;
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} s  {msg}");
    let style = style.expect("the template is a constant and well-formed");
    let bar = ProgressBar::new(shared.duration.as_secs()).with_style(style);
    loop {
        let elapsed = shared.start.elapsed();
        let (done, errors) = { (shared.tally().done(), shared.tally().failures.count) };
        bar.set_position(elapsed.as_secs());
        bar.set_message(format!(
            "{:.0} ops/s, {errors} errors",
            done as f64 / elapsed.as_secs_f64().max(0.001)
        ));
        tokio::time::sleep(PROGRESS).await;
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preload_steps_fit_an_op() {
        for bytes in [0, 1, 128, 1 << 20, kv::VALUE_BYTES_MAX] {
            let rows = preload_rows(bytes);
            assert!((1..=PRELOAD_ROWS).contains(&rows));
            assert!(rows * bytes <= kv::VALUE_BYTES_MAX);
        }
    }

    #[test]
    fn random_differs_by_seed_and_step() {
        let (mut one, mut other) = (Random(1), Random(2));
        assert_ne!(one.next(), other.next());
        assert_ne!(one.next(), one.next());
        assert_eq!(Random(0).next(), 0xE220_A839_7B1D_CDAF, "every run takes the same keys");
    }

    #[test]
    fn tally_keeps_latencies_and_failures() {
        let unavailable = |why: &str| Error::Unavailable(why.into());
        let doubt = |why: &str| Error::InDoubt(why.into());
        let mut tally = Tally::new(Failures::default());
        tally.add(Duration::from_micros(500), Ok(()));
        for error in [unavailable("first"), unavailable("second")] {
            tally.add(Duration::ZERO, Err(error));
        }
        assert_eq!((tally.done(), tally.latency_micros.max()), (1, 500));
        assert_eq!(tally.failures.worst, Some(unavailable("first")));
        for error in [doubt("third"), doubt("fourth"), unavailable("fifth")] {
            tally.add(Duration::ZERO, Err(error));
        }
        assert_eq!((tally.failures.count, tally.failures.in_doubt), (5, 2));
        assert_eq!(tally.failures.worst, Some(doubt("third")));
    }

    #[test]
    fn keys_are_spread_over_any_number_of_shards() {
        let keys = super::super::keys(10_000);
        for shards in [1, 2, 3, 4, 7, 16, 64] {
            let mut counts = vec![0_usize; shards];
            for key in &keys {
                counts[usize::from(kv::Slot::of(key).0) * shards / usize::from(kv::SLOTS)] += 1;
            }
            let fair = keys.len() / shards;
            let off = counts.iter().map(|count| count.abs_diff(fair)).max();
            assert!(off.is_some_and(|off| off <= fair / 10), "{shards} shards: {counts:?}");
        }
    }
}
