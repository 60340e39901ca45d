/* The header beside libc's own functions, on the same mutexes: the words, the lists of
 * the threads, and the other way to lock, by libc. The first argument is the name of a
 * case. The program ends with status 0 if the header behaves. */
#define _GNU_SOURCE

#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MUTEXES = 4 };

/* In memory that this process shares with its children. */
static shm_sync_mutex *mutexes;

static const uint64_t MILLISECOND = 1000000;

static _Noreturn void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: %s\n", line, what);
    _exit(1);
}

#define EXPECT(condition)               \
    do {                                \
        if (!(condition)) {             \
            fail(#condition, __LINE__); \
        }                               \
    } while (0)

static pthread_mutex_t *libc_mutex(int i)
{
    return &mutexes[i].lock.pthread.mutex;
}

static shm_sync_i_words *words(int i)
{
    return &mutexes[i].lock.pthread.words;
}

static void init(int i, bool has_priority_inheritance)
{
    shm_sync_i_lock *lock = &mutexes[i].lock;
    memset(lock, 0, sizeof *lock);
    EXPECT(shm_sync_i_init_pthread(&lock->pthread, has_priority_inheritance) == 0);
    lock->pid_namespace = shm_sync_i_read_pid_namespace();
}

/* Runs `body` in a forked child. Returns the id of the child, which has ended. */
static pid_t in_child(void (*body)(void))
{
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int status;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return child;
}

static _Noreturn void die(void)
{
    kill(getpid(), SIGKILL);
    _exit(1);
}

static void lock_and_die(void)
{
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    die();
}

static void lock_by_libc_and_die(void)
{
    EXPECT(pthread_mutex_lock(libc_mutex(0)) == 0);
    die();
}

/* Makes mutex 0 unrecoverable. */
static void leave_unrecoverable(bool has_priority_inheritance, bool has_waiters)
{
    init(0, has_priority_inheritance);
    in_child(lock_by_libc_and_die);
    EXPECT(pthread_mutex_lock(libc_mutex(0)) == EOWNERDEAD);
    if (has_waiters) {
        words(0)->lock |= SHM_SYNC_I_WAITERS;
    }
    EXPECT(pthread_mutex_unlock(libc_mutex(0)) == 0);
}

static void layout_is_known(void)
{
    EXPECT(shm_sync_i_identify() == SHM_SYNC_OK);
    EXPECT(shm_sync_i_me()->is_known);
    bool wipes_memory = getenv("WITHOUT_WIPED_MEMORY") == NULL;
    EXPECT((shm_sync_i_me()->own_page == NULL) == wipes_memory);
}

static void words_are_those_that_libc_leaves(void)
{
    for (int with_inheritance = 0; with_inheritance < 2; with_inheritance++) {
        shm_sync_i_pthread locked;
        shm_sync_i_pthread unlocked;
        init(0, with_inheritance == 1);
        for (int round = 0; round < 4; round++) {
            if (round % 2 == 0) {
                EXPECT(pthread_mutex_lock(libc_mutex(0)) == 0);
            } else {
                EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
            }
            if (round == 0) {
                locked = mutexes[0].lock.pthread;
            }
            EXPECT(memcmp(&locked, &mutexes[0].lock.pthread, sizeof locked) == 0);
            if (round < 2) {
                EXPECT(pthread_mutex_unlock(libc_mutex(0)) == 0);
            } else {
                EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
            }
            if (round == 0) {
                unlocked = mutexes[0].lock.pthread;
            }
            EXPECT(memcmp(&unlocked, &mutexes[0].lock.pthread, sizeof unlocked) == 0);
        }
    }
}

/* Mutexes of libc and of the header are neighbours on one list, in each order of the
 * unlocks. The death of a thread releases those that are left. */
static void list_is_that_of_libc(void)
{
    static const int orders[4][4] = {
        {0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}};
    for (int order = 0; order < 4; order++) {
        for (int i = 0; i < MUTEXES; i++) {
            init(i, i % 2 == 1);
            int code = i < 2 ? pthread_mutex_lock(libc_mutex(i))
                             : (int)shm_sync_lock(&mutexes[i]);
            EXPECT(code == 0);
        }
        for (int i = 0; i < MUTEXES; i++) {
            int which = orders[order][i];
            int code = which % 2 == 0 ? pthread_mutex_unlock(libc_mutex(which))
                                      : (int)shm_sync_unlock(&mutexes[which]);
            EXPECT(code == 0);
        }
        const shm_sync_i_head *head = shm_sync_i_me()->head;
        EXPECT(head->list == (const void *)head && head->pending == NULL);
    }
}

static void lock_all_and_die(void)
{
    for (int i = 0; i < MUTEXES; i++) {
        EXPECT(shm_sync_lock(&mutexes[i]) == SHM_SYNC_OK);
    }
    EXPECT(shm_sync_unlock(&mutexes[2]) == SHM_SYNC_OK);
    EXPECT(pthread_mutex_lock(libc_mutex(2)) == 0);
    die();
}

static void deaths_are_seen_by_each_way(void)
{
    for (int i = 0; i < MUTEXES; i++) {
        init(i, i % 2 == 1);
    }
    in_child(lock_all_and_die);
    for (int i = 0; i < MUTEXES; i++) {
        if (i < 2) {
            EXPECT(pthread_mutex_lock(libc_mutex(i)) == EOWNERDEAD);
            EXPECT(pthread_mutex_consistent(libc_mutex(i)) == 0);
            EXPECT(pthread_mutex_unlock(libc_mutex(i)) == 0);
            EXPECT(shm_sync_lock(&mutexes[i]) == SHM_SYNC_OK);
        } else {
            EXPECT(shm_sync_lock(&mutexes[i]) == SHM_SYNC_POISONED);
            EXPECT(shm_sync_recover(&mutexes[i]) == SHM_SYNC_OK);
        }
        EXPECT(shm_sync_unlock(&mutexes[i]) == SHM_SYNC_OK);
        EXPECT(pthread_mutex_lock(libc_mutex(i)) == 0);
        EXPECT(pthread_mutex_unlock(libc_mutex(i)) == 0);
    }
}

static void *lock_and_end(void *nothing)
{
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_OK);
    return nothing;
}

