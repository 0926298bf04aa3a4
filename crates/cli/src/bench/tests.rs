//! A bench of a store of one map, from the words of the command line to what is printed.

use clap::Parser;

use super::*;
use crate::fake::{Closed, Fake};

#[derive(Parser)]
#[command(args_override_self = true)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(words: &[&str]) -> Args {
    let base = ["bench", "--seconds", "1", "--warm-up", "0", "--clients", "2", "--keys", "50"];
    Line::try_parse_from(base.iter().chain(words)).expect("the words are fine").args
}

/// What a run of one second printed, and the exit code.
fn printed(words: &[&str], fake: &Arc<Fake>, json: bool) -> Result<(String, String, Code), Error> {
    let args = args(words);
    check(&args, &Options::default())?;
    let target = Target::Capstan { store: fake.clone(), options: Options::default() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output { out: &mut out, err: &mut err, terminal: false, json };
    let outcome = connect::runtime().block_on(measure(&args, target, &mut output))?;
    let code = report::print(&outcome, &mut output)?;
    Ok((String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code))
}

fn object(out: &str) -> serde_json::Value {
    serde_json::from_str(out).unwrap()
}

#[test]
fn bench_at_a_rate_asks_as_often_as_due() {
    let (out, err, code) = printed(&["mixed", "--rate", "100"], &Arc::default(), true).unwrap();
    let object = object(&out);
    let fields: Vec<&String> = object.as_object().unwrap().keys().collect();
    let promised = "ops_per_second p50_us p99_us p999_us max_us errors in_doubt cpu_us_per_op";
    assert_eq!(fields, promised.split(' ').collect::<Vec<_>>());
    assert_eq!((object["errors"].as_u64(), err.as_str(), code), (Some(0), "", Code::Done));
    // At most the 100 that were due; a slow machine takes longer for them.
    let per_second = object["ops_per_second"].as_f64().unwrap();
    assert!(per_second > 0.0 && per_second <= 102.0, "{per_second}");
}

#[test]
fn bench_prints_tables_of_80_columns() {
    let processes = format!("n1={}", std::process::id());
    let words = ["echo", "--rate", "100", "--process", &processes, "--process", "n2=0"];
    let (out, _, _) = printed(&words, &Arc::default(), false).unwrap();
    assert!(out.starts_with("WORK  OPS/S"), "{out}");
    assert!(out.lines().all(|line| line.len() <= 80), "{out}");
    let lines: Vec<_> = out.lines().map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    assert_eq!(lines, ["WORK", "echo", "", "CPU", "client", "n1", "n2"], "{out}");
    assert!(out.ends_with("n2      ended\n"), "{out}");
}

#[test]
fn bench_says_what_processes_take() {
    let processes = format!("n1={}", std::process::id());
    let words = ["put", "--process", &processes, "--process", "n2=0"];
    let (out, _, _) = printed(&words, &Arc::default(), true).unwrap();
    let cpu = &object(&out)["cpu_us_per_op"];
    assert!(cpu["client"].as_f64().unwrap() > 0.0, "{out}");
    assert!(cpu["nodes"]["n1"].as_f64().unwrap() > 0.0, "{out}");
    assert!(cpu["nodes"]["n2"].is_null(), "{out}");
}

#[test]
fn bench_warms_up_apart() {
    let fake = Arc::new(Fake::default());
    let (out, _, _) = printed(&["put", "--rate", "100", "--warm-up", "1"], &fake, true).unwrap();
    let measured = object(&out)["ops_per_second"].as_f64().unwrap();
    assert!(measured <= 102.0, "{out}");
    assert_eq!(fake.writes(), 200, "as many before as in the second that is measured");
}

#[test]
fn bench_with_a_failed_request_says_so() {
    for (error, in_doubt, expect) in [
        (kv::Error::Unavailable("away".into()), 0, Code::Unavailable),
        (kv::Error::InDoubt("lost".into()), 1, Code::InDoubt),
    ] {
        // The health check, the status, and half of the puts are answered.
        let fake = Arc::new(Fake::failing_after(2 + 50, error.clone()));
        let (out, err, code) = printed(&["put", "--rate", "100"], &fake, true).unwrap();
        assert_eq!(code, expect);
        assert_eq!(object(&out)["errors"], 50);
        assert_eq!(object(&out)["in_doubt"], 50 * in_doubt);
        assert!(err.starts_with("50 requests failed; ") && err.contains(&error.to_string()), "{err}");
    }
}

#[test]
fn bench_with_a_request_that_failed_while_warming_up_says_so() {
    let fake = Arc::new(Fake::failing_once(2, kv::Error::Unavailable("away".into())));
    let (out, err, code) = printed(&["put", "--rate", "100", "--warm-up", "1"], &fake, true).unwrap();
    assert_eq!((code, &object(&out)["errors"]), (Code::Unavailable, &1.into()));
    assert!(err.contains("away"), "{err}");
}

#[test]
fn bench_of_a_store_that_is_away_fails() {
    let fake = Arc::new(Fake::failing(kv::Error::Unavailable("away".into())));
    assert_eq!(printed(&["put"], &fake, true).unwrap_err().code(), Code::Unavailable);
    let fake = Arc::new(Fake::failing_after(2, kv::Error::InDoubt("lost".into())));
    assert_eq!(printed(&["put"], &fake, true).unwrap_err().code(), Code::InDoubt);
}

#[test]
fn ttl_is_of_every_put() {
    let fake = Arc::new(Fake::default());
    printed(&["put", "--rate", "10", "--ttl", "30s"], &fake, true).unwrap();
    assert_eq!(*fake.ttl.lock().unwrap(), Some(Duration::from_secs(30)));
    let fake = Arc::new(Fake::default());
    printed(&["put", "--rate", "10"], &fake, true).unwrap();
    assert_eq!(*fake.ttl.lock().unwrap(), None);
}

#[test]
fn churn_stores_for_good_and_for_a_while_and_deletes() {
    let fake = Arc::new(Fake::default());
    let (out, _, code) = printed(&["churn", "--rate", "300"], &fake, true).unwrap();
    assert_eq!((code, object(&out)["errors"].as_u64()), (Code::Done, Some(0)));
    assert_eq!(*fake.ttl.lock().unwrap(), Some(CHURN_TTL));
    // Of 50 keys, each written six times, some were deleted last.
    let left = fake.rows().len();
    assert!((1..50).contains(&left), "{left}");
}

#[test]
fn bench_says_what_each_interval_came_to() {
    let processes = format!("n1={}", std::process::id());
    let words = ["put", "--rate", "100", "--seconds", "3", "--interval", "1", "--process", &processes];
    let (out, _, _) = printed(&words, &Arc::default(), true).unwrap();
    let objects: Vec<_> = out.lines().map(object).collect();
    let (total, intervals) = objects.split_last().unwrap();
    let seconds: Vec<_> = intervals.iter().map(|interval| interval["seconds"].as_u64().unwrap()).collect();
    assert_eq!(seconds, [1, 2, 3]);
    let answered: f64 = intervals.iter().map(|each| each["ops_per_second"].as_f64().unwrap()).sum();
    assert!((250.0..=303.0).contains(&answered), "all but some of the last: {out}");
    assert!(intervals.iter().all(|each| each["cpu_us_per_op"]["nodes"]["n1"].is_number()), "{out}");
    assert_eq!(total["errors"], 0);
    let (out, _, _) = printed(&words, &Arc::default(), false).unwrap();
    assert!(out.starts_with(" SECONDS     OPS/S") && out.lines().all(|line| line.len() <= 80), "{out}");
    assert!(out.lines().nth(4).is_some_and(str::is_empty), "three lines below the head: {out}");
}

#[test]
fn interval_that_cannot_be_said_ends_the_bench() {
    let args = args(&["put", "--rate", "100", "--seconds", "60", "--interval", "1"]);
    let target = Target::Capstan { store: Arc::new(Fake::default()), options: Options::default() };
    let (mut closed, mut err) = (Closed(std::io::ErrorKind::BrokenPipe), Vec::new());
    let mut buffered = std::io::BufWriter::new(&mut closed);
    let mut output = Output { out: &mut buffered, err: &mut err, terminal: false, json: false };
    let ended = connect::runtime().block_on(measure(&args, target, &mut output));
    assert!(matches!(ended, Err(Error::Output(_))), "the first line is written when it is there");
}

#[test]
fn bench_refuses_what_makes_no_sense() {
    let local = Options { level: Some(Level::Local), ..Options::default() };
    for (words, options, expect) in [
        (&["get", "--ttl", "1s"][..], Options::default(), "--ttl is for put"),
        (&["put", "--interval", "2"], Options::default(), "--interval is longer"),
        (&["churn", "--target", "etcd"], Options::default(), "churn is for Capstan"),
        (&["echo", "--target", "etcd"], Options::default(), "echo asks a node of Capstan"),
        (&["put", "--target", "etcd", "--ttl", "1s"], Options::default(), "--ttl is for Capstan"),
        (&["get", "--target", "etcd"], local, "--level and --keyspace are for Capstan"),
    ] {
        let error = check(&args(words), &options).unwrap_err();
        assert!(error.code() == Code::Usage && error.to_string().contains(expect), "{error}");
    }
    assert!(check(&args(&["get", "--target", "etcd"]), &Options::default()).is_ok());
}

#[test]
fn connections_are_shared_by_64_clients() {
    assert_eq!(connections(&args(&["put", "--clients", "64"])), 1);
    assert_eq!(connections(&args(&["put", "--clients", "65"])), 2);
    assert_eq!(connections(&args(&["put", "--clients", "2", "--connections", "8"])), 2);
}
