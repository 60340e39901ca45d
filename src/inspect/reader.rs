//! The bytes of an object that may be anything, and may change while they are
//! read: by `pread`, so that a file that shrinks is an error and not a `SIGBUS`.

use std::io;
use std::os::fd::OwnedFd;

use super::types::Object;
use crate::error::{CorruptHeader, Error};
use crate::os::mem::sysv_shm::Id;
use crate::os::regular_file;
use crate::segment::internals::{Entry, HEADER_LEN, Header, MAGIC, Probe, parse_lock_table};

/// Where the format version ends in a header.
const FORMAT_END: usize = MAGIC.len() + size_of::<u32>();

/// A longer directory is not believed: it would name a hundred thousand fields.
const LONGEST_DIRECTORY: u32 = 4 << 20;

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    File(OwnedFd),
    SystemV(Probe),
}

impl Source {
    /// Fills the buffer with the bytes from `offset` on. Fewer mean that the object
    /// ends there.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => regular_file::read_at(file, buffer, offset),
            // A segment never becomes shorter, so it is all or nothing.
            Self::SystemV(look) => match usize::try_from(offset) {
                Ok(offset) if look.read_at(buffer, offset) => Ok(buffer.len()),
                _ => Ok(0),
            },
        }
    }
}

/// A segment that can be read: its header makes sense, and its directory.
#[derive(Debug)]
pub(super) struct Opened {
    source: Source,
    pub(super) header: Header,
    pub(super) entries: Vec<Entry>,
}

impl Opened {
    /// The id, if it is a System V segment.
    pub(super) fn system_v_id(&self) -> Option<Id> {
        match &self.source {
            Source::SystemV(look) => Some(look.id()),
            Source::File(_) => None,
        }
    }

    /// Reads an object of `len` bytes. [`Error::NotASegment`]: it is none of ours.
    pub(super) fn new(source: Source, len: u64) -> Result<Self, Error> {
        let failed = |source| Error::Os {
            call: "pread",
            source,
        };
        let mut bytes = [0; HEADER_LEN];
        let filled = source.read_at(&mut bytes, 0).map_err(failed)?;
        let header = match Header::parse(&bytes, len) {
            // The zeros behind a short one are not its own.
            _ if filled < MAGIC.len() => return Err(Error::NotASegment),
            Err(error @ (Error::NotASegment | Error::UnsupportedFormat { .. }))
                if filled >= FORMAT_END =>
            {
                return Err(error);
            }
            Err(Error::NotASegment) => return Err(Error::NotASegment),
            _ if filled < HEADER_LEN => {
                return Err(Error::Corrupt(CorruptHeader::WrongSize {
                    claimed: HEADER_LEN as u64,
                    actual: len,
                }));
            }
            header => header?,
        };
        if header.lock_table_len > LONGEST_DIRECTORY {
            return Err(Error::Corrupt(CorruptHeader::UnreadableDirectory));
        }
        let mut bytes = vec![0; header.lock_table_len as usize];
        let filled = source
            .read_at(&mut bytes, HEADER_LEN as u64)
            .map_err(failed)?;
        bytes.truncate(filled);
        let entries = parse_lock_table(&bytes, header.layout.size).map_err(Error::Corrupt)?;
        Ok(Self {
            source,
            header,
            entries,
        })
    }
}

/// Reads small parts of a value one after the other, many by one call where they
/// are close together.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    opened: &'a Opened,
    window: Vec<u8>,
    /// Where the window begins, in bytes from the start of the value.
    start: u64,
}

impl<'a> Reader<'a> {
    const WINDOW: usize = 64 << 10;
    /// What is further apart is read one by one.
    const CLOSE: u64 = 4 << 10;

    pub(super) fn new(opened: &'a Opened) -> Self {
        Self {
            opened,
            window: Vec::new(),
            start: 0,
        }
    }

    /// The `N` bytes from `offset` on; `None` if they can't be read, or are not
    /// inside the value.
    pub(super) fn bytes<const N: usize>(&mut self, offset: u64) -> Option<[u8; N]> {
        if let Some(bytes) = self.in_window(offset) {
            return Some(bytes);
        }
        let header = &self.opened.header;
        let room = header.layout.size.checked_sub(offset)?;
        let end = self.start.saturating_add(self.window.len() as u64);
        let len = match offset.checked_sub(end) {
            Some(gap) if gap < Self::CLOSE => Self::WINDOW,
            _ => N,
        };
        let len = usize::try_from(room).map_or(len, |room| room.min(len));
        self.window.resize(len, 0);
        self.start = offset;
        let at = header.value_offset.checked_add(offset)?;
        let filled = self.opened.source.read_at(&mut self.window, at);
        self.window.truncate(filled.unwrap_or(0));
        self.in_window(offset)
    }

    fn in_window<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let bytes = self.window.get(at..at.checked_add(N)?)?;
        bytes.try_into().ok()
    }
}

/// An object, and the segment in it if it can be read.
pub(super) type Found = (Object, Option<Opened>);

pub(super) fn os_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    /// The calls that look up what was asked for, a segment or a process.
    const LOOK_UPS: [&str; 6] = [
        "readlink",
        "lstat",
        "stat",
        "open",
        "shmget",
        "reading /proc/PID/maps",
    ];
    move |source| match source.kind() {
        io::ErrorKind::NotFound if LOOK_UPS.contains(&call) => Error::NotFound,
        io::ErrorKind::PermissionDenied => Error::PermissionDenied,
        _ => Error::Os { call, source },
    }
}
