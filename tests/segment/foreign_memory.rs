//! `place_at`: locks in memory that other libraries have mapped.

use std::fs::{self, File};
use std::ops::Deref;
use std::process::Command;
use std::ptr::NonNull;

use crate::support::{
    Child, Gate, TestFile, TestName, dead_owner, die, expect_poisoned, holder_of, on_stage, spawn,
};
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use shared_memory::{Shmem, ShmemConf};
use shm_sync::{LockError, ShmCondvar, ShmMutex, ShmSafe, place_at};

/// The shared data of both processes.
#[derive(ShmSafe)]
#[repr(C)]
struct Mailbox {
    letter: ShmMutex<Option32>,
    changed: ShmCondvar,
    rest: [u8; 100],
}

/// An `Option<u32>` with a fixed layout.
#[derive(ShmSafe, Clone, Copy, Debug, PartialEq)]
#[repr(C, u8)]
enum Option32 {
    None,
    Some(u32),
}

fn mailbox() -> Mailbox {
    Mailbox {
        letter: ShmMutex::new(Option32::None),
        changed: ShmCondvar::new(),
        rest: [7; 100],
    }
}

impl Mailbox {
    /// Waits until the mailbox is empty, and puts a letter into it.
    fn put(&self, letter: u32) {
        let held = self.letter.lock().unwrap();
        let mut held = self
            .changed
            .wait_while(held, |letter| *letter != Option32::None)
            .unwrap();
        *held = Option32::Some(letter);
        self.changed.notify_all();
    }

    /// Waits until there is a letter, and takes it.
    fn take(&self) -> u32 {
        let held = self.letter.lock().unwrap();
        let mut held = self
            .changed
            .wait_while(held, |letter| *letter == Option32::None)
            .unwrap();
        let Option32::Some(letter) = std::mem::replace(&mut *held, Option32::None) else {
            unreachable!("the wait ends when there is a letter");
        };
        self.changed.notify_all();
        letter
    }
}

/// A mailbox in memory that `M` owns.
struct In<M> {
    at: NonNull<Mailbox>,
    _memory: M,
}

impl<M> In<M> {
    /// # Safety
    ///
    /// * The memory at `base` is shared, aligned to a page and as long as a mailbox.
    /// * The memory stays mapped as long as `memory` exists.
    /// * No other thread or process uses the memory yet.
    unsafe fn place(base: *mut u8, memory: M) -> Self {
        let at = NonNull::new(base.cast()).unwrap();
        // SAFETY: by the three clauses, the memory is valid, aligned and unused. It
        // outlives every borrow, because `_memory` is in the same struct.
        let placed: &Mailbox = unsafe { place_at(at, mailbox()) }.unwrap();
        assert_eq!(std::ptr::from_ref(placed), at.as_ptr());
        Self {
            at,
            _memory: memory,
        }
    }

    /// # Safety
    ///
    /// * The memory at `base` is shared and aligned to a page, and holds a mailbox that
    ///   [`place`](Self::place) has initialised.
    /// * The memory stays mapped as long as `memory` exists.
    unsafe fn find(base: *mut u8, memory: M) -> Self {
        Self {
            at: NonNull::new(base.cast()).unwrap(),
            _memory: memory,
        }
    }
}

impl<M> Deref for In<M> {
    type Target = Mailbox;

    fn deref(&self) -> &Mailbox {
        // SAFETY: both constructors require a mailbox at this address that lives as
        // long as `_memory`, which is in the same struct.
        unsafe { self.at.as_ref() }
    }
}

