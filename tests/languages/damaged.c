/* What the header does with damaged segments and wrong calls. The first argument is the
 * name of a case. The program ends with status 0 if the header behaves. */
#include "image.h"

static struct image image;
static shm_sync_segment segment;
static shm_sync_object object;

static shm_sync_result open_image(void)
{
    image_place_world(&image);
    return image_open(&image, &segment, NULL);
}

/* Opens the segment, whose objects are good. */
static void open_world(void)
{
    image_of_world(&image, 2 * SIDE);
    shm_sync_result result = open_image();
    expect(result == SHM_SYNC_OK, shm_sync_text(result));
}

static void *find(const char *path, shm_sync_kind kind)
{
    shm_sync_result result = shm_sync_find(&segment, path, kind, &object);
    expect(result == SHM_SYNC_OK, path);
    return object.at;
}

static void expect_corrupt(shm_sync_result result)
{
    expect(result == SHM_SYNC_CORRUPT, shm_sync_text(result));
}

/* All objects of the good segment work. */
static void good_segment(void)
{
    uint64_t message = 77;
    uint64_t count = 0;
    shm_sync_permit permit;
    shm_sync_sender sender;
    shm_sync_receiver receiver;
    open_world();
    for (int i = 0; i < 3; i++) {
        static const char *const paths[] = {".mutex", ".array[2]", ".padded"};
        shm_sync_mutex *mutex = (shm_sync_mutex *)find(paths[i], SHM_SYNC_KIND_MUTEX);
        expect(shm_sync_lock(mutex) == SHM_SYNC_OK, "lock");
        expect(shm_sync_close(&segment) == SHM_SYNC_LOCKS_HELD,
            "close in spite of a lock");
        expect(shm_sync_unlock(mutex) == SHM_SYNC_OK, "unlock");
    }
    find(".semaphore", SHM_SYNC_KIND_SEMAPHORE);
    expect(object.count == 2, "permits");
    expect(shm_sync_semaphore_acquire(&object, &permit) == SHM_SYNC_OK, "acquire");
    expect(
        shm_sync_close(&segment) == SHM_SYNC_LOCKS_HELD, "close in spite of a permit");
    expect(shm_sync_permit_release(&permit) == SHM_SYNC_OK, "release");
    find(".condvar", SHM_SYNC_KIND_CONDVAR);
    shm_sync_event *event = (shm_sync_event *)find(".event", SHM_SYNC_KIND_EVENT);
    expect(shm_sync_event_set(event) == SHM_SYNC_OK, "set");
    find(".channel", SHM_SYNC_KIND_CHANNEL);
    expect(shm_sync_receiver_open(&object, &receiver) == SHM_SYNC_OK, "receiver");
    expect(shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "sender");
    expect(shm_sync_send(&sender, &message) == SHM_SYNC_OK, "send");
    message = 0;
    expect(shm_sync_recv(&receiver, &message) == SHM_SYNC_OK && message == 77, "recv");
    expect(shm_sync_sender_close(&sender) == SHM_SYNC_OK, "close of the sender");
    expect(shm_sync_receiver_close(&receiver) == SHM_SYNC_OK, "close of the receiver");
    find(".pipe", SHM_SYNC_KIND_PIPE);
    expect(shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "writer");
    expect(shm_sync_write(&sender, "abc", 3, &count) == SHM_SYNC_OK && count == 3,
        "write");
    expect(shm_sync_sender_close(&sender) == SHM_SYNC_OK, "close of the writer");
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
}

static void *hold_for_a_moment(void *barrier)
{
    shm_sync_mutex *mutex = (shm_sync_mutex *)segment.value;
    expect(shm_sync_lock(mutex) == SHM_SYNC_OK, "lock");
    pthread_barrier_wait((pthread_barrier_t *)barrier);
    pthread_barrier_wait((pthread_barrier_t *)barrier);
    expect(shm_sync_unlock(mutex) == SHM_SYNC_OK, "unlock");
    return NULL;
}

static void lock_of_another_thread(void)
{
    pthread_barrier_t barrier;
    pthread_t thread;
    open_world();
    expect(pthread_barrier_init(&barrier, NULL, 2) == 0, "pthread_barrier_init");
    expect(pthread_create(&thread, NULL, hold_for_a_moment, &barrier) == 0, "a thread");
    pthread_barrier_wait(&barrier);
    expect(shm_sync_close(&segment) == SHM_SYNC_LOCKS_HELD, "close in spite of a lock");
    pthread_barrier_wait(&barrier);
    expect(pthread_join(thread, NULL) == 0, "the thread ends");
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
}

