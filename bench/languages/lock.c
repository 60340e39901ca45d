/* Batches of operations on a locked number, as C programs write them. The benchmark
 * compiles this file when it runs (see src/workloads/languages.rs). Each function
 * returns 0, or 1 if an operation has failed. */
#include "shm_sync.h"

/* The data is volatile, so that the compiler adds each time. */
typedef volatile uint64_t data;

__attribute__((visibility("default"))) int batch_of_pthread(
    void *mutex, data *number, uint32_t operations) {
    pthread_mutex_t *raw = (pthread_mutex_t *)mutex;
    for (uint32_t i = 0; i < operations; i++) {
        if (pthread_mutex_lock(raw) != 0)
            return 1;
        *number += 1;
        if (pthread_mutex_unlock(raw) != 0)
            return 1;
    }
    return 0;
}

__attribute__((visibility("default"))) int batch_of_header(
    void *mutex, data *number, uint32_t operations) {
    shm_sync_mutex *lock = (shm_sync_mutex *)mutex;
    for (uint32_t i = 0; i < operations; i++) {
        if (shm_sync_lock(lock) != SHM_SYNC_OK)
            return 1;
        *number += 1;
        if (shm_sync_unlock(lock) != SHM_SYNC_OK)
            return 1;
    }
    return 0;
}
