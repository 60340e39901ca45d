//! Reads objects with any content, which may change at the same time.
//!
//! Files are read by `pread`, so that a file that becomes shorter causes an error and
//! no `SIGBUS`.

use std::io;
use std::os::fd::OwnedFd;

use super::types::Object;
use crate::error::{CorruptHeader, Error};
use crate::os::mem::sysv_shm::Id;
use crate::os::regular_file;
use crate::segment::Types;
use crate::segment::internals::{
    Entry, HEADER_LEN, Header, MAGIC, MAX_TYPE_TABLE, Probe, parse_lock_table, parse_type_table,
};

/// The offset in a header at which the format version ends.
const FORMAT_END: usize = MAGIC.len() + size_of::<u32>();

/// A longer lock table is treated as corrupt. A table of this length names a hundred
/// thousand fields.
const LONGEST_LOCK_TABLE: u32 = 4 << 20;

/// The object from which the bytes are read.
#[derive(Debug)]
pub(super) enum Source {
    File(OwnedFd),
    SystemV(Probe),
}

impl Source {
    /// Reads bytes from `offset` on and returns their number. It is less than the
    /// length of the buffer only if the object ends there.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => regular_file::read_at(file, buffer, offset),
            // The length of a System V segment never changes.
            Self::SystemV(probe) => match usize::try_from(offset) {
                Ok(offset) if probe.read_at(buffer, offset) => Ok(buffer.len()),
                _ => Ok(0),
            },
        }
    }
}

/// A segment with a valid header and a valid lock table.
#[derive(Debug)]
pub(super) struct Opened {
    source: Source,
    pub(super) header: Header,
    pub(super) entries: Vec<Entry>,
}

impl Opened {
    /// Returns the id, if it is a System V segment.
    pub(super) fn system_v_id(&self) -> Option<Id> {
        match &self.source {
            Source::SystemV(probe) => Some(probe.id()),
            Source::File(_) => None,
        }
    }

    /// Reads header and lock table of an object of `len` bytes. The error is
    /// [`Error::NotASegment`] if it is no segment of this crate.
    pub(super) fn new(source: Source, len: u64) -> Result<Self, Error> {
        let mut bytes = [0; HEADER_LEN];
        let filled = source.read_at(&mut bytes, 0).map_err(pread_error)?;
        let header = match Header::parse(&bytes, len) {
            // The zeros after the end of a short object are not its content.
            _ if filled < MAGIC.len() => return Err(Error::NotASegment { address: None }),
            Err(error @ (Error::NotASegment { .. } | Error::UnsupportedFormat { .. }))
                if filled >= FORMAT_END =>
            {
                return Err(error);
            }
            Err(Error::NotASegment { .. }) => return Err(Error::NotASegment { address: None }),
            _ if filled < HEADER_LEN => {
                let damage = CorruptHeader::WrongSize {
                    claimed: HEADER_LEN as u64,
                    actual: len,
                };
                return Err(damage.into());
            }
            header => header?,
        };
        if header.lock_table_len > LONGEST_LOCK_TABLE {
            return Err(CorruptHeader::UnreadableLockTable.into());
        }
        let mut bytes = vec![0; header.lock_table_len as usize];
        let filled = source
            .read_at(&mut bytes, HEADER_LEN as u64)
            .map_err(pread_error)?;
        bytes.truncate(filled);
        let entries = parse_lock_table(&bytes, header.layout.size)?;
        Ok(Self {
            source,
            header,
            entries,
        })
    }
}

impl Opened {
    /// Returns the types in the value, or `None` if there is no type table.
    pub(super) fn types(&self) -> Result<Option<Types>, Error> {
        let len = self.header.type_table_len as usize;
        if len == 0 {
            return Ok(None);
        }
        if len > MAX_TYPE_TABLE {
            return Err(CorruptHeader::UnreadableTypeTable.into());
        }
        let mut bytes = vec![0; len];
        let offset = self.header.type_table_offset();
        let filled = self.source.read_at(&mut bytes, offset);
        bytes.truncate(filled.map_err(pread_error)?);
        let types = parse_type_table(&bytes, self.header.layout.fingerprint)?;
        Ok(Some(types))
    }
}

/// Reads small parts of a value in ascending order. Parts that are close together are
/// read by one call.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    opened: &'a Opened,
    window: Vec<u8>,
    /// The offset in the value at which the window begins.
    start: u64,
}

impl<'a> Reader<'a> {
    /// The length of a window that several parts may share.
    const WINDOW: usize = 64 << 10;
    /// A part at this distance from the last window, or more, is read alone.
    const CLOSE: u64 = 4 << 10;

    pub(super) fn new(opened: &'a Opened) -> Self {
        Self {
            opened,
            window: Vec::new(),
            start: 0,
        }
    }

    /// Returns the `N` bytes from `offset` on, or `None` if they can't be read or
    /// exceed the value.
    pub(super) fn bytes<const N: usize>(&mut self, offset: u64) -> Option<[u8; N]> {
        self.slice(offset, N)?.try_into().ok()
    }

    /// Returns the `len` bytes from `offset` on, or `None` if they can't be read or
    /// exceed the value.
    pub(super) fn slice(&mut self, offset: u64, len: usize) -> Option<&[u8]> {
        if self.in_window(offset, len).is_none() {
            self.fill(offset, len)?;
        }
        self.in_window(offset, len)
    }

    /// Reads the `len` bytes from `offset` on, and perhaps more, into the window.
    fn fill(&mut self, offset: u64, len: usize) -> Option<()> {
        let header = &self.opened.header;
        let room = header.layout.size.checked_sub(offset)?;
        let end = self.start.saturating_add(self.window.len() as u64);
        let len = match offset.checked_sub(end) {
            Some(gap) if gap < Self::CLOSE => Self::WINDOW.max(len),
            _ => len,
        };
        let len = usize::try_from(room).map_or(len, |room| room.min(len));
        self.window.resize(len, 0);
        self.start = offset;
        let at = header.value_offset.checked_add(offset)?;
        let filled = self.opened.source.read_at(&mut self.window, at);
        self.window.truncate(filled.unwrap_or(0));
        Some(())
    }

    fn in_window(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.window.get(at..at.checked_add(len)?)
    }
}

fn pread_error(source: io::Error) -> Error {
    Error::Os {
        address: None,
        call: "pread",
        source,
    }
}

/// An object, and its segment if it is readable.
pub(super) type Found = (Object, Option<Opened>);

/// Maps the error of a call on an object or process that the caller named.
pub(super) fn os_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    /// The calls that look up the object or process that the caller named.
    const LOOK_UPS: [&str; 6] = [
        "readlink",
        "lstat",
        "stat",
        "open",
        "shmget",
        "reading /proc/PID/maps",
    ];
    move |source| match source.kind() {
        io::ErrorKind::NotFound if LOOK_UPS.contains(&call) => Error::NotFound { address: None },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { address: None },
        _ => Error::Os {
            address: None,
            call,
            source,
        },
    }
}
