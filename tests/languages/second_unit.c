/* A second file that includes the header, in each program. */

/* A program may have macros with such names. */
#define PAGE 1
#define MAX 2
#define BTIME 3
#define EMPTY_PATH 4
#define MASK_AT 5

#include "world.h"

shm_sync_result second_unit_add(struct guarded_number *number)
{
    shm_sync_result result = shm_sync_lock(&number->lock);
    if (result == SHM_SYNC_POISONED) {
        shm_sync_result recovered = shm_sync_recover(&number->lock);
        if (recovered != SHM_SYNC_OK) {
            return recovered;
        }
    } else if (result != SHM_SYNC_OK) {
        return result;
    }
    number->data += 1;
    return shm_sync_unlock(&number->lock);
}

const char *second_unit_text(shm_sync_result result)
{
    return shm_sync_text(result);
}
