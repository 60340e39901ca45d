"""The peer in Python: see protocol.md."""

import sys

import shm_sync

STOP = 2**64 - 1


class Failure(Exception):
    """Leaves the `with` block of a lock, as the command `fail` demands."""


def repair(ledger):
    """Repairs the ledger."""
    ledger.check = ledger.total
    ledger.inside = 0
    ledger.repairs += 1


def add(ledger):
    """Changes the ledger, in two steps that a death can separate."""
    ledger.total += 1
    ledger.check += 1


def reply_of(cause):
    """Returns the reply for a mutex that is poisoned for this reason, or is not."""
    if cause is None:
        return "ok"
    panicked = cause.failure is shm_sync.Failure.PANICKED
    return f"poisoned {'panicked' if panicked else 'owner_died'} {cause.pid} {cause.tid}"


def seconds(milliseconds):
    """Returns a duration as the package takes it."""
    return int(milliseconds) / 1000


class Peer:
    """A segment, and what this peer holds."""

    def __init__(self):
        self.guard = self.sending = self.receiving = None
        self.permits = []

    def execute(self, command, *words):
        """Executes a command, and returns the reply."""
        try:
            reply = getattr(self, f"do_{command}")(*words)
        except shm_sync.Poisoned as poisoned:
            return reply_of(poisoned.cause)
        except shm_sync.Error as error:
            return error.result or "no_such_field"
        except TimeoutError:
            return "timed_out"
        return reply if isinstance(reply, str) else "ok" if reply is None else f"ok {reply}"

    def do_open(self, address, fingerprint):
        expected = None if fingerprint == "-" else fingerprint
        self.segment = shm_sync.open(address, fingerprint=expected)
        self.ledger = self.segment["ledger"]
        self.changed = self.segment["changed"]
        self.semaphore = self.segment["permits"]

    def do_close(self):
        for held in [self.guard, self.sending, self.receiving, *self.permits]:
            if held is not None:
                held.release()
        self.__init__()
        self.segment.close()

    def do_find(self, path, kind):
        return None if self.segment.type_of(path).kind == kind else "layout_mismatch"

    # The ledger

    def do_lock(self):
        self.guard = self.ledger.recover()
        return reply_of(self.guard.cause)

    def do_lock_for(self, milliseconds):
        self.guard = self.ledger.recover(seconds(milliseconds))
        return reply_of(self.guard.cause)

    def do_try_lock(self):
        try:
            guard = self.ledger.try_lock()
        except shm_sync.Poisoned:
            return self.do_lock()  # the protocol wants the poisoned mutex held
        if guard is None:
            return "would_block"
        self.guard = guard

    def do_unlock(self):
        if self.guard is None:
            return "not_held"
        guard, self.guard = self.guard, None
        guard.release()

    def do_recover(self):
        repair(self.guard.data)
        self.guard.clear_poison()

    def do_cause(self):
        return reply_of(self.ledger.poison_cause)

    def do_tear(self):
        self.guard.data.total += 1

    def do_fail(self):
        try:
            with self.ledger.lock() as ledger:
                ledger.total += 1
                raise Failure
        except Failure:
            pass

    def do_read(self):
        with self.ledger.lock() as it:
            return f"ok {it.total} {it.check} {it.turn} {it.repairs}"

    def do_increment(self, times):
        repairs = 0

        def count_and_repair(ledger, _cause):
            nonlocal repairs
            repairs += 1
            repair(ledger)

        for _ in range(int(times)):
            with self.ledger.lock_or_recover(count_and_repair) as ledger:
                add(ledger)
        return repairs

    def do_worker(self, index, times):
        lock = self.segment[f"workers[{index}].lock"]
        for _ in range(int(times)):
            with lock.lock() as number:
                number.value += 1

    def do_turn(self, number, whom):
        with self.ledger.lock() as ledger:
            ledger.turn = int(number)
            if whom == "one":
                self.changed.notify_one()
            else:
                self.changed.notify_all()

    def do_wait(self, number, timeout=None):
        try:
            with self.ledger.lock() as ledger:
                is_turn = self.changed.wait_for(
                    ledger, lambda ledger: ledger.turn == int(number), timeout
                )
                return "ok" if is_turn else "timed_out"
        except shm_sync.Poisoned as poisoned:
            with poisoned.recover() as ledger:
                repair(ledger)
            raise

    def do_wait_for(self, number, milliseconds):
        return self.do_wait(number, seconds(milliseconds))

    def do_wait_once(self, milliseconds):
        with self.ledger.lock() as ledger:
            is_notified = self.changed.wait(ledger, seconds(milliseconds))
            return "ok" if is_notified else "timed_out"

    def do_hand_over(self, me, other, rounds):
        with self.ledger.lock() as ledger:
            for _ in range(int(rounds)):
                self.changed.wait_for(ledger, lambda ledger: ledger.turn == int(me))
                add(ledger)
                ledger.turn = int(other)
                self.changed.notify_one()

    # The other objects

    def do_acquire(self):
        return self.keep(self.semaphore.acquire())

    def do_acquire_for(self, milliseconds):
        return self.keep(self.semaphore.acquire(seconds(milliseconds)))

    def do_try_acquire(self):
        try:
            return self.keep(self.semaphore.acquire(0))
        except TimeoutError:
            return "would_block"

    def keep(self, permit):
        """Keeps a permit, and returns the reply."""
        self.permits.append(permit)
        return f"ok {permit.index} {int(permit.after_death)}"

    def do_release(self):
        self.permits.pop().release()

    def do_available(self):
        return self.semaphore.available()

    def do_set(self, event):
        self.segment[event].set()

    def do_reset(self, event):
        self.segment[event].clear()

    def do_is_set(self, event):
        return int(self.segment[event].is_set())

    def do_await(self, event, milliseconds):
        return "ok" if self.segment[event].wait(seconds(milliseconds)) else "timed_out"

    def do_sender(self):
        self.sending = self.segment["bytes"].sender()

    def do_receiver(self):
        self.receiving = self.segment["bytes"].receiver()

    def do_close_sender(self):
        self.sending.release()

    def do_close_receiver(self):
        self.receiving.release()

    def do_send(self, byte):
        self.sending.send(int(byte))

    def do_send_for(self, byte, milliseconds):
        self.sending.send(int(byte), seconds(milliseconds))

    def do_flood(self, byte, times):
        for _ in range(int(times)):
            self.sending.send(int(byte))

    def do_drain(self):
        received = list(self.receiving)
        return f"ok {len(received)} {sum(received)}"

    def do_try_send(self, byte):
        try:
            self.sending.send(int(byte), 0)
        except TimeoutError:
            return "would_block"

    def do_recv(self):
        return self.receiving.recv()

    def do_recv_for(self, milliseconds):
        return self.receiving.recv(seconds(milliseconds))

    def do_try_recv(self):
        try:
            return self.receiving.recv(0)
        except TimeoutError:
            return "would_block"

    # The storm

    def do_storm(self, me):
        me = int(me)
        sends = me % 2 == 0
        bytes_ = self.segment["bytes"]
        end = bytes_.sender() if sends else bytes_.receiver()
        rounds = 0
        with end:
            while self.change_ledger(me, rounds):
                rounds += 1
                with self.segment[f"workers[{me % 4}].lock"].lock_or_recover(
                    lambda number, cause: None
                ) as number:
                    number.value += 1
                with self.semaphore.acquire():
                    pass
                self.transfer(end, me if sends else None)
                self.segment["turnstile"].set()
                self.segment["turnstile"].wait(0.001)
        return rounds

    def change_ledger(self, me, rounds):
        """Does step 1 of a round. Returns whether there is to be a next one."""
        try:
            with self.ledger.lock_or_recover(lambda ledger, cause: repair(ledger)) as ledger:
                if ledger.turn == STOP:
                    return False
                if ledger.inside != 0 or ledger.total != ledger.check:
                    ledger.violations += 1
                ledger.inside = me + 1
                add(ledger)
                ledger.rounds[me] += 1
                ledger.inside = 0
                if rounds % 8 == 0:
                    self.changed.notify_all()
                if rounds % 4 == 0:
                    self.changed.wait(ledger, 0.001)
        except shm_sync.Poisoned as poisoned:
            with poisoned.recover() as ledger:
                if self.ledger.poison_cause is not None:
                    repair(ledger)
        return True

    def transfer(self, end, byte):
        """Sends a byte, or receives one. The absence of the other side is no error."""
        try:
            if byte is not None:
                end.send(byte, 0.001)
                return
            received = end.recv(0.001)
        except (TimeoutError, shm_sync.Disconnected):
            return
        if received % 2 != 0 or received > 7:
            raise SystemExit(f"received the byte {received}")


def main():
    peer = Peer()
    for line in sys.stdin:
        print(peer.execute(*line.split()), flush=True)


if __name__ == "__main__":
    main()
