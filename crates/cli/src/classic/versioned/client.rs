//! A client: asks a server one thing, and prints a line for each answer.

use std::io;

use dialects::classic::versioned::VersionedClient;
use dialects::classic::versioned::proto::{
    KeyRange, KeyRequest, KeyValueRequest, KeyValueVersionReply, PutReply,
};
use serde_json::json;

use super::PORT;
use crate::connect;
use crate::exit::{Code, Error};
use crate::print::Output;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
enum Op {
    /// The value of a key, the newest or at a version
    Get,
    /// The keys from one to another, both included
    GetRange,
    /// The values of keys
    GetAll,
    /// Store a value
    Put,
    /// Store values
    PutAll,
    /// Remove a key with all its versions
    Del,
    /// Remove the keys from one to another, both included
    DelRange,
    /// Remove keys
    DelAll,
    /// Remove all versions of a key but the newest
    Trim,
}

/// The options of a client.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[arg(value_enum)]
    op: Op,
    /// The port of the server
    #[arg(long, alias = "porta", value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The machine of the server
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,
    /// The keys; of a range the first and the last
    #[arg(long, alias = "chave", value_name = "KEY", num_args = 1.., required = true)]
    key: Vec<String>,
    /// The values, one for each key
    #[arg(long, alias = "valor", value_name = "VALUE", num_args = 1..)]
    value: Vec<String>,
    /// Read at these versions, one for each key: microseconds since 1970; 0 = the newest
    #[arg(long, alias = "versao", value_name = "VERSION", num_args = 1.., allow_negative_numbers = true)]
    version: Vec<i64>,
}

/// Asks, and prints what is answered.
pub fn run(args: Args, out: &mut Output<'_>) -> Result<Code, Error> {
    check(&args).map_err(Error::Usage)?;
    let server = VersionedClient::new(&format!("{}:{}", args.host, args.port))?;
    let mut printed = Ok(());
    let asked = connect::runtime().block_on(ask(&server, args, &mut |answer| {
        if printed.is_ok() {
            printed = print(&answer, out);
        }
    }));
    asked?;
    printed.map(|()| Code::Done).map_err(|error| Error::Untold { code: Code::Done, error })
}

/// What is answered.
enum Answer {
    Read(KeyValueVersionReply),
    Put(PutReply),
}

/// Whether there are as many keys, values and versions as it takes.
fn check(args: &Args) -> Result<(), String> {
    let Args { op, key, value, version, .. } = args;
    let (name, keys) = (clap::ValueEnum::to_possible_value(op), key.len());
    let name = name.map(|name| name.get_name().to_owned()).unwrap_or_default();
    let wanted = match op {
        Op::Get | Op::Put | Op::Del | Op::Trim => Some((1, "one key")),
        Op::GetRange | Op::DelRange => Some((2, "two keys, the first and the last")),
        Op::GetAll | Op::PutAll | Op::DelAll => None,
    };
    if let Some((_, what)) = wanted.filter(|(count, _)| *count != keys) {
        return Err(format!("{name} takes {what}, and --key has {keys}"));
    }
    let is_put = matches!(op, Op::Put | Op::PutAll);
    match value.len() {
        0 if !is_put => {}
        _ if !is_put => {
            return Err(format!("{name} stores nothing: leave --value out, or use put or putall"));
        }
        values if values != keys => {
            return Err(format!("{name} takes a value for each key: --key has {keys}, --value {values}"));
        }
        _ => {}
    }
    let reads = matches!(op, Op::Get | Op::GetRange | Op::GetAll);
    match version.len() {
        0 => Ok(()),
        _ if !reads => {
            Err(format!("{name} is of all versions: leave --version out, or use get, getrange or getall"))
        }
        versions if versions > keys => {
            Err(format!("a version is of a key: --key has {keys}, --version {versions}"))
        }
        _ => Ok(()),
    }
}

