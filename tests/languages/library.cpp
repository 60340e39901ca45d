// What only C++ has: durations, and the types of values. The arguments are the address
// of a segment and its fingerprint. Ends with status 0 if all is right.
#include "world.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <ratio>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

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
    expect(writer.write_for("x", 1, count, seconds(9)) == SHM_SYNC_NOT_HELD, "write_for");
    expect(reader.read_for(bytes, 1, count, seconds(9)) == SHM_SYNC_NOT_HELD, "read_for");
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
    shm_sync::event event(gate);
    expect(!event.is_set(), "no thread has set it");
    expect(event.try_wait() == SHM_SYNC_WOULD_BLOCK, "not set");
    expect(event.wait_for(milliseconds(1)) == SHM_SYNC_TIMED_OUT, "not set");
    expect(event.set() == SHM_SYNC_OK && event.is_set(), "set");
    expect(event.wait() == SHM_SYNC_OK, "set");
    expect(event.try_wait() == SHM_SYNC_OK, "set");
    expect(event.wait_for(seconds::max()) == SHM_SYNC_OK, "set");
    event.reset();
    expect(!event.is_set() && !shm_sync_event_is_set(&gate), "reset");
}

/* Endpoints that move, and a range of messages. */
static void move_endpoints(const shm_sync::segment &segment)
{
    std::uint64_t count = 0;
    std::uint8_t bytes[4] = {5, 6, 7, 8};
    shm_sync_object object;
    expect(
        segment.find("bytes", SHM_SYNC_KIND_CHANNEL, object) == SHM_SYNC_OK, "find");
    std::vector<shm_sync::sender<std::uint8_t>> senders;
    std::vector<shm_sync::receiver<std::uint8_t>> receivers;
    for (int i = 0; i < ENDPOINTS; i++) {
        shm_sync::sender<std::uint8_t> sender;
        shm_sync::receiver<std::uint8_t> receiver;
        expect(sender.open(object) == SHM_SYNC_OK, "sender");
        expect(receiver.open(object) == SHM_SYNC_OK, "receiver");
        senders.push_back(std::move(sender));
        receivers.push_back(std::move(receiver));
    }
    shm_sync::sender<std::uint8_t> sender = std::move(senders[0]);
    expect(senders[0].send(1) == SHM_SYNC_NOT_HELD, "it has moved");
    expect(sender.send_many_for(bytes, 4, count, seconds(9)) == SHM_SYNC_OK &&
               count == 4,
        "send_many_for");
    // The assignment closes the endpoint of its left side.
    senders[1] = std::move(sender);
    expect(sender.open(object) == SHM_SYNC_OK, "a seat is free");
    expect(sender.close() == SHM_SYNC_OK, "close");
    senders.clear();
    receivers[0] = std::move(receivers[1]);
    unsigned sum = 0;
    for (const std::uint8_t &byte : receivers[0])
        sum = sum * 10 + byte;
    expect(sum == 5678, "the range has all messages");
    expect(receivers[0].ended() == SHM_SYNC_DISCONNECTED, "all senders have closed");
    for (const std::uint8_t &byte : receivers[1])
        sum = byte;
    expect(sum == 5678, "a moved endpoint receives nothing");
    expect(receivers[1].ended() == SHM_SYNC_NOT_HELD, "it has moved");
    expect(sender.open(object) == SHM_SYNC_OK, "sender");
    expect(receivers[0].recv_many_for(bytes, 4, count, milliseconds(1)) ==
                   SHM_SYNC_TIMED_OUT &&
               count == 0,
        "no message is left");
}

/* Deadlines are points in time of any clock. */
static void wait_until_deadlines(const shm_sync::segment &segment)
{
    using std::chrono::steady_clock;
    using std::chrono::system_clock;
    const std::uint64_t least = 3590000000000u;
    const std::uint64_t hour = 3600000000000u;
    auto until = [](auto deadline) {
        return shm_sync::timeout(deadline).nanoseconds();
    };
    expect(until(steady_clock::now() - hours(1)) == 0, "an hour ago");
    std::uint64_t left = until(steady_clock::now() + hours(1));
    expect(least < left && left <= hour, "in an hour");
    left = until(system_clock::now() + hours(1));
    expect(least < left && left <= hour, "in an hour by another clock");
    expect(until(steady_clock::time_point::min()) == 0, "the first time");
    expect(until(steady_clock::time_point::max()) > INT64_MAX / 2, "the last time");
    const std::chrono::time_point<steady_clock, hours> far = decltype(far)::max();
    expect(until(far) == UINT64_MAX, "after 2^63 hours");

    auto *value = segment.value<guarded_ledger>();
    shm_sync_object object;
    auto soon = steady_clock::now() + milliseconds(20);
    expect(segment.find("gate", SHM_SYNC_KIND_EVENT, object) == SHM_SYNC_OK, "find");
    shm_sync::event gate(*static_cast<shm_sync_event *>(object.at));
    expect(gate.wait_for(soon) == SHM_SYNC_TIMED_OUT, "no thread sets it");
    expect(steady_clock::now() >= soon, "the wait lasts until the deadline");
    shm_sync::guard guard(value->lock, soon);
    expect(bool(guard), "the mutex is free");
    expect(segment.find("permits", SHM_SYNC_KIND_SEMAPHORE, object) == SHM_SYNC_OK,
        "find");
    std::vector<shm_sync::permit> permits;
    for (int i = 0; i < PERMITS; i++)
        permits.emplace_back(object, soon);
    expect(bool(permits.back()), "the permits are free");
    expect(shm_sync::permit(object, soon).outcome() != SHM_SYNC_OK, "none is left");
}

