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

/// What the two sides share.
#[derive(ShmSafe)]
#[repr(C)]
struct Mailbox {
    letter: ShmMutex<Option32>,
    changed: ShmCondvar,
    rest: [u8; 100],
}

/// An `Option<u32>` whose layout is known.
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
    /// Waits until it is empty.
    fn put(&self, letter: u32) {
        let held = self.letter.lock().unwrap();
        let mut held = self
            .changed
            .wait_while(held, |letter| *letter != Option32::None)
            .unwrap();
        *held = Option32::Some(letter);
        self.changed.notify_all();
    }

    /// Waits until there is a letter.
    fn take(&self) -> u32 {
        let held = self.letter.lock().unwrap();
        let mut held = self
            .changed
            .wait_while(held, |letter| *letter == Option32::None)
            .unwrap();
        let Option32::Some(letter) = std::mem::replace(&mut *held, Option32::None) else {
            unreachable!("it waits while there is none");
        };
        self.changed.notify_all();
        letter
    }
}

/// A mailbox in memory that is `M`'s.
struct In<M> {
    at: NonNull<Mailbox>,
    _memory: M,
}

impl<M> In<M> {
    /// # Safety
    ///
    /// The memory is at `base`, shared, aligned to a page, as long as a mailbox,
    /// and stays for as long as `memory`; nobody else uses it yet.
    unsafe fn place(base: *mut u8, memory: M) -> Self {
        let at = NonNull::new(base.cast()).unwrap();
        // SAFETY: the caller's promise; no borrow outlives the memory, which is
        // beside it.
        let placed: &Mailbox = unsafe { place_at(at, mailbox()) }.unwrap();
        assert_eq!(std::ptr::from_ref(placed), at.as_ptr());
        Self {
            at,
            _memory: memory,
        }
    }

    /// # Safety
    ///
    /// As of [`place`](Self::place); but a mailbox is placed there already.
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
        // SAFETY: placed there, as the constructors were promised, and the memory
        // is beside it.
        unsafe { self.at.as_ref() }
    }
}

