/* The functions of shm_sync.h for Python, which calls them through ctypes. ctypes releases
 * the interpreter's lock during each call, so other threads of Python go on.
 *
 * A call that acquires something sets `*held` before it returns. A signal handler of Python
 * can raise an exception just after the call. The object that owns `*held` then still
 * knows what to release.
 */
#include "include/shm_sync.h"

#define EXPORT __attribute__((visibility("default")))

static int held_after(shm_sync_result result, int *held) {
    *held = result == SHM_SYNC_OK || result == SHM_SYNC_POISONED;
    return (int)result;
}

/* Another thread holds it still after SHM_SYNC_NOT_HELD. */
static int released_after(shm_sync_result result, int *held) {
    if (result != SHM_SYNC_NOT_HELD)
        *held = 0;
    return (int)result;
}

/* ------------------------------------------------------------------------------------
 * Results
 */

/* Returns the name of a result, without its prefix. */
EXPORT const char *shm_sync_py_name(int result) {
    switch ((shm_sync_result)result) {
#define NAME(name) \
    case SHM_SYNC_##name: return #name
        NAME(OK);
        NAME(POISONED);
        NAME(TIMED_OUT);
        NAME(WOULD_BLOCK);
        NAME(DEADLOCK);
        NAME(NOT_HELD);
        NAME(NOT_PLACED);
        NAME(TOO_MANY_LOCKS);
        NAME(FOREIGN_PID_NAMESPACE);
        NAME(UNRECOVERABLE);
        NAME(UNSUPPORTED);
        NAME(DISCONNECTED);
        NAME(PEER_DIED);
        NAME(NOT_FOUND);
        NAME(NO_SUCH_FIELD);
        NAME(NOT_A_SEGMENT);
        NAME(UNSUPPORTED_FORMAT);
        NAME(LAYOUT_MISMATCH);
        NAME(CORRUPT);
        NAME(PERMISSION_DENIED);
        NAME(STALE);
        NAME(INVALID_NAME);
        NAME(INVALID_ARGUMENT);
        NAME(WRONG_OWNER);
        NAME(TOO_PERMISSIVE);
        NAME(IN_USE);
        NAME(UNFINISHED);
        NAME(BLOCKED);
        NAME(UNSEALED);
        NAME(NO_SPACE);
        NAME(NO_PID_NAMESPACE);
        NAME(NO_BOOT_ID);
        NAME(RAW_CLONE);
        NAME(NO_ROBUST_LISTS);
        NAME(NO_FORK_DETECTION);
        NAME(LOCKS_HELD);
        NAME(TOO_MANY_ENDPOINTS);
        NAME(SYSTEM);
#undef NAME
    }
    return "UNKNOWN";
}

EXPORT const char *shm_sync_py_text(int result) {
    return shm_sync_text((shm_sync_result)result);
}

/* Returns the size of what Python keeps for a call: a permit or an endpoint. */
EXPORT uint64_t shm_sync_py_size(const char *which) {
    if (strcmp(which, "permit") == 0)
        return sizeof(shm_sync_permit);
    return strcmp(which, "sender") == 0 ? sizeof(shm_sync_sender)
                                        : sizeof(shm_sync_receiver);
}

/* ------------------------------------------------------------------------------------
 * Threads
 */

/* Returns a number of the calling thread that no other thread of the process gets, also
 * after its end. Python's own numbers are used again, and what Python keeps for a thread
 * can end before the thread, if C code has created it. */
EXPORT uint64_t shm_sync_py_thread(void) {
    static uint64_t count;
    static __thread uint64_t number;
    if (number == 0)
        number = __atomic_add_fetch(&count, 1u, __ATOMIC_RELAXED);
    return number;
}

EXPORT int shm_sync_py_thread_id(void) {
    return (int)shm_sync_i_syscall(SYS_gettid);
}

/* Returns whether this process has a thread with this id. If it has none, the kernel has
 * released the locks of the thread that had the id. */
EXPORT int shm_sync_py_is_thread(int tid) {
    return shm_sync_i_is_own_thread((uint32_t)tid);
}

/* ------------------------------------------------------------------------------------
 * Segments
 */

/* Opens `address`, or the descriptor `fd` if `address` is null. `trust` is an owner, a
 * group and a mode, or null. */
EXPORT int shm_sync_py_open(const char *address, int fd, const char *fingerprint,
    const uint32_t *trust, shm_sync_segment **opened) {
    *opened = NULL;
    shm_sync_segment *segment = (shm_sync_segment *)calloc(1, sizeof *segment);
    if (segment == NULL)
        return SHM_SYNC_SYSTEM;
    shm_sync_options options = shm_sync_default_options();
    if (trust != NULL) {
        options.owner = trust[0];
        options.group = trust[1];
        options.mode = trust[2];
    }
    shm_sync_result result =
        address != NULL ? shm_sync_open_with(segment, address, fingerprint, &options)
                        : shm_sync_open_fd(segment, fd, fingerprint);
    if (result == SHM_SYNC_OK) {
        *opened = segment;
    } else {
        int saved = errno;
        free(segment);
        errno = saved;
    }
    return (int)result;
}

