//! Segments without a name: they are sealed, and shared by fork, by inheritance over
//! `exec` and over Unix sockets. No other descriptor is accepted as one.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::process::Command;

use crate::support::{Gate, TestFile, TestName, dead_owner, expect_poisoned, on_stage, spawn};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};
use nix::unistd::ftruncate;
use shm_sync::{
    Backing, CorruptHeader, Error, Segment, SegmentOptions, ShmCondvar, ShmMutex, ShmSafe,
};

type Counter = ShmMutex<u64>;

#[derive(ShmSafe)]
#[repr(C)]
struct Desk {
    turn: ShmMutex<u64>,
    changed: ShmCondvar,
}

fn anonymous() -> Segment<Counter> {
    Segment::anonymous(Counter::new(0)).unwrap()
}

fn descriptor<T: ShmSafe>(segment: &Segment<T>) -> BorrowedFd<'_> {
    Segment::as_fd(segment).expect("a memfd segment has a descriptor")
}

/// Returns the error with which a descriptor is refused.
fn refusal(file: impl Into<OwnedFd>) -> Error {
    SegmentOptions::<Counter>::new()
        .from_fd(file.into())
        .expect_err("the descriptor is refused")
}

/// Creates a memfd with these bytes and seals.
fn memfd(bytes: &[u8], seals: SealFlag) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("shm-sync-test", flags).unwrap());
    file.write_all(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

fn send(socket: BorrowedFd<'_>, file: BorrowedFd<'_>) {
    let files = [file.as_raw_fd()];
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &[ControlMessage::ScmRights(&files)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
}

fn receive(socket: BorrowedFd<'_>) -> OwnedFd {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags).unwrap();
    let mut files = message
        .cmsgs()
        .unwrap()
        .filter_map(|message| match message {
            ControlMessageOwned::ScmRights(files) => files.first().copied(),
            _ => None,
        });
    // SAFETY: the kernel has just given this descriptor to this process.
    unsafe { OwnedFd::from_raw_fd(files.next().unwrap()) }
}

#[test]
fn smoke() {
    let mine = anonymous();
    assert_eq!(Segment::backing(&mine), Backing::Memfd);
    assert_eq!(Segment::address(&mine), None);
    let file = descriptor(&mine).try_clone_to_owned().unwrap();
    let same = SegmentOptions::<Counter>::new().from_fd(file).unwrap();
    *same.lock().unwrap() += 1;
    drop(same);
    assert_eq!(*mine.lock().unwrap(), 1);
    Segment::flush(&mine).unwrap();
    // A child that another test forks meanwhile has the mapping as well.
    let attached = Segment::attached_pids(&mine).unwrap();
    assert!(attached.contains(&std::process::id()), "{attached:?}");
}

#[test]
fn memfd_size_is_sealed() {
    let mine = anonymous();
    let file = descriptor(&mine);
    let len = Segment::mapped_len(&mine) as i64;
    for other in [0, len - 1, len + 1] {
        assert_eq!(ftruncate(file, other), Err(Errno::EPERM), "{other}");
    }
    let more = fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
    assert_eq!(more, Err(Errno::EPERM), "no more seals can be added");
    let flags = FdFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
}

#[test]
fn memfd_has_label() {
    let options = SegmentOptions::new();
    let mine = options.anonymous("label", Counter::new(0)).unwrap();
    let link = format!("/proc/self/fd/{}", descriptor(&mine).as_raw_fd());
    let target = std::fs::read_link(link).unwrap();
    assert_eq!(target.to_str(), Some("/memfd:shm-sync:label (deleted)"));
}

#[test]
fn from_fd_refuses_shrinkable_files() {
    let name = TestName::new("unsealed");
    let _posix = Segment::create(&name, Counter::new(0)).unwrap();
    let path = TestFile::new("unsealed");
    let file = Segment::create(&path, Counter::new(0)).unwrap();
    let mut good = vec![0; Segment::mapped_len(&file)];
    File::open(&*path)
        .unwrap()
        .read_exact_at(&mut good, 0)
        .unwrap();
    let by_name = |path: &str| File::options().read(true).write(true).open(path).unwrap();
    let (pipe, _other_end) = nix::unistd::pipe().unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let unsealed = [
        by_name(&name.path()).into(),
        by_name(&path).into(),
        memfd(&good, SealFlag::empty()).into(),
        memfd(&good, SealFlag::F_SEAL_GROW).into(),
        memfd(&good, SealFlag::F_SEAL_SEAL).into(),
        File::open("/dev/null").unwrap().into(),
        File::open("/tmp").unwrap().into(),
        pipe,
        socket.into(),
    ];
    for file in unsealed {
        let what = format!("/proc/self/fd/{}", file.as_raw_fd());
        let what = std::fs::read_link(what).unwrap();
        let error = refusal(file);
        assert!(matches!(error, Error::Unsealed), "{what:?}: {error:?}");
    }
}

#[test]
fn from_fd_refuses_foreign_sealed_files() {
    let shrink = SealFlag::F_SEAL_SHRINK;
    let mine = anonymous();
    let mut good = vec![0; Segment::mapped_len(&mine)];
    let file = File::from(descriptor(&mine).try_clone_to_owned().unwrap());
    file.read_exact_at(&mut good, 0).unwrap();

    for bytes in [&b""[..], b"short", &[0; 5000], &[0xff; 5000]] {
        assert!(matches!(
            refusal(memfd(bytes, shrink)),
            Error::NotASegment { .. }
        ));
    }
    for bytes in [&good[..good.len() - 1], &[&good[..], b"x"].concat()] {
        assert!(matches!(
            refusal(memfd(bytes, shrink)),
            Error::Corrupt {
                reason: CorruptHeader::WrongSize { .. },
                ..
            }
        ));
    }
    let other = SegmentOptions::<ShmMutex<i64>>::new().from_fd(file.into());
    assert!(matches!(other, Err(Error::LayoutMismatch { .. })));

    // Read permission alone does not permit to lock.
    let link = format!("/proc/self/fd/{}", descriptor(&mine).as_raw_fd());
    let read_only = File::open(link).unwrap();
    assert!(matches!(refusal(read_only), Error::PermissionDenied { .. }));
    let read_only_seals = shrink | SealFlag::F_SEAL_WRITE;
    assert!(matches!(
        refusal(memfd(&good, read_only_seals)),
        Error::PermissionDenied { .. }
    ));
}

on_stage! {
    fn forked_child_shares_memfd() {
        let mine = anonymous();
        let children: Vec<_> = (0..4)
            .map(|_| spawn(|| (0..500).for_each(|_| *mine.lock().unwrap() += 1)))
            .collect();
        children.into_iter().for_each(crate::support::Child::join);
        assert_eq!(*mine.lock().unwrap(), 2_000);
        let mut holder = crate::support::holder_of(&mine);
        assert_eq!(Segment::attached_pids(&mine).unwrap(), [std::process::id(), holder.pid()]);
        holder.kill();
        let cause = expect_poisoned(mine.lock()).cause();
        assert_eq!(dead_owner(cause), Some(holder.pid()));
    }

    fn executed_program_inherits_descriptor() {
        let mine = anonymous();
        let file = descriptor(&mine).try_clone_to_owned().unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let mut program = Command::new(std::env::current_exe().unwrap())
            .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(executed_program))
            .env("SHM_SYNC_TEST_FD", file.as_raw_fd().to_string())
            .spawn()
            .unwrap();
        assert_eq!(program.wait().unwrap().code(), Some(42));
        let cause = expect_poisoned(mine.lock()).cause();
        assert_eq!(dead_owner(cause), Some(program.id()), "the program ended with the lock held");
        mine.clear_poison();
        assert_eq!(*mine.lock().unwrap(), 500);
    }

    /// Runs in the process that the test above starts. Without it, it does nothing.
    fn executed_program() {
        if let Ok(number) = std::env::var("SHM_SYNC_TEST_FD") {
            // SAFETY: the test has left this descriptor open for this process.
            let file = unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) };
            let theirs = SegmentOptions::<Counter>::new().from_fd(file).unwrap();
            for _ in 0..500 {
                *theirs.lock().unwrap() += 1;
            }
            std::mem::forget(theirs.lock().unwrap());
        }
    }

    fn descriptor_is_sent_over_unix_socket() {
        const ROUNDS: u64 = 200;
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let (finished, held) = (Gate::new(), Gate::new());
        // The worker is forked before the segment exists.
        let mut worker = spawn(|| {
            let file = receive(theirs.as_fd());
            let desk = SegmentOptions::<Desk>::new().from_fd(file).unwrap();
            let mut turn = desk.turn.lock().unwrap();
            for _ in 0..ROUNDS {
                turn = desk.changed.wait_while(turn, |turn| *turn % 2 == 0).unwrap();
                *turn += 1;
                desk.changed.notify_all();
            }
            drop(turn);
            finished.pass();
            let _held = desk.turn.lock().unwrap();
            held.open();
            nix::unistd::pause();
        });
        let desk = Desk {
            turn: ShmMutex::new(0),
            changed: ShmCondvar::new(),
        };
        let desk = Segment::anonymous(desk).unwrap();
        send(ours.as_fd(), descriptor(&desk));
        let mut turn = desk.turn.lock().unwrap();
        for _ in 0..ROUNDS {
            turn = desk.changed.wait_while(turn, |turn| *turn % 2 == 1).unwrap();
            *turn += 1;
            desk.changed.notify_all();
        }
        turn = desk.changed.wait_while(turn, |turn| *turn < 2 * ROUNDS).unwrap();
        assert_eq!(*turn, 2 * ROUNDS);
        drop(turn);
        finished.open();
        held.pass();
        assert_eq!(Segment::attached_pids(&desk).unwrap(), [std::process::id(), worker.pid()]);
        worker.kill();
        let cause = expect_poisoned(desk.turn.lock()).cause();
        assert_eq!(dead_owner(cause), Some(worker.pid()));
    }

    fn memfd_outlives_creator() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let received = Gate::new();
        let creator = spawn(|| {
            let segment = Segment::anonymous(Counter::new(8)).unwrap();
            send(theirs.as_fd(), descriptor(&segment));
            received.pass();
        });
        let mine = SegmentOptions::<Counter>::new().from_fd(receive(ours.as_fd())).unwrap();
        received.open();
        creator.join();
        assert_eq!(*mine.lock().unwrap(), 8);
    }
}