/// Memory that `memmap2` has mapped, shared with those who are forked later.
fn nameless(len: usize) -> MmapRaw {
    let file = File::from(memfd_create("shm-sync-test", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(len as u64).unwrap();
    MmapOptions::new().len(len).map_raw(&file).unwrap()
}

/// What a lock in anybody's memory must do. `other` opens the same memory in
/// another process.
fn check<M, N>(mine: &In<M>, other: impl Fn() -> In<N>) {
    const LETTERS: u32 = 1_000;
    let reader = spawn(|| {
        let theirs = other();
        for letter in 0..LETTERS {
            assert_eq!(theirs.take(), letter);
        }
    });
    (0..LETTERS).for_each(|letter| mine.put(letter));
    reader.join();

    let locked = Gate::new();
    let mut holder = spawn(|| {
        let theirs = other();
        let mut letter = theirs.letter.lock().unwrap();
        *letter = Option32::Some(99);
        locked.open();
        nix::unistd::pause();
    });
    locked.pass();
    assert!(matches!(mine.letter.try_lock(), Err(LockError::WouldBlock)));
    assert_eq!(mine.letter.holder().unwrap().pid, holder.pid());
    let waiter = spawn(|| {
        let theirs = other();
        let poisoned = expect_poisoned(theirs.letter.lock());
        assert_eq!(*poisoned.into_inner(), Option32::Some(99));
    });
    waiter.wait_until_asleep();
    holder.kill();
    waiter.join();
    let poisoned = expect_poisoned(mine.letter.lock());
    assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
    drop(poisoned.recover(|letter| *letter = Option32::None));
    assert!(!mine.letter.is_poisoned());
    assert!(mine.rest.iter().all(|byte| *byte == 7));
}

on_stage! {
    // `map_anon` maps privately: for the threads of one process.
    fn smoke() {
        let mut memory = MmapMut::map_anon(size_of::<Mailbox>()).unwrap();
        let base = memory.as_mut_ptr();
        // SAFETY: new memory, of that length; `memmap2` aligns it to a page.
        let mine = unsafe { In::place(base, memory) };
        mine.put(5);
        assert_eq!(mine.take(), 5);
    }

    fn memmap2_over_unnamed_file_is_shared_by_fork() {
        let memory = nameless(size_of::<Mailbox>());
        let base = memory.as_mut_ptr();
        // SAFETY: as above.
        let mine = unsafe { In::place(base, memory) };
        // SAFETY: what was placed there came over the fork, and nobody unmaps it.
        check(&mine, || unsafe { In::find(base, ()) });
    }

    fn memmap2_over_file() {
        let path = TestFile::new("memmap2");
        let file = File::create_new(&*path).unwrap();
        file.set_len(8192).unwrap();
        let open = || File::options().read(true).write(true).open(&*path).unwrap();
        // Not at the start of the file: a foreign header may come first.
        let map = |file: &File| MmapOptions::new().offset(4096).map_raw(file).unwrap();
        let memory: MmapRaw = map(&open());
        let base = memory.as_mut_ptr();
        // SAFETY: new memory, longer than a mailbox, aligned to a page.
        let mine = unsafe { In::place(base, memory) };
        check(&mine, || {
            let memory = map(&open());
            let base = memory.as_mut_ptr();
            // SAFETY: the same file, so what was placed is there.
            unsafe { In::find(base, memory) }
        });
        drop(mine);
        let bytes = fs::read(&*path).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 0), "nothing before it is touched");
        let end = 4096 + size_of::<Mailbox>();
        assert!(bytes[end..].iter().all(|byte| *byte == 0), "nor after it");
    }

    fn shared_memory_crate() {
        let name = TestName::new("shared-memory");
        let conf = || ShmemConf::new().os_id(&*name).size(size_of::<Mailbox>());
        let memory: Shmem = conf().create().unwrap();
        let base = memory.as_ptr();
        // SAFETY: new memory, of that length, aligned to a page.
        let mine = unsafe { In::place(base, memory) };
        check(&mine, || {
            let memory = conf().open().unwrap();
            let base = memory.as_ptr();
            // SAFETY: the same object, so what was placed is there.
            unsafe { In::find(base, memory) }
        });
    }

    fn shared_memory_crate_with_executed_program() {
        let name = TestName::new("shared-memory-exec");
        let conf = ShmemConf::new().os_id(&*name).size(size_of::<Mailbox>());
        let memory = conf.create().unwrap();
        let base = memory.as_ptr();
        // SAFETY: new memory, of that length, aligned to a page.
        let mine = unsafe { In::place(base, memory) };
        let mut program = Command::new(std::env::current_exe().unwrap())
            .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(executed_program))
            .env("SHM_SYNC_TEST_NAME", &*name)
            .spawn()
            .unwrap();
        let pid = program.id();
        mine.put(7);
        // It dies with the lock held, after it has put its answer there.
        program.wait().unwrap();
        let poisoned = expect_poisoned(mine.letter.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(pid));
        assert_eq!(*poisoned.into_inner(), Option32::Some(8));
    }

    /// The other side of the test above; alone, it has nothing to do.
    fn executed_program() {
        if let Ok(name) = std::env::var("SHM_SYNC_TEST_NAME") {
            let memory = ShmemConf::new().os_id(name).open().unwrap();
            let base = memory.as_ptr();
            // SAFETY: the starter has placed a mailbox there.
            let theirs = unsafe { In::find(base, memory) };
            let letter = theirs.take();
            let mut held = theirs.letter.lock().unwrap();
            *held = Option32::Some(letter + 1);
            die();
        }
    }

    fn objects_in_foreign_memory_are_independent() {
        const LOCKS: usize = 50;
        let memory = nameless(LOCKS * size_of::<ShmMutex<u64>>());
        let base: NonNull<ShmMutex<u64>> = NonNull::new(memory.as_mut_ptr().cast()).unwrap();
        let locks: Vec<&ShmMutex<u64>> = (0..LOCKS)
            .map(|number| {
                // SAFETY: the memory is long enough.
                let at = unsafe { base.add(number) };
                // SAFETY: valid, aligned, used by nobody; `memory` outlives `locks`.
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
