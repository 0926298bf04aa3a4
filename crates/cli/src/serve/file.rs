//! The file of `capstan serve --config`: TOML, whose keys are the options of the command, and tables `[[listen]]`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::Listen;
use toml::Spanned;

use super::key::{self, Address};
use super::listen;
use crate::exit::Error;
use crate::pace::Pace;
use crate::parse::{Deleted, Engine, History};

/// What the file says; a key is the long option of its name.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    #[serde(deserialize_with = "key::name")]
    pub name: Option<String>,
    pub data: Option<PathBuf>,
    listen: Option<listen::Key>,
    advertise: Option<Spanned<Address>>,
    #[serde(deserialize_with = "key::peers")]
    pub peers: Vec<(String, String)>,
    #[serde(deserialize_with = "key::addresses")]
    pub join: Vec<String>,
    #[serde(deserialize_with = "key::address")]
    pub advertise_peer: Option<String>,
    #[serde(deserialize_with = "key::address")]
    pub listen_peer: Option<String>,
    #[serde(deserialize_with = "key::zone")]
    pub zone: Option<String>,
    #[serde(deserialize_with = "key::engine")]
    pub engine: Option<Engine>,
    #[serde(deserialize_with = "key::history")]
    pub history: Option<History>,
    #[serde(deserialize_with = "key::deleted_history")]
    pub deleted_history: Option<Deleted>,
    #[serde(deserialize_with = "key::shards")]
    pub shards: Option<u32>,
    #[serde(deserialize_with = "key::replicas")]
    pub replicas: Option<u16>,
    #[serde(deserialize_with = "key::cores")]
    pub cores: Option<usize>,
    #[serde(deserialize_with = "key::size")]
    pub entry_cache: Option<usize>,
    #[serde(deserialize_with = "key::size")]
    pub checkpoint_log: Option<usize>,
    #[serde(deserialize_with = "key::duration")]
    grace: Option<Duration>,
    #[serde(deserialize_with = "key::moves")]
    moves_max: Option<usize>,
    #[serde(deserialize_with = "key::size")]
    move_rate: Option<usize>,
    pub quiet: bool,
    pub lab: bool,
    /// What it says of listeners, in whichever form.
    #[serde(skip)]
    pub listeners: Vec<Listen>,
    /// Of the first native listener.
    #[serde(skip)]
    pub advertised: Option<String>,
}

impl File {
    /// How replicas go from node to node.
    pub fn pace(&self) -> Pace {
        Pace { grace: self.grace, moves_max: self.moves_max, move_rate: self.move_rate }
    }
}

/// Reads it.
pub fn read(path: &Path) -> Result<File, Error> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Error::Usage(format!("cannot read the file of --config, {shown}: {error}")))?;
    decode(&bytes).map_err(|Wrong { line, why }| Error::Usage(format!("{shown}, line {line}: {why}")))
}

