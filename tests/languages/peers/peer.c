/* The peer in C: see protocol.md. */
#define _GNU_SOURCE

#include "world.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND UINT64_C(1000000)

struct peer {
    shm_sync_segment segment;
    bool is_open;
    struct guarded_ledger *ledger;
    shm_sync_object changed;
    shm_sync_object permits;
    shm_sync_object gate;
    shm_sync_object turnstile;
    shm_sync_object bytes;
    shm_sync_permit held[PERMITS];
    size_t held_count;
    shm_sync_sender sender;
    bool is_sending;
    shm_sync_receiver receiver;
    bool is_receiving;
};

static struct peer peer;

/* Ends the program, because the test is wrong or the library is. */
static void fail(const char *what)
{
    fprintf(stderr, "peer.c: %s\n", what);
    exit(1);
}

static const char *name_of(shm_sync_result result)
{
    switch (result) {
    case SHM_SYNC_OK:
        return "ok";
    case SHM_SYNC_POISONED:
        return "poisoned";
    case SHM_SYNC_TIMED_OUT:
        return "timed_out";
    case SHM_SYNC_WOULD_BLOCK:
        return "would_block";
    case SHM_SYNC_DEADLOCK:
        return "deadlock";
    case SHM_SYNC_NOT_HELD:
        return "not_held";
    case SHM_SYNC_NOT_PLACED:
        return "not_placed";
    case SHM_SYNC_TOO_MANY_LOCKS:
        return "too_many_locks";
    case SHM_SYNC_FOREIGN_PID_NAMESPACE:
        return "foreign_pid_namespace";
    case SHM_SYNC_DISCONNECTED:
        return "disconnected";
    case SHM_SYNC_PEER_DIED:
        return "peer_died";
    case SHM_SYNC_NOT_FOUND:
        return "not_found";
    case SHM_SYNC_NO_SUCH_FIELD:
        return "no_such_field";
    case SHM_SYNC_NOT_A_SEGMENT:
        return "not_a_segment";
    case SHM_SYNC_UNSUPPORTED_FORMAT:
        return "unsupported_format";
    case SHM_SYNC_LAYOUT_MISMATCH:
        return "layout_mismatch";
    case SHM_SYNC_CORRUPT:
        return "corrupt";
    case SHM_SYNC_PERMISSION_DENIED:
        return "permission_denied";
    case SHM_SYNC_WRONG_OWNER:
        return "wrong_owner";
    case SHM_SYNC_TOO_PERMISSIVE:
        return "too_permissive";
    case SHM_SYNC_TOO_MANY_ENDPOINTS:
        return "too_many_endpoints";
    case SHM_SYNC_IN_USE:
        return "in_use";
    case SHM_SYNC_STALE:
        return "stale";
    case SHM_SYNC_NO_ROBUST_LISTS:
        return "no_robust_lists";
    case SHM_SYNC_NO_FORK_DETECTION:
        return "no_fork_detection";
    default:
        return second_unit_text(result);
    }
}

static void reply(shm_sync_result result)
{
    puts(name_of(result));
}

/* Replies with the cause if the ledger is poisoned. */
static void reply_of_lock(shm_sync_result result)
{
    shm_sync_cause cause;
    if (result != SHM_SYNC_POISONED) {
        reply(result);
        return;
    }
    if (shm_sync_poison_cause(&peer.ledger->lock, &cause) != SHM_SYNC_POISONED) {
        fail("the mutex is poisoned without a cause");
    }
    printf("poisoned %s %" PRIu32 " %" PRIu32 "\n",
           cause.kind == SHM_SYNC_OWNER_FAILED ? "panicked" : "owner_died", cause.pid,
           cause.tid);
}

static uint64_t number(const char *word)
{
    char *end;
    uint64_t value;
    if (word == NULL) {
        fail("a number is missing");
    }
    value = strtoull(word, &end, 10);
    if (end == word || *end != '\0') {
        fail("a number is wrong");
    }
    return value;
}

/* Changes the ledger, in two steps that a death can separate. */
static void add(struct ledger *ledger)
{
    ledger->total += 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    ledger->check += 1;
}

static void repair(struct ledger *ledger)
{
    ledger->check = ledger->total;
    ledger->inside = 0;
    ledger->repairs += 1;
}

