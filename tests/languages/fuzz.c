/* Opens segments with random damage, and uses all objects that are found. The arguments
 * are a seed and a number of seconds. The sanitizers end the program at a mistake, and
 * its watchdog if a call does not return. */
#include "image.h"

static uint64_t state;

static uint64_t random_word(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t below(uint64_t limit)
{
    return random_word() % limit;
}

static const char *const paths[] = {"", ".mutex", ".condvar", ".event", ".semaphore",
    ".channel", ".pipe", ".array", ".array[0]", ".array[2]", ".array[3]", "array",
    ".array[99999999999999999999]", ".padded", ".mutex.data", ".array[1].data", ".",
    "[", "[0]", "[]", ".array[", ".array[1", ".array[-1]", ".padded.data",
    ".pipe.channel", ".channel.senders", ".channel.senders.seats[1]",
    ".channel.slots[7]", ".channel.slots", ".head", ".tail", ".tail[0]", ".tail[2]",
    ".tail[3]", ".tail[1].x"};

static uint64_t interesting(const struct image *image)
{
    const uint64_t numbers[] = {0, 1, 2, 3, 7, 8, 24, 63, 64, 72, 127, 128, 256, HEADER,
        4096, image->len, image->value_at, WORLD_SIZE, WORLD_SIZE - 1, WORLD_SIZE + 1,
        image->len + 1, UINT64_MAX, UINT64_MAX - 7, INT64_MAX, UINT32_MAX,
        UINT64_C(1) << 63, UINT64_C(1) << 31, UINT64_C(1) << 61};
    return numbers[below(sizeof numbers / sizeof *numbers)];
}

/* Changes something between two offsets of the segment. */
static void damage(struct image *image, size_t from, size_t to)
{
    size_t at = from + below(to - from);
    size_t word = at / 8 * 8;
    if (word < from || word + 8 > to) {
        image->bytes[at] = (unsigned char)random_word();
        return;
    }
    switch (below(4)) {
    case 0: image->bytes[at] = (unsigned char)random_word(); break;
    case 1: image->bytes[at] ^= (unsigned char)(1u << below(8)); break;
    case 2: put(image->bytes + word, interesting(image), 8); break;
    default: {
        size_t other = HEADER + 8 * below((image->value_at - HEADER - 8) / 8);
        put(image->bytes + word, get(image->bytes + other), 8);
    }
    }
}

static void replace(unsigned char *from, size_t len, struct print old, struct print new)
{
    for (size_t at = 0; at + 16 <= len; at += 8) {
        if (get(from + at) == old.half[0] && get(from + at + 8) == old.half[1]) {
            put(from + at, new.half[0], 8);
            put(from + at + 8, new.half[1], 8);
        }
    }
}

/* Makes the fingerprints right again, so that a reader meets the damage behind them. */
static void hash_again(struct image *image)
{
    size_t len = image->types_len;
    unsigned char *types = image->bytes + image->types_at;
    for (size_t at = 0; at + 24 <= len;) {
        uint64_t words = get(types + at + 16);
        if (words > (len - at) / 8 - 3) {
            return;
        }
        struct print old = {{get(types + at), get(types + at + 8)}};
        struct print new = hash(types + at + 24, words);
        replace(types + at, len - at, old, new);
        replace(image->bytes + 56, 16, old, new);
        at += 8 * (3 + words);
    }
}

static volatile unsigned char sink;

/* Fails if the object is not inside the value. Reads its first and its last byte. */
static void check_bounds(const shm_sync_segment *segment, const shm_sync_object *object)
{
    uint64_t at =
        (uint64_t)((unsigned char *)object->at - (unsigned char *)segment->value);
    expect(at <= segment->value_size && object->size <= segment->value_size - at,
        "an object is inside the value");
    if (object->data != NULL) {
        uint64_t data =
            (uint64_t)((unsigned char *)object->data - (unsigned char *)object->at);
        uint64_t count = object->kind == SHM_SYNC_KIND_MUTEX ? 1 : object->count;
        expect(data <= object->size &&
                   (object->data_size == 0 ||
                       count <= (object->size - data) / object->data_size),
            "the data is inside the object");
    }
    if (object->size > 0) {
        sink = *(unsigned char *)object->at;
        sink = ((unsigned char *)object->at)[object->size - 1];
    }
}

static void use_channel(const shm_sync_object *channel)
{
    static unsigned char messages[8 * WORLD_SIZE];
    shm_sync_sender sender;
    shm_sync_receiver receiver;
    uint64_t moved;
    (void)shm_sync_channel_len(channel);
    if (channel->data_size > WORLD_SIZE) {
        fail("a message is inside the value");
    }
    if (shm_sync_sender_open(channel, &sender) != SHM_SYNC_OK) {
        return;
    }
    (void)!shm_sync_send_for(&sender, messages, 0);
    (void)!shm_sync_send_many_for(&sender, messages, 5, 0, &moved);
    if (shm_sync_receiver_open(channel, &receiver) == SHM_SYNC_OK) {
        (void)!shm_sync_recv_for(&receiver, messages, 0);
        (void)!shm_sync_recv_many_for(&receiver, messages, 5, 0, &moved);
        shm_sync_receiver_close(&receiver);
    }
    (void)!shm_sync_try_send(&sender, messages);
    shm_sync_sender_close(&sender);
}

static void use(const shm_sync_object *object)
{
    shm_sync_mutex *mutex = (shm_sync_mutex *)object->at;
    shm_sync_permit permit;
    shm_sync_cause cause;
    shm_sync_result result;
    switch (object->kind) {
    case SHM_SYNC_KIND_MUTEX:
        shm_sync_poison_cause(mutex, &cause);
        result = shm_sync_try_lock(mutex);
        if (result == SHM_SYNC_OK || result == SHM_SYNC_POISONED) {
            expect(shm_sync_unlock(mutex) == SHM_SYNC_OK, "unlock");
        }
        break;
    case SHM_SYNC_KIND_SEMAPHORE:
        (void)shm_sync_semaphore_available(object);
        if (shm_sync_semaphore_try_acquire(object, &permit) == SHM_SYNC_OK) {
            expect(shm_sync_permit_release(&permit) == SHM_SYNC_OK, "release");
        }
        break;
    case SHM_SYNC_KIND_EVENT:
        (void)!shm_sync_event_try_wait((shm_sync_event *)object->at);
        (void)shm_sync_event_set((shm_sync_event *)object->at);
        break;
    case SHM_SYNC_KIND_CONDVAR:
        shm_sync_notify_all((shm_sync_condvar *)object->at);
        break;
    case SHM_SYNC_KIND_CHANNEL:
    case SHM_SYNC_KIND_PIPE: use_channel(object); break;
    case SHM_SYNC_KIND_ANY: break;
    }
}

int main(int count, char **arguments)
{
    expect(count == 3, "the arguments are a seed and seconds");
    state = (strtoull(arguments[1], NULL, 10) + 1) * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t seconds = strtoull(arguments[2], NULL, 10);
    uint64_t end = shm_sync_i_now() + seconds * UINT64_C(1000000000);
    uint64_t runs = 0;
    uint64_t opened = 0;
    uint64_t found = 0;
    /* Each good segment, and its bytes. */
    struct image images[2];
    unsigned char *good[2];
    image_of_world(&images[0], 2 * SIDE);
    image_place_world(&images[0]);
    image_of_tail(&images[1]);
    image_place(&images[1], 24, 8);
    put(images[1].bytes + 72, 3, 8);
    for (int i = 0; i < 2; i++) {
        good[i] = (unsigned char *)malloc(images[i].len);
        expect(good[i] != NULL, "there is memory");
        memcpy(good[i], images[i].bytes, images[i].len);
    }
    size_t usable = sizeof paths / sizeof *paths;
    for (; shm_sync_i_now() < end; runs++) {
        shm_sync_segment segment;
        alarm(20);
        size_t which = runs == 1 || (runs > 1 && below(4) == 0);
        struct image *image = &images[which];
        memcpy(image->bytes, good[which], image->len);
        uint64_t changes = runs < 2 ? 0 : 1 + below(4);
        bool has_other_types = false;
        for (uint64_t i = 0; i < changes; i++) {
            uint64_t zone = below(16);
            if (zone < 3) {
                damage(image, 12, 104);
            } else if (zone < 6 && image->locks_len != 0) {
                damage(image, HEADER, HEADER + image->locks_len);
            } else if (zone < 12 || which == 1) {
                damage(image, image->types_at, image->types_at + image->types_len);
                has_other_types = true;
            } else {
                /* Not the words of locks: the users of a segment are trusted there. */
                size_t index = AT_CHANNEL + SIDE * below(2) + 64;
                damage(image, image->value_at + index, image->value_at + index + 16);
            }
        }
        if (has_other_types && below(8) != 0) {
            hash_again(image);
        }
        shm_sync_result result = image_open(image, &segment, NULL);
        expect(runs > 1 || result == SHM_SYNC_OK, "the good segment can be opened");
        if (result != SHM_SYNC_OK) {
            continue;
        }
        opened += 1;
        for (size_t i = 0; i < usable; i++) {
            shm_sync_object object;
            if (shm_sync_find(&segment, paths[i], SHM_SYNC_KIND_ANY, &object) ==
                SHM_SYNC_OK) {
                found += 1;
                check_bounds(&segment, &object);
                use(&object);
            }
        }
        expect(shm_sync_close(&segment) == SHM_SYNC_OK, "close");
    }
    printf("%llu segments, %llu opened, %llu objects\n", (unsigned long long)runs,
        (unsigned long long)opened, (unsigned long long)found);
    for (int i = 0; i < 2; i++) {
        free(good[i]);
        image_end(&images[i]);
    }
    return 0;
}