static void entry_of_no_kind(void)
{
    image_of_world(&image, 2 * SIDE);
    image.locks[0] = 0;
    expect_corrupt(open_image());
}

/* A later version of the format may add kinds. */
static void entry_of_another_kind(void)
{
    open_world();
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
    image.locks[0] = 99;
    expect(open_image() == SHM_SYNC_OK, "open");
    expect_corrupt(shm_sync_find(&segment, ".mutex", SHM_SYNC_KIND_MUTEX, &object));
    find(".array[0]", SHM_SYNC_KIND_MUTEX);
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
    image.locks[4] = 0; /* the size */
    expect_corrupt(open_image());
}

static void rest_of_the_lock_table(void)
{
    image_of_world(&image, 2 * SIDE);
    image.locks_len += 8;
    expect_corrupt(open_image());
}

static void lock_that_is_too_short(void)
{
    image_of_world(&image, 2 * SIDE);
    add_lock(&image, 1, LOCK - 1, WORLD_SIZE - LOCK, 0, 0);
    expect_corrupt(open_image());
}

static void lock_at_odd_address(void)
{
    image_of_world(&image, 2 * SIDE);
    add_lock(&image, 4, LOCK, 4, 0, 0);
    expect_corrupt(open_image());
}

static void locks_at_odd_distance(void)
{
    image_of_world(&image, 2 * SIDE);
    add_lock(&image, 1, LOCK, 0, 2, 68);
    expect_corrupt(open_image());
}

static void lock_outside_the_value(void)
{
    image_of_world(&image, 2 * SIDE);
    add_lock(&image, 1, LOCK, WORLD_SIZE - LOCK + 8, 0, 0);
    expect_corrupt(open_image());
}

static void more_locks_than_room(void)
{
    image_of_world(&image, 2 * SIDE);
    for (int i = 0; i < 100; i++) {
        add_lock(&image, 1, LOCK, 0, WORLD_SIZE / LOCK, 0);
    }
    expect_corrupt(open_image());
}

/* A lock that the lock table does not list: `close` could not see its holder. */
static void lock_that_is_not_listed(void)
{
    static const char *const paths[] = {
        ".mutex", ".array[1]", ".semaphore", ".channel", ".pipe"};
    image_of_world(&image, 2 * SIDE);
    image.locks_len = 0;
    expect(open_image() == SHM_SYNC_OK, "open");
    for (int i = 0; i < 5; i++) {
        expect_corrupt(shm_sync_find(&segment, paths[i], SHM_SYNC_KIND_ANY, &object));
    }
    /* A program that knows the layout finds it nevertheless. */
    shm_sync_mutex *mutex = (shm_sync_mutex *)segment.value;
    expect(shm_sync_lock(mutex) == SHM_SYNC_OK, "lock");
    expect(shm_sync_close(&segment) == SHM_SYNC_LOCKS_HELD, "close unmaps a held lock");
    expect(shm_sync_unlock(mutex) == SHM_SYNC_OK, "unlock");
}

/* Opens the good segment with another number in its header. */
static void expect_mismatch(size_t offset, uint64_t number)
{
    char fingerprint[33];
    open_world();
    shm_sync_fingerprint(&segment, fingerprint);
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
    put(image.bytes + offset, number, 8);
    for (int i = 0; i < 2; i++) {
        shm_sync_result result =
            image_open(&image, &segment, i == 0 ? fingerprint : NULL);
        expect(result == SHM_SYNC_LAYOUT_MISMATCH, shm_sync_text(result));
    }
    image_end(&image);
}

static void other_size_than_the_type(void)
{
    expect_mismatch(40, 0);
    expect_mismatch(40, WORLD_SIZE - 128);
}

static void other_alignment_than_the_type(void)
{
    expect_mismatch(48, 1);
    expect_mismatch(48, 64);
}

static void elements_of_a_type_without(void)
{
    expect_mismatch(72, 1);
    expect_mismatch(72, UINT64_C(1) << 60);
}

