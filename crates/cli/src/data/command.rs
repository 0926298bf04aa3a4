//! The definition of the data commands: words, options and help.

use std::time::Duration;

use clap::Subcommand;
use kv::Version;

use super::watch;
use crate::parse::{self, KeyWord, ValueWord};

/// A command on keys and values. Keys are arguments with escapes ([`crate::escape`]), values are taken as they are; `-` as a
/// value reads it from standard input.
#[derive(Clone, Debug, Subcommand)]
#[command(allow_negative_numbers = true)]
pub enum Command {
    /// Print the value of a key
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan get greeting
  capstan get greeting --at 1847281920312321   as it was at that version
  capstan get photo --raw > photo.jpg          without the line end
  capstan get greeting --json                  {found, key, value, version}
Exit code 1 when there is no such key."
    )]
    Get {
        /// The key
        key: KeyWord,
        /// Read the state as of this version
        #[arg(long, value_name = "VERSION")]
        at: Option<Version>,
        /// Print the bytes of the value as they are, and no line end
        #[arg(long)]
        raw: bool,
    },
    /// Store a value; prints the version of the write
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan put greeting hello
  capstan put session:7 alice --ttl 30m        gone after half an hour
  capstan put greeting hi --previous           prints the value before
  capstan put photo - < photo.jpg              from standard input"
    )]
    Put {
        /// The key
        key: KeyWord,
        /// The value; - reads standard input
        value: ValueWord,
        /// Let it expire after so long
        #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
        ttl: Option<Duration>,
        /// Print the value that was there before instead of the version
        #[arg(long)]
        previous: bool,
    },
    /// Store a value only where there is none
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan insert lock:job7 worker3 --ttl 30s   a lock that lets go by itself
Exit code 1 when the key is there already."
    )]
    Insert {
        /// The key
        key: KeyWord,
        /// The value; - reads standard input
        value: ValueWord,
        /// Let it expire after so long
        #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
        ttl: Option<Duration>,
    },
    /// Compare and set: store a value only when the present one is as expected
    #[command(override_usage = "capstan cas [OPTIONS] <CONDITION> <KEY> <NEW_VALUE>")]
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan cas state --expect open closed
  capstan cas state --expect-version 1847281920312321 closed
  capstan cas state --absent open              the same as insert
Exit code 1 when something else was there; it is printed on standard error."
    )]
    #[command(group = clap::ArgGroup::new("condition").required(true).args(["expect", "expect_version", "absent", "present"]))]
    Cas {
        /// The key
        key: KeyWord,
        /// The new value; - reads standard input
        new_value: ValueWord,
        /// This value must be there
        #[arg(long, value_name = "VALUE")]
        expect: Option<ValueWord>,
        /// The value there must be of this version
        #[arg(long, value_name = "VERSION")]
        expect_version: Option<Version>,
        /// No value may be there
        #[arg(long)]
        absent: bool,
        /// Some value must be there
        #[arg(long)]
        present: bool,
        /// Let it expire after so long
        #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
        ttl: Option<Duration>,
    },
    /// Add text at the end of a value; prints its new length in bytes
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan append log 'one more line'           a missing key counts as empty"
    )]
    Append {
        /// The key
        key: KeyWord,
        /// What to add; - reads standard input
        value: ValueWord,
    },
    /// Add text at the beginning of a value; prints its new length in bytes
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan append-left path /usr/local/bin:"
    )]
    AppendLeft {
        /// The key
        key: KeyWord,
        /// What to add; - reads standard input
        value: ValueWord,
    },
    /// Take characters off the beginning of a value and print them
    #[command(after_help = "\
Examples:
  capstan pop-left letters                     one character
  capstan pop-left letters 3                   up to three
Exit code 1 when there is no such key.")]
    PopLeft {
        /// The key
        key: KeyWord,
        /// How many characters
        #[arg(default_value_t = 1)]
        count: u32,
    },
    /// Take characters off the end of a value and print them
    #[command(after_help = "\
Examples:
  capstan pop-right letters 3
Exit code 1 when there is no such key.")]
    PopRight {
        /// The key
        key: KeyWord,
        /// How many characters
        #[arg(default_value_t = 1)]
        count: u32,
    },
    /// Add to a number and print the sum
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan increment visits                     a missing key counts as 0
  capstan increment stock -3"
    )]
    Increment {
        /// The key
        key: KeyWord,
        /// How much; may be negative
        #[arg(default_value_t = 1)]
        by: i64,
    },
    /// Remove a key; prints how many keys are gone, 0 or 1
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan del greeting
  capstan del greeting --previous              prints the value it had
Exit code 1 when there was no such key."
    )]
    Del {
        /// The key
        key: KeyWord,
        /// Print the value that was there instead
        #[arg(long)]
        previous: bool,
    },
    /// Print the rows from a key up to, not including, another
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan range a c                            a, b, bz; not c
  capstan range ''                             all
  capstan range user: --prefix --limit 20      keys that begin with user:
  capstan range user: --prefix --count
  capstan range a --reverse --limit 1          the last key
