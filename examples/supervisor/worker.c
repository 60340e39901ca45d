/* A worker of the example `supervisor`: it does the jobs that have no result yet.
 *
 * Usage: worker ADDRESS CRASH_AT PAUSE_MS
 * It crashes in the middle of its update for job CRASH_AT, with the lock held.
 */
#include "jobs.h"
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>

static int fail(const char *what, shm_sync_result result) {
    fprintf(stderr, "worker: %s: %s\n", what, shm_sync_text(result));
    return 1;
}

/* Repairs the table after another worker has died in the middle of an update. */
static void repair(jobs_table_data *table) {
    table->done = 0;
    table->sum = 0;
    for (size_t job = 0; job < sizeof table->results / sizeof *table->results; job++) {
        table->done += table->results[job] != 0;
        table->sum += table->results[job];
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s ADDRESS CRASH_AT PAUSE_MS\n", argv[0]);
        return 2;
    }
    const uint64_t crash_at = strtoull(argv[2], NULL, 10);
    const long pause_ms = strtol(argv[3], NULL, 10);

    shm_sync_segment segment;
    shm_sync_result result = shm_sync_open(&segment, argv[1], JOBS_FINGERPRINT);
    if (result != SHM_SYNC_OK) return fail(argv[1], result);
    jobs *shared = segment.value;
    jobs_table_data *table = &shared->table.data;
    const size_t count = sizeof table->results / sizeof *table->results;

    for (;;) {
        const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
        thrd_sleep(&pause, NULL);
        result = shm_sync_lock(&shared->table.lock);
        if (result == SHM_SYNC_POISONED) {
            repair(table);
            result = shm_sync_recover(&shared->table.lock);
        }
        if (result != SHM_SYNC_OK) return fail("lock", result);
        size_t job = 0;
        while (job < count && table->results[job] != 0) job++;
        if (job < count) {
            const uint64_t number = job + 1;
            table->results[job] = number * number;
            if (number == crash_at) abort(); /* `done` and `sum` are wrong now. */
            table->done += 1;
            table->sum += table->results[job];
        }
        shm_sync_notify_all(&shared->changed);
        result = shm_sync_unlock(&shared->table.lock);
        if (result != SHM_SYNC_OK) return fail("unlock", result);
        if (job == count) break;
    }
    result = shm_sync_close(&segment);
    return result == SHM_SYNC_OK ? 0 : fail("close", result);
}
