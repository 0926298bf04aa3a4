//! What the calls do with one key, and with the keys between two.

use kv::{Answer, Error, Key, Op, Range, Reply, Row, Share, Version};
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::proto::{KeyRange, KeyRequest, KeyValueRequest, KeyValueVersionReply, PutReply};
use crate::classic::caller::Caller;
use crate::classic::store::row;

/// Keys of a range that are looked for at once.
const PAGE_KEYS: u32 = 256;

/// Where the answers of a range go, one by one.
pub(super) type Replies = Sender<Result<KeyValueVersionReply, Status>>;

/// Reads a value.
pub(super) async fn get(
    caller: &Caller,
    KeyRequest { key, ver }: KeyRequest,
) -> Result<(KeyValueVersionReply, Share), Error> {
    let (found, share) = row_at(caller, row::key(&key), moment(ver)).await?;
    Ok((read(key, found)?, share))
}

/// Stores a value.
pub(super) async fn put(
    caller: &Caller,
    KeyValueRequest { key, val }: KeyValueRequest,
) -> Result<(PutReply, Share), Error> {
    let put = Op::Put { key: row::key(&key), value: val.into(), deadline: None, previous: true };
    let (Reply { answer, receipt }, share) = caller.reply_patiently(put).await?;
    let Answer::Put { previous } = answer else { unreachable!("a put is answered with the row before") };
    let KeyValueVersionReply { key, val: old_val, ver: old_ver } = gone(key, previous);
    Ok((PutReply { key, old_val, old_ver, ver: shown(receipt.version) }, share))
}

/// Removes a key with all its versions.
pub(super) async fn del(
    caller: &Caller,
    KeyRequest { key, .. }: KeyRequest,
) -> Result<(KeyValueVersionReply, Share), Error> {
    let stored = row::key(&key);
    let (answer, share) = caller.ask_patiently(Op::Delete { key: stored.clone(), previous: true }).await?;
    let Answer::Deleted { previous, .. } = answer else { unreachable!("a delete says what it removed") };
    forget(caller, &stored).await.map_err(|error| {
        Error::InDoubt(format!(
            "the key is removed, and its earlier versions may be there yet ({error}): remove it again"
        ))
    })?;
    Ok((gone(key, previous), share))
}

/// Removes all versions of a key but the newest.
pub(super) async fn trim(
    caller: &Caller,
    KeyRequest { key, .. }: KeyRequest,
) -> Result<(KeyValueVersionReply, Share), Error> {
    forget(caller, &row::key(&key)).await?;
    get(caller, KeyRequest { key, ver: None }).await
}

