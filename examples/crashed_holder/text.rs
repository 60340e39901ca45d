//! Files, the chunks that they are cut into, and counting them: chunk by chunk
//! for the workers, and the plain way to compare.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shm_sync::ShmSafe;

use crate::Failure;

pub(crate) const MAX_CHUNKS: usize = 4096;
/// Every file may end in a chunk that is not full: half of the chunks are for
/// these, the other half for full ones.
const MAX_FILES: usize = MAX_CHUNKS / 2;

#[derive(Clone, Copy, Default, PartialEq, Eq, ShmSafe)]
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    /// Runs of bytes that are not ASCII whitespace.
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

/// Which bytes of which file make a chunk.
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
    /// Its number on the command line: a path would not fit.
    file: usize,
    /// The length of the whole file, to notice if it changes.
    file_len: u64,
    start: u64,
    end: u64,
}

/// A file that can be read, and its length at the start.
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

impl Input {
    pub(crate) fn measure(path: PathBuf) -> Result<Self, Failure> {
        let refuse = |error| unreadable(&path, error);
        let metadata = fs::metadata(&path).map_err(refuse)?;
        if !metadata.is_file() {
            return Err(format!("{} is not a regular file", path.display()).into());
        }
        File::open(&path).map_err(refuse)?;
        let len = metadata.len();
        Ok(Self { path, len })
    }
}

impl Plan {
    pub(crate) fn new(inputs: &[Input], chunks_wanted: usize) -> Result<Self, Failure> {
        const NOTHING: Chunk = Chunk {
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
            chunks: [NOTHING; MAX_CHUNKS],
        };
        let size = chunk_size(inputs, chunks_wanted);
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

/// In bytes: usually a page. Less if there would be too few chunks, more if
/// there would be too many.
fn chunk_size(inputs: &[Input], chunks_wanted: usize) -> u64 {
    const PAGE: u64 = 4096;
    let total: u64 = inputs.iter().map(|input| input.len).sum();
    let at_most = total / chunks_wanted as u64;
    let at_least = total.div_ceil((MAX_CHUNKS - MAX_FILES) as u64);
    PAGE.min(at_most).max(at_least).max(1)
}

impl Chunk {
    /// Counts the words that *begin* in the chunk. The rest of a word that
    /// began before it belongs to the chunk before, so the counts of all chunks
    /// add up to those of the file.
    pub(crate) fn count(&self, files: &[PathBuf]) -> Result<Counts, Failure> {
        let path = files.get(self.file).ok_or("the plan has other files")?;
        let refuse = |error| unreadable(path, error);
        let file = File::open(path).map_err(refuse)?;
        let len = file.metadata().map_err(refuse)?.len();
        if len != self.file_len {
            return Err(changed_size(path, self.file_len, len));
        }
        // The byte before tells whether a word has begun.
        let from = self.start.saturating_sub(1);
        let mut bytes = vec![0; usize::try_from(self.end - from)?];
        file.read_exact_at(&mut bytes, from).map_err(refuse)?;
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

/// Counts everything without chunks, locks or other processes.
pub(crate) fn count_alone(inputs: &[Input]) -> Result<Counts, Failure> {
    let mut totals = Counts::default();
    for Input { path, len } in inputs {
        let refuse = |error| unreadable(path, error);
        let mut reader = BufReader::new(File::open(path).map_err(refuse)?);
        let mut line = Vec::new();
        let mut bytes = 0;
        while reader.read_until(b'\n', &mut line).map_err(refuse)? > 0 {
            let words = line.split(u8::is_ascii_whitespace);
            totals.words += words.filter(|word| !word.is_empty()).count() as u64;
            totals.lines += u64::from(line.ends_with(b"\n"));
            bytes += line.len() as u64;
            line.clear();
        }
        if bytes != *len {
            return Err(changed_size(path, *len, bytes));
        }
        totals.bytes += bytes;
    }
    Ok(totals)
}

/// The Markdown and Rust files of the repository that this was built from.
pub(crate) fn files_of_this_repository() -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    while let Some(directory) = directories.pop() {
        let refuse = |error| unreadable(&directory, error);
        for entry in fs::read_dir(&directory).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            let kind = entry.file_type().map_err(refuse)?;
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

fn unreadable(path: &Path, error: io::Error) -> Failure {
    format!("can't read {}: {error}", path.display()).into()
}

fn changed_size(path: &Path, before: u64, now: u64) -> Failure {
    let path = path.display();
    format!("{path} had {before} bytes and now has {now}: nobody may write to it meanwhile").into()
}