/* musl's thread unlocks its robust mutexes before the kernel does. */
static void thread_ends_with_locks(void)
{
    pthread_t thread;
    init(0, false);
    init(1, false);
    EXPECT(pthread_create(&thread, NULL, lock_and_end, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        EXPECT(shm_sync_lock(&mutexes[i]) == SHM_SYNC_POISONED);
        EXPECT(shm_sync_unlock(&mutexes[i]) == SHM_SYNC_OK);
    }
}

static void take_over_and_die(void)
{
    EXPECT(shm_sync_i_identify() == SHM_SYNC_OK);
    int code = shm_sync_i_pthread_lock(
        &mutexes[0].lock.pthread, SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER);
    EXPECT(code == EOWNERDEAD);
    die();
}

/* A thread that locks after an owner death and dies before it makes the mutex
 * consistent leaves an owner death. */
static void owner_death_stays_until_consistent(void)
{
    for (int with_inheritance = 0; with_inheritance < 2; with_inheritance++) {
        shm_sync_cause cause;
        init(0, with_inheritance == 1);
        pid_t dead = in_child(lock_and_die);
        in_child(take_over_and_die);
        EXPECT(shm_sync_poison_cause(&mutexes[0], &cause) == SHM_SYNC_POISONED);
        EXPECT(cause.kind == SHM_SYNC_OWNER_DIED && (pid_t)cause.pid == dead);
        EXPECT(shm_sync_try_lock(&mutexes[0]) == SHM_SYNC_POISONED);
        EXPECT(shm_sync_poison_cause(&mutexes[0], &cause) == SHM_SYNC_POISONED);
        EXPECT(cause.kind == SHM_SYNC_OWNER_DIED && (pid_t)cause.pid == dead);
        /* Consistent, but poisoned. */
        EXPECT((words(0)->lock & SHM_SYNC_I_OWNER_DIED) == 0);
        EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
        EXPECT(pthread_mutex_lock(libc_mutex(0)) == 0);
        EXPECT(pthread_mutex_unlock(libc_mutex(0)) == 0);
    }
}

static void unrecoverable_is_refused(void)
{
    for (int variant = 0; variant < 4; variant++) {
        bool with_inheritance = variant % 2 == 1;
        shm_sync_cause cause;
        shm_sync_mutex *mutex = &mutexes[0];
        leave_unrecoverable(with_inheritance, variant >= 2);
        for (int round = 0; round < 2; round++) {
            EXPECT(shm_sync_try_lock(mutex) == SHM_SYNC_UNRECOVERABLE);
            EXPECT(shm_sync_lock(mutex) == SHM_SYNC_UNRECOVERABLE);
            EXPECT(shm_sync_lock_for(mutex, MILLISECOND) == SHM_SYNC_UNRECOVERABLE);
            EXPECT(shm_sync_unlock(mutex) == SHM_SYNC_NOT_HELD);
            EXPECT(shm_sync_i_holder_of(words(0)) == 0);
            EXPECT(shm_sync_poison_cause(mutex, &cause) == SHM_SYNC_OK);
            EXPECT(shm_sync_i_last_holder(&mutex->lock) == 0);
            if (!with_inheritance) {
                EXPECT(pthread_mutex_trylock(libc_mutex(0)) == ENOTRECOVERABLE);
            }
        }
    }
}

/* A seat whose mutex is unrecoverable has no occupant. */
static void unrecoverable_seat_is_not_occupied(void)
{
    leave_unrecoverable(false, false);
    shm_sync_i_seat *seat = (shm_sync_i_seat *)(void *)mutexes;
    EXPECT(!shm_sync_i_is_occupied(seat));
    EXPECT(shm_sync_i_watch(seat) == 0);
}

static void use_after_fork(void)
{
    shm_sync_mutex held = mutexes[0];
    EXPECT(shm_sync_try_lock(&mutexes[0]) == SHM_SYNC_WOULD_BLOCK);
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_NOT_HELD);
    EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_OK);
    /* The parent's mutex is not on the list of this process. */
    EXPECT(words(1)->next == (const void *)shm_sync_i_me()->head);
    EXPECT(memcmp(&held, &mutexes[0], sizeof held) == 0);
    EXPECT(shm_sync_lock(&mutexes[2]) == SHM_SYNC_OK);
    EXPECT(shm_sync_unlock(&mutexes[1]) == SHM_SYNC_OK);
    EXPECT(shm_sync_unlock(&mutexes[2]) == SHM_SYNC_OK);
    EXPECT(memcmp(&held, &mutexes[0], sizeof held) == 0);
}