async fn ask(server: &VersionedClient, args: Args, take: &mut dyn FnMut(Answer)) -> Result<(), kv::Error> {
    let Args { op, key, value, version, .. } = args;
    let versions = version.into_iter().map(Some).chain(std::iter::repeat(None));
    let pairs = key.iter().cloned().zip(value).map(|(key, val)| KeyValueRequest { key, val });
    let pairs: Vec<KeyValueRequest> = pairs.collect();
    let mut asked: Vec<KeyRequest> =
        key.into_iter().zip(versions).map(|(key, ver)| KeyRequest { key, ver }).collect();
    match op {
        Op::Get => take(Answer::Read(server.get(asked.remove(0)).await?)),
        Op::Del => take(Answer::Read(server.del(asked.remove(0)).await?)),
        Op::Trim => take(Answer::Read(server.trim(asked.remove(0)).await?)),
        Op::Put => {
            for pair in pairs {
                take(Answer::Put(server.put(pair).await?));
            }
        }
        Op::GetRange => server.get_range(range(asked), &mut |reply| take(Answer::Read(reply))).await?,
        Op::DelRange => server.del_range(range(asked), &mut |reply| take(Answer::Read(reply))).await?,
        Op::GetAll => server.get_all(asked, &mut |reply| take(Answer::Read(reply))).await?,
        Op::DelAll => server.del_all(asked, &mut |reply| take(Answer::Read(reply))).await?,
        Op::PutAll => server.put_all(pairs, &mut |reply| take(Answer::Put(reply))).await?,
    }
    Ok(())
}

fn range(asked: Vec<KeyRequest>) -> KeyRange {
    let mut ends = asked.into_iter();
    KeyRange { fr: ends.next(), to: ends.next() }
}

/// Prints key, value and version; of a put key, old value, old version and version.
fn print(answer: &Answer, out: &mut Output<'_>) -> io::Result<()> {
    match answer {
        Answer::Read(KeyValueVersionReply { key, val, ver }) if out.json => {
            out.object(&json!({ "key": key, "val": val, "ver": ver.to_string() }))
        }
        Answer::Put(PutReply { key, old_val, old_ver, ver }) if out.json => out.object(&json!({
            "key": key, "old_val": old_val, "old_ver": old_ver.to_string(), "ver": ver.to_string()
        })),
        Answer::Read(KeyValueVersionReply { key, val, ver }) => {
            out.row(&[key.as_bytes(), val.as_bytes(), ver.to_string().as_bytes()])
        }
        Answer::Put(PutReply { key, old_val, old_ver, ver }) => out.row(&[
            key.as_bytes(),
            old_val.as_bytes(),
            old_ver.to_string().as_bytes(),
            ver.to_string().as_bytes(),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Result<Args, String> {
        let line = Line::try_parse_from(std::iter::once("client").chain(line.split(' ')));
        let args = line.map_err(|error| error.to_string())?.args;
        check(&args).map(|()| args)
    }

    #[test]
    fn options_are_taken_in_either_language() {
        let english = parsed("getall --port 7 --key a b --version 3 -1").expect("it is sound");
        let portuguese = parsed("getall --porta 7 --chave a b --versao 3 -1").expect("it is sound");
        assert_eq!(format!("{english:?}"), format!("{portuguese:?}"));
        assert_eq!((english.op, english.port, english.version), (Op::GetAll, 7, vec![3, -1]));
        assert_eq!(parsed("putall --chave a b --valor 1 2").expect("it is sound").value, ["1", "2"]);
    }

    #[test]
    fn counts_that_do_not_fit_are_told() {
        for (line, why) in [
            ("get --key a b", "get takes one key, and --key has 2"),
            ("getrange --key a", "getrange takes two keys, the first and the last, and --key has 1"),
            ("put --key a", "put takes a value for each key: --key has 1, --value 0"),
            ("putall --key a b --value 1", "--key has 2, --value 1"),
            ("get --key a --value 1", "get stores nothing: leave --value out"),
            ("del --key a --version 1", "del is of all versions: leave --version out"),
            ("getall --key a --version 1 2", "--key has 1, --version 2"),
            ("get", "--key"),
            (
                "take --key a",
                "possible values: get, getrange, getall, put, putall, del, delrange, delall, trim",
            ),
        ] {
            let told = parsed(line).expect_err(line);
            assert!(told.contains(why), "{line}: {told}");
        }
    }

    #[test]
    fn answers_are_lines_of_fields() {
        let read = Answer::Read(KeyValueVersionReply { key: "k".into(), val: "a\tb".into(), ver: 5 });
        let put = PutReply { key: "k".into(), old_val: String::new(), old_ver: 0, ver: 6 };
        let printed = |json| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut output = Output { out: &mut out, err: &mut err, terminal: false, json };
            print(&read, &mut output).expect("memory takes everything");
            print(&Answer::Put(put.clone()), &mut output).expect("memory takes everything");
            String::from_utf8(out).expect("it is text")
        };
        assert_eq!(printed(false), "k\ta\\tb\t5\nk\t\t0\t6\n");
        assert!(
            printed(true).starts_with("{\"key\":\"k\",\"val\":\"a\\tb\",\"ver\":\"5\"}\n"),
            "{}",
            printed(true)
        );
    }
}
