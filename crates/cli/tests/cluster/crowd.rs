//! A node in a crowd: connections that do nothing, clients that come for one write, someone who asks for much and takes
//! nothing. What the others get is told beside what they get without all that; only the bounds are asserted.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, interval, sleep};

use crate::clients::{get, put};
use crate::nodes::{CAPSTAN, Lab, Random, run, size};
use crate::raw::Raw;

/// What the node may take.
const MEMORY_MAX: u64 = 1 << 30;
/// Writes a second of those who have nothing to do with the crowd.
const RATE: u32 = 2000;
/// Clients a second that come for one write.
const ONE_SHOTS: u32 = 200;

/// What is done to the node, beside the load that is measured.
struct Crowd {
    tasks: Vec<JoinHandle<()>>,
    done: Rc<Cell<u64>>,
    failed: Rc<Cell<u64>>,
    connected: Rc<Cell<u64>>,
}

impl Crowd {
    fn start(lab: &Lab, idle: usize) -> Crowd {
        let (done, failed, connected) = <(Rc<Cell<u64>>, Rc<Cell<u64>>, Rc<Cell<u64>>)>::default();
        let address = lab.address(1);
        let tasks = vec![
            spawn_local(stay_idle(address.clone(), idle, connected.clone())),
            spawn_local(come_and_go(address.clone(), done.clone(), failed.clone())),
            spawn_local(take_nothing(address)),
        ];
        Crowd { tasks, done, failed, connected }
    }

    fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let (done, failed, connected) = (self.done.get(), self.failed.get(), self.connected.get());
        println!(
            "{connected} connections that did nothing; of the clients that came for one write {done} were \
                  served and {failed} were not"
        );
    }
}

/// So many connections, half of which say nothing at all; those that were closed come again.
async fn stay_idle(address: String, count: usize, connected: Rc<Cell<u64>>) {
    let open =
        |index: usize| if index.is_multiple_of(2) { Raw::connect(&address) } else { Raw::greeted(&address) };
    let mut all = Vec::new();
    loop {
        for index in 0..count {
            match all.get_mut(index) {
                None => all.push(open(index)),
                Some(raw) => match raw.is_closed() {
                    true => *raw = open(index),
                    false => continue,
                },
            }
            connected.set(connected.get() + 1);
            if index.is_multiple_of(16) {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Clients that connect, write once with a session of their own, and go.
async fn come_and_go(address: String, done: Rc<Cell<u64>>, failed: Rc<Cell<u64>>) {
    let mut due = interval(Duration::from_secs(1) / ONE_SHOTS);
    for number in 0u64.. {
        due.tick().await;
        let (address, done, failed) = (address.clone(), done.clone(), failed.clone());
        spawn_local(async move {
            let client = dialects::native::Client::connect(vec![address], Default::default()).unwrap();
            let count = match client.call(put(&format!("once:{}", number % 10_000), "x")).await {
                Ok(_) => done,
                Err(_) => failed,
            };
            count.set(count.get() + 1);
        });
    }
}

/// Asks for the largest values without end.
async fn take_nothing(address: String) {
    loop {
        let mut greedy = Raw::greeted(&address);
        for _ in 0..600 {
            let _ = greedy.ask(get("large"));
            sleep(Duration::from_millis(1)).await;
        }
        while !greedy.is_closed() {
            sleep(Duration::from_secs(30)).await;
        }
    }
}

/// The load that is measured, by a process of its own.
async fn load(lab: &Lab, seconds: u32, what: &str) -> Value {
    let (seconds, rate) = (seconds.to_string(), RATE.to_string());
    let mut command = Command::new(CAPSTAN);
    command.args(["--connect", &lab.address(1), "bench", "put", "--json"]);
    command.args(["--rate", &rate, "--seconds", &seconds]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |name: &str| told[name].as_f64().unwrap() / 1000.0;
    println!(
        "{what}: {} writes/s, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, {} failed",
        told["ops_per_second"],
        at("p50_us"),
        at("p99_us"),
        at("max_us"),
        told["errors"]
    );
    told
}

#[test]
#[ignore = "starts real nodes: scripts/test runs it against the release binary"]
fn crowd_takes_bounded_memory_and_lets_nobody_fail() {
    run(async |mut random: Random| {
        let (idle, seconds) = size((2_000, 20), (10_000, 60));
        let mut lab = Lab::new(1, &[], &mut random);
        lab.serve_all().await;
        lab.client().call(put("large", random.bytes(kv::VALUE_BYTES_MAX))).await.unwrap();
        load(&lab, seconds, "alone").await;
        let before = lab.peak_memory(1);

        let began = Instant::now();
        let crowd = Crowd::start(&lab, idle);
        let told = load(&lab, seconds, "in the crowd").await;
        crowd.stop();
        let peak = lab.peak_memory(1);
        println!(
            "{idle} idle for {:?}: {} MiB at most, {} MiB before",
            began.elapsed(),
            peak >> 20,
            before >> 20
        );
        assert_eq!(told["errors"], 0, "nobody fails because of others");
        assert!(peak < MEMORY_MAX, "{peak}");
        assert!(lab.stop(1).await.success());
    });
}