static void fork_inside_a_lock(void)
{
    for (int i = 0; i < 3; i++) {
        init(i, false);
    }
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    in_child(use_after_fork);
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
    const shm_sync_i_head *head = shm_sync_i_me()->head;
    EXPECT(head->list == (const void *)head);
}

static void use_libc_after_fork(void)
{
    shm_sync_mutex held = mutexes[0];
    /* musl has private mutexes on the list, too, but registers it for shared ones only. */
    pthread_mutex_t private_mutex;
    pthread_mutexattr_t attr;
    EXPECT(pthread_mutexattr_init(&attr) == 0);
    EXPECT(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
    EXPECT(pthread_mutex_init(&private_mutex, &attr) == 0);
    EXPECT(pthread_mutex_lock(&private_mutex) == 0);
    EXPECT(shm_sync_lock(&mutexes[3]) == SHM_SYNC_OK);
    EXPECT(pthread_mutex_unlock(&private_mutex) == 0);
    EXPECT(shm_sync_unlock(&mutexes[3]) == SHM_SYNC_OK);
    EXPECT(pthread_mutex_lock(libc_mutex(1)) == 0);
    /* The parent's mutex is not on the list of this process. */
    EXPECT(words(1)->next == (const void *)shm_sync_i_me()->head);
    EXPECT(memcmp(&held, &mutexes[0], sizeof held) == 0);
    EXPECT(shm_sync_lock(&mutexes[2]) == SHM_SYNC_OK);
    EXPECT(pthread_mutex_unlock(libc_mutex(1)) == 0);
    EXPECT(shm_sync_unlock(&mutexes[2]) == SHM_SYNC_OK);
    EXPECT(memcmp(&held, &mutexes[0], sizeof held) == 0);
}

/* The first lock of the child is one of libc, on a list that must be empty by then. */
static void libc_locks_first_after_a_fork(void)
{
    for (int i = 0; i < MUTEXES; i++) {
        init(i, false);
    }
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    in_child(use_libc_after_fork);
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
}

/* libc does not know the id of such a process, and has the list of its parent. */
static void raw_clone_is_refused(void)
{
    init(0, false);
    init(1, false);
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    shm_sync_i_head *head = shm_sync_i_me()->head;
    void *first = head->list;
    long child = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    EXPECT(child >= 0);
    if (child == 0) {
        EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_RAW_CLONE);
        EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_NOT_HELD);
        EXPECT(head->list == first);
        size_t len;
        EXPECT(syscall(SYS_get_robust_list, 0L, &head, &len) == 0 && head == NULL);
        _exit(0);
    }
    int status;
    EXPECT(waitpid((pid_t)child, &status, 0) == child && status == 0);
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
}