/* Waits for conditions, and the repair of poisoned data. */
static void wait_for_conditions(const shm_sync::segment &segment)
{
    auto *value = segment.value<guarded_ledger>();
    shm_sync_object object;
    expect(
        segment.find("changed", SHM_SYNC_KIND_CONDVAR, object) == SHM_SYNC_OK, "find");
    auto &changed = *static_cast<shm_sync_condvar *>(object.at);
    auto repair = [](const shm_sync_cause &) { expect(false, "not poisoned"); };
    auto guard = shm_sync::lock_or_recover(value->lock, repair);
    expect(bool(guard), "the mutex is free");

    std::thread other([&] {
        for (std::uint64_t turn = 1; turn <= 3; turn++) {
            shm_sync::guard there(value->lock);
            value->data.turn = turn;
            shm_sync_notify_one(&changed);
        }
    });
    auto is_third = [&] { return value->data.turn == 3; };
    expect(guard.wait(changed, is_third) == SHM_SYNC_OK, "the third turn");
    other.join();
    expect(guard.wait_for(changed, seconds(0), is_third) == SHM_SYNC_OK, "at once");
    int calls = 0;
    auto never = [&] { return ++calls == 99; };
    shm_sync::result waited = guard.wait_for(changed, milliseconds(5), never);
    expect(waited == SHM_SYNC_TIMED_OUT && calls >= 2, "it is never true");
    expect(guard.held() && !guard.poisoned(), "held after a timeout");
    expect(guard.outcome() == SHM_SYNC_TIMED_OUT, "the outcome is the result");
    auto not_at_first = [&, first = true]() mutable {
        return !std::exchange(first, false);
    };
    waited = guard.wait_for(changed, milliseconds(1), not_at_first);
    expect(waited == SHM_SYNC_OK, "true when the time has passed");
    expect(guard.outcome() == SHM_SYNC_OK, "the outcome is the result");

    // The other thread waits, and learns of the poison instead.
    std::atomic<bool> waits(false);
    std::thread waiter([&] {
        shm_sync::guard there(value->lock);
        int evaluated = 0;
        auto count = [&] {
            evaluated += 1;
            waits = true;
            return false;
        };
        shm_sync::result ended = there.wait(changed, count);
        expect(ended == SHM_SYNC_POISONED && there.poisoned(), "poisoned in the wait");
        int before = evaluated;
        expect(there.wait_for(changed, seconds(9), count) == SHM_SYNC_POISONED,
            "not repaired");
        expect(evaluated == before, "the data was not read");
    });
    expect(guard.unlock() == SHM_SYNC_OK, "unlock");
    expect(guard.wait(changed, never) == SHM_SYNC_NOT_HELD, "not held");
    while (!waits)
        std::this_thread::sleep_for(milliseconds(1));
    {
        // The waiter holds the mutex until it sleeps.
        shm_sync::guard failing(value->lock);
        expect(bool(failing), "the waiter sleeps");
        shm_sync_poison(&value->lock);
        shm_sync_notify_all(&changed);
    }
    waiter.join();

    try {
        auto fail = [](const shm_sync_cause &) { throw 1; };
        (void)shm_sync::lock_or_recover(value->lock, fail);
        expect(false, "the exception leaves the function");
    } catch (int) {
    }
    bool repaired = false;
    {
        auto held = shm_sync::lock_or_recover(
            value->lock, [&](const shm_sync_cause &cause) {
                repaired = cause.kind == SHM_SYNC_OWNER_FAILED;
            });
        expect(repaired && held && !held.poisoned(), "the data is repaired");
        auto again = shm_sync::lock_or_recover(value->lock, repair);
        expect(again.outcome() == SHM_SYNC_DEADLOCK && !again.held(), "held already");
    }
    expect(bool(shm_sync::guard(value->lock)), "the poison is cleared");
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
    alarm(60);
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
    move_endpoints(segment);
    wait_until_deadlines(segment);
    wait_for_conditions(segment);
    refuse_private_memory();
    return 0;
}