/// Reads the keys of a range: each that is there now.
pub(super) async fn get_range(caller: &Caller, range: KeyRange, replies: &Replies) -> Result<(), Error> {
    let (range, at) = bounds(range);
    let mut range = range.map(|range| Range { keys_only: at.is_some(), ..range });
    while let Some((rows, _share)) = next_rows(caller, &mut range).await? {
        for found in rows {
            let key = row::text_of(&found.key)?;
            let (found, _share) = match at {
                Some(_) => row_at(caller, found.key, at).await?,
                None => (Some(found), Share::default()),
            };
            if replies.send(Ok(read(key, found)?)).await.is_err() {
                // Nobody waits for more.
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Removes the keys of a range.
pub(super) async fn del_range(caller: &Caller, range: KeyRange, replies: &Replies) -> Result<(), Error> {
    let mut range = bounds(range).0.map(|range| Range { keys_only: true, ..range });
    while let Some((rows, _share)) = next_rows(caller, &mut range).await? {
        for found in rows {
            let key = row::text_of(&found.key)?;
            let (reply, _share) = del(caller, KeyRequest { key, ver: None }).await?;
            // Somebody else may have removed it meanwhile.
            if reply.ver > 0 && replies.send(Ok(reply)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next page of a range, which goes on behind it then; `None` = it is at its end.
async fn next_rows(caller: &Caller, range: &mut Option<Range>) -> Result<Option<(Vec<Row>, Share)>, Error> {
    let Some(asked) = range.clone() else { return Ok(None) };
    let (answer, share) = caller.read_patiently(Op::Range(asked.clone())).await?;
    let Answer::Page(page) = answer else { unreachable!("a range is answered with a page") };
    *range = page.next.map(|next| Range { page: Some(next), ..asked });
    Ok(Some((page.rows, share)))
}

/// The row of a key at a version, as far as it is known.
async fn row_at(caller: &Caller, key: Key, at: Option<Version>) -> Result<(Option<Row>, Share), Error> {
    let mut at = at;
    loop {
        match caller.read_patiently(Op::Get { key: key.clone(), at }).await {
            Ok((Answer::Row(row), share)) => return Ok((row, share)),
            Ok(_) => unreachable!("a get is answered with a row"),
            Err(Error::Trimmed { .. }) => return Ok((None, Share::default())),
            // The store has not come so far: what is there now is all up to then.
            Err(Error::Future { .. }) => at = None,
            Err(error) => return Err(error),
        }
    }
}

/// Forgets all revisions of a key but the newest, and of one that was removed all.
async fn forget(caller: &Caller, key: &Key) -> Result<(), Error> {
    loop {
        let (answer, _) = caller.ask_patiently(Op::Trim { key: key.clone(), below: None }).await?;
        match answer {
            Answer::Trimmed { next: Some(_), .. } => {}
            _ => return Ok(()),
        }
    }
}

/// The rows from one key to another, and at which version.
fn bounds(KeyRange { fr, to }: KeyRange) -> (Option<Range>, Option<Version>) {
    let (fr, to) = (fr.unwrap_or_default(), to.unwrap_or_default());
    let at = moment(fr.ver.max(to.ver));
    let behind = Key::from([&row::key(&to.key)[..], b"\0"].concat());
    let range = Range { from: row::key(&fr.key), to: Some(behind), limit: PAGE_KEYS, ..Range::default() };
    // One that ends before it begins has nothing.
    (Some(range).filter(|_| fr.key <= to.key), at)
}

/// The version to read at; `None` = the newest.
pub(super) fn moment(ver: Option<i64>) -> Option<Version> {
    let micros = u64::try_from(ver?).ok().filter(|micros| *micros > 0)?;
    Some(Version::end_of(micros))
}

/// A version, as it is shown.
pub(super) fn shown(version: Version) -> i64 {
    version.micros() as i64
}

/// A row that was read.
fn read(key: String, found: Option<Row>) -> Result<KeyValueVersionReply, Error> {
    let val = found.as_ref().map(row::text).transpose()?.unwrap_or_default();
    Ok(KeyValueVersionReply { key, val, ver: found.map_or(0, |row| shown(row.version)) })
}

/// A row that is there no more.
fn gone(key: String, row: Option<Row>) -> KeyValueVersionReply {
    let val = row.as_ref().map(|row| String::from_utf8_lossy(&row.value).into_owned());
    KeyValueVersionReply { key, val: val.unwrap_or_default(), ver: row.map_or(0, |row| shown(row.version)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Version {
        Version::new(micros, kv::ReplicaId(7))
    }

    #[test]
    fn version_means_all_of_its_microsecond_and_none_the_newest() {
        assert!(moment(Some(5)).is_some_and(|moment| moment >= at(5) && moment < at(6)));
        assert_eq!([None, Some(0), Some(-1), Some(i64::MIN)].map(moment), [None; 4]);
        assert!(moment(Some(i64::MAX)).is_some_and(|moment| moment > at(1 << 52)));
        assert_eq!(shown(at(5)), 5);
    }

    #[test]
    fn range_has_both_ends_and_the_greater_version() {
        let request = |key: &str, ver| Some(KeyRequest { key: key.into(), ver });
        let (range, moment) = bounds(KeyRange { fr: request("a", Some(3)), to: request("b", Some(9)) });
        let range = range.expect("it begins before it ends");
        assert_eq!((&range.from[..], range.to.as_deref()), (&b"=a"[..], Some(&b"=b\0"[..])));
        assert_eq!(moment, super::moment(Some(9)));
        let of = |fr, to| bounds(KeyRange { fr, to });
        assert_eq!(of(request("b", None), request("a", None)), (None, None), "it is empty");
        assert_eq!(of(request("a", Some(5)), request("a", None)).1, super::moment(Some(5)));
        assert!(of(None, None).0.is_some(), "the empty text is a key");
    }

    #[test]
    fn missing_row_has_its_key_and_version_0() {
        let missing = KeyValueVersionReply { key: "k".into(), val: String::new(), ver: 0 };
        assert_eq!((read("k".into(), None), gone("k".into(), None)), (Ok(missing.clone()), missing));
        let (key, value) = (row::key("k"), Key::from_static(b"a\xff"));
        let row = Row { key, value, version: at(5), created: at(5), changes: 1, deadline: None };
        assert!(matches!(read("k".into(), Some(row.clone())), Err(Error::Conflict(_))));
        assert_eq!(
            (gone("k".into(), Some(row.clone())).val.as_str(), gone("k".into(), Some(row)).ver),
            ("a\u{fffd}", 5)
        );
    }
}