/* Completes a lock, wait or recovery: repairs the ledger if it is poisoned. */
static shm_sync_result repair_if_poisoned(shm_sync_result result, uint64_t *repairs)
{
    if (result != SHM_SYNC_POISONED) {
        return result;
    }
    repair(&peer.ledger->data);
    if (repairs != NULL) {
        *repairs += 1;
    }
    return shm_sync_recover(&peer.ledger->lock);
}

static shm_sync_result open_segment(const char *address, const char *fingerprint)
{
    static const struct {
        const char *path;
        shm_sync_kind kind;
        size_t offset;
    } objects[] = {
        {".changed", SHM_SYNC_KIND_CONDVAR, offsetof(struct peer, changed)},
        {".permits", SHM_SYNC_KIND_SEMAPHORE, offsetof(struct peer, permits)},
        {".gate", SHM_SYNC_KIND_EVENT, offsetof(struct peer, gate)},
        {".turnstile", SHM_SYNC_KIND_EVENT, offsetof(struct peer, turnstile)},
        {".bytes", SHM_SYNC_KIND_CHANNEL, offsetof(struct peer, bytes)},
    };
    shm_sync_object ledger;
    const char *expected = strcmp(fingerprint, "-") == 0 ? NULL : fingerprint;
    shm_sync_result result = shm_sync_open(&peer.segment, address, expected);
    if (result != SHM_SYNC_OK) {
        return result;
    }
    peer.is_open = true;
    result = shm_sync_find(&peer.segment, ".ledger", SHM_SYNC_KIND_MUTEX, &ledger);
    if (result != SHM_SYNC_OK) {
        fail("there is no ledger");
    }
    peer.ledger = (struct guarded_ledger *)ledger.at;
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        shm_sync_object *object =
            (shm_sync_object *)(void *)((char *)&peer + objects[i].offset);
        result = shm_sync_find(&peer.segment, objects[i].path, objects[i].kind, object);
        if (result != SHM_SYNC_OK) {
            fail(objects[i].path);
        }
    }
    return SHM_SYNC_OK;
}

static shm_sync_result close_segment(void)
{
    shm_sync_result result;
    if (!peer.is_open) {
        return SHM_SYNC_OK;
    }
    shm_sync_unlock(&peer.ledger->lock);
    while (peer.held_count > 0) {
        peer.held_count -= 1;
        if (shm_sync_permit_release(&peer.held[peer.held_count]) != SHM_SYNC_OK) {
            fail("a permit can't be released");
        }
    }
    if (peer.is_sending && shm_sync_sender_close(&peer.sender) != SHM_SYNC_OK) {
        fail("a sender can't be closed");
    }
    if (peer.is_receiving && shm_sync_receiver_close(&peer.receiver) != SHM_SYNC_OK) {
        fail("a receiver can't be closed");
    }
    result = shm_sync_close(&peer.segment);
    memset(&peer, 0, sizeof peer);
    return result;
}

static shm_sync_kind kind_of(const char *name)
{
    static const struct {
        const char *name;
        shm_sync_kind kind;
    } kinds[] = {
        {"ShmMutex", SHM_SYNC_KIND_MUTEX},   {"ShmCondvar", SHM_SYNC_KIND_CONDVAR},
        {"ShmEvent", SHM_SYNC_KIND_EVENT},   {"ShmSemaphore", SHM_SYNC_KIND_SEMAPHORE},
        {"ShmChannel", SHM_SYNC_KIND_CHANNEL},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            return kinds[i].kind;
        }
    }
    fail("the kind is unknown");
    return SHM_SYNC_KIND_MUTEX;
}

static shm_sync_result increment(uint64_t times, uint64_t *repairs)
{
    for (uint64_t i = 0; i < times; i++) {
        shm_sync_result result =
            repair_if_poisoned(shm_sync_lock(&peer.ledger->lock), repairs);
        if (result != SHM_SYNC_OK) {
            return result;
        }
        add(&peer.ledger->data);
        result = shm_sync_unlock(&peer.ledger->lock);
        if (result != SHM_SYNC_OK) {
            return result;
        }
    }
    return SHM_SYNC_OK;
}

