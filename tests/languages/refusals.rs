//! A peer refuses what it can't use.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use shm_sync::{Removal, Segment, SegmentOptions, ShmMutex};

use crate::build::{Compiler, Product};
use crate::peer::{Peer, peers};
use crate::support::{NOBODY, TestName, is_root_for, seccomp};
use crate::world::{Place, World, fingerprint};

fn is_rust(peer: &Peer) -> bool {
    peer.name == "Rust"
}

fn open(name: &str) -> String {
    format!("open {name} {}", fingerprint())
}

#[test]
fn other_type_is_refused() {
    let name = TestName::new("languages-other-type");
    let _other = Segment::create(&name, ShmMutex::new(0_u64)).expect("the name is new");
    for peer in peers() {
        let mut peer = peer.start();
        peer.expect(&open(&name), "layout_mismatch");
        peer.end();
    }
}

#[test]
fn absent_name_is_reported() {
    let name = TestName::new("languages-absent");
    for peer in peers() {
        let mut peer = peer.start();
        peer.expect(&open(&name), "not_found");
        peer.end();
    }
}

#[test]
fn changed_headers_are_refused() {
    let place = Place::new("languages-header");
    let file = File::options()
        .read(true)
        .write(true)
        .open(place.name.path())
        .expect("the object is a file");
    let mut good = [0; 448];
    file.read_exact_at(&mut good, 0).expect("it has a header");
    let other_libc = if cfg!(target_env = "musl") { 1 } else { 2 };
    // Offset, new byte, reply.
    let changes: [(usize, u8, &str); 13] = [
        (0, b'S', "not_a_segment"),
        (8, 3, "unsupported_format"),
        (8, 99, "unsupported_format"),
        (12, other_libc, "layout_mismatch"),
        (12, 3, "layout_mismatch"),
        (13, 2, "layout_mismatch"),
        (14, 4, "layout_mismatch"),
        (15, 48, "layout_mismatch"),
        (16, 40, "layout_mismatch"),
        (17, 7, "corrupt"),
        (24, 1, "corrupt"),
        (39, 0x7f, "corrupt"),
        (56, good[56] ^ 1, "layout_mismatch"),
    ];
    for peer in peers() {
        let mut running = peer.start();
        for (offset, byte, reply) in changes {
            let mut changed = good;
            changed[offset] = byte;
            file.write_all_at(&changed, 0).expect("it can be written");
            let answer = running.ask(&open(&place.name));
            assert_eq!(answer, reply, "{peer:?}: byte {offset} is {byte}");
        }
        file.write_all_at(&good, 0).expect("it can be written");
        running.expect_ok(&open(&place.name));
        running.expect("increment 1", "ok 0");
        running.expect_ok("close");
        running.end();
    }
}