/* Of a thread for which libc locks. */
static void forget_layout(void)
{
    EXPECT(shm_sync_i_identify() == SHM_SYNC_OK);
    shm_sync_i_me()->is_known = false;
}

static shm_sync_condvar *condvar(void)
{
    return (shm_sync_condvar *)(void *)(mutexes + MUTEXES);
}

/* Returns whether a notifier finds that it holds the mutex that lies there. */
static bool holds(const void *at)
{
    condvar()->mutex = (uint64_t)((uintptr_t)at - (uintptr_t)condvar());
    const void *held = shm_sync_i_held_mutex(condvar());
    EXPECT(held == NULL || held == at);
    return held != NULL;
}

static const char *in_words(int i, int bytes)
{
    return (const char *)words(i) + bytes;
}

static void *hold_another(void *nothing)
{
    EXPECT(pthread_mutex_lock(libc_mutex(1)) == 0);
    EXPECT(!holds(words(0)) && !holds(words(1)));
    EXPECT(shm_sync_i_identify() == SHM_SYNC_OK);
    EXPECT(!holds(words(0)) && holds(words(1)));
    EXPECT(pthread_mutex_unlock(libc_mutex(1)) == 0);
    EXPECT(!holds(words(0)) && !holds(words(1)));
    return nothing;
}

static void hold_in_a_child(void)
{
    shm_sync_condvar *changed = condvar();
    EXPECT(!holds(words(0)));
    uint32_t lock_word = words(0)->lock;
    shm_sync_notify_all(changed);
    EXPECT(words(0)->lock == lock_word);
    EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_OK);
    EXPECT(!holds(words(0)) && holds(words(1)));
    EXPECT(shm_sync_unlock(&mutexes[1]) == SHM_SYNC_OK);
}

/* A stranger can write any distance to the mutex of the waiters. The notifier finds
 * that mutex only if it holds it, as the first of its list. */
static void notifier_knows_what_it_holds(void)
{
    const int entry = (int)offsetof(shm_sync_i_words, next);
    pthread_t thread;
    for (int i = 0; i < MUTEXES; i++) {
        init(i, i == 3);
    }
    condvar()->waiters = 1;
    /* A thread without identity. */
    EXPECT(pthread_mutex_lock(libc_mutex(0)) == 0);
    EXPECT(!holds(words(0)));
    EXPECT(shm_sync_i_identify() == SHM_SYNC_OK);
    EXPECT(holds(words(0)));
    EXPECT(pthread_mutex_unlock(libc_mutex(0)) == 0);
    EXPECT(!holds(words(0)));
    /* The head of an empty list is no mutex. */
    EXPECT(!holds((const char *)shm_sync_i_me()->head - entry));
    EXPECT(!holds(in_words(0, -(int)sizeof(shm_sync_mutex))) && !holds(NULL));

    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    EXPECT(holds(words(0)));
    for (int bytes = 1; bytes < 64; bytes++) {
        EXPECT(!holds(in_words(0, bytes)) && !holds(in_words(0, -bytes)));
    }
    EXPECT(!holds((const char *)shm_sync_i_me()->head - entry));
    /* The word names another thread. */
    words(0)->lock ^= 1;
    EXPECT(!holds(words(0)));
    words(0)->lock ^= 1;
    EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_OK);
    EXPECT(!holds(words(0)) && holds(words(1)));
    EXPECT(shm_sync_unlock(&mutexes[1]) == SHM_SYNC_OK);
    EXPECT(holds(words(0)) && !holds(words(1)));
    EXPECT(pthread_create(&thread, NULL, hold_another, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);

    in_child(hold_in_a_child);
    /* After a bare clone, the list is still that of the parent. */
    long child = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    EXPECT(child >= 0);
    if (child == 0) {
        EXPECT(shm_sync_i_me()->head->list == (const void *)in_words(0, entry));
        EXPECT(!holds(words(0)));
        _exit(0);
    }
    int status;
    EXPECT(waitpid((pid_t)child, &status, 0) == child && status == 0);

    EXPECT(holds(words(0)));
    EXPECT((words(0)->lock & SHM_SYNC_I_WAITERS) == 0);
    errno = 77;
    shm_sync_notify_one(condvar());
    EXPECT((words(0)->lock & SHM_SYNC_I_WAITERS) == 0);
    shm_sync_notify_all(condvar());
    EXPECT((words(0)->lock & SHM_SYNC_I_WAITERS) != 0 && errno == 77);
    shm_sync_i_me()->is_known = false;
    EXPECT(!holds(words(0)));
    shm_sync_i_me()->is_known = true;
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK && words(0)->lock == 0);

    /* With priority inheritance, the kernel owns FUTEX_WAITERS. */
    EXPECT(shm_sync_lock(&mutexes[3]) == SHM_SYNC_OK);
    for (int bytes = 0; bytes < 8; bytes++) {
        EXPECT(!holds(in_words(3, bytes)));
    }
    EXPECT(!holds(words(3)));
    shm_sync_notify_all(condvar());
    EXPECT((words(3)->lock & SHM_SYNC_I_WAITERS) == 0);
    EXPECT(shm_sync_unlock(&mutexes[3]) == SHM_SYNC_OK);
}