static shm_sync_result worker(uint64_t index, uint64_t times)
{
    char path[32];
    shm_sync_object object;
    shm_sync_result result;
    snprintf(path, sizeof path, ".workers[%" PRIu64 "].lock", index);
    result = shm_sync_find(&peer.segment, path, SHM_SYNC_KIND_MUTEX, &object);
    for (uint64_t i = 0; i < times && result == SHM_SYNC_OK; i++) {
        result = second_unit_add((struct guarded_number *)object.at);
    }
    return result;
}

static shm_sync_result take_turn(uint64_t turn, const char *notify)
{
    shm_sync_condvar *changed = (shm_sync_condvar *)peer.changed.at;
    shm_sync_result result = shm_sync_lock(&peer.ledger->lock);
    if (result != SHM_SYNC_OK) {
        return result;
    }
    peer.ledger->data.turn = turn;
    if (strcmp(notify, "one") == 0) {
        shm_sync_notify_one(changed);
    } else {
        shm_sync_notify_all(changed);
    }
    return shm_sync_unlock(&peer.ledger->lock);
}

static uint64_t now(void)
{
    struct timespec time;
    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0) {
        fail("there is no clock");
    }
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

/* Waits for a turn. Replies. */
static void wait_for_turn(uint64_t turn, const char *milliseconds)
{
    shm_sync_condvar *changed = (shm_sync_condvar *)peer.changed.at;
    uint64_t until =
        milliseconds == NULL ? 0 : now() + number(milliseconds) * MILLISECOND;
    shm_sync_result result = shm_sync_lock(&peer.ledger->lock);
    if (result != SHM_SYNC_OK && result != SHM_SYNC_POISONED) {
        reply(result);
        return;
    }
    while (result == SHM_SYNC_OK && peer.ledger->data.turn != turn) {
        if (milliseconds == NULL) {
            result = shm_sync_wait(changed, &peer.ledger->lock);
            continue;
        }
        uint64_t time = now();
        if (time >= until) {
            result = SHM_SYNC_TIMED_OUT;
            break;
        }
        result = shm_sync_wait_for(changed, &peer.ledger->lock, until - time);
        if (result == SHM_SYNC_TIMED_OUT) {
            result = SHM_SYNC_OK; /* the loop looks again */
        }
    }
    reply_of_lock(result);
    if (result == SHM_SYNC_POISONED
        && repair_if_poisoned(result, NULL) != SHM_SYNC_OK) {
        fail("it is not recovered");
    }
    if (shm_sync_unlock(&peer.ledger->lock) != SHM_SYNC_OK) {
        fail("it is not locked after a wait");
    }
}

static shm_sync_result wait_once(uint64_t timeout)
{
    shm_sync_condvar *changed = (shm_sync_condvar *)peer.changed.at;
    shm_sync_result result = shm_sync_lock(&peer.ledger->lock);
    if (result != SHM_SYNC_OK) {
        return result;
    }
    result = shm_sync_wait_for(changed, &peer.ledger->lock, timeout);
    if (shm_sync_unlock(&peer.ledger->lock) != SHM_SYNC_OK) {
        fail("it is not locked after a wait");
    }
    return result;
}

static shm_sync_result hand_over(uint64_t me, uint64_t other, uint64_t rounds)
{
    shm_sync_condvar *changed = (shm_sync_condvar *)peer.changed.at;
    shm_sync_result result = shm_sync_lock(&peer.ledger->lock);
    if (result != SHM_SYNC_OK) {
        return result;
    }
    for (uint64_t round = 0; round < rounds; round++) {
        while (peer.ledger->data.turn != me) {
            result = shm_sync_wait(changed, &peer.ledger->lock);
            if (result != SHM_SYNC_OK) {
                return result;
            }
        }
        add(&peer.ledger->data);
        peer.ledger->data.turn = other;
        shm_sync_notify_one(changed);
    }
    return shm_sync_unlock(&peer.ledger->lock);
}

/* Keeps a permit. Replies. */
static void keep_permit(shm_sync_result result, shm_sync_permit permit)
{
    if (result != SHM_SYNC_OK) {
        reply(result);
        return;
    }
    printf("ok %" PRIu64 " %d\n", (uint64_t)permit.index, permit.after_death ? 1 : 0);
    peer.held[peer.held_count] = permit;
    peer.held_count += 1;
}

