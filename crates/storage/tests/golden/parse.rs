//! Commands from text.
//!
//! `get K`, `getall K..`, `range FROM TO`, `history K [LIMIT]`, `put K V`, `putall K=V..`, `del K`, `delrange FROM TO`,
//! `trim K`, `trimrange FROM TO`, `expire K MICROS|never`, `append K V`, `prepend K V`, `popleft K N`, `popright K N`, `incr K N`,
//! `insert K V`, `cas K EXPECT V`, `advance MICROS`, `txn [K EXPECT,..] then OP | OP else OP | OP`. Expectations:
//! `absent`, `present`, `value=V`, `version=MICROS`. Options anywhere: `at=MICROS`, `before=MICROS`, `below=MICROS`, `until=MICROS`,
//! `previous`, `limit=N`, `page=K`, `back`, `keys`, `count`. `''` is empty, `-` no end of a range, `\xNN` a byte,
//! `K*N` repeated N times.

use bytes::Bytes;
use kv::{Condition, Direction, Expect, Function, Op, Range, ReplicaId, RequestId, Side, Version};
use storage::{History, Options};

pub fn version(text: &str) -> Version {
    match text.split_once('.') {
        Some((micros, node)) => Version::new(micros.parse().unwrap(), ReplicaId(node.parse().unwrap())),
        None => Version::new(text.parse().unwrap(), ReplicaId(1)),
    }
}

pub fn id(text: &str) -> RequestId {
    let parts: Vec<&str> = text.split(':').collect();
    RequestId {
        client: parts[0].parse().unwrap(),
        sequence: parts[1].parse().unwrap(),
        answered_below: parts[2].parse().unwrap(),
        valid_until: version(parts[3]),
    }
}

/// `N|all`, and `deleted=MICROS` behind it.
pub fn options(text: &str) -> Options {
    let (history, deleted) = text.split_once(" deleted=").unwrap_or((text, ""));
    let options = Options::of(history.parse().map_or(History::All, History::Count));
    Options { deleted_micros: deleted.parse().unwrap_or(options.deleted_micros), ..options }
}

pub fn op(text: &str) -> Op {
    if let Some(text) = text.strip_prefix("txn ") {
        return transaction(text);
    }
    let words = Words::new(text);
    let key = words.bytes(1);
    let (value, deadline) = (words.bytes(2), words.number("until="));
    let update = |function| Op::Update { key: key.clone(), function };
    let to = (words.word(2) != "-").then(|| value.clone());
    match words.word(0) {
        "get" => Op::Get { key, at: words.version("at=") },
        "getall" => Op::GetAll { keys: words.from(1).map(bytes).collect(), at: words.version("at=") },
        "range" => Op::Range(range(&words, key, to)),
        "history" => {
            let limit = words.word(2).parse().unwrap_or(0);
            Op::History { key, limit, before: words.version("before=") }
        }
        "put" => Op::Put { key, value, deadline, previous: words.has("previous") },
        "putall" => Op::PutAll { rows: words.from(1).map(pair).collect() },
        "del" => Op::Delete { key, previous: words.has("previous") },
        "delrange" => Op::DeleteRange { from: key, to },
        "trim" => Op::Trim { key, below: words.version("below=") },
        "trimrange" => Op::TrimRange { from: key, to, below: words.version("below=") },
        "expire" => Op::Expire { key, deadline: words.word(2).parse().ok() },
        "append" => update(Function::Append { side: Side::Right, value }),
        "prepend" => update(Function::Append { side: Side::Left, value }),
        "popleft" => update(Function::Pop { side: Side::Left, count: words.word(2).parse().unwrap() }),
        "popright" => update(Function::Pop { side: Side::Right, count: words.word(2).parse().unwrap() }),
        "incr" => update(Function::Increment { by: words.word(2).parse().unwrap() }),
        "insert" => update(Function::Insert { value, deadline }),
        "cas" => {
            update(Function::CompareAndPut { expect: expect(words.word(2)), value: words.bytes(3), deadline })
        }
        "advance" => Op::Advance { to: version(words.word(1)), rules: None },
        other => panic!("there is no op {other}"),
    }
}

fn transaction(text: &str) -> Op {
    let (conditions, rest) = text.split_once("then").unwrap();
    let (then, otherwise) = rest.split_once("else").unwrap_or((rest, ""));
    let ops = |text: &str| -> Vec<Op> {
        text.split('|').map(str::trim).filter(|op| !op.is_empty()).map(op).collect()
    };
    let condition = |text: &str| {
        let (key, expected) = text.trim().split_once(' ').unwrap();
        Condition { key: bytes(key), expect: expect(expected) }
    };
    let conditions = conditions.split(',').filter(|text| !text.trim().is_empty()).map(condition).collect();
    Op::Transaction { conditions, then: ops(then), otherwise: ops(otherwise) }
}

fn range(words: &Words, from: Bytes, to: Option<Bytes>) -> Range {
    let direction = if words.has("back") { Direction::Backward } else { Direction::Forward };
    Range {
        from,
        to,
        direction,
        limit: words.number("limit=").unwrap_or(0) as u32,
        page: words.option("page=").map(bytes),
        keys_only: words.has("keys"),
        count_only: words.has("count"),
        at: words.version("at="),
        ledger: false,
    }
}

fn expect(text: &str) -> Expect {
    match text.split_once('=') {
        Some(("value", value)) => Expect::Value(bytes(value)),
        Some(("version", number)) => Expect::Version(version(number)),
        _ if text == "absent" => Expect::Absent,
        _ if text == "present" => Expect::Present,
        _ => panic!("there is no expectation {text}"),
    }
}

fn pair(text: &str) -> (Bytes, Bytes) {
    let (key, value) = text.split_once('=').unwrap();
    (bytes(key), bytes(value))
}

fn bytes(text: &str) -> Bytes {
    if let Some((unit, count)) = text.split_once('*') {
        return unit.repeat(count.parse().unwrap()).into();
    }
    let mut parts = text.trim_matches('\'').split("\\x");
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).unwrap());
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    out.into()
}

/// The words of a command; options are told by their name.
struct Words<'a> {
    plain: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Words<'a> {
        const OPTIONS: [&str; 10] =
            ["at=", "before=", "below=", "until=", "previous", "limit=", "page=", "back", "keys", "count"];
        let is_option = |word: &&str| OPTIONS.iter().any(|option| word.starts_with(option));
        let (options, plain) = text.split_whitespace().partition(is_option);
        Words { plain, options }
    }

    fn word(&self, at: usize) -> &'a str {
        self.plain.get(at).copied().unwrap_or_default()
    }

    fn from(&self, at: usize) -> impl Iterator<Item = &'a str> {
        self.plain.iter().skip(at).copied()
    }

    fn bytes(&self, at: usize) -> Bytes {
        bytes(self.word(at))
    }

    fn has(&self, name: &str) -> bool {
        self.options.contains(&name)
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find_map(|option| option.strip_prefix(name))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.option(name).map(|number| number.parse().unwrap())
    }

    fn version(&self, name: &str) -> Option<Version> {
        self.option(name).map(version)
    }
}