static void elements_beyond_the_value(void)
{
    static const struct {
        uint64_t size;
        uint64_t elements;
        shm_sync_result result;
    } tries[] = {{8, 0, SHM_SYNC_OK}, {24, 3, SHM_SYNC_OK}, {24, 4, SHM_SYNC_OK},
        {24, 5, SHM_SYNC_LAYOUT_MISMATCH}, {24, 2, SHM_SYNC_LAYOUT_MISMATCH},
        {20, 3, SHM_SYNC_LAYOUT_MISMATCH}, {24, UINT64_MAX, SHM_SYNC_LAYOUT_MISMATCH},
        {8, UINT64_C(1) << 62, SHM_SYNC_LAYOUT_MISMATCH}};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        image_of_tail(&image);
        image_place(&image, tries[i].size, 8);
        put(image.bytes + 72, tries[i].elements, 8);
        shm_sync_result result = image_open(&image, &segment, NULL);
        expect(result == tries[i].result, shm_sync_text(result));
        if (result == SHM_SYNC_OK) {
            find("tail", SHM_SYNC_KIND_ANY);
            expect(object.size == 4 * tries[i].elements, "the size of the tail");
            expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
        }
        image_end(&image);
    }
}

/* Alignments above that of a page can't be had. */
static void alignment_beyond_the_page(void)
{
    image_begin(&image);
    add_type(&image, "u64", 1 << 20, 1 << 20);
    image_place(&image, 1 << 20, 1 << 20);
    shm_sync_result result = image_open(&image, &segment, NULL);
    expect(result != SHM_SYNC_OK || (uintptr_t)segment.value % (1 << 20) == 0,
        "the value is not aligned");
}

/* Another program may have written the table: the fingerprint proves the message. */
static void type_with_a_false_fingerprint(void)
{
    image_of_world(&image, 2 * SIDE);
    for (size_t at = image.types_len - 8; at > 0; at -= 8) {
        if (get(image.types + at) == AT_PADDED) {
            put(image.types + at, AT_ARRAY, 8);
            expect_corrupt(open_image());
            return;
        }
    }
    fail("the table has the offset");
}

static void type_table_that_ends_early(void)
{
    image_of_world(&image, 2 * SIDE);
    image.types_len -= 8;
    expect_corrupt(open_image());
}

static void type_table_without_the_root(void)
{
    image_of_world(&image, 2 * SIDE);
    image.root.half[1] ^= 1;
    expect_corrupt(open_image());
}

static void type_table_that_is_too_long(void)
{
    image_begin(&image);
    for (int i = 0; image.types_len <= 8 << 20; i++) {
        add_type(&image, "u64", 8, 8);
    }
    image_place(&image, 8, 8);
    expect_corrupt(image_open(&image, &segment, NULL));
}

static void long_chain_of_padding(void)
{
    image_begin(&image);
    struct print inner = add_type(&image, "u8", 1, 1);
    while (image.types_len < (8 << 20) - 1000) {
        begin_type(&image, "CachePadded", 1, 1, 1);
        add_field(&image, "value", 0, inner);
        inner = end_type(&image);
    }
    image_place(&image, 1, 1);
    if (image_open(&image, &segment, NULL) == SHM_SYNC_OK) {
        expect(shm_sync_find(&segment, "", SHM_SYNC_KIND_ANY, &object) != SHM_SYNC_OK,
            "a chain has no end");
        expect(shm_sync_find(&segment, ".x", SHM_SYNC_KIND_ANY, &object) != SHM_SYNC_OK,
            "a chain has no fields");
    }
}

static void slots_over_the_sides(void)
{
    static const uint64_t slots[] = {0, SIDE, 2 * SIDE - 8, 2 * SIDE + 8};
    for (int i = 0; i < 4; i++) {
        image_of_world(&image, slots[i]);
        expect(open_image() == SHM_SYNC_OK, "open");
        expect_corrupt(
            shm_sync_find(&segment, ".channel", SHM_SYNC_KIND_CHANNEL, &object));
        expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
        image_end(&image);
    }
}

/* The word names this thread, which has never locked the mutex. */
static void unlock_of_a_lock_on_no_list(void)
{
    open_world();
    shm_sync_mutex *mutex = (shm_sync_mutex *)find(".mutex", SHM_SYNC_KIND_MUTEX);
    expect(shm_sync_lock(mutex) == SHM_SYNC_OK, "lock");
    uint32_t word = mutex->lock.pthread.words.lock;
    expect(shm_sync_unlock(mutex) == SHM_SYNC_OK, "unlock");
    mutex->lock.pthread.words.lock = word;
    expect(shm_sync_unlock(mutex) == SHM_SYNC_NOT_HELD, "unlock");
    expect(shm_sync_recover(mutex) == SHM_SYNC_NOT_HELD, "recover");
    expect(shm_sync_poison(mutex) == SHM_SYNC_NOT_HELD, "poison");
}

