//! The checkpoint file of the memory engine: all rows in order.
//!
//! Seven bytes of magic and one of format; blocks of rows, each with its length and CRC32C before it; a block of length 0; the number of
//! rows; the CRC32C of all block checksums and that number. Written under a temporary name, synced, renamed, and the
//! folder synced: a file of the final name is whole, or was damaged later.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use super::Map;
use crate::engine::{EngineError, sync_folder};

const MAGIC: &[u8; 7] = b"capckpt";
const FORMAT: u8 = 1;
/// A block is closed when it has so many bytes: large enough to checksum at full speed, small enough to hold.
const BLOCK_BYTES: usize = 256 << 10;
/// No block is larger: a row of the largest key and value with room to spare. A longer one is damage.
const BLOCK_BYTES_MAX: usize = 64 << 20;
const UNFINISHED: &str = "tmp";

/// Numbers of the checkpoints in a folder, ascending.
pub fn list(folder: &Path) -> Result<Vec<u64>, EngineError> {
    let mut numbers: Vec<u64> = names(folder)?.iter().filter_map(|name| parse(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what a crash left of checkpoints that were being written.
pub fn remove_unfinished(folder: &Path) -> Result<(), EngineError> {
    for name in names(folder)?.iter().filter(|name| is_unfinished(name)) {
        let doing = || format!("removing the unfinished checkpoint {name}");
        fs::remove_file(folder.join(name)).map_err(|error| EngineError::io(doing(), error))?;
    }
    Ok(())
}

/// Removes the checkpoints below a number. One that stays is removed after the next checkpoint.
pub fn remove_below(folder: &Path, number: u64) {
    for old in list(folder).unwrap_or_default().into_iter().filter(|old| *old < number) {
        let _ = fs::remove_file(path(folder, old));
    }
}

/// Writes a checkpoint; after Ok it survives a power loss.
pub fn write(folder: &Path, number: u64, rows: &Map) -> Result<(), EngineError> {
    assert!(number > 0, "checkpoints are numbered from 1");
    let unfinished = path(folder, number).with_extension(UNFINISHED);
    let written = write_file(&unfinished, rows)
        .and_then(|()| fs::rename(&unfinished, path(folder, number)))
        .and_then(|()| sync_folder(folder));
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        EngineError::io(format!("writing a checkpoint to {}", folder.display()), error)
    })
}

/// Reads a checkpoint.
pub fn read(folder: &Path, number: u64) -> Result<Map, EngineError> {
    let path = path(folder, number);
    let doing = || format!("reading the checkpoint {}", path.display());
    let rows = File::open(&path).map_err(Damage::Io).and_then(|file| read_rows(&mut BufReader::new(file)));
    rows.map_err(|error| match error {
        Damage::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            EngineError::io(doing(), error)
        }
        Damage::Io(_) => EngineError::corrupt(doing(), "it ends too early"),
        Damage::Found(what) => EngineError::corrupt(doing(), what),
        Damage::Format(found) => EngineError::Format {
            what: format!("the checkpoint {}", path.display()),
            found: found.into(),
            known: FORMAT.into(),
        },
    })
}

/// Why a checkpoint cannot be read.
#[derive(Debug)]
pub(crate) enum Damage {
    Io(std::io::Error),
    Found(&'static str),
    /// None, but another format.
    Format(u8),
}

impl From<std::io::Error> for Damage {
    fn from(error: std::io::Error) -> Damage {
        Damage::Io(error)
    }
}

fn write_file(path: &Path, rows: &Map) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write_rows(&mut file, rows)?;
    file.into_inner().map_err(|error| error.into_error())?.sync_all()
}

/// Writes the content of a checkpoint.
pub(crate) fn write_rows(file: &mut impl Write, rows: &Map) -> std::io::Result<()> {
    file.write_all(MAGIC)?;
    file.write_all(&[FORMAT])?;
    let mut total = 0;
    let mut block = Vec::with_capacity(BLOCK_BYTES * 2);
    for (key, value) in rows {
        block.put_u32_le(key.len() as u32);
        block.put_u32_le(value.len() as u32);
        block.put_slice(key);
        block.put_slice(value);
        if block.len() >= BLOCK_BYTES {
            total = write_block(file, &mut block, total)?;
        }
    }
    if !block.is_empty() {
        total = write_block(file, &mut block, total)?;
    }
    let count = (rows.len() as u64).to_le_bytes();
    file.write_all(&0u32.to_le_bytes())?;
    file.write_all(&count)?;
    file.write_all(&crc32c::crc32c_append(total, &count).to_le_bytes())
}

fn write_block(file: &mut impl Write, block: &mut Vec<u8>, total: u32) -> std::io::Result<u32> {
    assert!((1..=BLOCK_BYTES_MAX).contains(&block.len()), "a block of {} bytes cannot be read", block.len());
    let checksum = crc32c::crc32c(block).to_le_bytes();
    file.write_all(&(block.len() as u32).to_le_bytes())?;
    file.write_all(&checksum)?;
    file.write_all(block)?;
    block.clear();
    Ok(crc32c::crc32c_append(total, &checksum))
}