/* A thread that waits for a notification. */
struct waiter {
    int mutex;
    bool forgets_layout;
    const shm_sync_i_head *head;
    uint32_t word;
};

static void *wait_once(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    if (waiter->forgets_layout) {
        forget_layout();
    }
    EXPECT(shm_sync_lock(&mutexes[waiter->mutex]) == SHM_SYNC_OK);
    waiter->head = shm_sync_i_me()->head;
    EXPECT(shm_sync_wait(condvar(), &mutexes[waiter->mutex]) == SHM_SYNC_OK);
    waiter->word = words(waiter->mutex)->lock;
    EXPECT(waiter->head->pending == NULL);
    EXPECT(shm_sync_unlock(&mutexes[waiter->mutex]) == SHM_SYNC_OK);
    return NULL;
}

/* Lets a thread wait with a mutex, and notifies it. `is_queued` tells whether
 * list_op_pending names the mutex during the wait. */
static void expect_waiter(
    struct waiter waiter, void (*notify)(shm_sync_condvar *), bool is_queued)
{
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, wait_once, &waiter) == 0);
    while (__atomic_load_n(&condvar()->waiters, __ATOMIC_SEQ_CST) == 0) {
        usleep(100);
    }
    const void *entry = &words(waiter.mutex)->next;
    EXPECT(waiter.head->pending == (is_queued ? entry : NULL));
    notify(condvar());
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT(condvar()->waiters == 0);
    bool is_marked = (waiter.word & SHM_SYNC_I_WAITERS) != 0;
    EXPECT(is_marked == (is_queued && notify == shm_sync_notify_all));
    EXPECT(words(waiter.mutex)->lock == 0);
}

/* A waiter whose generation is over locks as a thread that has slept in the queue. */
static void waiters_are_queued(void)
{
    static void (*const notify[])(shm_sync_condvar *) = {
        shm_sync_notify_one,
        shm_sync_notify_all,
    };
    uint64_t distance = (uint64_t)((uintptr_t)words(0) - (uintptr_t)condvar());
    for (int i = 0; i < 2; i++) {
        for (int mutex = 0; mutex < MUTEXES; mutex++) {
            init(mutex, mutex == 3);
        }
        EXPECT(shm_sync_i_reinit_object(condvar(), SHM_SYNC_I_KIND_CONDVAR, 1) == 0);
        EXPECT(condvar()->mutex == 0);
        expect_waiter((struct waiter){0, false, NULL, 0}, notify[i], true);
        EXPECT(condvar()->mutex == distance);
        /* The notifier finds the mutex, until waiters have used another one. */
        EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
        EXPECT(shm_sync_i_held_mutex(condvar()) == words(0));
        EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
        expect_waiter((struct waiter){1, false, NULL, 0}, notify[i], true);
        EXPECT(condvar()->mutex == UINT64_MAX);
        expect_waiter((struct waiter){0, false, NULL, 0}, notify[i], true);
        EXPECT(condvar()->mutex == UINT64_MAX);
        EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
        EXPECT(shm_sync_i_held_mutex(condvar()) == NULL);
        EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
        /* With an unknown layout, and with priority inheritance, a waiter does not mark
         * the lock word. So notifiers must not move it. */
        EXPECT(shm_sync_i_reinit_object(condvar(), SHM_SYNC_I_KIND_CONDVAR, 1) == 0);
        expect_waiter((struct waiter){0, true, NULL, 0}, notify[i], false);
        EXPECT(condvar()->mutex == UINT64_MAX);
        EXPECT(shm_sync_i_reinit_object(condvar(), SHM_SYNC_I_KIND_CONDVAR, 1) == 0);
        expect_waiter((struct waiter){3, false, NULL, 0}, notify[i], false);
        EXPECT(condvar()->mutex == UINT64_MAX);
    }
}

