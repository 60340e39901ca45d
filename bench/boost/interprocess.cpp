// Boost.Interprocess behind a table of C functions, for shm-sync-bench
// (src/contestants/boost.rs has the same table).
//
// The caller passes the memory of each object, which processes share. The functions are
// noexcept: an exception ends the process, and the benchmark reports the contestant.

#include <boost/interprocess/sync/interprocess_condition.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/version.hpp>

#include <cstddef>
#include <new>

using boost::interprocess::interprocess_condition;
using boost::interprocess::interprocess_mutex;
using boost::interprocess::scoped_lock;

namespace {

interprocess_mutex &mutex(void *place) { return *static_cast<interprocess_mutex *>(place); }

interprocess_condition &condition(void *place)
{
    return *static_cast<interprocess_condition *>(place);
}

void mutex_new(void *place) noexcept { new (place) interprocess_mutex; }

void mutex_lock(void *place) noexcept { mutex(place).lock(); }

void mutex_unlock(void *place) noexcept { mutex(place).unlock(); }

void condition_new(void *place) noexcept { new (place) interprocess_condition; }

// The caller holds the mutex before and after the call.
void condition_wait(void *place, void *held) noexcept
{
    scoped_lock<interprocess_mutex> lock(mutex(held), boost::interprocess::accept_ownership);
    condition(place).wait(lock);
    lock.release();
}

void condition_notify_one(void *place) noexcept { condition(place).notify_one(); }

void condition_notify_all(void *place) noexcept { condition(place).notify_all(); }

struct Functions {
    std::size_t version;
    std::size_t mutex_size;
    std::size_t condition_size;
    void (*mutex_new)(void *);
    void (*mutex_lock)(void *);
    void (*mutex_unlock)(void *);
    void (*condition_new)(void *);
    void (*condition_wait)(void *, void *);
    void (*condition_notify_one)(void *);
    void (*condition_notify_all)(void *);
};

} // namespace

extern "C" {
extern const Functions shm_sync_bench_boost;
const Functions shm_sync_bench_boost = {
    BOOST_VERSION,
    sizeof(interprocess_mutex),
    sizeof(interprocess_condition),
    mutex_new,
    mutex_lock,
    mutex_unlock,
    condition_new,
    condition_wait,
    condition_notify_one,
    condition_notify_all,
};
}
