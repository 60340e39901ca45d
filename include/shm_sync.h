/* shm_sync.h: locks in shared memory that survive the death of their users, for C11 and
 * C++17. The Rust crate shm-sync defines the memory format (docs/format.md) and creates
 * the segments. C, C++, Python and Rust programs use them at the same time.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * USE
 *
 * The header is the whole library. There is nothing to link but pthreads:
 *
 *     gcc -std=c11 -pthread -isystem include jobs.c -o jobs
 *
 * With -isystem instead of -I, the compiler reports no warnings in this header. It has
 * none under -Wall -Wextra -Wconversion, but a C++ program with -Wold-style-cast would
 * get many.
 *
 * `shm-sync export-c /jobs > jobs.h` writes the C struct of the value of a segment.
 *
 *     #include "shm_sync.h"
 *     #include "jobs.h"
 *
 *     shm_sync_segment segment;
 *     if (shm_sync_open(&segment, "/jobs", JOBS_FINGERPRINT) != SHM_SYNC_OK) { ... }
 *     struct jobs *jobs = (struct jobs *)segment.value;
 *     switch (shm_sync_lock(&jobs->pending.lock)) {
 *     case SHM_SYNC_POISONED:       // held, but the last holder died: repair the data
 *         jobs->pending.data = 0;
 *         shm_sync_recover(&jobs->pending.lock);
 *         // fall through
 *     case SHM_SYNC_OK:
 *         jobs->pending.data += 1;
 *         shm_sync_unlock(&jobs->pending.lock);
 *         break;
 *     default: ...                  // not held
 *     }
 *     shm_sync_close(&segment);
 *
 * INDEX
 *
 * All other names begin with shm_sync_i_ or SHM_SYNC_I_ and are internal. The comment
 * at each definition says more.
 *
 * Results      shm_sync_result, shm_sync_text
 * Segments     shm_sync_segment, shm_sync_open, shm_sync_open_fd, shm_sync_close
 *              shm_sync_open_with, shm_sync_options, shm_sync_default_options
 *              shm_sync_fingerprint, shm_sync_type_table
 * Objects      shm_sync_find, shm_sync_object, shm_sync_kind
 *              shm_sync_semaphore_at, shm_sync_channel_at, shm_sync_pipe_at
 * Mutexes      shm_sync_mutex, shm_sync_lock, shm_sync_try_lock, shm_sync_lock_for
 *              shm_sync_unlock, SHM_SYNC_MAX_LOCKS_HELD
 * Poison       shm_sync_recover, shm_sync_poison, shm_sync_poison_cause
 *              shm_sync_cause, shm_sync_poison_kind
 * Condition    shm_sync_condvar, shm_sync_wait, shm_sync_wait_for
 * variables    shm_sync_notify_one, shm_sync_notify_all
 * Semaphores   shm_sync_permit, shm_sync_semaphore_acquire
 *              shm_sync_semaphore_try_acquire, shm_sync_semaphore_acquire_for
 *              shm_sync_permit_release, shm_sync_semaphore_available
 * Events       shm_sync_event, shm_sync_event_set, shm_sync_event_reset
 *              shm_sync_event_is_set, shm_sync_event_wait
 *              shm_sync_event_try_wait, shm_sync_event_wait_for
 * Channels:    shm_sync_sender, shm_sync_sender_open, shm_sync_sender_close
 * senders      shm_sync_send, shm_sync_try_send, shm_sync_send_for
 *              shm_sync_send_many, shm_sync_send_many_for
 *              shm_sync_wait_for_receiver, shm_sync_channel_len
 * Channels:    shm_sync_receiver, shm_sync_receiver_open, shm_sync_receiver_close
 * receivers    shm_sync_recv, shm_sync_try_recv, shm_sync_recv_for
 *              shm_sync_recv_many, shm_sync_recv_many_for
 *              shm_sync_wait_for_sender, shm_sync_channel_len
 * Pipes        as channels, and shm_sync_write, shm_sync_write_for, shm_sync_read
 *              shm_sync_read_for
 * Format       SHM_SYNC_FORMAT
 *
 * C++, in the namespace shm_sync, which is at the end of this file:
 *
 * Results      result, text
 * Time         timeout (a duration or a time_point), nanoseconds, try_to_lock
 * Segments     segment: open, open_fd, close, value, find, get
 * Mutexes      guard: held, poisoned, outcome, recover, unlock; lock_or_recover
 * Condition    guard: wait, wait_for, both also with a predicate
 * variables
 * Semaphores   permit: outcome, index, after_death, release
 * Events       event: set, reset, is_set, wait, try_wait, wait_for
 * Channels     sender: open, send, try_send, send_for, send_many, send_many_for
 *              wait_for_receiver, close
 *              receiver: open, recv, try_recv, recv_for, recv_many, recv_many_for
 *              wait_for_sender, close; begin, end, ended (a range of messages)
 * Pipes        writer: open, write, write_for, close
 *              reader: open, read, read_for, close
 *
 * REQUIREMENTS
 *
 * Linux on a 64-bit machine, glibc 2.30 or musl 1.2, gcc or clang. Headers may be
 * included in any order, and no feature macro is necessary.
 *
 * The mutexes of glibc and musl have different words. So a program can open only the
 * segments that programs with the same libc have created. For the others, shm_sync_open
 * returns SHM_SYNC_LAYOUT_MISMATCH.
 *
 * CRASH BEHAVIOUR
 *
 * A process may be killed at any instruction, in this header or outside.
 *
 * - The kernel releases the locks, permits and endpoints of a thread that ends. A
 *   waiter goes on at once, and in rare cases within 250 ms.
 * - The next locker of a mutex gets SHM_SYNC_POISONED, and holds the mutex.
 * - A segment whose creator chose `Removal::UntilLastDetach` loses its name when its
 *   last user calls shm_sync_close. A killed user does not remove the name.
 * - A thread other than the main thread that calls exec keeps its locks for ever,
 *   because the kernel does not report its end under its own id.
 *
 * THREADS, SIGNALS AND FORKS
 *
 * A lock, a permit and an endpoint belong to the thread that acquired them. A signal
 * handler must not call a function of this header. A forked child has the mappings of
 * its parent, but none of its locks, permits and endpoints. A call for one of these
 * returns SHM_SYNC_NOT_HELD and changes nothing. A child of vfork must not call a
 * function of this header: it uses the memory of its parent, and would lock in the name
 * of its parent.
 *
 * No function is a cancellation point of pthread_cancel.
 *
 * RESULTS
 *
 * Functions return a shm_sync_result, and shm_sync_text a text for it. errno says more
 * after SHM_SYNC_SYSTEM only.
 *
 * STATE
 *
 * Each program, and each shared library that includes the header, has one copy of some
 * state, in weak hidden symbols: the identity of each thread and the number of its
 * locks. All translation units share that copy, those in C and those in C++. Two copies
 * in one process are independent: each counts the locks of the other like those of any
 * C code. If one copy unlocks what another has locked, the latter may allow one lock
 * too many.
 *
 * The state of a thread is thread-local. In a shared library, each lock and each unlock
 * calls __tls_get_addr for it. A library that is not loaded by dlopen can be compiled
 * with -ftls-model=initial-exec, which avoids these calls.
 */
#ifndef SHM_SYNC_H
#define SHM_SYNC_H

#include <features.h>

/* musl has no macro with its name. The other libraries have one, and uClibc defines
 * __GLIBC__ as well. Another check follows after <pthread.h>, and each thread verifies
 * the words of the mutex before its first lock. */
#if !defined(__linux__) || defined(__UCLIBC__) || defined(__BIONIC__)
#error "shm_sync.h needs Linux with glibc or musl"
#elif !defined(__GLIBC__)
#define SHM_SYNC_I_MUSL 1
#elif !__GLIBC_PREREQ(2, 30)
#error "shm_sync.h needs glibc 2.30 or later"
#endif

#if !defined(__LP64__)
#error "shm_sync.h needs a 64-bit machine"
#elif !defined(__GNUC__)
#error "shm_sync.h needs gcc or clang"
#elif defined(__cplusplus) && __cplusplus < 201703L
#error "shm_sync.h needs C++17"
#elif !defined(__cplusplus) && __STDC_VERSION__ < 201112L
#error "shm_sync.h needs C11"
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The kernel's struct of a System V segment. musl's is the same on 64-bit machines, and
 * its compilers need not find the kernel's headers. */
#ifdef SHM_SYNC_I_MUSL
#include <sys/shm.h>
#else
#include <asm/ipcbuf.h>
#include <asm/posix_types.h>
#include <asm/shmbuf.h>
#endif

/* musl defines such a macro for each type that its headers share. */
#if defined(SHM_SYNC_I_MUSL) && !defined(__DEFINED_pthread_mutex_t)
#error "shm_sync.h needs Linux with glibc or musl"
#endif

/* The version of the memory format that this header reads. */
#define SHM_SYNC_FORMAT 4u

/* The number of robust locks, permits and endpoints that a thread can hold at a time.
 * The kernel releases no more of them when the thread ends. */
#define SHM_SYNC_MAX_LOCKS_HELD 2048

/* ------------------------------------------------------------------------------------
 * Macros of this header
 */

#ifdef __cplusplus
#define SHM_SYNC_I_INLINE inline __attribute__((unused, visibility("hidden")))
#define SHM_SYNC_I_OUTLINE \
    inline __attribute__((unused, noinline, visibility("hidden")))
#define SHM_SYNC_I_ASSERT(condition, text) static_assert(condition, text)
#define SHM_SYNC_I_C extern "C"
#else
#define SHM_SYNC_I_INLINE static inline __attribute__((unused))
#define SHM_SYNC_I_OUTLINE static __attribute__((unused, noinline))
#define SHM_SYNC_I_ASSERT(condition, text) _Static_assert(condition, text)
#define SHM_SYNC_I_C extern
#endif

/* A function that is called seldom. Calls of it are taken for unlikely. */
#define SHM_SYNC_I_COLD __attribute__((cold)) SHM_SYNC_I_OUTLINE

/* The caller must look at the result. */
#define SHM_SYNC_I_CHECK __attribute__((warn_unused_result))
/* One copy of the variable in each program or shared library. */
#define SHM_SYNC_I_STATE __attribute__((weak, visibility("hidden")))

#define SHM_SYNC_I_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define SHM_SYNC_I_LOAD(at) __atomic_load_n(at, __ATOMIC_RELAXED)
#define SHM_SYNC_I_STORE(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
#define SHM_SYNC_I_ACQUIRE(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
#define SHM_SYNC_I_LOAD_SC(at) __atomic_load_n(at, __ATOMIC_SEQ_CST)
#define SHM_SYNC_I_STORE_SC(at, value) __atomic_store_n(at, value, __ATOMIC_SEQ_CST)

/* The version of the state and of the functions. It changes with each version of this
 * header that can't share them with the version before. One program may include both,
 * in two translation units: so the number is a part of the names of the state, and in
 * C++ of a namespace around the functions. */
#ifdef __cplusplus
inline namespace shm_sync_i_v1 {
#endif

/* ------------------------------------------------------------------------------------
 * Results
 */

/* The result of a function. */
typedef enum shm_sync_result {
    /* Success. After a lock function, the caller holds the mutex. */
    SHM_SYNC_OK = 0,
    /* The caller holds the mutex. A holder died or called shm_sync_poison, and no
     * holder has repaired the data since. */
    SHM_SYNC_POISONED,
    /* The time has passed. */
    SHM_SYNC_TIMED_OUT,
    /* The call does not wait, and another thread (or this one) holds the lock, no
     * permit is free, the channel is full or empty, or the event is not set. */
    SHM_SYNC_WOULD_BLOCK,
    /* The calling thread would wait for itself. */
    SHM_SYNC_DEADLOCK,
    /* The calling thread does not hold the lock, the permit or the endpoint. */
    SHM_SYNC_NOT_HELD,
    /* The object is not initialised: no segment contains it. */
    SHM_SYNC_NOT_PLACED,
    /* The calling thread holds SHM_SYNC_MAX_LOCKS_HELD robust locks, those of other
     * code included. */
    SHM_SYNC_TOO_MANY_LOCKS,
    /* The locks belong to another pid namespace (container), which is in use. */
    SHM_SYNC_FOREIGN_PID_NAMESPACE,
    /* Other code unlocked the pthread mutex after an owner death without
     * pthread_mutex_consistent. No thread can lock it any more. */
    SHM_SYNC_UNRECOVERABLE,
    /* This header can't use the object: a lock in private memory of a Rust program; a
     * mutex with priority inheritance, if libc's mutex has an unknown layout (libc
     * itself does not lock it safely); a segment without a type table. */
    SHM_SYNC_UNSUPPORTED,
    /* All endpoints of the other side have closed. */
    SHM_SYNC_DISCONNECTED,
    /* No endpoint of the other side is left, and one has died whose seat no other has
     * taken since. */
    SHM_SYNC_PEER_DIED,
    /* No object has the address. */
    SHM_SYNC_NOT_FOUND,
    /* No field of the value has the path. */
    SHM_SYNC_NO_SUCH_FIELD,
    /* The object at the address is no segment. */
    SHM_SYNC_NOT_A_SEGMENT,
    /* The segment has another version of the memory format. */
    SHM_SYNC_UNSUPPORTED_FORMAT,
    /* The segment holds another type, is for another platform or another libc, or the
     * field is of another kind. */
    SHM_SYNC_LAYOUT_MISMATCH,
    /* A field of the header or of a table is invalid. */
    SHM_SYNC_CORRUPT,
    /* The owner and the mode of the object, or of its directory, forbid the call. */
    SHM_SYNC_PERMISSION_DENIED,
    /* The locks are those of another boot, file or pid namespace, and this header does
     * not know the kind of one of them. A Rust program that opens the segment once
     * reinitialises them. */
    SHM_SYNC_STALE,
    /* The text is no address. */
    SHM_SYNC_INVALID_NAME,
    /* An argument is invalid. */
    SHM_SYNC_INVALID_ARGUMENT,
    /* A user or group owns the object that the caller does not trust. */
    SHM_SYNC_WRONG_OWNER,
    /* Users that the caller does not trust may write to the object. */
    SHM_SYNC_TOO_PERMISSIVE,
    /* The object looks like a copy, or like a file of another boot, and is in use. */
    SHM_SYNC_IN_USE,
    /* Another process creates, reinitialises or removes the System V segment, and is
     * stopped or slow. */
    SHM_SYNC_UNFINISHED,
    /* Another process holds a record lock on the file that the call needs. */
    SHM_SYNC_BLOCKED,
    /* The descriptor is not that of an anonymous segment: it is not sealed. */
    SHM_SYNC_UNSEALED,
    /* There is not enough memory. */
    SHM_SYNC_NO_SPACE,
    /* The pid namespace can't be read: /proc is not mounted, and the kernel is older
     * than Linux 6.11. */
    SHM_SYNC_NO_PID_NAMESPACE,
    /* The id of this boot can't be read, and a segment in a file needs it. */
    SHM_SYNC_NO_BOOT_ID,
    /* This process was made by a bare clone(2), so libc has the identity of its
     * parent. */
    SHM_SYNC_RAW_CLONE,
    /* The system has no robust lists, or libc's mutex is not on them as expected. */
    SHM_SYNC_NO_ROBUST_LISTS,
    /* A forked child could not be told from its parent. */
    SHM_SYNC_NO_FORK_DETECTION,
    /* A thread of this process holds a lock, a permit or an endpoint in the segment. */
    SHM_SYNC_LOCKS_HELD,
    /* All endpoints of this side of the channel are taken. */
    SHM_SYNC_TOO_MANY_ENDPOINTS,
    /* A system call failed. errno has the reason. */
    SHM_SYNC_SYSTEM
} shm_sync_result;

/* Returns a text in English for a result: what is wrong, and what to do. It is never
 * null. */
SHM_SYNC_I_INLINE const char *shm_sync_text(shm_sync_result result) {
    switch (result) {
    case SHM_SYNC_OK: return "success";
    case SHM_SYNC_POISONED:
        return "the lock is held, but its data may be inconsistent, because a holder "
               "died or failed: repair the data, and then clear the poison";
    case SHM_SYNC_TIMED_OUT:
        return "the time has passed: until its end, the lock was held, no permit was "
               "free, the event was not set, or the channel was full or empty";
    case SHM_SYNC_WOULD_BLOCK:
        return "the call would have to wait: the lock is held, no permit is free, the "
               "event is not set, or the channel is full or empty";
    case SHM_SYNC_DEADLOCK:
        return "this thread would wait for itself: it holds the lock or all permits "
               "already";
    case SHM_SYNC_NOT_HELD:
        return "this thread does not hold the lock, the permit or the endpoint: use "
               "it in the thread that acquired it, before its release";
    case SHM_SYNC_NOT_PLACED:
        return "the object is not initialised in shared memory: use the one in the "
               "value of an open segment";
    case SHM_SYNC_TOO_MANY_LOCKS:
        return "this thread holds as many locks as the kernel recovers when it dies: "
               "release some";
    case SHM_SYNC_FOREIGN_PID_NAMESPACE:
        return "the locks belong to another pid namespace, which is in use: let both "
               "containers share one";
    case SHM_SYNC_UNRECOVERABLE:
        return "other code left the pthread mutex unrecoverable: end all programs, "
               "and create the segment again";
    case SHM_SYNC_UNSUPPORTED:
        return "C programs can't use this object, or the segment has no type table";
    case SHM_SYNC_DISCONNECTED: return "all endpoints of the other side have closed";
    case SHM_SYNC_PEER_DIED:
        return "an endpoint of the other side has died, and none is left";
    case SHM_SYNC_NOT_FOUND:
        return "there is no such segment: start the program that creates it";
    case SHM_SYNC_NO_SUCH_FIELD:
        return "the value has no field with this path: `shm-sync show` prints the "
               "paths of the locks";
    case SHM_SYNC_NOT_A_SEGMENT:
        return "the object is no segment of shm-sync: use another address";
    case SHM_SYNC_UNSUPPORTED_FORMAT:
        return "the segment has another version of the memory format: build all "
               "programs with the same version of shm-sync";
    case SHM_SYNC_LAYOUT_MISMATCH:
        return "the segment or the field has another type than expected, or comes "
               "from another libc: run `shm-sync export-c` again, and build all "
               "programs with the same type and the same libc";
    case SHM_SYNC_CORRUPT:
        return "the header or a table of the segment is damaged: unlink the segment, "
               "and create it again";
    case SHM_SYNC_PERMISSION_DENIED:
        return "owner and mode of the object, or of its directory, forbid it to this "
               "user";
    case SHM_SYNC_STALE:
        return "the locks are of another boot, file or pid namespace: open the "
               "segment once with a Rust program";
    case SHM_SYNC_INVALID_NAME:
        return "the text is no address of a segment: write \"/jobs\" for a POSIX "
               "object, \"./jobs\" for a file, \"sysv:42\" for a System V segment";
    case SHM_SYNC_INVALID_ARGUMENT:
        return "an argument is invalid: a fingerprint has 32 hexadecimal digits, the "
               "segment must be open, and the object must be of the right kind";
    case SHM_SYNC_WRONG_OWNER:
        return "the object belongs to another user or group than expected: if you "
               "trust them, say so in the options";
    case SHM_SYNC_TOO_PERMISSIVE:
        return "other users may write to the object: if you trust them, say so in the "
               "options";
    case SHM_SYNC_IN_USE:
        return "the object looks like a copy or like a file of another boot, and is "
               "in use: end the processes that are attached to it, and try again";
    case SHM_SYNC_UNFINISHED:
        return "another process creates, reinitialises or removes the segment: "
               "continue it if it is stopped, or end it, and try again";
    case SHM_SYNC_BLOCKED:
        return "another process has locked the file of the segment for too long: wait "
               "for it, or end it";
    case SHM_SYNC_UNSEALED:
        return "the descriptor is not that of an anonymous segment: open a named "
               "segment by its name";
    case SHM_SYNC_NO_SPACE:
        return "not enough memory: free some, or raise the limit of the process";
    case SHM_SYNC_NO_PID_NAMESPACE:
        return "the pid namespace can't be read from /proc/self/ns/pid: mount /proc "
               "(in "
               "a chroot as well), or use Linux 6.11";
    case SHM_SYNC_NO_BOOT_ID:
        return "the id of this boot can't be read from "
               "/proc/sys/kernel/random/boot_id, "
               "and a segment in a file needs it: mount all of /proc (without "
               "subset=pid), or use a segment in memory";
    case SHM_SYNC_RAW_CLONE:
        return "this process was made by a raw clone(2), where pthread locks don't "
               "work: use fork(2)";
    case SHM_SYNC_NO_ROBUST_LISTS:
        return "this system has no robust lists, without which locks can't survive "
               "their holders: run on a real Linux kernel, and let the sandbox permit "
               "get_robust_list(2) and set_robust_list(2)";
    case SHM_SYNC_NO_FORK_DETECTION:
        return "forks can't be detected here: let the sandbox permit madvise(2) with "
               "MADV_WIPEONFORK, or with MADV_DONTFORK and the futex operation "
               "FUTEX_CMP_REQUEUE";
    case SHM_SYNC_LOCKS_HELD:
        return "this process holds a lock in the segment, so it stays mapped: release "
               "all before you close it";
    case SHM_SYNC_TOO_MANY_ENDPOINTS:
        return "all endpoints of this side of the channel are in use: close one";
    case SHM_SYNC_SYSTEM: return "a system call failed: errno says why";
    }
    return "unknown result";
}

/* ------------------------------------------------------------------------------------
 * Objects in shared memory
 *
 * Only the functions of this header access the fields.
 */

/* The words of libc's pthread_mutex_t. C programs have this layout compiled in, so libc
 * can't change it. Each thread verifies it before its first lock. */
typedef struct shm_sync_i_words {
#ifdef SHM_SYNC_I_MUSL
    uint32_t kind;
    uint32_t lock;    /* thread id of the holder, FUTEX_WAITERS, FUTEX_OWNER_DIED */
    uint32_t waiters; /* how many threads wait in musl's functions */
    uint32_t unused[2];
    uint32_t count;
#else
    uint32_t lock; /* thread id of the holder, FUTEX_WAITERS, FUTEX_OWNER_DIED */
    uint32_t count;
    uint32_t owner; /* thread id of the holder, or a special value */
    uint32_t users;
    uint32_t kind;
    uint32_t spins;
#endif
    void *prev;
    void *next; /* an entry of the robust list points here */
} shm_sync_i_words;

/* A pthread mutex, for libc and by its words. */
typedef union shm_sync_i_pthread {
    pthread_mutex_t mutex;
    shm_sync_i_words words;
} shm_sync_i_pthread;

/* A robust lock: a pthread mutex and the record of its holder. */
typedef struct shm_sync_i_lock {
    shm_sync_i_pthread pthread;
    uint64_t holder;        /* process and thread id, or 0 */
    uint64_t record;        /* of a mutex: the poison; of a seat: the note */
    uint32_t pid_namespace; /* of the thread ids; UINT32_MAX: not initialised */
    uint16_t failures;      /* how many holders have failed */
    uint8_t protocol;
    uint8_t reserved;
} shm_sync_i_lock;

/* A mutex (ShmMutex in Rust) without its data, which follows it:
 *
 *     struct { shm_sync_mutex lock; T data; } pending;
 */
typedef struct shm_sync_mutex {
    shm_sync_i_lock lock;
} shm_sync_mutex;

/* A condition variable (ShmCondvar in Rust). */
typedef struct shm_sync_condvar {
    uint32_t sequence;
    uint32_t waiters;
    uint64_t mutex; /* distance from here to the waiters' mutex, 0, or UINT64_MAX */
} shm_sync_condvar;

/* A place to sleep. */
typedef struct shm_sync_i_event_count {
    uint32_t sequence;
    uint32_t reserved;
    uint64_t roll;
} shm_sync_i_event_count;

/* An event (ShmEvent in Rust). */
typedef struct shm_sync_event {
    uint32_t state;
    uint32_t kind;
    shm_sync_i_event_count waiters;
} shm_sync_event;

/* A seat: a lock without data that a thread holds for as long as it takes part. */
typedef struct shm_sync_i_seat {
    shm_sync_i_lock lock;
} __attribute__((aligned(64))) shm_sync_i_seat;

/* In a semaphore, the event count of those that wait has a cache line of its own. */
#define SHM_SYNC_I_RETURNED 64u

#define SHM_SYNC_I_PTHREAD sizeof(pthread_mutex_t)
SHM_SYNC_I_ASSERT(sizeof(shm_sync_i_words) == 40, "the words of the mutex");
SHM_SYNC_I_ASSERT(
    sizeof(shm_sync_i_words) <= SHM_SYNC_I_PTHREAD, "the mutex has these words");
SHM_SYNC_I_ASSERT(
    offsetof(shm_sync_i_words, next) == 32, "the entry of the robust list");
SHM_SYNC_I_ASSERT(offsetof(shm_sync_i_lock, holder) == SHM_SYNC_I_PTHREAD, "holder");
SHM_SYNC_I_ASSERT(
    offsetof(shm_sync_i_lock, record) == SHM_SYNC_I_PTHREAD + 8, "record");
SHM_SYNC_I_ASSERT(offsetof(shm_sync_i_lock, pid_namespace) == SHM_SYNC_I_PTHREAD + 16,
    "pid_namespace");
SHM_SYNC_I_ASSERT(
    offsetof(shm_sync_i_lock, failures) == SHM_SYNC_I_PTHREAD + 20, "failures");
SHM_SYNC_I_ASSERT(
    offsetof(shm_sync_i_lock, protocol) == SHM_SYNC_I_PTHREAD + 22, "protocol");
SHM_SYNC_I_ASSERT(
    sizeof(shm_sync_mutex) == SHM_SYNC_I_PTHREAD + 24, "a mutex without its data");
SHM_SYNC_I_ASSERT(sizeof(shm_sync_condvar) == 16, "a condition variable");
SHM_SYNC_I_ASSERT(offsetof(shm_sync_condvar, mutex) == 8, "mutex");
SHM_SYNC_I_ASSERT(sizeof(shm_sync_i_event_count) == 16, "an event count");
SHM_SYNC_I_ASSERT(sizeof(shm_sync_event) == 24, "an event");
SHM_SYNC_I_ASSERT(sizeof(shm_sync_i_seat) == (SHM_SYNC_I_PTHREAD + 24 + 63) / 64 * 64,
    "a seat has its own cache lines");
#if defined(__aarch64__) && !defined(SHM_SYNC_I_MUSL)
SHM_SYNC_I_ASSERT(SHM_SYNC_I_PTHREAD == 48, "the mutex of libc");
#else
SHM_SYNC_I_ASSERT(SHM_SYNC_I_PTHREAD == 40, "the mutex of libc");
#endif
SHM_SYNC_I_ASSERT(sizeof(pthread_cond_t) == 48, "the condition variable of libc");

/* ------------------------------------------------------------------------------------
 * The kernel
 *
 * System calls are made by their number, so that no feature macro is needed and none is
 * a cancellation point.
 */

SHM_SYNC_I_C long shm_sync_i_syscall(long number, ...) __asm__("syscall");
SHM_SYNC_I_C int shm_sync_i_clock_gettime(int clock, struct timespec *now) __asm__(
    "clock_gettime");
#ifdef SHM_SYNC_I_MUSL
SHM_SYNC_I_C int shm_sync_i_timedlock(pthread_mutex_t *mutex,
    const struct timespec *until) __asm__("pthread_mutex_timedlock");
#else
SHM_SYNC_I_C int shm_sync_i_clocklock(pthread_mutex_t *mutex, int clock,
    const struct timespec *until) __asm__("pthread_mutex_clocklock");
#endif
SHM_SYNC_I_C int shm_sync_i_cpu_clock(pthread_t thread, int *clock) __asm__(
    "pthread_getcpuclockid");
SHM_SYNC_I_C int shm_sync_i_consistent(pthread_mutex_t *mutex) __asm__(
    "pthread_mutex_consistent");
SHM_SYNC_I_C int shm_sync_i_attr_settype(pthread_mutexattr_t *attr, int type) __asm__(
    "pthread_mutexattr_settype");
SHM_SYNC_I_C int shm_sync_i_attr_setrobust(
    pthread_mutexattr_t *attr, int robust) __asm__("pthread_mutexattr_setrobust");
SHM_SYNC_I_C int shm_sync_i_attr_setprotocol(
    pthread_mutexattr_t *attr, int protocol) __asm__("pthread_mutexattr_setprotocol");
SHM_SYNC_I_C int shm_sync_i_condattr_setclock(
    pthread_condattr_t *attr, int clock) __asm__("pthread_condattr_setclock");
SHM_SYNC_I_C int shm_sync_i_lstat(const char *path, struct stat *status) __asm__(
    "lstat");

/* Constants that libc shows only with feature macros. */
#define SHM_SYNC_I_CLOCK_REALTIME 0
#define SHM_SYNC_I_CLOCK_MONOTONIC 1
#define SHM_SYNC_I_MUTEX_ERRORCHECK 2
#define SHM_SYNC_I_MUTEX_ROBUST 1
#define SHM_SYNC_I_SHARED 1
#define SHM_SYNC_I_PRIO_INHERIT 1
#define SHM_SYNC_I_UNSHARE_RANGE 0x40L
#define SHM_SYNC_I_DUPFD_CLOEXEC 1030
#define SHM_SYNC_I_GET_SEALS 1034
#define SHM_SYNC_I_SEAL_SHRINK 2
#define SHM_SYNC_I_OFD_GETLK 36
#define SHM_SYNC_I_OFD_SETLK 37
#define SHM_SYNC_I_MADV_DONTFORK 10
#define SHM_SYNC_I_MADV_WIPEONFORK 18
#define SHM_SYNC_I_NSFS_MAGIC 0x6e736673
#define SHM_SYNC_I_TMPFS_MAGIC 0x01021994
#define SHM_SYNC_I_HUGETLBFS_MAGIC 0x958458f6
#define SHM_SYNC_I_OVERLAYFS_MAGIC 0x794c7630
#ifdef MAP_ANONYMOUS
#define SHM_SYNC_I_MAP_ANONYMOUS MAP_ANONYMOUS
#elif defined(__mips__)
#define SHM_SYNC_I_MAP_ANONYMOUS 0x800
#else
#define SHM_SYNC_I_MAP_ANONYMOUS 0x20
#endif
#ifdef SHM_SYNC_I_MUSL
#define SHM_SYNC_I_O_PATH O_PATH
#define SHM_SYNC_I_O_DIRECTORY O_DIRECTORY
#define SHM_SYNC_I_O_NOFOLLOW O_NOFOLLOW
#define SHM_SYNC_I_O_CLOEXEC O_CLOEXEC
#else
#define SHM_SYNC_I_O_PATH __O_PATH
#define SHM_SYNC_I_O_DIRECTORY __O_DIRECTORY
#define SHM_SYNC_I_O_NOFOLLOW __O_NOFOLLOW
#define SHM_SYNC_I_O_CLOEXEC __O_CLOEXEC
#endif
#define SHM_SYNC_I_FUTEX_WAKE 1
#define SHM_SYNC_I_FUTEX_REQUEUE 3
#define SHM_SYNC_I_FUTEX_CMP_REQUEUE_PRIVATE (4 | 128)
#define SHM_SYNC_I_FUTEX_LOCK_PI 6
#define SHM_SYNC_I_FUTEX_UNLOCK_PI 7
#define SHM_SYNC_I_FUTEX_TRYLOCK_PI 8
#define SHM_SYNC_I_FUTEX_WAIT_BITSET 9
#define SHM_SYNC_I_FUTEX_BITSET_MATCH_ANY 0xffffffffu
#define SHM_SYNC_I_FUTEX_LOCK_PI2 13
#define SHM_SYNC_I_FUTEX_WAITV 449
#define SHM_SYNC_I_PIDFD_OPEN 434
#define SHM_SYNC_I_SET_TIMERSLACK 29
#define SHM_SYNC_I_GET_TIMERSLACK 30
#define SHM_SYNC_I_CURRENT_DIRECTORY -100L /* AT_FDCWD */
#define SHM_SYNC_I_EMPTY_PATH 0x1000L      /* AT_EMPTY_PATH */
#define SHM_SYNC_I_STATX_BTIME 0x800u

/* What an own page contains after its number. */
#define SHM_SYNC_I_OWN_PAGE_CONSTANTS \
    { 0x9e9d71c5u, 0x2f0be387u, 0xd4a65013u }

/* Bits of the lock word. */
#define SHM_SYNC_I_WAITERS 0x80000000u
#define SHM_SYNC_I_OWNER_DIED 0x40000000u
#define SHM_SYNC_I_TID_MASK 0x3fffffffu
#define SHM_SYNC_I_NOT_PLACED 0xffffffffu

/* A waiter reads the words again after this time, in nanoseconds, because the process
 * that should wake it may have died. */
#define SHM_SYNC_I_RECHECK UINT64_C(150000000)
/* No deadline. */
#define SHM_SYNC_I_NEVER UINT64_MAX

/* The head of a thread's robust list, as the kernel knows it. */
typedef struct shm_sync_i_head {
    void *list; /* the first entry, or the head itself */
    long futex_offset;
    void *pending;
} shm_sync_i_head;

/* Memory that forked children don't have. It detects forks where the kernel refuses
 * MADV_WIPEONFORK. */
typedef struct shm_sync_i_own_page {
    uint32_t pid_namespace;
    /* No ancestor of the process had the same when it forked. */
    uint32_t number;
    /* In the page itself: the number, and three constants. */
    const uint32_t *words;
} shm_sync_i_own_page;

/* What the header knows of a thread. `marker` tells whether it is valid. */
typedef struct shm_sync_i_thread {
    /* The pid namespace. The kernel zeroes it in a forked child. It is always 0 where
     * the kernel refuses that: then `own_page` tells. */
    const uint32_t *marker;
    const shm_sync_i_own_page *own_page;
    shm_sync_i_head *head;
    /* The first entry of the list when `room` was right, or null if it may be wrong. */
    void *top;
    /* Process and thread id, as the words of a lock store them. */
    uint64_t id;
    /* The timer slack is known to be small until then. */
    uint64_t slack_until;
    uint32_t tid;
    /* How many more locks the kernel would recover. */
    int32_t room;
    /* This copy of the header has locked all entries of the list. */
    bool all_ours;
    /* libc's layout is the known one, so this header writes the words. */
    bool is_known;
    uint16_t failed_spins;
    uint16_t failed_lock_spins;
} shm_sync_i_thread;

#ifdef __cplusplus
extern "C" {
#endif
/* The marker of a thread that is not identified. It stays 0. */
SHM_SYNC_I_STATE uint32_t shm_sync_i_v1_unset = 0;
/* The newest marker of this process or of an ancestor. */
SHM_SYNC_I_STATE uint32_t *shm_sync_i_v1_last_marker = NULL;
/* The newest own page of this process or of an ancestor, and the largest number. */
SHM_SYNC_I_STATE shm_sync_i_own_page *shm_sync_i_v1_last_own_page = NULL;
SHM_SYNC_I_STATE uint32_t shm_sync_i_v1_last_number = 0;
/* 0: unknown; 1: one processor is online; 2: several. */
SHM_SYNC_I_STATE uint8_t shm_sync_i_v1_processors = 0;
/* 1: forked children empty their list. For musl. */
SHM_SYNC_I_STATE uint8_t shm_sync_i_v1_has_handler = 0;
/* The thread in which the handler has run last. */
SHM_SYNC_I_STATE uint32_t shm_sync_i_v1_handled = 0;
SHM_SYNC_I_STATE __thread shm_sync_i_thread shm_sync_i_v1_this_thread = {
    &shm_sync_i_v1_unset, NULL, NULL, NULL, 0, 0, 0, 0, false, false, 0, 0};

/* Returns the state of the calling thread. In a shared library, each access to a
 * thread-local variable is a call, which the compiler would repeat. It can't repeat
 * what it does not see. */
SHM_SYNC_I_INLINE shm_sync_i_thread *shm_sync_i_me(void) {
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    __asm__("" : "+r"(me));
    return me;
}
#ifdef __cplusplus
}
#endif

/* Returns the time of the monotonic clock in nanoseconds. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_now(void) {
    struct timespec now = {0, 0};
    shm_sync_i_clock_gettime(SHM_SYNC_I_CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Returns the deadline `timeout` nanoseconds from now. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_after(uint64_t timeout) {
    uint64_t now = shm_sync_i_now();
    return timeout > UINT64_MAX - now ? SHM_SYNC_I_NEVER : now + timeout;
}

SHM_SYNC_I_INLINE bool shm_sync_i_has_passed(uint64_t deadline) {
    return deadline != SHM_SYNC_I_NEVER && shm_sync_i_now() >= deadline;
}

/* Returns the next multiple of the recheck interval, or the deadline if it is earlier.
 * All processes compute the same multiples, so that their timers expire together. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_next_recheck(uint64_t deadline) {
    uint64_t next = (shm_sync_i_now() / SHM_SYNC_I_RECHECK + 1) * SHM_SYNC_I_RECHECK;
    return deadline < next ? deadline : next;
}

SHM_SYNC_I_INLINE struct timespec shm_sync_i_timespec(uint64_t nanoseconds) {
    struct timespec time;
    time.tv_sec = (time_t)(nanoseconds / UINT64_C(1000000000));
    time.tv_nsec = (long)(nanoseconds % UINT64_C(1000000000));
    return time;
}

/* Returns the time of the wall clock at which the deadline passes, if no process sets
 * that clock meanwhile. */
SHM_SYNC_I_INLINE struct timespec shm_sync_i_wall_time(uint64_t deadline) {
    struct timespec wall = {0, 0};
    uint64_t now = shm_sync_i_now();
    shm_sync_i_clock_gettime(SHM_SYNC_I_CLOCK_REALTIME, &wall);
    uint64_t wall_now =
        (uint64_t)wall.tv_sec * UINT64_C(1000000000) + (uint64_t)wall.tv_nsec;
    return shm_sync_i_timespec(wall_now + (deadline > now ? deadline - now : 0));
}

/* Lowers the timer slack of the thread if it is over 10 ms, because a sleep would end
 * late by it. Returns the slack that shm_sync_i_slack_restore restores, or 0. A thread
 * whose slack is small reads it again only after a recheck interval. */
SHM_SYNC_I_COLD unsigned long shm_sync_i_slack_lower(uint64_t deadline) {
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    if (deadline <= me->slack_until)
        return 0;
    int saved = errno;
    long slack =
        shm_sync_i_syscall(SYS_prctl, (long)SHM_SYNC_I_GET_TIMERSLACK, 0L, 0L, 0L, 0L);
    bool is_large = slack != -1 && (unsigned long)slack > 10000000ul;
    if (is_large)
        is_large = shm_sync_i_syscall(SYS_prctl, (long)SHM_SYNC_I_SET_TIMERSLACK,
                       50000L, 0L, 0L, 0L) == 0;
    errno = saved;
    if (is_large)
        return (unsigned long)slack;
    me->slack_until = shm_sync_i_next_recheck(SHM_SYNC_I_NEVER);
    return 0;
}

SHM_SYNC_I_INLINE void shm_sync_i_slack_restore(unsigned long slack) {
    if (slack != 0) {
        int saved = errno;
        shm_sync_i_syscall(
            SYS_prctl, (long)SHM_SYNC_I_SET_TIMERSLACK, slack, 0L, 0L, 0L);
        errno = saved;
    }
}

/* Makes a system call that sleeps until `deadline` at most. Returns its result, or the
 * error number as a negative number. Does not change errno. */
#define SHM_SYNC_I_SLEEP(result, deadline, call)                           \
    do {                                                                   \
        int shm_sync_i_saved = errno;                                      \
        unsigned long shm_sync_i_slack = shm_sync_i_slack_lower(deadline); \
        (result) = (call);                                                 \
        if ((result) == -1)                                                \
            (result) = -errno;                                             \
        shm_sync_i_slack_restore(shm_sync_i_slack);                        \
        errno = shm_sync_i_saved;                                          \
    } while (0)

/* Sleeps while `*word == expected`, until a wake, a signal or the deadline. Returns 0,
 * ETIMEDOUT, or the error with which the kernel refuses the call. The word is shared,
 * so the operation has no FUTEX_PRIVATE_FLAG. */
SHM_SYNC_I_OUTLINE int shm_sync_i_futex_wait(
    const uint32_t *word, uint32_t expected, uint64_t deadline) {
    struct timespec until = shm_sync_i_timespec(deadline);
    long result;
    SHM_SYNC_I_SLEEP(result, deadline,
        shm_sync_i_syscall(SYS_futex, word, (long)SHM_SYNC_I_FUTEX_WAIT_BITSET,
            (unsigned long)expected, &until, (void *)NULL,
            (unsigned long)SHM_SYNC_I_FUTEX_BITSET_MATCH_ANY));
    return result == 0 || result == -EAGAIN || result == -EINTR ? 0 : (int)-result;
}

/* Wakes up to `count` waiters of the word. Returns how many, or -1 if the kernel
 * refuses the call. The waiters then go on at their next recheck. */
SHM_SYNC_I_INLINE long shm_sync_i_futex_wake(const uint32_t *word, int count) {
    int saved = errno;
    long woken =
        shm_sync_i_syscall(SYS_futex, word, (long)SHM_SYNC_I_FUTEX_WAKE, (long)count);
    errno = saved;
    return woken;
}

/* Moves all waiters of `from` to the queue of `to`, and wakes none. Returns how many
 * have moved, or -1 if the kernel refuses the call. Then some may have moved. */
SHM_SYNC_I_INLINE long shm_sync_i_futex_move(const uint32_t *from, const uint32_t *to) {
    int saved = errno;
    long moved = shm_sync_i_syscall(
        SYS_futex, from, (long)SHM_SYNC_I_FUTEX_REQUEUE, 0L, (long)INT32_MAX, to);
    errno = saved;
    return moved;
}

/* Sleeps for some nanoseconds, or until a signal arrives. */
SHM_SYNC_I_OUTLINE void shm_sync_i_pause(uint64_t nanoseconds) {
    uint32_t word = 0; /* no other thread knows it */
    (void)shm_sync_i_futex_wait(&word, 0, shm_sync_i_after(nanoseconds));
}

SHM_SYNC_I_INLINE void shm_sync_i_spin_hint(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

/* ------------------------------------------------------------------------------------
 * The mutex of libc
 *
 * All that differs between glibc and musl. src/robust/layout.rs of the Rust crate has
 * the same two variants.
 *
 * | fact | glibc | musl |
 * |---|---|---|
 * | priority inheritance in a list entry | bit 0 is set | not shown |
 * | the word before the head of a list | the last entry | another variable of musl |
 * | libc registers the list | when the thread begins | at the first lock |
 * | an owner death, after a lock | `owner` is another | FUTEX_OWNER_DIED stays |
 * | the mutex is unrecoverable | a value of `owner` | a value of the lock word |
 * | the thread that died as the holder | `owner` names it | not stored |
 *
 * musl's waiters count themselves, and a waiter that was woken sets FUTEX_WAITERS only
 * when it sleeps again. The kernel sees that bit only. So each locker sets it after it
 * has locked, if the count is not 0.
 */

/* Returns the `next` of the node to which an entry of a robust list points. Bit 0 of an
 * entry is a flag. */
SHM_SYNC_I_INLINE void **shm_sync_i_next_of(void *entry) {
    return (void **)((uintptr_t)entry & ~(uintptr_t)1);
}

/* Returns the `prev` of that node. For the head it is the word before. */
SHM_SYNC_I_INLINE void **shm_sync_i_prev_of(void *entry) {
    return (void **)(((uintptr_t)entry & ~(uintptr_t)1) - sizeof(void *));
}

#ifdef SHM_SYNC_I_MUSL

/* LIBC in the header of a segment. */
#define SHM_SYNC_I_LIBC 2
/* `kind` of an error-checking, robust, process-shared mutex. */
#define SHM_SYNC_I_KIND 0x86u
/* `kind` of a normal, robust, process-shared mutex with priority inheritance. */
#define SHM_SYNC_I_KIND_PI 0x8cu
#define SHM_SYNC_I_KIND_IGNORED 0u
/* The bit of `kind` for priority inheritance. */
#define SHM_SYNC_I_KIND_PRIO_INHERIT 8u
/* The bit of a list entry for priority inheritance. */
#define SHM_SYNC_I_PI_FLAG 0u
/* The bits of the lock word that stay after an owner death, until the mutex is made
 * consistent. */
#define SHM_SYNC_I_KEPT SHM_SYNC_I_OWNER_DIED
/* The lock word of an unrecoverable mutex, and `waiters` of one with priority
 * inheritance. */
#define SHM_SYNC_I_NOT_RECOVERABLE 0x7fffffffu
#define SHM_SYNC_I_NOT_RECOVERABLE_PI 0xffffffffu
/* A thread without a registered list may let libc register it by a lock. */
#define SHM_SYNC_I_REGISTERS_AT_FIRST_LOCK true
/* The word before the head of a list is for the last entry. */
#define SHM_SYNC_I_HEAD_HAS_PREV false

/* Returns whether the lock word says that the mutex is unrecoverable. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_unrecoverable_word(uint32_t word) {
    return (word & SHM_SYNC_I_TID_MASK) ==
           (SHM_SYNC_I_NOT_RECOVERABLE & SHM_SYNC_I_TID_MASK);
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_unrecoverable(const shm_sync_i_words *words) {
    return shm_sync_i_is_unrecoverable_word(SHM_SYNC_I_LOAD(&words->lock)) ||
           (SHM_SYNC_I_LOAD(&words->waiters) == SHM_SYNC_I_NOT_RECOVERABLE_PI &&
               (SHM_SYNC_I_LOAD(&words->kind) & SHM_SYNC_I_KIND_PRIO_INHERIT) != 0);
}

/* Sets FUTEX_WAITERS in the word of a mutex that this thread has just locked, if
 * another word says that threads wait. */
SHM_SYNC_I_INLINE void shm_sync_i_note_counted_waiters(shm_sync_i_words *words) {
    if (SHM_SYNC_I_LOAD(&words->waiters) != 0)
        __atomic_fetch_or(&words->lock, SHM_SYNC_I_WAITERS, __ATOMIC_RELAXED);
}

/* Returns whether an owner death is to be reported, if the lock word says that the
 * holder died. An unrecoverable mutex with priority inheritance stays so. */
SHM_SYNC_I_INLINE bool shm_sync_i_death_counts(const shm_sync_i_words *words) {
    return !shm_sync_i_is_unrecoverable(words);
}

/* Sets the number of times that the mutex is locked. musl counts further locks only. A
 * waiter for priority inheritance that has died may have left -1. */
SHM_SYNC_I_INLINE void shm_sync_i_set_count(shm_sync_i_words *words, uint32_t count) {
    (void)count;
    SHM_SYNC_I_STORE(&words->count, 0u);
}

/* Records the holder of a consistent mutex. musl stores it in the lock word only. */
SHM_SYNC_I_INLINE void shm_sync_i_set_owner(shm_sync_i_words *words, uint32_t tid) {
    (void)words;
    (void)tid;
}

/* Records that no thread holds the mutex. */
SHM_SYNC_I_INLINE void shm_sync_i_clear_owner(shm_sync_i_words *words) {
    (void)words;
}

/* Clears the pointers of a mutex that has left the list. musl leaves them. */
SHM_SYNC_I_INLINE void shm_sync_i_clear_node(shm_sync_i_words *words) {
    (void)words;
}

/* Returns whether the mutex, whose word names the calling thread, is on the list of
 * that thread. musl leaves the pointers of a mutex that has left the list, so they do
 * not tell. The mutex that was locked last is the first entry. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_linked(
    const shm_sync_i_head *head, const shm_sync_i_words *words) {
    void *entry = SHM_SYNC_I_LOAD(&head->list);
    for (int i = 0; entry != (const void *)&words->next; i++) {
        if (entry == (const void *)head || entry == NULL ||
            i == SHM_SYNC_MAX_LOCKS_HELD)
            return false;
        entry = SHM_SYNC_I_LOAD(shm_sync_i_next_of(entry));
    }
    return true;
}

/* Returns the thread that holds the mutex, or died as its holder, or 0. `recorded` is
 * the thread in `holder`, which counts after an owner death, because musl's words name
 * none. */
SHM_SYNC_I_INLINE uint32_t shm_sync_i_owner_of(
    const shm_sync_i_words *words, uint32_t recorded) {
    uint32_t word = SHM_SYNC_I_LOAD(&words->lock);
    if (shm_sync_i_is_unrecoverable_word(word))
        return 0;
    return (word & SHM_SYNC_I_OWNER_DIED) != 0 ? recorded : word & SHM_SYNC_I_TID_MASK;
}

/* Returns whether libc has locked after an owner death, and its words no longer name
 * the dead thread. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_overwritten(const shm_sync_i_words *words) {
    (void)words;
    return false;
}

/* Returns whether the holder died, and no thread has locked since. */
SHM_SYNC_I_INLINE bool shm_sync_i_owner_died(const shm_sync_i_words *words) {
    uint32_t word = SHM_SYNC_I_LOAD(&words->lock);
    return (word & (SHM_SYNC_I_OWNER_DIED | SHM_SYNC_I_TID_MASK)) ==
           SHM_SYNC_I_OWNER_DIED;
}

/* Makes a mutex consistent that the calling thread holds. This is all that libc
 * does. */
SHM_SYNC_I_INLINE void shm_sync_i_set_consistent(
    shm_sync_i_words *words, uint32_t tid) {
    (void)tid;
    __atomic_fetch_and(&words->lock, ~SHM_SYNC_I_OWNER_DIED, __ATOMIC_RELAXED);
}

/* Returns whether the words that only this libc has are as after its first lock. */
SHM_SYNC_I_INLINE bool shm_sync_i_has_known_words(
    const shm_sync_i_words *words, uint32_t tid) {
    (void)tid;
    return SHM_SYNC_I_LOAD(&words->waiters) == 0 && SHM_SYNC_I_LOAD(&words->count) == 0;
}

/* Locks by libc, or returns ETIMEDOUT after the deadline. musl has the wall clock
 * only. */
SHM_SYNC_I_INLINE int shm_sync_i_lock_until(pthread_mutex_t *mutex, uint64_t deadline) {
    struct timespec until = shm_sync_i_wall_time(deadline);
    return shm_sync_i_timedlock(mutex, &until);
}

#else /* glibc */

#define SHM_SYNC_I_LIBC 1
#define SHM_SYNC_I_KIND 0x92u
#define SHM_SYNC_I_KIND_PI 0xb0u
/* glibc 2.41 sets this bit in a normal mutex (PTHREAD_MUTEX_NO_ELISION_NP), and 2.43
 * does not. */
#define SHM_SYNC_I_KIND_IGNORED 0x200u
#define SHM_SYNC_I_KIND_PRIO_INHERIT 0x20u
#define SHM_SYNC_I_PI_FLAG 1u
#define SHM_SYNC_I_KEPT 0u
/* `owner` after EOWNERDEAD, and of an unrecoverable mutex. */
#define SHM_SYNC_I_INCONSISTENT 0x7fffffffu
#define SHM_SYNC_I_NOT_RECOVERABLE 0x7ffffffeu
#define SHM_SYNC_I_REGISTERS_AT_FIRST_LOCK false
#define SHM_SYNC_I_HEAD_HAS_PREV true

SHM_SYNC_I_INLINE bool shm_sync_i_is_unrecoverable_word(uint32_t word) {
    (void)word;
    return false;
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_unrecoverable(const shm_sync_i_words *words) {
    return SHM_SYNC_I_LOAD(&words->owner) == SHM_SYNC_I_NOT_RECOVERABLE;
}

SHM_SYNC_I_INLINE void shm_sync_i_note_counted_waiters(shm_sync_i_words *words) {
    (void)words;
}

SHM_SYNC_I_INLINE bool shm_sync_i_death_counts(const shm_sync_i_words *words) {
    (void)words;
    return true;
}

SHM_SYNC_I_INLINE void shm_sync_i_set_count(shm_sync_i_words *words, uint32_t count) {
    SHM_SYNC_I_STORE(&words->count, count);
}

SHM_SYNC_I_INLINE void shm_sync_i_set_owner(shm_sync_i_words *words, uint32_t tid) {
    SHM_SYNC_I_STORE(&words->owner, tid);
    SHM_SYNC_I_STORE(&words->users, 1u);
}

SHM_SYNC_I_INLINE void shm_sync_i_clear_owner(shm_sync_i_words *words) {
    SHM_SYNC_I_STORE(&words->owner, 0u);
    SHM_SYNC_I_STORE(&words->users, 0u);
}

SHM_SYNC_I_INLINE void shm_sync_i_clear_node(shm_sync_i_words *words) {
    SHM_SYNC_I_STORE(&words->prev, (void *)NULL);
    SHM_SYNC_I_STORE(&words->next, (void *)NULL);
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_linked(
    const shm_sync_i_head *head, const shm_sync_i_words *words) {
    (void)head;
    return SHM_SYNC_I_LOAD(&words->next) != NULL;
}

SHM_SYNC_I_INLINE uint32_t shm_sync_i_owner_of(
    const shm_sync_i_words *words, uint32_t recorded) {
    uint32_t owner = SHM_SYNC_I_LOAD(&words->owner);
    (void)recorded;
    return owner >= SHM_SYNC_I_NOT_RECOVERABLE ? 0 : owner;
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_overwritten(const shm_sync_i_words *words) {
    return SHM_SYNC_I_LOAD(&words->owner) == SHM_SYNC_I_INCONSISTENT;
}

SHM_SYNC_I_INLINE bool shm_sync_i_owner_died(const shm_sync_i_words *words) {
    return (SHM_SYNC_I_LOAD(&words->lock) & SHM_SYNC_I_OWNER_DIED) != 0;
}

SHM_SYNC_I_INLINE void shm_sync_i_set_consistent(
    shm_sync_i_words *words, uint32_t tid) {
    SHM_SYNC_I_STORE(&words->owner, tid);
}

SHM_SYNC_I_INLINE bool shm_sync_i_has_known_words(
    const shm_sync_i_words *words, uint32_t tid) {
    return SHM_SYNC_I_LOAD(&words->owner) == tid &&
           SHM_SYNC_I_LOAD(&words->count) == 1 && SHM_SYNC_I_LOAD(&words->users) == 1;
}

SHM_SYNC_I_INLINE int shm_sync_i_lock_until(pthread_mutex_t *mutex, uint64_t deadline) {
    struct timespec until = shm_sync_i_timespec(deadline);
    return shm_sync_i_clocklock(mutex, SHM_SYNC_I_CLOCK_MONOTONIC, &until);
}

#endif

/* Returns the thread id in a lock word, or 0. */
SHM_SYNC_I_INLINE uint32_t shm_sync_i_holder_in(uint32_t word) {
    return shm_sync_i_is_unrecoverable_word(word) ? 0 : word & SHM_SYNC_I_TID_MASK;
}

SHM_SYNC_I_INLINE uint32_t shm_sync_i_holder_of(const shm_sync_i_words *words) {
    return shm_sync_i_holder_in(SHM_SYNC_I_LOAD(&words->lock));
}

/* Returns whether an entry has a word for the entry before it. */
SHM_SYNC_I_INLINE bool shm_sync_i_has_prev(const shm_sync_i_head *head, void *entry) {
    return SHM_SYNC_I_HEAD_HAS_PREV || entry != (const void *)head;
}

/* ------------------------------------------------------------------------------------
 * Identity of the calling thread
 */

/* Reads the inode number of the caller's pid namespace. Returns 0 if it is unknown. */
SHM_SYNC_I_OUTLINE uint32_t shm_sync_i_read_pid_namespace(void) {
    static const char link[] = "/proc/self/ns/pid";
    struct statfs system;
    struct stat status;
    bool found = statfs(link, &system) == 0 &&
                 (unsigned long)system.f_type == SHM_SYNC_I_NSFS_MAGIC &&
                 stat(link, &status) == 0;
    if (!found) {
        /* Without /proc: pidfd_open, and PIDFD_GET_PID_NAMESPACE (Linux 6.11). */
#if defined(__mips__) || defined(__powerpc64__) || defined(__sparc__)
        unsigned long request = 1ul << 29 | 0xff05ul;
#else
        unsigned long request = 0xff05ul;
#endif
        long process = shm_sync_i_syscall(SHM_SYNC_I_PIDFD_OPEN, (long)getpid(), 0L);
        if (process < 0)
            return 0;
        long space = shm_sync_i_syscall(SYS_ioctl, process, request, 0L);
        shm_sync_i_syscall(SYS_close, process);
        if (space < 0)
            return 0;
        found = fstat((int)space, &status) == 0;
        shm_sync_i_syscall(SYS_close, space);
    }
    if (!found || status.st_ino == 0 || status.st_ino >= UINT32_MAX)
        return 0;
    return (uint32_t)status.st_ino;
}

/* Asks the kernel whether this process has made the page. Returns 1 or 0. Returns -1 if
 * the kernel refuses the call. A child may have no memory at the address, or other
 * memory. This can be its own page, whose number is another one. */
SHM_SYNC_I_OUTLINE int shm_sync_i_is_own_page(const shm_sync_i_own_page *page) {
    static const uint32_t constants[3] = SHM_SYNC_I_OWN_PAGE_CONSTANTS;
    int saved = errno;
    long result = shm_sync_i_syscall(SYS_futex, page->words,
        (long)SHM_SYNC_I_FUTEX_CMP_REQUEUE_PRIVATE, 0L, 0L, page->words,
        (unsigned long)page->number);
    bool is_other = result < 0 && (errno == EAGAIN || errno == EFAULT);
    errno = saved;
    if (result < 0)
        return is_other ? 0 : -1;
    for (int i = 0; i < 3; i++) {
        if (SHM_SYNC_I_LOAD(&page->words[1 + i]) != constants[i])
            return 0;
    }
    return 1;
}

/* Returns the own page of this process in `*page`. Makes it if the process has none. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_find_own_page(
    const shm_sync_i_own_page **page) {
    static const uint32_t constants[3] = SHM_SYNC_I_OWN_PAGE_CONSTANTS;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    for (;;) {
        shm_sync_i_own_page *last = SHM_SYNC_I_ACQUIRE(&shm_sync_i_v1_last_own_page);
        int is_own = last == NULL ? 0 : shm_sync_i_is_own_page(last);
        if (is_own < 0)
            return SHM_SYNC_NO_FORK_DETECTION;
        if (is_own > 0) {
            *page = last;
            return SHM_SYNC_OK;
        }
        uint32_t pid_namespace = shm_sync_i_read_pid_namespace();
        if (pid_namespace == 0)
            return SHM_SYNC_NO_PID_NAMESPACE;
        /* The facts are in the first page, which children have a copy of. */
        void *base = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | SHM_SYNC_I_MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED)
            return SHM_SYNC_NO_SPACE;
        uint32_t *words = (uint32_t *)(void *)((char *)base + size);
        if (shm_sync_i_syscall(
                SYS_madvise, words, size, (long)SHM_SYNC_I_MADV_DONTFORK) != 0) {
            munmap(base, 2 * size);
            return SHM_SYNC_NO_FORK_DETECTION;
        }
        shm_sync_i_own_page *next = (shm_sync_i_own_page *)base;
        next->pid_namespace = pid_namespace;
        next->number =
            __atomic_add_fetch(&shm_sync_i_v1_last_number, 1, __ATOMIC_RELAXED);
        next->words = words;
        words[0] = next->number;
        memcpy(words + 1, constants, sizeof constants);
        /* If another thread was faster, the next round finds its page. */
        if (!__atomic_compare_exchange_n(&shm_sync_i_v1_last_own_page, &last, next,
                false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
            munmap(base, 2 * size);
            continue;
        }
        /* An emulator may give a wrong answer. A second page would not help. */
        if (shm_sync_i_is_own_page(next) != 1)
            return SHM_SYNC_NO_FORK_DETECTION;
        *page = next;
        return SHM_SYNC_OK;
    }
}

/* Sets the marker of a thread to that of this process, which the kernel zeroes in each
 * forked child (MADV_WIPEONFORK). Makes it if the process has none. Where the kernel
 * refuses that, the thread gets the own page of the process instead. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_mark(shm_sync_i_thread *me) {
    const size_t page_size = 4096;
    for (;;) {
        uint32_t *last = SHM_SYNC_I_ACQUIRE(&shm_sync_i_v1_last_marker);
        if (last != NULL && SHM_SYNC_I_LOAD(last) != 0) {
            me->marker = last;
            me->own_page = NULL;
            return SHM_SYNC_OK;
        }
        uint32_t pid_namespace = shm_sync_i_read_pid_namespace();
        if (pid_namespace == 0)
            return SHM_SYNC_NO_PID_NAMESPACE;
        /* No word is used twice, so a copy from before a fork refers to a wiped
         * word. */
        uint32_t *next = last == NULL ? NULL : last + 1;
        if (next == NULL || (uintptr_t)next % page_size == 0) {
            void *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | SHM_SYNC_I_MAP_ANONYMOUS, -1, 0);
            if (page == MAP_FAILED)
                return SHM_SYNC_NO_SPACE;
            if (shm_sync_i_syscall(SYS_madvise, page, page_size,
                    (long)SHM_SYNC_I_MADV_WIPEONFORK) != 0) {
                munmap(page, page_size);
                me->marker = &shm_sync_i_v1_unset;
                return shm_sync_i_find_own_page(&me->own_page);
            }
            next = (uint32_t *)page;
        }
        /* If another thread was faster, the next round finds its marker. Then this page
         * stays unused. */
        if (__atomic_compare_exchange_n(&shm_sync_i_v1_last_marker, &last, next, false,
                __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            SHM_SYNC_I_STORE(next, pid_namespace);
    }
}

/* Returns the pid namespace of this process. The caller has just identified the
 * thread. */
SHM_SYNC_I_INLINE uint32_t shm_sync_i_our_namespace(const shm_sync_i_thread *me) {
    return me->own_page == NULL ? SHM_SYNC_I_LOAD(me->marker)
                                : me->own_page->pid_namespace;
}

/* Finds the head of the calling thread's list, or null if the thread has none. Returns
 * false if the kernel refuses the call. */
SHM_SYNC_I_INLINE bool shm_sync_i_find_head(shm_sync_i_head **head) {
    size_t len = 0;
    *head = NULL;
    return shm_sync_i_syscall(SYS_get_robust_list, 0L, head, &len) == 0;
}

/* Lets libc lock a mutex, and compares its words with those that this header writes.
 * Sets the list of the thread. musl registers it by this lock, if it has not before.
 * libc must know the thread by the id `tid`. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_verify(
    shm_sync_i_thread *me, shm_sync_i_head *head, uint32_t tid) {
    shm_sync_i_pthread probe;
    pthread_mutexattr_t attr;
    const shm_sync_i_words *words = &probe.words;
    bool is_known = false;
    memset(&probe, 0, sizeof probe);
    if (pthread_mutexattr_init(&attr) != 0)
        return SHM_SYNC_NO_SPACE;
    bool is_made = pthread_mutexattr_setpshared(&attr, SHM_SYNC_I_SHARED) == 0 &&
                   shm_sync_i_attr_setrobust(&attr, SHM_SYNC_I_MUTEX_ROBUST) == 0 &&
                   shm_sync_i_attr_settype(&attr, SHM_SYNC_I_MUTEX_ERRORCHECK) == 0 &&
                   pthread_mutex_init(&probe.mutex, &attr) == 0;
    pthread_mutexattr_destroy(&attr);
    if (!is_made || pthread_mutex_trylock(&probe.mutex) != 0)
        return SHM_SYNC_NO_ROBUST_LISTS;
    if (head == NULL && !shm_sync_i_find_head(&head))
        head = NULL;
    if (head != NULL) {
        const void *entry = &words->next;
        void *next = SHM_SYNC_I_LOAD(&words->next);
        is_known = head->futex_offset == (long)offsetof(shm_sync_i_words, lock) -
                                             (long)offsetof(shm_sync_i_words, next) &&
                   SHM_SYNC_I_LOAD(&words->lock) == tid &&
                   SHM_SYNC_I_LOAD(&words->kind) == SHM_SYNC_I_KIND &&
                   shm_sync_i_has_known_words(words, tid) &&
                   SHM_SYNC_I_LOAD(&words->prev) == (const void *)head &&
                   SHM_SYNC_I_LOAD(&head->list) == entry &&
                   SHM_SYNC_I_LOAD(&head->pending) == NULL && next != NULL &&
                   (!shm_sync_i_has_prev(head, next) ||
                       SHM_SYNC_I_LOAD(shm_sync_i_prev_of(next)) == entry);
    }
    pthread_mutex_unlock(&probe.mutex);
    pthread_mutex_destroy(&probe.mutex);
    if (head == NULL)
        return SHM_SYNC_NO_ROBUST_LISTS;
    me->head = head;
    me->is_known = is_known;
    return SHM_SYNC_OK;
}

/* Returns whether libc knows the calling thread by the id `tid`. After a bare clone(2)
 * it has the id of another thread. The clock of a thread contains its id: its
 * complement, and three bits for the kind of the clock. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_pthread(uint32_t tid) {
    int clock = 0;
    return shm_sync_i_cpu_clock(pthread_self(), &clock) == 0 &&
           (uint32_t) ~(clock >> 3) == tid;
}

/* Empties the list of the only thread of a forked child, if that thread has used this
 * header. The mutexes on it are those of the parent. The child has locked nothing. */
SHM_SYNC_I_OUTLINE void shm_sync_i_empty_list(void) {
    shm_sync_i_head *head = shm_sync_i_v1_this_thread.head;
    if (head != NULL) {
        SHM_SYNC_I_STORE(&head->list, (void *)head);
        SHM_SYNC_I_STORE(&head->pending, (void *)NULL);
    }
}

SHM_SYNC_I_OUTLINE void shm_sync_i_handle_fork(void) {
    shm_sync_i_empty_list();
    SHM_SYNC_I_STORE(&shm_sync_i_v1_handled, (uint32_t)shm_sync_i_syscall(SYS_gettid));
}

/* Has the list of each forked child emptied, which musl does not do. Two threads may
 * both install the handler, which does no harm. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_install_handler(void) {
#ifdef SHM_SYNC_I_MUSL
    if (SHM_SYNC_I_LOAD(&shm_sync_i_v1_has_handler) == 0) {
        if (pthread_atfork(NULL, NULL, shm_sync_i_handle_fork) != 0)
            return false;
        SHM_SYNC_I_STORE(&shm_sync_i_v1_has_handler, (uint8_t)1);
    }
#endif
    return true;
}

/* Finds the list of a thread. The kernel knows none in a new thread of musl, and in a
 * forked child until it locks a shared mutex. A child of _Fork() has run no handlers,
 * so its list is emptied here. If it has locked a private mutex by libc before, that
 * mutex leaves the list, and its unlock empties the list once more. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_find_list(
    shm_sync_i_thread *me, uint32_t tid) {
    shm_sync_i_head *head = NULL;
    if (!shm_sync_i_is_pthread(tid))
        return SHM_SYNC_RAW_CLONE;
    if (!shm_sync_i_find_head(&head))
        return SHM_SYNC_NO_ROBUST_LISTS;
    if (head == NULL) {
        if (!SHM_SYNC_I_REGISTERS_AT_FIRST_LOCK)
            return SHM_SYNC_NO_ROBUST_LISTS;
        if (SHM_SYNC_I_LOAD(&shm_sync_i_v1_handled) != tid)
            shm_sync_i_empty_list();
    }
    if (!shm_sync_i_install_handler())
        return SHM_SYNC_NO_SPACE;
    return shm_sync_i_verify(me, head, tid);
}

SHM_SYNC_I_COLD shm_sync_result shm_sync_i_refresh(shm_sync_i_thread *me) {
    if (me->own_page != NULL && shm_sync_i_is_own_page(me->own_page) == 1)
        return SHM_SYNC_OK;
    int saved = errno;
    uint32_t tid = (uint32_t)shm_sync_i_syscall(SYS_gettid);
    shm_sync_result result = shm_sync_i_find_list(me, tid);
    if (result == SHM_SYNC_OK) {
        me->tid = tid;
        me->id = ((uint64_t)getpid() & SHM_SYNC_I_TID_MASK) << 30 |
                 (tid & SHM_SYNC_I_TID_MASK);
        me->top = NULL; /* the first lock counts */
        result = shm_sync_i_mark(me);
    }
    errno = saved;
    return result;
}

/* Returns whether the identity of the calling thread is valid. Does not make it. */
SHM_SYNC_I_INLINE bool shm_sync_i_has_identity(const shm_sync_i_thread *me) {
    return SHM_SYNC_I_LIKELY(SHM_SYNC_I_LOAD(me->marker) != 0) ||
           (me->own_page != NULL && shm_sync_i_is_own_page(me->own_page) == 1);
}

/* Makes sure that the identity of the calling thread is valid. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_i_identify(void) {
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    return SHM_SYNC_I_LIKELY(SHM_SYNC_I_LOAD(me->marker) != 0) ? SHM_SYNC_OK
                                                               : shm_sync_i_refresh(me);
}

/* Counts the list, and returns whether the kernel would recover one more lock. The
 * number is right as long as the first entry is the same, because all code puts new
 * entries in front. */
SHM_SYNC_I_COLD bool shm_sync_i_recount(shm_sync_i_thread *me) {
    int32_t count = 0;
    void *entry = SHM_SYNC_I_LOAD(&me->head->list);
    while (
        entry != (void *)me->head && entry != NULL && count < SHM_SYNC_MAX_LOCKS_HELD) {
        entry = SHM_SYNC_I_LOAD(shm_sync_i_next_of(entry));
        count += 1;
    }
    me->room = SHM_SYNC_MAX_LOCKS_HELD - count;
    me->all_ours = count == 0;
    /* Other code may hold the first mutex. If this thread gets the lock, that one
     * becomes the top. */
    me->top = me->all_ours ? (void *)me->head : NULL;
    return count < SHM_SYNC_MAX_LOCKS_HELD;
}

SHM_SYNC_I_INLINE bool shm_sync_i_has_room(const shm_sync_i_thread *me) {
    return SHM_SYNC_I_LOAD(&me->head->list) == me->top && me->room > 0;
}

/* ------------------------------------------------------------------------------------
 * Spinning before a sleep
 */

/* Returns whether a thread whose last `failed` spins failed spins again: 0 not at all,
 * 1 briefly, 4 longer. After four failures only the 16th, 32nd, 64th and so on,
 * and each 1024th wait spins. */
SHM_SYNC_I_INLINE unsigned shm_sync_i_spin_budget(unsigned failed) {
    if (failed < 4)
        return 1;
    return failed >= 16 && (failed & (failed - 1)) == 0 ? 4 : 0;
}

/* Counts a failed spin. After 2047 comes 1024, so that every 1024th wait spins. */
SHM_SYNC_I_INLINE uint16_t shm_sync_i_failed_again(uint16_t failed) {
    return (uint16_t)(failed == 2047 ? 1024 : failed + 1);
}

/* Returns whether more than one processor is online. Asks only once. */
SHM_SYNC_I_INLINE bool shm_sync_i_has_several_processors(void) {
    uint8_t answer = SHM_SYNC_I_LOAD(&shm_sync_i_v1_processors);
    if (answer == 0) {
        answer = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
        SHM_SYNC_I_STORE(&shm_sync_i_v1_processors, answer);
    }
    return answer == 2;
}

/* Evaluates `done` until it is true, for about 15 microseconds. Sets `result`. Each
 * poll takes the cache line from the other side, so there are pauses in between. */
#define SHM_SYNC_I_SPIN(result, done)                                            \
    do {                                                                         \
        shm_sync_i_thread *spinner = &shm_sync_i_v1_this_thread;                 \
        unsigned budget = shm_sync_i_spin_budget(spinner->failed_spins);         \
        (result) = (done);                                                       \
        if (!(result) && budget != 0 && shm_sync_i_has_several_processors()) {   \
            uint64_t limit = shm_sync_i_after(UINT64_C(15000) * budget);         \
            do {                                                                 \
                for (unsigned hints = 2; hints <= 32 && !(result); hints *= 2) { \
                    for (unsigned hint = 0; hint < hints; hint++)                \
                        shm_sync_i_spin_hint();                                  \
                    (result) = (done);                                           \
                }                                                                \
            } while (!(result) && !shm_sync_i_has_passed(limit));                \
        }                                                                        \
        spinner->failed_spins =                                                  \
            (result) ? 0 : shm_sync_i_failed_again(spinner->failed_spins);       \
    } while (0)

/* Polls a mutex five times within 3 microseconds. There is a pause before each poll,
 * because a poll takes the cache line from the holder. The short pauses suit a holder
 * that unlocks soon, the long ones a holder that locks again at once. Returns whether
 * the last poll found no holder, or false without a poll if this thread has stopped
 * spinning or there is only one processor. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_spin_for_lock(const shm_sync_i_words *words) {
    const uint16_t nanoseconds[] = {100, 100, 100, 1600, 1100};
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    bool is_free = false;
    if (shm_sync_i_spin_budget(me->failed_lock_spins) != 0 &&
        shm_sync_i_has_several_processors()) {
        uint64_t next_poll = shm_sync_i_now();
        const size_t polls = sizeof nanoseconds / sizeof nanoseconds[0];
        for (size_t poll = 0; poll < polls && !is_free; poll++) {
            next_poll += nanoseconds[poll];
            while (!shm_sync_i_has_passed(next_poll))
                shm_sync_i_spin_hint();
            is_free = shm_sync_i_holder_of(words) == 0;
        }
    }
    me->failed_lock_spins =
        is_free ? 0 : shm_sync_i_failed_again(me->failed_lock_spins);
    return is_free;
}

/* ------------------------------------------------------------------------------------
 * Robust locks
 *
 * This header writes the words of libc's mutex and libc's list of the thread, store by
 * store what libc writes. The kernel reads that list when the thread ends. Each thread
 * verifies the layout first, and lets libc lock and unlock if it is unknown.
 *
 * | locking | if the thread dies after it, the kernel |
 * |---|---|
 * | 1. `pending` = the mutex | wakes a waiter, if the lock word is 0 |
 * | 2. lock word: 0 to thread id | finds it by `pending`: owner died |
 * | 3. the mutex goes to the front of the list | finds it by the list: owner died |
 * | 4. `pending` = null | the same |
 *
 * | unlocking | if the thread dies after it, the kernel |
 * |---|---|
 * | 1. `pending` = the mutex | finds the mutex by the list: owner died |
 * | 2. the mutex leaves the list | finds the mutex by `pending`: owner died |
 * | 3. lock word: thread id to 0 | wakes a waiter |
 * | 4. a waiter is woken, if the word had FUTEX_WAITERS | wakes a waiter |
 * | 5. `pending` = null | does nothing |
 *
 * The compiler must keep this order, so a signal fence stands between the steps. The
 * lock word is sequentially consistent: a thread that leaves a seat then reads whether
 * a thread waits for that. `holder` has the process of the holder as well as its
 * thread, and counts only while libc's words name the same thread, or no thread after
 * an owner death.
 */

typedef enum shm_sync_i_record { SHM_SYNC_I_POISON, SHM_SYNC_I_NOTE } shm_sync_i_record;
typedef enum shm_sync_i_how {
    SHM_SYNC_I_WAIT,
    SHM_SYNC_I_TRY,
    /* It waits. The thread may have slept in the queue of the mutex. */
    SHM_SYNC_I_WAIT_QUEUED
} shm_sync_i_how;

/* Bit 63 of a note: an occupant has died, and no taker has learned of it. */
#define SHM_SYNC_I_NOTE_DIED (UINT64_C(1) << 63)
#define SHM_SYNC_I_ID_MASK ((UINT64_C(1) << 60) - 1)

SHM_SYNC_I_INLINE void shm_sync_i_set_pending(shm_sync_i_head *head, void *entry) {
    SHM_SYNC_I_STORE(&head->pending, entry);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

SHM_SYNC_I_INLINE void shm_sync_i_clear_pending(shm_sync_i_head *head) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    SHM_SYNC_I_STORE(&head->pending, (void *)NULL);
}

/* Returns the entry of a mutex with priority inheritance. */
SHM_SYNC_I_INLINE void *shm_sync_i_pi_entry(shm_sync_i_words *words) {
    return (void *)((uintptr_t)&words->next | SHM_SYNC_I_PI_FLAG);
}

/* Inserts a mutex at the front of the list (step 3). The thread has just locked its
 * word. */
SHM_SYNC_I_INLINE void shm_sync_i_push_front(
    shm_sync_i_head *head, shm_sync_i_words *words, void *entry) {
    void *first = SHM_SYNC_I_LOAD(&head->list);
    shm_sync_i_set_count(words, 1);
    SHM_SYNC_I_STORE(&words->next, first);
    SHM_SYNC_I_STORE(&words->prev, (void *)head);
    if (shm_sync_i_has_prev(head, first))
        SHM_SYNC_I_STORE(shm_sync_i_prev_of(first), (void *)&words->next);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    SHM_SYNC_I_STORE(&head->list, entry);
}

/* Removes a mutex from the list (step 2 of unlocking). Returns the next entry. */
SHM_SYNC_I_INLINE void *shm_sync_i_remove(
    const shm_sync_i_head *head, shm_sync_i_words *words) {
    void *next = SHM_SYNC_I_LOAD(&words->next);
    void *prev = SHM_SYNC_I_LOAD(&words->prev);
    if (shm_sync_i_has_prev(head, next))
        SHM_SYNC_I_STORE(shm_sync_i_prev_of(next), prev);
    SHM_SYNC_I_STORE(shm_sync_i_next_of(prev), next);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    shm_sync_i_clear_node(words);
    return next;
}

/* Unlocks the word (step 3), and wakes a waiter if there may be one (step 4). */
SHM_SYNC_I_INLINE void shm_sync_i_release_word(shm_sync_i_words *words) {
    uint32_t word = __atomic_exchange_n(&words->lock, 0u, __ATOMIC_SEQ_CST);
    if ((word & SHM_SYNC_I_WAITERS) != 0)
        shm_sync_i_futex_wake(&words->lock, 1);
}

/* Unlocks an unrecoverable mutex whose word this thread has locked. */
SHM_SYNC_I_COLD void shm_sync_i_release_unrecoverable(shm_sync_i_words *words) {
    shm_sync_i_set_count(words, 0);
    shm_sync_i_release_word(words);
}

/* Completes a lock after step 2. The last holder did not die. */
SHM_SYNC_I_INLINE int shm_sync_i_enlist(
    shm_sync_i_thread *me, shm_sync_i_words *words) {
    if (!SHM_SYNC_I_LIKELY(!shm_sync_i_is_unrecoverable(words))) {
        shm_sync_i_release_unrecoverable(words);
        return ENOTRECOVERABLE;
    }
    shm_sync_i_note_counted_waiters(words);
    shm_sync_i_push_front(me->head, words, &words->next);
    shm_sync_i_set_owner(words, me->tid);
    return 0;
}

/* Locks the mutex if its word is 0. Returns 0, EBUSY or ENOTRECOVERABLE. The exchange
 * is the first access to the lock word. */
SHM_SYNC_I_INLINE int shm_sync_i_try_fast(
    shm_sync_i_thread *me, shm_sync_i_words *words) {
    uint32_t expected = 0;
    int code = EBUSY;
    shm_sync_i_set_pending(me->head, &words->next);
    if (SHM_SYNC_I_LIKELY(__atomic_compare_exchange_n(&words->lock, &expected, me->tid,
            false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)))
        code = shm_sync_i_enlist(me, words);
    shm_sync_i_clear_pending(me->head);
    return code;
}

/* Tries to lock, as long as the word changes. `*word` is the word that it has read
 * last. `waiters` is FUTEX_WAITERS if this thread has slept in the queue, because other
 * waiters may be queued. Returns 0, EOWNERDEAD, EBUSY, EDEADLK or ENOTRECOVERABLE. */
SHM_SYNC_I_OUTLINE int shm_sync_i_try_list(
    shm_sync_i_thread *me, shm_sync_i_words *words, uint32_t waiters, uint32_t *word) {
    for (;;) {
        *word = SHM_SYNC_I_LOAD(&words->lock);
        if (shm_sync_i_is_unrecoverable_word(*word)) {
            if (waiters != 0) /* the unlock has woken one waiter only */
                shm_sync_i_futex_wake(&words->lock, INT32_MAX);
            return ENOTRECOVERABLE;
        }
        uint32_t holder = *word & SHM_SYNC_I_TID_MASK;
        if (holder == me->tid && shm_sync_i_is_unrecoverable(words)) {
            /* glibc's trylock, called by other code in this thread, has left it
             * locked. */
            shm_sync_i_release_unrecoverable(words);
            return ENOTRECOVERABLE;
        }
        if (holder == me->tid)
            return EDEADLK;
        if (holder != 0)
            return EBUSY;
        uint32_t locked =
            me->tid | waiters | (*word & (SHM_SYNC_I_WAITERS | SHM_SYNC_I_KEPT));
        uint32_t expected = *word;
        if (!__atomic_compare_exchange_n(&words->lock, &expected, locked, false,
                __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            continue;
        if ((*word & SHM_SYNC_I_OWNER_DIED) == 0)
            return shm_sync_i_enlist(me, words);
        shm_sync_i_note_counted_waiters(words);
        /* glibc's `owner` still names the dead thread. */
        shm_sync_i_push_front(me->head, words, &words->next);
        return EOWNERDEAD;
    }
}

/* Waits until the mutex may be free, or until the next recheck. Returns 0, or the error
 * with which the kernel refuses to let the thread sleep. */
SHM_SYNC_I_OUTLINE int shm_sync_i_await_list(
    shm_sync_i_words *words, uint32_t word, uint64_t deadline, uint32_t *waiters) {
    /* While another waiter sleeps, the wait is long. */
    if ((word & SHM_SYNC_I_WAITERS) == 0 && shm_sync_i_spin_for_lock(words))
        return 0;
    uint32_t announced = word | SHM_SYNC_I_WAITERS;
    if (word != announced && !__atomic_compare_exchange_n(&words->lock, &word,
                                 announced, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return 0; /* it has changed, so the mutex may be free */
    *waiters = SHM_SYNC_I_WAITERS;
    int code = shm_sync_i_futex_wait(
        &words->lock, announced, shm_sync_i_next_recheck(deadline));
    return code == ETIMEDOUT ? 0 : code;
}

/* Locks by writing the words. A waiter tries again after each recheck, because it can
 * sleep beside a free mutex: if the unlocking process dies before its wake-up, and a
 * third thread has just locked, the kernel wakes none. */
SHM_SYNC_I_OUTLINE int shm_sync_i_lock_list(
    shm_sync_i_words *words, shm_sync_i_how how, uint64_t deadline) {
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    bool expired = shm_sync_i_has_passed(deadline);
    uint32_t waiters = how == SHM_SYNC_I_WAIT_QUEUED ? SHM_SYNC_I_WAITERS : 0;
    uint32_t word;
    int code;
    /* It stays set during the wait. If the thread dies just after a wake-up, the kernel
     * wakes another waiter. */
    shm_sync_i_set_pending(me->head, &words->next);
    for (;;) {
        code = shm_sync_i_try_list(me, words, waiters, &word);
        if (code != EBUSY && code != EDEADLK)
            break;
        if (how == SHM_SYNC_I_TRY)
            code = EBUSY;
        else if (code == EBUSY && expired)
            code = ETIMEDOUT;
        if (how == SHM_SYNC_I_TRY || code != EBUSY)
            break;
        code = shm_sync_i_await_list(words, word, deadline, &waiters);
        if (code != 0)
            break;
        expired = shm_sync_i_has_passed(deadline);
    }
    shm_sync_i_clear_pending(me->head);
    return code;
}

/* Locks by libc, whose layout is unknown. After an owner death, glibc changes `owner`,
 * and this header does not. */
SHM_SYNC_I_OUTLINE int shm_sync_i_lock_libc(
    shm_sync_i_pthread *pthread, shm_sync_i_how how, uint64_t deadline) {
    uint32_t tid = shm_sync_i_v1_this_thread.tid;
    bool expired = shm_sync_i_has_passed(deadline);
    for (;;) {
        /* glibc's trylock leaves an unrecoverable mutex locked. */
        int code = shm_sync_i_is_unrecoverable(&pthread->words)
                       ? ENOTRECOVERABLE
                       : pthread_mutex_trylock(&pthread->mutex);
        bool is_mine = shm_sync_i_holder_of(&pthread->words) == tid;
        if (code == ENOTRECOVERABLE && is_mine)
            shm_sync_i_release_unrecoverable(&pthread->words);
        if (code != EBUSY && code != EDEADLK)
            return code;
        if (how == SHM_SYNC_I_TRY)
            return EBUSY;
        if (is_mine || expired)
            return is_mine ? EDEADLK : ETIMEDOUT;
        uint64_t until = shm_sync_i_next_recheck(deadline);
        unsigned long slack = shm_sync_i_slack_lower(until);
        code = shm_sync_i_lock_until(&pthread->mutex, until);
        shm_sync_i_slack_restore(slack);
        /* After ETIMEDOUT, glibc leaves the mutex in `pending`. The trylock clears
         * it. */
        if (code != ETIMEDOUT)
            return code;
        expired = shm_sync_i_has_passed(deadline);
    }
}

/* Makes an operation on a mutex with priority inheritance. Returns 0 or the error. */
SHM_SYNC_I_OUTLINE int shm_sync_i_futex_pi(
    const uint32_t *word, long operation, const struct timespec *until) {
    int saved = errno;
    int code =
        shm_sync_i_syscall(SYS_futex, word, operation, 0L, until) == 0 ? 0 : errno;
    errno = saved;
    return code;
}

/* Requests a mutex from the kernel, and waits until the deadline. The deadline of
 * FUTEX_LOCK_PI, before Linux 5.14, is on the wall clock. */
SHM_SYNC_I_OUTLINE int shm_sync_i_request_pi(const uint32_t *word, uint64_t deadline) {
    struct timespec until = shm_sync_i_timespec(deadline);
    int code = shm_sync_i_futex_pi(word, SHM_SYNC_I_FUTEX_LOCK_PI2, &until);
    if (code != ENOSYS)
        return code;
    until = shm_sync_i_wall_time(deadline);
    return shm_sync_i_futex_pi(word, SHM_SYNC_I_FUTEX_LOCK_PI, &until);
}

/* How often a thread tries what the kernel refuses, before it waits for the next
 * recheck. */
#define SHM_SYNC_I_PI_ATTEMPTS 8

/* Unlocks the word of a mutex with priority inheritance. The kernel assigns it to the
 * next waiter. If its queue contradicts the word, the holder leaves FUTEX_WAITERS
 * without an owner: then only the kernel assigns the mutex. 0 could let two threads
 * in. */
SHM_SYNC_I_OUTLINE void shm_sync_i_release_pi(shm_sync_i_words *words, uint32_t tid) {
    uint32_t word = tid;
    if (__atomic_compare_exchange_n(
            &words->lock, &word, 0u, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return;
    /* The exchange has failed, so it has released nothing. This access does. */
    __atomic_fetch_or(&words->lock, 0u, __ATOMIC_SEQ_CST);
    for (int attempt = 0; attempt < SHM_SYNC_I_PI_ATTEMPTS; attempt++) {
        int code = shm_sync_i_futex_pi(&words->lock, SHM_SYNC_I_FUTEX_UNLOCK_PI, NULL);
        if (code == 0)
            return;
        if (code == EINVAL)
            shm_sync_i_futex_wake(
                &words->lock, INT32_MAX); /* plain waiters are in the queue */
    }
    word = SHM_SYNC_I_LOAD(&words->lock);
    while ((word & SHM_SYNC_I_TID_MASK) == tid) {
        if (__atomic_compare_exchange_n(&words->lock, &word, SHM_SYNC_I_WAITERS, false,
                __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return;
    }
}

/* Completes a lock with priority inheritance: the word names this thread. */
SHM_SYNC_I_OUTLINE int shm_sync_i_enlist_pi(
    const shm_sync_i_thread *me, shm_sync_i_words *words) {
    uint32_t word = SHM_SYNC_I_ACQUIRE(&words->lock);
    if ((word & SHM_SYNC_I_OWNER_DIED) != 0 && shm_sync_i_death_counts(words)) {
        /* A plain store would lose a FUTEX_WAITERS that the kernel sets meanwhile. */
        __atomic_fetch_and(
            &words->lock, ~SHM_SYNC_I_OWNER_DIED | SHM_SYNC_I_KEPT, __ATOMIC_RELAXED);
        shm_sync_i_push_front(me->head, words, shm_sync_i_pi_entry(words));
        return EOWNERDEAD;
    }
    if (shm_sync_i_is_unrecoverable(words)) {
        shm_sync_i_release_pi(words, me->tid);
        return ENOTRECOVERABLE;
    }
    shm_sync_i_push_front(me->head, words, shm_sync_i_pi_entry(words));
    shm_sync_i_set_owner(words, me->tid);
    return 0;
}

/* Locks a mutex with priority inheritance, which `pending` names. The kernel assigns a
 * mutex for which threads wait. src/robust/pi.rs of the Rust crate explains each of its
 * answers, and why libc must not lock such a mutex. */
SHM_SYNC_I_OUTLINE int shm_sync_i_lock_pi_pending(const shm_sync_i_thread *me,
    shm_sync_i_words *words, shm_sync_i_how how, uint64_t deadline) {
    if (shm_sync_i_holder_of(words) == me->tid) {
        if (shm_sync_i_is_unrecoverable(words)) {
            shm_sync_i_release_pi(words, me->tid);
            return ENOTRECOVERABLE;
        }
        return how == SHM_SYNC_I_TRY ? EBUSY : EDEADLK;
    }
    for (int attempts = 0;;) {
        /* The kernel may have assigned the mutex, although it has reported an error. */
        uint32_t word = SHM_SYNC_I_ACQUIRE(&words->lock);
        if (shm_sync_i_is_unrecoverable_word(word))
            return ENOTRECOVERABLE;
        uint32_t holder = word & SHM_SYNC_I_TID_MASK;
        if (holder == me->tid)
            return shm_sync_i_enlist_pi(me, words);
        if (word == 0) {
            if (__atomic_compare_exchange_n(&words->lock, &word, me->tid, false,
                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
                return shm_sync_i_enlist_pi(me, words);
            continue;
        }
        bool expired = how == SHM_SYNC_I_TRY || shm_sync_i_has_passed(deadline);
        int refusal = how == SHM_SYNC_I_TRY ? EBUSY : ETIMEDOUT;
        if (holder != 0 && expired)
            return refusal;
        uint64_t until = shm_sync_i_next_recheck(deadline);
        int code = expired ? shm_sync_i_futex_pi(
                                 &words->lock, SHM_SYNC_I_FUTEX_TRYLOCK_PI, NULL)
                           : shm_sync_i_request_pi(&words->lock, until);
        switch (code) {
        case 0: continue;
        case ETIMEDOUT: attempts = 0; continue;
        case EAGAIN: /* FUTEX_TRYLOCK_PI: a thread holds the mutex */
            if (expired)
                return refusal;
            break;
        case EINTR: break;
        case EINVAL: /* the queue contradicts the word */
            shm_sync_i_futex_wake(&words->lock, INT32_MAX);
            break;
        case ESRCH: /* the word names no thread */
        case EPERM:
        case EDEADLK: /* this wait would close a cycle of waiting threads */
            attempts = SHM_SYNC_I_PI_ATTEMPTS;
            break;
        default: return code;
        }
        if (attempts < SHM_SYNC_I_PI_ATTEMPTS) {
            attempts += 1;
            continue;
        }
        if (expired)
            return refusal;
        uint32_t never_woken = 0;
        (void)shm_sync_i_futex_wait(&never_woken, 0, until);
        attempts = 0;
    }
}

/* Locks a mutex of a known kind. Returns 0, EOWNERDEAD, EBUSY (only if it does not
 * wait), ETIMEDOUT, EDEADLK, ENOTRECOVERABLE, or another error. */
SHM_SYNC_I_OUTLINE int shm_sync_i_pthread_lock(
    shm_sync_i_pthread *pthread, shm_sync_i_how how, uint64_t deadline) {
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    shm_sync_i_words *words = &pthread->words;
    if (!me->is_known)
        return shm_sync_i_lock_libc(pthread, how, deadline);
    if (SHM_SYNC_I_LOAD(&words->kind) == SHM_SYNC_I_KIND)
        return shm_sync_i_lock_list(words, how, deadline);
    shm_sync_i_set_pending(me->head, shm_sync_i_pi_entry(words));
    int code = shm_sync_i_lock_pi_pending(me, words, how, deadline);
    shm_sync_i_clear_pending(me->head);
    return code;
}

/* Unlocks a mutex that the calling thread holds. Returns the entry after it. */
SHM_SYNC_I_INLINE void *shm_sync_i_pthread_unlock(
    shm_sync_i_thread *me, shm_sync_i_pthread *pthread) {
    shm_sync_i_words *words = &pthread->words;
    uint32_t kind = SHM_SYNC_I_LOAD(&words->kind);
    if (!SHM_SYNC_I_LIKELY(me->is_known)) {
        pthread_mutex_unlock(&pthread->mutex);
        __sync_synchronize(); /* libc only releases the word */
        return NULL;
    }
    shm_sync_i_set_pending(me->head,
        kind == SHM_SYNC_I_KIND ? (void *)&words->next : shm_sync_i_pi_entry(words));
    void *next = shm_sync_i_remove(me->head, words);
    shm_sync_i_clear_owner(words);
    if (SHM_SYNC_I_LIKELY(kind == SHM_SYNC_I_KIND))
        shm_sync_i_release_word(words);
    else
        shm_sync_i_release_pi(words, me->tid);
    shm_sync_i_clear_pending(me->head);
    return next;
}

/* Makes a mutex consistent after EOWNERDEAD. */
SHM_SYNC_I_COLD int shm_sync_i_make_consistent(shm_sync_i_pthread *pthread) {
    if (!shm_sync_i_v1_this_thread.is_known) {
        int code = shm_sync_i_consistent(&pthread->mutex);
        if (code != 0)
            pthread_mutex_unlock(&pthread->mutex);
        return code;
    }
    shm_sync_i_set_consistent(&pthread->words, shm_sync_i_v1_this_thread.tid);
    return 0;
}

/* Counts one more lock of this thread, which is the first of its list. */
SHM_SYNC_I_INLINE void shm_sync_i_count_lock(shm_sync_i_thread *me) {
    me->room -= 1;
    me->top = SHM_SYNC_I_LOAD(&me->head->list);
}

/* Counts one lock less. `first` is the first entry before the unlock, and `next` the
 * entry after the one that was removed. Other code may unlock its own entry, and lock
 * it again with more entries behind it. So `next` becomes `top` only if it is the head,
 * or if this copy of the header has locked all entries. */
SHM_SYNC_I_INLINE void shm_sync_i_count_unlock(
    shm_sync_i_thread *me, const shm_sync_i_words *words, void *first, void *next) {
    if (first != me->top) {
        me->top = NULL; /* other code has changed the list */
        return;
    }
    me->room += 1;
    if (((uintptr_t)first & ~(uintptr_t)1) == (uintptr_t)&words->next)
        me->top = me->all_ours || next == (void *)me->head ? next : NULL;
}

/* Records that the calling thread has acquired the lock. */
SHM_SYNC_I_INLINE void shm_sync_i_acquired(
    shm_sync_i_lock *lock, shm_sync_i_thread *me) {
    SHM_SYNC_I_STORE(&lock->holder, me->id);
    shm_sync_i_count_lock(me);
}

/* Returns the process and the thread that hold the lock, or died as its holder. The
 * process is unknown if libc's words name another thread than `holder`: other code has
 * locked, or the holder had just locked. */
SHM_SYNC_I_COLD uint64_t shm_sync_i_last_holder(const shm_sync_i_lock *lock) {
    uint64_t holder = SHM_SYNC_I_LOAD(&lock->holder) & SHM_SYNC_I_ID_MASK;
    uint32_t recorded = (uint32_t)(holder & SHM_SYNC_I_TID_MASK);
    uint32_t owner = shm_sync_i_owner_of(&lock->pthread.words, recorded);
    if (owner == 0)
        return 0;
    return owner == recorded ? holder : owner & SHM_SYNC_I_TID_MASK;
}

/* Records that a holder died. */
SHM_SYNC_I_COLD void shm_sync_i_record_death(
    shm_sync_i_lock *lock, shm_sync_i_record record, uint64_t dead) {
    if (record == SHM_SYNC_I_POISON)
        SHM_SYNC_I_STORE(&lock->record, UINT64_C(1) << 60 | dead);
    else
        __atomic_fetch_or(&lock->record, SHM_SYNC_I_NOTE_DIED, __ATOMIC_RELAXED);
    __atomic_fetch_add(&lock->failures, (uint16_t)1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Records the death of the last holder, and then makes the mutex consistent. If this
 * process dies in between, the next locker repeats both. */
SHM_SYNC_I_COLD shm_sync_result shm_sync_i_recover_owner_death(
    shm_sync_i_lock *lock, shm_sync_i_record record) {
    uint64_t dead = shm_sync_i_last_holder(lock);
    if (!shm_sync_i_v1_this_thread.is_known &&
        shm_sync_i_is_overwritten(&lock->pthread.words))
        dead = SHM_SYNC_I_LOAD(&lock->holder) & SHM_SYNC_I_ID_MASK;
    shm_sync_i_record_death(lock, record, dead);
    int code = shm_sync_i_make_consistent(&lock->pthread);
    if (code == 0)
        return SHM_SYNC_OK;
    errno = code;
    return SHM_SYNC_SYSTEM;
}

/* Completes a lock: converts the result, records the holder, and recovers after an
 * owner death. */
SHM_SYNC_I_COLD shm_sync_result shm_sync_i_finish(
    shm_sync_i_lock *lock, shm_sync_i_record record, int code, bool *died) {
    shm_sync_result result = SHM_SYNC_OK;
    switch (code) {
    case 0: break;
    case EOWNERDEAD:
        result = shm_sync_i_recover_owner_death(lock, record);
        *died = result == SHM_SYNC_OK;
        break;
    case EBUSY: return SHM_SYNC_WOULD_BLOCK;
    case ETIMEDOUT: return SHM_SYNC_TIMED_OUT;
    case EDEADLK: return SHM_SYNC_DEADLOCK;
    case ENOTRECOVERABLE: return SHM_SYNC_UNRECOVERABLE;
    default: errno = code; return SHM_SYNC_SYSTEM;
    }
    if (result == SHM_SYNC_OK)
        shm_sync_i_acquired(lock, &shm_sync_i_v1_this_thread);
    return result;
}

/* Checks that the calling thread may lock. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_check(const shm_sync_i_lock *lock) {
    uint32_t pid_namespace = SHM_SYNC_I_ACQUIRE(&lock->pid_namespace);
    if (pid_namespace == SHM_SYNC_I_NOT_PLACED || pid_namespace == 0)
        return SHM_SYNC_NOT_PLACED;
    if (pid_namespace >> 30 == 1)
        return SHM_SYNC_UNSUPPORTED; /* private memory of a Rust program */
    shm_sync_result result = shm_sync_i_identify();
    if (result != SHM_SYNC_OK)
        return result;
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    if (pid_namespace != shm_sync_i_our_namespace(me))
        return SHM_SYNC_FOREIGN_PID_NAMESPACE;
    uint32_t kind = SHM_SYNC_I_LOAD(&lock->pthread.words.kind);
    if (me->is_known && kind != SHM_SYNC_I_KIND &&
        (kind & ~SHM_SYNC_I_KIND_IGNORED) != SHM_SYNC_I_KIND_PI)
        return SHM_SYNC_CORRUPT;
    if (!me->is_known && (kind & SHM_SYNC_I_KIND_PRIO_INHERIT) != 0)
        return SHM_SYNC_UNSUPPORTED;
    return shm_sync_i_has_room(me) || shm_sync_i_recount(me) ? SHM_SYNC_OK
                                                             : SHM_SYNC_TOO_MANY_LOCKS;
}

/* Locks. Handles all states, and waits until the deadline. */
SHM_SYNC_I_COLD shm_sync_result shm_sync_i_lock_slow(shm_sync_i_lock *lock,
    shm_sync_i_record record, shm_sync_i_how how, uint64_t deadline, bool *died) {
    shm_sync_result result = shm_sync_i_check(lock);
    if (result != SHM_SYNC_OK)
        return result;
    return shm_sync_i_finish(
        lock, record, shm_sync_i_pthread_lock(&lock->pthread, how, deadline), died);
}

/* Locks. `*died` becomes true if the last holder died and this thread is the first to
 * see it. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_i_lock_with(shm_sync_i_lock *lock,
    shm_sync_i_record record, shm_sync_i_how how, uint64_t deadline, bool *died) {
    shm_sync_i_thread *me = shm_sync_i_me();
    shm_sync_i_words *words = &lock->pthread.words;
    uint32_t pid_namespace = SHM_SYNC_I_ACQUIRE(&lock->pid_namespace);
    /* The comparison checks that the lock is initialised, that it belongs to the
     * thread's namespace, and that the thread's identity is valid. A call that does not
     * wait may come often, and reads first, because an exchange takes the cache line
     * from the holder. */
    bool is_usual = pid_namespace == SHM_SYNC_I_LOAD(me->marker) &&
                    pid_namespace != 0 && me->is_known &&
                    SHM_SYNC_I_LOAD(&words->kind) == SHM_SYNC_I_KIND &&
                    shm_sync_i_has_room(me);
    if (SHM_SYNC_I_LIKELY(is_usual) && how != SHM_SYNC_I_WAIT_QUEUED &&
        (how != SHM_SYNC_I_TRY || shm_sync_i_holder_of(words) == 0)) {
        if (SHM_SYNC_I_LIKELY(shm_sync_i_try_fast(me, words) == 0)) {
            shm_sync_i_acquired(lock, me);
            return SHM_SYNC_OK;
        }
    }
    return shm_sync_i_lock_slow(lock, record, how, deadline, died);
}

/* Returns whether the calling thread holds the lock. The lock word alone does not prove
 * it: glibc's trylock can leave this thread's id in an unrecoverable mutex, and a dead
 * thread may have had the same id. A lock that is held is on the list. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_mine(
    const shm_sync_i_thread *me, const shm_sync_i_lock *lock, uint32_t our_namespace) {
    uint32_t pid_namespace = SHM_SYNC_I_LOAD(&lock->pid_namespace);
    return SHM_SYNC_I_LIKELY(
        pid_namespace == our_namespace && pid_namespace != 0 &&
        shm_sync_i_holder_of(&lock->pthread.words) == me->tid &&
        (shm_sync_i_is_linked(me->head, &lock->pthread.words) || !me->is_known) &&
        !shm_sync_i_is_unrecoverable(&lock->pthread.words));
}

/* The same, for a thread whose identity may be invalid: a forked child, or a thread
 * that has locked by other code. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_held(const shm_sync_i_lock *lock) {
    if (shm_sync_i_identify() != SHM_SYNC_OK)
        return false;
    const shm_sync_i_thread *me = shm_sync_i_me();
    return shm_sync_i_is_mine(me, lock, shm_sync_i_our_namespace(me));
}

/* Unlocks, if the calling thread holds the lock. Otherwise changes nothing. */
SHM_SYNC_I_INLINE bool shm_sync_i_unlock(shm_sync_i_lock *lock) {
    shm_sync_i_thread *me = shm_sync_i_me();
    if (!shm_sync_i_is_mine(me, lock, SHM_SYNC_I_LOAD(me->marker)) &&
        !shm_sync_i_is_held(lock))
        return false;
    void *first = SHM_SYNC_I_LOAD(&me->head->list);
    SHM_SYNC_I_STORE(&lock->holder, (uint64_t)0);
    void *next = shm_sync_i_pthread_unlock(me, &lock->pthread);
    shm_sync_i_count_unlock(me, &lock->pthread.words, first, next);
    return true;
}

/* ------------------------------------------------------------------------------------
 * Mutex
 */

/* Why a mutex is poisoned. */
typedef enum shm_sync_poison_kind {
    SHM_SYNC_NOT_POISONED = 0,
    /* A holder died. */
    SHM_SYNC_OWNER_DIED = 1,
    /* A holder called shm_sync_poison, or panicked in Rust. */
    SHM_SYNC_OWNER_FAILED = 2
} shm_sync_poison_kind;

/* The last holder that failed. An id is 0 if it is unknown. */
typedef struct shm_sync_cause {
    shm_sync_poison_kind kind;
    uint32_t pid;
    uint32_t tid;
} shm_sync_cause;

SHM_SYNC_I_INLINE shm_sync_result shm_sync_i_with_poison(
    const shm_sync_mutex *mutex, shm_sync_result result) {
    bool poisoned =
        result == SHM_SYNC_OK && SHM_SYNC_I_LOAD(&mutex->lock.record) >> 60 != 0;
    return poisoned ? SHM_SYNC_POISONED : result;
}

/* Locks the mutex, and waits in the kernel while another thread holds it. Signals do
 * not end the wait.
 *
 * The caller holds the mutex after SHM_SYNC_OK and SHM_SYNC_POISONED, and only then.
 * After SHM_SYNC_POISONED the data may be inconsistent. The caller repairs it and calls
 * shm_sync_recover, or unlocks and leaves the repair to the next holder.
 *
 * Other results: SHM_SYNC_DEADLOCK (the caller holds the mutex), SHM_SYNC_NOT_PLACED,
 * SHM_SYNC_TOO_MANY_LOCKS, SHM_SYNC_FOREIGN_PID_NAMESPACE, SHM_SYNC_UNRECOVERABLE,
 * SHM_SYNC_UNSUPPORTED, SHM_SYNC_CORRUPT, SHM_SYNC_SYSTEM; SHM_SYNC_NO_PID_NAMESPACE,
 * SHM_SYNC_RAW_CLONE, SHM_SYNC_NO_ROBUST_LISTS, SHM_SYNC_NO_FORK_DETECTION (this thread
 * can't own locks).
 *
 * If the holder is killed, a waiter gets the mutex at once. If a process is killed in
 * its unlock, or just after it was woken, a waiter gets the mutex within 250 ms. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_lock(
    shm_sync_mutex *mutex) {
    bool died = false;
    return shm_sync_i_with_poison(
        mutex, shm_sync_i_lock_with(&mutex->lock, SHM_SYNC_I_POISON, SHM_SYNC_I_WAIT,
                   SHM_SYNC_I_NEVER, &died));
}

/* Locks the mutex if no thread holds it. Returns SHM_SYNC_WOULD_BLOCK otherwise, and
 * the other results of shm_sync_lock. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_try_lock(
    shm_sync_mutex *mutex) {
    bool died = false;
    return shm_sync_i_with_poison(
        mutex, shm_sync_i_lock_with(&mutex->lock, SHM_SYNC_I_POISON, SHM_SYNC_I_TRY,
                   SHM_SYNC_I_NEVER, &died));
}

/* Locks the mutex, and waits at most `timeout_ns` nanoseconds by the monotonic clock.
 * Returns SHM_SYNC_TIMED_OUT if another thread held it for so long, and the other
 * results of shm_sync_lock. Here and in all other functions, UINT64_MAX means for
 * ever. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_lock_for(
    shm_sync_mutex *mutex, uint64_t timeout_ns) {
    bool died = false;
    return shm_sync_i_with_poison(
        mutex, shm_sync_i_lock_with(&mutex->lock, SHM_SYNC_I_POISON, SHM_SYNC_I_WAIT,
                   shm_sync_i_after(timeout_ns), &died));
}

/* Unlocks the mutex. Poison stays.
 *
 * Returns SHM_SYNC_NOT_HELD, and changes nothing, if the calling thread does not hold
 * the mutex: for example in a forked child. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_unlock(shm_sync_mutex *mutex) {
    return SHM_SYNC_I_LIKELY(shm_sync_i_unlock(&mutex->lock)) ? SHM_SYNC_OK
                                                              : SHM_SYNC_NOT_HELD;
}

/* Clears the poison. The calling thread holds the mutex and has repaired the data.
 *
 * Returns SHM_SYNC_NOT_HELD, and changes nothing, if the thread does not hold it.
 *
 * If the process dies in the repair, before this call, the mutex stays poisoned. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_recover(shm_sync_mutex *mutex) {
    if (!shm_sync_i_is_held(&mutex->lock))
        return SHM_SYNC_NOT_HELD;
    SHM_SYNC_I_STORE(&mutex->lock.record, (uint64_t)0);
    return SHM_SYNC_OK;
}

/* Marks the data as inconsistent, as a panic does in Rust: the next lockers get
 * SHM_SYNC_POISONED. The calling thread holds the mutex, and keeps it.
 *
 * Returns SHM_SYNC_NOT_HELD, and changes nothing, if the thread does not hold it. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_poison(shm_sync_mutex *mutex) {
    if (!shm_sync_i_is_held(&mutex->lock))
        return SHM_SYNC_NOT_HELD;
    SHM_SYNC_I_STORE(
        &mutex->lock.record, UINT64_C(2) << 60 | shm_sync_i_v1_this_thread.id);
    __atomic_fetch_add(&mutex->lock.failures, (uint16_t)1, __ATOMIC_RELAXED);
    return SHM_SYNC_OK;
}

/* Returns SHM_SYNC_POISONED if the mutex is poisoned, or its holder died and no thread
 * has locked it since. Otherwise returns SHM_SYNC_OK. Writes the reason to `*cause`.
 * The caller need not hold the mutex. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_poison_cause(
    const shm_sync_mutex *mutex, shm_sync_cause *cause) {
    uint64_t record = SHM_SYNC_I_LOAD(&mutex->lock.record);
    uint64_t kind = record >> 60;
    cause->kind = kind == 0   ? SHM_SYNC_NOT_POISONED
                  : kind == 2 ? SHM_SYNC_OWNER_FAILED
                              : SHM_SYNC_OWNER_DIED;
    if (kind == 0 && shm_sync_i_owner_died(&mutex->lock.pthread.words)) {
        cause->kind = SHM_SYNC_OWNER_DIED;
        record = shm_sync_i_last_holder(&mutex->lock);
    } else if (kind == 0) {
        record = 0;
    }
    cause->tid = (uint32_t)(record & SHM_SYNC_I_TID_MASK);
    cause->pid = (uint32_t)(record >> 30 & SHM_SYNC_I_TID_MASK);
    return cause->kind == SHM_SYNC_NOT_POISONED ? SHM_SYNC_OK : SHM_SYNC_POISONED;
}

/* ------------------------------------------------------------------------------------
 * Condition variable
 *
 * `sequence` counts notifications in bits 0 to 23. Bits 24 to 31 are a generation of
 * waiters, which notify_all begins. If the notifier holds the mutex, the waiters could
 * not lock it yet. So notify_all moves them to the queue of the mutex, and sets
 * FUTEX_WAITERS in the lock word. Then each unlock wakes one. A waiter of an older
 * generation locks as a thread that has slept in that queue: it sets FUTEX_WAITERS,
 * because others may sleep behind it.
 *
 * `mutex` is the distance to the mutex of the waiters. src/sync/condvar.rs of the Rust
 * crate explains why a wrong distance is harmless, and why a second mutex makes all
 * later notifiers wake at once.
 */

#define SHM_SYNC_I_NOTIFICATION 1u
#define SHM_SYNC_I_GENERATION (1u << 24 | 1u)
/* Instead of a distance: waiters have used several mutexes. */
#define SHM_SYNC_I_SEVERAL_MUTEXES UINT64_MAX

/* Returns the generation of a sequence. */
SHM_SYNC_I_INLINE uint32_t shm_sync_i_generation(uint32_t sequence) {
    return sequence >> 24;
}

SHM_SYNC_I_INLINE bool shm_sync_i_has_waiters(const shm_sync_condvar *condvar) {
    return SHM_SYNC_I_LOAD_SC(&condvar->waiters) != 0;
}

/* Returns the mutex of the waiters, if the calling thread holds it and has locked no
 * other since. Otherwise returns NULL, also if libc's layout is unknown, or if the
 * mutex has priority inheritance.
 *
 * A stranger may have written the distance. So this function only compares it, with the
 * first entry of the thread's own list. If the list is empty, that is its head, which
 * is no mutex. This function does not read the list of a thread without valid identity:
 * a forked child may still have the list of its parent. */
SHM_SYNC_I_OUTLINE shm_sync_i_words *shm_sync_i_held_mutex(
    const shm_sync_condvar *condvar) {
    const shm_sync_i_thread *me = shm_sync_i_me();
    if (!shm_sync_i_has_identity(me) || !me->is_known)
        return NULL;
    char *first = (char *)SHM_SYNC_I_LOAD(&me->head->list);
    uintptr_t address =
        (uintptr_t)condvar + (uintptr_t)SHM_SYNC_I_LOAD(&condvar->mutex);
    if (first == NULL || first == (char *)me->head || address % 8 != 0 ||
        (uintptr_t)first != address + offsetof(shm_sync_i_words, next))
        return NULL;
    shm_sync_i_words *words =
        (shm_sync_i_words *)(void *)(first - offsetof(shm_sync_i_words, next));
    bool is_mine = shm_sync_i_holder_of(words) == me->tid &&
                   SHM_SYNC_I_LOAD(&words->kind) == SHM_SYNC_I_KIND;
    return is_mine ? words : NULL;
}

/* Wakes all waiters now, or one after another as the mutex is unlocked. */
SHM_SYNC_I_OUTLINE void shm_sync_i_condvar_wake_all(const shm_sync_condvar *condvar) {
    shm_sync_i_words *held = shm_sync_i_held_mutex(condvar);
    if (held != NULL) {
        /* This thread's unlock and its death then wake a waiter. */
        __atomic_fetch_or(&held->lock, SHM_SYNC_I_WAITERS, __ATOMIC_RELAXED);
        if (shm_sync_i_futex_move(&condvar->sequence, &held->lock) >= 0)
            return;
    }
    shm_sync_i_futex_wake(&condvar->sequence, INT32_MAX);
}

/* Wakes one waiter, if there is any. Never blocks. Notify while you hold the mutex
 * under which you changed the condition. Then the waiters see an owner death if this
 * process dies between the change and the call. */
SHM_SYNC_I_INLINE void shm_sync_notify_one(shm_sync_condvar *condvar) {
    __atomic_fetch_add(&condvar->sequence, SHM_SYNC_I_NOTIFICATION, __ATOMIC_SEQ_CST);
    if (shm_sync_i_has_waiters(condvar))
        shm_sync_i_futex_wake(&condvar->sequence, 1);
}

/* Wakes all waiters. Never blocks. If the calling thread holds the mutex of the
 * waiters, and has locked no other since, they wake one after another, one at each
 * unlock. Otherwise they all wake at once, and compete for the mutex. If a
 * waiter is killed or stopped between waking and locking, the waiters behind it wake
 * within 250 ms. */
SHM_SYNC_I_INLINE void shm_sync_notify_all(shm_sync_condvar *condvar) {
    __atomic_fetch_add(&condvar->sequence, SHM_SYNC_I_GENERATION, __ATOMIC_SEQ_CST);
    if (shm_sync_i_has_waiters(condvar))
        shm_sync_i_condvar_wake_all(condvar);
}

/* Stores the distance to the mutex of this waiter. Each process may map a segment
 * elsewhere, but the distance is the same. Stores that there are several mutexes if
 * another waiter has stored another distance, or if this waiter can't be queued: it
 * would lock without a mark for the waiters behind it. */
SHM_SYNC_I_INLINE void shm_sync_i_store_distance(
    shm_sync_condvar *condvar, const shm_sync_mutex *mutex, bool can_be_queued) {
    uint64_t distance = can_be_queued
                            ? (uint64_t)((uintptr_t)mutex - (uintptr_t)condvar)
                            : SHM_SYNC_I_SEVERAL_MUTEXES;
    uint64_t before = 0;
    if (!__atomic_compare_exchange_n(&condvar->mutex, &before, distance, false,
            __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
        before != distance)
        SHM_SYNC_I_STORE(&condvar->mutex, SHM_SYNC_I_SEVERAL_MUTEXES);
}

/* Sleeps until the sequence is no longer `seen`, the mutex is poisoned or its holder
 * died, or the deadline has passed. `*pending` is the head of the thread's list if its
 * `pending` names the mutex at the return, until the thread has locked. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_condvar_sleep(shm_sync_condvar *condvar,
    shm_sync_mutex *mutex, uint32_t seen, uint16_t failures, uint64_t deadline,
    shm_sync_i_head **pending) {
    shm_sync_result result = SHM_SYNC_OK;
    shm_sync_i_thread *me = shm_sync_i_me();
    shm_sync_i_words *words = &mutex->lock.pthread.words;
    /* A notifier may move this thread to the queue of the mutex. If this thread dies
     * after a wake-up and before it locks, the kernel wakes the next waiter. After a
     * fork in a signal handler, the identity is invalid. */
    bool is_queued = shm_sync_i_has_identity(me) && me->is_known &&
                     SHM_SYNC_I_LOAD(&words->kind) == SHM_SYNC_I_KIND;
    *pending = is_queued ? me->head : NULL;
    if (is_queued)
        shm_sync_i_set_pending(me->head, &words->next);
    shm_sync_i_store_distance(condvar, mutex, is_queued);
    /* The kernel reads the sequence after this, behind its own full barrier. */
    __atomic_fetch_add(&condvar->waiters, 1u, __ATOMIC_SEQ_CST);
    for (;;) {
        int code = shm_sync_i_futex_wait(
            &condvar->sequence, seen, shm_sync_i_next_recheck(deadline));
        if (code == 0)
            break;
        if (code != ETIMEDOUT) {
            errno = code;
            result = SHM_SYNC_SYSTEM;
            break;
        }
        if (shm_sync_i_owner_died(words) ||
            SHM_SYNC_I_LOAD(&mutex->lock.failures) != failures)
            break;
        if (shm_sync_i_has_passed(deadline)) {
            /* The notification may have come before the deadline, and the wake-up waits
             * for an unlock. */
            if (SHM_SYNC_I_LOAD(&condvar->sequence) == seen)
                result = SHM_SYNC_TIMED_OUT;
            break;
        }
    }
    __atomic_fetch_sub(&condvar->waiters, 1u, __ATOMIC_RELAXED);
    return result;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_condvar_wait(
    shm_sync_condvar *condvar, shm_sync_mutex *mutex, uint64_t deadline) {
    /* The mutex orders both reads before the unlock. */
    uint32_t seen = SHM_SYNC_I_LOAD(&condvar->sequence);
    uint16_t failures = SHM_SYNC_I_LOAD(&mutex->lock.failures);
    if (!shm_sync_i_unlock(&mutex->lock))
        return SHM_SYNC_NOT_HELD;
    bool notified;
    SHM_SYNC_I_SPIN(notified, SHM_SYNC_I_LOAD(&condvar->sequence) != seen);
    shm_sync_result waited = SHM_SYNC_OK;
    shm_sync_i_head *pending = NULL;
    if (!notified)
        waited = shm_sync_i_condvar_sleep(
            condvar, mutex, seen, failures, deadline, &pending);
    if (waited != SHM_SYNC_OK && waited != SHM_SYNC_TIMED_OUT) {
        if (pending != NULL)
            shm_sync_i_clear_pending(pending);
        return waited;
    }
    /* This thread may have slept in the queue of the mutex, before others. */
    bool was_queued =
        !notified && shm_sync_i_generation(SHM_SYNC_I_LOAD(&condvar->sequence)) !=
                         shm_sync_i_generation(seen);
    shm_sync_i_how how = was_queued ? SHM_SYNC_I_WAIT_QUEUED : SHM_SYNC_I_WAIT;
    bool died = false;
    shm_sync_result locked = shm_sync_i_lock_with(
        &mutex->lock, SHM_SYNC_I_POISON, how, SHM_SYNC_I_NEVER, &died);
    /* A lock has cleared it. */
    if (pending != NULL && locked != SHM_SYNC_OK)
        shm_sync_i_clear_pending(pending);
    if (died)
        shm_sync_notify_all(condvar); /* the other waiters learn of it as well */
    locked = shm_sync_i_with_poison(mutex, locked);
    return locked == SHM_SYNC_OK ? waited : locked;
}

/* Unlocks the mutex, waits for a notification, and locks the mutex again. A wait may
 * end without a notification, so wait in a loop:
 *
 *     while (jobs->pending.data == 0) {
 *         shm_sync_result result = shm_sync_wait(&jobs->changed, &jobs->pending.lock);
 *         if (result != SHM_SYNC_OK) ...
 *     }
 *
 * The caller holds the mutex after SHM_SYNC_OK and SHM_SYNC_POISONED, and only then.
 * Returns SHM_SYNC_NOT_HELD if the calling thread does not hold the mutex, and those
 * results of shm_sync_lock that mean that it can't be locked. Let all waiters of a
 * condition variable use the same mutex, and put both into the same segment. Otherwise
 * some waiters may wake up to 250 ms late.
 *
 * If the holder of the mutex is killed, each waiter gets SHM_SYNC_POISONED within 250
 * ms. If a notifier or a woken waiter is killed, another waiter wakes within 250 ms. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_wait(
    shm_sync_condvar *condvar, shm_sync_mutex *mutex) {
    return shm_sync_i_condvar_wait(condvar, mutex, SHM_SYNC_I_NEVER);
}

/* Waits like shm_sync_wait, but at most `timeout_ns` nanoseconds by the monotonic
 * clock. Locking the mutex again may take longer. Returns SHM_SYNC_TIMED_OUT if there
 * was no notification until then. The caller then holds the mutex as well.
 * SHM_SYNC_POISONED does not tell whether the time has passed. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_wait_for(
    shm_sync_condvar *condvar, shm_sync_mutex *mutex, uint64_t timeout_ns) {
    return shm_sync_i_condvar_wait(condvar, mutex, shm_sync_i_after(timeout_ns));
}

/* ------------------------------------------------------------------------------------
 * Record locks (OFD locks) of files
 *
 * Each process that uses an object with a name holds a shared lock on one byte of it,
 * far behind its end. The kernel unlocks it when the process ends. The ranges are:
 *
 * | range | bytes | lock | means |
 * |---|---|---|---|
 * | REINIT | 2^62 - 2 | exclusive | a process reinitialises stale locks |
 * | REMOVAL | 2^62 - 1 | exclusive | the holder may remove the name |
 * | WRITERS | 2^62 + pid | shared | that process uses the locks |
 * | READERS | 2^62 + 2^30 + pid | shared | that process only reads |
 * | ATTACHED | WRITERS and READERS | exclusive | no process is attached, openers wait |
 */

#define SHM_SYNC_I_WRITERS_START ((int64_t)1 << 62)
#define SHM_SYNC_I_WRITERS_LEN ((int64_t)1 << 30)
#define SHM_SYNC_I_ATTACHED_LEN ((int64_t)1 << 31)
#define SHM_SYNC_I_REMOVAL_START (SHM_SYNC_I_WRITERS_START - 1)
#define SHM_SYNC_I_REINIT_START (SHM_SYNC_I_WRITERS_START - 2)

SHM_SYNC_I_INLINE struct flock shm_sync_i_flock(int kind, int64_t start, int64_t len) {
    struct flock request;
    memset(&request, 0, sizeof request);
    request.l_type = (short)kind;
    request.l_whence = 0; /* SEEK_SET */
    request.l_start = start;
    request.l_len = len;
    return request;
}

/* Locks or unlocks a range without waiting. Returns 0, EAGAIN or another error. */
SHM_SYNC_I_OUTLINE int shm_sync_i_set_lock(
    int fd, int kind, int64_t start, int64_t len) {
    struct flock request = shm_sync_i_flock(kind, start, len);
    return shm_sync_i_syscall(
               SYS_fcntl, (long)fd, (long)SHM_SYNC_I_OFD_SETLK, &request) == 0
               ? 0
               : errno;
}

/* Returns the kind of a lock of another open file that prevents this one from locking:
 * F_RDLCK, F_WRLCK, or F_UNLCK if there is none. Returns -1 after an error. */
SHM_SYNC_I_OUTLINE int shm_sync_i_conflict(
    int fd, int kind, int64_t start, int64_t len) {
    struct flock request = shm_sync_i_flock(kind, start, len);
    if (shm_sync_i_syscall(SYS_fcntl, (long)fd, (long)SHM_SYNC_I_OFD_GETLK, &request) !=
        0)
        return -1;
    return request.l_type;
}

/* Locks a range. Waits 250 ms for a shared lock of another process, and 10 s for an
 * exclusive one. Returns SHM_SYNC_BLOCKED after that. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_wait_lock(
    int fd, int kind, int64_t start, int64_t len) {
    uint64_t begin = shm_sync_i_now();
    uint64_t next_pause = 20000;
    for (unsigned tries = 1;; tries++) {
        int code = shm_sync_i_set_lock(fd, kind, start, len);
        if (code == 0)
            return SHM_SYNC_OK;
        if (code != EAGAIN) {
            errno = code;
            return SHM_SYNC_SYSTEM;
        }
        if (tries < 8)
            continue; /* most holders unlock within microseconds */
        int other = shm_sync_i_conflict(fd, kind, start, len);
        if (other == -1)
            return SHM_SYNC_SYSTEM;
        uint64_t limit = other == F_RDLCK ? UINT64_C(250000000) : UINT64_C(10000000000);
        if (shm_sync_i_now() - begin >= limit) {
            if (other != F_UNLCK)
                return SHM_SYNC_BLOCKED;
            errno = EAGAIN;
            return SHM_SYNC_SYSTEM;
        }
        shm_sync_i_pause(next_pause);
        next_pause = next_pause * 2 < 5000000 ? next_pause * 2 : 5000000;
    }
}

/* ------------------------------------------------------------------------------------
 * Files
 */

SHM_SYNC_I_INLINE void shm_sync_i_close_fd(int fd) {
    int saved = errno;
    if (fd >= 0)
        shm_sync_i_syscall(SYS_close, (long)fd);
    errno = saved;
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_free(int number) {
    return fcntl(number, F_GETFD) == -1;
}

/* Returns the descriptor with a number of at least 3, or -1. Closes the old one. */
SHM_SYNC_I_OUTLINE int shm_sync_i_above_standard(int fd) {
    if (fd < 0 || fd >= 3)
        return fd;
    int copy = fcntl(fd, SHM_SYNC_I_DUPFD_CLOEXEC, 3);
    shm_sync_i_close_fd(fd);
    return copy;
}

/* Opens a file for reading and writing. Follows no link at the end of the path and
 * waits for no FIFO. The descriptor has a number of at least 3, because a program
 * without standard output must not print into the segment. Returns -1 and sets
 * errno. */
SHM_SYNC_I_OUTLINE int shm_sync_i_open_file(const char *path) {
    int fillers[3];
    int filled = 0;
    while (filled < 3 &&
           (shm_sync_i_is_free(0) || shm_sync_i_is_free(1) || shm_sync_i_is_free(2))) {
        int filler = (int)shm_sync_i_syscall(SYS_openat, SHM_SYNC_I_CURRENT_DIRECTORY,
            "/",
            (long)(SHM_SYNC_I_O_PATH | SHM_SYNC_I_O_DIRECTORY | SHM_SYNC_I_O_CLOEXEC),
            0L);
        if (filler >= 3)
            shm_sync_i_close_fd(filler);
        if (filler < 0 || filler >= 3)
            break;
        fillers[filled++] = filler;
    }
    int fd;
    do {
        fd = (int)shm_sync_i_syscall(SYS_openat, SHM_SYNC_I_CURRENT_DIRECTORY, path,
            (long)(O_RDWR | SHM_SYNC_I_O_NOFOLLOW | SHM_SYNC_I_O_CLOEXEC | O_NONBLOCK |
                   O_NOCTTY),
            0L);
    } while (fd == -1 && errno == EINTR);
    while (filled > 0)
        shm_sync_i_close_fd(fillers[--filled]);
    return shm_sync_i_above_standard(fd);
}

/* Returns whether the path leads to the file at this moment: 1 or 0, or -1 after an
 * error. */
SHM_SYNC_I_OUTLINE int shm_sync_i_leads_to(
    const char *path, uint64_t device, uint64_t inode) {
    struct stat status;
    if (shm_sync_i_lstat(path, &status) == 0)
        return status.st_dev == device && status.st_ino == inode;
    return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
}

/* Returns the time at which the file was created, in nanoseconds since 1970, or 0 if it
 * is unknown. */
SHM_SYNC_I_OUTLINE uint64_t shm_sync_i_creation_time(int fd) {
#ifdef SYS_statx
    /* struct statx of linux/stat.h: the mask, and at byte 80 the seconds and
     * nanoseconds of the creation. */
    unsigned char answer[256];
    uint32_t mask;
    int64_t seconds;
    uint32_t nanoseconds;
    memset(answer, 0, sizeof answer);
    if (shm_sync_i_syscall(SYS_statx, (long)fd, "", SHM_SYNC_I_EMPTY_PATH,
            (long)SHM_SYNC_I_STATX_BTIME, answer) != 0)
        return 0;
    memcpy(&mask, answer, sizeof mask);
    memcpy(&seconds, answer + 80, sizeof seconds);
    memcpy(&nanoseconds, answer + 88, sizeof nanoseconds);
    if ((mask & SHM_SYNC_I_STATX_BTIME) == 0 || seconds < 0)
        return 0;
    return (uint64_t)seconds * UINT64_C(1000000000) + nanoseconds;
#else
    (void)fd;
    return 0;
#endif
}

/* Reads bytes from `offset` on. Returns how many, which is less than `len` only at the
 * end of the file, or -1. */
SHM_SYNC_I_OUTLINE int64_t shm_sync_i_read_at(
    int fd, void *to, size_t len, int64_t offset) {
    size_t filled = 0;
    while (filled < len) {
        long part = shm_sync_i_syscall(SYS_pread64, (long)fd, (char *)to + filled,
            len - filled, (long)offset + (long)filled);
        if (part == 0)
            break;
        if (part > 0)
            filled += (size_t)part;
        else if (errno != EINTR)
            return -1;
    }
    return (int64_t)filled;
}

/* ------------------------------------------------------------------------------------
 * The header of a segment
 */

/* The file and the boot for which the locks of a segment are valid. */
typedef struct shm_sync_i_epoch {
    uint64_t device;
    uint64_t inode;
    unsigned char boot[16];
    uint64_t creation_time;
} shm_sync_i_epoch;

/* A parsed header. */
typedef struct shm_sync_i_header {
    uint64_t total_len;
    uint64_t value_offset;
    uint64_t value_size;
    uint64_t value_align;
    uint64_t fingerprint[2]; /* the lower half first */
    uint64_t elements;
    uint64_t type_table_offset;
    uint32_t lock_table_len;
    uint32_t type_table_len;
    uint32_t pid_namespace;
    shm_sync_i_epoch epoch;
    bool removal;
} shm_sync_i_header;

/* Offsets in a header, in bytes. docs/format.md has the table. */
enum {
    SHM_SYNC_I_HEADER_LEN = 448,
    SHM_SYNC_I_AT_FORMAT = 8,
    SHM_SYNC_I_AT_ABI = 12,
    SHM_SYNC_I_AT_REMOVAL = 17,
    SHM_SYNC_I_AT_PID_NAMESPACE = 20,
    SHM_SYNC_I_AT_TOTAL_LEN = 24,
    SHM_SYNC_I_AT_VALUE_OFFSET = 32,
    SHM_SYNC_I_AT_VALUE_SIZE = 40,
    SHM_SYNC_I_AT_VALUE_ALIGN = 48,
    SHM_SYNC_I_AT_FINGERPRINT = 56,
    SHM_SYNC_I_AT_ELEMENTS = 72,
    SHM_SYNC_I_AT_LOCK_TABLE_LEN = 88,
    SHM_SYNC_I_AT_TYPE_NAME_LEN = 96,
    SHM_SYNC_I_AT_TYPE_TABLE_LEN = 100,
    SHM_SYNC_I_AT_EPOCH = 104,
    SHM_SYNC_I_AT_SYSV_STATE = 192,
    SHM_SYNC_I_AT_TYPE_NAME = 256,
    SHM_SYNC_I_TYPE_NAME_MAX = 192
};

SHM_SYNC_I_INLINE uint64_t shm_sync_i_u64(const unsigned char *bytes) {
    uint64_t number = 0;
    for (int i = 7; i >= 0; i--)
        number = number << 8 | bytes[i];
    return number;
}

SHM_SYNC_I_INLINE uint32_t shm_sync_i_u32(const unsigned char *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

SHM_SYNC_I_OUTLINE bool shm_sync_i_is_utf8(const unsigned char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        unsigned char first = text[at];
        size_t more = first < 0x80                    ? 0
                      : first >= 0xc2 && first < 0xe0 ? 1
                      : first >= 0xe0 && first < 0xf0 ? 2
                      : first >= 0xf0 && first < 0xf5 ? 3
                                                      : 4;
        if (more == 4 || more > len - at - 1)
            return false;
        for (size_t i = 1; i <= more; i++) {
            if ((text[at + i] & 0xc0) != 0x80)
                return false;
        }
        /* Overlong forms, surrogates, and numbers above U+10FFFF. */
        if (more > 1) {
            unsigned char second = text[at + 1];
            if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
                return false;
        }
        at += more + 1;
    }
    return true;
}

/* Reads the header of an object that is `object_len` bytes long. Any bytes give a
 * header whose claims hold for the object, or a result that is not SHM_SYNC_OK. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_parse_header(
    const unsigned char *bytes, uint64_t object_len, shm_sync_i_header *header) {
    if (memcmp(bytes, "shmsync", 8) != 0)
        return SHM_SYNC_NOT_A_SEGMENT;
    if (shm_sync_i_u32(bytes + SHM_SYNC_I_AT_FORMAT) != SHM_SYNC_FORMAT)
        return SHM_SYNC_UNSUPPORTED_FORMAT;
    memset(header, 0, sizeof *header);
    header->total_len = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_TOTAL_LEN);
    header->value_offset = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_VALUE_OFFSET);
    header->value_size = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_VALUE_SIZE);
    header->value_align = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_VALUE_ALIGN);
    header->fingerprint[0] = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_FINGERPRINT);
    header->fingerprint[1] = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_FINGERPRINT + 8);
    header->elements = shm_sync_i_u64(bytes + SHM_SYNC_I_AT_ELEMENTS);
    header->lock_table_len = shm_sync_i_u32(bytes + SHM_SYNC_I_AT_LOCK_TABLE_LEN);
    header->type_table_len = shm_sync_i_u32(bytes + SHM_SYNC_I_AT_TYPE_TABLE_LEN);
    header->pid_namespace = shm_sync_i_u32(bytes + SHM_SYNC_I_AT_PID_NAMESPACE);
    const unsigned char *epoch = bytes + SHM_SYNC_I_AT_EPOCH;
    header->epoch.device = shm_sync_i_u64(epoch);
    header->epoch.inode = shm_sync_i_u64(epoch + 8);
    memcpy(header->epoch.boot, epoch + 16, 16);
    header->epoch.creation_time = shm_sync_i_u64(epoch + 32);
    unsigned char removal = bytes[SHM_SYNC_I_AT_REMOVAL];
    if (removal > 1)
        return SHM_SYNC_CORRUPT;
    header->removal = removal == 1;
    uint32_t name_len = shm_sync_i_u32(bytes + SHM_SYNC_I_AT_TYPE_NAME_LEN);
    if (name_len > SHM_SYNC_I_TYPE_NAME_MAX ||
        !shm_sync_i_is_utf8(bytes + SHM_SYNC_I_AT_TYPE_NAME, name_len))
        return SHM_SYNC_CORRUPT;
    if (header->total_len != object_len || object_len > (uint64_t)INT64_MAX)
        return SHM_SYNC_CORRUPT;
    uint64_t after_tables = SHM_SYNC_I_HEADER_LEN + (uint64_t)header->lock_table_len;
    header->type_table_offset = (after_tables + 7) / 8 * 8;
    if (header->type_table_len != 0)
        after_tables = header->type_table_offset + header->type_table_len;
    bool is_inside = header->value_offset >= after_tables &&
                     header->value_offset <= object_len &&
                     header->value_size <= object_len - header->value_offset;
    uint64_t align = header->value_align;
    bool is_aligned =
        align != 0 && (align & (align - 1)) == 0 && header->value_offset % align == 0;
    if (!is_inside || !is_aligned || header->pid_namespace == 0)
        return SHM_SYNC_CORRUPT;
    const unsigned char *abi = bytes + SHM_SYNC_I_AT_ABI;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    unsigned char endianness = 1;
#else
    unsigned char endianness = 2;
#endif
    bool is_our_abi = abi[0] == SHM_SYNC_I_LIBC && abi[1] == endianness &&
                      abi[2] == sizeof(void *) && abi[3] == sizeof(pthread_mutex_t) &&
                      abi[4] == sizeof(pthread_cond_t);
    return is_our_abi ? SHM_SYNC_OK : SHM_SYNC_LAYOUT_MISMATCH;
}

/* Reads a fingerprint of 32 hexadecimal digits. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_parse_fingerprint(
    const char *text, uint64_t halves[2]) {
    halves[0] = 0;
    halves[1] = 0;
    for (int i = 0; i < 32; i++) {
        char digit = text[i];
        unsigned value;
        if (digit >= '0' && digit <= '9')
            value = (unsigned)(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            value = (unsigned)(digit - 'a') + 10;
        else if (digit >= 'A' && digit <= 'F')
            value = (unsigned)(digit - 'A') + 10;
        else
            return false;
        halves[1] = halves[1] << 4 | halves[0] >> 60;
        halves[0] = halves[0] << 4 | value;
    }
    return text[32] == '\0';
}

SHM_SYNC_I_INLINE bool shm_sync_i_agree(uint64_t one, uint64_t two) {
    return one == two || one == 0 || two == 0;
}

/* Returns whether both are the same epoch. A device or creation time of 0 is
 * unknown. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_same_epoch(
    const shm_sync_i_epoch *one, const shm_sync_i_epoch *two) {
    return shm_sync_i_agree(one->device, two->device) && one->inode == two->inode &&
           memcmp(one->boot, two->boot, sizeof one->boot) == 0 &&
           shm_sync_i_agree(one->creation_time, two->creation_time);
}

/* Reads the id of this boot of the machine. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_boot_id(unsigned char id[16]) {
    int fd = (int)shm_sync_i_syscall(SYS_openat, SHM_SYNC_I_CURRENT_DIRECTORY,
        "/proc/sys/kernel/random/boot_id", (long)(O_RDONLY | SHM_SYNC_I_O_CLOEXEC), 0L);
    if (fd < 0)
        return false;
    char text[40];
    int64_t len = shm_sync_i_read_at(fd, text, sizeof text, 0);
    shm_sync_i_close_fd(fd);
    if (len < 36)
        return false;
    char digits[33];
    size_t count = 0;
    for (size_t i = 0; i < 36; i++) {
        bool is_hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        if (is_hyphen != (text[i] == '-'))
            return false;
        if (!is_hyphen)
            digits[count++] = text[i];
    }
    digits[32] = '\0';
    uint64_t halves[2];
    if (!shm_sync_i_parse_fingerprint(digits, halves))
        return false;
    for (unsigned i = 0; i < 8; i++) {
        id[i] = (unsigned char)(halves[1] >> (56 - 8 * i));
        id[8 + i] = (unsigned char)(halves[0] >> (56 - 8 * i));
    }
    return true;
}

/* Returns the current epoch of a file. A file in memory has no boot id. An overlay
 * shows its own device numbers, so there the device is unknown. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_epoch_of(
    int fd, shm_sync_i_epoch *epoch) {
    struct stat status;
    struct statfs system;
    if (fstat(fd, &status) != 0 || fstatfs(fd, &system) != 0)
        return SHM_SYNC_SYSTEM;
    unsigned long kind = (unsigned long)system.f_type & 0xfffffffful;
    epoch->device = kind == SHM_SYNC_I_OVERLAYFS_MAGIC ? 0 : (uint64_t)status.st_dev;
    epoch->inode = (uint64_t)status.st_ino;
    memset(epoch->boot, 0xff, sizeof epoch->boot);
    if (kind != SHM_SYNC_I_TMPFS_MAGIC && kind != SHM_SYNC_I_HUGETLBFS_MAGIC &&
        !shm_sync_i_boot_id(epoch->boot))
        return SHM_SYNC_NO_BOOT_ID;
    epoch->creation_time = shm_sync_i_creation_time(fd);
    return SHM_SYNC_OK;
}

/* Reads epoch and pid namespace from a mapped header. A process that reinitialises the
 * locks changes the second half of the boot id first and last. If it has changed
 * meanwhile, the epoch is invalid. */
SHM_SYNC_I_OUTLINE void shm_sync_i_load_validity(
    const void *base, shm_sync_i_epoch *epoch, uint32_t *pid_namespace) {
    const uint64_t *words =
        (const uint64_t *)(const void *)((const char *)base + SHM_SYNC_I_AT_EPOCH);
    uint64_t copy[5];
    uint64_t end = SHM_SYNC_I_ACQUIRE(&words[3]);
    for (int i = 0; i < 5; i++)
        copy[i] = SHM_SYNC_I_ACQUIRE(&words[i]);
    uint32_t space = SHM_SYNC_I_ACQUIRE(
        (const uint32_t *)(const void *)((const char *)base +
                                         SHM_SYNC_I_AT_PID_NAMESPACE));
    copy[3] = SHM_SYNC_I_LOAD(&words[3]) == end ? end : 0;
    unsigned char bytes[40];
    memcpy(bytes, copy, sizeof bytes);
    epoch->device = shm_sync_i_u64(bytes);
    epoch->inode = shm_sync_i_u64(bytes + 8);
    memcpy(epoch->boot, bytes + 16, 16);
    epoch->creation_time = shm_sync_i_u64(bytes + 32);
    unsigned char number[4];
    memcpy(number, &space, sizeof number);
    *pid_namespace = shm_sync_i_u32(number);
}

/* ------------------------------------------------------------------------------------
 * Segments
 */

typedef enum shm_sync_i_backing {
    SHM_SYNC_I_CLOSED,
    SHM_SYNC_I_FILE,
    SHM_SYNC_I_MEMFD,
    SHM_SYNC_I_SYSV
} shm_sync_i_backing;

/* A value of any user or group in shm_sync_options. */
#define SHM_SYNC_ANY UINT32_MAX

/* The users that the caller trusts with a segment. */
typedef struct shm_sync_options {
    /* The user id that must own the object. SHM_SYNC_ANY: any member of `group`. */
    uint32_t owner;
    /* The group id that the object must have. SHM_SYNC_ANY: every group. */
    uint32_t group;
    /* The permission bits for writing that the object may have at most. */
    uint32_t mode;
} shm_sync_options;

/* Returns the options of shm_sync_open: the object belongs to this user, and no other
 * user may write to it. */
SHM_SYNC_I_INLINE shm_sync_options shm_sync_default_options(void) {
    shm_sync_options options;
    options.owner = (uint32_t)geteuid();
    options.group = SHM_SYNC_ANY;
    options.mode = 0600;
    return options;
}

/* An open segment. Do not copy it. All threads of the process may use it.
 *
 * A forked child inherits the mapping and counts as attached. Its copy of this object
 * is independent of its parent's: the child may close it. */
typedef struct shm_sync_segment {
    /* The value. */
    void *value;
    /* The size of the value in bytes. */
    uint64_t value_size;
    /* The number of elements, if the creator chose it, else 0. */
    uint64_t len;
    /* The rest belongs to this header. */
    unsigned char *i_base;
    uint64_t i_len;
    uint64_t i_mapped;
    unsigned char *i_lock_table; /* a private copy */
    unsigned char *i_type_table; /* a private copy */
    char *i_path;
    uint64_t i_device;
    uint64_t i_inode;
    shm_sync_i_header i_header;
    shm_sync_options i_options;
    int i_fd;
    int i_sysv;
    shm_sync_i_backing i_backing;
    bool i_removes;
} shm_sync_segment;

SHM_SYNC_I_INLINE void shm_sync_i_forget(shm_sync_segment *segment) {
    int saved = errno;
    free(segment->i_lock_table);
    free(segment->i_type_table);
    free(segment->i_path);
    memset(segment, 0, sizeof *segment);
    segment->i_fd = -1;
    errno = saved;
}

/* Checks owner, group and mode of an object. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_check_owner(
    const shm_sync_options *options, uint32_t owner, uint32_t group, uint32_t mode) {
    if (options->owner != SHM_SYNC_ANY && options->owner != owner)
        return SHM_SYNC_WRONG_OWNER;
    if (options->group != SHM_SYNC_ANY && options->group != group)
        return SHM_SYNC_WRONG_OWNER;
    return (mode & 022u & ~options->mode) != 0 ? SHM_SYNC_TOO_PERMISSIVE : SHM_SYNC_OK;
}

/* Returns the descriptor of the segment, or -1 if the program has closed it. Daemons
 * close all descriptors, and then the number may lead to another file. */
SHM_SYNC_I_OUTLINE int shm_sync_i_fd_of(const shm_sync_segment *segment) {
    struct stat status;
    if (segment->i_fd < 0 || shm_sync_i_is_free(segment->i_fd) ||
        fstat(segment->i_fd, &status) != 0)
        return -1;
    return status.st_dev == segment->i_device && status.st_ino == segment->i_inode
               ? segment->i_fd
               : -1;
}

SHM_SYNC_I_OUTLINE void shm_sync_i_drop_fd(shm_sync_segment *segment) {
    shm_sync_i_close_fd(shm_sync_i_fd_of(segment));
    segment->i_fd = -1;
}

/* Maps the whole object. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_map(shm_sync_segment *segment, int fd) {
    struct statfs system;
    struct stat status;
    uint64_t len = segment->i_header.total_len;
    uint64_t page = 1;
    /* munmap accepts whole huge pages only. */
    if (fstatfs(fd, &system) == 0) {
        if (((unsigned long)system.f_type & 0xfffffffful) == SHM_SYNC_I_HUGETLBFS_MAGIC)
            page = (uint64_t)system.f_bsize;
    } else if (fstat(fd, &status) == 0) {
        page = (uint64_t)status.st_blksize; /* a sandbox refuses fstatfs */
    }
    segment->i_mapped = page == 0 ? len : (len + page - 1) / page * page;
    void *base =
        mmap(NULL, segment->i_mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        if (errno == ENOMEM)
            return SHM_SYNC_NO_SPACE;
        return errno == EACCES ||
                       (errno == EPERM && segment->i_backing == SHM_SYNC_I_MEMFD)
                   ? SHM_SYNC_PERMISSION_DENIED
                   : SHM_SYNC_SYSTEM;
    }
    segment->i_base = (unsigned char *)base;
    segment->i_len = len;
    return SHM_SYNC_OK;
}

/* Copies a table of the segment, so that no process changes it while it is read. */
SHM_SYNC_I_OUTLINE unsigned char *shm_sync_i_copy_table(
    const shm_sync_segment *segment, uint64_t offset, uint32_t len) {
    unsigned char *copy = (unsigned char *)malloc((size_t)len + 1);
    if (copy != NULL)
        memcpy(copy, segment->i_base + offset, len);
    return copy;
}

/* ------------------------------------------------------------------------------------
 * The lock table: kind, path and offset of each lock in the value
 *
 * Another program may have written the tables, so all of both is checked when the
 * segment is opened.
 */

enum {
    SHM_SYNC_I_KIND_MUTEX = 1,
    SHM_SYNC_I_KIND_CONDVAR = 2,
    SHM_SYNC_I_KIND_PTHREAD_CONDVAR = 3,
    SHM_SYNC_I_KIND_SEAT = 4,
    SHM_SYNC_I_KIND_EVENT = 5
};

/* An entry of the lock table. All its objects are inside the value. */
typedef struct shm_sync_i_lock_entry {
    unsigned kind;
    unsigned arrays;
    uint64_t size;
    uint64_t offset;
    const unsigned char *dims; /* count and stride of each array, outermost first */
    uint64_t count;            /* of all objects */
} shm_sync_i_lock_entry;

/* Returns whether the entry is that of robust locks: mutexes or seats. */
SHM_SYNC_I_INLINE bool shm_sync_i_has_holders(const shm_sync_i_lock_entry *entry) {
    return entry->kind == SHM_SYNC_I_KIND_MUTEX || entry->kind == SHM_SYNC_I_KIND_SEAT;
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_array_count(
    const shm_sync_i_lock_entry *entry, unsigned array) {
    return shm_sync_i_u64(entry->dims + 16 * array);
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_stride(
    const shm_sync_i_lock_entry *entry, unsigned array) {
    return shm_sync_i_u64(entry->dims + 16 * array + 8);
}

/* Reads the entry at `*at` and moves on. Returns false at the end, and if the bytes are
 * no entry. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_next_lock(
    const shm_sync_segment *segment, uint64_t *at, shm_sync_i_lock_entry *entry) {
    uint64_t value_size = segment->i_header.value_size;
    uint64_t rest = segment->i_header.lock_table_len - *at;
    const unsigned char *bytes = segment->i_lock_table + *at;
    if (rest < 16)
        return false;
    uint64_t path = (uint64_t)bytes[2] | (uint64_t)bytes[3] << 8;
    entry->kind = bytes[0];
    entry->arrays = bytes[1];
    entry->size = shm_sync_i_u32(bytes + 4);
    entry->offset = shm_sync_i_u64(bytes + 8);
    entry->dims = bytes + 16;
    entry->count = 1;
    uint64_t len = 16 + (uint64_t)entry->arrays * 16 + path;
    /* A later version may list other kinds. They are only checked. */
    if (len > rest || entry->kind == 0 || !shm_sync_i_is_utf8(bytes + len - path, path))
        return false;
    uint64_t least = shm_sync_i_has_holders(entry) ? sizeof(shm_sync_i_lock) : 1;
    if (entry->size < least || entry->offset > value_size ||
        entry->size > value_size - entry->offset)
        return false;
    uint64_t room = value_size - entry->offset - entry->size;
    /* All bits of the addresses of the objects. */
    uint64_t bits = segment->i_header.value_offset | entry->offset;
    for (unsigned i = 0; i < entry->arrays; i++) {
        uint64_t count = shm_sync_i_array_count(entry, i);
        uint64_t stride = shm_sync_i_stride(entry, i);
        if (count == 0 || (stride != 0 && count - 1 > room / stride))
            return false;
        room -= (count - 1) * stride;
        if (count > value_size / entry->size / entry->count)
            return false; /* objects do not overlap */
        entry->count *= count;
        bits |= count > 1 ? stride : 0;
    }
    *at += len;
    return !shm_sync_i_has_holders(entry) || bits % sizeof(void *) == 0;
}

/* Checks that the whole table is readable, and that the objects are together no larger
 * than the value. This also bounds the time to visit each of them. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_check_locks(const shm_sync_segment *segment) {
    shm_sync_i_lock_entry entry;
    uint64_t at = 0;
    uint64_t room = segment->i_header.value_size;
    while (at < segment->i_header.lock_table_len) {
        if (!shm_sync_i_next_lock(segment, &at, &entry) ||
            entry.count * entry.size > room)
            return false;
        room -= entry.count * entry.size;
    }
    return true;
}

/* Returns the offset of the object with this number. The innermost array runs
 * fastest. */
SHM_SYNC_I_OUTLINE uint64_t shm_sync_i_lock_offset(
    const shm_sync_i_lock_entry *entry, uint64_t number) {
    uint64_t offset = entry->offset;
    for (unsigned i = entry->arrays; i > 0; i--) {
        uint64_t count = shm_sync_i_array_count(entry, i - 1);
        offset += number % count * shm_sync_i_stride(entry, i - 1);
        number /= count;
    }
    return offset;
}

/* Returns whether the table has a robust lock of this kind at this address. A thread
 * that held another one could not be found when the segment is closed. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_listed(
    const shm_sync_segment *segment, unsigned kind, const void *address) {
    shm_sync_i_lock_entry entry;
    uint64_t at = 0;
    uint64_t offset = (uint64_t)((const unsigned char *)address -
                                 (const unsigned char *)segment->value);
    while (shm_sync_i_next_lock(segment, &at, &entry)) {
        if (entry.kind != kind || offset < entry.offset)
            continue;
        uint64_t rest = offset - entry.offset;
        for (unsigned i = 0; i < entry.arrays; i++) {
            uint64_t stride = shm_sync_i_stride(&entry, i);
            uint64_t last = shm_sync_i_array_count(&entry, i) - 1;
            uint64_t number = stride == 0 ? 0 : rest / stride;
            rest -= (number < last ? number : last) * stride;
        }
        if (rest == 0)
            return true;
    }
    return false;
}

/* Returns whether `tid` is a thread of this process. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_own_thread(uint32_t tid) {
    int saved = errno;
    bool exists = shm_sync_i_syscall(SYS_tgkill, (long)getpid(), (long)tid, 0L) == 0 ||
                  errno != ESRCH;
    errno = saved;
    return exists;
}

/* Returns whether the list of the calling thread leads through the segment, also by a
 * lock that the lock table does not have. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_on_own_list(const shm_sync_segment *segment) {
    if (shm_sync_i_identify() != SHM_SYNC_OK)
        return false;
    const shm_sync_i_head *head = shm_sync_i_v1_this_thread.head;
    void *entry = SHM_SYNC_I_LOAD(&head->list);
    for (int i = 0;
         i < SHM_SYNC_MAX_LOCKS_HELD && entry != (const void *)head && entry != NULL;
         i++) {
        if ((uintptr_t)entry - (uintptr_t)segment->i_base < segment->i_len)
            return true;
        entry = SHM_SYNC_I_LOAD(shm_sync_i_next_of(entry));
    }
    return false;
}

/* Returns whether a thread of this process holds a lock in the value. The list of held
 * locks of that thread leads through it, so it must stay mapped. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_any_held(const shm_sync_segment *segment) {
    shm_sync_i_lock_entry entry;
    uint64_t at = 0;
    while (shm_sync_i_next_lock(segment, &at, &entry)) {
        if (!shm_sync_i_has_holders(&entry))
            continue;
        for (uint64_t number = 0; number < entry.count; number++) {
            const shm_sync_i_words *words = (const shm_sync_i_words *)(const void
                    *)((const unsigned char *)segment->value +
                       shm_sync_i_lock_offset(&entry, number));
            uint32_t tid = shm_sync_i_holder_of(words);
            if (tid != 0 && shm_sync_i_is_own_thread(tid))
                return true;
        }
    }
    return shm_sync_i_is_on_own_list(segment);
}

/* ------------------------------------------------------------------------------------
 * The type table: the types of the value and of its fields
 *
 * An entry is a fingerprint (two words), the number of words of the message, and the
 * message, whose hash is the fingerprint. The message describes one type:
 *
 *     type    = TYPE text(kind) size align #fields #variants field... variant...
 *     field   = FIELD text(name) offset fingerprint
 *     variant = VARIANT text(name) discriminant #fields field...
 *     text    = tag | length << 8, then the bytes, padded to a whole word
 *
 * A type comes after the types of its fields. The fingerprints are checked when the
 * segment is opened. Then a reference can only lead to an earlier entry, and it proves
 * the layout of all parts. Each step is inside the table.
 */

/* The most bytes of a type table, and how deeply types are nested at most. */
#define SHM_SYNC_I_TYPES_MAX (UINT64_C(8) << 20)
#define SHM_SYNC_I_DEPTH_MAX 200u

/* A position in the words of a table, and their end. */
typedef struct shm_sync_i_cursor {
    const unsigned char *at;
    uint64_t words;
} shm_sync_i_cursor;

/* A text in a table. It does not end with a zero byte. */
typedef struct shm_sync_i_span {
    const unsigned char *at;
    uint64_t len;
} shm_sync_i_span;

typedef struct shm_sync_i_field {
    shm_sync_i_span name;
    uint64_t offset;
    uint64_t fingerprint[2];
} shm_sync_i_field;

typedef struct shm_sync_i_type {
    uint64_t entry;            /* where its entry begins */
    shm_sync_i_cursor message; /* of which the fingerprint is the hash */
    uint64_t fingerprint[2];
    shm_sync_i_span kind;
    uint64_t size;
    uint64_t align;
    uint64_t fields;
    shm_sync_i_cursor first_field;
} shm_sync_i_type;

SHM_SYNC_I_INLINE bool shm_sync_i_take(shm_sync_i_cursor *cursor, uint64_t *word) {
    if (cursor->words == 0)
        return false;
    *word = shm_sync_i_u64(cursor->at);
    cursor->at += 8;
    cursor->words -= 1;
    return true;
}

SHM_SYNC_I_OUTLINE bool shm_sync_i_take_text(
    shm_sync_i_cursor *cursor, unsigned tag, shm_sync_i_span *text) {
    uint64_t first;
    if (!shm_sync_i_take(cursor, &first) || (first & 0xff) != tag)
        return false;
    text->len = first >> 8;
    text->at = cursor->at;
    uint64_t words = text->len / 8 + (text->len % 8 != 0);
    if (words > cursor->words)
        return false;
    cursor->at += 8 * words;
    cursor->words -= words;
    return true;
}

SHM_SYNC_I_OUTLINE bool shm_sync_i_take_field(
    shm_sync_i_cursor *cursor, shm_sync_i_field *field) {
    return shm_sync_i_take_text(cursor, 2, &field->name) &&
           shm_sync_i_take(cursor, &field->offset) &&
           shm_sync_i_take(cursor, &field->fingerprint[0]) &&
           shm_sync_i_take(cursor, &field->fingerprint[1]);
}

/* Reads the type whose entry begins at `*at`, and moves on to the next entry. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_next_type(
    const shm_sync_segment *segment, uint64_t *at, shm_sync_i_type *type) {
    uint64_t len = segment->i_header.type_table_len;
    shm_sync_i_cursor cursor;
    uint64_t words;
    uint64_t variants;
    if (*at > len)
        return false;
    cursor.at = segment->i_type_table + *at;
    cursor.words = (len - *at) / 8;
    type->entry = *at;
    if (!shm_sync_i_take(&cursor, &type->fingerprint[0]) ||
        !shm_sync_i_take(&cursor, &type->fingerprint[1]) ||
        !shm_sync_i_take(&cursor, &words) || words > cursor.words)
        return false;
    *at += 8 * (3 + words);
    cursor.words = words;
    type->message = cursor;
    if (!shm_sync_i_take_text(&cursor, 1, &type->kind) ||
        !shm_sync_i_take(&cursor, &type->size) ||
        !shm_sync_i_take(&cursor, &type->align) ||
        !shm_sync_i_take(&cursor, &type->fields) ||
        !shm_sync_i_take(&cursor, &variants))
        return false;
    type->first_field = cursor;
    return true;
}

/* Finds a type before the entry at `end`. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_find_type(const shm_sync_segment *segment,
    const uint64_t fingerprint[2], uint64_t end, shm_sync_i_type *type) {
    uint64_t at = 0;
    while (at < end && shm_sync_i_next_type(segment, &at, type)) {
        if (type->fingerprint[0] == fingerprint[0] &&
            type->fingerprint[1] == fingerprint[1])
            return true;
    }
    return false;
}

SHM_SYNC_I_OUTLINE bool shm_sync_i_is_text(shm_sync_i_span span, const char *text) {
    return span.len == strlen(text) && memcmp(span.at, text, span.len) == 0;
}

/* Finds a field by its name. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_find_field(const shm_sync_i_type *type,
    const char *name, size_t len, shm_sync_i_field *field) {
    shm_sync_i_cursor cursor = type->first_field;
    for (uint64_t i = 0; i < type->fields && shm_sync_i_take_field(&cursor, field);
         i++) {
        if (field->name.len == len && memcmp(field->name.at, name, len) == 0)
            return true;
    }
    return false;
}

/* Returns whether the size of the type depends on the number of elements: it is a slice
 * or ends with one. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_variable(const shm_sync_i_type *type) {
    return shm_sync_i_is_text(type->kind, "slice") ||
           shm_sync_i_is_text(type->kind, "with tail") ||
           (type->size == 0 && shm_sync_i_is_text(type->kind, "ShmMutex"));
}

/* Returns the size of a part with the segment's number of elements, or UINT64_MAX if it
 * exceeds every memory. `depth` is the number of types around it. */
SHM_SYNC_I_OUTLINE uint64_t shm_sync_i_size_of(
    const shm_sync_segment *segment, const shm_sync_i_type *type, unsigned depth) {
    shm_sync_i_field last;
    shm_sync_i_type inner;
    uint64_t elements = segment->i_header.elements;
    uint64_t size;
    if (!shm_sync_i_is_variable(type))
        return type->size;
    if (shm_sync_i_is_text(type->kind, "slice"))
        return !shm_sync_i_find_field(type, "0", 1, &last) ||
                       __builtin_mul_overflow(elements, last.offset, &size)
                   ? UINT64_MAX
                   : size;
    if (depth >= SHM_SYNC_I_DEPTH_MAX ||
        !(shm_sync_i_find_field(type, "tail", 4, &last) ||
            shm_sync_i_find_field(type, "data", 4, &last)) ||
        !shm_sync_i_find_type(segment, last.fingerprint, type->entry, &inner))
        return UINT64_MAX;
    size = shm_sync_i_size_of(segment, &inner, depth + 1);
    if (size == UINT64_MAX || __builtin_add_overflow(size, last.offset, &size) ||
        __builtin_add_overflow(size, type->align - 1, &size))
        return UINT64_MAX;
    return size / type->align * type->align;
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_rotate(uint64_t word, unsigned by) {
    return word << by | word >> (64 - by);
}

SHM_SYNC_I_INLINE void shm_sync_i_hash_rounds(uint64_t v[4], int rounds) {
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = shm_sync_i_rotate(v[1], 13) ^ v[0];
        v[3] = shm_sync_i_rotate(v[3], 16) ^ v[2];
        v[0] = shm_sync_i_rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = shm_sync_i_rotate(v[1], 17) ^ v[2];
        v[3] = shm_sync_i_rotate(v[3], 21) ^ v[0];
        v[2] = shm_sync_i_rotate(v[2], 32);
    }
}

/* Computes the fingerprint of a message: SipHash-2-4 with 128 bits. */
SHM_SYNC_I_OUTLINE void shm_sync_i_hash(shm_sync_i_cursor message, uint64_t half[2]) {
    const uint64_t key[2] = {
        UINT64_C(0x636e79732d6d6873), UINT64_C(0x0074756f79616c20)};
    uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f83), key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t last = message.words << 59; /* the length in bytes, in the upper byte */
    bool is_last = false;
    while (!is_last) {
        uint64_t word = last;
        is_last = !shm_sync_i_take(&message, &word);
        v[3] ^= word;
        shm_sync_i_hash_rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xee;
    shm_sync_i_hash_rounds(v, 4);
    half[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    shm_sync_i_hash_rounds(v, 4);
    half[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Checks the type table, and that the header has the size and the alignment of the type
 * of the value. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_check_types(
    const shm_sync_segment *segment) {
    const shm_sync_i_header *header = &segment->i_header;
    uint64_t len = header->type_table_len;
    shm_sync_i_type type;
    uint64_t half[2] = {0, 0};
    if (len > SHM_SYNC_I_TYPES_MAX || len % 8 != 0)
        return SHM_SYNC_CORRUPT;
    for (uint64_t at = 0; at < len;) {
        if (!shm_sync_i_next_type(segment, &at, &type))
            return SHM_SYNC_CORRUPT;
        shm_sync_i_hash(type.message, half);
        uint64_t align = type.align;
        if (half[0] != type.fingerprint[0] || half[1] != type.fingerprint[1] ||
            align == 0 || (align & (align - 1)) != 0 || type.size % align != 0)
            return SHM_SYNC_CORRUPT;
    }
    if (half[0] != header->fingerprint[0] || half[1] != header->fingerprint[1])
        return SHM_SYNC_CORRUPT;
    bool is_same = header->value_size == shm_sync_i_size_of(segment, &type, 0) &&
                   header->value_align == type.align &&
                   (header->elements == 0 || shm_sync_i_is_variable(&type));
    return is_same ? SHM_SYNC_OK : SHM_SYNC_LAYOUT_MISMATCH;
}

/* ------------------------------------------------------------------------------------
 * Stale locks
 *
 * A file can outlive the boot and the container in which its locks were initialised,
 * and it can be copied. Its lock words then name threads that do not exist, or those of
 * the original. A process that opens it and finds another epoch or pid namespace in the
 * header reinitialises the locks: it locks REINIT, then its own byte, and then tries to
 * lock all of WRITERS. If that fails, another process considers the locks valid. The
 * stored epoch is invalid meanwhile, so the next opener notices a crash in between and
 * starts over. The proof is in src/segment/backing/attachment.rs of the Rust crate.
 */

/* Returns the offset in WRITERS of the byte of this process. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_own_byte(void) {
    return (uint64_t)getpid() % (uint64_t)SHM_SYNC_I_WRITERS_LEN;
}

/* A pthread condition variable (PthreadCondvar in Rust). */
typedef struct shm_sync_i_pthread_condvar {
    pthread_cond_t cond;
    uint32_t state;
    uint32_t reserved;
} shm_sync_i_pthread_condvar;

/* Returns the size of an object of a kind, or 0 if this header does not know the
 * kind. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_size_of_kind(unsigned kind) {
    switch (kind) {
    case SHM_SYNC_I_KIND_MUTEX:
    case SHM_SYNC_I_KIND_SEAT: return sizeof(shm_sync_i_lock);
    case SHM_SYNC_I_KIND_CONDVAR: return sizeof(shm_sync_condvar);
    case SHM_SYNC_I_KIND_PTHREAD_CONDVAR: return sizeof(shm_sync_i_pthread_condvar);
    case SHM_SYNC_I_KIND_EVENT: return sizeof(shm_sync_event);
    default: return 0;
    }
}

/* Initialises a mutex in its place. Returns 0 or the error. No thread uses it. */
SHM_SYNC_I_OUTLINE int shm_sync_i_init_pthread(
    shm_sync_i_pthread *pthread, bool has_priority_inheritance) {
    pthread_mutexattr_t attr;
    int code = pthread_mutexattr_init(&attr);
    if (code != 0)
        return code;
    code = pthread_mutexattr_setpshared(&attr, SHM_SYNC_I_SHARED);
    if (code == 0)
        code = shm_sync_i_attr_setrobust(&attr, SHM_SYNC_I_MUTEX_ROBUST);
    /* glibc fails an assertion for an error-checking mutex with priority
     * inheritance. */
    if (code == 0)
        code = shm_sync_i_attr_settype(
            &attr, has_priority_inheritance ? 0 : SHM_SYNC_I_MUTEX_ERRORCHECK);
    if (code == 0 && has_priority_inheritance)
        code = shm_sync_i_attr_setprotocol(&attr, SHM_SYNC_I_PRIO_INHERIT);
    if (code == 0)
        code = pthread_mutex_init(&pthread->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    return code;
}

/* Reinitialises a mutex or a seat. Records the death of a holder first. So after a
 * crash at any point, the next process can repeat this. */
SHM_SYNC_I_OUTLINE int shm_sync_i_reinit_lock(
    shm_sync_i_lock *lock, unsigned kind, uint32_t pid_namespace) {
    shm_sync_i_record record =
        kind == SHM_SYNC_I_KIND_MUTEX ? SHM_SYNC_I_POISON : SHM_SYNC_I_NOTE;
    uint64_t found = SHM_SYNC_I_LOAD(&lock->record);
    bool was_held = shm_sync_i_holder_of(&lock->pthread.words) != 0 ||
                    shm_sync_i_owner_died(&lock->pthread.words) ||
                    SHM_SYNC_I_LOAD(&lock->holder) != 0;
    bool is_recorded = record == SHM_SYNC_I_POISON
                           ? found >> 60 != 0
                           : (found & SHM_SYNC_I_NOTE_DIED) != 0;
    if (was_held && !is_recorded)
        shm_sync_i_record_death(lock, record, shm_sync_i_last_holder(lock));
    SHM_SYNC_I_STORE(&lock->holder, (uint64_t)0);
    int code = shm_sync_i_init_pthread(&lock->pthread, lock->protocol == 1);
    if (code == 0)
        __atomic_store_n(&lock->pid_namespace, pid_namespace, __ATOMIC_RELEASE);
    return code;
}

/* Reinitialises an object of any kind. Returns 0 or the error. No thread uses it. */
SHM_SYNC_I_OUTLINE int shm_sync_i_reinit_object(
    void *at, unsigned kind, uint32_t pid_namespace) {
    if (kind == SHM_SYNC_I_KIND_MUTEX || kind == SHM_SYNC_I_KIND_SEAT)
        return shm_sync_i_reinit_lock((shm_sync_i_lock *)at, kind, pid_namespace);
    if (kind == SHM_SYNC_I_KIND_CONDVAR) {
        SHM_SYNC_I_STORE(&((shm_sync_condvar *)at)->waiters, 0u);
        SHM_SYNC_I_STORE(&((shm_sync_condvar *)at)->mutex, (uint64_t)0);
        return 0;
    }
    if (kind == SHM_SYNC_I_KIND_EVENT) {
        shm_sync_event *event = (shm_sync_event *)at;
        uint64_t roll = SHM_SYNC_I_LOAD(&event->waiters.roll);
        SHM_SYNC_I_STORE(
            &event->waiters.roll, (roll & ~(uint64_t)UINT32_MAX) | roll >> 32);
        __atomic_fetch_or(&event->kind, 2u, __ATOMIC_RELEASE); /* it is placed */
        return 0;
    }
    shm_sync_i_pthread_condvar *condvar = (shm_sync_i_pthread_condvar *)at;
    pthread_condattr_t attr;
    int code = pthread_condattr_init(&attr);
    if (code != 0)
        return code;
    code = pthread_condattr_setpshared(&attr, SHM_SYNC_I_SHARED);
    if (code == 0)
        code = shm_sync_i_condattr_setclock(&attr, SHM_SYNC_I_CLOCK_MONOTONIC);
    if (code == 0)
        code = pthread_cond_init(&condvar->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (code == 0)
        __atomic_store_n(&condvar->state, 1u, __ATOMIC_RELEASE);
    return code;
}

/* Checks that the lock table lists all objects of the value, and that this header knows
 * their kinds. Returns SHM_SYNC_STALE if a Rust program must reinitialise them. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_check_objects(
    const shm_sync_segment *segment) {
    shm_sync_i_lock_entry entry;
    uint64_t at = 0;
    uint64_t room = segment->value_size;
    while (shm_sync_i_next_lock(segment, &at, &entry)) {
        uint64_t size = shm_sync_i_size_of_kind(entry.kind);
        /* The table lists no more than 255 arrays around an object. */
        if (size == 0 || entry.arrays == 255)
            return SHM_SYNC_STALE;
        if (entry.size != size || entry.count > room / size)
            return SHM_SYNC_CORRUPT;
        room -= entry.count * size;
        bool is_aligned = ((uintptr_t)segment->value + entry.offset) % 8 == 0;
        for (unsigned i = 0; i < entry.arrays; i++)
            is_aligned = is_aligned && shm_sync_i_u64(entry.dims + 16 * i + 8) % 8 == 0;
        if (!is_aligned)
            return SHM_SYNC_CORRUPT;
    }
    return at == segment->i_header.lock_table_len ? SHM_SYNC_OK : SHM_SYNC_CORRUPT;
}

/* Reinitialises all objects, which shm_sync_i_check_objects has checked. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_reinit_objects(
    const shm_sync_segment *segment, uint32_t pid_namespace) {
    shm_sync_i_lock_entry entry;
    uint64_t at = 0;
    while (shm_sync_i_next_lock(segment, &at, &entry)) {
        for (uint64_t number = 0; number < entry.count; number++) {
            uint64_t offset = shm_sync_i_lock_offset(&entry, number);
            int code = shm_sync_i_reinit_object(
                (unsigned char *)segment->value + offset, entry.kind, pid_namespace);
            if (code != 0) {
                errno = code;
                return SHM_SYNC_SYSTEM;
            }
        }
    }
    return SHM_SYNC_OK;
}

/* Reserves the blocks of a file that may be a copy with holes, or may share its blocks.
 * A file system that supports neither call is accepted. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_own_all_blocks(int fd, uint64_t len) {
    const uint64_t smallest = 64 << 10;
    long flags = SHM_SYNC_I_UNSHARE_RANGE;
    uint64_t done = 0;
    uint64_t at_once = len;
    while (done < len) {
        uint64_t next = at_once < len - done ? at_once : len - done;
        if (shm_sync_i_syscall(SYS_fallocate, (long)fd, flags, done, next) == 0) {
            done += next;
        } else if (errno == EINTR) {
            /* Some kernels free what the interrupted call has reserved. */
            at_once = next / 2 > smallest ? next / 2 : smallest;
        } else if (errno == EOPNOTSUPP && flags != 0) {
            flags = 0;
            done = 0;
        } else {
            bool is_full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
            return is_full ? SHM_SYNC_NO_SPACE : SHM_SYNC_OK;
        }
    }
    return SHM_SYNC_OK;
}

/* Invalidates the stored epoch, before the locks are touched. */
SHM_SYNC_I_OUTLINE void shm_sync_i_invalidate(unsigned char *base) {
    uint64_t *words = (uint64_t *)(void *)(base + SHM_SYNC_I_AT_EPOCH);
    SHM_SYNC_I_STORE(&words[3], (uint64_t)0);
    __sync_synchronize();
}

/* Writes epoch and pid namespace into the header. The second half of the boot id is
 * last, so a crash in between leaves an invalid epoch. */
SHM_SYNC_I_OUTLINE void shm_sync_i_publish_validity(
    unsigned char *base, const shm_sync_i_epoch *epoch, uint32_t pid_namespace) {
    uint64_t *words = (uint64_t *)(void *)(base + SHM_SYNC_I_AT_EPOCH);
    uint32_t *space = (uint32_t *)(void *)(base + SHM_SYNC_I_AT_PID_NAMESPACE);
    uint64_t copy[5] = {0, 0, 0, 0, 0};
    unsigned char number[4];
    uint32_t stored;
    unsigned char bytes[40];
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(epoch->device >> 8 * i);
        bytes[8 + i] = (unsigned char)(epoch->inode >> 8 * i);
        bytes[32 + i] = (unsigned char)(epoch->creation_time >> 8 * i);
    }
    for (unsigned i = 0; i < 4; i++)
        number[i] = (unsigned char)(pid_namespace >> 8 * i);
    memcpy(bytes + 16, epoch->boot, 16);
    memcpy(copy, bytes, sizeof copy);
    memcpy(&stored, number, sizeof stored);
    shm_sync_i_invalidate(base);
    SHM_SYNC_I_STORE(space, stored);
    for (int i = 0; i < 5; i++) {
        if (i != 3)
            SHM_SYNC_I_STORE(&words[i], copy[i]);
    }
    __atomic_store_n(&words[3], copy[3], __ATOMIC_RELEASE);
}

/* Reinitialises the locks of a mapped file, if they are stale. The caller holds REINIT
 * and its own byte of WRITERS. Afterwards it holds that byte, or none of WRITERS if
 * this is refused. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_reinit_file(
    const shm_sync_segment *segment, const shm_sync_i_epoch *here) {
    uint32_t our_namespace = shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread);
    shm_sync_i_epoch found;
    uint32_t pid_namespace;
    shm_sync_i_load_validity(segment->i_base, &found, &pid_namespace);
    bool is_same_epoch = shm_sync_i_same_epoch(&found, here);
    if (is_same_epoch && pid_namespace == our_namespace)
        return SHM_SYNC_OK; /* another process has done it already */
    int fd = segment->i_fd;
    shm_sync_result result = SHM_SYNC_OK;
    int code = shm_sync_i_set_lock(
        fd, F_WRLCK, SHM_SYNC_I_WRITERS_START, SHM_SYNC_I_WRITERS_LEN);
    if (code == EAGAIN) {
        result = is_same_epoch ? SHM_SYNC_FOREIGN_PID_NAMESPACE : SHM_SYNC_IN_USE;
    } else if (code != 0) {
        errno = code;
        result = SHM_SYNC_SYSTEM;
    }
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_check_objects(segment);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_own_all_blocks(fd, segment->i_len);
    if (result == SHM_SYNC_OK) {
        shm_sync_i_invalidate(segment->i_base);
        result = shm_sync_i_reinit_objects(segment, our_namespace);
    }
    if (result != SHM_SYNC_OK) {
        /* By name: a forked child may share the open file, and keep others waiting. */
        int saved = errno;
        (void)shm_sync_i_set_lock(
            fd, F_UNLCK, SHM_SYNC_I_WRITERS_START, SHM_SYNC_I_WRITERS_LEN);
        errno = saved;
        return result;
    }
    shm_sync_i_publish_validity(segment->i_base, here, our_namespace);
    /* Back to the shared lock that every attached process holds. */
    int64_t own = SHM_SYNC_I_WRITERS_START + (int64_t)shm_sync_i_own_byte();
    int64_t end = SHM_SYNC_I_WRITERS_START + SHM_SYNC_I_WRITERS_LEN;
    result = shm_sync_i_wait_lock(fd, F_RDLCK, own, 1);
    if (result == SHM_SYNC_OK && own > SHM_SYNC_I_WRITERS_START)
        code = shm_sync_i_set_lock(
            fd, F_UNLCK, SHM_SYNC_I_WRITERS_START, own - SHM_SYNC_I_WRITERS_START);
    if (result == SHM_SYNC_OK && code == 0 && own + 1 < end)
        code = shm_sync_i_set_lock(fd, F_UNLCK, own + 1, end - own - 1);
    if (result == SHM_SYNC_OK && code != 0) {
        errno = code;
        result = SHM_SYNC_SYSTEM;
    }
    return result;
}

/* ------------------------------------------------------------------------------------
 * POSIX objects and files
 */

/* Checks the tables of a segment that is mapped, and fills its public fields. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_publish(shm_sync_segment *segment) {
    const shm_sync_i_header *header = &segment->i_header;
    segment->i_lock_table =
        shm_sync_i_copy_table(segment, SHM_SYNC_I_HEADER_LEN, header->lock_table_len);
    segment->i_type_table = header->type_table_len == 0 ? NULL
                                                        : shm_sync_i_copy_table(segment,
                                                              header->type_table_offset,
                                                              header->type_table_len);
    if (segment->i_lock_table == NULL ||
        (header->type_table_len != 0 && segment->i_type_table == NULL))
        return SHM_SYNC_NO_SPACE;
    shm_sync_result result =
        header->type_table_len == 0 ? SHM_SYNC_OK : shm_sync_i_check_types(segment);
    if (result != SHM_SYNC_OK)
        return result;
    unsigned char *value = segment->i_base + header->value_offset;
    /* The mapping begins at a page, so an alignment above that of a page may fail. */
    if ((uintptr_t)value % header->value_align != 0 || !shm_sync_i_check_locks(segment))
        return SHM_SYNC_CORRUPT;
    segment->value = value;
    segment->value_size = header->value_size;
    segment->len = header->elements;
    return SHM_SYNC_OK;
}

/* Reads and checks the header of a file. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_read_header(int fd, uint64_t object_len,
    const uint64_t *fingerprint, shm_sync_i_header *header) {
    unsigned char bytes[SHM_SYNC_I_HEADER_LEN];
    int64_t filled = shm_sync_i_read_at(fd, bytes, sizeof bytes, 0);
    if (filled < 0)
        return SHM_SYNC_SYSTEM;
    if (filled < (int64_t)sizeof bytes)
        return SHM_SYNC_NOT_A_SEGMENT;
    shm_sync_result result = shm_sync_i_parse_header(bytes, object_len, header);
    bool is_other = result == SHM_SYNC_OK && fingerprint != NULL &&
                    (fingerprint[0] != header->fingerprint[0] ||
                        fingerprint[1] != header->fingerprint[1]);
    return is_other ? SHM_SYNC_LAYOUT_MISMATCH : result;
}

/* Opens the object anew, to remove its name. Returns -1 if that is not this process's
 * task, and -2 after an error. Forked children do not share this open file, so their
 * attachment locks conflict with its locks. */
SHM_SYNC_I_OUTLINE int shm_sync_i_open_remover(shm_sync_segment *segment) {
    if (!segment->i_removes)
        return -1;
    for (int attempt = 0;; attempt++) {
        int fd = shm_sync_i_open_file(segment->i_path);
        if (fd >= 0) {
            struct stat status;
            if (fstat(fd, &status) == 0 && status.st_dev == segment->i_device &&
                status.st_ino == segment->i_inode)
                return fd;
            shm_sync_i_close_fd(fd);
            return -1;
        }
        int code = errno;
        if ((code == EMFILE || code == ENFILE) && attempt == 0) {
            shm_sync_i_drop_fd(segment); /* frees a number */
            continue;
        }
        if (code == ELOOP || code == EISDIR || code == ENXIO)
            return -1; /* no regular file has the name now */
        /* Another object has the name, and may belong to another user. */
        if (shm_sync_i_leads_to(segment->i_path, segment->i_device, segment->i_inode) ==
            0)
            return -1;
        errno = code;
        return -2;
    }
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_removal_result(int code) {
    errno = code;
    if (code == 0 || code == ENOENT || code == ENOTDIR)
        return SHM_SYNC_OK;
    return code == EACCES || code == EPERM ? SHM_SYNC_PERMISSION_DENIED
                                           : SHM_SYNC_SYSTEM;
}

/* Removes the name, if no other process is attached. `remover` holds REMOVAL. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_remove_if_abandoned(
    const shm_sync_segment *segment, int remover) {
    int code = shm_sync_i_set_lock(
        remover, F_WRLCK, SHM_SYNC_I_WRITERS_START, SHM_SYNC_I_ATTACHED_LEN);
    if (code == EAGAIN)
        return SHM_SYNC_OK; /* in use */
    if (code == 0) {
        int ours =
            shm_sync_i_leads_to(segment->i_path, segment->i_device, segment->i_inode);
        if (ours < 0 || (ours == 1 && unlink(segment->i_path) != 0))
            code = errno;
    }
    return shm_sync_i_removal_result(code);
}

/* Ends the registration, and removes the name if no other process is attached.
 * `remover` is the result of shm_sync_i_open_remover. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_leave(
    shm_sync_segment *segment, int remover, int remover_errno) {
    shm_sync_result result = SHM_SYNC_OK;
    bool holds_removal = false;
    if (remover >= 0) {
        result = shm_sync_i_wait_lock(remover, F_WRLCK, SHM_SYNC_I_REMOVAL_START, 1);
        holds_removal = result == SHM_SYNC_OK;
    } else if (remover == -2) {
        result = shm_sync_i_removal_result(remover_errno);
    }
    /* This open file does not conflict with itself, so only other users count. They can
     * remove the name later. */
    if (result != SHM_SYNC_OK) {
        int saved = errno;
        int fd = shm_sync_i_fd_of(segment);
        int other = fd < 0 ? -1
                           : shm_sync_i_conflict(fd, F_WRLCK, SHM_SYNC_I_WRITERS_START,
                                 SHM_SYNC_I_ATTACHED_LEN);
        if (other == F_RDLCK || other == F_WRLCK)
            result = SHM_SYNC_OK;
        errno = saved;
    }
    /* Closed after REMOVAL is locked. Until this process has counted the users, an
     * opener finds its attachment lock or its REMOVAL lock. */
    shm_sync_i_drop_fd(segment);
    if (holds_removal) {
        result = shm_sync_i_remove_if_abandoned(segment, remover);
        int saved = errno;
        /* By name: a forked child may share the open file for a moment. */
        (void)shm_sync_i_set_lock(
            remover, F_UNLCK, SHM_SYNC_I_WRITERS_START, SHM_SYNC_I_ATTACHED_LEN);
        (void)shm_sync_i_set_lock(remover, F_UNLCK, SHM_SYNC_I_REMOVAL_START, 1);
        errno = saved;
    }
    shm_sync_i_close_fd(remover);
    return result;
}

/* Detaches from a POSIX object or a file: unmaps, then ends the registration. While the
 * object is mapped, its inode number can't pass to another file. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_detach_file(shm_sync_segment *segment) {
    int remover = shm_sync_i_open_remover(segment);
    int code = errno;
    if (segment->i_base != NULL)
        munmap(segment->i_base, segment->i_mapped);
    shm_sync_result result = shm_sync_i_leave(segment, remover, code);
    shm_sync_i_forget(segment);
    return result;
}

/* One attempt to open a file. `*again` becomes true if another process has changed the
 * object or its name meanwhile. `*is_stale` tells whether the caller must unlock
 * REINIT. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_open_path_once(shm_sync_segment *segment,
    const uint64_t *fingerprint, bool *again, bool *is_stale) {
    int fd = shm_sync_i_open_file(segment->i_path);
    if (fd < 0) {
        switch (errno) {
        case ELOOP:
        case EISDIR:
        case ENXIO: return SHM_SYNC_NOT_A_SEGMENT;
        case ENOENT: return SHM_SYNC_NOT_FOUND;
        case EACCES: return SHM_SYNC_PERMISSION_DENIED;
        default: return SHM_SYNC_SYSTEM;
        }
    }
    struct stat status;
    shm_sync_i_epoch here;
    shm_sync_result result = SHM_SYNC_OK;
    if (fstat(fd, &status) != 0)
        result = SHM_SYNC_SYSTEM;
    else if (!S_ISREG(status.st_mode))
        result = SHM_SYNC_NOT_A_SEGMENT;
    else
        result = shm_sync_i_check_owner(
            &segment->i_options, status.st_uid, status.st_gid, status.st_mode & 0777u);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_read_header(
            fd, (uint64_t)status.st_size, fingerprint, &segment->i_header);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_epoch_of(fd, &here);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_identify();
    if (result != SHM_SYNC_OK) {
        shm_sync_i_close_fd(fd);
        return result;
    }
    const shm_sync_i_header *header = &segment->i_header;
    uint32_t our_namespace = shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread);
    *is_stale = !shm_sync_i_same_epoch(&header->epoch, &here) ||
                header->pid_namespace != our_namespace;
    if (*is_stale)
        result = shm_sync_i_wait_lock(fd, F_WRLCK, SHM_SYNC_I_REINIT_START, 1);
    if (result != SHM_SYNC_OK) {
        shm_sync_i_close_fd(fd);
        return result;
    }
    /* A user that detaches while this call runs counts this process. Then an opener
     * that fails must detach as a user does. If no process was attached before, a crash
     * has left the object, and it stays. */
    int used = shm_sync_i_conflict(
        fd, F_WRLCK, SHM_SYNC_I_REMOVAL_START, 1 + SHM_SYNC_I_ATTACHED_LEN);
    result = shm_sync_i_wait_lock(
        fd, F_RDLCK, SHM_SYNC_I_WRITERS_START + (int64_t)shm_sync_i_own_byte(), 1);
    segment->i_fd = fd;
    segment->i_device = (uint64_t)status.st_dev;
    segment->i_inode = (uint64_t)status.st_ino;
    if (result != SHM_SYNC_OK)
        return result;
    segment->i_removes = (used == F_RDLCK || used == F_WRLCK) && header->removal;
    result = shm_sync_i_map(segment, fd);
    if (result != SHM_SYNC_OK)
        return result;
    result = shm_sync_i_publish(segment);
    if (result == SHM_SYNC_OK && *is_stale)
        result = shm_sync_i_reinit_file(segment, &here);
    if (result != SHM_SYNC_OK)
        return result;
    /* Another process may have reinitialised the locks before this one was
     * registered. */
    shm_sync_i_epoch epoch;
    uint32_t pid_namespace;
    shm_sync_i_load_validity(segment->i_base, &epoch, &pid_namespace);
    if (!shm_sync_i_same_epoch(&epoch, &here) || pid_namespace != our_namespace) {
        *again = true;
        return SHM_SYNC_OK;
    }
    /* Another process may have removed the name or reused it meanwhile. The caller
     * wants the object that has the name now. */
    int is_linked =
        shm_sync_i_leads_to(segment->i_path, segment->i_device, segment->i_inode);
    if (is_linked < 0)
        return errno == EACCES ? SHM_SYNC_PERMISSION_DENIED : SHM_SYNC_SYSTEM;
    if (is_linked == 0) {
        *again = true;
        return SHM_SYNC_OK;
    }
    segment->i_removes = header->removal;
    return SHM_SYNC_OK;
}

/* Opens the file at an absolute path. Takes ownership of `path`. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_open_path(shm_sync_segment *segment,
    char *path, const shm_sync_options *options, const uint64_t *fingerprint) {
    for (;;) {
        bool again = false;
        bool is_stale = false;
        memset(segment, 0, sizeof *segment);
        segment->i_fd = -1;
        segment->i_backing = SHM_SYNC_I_FILE;
        segment->i_path = path;
        segment->i_options = *options;
        shm_sync_result result =
            shm_sync_i_open_path_once(segment, fingerprint, &again, &is_stale);
        int saved = errno;
        /* By name: a forked child may share the open file. */
        if (is_stale && segment->i_fd >= 0)
            (void)shm_sync_i_set_lock(
                segment->i_fd, F_UNLCK, SHM_SYNC_I_REINIT_START, 1);
        if (result == SHM_SYNC_OK && !again)
            return SHM_SYNC_OK;
        char *kept = NULL;
        if (again) {
            kept = (char *)malloc(strlen(path) + 1);
            if (kept == NULL) {
                again = false;
                result = SHM_SYNC_NO_SPACE;
            } else {
                memcpy(kept, path, strlen(path) + 1);
            }
        }
        (void)shm_sync_i_detach_file(segment); /* frees `path` */
        errno = saved;
        if (!again)
            return result;
        path = kept;
    }
}

SHM_SYNC_I_INLINE bool shm_sync_i_starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Reads a decimal number with an optional sign. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_parse_i32(const char *text, int32_t *number) {
    int64_t value = 0;
    bool is_negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (*text - '0');
        if (value > (int64_t)INT32_MAX + 1)
            return false;
    }
    value = is_negative ? -value : value;
    if (value > INT32_MAX)
        return false;
    *number = (int32_t)value;
    return true;
}

/* Reads the key of a System V segment, such as 0x2a, 42 or -1. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_parse_key(const char *text, int32_t *key) {
    if (!shm_sync_i_starts_with(text, "0x"))
        return shm_sync_i_parse_i32(text, key) && *key != 0;
    uint64_t value = 0;
    text += 2;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        unsigned digit;
        if (*text >= '0' && *text <= '9')
            digit = (unsigned)(*text - '0');
        else if (*text >= 'a' && *text <= 'f')
            digit = (unsigned)(*text - 'a') + 10;
        else if (*text >= 'A' && *text <= 'F')
            digit = (unsigned)(*text - 'A') + 10;
        else
            return false;
        value = value << 4 | digit;
        if (value > UINT32_MAX)
            return false;
    }
    *key = (int32_t)(uint32_t)value;
    return *key != 0;
}

SHM_SYNC_I_OUTLINE bool shm_sync_i_is_path(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    bool is_name = *name != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    return is_name && strlen(name) <= 255 && strlen(path) <= 4095;
}

/* Returns a copy of the path that does not depend on the current directory, or null. */
SHM_SYNC_I_OUTLINE char *shm_sync_i_absolute(const char *prefix, const char *path) {
    char directory[8192];
    if (*prefix == '\0' && *path != '/') {
        /* Not getcwd of glibc, which may allocate and search directories. */
        long len =
            shm_sync_i_syscall(SYS_getcwd, directory, (long)(sizeof directory - 1));
        if (len < 2 || directory[0] != '/') {
            if (len >= 0)
                errno = ENOENT;
            return NULL;
        }
        directory[len - 1] = '/';
        directory[len] = '\0';
        prefix = directory;
    }
    size_t prefix_len = strlen(prefix);
    size_t path_len = strlen(path);
    char *whole = (char *)malloc(prefix_len + path_len + 1);
    if (whole != NULL) {
        memcpy(whole, prefix, prefix_len);
        memcpy(whole + prefix_len, path, path_len + 1);
    }
    return whole;
}

typedef enum shm_sync_i_target {
    SHM_SYNC_I_NO_ADDRESS,
    SHM_SYNC_I_PATH,
    SHM_SYNC_I_KEY,
    SHM_SYNC_I_ID
} shm_sync_i_target;

/* Reads an address. The path is `*prefix` and then `*path`. */
SHM_SYNC_I_OUTLINE shm_sync_i_target shm_sync_i_parse_address(
    const char *text, const char **prefix, const char **path, int32_t *number) {
    *prefix = "";
    *path = text;
    /* gcc copies this function for a short constant address, and warns of the code
     * behind the other prefixes. It can't copy for a constant that it does not see. */
    __asm__("" : "+r"(text));
    if (shm_sync_i_starts_with(text, "sysv:id:"))
        return shm_sync_i_parse_i32(text + 8, number) && *number >= 0
                   ? SHM_SYNC_I_ID
                   : SHM_SYNC_I_NO_ADDRESS;
    if (shm_sync_i_starts_with(text, "sysv:"))
        return shm_sync_i_parse_key(text + 5, number) ? SHM_SYNC_I_KEY
                                                      : SHM_SYNC_I_NO_ADDRESS;
    if (shm_sync_i_starts_with(text, "file:")) {
        *path = text + 5;
        return shm_sync_i_is_path(*path) ? SHM_SYNC_I_PATH : SHM_SYNC_I_NO_ADDRESS;
    }
    if (text[0] == '/' && strchr(text + 1, '/') == NULL) {
        /* shm_open accepts a name of 254 bytes after the slash. */
        if (!shm_sync_i_is_path(text) || strlen(text) > 255)
            return SHM_SYNC_I_NO_ADDRESS;
        *prefix = "/dev/shm";
        return SHM_SYNC_I_PATH;
    }
    return strchr(text, '/') != NULL && shm_sync_i_is_path(text)
               ? SHM_SYNC_I_PATH
               : SHM_SYNC_I_NO_ADDRESS;
}

/* ------------------------------------------------------------------------------------
 * System V segments
 *
 * The key of a segment leads to it before it is complete. So it contains its state, and
 * a robust lock that its creator and its remover hold. This header follows the protocol
 * of src/segment/backing/sysv/state.rs of the Rust crate, which has the proof.
 */

enum {
    SHM_SYNC_I_NEW = 0,          /* created; the lock is not initialised */
    SHM_SYNC_I_INITIALIZING = 1, /* the creator holds the lock */
    SHM_SYNC_I_READY = 2,
    SHM_SYNC_I_REMOVING = 3,       /* the remover holds the lock */
    SHM_SYNC_I_DEAD = 4,           /* it has lost its key or is about to */
    SHM_SYNC_I_CLAIM = 5,          /* the low byte of a claim */
    SHM_SYNC_I_REINITIALIZING = 6, /* one process reinitialises the locks */
    SHM_SYNC_I_IPC_RMID = 0,
    SHM_SYNC_I_IPC_STAT = 2,
    SHM_SYNC_I_SHM_DEST = 01000,
    SHM_SYNC_I_UNFINISHED_MODE =
        011, /* the bits of 0111 in the mode of an unfinished segment */
    SHM_SYNC_I_ROOT = 0
};

/* How long to wait for another process that creates, reinitialises or removes a
 * segment; for other newcomers; and for a creator that has not locked yet. In
 * nanoseconds. */
#define SHM_SYNC_I_UNFINISHED_TIMEOUT UINT64_C(10000000000)
#define SHM_SYNC_I_NEWCOMER_TIMEOUT UINT64_C(250000000)
#define SHM_SYNC_I_GRACE UINT64_C(20000000)

/* The state in the header of a System V segment. */
typedef struct shm_sync_i_state {
    uint32_t state;
    uint32_t claims;
    shm_sync_i_pthread lock;
} shm_sync_i_state;

SHM_SYNC_I_ASSERT(offsetof(shm_sync_i_state, lock) == 8, "the lock of the state");
SHM_SYNC_I_ASSERT(sizeof(shm_sync_i_state) <= 64, "the state fits into the header");

#ifdef SHM_SYNC_I_MUSL
typedef struct shmid_ds shm_sync_i_status;
#else
typedef struct shmid64_ds shm_sync_i_status;
#endif

/* The result of an attempt to attach. */
typedef enum shm_sync_i_attempt {
    SHM_SYNC_I_ATTACHED,        /* complete, and of this pid namespace */
    SHM_SYNC_I_GONE,            /* removed */
    SHM_SYNC_I_LATER_NAMESPACE, /* processes of another namespace are attached */
    SHM_SYNC_I_LATER,           /* another process must finish first */
    SHM_SYNC_I_REFUSED          /* `result` says why */
} shm_sync_i_attempt;

/* An attachment, or the reason why there is none. */
typedef struct shm_sync_i_sysv {
    unsigned char *base;
    uint64_t len;
    shm_sync_i_header header;
    shm_sync_result result;
    int error; /* errno of SHM_SYNC_SYSTEM */
    bool was_in_use;
    bool is_half_reinitialized;
} shm_sync_i_sysv;

SHM_SYNC_I_INLINE bool shm_sync_i_is_removed_error(int code) {
    return code == EINVAL || code == EIDRM;
}

SHM_SYNC_I_OUTLINE int shm_sync_i_status_of(int id, shm_sync_i_status *status) {
    memset(status, 0, sizeof *status);
    return shm_sync_i_syscall(
               SYS_shmctl, (long)id, (long)SHM_SYNC_I_IPC_STAT, status) == 0
               ? 0
               : errno;
}

/* Returns whether the caller's attachment is the only one, in all pid namespaces. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_alone(int id) {
    shm_sync_i_status status;
    return shm_sync_i_status_of(id, &status) == 0 && status.shm_nattch == 1;
}

/* Returns whether the segment has lost its key. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_removed(int id) {
    shm_sync_i_status status;
    int code = shm_sync_i_status_of(id, &status);
    return code == 0 ? ((unsigned)status.shm_perm.mode & SHM_SYNC_I_SHM_DEST) != 0
                     : shm_sync_i_is_removed_error(code);
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_unfinished(const shm_sync_i_status *status) {
    return ((unsigned)status->shm_perm.mode & 0111u) == SHM_SYNC_I_UNFINISHED_MODE;
}

/* Checks every identity to which the kernel grants rights: the owner and the creator,
 * which keeps all rights. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_check_sysv(
    const shm_sync_options *options, const shm_sync_i_status *status) {
    uint32_t creator = (uint32_t)status->shm_perm.cuid;
    uint32_t group = (uint32_t)status->shm_perm.cgid;
    shm_sync_result result = shm_sync_i_check_owner(options,
        (uint32_t)status->shm_perm.uid, (uint32_t)status->shm_perm.gid,
        (uint32_t)status->shm_perm.mode & 0777u & ~0111u);
    if (result != SHM_SYNC_OK)
        return result;
    bool is_trusted_group = creator == SHM_SYNC_I_ROOT;
    if (options->owner != SHM_SYNC_ANY) {
        if (creator != options->owner && creator != (uint32_t)geteuid() &&
            creator != SHM_SYNC_I_ROOT)
            return SHM_SYNC_WRONG_OWNER;
        is_trusted_group = group == SHM_SYNC_I_ROOT;
    }
    return options->group != SHM_SYNC_ANY && group != options->group &&
                   !is_trusted_group
               ? SHM_SYNC_WRONG_OWNER
               : SHM_SYNC_OK;
}

SHM_SYNC_I_INLINE shm_sync_i_state *shm_sync_i_state_of(unsigned char *base) {
    return (shm_sync_i_state *)(void *)(base + SHM_SYNC_I_AT_SYSV_STATE);
}

SHM_SYNC_I_INLINE bool shm_sync_i_is_claim(uint32_t state) {
    return (state & 0xff) == SHM_SYNC_I_CLAIM;
}

SHM_SYNC_I_OUTLINE void shm_sync_i_set_state(shm_sync_i_state *word, uint32_t state) {
    SHM_SYNC_I_STORE_SC(&word->state, state);
    shm_sync_i_futex_wake(&word->state, INT32_MAX);
}

/* Changes the state, unless it is not `before` any more. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_replace_state(
    shm_sync_i_state *word, uint32_t before, uint32_t after) {
    bool replaced = __atomic_compare_exchange_n(
        &word->state, &before, after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    shm_sync_i_futex_wake(&word->state, INT32_MAX);
    return replaced;
}

/* Waits until the state changes, at most for the grace time. */
SHM_SYNC_I_OUTLINE void shm_sync_i_wait_while(
    const shm_sync_i_state *word, uint32_t state) {
    uint64_t until = shm_sync_i_after(SHM_SYNC_I_GRACE);
    while (SHM_SYNC_I_LOAD_SC(&word->state) == state && !shm_sync_i_has_passed(until)) {
        int code = shm_sync_i_futex_wait(&word->state, state, until);
        if (code != 0 && code != ETIMEDOUT)
            return;
    }
}

/* Locks the state. All users that may write to the segment are trusted, and the lock is
 * of this pid namespace. An owner death needs no repair: the state says how far the
 * owner got. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_lock_state(
    shm_sync_i_state *word, shm_sync_i_how how) {
    shm_sync_result result = shm_sync_i_identify();
    if (result != SHM_SYNC_OK)
        return result;
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    if (!shm_sync_i_has_room(me) && !shm_sync_i_recount(me))
        return SHM_SYNC_TOO_MANY_LOCKS;
    /* libc may do anything with a mutex of another kind. */
    uint32_t kind = SHM_SYNC_I_LOAD(&word->lock.words.kind);
    if (me->is_known ? kind != SHM_SYNC_I_KIND
                     : (kind & SHM_SYNC_I_KIND_PRIO_INHERIT) != 0)
        return SHM_SYNC_CORRUPT;
    int code = shm_sync_i_pthread_lock(
        &word->lock, how, shm_sync_i_after(SHM_SYNC_I_UNFINISHED_TIMEOUT));
    if (code == EOWNERDEAD)
        code = shm_sync_i_make_consistent(&word->lock);
    switch (code) {
    case 0: shm_sync_i_count_lock(me); return SHM_SYNC_OK;
    case EBUSY: return SHM_SYNC_WOULD_BLOCK;
    case ETIMEDOUT: return SHM_SYNC_UNFINISHED;
    case EDEADLK: return SHM_SYNC_DEADLOCK;
    case ENOTRECOVERABLE: return SHM_SYNC_UNRECOVERABLE;
    default: errno = code; return SHM_SYNC_SYSTEM;
    }
}

SHM_SYNC_I_OUTLINE void shm_sync_i_unlock_state(shm_sync_i_state *word) {
    shm_sync_i_thread *me = &shm_sync_i_v1_this_thread;
    void *first = SHM_SYNC_I_LOAD(&me->head->list);
    void *next = shm_sync_i_pthread_unlock(me, &word->lock);
    shm_sync_i_count_unlock(me, &word->lock.words, first, next);
}

SHM_SYNC_I_OUTLINE int shm_sync_i_remove_id(int id) {
    return shm_sync_i_syscall(
               SYS_shmctl, (long)id, (long)SHM_SYNC_I_IPC_RMID, (void *)NULL) == 0
               ? 0
               : errno;
}

/* Removes a segment that is dead, unless it is removed already. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_remove_dead(
    const shm_sync_i_state *word, int id) {
    int code = shm_sync_i_remove_id(id);
    if (code == 0 || shm_sync_i_is_removed_error(code))
        return SHM_SYNC_OK;
    if (code == EACCES || code == EPERM) {
        /* A process that is allowed to remove it may be doing so now. */
        shm_sync_i_wait_while(word, SHM_SYNC_I_DEAD);
        return shm_sync_i_is_removed(id) ? SHM_SYNC_OK : SHM_SYNC_PERMISSION_DENIED;
    }
    errno = code;
    return SHM_SYNC_SYSTEM;
}

/* Finishes the interrupted work of the last holder of the lock. The caller holds it.
 * `*is_gone` tells whether the segment is gone. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_finish_interrupted(
    shm_sync_i_state *word, int id, bool *is_gone) {
    uint32_t state = SHM_SYNC_I_LOAD_SC(&word->state);
    *is_gone = false;
    if (state == SHM_SYNC_I_READY)
        return SHM_SYNC_OK;
    /* A remover died before it removed the segment; or a claimant, which counts the
     * caller and finds its claim replaced. */
    if ((state == SHM_SYNC_I_REMOVING && !shm_sync_i_is_removed(id)) ||
        shm_sync_i_is_claim(state)) {
        shm_sync_i_set_state(word, SHM_SYNC_I_READY);
        return SHM_SYNC_OK;
    }
    /* The creator died, or a remover after the removal. */
    shm_sync_i_set_state(word, SHM_SYNC_I_DEAD);
    *is_gone = true;
    return shm_sync_i_remove_dead(word, id);
}

SHM_SYNC_I_INLINE shm_sync_i_attempt shm_sync_i_refuse(
    shm_sync_i_sysv *sysv, shm_sync_result result) {
    sysv->result = result;
    sysv->error = errno;
    return SHM_SYNC_I_REFUSED;
}

/* Reads the header from a copy of its bytes, which no process changes. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_copy_header(
    const shm_sync_i_sysv *sysv, shm_sync_i_header *header) {
    unsigned char bytes[SHM_SYNC_I_HEADER_LEN];
    memcpy(bytes, sysv->base, sizeof bytes);
    return shm_sync_i_parse_header(bytes, sysv->len, header);
}

/* Makes a step from one state of an attached segment. Returns SHM_SYNC_I_ATTACHED to
 * look at the state again, if `*is_ready` is false. */
SHM_SYNC_I_OUTLINE shm_sync_i_attempt shm_sync_i_state_step(shm_sync_i_sysv *sysv,
    int id, const shm_sync_i_status *status, shm_sync_i_how how, bool *is_ready) {
    shm_sync_i_state *word = shm_sync_i_state_of(sysv->base);
    uint32_t state = SHM_SYNC_I_LOAD_SC(&word->state);
    shm_sync_result result;
    *is_ready = false;
    if (state == SHM_SYNC_I_READY) {
        *is_ready = true;
        return SHM_SYNC_I_ATTACHED;
    }
    if (state == SHM_SYNC_I_NEW) {
        if (!shm_sync_i_is_unfinished(status))
            return shm_sync_i_refuse(
                sysv, SHM_SYNC_NOT_A_SEGMENT); /* another program's zeros */
        shm_sync_i_wait_while(word, SHM_SYNC_I_NEW);
        /* A slow creator notices this, and starts again. */
        shm_sync_i_replace_state(word, SHM_SYNC_I_NEW, SHM_SYNC_I_DEAD);
        return SHM_SYNC_I_ATTACHED;
    }
    if (state == SHM_SYNC_I_DEAD) {
        result = shm_sync_i_is_unfinished(status)
                     ? SHM_SYNC_OK
                     : shm_sync_i_copy_header(sysv, &sysv->header);
        if (result == SHM_SYNC_OK)
            result = shm_sync_i_remove_dead(word, id);
        return result == SHM_SYNC_OK ? SHM_SYNC_I_GONE
                                     : shm_sync_i_refuse(sysv, result);
    }
    if (state != SHM_SYNC_I_INITIALIZING && state != SHM_SYNC_I_REMOVING &&
        state != SHM_SYNC_I_REINITIALIZING && !shm_sync_i_is_claim(state))
        return shm_sync_i_refuse(sysv, SHM_SYNC_NOT_A_SEGMENT);
    result = shm_sync_i_copy_header(sysv, &sysv->header);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_identify();
    if (result != SHM_SYNC_OK)
        return shm_sync_i_refuse(sysv, result);
    bool is_ours = sysv->header.pid_namespace ==
                   shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread);
    if (state == SHM_SYNC_I_REINITIALIZING) {
        if (!shm_sync_i_is_alone(id))
            return SHM_SYNC_I_LATER;
        /* The process may have stored READY before it died. */
        if (SHM_SYNC_I_LOAD_SC(&word->state) != SHM_SYNC_I_REINITIALIZING)
            return SHM_SYNC_I_ATTACHED;
        if (shm_sync_i_is_removed(id)) {
            shm_sync_i_set_state(word, SHM_SYNC_I_DEAD);
            return SHM_SYNC_I_ATTACHED;
        }
        sysv->is_half_reinitialized = true;
        *is_ready = true;
        return SHM_SYNC_I_ATTACHED;
    }
    if (shm_sync_i_is_claim(state)) {
        /* A claimant that still runs is attached, and notices that its claim is
         * replaced. */
        if (!shm_sync_i_is_alone(id)) {
            if (!is_ours)
                return SHM_SYNC_I_LATER_NAMESPACE;
            shm_sync_i_wait_while(word, state);
        }
        shm_sync_i_replace_state(word, state, SHM_SYNC_I_READY);
        return SHM_SYNC_I_ATTACHED;
    }
    if (!is_ours) {
        if (!shm_sync_i_is_alone(id))
            return SHM_SYNC_I_LATER_NAMESPACE;
        /* The process that wrote this state was attached, so it is dead. */
        bool stays = state == SHM_SYNC_I_REMOVING && !shm_sync_i_is_removed(id);
        shm_sync_i_replace_state(word, state,
            stays ? (uint32_t)SHM_SYNC_I_READY : (uint32_t)SHM_SYNC_I_DEAD);
        return SHM_SYNC_I_ATTACHED;
    }
    bool is_gone = false;
    result = shm_sync_i_lock_state(word, how);
    if (result == SHM_SYNC_WOULD_BLOCK)
        return SHM_SYNC_I_LATER;
    if (result == SHM_SYNC_OK) {
        result = shm_sync_i_finish_interrupted(word, id, &is_gone);
        int saved = errno;
        shm_sync_i_unlock_state(word);
        errno = saved;
    }
    if (result != SHM_SYNC_OK)
        return shm_sync_i_refuse(sysv, result);
    return is_gone ? SHM_SYNC_I_GONE : SHM_SYNC_I_ATTACHED;
}

SHM_SYNC_I_OUTLINE void shm_sync_i_detach(shm_sync_i_sysv *sysv) {
    int saved = errno;
    if (sysv->base != NULL)
        shm_sync_i_syscall(SYS_shmdt, sysv->base);
    sysv->base = NULL;
    errno = saved;
}

/* Attaches to a segment if every user with the right to write to it is trusted.
 * Finishes the interrupted work of a dead process. After SHM_SYNC_I_ATTACHED it is
 * attached, and complete or half reinitialised; after all others it is not attached. */
SHM_SYNC_I_OUTLINE shm_sync_i_attempt shm_sync_i_attach(shm_sync_i_sysv *sysv,
    const shm_sync_options *options, int id, shm_sync_i_how how) {
    shm_sync_i_status status;
    memset(sysv, 0, sizeof *sysv);
    for (int check = 0; check < 2; check++) {
        /* Twice: the kernel may have reused the id before `shmat`. */
        int code = shm_sync_i_status_of(id, &status);
        shm_sync_result result = code == 0 ? shm_sync_i_check_sysv(options, &status)
                                 : code == EACCES ? SHM_SYNC_PERMISSION_DENIED
                                                  : SHM_SYNC_SYSTEM;
        if (code == 0 && result == SHM_SYNC_OK &&
            status.shm_segsz < SHM_SYNC_I_HEADER_LEN)
            result = SHM_SYNC_NOT_A_SEGMENT;
        if (code != 0)
            errno = code;
        if (result != SHM_SYNC_OK) {
            shm_sync_i_attempt attempt = shm_sync_i_is_removed_error(code)
                                             ? SHM_SYNC_I_GONE
                                             : shm_sync_i_refuse(sysv, result);
            shm_sync_i_detach(sysv);
            return attempt;
        }
        if (check == 1)
            break;
        sysv->was_in_use = status.shm_nattch > 0;
        long base = shm_sync_i_syscall(SYS_shmat, (long)id, (void *)NULL, 0L);
        if (base == -1) {
            if (shm_sync_i_is_removed_error(errno))
                return SHM_SYNC_I_GONE;
            return shm_sync_i_refuse(
                sysv, errno == EACCES ? SHM_SYNC_PERMISSION_DENIED : SHM_SYNC_SYSTEM);
        }
        sysv->base = (unsigned char *)(uintptr_t)base;
    }
    sysv->len = status.shm_segsz;
    bool is_ready = false;
    while (!is_ready) {
        shm_sync_i_attempt attempt =
            shm_sync_i_state_step(sysv, id, &status, how, &is_ready);
        if (attempt != SHM_SYNC_I_ATTACHED) {
            shm_sync_i_detach(sysv);
            return attempt;
        }
    }
    shm_sync_result result = shm_sync_i_copy_header(sysv, &sysv->header);
    if (result != SHM_SYNC_OK) {
        shm_sync_i_attempt attempt = shm_sync_i_refuse(sysv, result);
        shm_sync_i_detach(sysv);
        return attempt;
    }
    return SHM_SYNC_I_ATTACHED;
}

/* Removes a segment for which the caller has the exclusive permission. If the kernel
 * refuses, restores the state `before`. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_remove_as(
    shm_sync_i_state *word, int id, uint32_t before) {
    int code = shm_sync_i_remove_id(id);
    shm_sync_i_set_state(word, code == 0 ? (uint32_t)SHM_SYNC_I_DEAD : before);
    if (code == 0 || shm_sync_i_is_removed_error(code))
        return SHM_SYNC_OK;
    errno = code;
    return code == EACCES || code == EPERM ? SHM_SYNC_PERMISSION_DENIED
                                           : SHM_SYNC_SYSTEM;
}

/* Changes READY to REINITIALIZING if this process is the only one attached. A remover
 * of another pid namespace does this instead of taking the lock. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_seize(shm_sync_i_state *word, int id) {
    if (!shm_sync_i_is_alone(id))
        return false;
    uint32_t claim =
        __atomic_add_fetch(&word->claims, 1u, __ATOMIC_SEQ_CST) << 8 | SHM_SYNC_I_CLAIM;
    if (!shm_sync_i_replace_state(word, SHM_SYNC_I_READY, claim))
        return false;
    if (shm_sync_i_is_alone(id) &&
        shm_sync_i_replace_state(word, claim, SHM_SYNC_I_REINITIALIZING))
        return true;
    shm_sync_i_replace_state(word, claim, SHM_SYNC_I_READY);
    return false;
}

/* Removes a complete segment if `base` is its only attachment. `*is_done` is false if
 * it is not, or if another thread holds the lock. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_remove_if_alone(
    const shm_sync_i_sysv *sysv, int id, bool *is_done) {
    shm_sync_i_header header;
    shm_sync_i_state *word = shm_sync_i_state_of(sysv->base);
    *is_done = false;
    shm_sync_result result = shm_sync_i_copy_header(sysv, &header);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_identify();
    if (result != SHM_SYNC_OK)
        return result;
    bool is_half = SHM_SYNC_I_LOAD_SC(&word->state) == SHM_SYNC_I_REINITIALIZING;
    if (is_half ||
        header.pid_namespace != shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread)) {
        *is_done = is_half ? shm_sync_i_is_alone(id) : shm_sync_i_seize(word, id);
        return *is_done ? shm_sync_i_remove_as(word, id,
                              is_half ? (uint32_t)SHM_SYNC_I_REINITIALIZING
                                      : (uint32_t)SHM_SYNC_I_READY)
                        : SHM_SYNC_OK;
    }
    result = shm_sync_i_lock_state(word, SHM_SYNC_I_TRY);
    if (result == SHM_SYNC_WOULD_BLOCK)
        return SHM_SYNC_OK;
    if (result != SHM_SYNC_OK)
        return result;
    result = shm_sync_i_finish_interrupted(word, id, is_done);
    if (result == SHM_SYNC_OK && !*is_done) {
        shm_sync_i_status status;
        shm_sync_i_set_state(word, SHM_SYNC_I_REMOVING);
        if (shm_sync_i_status_of(id, &status) == 0 && status.shm_nattch <= 1) {
            *is_done = true;
            result = shm_sync_i_remove_as(word, id, SHM_SYNC_I_READY);
        } else {
            shm_sync_i_set_state(word, SHM_SYNC_I_READY);
        }
    }
    int saved = errno;
    shm_sync_i_unlock_state(word);
    errno = saved;
    return result;
}

/* Removes the segment if no process is attached to it. The caller is not attached. Does
 * not wait for the lock, because its holder is attached, and checks when it
 * detaches. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_remove_sysv_if_abandoned(
    const shm_sync_options *options, int id) {
    /* Each attempt but the first is due to a process that attached and detached. */
    for (int attempt = 0; attempt < 100; attempt++) {
        shm_sync_i_status status;
        shm_sync_i_sysv sysv;
        int code = shm_sync_i_status_of(id, &status);
        if (shm_sync_i_is_removed_error(code) || (code == 0 && status.shm_nattch > 0))
            return SHM_SYNC_OK;
        if (code != 0) {
            errno = code;
            return code == EACCES ? SHM_SYNC_PERMISSION_DENIED : SHM_SYNC_SYSTEM;
        }
        /* A segment to which an untrusted user may write stays. */
        if (shm_sync_i_check_sysv(options, &status) != SHM_SYNC_OK)
            return SHM_SYNC_OK;
        switch (shm_sync_i_attach(&sysv, options, id, SHM_SYNC_I_TRY)) {
        case SHM_SYNC_I_GONE: return SHM_SYNC_OK;
        case SHM_SYNC_I_REFUSED: errno = sysv.error; return sysv.result;
        case SHM_SYNC_I_ATTACHED: {
            bool is_done = false;
            shm_sync_result result = shm_sync_i_remove_if_alone(&sysv, id, &is_done);
            shm_sync_i_detach(&sysv);
            if (is_done || result != SHM_SYNC_OK)
                return result;
            break;
        }
        case SHM_SYNC_I_LATER_NAMESPACE:
        case SHM_SYNC_I_LATER: break;
        }
    }
    return SHM_SYNC_OK;
}

/* Detaches. The last process that detaches removes the segment, if its creator wants
 * that. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_leave_sysv(
    shm_sync_i_sysv *sysv, const shm_sync_options *options, int id) {
    bool is_transient = sysv->header.removal;
    bool is_removed = false;
    shm_sync_i_status status;
    /* Before it detaches, so that no other process finds the segment abandoned. An
     * error is ignored, because the check after `shmdt` meets it again. */
    if (is_transient && shm_sync_i_status_of(id, &status) == 0 &&
        status.shm_nattch == 1 &&
        shm_sync_i_check_sysv(options, &status) == SHM_SYNC_OK)
        is_removed = shm_sync_i_remove_if_alone(sysv, id, &is_removed) == SHM_SYNC_OK &&
                     is_removed;
    shm_sync_i_detach(sysv);
    return !is_transient || is_removed
               ? SHM_SYNC_OK
               : shm_sync_i_remove_sysv_if_abandoned(options, id);
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_detach_sysv(shm_sync_segment *segment) {
    shm_sync_i_sysv sysv;
    memset(&sysv, 0, sizeof sysv);
    sysv.base = segment->i_base;
    sysv.len = segment->i_len;
    sysv.header = segment->i_header;
    shm_sync_result result =
        shm_sync_i_leave_sysv(&sysv, &segment->i_options, segment->i_sysv);
    shm_sync_i_forget(segment);
    return result;
}

/* Makes the locks of an attached segment valid for this process, if it is the only one.
 * Returns SHM_SYNC_WOULD_BLOCK, and changes nothing, if it is not. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_reinit_sysv(
    const shm_sync_segment *segment, const shm_sync_i_sysv *sysv, int id) {
    uint32_t our_namespace = shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread);
    shm_sync_i_state *word = shm_sync_i_state_of(sysv->base);
    shm_sync_result result = shm_sync_i_check_objects(segment);
    if (result != SHM_SYNC_OK)
        return result;
    if (!sysv->is_half_reinitialized && !shm_sync_i_seize(word, id))
        return SHM_SYNC_WOULD_BLOCK;
    result = shm_sync_i_reinit_objects(segment, our_namespace);
    if (result != SHM_SYNC_OK)
        return result;
    int code = shm_sync_i_init_pthread(&word->lock, false);
    if (code != 0) {
        errno = code;
        return SHM_SYNC_SYSTEM;
    }
    shm_sync_i_publish_validity(sysv->base, &sysv->header.epoch, our_namespace);
    shm_sync_i_set_state(word, SHM_SYNC_I_READY);
    return SHM_SYNC_OK;
}

/* Fills the segment for an attachment, after checking it. Returns SHM_SYNC_WOULD_BLOCK
 * if its locks are of another pid namespace, and other processes are attached. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_enter_sysv(shm_sync_segment *segment,
    const shm_sync_i_sysv *sysv, int id, const uint64_t *fingerprint) {
    const uint64_t *found = sysv->header.fingerprint;
    shm_sync_result result = shm_sync_i_identify();
    if (result != SHM_SYNC_OK)
        return result;
    if (fingerprint != NULL &&
        (fingerprint[0] != found[0] || fingerprint[1] != found[1]))
        return SHM_SYNC_LAYOUT_MISMATCH;
    segment->i_backing = SHM_SYNC_I_SYSV;
    segment->i_base = sysv->base;
    segment->i_len = sysv->len;
    segment->i_header = sysv->header;
    segment->i_sysv = id;
    result = shm_sync_i_publish(segment);
    bool is_valid = !sysv->is_half_reinitialized &&
                    sysv->header.pid_namespace ==
                        shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread);
    return result == SHM_SYNC_OK && !is_valid
               ? shm_sync_i_reinit_sysv(segment, sysv, id)
               : result;
}

/* Detaches from a segment that this process did not use. A user that detached meanwhile
 * has counted this process. If no process was attached before, a crash has left the
 * segment, and it stays. */
SHM_SYNC_I_OUTLINE void shm_sync_i_detach_unused(
    shm_sync_i_sysv *sysv, const shm_sync_options *options, int id) {
    int saved = errno;
    if (sysv->was_in_use)
        (void)shm_sync_i_leave_sysv(sysv, options, id);
    else
        shm_sync_i_detach(sysv);
    errno = saved;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_open_sysv(shm_sync_segment *segment,
    bool is_key, int32_t number, const shm_sync_options *options,
    const uint64_t *fingerprint) {
    uint64_t until = shm_sync_i_after(SHM_SYNC_I_UNFINISHED_TIMEOUT);
    uint64_t newcomer_until = 0;
    uint64_t next_pause = 1000000;
    int id = number;
    shm_sync_i_sysv sysv;
    for (;;) {
        if (is_key)
            id = (int)shm_sync_i_syscall(SYS_shmget, (long)number, 0L, 0L);
        if (id == -1) {
            if (errno == ENOENT)
                return SHM_SYNC_NOT_FOUND;
            return errno == EACCES ? SHM_SYNC_PERMISSION_DENIED : SHM_SYNC_SYSTEM;
        }
        shm_sync_i_attempt attempt =
            shm_sync_i_attach(&sysv, options, id, SHM_SYNC_I_WAIT);
        if (attempt == SHM_SYNC_I_ATTACHED) {
            shm_sync_result result =
                shm_sync_i_enter_sysv(segment, &sysv, id, fingerprint);
            if (result == SHM_SYNC_OK) {
                segment->i_options = *options;
                return SHM_SYNC_OK;
            }
            shm_sync_i_forget(segment);
            if (result != SHM_SYNC_WOULD_BLOCK) {
                shm_sync_i_detach_unused(&sysv, options, id);
                return result;
            }
            shm_sync_i_detach(&sysv);
            attempt = SHM_SYNC_I_LATER_NAMESPACE;
        }
        if (attempt == SHM_SYNC_I_REFUSED) {
            errno = sysv.error;
            return sysv.result;
        }
        /* A key may lead to another segment by now. An id never does. */
        if (attempt == SHM_SYNC_I_GONE) {
            if (!is_key)
                return SHM_SYNC_NOT_FOUND;
            continue;
        }
        if (shm_sync_i_has_passed(until))
            return SHM_SYNC_UNFINISHED;
        if (attempt == SHM_SYNC_I_LATER_NAMESPACE) {
            if (newcomer_until == 0)
                newcomer_until = shm_sync_i_after(SHM_SYNC_I_NEWCOMER_TIMEOUT);
            else if (shm_sync_i_has_passed(newcomer_until))
                return SHM_SYNC_FOREIGN_PID_NAMESPACE;
        }
        /* Two processes that met do not meet again. */
        uint64_t mixed = shm_sync_i_now() ^ (uint64_t)getpid() << 32;
        uint64_t spread = (mixed * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
        shm_sync_i_pause(next_pause + spread % next_pause);
        next_pause = next_pause * 2 < 32000000 ? next_pause * 2 : 32000000;
    }
}

/* ------------------------------------------------------------------------------------
 * Opening and closing segments
 */

/* Returns whether the last part of a path is a name that a creator gives to a segment
 * until it is complete: see src/segment/backing/temporary.rs of the Rust crate. */
SHM_SYNC_I_INLINE bool shm_sync_i_is_temporary(const char *path) {
    static const char prefix[] = ".shm-sync.new.";
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t len = sizeof prefix - 1;
    return strncmp(name, prefix, len) == 0 && strlen(name) == len + 16 &&
           strspn(name + len, "0123456789abcdef") == 16;
}

/* Opens a segment like shm_sync_open, and trusts other users than this one. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_open_with(
    shm_sync_segment *segment, const char *address, const char *fingerprint,
    const shm_sync_options *options) {
    uint64_t halves[2] = {0, 0};
    memset(segment, 0, sizeof *segment);
    segment->i_fd = -1;
    if (fingerprint != NULL && !shm_sync_i_parse_fingerprint(fingerprint, halves))
        return SHM_SYNC_INVALID_ARGUMENT;
    /* Any owner is trusted only as a member of a group, outside of which no user may
     * write. */
    if (options->owner == SHM_SYNC_ANY &&
        (options->group == SHM_SYNC_ANY || (options->mode & 2u) != 0))
        return SHM_SYNC_INVALID_ARGUMENT;
    const char *prefix;
    const char *path;
    int32_t number = 0;
    shm_sync_i_target target =
        shm_sync_i_parse_address(address, &prefix, &path, &number);
    const uint64_t *wanted = fingerprint == NULL ? NULL : halves;
    if (target == SHM_SYNC_I_NO_ADDRESS)
        return SHM_SYNC_INVALID_NAME;
    if (target != SHM_SYNC_I_PATH)
        return shm_sync_i_open_sysv(
            segment, target == SHM_SYNC_I_KEY, number, options, wanted);
    if (shm_sync_i_is_temporary(path))
        return SHM_SYNC_INVALID_NAME;
    char *whole = shm_sync_i_absolute(prefix, path);
    return whole == NULL ? SHM_SYNC_SYSTEM
                         : shm_sync_i_open_path(segment, whole, options, wanted);
}

/* Opens the segment `address`, which exists and was created by a Rust program.
 *
 * | address | segment |
 * |---|---|
 * | "/jobs" | a POSIX object, a file in /dev/shm |
 * | "./jobs", "data/jobs", "/var/lib/jobs" | a file |
 * | "file:/jobs" | a file whose path alone would mean something else |
 * | "sysv:0x2a", "sysv:42" | a System V segment by its key |
 * | "sysv:id:7" | a System V segment by its id |
 *
 * `fingerprint` is that of the type, 32 hexadecimal digits, as `shm-sync export-c`
 * writes it. Null accepts every type: then only shm_sync_find knows the layout.
 *
 * Results: SHM_SYNC_OK, SHM_SYNC_NOT_FOUND, SHM_SYNC_INVALID_NAME; SHM_SYNC_WRONG_OWNER
 * and SHM_SYNC_TOO_PERMISSIVE (another user owns it or may write to it: see
 * shm_sync_open_with); SHM_SYNC_NOT_A_SEGMENT, SHM_SYNC_UNSUPPORTED_FORMAT,
 * SHM_SYNC_CORRUPT, SHM_SYNC_LAYOUT_MISMATCH; SHM_SYNC_FOREIGN_PID_NAMESPACE,
 * SHM_SYNC_IN_USE, SHM_SYNC_STALE; SHM_SYNC_BLOCKED, SHM_SYNC_UNFINISHED,
 * SHM_SYNC_PERMISSION_DENIED, SHM_SYNC_NO_SPACE, SHM_SYNC_INVALID_ARGUMENT,
 * SHM_SYNC_SYSTEM; SHM_SYNC_NO_PID_NAMESPACE, SHM_SYNC_NO_BOOT_ID, SHM_SYNC_RAW_CLONE,
 * SHM_SYNC_NO_ROBUST_LISTS, SHM_SYNC_NO_FORK_DETECTION. After all but SHM_SYNC_OK the
 * segment is closed.
 *
 * A file can outlive the boot and the container in which its locks were initialised,
 * and it can be copied. If no process uses the locks, this call reinitialises them.
 * Mutexes that were held are then poisoned.
 *
 * It waits for another process that reinitialises or removes the segment, and 10 s for
 * each such step of a process that is stopped. If this process is killed at any point,
 * the kernel detaches it.
 *
 * The header and the tables are checked, and that the value has the size and the
 * alignment of its type. A segment with too many types has no type table. Then a
 * program that knows the type compares `value_size` with it. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_open(
    shm_sync_segment *segment, const char *address, const char *fingerprint) {
    shm_sync_options options = shm_sync_default_options();
    return shm_sync_open_with(segment, address, fingerprint, &options);
}

/* Opens the anonymous segment behind a descriptor that this process has inherited or
 * received. The segment keeps a copy of the descriptor: the caller may close its own.
 * Owner and mode are not checked, because the holder of the descriptor may use it.
 *
 * Results: those of shm_sync_open, and SHM_SYNC_UNSEALED if the descriptor is not that
 * of an anonymous segment. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_open_fd(
    shm_sync_segment *segment, int fd, const char *fingerprint) {
    uint64_t halves[2] = {0, 0};
    memset(segment, 0, sizeof *segment);
    segment->i_fd = -1;
    if (fingerprint != NULL && !shm_sync_i_parse_fingerprint(fingerprint, halves))
        return SHM_SYNC_INVALID_ARGUMENT;
    int seals = fcntl(fd, SHM_SYNC_I_GET_SEALS);
    if (seals == -1)
        return errno == EINVAL ? SHM_SYNC_UNSEALED : SHM_SYNC_SYSTEM;
    if ((seals & SHM_SYNC_I_SEAL_SHRINK) == 0)
        return SHM_SYNC_UNSEALED;
    int copy = fcntl(fd, SHM_SYNC_I_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return SHM_SYNC_SYSTEM;
    segment->i_backing = SHM_SYNC_I_MEMFD;
    segment->i_fd = copy;
    struct stat status;
    shm_sync_result result = fstat(copy, &status) == 0 ? SHM_SYNC_OK : SHM_SYNC_SYSTEM;
    if (result == SHM_SYNC_OK) {
        segment->i_device = (uint64_t)status.st_dev;
        segment->i_inode = (uint64_t)status.st_ino;
        result = shm_sync_i_read_header(copy, (uint64_t)status.st_size,
            fingerprint == NULL ? NULL : halves, &segment->i_header);
    }
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_identify();
    if (result == SHM_SYNC_OK &&
        segment->i_header.pid_namespace !=
            shm_sync_i_our_namespace(&shm_sync_i_v1_this_thread))
        result = SHM_SYNC_FOREIGN_PID_NAMESPACE;
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_map(segment, copy);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_publish(segment);
    if (result == SHM_SYNC_OK)
        return SHM_SYNC_OK;
    int saved = errno;
    if (segment->i_base != NULL)
        munmap(segment->i_base, segment->i_mapped);
    shm_sync_i_close_fd(copy);
    shm_sync_i_forget(segment);
    errno = saved;
    return result;
}

/* Detaches from the segment, and unmaps it. If this process is its last user and the
 * creator chose `Removal::UntilLastDetach`, the name is removed. A segment that is
 * closed may be closed again.
 *
 * Results: SHM_SYNC_OK. SHM_SYNC_LOCKS_HELD: a thread of this process holds a lock, a
 * permit or an endpoint in it; nothing was done. SHM_SYNC_PERMISSION_DENIED,
 * SHM_SYNC_BLOCKED, SHM_SYNC_SYSTEM: the segment is closed, but its name stays,
 * although no other process was found.
 *
 * No thread of this process may use the segment any more. Nothing counts the threads
 * that wait in it: such a thread would access memory that is unmapped.
 *
 * It does not wait, unless another process locks the name to remove it and is stopped
 * (10 s). If this process is killed at any point, the name stays or is removed, and no
 * lock is left. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_close(shm_sync_segment *segment) {
    if (segment->i_base == NULL)
        return SHM_SYNC_OK;
    if (shm_sync_i_any_held(segment))
        return SHM_SYNC_LOCKS_HELD;
    switch (segment->i_backing) {
    case SHM_SYNC_I_FILE: return shm_sync_i_detach_file(segment);
    case SHM_SYNC_I_SYSV: return shm_sync_i_detach_sysv(segment);
    case SHM_SYNC_I_MEMFD:
    case SHM_SYNC_I_CLOSED: break;
    }
    munmap(segment->i_base, segment->i_mapped);
    shm_sync_i_drop_fd(segment);
    shm_sync_i_forget(segment);
    return SHM_SYNC_OK;
}

/* ------------------------------------------------------------------------------------
 * Finding the fields of the value by their paths
 */

/* Kinds of objects that shm_sync_find finds. */
typedef enum shm_sync_kind {
    /* Any field. */
    SHM_SYNC_KIND_ANY = 0,
    /* ShmMutex: `at` is a shm_sync_mutex, `data` the data. */
    SHM_SYNC_KIND_MUTEX,
    /* ShmCondvar: `at` is a shm_sync_condvar. */
    SHM_SYNC_KIND_CONDVAR,
    /* ShmSemaphore: `count` permits. */
    SHM_SYNC_KIND_SEMAPHORE,
    /* ShmEvent: `at` is a shm_sync_event. */
    SHM_SYNC_KIND_EVENT,
    /* ShmChannel: `count` messages of `data_size` bytes. */
    SHM_SYNC_KIND_CHANNEL,
    /* ShmPipe: `count` bytes. */
    SHM_SYNC_KIND_PIPE
} shm_sync_kind;

/* A field of the value of a segment. It is valid while the segment is open. */
typedef struct shm_sync_object {
    /* The field. */
    void *at;
    /* Its size in bytes. */
    uint64_t size;
    shm_sync_kind kind;
    /* Of a mutex: the data. Of a channel and a pipe: the first slot. */
    void *data;
    /* Of a mutex: the size of the data in bytes. Of a channel: the size of a
     * message. */
    uint64_t data_size;
    /* Of a semaphore: the permits. Of a channel: the messages that it has room for. Of
     * a pipe: the bytes. Of an array: the elements. */
    uint64_t count;
    /* Of a channel and a pipe: how many senders and receivers there can be. */
    uint64_t senders;
    uint64_t receivers;
    /* Of a channel and a pipe: the sides. They belong to this header. */
    unsigned char *i_senders;
    unsigned char *i_receivers;
} shm_sync_object;

/* Returns the type table of a segment: a private copy, which is valid while the segment
 * is open. Writes its length in bytes. docs/format.md describes the bytes. Returns
 * NULL, and the length 0, if there is none. */
SHM_SYNC_I_INLINE const unsigned char *shm_sync_type_table(
    const shm_sync_segment *segment, uint64_t *len) {
    *len = segment->i_header.type_table_len;
    return segment->i_type_table;
}

/* Writes the fingerprint of the type of the value: 32 hexadecimal digits and a zero.
 * Writes an empty text if the segment is closed. */
SHM_SYNC_I_INLINE void shm_sync_fingerprint(
    const shm_sync_segment *segment, char text[33]) {
    text[0] = 0;
    for (int digit = 0; digit < 32 && segment->i_base != NULL; digit++) {
        uint64_t half = segment->i_header.fingerprint[digit < 16 ? 1 : 0];
        text[digit] = "0123456789abcdef"[half >> (60 - 4 * (digit % 16)) & 15];
    }
    text[32] = 0;
}

/* Replaces a type by that of a field, and adds the offset of the field. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_enter(const shm_sync_segment *segment,
    shm_sync_i_type *type, const shm_sync_i_field *field, uint64_t step,
    uint64_t *offset) {
    if (step > segment->value_size || *offset > segment->value_size - step)
        return false;
    *offset += step;
    return shm_sync_i_find_type(segment, field->fingerprint, type->entry, type);
}

/* Replaces CachePadded, which has no part in a path, by the type inside. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_unpad(
    const shm_sync_segment *segment, shm_sync_i_type *type, uint64_t *offset) {
    shm_sync_i_field field;
    for (unsigned depth = 0; depth < SHM_SYNC_I_DEPTH_MAX; depth++) {
        if (!shm_sync_i_is_text(type->kind, "CachePadded"))
            return true;
        if (!shm_sync_i_find_field(type, "value", 5, &field) ||
            !shm_sync_i_enter(segment, type, &field, field.offset, offset))
            return false;
    }
    return false;
}

/* Follows one step of a path: ".name" or "[3]". */
SHM_SYNC_I_OUTLINE bool shm_sync_i_step(const shm_sync_segment *segment,
    shm_sync_i_type *type, uint64_t *offset, const char **path, bool is_first) {
    shm_sync_i_field field;
    if (!shm_sync_i_unpad(segment, type, offset))
        return false;
    const char *at = *path + 1;
    if (**path == '.' || (is_first && **path != '[')) {
        at = **path == '.' ? at : *path;
        size_t len = strcspn(at, ".[");
        *path = at + len;
        bool is_array = shm_sync_i_is_text(type->kind, "array") ||
                        shm_sync_i_is_text(type->kind, "slice");
        return !is_array && shm_sync_i_find_field(type, at, len, &field) &&
               shm_sync_i_enter(segment, type, &field, field.offset, offset);
    }
    if (**path != '[' || !shm_sync_i_find_field(type, "0", 1, &field))
        return false;
    uint64_t index = 0;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (index > UINT64_MAX / 16)
            return false;
        index = index * 10 + (uint64_t)(*at - '0');
    }
    if (*at != ']')
        return false;
    *path = at + 1;
    bool is_slice = shm_sync_i_is_text(type->kind, "slice");
    if (!is_slice && !shm_sync_i_is_text(type->kind, "array"))
        return false;
    uint64_t count = is_slice ? segment->len : field.offset;
    if (index >= count || !shm_sync_i_enter(segment, type, &field, 0, offset))
        return false;
    uint64_t room = segment->value_size - *offset;
    if (type->size != 0 && index > room / type->size)
        return false;
    *offset += index * type->size;
    return true;
}

/* Offsets in one side of a channel: its lock, the index, an earlier index of the other
 * side, the door and the seats. Processors prefetch cache lines in pairs. */
enum {
    SHM_SYNC_I_SIDE_INDEX = sizeof(shm_sync_i_seat),
    SHM_SYNC_I_SIDE_KNOWN = SHM_SYNC_I_SIDE_INDEX + 8,
    SHM_SYNC_I_SIDE_DOOR = (SHM_SYNC_I_SIDE_INDEX + 64 + 127) / 128 * 128,
    SHM_SYNC_I_SIDE_LEFT = SHM_SYNC_I_SIDE_DOOR + 16,
    SHM_SYNC_I_SIDE_ARRIVALS = SHM_SYNC_I_SIDE_DOOR + 24,
    SHM_SYNC_I_SIDE_SEATS = SHM_SYNC_I_SIDE_DOOR + 128
};

SHM_SYNC_I_INLINE uint64_t shm_sync_i_side_size(uint64_t ends) {
    return (SHM_SYNC_I_SIDE_SEATS + sizeof(shm_sync_i_seat) * ends + 127) / 128 * 128;
}

/* Describes the channel at `at`, for a program that knows the layout of the value. If
 * the numbers are not those of the channel, its messages are damaged. So prefer the
 * function that `shm-sync export-c` writes for each channel, or shm_sync_find:
 * ShmChannel<T, capacity, senders, receivers> in Rust, where T has the given size and
 * alignment. In Rust, `senders` and `receivers` are 16 if they are not given. If there
 * can be no such channel, its kind is SHM_SYNC_KIND_ANY, and no endpoint can be
 * opened. */
SHM_SYNC_I_INLINE shm_sync_object shm_sync_channel_at(void *at, uint64_t message_size,
    uint64_t message_align, uint64_t capacity, uint64_t senders, uint64_t receivers) {
    shm_sync_object object;
    const uint64_t most = UINT64_C(1) << 31; /* so that no sum overflows */
    uint64_t slots_size;
    memset(&object, 0, sizeof object);
    object.at = at;
    bool is_possible = message_align != 0 && message_align <= most &&
                       (message_align & (message_align - 1)) == 0 && capacity != 0 &&
                       senders - 1 < most && receivers - 1 < most &&
                       !__builtin_mul_overflow(message_size, capacity, &slots_size) &&
                       slots_size < UINT64_C(1) << 62;
    if (!is_possible)
        return object;
    uint64_t align = message_align > 128 ? message_align : 128;
    uint64_t sides = shm_sync_i_side_size(senders) + shm_sync_i_side_size(receivers);
    uint64_t slots = (sides + message_align - 1) / message_align * message_align;
    object.kind = SHM_SYNC_KIND_CHANNEL;
    object.size = (slots + slots_size + align - 1) / align * align;
    object.count = capacity;
    object.data_size = message_size;
    object.senders = senders;
    object.receivers = receivers;
    object.i_senders = (unsigned char *)at;
    object.i_receivers = object.i_senders + shm_sync_i_side_size(senders);
    object.data = object.i_senders + slots;
    return object;
}

/* Describes the pipe at `at` (ShmPipe<capacity> in Rust), for a program that knows the
 * layout of the value. */
SHM_SYNC_I_INLINE shm_sync_object shm_sync_pipe_at(void *at, uint64_t capacity) {
    shm_sync_object object = shm_sync_channel_at(at, 1, 1, capacity, 1, 1);
    if (object.kind == SHM_SYNC_KIND_CHANNEL)
        object.kind = SHM_SYNC_KIND_PIPE;
    return object;
}

/* Checks that a part of a side lies where this header expects it. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_has_part(
    const shm_sync_i_type *side, const char *name, uint64_t offset) {
    shm_sync_i_field field;
    return shm_sync_i_find_field(side, name, strlen(name), &field) &&
           field.offset == offset;
}

/* Finds out the element type and the length of an array. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_enter_array(const shm_sync_segment *segment,
    const shm_sync_i_field *field, shm_sync_i_type *type, uint64_t *len) {
    shm_sync_i_field element;
    bool is_array =
        shm_sync_i_find_type(segment, field->fingerprint, type->entry, type) &&
        shm_sync_i_is_text(type->kind, "array") &&
        shm_sync_i_find_field(type, "0", 1, &element);
    if (!is_array ||
        !shm_sync_i_find_type(segment, element.fingerprint, type->entry, type))
        return false;
    *len = element.offset;
    return *len != 0;
}

/* Reads how many seats a side of a channel has. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_describe_side(const shm_sync_segment *segment,
    const shm_sync_i_type *channel, const char *name, uint64_t *offset,
    uint64_t *ends) {
    shm_sync_i_field field;
    shm_sync_i_type side;
    if (!shm_sync_i_find_field(channel, name, strlen(name), &field) ||
        !shm_sync_i_find_type(segment, field.fingerprint, channel->entry, &side))
        return false;
    *offset = field.offset;
    bool known = shm_sync_i_has_part(&side, "lock", 0) &&
                 shm_sync_i_has_part(&side, "index", SHM_SYNC_I_SIDE_INDEX) &&
                 shm_sync_i_has_part(&side, "known", SHM_SYNC_I_SIDE_KNOWN) &&
                 shm_sync_i_has_part(&side, "asleep", SHM_SYNC_I_SIDE_DOOR) &&
                 shm_sync_i_has_part(&side, "is_left", SHM_SYNC_I_SIDE_LEFT) &&
                 shm_sync_i_has_part(&side, "arrivals", SHM_SYNC_I_SIDE_ARRIVALS) &&
                 shm_sync_i_has_part(&side, "seats", SHM_SYNC_I_SIDE_SEATS);
    return known && shm_sync_i_find_field(&side, "seats", 5, &field) &&
           shm_sync_i_enter_array(segment, &field, &side, ends) &&
           side.size == sizeof(shm_sync_i_seat);
}

/* Describes the channel of the type, which begins at `object->at`. Its parts must lie
 * as in every channel, so that they do not overlap. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_describe_channel(const shm_sync_segment *segment,
    const shm_sync_i_type *type, shm_sync_object *object) {
    shm_sync_i_field slots;
    shm_sync_i_type message = *type;
    unsigned char *base = (unsigned char *)object->at;
    uint64_t senders;
    uint64_t receivers;
    uint64_t sender_ends;
    uint64_t receiver_ends;
    uint64_t count;
    bool known =
        shm_sync_i_describe_side(segment, type, "senders", &senders, &sender_ends) &&
        shm_sync_i_describe_side(
            segment, type, "receivers", &receivers, &receiver_ends) &&
        shm_sync_i_find_field(type, "slots", 5, &slots) &&
        shm_sync_i_enter_array(segment, &slots, &message, &count);
    if (!known)
        return false;
    shm_sync_object expected = shm_sync_channel_at(
        base, message.size, message.align, count, sender_ends, receiver_ends);
    if (expected.kind != SHM_SYNC_KIND_CHANNEL || expected.size != object->size)
        return false;
    *object = expected;
    return senders == 0 && receivers == (uint64_t)(object->i_receivers - base) &&
           slots.offset == (uint64_t)((unsigned char *)object->data - base) &&
           (uintptr_t)base % 128 == 0;
}

/* Returns whether the robust locks of an object are in the lock table. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_is_findable(
    const shm_sync_segment *segment, const shm_sync_object *object) {
    const unsigned char *at = (const unsigned char *)object->at;
    const unsigned char *side = at;
    switch (object->kind) {
    case SHM_SYNC_KIND_MUTEX:
        return shm_sync_i_is_listed(segment, SHM_SYNC_I_KIND_MUTEX, at);
    case SHM_SYNC_KIND_SEMAPHORE:
        /* The gate, and then the permits behind the event count. */
        for (uint64_t i = 0; i < object->count; i++) {
            if (!shm_sync_i_is_listed(segment, SHM_SYNC_I_KIND_SEAT,
                    at + sizeof(shm_sync_i_seat) + SHM_SYNC_I_RETURNED +
                        i * sizeof(shm_sync_i_seat)))
                return false;
        }
        return shm_sync_i_is_listed(segment, SHM_SYNC_I_KIND_SEAT, at);
    case SHM_SYNC_KIND_CHANNEL:
    case SHM_SYNC_KIND_PIPE:
        for (int number = 0; number < 2; number++) {
            uint64_t ends = number == 0 ? object->senders : object->receivers;
            for (uint64_t i = 0; i < ends; i++) {
                if (!shm_sync_i_is_listed(segment, SHM_SYNC_I_KIND_SEAT,
                        side + SHM_SYNC_I_SIDE_SEATS + i * sizeof(shm_sync_i_seat)))
                    return false;
            }
            /* A side with one seat needs no lock. */
            if (ends > 1 && !shm_sync_i_is_listed(segment, SHM_SYNC_I_KIND_SEAT, side))
                return false;
            side = object->i_receivers;
        }
        return true;
    case SHM_SYNC_KIND_ANY:
    case SHM_SYNC_KIND_CONDVAR:
    case SHM_SYNC_KIND_EVENT: return true;
    }
    return true;
}

/* Returns the number of permits of a semaphore of this size, or 0 if no semaphore has
 * it. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_permits_in(uint64_t size) {
    uint64_t before = sizeof(shm_sync_i_seat) + SHM_SYNC_I_RETURNED;
    uint64_t permits = size < before ? 0 : (size - before) / sizeof(shm_sync_i_seat);
    return size == before + permits * sizeof(shm_sync_i_seat) ? permits : 0;
}

/* Fills in what depends on the kind. Returns false if the type is not as this header
 * knows it. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_describe(const shm_sync_segment *segment,
    const shm_sync_i_type *type, shm_sync_object *object) {
    shm_sync_i_field field;
    shm_sync_i_type inner;
    unsigned char *base = (unsigned char *)object->at;
    if (shm_sync_i_is_text(type->kind, "ShmMutex")) {
        object->kind = SHM_SYNC_KIND_MUTEX;
        if (!shm_sync_i_find_field(type, "data", 4, &field) ||
            field.offset < sizeof(shm_sync_mutex) || field.offset > object->size ||
            !shm_sync_i_find_type(segment, field.fingerprint, type->entry, &inner))
            return false;
        object->data = base + field.offset;
        object->data_size = shm_sync_i_size_of(segment, &inner, 0);
        return object->data_size <= object->size - field.offset &&
               (uintptr_t)base % 8 == 0;
    }
    if (shm_sync_i_is_text(type->kind, "ShmCondvar")) {
        object->kind = SHM_SYNC_KIND_CONDVAR;
        return object->size == sizeof(shm_sync_condvar) && (uintptr_t)base % 8 == 0;
    }
    if (shm_sync_i_is_text(type->kind, "ShmEvent")) {
        object->kind = SHM_SYNC_KIND_EVENT;
        return object->size == sizeof(shm_sync_event) && (uintptr_t)base % 8 == 0;
    }
    if (shm_sync_i_is_text(type->kind, "ShmSemaphore")) {
        object->kind = SHM_SYNC_KIND_SEMAPHORE;
        object->count = shm_sync_i_permits_in(object->size);
        return object->count != 0 && (uintptr_t)base % 64 == 0;
    }
    if (shm_sync_i_is_text(type->kind, "ShmPipe")) {
        bool known =
            shm_sync_i_find_field(type, "channel", 7, &field) && field.offset == 0 &&
            shm_sync_i_find_type(segment, field.fingerprint, type->entry, &inner) &&
            shm_sync_i_describe_channel(segment, &inner, object);
        object->kind = SHM_SYNC_KIND_PIPE;
        return known && object->data_size == 1 && object->senders == 1 &&
               object->receivers == 1;
    }
    if (shm_sync_i_is_text(type->kind, "ShmChannel"))
        return shm_sync_i_describe_channel(segment, type, object);
    if (shm_sync_i_is_text(type->kind, "array") &&
        shm_sync_i_find_field(type, "0", 1, &field))
        object->count = field.offset;
    if (shm_sync_i_is_text(type->kind, "slice"))
        object->count = segment->len;
    return true;
}

/* Describes the object of a type at an offset of the value. Returns false if it is not
 * inside the value, or not as this header knows it. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_object_at(const shm_sync_segment *segment,
    const shm_sync_i_type *type, uint64_t offset, shm_sync_object *object) {
    memset(object, 0, sizeof *object);
    if (offset > segment->value_size)
        return false;
    object->at = (unsigned char *)segment->value + offset;
    object->size = shm_sync_i_size_of(segment, type, 0);
    return object->size <= segment->value_size - offset &&
           shm_sync_i_describe(segment, type, object) &&
           shm_sync_i_is_findable(segment, object);
}

/* Finds a field of the value by its path: ".pending", ".workers[3].lock", ".0", or ""
 * for the value itself. The leading dot may be omitted: "pending". `shm-sync show`
 * prints the paths of the locks. Tuples have fields named by numbers. `WithTail` has
 * the fields "head" and "tail", a mutex the field "data".
 *
 *     shm_sync_object pending;
 *     if (shm_sync_find(&segment, ".pending", SHM_SYNC_KIND_MUTEX, &pending)
 *         != SHM_SYNC_OK) { ... }
 *     shm_sync_mutex *lock = (shm_sync_mutex *)pending.at;
 *
 * Results: SHM_SYNC_OK; SHM_SYNC_NO_SUCH_FIELD; SHM_SYNC_LAYOUT_MISMATCH (the field is
 * of another kind than `kind`); SHM_SYNC_CORRUPT (also if a lock of the object is
 * missing in the lock table); SHM_SYNC_UNSUPPORTED (the segment has no type table);
 * SHM_SYNC_INVALID_ARGUMENT (the segment is closed). */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_find(
    const shm_sync_segment *segment, const char *path, shm_sync_kind kind,
    shm_sync_object *object) {
    memset(object, 0, sizeof *object);
    if (segment->i_base == NULL)
        return SHM_SYNC_INVALID_ARGUMENT;
    uint64_t end = segment->i_header.type_table_len;
    if (end == 0)
        return SHM_SYNC_UNSUPPORTED;
    shm_sync_i_type type;
    uint64_t offset = 0;
    if (!shm_sync_i_find_type(segment, segment->i_header.fingerprint, end, &type))
        return SHM_SYNC_CORRUPT;
    for (const char *rest = path; *rest != '\0';) {
        if (!shm_sync_i_step(segment, &type, &offset, &rest, rest == path))
            return SHM_SYNC_NO_SUCH_FIELD;
    }
    if (!shm_sync_i_unpad(segment, &type, &offset))
        return SHM_SYNC_CORRUPT;
    shm_sync_object found;
    if (!shm_sync_i_object_at(segment, &type, offset, &found))
        return SHM_SYNC_CORRUPT;
    if (kind != SHM_SYNC_KIND_ANY && kind != found.kind)
        return SHM_SYNC_LAYOUT_MISMATCH;
    *object = found;
    return SHM_SYNC_OK;
}

/* ------------------------------------------------------------------------------------
 * Event counts: a place to sleep until a question about shared words is answered
 *
 * An event count is a sequence and a roll of announcements: bits 32 to 63 count them,
 * bits 0 to 31 say up to which they are settled. A waiter reads the sequence, announces
 * itself, asks the question, and sleeps while the sequence is unchanged. A notifier has
 * changed a word. If all announcements are settled, that is all. Otherwise it adds to
 * the sequence and wakes. If the kernel has woken no thread, it settles the
 * announcements that it has read. The full argument is in src/sync/event_count.rs of
 * the Rust crate.
 */

/* The answer to a question. */
typedef enum shm_sync_i_answer {
    SHM_SYNC_I_NOT_YET,
    SHM_SYNC_I_ANSWERED
} shm_sync_i_answer;

/* A question. Its words are read by sequentially consistent accesses. */
typedef shm_sync_i_answer (*shm_sync_i_question)(void *context);

/* What futex_waitv waits for: struct futex_waitv of linux/futex.h. */
typedef struct shm_sync_i_wait_entry {
    uint64_t expected;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
} shm_sync_i_wait_entry;

enum { SHM_SYNC_I_WAITV_MAX = 128 };

SHM_SYNC_I_INLINE uint32_t shm_sync_i_open_announcements(uint64_t roll) {
    return (uint32_t)(roll >> 32) - (uint32_t)roll;
}

/* Settles all announcements, unless there is another one since `read`. */
SHM_SYNC_I_INLINE void shm_sync_i_settle(shm_sync_i_event_count *count, uint64_t read) {
    uint64_t settled = (read & ~(uint64_t)UINT32_MAX) | read >> 32;
    __atomic_compare_exchange_n(
        &count->roll, &read, settled, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Wakes waiters, if there may be any. The caller has changed a word by a sequentially
 * consistent access. `waiters` is 1 if each waiter can use the change and none watches
 * seats, else INT32_MAX. */
SHM_SYNC_I_INLINE void shm_sync_i_notify(shm_sync_i_event_count *count, int waiters) {
    uint64_t roll = SHM_SYNC_I_LOAD_SC(&count->roll);
    if (shm_sync_i_open_announcements(roll) == 0)
        return;
    __atomic_fetch_add(&count->sequence, 1u, __ATOMIC_SEQ_CST);
    if (shm_sync_i_futex_wake(&count->sequence, waiters) == 0)
        shm_sync_i_settle(count, roll);
}

/* Marks the lock word of an occupied seat, so that an unlock and the kernel wake a
 * waiter. Returns the value of the word, or 0 if no thread has the seat. */
SHM_SYNC_I_INLINE uint32_t shm_sync_i_watch(shm_sync_i_seat *seat) {
    uint32_t *word = &seat->lock.pthread.words.lock;
    uint32_t found = SHM_SYNC_I_LOAD(word);
    while (shm_sync_i_holder_in(found) != 0) {
        uint32_t marked = found | SHM_SYNC_I_WAITERS;
        if (__atomic_compare_exchange_n(
                word, &found, marked, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return marked;
    }
    return 0;
}

/* Sleeps while the sequence is `seen`, on the lock words of the seats as well.
 * `*by_seat` tells whether the end of an occupant has ended the sleep. Returns 0, or
 * the error with which the kernel refuses to let the thread sleep. */
SHM_SYNC_I_OUTLINE int shm_sync_i_event_sleep(shm_sync_i_event_count *count,
    uint32_t seen, const shm_sync_i_wait_entry *list, unsigned listed, uint64_t until,
    bool *by_seat) {
    if (listed > 1) {
        struct timespec time = shm_sync_i_timespec(until);
        long result;
        SHM_SYNC_I_SLEEP(result, until,
            shm_sync_i_syscall(SHM_SYNC_I_FUTEX_WAITV, list, (unsigned long)listed, 0L,
                &time, (long)SHM_SYNC_I_CLOCK_MONOTONIC));
        *by_seat = result > 0;
        if (result >= 0 || result == -EAGAIN || result == -EINTR ||
            result == -ETIMEDOUT)
            return 0;
        /* The kernel has no such call (before Linux 5.16), or refuses it. */
    }
    int code = shm_sync_i_futex_wait(&count->sequence, seen, until);
    return code == ETIMEDOUT ? 0 : code;
}

/* Waits until the question has an answer. Returns SHM_SYNC_TIMED_OUT if the deadline
 * has passed. The death of an occupant of the `watched` seats ends a sleep, and at the
 * latest the next recheck does. `looks_answered` only reads. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_event_wait(shm_sync_i_event_count *count,
    uint64_t deadline, shm_sync_i_seat *watched, uint64_t seats,
    shm_sync_i_question looks_answered, shm_sync_i_question question, void *context) {
    shm_sync_i_wait_entry list[SHM_SYNC_I_WAITV_MAX];
    bool spun;
    SHM_SYNC_I_SPIN(spun, looks_answered(context) == SHM_SYNC_I_ANSWERED);
    if (spun && question(context) == SHM_SYNC_I_ANSWERED)
        return SHM_SYNC_OK;
    for (;;) {
        uint32_t seen = SHM_SYNC_I_LOAD_SC(&count->sequence);
        uint64_t announced =
            __atomic_add_fetch(&count->roll, UINT64_C(1) << 32, __ATOMIC_SEQ_CST);
        unsigned listed = 0;
        for (uint64_t i = 0; i < seats && listed < SHM_SYNC_I_WAITV_MAX; i++) {
            uint32_t value = shm_sync_i_watch(&watched[i]);
            if (value == 0)
                continue;
            if (listed == 0) {
                memset(&list[0], 0, sizeof list[0]);
                listed = 1; /* the sequence is the first word */
            }
            list[listed].expected = value;
            list[listed].address =
                (uint64_t)(uintptr_t)&watched[i].lock.pthread.words.lock;
            list[listed].flags = 2; /* 32 bits, shared */
            list[listed].reserved = 0;
            listed += 1;
        }
        if (listed > 0) {
            list[0].expected = seen;
            list[0].address = (uint64_t)(uintptr_t)&count->sequence;
            list[0].flags = 2;
        }
        bool answered = question(context) == SHM_SYNC_I_ANSWERED;
        bool is_alone = shm_sync_i_open_announcements(announced) == 1;
        if (answered || shm_sync_i_has_passed(deadline)) {
            if (is_alone)
                shm_sync_i_settle(count, announced);
            return answered ? SHM_SYNC_OK : SHM_SYNC_TIMED_OUT;
        }
        bool by_seat = false;
        int code = shm_sync_i_event_sleep(
            count, seen, list, listed, shm_sync_i_next_recheck(deadline), &by_seat);
        if (is_alone)
            shm_sync_i_settle(count, announced);
        if (code != 0) {
            errno = code;
            return SHM_SYNC_SYSTEM;
        }
        /* The kernel wakes one watcher of a dead occupant. */
        if (by_seat)
            shm_sync_i_notify(count, INT32_MAX);
    }
}

/* ------------------------------------------------------------------------------------
 * Seats
 */

SHM_SYNC_I_INLINE bool shm_sync_i_is_occupied(const shm_sync_i_seat *seat) {
    return shm_sync_i_holder_in(SHM_SYNC_I_LOAD_SC(&seat->lock.pthread.words.lock)) !=
           0;
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_note(const shm_sync_i_seat *seat) {
    return SHM_SYNC_I_LOAD_SC(&seat->lock.record) & ~SHM_SYNC_I_NOTE_DIED;
}

/* Takes the seat. `*after_death` tells whether its last occupant has died, which is
 * reported once. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_i_take_seat(
    shm_sync_i_seat *seat, shm_sync_i_how how, uint64_t deadline, bool *after_death) {
    bool died = false;
    shm_sync_result result =
        shm_sync_i_lock_with(&seat->lock, SHM_SYNC_I_NOTE, how, deadline, &died);
    if (result != SHM_SYNC_OK)
        return result;
    uint64_t note = SHM_SYNC_I_LOAD(&seat->lock.record);
    *after_death = (note & SHM_SYNC_I_NOTE_DIED) != 0;
    if (*after_death)
        SHM_SYNC_I_STORE(&seat->lock.record, note & ~SHM_SYNC_I_NOTE_DIED);
    return SHM_SYNC_OK;
}

/* Leaves the seat. Does nothing and returns false if the calling thread does not have
 * it. A thread that waits for this is notified afterwards. */
SHM_SYNC_I_INLINE bool shm_sync_i_leave_seat(shm_sync_i_seat *seat) {
    return shm_sync_i_unlock(&seat->lock);
}

/* Takes any seat that no living thread has. Returns SHM_SYNC_WOULD_BLOCK if all are
 * occupied. Most threads begin with another seat. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_take_any(
    shm_sync_i_seat *seats, uint64_t count, uint64_t *index, bool *after_death) {
    uint64_t first = shm_sync_i_v1_this_thread.tid % count;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = (first + i) % count;
        if (shm_sync_i_is_occupied(&seats[at]))
            continue;
        shm_sync_result result = shm_sync_i_take_seat(
            &seats[at], SHM_SYNC_I_TRY, SHM_SYNC_I_NEVER, after_death);
        if (result == SHM_SYNC_OK)
            *index = at;
        if (result != SHM_SYNC_WOULD_BLOCK)
            return result;
    }
    return SHM_SYNC_WOULD_BLOCK;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_check_seats(
    const shm_sync_i_seat *seats, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        shm_sync_result result = shm_sync_i_check(&seats[i].lock);
        if (result != SHM_SYNC_OK)
            return result;
    }
    return SHM_SYNC_OK;
}

/* ------------------------------------------------------------------------------------
 * Semaphore
 *
 * A permit is a seat. A thread that finds none waits at the gate, a seat of its own,
 * for which other threads queue. So one thread waits for permits at a time.
 */

/* A permit. It belongs to the thread that acquired it. Do not copy it. */
typedef struct shm_sync_permit {
    /* The number of the permit, below the number of permits. No other permit has it at
     * the same time. */
    uint64_t index;
    /* Whether the last holder of this permit died with it. Exactly one surviving holder
     * learns of each death. */
    bool after_death;
    shm_sync_i_seat *i_seat;
    shm_sync_i_event_count *i_returned;
} shm_sync_permit;

SHM_SYNC_I_INLINE shm_sync_i_seat *shm_sync_i_gate(const shm_sync_object *semaphore) {
    return (shm_sync_i_seat *)semaphore->at;
}

SHM_SYNC_I_INLINE shm_sync_i_event_count *shm_sync_i_returned(
    const shm_sync_object *semaphore) {
    return (shm_sync_i_event_count *)(void *)(shm_sync_i_gate(semaphore) + 1);
}

SHM_SYNC_I_INLINE shm_sync_i_seat *shm_sync_i_permits(
    const shm_sync_object *semaphore) {
    unsigned char *returned = (unsigned char *)shm_sync_i_returned(semaphore);
    return (shm_sync_i_seat *)(void *)(returned + SHM_SYNC_I_RETURNED);
}

/* Describes the semaphore at `at`, which has `permits` permits (ShmSemaphore<N> in
 * Rust), for a program that knows the layout of the value. If there can be no such
 * semaphore, its kind is SHM_SYNC_KIND_ANY, and no permit can be acquired. */
SHM_SYNC_I_INLINE shm_sync_object shm_sync_semaphore_at(void *at, uint64_t permits) {
    shm_sync_object object;
    memset(&object, 0, sizeof object);
    object.at = at;
    if (permits - 1 >= UINT64_C(1) << 31)
        return object;
    object.kind = SHM_SYNC_KIND_SEMAPHORE;
    object.size = sizeof(shm_sync_i_seat) + SHM_SYNC_I_RETURNED +
                  sizeof(shm_sync_i_seat) * permits;
    object.count = permits;
    return object;
}

/* Returns how many permits are free at this moment. */
SHM_SYNC_I_INLINE uint64_t shm_sync_semaphore_available(
    const shm_sync_object *semaphore) {
    uint64_t free_permits = 0;
    for (uint64_t i = 0; i < semaphore->count; i++)
        free_permits += !shm_sync_i_is_occupied(&shm_sync_i_permits(semaphore)[i]);
    return free_permits;
}

typedef struct shm_sync_i_permit_context {
    const shm_sync_object *semaphore;
    shm_sync_permit *permit;
    shm_sync_result result;
} shm_sync_i_permit_context;

SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_permit_looks_free(void *context) {
    const shm_sync_i_permit_context *wanted =
        (const shm_sync_i_permit_context *)context;
    return shm_sync_semaphore_available(wanted->semaphore) > 0 ? SHM_SYNC_I_ANSWERED
                                                               : SHM_SYNC_I_NOT_YET;
}

SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_take_permit(void *context) {
    shm_sync_i_permit_context *wanted = (shm_sync_i_permit_context *)context;
    shm_sync_i_seat *permits = shm_sync_i_permits(wanted->semaphore);
    uint64_t index = 0;
    wanted->result = shm_sync_i_take_any(
        permits, wanted->semaphore->count, &index, &wanted->permit->after_death);
    if (wanted->result == SHM_SYNC_WOULD_BLOCK)
        return SHM_SYNC_I_NOT_YET;
    if (wanted->result == SHM_SYNC_OK) {
        wanted->permit->index = index;
        wanted->permit->i_seat = &permits[index];
        wanted->permit->i_returned = shm_sync_i_returned(wanted->semaphore);
    }
    return SHM_SYNC_I_ANSWERED;
}

/* Takes a permit unless a thread waits for one. Returns whether there is a result. */
SHM_SYNC_I_OUTLINE bool shm_sync_i_try_permit(shm_sync_i_permit_context *wanted) {
    return !shm_sync_i_is_occupied(shm_sync_i_gate(wanted->semaphore)) &&
           shm_sync_i_take_permit(wanted) == SHM_SYNC_I_ANSWERED;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_acquire(const shm_sync_object *semaphore,
    shm_sync_i_how how, uint64_t deadline, shm_sync_permit *permit) {
    memset(permit, 0, sizeof *permit);
    if (semaphore->kind != SHM_SYNC_KIND_SEMAPHORE || semaphore->count == 0)
        return SHM_SYNC_INVALID_ARGUMENT;
    shm_sync_i_seat *gate = shm_sync_i_gate(semaphore);
    shm_sync_i_seat *permits = shm_sync_i_permits(semaphore);
    shm_sync_i_permit_context wanted = {semaphore, permit, SHM_SYNC_OK};
    shm_sync_result result = shm_sync_i_check(&gate->lock);
    if (result != SHM_SYNC_OK)
        return result;
    if (shm_sync_i_try_permit(&wanted))
        return wanted.result;
    result = shm_sync_i_check_seats(permits, semaphore->count);
    if (result != SHM_SYNC_OK)
        return result;
    uint64_t others = 0;
    const shm_sync_i_thread *me = shm_sync_i_me();
    for (uint64_t i = 0; i < semaphore->count; i++)
        others +=
            !shm_sync_i_is_mine(me, &permits[i].lock, shm_sync_i_our_namespace(me));
    if (how == SHM_SYNC_I_WAIT && others == 0)
        return SHM_SYNC_DEADLOCK;
    /* A call that does not wait must not look like a thread that waits. */
    if (how == SHM_SYNC_I_TRY)
        return shm_sync_i_try_permit(&wanted) ? wanted.result : SHM_SYNC_WOULD_BLOCK;
    bool unused;
    result = shm_sync_i_take_seat(gate, how, deadline, &unused);
    if (result != SHM_SYNC_OK)
        return result;
    if (shm_sync_i_take_permit(&wanted) == SHM_SYNC_I_ANSWERED)
        result = wanted.result;
    else {
        result = shm_sync_i_event_wait(shm_sync_i_returned(semaphore), deadline,
            permits, semaphore->count, shm_sync_i_permit_looks_free,
            shm_sync_i_take_permit, &wanted);
        if (result == SHM_SYNC_OK)
            result = wanted.result;
    }
    int saved = errno;
    shm_sync_i_leave_seat(gate);
    errno = saved;
    return result;
}

/* Acquires a permit, and waits in the kernel until one is free. While threads wait, a
 * newcomer waits behind them.
 *
 * Results: SHM_SYNC_OK; SHM_SYNC_DEADLOCK (this thread has all permits);
 * SHM_SYNC_TOO_MANY_LOCKS; SHM_SYNC_NOT_PLACED, SHM_SYNC_FOREIGN_PID_NAMESPACE,
 * SHM_SYNC_UNRECOVERABLE, SHM_SYNC_UNSUPPORTED, SHM_SYNC_CORRUPT, SHM_SYNC_SYSTEM;
 * SHM_SYNC_INVALID_ARGUMENT (the object is no semaphore); those of shm_sync_lock for a
 * thread that can't own locks. `*permit` is overwritten: it must not be a permit that
 * is not released.
 *
 * The permits of a thread that dies come back. With futex_waitv (Linux 5.16) a waiter
 * gets them at once, and otherwise within 250 ms. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_semaphore_acquire(
    const shm_sync_object *semaphore, shm_sync_permit *permit) {
    return shm_sync_i_acquire(semaphore, SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER, permit);
}

/* Acquires a permit, if one is free and no thread waits. Returns SHM_SYNC_WOULD_BLOCK
 * otherwise. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_semaphore_try_acquire(
    const shm_sync_object *semaphore, shm_sync_permit *permit) {
    return shm_sync_i_acquire(semaphore, SHM_SYNC_I_TRY, SHM_SYNC_I_NEVER, permit);
}

/* Acquires a permit, and waits at most `timeout_ns` nanoseconds by the monotonic clock.
 * Returns SHM_SYNC_TIMED_OUT after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_semaphore_acquire_for(
    const shm_sync_object *semaphore, uint64_t timeout_ns, shm_sync_permit *permit) {
    return shm_sync_i_acquire(
        semaphore, SHM_SYNC_I_WAIT, shm_sync_i_after(timeout_ns), permit);
}

/* Gives the permit back. Returns SHM_SYNC_NOT_HELD, and changes nothing, if the calling
 * thread does not have it: for example in a forked child, or when called again. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_permit_release(shm_sync_permit *permit) {
    shm_sync_i_seat *seat = permit->i_seat;
    if (seat == NULL || !shm_sync_i_leave_seat(seat))
        return SHM_SYNC_NOT_HELD;
    permit->i_seat = NULL;
    shm_sync_i_notify(permit->i_returned, 1); /* only the thread at the gate waits */
    return SHM_SYNC_OK;
}

/* ------------------------------------------------------------------------------------
 * Event
 */

#define SHM_SYNC_I_AUTO_RESET 1u
#define SHM_SYNC_I_EVENT_PLACED 2u

SHM_SYNC_I_INLINE bool shm_sync_i_resets_itself(const shm_sync_event *event) {
    return (SHM_SYNC_I_LOAD(&event->kind) & SHM_SYNC_I_AUTO_RESET) != 0;
}

SHM_SYNC_I_INLINE bool shm_sync_i_event_is_placed(const shm_sync_event *event) {
    return (SHM_SYNC_I_ACQUIRE(&event->kind) & SHM_SYNC_I_EVENT_PLACED) != 0;
}

/* Returns whether the event is set at this moment. Does not reset it. */
SHM_SYNC_I_INLINE bool shm_sync_event_is_set(const shm_sync_event *event) {
    return SHM_SYNC_I_LOAD_SC(&event->state) != 0;
}

SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_event_looks_set(void *context) {
    return shm_sync_event_is_set((const shm_sync_event *)context) ? SHM_SYNC_I_ANSWERED
                                                                  : SHM_SYNC_I_NOT_YET;
}

/* Answers whether this thread goes on. Resets the event if it resets itself. */
SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_event_pass(void *context) {
    shm_sync_event *event = (shm_sync_event *)context;
    bool passes = shm_sync_event_is_set(event) &&
                  (!shm_sync_i_resets_itself(event) ||
                      __atomic_exchange_n(&event->state, 0u, __ATOMIC_SEQ_CST) != 0);
    return passes ? SHM_SYNC_I_ANSWERED : SHM_SYNC_I_NOT_YET;
}

/* Sets the event. Wakes all waiters, or one if the event resets itself. Never blocks.
 * Returns SHM_SYNC_OK or SHM_SYNC_NOT_PLACED.
 *
 * If the process is killed after it has set the event, the waiters go on within 250
 * ms. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_event_set(shm_sync_event *event) {
    if (!shm_sync_i_event_is_placed(event))
        return SHM_SYNC_NOT_PLACED;
    __atomic_exchange_n(&event->state, 1u, __ATOMIC_SEQ_CST);
    /* Also if the event was set: the thread that has set it may have died. */
    shm_sync_i_notify(&event->waiters, shm_sync_i_resets_itself(event) ? 1 : INT32_MAX);
    return SHM_SYNC_OK;
}

/* Resets the event. Later waiters wait until it is set again. */
SHM_SYNC_I_INLINE void shm_sync_event_reset(shm_sync_event *event) {
    SHM_SYNC_I_STORE_SC(&event->state, 0u);
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_event_wait_until(
    shm_sync_event *event, uint64_t deadline) {
    if (!shm_sync_i_event_is_placed(event))
        return SHM_SYNC_NOT_PLACED;
    if (shm_sync_i_event_pass(event) == SHM_SYNC_I_ANSWERED)
        return SHM_SYNC_OK;
    return shm_sync_i_event_wait(&event->waiters, deadline, NULL, 0,
        shm_sync_i_event_looks_set, shm_sync_i_event_pass, event);
}

/* Waits until the event is set. Resets it if it resets itself.
 *
 * Results: SHM_SYNC_OK, SHM_SYNC_NOT_PLACED, SHM_SYNC_SYSTEM.
 *
 * If a waiter is killed after it was woken and before it has reset the event, another
 * waiter goes on within 250 ms. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_event_wait(
    shm_sync_event *event) {
    return shm_sync_i_event_wait_until(event, SHM_SYNC_I_NEVER);
}

/* Goes on like shm_sync_event_wait if the event is set. Returns SHM_SYNC_WOULD_BLOCK
 * otherwise. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_event_try_wait(
    shm_sync_event *event) {
    if (!shm_sync_i_event_is_placed(event))
        return SHM_SYNC_NOT_PLACED;
    return shm_sync_i_event_pass(event) == SHM_SYNC_I_ANSWERED ? SHM_SYNC_OK
                                                               : SHM_SYNC_WOULD_BLOCK;
}

/* Waits at most `timeout_ns` nanoseconds by the monotonic clock. Returns
 * SHM_SYNC_TIMED_OUT after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_event_wait_for(
    shm_sync_event *event, uint64_t timeout_ns) {
    return shm_sync_i_event_wait_until(event, shm_sync_i_after(timeout_ns));
}

/* ------------------------------------------------------------------------------------
 * Channel and pipe
 *
 * A channel is a ring of slots and two sides. Each side has an index: how many messages
 * it has sent or received. The store of the index is the commit. An endpoint is a seat,
 * whose note is the number of its occupant, or 0 after it has closed. A side with more
 * than one seat has a lock, which is held for a copy and never during a wait. A pipe is
 * a channel of bytes with one seat on each side.
 */

/* An endpoint. */
typedef struct shm_sync_i_end {
    shm_sync_object channel;
    uint64_t seat;
    uint64_t first_peer; /* the number of the first peer of its time */
    uint64_t arrivals;   /* of the other side, when the endpoint was opened */
    uint64_t told;   /* up to which arrival of the other side the end was reported */
    uint64_t number; /* in the note of the seat; 0: closed */
    bool had_peer;
    bool sends;
} shm_sync_i_end;

/* An endpoint that sends. It belongs to the thread that opened it. Do not copy it. */
typedef struct shm_sync_sender {
    shm_sync_i_end i_end;
} shm_sync_sender;

/* An endpoint that receives. It belongs to the thread that opened it. Do not copy
 * it. */
typedef struct shm_sync_receiver {
    shm_sync_i_end i_end;
} shm_sync_receiver;

SHM_SYNC_I_INLINE shm_sync_i_seat *shm_sync_i_side_lock(unsigned char *side) {
    return (shm_sync_i_seat *)(void *)side;
}

SHM_SYNC_I_INLINE uint64_t *shm_sync_i_side_index(unsigned char *side) {
    return (uint64_t *)(void *)(side + SHM_SYNC_I_SIDE_INDEX);
}

SHM_SYNC_I_INLINE uint64_t *shm_sync_i_side_known(unsigned char *side) {
    return (uint64_t *)(void *)(side + SHM_SYNC_I_SIDE_KNOWN);
}

SHM_SYNC_I_INLINE shm_sync_i_event_count *shm_sync_i_side_asleep(unsigned char *side) {
    return (shm_sync_i_event_count *)(void *)(side + SHM_SYNC_I_SIDE_DOOR);
}

/* A hint that no seat is occupied. */
SHM_SYNC_I_INLINE uint32_t *shm_sync_i_side_left(unsigned char *side) {
    return (uint32_t *)(void *)(side + SHM_SYNC_I_SIDE_LEFT);
}

SHM_SYNC_I_INLINE uint64_t *shm_sync_i_side_arrivals(unsigned char *side) {
    return (uint64_t *)(void *)(side + SHM_SYNC_I_SIDE_ARRIVALS);
}

SHM_SYNC_I_INLINE shm_sync_i_seat *shm_sync_i_side_seats(unsigned char *side) {
    return (shm_sync_i_seat *)(void *)(side + SHM_SYNC_I_SIDE_SEATS);
}

SHM_SYNC_I_INLINE unsigned char *shm_sync_i_own_side(const shm_sync_i_end *end) {
    return end->sends ? end->channel.i_senders : end->channel.i_receivers;
}

SHM_SYNC_I_INLINE unsigned char *shm_sync_i_other_side(const shm_sync_i_end *end) {
    return end->sends ? end->channel.i_receivers : end->channel.i_senders;
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_own_ends(const shm_sync_i_end *end) {
    return end->sends ? end->channel.senders : end->channel.receivers;
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_other_ends(const shm_sync_i_end *end) {
    return end->sends ? end->channel.receivers : end->channel.senders;
}

SHM_SYNC_I_OUTLINE bool shm_sync_i_any_occupied(unsigned char *side, uint64_t ends) {
    for (uint64_t i = 0; i < ends; i++) {
        if (shm_sync_i_is_occupied(&shm_sync_i_side_seats(side)[i]))
            return true;
    }
    return false;
}

/* The numbers of messages wrap around at the greatest multiple of the capacity. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_end_of_numbers(uint64_t capacity) {
    return UINT64_MAX - UINT64_MAX % capacity;
}

SHM_SYNC_I_INLINE uint64_t shm_sync_i_number_after(
    uint64_t capacity, uint64_t number, uint64_t count) {
    uint64_t until_end = shm_sync_i_end_of_numbers(capacity) - number;
    return count < until_end ? number + count : count - until_end;
}

/* Returns how many messages there are from `first` to before `last`: more than the
 * capacity if `first` is later. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_between(
    uint64_t capacity, uint64_t first, uint64_t last) {
    return first <= last ? last - first
                         : shm_sync_i_end_of_numbers(capacity) - first + last;
}

/* Returns how many messages (or bytes) are in the channel (or pipe) at this moment. */
SHM_SYNC_I_INLINE uint64_t shm_sync_channel_len(const shm_sync_object *channel) {
    uint64_t received = SHM_SYNC_I_LOAD_SC(shm_sync_i_side_index(channel->i_receivers));
    uint64_t sent = SHM_SYNC_I_LOAD_SC(shm_sync_i_side_index(channel->i_senders));
    uint64_t len = shm_sync_i_between(channel->count, received, sent);
    return len < channel->count ? len : channel->count;
}

/* Returns how many threads have opened an endpoint of a side. */
SHM_SYNC_I_INLINE uint64_t shm_sync_i_arrivals(unsigned char *side) {
    return SHM_SYNC_I_LOAD_SC(shm_sync_i_side_arrivals(side)) & ~SHM_SYNC_I_NOTE_DIED;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_end_open(
    shm_sync_i_end *end, const shm_sync_object *channel, bool sends) {
    memset(end, 0, sizeof *end);
    end->channel = *channel;
    end->sends = sends;
    bool is_channel = (channel->kind == SHM_SYNC_KIND_CHANNEL ||
                          channel->kind == SHM_SYNC_KIND_PIPE) &&
                      channel->count != 0 && channel->senders != 0 &&
                      channel->receivers != 0;
    if (!is_channel)
        return SHM_SYNC_INVALID_ARGUMENT;
    unsigned char *own = shm_sync_i_own_side(end);
    unsigned char *other = shm_sync_i_other_side(end);
    uint64_t own_ends = shm_sync_i_own_ends(end);
    uint64_t other_ends = shm_sync_i_other_ends(end);
    shm_sync_result result =
        shm_sync_i_check_seats(shm_sync_i_side_seats(own), own_ends);
    if (result == SHM_SYNC_OK)
        result = shm_sync_i_check_seats(shm_sync_i_side_seats(other), other_ends);
    if (result != SHM_SYNC_OK)
        return result;
    end->arrivals = shm_sync_i_arrivals(other);
    if (sends) {
        /* Earlier receivers do not count: the messages wait for the next one. */
        end->first_peer = (end->arrivals + 1) & ~SHM_SYNC_I_NOTE_DIED;
    } else {
        /* The end of earlier senders is a part of what they have sent. */
        end->first_peer = 1;
        end->had_peer = end->arrivals > 0;
    }
    for (uint64_t i = 0; i < other_ends; i++) {
        const shm_sync_i_seat *seat = &shm_sync_i_side_seats(other)[i];
        if (!shm_sync_i_is_occupied(seat))
            continue;
        end->had_peer = true;
        /* 0: the occupant opens or closes its endpoint at this moment. */
        uint64_t note = shm_sync_i_note(seat);
        if (note != 0 && note < end->first_peer)
            end->first_peer = note;
    }
    /* Of the end of a peer that is there, or was there just now, it is not told yet. */
    uint64_t first = end->first_peer < end->arrivals ? end->first_peer : end->arrivals;
    end->told = !end->had_peer ? end->arrivals : first == 0 ? 0 : first - 1;
    bool after_death;
    result = shm_sync_i_take_any(
        shm_sync_i_side_seats(own), own_ends, &end->seat, &after_death);
    if (result == SHM_SYNC_WOULD_BLOCK)
        return SHM_SYNC_TOO_MANY_ENDPOINTS;
    if (result != SHM_SYNC_OK)
        return result;
    /* Before the arrival counts, so that no peer finds an arrival without a number.
     * This one can be too small, but never too large. */
    SHM_SYNC_I_STORE_SC(&shm_sync_i_side_seats(own)[end->seat].lock.record,
        (shm_sync_i_arrivals(own) + 1) & ~SHM_SYNC_I_NOTE_DIED);
    end->number =
        __atomic_add_fetch(shm_sync_i_side_arrivals(own), 1u, __ATOMIC_SEQ_CST) &
        ~SHM_SYNC_I_NOTE_DIED;
    SHM_SYNC_I_STORE_SC(
        &shm_sync_i_side_seats(own)[end->seat].lock.record, end->number);
    SHM_SYNC_I_STORE(shm_sync_i_side_left(own), 0u);
    /* Peers that wait shall watch this seat as well. */
    shm_sync_i_notify(shm_sync_i_side_asleep(other), INT32_MAX);
    return SHM_SYNC_OK;
}

/* Returns whether this thread has the endpoint: not so after it has closed it, also by
 * a copy. */
SHM_SYNC_I_INLINE bool shm_sync_i_end_is_mine(const shm_sync_i_end *end) {
    if (end->number == 0)
        return false;
    const shm_sync_i_seat *seat =
        &shm_sync_i_side_seats(shm_sync_i_own_side(end))[end->seat];
    return shm_sync_i_is_held(&seat->lock) && shm_sync_i_note(seat) == end->number;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_end_close(shm_sync_i_end *end) {
    if (!shm_sync_i_end_is_mine(end))
        return SHM_SYNC_NOT_HELD;
    unsigned char *own = shm_sync_i_own_side(end);
    shm_sync_i_seat *seat = &shm_sync_i_side_seats(own)[end->seat];
    end->number = 0;
    SHM_SYNC_I_STORE_SC(&seat->lock.record, (uint64_t)0);
    shm_sync_i_leave_seat(seat);
    /* This fence pairs with that of shm_sync_i_correct_hint. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!shm_sync_i_any_occupied(own, shm_sync_i_own_ends(end)))
        SHM_SYNC_I_STORE(shm_sync_i_side_left(own), 1u);
    shm_sync_i_notify(shm_sync_i_side_asleep(shm_sync_i_other_side(end)), INT32_MAX);
    return SHM_SYNC_OK;
}

/* Corrects the hint that a side has no occupied seat, after one was found occupied.
 * Returns whether one still is: the last occupant may leave at this moment. */
SHM_SYNC_I_INLINE bool shm_sync_i_correct_hint(unsigned char *side, uint64_t ends) {
    if (SHM_SYNC_I_LOAD(shm_sync_i_side_left(side)) == 0)
        return true;
    SHM_SYNC_I_STORE(shm_sync_i_side_left(side), 0u);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return shm_sync_i_any_occupied(side, ends);
}

/* Returns SHM_SYNC_DISCONNECTED or SHM_SYNC_PEER_DIED if this endpoint had peers and
 * none is left, and SHM_SYNC_OK otherwise. Sets `arrivals` to the arrivals of the other
 * side until then. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_peers_left(
    shm_sync_i_end *end, uint64_t *arrivals) {
    unsigned char *other = shm_sync_i_other_side(end);
    uint64_t ends = shm_sync_i_other_ends(end);
    bool died;
    for (;;) {
        *arrivals = shm_sync_i_arrivals(other);
        if (shm_sync_i_any_occupied(other, ends)) {
            end->had_peer = true;
            if (shm_sync_i_correct_hint(other, ends))
                return SHM_SYNC_OK;
            continue;
        }
        /* No seat was occupied. So a note that is left is that of a dead occupant, if
         * no other has come: see below. */
        died = false;
        for (uint64_t i = 0; i < ends; i++)
            died |=
                shm_sync_i_note(&shm_sync_i_side_seats(other)[i]) >= end->first_peer;
        /* A peer may have come meanwhile: to the seat of a dead one, or to a seat that
         * this thread had looked at already, before another peer has left the seat
         * that it looked at last. */
        if (shm_sync_i_arrivals(other) == *arrivals)
            break;
    }
    if (!end->had_peer && *arrivals == end->arrivals)
        return SHM_SYNC_OK;
    end->had_peer = true;
    SHM_SYNC_I_STORE(shm_sync_i_side_left(other), 1u);
    return died ? SHM_SYNC_PEER_DIED : SHM_SYNC_DISCONNECTED;
}

/* A transfer of messages through an endpoint. */
typedef struct shm_sync_i_transfer {
    shm_sync_i_end *end;
    unsigned char *messages;
    uint64_t count;    /* how many at most */
    uint64_t moved;    /* how many were transferred */
    uint64_t deadline; /* for the turn */
    shm_sync_result result;
} shm_sync_i_transfer;

/* Sends or receives as many messages as possible, at least 0. Does not wait for the
 * other side. Returns SHM_SYNC_OK, or why this thread can't have its turn. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_move(shm_sync_i_transfer *transfer) {
    shm_sync_i_end *end = transfer->end;
    const shm_sync_object *channel = &end->channel;
    unsigned char *own = shm_sync_i_own_side(end);
    unsigned char *other = shm_sync_i_other_side(end);
    uint64_t capacity = channel->count;
    bool has_lock = shm_sync_i_own_ends(end) > 1;
    transfer->moved = 0;
    if (has_lock) {
        bool after_death;
        shm_sync_result result = shm_sync_i_take_seat(shm_sync_i_side_lock(own),
            SHM_SYNC_I_WAIT, transfer->deadline, &after_death);
        if (result != SHM_SYNC_OK)
            return result;
    }
    uint64_t here = SHM_SYNC_I_LOAD_SC(shm_sync_i_side_index(own));
    uint64_t there = SHM_SYNC_I_LOAD(shm_sync_i_side_known(own));
    uint64_t possible = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        /* More than the capacity: the index that is known is older than this one. */
        uint64_t used = end->sends ? shm_sync_i_between(capacity, there, here)
                                   : shm_sync_i_between(capacity, here, there);
        possible = used > capacity ? 0 : end->sends ? capacity - used : used;
        if (possible >= transfer->count || attempt == 1)
            break;
        there = SHM_SYNC_I_LOAD_SC(shm_sync_i_side_index(other));
        SHM_SYNC_I_STORE(shm_sync_i_side_known(own), there);
    }
    uint64_t count = transfer->count < possible ? transfer->count : possible;
    if (count > 0) {
        uint64_t slot = here % capacity;
        uint64_t first = count < capacity - slot ? count : capacity - slot;
        uint64_t size = channel->data_size;
        unsigned char *slots = (unsigned char *)channel->data;
        unsigned char *messages = transfer->messages;
        if (size != 0 && end->sends) {
            memcpy(slots + slot * size, messages, first * size);
            memcpy(slots, messages + first * size, (count - first) * size);
        } else if (size != 0) {
            memcpy(messages, slots + slot * size, first * size);
            memcpy(messages + first * size, slots, (count - first) * size);
        }
        /* The commit. */
        SHM_SYNC_I_STORE_SC(
            shm_sync_i_side_index(own), shm_sync_i_number_after(capacity, here, count));
    }
    if (has_lock)
        shm_sync_i_leave_seat(shm_sync_i_side_lock(own));
    /* Each sleeper can use each message, so one suffices for one. */
    if (count > 0)
        shm_sync_i_notify(shm_sync_i_side_asleep(other), count == 1 ? 1 : INT32_MAX);
    transfer->moved = count;
    return SHM_SYNC_OK;
}

/* Transfers messages, or finds out why that is not possible now or any more. */
SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_try_transfer(void *context) {
    shm_sync_i_transfer *transfer = (shm_sync_i_transfer *)context;
    transfer->result = shm_sync_i_move(transfer);
    if (transfer->result == SHM_SYNC_OK && transfer->moved == 0) {
        uint64_t arrivals;
        shm_sync_result left = shm_sync_i_peers_left(transfer->end, &arrivals);
        if (left == SHM_SYNC_OK)
            return SHM_SYNC_I_NOT_YET;
        /* The last sender may have sent a message since, and then left. */
        if (!transfer->end->sends)
            transfer->result = shm_sync_i_move(transfer);
        if (transfer->result == SHM_SYNC_OK && transfer->moved == 0) {
            transfer->end->told = arrivals;
            transfer->result = left;
        }
    }
    return transfer->result == SHM_SYNC_TIMED_OUT ? SHM_SYNC_I_NOT_YET
                                                  : SHM_SYNC_I_ANSWERED;
}

SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_looks_transferable(void *context) {
    const shm_sync_i_end *end = ((const shm_sync_i_transfer *)context)->end;
    uint64_t len = shm_sync_channel_len(&end->channel);
    return (end->sends ? len < end->channel.count : len > 0) ? SHM_SYNC_I_ANSWERED
                                                             : SHM_SYNC_I_NOT_YET;
}

/* Transfers at least one message, and at most `count`, which is not 0. */
SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_run_transfer(shm_sync_i_end *end,
    unsigned char *messages, uint64_t count, shm_sync_i_how how, uint64_t deadline,
    uint64_t *moved) {
    shm_sync_i_transfer transfer = {end, messages, count, 0, deadline, SHM_SYNC_OK};
    *moved = 0;
    if (!shm_sync_i_end_is_mine(end))
        return SHM_SYNC_NOT_HELD;
    unsigned char *other = shm_sync_i_other_side(end);
    if (end->sends && SHM_SYNC_I_LOAD(shm_sync_i_side_left(other)) != 0) {
        uint64_t arrivals;
        shm_sync_result left = shm_sync_i_peers_left(end, &arrivals);
        if (left != SHM_SYNC_OK) {
            end->told = arrivals;
            return left;
        }
    }
    shm_sync_result result = shm_sync_i_move(&transfer);
    if (result == SHM_SYNC_OK && transfer.moved == 0) {
        if (how == SHM_SYNC_I_TRY)
            result = shm_sync_i_try_transfer(&transfer) == SHM_SYNC_I_ANSWERED
                         ? transfer.result
                         : SHM_SYNC_WOULD_BLOCK;
        else {
            result =
                shm_sync_i_event_wait(shm_sync_i_side_asleep(shm_sync_i_own_side(end)),
                    deadline, shm_sync_i_side_seats(other), shm_sync_i_other_ends(end),
                    shm_sync_i_looks_transferable, shm_sync_i_try_transfer, &transfer);
            if (result == SHM_SYNC_OK)
                result = transfer.result;
            /* If the deadline has passed before this thread had its turn, it may have
             * used the wake-up for a message or for room. */
            if (result == SHM_SYNC_TIMED_OUT &&
                shm_sync_i_looks_transferable(&transfer) == SHM_SYNC_I_ANSWERED)
                shm_sync_i_notify(shm_sync_i_side_asleep(shm_sync_i_own_side(end)), 1);
        }
    }
    *moved = transfer.moved;
    return result;
}

SHM_SYNC_I_OUTLINE shm_sync_i_answer shm_sync_i_peer_is_there(void *context) {
    const shm_sync_i_end *end = (const shm_sync_i_end *)context;
    unsigned char *other = shm_sync_i_other_side(end);
    bool is_there = shm_sync_i_any_occupied(other, shm_sync_i_other_ends(end)) ||
                    shm_sync_i_arrivals(other) > end->told;
    return is_there ? SHM_SYNC_I_ANSWERED : SHM_SYNC_I_NOT_YET;
}

SHM_SYNC_I_OUTLINE shm_sync_result shm_sync_i_wait_for_peer(
    shm_sync_i_end *end, uint64_t timeout_ns) {
    if (!shm_sync_i_end_is_mine(end))
        return SHM_SYNC_NOT_HELD;
    /* Each opener of the other side notifies the sleepers of this side. */
    return shm_sync_i_event_wait(shm_sync_i_side_asleep(shm_sync_i_own_side(end)),
        shm_sync_i_after(timeout_ns), NULL, 0, shm_sync_i_peer_is_there,
        shm_sync_i_peer_is_there, end);
}

/* Opens an endpoint of this thread that sends to a channel or writes to a pipe. Does
 * not wait. Either side may come first.
 *
 * Results: SHM_SYNC_OK, SHM_SYNC_TOO_MANY_ENDPOINTS, SHM_SYNC_TOO_MANY_LOCKS,
 * SHM_SYNC_NOT_PLACED, SHM_SYNC_FOREIGN_PID_NAMESPACE, SHM_SYNC_UNRECOVERABLE,
 * SHM_SYNC_UNSUPPORTED, SHM_SYNC_CORRUPT, SHM_SYNC_INVALID_ARGUMENT, SHM_SYNC_SYSTEM;
 * those of shm_sync_lock for a thread that can't own locks.
 *
 * When the thread ends without shm_sync_sender_close, its endpoint counts as dead. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_sender_open(
    const shm_sync_object *channel, shm_sync_sender *sender) {
    return shm_sync_i_end_open(&sender->i_end, channel, true);
}

/* Closes the endpoint. When the last sender has closed, receivers get the rest, and
 * then SHM_SYNC_DISCONNECTED. Returns SHM_SYNC_NOT_HELD, and changes nothing, if this
 * thread does not have the endpoint. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_sender_close(shm_sync_sender *sender) {
    return shm_sync_i_end_close(&sender->i_end);
}

/* Opens an endpoint of this thread that receives from a channel or reads from a pipe.
 * See shm_sync_sender_open. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_receiver_open(
    const shm_sync_object *channel, shm_sync_receiver *receiver) {
    return shm_sync_i_end_open(&receiver->i_end, channel, false);
}

/* Closes the endpoint. See shm_sync_sender_close. */
SHM_SYNC_I_INLINE shm_sync_result shm_sync_receiver_close(shm_sync_receiver *receiver) {
    return shm_sync_i_end_close(&receiver->i_end);
}

/* Sends a message of `data_size` bytes (see shm_sync_object). Waits in the kernel while
 * the channel is full.
 *
 * Results: SHM_SYNC_OK; SHM_SYNC_DISCONNECTED and SHM_SYNC_PEER_DIED (this endpoint had
 * receivers, and none is left); SHM_SYNC_NOT_HELD; SHM_SYNC_TOO_MANY_LOCKS,
 * SHM_SYNC_SYSTEM. The message was sent only after SHM_SYNC_OK.
 *
 * A message is sent by one store. If the process is killed before it, the message is
 * not sent, and after it, a receiver gets it. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_send(
    shm_sync_sender *sender, const void *message) {
    uint64_t moved;
    return shm_sync_i_run_transfer(&sender->i_end, (unsigned char *)(uintptr_t)message,
        1, SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER, &moved);
}

/* Sends a message if there is room. Returns SHM_SYNC_WOULD_BLOCK otherwise. In a
 * channel with several senders it waits for its turn, while another sender copies a
 * message: a sender that is stopped in the copy delays it. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_try_send(
    shm_sync_sender *sender, const void *message) {
    uint64_t moved;
    return shm_sync_i_run_transfer(&sender->i_end, (unsigned char *)(uintptr_t)message,
        1, SHM_SYNC_I_TRY, SHM_SYNC_I_NEVER, &moved);
}

/* Sends a message, and waits at most `timeout_ns` nanoseconds by the monotonic clock.
 * Returns SHM_SYNC_TIMED_OUT after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_send_for(
    shm_sync_sender *sender, const void *message, uint64_t timeout_ns) {
    uint64_t moved;
    return shm_sync_i_run_transfer(&sender->i_end, (unsigned char *)(uintptr_t)message,
        1, SHM_SYNC_I_WAIT, shm_sync_i_after(timeout_ns), &moved);
}

/* Sends the first of `count` messages: at least one, and as many as there is room for,
 * by one store. Writes to `*sent` how many. Waits like shm_sync_send. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_send_many(
    shm_sync_sender *sender, const void *messages, uint64_t count, uint64_t *sent) {
    *sent = 0;
    return count == 0 ? SHM_SYNC_OK
                      : shm_sync_i_run_transfer(&sender->i_end,
                            (unsigned char *)(uintptr_t)messages, count,
                            SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER, sent);
}

/* Does the same, and waits at most `timeout_ns` nanoseconds. Returns SHM_SYNC_TIMED_OUT
 * after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_send_many_for(
    shm_sync_sender *sender, const void *messages, uint64_t count, uint64_t timeout_ns,
    uint64_t *sent) {
    *sent = 0;
    return count == 0 ? SHM_SYNC_OK
                      : shm_sync_i_run_transfer(&sender->i_end,
                            (unsigned char *)(uintptr_t)messages, count,
                            SHM_SYNC_I_WAIT, shm_sync_i_after(timeout_ns), sent);
}

/* Receives a message of `data_size` bytes (see shm_sync_object). Waits in the kernel
 * while the channel is empty, also while no sender has ever come.
 *
 * Results: SHM_SYNC_OK; SHM_SYNC_DISCONNECTED and SHM_SYNC_PEER_DIED (the channel is
 * empty, senders have come, and none is left); SHM_SYNC_NOT_HELD;
 * SHM_SYNC_TOO_MANY_LOCKS, SHM_SYNC_SYSTEM.
 *
 * A message is received by one store. If the process is killed before it, another
 * receiver gets the message. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_recv(
    shm_sync_receiver *receiver, void *message) {
    uint64_t moved;
    return shm_sync_i_run_transfer(&receiver->i_end, (unsigned char *)message, 1,
        SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER, &moved);
}

/* Receives a message if there is one. Returns SHM_SYNC_WOULD_BLOCK otherwise. In a
 * channel with several receivers it waits for its turn, as shm_sync_try_send does. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_try_recv(
    shm_sync_receiver *receiver, void *message) {
    uint64_t moved;
    return shm_sync_i_run_transfer(&receiver->i_end, (unsigned char *)message, 1,
        SHM_SYNC_I_TRY, SHM_SYNC_I_NEVER, &moved);
}

/* Receives a message, and waits at most `timeout_ns` nanoseconds by the monotonic
 * clock. Returns SHM_SYNC_TIMED_OUT after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_recv_for(
    shm_sync_receiver *receiver, void *message, uint64_t timeout_ns) {
    uint64_t moved;
    return shm_sync_i_run_transfer(&receiver->i_end, (unsigned char *)message, 1,
        SHM_SYNC_I_WAIT, shm_sync_i_after(timeout_ns), &moved);
}

/* Receives messages into an array of `count`: at least one, and as many as there are,
 * by one store. Writes to `*received` how many. Waits like shm_sync_recv. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_recv_many(
    shm_sync_receiver *receiver, void *messages, uint64_t count, uint64_t *received) {
    *received = 0;
    return count == 0
               ? SHM_SYNC_OK
               : shm_sync_i_run_transfer(&receiver->i_end, (unsigned char *)messages,
                     count, SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER, received);
}

/* Does the same, and waits at most `timeout_ns` nanoseconds. Returns SHM_SYNC_TIMED_OUT
 * after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_recv_many_for(
    shm_sync_receiver *receiver, void *messages, uint64_t count, uint64_t timeout_ns,
    uint64_t *received) {
    *received = 0;
    return count == 0
               ? SHM_SYNC_OK
               : shm_sync_i_run_transfer(&receiver->i_end, (unsigned char *)messages,
                     count, SHM_SYNC_I_WAIT, shm_sync_i_after(timeout_ns), received);
}

/* Writes bytes to a pipe: at least one, and as many as there is room for, by one store.
 * Writes to `*written` how many. Returns SHM_SYNC_INVALID_ARGUMENT for a channel, and
 * the results of shm_sync_send. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_write(
    shm_sync_sender *sender, const void *bytes, uint64_t len, uint64_t *written) {
    *written = 0;
    return sender->i_end.channel.kind == SHM_SYNC_KIND_PIPE
               ? shm_sync_send_many(sender, bytes, len, written)
               : SHM_SYNC_INVALID_ARGUMENT;
}

/* Does the same, and waits at most `timeout_ns` nanoseconds by the monotonic clock.
 * Returns SHM_SYNC_TIMED_OUT after that, and has written no byte. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_write_for(
    shm_sync_sender *sender, const void *bytes, uint64_t len, uint64_t timeout_ns,
    uint64_t *written) {
    *written = 0;
    return sender->i_end.channel.kind == SHM_SYNC_KIND_PIPE
               ? shm_sync_send_many_for(sender, bytes, len, timeout_ns, written)
               : SHM_SYNC_INVALID_ARGUMENT;
}

/* Reads bytes from a pipe: at least one, and at most `len`. Writes to `*count` how
 * many. After the last byte it returns SHM_SYNC_DISCONNECTED if the writer has closed
 * its end, and SHM_SYNC_PEER_DIED if it has died and no other has opened the pipe
 * since. Returns SHM_SYNC_INVALID_ARGUMENT for a channel. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_read(
    shm_sync_receiver *receiver, void *bytes, uint64_t len, uint64_t *count) {
    *count = 0;
    return receiver->i_end.channel.kind == SHM_SYNC_KIND_PIPE
               ? shm_sync_recv_many(receiver, bytes, len, count)
               : SHM_SYNC_INVALID_ARGUMENT;
}

/* Does the same, and waits at most `timeout_ns` nanoseconds by the monotonic clock.
 * Returns SHM_SYNC_TIMED_OUT after that. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_read_for(
    shm_sync_receiver *receiver, void *bytes, uint64_t len, uint64_t timeout_ns,
    uint64_t *count) {
    *count = 0;
    return receiver->i_end.channel.kind == SHM_SYNC_KIND_PIPE
               ? shm_sync_recv_many_for(receiver, bytes, len, timeout_ns, count)
               : SHM_SYNC_INVALID_ARGUMENT;
}

/* Waits until there is a sender, at most `timeout_ns` nanoseconds (UINT64_MAX: for
 * ever). Returns SHM_SYNC_OK if there is one, or if one has come and gone since the
 * last SHM_SYNC_DISCONNECTED or SHM_SYNC_PEER_DIED. Returns SHM_SYNC_TIMED_OUT,
 * SHM_SYNC_NOT_HELD or SHM_SYNC_SYSTEM otherwise. With this, a server waits for the
 * next client after SHM_SYNC_DISCONNECTED. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_wait_for_sender(
    shm_sync_receiver *receiver, uint64_t timeout_ns) {
    return shm_sync_i_wait_for_peer(&receiver->i_end, timeout_ns);
}

/* Waits until there is a receiver. See shm_sync_wait_for_sender. */
SHM_SYNC_I_INLINE SHM_SYNC_I_CHECK shm_sync_result shm_sync_wait_for_receiver(
    shm_sync_sender *sender, uint64_t timeout_ns) {
    return shm_sync_i_wait_for_peer(&sender->i_end, timeout_ns);
}

/* ------------------------------------------------------------------------------------
 * C++17
 */

#ifdef __cplusplus

} // namespace shm_sync_i_v1

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

namespace shm_sync {
inline namespace v1 {

/* The result of a function. */
using result = shm_sync_result;

/* Returns a text in English for a result. */
inline const char *text(result of) noexcept {
    return shm_sync_text(of);
}

/* The tag of a constructor that does not wait. */
struct try_to_lock_t {};
inline constexpr try_to_lock_t try_to_lock{};

/* Returns a duration in nanoseconds. One that is negative or no number is 0, and one
 * that is too long is UINT64_MAX, which means for ever. */
template <class Rep, class Period>
constexpr std::uint64_t nanoseconds(std::chrono::duration<Rep, Period> time) noexcept {
    long double count = std::chrono::duration<long double, std::nano>(time).count();
    if (!(count > 0))
        return 0;
    return count < 18446744073709551616.0L ? static_cast<std::uint64_t>(count)
                                           : UINT64_MAX;
}

/* How long a call waits at most: a duration, or the time until a point of any clock.
 * The call itself waits by the monotonic clock, and ignores later jumps of the clock.
 *
 *     guard.wait_for(jobs->changed, 50ms);
 *     guard.wait_for(jobs->changed, std::chrono::steady_clock::now() + 5s);
 */
class timeout {
  public:
    template <class Rep, class Period>
    timeout(std::chrono::duration<Rep, Period> time) noexcept
        : nanoseconds_(shm_sync::nanoseconds(time)) {}
    template <class Clock, class Duration>
    timeout(std::chrono::time_point<Clock, Duration> deadline) noexcept
        /* Floating-point numbers, because the difference of integers can overflow. */
        : nanoseconds_(shm_sync::nanoseconds(real(deadline.time_since_epoch()) -
                                             real(Clock::now().time_since_epoch()))) {}
    std::uint64_t nanoseconds() const noexcept { return nanoseconds_; }

  private:
    using real = std::chrono::duration<long double, std::nano>;
    std::uint64_t nanoseconds_;
};

/* An open segment. The destructor closes it, and ignores the result. If a thread of
 * this process still holds a lock in it, the memory stays mapped.
 *
 *     shm_sync::segment segment;
 *     if (segment.open("/jobs", JOBS_FINGERPRINT) != SHM_SYNC_OK) ...
 *     auto *jobs = segment.value<struct jobs>();
 */
class segment {
  public:
    segment() noexcept : segment_() { segment_.i_fd = -1; }
    ~segment() { (void)close(); }
    segment(segment &&other) noexcept : segment_(other.segment_) { other.clear(); }
    segment &operator=(segment &&other) noexcept {
        if (this != &other) {
            (void)close();
            segment_ = other.segment_;
            other.clear();
        }
        return *this;
    }
    segment(const segment &) = delete;
    segment &operator=(const segment &) = delete;

    /* Opens a segment: see shm_sync_open. Closes the one that is open before. */
    [[nodiscard]] result open(
        const char *address, const char *fingerprint = nullptr) noexcept {
        result closed = close();
        return closed == SHM_SYNC_OK ? shm_sync_open(&segment_, address, fingerprint)
                                     : closed;
    }
    /* Opens a segment and trusts other users: see shm_sync_open_with. */
    [[nodiscard]] result open(const char *address, const char *fingerprint,
        const shm_sync_options &options) noexcept {
        result closed = close();
        return closed == SHM_SYNC_OK
                   ? shm_sync_open_with(&segment_, address, fingerprint, &options)
                   : closed;
    }
    /* Opens an anonymous segment: see shm_sync_open_fd. */
    [[nodiscard]] result open_fd(int fd, const char *fingerprint = nullptr) noexcept {
        result closed = close();
        return closed == SHM_SYNC_OK ? shm_sync_open_fd(&segment_, fd, fingerprint)
                                     : closed;
    }
    /* Detaches: see shm_sync_close. */
    result close() noexcept { return shm_sync_close(&segment_); }

    /* Returns whether the segment is open. */
    explicit operator bool() const noexcept { return segment_.value != nullptr; }

    /* Returns the value, or null if it is not open, smaller than a T or not aligned as
     * a T. */
    template <class T> T *value() const noexcept {
        auto address = reinterpret_cast<std::uintptr_t>(segment_.value);
        return segment_.value_size >= sizeof(T) && address % alignof(T) == 0
                   ? static_cast<T *>(segment_.value)
                   : nullptr;
    }

    /* Finds a field by its path: see shm_sync_find. */
    [[nodiscard]] result find(
        const char *path, shm_sync_kind kind, shm_sync_object &object) const noexcept {
        return shm_sync_find(&segment_, path, kind, &object);
    }

    /* Returns the segment for the functions of C. */
    const shm_sync_segment &get() const noexcept { return segment_; }

  private:
    void clear() noexcept {
        segment_ = shm_sync_segment();
        segment_.i_fd = -1;
    }
    shm_sync_segment segment_;
};

/* Holds a mutex. The destructor unlocks it. If it runs while an exception unwinds the
 * stack that was thrown after the guard was made, it poisons the mutex first.
 *
 *     shm_sync::guard guard(jobs->pending.lock);
 *     if (guard.poisoned()) {
 *         jobs->pending.data = 0;
 *         guard.recover();
 *     } else if (!guard) {
 *         return guard.outcome();
 *     }
 *     jobs->pending.data += 1;
 *
 * A guard stays in the thread that made it. */
class [[nodiscard]] guard {
  public:
    /* Locks: see shm_sync_lock. */
    explicit guard(shm_sync_mutex &mutex) noexcept
        : guard(mutex, shm_sync_lock(&mutex)) {}
    /* Locks if no thread holds the mutex: see shm_sync_try_lock. */
    guard(shm_sync_mutex &mutex, try_to_lock_t) noexcept
        : guard(mutex, shm_sync_try_lock(&mutex)) {}
    /* Locks, and waits at most for a time: see shm_sync_lock_for. */
    guard(shm_sync_mutex &mutex, timeout time) noexcept
        : guard(mutex, shm_sync_lock_for(&mutex, time.nanoseconds())) {}
    ~guard() {
        if (mutex_ == nullptr)
            return;
        if (std::uncaught_exceptions() > exceptions_)
            shm_sync_poison(mutex_);
        shm_sync_unlock(mutex_);
    }
    guard(guard &&other) noexcept
        : mutex_(std::exchange(other.mutex_, nullptr)), outcome_(other.outcome_),
          exceptions_(other.exceptions_) {}
    guard &operator=(guard &&) = delete;
    guard(const guard &) = delete;
    guard &operator=(const guard &) = delete;

    /* Returns whether the mutex is held, and its data is consistent. */
    explicit operator bool() const noexcept {
        return mutex_ != nullptr && outcome_ != SHM_SYNC_POISONED;
    }
    /* Returns whether the mutex is held, poisoned or not. */
    bool held() const noexcept { return mutex_ != nullptr; }
    /* Returns whether the mutex is held, and its data may be inconsistent. */
    bool poisoned() const noexcept {
        return mutex_ != nullptr && outcome_ == SHM_SYNC_POISONED;
    }
    /* Returns the result of the last lock or wait. */
    [[nodiscard]] result outcome() const noexcept { return outcome_; }
    /* Clears the poison, after the data was repaired: see shm_sync_recover. */
    result recover() noexcept {
        result recovered =
            mutex_ == nullptr ? SHM_SYNC_NOT_HELD : shm_sync_recover(mutex_);
        if (recovered == SHM_SYNC_OK)
            outcome_ = SHM_SYNC_OK;
        return recovered;
    }
    /* Unlocks before the destructor does. */
    result unlock() noexcept {
        return mutex_ == nullptr ? SHM_SYNC_NOT_HELD
                                 : shm_sync_unlock(std::exchange(mutex_, nullptr));
    }
    /* Waits for a notification: see shm_sync_wait. */
    [[nodiscard]] result wait(shm_sync_condvar &condvar) noexcept {
        return mutex_ == nullptr ? SHM_SYNC_NOT_HELD
                                 : waited(shm_sync_wait(&condvar, mutex_));
    }
    /* Waits at most for a time: see shm_sync_wait_for. */
    [[nodiscard]] result wait_for(shm_sync_condvar &condvar, timeout time) noexcept {
        return mutex_ == nullptr
                   ? SHM_SYNC_NOT_HELD
                   : waited(shm_sync_wait_for(&condvar, mutex_, time.nanoseconds()));
    }
    /* Waits until `predicate()` is true, which is called while the mutex is held.
     * Returns SHM_SYNC_OK after that. Returns SHM_SYNC_POISONED, and does not call it,
     * if the data may be inconsistent: then repair it, call recover, and wait again.
     *
     *     if (guard.wait(jobs->changed, [&] { return jobs->pending.data > 0; })
     *         != SHM_SYNC_OK) ...
     */
    template <class Predicate>
    [[nodiscard]] result wait(shm_sync_condvar &condvar, Predicate predicate) {
        return wait_until(condvar, SHM_SYNC_I_NEVER, predicate);
    }
    /* Waits at most for a time. Returns SHM_SYNC_TIMED_OUT after that, if
     * `predicate()` is false even then. */
    template <class Predicate>
    [[nodiscard]] result wait_for(
        shm_sync_condvar &condvar, timeout time, Predicate predicate) {
        return wait_until(condvar, shm_sync_i_after(time.nanoseconds()), predicate);
    }

  private:
    guard(shm_sync_mutex &mutex, result locked) noexcept
        : mutex_(
              locked == SHM_SYNC_OK || locked == SHM_SYNC_POISONED ? &mutex : nullptr),
          outcome_(locked), exceptions_(std::uncaught_exceptions()) {}
    template <class Predicate>
    result wait_until(
        shm_sync_condvar &condvar, std::uint64_t deadline, Predicate &predicate) {
        if (!held())
            return SHM_SYNC_NOT_HELD;
        for (bool in_time = true; held();) {
            if (poisoned())
                return SHM_SYNC_POISONED;
            if (predicate()) {
                outcome_ = SHM_SYNC_OK;
                return SHM_SYNC_OK;
            }
            if (!in_time)
                return SHM_SYNC_TIMED_OUT;
            (void)waited(shm_sync_i_condvar_wait(&condvar, mutex_, deadline));
            in_time = outcome_ != SHM_SYNC_TIMED_OUT;
        }
        return outcome_;
    }
    result waited(result after) noexcept {
        outcome_ = after;
        if (after != SHM_SYNC_OK && after != SHM_SYNC_POISONED &&
            after != SHM_SYNC_TIMED_OUT)
            mutex_ = nullptr;
        return after;
    }
    shm_sync_mutex *mutex_;
    result outcome_;
    int exceptions_;
};

/* Locks a mutex. If it is poisoned, calls `repair` with the cause while it holds the
 * mutex, and then clears the poison. If `repair` throws, the mutex stays poisoned. So
 * the guard either holds consistent data or does not hold the mutex.
 *
 *     auto guard = shm_sync::lock_or_recover(jobs->pending.lock,
 *         [&](const shm_sync_cause &) { jobs->pending.data = 0; });
 *     if (!guard)
 *         return guard.outcome();
 */
template <class Repair>
[[nodiscard]] guard lock_or_recover(shm_sync_mutex &mutex, Repair repair) {
    guard locked(mutex);
    if (locked.poisoned()) {
        shm_sync_cause cause = shm_sync_cause();
        (void)shm_sync_poison_cause(&mutex, &cause);
        repair(static_cast<const shm_sync_cause &>(cause));
        (void)locked.recover();
    }
    return locked;
}

/* A permit of a semaphore. The destructor gives it back. A permit stays in its
 * thread. */
class [[nodiscard]] permit {
  public:
    /* Acquires a permit: see shm_sync_semaphore_acquire. */
    explicit permit(const shm_sync_object &semaphore) noexcept
        : permit_(), outcome_(shm_sync_semaphore_acquire(&semaphore, &permit_)) {}
    /* Acquires a permit if one is free: see shm_sync_semaphore_try_acquire. */
    permit(const shm_sync_object &semaphore, try_to_lock_t) noexcept
        : permit_(), outcome_(shm_sync_semaphore_try_acquire(&semaphore, &permit_)) {}
    /* Waits at most for a time: see shm_sync_semaphore_acquire_for. */
    permit(const shm_sync_object &semaphore, timeout time) noexcept
        : permit_(), outcome_(shm_sync_semaphore_acquire_for(
                         &semaphore, time.nanoseconds(), &permit_)) {}
    ~permit() { (void)release(); }
    permit(permit &&other) noexcept : permit_(other.permit_), outcome_(other.outcome_) {
        other.permit_ = shm_sync_permit();
    }
    permit &operator=(permit &&) = delete;
    permit(const permit &) = delete;
    permit &operator=(const permit &) = delete;

    /* Returns whether this is a permit. */
    explicit operator bool() const noexcept { return permit_.i_seat != nullptr; }
    [[nodiscard]] result outcome() const noexcept { return outcome_; }
    /* Returns the number of the permit. */
    std::uint64_t index() const noexcept { return permit_.index; }
    /* Returns whether the last holder of the permit died with it. */
    bool after_death() const noexcept { return permit_.after_death; }
    /* Gives the permit back before the destructor does. */
    result release() noexcept { return shm_sync_permit_release(&permit_); }

  private:
    shm_sync_permit permit_;
    result outcome_;
};

/* An endpoint that sends messages of type T. The destructor closes it. It stays in its
 * thread. */
template <class T> class sender {
    static_assert(std::is_trivially_copyable<T>::value, "messages are copied as bytes");

  public:
    sender() noexcept : sender_() {}
    ~sender() { (void)close(); }
    sender(sender &&other) noexcept
        : sender_(std::exchange(other.sender_, shm_sync_sender())) {}
    sender &operator=(sender &&other) noexcept {
        if (this != &other) {
            (void)close();
            sender_ = std::exchange(other.sender_, shm_sync_sender());
        }
        return *this;
    }
    sender(const sender &) = delete;
    sender &operator=(const sender &) = delete;

    /* Opens the endpoint: see shm_sync_sender_open. Returns SHM_SYNC_LAYOUT_MISMATCH if
     * the messages have another size than T. */
    [[nodiscard]] result open(const shm_sync_object &channel) noexcept {
        (void)close();
        return channel.data_size == sizeof(T) ? shm_sync_sender_open(&channel, &sender_)
                                              : SHM_SYNC_LAYOUT_MISMATCH;
    }
    [[nodiscard]] result send(const T &message) noexcept {
        return shm_sync_send(&sender_, &message);
    }
    [[nodiscard]] result try_send(const T &message) noexcept {
        return shm_sync_try_send(&sender_, &message);
    }
    [[nodiscard]] result send_for(const T &message, timeout time) noexcept {
        return shm_sync_send_for(&sender_, &message, time.nanoseconds());
    }
    /* Sends the first of `count` messages: see shm_sync_send_many. */
    [[nodiscard]] result send_many(
        const T *messages, std::uint64_t count, std::uint64_t &sent) noexcept {
        return shm_sync_send_many(&sender_, messages, count, &sent);
    }
    /* Waits at most for a time: see shm_sync_send_many_for. */
    [[nodiscard]] result send_many_for(const T *messages, std::uint64_t count,
        std::uint64_t &sent, timeout time) noexcept {
        return shm_sync_send_many_for(
            &sender_, messages, count, time.nanoseconds(), &sent);
    }
    /* Waits until there is a receiver: see shm_sync_wait_for_receiver. */
    [[nodiscard]] result wait_for_receiver(timeout time) noexcept {
        return shm_sync_wait_for_receiver(&sender_, time.nanoseconds());
    }
    result close() noexcept { return shm_sync_sender_close(&sender_); }

  private:
    shm_sync_sender sender_;
};

/* An endpoint that receives messages of type T. The destructor closes it. It stays in
 * its thread. */
template <class T> class receiver {
    static_assert(std::is_trivially_copyable<T>::value, "messages are copied as bytes");

  public:
    receiver() noexcept : receiver_(), ended_(SHM_SYNC_OK) {}
    ~receiver() { (void)close(); }
    receiver(receiver &&other) noexcept
        : receiver_(std::exchange(other.receiver_, shm_sync_receiver())),
          ended_(other.ended_) {}
    receiver &operator=(receiver &&other) noexcept {
        if (this != &other) {
            (void)close();
            receiver_ = std::exchange(other.receiver_, shm_sync_receiver());
            ended_ = other.ended_;
        }
        return *this;
    }
    receiver(const receiver &) = delete;
    receiver &operator=(const receiver &) = delete;

    /* Opens the endpoint: see shm_sync_receiver_open, and sender::open. */
    [[nodiscard]] result open(const shm_sync_object &channel) noexcept {
        (void)close();
        return channel.data_size == sizeof(T)
                   ? shm_sync_receiver_open(&channel, &receiver_)
                   : SHM_SYNC_LAYOUT_MISMATCH;
    }
    [[nodiscard]] result recv(T &message) noexcept {
        return shm_sync_recv(&receiver_, &message);
    }
    [[nodiscard]] result try_recv(T &message) noexcept {
        return shm_sync_try_recv(&receiver_, &message);
    }
    [[nodiscard]] result recv_for(T &message, timeout time) noexcept {
        return shm_sync_recv_for(&receiver_, &message, time.nanoseconds());
    }
    /* Receives up to `count` messages: see shm_sync_recv_many. */
    [[nodiscard]] result recv_many(
        T *messages, std::uint64_t count, std::uint64_t &received) noexcept {
        return shm_sync_recv_many(&receiver_, messages, count, &received);
    }
    /* Waits at most for a time: see shm_sync_recv_many_for. */
    [[nodiscard]] result recv_many_for(T *messages, std::uint64_t count,
        std::uint64_t &received, timeout time) noexcept {
        return shm_sync_recv_many_for(
            &receiver_, messages, count, time.nanoseconds(), &received);
    }
    /* Waits until there is a sender: see shm_sync_wait_for_sender. */
    [[nodiscard]] result wait_for_sender(timeout time) noexcept {
        return shm_sync_wait_for_sender(&receiver_, time.nanoseconds());
    }
    result close() noexcept { return shm_sync_receiver_close(&receiver_); }

    /* The messages as a range, which ends at the first result but SHM_SYNC_OK.
     * `ended` returns it.
     *
     *     for (const job &next : receiver) ...
     *     if (receiver.ended() == SHM_SYNC_PEER_DIED) ...
     */
    class iterator {
      public:
        const T &operator*() const noexcept { return message_; }
        iterator &operator++() noexcept {
            from_->ended_ = from_->recv(message_);
            return *this;
        }
        /* Whether the range goes on. */
        bool operator!=(std::nullptr_t) const noexcept {
            return from_->ended_ == SHM_SYNC_OK;
        }

      private:
        friend class receiver;
        explicit iterator(receiver &from) noexcept : from_(&from), message_() {
            ++*this;
        }
        receiver *from_;
        T message_;
    };
    iterator begin() noexcept { return iterator(*this); }
    std::nullptr_t end() const noexcept { return nullptr; }
    /* Returns why the last loop over the messages ended. */
    [[nodiscard]] result ended() const noexcept { return ended_; }

  private:
    shm_sync_receiver receiver_;
    result ended_;
};

/* The end of a pipe that writes. The destructor closes it. It stays in its thread. */
class writer {
  public:
    /* Opens the end. Returns SHM_SYNC_LAYOUT_MISMATCH if the object is no pipe. */
    [[nodiscard]] result open(const shm_sync_object &pipe) noexcept {
        return pipe.kind == SHM_SYNC_KIND_PIPE ? end_.open(pipe)
                                               : SHM_SYNC_LAYOUT_MISMATCH;
    }
    /* Writes at least one byte: see shm_sync_write. */
    [[nodiscard]] result write(
        const void *bytes, std::uint64_t len, std::uint64_t &written) noexcept {
        return end_.send_many(static_cast<const unsigned char *>(bytes), len, written);
    }
    /* Waits at most for a time: see shm_sync_write_for. */
    [[nodiscard]] result write_for(const void *bytes, std::uint64_t len,
        std::uint64_t &written, timeout time) noexcept {
        return end_.send_many_for(
            static_cast<const unsigned char *>(bytes), len, written, time);
    }
    result close() noexcept { return end_.close(); }

  private:
    sender<unsigned char> end_;
};

/* The end of a pipe that reads. The destructor closes it. It stays in its thread. */
class reader {
  public:
    /* Opens the end. Returns SHM_SYNC_LAYOUT_MISMATCH if the object is no pipe. */
    [[nodiscard]] result open(const shm_sync_object &pipe) noexcept {
        return pipe.kind == SHM_SYNC_KIND_PIPE ? end_.open(pipe)
                                               : SHM_SYNC_LAYOUT_MISMATCH;
    }
    /* Reads at least one byte: see shm_sync_read. */
    [[nodiscard]] result read(
        void *bytes, std::uint64_t len, std::uint64_t &count) noexcept {
        return end_.recv_many(static_cast<unsigned char *>(bytes), len, count);
    }
    /* Waits at most for a time: see shm_sync_read_for. */
    [[nodiscard]] result read_for(
        void *bytes, std::uint64_t len, std::uint64_t &count, timeout time) noexcept {
        return end_.recv_many_for(
            static_cast<unsigned char *>(bytes), len, count, time);
    }
    result close() noexcept { return end_.close(); }

  private:
    receiver<unsigned char> end_;
};

/* An event in a segment, which outlives this.
 *
 *     shm_sync::event ready(jobs->ready);
 *     if (ready.wait_for(5s) != SHM_SYNC_OK) ...
 */
class event {
  public:
    explicit event(shm_sync_event &of) noexcept : event_(&of) {}

    /* Sets the event: see shm_sync_event_set. */
    result set() const noexcept { return shm_sync_event_set(event_); }
    /* Resets the event: see shm_sync_event_reset. */
    void reset() const noexcept { shm_sync_event_reset(event_); }
    /* Returns whether the event is set: see shm_sync_event_is_set. */
    bool is_set() const noexcept { return shm_sync_event_is_set(event_); }
    /* Waits until the event is set: see shm_sync_event_wait. */
    [[nodiscard]] result wait() const noexcept { return shm_sync_event_wait(event_); }
    /* Goes on if the event is set: see shm_sync_event_try_wait. */
    [[nodiscard]] result try_wait() const noexcept {
        return shm_sync_event_try_wait(event_);
    }
    /* Waits at most for a time: see shm_sync_event_wait_for. */
    [[nodiscard]] result wait_for(timeout time) const noexcept {
        return shm_sync_event_wait_for(event_, time.nanoseconds());
    }

  private:
    shm_sync_event *event_;
};

} // namespace v1
} // namespace shm_sync

#endif /* __cplusplus */

#endif /* SHM_SYNC_H */