/// Reads the content of a checkpoint.
pub(crate) fn read_rows(file: &mut impl Read) -> Result<Map, Damage> {
    let (mut magic, mut format) = ([0; MAGIC.len()], [0]);
    file.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(Damage::Found("it does not begin as a checkpoint does"));
    }
    file.read_exact(&mut format)?;
    if format != [FORMAT] {
        return Err(Damage::Format(format[0]));
    }
    let (mut rows, mut total, mut block) = (Map::new(), 0, Vec::new());
    loop {
        let length = read_u32(file)? as usize;
        if length == 0 {
            break;
        }
        total = read_block(file, length, &mut block, total)?;
        insert(&mut rows, &block)?;
    }
    let mut count = [0; 8];
    file.read_exact(&mut count)?;
    let expected = crc32c::crc32c_append(total, &count);
    if read_u32(file)? != expected || u64::from_le_bytes(count) != rows.len() as u64 {
        return Err(Damage::Found("its blocks are not the ones that were written"));
    }
    Ok(rows)
}

fn read_block(file: &mut impl Read, length: usize, block: &mut Vec<u8>, total: u32) -> Result<u32, Damage> {
    if length > BLOCK_BYTES_MAX {
        return Err(Damage::Found("the length of a block is wrong"));
    }
    let checksum = read_u32(file)?;
    block.clear();
    // Grows with what is there: a length alone reserves nothing.
    if file.take(length as u64).read_to_end(block)? < length {
        return Err(Damage::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    if crc32c::crc32c(block) != checksum {
        return Err(Damage::Found("the checksum of a block is wrong"));
    }
    Ok(crc32c::crc32c_append(total, &checksum.to_le_bytes()))
}

fn insert(rows: &mut Map, mut block: &[u8]) -> Result<(), Damage> {
    const ENDS: Damage = Damage::Found("a block ends within a row");
    while block.has_remaining() {
        if block.remaining() < 8 {
            return Err(ENDS);
        }
        let (key, value) = (block.get_u32_le() as usize, block.get_u32_le() as usize);
        if block.remaining() < key.saturating_add(value) {
            return Err(ENDS);
        }
        rows.insert(Bytes::copy_from_slice(&block[..key]), Bytes::copy_from_slice(&block[key..key + value]));
        block.advance(key + value);
    }
    Ok(())
}

fn read_u32(file: &mut impl Read) -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("checkpoint-{number:020}"))
}

fn parse(name: &str) -> Option<u64> {
    name.strip_prefix("checkpoint-")?.parse().ok()
}

fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED)
        .and_then(|name| name.strip_suffix('.'))
        .is_some_and(|name| parse(name).is_some())
}

fn names(folder: &Path) -> Result<Vec<String>, EngineError> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
    });
    listed.map_err(|error| EngineError::io(format!("listing the folder {}", folder.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: u32) -> Map {
        let value = |i: u32| Bytes::from(vec![i as u8; (i as usize * 37) % 5000]);
        (0..count).map(|i| (Bytes::from(i.to_be_bytes().to_vec()), value(i))).collect()
    }

    #[test]
    fn checkpoint_written_reads_back() {
        for count in [0, 1, 1000] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), 7, &rows(count)).unwrap();
            assert_eq!(list(folder.path()).unwrap(), [7]);
            assert!(read(folder.path(), 7).unwrap() == rows(count));
        }
    }

    #[test]
    fn checkpoint_any_bit_flipped_is_corrupt_or_of_another_format() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1, &rows(3)).unwrap();
        let path = path(folder.path(), 1);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            let error =
                read(folder.path(), 1).err().unwrap_or_else(|| panic!("byte {at} flipped is not noticed"));
            match at == MAGIC.len() {
                true => {
                    assert!(
                        error.to_string().contains("has format 17, and this version of capstan has format 1")
                    );
                }
                false => assert!(matches!(error, EngineError::Corrupt { .. }), "byte {at}: {error}"),
            }
        }
    }

    #[test]
    fn checkpoint_cut_anywhere_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1, &rows(3)).unwrap();
        let path = path(folder.path(), 1);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read(folder.path(), 1), Err(EngineError::Corrupt { .. })), "cut at {length}");
        }
    }

    #[test]
    fn checkpoint_length_beyond_the_file_is_corrupt_and_takes_no_memory() {
        let head = [&MAGIC[..], &[FORMAT], &(BLOCK_BYTES_MAX as u32).to_le_bytes(), &[0; 4], b"few"].concat();
        let mut block = Vec::new();
        assert!(read_block(&mut &head[12..], BLOCK_BYTES_MAX, &mut block, 0).is_err());
        assert!(block.capacity() < BLOCK_BYTES, "{}", block.capacity());
        assert!(matches!(read_rows(&mut &head[..]), Err(Damage::Io(_))));
    }

    #[test]
    fn checkpoint_unfinished_is_removed_and_never_listed() {
        let folder = tempfile::tempdir().unwrap();
        let left = path(folder.path(), 3).with_extension(UNFINISHED);
        fs::write(&left, b"half").unwrap();
        assert!(list(folder.path()).unwrap().is_empty());
        remove_unfinished(folder.path()).unwrap();
        assert!(!left.exists());
    }
}
