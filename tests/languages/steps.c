/* The operations that instructions.rs steps through: a library, so that a child of the
 * test calls them in its own process. A test that is linked with musl can't load a
 * library. There a child executes the same code as a program. */
#define _GNU_SOURCE

#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void steps_prepare(const char *address, const char *fingerprint, const char *operation);
void steps_set_stale(const char *address);
void steps_run(void);

struct steps {
    shm_sync_segment segment;
    struct guarded_ledger *ledger;
    shm_sync_condvar *changed;
    shm_sync_object permits;
    shm_sync_event *gate;
    shm_sync_event *turnstile;
    shm_sync_object bytes;
    struct guarded_number *spare;
    shm_sync_permit permit;
    shm_sync_sender sender;
    shm_sync_receiver receiver;
};

static struct steps steps;
static char address_of_segment[256];
static char address_of_stale[256];
static char fingerprint_of_world[64];

static void expect(shm_sync_result result, const char *what)
{
    if (result != SHM_SYNC_OK) {
        fprintf(stderr, "steps.c: %s: %s\n", what, shm_sync_text(result));
        abort();
    }
}

static void *find(const char *path, shm_sync_kind kind, shm_sync_object *object)
{
    expect(shm_sync_find(&steps.segment, path, kind, object), path);
    return object->at;
}

static void add(struct ledger *ledger)
{
    ledger->total += 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    ledger->check += 1;
}

static void nothing(void)
{
}

static void lock(void)
{
    expect(shm_sync_lock(&steps.ledger->lock), "lock");
}

static void try_lock(void)
{
    expect(shm_sync_try_lock(&steps.ledger->lock), "try_lock");
}

static void lock_and_add(void)
{
    lock();
    add(&steps.ledger->data);
}

static void unlock(void)
{
    expect(shm_sync_unlock(&steps.ledger->lock), "unlock");
}

static void section(void)
{
    lock_and_add();
    unlock();
}

static void recover(void)
{
    if (shm_sync_lock(&steps.ledger->lock) != SHM_SYNC_POISONED) {
        abort();
    }
    steps.ledger->data.check = steps.ledger->data.total;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    steps.ledger->data.repairs += 1;
    expect(shm_sync_recover(&steps.ledger->lock), "recover");
    unlock();
}

static void poison(void)
{
    steps.ledger->data.total += 1;
    expect(shm_sync_poison(&steps.ledger->lock), "poison");
    unlock();
}

static void wait_for_turn(void)
{
    while (steps.ledger->data.turn != 7) {
        shm_sync_result result = shm_sync_wait(steps.changed, &steps.ledger->lock);
        expect(result, "wait");
    }
    unlock();
}

static void notify_one(void)
{
    steps.ledger->data.turn = 7;
    shm_sync_notify_one(steps.changed);
    unlock();
}

static void notify_all(void)
{
    steps.ledger->data.turn = 7;
    shm_sync_notify_all(steps.changed);
    unlock();
}

static void acquire(void)
{
    expect(shm_sync_semaphore_acquire(&steps.permits, &steps.permit), "acquire");
}

static void acquire_and_release(void)
{
    acquire();
    expect(shm_sync_permit_release(&steps.permit), "release");
}

static void set_turnstile(void)
{
    expect(shm_sync_event_set(steps.turnstile), "set");
}

static void await_turnstile(void)
{
    expect(shm_sync_event_wait(steps.turnstile), "event_wait");
}

static void open_sender(void)
{
    expect(shm_sync_sender_open(&steps.bytes, &steps.sender), "sender_open");
}

static void open_receiver(void)
{
    expect(shm_sync_receiver_open(&steps.bytes, &steps.receiver), "receiver_open");
}

static void send_byte(void)
{
    uint8_t byte = 9;
    expect(shm_sync_send(&steps.sender, &byte), "send");
}

static void receive_byte(void)
{
    uint8_t byte = 0;
    expect(shm_sync_recv(&steps.receiver, &byte), "recv");
    if (byte != 9) {
        abort();
    }
}