static shm_sync_event *event_of(const char *name)
{
    shm_sync_object *object =
        strcmp(name, "gate") == 0 ? &peer.gate : &peer.turnstile;
    return (shm_sync_event *)object->at;
}

static shm_sync_result send_or_receive(uint64_t me)
{
    uint8_t byte = (uint8_t)me;
    shm_sync_result result;
    if (me % 2 == 0) {
        result = shm_sync_send_for(&peer.sender, &byte, MILLISECOND);
    } else {
        result = shm_sync_recv_for(&peer.receiver, &byte, MILLISECOND);
        if (result == SHM_SYNC_OK && (byte % 2 != 0 || byte > 7)) {
            fail("a byte was not sent");
        }
    }
    switch (result) {
    case SHM_SYNC_TIMED_OUT:
    case SHM_SYNC_DISCONNECTED:
    case SHM_SYNC_PEER_DIED:
        return SHM_SYNC_OK;
    default:
        return result;
    }
}

/* One round under the lock of the ledger. */
static shm_sync_result round_in_ledger(uint64_t me, uint64_t round, bool *is_over)
{
    shm_sync_condvar *changed = (shm_sync_condvar *)peer.changed.at;
    struct ledger *ledger = &peer.ledger->data;
    uint64_t repairs = 0;
    shm_sync_result result =
        repair_if_poisoned(shm_sync_lock(&peer.ledger->lock), &repairs);
    if (result != SHM_SYNC_OK) {
        return result;
    }
    if (repairs == 0 && (ledger->inside != 0 || ledger->total != ledger->check)) {
        ledger->violations += 1;
    }
    if (ledger->turn == UINT64_MAX) {
        *is_over = true;
        return shm_sync_unlock(&peer.ledger->lock);
    }
    ledger->inside = me + 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    add(ledger);
    ledger->rounds[me] += 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    ledger->inside = 0;
    if (round % 8 == 0) {
        shm_sync_notify_all(changed);
    }
    if (round % 4 == 0) {
        result = shm_sync_wait_for(changed, &peer.ledger->lock, MILLISECOND);
        if (result == SHM_SYNC_TIMED_OUT) {
            result = SHM_SYNC_OK;
        }
        result = repair_if_poisoned(result, NULL);
        if (result != SHM_SYNC_OK) {
            return result;
        }
    }
    return shm_sync_unlock(&peer.ledger->lock);
}

static shm_sync_result storm(uint64_t me, uint64_t *rounds)
{
    bool is_over = false;
    shm_sync_permit permit;
    shm_sync_result result;
    if (me % 2 == 0) {
        result = shm_sync_sender_open(&peer.bytes, &peer.sender);
        peer.is_sending = result == SHM_SYNC_OK;
    } else {
        result = shm_sync_receiver_open(&peer.bytes, &peer.receiver);
        peer.is_receiving = result == SHM_SYNC_OK;
    }
    for (*rounds = 0; result == SHM_SYNC_OK; *rounds += 1) {
        result = round_in_ledger(me, *rounds, &is_over);
        if (result != SHM_SYNC_OK || is_over) {
            return result;
        }
        result = worker(me % WORKERS, 1);
        if (result != SHM_SYNC_OK) {
            return result;
        }
        result = shm_sync_semaphore_acquire(&peer.permits, &permit);
        if (result != SHM_SYNC_OK) {
            return result;
        }
        result = shm_sync_permit_release(&permit);
        if (result != SHM_SYNC_OK) {
            return result;
        }
        result = send_or_receive(me);
        if (result != SHM_SYNC_OK) {
            return result;
        }
        result = shm_sync_event_set(event_of("turnstile"));
        if (result != SHM_SYNC_OK) {
            return result;
        }
        result = shm_sync_event_wait_for(event_of("turnstile"), MILLISECOND);
        if (result == SHM_SYNC_TIMED_OUT) {
            result = SHM_SYNC_OK;
        }
    }
    return result;
}