EXPORT int shm_sync_py_close(shm_sync_segment *segment) {
    shm_sync_result result = shm_sync_close(segment);
    if (result != SHM_SYNC_LOCKS_HELD) {
        int saved = errno;
        free(segment);
        errno = saved;
    }
    return (int)result;
}

EXPORT void *shm_sync_py_value(
    const shm_sync_segment *segment, uint64_t *size, uint64_t *len) {
    *size = segment->value_size;
    *len = segment->len;
    return segment->value;
}

/* Copies at most `room` bytes of the type table. Returns its length. */
EXPORT uint64_t shm_sync_py_type_table(
    const shm_sync_segment *segment, void *bytes, uint64_t room) {
    uint64_t len;
    const unsigned char *table = shm_sync_type_table(segment, &len);
    if (len <= room && len != 0)
        memcpy(bytes, table, len);
    return len;
}

/* Checks that the type with this fingerprint is a lock, or another object, that can be
 * used at this offset of the value. */
EXPORT int shm_sync_py_check_object(
    const shm_sync_segment *segment, uint64_t offset, uint64_t low, uint64_t high) {
    const uint64_t fingerprint[2] = {low, high};
    uint64_t end = segment->i_header.type_table_len;
    shm_sync_i_type type;
    shm_sync_object object;
    bool is_known = shm_sync_i_find_type(segment, fingerprint, end, &type) &&
                    shm_sync_i_object_at(segment, &type, offset, &object);
    return is_known ? SHM_SYNC_OK : SHM_SYNC_CORRUPT;
}

EXPORT void shm_sync_py_fingerprint(const shm_sync_segment *segment, char text[33]) {
    shm_sync_fingerprint(segment, text);
}

/* ------------------------------------------------------------------------------------
 * Mutex and condition variable
 */

EXPORT int shm_sync_py_lock_for(shm_sync_mutex *mutex, uint64_t timeout_ns, int *held) {
    return held_after(shm_sync_lock_for(mutex, timeout_ns), held);
}

EXPORT int shm_sync_py_try_lock(shm_sync_mutex *mutex, int *held) {
    return held_after(shm_sync_try_lock(mutex), held);
}

/* Poisons the mutex first if `poison` is not 0. */
EXPORT int shm_sync_py_unlock(shm_sync_mutex *mutex, int poison, int *held) {
    if (poison != 0)
        shm_sync_poison(mutex);
    return released_after(shm_sync_unlock(mutex), held);
}

EXPORT int shm_sync_py_recover(shm_sync_mutex *mutex) {
    return (int)shm_sync_recover(mutex);
}

EXPORT int shm_sync_py_poison(shm_sync_mutex *mutex) {
    return (int)shm_sync_poison(mutex);
}

/* Writes the kind, the process id and the thread id. */
EXPORT int shm_sync_py_poison_cause(const shm_sync_mutex *mutex, uint32_t cause[3]) {
    shm_sync_cause found;
    shm_sync_result result = shm_sync_poison_cause(mutex, &found);
    cause[0] = (uint32_t)found.kind;
    cause[1] = found.pid;
    cause[2] = found.tid;
    return (int)result;
}

EXPORT int shm_sync_py_wait_for(
    shm_sync_condvar *condvar, shm_sync_mutex *mutex, uint64_t timeout_ns, int *held) {
    shm_sync_result result = shm_sync_wait_for(condvar, mutex, timeout_ns);
    *held = result == SHM_SYNC_OK || result == SHM_SYNC_POISONED ||
            result == SHM_SYNC_TIMED_OUT;
    return (int)result;
}

EXPORT void shm_sync_py_notify_one(shm_sync_condvar *condvar) {
    shm_sync_notify_one(condvar);
}

EXPORT void shm_sync_py_notify_all(shm_sync_condvar *condvar) {
    shm_sync_notify_all(condvar);
}

/* ------------------------------------------------------------------------------------
 * Semaphore
 */

EXPORT int shm_sync_py_acquire_for(void *at, uint64_t permits, uint64_t timeout_ns,
    shm_sync_permit *permit, int *held) {
    shm_sync_object semaphore = shm_sync_semaphore_at(at, permits);
    shm_sync_result result =
        timeout_ns == 0
            ? shm_sync_semaphore_try_acquire(&semaphore, permit)
            : shm_sync_semaphore_acquire_for(&semaphore, timeout_ns, permit);
    return held_after(result, held);
}

EXPORT uint64_t shm_sync_py_permit(const shm_sync_permit *permit, int *after_death) {
    *after_death = permit->after_death;
    return permit->index;
}

EXPORT int shm_sync_py_permit_release(shm_sync_permit *permit, int *held) {
    return released_after(shm_sync_permit_release(permit), held);
}

