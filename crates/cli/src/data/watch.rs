//! Prints what changes, as it comes.

use std::io::IsTerminal;

use kv::watch::{Batch, Change, Filter, Start, Watching, What};
use kv::{Key, Request, Version};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::connect::Store;
use crate::exit::{Code, Error};
use crate::hint::Hint;
use crate::options::Options;
use crate::parse::KeyWord;
use crate::print::{Output, put_bytes};

/// What is to be watched, and what is printed of it.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The key; without one, all
    #[arg(conflicts_with = "prefix")]
    key: Option<KeyWord>,
    /// The keys that begin like this
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<KeyWord>,
    /// Begin with the changes of this version; without it, with those of now
    #[arg(long, value_name = "VERSION")]
    from: Option<Version>,
    /// End after so many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print up to which version everything was printed, as that goes on
    #[arg(long)]
    progress: bool,
}

/// Prints changes until there were enough, or it is interrupted, which a script of the shell is not.
pub async fn run(
    args: &Args,
    store: &dyn Store,
    options: &Options,
    is_script: bool,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut printed = Printed { left: args.count, progress: None };
    tokio::select! {
        watched = watch(args, store, options, &mut printed, out) => match watched {
            Err(error) => {
                printed.tell_rest(args, &error, options, out)?;
                Err(error)
            }
            watched => watched,
        },
        () = interrupted(is_script) => Ok(Code::Done),
    }
}