/* Executes a command of the channel. Returns false if it is none. */
static bool execute_for_channel(char *words[4])
{
    const char *command = words[0];
    uint8_t byte = 0;
    shm_sync_result result;
    if (strcmp(command, "sender") == 0) {
        result = shm_sync_sender_open(&peer.bytes, &peer.sender);
        peer.is_sending = result == SHM_SYNC_OK;
        reply(result);
    } else if (strcmp(command, "receiver") == 0) {
        result = shm_sync_receiver_open(&peer.bytes, &peer.receiver);
        peer.is_receiving = result == SHM_SYNC_OK;
        reply(result);
    } else if (strcmp(command, "close_sender") == 0) {
        peer.is_sending = false;
        reply(shm_sync_sender_close(&peer.sender));
    } else if (strcmp(command, "close_receiver") == 0) {
        peer.is_receiving = false;
        reply(shm_sync_receiver_close(&peer.receiver));
    } else if (strcmp(command, "send") == 0) {
        byte = (uint8_t)number(words[1]);
        reply(shm_sync_send(&peer.sender, &byte));
    } else if (strcmp(command, "try_send") == 0) {
        byte = (uint8_t)number(words[1]);
        reply(shm_sync_try_send(&peer.sender, &byte));
    } else if (strcmp(command, "send_for") == 0) {
        byte = (uint8_t)number(words[1]);
        reply(shm_sync_send_for(&peer.sender, &byte, number(words[2]) * MILLISECOND));
    } else if (strcmp(command, "flood") == 0) {
        uint64_t left = number(words[2]);
        byte = (uint8_t)number(words[1]);
        result = SHM_SYNC_OK;
        while (left > 0 && result == SHM_SYNC_OK) {
            result = shm_sync_send(&peer.sender, &byte);
            left -= 1;
        }
        reply(result);
    } else if (strcmp(command, "drain") == 0) {
        uint64_t count = 0;
        uint64_t sum = 0;
        while ((result = shm_sync_recv(&peer.receiver, &byte)) == SHM_SYNC_OK) {
            count += 1;
            sum += byte;
        }
        if (result == SHM_SYNC_DISCONNECTED) {
            printf("ok %" PRIu64 " %" PRIu64 "\n", count, sum);
        } else {
            reply(result);
        }
    } else if (strstr(command, "recv") != NULL) {
        if (strcmp(command, "recv") == 0) {
            result = shm_sync_recv(&peer.receiver, &byte);
        } else if (strcmp(command, "try_recv") == 0) {
            result = shm_sync_try_recv(&peer.receiver, &byte);
        } else {
            result = shm_sync_recv_for(&peer.receiver, &byte,
                                       number(words[1]) * MILLISECOND);
        }
        if (result == SHM_SYNC_OK) {
            printf("ok %d\n", byte);
        } else {
            reply(result);
        }
    } else {
        return false;
    }
    return true;
}

/* Executes a command of the ledger. Returns false if it is none. */
static bool execute_for_ledger(char *words[4])
{
    const char *command = words[0];
    struct guarded_ledger *ledger = peer.ledger;
    uint64_t count = 0;
    shm_sync_result result;
    if (strcmp(command, "lock") == 0) {
        reply_of_lock(shm_sync_lock(&ledger->lock));
    } else if (strcmp(command, "try_lock") == 0) {
        reply_of_lock(shm_sync_try_lock(&ledger->lock));
    } else if (strcmp(command, "lock_for") == 0) {
        reply_of_lock(shm_sync_lock_for(&ledger->lock, number(words[1]) * MILLISECOND));
    } else if (strcmp(command, "unlock") == 0) {
        reply(shm_sync_unlock(&ledger->lock));
    } else if (strcmp(command, "recover") == 0) {
        reply(repair_if_poisoned(SHM_SYNC_POISONED, NULL));
    } else if (strcmp(command, "cause") == 0) {
        shm_sync_cause cause;
        reply_of_lock(shm_sync_poison_cause(&ledger->lock, &cause));
    } else if (strcmp(command, "tear") == 0) {
        ledger->data.total += 1;
        reply(SHM_SYNC_OK);
    } else if (strcmp(command, "fail") == 0) {
        result = shm_sync_lock(&ledger->lock);
        if (result == SHM_SYNC_OK) {
            ledger->data.total += 1;
            result = shm_sync_poison(&ledger->lock);
        }
        if (result == SHM_SYNC_OK) {
            result = shm_sync_unlock(&ledger->lock);
        }
        reply(result);
    } else if (strcmp(command, "read") == 0) {
        struct ledger copy;
        result = shm_sync_lock(&ledger->lock);
        if (result != SHM_SYNC_OK) {
            reply_of_lock(result);
            return true;
        }
        copy = ledger->data;
        result = shm_sync_unlock(&ledger->lock);
        if (result == SHM_SYNC_OK) {
            printf("ok %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", copy.total,
                   copy.check, copy.turn, copy.repairs);
        } else {
            reply(result);
        }
    } else if (strcmp(command, "increment") == 0) {
        result = increment(number(words[1]), &count);
        if (result == SHM_SYNC_OK) {
            printf("ok %" PRIu64 "\n", count);
        } else {
            reply(result);
        }
    } else if (strcmp(command, "worker") == 0) {
        reply(worker(number(words[1]), number(words[2])));
    } else if (strcmp(command, "turn") == 0) {
        reply(take_turn(number(words[1]), words[2]));
    } else if (strcmp(command, "wait") == 0) {
        wait_for_turn(number(words[1]), NULL);
    } else if (strcmp(command, "wait_for") == 0) {
        wait_for_turn(number(words[1]), words[2]);
    } else if (strcmp(command, "wait_once") == 0) {
        reply(wait_once(number(words[1]) * MILLISECOND));
    } else if (strcmp(command, "hand_over") == 0) {
        reply(hand_over(number(words[1]), number(words[2]), number(words[3])));
    } else if (strcmp(command, "storm") == 0) {
        result = storm(number(words[1]), &count);
        if (result == SHM_SYNC_OK) {
            printf("ok %" PRIu64 "\n", count);
        } else {
            reply(result);
        }
    } else {
        return false;
    }
    return true;
}

