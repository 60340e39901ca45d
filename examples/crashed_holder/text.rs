//! Input files, the chunks that they are cut into, and two ways to count: chunk by
//! chunk for the workers, and whole files for the comparison.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shm_sync::ShmSafe;

use crate::failure::Failure;

pub(crate) const MAX_CHUNKS: usize = 4096;
/// Each file may end in a chunk that is not full. Half of the chunks are reserved for
/// those, the other half for full chunks.
const MAX_FILES: usize = MAX_CHUNKS / 2;

#[derive(Clone, Copy, Default, PartialEq, Eq, ShmSafe)]
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    /// Runs of bytes that are not ASCII whitespace.
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

/// The chunks of all files.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Plan {
    pub(crate) chunk_count: usize,
    pub(crate) chunks: [Chunk; MAX_CHUNKS],
}

/// The bytes `start..end` of a file.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
pub(crate) struct Chunk {
    /// The position of the file on the worker's command line. A path would not fit.
    file: usize,
    /// The length of the whole file. It shows whether the file has changed.
    file_len: u64,
    start: u64,
    end: u64,
}

/// A readable file, and its length when the program started.
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

impl InputFile {
    /// Checks that `path` is a readable regular file, and reads its length.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let unreadable = |error| read_failure(&path, error);
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(format!("{} is not a regular file", path.display()).into());
        }
        File::open(&path).map_err(unreadable)?;
        let len = metadata.len();
        Ok(Self { path, len })
    }
}

impl Plan {
    /// Cuts the files into chunks, at least `min_chunks` if there are enough bytes.
    pub(crate) fn new(inputs: &[InputFile], min_chunks: usize) -> Result<Self, Failure> {
        const EMPTY: Chunk = Chunk {
            file: 0,
            file_len: 0,
            start: 0,
            end: 0,
        };
        if inputs.len() > MAX_FILES {
            let count = inputs.len();
            return Err(format!("{count} files are too many: at most {MAX_FILES}").into());
        }
        let mut plan = Self {
            chunk_count: 0,
            chunks: [EMPTY; MAX_CHUNKS],
        };
        let size = chunk_size(inputs, min_chunks);
        for (file, input) in inputs.iter().enumerate() {
            let mut start = 0;
            while start < input.len {
                let end = input.len.min(start.saturating_add(size));
                plan.chunks[plan.chunk_count] = Chunk {
                    file,
                    file_len: input.len,
                    start,
                    end,
                };
                plan.chunk_count += 1;
                start = end;
            }
        }
        Ok(plan)
    }
}

/// Returns the size of a chunk in bytes. It is a page, or less to have at least
/// `min_chunks` chunks, or more to have at most [`MAX_CHUNKS`].
fn chunk_size(inputs: &[InputFile], min_chunks: usize) -> u64 {
    const PAGE: u64 = 4096;
    let total: u64 = inputs.iter().map(|input| input.len).sum();
    let upper_bound = total / min_chunks as u64;
    let lower_bound = total.div_ceil((MAX_CHUNKS - MAX_FILES) as u64);
    PAGE.min(upper_bound).max(lower_bound).max(1)
}

impl Chunk {
    /// Counts the lines, bytes and words of the chunk. A word belongs to the chunk in
    /// which it begins, so the counts of all chunks add up to those of the file.
    pub(crate) fn count(&self, files: &[PathBuf]) -> Result<Counts, Failure> {
        let path = files.get(self.file).ok_or("the plan has more files")?;
        let unreadable = |error| read_failure(path, error);
        let file = File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        if len != self.file_len {
            return Err(changed_len(path, self.file_len, len));
        }
        // The byte before the chunk shows whether the first word began earlier.
        let from = self.start.saturating_sub(1);
        let mut bytes = vec![0; usize::try_from(self.end - from)?];
        file.read_exact_at(&mut bytes, from).map_err(unreadable)?;
        let (before, bytes) = bytes.split_at(usize::try_from(self.start - from)?);

        let mut in_word = before.iter().any(|byte| !byte.is_ascii_whitespace());
        let mut counts = Counts::default();
        for byte in bytes {
            let is_blank = byte.is_ascii_whitespace();
            counts.lines += u64::from(*byte == b'\n');
            counts.words += u64::from(!is_blank && !in_word);
            counts.bytes += 1;
            in_word = !is_blank;
        }
        Ok(counts)
    }
}

/// Counts all files in this process, without chunks and locks.
pub(crate) fn count_alone(inputs: &[InputFile]) -> Result<Counts, Failure> {
    let mut totals = Counts::default();
    for InputFile { path, len } in inputs {
        let unreadable = |error| read_failure(path, error);
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut line = Vec::new();
        let mut bytes = 0;
        while reader.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
            let words = line.split(u8::is_ascii_whitespace);
            totals.words += words.filter(|word| !word.is_empty()).count() as u64;
            totals.lines += u64::from(line.ends_with(b"\n"));
            bytes += line.len() as u64;
            line.clear();
        }
        if bytes != *len {
            return Err(changed_len(path, *len, bytes));
        }
        totals.bytes += bytes;
    }
    Ok(totals)
}

/// Lists the Markdown and Rust files of the repository that this program was built
/// from.
pub(crate) fn repository_files() -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut directories = vec![repository()];
    while let Some(directory) = directories.pop() {
        let unreadable = |error| read_failure(&directory, error);
        for entry in fs::read_dir(&directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let (path, name) = (entry.path(), entry.file_name());
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            let is_text = path.extension().is_some_and(|e| e == "md" || e == "rs");
            if kind.is_dir() && !is_hidden && name != "target" {
                directories.push(path);
            } else if kind.is_file() && !is_hidden && is_text {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the folder of the repository, which contains the folder of the examples.
fn repository() -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    examples.parent().unwrap_or(examples).to_owned()
}

fn read_failure(path: &Path, error: io::Error) -> Failure {
    format!("can't read {}: {error}", path.display()).into()
}

fn changed_len(path: &Path, before: u64, now: u64) -> Failure {
    let path = path.display();
    format!(
        "{path} had {before} bytes and now has {now}: \
         do not change the files while they are counted"
    )
    .into()
}
