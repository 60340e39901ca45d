// What only C++ has: durations, and the types of values. The arguments are the address
// of a segment and its fingerprint. Ends with status 0 if all is right.
#include "world.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <ratio>

using shm_sync::nanoseconds;
using std::chrono::duration;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

static void expect(bool condition, const char *what)
{
    if (!condition) {
        std::fprintf(stderr, "%s\n", what);
        std::exit(1);
    }
}

static void convert_durations()
{
    const double none = std::numeric_limits<double>::quiet_NaN();
    const double huge = std::numeric_limits<double>::infinity();
    expect(nanoseconds(seconds(3)) == 3000000000u, "3 s");
    expect(nanoseconds(milliseconds(1)) == 1000000u, "1 ms");
    expect(nanoseconds(duration<double>(0.5)) == 500000000u, "0.5 s");
    expect(nanoseconds(duration<std::int64_t, std::pico>(1999)) == 1u, "1999 ps");
    expect(nanoseconds(seconds(0)) == 0, "0 s");
    expect(nanoseconds(seconds(-1)) == 0, "-1 s");
    expect(nanoseconds(seconds::min()) == 0, "the least time");
    expect(nanoseconds(seconds::max()) == UINT64_MAX, "the most seconds");
    expect(nanoseconds(hours::max()) == UINT64_MAX, "the most hours");
    expect(nanoseconds(milliseconds::max()) == UINT64_MAX, "the most milliseconds");
    expect(nanoseconds(duration<double>(1e300)) == UINT64_MAX, "1e300 s");
    expect(nanoseconds(duration<double>(huge)) == UINT64_MAX, "infinite");
    expect(nanoseconds(duration<double>(-huge)) == 0, "negative infinite");
    expect(nanoseconds(duration<double>(none)) == 0, "no number");
    expect(nanoseconds(std::chrono::nanoseconds::max()) == INT64_MAX,
        "the most nanoseconds");
}

/* As large as its alignment, which the address of no value has by chance. */
struct alignas(1024) wide {
    char byte;
};

static void transfer(const shm_sync::segment &segment)
{
    const std::uint8_t sent_bytes[3] = {1, 2, 3};
    std::uint8_t bytes[5] = {};
    std::uint64_t count = 0;
    shm_sync_object object;
    shm_sync::sender<std::uint8_t> sender;
    shm_sync::receiver<std::uint8_t> receiver;
    shm_sync::writer writer;
    shm_sync::reader reader;
    expect(
        segment.find(".bytes", SHM_SYNC_KIND_CHANNEL, object) == SHM_SYNC_OK, "find");
    expect(writer.open(object) == SHM_SYNC_LAYOUT_MISMATCH, "a channel is no pipe");
    expect(reader.open(object) == SHM_SYNC_LAYOUT_MISMATCH, "a channel is no pipe");
    expect(writer.write("x", 1, count) == SHM_SYNC_NOT_HELD, "write to no pipe");
    expect(reader.read(bytes, 1, count) == SHM_SYNC_NOT_HELD, "read from no pipe");
    expect(sender.open(object) == SHM_SYNC_OK, "sender");
    expect(
        sender.wait_for_receiver(milliseconds(1)) == SHM_SYNC_TIMED_OUT, "no receiver");
    expect(receiver.open(object) == SHM_SYNC_OK, "receiver");
    expect(
        receiver.wait_for_sender(seconds::max()) == SHM_SYNC_OK, "a sender is there");
    expect(sender.send_many(sent_bytes, 3, count) == SHM_SYNC_OK && count == 3,
        "send_many");
    expect(
        receiver.recv_many(bytes, 5, count) == SHM_SYNC_OK && count == 3, "recv_many");
    expect(bytes[0] == 1 && bytes[2] == 3 && bytes[3] == 0, "the bytes that were sent");
    expect(segment.find(".gate", SHM_SYNC_KIND_EVENT, object) == SHM_SYNC_OK, "find");
    auto &gate = *static_cast<shm_sync_event *>(object.at);
    expect(shm_sync::wait_for(gate, milliseconds(1)) == SHM_SYNC_TIMED_OUT, "not set");
}

/* A writer and a reader of a pipe in private memory, which no thread can open. */
static void refuse_private_memory()
{
    alignas(128) static unsigned char memory[4096];
    shm_sync_object pipe = shm_sync_pipe_at(memory, 16);
    shm_sync::writer writer;
    shm_sync::reader reader;
    expect(writer.open(pipe) == SHM_SYNC_NOT_PLACED, "no segment has the pipe");
    expect(reader.open(pipe) == SHM_SYNC_NOT_PLACED, "no segment has the pipe");
}

int main(int count, char **arguments)
{
    expect(count == 3, "the program has two arguments");
    convert_durations();
    shm_sync::segment segment;
    expect(segment.value<char>() == nullptr, "it is closed");
    expect(segment.open(arguments[1], arguments[2]) == SHM_SYNC_OK, "open");
    expect(
        segment.value<guarded_ledger>() != nullptr, "the value begins with the ledger");
    expect(segment.get().value_size >= sizeof(wide), "the value is large");
    expect(reinterpret_cast<std::uintptr_t>(segment.get().value) % 1024 != 0,
        "the value lies behind the tables");
    expect(segment.value<char[1 << 20]>() == nullptr, "the value is smaller");
    expect(segment.value<wide>() == nullptr, "the value is not aligned");
    transfer(segment);
    refuse_private_memory();
    return 0;
}