/// Why a file is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// The content of the file.
pub fn decode(bytes: &[u8]) -> Result<File, Wrong> {
    let wrong = |Range { start, .. }: Range<usize>, why: String| {
        let before = &bytes[..start.min(bytes.len())];
        Wrong { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), why }
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| wrong(error.valid_up_to()..bytes.len(), "it is not UTF-8 text".into()))?;
    let mut file: File = toml::from_str(text).map_err(|error| {
        wrong(error.span().unwrap_or_default(), error.message().replace("unknown field", "unknown key"))
    })?;
    let is_short = !matches!(file.listen, Some(listen::Key::Each(_)));
    if let Some(advertise) = file.advertise.take() {
        if !is_short {
            let why = "it stands for a listener, and the tables [[listen]] have their own: write it into one of them";
            return Err(wrong(advertise.span(), why.into()));
        }
        file.advertised = Some(advertise.into_inner().0);
    }
    if let Some(listen) = file.listen.take() {
        file.listeners = listen.listeners().map_err(|(span, why)| wrong(span, why))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (usize, String) {
        let Wrong { line, why } = decode(text.as_bytes()).expect_err(text);
        (line, why)
    }

    #[test]
    fn file_that_is_wrong_says_where_and_what_there_is() {
        for (text, line, why) in [
            (
                "name = 'n1'\nnmae = 'n2'\n",
                2,
                "unknown key `nmae`, expected one of `name`, `data`, `listen`,",
            ),
            ("parent = 7", 1, "unknown key `parent`"),
            ("\n[other]\nname = 'n'", 2, "unknown key `other`"),
            ("name = 5", 1, "invalid type: integer `5`, expected a text"),
            ("name = 'n1'\nname = 'n1'", 2, "duplicate key"),
            ("name = 'n1'\nname = ", 2, "string values must be quoted"),
            ("name = 'a b'", 1, "a name is 1 to 64 letters"),
            ("data = ['a']", 1, "invalid type: sequence"),
            ("peers = 'n1=a:1'", 1, "invalid type: string"),
            ("peers = [\n  'n1=a:1',\n  'n2',\n]", 3, "a peer is NAME=HOST:PORT"),
            ("listen-peer = '7421'", 1, "an address is HOST:PORT"),
            ("advertise-peer = 'h'", 1, "an address is HOST:PORT"),
            ("zone = ''", 1, "a zone is 1 to 64 printable characters"),
            ("engine = 'disc'", 1, "an engine is memory or disk"),
            ("history = 0", 1, "a history is a count of revisions of 1 or more, or all"),
            ("history = 1.5", 1, "expected a text or a whole number"),
            ("deleted-history = 'x'", 1, "a duration is a number and"),
            ("shards = 1025", 1, "a keyspace has 1 to 1024 shards"),
            ("shards = -1", 1, "a keyspace has 1 to 1024 shards"),
            ("replicas = 0", 1, "a shard has 1 to 15 replicas"),
            ("replicas = '16'", 1, "a shard has 1 to 15 replicas"),
            ("cores = 0", 1, "1 core or more"),
            ("grace = '0'", 1, "a duration is longer than nothing"),
            ("moves-max = 0", 1, "1 move at a time or more"),
            ("move-rate = 'fast'", 1, "a size is a number of bytes"),
            ("entry-cache = '1T'", 1, "a size is a number of bytes"),
            ("quiet = 'yes'", 1, "expected a boolean"),
            ("advertise = 'h'", 1, "an address is HOST:PORT"),
            ("listen = 'h'", 1, "an address is HOST:PORT"),
            ("listen = 7401", 1, "expected \"HOST:PORT\", or tables [[listen]]"),
            ("[listen]\naddress = 'h:1'", 1, "expected \"HOST:PORT\", or tables [[listen]]"),
            ("listen = ['h:1']", 1, "expected a table [[listen]]"),
        ] {
            let found = refused(text);
            assert_eq!(found.0, line, "{text}: {}", found.1);
            assert!(found.1.contains(why), "{text}: {}", found.1);
        }
    }

    #[test]
    fn listener_that_is_wrong_says_where_and_what_there_is() {
        let first = "name = 'n1'\n[[listen]]\naddress = 'h:1'\n\n[[listen]]\n";
        for (second, line, why) in [
            ("dialect = 'native'", 5, "missing field `address`"),
            ("address = 'h'", 6, "an address is HOST:PORT"),
            ("address = 'i:1'\nadvertise = 'i'", 7, "an address is HOST:PORT"),
            ("address = 'i:1'\nport = 1", 7, "unknown key `port`, expected one of `dialect`, `address`,"),
            ("address = 'i:1'\ndialect = 'redsi'", 7, "there is no dialect 'redsi': use one of native,"),
            ("address = 'i:1'\ndialect = 'native'\noptions = ['fast']", 7, "has no option 'fast'"),
            ("address = 'i:1'\noptions = ['fast']", 5, "has no option 'fast'"),
            ("address = 'i:1'\nkeyspace = '_users'", 7, "'_users' is no name for a keyspace"),
            ("address = 'i:1'\nmay-end = 1", 7, "expected a boolean"),
            ("address = 'H:1'", 6, "a listener at h:1, and another one at H:1"),
            ("dialect = 'classic/pairs'\naddress = '*:1'", 7, "a listener at h:1, and another one at *:1"),
        ] {
            let found = refused(&format!("{first}{second}"));
            assert_eq!(found.0, line, "{second}: {}", found.1);
            assert!(found.1.contains(why), "{second}: {}", found.1);
        }
        assert!(decode(format!("{first}address = 'h:2'").as_bytes()).is_ok());
    }

    #[test]
    fn listeners_are_bounded() {
        let tables = |count: u16| -> String {
            (1..=count).map(|port| format!("[[listen]]\naddress = 'h:{port}'\n")).collect()
        };
        assert!(decode(tables(16).as_bytes()).is_ok());
        assert_eq!(refused(&tables(17)), (34, "a node has at most 16 listeners".into()));
    }

    #[test]
    fn advertise_beside_tables_is_refused() {
        let (line, why) = refused("name = 'n1'\nadvertise = 'h:1'\n[[listen]]\naddress = 'h:1'");
        assert!(line == 2 && why.contains("write it into one of them"), "line {line}: {why}");
    }

    #[test]
    fn file_that_is_no_text_or_not_there_is_refused() {
        let wrong = decode(b"name = 'n1'\n# caf\xe9\n").unwrap_err();
        assert_eq!((wrong.line, wrong.why.as_str()), (2, "it is not UTF-8 text"));
        let error = read(Path::new("/nowhere/capstan.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/capstan.toml: No such file"), "{error}");
    }

    #[test]
    fn file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capstan.toml");
        std::fs::write(&path, "# one\nlisten = 5\n").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.code(), crate::exit::Code::Usage);
        let begin = format!("{}, line 2: invalid type: integer `5`", path.display());
        assert!(error.to_string().starts_with(&begin), "{error}");
    }
}
