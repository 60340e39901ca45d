//! Kernels and sandboxes that refuse a call, and limits of the process. Each error
//! names the call or the limit, and nothing is left behind.

use crate::support::{TestAddress, TestName, on_stage, seccomp, spawn};
use nix::sys::resource::{Resource, setrlimit};
use shm_sync::{Backing, Error, Pages, Segment, SegmentOptions, ShmMutex, Unsupported};

type Counter = ShmMutex<u64>;

/// The expected result of a call of this crate when the kernel refuses a system call.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// [`Error::Os`] with this call and the kernel's `errno`.
    Call(&'static str),
    UnnamedFiles,
    PermissionDenied,
    NotFound,
    NoSpace,
    /// The segment is created nevertheless.
    Works,
}

impl Expected {
    fn is_met_by<T>(self, errno: i32, result: &Result<T, Error>) -> bool {
        match (self, result) {
            (Self::Call(expected), Err(Error::Os { call, source, .. })) => {
                *call == expected && source.raw_os_error() == Some(errno)
            }
            (
                Self::UnnamedFiles,
                Err(Error::Unsupported {
                    reason: Unsupported::UnnamedFiles,
                    ..
                }),
            )
            | (Self::PermissionDenied, Err(Error::PermissionDenied { .. }))
            | (Self::NotFound, Err(Error::NotFound { .. }))
            | (Self::NoSpace, Err(Error::NoSpace { .. }))
            | (Self::Works, Ok(_)) => true,
            _ => false,
        }
    }
}

/// A function that refuses a call, the `errno`, and the expected result.
type Row<'a> = (&'a dyn Fn(i32), i32, Expected);

/// Creates a segment in a process that refuses `call`. Returns a message if the result
/// is not `expected`.
fn complaint(
    kind: Backing,
    refuse: impl Fn(i32),
    what: &str,
    errno: i32,
    expected: Expected,
) -> Option<String> {
    let address = TestAddress::new(kind, "refused");
    let status = spawn(|| {
        refuse(errno);
        let made = match kind {
            Backing::Memfd => Segment::anonymous(Counter::new(0)),
            _ => Segment::create(&address, Counter::new(0)),
        };
        if !expected.is_met_by(errno, &made) {
            let message = made.as_ref().map(|_| ()).map_err(ToString::to_string);
            println!("{kind} {what} {errno}: {message:?} ({made:?})");
            crate::support::exit_now(1);
        }
        if let Ok(made) = made {
            *made.lock().unwrap() += 1;
        }
    })
    .wait();
    let is_met = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
    (!is_met).then(|| format!("{kind}, {what} answers {errno}: not {expected:?} ({status:?})"))
}

