//! The kernel's list of System V segments, `/proc/sysvipc/shm`: [`proc_sysvipc(5)`].
//!
//! [`proc_sysvipc(5)`]: https://man7.org/linux/man-pages/man5/proc_sysvipc.5.html

use std::io;

use crate::os::mem::sysv_shm::{Id, PERMISSIONS, SHM_DEST, SHM_LOCKED, Status};

/// A line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: Id,
    /// Equals the result of [`status`](crate::os::mem::sysv_shm::status), but every
    /// user may read it.
    pub(crate) status: Status,
    /// The number of bytes in memory.
    pub(crate) resident: u64,
    /// The number of bytes in swap.
    pub(crate) swapped: u64,
}

/// Returns every segment of this process's IPC namespace.
///
/// The list is not a snapshot. A segment that is created or removed during the call may
/// be missing.
pub(crate) fn list() -> io::Result<Vec<Row>> {
    let text = std::fs::read_to_string("/proc/sysvipc/shm")?;
    text.lines()
        .skip(1) // the column titles
        .map(|line| {
            parse_row(line).ok_or_else(|| {
                let message = format!("not a line of /proc/sysvipc/shm: {line:?}");
                io::Error::new(io::ErrorKind::InvalidData, message)
            })
        })
        .collect()
}

fn parse_row(line: &str) -> Option<Row> {
    fn number<T: std::str::FromStr>(word: &str) -> Option<T> {
        word.parse().ok()
    }
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [
        key,
        id,
        mode,
        len,
        creator_pid,
        last_pid,
        attached,
        owner,
        group,
        creator,
        creator_group,
        attach_time,
        detach_time,
        change_time,
        resident,
        swapped,
        .., // columns that later kernels add
    ] = words[..]
    else {
        return None;
    };
    let mode = u32::from_str_radix(mode, 8).ok()?;
    Some(Row {
        id: Id(number(id)?),
        status: Status {
            key: number(key)?,
            owner: number(owner)?,
            group: number(group)?,
            creator: number(creator)?,
            creator_group: number(creator_group)?,
            mode: mode & PERMISSIONS,
            is_locked: mode & SHM_LOCKED != 0,
            is_marked_for_removal: mode & SHM_DEST != 0,
            len: number(len)?,
            attached: number(attached)?,
            creator_pid: number(creator_pid)?,
            last_pid: number(last_pid)?,
            attach_time: number(attach_time)?,
            detach_time: number(detach_time)?,
            change_time: number(change_time)?,
        },
        resident: number(resident)?,
        swapped: number(swapped)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::mem::sysv_shm::{attach, create_private, remove, set_permissions, status};
    use crate::os::mem::{Access, Pages};
    use std::num::NonZeroUsize;

    #[test]
    fn list_agrees_with_status() {
        let id = create_private(NonZeroUsize::MIN, 0o600, Pages::Normal).unwrap();
        let found = std::panic::catch_unwind(|| {
            drop(attach(id, Access::ReadWrite).unwrap());
            set_permissions(id, None, None, 0o604).unwrap();
            (list().unwrap(), status(id).unwrap())
        });
        remove(id).unwrap();
        let (rows, status) = found.unwrap();
        let row = rows.iter().find(|row| row.id == id).unwrap();
        assert_eq!(row.status, status);
        assert_eq!((row.resident, row.swapped), (0, 0));
    }

    const LINE: &str =
        "-1392508927 32769  3644  18446744073709551615 4 5 6 7 8 9 10 11 12 13 14 15";

    #[test]
    fn line_is_read_to_the_last_column() {
        let row = parse_row(LINE).unwrap();
        let status = Status {
            key: -1_392_508_927,
            owner: 7,
            group: 8,
            creator: 9,
            creator_group: 10,
            mode: 0o644,
            is_locked: true,
            is_marked_for_removal: true,
            len: u64::MAX,
            attached: 6,
            creator_pid: 4,
            last_pid: 5,
            attach_time: 11,
            detach_time: 12,
            change_time: 13,
        };
        let expected = Row {
            id: Id(32769),
            status,
            resident: 14,
            swapped: 15,
        };
        assert_eq!(row, expected);
        assert_eq!(parse_row(&format!("{LINE} later")), Some(expected));
    }

    #[test]
    fn damaged_line_is_refused() {
        assert_eq!(parse_row(""), None);
        let words: Vec<&str> = LINE.split_ascii_whitespace().collect();
        for damaged in 0..words.len() {
            assert_eq!(parse_row(&words[..damaged].join(" ")), None);
            for wrong in ["x", "99999999999999999999", "1.5"] {
                let mut words = words.clone();
                words[damaged] = wrong;
                assert_eq!(parse_row(&words.join(" ")), None, "{words:?}");
            }
        }
    }
}