static void lock_by_fallback_and_die(void)
{
    forget_layout();
    lock_and_die();
}

static void libc_locks_if_the_layout_is_unknown(void)
{
    shm_sync_mutex *mutex = &mutexes[0];
    shm_sync_cause cause;
    init(0, false);
    init(1, true);
    forget_layout();
    for (int round = 0; round < 2; round++) {
        EXPECT(shm_sync_lock(mutex) == SHM_SYNC_OK);
        EXPECT(shm_sync_lock(mutex) == SHM_SYNC_DEADLOCK);
        EXPECT(shm_sync_try_lock(mutex) == SHM_SYNC_WOULD_BLOCK);
        EXPECT(shm_sync_unlock(mutex) == SHM_SYNC_OK);
        EXPECT(shm_sync_unlock(mutex) == SHM_SYNC_NOT_HELD);
    }
    EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_UNSUPPORTED);
    for (int by_fallback = 0; by_fallback < 2; by_fallback++) {
        pid_t dead =
            in_child(by_fallback == 1 ? lock_by_fallback_and_die : lock_and_die);
        EXPECT(shm_sync_lock(mutex) == SHM_SYNC_POISONED);
        EXPECT(shm_sync_poison_cause(mutex, &cause) == SHM_SYNC_POISONED);
        EXPECT(cause.kind == SHM_SYNC_OWNER_DIED && (pid_t)cause.pid == dead);
        EXPECT(shm_sync_recover(mutex) == SHM_SYNC_OK);
        EXPECT(shm_sync_unlock(mutex) == SHM_SYNC_OK);
    }
    leave_unrecoverable(false, false);
    EXPECT(shm_sync_lock(mutex) == SHM_SYNC_UNRECOVERABLE);
}

static int ready[2];

static void hold_until_killed(void)
{
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    EXPECT(write(ready[1], "r", 1) == 1);
    pause();
}

/* Returns how often the calling thread has slept. */
static long sleeps(void)
{
    struct rusage usage;
    EXPECT(getrusage(RUSAGE_THREAD, &usage) == 0);
    return usage.ru_nvcsw;
}

/* The deadline is one of the monotonic clock, by which libc may be unable to wait. */
static void timeouts_of_each_way(void)
{
    char byte;
    init(0, false);
    EXPECT(pipe(ready) == 0);
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        hold_until_killed();
    }
    EXPECT(read(ready[0], &byte, 1) == 1);
    for (int by_fallback = 0; by_fallback < 2; by_fallback++) {
        /* Below and above the time between two rechecks. */
        static const uint64_t timeouts[] = {0, 40, 400};
        if (by_fallback == 1) {
            forget_layout();
        }
        for (int i = 0; i < 3; i++) {
            uint64_t timeout = timeouts[i] * MILLISECOND;
            uint64_t start = shm_sync_i_now();
            long slept = sleeps();
            EXPECT(shm_sync_lock_for(&mutexes[0], timeout) == SHM_SYNC_TIMED_OUT);
            uint64_t waited = shm_sync_i_now() - start;
            EXPECT(waited >= timeout && waited < timeout + 20000 * MILLISECOND);
            EXPECT(timeout == 0 || sleeps() > slept);
        }
    }
    /* The kernel wakes a waiter of libc when the holder dies. */
    EXPECT(kill(child, SIGKILL) == 0);
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_POISONED);
    EXPECT(waitpid(child, NULL, 0) == child);
}

#ifdef __GLIBC__

static void libc_registers_the_list(void)
{
}

static void waiters_of_libc_are_announced(void)
{
}

static void libc_makes_consistent(void)
{
}

#else