/// Maps an unnamed file with `memmap2`. Children that are forked later share the
/// memory.
fn unnamed(len: usize) -> MmapRaw {
    let file = File::from(memfd_create("shm-sync-test", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(len as u64).unwrap();
    MmapOptions::new().len(len).map_raw(&file).unwrap()
}

/// Checks a lock in foreign memory. `other` opens the same memory in another process.
fn check<M, N>(created: &In<M>, other: impl Fn() -> In<N>) {
    const LETTERS: u32 = 1_000;
    let reader = spawn(|| {
        let opened = other();
        for letter in 0..LETTERS {
            assert_eq!(opened.take(), letter);
        }
    });
    (0..LETTERS).for_each(|letter| created.put(letter));
    reader.join();

    let locked = Gate::new();
    let mut holder = spawn(|| {
        let opened = other();
        let mut letter = opened.letter.lock().unwrap();
        *letter = Option32::Some(99);
        locked.open();
        nix::unistd::pause();
    });
    locked.pass();
    assert!(matches!(
        created.letter.try_lock(),
        Err(LockError::WouldBlock)
    ));
    assert_eq!(created.letter.holder().unwrap().pid, holder.pid());
    let waiter = spawn(|| {
        let opened = other();
        let poisoned = expect_poisoned(opened.letter.lock());
        assert_eq!(*poisoned.into_inner(), Option32::Some(99));
    });
    waiter.wait_until_asleep();
    holder.kill();
    waiter.join();
    let poisoned = expect_poisoned(created.letter.lock());
    assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
    drop(poisoned.recover(|letter| *letter = Option32::None));
    assert!(!created.letter.is_poisoned());
    assert!(created.rest.iter().all(|byte| *byte == 7));
}

on_stage! {
    // `map_anon` maps privately, so only threads of one process share the memory.
    fn smoke() {
        let mut memory = MmapMut::map_anon(size_of::<Mailbox>()).unwrap();
        let base = memory.as_mut_ptr();
        // SAFETY: the new memory is as long as a mailbox, `memmap2` aligns it to a
        // page, and no other thread uses it.
        let created = unsafe { In::place(base, memory) };
        created.put(5);
        assert_eq!(created.take(), 5);
    }

    fn memmap2_over_unnamed_file_is_shared_by_fork() {
        let memory = unnamed(size_of::<Mailbox>());
        let base = memory.as_mut_ptr();
        // SAFETY: the new memory is as long as a mailbox and aligned to a page, and
        // unused.
        let created = unsafe { In::place(base, memory) };
        // SAFETY: the child inherits the mapping with the mailbox, and never unmaps it.
        check(&created, || unsafe { In::find(base, ()) });
    }

    fn memmap2_over_file() {
        let path = TestFile::new("memmap2");
        let file = File::create_new(&*path).unwrap();
        // An offset leaves room for a foreign header. It is a multiple of the size of
        // pages, which have up to 64 KiB.
        const OFFSET: usize = 1 << 16;
        file.set_len(2 * OFFSET as u64).unwrap();
        let open = || File::options().read(true).write(true).open(&*path).unwrap();
        let map = |file: &File| MmapOptions::new().offset(OFFSET as u64).map_raw(file).unwrap();
        let memory: MmapRaw = map(&open());
        let base = memory.as_mut_ptr();
        // SAFETY: the new memory is longer than a mailbox, aligned to a page, and
        // unused.
        let created = unsafe { In::place(base, memory) };
        check(&created, || {
            let memory = map(&open());
            let base = memory.as_mut_ptr();
            // SAFETY: the mapping is of the same file and offset, so it holds the
            // mailbox.
            unsafe { In::find(base, memory) }
        });
        drop(created);
        let bytes = fs::read(&*path).unwrap();
        let before = &bytes[..OFFSET];
        assert!(before.iter().all(|byte| *byte == 0), "no byte before the mailbox is changed");
        let end = OFFSET + size_of::<Mailbox>();
        assert!(bytes[end..].iter().all(|byte| *byte == 0), "no byte after the mailbox is changed");
    }

    fn shared_memory_crate() {
        let name = TestName::new("shared-memory");
        let conf = || ShmemConf::new().os_id(&*name).size(size_of::<Mailbox>());
        let memory: Shmem = conf().create().unwrap();
        let base = memory.as_ptr();
        // SAFETY: the new memory is as long as a mailbox, aligned to a page, and
        // unused.
        let created = unsafe { In::place(base, memory) };
        check(&created, || {
            let memory = conf().open().unwrap();
            let base = memory.as_ptr();
            // SAFETY: the mapping is of the same object, so it holds the mailbox.
            unsafe { In::find(base, memory) }
        });
    }

    fn shared_memory_crate_with_executed_program() {
        let name = TestName::new("shared-memory-exec");
        let conf = ShmemConf::new().os_id(&*name).size(size_of::<Mailbox>());
        let memory = conf.create().unwrap();
        let base = memory.as_ptr();
        // SAFETY: the new memory is as long as a mailbox, aligned to a page, and
        // unused.
        let created = unsafe { In::place(base, memory) };
        let mut program = Command::new(std::env::current_exe().unwrap())
            .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(executed_program))
            .env("SHM_SYNC_TEST_NAME", &*name)
            .spawn()
            .unwrap();
        let pid = program.id();
        created.put(7);
        // The program puts its answer there and dies with the lock held.
        program.wait().unwrap();
        let poisoned = expect_poisoned(created.letter.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(pid));
        assert_eq!(*poisoned.into_inner(), Option32::Some(8));
    }

    /// Runs in the process that the test above starts. Without it, it does nothing.
    fn executed_program() {
        if let Ok(name) = std::env::var("SHM_SYNC_TEST_NAME") {
            let memory = ShmemConf::new().os_id(name).open().unwrap();
            let base = memory.as_ptr();
            // SAFETY: the test has placed a mailbox in this object.
            let opened = unsafe { In::find(base, memory) };
            let letter = opened.take();
            let mut held = opened.letter.lock().unwrap();
            *held = Option32::Some(letter + 1);
            die();
        }
    }

    fn objects_in_foreign_memory_are_independent() {
        const LOCKS: usize = 50;
        let memory = unnamed(LOCKS * size_of::<ShmMutex<u64>>());
        let base: NonNull<ShmMutex<u64>> = NonNull::new(memory.as_mut_ptr().cast()).unwrap();
        let locks: Vec<&ShmMutex<u64>> = (0..LOCKS)
            .map(|number| {
                // SAFETY: the memory has room for `LOCKS` mutexes.
                let at = unsafe { base.add(number) };
                // SAFETY: `at` is valid, aligned and unused; `memory` outlives `locks`.
                unsafe { place_at(at, ShmMutex::new(number as u64)) }.unwrap()
            })
            .collect();
        let mut holders: Vec<Child> = locks[..5].iter().map(|lock| holder_of(*lock)).collect();
        for (number, lock) in locks.iter().enumerate().skip(5) {
            assert_eq!(*lock.try_lock().unwrap(), number as u64);
        }
        for (holder, lock) in holders.iter_mut().zip(&locks) {
            holder.kill();
            assert_eq!(dead_owner(expect_poisoned(lock.lock()).cause()), Some(holder.pid()));
        }
        drop(locks);
        drop(memory);
    }
}