static void execute(char *words[4])
{
    const char *command = words[0];
    shm_sync_permit permit;
    shm_sync_result result;
    memset(&permit, 0, sizeof permit);
    if (strcmp(command, "open") == 0) {
        reply(open_segment(words[1], words[2]));
    } else if (strcmp(command, "close") == 0) {
        reply(close_segment());
    } else if (strcmp(command, "find") == 0) {
        shm_sync_object object;
        reply(shm_sync_find(&peer.segment, words[1], kind_of(words[2]), &object));
    } else if (strcmp(command, "acquire") == 0) {
        result = shm_sync_semaphore_acquire(&peer.permits, &permit);
        keep_permit(result, permit);
    } else if (strcmp(command, "try_acquire") == 0) {
        result = shm_sync_semaphore_try_acquire(&peer.permits, &permit);
        keep_permit(result, permit);
    } else if (strcmp(command, "acquire_for") == 0) {
        uint64_t timeout = number(words[1]) * MILLISECOND;
        result = shm_sync_semaphore_acquire_for(&peer.permits, timeout, &permit);
        keep_permit(result, permit);
    } else if (strcmp(command, "release") == 0) {
        if (peer.held_count == 0) {
            fail("there is no permit");
        }
        peer.held_count -= 1;
        reply(shm_sync_permit_release(&peer.held[peer.held_count]));
    } else if (strcmp(command, "available") == 0) {
        uint64_t count = shm_sync_semaphore_available(&peer.permits);
        printf("ok %" PRIu64 "\n", count);
    } else if (strcmp(command, "set") == 0) {
        reply(shm_sync_event_set(event_of(words[1])));
    } else if (strcmp(command, "reset") == 0) {
        shm_sync_event_reset(event_of(words[1]));
        reply(SHM_SYNC_OK);
    } else if (strcmp(command, "is_set") == 0) {
        printf("ok %d\n", shm_sync_event_is_set(event_of(words[1])) ? 1 : 0);
    } else if (strcmp(command, "await") == 0) {
        uint64_t timeout = number(words[2]) * MILLISECOND;
        reply(shm_sync_event_wait_for(event_of(words[1]), timeout));
    } else if (!execute_for_channel(words) && !execute_for_ledger(words)) {
        fail(command);
    }
}

int main(void)
{
    char line[512];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *words[4] = {NULL, NULL, NULL, NULL};
        char *rest = line;
        size_t count = 0;
        for (char *word; (word = strtok_r(rest, " \n", &rest)) != NULL && count < 4;) {
            words[count] = word;
            count += 1;
        }
        if (count == 0) {
            fail("a command is empty");
        }
        execute(words);
        fflush(stdout);
    }
    return close_segment() == SHM_SYNC_OK ? 0 : 1;
}