static void copy_of_a_closed_endpoint(void)
{
    uint64_t message = 1;
    shm_sync_sender sender;
    open_world();
    find(".channel", SHM_SYNC_KIND_CHANNEL);
    expect(shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "open");
    for (int i = 0; i < 2; i++) {
        shm_sync_sender copy = sender;
        expect(shm_sync_sender_close(&sender) == SHM_SYNC_OK, "close");
        /* In the second round another endpoint has the seat. */
        expect(i == 0 || shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "open");
        expect(
            shm_sync_try_send(&copy, &message) == SHM_SYNC_NOT_HELD, "send by a copy");
        expect(shm_sync_wait_for_receiver(&copy, 0) == SHM_SYNC_NOT_HELD,
            "wait by a copy");
        expect(shm_sync_sender_close(&copy) == SHM_SYNC_NOT_HELD, "close of a copy");
        expect(i == 1 || shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "open");
    }
    expect(shm_sync_channel_len(&object) == 0, "no message was sent");
    expect(shm_sync_try_send(&sender, &message) == SHM_SYNC_OK, "send");
    expect(shm_sync_sender_close(&sender) == SHM_SYNC_OK, "close");
}

static void endpoint_that_was_never_opened(void)
{
    uint64_t message = 1;
    shm_sync_sender sender;
    shm_sync_permit permit;
    memset(&sender, 0, sizeof sender);
    memset(&permit, 0, sizeof permit);
    expect(shm_sync_try_send(&sender, &message) == SHM_SYNC_NOT_HELD, "send");
    expect(shm_sync_sender_close(&sender) == SHM_SYNC_NOT_HELD, "close");
    expect(shm_sync_permit_release(&permit) == SHM_SYNC_NOT_HELD, "release");
}

/* A program that describes an object by wrong numbers. */
static void objects_of_no_size(void)
{
    static const uint64_t channels[][5] = {{8, 0, 4, 1, 1}, {8, 3, 4, 1, 1},
        {8, 8, 0, 1, 1}, {8, 8, 4, 0, 1}, {8, 8, 4, 1, 0}, {UINT64_MAX, 8, 4, 1, 1},
        {8, 8, UINT64_MAX, 1, 1}, {8, 8, UINT64_MAX / 8, 1, 1},
        {8, 8, 4, UINT64_MAX, 1}, {8, 8, 4, 1, UINT64_MAX / 64},
        {8, UINT64_C(1) << 63, 4, 1, 1}};
    static _Alignas(128) unsigned char memory[4096];
    shm_sync_sender sender;
    shm_sync_permit permit;
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
        const uint64_t *of = channels[i];
        object = shm_sync_channel_at(memory, of[0], of[1], of[2], of[3], of[4]);
        shm_sync_result result = shm_sync_sender_open(&object, &sender);
        expect(result == SHM_SYNC_INVALID_ARGUMENT, shm_sync_text(result));
    }
    object = shm_sync_pipe_at(memory, 0);
    expect(shm_sync_sender_open(&object, &sender) == SHM_SYNC_INVALID_ARGUMENT, "pipe");
    static const uint64_t permits[] = {0, UINT64_MAX, UINT64_MAX / 64};
    for (int i = 0; i < 3; i++) {
        object = shm_sync_semaphore_at(memory, permits[i]);
        shm_sync_result result = shm_sync_semaphore_try_acquire(&object, &permit);
        expect(result == SHM_SYNC_INVALID_ARGUMENT, shm_sync_text(result));
    }
}

/* A closed segment, and paths and addresses that lead nowhere. */
static void refusals_differ(void)
{
    char fingerprint[33] = "x";
    open_world();
    shm_sync_fingerprint(&segment, fingerprint);
    expect(strlen(fingerprint) == 32, fingerprint);
    shm_sync_result result = shm_sync_find(&segment, "nope", SHM_SYNC_KIND_ANY, &object);
    expect(result == SHM_SYNC_NO_SUCH_FIELD, shm_sync_text(result));
    find("pipe", SHM_SYNC_KIND_PIPE);
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
    shm_sync_fingerprint(&segment, fingerprint);
    expect(fingerprint[0] == '\0', "a closed segment has no fingerprint");
    image_end(&image);
    result = shm_sync_open(&segment, "/shm-sync-test-nothing", NULL);
    expect(result == SHM_SYNC_NOT_FOUND, shm_sync_text(result));
    result = shm_sync_open(&segment, "/shm-sync-test-nothing", "0123");
    expect(result == SHM_SYNC_INVALID_ARGUMENT, shm_sync_text(result));
}