static void *look_at_the_list(void *nothing)
{
    shm_sync_i_head *head;
    size_t len;
    EXPECT(syscall(SYS_get_robust_list, 0L, &head, &len) == 0 && head == NULL);
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
    EXPECT(syscall(SYS_get_robust_list, 0L, &head, &len) == 0);
    EXPECT(head == shm_sync_i_me()->head);
    /* The word before is another variable of musl. */
    void **before = (void **)head - 1;
    void *value = *before;
    EXPECT(value != (const void *)&words(0)->next);
    EXPECT(shm_sync_lock(&mutexes[1]) == SHM_SYNC_OK && *before == value);
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK && *before == value);
    EXPECT(shm_sync_unlock(&mutexes[1]) == SHM_SYNC_OK && *before == value);
    return nothing;
}

static void libc_registers_the_list(void)
{
    pthread_t thread;
    init(0, false);
    init(1, false);
    EXPECT(pthread_create(&thread, NULL, look_at_the_list, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
}

/* A waiter of musl that was woken counts itself, and has not yet set FUTEX_WAITERS
 * again. Each locker must set it, or the kernel wakes no thread when that one dies. */
static void waiters_of_libc_are_announced(void)
{
    init(0, false);
    words(0)->waiters = 1;
    for (int slowly = 0; slowly < 2; slowly++) {
        shm_sync_result result = SHM_SYNC_OK;
        if (slowly == 0) {
            result = shm_sync_lock(&mutexes[0]);
        } else {
            bool died = false;
            result = shm_sync_i_lock_slow(&mutexes[0].lock, SHM_SYNC_I_POISON,
                SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER, &died);
        }
        EXPECT(result == SHM_SYNC_OK);
        EXPECT(words(0)->lock == ((uint32_t)gettid() | SHM_SYNC_I_WAITERS));
        EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
    }
    in_child(lock_and_die);
    EXPECT(words(0)->lock == (SHM_SYNC_I_WAITERS | SHM_SYNC_I_OWNER_DIED));
    words(0)->lock = SHM_SYNC_I_OWNER_DIED;
    EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_POISONED);
    EXPECT(words(0)->lock == ((uint32_t)gettid() | SHM_SYNC_I_WAITERS));
    EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
}

/* libc accepts what the header has locked after an owner death. */
static void libc_makes_consistent(void)
{
    for (int with_inheritance = 0; with_inheritance < 2; with_inheritance++) {
        init(0, with_inheritance == 1);
        in_child(lock_and_die);
        EXPECT(shm_sync_i_identify() == SHM_SYNC_OK);
        int code = shm_sync_i_pthread_lock(
            &mutexes[0].lock.pthread, SHM_SYNC_I_WAIT, SHM_SYNC_I_NEVER);
        EXPECT(code == EOWNERDEAD);
        EXPECT(pthread_mutex_consistent(libc_mutex(0)) == 0);
        EXPECT(pthread_mutex_unlock(libc_mutex(0)) == 0);
        EXPECT(shm_sync_lock(&mutexes[0]) == SHM_SYNC_OK);
        EXPECT(shm_sync_unlock(&mutexes[0]) == SHM_SYNC_OK);
    }
}

#endif

#define CASE(name) {#name, name}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(layout_is_known),
    CASE(words_are_those_that_libc_leaves),
    CASE(list_is_that_of_libc),
    CASE(deaths_are_seen_by_each_way),
    CASE(thread_ends_with_locks),
    CASE(owner_death_stays_until_consistent),
    CASE(unrecoverable_is_refused),
    CASE(unrecoverable_seat_is_not_occupied),
    CASE(fork_inside_a_lock),
    CASE(libc_locks_first_after_a_fork),
    CASE(raw_clone_is_refused),
    CASE(notifier_knows_what_it_holds),
    CASE(waiters_are_queued),
    CASE(libc_locks_if_the_layout_is_unknown),
    CASE(timeouts_of_each_way),
    CASE(libc_registers_the_list),
    CASE(waiters_of_libc_are_announced),
    CASE(libc_makes_consistent),
};

/* Without an argument, lists the cases. */
int main(int count, char **arguments)
{
    mutexes = (shm_sync_mutex *)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT((void *)mutexes != MAP_FAILED);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (count < 2) {
            puts(cases[i].name);
        } else if (strcmp(cases[i].name, arguments[1]) == 0) {
            alarm(60);
            cases[i].run();
            return 0;
        }
    }
    return count < 2 ? 0 : 2;
}
