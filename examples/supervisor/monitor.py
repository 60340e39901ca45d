"""A monitor of the example `supervisor`: it prints each change of the table.

Usage: python3 monitor.py ADDRESS

Install the package first: pip install ./python
"""

import sys
import time

import shm_sync


def main(address: str) -> None:
    with shm_sync.open(address) as segment:
        seen = -1
        reported = None
        while True:
            try:
                with segment["table"].lock() as table:
                    segment["changed"].wait_for(
                        table, lambda table: table.done != seen, 1.0
                    )
                    seen, total, count = table.done, table.sum, len(table.results)
            except shm_sync.Poisoned as poisoned:
                # The supervisor repairs the table. A monitor only reports.
                if poisoned.cause != reported:
                    reported = poisoned.cause
                    print(poisoned, flush=True)
                time.sleep(0.1)
                continue
            print(f"{seen} of {count} jobs are done, sum {total}", flush=True)
            if seen == count:
                return


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} ADDRESS")
    main(sys.argv[1])