on_stage! {
    fn smoke() {
        spawn(|| {
            seccomp::refuse(libc::SYS_memfd_create, libc::ENOMEM);
            let made = Segment::anonymous(Counter::new(0));
            assert!(matches!(made, Err(Error::NoSpace { .. })), "{made:?}");
            let address = TestAddress::new(Backing::Posix, "refused");
            drop(Segment::create(&address, Counter::new(0)).unwrap());
        })
        .join();
    }

    fn refused_call_is_named_with_errno() {
        use Backing::{File, Memfd, Posix, SystemV};
        use Expected::{Call, NoSpace, PermissionDenied, Works};
        use libc::{
            EACCES, EDQUOT, EFBIG, EIO, ENOENT, ENOMEM, ENOSPC, ENOSYS, EOPNOTSUPP,
            EPERM, EXDEV,
        };
        #[rustfmt::skip]
        let table: &[(Backing, libc::c_long, i32, Expected)] = &[
            (Memfd, libc::SYS_memfd_create, ENOSYS, Call("memfd_create")),
            (Memfd, libc::SYS_memfd_create, EPERM, Call("memfd_create")),
            (Memfd, libc::SYS_memfd_create, ENOMEM, NoSpace),
            (Memfd, libc::SYS_fchmod, EPERM, Call("fchmod")),
            (Memfd, libc::SYS_fchmod, ENOSYS, Call("fchmod")),
            (Memfd, libc::SYS_ftruncate, ENOSYS, Call("ftruncate")),
            (Memfd, libc::SYS_ftruncate, EPERM, Call("ftruncate")),
            (Memfd, libc::SYS_fstatfs, ENOSYS, Works),
            (Memfd, libc::SYS_fstatfs, EPERM, Works),
            // Zeros are written instead.
            (Posix, libc::SYS_fallocate, ENOSYS, Works),
            (File, libc::SYS_fallocate, EOPNOTSUPP, Works),
            (Posix, libc::SYS_fallocate, EPERM, Call("fallocate")),
            (Posix, libc::SYS_fallocate, ENOSPC, NoSpace),
            (File, libc::SYS_fallocate, EDQUOT, NoSpace),
            (File, libc::SYS_fallocate, EFBIG, NoSpace),
            (File, libc::SYS_fallocate, EIO, Call("fallocate")),
            (Posix, libc::SYS_fchmod, EPERM, Call("fchmod")),
            (Posix, libc::SYS_fchmod, ENOSYS, Call("fchmod")),
            // Whether the object outlives a boot depends on its file system.
            (Posix, libc::SYS_fstatfs, ENOSYS, Call("fstatfs")),
            (Posix, libc::SYS_linkat, EPERM, Call("linkat")),
            (Posix, libc::SYS_linkat, ENOSYS, Call("linkat")),
            (Posix, libc::SYS_linkat, EXDEV, Call("linkat")),
            (Posix, libc::SYS_linkat, ENOENT, Call("linkat from /proc/self/fd")),
            (Posix, libc::SYS_linkat, EACCES, PermissionDenied),
            (File, libc::SYS_fsync, EIO, Call("fsync")),
            (File, libc::SYS_fsync, EPERM, Call("fsync")),
            (Posix, libc::SYS_statx, ENOSYS, Works),
            (Posix, libc::SYS_statx, EPERM, Works),
            (SystemV, libc::SYS_shmget, ENOSYS, Call("shmget")),
            (SystemV, libc::SYS_shmget, EPERM, Call("shmget")),
            (SystemV, libc::SYS_shmat, ENOSYS, Call("shmat")),
            (SystemV, libc::SYS_shmat, EPERM, Call("shmat")),
        ];
        let complaints: Vec<String> = table
            .iter()
            .filter_map(|&(kind, call, errno, expected)| {
                let what = format!("system call {call}");
                complaint(kind, |errno| seccomp::refuse(call, errno), &what, errno, expected)
            })
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn refused_fcntl_is_named_with_command() {
        const LOCK: &str = "fcntl(F_OFD_SETLK)";
        const SEALS: &str = "fcntl(F_ADD_SEALS)";
        let table = [
            (Backing::Memfd, libc::F_ADD_SEALS, libc::EPERM, SEALS),
            (Backing::Memfd, libc::F_ADD_SEALS, libc::EINVAL, SEALS),
            (Backing::Posix, libc::F_OFD_SETLK, libc::ENOLCK, LOCK),
            (Backing::File, libc::F_OFD_SETLK, libc::EINVAL, LOCK),
            (Backing::File, libc::F_OFD_SETLK, libc::EPERM, LOCK),
            // A security module refuses the call: no lock is in the way.
            (Backing::File, libc::F_OFD_SETLK, libc::EACCES, LOCK),
            // A lock is in the way, but `F_OFD_GETLK` finds none. The call waits for 10
            // s.
            (Backing::Posix, libc::F_OFD_SETLK, libc::EAGAIN, LOCK),
        ];
        let complaints: Vec<String> = table
            .into_iter()
            .filter_map(|(kind, command, errno, call)| {
                let refuse = |errno| seccomp::refuse_command(libc::SYS_fcntl, command, errno);
                complaint(kind, refuse, call, errno, Expected::Call(call))
            })
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn o_tmpfile_errnos_map_to_errors() {
        use Expected::{Call, NoSpace, PermissionDenied, Works};
        use libc::{EACCES, EINVAL, EISDIR, ENOENT, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM, EROFS};
        const CALL: &str = "open(O_TMPFILE)";
        const IN_MEMORY: &str = "open(O_TMPFILE) in /dev/shm";
        let table = |call| [
            // Such files are not supported: the segment gets a temporary name.
            (EOPNOTSUPP, Works),
            (EINVAL, Works),
            (ENOSYS, Works),
            (EPERM, Works),
            // Kernels before 3.11.
            (EISDIR, Works),
            (ENOENT, Works),
            (EACCES, PermissionDenied),
            (ENOSPC, NoSpace),
            (EROFS, Call(call)),
        ];
        let mut complaints = Vec::new();
        for (kind, call) in [(Backing::Posix, IN_MEMORY), (Backing::File, CALL)] {
            for (errno, expected) in table(call) {
                let refuse = seccomp::refuse_unnamed_files;
                complaints.extend(complaint(kind, refuse, CALL, errno, expected));
            }
        }
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    // Neither unnamed files nor the calls that a temporary name needs.
    fn refused_call_of_temporary_name_is_named() {
        use Expected::{Call, PermissionDenied, UnnamedFiles, Works};
        use libc::{EACCES, EINVAL, EMFILE, ENOENT, ENOSYS, EPERM, EROFS};
        let without = |refuse: &dyn Fn(i32), errno| {
            seccomp::refuse_unnamed_files(libc::EOPNOTSUPP);
            refuse(errno);
        };
        let create = |errno| {
            seccomp::refuse_open_with_flags(libc::O_EXCL as u32, errno);
        };
        let rename = |errno| seccomp::refuse(libc::SYS_renameat2, errno);
        let link = |errno| {
            seccomp::refuse(libc::SYS_renameat2, EINVAL);
            seccomp::refuse(libc::SYS_linkat, errno);
        };
        let lock = |errno| seccomp::refuse_command(libc::SYS_fcntl, libc::F_OFD_SETLK, errno);
        let list = |errno| seccomp::refuse(libc::SYS_getdents64, errno);
        let table: &[Row<'_>] = &[
            (&create, EACCES, PermissionDenied),
            // A hard link is made instead.
            (&rename, EINVAL, Works),
            (&rename, ENOSYS, Works),
            (&rename, EPERM, Works),
            (&rename, EACCES, PermissionDenied),
            (&rename, EROFS, Call("renameat2")),
            (&rename, ENOENT, Call("renameat2")),
            // Neither is supported: FAT.
            (&link, EPERM, UnnamedFiles),
            (&link, ENOSYS, UnnamedFiles),
            (&link, EROFS, Call("renameat2")),
            (&lock, EPERM, Call("fcntl(F_OFD_SETLK)")),
            // The files of dead creators stay.
            (&list, EPERM, Works),
        ];
        let mut complaints = Vec::new();
        for kind in [Backing::Posix, Backing::File] {
            let call = match kind {
                Backing::Posix => "open(O_EXCL) in /dev/shm",
                _ => "open(O_EXCL)",
            };
            let own: [Row<'_>; 2] = [(&create, EMFILE, Call(call)), (&create, EROFS, Call(call))];
            for &(refuse, errno, expected) in table.iter().chain(&own) {
                let refuse = |errno| without(refuse, errno);
                complaints.extend(complaint(kind, refuse, "temporary name", errno, expected));
            }
        }
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn refused_call_of_open_is_named() {
        use Expected::{Call, NoSpace, NotFound, PermissionDenied, Works};
        use libc::{EACCES, EINVAL, ENOENT, ENOMEM, ENOSYS, EPERM, EROFS};
        let open = |errno| {
            seccomp::refuse_open_with_flags(libc::O_NOFOLLOW as u32, errno);
        };
        let map = |errno| {
            seccomp::refuse_with_bits(libc::SYS_mmap, 3, libc::MAP_SHARED as u32, errno);
        };
        let fstatfs = |errno| seccomp::refuse(libc::SYS_fstatfs, errno);
        let fallocate = |errno| seccomp::refuse(libc::SYS_fallocate, errno);
        let lock = |errno| seccomp::refuse_command(libc::SYS_fcntl, libc::F_OFD_SETLK, errno);
        let query = |errno| seccomp::refuse_command(libc::SYS_fcntl, libc::F_OFD_GETLK, errno);
        let table: [Row<'_>; 15] = [
            (&open, EPERM, Call("open")),
            (&open, EROFS, Call("open")),
            (&open, EACCES, PermissionDenied),
            (&open, ENOENT, NotFound),
            (&map, EPERM, Call("mmap")),
            (&map, EINVAL, Call("mmap")),
            (&map, EACCES, PermissionDenied),
            (&map, ENOMEM, NoSpace),
            (&fstatfs, ENOSYS, Call("fstatfs")),
            (&fstatfs, EPERM, Call("fstatfs")),
            (&lock, EPERM, Call("fcntl(F_OFD_SETLK)")),
            (&lock, EACCES, Call("fcntl(F_OFD_SETLK)")),
            (&query, EACCES, Works),
            // Only copies need this call.
            (&fallocate, ENOSYS, Works),
            (&fallocate, EPERM, Works),
        ];
        for kind in [Backing::Posix, Backing::File] {
            let address = TestAddress::new(kind, "opened");
            drop(Segment::create(&address, Counter::new(0)).unwrap());
            for (refuse, errno, expected) in table {
                spawn(|| {
                    refuse(errno);
                    let opened = Segment::<Counter>::open(&address);
                    assert!(expected.is_met_by(errno, &opened), "{errno}, {expected:?}: {opened:?}");
                    // A reader uses no lock. So it does not query whether the object
                    // outlives a boot.
                    let expected = match expected {
                        Call("fstatfs") => Works,
                        other => other,
                    };
                    let read = Segment::<Counter>::open_read_only(&address);
                    assert!(expected.is_met_by(errno, &read), "{errno}, {expected:?}: {read:?}");
                })
                .join();
            }
        }
    }

    fn huge_pages_are_unmapped_whole_without_fstatfs() {
        spawn(|| {
            seccomp::refuse(libc::SYS_fstatfs, libc::ENOSYS);
            let huge = SegmentOptions::new().pages(Pages::Huge);
            let made = match huge.anonymous("refused", Counter::new(0)) {
                Err(Error::NoHugePages { .. }) => {
                    println!("skipped: no huge pages are free");
                    return;
                }
                made => made.unwrap(),
            };
            let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
            assert!(maps().contains("memfd:shm-sync:refused"));
            drop(made);
            assert!(!maps().contains("memfd:shm-sync:refused"));
        })
        .join();
    }

    #[cfg(target_arch = "x86_64")] // other targets have only unlinkat(2)
    fn refused_removal_is_reported() {
        use Expected::{Call, NotFound, PermissionDenied};
        let table = [
            (libc::EPERM, PermissionDenied),
            (libc::EACCES, PermissionDenied),
            (libc::ENOENT, NotFound),
            (libc::EROFS, Call("unlink")),
            (libc::ENOSYS, Call("unlink")),
        ];
        let address = TestAddress::new(Backing::Posix, "removed");
        drop(Segment::create(&address, Counter::new(0)).unwrap());
        for (errno, expected) in table {
            spawn(|| {
                seccomp::refuse(libc::SYS_unlink, errno);
                let removed = shm_sync::unlink(&address);
                assert!(expected.is_met_by(errno, &removed), "{errno}, {expected:?}: {removed:?}");
            })
            .join();
        }
        assert!(address.exists());
    }

    fn file_size_limit_is_no_space() {
        const LIMIT: u64 = 1 << 20;
        const LEN: usize = 8 << 20;
        let options = SegmentOptions::new();
        for kind in [Backing::Posix, Backing::File, Backing::SystemV, Backing::Memfd] {
            let address = TestAddress::new(kind, "file-size");
            spawn(|| {
                setrlimit(Resource::RLIMIT_FSIZE, LIMIT, LIMIT).unwrap();
                let made: Result<Segment<[u8]>, _> = match kind {
                    Backing::Memfd => options.anonymous_with_len("file-size", LEN, |_| ()),
                    _ => options.create_with_len(&address, LEN, |_| ()),
                };
                match made {
                    Err(Error::NoSpace { bytes, .. }) => assert!(bytes > LEN),
                    // A System V segment is not a file for this limit.
                    Ok(_) => assert_eq!(kind, Backing::SystemV),
                    Err(other) => panic!("{kind}: {other:?}"),
                }
                // A segment within the limit is created.
                if kind == Backing::Memfd {
                    drop(Segment::anonymous(Counter::new(0)).unwrap());
                } else if kind != Backing::SystemV {
                    drop(Segment::create(&address, Counter::new(0)).unwrap());
                }
            })
            .join();
        }
    }

    // Some kernels end fallocate(2) on tmpfs at any signal, and free what it had
    // reserved. A profiler's signals then interrupt each long reservation.
    fn signals_do_not_restart_reservation() {
        const LEN: usize = 64 << 20;
        /// The bytes that are reserved between two signals.
        const BETWEEN_SIGNALS: u32 = 3 << 20;
        let name = TestName::new("interrupted");
        spawn(|| {
            seccomp::refuse_above(libc::SYS_fallocate, 3, BETWEEN_SIGNALS, libc::EINTR);
            let made: Segment<[u8]> =
                SegmentOptions::new().create_with_len(&name, LEN, |_| ()).unwrap();
            let metadata = std::fs::metadata(name.path()).unwrap();
            let reserved = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
            assert!(reserved >= LEN as u64, "{reserved}");
            assert_eq!(made.len(), LEN);
        })
        .join();
    }
}