/* Releases a permit as if it had not been acquired: the next holder learns of the death
 * that it reports. */
EXPORT int shm_sync_py_permit_give_back(shm_sync_permit *permit, int *held) {
    if (permit->after_death && permit->i_seat != NULL &&
        shm_sync_i_is_held(&permit->i_seat->lock))
        __atomic_fetch_or(
            &permit->i_seat->lock.record, SHM_SYNC_I_NOTE_DIED, __ATOMIC_RELAXED);
    return released_after(shm_sync_permit_release(permit), held);
}

/* Returns the number of permits of a semaphore of this size. */
EXPORT uint64_t shm_sync_py_permits(uint64_t size) {
    return shm_sync_i_permits_in(size);
}

EXPORT uint64_t shm_sync_py_available(void *at, uint64_t permits) {
    shm_sync_object semaphore = shm_sync_semaphore_at(at, permits);
    return shm_sync_semaphore_available(&semaphore);
}

/* ------------------------------------------------------------------------------------
 * Event
 */

EXPORT int shm_sync_py_event_set(shm_sync_event *event) {
    return (int)shm_sync_event_set(event);
}

EXPORT void shm_sync_py_event_reset(shm_sync_event *event) {
    shm_sync_event_reset(event);
}

EXPORT int shm_sync_py_event_is_set(shm_sync_event *event) {
    return shm_sync_event_is_set(event);
}

/* Sets `*has_reset` if this call has reset the event, which resets itself. */
EXPORT int shm_sync_py_event_wait_for(
    shm_sync_event *event, uint64_t timeout_ns, int *has_reset) {
    shm_sync_result result = shm_sync_event_wait_for(event, timeout_ns);
    *has_reset = result == SHM_SYNC_OK && shm_sync_i_resets_itself(event);
    return (int)result;
}

/* ------------------------------------------------------------------------------------
 * Channel and pipe
 */

/* A channel: its address, the size and alignment of a message, the capacity, and the
 * number of senders and receivers. */
typedef struct channel_words {
    void *at;
    uint64_t numbers[5];
} channel_words;

static shm_sync_object object_of(const channel_words *channel) {
    const uint64_t *n = channel->numbers;
    return shm_sync_channel_at(channel->at, n[0], n[1], n[2], n[3], n[4]);
}

EXPORT uint64_t shm_sync_py_channel_len(const channel_words *channel) {
    shm_sync_object object = object_of(channel);
    return shm_sync_channel_len(&object);
}

EXPORT int shm_sync_py_sender_open(
    const channel_words *channel, shm_sync_sender *end, int *held) {
    shm_sync_object object = object_of(channel);
    return held_after(shm_sync_sender_open(&object, end), held);
}

EXPORT int shm_sync_py_receiver_open(
    const channel_words *channel, shm_sync_receiver *end, int *held) {
    shm_sync_object object = object_of(channel);
    return held_after(shm_sync_receiver_open(&object, end), held);
}

EXPORT int shm_sync_py_sender_close(shm_sync_sender *end, int *held) {
    return released_after(shm_sync_sender_close(end), held);
}

EXPORT int shm_sync_py_receiver_close(shm_sync_receiver *end, int *held) {
    return released_after(shm_sync_receiver_close(end), held);
}

EXPORT int shm_sync_py_send_many_for(shm_sync_sender *end, const void *messages,
    uint64_t count, uint64_t timeout_ns, uint64_t *sent) {
    return (int)shm_sync_send_many_for(end, messages, count, timeout_ns, sent);
}

EXPORT int shm_sync_py_recv_many_for(shm_sync_receiver *end, void *messages,
    uint64_t count, uint64_t timeout_ns, uint64_t *received) {
    return (int)shm_sync_recv_many_for(end, messages, count, timeout_ns, received);
}

EXPORT int shm_sync_py_sender_wait(shm_sync_sender *end, uint64_t timeout_ns) {
    return (int)shm_sync_wait_for_receiver(end, timeout_ns);
}

EXPORT int shm_sync_py_receiver_wait(shm_sync_receiver *end, uint64_t timeout_ns) {
    return (int)shm_sync_wait_for_sender(end, timeout_ns);
}

/* ------------------------------------------------------------------------------------
 * Memory
 */

#define ATOMIC(size, type)                                              \
    EXPORT uint64_t shm_sync_py_load_##size(const type *at) {           \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                   \
    }                                                                   \
    EXPORT uint64_t shm_sync_py_swap_##size(type *at, uint64_t value) { \
        return __atomic_exchange_n(at, (type)value, __ATOMIC_SEQ_CST);  \
    }                                                                   \
    EXPORT uint64_t shm_sync_py_add_##size(type *at, uint64_t value) {  \
        return __atomic_fetch_add(at, (type)value, __ATOMIC_SEQ_CST);   \
    }
ATOMIC(1, uint8_t)
ATOMIC(2, uint16_t)
ATOMIC(4, uint32_t)
ATOMIC(8, uint64_t)
