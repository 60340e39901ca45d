/* Segments that no Rust program makes, for damaged.c and fuzz.c. They are built by
 * docs/format.md, and by no code of the header but its version and its struct of a
 * lock. */
#ifndef IMAGE_H
#define IMAGE_H

#define _GNU_SOURCE

#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER = 448, LOCK = 64, TABLE_MAX = 16 << 20, MESSAGE_MAX = 1024 };

/* Offsets in the value of `image_of_world`. */
enum {
    AT_MUTEX = 0,
    AT_CONDVAR = 72,
    AT_EVENT = 88,
    AT_SEMAPHORE = 128,
    AT_CHANNEL = 384,
    /* A side has its lock, a line, the door and two seats. */
    SIDE = 384,
    SIDE_SEATS = 256,
    AT_PIPE = AT_CHANNEL + 2 * SIDE + 128,
    AT_ARRAY = AT_PIPE + 2 * SIDE + 128,
    AT_PADDED = (AT_ARRAY + 3 * 72 + 127) / 128 * 128,
    WORLD_SIZE = AT_PADDED + 128
};

/* A fingerprint, the lower half first. */
struct print {
    uint64_t half[2];
};

struct image {
    unsigned char *types;
    size_t types_len;
    struct print root;
    unsigned char *locks;
    size_t locks_len;
    /* The segment, after `image_place`. */
    unsigned char *bytes;
    size_t len;
    size_t value_at;
    size_t types_at;
    /* The message of the type that is being described. */
    uint64_t words[MESSAGE_MAX];
    size_t count;
};

/* Numbers of docs/format.md: the library, and the kind of a mutex. */
#ifdef __GLIBC__
enum { LIBC = 1, MUTEX_KIND = 0x92 };
#else
enum { LIBC = 2, MUTEX_KIND = 0x86 };
#endif

static inline _Noreturn void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline void expect(int condition, const char *what)
{
    if (!condition) {
        fail(what);
    }
}

static inline void put(unsigned char *to, uint64_t number, int len)
{
    for (int i = 0; i < len; i++) {
        to[i] = (unsigned char)(number >> (8 * i));
    }
}

static inline uint64_t get(const unsigned char *from)
{
    uint64_t number = 0;
    for (int i = 7; i >= 0; i--) {
        number = number << 8 | from[i];
    }
    return number;
}

static inline uint64_t rotate(uint64_t word, int by)
{
    return word << by | word >> (64 - by);
}

