use kv::Protocol;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (first, count): (u64, u64) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let faults: sim::Faults = args[3].parse().unwrap();
    let mutant = args.get(4).filter(|m| *m != "-").map(|m| m.parse::<mutant::Mutant>().unwrap());

    mutant::choose(mutant);
    let trace = args.get(5).is_some();
    let forced = std::env::var("P").is_ok();
    let mut all: std::collections::BTreeMap<&str, u64> = Default::default();
    for seed in first..first + count {
        let mut options = sim::Options::new(seed);
        if forced && options.protocol != Protocol::Quorum {
            options.protocol = Protocol::Quorum;
            options.nodes = options.nodes.max(3);
        } else if std::env::var("ONLYQ").is_ok() && options.protocol != Protocol::Quorum {
            continue;
        }
        options.faults = faults.clone();
        options.trace = trace;
        if let Ok(steps) = std::env::var("STEPS") {
            options.steps = steps.parse().unwrap()
        }
        let out = sim::run(&options);
        for line in &out.trace {
            println!("{line}")
        }
        println!(
            "seed {seed} {} {} nodes {} {:?} done {} events {} {:?}",
            if out.violations.is_empty() { "ok" } else { "VIOLATION" },
            options.protocol,
            options.nodes,
            options.workload,
            out.stats.asked,
            out.stats.events,
            out.violations
        );
        for (what, n) in &out.stats.sometimes {
            *all.entry(what).or_default() += n
        }
        if !out.violations.is_empty() && mutant.is_some() {
            break;
        }
    }
    for (what, n) in all {
        println!("  {n:8} {what}")
    }
}
