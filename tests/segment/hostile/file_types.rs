//! The file types and attributes of objects: directories, links, devices, foreign
//! owners, and huge lengths.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::mkfifo;
use shm_sync::inspect::{self, Content, FileKind};
use shm_sync::{Backing, CorruptHeader};

use Outcome::{Corrupt, NoSpace, NotASegment, Opened, PermissionDenied, TooPermissive, WrongOwner};

use super::access::{
    ACCESSES, Counter, Expected, Outcome, attempt, change_system_v, check, patch, path, put,
    put_good,
};
use crate::support::{NOBODY, TestAddress, become_nobody, is_root_for, on_stage, spawn};

const FILES: [Backing; 2] = [Backing::Posix, Backing::File];

/// More memory than any machine has, but a permitted length of a sparse file.
const HUGE: u64 = 1 << 40;

fn kind_found(address: &TestAddress) -> FileKind {
    match inspect::object(&address.parse().unwrap()).unwrap().content {
        Content::Foreign(kind) => kind,
        other => panic!("{}: {other:?}", &**address),
    }
}

/// Creates something that is not a regular file, as a POSIX object and as a file, and
/// checks it.
fn check_each(what: &str, kind: FileKind, expected: &Expected, make: impl Fn(&str)) {
    for backing in FILES {
        let address = TestAddress::new(backing, "hostile");
        make(&path(&address));
        check::<Counter>(what, &address, expected);
        assert_eq!(kind_found(&address), kind, "{what}");
        let _ = fs::remove_dir(path(&address));
    }
}

fn set_mode(address: &TestAddress, mode: u32) {
    match address.kind() {
        Backing::SystemV => change_system_v(address, |permissions| permissions.mode = mode as _),
        _ => fs::set_permissions(path(address), fs::Permissions::from_mode(mode)).unwrap(),
    }
}

/// Returns whether devices can be opened in the directory of this object.
fn allows_devices(address: &TestAddress) -> bool {
    let path = path(address);
    let directory = std::path::Path::new(&path).parent().unwrap();
    !statvfs(directory)
        .unwrap()
        .flags()
        .contains(FsFlags::ST_NODEV)
}