/// The mutexes of glibc and musl have different words.
#[test]
fn program_with_another_libc_is_refused() {
    let Some(compiler) = Compiler::foreign() else {
        println!("skipped: no C compiler of this machine is for another libc");
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/peers/peer.c");
    let program = compiler.compile(&source, Product::Program);
    let place = Place::new("languages-libc");
    let peer = Peer::of_program(compiler.program, program);
    let mut running = peer.start();
    running.expect(&open(&place.name), "layout_mismatch");
    running.end();
    place.segment.ledger();
}

/// A sandbox refuses a system call: the peer does without, or names what is missing.
#[test]
fn refused_system_calls_are_named() {
    let no_wiped_memory = || seccomp::refuse_wiped_memory(libc::EINVAL);
    let no_madvise = || seccomp::refuse(libc::SYS_madvise, libc::EPERM);
    let no_robust_lists = || seccomp::refuse(libc::SYS_get_robust_list, libc::ENOSYS);
    let refusals: [(fn(), &str); 3] = [
        (no_wiped_memory, "ok"),
        (no_madvise, "no_fork_detection"),
        (no_robust_lists, "no_robust_lists"),
    ];
    let place = Place::new("languages-calls");
    for peer in peers().iter().filter(|peer| !is_rust(peer)) {
        for (refuse, reply) in refusals {
            let mut running = peer.start_in(refuse);
            running.expect(&open(&place.name), reply);
            if reply == "ok" {
                running.expect("increment 100", "ok 0");
                running.expect("wait_for 9 5", "timed_out");
            }
            running.end();
        }
    }
}

#[test]
fn objects_that_are_no_segments_are_refused() {
    let name = TestName::new("languages-garbage");
    for bytes in [&[][..], b"short", &[0x55; 5000]] {
        name.write(bytes);
        for peer in peers() {
            let mut peer = peer.start();
            peer.expect(&open(&name), "not_a_segment");
            peer.end();
        }
    }
}

/// Bytes of the header that name the boot and the namespace.
const BOOT: u64 = 120;
const PID_NAMESPACE: u64 = 20;

#[test]
fn stale_locks_in_use_are_refused() {
    for peer in peers() {
        for (at, bytes, reply) in [
            (PID_NAMESPACE, &[0xee; 4][..], "foreign_pid_namespace"),
            (BOOT, &[0x5a; 16], "in_use"),
        ] {
            // This process is attached.
            let place = Place::new("languages-in-use");
            let file = File::options().write(true).open(place.name.path());
            let file = file.expect("the object is a file");
            file.write_all_at(bytes, at).expect("it can be written");
            let mut running = peer.start();
            running.expect(&open(&place.name), reply);
            running.end();
        }
    }
}

#[test]
fn stale_locks_are_reinitialised() {
    for holder in peers() {
        for peer in peers() {
            println!("{holder:?}, {peer:?}");
            let place = Place::new("languages-stale");
            let mut holder = holder.open(&place.name);
            holder.expect_ok("lock");
            holder.expect_ok("tear");
            let copy = TestName::new("languages-stale-copy");
            copy.write(&fs::read(place.name.path()).expect("it can be read"));
            let mut running = peer.start();
            running.expect_ok(&open(&copy));
            let pid = holder.pid();
            running.expect("lock", &format!("poisoned owner_died {pid} {pid}"));
            running.expect_ok("recover");
            running.expect_ok("unlock");
            running.expect("increment 1", "ok 0");
            running.expect("available", "ok 3");
            // Its locks are valid now, for each program.
            let copied = Segment::<World>::open(&copy).expect("it can be opened");
            assert_eq!(copied.ledger().total, 2, "the data of the copy");
            running.expect_ok("close");
            running.end();
            holder.expect_ok("unlock");
        }
    }
}

/// The byte ranges of docs/format.md: start and length.
const WRITERS: (i64, i64) = (1 << 62, 1 << 30);
const ATTACHED: (i64, i64) = (1 << 62, 1 << 31);
const REINIT: (i64, i64) = ((1 << 62) - 2, 1);

fn lock(file: &File, kind: i32, (start, len): (i64, i64)) {
    let request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: the struct is valid for reads during the call.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &request) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

/// Another process reinitialises stale locks, in the order of the Rust crate: it locks
/// `REINIT`, then its own byte, then all of `WRITERS`, and writes the header last. A
/// remover locks `ATTACHED` for a moment.
#[test]
fn opener_waits_for_a_reinitialisation() {
    let own_byte = (WRITERS.0 + 77, 1);
    let steps: [&[(i32, (i64, i64))]; 4] = [
        &[(libc::F_WRLCK, REINIT)],
        &[(libc::F_WRLCK, REINIT), (libc::F_RDLCK, own_byte)],
        &[(libc::F_WRLCK, REINIT), (libc::F_WRLCK, WRITERS)],
        &[(libc::F_WRLCK, ATTACHED)],
    ];
    let name = TestName::new("languages-reinit");
    let segment = SegmentOptions::new()
        .removal(Removal::Persistent)
        .create(&name, World::new())
        .expect("the name is new");
    drop(segment);
    for peer in peers() {
        for step in steps {
            let file = File::options().read(true).write(true).open(name.path());
            let file = file.expect("the object is a file");
            let mut namespace = [0; 4];
            file.read_exact_at(&mut namespace, 20)
                .expect("it has a header");
            for (kind, range) in step {
                lock(&file, *kind, *range);
            }
            file.write_all_at(&[0xee; 4], 20)
                .expect("it can be written");
            let mut running = peer.start();
            running.tell(&open(&name));
            // A peer that does not wait replies now.
            std::thread::sleep(Duration::from_millis(100));
            file.write_all_at(&namespace, 20)
                .expect("it can be written");
            drop(file); // unlocks
            let reply = running.reply();
            assert_eq!(reply, "ok", "{peer:?}: {step:?}");
            running.expect("increment 1", "ok 0");
            running.expect_ok("close");
            running.end();
        }
    }
}

#[test]
fn words_of_a_lock_are_checked() {
    for peer in peers() {
        for (namespace, reply) in [
            (0xefff_0001_u32, "foreign_pid_namespace"),
            (u32::MAX, "not_placed"),
        ] {
            let place = Place::new("languages-lock-words");
            let mut running = peer.open(&place.name);
            let file = File::options()
                .read(true)
                .write(true)
                .open(place.name.path());
            let file = file.expect("the object is a file");
            let mut offset = [0; 8];
            file.read_exact_at(&mut offset, 32)
                .expect("it has a header");
            // The ledger is the first field. The namespace is in the last eight bytes
            // of a mutex without data.
            let at = u64::from_le_bytes(offset) + size_of::<ShmMutex<()>>() as u64 - 8;
            file.write_all_at(&namespace.to_ne_bytes(), at)
                .expect("it can be written");
            running.expect("lock", reply);
            running.expect("try_lock", reply);
            running.expect("unlock", "not_held");
            running.expect("worker 1 5", "ok");
            running.end();
        }
    }
}

#[test]
fn foreign_owner_is_refused() {
    if !is_root_for("foreign_owner_is_refused") {
        return;
    }
    let place = Place::new("languages-owner");
    chown(place.name.path(), Some(NOBODY), None).expect("this is root");
    for peer in peers() {
        let mut peer = peer.start();
        peer.expect(&open(&place.name), "wrong_owner");
        peer.end();
    }
}

#[test]
fn mode_for_all_users_is_refused() {
    let place = Place::new("languages-mode");
    let mode = fs::Permissions::from_mode(0o666);
    fs::set_permissions(place.name.path(), mode).expect("it is this user's");
    for peer in peers() {
        let mut peer = peer.start();
        peer.expect(&open(&place.name), "too_permissive");
        peer.end();
    }
}

#[test]
fn paths_and_kinds_are_checked() {
    let place = Place::new("languages-paths");
    for peer in peers().iter().filter(|peer| !is_rust(peer)) {
        let mut running = peer.open(&place.name);
        for (path, kind) in [
            (".ledger", "ShmMutex"),
            ("ledger", "ShmMutex"),
            ("workers[0].lock", "ShmMutex"),
            (".changed", "ShmCondvar"),
            (".permits", "ShmSemaphore"),
            (".gate", "ShmEvent"),
            (".bytes", "ShmChannel"),
            (".workers[3].lock", "ShmMutex"),
        ] {
            let reply = running.ask(&format!("find {path} {kind}"));
            assert_eq!(reply, "ok", "{peer:?}: {path}");
        }
        for path in [
            ".absent",
            ".ledger.absent",
            ".workers[4].lock",
            ".workers[-1].lock",
            ".workers[].lock",
            ".workers[0]lock",
            ".ledgerx",
            ".",
            "..",
            ".ledger.",
            ".ledger.data[0]",
            ".workers[99999999999999999999].lock",
        ] {
            let reply = running.ask(&format!("find {path} ShmMutex"));
            assert_eq!(reply, "no_such_field", "{peer:?}: {path}");
        }
        let reply = running.ask("find .ledger ShmCondvar");
        assert_eq!(reply, "layout_mismatch", "{peer:?}: no condition variable");
        running.end();
    }
}
