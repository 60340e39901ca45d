/* The value of a segment of shm-sync, whose type in Rust is
 * supervisor::Jobs
 * `shm-sync export-c` has made this file. Make it again when the type changes. */

#ifndef JOBS_H
#define JOBS_H

#include <assert.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm_sync.h"

/* shm_sync_open compares it with that of the segment. */
#define JOBS_FINGERPRINT "a38e4aef481d3b39b84d3b413cb5c6c7"

/* .table.data: struct */
typedef struct jobs_table_data {
    uint32_t done;
    unsigned char padding[4];
    uint64_t sum;
    uint64_t results[40];
} jobs_table_data;
static_assert(sizeof(jobs_table_data) == 336, "the size of jobs_table_data");
static_assert(alignof(jobs_table_data) == 8, "the alignment of jobs_table_data");
static_assert(offsetof(jobs_table_data, done) == 0, "the offset of done in jobs_table_data");
static_assert(offsetof(jobs_table_data, sum) == 8, "the offset of sum in jobs_table_data");
static_assert(offsetof(jobs_table_data, results) == 16, "the offset of results in jobs_table_data");

/* .table: ShmMutex */
typedef struct jobs_table {
    shm_sync_mutex lock;
    jobs_table_data data;
} jobs_table;
static_assert(sizeof(jobs_table) == 400, "the size of jobs_table");
static_assert(alignof(jobs_table) == 8, "the alignment of jobs_table");
static_assert(offsetof(jobs_table, lock) == 0, "the offset of lock in jobs_table");
static_assert(offsetof(jobs_table, data) == 64, "the offset of data in jobs_table");

/* the value: struct */
typedef struct jobs {
    jobs_table table;
    shm_sync_condvar changed;
} jobs;
static_assert(sizeof(jobs) == 416, "the size of jobs");
static_assert(alignof(jobs) == 8, "the alignment of jobs");
static_assert(offsetof(jobs, table) == 0, "the offset of table in jobs");
static_assert(offsetof(jobs, changed) == 400, "the offset of changed in jobs");

#endif /* JOBS_H */
