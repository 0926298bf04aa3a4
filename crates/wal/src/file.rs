//! The log's segments as files of one folder.
//!
//! Writes and syncs are done at once in `submit`, by the caller's thread: that is the log's own thread, which has
//! nothing better to do. Making and removing files takes long and must not delay them: a second thread does it,
//! and calls `wake` when it has completed something.
//!
//! A segment is made under a name of its own and renamed when its zeros are on the disk, so a file with a segment's
//! name is a whole segment. Syncs are `fdatasync`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use crate::disk::{Disk, DiskError, Io, segment_file_name};

/// What is written and synced at a time while a segment is made. 1 MiB: a batch that wants to be synced meanwhile
/// waits for no more than this at the disk.
const SLICE_BYTES: usize = 1 << 20;

/// The suffix of a segment that is being made.
const UNFINISHED: &str = "new";

/// The suffix of a segment that was set aside.
const SET_ASIDE: &str = "corrupt";

type Completion = (u64, Result<(), DiskError>);

/// A folder of segment files.
pub struct FileDisk {
    folder: PathBuf,
    /// The file last used: a log stays with one for long.
    file: Option<(u64, File)>,
    completed: Vec<Completion>,
    helper: Helper,
}

impl FileDisk {
    /// Opens the folder, makes it when there is none, and removes what a killed process left unfinished. `wake` is
    /// called from another thread whenever a completion is ready that no call of `submit` brought about.
    pub fn open(folder: &Path, wake: Box<dyn Fn() + Send + Sync>) -> io::Result<FileDisk> {
        make_folder(folder)?;
        for path in files(folder)? {
            if path.extension().is_some_and(|suffix| suffix == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        let helper = Helper::start(folder.to_owned(), File::open(folder)?, wake)?;
        Ok(FileDisk { folder: folder.to_owned(), file: None, completed: Vec::new(), helper })
    }

    /// The file of a segment. The same descriptor writes and syncs, so that no failed write-back is missed.
    fn file(&mut self, segment: u64) -> Result<&File, DiskError> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != segment) {
            let path = self.folder.join(segment_file_name(segment));
            let file = OpenOptions::new().read(true).write(true).open(path).map_err(DiskError::opening)?;
            self.file = Some((segment, file));
        }
        Ok(&self.file.as_ref().expect("it was opened").1)
    }
}

impl Disk for FileDisk {
    fn submit(&mut self, token: u64, io: Io) {
        let result = match io {
            Io::Write { segment, offset, bytes } => self.write(segment, offset, bytes),
            Io::Sync { segment } => self.sync(segment),
            Io::Create { .. } | Io::Remove { .. } => {
                self.file.take_if(|(open, _)| *open == io.segment());
                return self.helper.submit(token, io);
            }
        };
        self.completed.push((token, result));
    }

    fn completions(&mut self, into: &mut Vec<Completion>) {
        into.append(&mut self.completed);
        into.extend(self.helper.completed.try_iter());
    }

    fn segments(&mut self) -> Result<Vec<u64>, DiskError> {
        Ok(files(&self.folder)?.iter().filter_map(|path| segment_of(path)).collect())
    }

    fn segment_bytes(&mut self, segment: u64) -> Result<u64, DiskError> {
        Ok(self.file(segment)?.metadata()?.len())
    }

    fn read(&mut self, segment: u64, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        let mut bytes = vec![0; len];
        self.file(segment)?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    fn write(&mut self, segment: u64, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        Ok(self.file(segment)?.write_all_at(&bytes, offset)?)
    }

    fn sync(&mut self, segment: u64) -> Result<(), DiskError> {
        Ok(self.file(segment)?.sync_data()?)
    }
}

/// Renames all segments of a log's folder to `*.corrupt`, so that the next start finds an empty log and the node's
/// replicas are made whole by their peers. Returns the new names. Call it only when no log is open there.
pub fn set_aside(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut renamed = Vec::new();
    let mut segments: Vec<PathBuf> =
        files(folder)?.into_iter().filter(|path| segment_of(path).is_some()).collect();
    // Newest first: if this is cut short, what is left still begins at the oldest, and is tried again.
    segments.sort_unstable_by(|a, b| b.cmp(a));
    for path in segments {
        let target = unused_name(&path)?;
        fs::rename(&path, &target)?;
        renamed.push(target);
    }
    sync_folder(folder)?;
    Ok(renamed)
}

/// A name for a segment that is set aside; an earlier one with its number keeps its own.
fn unused_name(path: &Path) -> io::Result<PathBuf> {
    for count in 1.. {
        let suffix = if count == 1 { SET_ASIDE.to_owned() } else { format!("{count}.{SET_ASIDE}") };
        let target = path.with_added_extension(suffix);
        if !target.try_exists()? {
            return Ok(target);
        }
    }
    unreachable!("a folder holds fewer files than there are numbers")
}

/// The thread that makes and removes files, one after the other.
struct Helper {
    /// None once it was told to end.
    jobs: Option<Sender<(u64, Io)>>,
    completed: Receiver<Completion>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    /// `names` is the folder, opened: so that no refusal comes between making a file and making its name last.
    fn start(folder: PathBuf, names: File, wake: Box<dyn Fn() + Send + Sync>) -> io::Result<Helper> {
        let (jobs, queue) = mpsc::channel::<(u64, Io)>();
        let (done, completed) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = move || {
            for (token, io) in queue {
                let result = perform(&folder, &names, &io, &stopped);
                // The receiver is gone only while the disk is dropped: then nobody waits.
                let _ = done.send((token, result));
                wake();
            }
        };
        let thread = thread::Builder::new().name("log-files".into()).spawn(run)?;
        Ok(Helper { jobs: Some(jobs), completed, stop, thread: Some(thread) })
    }

    fn submit(&self, token: u64, io: Io) {
        let jobs = self.jobs.as_ref().expect("it ends only when the disk is dropped");
        jobs.send((token, io)).expect("the thread that makes log files has ended by a panic");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was printed already, and a panic here would hide it.
            let _ = thread.join();
        }
    }
}

fn perform(folder: &Path, names: &File, io: &Io, stop: &AtomicBool) -> Result<(), DiskError> {
    if stop.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let path = folder.join(segment_file_name(io.segment()));
    match *io {
        Io::Create { bytes, .. } => create(&path, bytes, stop)?,
        Io::Remove { .. } => remove(&path)?,
        Io::Write { .. } | Io::Sync { .. } => unreachable!("the log's thread does these itself"),
    }
    Ok(names.sync_all()?)
}

fn create(path: &Path, bytes: u64, stop: &AtomicBool) -> Result<(), DiskError> {
    let unfinished = path.with_added_extension(UNFINISHED);
    let file = File::create(&unfinished).map_err(DiskError::opening)?;
    let result = write_zeros(file, bytes, stop).and_then(|()| fs::rename(&unfinished, path));
    if result.is_err() {
        // What is left of it would take the room that others need.
        remove(&unfinished)?;
    }
    Ok(result?)
}

fn write_zeros(mut file: File, bytes: u64, stop: &AtomicBool) -> io::Result<()> {
    let zeros = vec![0; SLICE_BYTES];
    let mut rest = bytes;
    while rest > 0 {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let slice = rest.min(SLICE_BYTES as u64);
        file.write_all(&zeros[..slice as usize])?;
        file.sync_data()?;
        rest -= slice;
    }
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        if let Some(parent) = folder.canonicalize()?.parent() {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// The number of the segment in a file, if it is one.
fn segment_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (segment_file_name(number) == name).then_some(number)
}
