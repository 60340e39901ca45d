/* The type that all peers share: the same as in world.rs. */
#ifndef WORLD_H
#define WORLD_H

#include <shm_sync.h>

#include <stddef.h>
#include <stdint.h>

enum { PERMITS = 3, WORKERS = 4, CAPACITY = 64, ENDPOINTS = 4, ROUNDS = 8 };

struct ledger {
    uint64_t total;
    uint64_t check;
    uint64_t turn;
    uint64_t repairs;
    uint64_t violations;
    uint64_t inside;
    uint64_t rounds[ROUNDS];
};

struct guarded_ledger {
    shm_sync_mutex lock;
    struct ledger data;
};

struct guarded_number {
    shm_sync_mutex lock;
    uint64_t data;
};

/* Of second_unit.c. */
#ifdef __cplusplus
extern "C" {
#endif
shm_sync_result second_unit_add(struct guarded_number *number);
const char *second_unit_text(shm_sync_result result);
#ifdef __cplusplus
}
#endif

#endif