static void open_and_close_ends(void)
{
    open_sender();
    expect(shm_sync_sender_close(&steps.sender), "sender_close");
    open_receiver();
    expect(shm_sync_receiver_close(&steps.receiver), "receiver_close");
}

static void attach_and_detach(void)
{
    shm_sync_segment again;
    expect(shm_sync_open(&again, address_of_segment, fingerprint_of_world), "open");
    expect(shm_sync_close(&again), "close");
}

/* Opens a segment with stale locks, and reinitialises them. */
static void attach_stale(void)
{
    static shm_sync_segment stale;
    expect(shm_sync_open(&stale, address_of_stale, fingerprint_of_world), "open");
}

static const struct {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
} operations[] = {
    {"nothing", nothing, nothing},
    {"lock", nothing, lock},
    {"try_lock", nothing, try_lock},
    {"unlock", lock_and_add, unlock},
    {"section", nothing, section},
    {"recover", nothing, recover},
    {"poison", lock, poison},
    {"wait", lock, wait_for_turn},
    {"notify_one", lock, notify_one},
    {"notify_all", lock, notify_all},
    {"acquire", nothing, acquire},
    {"acquire_and_release", nothing, acquire_and_release},
    {"set", nothing, set_turnstile},
    {"await", nothing, await_turnstile},
    {"send", open_sender, send_byte},
    {"recv", open_receiver, receive_byte},
    {"ends", nothing, open_and_close_ends},
    {"attach", nothing, attach_and_detach},
    {"attach_stale", nothing, attach_stale},
};

static void (*run)(void);

/* The first use of each function in a process takes another path. */
static void warm_up(void)
{
    uint64_t before = steps.spare->data;
    expect(second_unit_add(steps.spare), "second_unit_add");
    if (steps.spare->data != before + 1) {
        abort();
    }
    if (shm_sync_event_wait_for(steps.gate, 1) != SHM_SYNC_TIMED_OUT) {
        abort();
    }
}

void steps_prepare(const char *address, const char *fingerprint, const char *operation)
{
    shm_sync_object object;
    snprintf(address_of_segment, sizeof address_of_segment, "%s", address);
    snprintf(fingerprint_of_world, sizeof fingerprint_of_world, "%s", fingerprint);
    expect(shm_sync_open(&steps.segment, address, fingerprint), "open");
    steps.ledger = (struct guarded_ledger *)find(".ledger", SHM_SYNC_KIND_MUTEX, &object);
    steps.changed = (shm_sync_condvar *)find(".changed", SHM_SYNC_KIND_CONDVAR, &object);
    steps.gate = (shm_sync_event *)find(".gate", SHM_SYNC_KIND_EVENT, &object);
    steps.turnstile = (shm_sync_event *)find(".turnstile", SHM_SYNC_KIND_EVENT, &object);
    steps.spare =
        (struct guarded_number *)find(".workers[0].lock", SHM_SYNC_KIND_MUTEX, &object);
    find(".permits", SHM_SYNC_KIND_SEMAPHORE, &steps.permits);
    find(".bytes", SHM_SYNC_KIND_CHANNEL, &steps.bytes);
    warm_up();
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(operations[i].name, operation) == 0) {
            operations[i].prepare();
            run = operations[i].run;
            return;
        }
    }
    abort();
}

void steps_set_stale(const char *address)
{
    snprintf(address_of_stale, sizeof address_of_stale, "%s", address);
}

void steps_run(void)
{
    run();
}

/* The marks of walker.rs, around the operation. */
static void mark(void)
{
    syscall(SYS_getpgid, 0);
}

/* The arguments are the descriptor of a segment with a flag that the end sets, the
 * arguments of steps_prepare, and that of steps_set_stale. */
int main(int argc, char **argv)
{
    shm_sync_segment flag;
    if (argc != 6) {
        abort();
    }
    expect(shm_sync_open_fd(&flag, atoi(argv[1]), NULL), "open_fd");
    steps_set_stale(argv[5]);
    steps_prepare(argv[2], argv[3], argv[4]);
    mark();
    steps_run();
    __atomic_store_n((bool *)flag.value, true, __ATOMIC_SEQ_CST);
    mark();
    pause();
    return 0;
}
