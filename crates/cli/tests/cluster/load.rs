//! Writers that note what was acknowledged, and the check of what they left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dialects::native::Client;
use kv::{Error, Outcome};
use tokio::task::JoinHandle;

use crate::clients::{Pinned, append};
use crate::nodes::{PATIENCE, Random, until};

/// A pause between appends: one key is read and written as a whole each time, so this bounds the work.
const PACE: Duration = Duration::from_millis(4);
/// How long a pinned writer waits for its node.
const PINNED_TIMEOUT: Duration = Duration::from_secs(3);

/// What a writer did.
#[derive(Debug, Default)]
pub struct Appended {
    /// Lines that were acknowledged, in order.
    pub acknowledged: Vec<u64>,
    /// Lines that may be there.
    pub doubtful: Vec<u64>,
    /// Lines that must not be there, and why.
    pub refused: Vec<(u64, String)>,
    longest_gap: Duration,
    last: Option<Instant>,
    next: u64,
    stop: bool,
}

impl Appended {
    fn note(&mut self, line: u64, result: Result<(), Error>) {
        match result {
            Ok(()) => {
                let now = Instant::now();
                let gap = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
                self.longest_gap = self.longest_gap.max(gap);
                self.acknowledged.push(line);
            }
            Err(error) if error.outcome() == Outcome::InDoubt => self.doubtful.push(line),
            Err(error) => self.refused.push((line, error.to_string())),
        }
    }

    /// Checks the value that the lines were appended to: every acknowledged line is there exactly once and in order, a
    /// doubtful one at most once, and nothing else.
    pub fn check(&self, value: &[u8]) {
        let text = std::str::from_utf8(value).expect("only lines were appended");
        let mut places: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (place, line) in text.lines().enumerate() {
            places.entry(line.parse().expect("a line is a number")).or_default().push(place);
        }
        let mut before = None;
        for line in &self.acknowledged {
            let found = places.remove(line).unwrap_or_default();
            assert_eq!(found.len(), 1, "line {line} was acknowledged and is there {} times", found.len());
            assert!(before < Some(found[0]), "line {line} stands before an earlier one");
            before = Some(found[0]);
        }
        for line in &self.doubtful {
            let count = places.remove(line).map_or(0, |found| found.len());
            assert!(count <= 1, "line {line} is there {count} times");
        }
        assert!(places.is_empty(), "lines that failed are there: {:?}", places.keys());
    }
}

/// A writer at work: it appends numbered lines to a key.
pub struct Writer {
    appended: Rc<RefCell<Appended>>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Through the client, which finds its way and repeats under a request id what is lost.
    pub fn start(client: Client, key: &str) -> Writer {
        let key = key.to_owned();
        Writer::run(async move |line| client.call(append(&key, format!("{line}\n"))).await.map(|_| ()))
    }

    /// Through one node after the other, by chance, whoever leads. The nodes see to it that it happens once.
    pub fn start_pinned(mut nodes: Vec<Pinned>, key: &str, mut random: Random) -> Writer {
        let key = key.to_owned();
        Writer::run(async move |line| {
            let index = random.below(nodes.len() as u64) as usize;
            nodes[index].append(&key, format!("{line}\n"), PINNED_TIMEOUT).await.map(|_| ())
        })
    }

    fn run(mut write: impl AsyncFnMut(u64) -> Result<(), Error> + 'static) -> Writer {
        let appended = Rc::new(RefCell::new(Appended { next: 1, ..Appended::default() }));
        let shared = appended.clone();
        let work = async move {
            while !shared.borrow().stop {
                let line = shared.borrow().next;
                let result = write(line).await;
                shared.borrow_mut().next += 1;
                shared.borrow_mut().note(line, result);
                tokio::time::sleep(PACE).await;
            }
        };
        Writer { appended, task: tokio::task::spawn_local(work) }
    }

    /// How many lines were acknowledged so far.
    pub fn count(&self) -> usize {
        self.appended.borrow().acknowledged.len()
    }

    /// Waits until so many more lines are acknowledged.
    pub async fn goes_on(&self, more: usize) {
        let goal = self.count() + more;
        until("the writer goes on", PATIENCE, || std::future::ready(self.count() >= goal)).await;
    }

    /// The longest time between two acknowledgements since the gaps were forgotten.
    pub fn longest_gap(&self) -> Duration {
        self.appended.borrow().longest_gap
    }

    /// Forgets the gaps so far.
    pub fn forget_gap(&self) {
        self.appended.borrow_mut().longest_gap = Duration::ZERO;
    }

    /// Stops it: what it did.
    pub async fn stop(self) -> Appended {
        self.appended.borrow_mut().stop = true;
        self.task.await.expect("a writer does not panic");
        Rc::into_inner(self.appended).expect("the writer has ended").into_inner()
    }
}