on_stage! {
    // Failure mode 25. Opening a FIFO could wait forever. The watchdog of the stage
    // would report that.
    fn non_file_is_refused() {
        let nothing = Expected::all(NotASegment);
        check_each("a directory", FileKind::Directory, &nothing, |path| {
            fs::create_dir(path).unwrap();
        });
        check_each("a FIFO", FileKind::Special, &nothing, |path| {
            mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        });
        check_each("a socket", FileKind::Special, &nothing, |path| {
            drop(UnixListener::bind(path).unwrap());
        });
    }

    fn symlink_is_not_followed() {
        let nothing = Expected::all(NotASegment);
        for backing in FILES {
            let good = TestAddress::new(backing, "hostile");
            put_good::<Counter>(&good);
            check_each("a link to a good one", FileKind::Symlink, &nothing, |link| {
                symlink(path(&good), link).unwrap();
            });
            check::<Counter>("the good one", &good, &Expected::all(Opened));
        }
        check_each("a link to nothing", FileKind::Symlink, &nothing, |link| {
            symlink("/nowhere/at/all", link).unwrap();
        });
        check_each("a link to itself", FileKind::Symlink, &nothing, |link| {
            symlink(link, link).unwrap();
        });
        check_each("a link to a device", FileKind::Symlink, &nothing, |link| {
            symlink("/dev/zero", link).unwrap();
        });
    }

    fn device_is_refused() {
        if !is_root_for("device_is_refused") {
            return;
        }
        const ZERO: (u64, u64) = (1, 5);
        const UNUSED: (u64, u64) = (240, 77);
        for backing in FILES {
            for (major, minor) in [ZERO, UNUSED] {
                let address = TestAddress::new(backing, "hostile");
                let device = makedev(major, minor);
                let mode = Mode::S_IRUSR | Mode::S_IWUSR;
                mknod(path(&address).as_str(), SFlag::S_IFCHR, mode, device).unwrap();
                let users = if allows_devices(&address) {
                    NotASegment
                } else {
                    PermissionDenied
                };
                let expected = Expected {
                    writer: users,
                    reader: users,
                    ..Expected::all(NotASegment)
                };
                check::<Counter>("a device", &address, &expected);
                assert_eq!(kind_found(&address), FileKind::Special);
            }
        }
    }

    fn permissive_mode_is_refused() {
        for address in TestAddress::of_each_kind("hostile") {
            put_good::<Counter>(&address);
            for mode in [0o620, 0o602, 0o622, 0o666, 0o777] {
                set_mode(&address, mode);
                let what = format!("mode {mode:o}");
                check::<Counter>(&what, &address, &Expected::for_users(TooPermissive));
            }
            set_mode(&address, 0o644);
            check::<Counter>("mode 644", &address, &Expected::all(Opened));
        }
    }

    fn foreign_owner_is_refused() {
        if !is_root_for("foreign_owner_is_refused") {
            return;
        }
        for address in TestAddress::of_each_kind("hostile") {
            put_good::<Counter>(&address);
            match address.kind() {
                Backing::SystemV => {
                    change_system_v(&address, |permissions| permissions.uid = NOBODY);
                }
                _ => chown(path(&address), Some(NOBODY), None).unwrap(),
            }
            let expected = Expected::for_users(WrongOwner);
            check::<Counter>("owned by another user", &address, &expected);

            // The owner is checked before the contents.
            patch(&address, 0, b"garbage!");
            let expected = Expected {
                tool: NotASegment,
                lock: NotASegment,
                ..expected
            };
            check::<Counter>("garbage owned by another user", &address, &expected);
        }
    }

    fn unreadable_object_is_refused() {
        if !is_root_for("unreadable_object_is_refused") {
            return;
        }
        for mode in [0o000, 0o600] {
            for address in TestAddress::of_each_kind("hostile") {
                put_good::<Counter>(&address);
                set_mode(&address, mode);
                spawn(|| {
                    become_nobody();
                    for access in ACCESSES {
                        let outcome = attempt::<Counter>(access, &address);
                        let expected = outcome.map(|_| PermissionDenied);
                        // The kernel shows every user the owner of a System V segment.
                        let told = outcome == Some(WrongOwner)
                            && address.kind() == Backing::SystemV;
                        assert!(told || outcome == expected, "{access:?} {}: {outcome:?}", &*address);
                    }
                })
                .join();
            }
        }
    }

    // Nothing is written at these offsets, so the objects take no memory.
    fn huge_length_is_checked_against_object() {
        for backing in FILES {
            let address = TestAddress::new(backing, "hostile");
            let stretch = |len: u64| {
                fs::File::options().write(true).open(path(&address)).unwrap().set_len(len).unwrap();
            };
            put(&address, b"");
            stretch(HUGE);
            check::<Counter>("a huge hole", &address, &Expected::all(NotASegment));
            fs::remove_file(path(&address)).unwrap();

            put_good::<Counter>(&address);
            let claimed = fs::metadata(path(&address)).unwrap().len();
            stretch(HUGE);
            let damage = CorruptHeader::WrongSize { claimed, actual: HUGE };
            check::<Counter>("longer than it says", &address, &Expected::all(Corrupt(damage)));
            fs::remove_file(path(&address)).unwrap();

            put_good::<Counter>(&address);
            patch(&address, 24, &HUGE.to_le_bytes());
            let damage = CorruptHeader::WrongSize { claimed: HUGE, actual: claimed };
            check::<Counter>("shorter than it says", &address, &Expected::all(Corrupt(damage)));
        }
    }

    fn huge_object_needs_address_space() {
        // The limit prevents a copy on machines that overcommit memory.
        setrlimit(Resource::RLIMIT_AS, HUGE / 2, HUGE / 2).unwrap();
        for backing in FILES {
            let address = TestAddress::new(backing, "hostile");
            put_good::<Counter>(&address);
            patch(&address, 24, &HUGE.to_le_bytes());
            let file = fs::File::options().write(true).open(path(&address)).unwrap();
            file.set_len(HUGE).unwrap();
            drop(file);
            // The tool reads only what it needs.
            check::<Counter>("huge", &address, &Expected::for_users(NoSpace));
        }
    }
}