static inline void sip_rounds(uint64_t v[4], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

/* SipHash-2-4 with 128 bits, of `count` words. */
static inline struct print hash(const unsigned char *message, size_t count)
{
    uint64_t k0 = get((const unsigned char *)"shm-sync");
    uint64_t k1 = get((const unsigned char *)" layout\0");
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee,
        k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
    struct print print;
    for (size_t i = 0; i <= count; i++) {
        uint64_t word = i < count ? get(message + 8 * i) : (uint64_t)(count * 8) << 56;
        v[3] ^= word;
        sip_rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xee;
    sip_rounds(v, 4);
    print.half[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    sip_rounds(v, 4);
    print.half[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
    return print;
}

static inline void add_word(struct image *image, uint64_t word)
{
    expect(image->count < MESSAGE_MAX, "the message of a type is short");
    image->words[image->count++] = word;
}

static inline void add_text(struct image *image, unsigned tag, const char *text)
{
    size_t len = strlen(text);
    add_word(image, tag | (uint64_t)len << 8);
    for (size_t at = 0; at < len; at += 8) {
        unsigned char part[8] = {0};
        memcpy(part, text + at, len - at < 8 ? len - at : 8);
        add_word(image, get(part));
    }
}

static inline void begin_type(
    struct image *image, const char *kind, uint64_t size, uint64_t align, int fields)
{
    image->count = 0;
    add_text(image, 1, kind);
    add_word(image, size);
    add_word(image, align);
    add_word(image, (uint64_t)fields);
    add_word(image, 0);
}

static inline void add_field(
    struct image *image, const char *name, uint64_t offset, struct print of)
{
    add_text(image, 2, name);
    add_word(image, offset);
    add_word(image, of.half[0]);
    add_word(image, of.half[1]);
}

static inline struct print end_type(struct image *image)
{
    unsigned char *entry = image->types + image->types_len;
    size_t len = 8 * (3 + image->count);
    expect(image->types_len + len <= TABLE_MAX, "the type table is short");
    for (size_t i = 0; i < image->count; i++) {
        put(entry + 24 + 8 * i, image->words[i], 8);
    }
    image->root = hash(entry + 24, image->count);
    put(entry, image->root.half[0], 8);
    put(entry + 8, image->root.half[1], 8);
    put(entry + 16, image->count, 8);
    image->types_len += len;
    return image->root;
}

static inline struct print add_type(
    struct image *image, const char *kind, uint64_t size, uint64_t align)
{
    begin_type(image, kind, size, align, 0);
    return end_type(image);
}

/* Adds an entry to the lock table: `count` objects at a distance, or one if it is 0. */
static inline void add_lock(struct image *image, int kind, uint64_t size,
    uint64_t offset, uint64_t count, uint64_t stride)
{
    unsigned char *entry = image->locks + image->locks_len;
    expect(image->locks_len + 32 <= TABLE_MAX, "the lock table is short");
    memset(entry, 0, 32);
    put(entry, (uint64_t)kind, 1);
    put(entry + 1, count != 0, 1);
    put(entry + 4, size, 4);
    put(entry + 8, offset, 8);
    put(entry + 16, count, 8);
    put(entry + 24, stride, 8);
    image->locks_len += count != 0 ? 32 : 16;
}

static inline void image_begin(struct image *image)
{
    memset(image, 0, sizeof *image);
    image->types = (unsigned char *)calloc(1, TABLE_MAX);
    image->locks = (unsigned char *)calloc(1, TABLE_MAX);
    expect(image->types != NULL && image->locks != NULL, "there is memory");
}

static inline void image_end(struct image *image)
{
    free(image->types);
    free(image->locks);
    free(image->bytes);
}

/* Lays out the segment, with a value of zeros. */
static inline void image_place(struct image *image, uint64_t size, uint64_t align)
{
    size_t border = align > 64 ? align : 64;
    image->types_at = (HEADER + image->locks_len + 7) / 8 * 8;
    image->value_at =
        (image->types_at + image->types_len + border - 1) / border * border;
    image->len = image->value_at + size;
    free(image->bytes);
    image->bytes = (unsigned char *)calloc(1, image->len);
    expect(image->bytes != NULL, "there is memory");
    unsigned char *bytes = image->bytes;
    memcpy(bytes, "shmsync", 8);
    put(bytes + 8, SHM_SYNC_FORMAT, 4);
    bytes[12] = LIBC;
    bytes[13] = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 1 : 2;
    bytes[14] = sizeof(void *);
    bytes[15] = sizeof(pthread_mutex_t);
    bytes[16] = sizeof(pthread_cond_t);
    put(bytes + 20, shm_sync_i_read_pid_namespace(), 4);
    put(bytes + 24, image->len, 8);
    put(bytes + 32, image->value_at, 8);
    put(bytes + 40, size, 8);
    put(bytes + 48, align, 8);
    put(bytes + 56, image->root.half[0], 8);
    put(bytes + 64, image->root.half[1], 8);
    put(bytes + 88, image->locks_len, 4);
    put(bytes + 100, image->types_len, 4);
    memcpy(bytes + HEADER, image->locks, image->locks_len);
    memcpy(bytes + image->types_at, image->types, image->types_len);
}

/* Initialises the lock at an offset of the value, free. */
static inline void place_lock(struct image *image, size_t offset)
{
    unsigned char *at = image->bytes + image->value_at + offset;
    shm_sync_i_lock lock;
    memset(&lock, 0, sizeof lock);
    lock.pthread.words.kind = MUTEX_KIND;
    lock.pid_namespace = shm_sync_i_read_pid_namespace();
    memcpy(at, &lock, sizeof lock);
}

/* Describes one side of a channel. */
static inline struct print add_side(struct image *image, uint64_t ends,
    struct print seat, struct print word, struct print count, struct print flag)
{
    begin_type(image, "array", 64 * ends, 64, 1);
    add_field(image, "0", ends, seat);
    struct print seats = end_type(image);
    begin_type(image, "Side", SIDE, 128, 7);
    add_field(image, "lock", 0, seat);
    add_field(image, "index", 64, word);
    add_field(image, "known", 72, word);
    add_field(image, "asleep", 128, count);
    add_field(image, "is_left", 144, flag);
    add_field(image, "arrivals", 152, word);
    add_field(image, "seats", SIDE_SEATS, seats);
    return end_type(image);
}

/* Offsets of the seats in the value. The lock of a side with one seat is not used. */
static const size_t seats_of_world[] = {AT_SEMAPHORE, AT_SEMAPHORE + 128,
    AT_SEMAPHORE + 192, AT_CHANNEL, AT_CHANNEL + SIDE_SEATS,
    AT_CHANNEL + SIDE_SEATS + 64, AT_CHANNEL + SIDE, AT_CHANNEL + SIDE + SIDE_SEATS,
    AT_CHANNEL + SIDE + SIDE_SEATS + 64, AT_PIPE + SIDE_SEATS,
    AT_PIPE + SIDE + SIDE_SEATS};
static const size_t mutexes_of_world[] = {
    AT_MUTEX, AT_ARRAY, AT_ARRAY + 72, AT_ARRAY + 144, AT_PADDED};

/* Describes a value with one object of each kind. The slots of its channel begin at
 * `slots`, which is `2 * SIDE` in a good segment. */
static inline void image_of_world(struct image *image, uint64_t slots)
{
    image_begin(image);
    struct print word = add_type(image, "u64", 8, 8);
    struct print flag = add_type(image, "u32", 4, 4);
    struct print byte = add_type(image, "u8", 1, 1);
    struct print seat = add_type(image, "Seat", 64, 64);
    struct print count = add_type(image, "EventCount", 16, 8);
    struct print condvar = add_type(image, "ShmCondvar", 16, 8);
    struct print event = add_type(image, "ShmEvent", 24, 8);
    struct print semaphore = add_type(image, "ShmSemaphore", 256, 64);
    begin_type(image, "ShmMutex", 72, 8, 1);
    add_field(image, "data", 64, word);
    struct print mutex = end_type(image);
    struct print two = add_side(image, 2, seat, word, count, flag);
    struct print one = add_side(image, 1, seat, word, count, flag);
    begin_type(image, "array", 64, 8, 1);
    add_field(image, "0", 8, word);
    struct print messages = end_type(image);
    begin_type(image, "ShmChannel", 2 * SIDE + 128, 128, 3);
    add_field(image, "senders", 0, two);
    add_field(image, "receivers", SIDE, two);
    add_field(image, "slots", slots, messages);
    struct print channel = end_type(image);
    begin_type(image, "array", 64, 1, 1);
    add_field(image, "0", 64, byte);
    struct print bytes = end_type(image);
    begin_type(image, "ShmChannel", 2 * SIDE + 128, 128, 3);
    add_field(image, "senders", 0, one);
    add_field(image, "receivers", SIDE, one);
    add_field(image, "slots", 2 * SIDE, bytes);
    struct print inner = end_type(image);
    begin_type(image, "ShmPipe", 2 * SIDE + 128, 128, 1);
    add_field(image, "channel", 0, inner);
    struct print pipe = end_type(image);
    begin_type(image, "CachePadded", 128, 128, 1);
    add_field(image, "value", 0, mutex);
    struct print padded = end_type(image);
    begin_type(image, "array", 3 * 72, 8, 1);
    add_field(image, "0", 3, mutex);
    struct print array = end_type(image);
    begin_type(image, "struct", WORLD_SIZE, 128, 8);
    add_field(image, "mutex", AT_MUTEX, mutex);
    add_field(image, "condvar", AT_CONDVAR, condvar);
    add_field(image, "event", AT_EVENT, event);
    add_field(image, "semaphore", AT_SEMAPHORE, semaphore);
    add_field(image, "channel", AT_CHANNEL, channel);
    add_field(image, "pipe", AT_PIPE, pipe);
    add_field(image, "array", AT_ARRAY, array);
    add_field(image, "padded", AT_PADDED, padded);
    end_type(image);
    add_lock(image, 1, LOCK, AT_MUTEX, 0, 0);
    add_lock(image, 1, LOCK, AT_ARRAY, 3, 72);
    add_lock(image, 1, LOCK, AT_PADDED, 0, 0);
    add_lock(image, 2, 16, AT_CONDVAR, 0, 0);
    add_lock(image, 5, 24, AT_EVENT, 0, 0);
    for (size_t i = 0; i < sizeof seats_of_world / sizeof *seats_of_world; i++) {
        add_lock(image, 4, LOCK, seats_of_world[i], 0, 0);
    }
}

/* Lays out the segment of `image_of_world`, and initialises its objects. */
static inline void image_place_world(struct image *image)
{
    image_place(image, WORLD_SIZE, 128);
    for (size_t i = 0; i < sizeof seats_of_world / sizeof *seats_of_world; i++) {
        place_lock(image, seats_of_world[i]);
    }
    for (size_t i = 0; i < sizeof mutexes_of_world / sizeof *mutexes_of_world; i++) {
        place_lock(image, mutexes_of_world[i]);
    }
    put(image->bytes + image->value_at + AT_EVENT + 4, 2, 4);
}

/* Describes a slice of numbers behind a number. */
static inline void image_of_tail(struct image *image)
{
    image_begin(image);
    struct print word = add_type(image, "u64", 8, 8);
    struct print half = add_type(image, "u32", 4, 4);
    begin_type(image, "slice", 0, 4, 1);
    add_field(image, "0", 4, half);
    struct print slice = end_type(image);
    begin_type(image, "with tail", 0, 8, 2);
    add_field(image, "head", 0, word);
    add_field(image, "tail", 8, slice);
    end_type(image);
}

/* Opens the segment as an anonymous one. */
static inline shm_sync_result image_open(
    const struct image *image, shm_sync_segment *segment, const char *fingerprint)
{
    int fd = memfd_create("shm-sync-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    expect(fd >= 0, "memfd_create");
    for (size_t done = 0; done < image->len;) {
        ssize_t part = write(fd, image->bytes + done, image->len - done);
        expect(part > 0, "write");
        done += (size_t)part;
    }
    expect(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0, "F_ADD_SEALS");
    shm_sync_result result = shm_sync_open_fd(segment, fd, fingerprint);
    close(fd);
    return result;
}

#endif
