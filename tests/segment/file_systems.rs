//! File systems that copy on write: reserved memory stays reserved when the file system
//! fills up. File systems without unnamed files: FUSE.

use std::fs::File;
use std::path::PathBuf;

use crate::support::mounts::{Fuse, Stand, has_own_mounts_for, run};
use crate::support::{die, expect_poisoned, on_stage, spawn};
use nix::fcntl::posix_fallocate;
use nix::sys::wait::WaitStatus;
use shm_sync::{Error, Removal, Segment, SegmentOptions, ShmMutex, Unsupported};

const MIB: usize = 1 << 20;

/// A small file system that is mounted only for this stage.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    /// Creates and mounts the file system. Returns `None`, with a message, if a tool or
    /// a permission is missing.
    fn new(kind: &str, size: u64) -> Option<Self> {
        if !has_own_mounts_for(kind) {
            return None;
        }
        let at = Stand::new().file_system(kind, size >> 20, kind)?;
        Some(Self(at.into()))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Allocates all free space.
    fn fill_up(&self) {
        let file = File::create(self.path("filling")).unwrap();
        let (mut len, mut step) = (0, 256 << 20);
        while step >= 4096 {
            match posix_fallocate(&file, len, step) {
                Ok(()) => len += step,
                Err(_) => step /= 2,
            }
        }
        let _ = file.sync_all();
    }
}

/// Writes to each page of a segment in a child. Returns how the child ended.
fn write_each_page(path: &str, value: u8) -> WaitStatus {
    spawn(|| {
        let segment = Segment::<[std::sync::atomic::AtomicU8]>::open(path).unwrap();
        for page in segment.iter().step_by(4096) {
            page.store(value, std::sync::atomic::Ordering::Relaxed);
        }
        Segment::flush(&segment).unwrap();
    })
    .wait()
}

on_stage! {
    fn smoke() {
        let Some(disk) = Disk::new("xfs", 320 << 20) else { return };
        let path = disk.path("segment");
        drop(Segment::create(&path, 7_u64).unwrap());
        disk.fill_up();
        assert!(matches!(
            SegmentOptions::<[u8]>::new().create_with_len(disk.path("more"), 2 * MIB, |_| ()),
            Err(Error::NoSpace { .. })
        ));
        assert_eq!(*Segment::<u64>::open(&path).unwrap(), 7);
    }

    fn copied_file_gets_its_own_blocks() {
        let Some(disk) = Disk::new("xfs", 320 << 20) else { return };
        let path = disk.path("segment");
        let made: Segment<[std::sync::atomic::AtomicU8]> =
            SegmentOptions::new().create_with_len(&path, 16 * MIB, |_| ()).unwrap();
        let halfway = made.len() / 2;
        for page in made[..halfway].iter().step_by(4096) {
            page.store(9, std::sync::atomic::Ordering::Relaxed);
        }
        Segment::flush(&made).unwrap();
        drop(made);
        let copy = |name: &str, how: &str| {
            let copy = disk.path(name);
            assert!(run("cp", &[how, &path, &copy]));
            copy
        };
        const WAYS: [&str; 2] = ["--reflink=always", "--sparse=always"];
        let opened = WAYS.map(|how| copy(&how[2..7], how));
        let late = WAYS.map(|how| copy(&how[5..9], how));
        for path in &opened {
            drop(Segment::<[std::sync::atomic::AtomicU8]>::open(path).unwrap());
        }
        disk.fill_up();
        for path in &opened {
            for value in 1..3 {
                let end = write_each_page(path, value);
                assert!(matches!(end, WaitStatus::Exited(_, 0)), "{path} {value}: {end:?}");
            }
        }
        for path in &late {
            let refused = Segment::<[std::sync::atomic::AtomicU8]>::open(path);
            let expected = matches!(refused, Err(Error::NoSpace { bytes, .. }) if bytes > 16 * MIB);
            assert!(expected, "{path}: {refused:?}");
            // The refusal changes nothing, and a reader needs no space.
            let read = Segment::<[std::sync::atomic::AtomicU8]>::open_read_only(path).unwrap();
            assert_eq!(read.view().element(4096).unwrap().load(), 9);
        }
    }

    fn reservation_on_btrfs_persists() {
        let Some(disk) = Disk::new("btrfs", 256 << 20) else { return };
        let path = disk.path("segment");
        let made: Segment<[std::sync::atomic::AtomicU8]> =
            SegmentOptions::new().create_with_len(&path, MIB, |_| ()).unwrap();
        drop(made);
        disk.fill_up();
        for value in 1..3 {
            let end = write_each_page(&path, value);
            assert!(matches!(end, WaitStatus::Exited(_, 0)), "round {value}: {end:?}");
        }
    }

    // It has no unnamed files, and renames with `RENAME_NOREPLACE`.
    fn segment_on_fuse_works_by_temporary_name() {
        let test = "segment_on_fuse_works_by_temporary_name";
        if !has_own_mounts_for(test) {
            return;
        }
        let stand = Stand::new();
        let [lower, upper, work, at] =
            ["lower", "upper", "work", "fuse"].map(|name| stand.directory(name));
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let server = Fuse::start("fuse-overlayfs", &["-o", &layers], &at, test);
        let Some(_server) = server else { return };
        let path = format!("{at}/counter");
        let options = SegmentOptions::<ShmMutex<u64>>::new();
        let transient = options.removal(Removal::UntilLastDetach);
        let made = transient.create(&path, ShmMutex::new(0)).unwrap();
        assert!(matches!(
            transient.create(&path, ShmMutex::new(0)),
            Err(Error::AlreadyExists { .. })
        ));
        let workers = [(); 2].map(|()| {
            spawn(|| {
                let theirs = Segment::<ShmMutex<u64>>::open(&path).unwrap();
                for _ in 0..1_000 {
                    *theirs.lock().unwrap() += 1;
                }
            })
        });
        workers.into_iter().for_each(crate::support::Child::join);
        assert_eq!(*made.lock().unwrap(), 2_000);
        let mut killed = spawn(|| {
            let theirs = Segment::<ShmMutex<u64>>::open(&path).unwrap();
            let _held = theirs.lock().unwrap();
            die()
        });
        killed.wait();
        drop(expect_poisoned(made.lock()).recover(|_| ()));
        drop(made);
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
    }

    // It has neither unnamed files nor `RENAME_NOREPLACE`, and takes a hard link for
    // another file. Two processes would share neither locks nor memory.
    fn fuse_with_separate_hard_links_is_refused() {
        let test = "fuse_with_separate_hard_links_is_refused";
        if !has_own_mounts_for(test) {
            return;
        }
        let stand = Stand::new();
        let [below, at] = ["below", "fuse"].map(|name| stand.directory(name));
        let Some(_server) = Fuse::start("bindfs", &[&below], &at, test) else { return };
        let refused = Segment::create(format!("{at}/counter"), ShmMutex::new(0_u64));
        match refused {
            Err(Error::Unsupported { reason: Unsupported::UnnamedFiles, .. }) => {}
            // A later version renames with `RENAME_NOREPLACE`.
            Ok(made) => drop(made),
            Err(other) => panic!("{other:?}"),
        }
        let left = std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(left.into_iter().all(|name| name == "counter"));
    }
}