Prints KEY<TAB>VALUE, which putall reads. In both, \\\\ \\t \\n \\r \\xHH stand for a
backslash, tab, line end, carriage return and any byte; so they do in every key
that is typed."
    )]
    Range {
        /// The first key; '' begins at the beginning
        from: KeyWord,
        /// The key after the last; without it, to the end
        #[arg(conflicts_with = "prefix")]
        to: Option<KeyWord>,
        /// Take FROM as what all keys begin with
        #[arg(long)]
        prefix: bool,
        /// Print at most so many rows
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// Begin at the last key
        #[arg(long)]
        reverse: bool,
        /// Print keys only
        #[arg(long)]
        keys_only: bool,
        /// Print only how many rows there are
        #[arg(long, conflicts_with_all = ["limit", "keys_only", "page", "reverse"])]
        count: bool,
        /// Go on behind this key
        #[arg(long, value_name = "KEY")]
        page: Option<KeyWord>,
        /// Read the state as of this version
        #[arg(long, value_name = "VERSION")]
        at: Option<Version>,
    },
    /// Remove the rows from a key up to, not including, another; prints how many
    #[command(
        name = "delrange",
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan delrange tmp:a tmp:m
  capstan delrange tmp: --prefix               keys that begin with tmp:
It goes in steps of up to 10,000 keys; each is atomic within a shard."
    )]
    DelRange {
        /// The first key; '' begins at the beginning
        from: KeyWord,
        /// The key after the last; to the end only with --all
        #[arg(required_unless_present_any = ["prefix", "all"])]
        to: Option<KeyWord>,
        /// Take FROM as what all keys begin with
        #[arg(long, conflicts_with_all = ["to", "all"])]
        prefix: bool,
        /// Up to the last key there is
        #[arg(long, conflicts_with = "to")]
        all: bool,
    },
    /// Print the rows of several keys
    #[command(
        name = "getall",
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan getall a b c                         KEY<TAB>VALUE per key found
Keys of one shard are read at one moment. Exit code 1 when one is missing."
    )]
    GetAll {
        /// The keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<KeyWord>,
        /// Read the state as of this version
        #[arg(long, value_name = "VERSION")]
        at: Option<Version>,
    },
    /// Store several values; prints KEY<TAB>VERSION
    #[command(
        name = "putall",
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan putall a 1 b 2
  capstan putall '{7}name' alice '{7}age' 41   one shard, hence atomic
  capstan range '' | capstan putall            KEY<TAB>VALUE lines
  capstan range '' --json | capstan putall --json
Lines have the escapes that range prints: \\\\ \\t \\n \\r \\xHH. With --json a
line is {key, value}, with key_base64 and value_base64 for what is not UTF-8."
    )]
    PutAll {
        /// Keys and values by turns; without any, KEY<TAB>VALUE lines are read
        #[arg(value_name = "KEY VALUE")]
        rows: Vec<ValueWord>,
    },
    /// Print the kept revisions of a key, newest first
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan history greeting                     VERSION<TAB>VALUE
  capstan history greeting --limit 3
  capstan history greeting --limit 3 --before 1847281920312321
A deletion is a version without a value."
    )]
    History {
        /// The key
        key: KeyWord,
        /// Print at most so many
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        limit: u32,
        /// Print only those older than this version
        #[arg(long, value_name = "VERSION")]
        before: Option<Version>,
    },
    /// Forget old revisions of a key, or of many; prints how many
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan trim greeting                        all but the newest
  capstan trim greeting --below 1847281920312321
  capstan trim user: --prefix                  keys that begin with user:
  capstan trim a c                             a, b, bz; not c
  capstan trim '' --all                        of all keys
Of a deleted key nothing is left. It goes in steps of up to 10,000 revisions;
each is atomic within a shard."
    )]
    Trim {
        /// The key; with TO the first key
        key: KeyWord,
        /// The key after the last; without it, one key
        to: Option<KeyWord>,
        /// Take KEY as what all keys begin with
        #[arg(long, conflicts_with_all = ["to", "all"])]
        prefix: bool,
        /// Of all keys from KEY to the last there is
        #[arg(long, conflicts_with = "to")]
        all: bool,
        /// Keep what is needed to read at this version and later
        #[arg(long, value_name = "VERSION")]
        below: Option<Version>,
    },
    /// Let a key expire after so long, or never
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan expire session:7 30m
  capstan expire session:7 never
Exit code 1 when there is no such key."
    )]
    Expire {
        /// The key
        key: KeyWord,
        /// How long from now, or never
        #[arg(value_name = "DURATION", value_parser = parse::deadline)]
        after: parse::Deadline,
    },
    /// Print what changes, as it happens, each change once
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  capstan watch greeting                       VERSION<TAB>put<TAB>KEY<TAB>VALUE
  capstan watch --prefix user: --count 10      ends after ten changes
  capstan watch                                all keys
  capstan watch --from 1847281920312321        that version, and all after it
  capstan watch --progress --json              {change, key, value, version}
What is deleted or expires has no value. In order for each shard, and nothing is
left out whatever becomes of nodes. Ends with Ctrl-C, exit code 0; exit code 2
when changes of --from are not kept any more: it says where to begin."
    )]
    Watch(watch::Args),
    /// Check conditions and run one of two lists of commands, all at once
    #[command(after_help = "\
Examples:
  capstan txn --if 'a = 1' --then 'del a'
  capstan txn --if '{7}state = open' \\
              --then 'put {7}state closed' --then 'increment {7}closings' \\
              --else 'get {7}state'
Conditions are KEY = VALUE, KEY absent, KEY present, KEY version VERSION. All
keys must be of one shard: give them the same {tag}. Prints then or else, and
what each command prints. Exit code 1 when the else branch ran.")]
    Txn {
        /// Must hold; repeat it for more
        #[arg(long = "if", value_name = "CONDITION")]
        conditions: Vec<ValueWord>,
        /// Run when all conditions hold; repeat it for more
        #[arg(long = "then", value_name = "COMMAND")]
        then: Vec<ValueWord>,
        /// Run otherwise; repeat it for more
        #[arg(long = "else", value_name = "COMMAND")]
        otherwise: Vec<ValueWord>,
    },
}