/* Each result has a text of its own. */
static void texts_differ(void)
{
    for (int i = 0; i <= SHM_SYNC_SYSTEM; i++) {
        const char *text = shm_sync_text((shm_sync_result)i);
        for (int other = -1; other < i; other++) {
            const char *another = shm_sync_text((shm_sync_result)other);
            expect(strcmp(text, another) != 0, text);
        }
    }
}

/* Reads and writes that have to wait end in time. */
static void pipe_timeouts(void)
{
    unsigned char bytes[256];
    uint64_t count = 99;
    shm_sync_sender sender;
    shm_sync_receiver receiver;
    memset(bytes, 7, sizeof bytes);
    open_world();
    find(".pipe", SHM_SYNC_KIND_PIPE);
    uint64_t capacity = object.count;
    expect(capacity > 0 && capacity < sizeof bytes, "the pipe is short");
    expect(shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "sender");
    expect(shm_sync_receiver_open(&object, &receiver) == SHM_SYNC_OK, "receiver");
    shm_sync_result result = shm_sync_read_for(&receiver, bytes, 9, 1000000, &count);
    expect(result == SHM_SYNC_TIMED_OUT && count == 0, shm_sync_text(result));
    result = shm_sync_write_for(&sender, bytes, sizeof bytes, 1000000, &count);
    expect(result == SHM_SYNC_OK && count == capacity, shm_sync_text(result));
    result = shm_sync_write_for(&sender, bytes, 1, 1000000, &count);
    expect(result == SHM_SYNC_TIMED_OUT && count == 0, shm_sync_text(result));
    result = shm_sync_read_for(&receiver, bytes, sizeof bytes, UINT64_MAX, &count);
    expect(result == SHM_SYNC_OK && count == capacity, shm_sync_text(result));
    expect(shm_sync_sender_close(&sender) == SHM_SYNC_OK, "close");
    result = shm_sync_read_for(&receiver, bytes, 1, UINT64_MAX, &count);
    expect(result == SHM_SYNC_DISCONNECTED && count == 0, shm_sync_text(result));
    expect(shm_sync_receiver_close(&receiver) == SHM_SYNC_OK, "close");
    find(".channel", SHM_SYNC_KIND_CHANNEL);
    expect(shm_sync_sender_open(&object, &sender) == SHM_SYNC_OK, "sender");
    expect(shm_sync_receiver_open(&object, &receiver) == SHM_SYNC_OK, "receiver");
    result = shm_sync_write_for(&sender, bytes, 1, 0, &count);
    expect(result == SHM_SYNC_INVALID_ARGUMENT, "a channel is no pipe");
    result = shm_sync_read_for(&receiver, bytes, 1, 0, &count);
    expect(result == SHM_SYNC_INVALID_ARGUMENT, "a channel is no pipe");
    expect(shm_sync_sender_close(&sender) == SHM_SYNC_OK, "close");
    expect(shm_sync_receiver_close(&receiver) == SHM_SYNC_OK, "close");
    expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
    image_end(&image);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name)  \
    {               \
#name, name \
    }
    CASE(good_segment),
    CASE(lock_of_another_thread),
    CASE(entry_of_no_kind),
    CASE(entry_of_another_kind),
    CASE(rest_of_the_lock_table),
    CASE(lock_that_is_too_short),
    CASE(lock_at_odd_address),
    CASE(locks_at_odd_distance),
    CASE(lock_outside_the_value),
    CASE(more_locks_than_room),
    CASE(lock_that_is_not_listed),
    CASE(other_size_than_the_type),
    CASE(other_alignment_than_the_type),
    CASE(elements_of_a_type_without),
    CASE(elements_beyond_the_value),
    CASE(alignment_beyond_the_page),
    CASE(type_with_a_false_fingerprint),
    CASE(type_table_that_ends_early),
    CASE(type_table_without_the_root),
    CASE(type_table_that_is_too_long),
    CASE(long_chain_of_padding),
    CASE(slots_over_the_sides),
    CASE(unlock_of_a_lock_on_no_list),
    CASE(copy_of_a_closed_endpoint),
    CASE(endpoint_that_was_never_opened),
    CASE(objects_of_no_size),
    CASE(refusals_differ),
    CASE(texts_differ),
    CASE(pipe_timeouts),
};

/* Without an argument, lists the cases. */
int main(int count, char **arguments)
{
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