async fn interrupted(is_script: bool) {
    let never = is_script && !std::io::stdin().is_terminal();
    if never || tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

async fn watch(
    args: &Args,
    store: &dyn Store,
    options: &Options,
    printed: &mut Printed,
    out: &mut Output<'_>,
) -> Result<Code, Error> {
    let mut watcher = store.watch(args.watching(options));
    loop {
        let (send, receive) = oneshot::channel();
        watcher.next(Box::new(move |next| drop(send.send(next))));
        let ended = || Error::Unavailable("the watch has ended: watch again".into());
        let batch = receive.await.map_err(|_| ended())??;
        if printed.batch(&batch, args.progress, out)? {
            return Ok(Code::Done);
        }
        out.out.flush()?;
    }
}

impl Args {
    fn watching(&self, options: &Options) -> Watching {
        let bytes = |word: &KeyWord| word.0.clone();
        let filter = match (&self.key, &self.prefix) {
            (Some(key), _) => Filter::Key(bytes(key)),
            (None, prefix) => Filter::Prefix(prefix.as_ref().map_or_else(Key::new, bytes)),
        };
        Watching {
            keyspace: options.keyspace.clone().unwrap_or_else(|| Request::KEYSPACE.into()),
            filter,
            from: self.from.map_or(Start::Now, Start::Version),
        }
    }

    /// The command that goes on from a version.
    fn rest(&self, from: Version, options: &Options) -> String {
        let hint = Hint::new("watch", options);
        let hint = match (&self.key, &self.prefix) {
            (Some(key), _) => hint.key(&key.0),
            (None, Some(prefix)) => hint.flag("--prefix", true).key(&prefix.0),
            (None, None) => hint,
        };
        hint.option("--from", Some(from)).flag("--progress", self.progress).options(options)
    }
}

/// What was printed.
struct Printed {
    /// Changes that are still to be printed; `None` = all that come.
    left: Option<u64>,
    progress: Option<Version>,
}

impl Printed {
    /// Prints a batch. Whether that was all.
    fn batch(&mut self, batch: &Batch, tells_progress: bool, out: &mut Output<'_>) -> Result<bool, Error> {
        for change in &*batch.changes {
            print(batch, change, out)?;
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    out.out.flush()?;
                    return Ok(true);
                }
            }
        }
        if batch.progress > self.progress {
            self.progress = batch.progress;
            if let Some(progress) = batch.progress.filter(|_| tells_progress) {
                print_progress(progress, out)?;
            }
        }
        Ok(false)
    }

    /// Says how to go on after an error.
    fn tell_rest(
        &self,
        args: &Args,
        error: &Error,
        options: &Options,
        out: &mut Output<'_>,
    ) -> Result<(), Error> {
        match error {
            Error::Store(kv::Error::Trimmed { oldest, .. }) => {
                let (read, rest) = (oldest.before(), args.rest(*oldest, options));
                out.note(&format!(
                    "changes before {oldest} are not kept any more: read the keys at {read}, then {rest}"
                ))?;
            }
            Error::Store(kv::Error::Unavailable(_)) => {
                if let Some(progress) = self.progress {
                    out.note(&format!("to go on: {}", args.rest(progress.next(), options)))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn print(batch: &Batch, change: &Change, out: &mut Output<'_>) -> Result<(), Error> {
    let Change { key, version, what } = change;
    if !out.json {
        let (version, name) = (version.to_string(), what.to_string());
        let fields = [version.as_bytes(), name.as_bytes(), key];
        match what {
            What::Put { value, .. } => out.row(&[fields[0], fields[1], fields[2], value])?,
            What::Deleted | What::Expired => out.row(&fields)?,
        }
        return Ok(());
    }
    let mut object = Map::new();
    object.insert("change".into(), what.to_string().into());
    put_bytes(&mut object, "key", key);
    if let What::Put { value, deadline } = what {
        put_bytes(&mut object, "value", value);
        if let Some(deadline) = deadline {
            object.insert("deadline_micros".into(), (*deadline).into());
        }
    }
    object.insert("version".into(), version.to_string().into());
    object.insert("shard".into(), batch.shard.0.into());
    Ok(out.object(&Value::from(object))?)
}

fn print_progress(progress: Version, out: &mut Output<'_>) -> Result<(), Error> {
    let text = progress.to_string();
    match out.json {
        true => out.object(&serde_json::json!({ "progress": text }))?,
        false => out.row(&[text.as_bytes(), b"progress"])?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kv::watch::Reach;
    use kv::{ShardId, SlotRange};

    use super::*;
    use crate::fake::Fake;

    fn version(number: i64) -> Version {
        Version::from_i64(number).unwrap()
    }

    fn batch(through: i64, changes: &[(&'static str, i64, What)]) -> Batch {
        let change = |(key, number, what): &(&'static str, i64, What)| {
            let (key, version) = (Key::from_static(key.as_bytes()), version(*number));
            Change { key, version, what: what.clone() }
        };
        let reach = Reach { slots: SlotRange::nth(0, 1), through: version(through) };
        let changes: Arc<[Change]> = changes.iter().map(change).collect();
        Batch { shard: ShardId(1), reach, progress: Some(version(through)), changes }
    }

    fn put(value: &'static str) -> What {
        What::Put { value: value.into(), deadline: None }
    }

    fn args() -> Args {
        Args { key: None, prefix: None, from: None, count: None, progress: false }
    }

    fn check(
        batches: Vec<Result<Batch, kv::Error>>,
        args: &Args,
        json: bool,
        expect: &str,
        expect_err: &str,
    ) {
        let store = Fake::watched(batches);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, terminal: false, json };
        let options = Options::default();
        let _ = crate::connect::runtime().block_on(run(args, &store, &options, true, &mut output));
        assert_eq!(String::from_utf8(out).unwrap(), expect);
        assert_eq!(String::from_utf8(err).unwrap(), expect_err);
    }

    #[test]
    fn changes_are_lines_with_their_versions() {
        let all = batch(9, &[("a", 5, put("x\ty")), ("b", 7, What::Deleted), ("c", 9, What::Expired)]);
        let text = "5\tput\ta\tx\\ty\n7\tdeleted\tb\n9\texpired\tc\n";
        check(vec![Ok(all.clone())], &args(), false, text, "");
        let told = format!("{text}9\tprogress\n");
        check(vec![Ok(all.clone())], &Args { progress: true, ..args() }, false, &told, "");
        let json = "{\"change\":\"put\",\"key\":\"a\",\"shard\":1,\"value\":\"x\\ty\",\"version\":\"5\"}\n";
        check(vec![Ok(all)], &Args { count: Some(1), ..args() }, true, json, "");
    }

    #[test]
    fn watch_that_fails_says_how_to_go_on() {
        let down = || Err(kv::Error::Unavailable("nobody is there".into()));
        let watched = vec![Ok(batch(9, &[("a", 5, put("x"))])), down()];
        check(watched, &args(), false, "5\tput\ta\tx\n", "to go on: watch --from 10\n");
        check(vec![down()], &args(), false, "", "");
        let trimmed = kv::Error::Trimmed { asked: version(3), oldest: version(8) };
        let told =
            "changes before 8 are not kept any more: read the keys at 7, then watch --prefix u --from 8\n";
        let prefix = Some(KeyWord("u".into()));
        check(vec![Err(trimmed)], &Args { prefix, ..args() }, false, "", told);
    }
}
