//! tmp
use sim::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let seed: u64 = args[1].parse().unwrap();
    let count: u64 = args[2].parse().unwrap();
    let faults: Faults = args[3].parse().unwrap();
    let steps: u64 = args[4].parse().unwrap();
    let workload: Workload = args[5].parse().unwrap();
    let nodes: u16 = args[6].parse().unwrap();
    let trace = args.len() > 7;
    let began = std::time::Instant::now();
    let mut sum = Stats::default();
    let mut bad = 0;
    for seed in seed..seed + count {
        let o = Options {
            seed,
            faults: faults.clone(),
            steps,
            workload,
            trace,
            nodes,
            protocol: if nodes == 1 { kv::Protocol::Single } else { kv::Protocol::Raft },
        };
        let outcome = run(&o);
        for line in &outcome.trace {
            println!("{line}");
        }
        if !outcome.violations.is_empty() {
            bad += 1;
        }
        for v in &outcome.violations {
            println!("seed {seed}: {}", v.chars().take(if trace { 3000 } else { 1500 }).collect::<String>());
        }
        sum.add(&outcome.stats);
    }
    println!("{bad} bad; {sum:#?}");
    eprintln!(
        "{:.1} s, {:.1} sim s/s, {:.0} events/s",
        began.elapsed().as_secs_f64(),
        sum.micros as f64 / 1e6 / began.elapsed().as_secs_f64(),
        sum.events as f64 / began.elapsed().as_secs_f64()
    );
}
