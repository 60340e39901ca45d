"""Tests of the package. `cargo test -p shm-sync-tests --test languages python` runs them.

The Rust test creates a segment for each test and passes its address in
``SHM_SYNC_TEST_ADDRESSES``, one for each test in the order of their names.
"""

import doctest
import gc
import io
import multiprocessing
import os
import pickle
import signal
import struct
import threading
import time
import unittest
import warnings

import shm_sync
from shm_sync import _types

#: Longer than any wait in a test that passes.
LIMIT = 60.0


def increment(segment, times):
    """Adds 1 to `pending` again and again."""
    for _ in range(times):
        with segment["pending"].lock(LIMIT) as data:
            data.value += 1


def in_child(function):
    """Calls a function in a forked child. Returns the id of the child, which has ended."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(70)
    os.waitpid(pid, 0)
    return pid


def in_thread(function):
    """Starts a thread."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class Test(unittest.TestCase):
    """Each test has a segment of its own."""

    def setUp(self):
        addresses = os.environ.get("SHM_SYNC_TEST_ADDRESSES")
        if addresses is None:
            self.skipTest("run by `cargo test -p shm-sync-tests --test languages python`")
        names = sorted(name for name in dir(Test) if name.startswith("test_"))
        self.address = addresses.split(",")[names.index(self._testMethodName)]
        self.segment = shm_sync.open(self.address)
        self.addCleanup(self.segment.close)
        watchdog = threading.Timer(2 * LIMIT, os.abort)
        watchdog.daemon = True
        watchdog.start()
        self.addCleanup(watchdog.cancel)

    def die_inside(self):
        """Lets a child die with the lock of `pending` held."""

        def die():
            with self.segment["pending"].lock() as data:
                data.value = 99
                os.kill(os.getpid(), signal.SIGKILL)

        return in_child(die)

    # Data

    def test_scalars_are_read_and_written(self):
        segment = self.segment
        with segment["pending"].lock() as data:
            data.value += 1
            self.assertEqual(data.value, 6)
        with segment["wide"].lock() as data:
            self.assertEqual(data.value, -3)
            data.value = -(2**127)
            self.assertEqual(data.value, -(2**127))
        with segment["letter"].lock() as data:
            self.assertEqual(data.value, "ż")
            data.value = "é"
            self.assertEqual(data.value, "é")
        with segment["pair"].lock() as data:
            self.assertEqual((data[0], data[1]), (1, 2))
            data[1] = 2**64 - 1
            self.assertEqual(list(data), [1, 2**64 - 1])
        with segment["floats"].lock() as data:
            data[1] = 0.5
            self.assertEqual(list(data), [1.0, 0.5, -3.0])
            self.assertEqual(data[-1], -3.0)
            self.assertEqual(data[:2], [1.0, 0.5])

    def test_structs_have_attributes(self):
        with self.segment["workers[1].lock"].lock() as job:
            self.assertEqual((job.id, job.name, job.parent), (3, "first", 5))
            self.assertEqual(job.state.name, "Busy")
            self.assertEqual((job.shape.variant, job.shape.radius), ("Circle", 1.5))
            job.name = "zażółć"
            job.parent = None
            job.state = "Gone"
            job.shape = "Empty"
            self.assertEqual(job.shape.variant, "Empty")
            job.shape = ("Pair", [7, 8])
            self.assertEqual((job.name, job.parent, job.state), ("zażółć", None, 8))
            self.assertEqual((job.shape[0], job.shape[1]), (7, 8))
            self.assertEqual(shm_sync.copy(job)["shape"], ("Pair", {"0": 7, "1": 8}))
        with self.segment["workers[0].lock"].lock() as other:
            self.assertEqual(other.name, "first", "the neighbour does not change")

    def test_invalid_values_are_refused(self):
        with self.segment["workers[2].lock"].lock() as job:
            before = bytes(repr(job), "utf-8")
            for name, value, error in [
                ("id", -1, OverflowError),
                ("id", 2**32, OverflowError),
                ("id", "1", TypeError),
                ("name", "x" * 21, ValueError),
                ("state", 3, ValueError),
                ("state", "Missing", ValueError),
                ("shape", ("Pair", [1]), ValueError),
                ("shape", "Pair", ValueError),
                ("shape", 5, TypeError),
                ("parent", "x", TypeError),
                ("shape", ("Square", {}), ValueError),
                ("shape", ("Pair", [1, -1]), OverflowError),
                ("missing", 1, AttributeError),
            ]:
                with self.assertRaises(error, msg=f"{name} = {value!r}"):
                    setattr(job, name, value)
            self.assertEqual(bytes(repr(job), "utf-8"), before, "nothing has changed")
        for path, value, error in [
            ("small", 0, ValueError),
            ("letter", "ab", TypeError),
            ("letter", "\ud800", TypeError),
        ]:
            with self.segment[path].lock() as data:
                with self.assertRaises(error, msg=f"{path} = {value!r}"):
                    data.value = value

    def test_vecs_grow_and_shrink(self):
        with self.segment["list"].lock() as data:
            for number in range(5):
                data.append(number * number)
            self.assertEqual(list(data), [0, 1, 4, 9, 16])
            with self.assertRaises(IndexError):
                data.append(25)
            self.assertEqual(data.pop(), 16)
            data[0] = 7
            self.assertEqual(list(data), [7, 1, 4, 9])
            with self.assertRaises(IndexError):
                data[4]
            data.clear()
            self.assertEqual(len(data), 0)

    def test_atomics_need_no_lock(self):
        beats = self.segment["workers[3].beats"]
        self.assertEqual(beats.fetch_add(5), 1)
        self.assertEqual(beats.swap(2**64 - 1), 6)
        self.assertEqual(beats.fetch_add(1), 2**64 - 1)
        self.assertEqual(beats.load(), 0, "it wraps around")
        self.assertEqual(self.segment["padded"].load(), -4)
        self.segment["flag"].store(False)
        self.assertIs(self.segment["flag"].load(), False)

    def test_data_without_lock_is_read_only(self):
        self.assertEqual(self.segment["version"], 12)
        with self.assertRaises(shm_sync.NotHeld):
            self.segment.value.version = 13
        with self.segment["pending"].lock() as data:
            pass
        with self.assertRaises(shm_sync.NotHeld):
            data.value = 1
        with self.assertRaises(shm_sync.NotHeld):
            data.value

    def test_assignments_without_effect_are_refused(self):
        segment = self.segment
        for target, name, error in [
            (segment, "version", AttributeError),
            (segment["pending"], "value", AttributeError),
            (segment["event"], "value", AttributeError),
            (segment["flag"], "value", AttributeError),
            (segment["workers"], "value", AttributeError),
        ]:
            with self.assertRaises(error, msg=f"{target!r}.{name}"):
                setattr(target, name, 3)
        with self.assertRaisesRegex(TypeError, "call store"):
            segment["workers[0]"].beats = 3

    def test_whole_values_are_replaced(self):
        with self.segment["workers[0].lock"].lock() as job:
            whole = shm_sync.copy(job)
        sender, receiver = self.segment["channel"].sender(), self.segment["channel"].receiver()
        with sender, receiver:
            sender.send(whole)
            self.assertEqual(receiver.recv(), whole)
            sender.send((9, "x", "Idle", "Empty", None))
            self.assertEqual(receiver.recv()["id"], 9)
            for wrong in [5, "text", {"id": 1}, (1, 2), (1, "x", "Idle", "Empty", -1)]:
                with self.assertRaises((TypeError, ValueError, OverflowError), msg=f"{wrong!r}"):
                    sender.send(wrong)
        with self.segment["floats"].lock() as floats:
            floats[:] = [4.0, 5.0, 6.0]
            floats[1:] = [7.0, 8.0]
            self.assertEqual(shm_sync.copy(floats), [4.0, 7.0, 8.0])
            with self.assertRaises(ValueError):
                floats[:] = [1.0]
        with self.segment["shape"].lock() as shape:
            self.assertEqual(shape.value.radius, 1.5)
            shape.value = ("Pair", {"0": 1, "1": 2})
            self.assertEqual(shm_sync.copy(shape), ("Pair", {"0": 1, "1": 2}))
            shape.value[0]
            with self.assertRaises(ValueError):
                shape.value = "Square"

    def test_segments_are_no_sequences(self):
        self.assertTrue(self.segment)
        self.assertIn("workers[3].lock", self.segment)
        self.assertNotIn("workers[4].lock", self.segment)
        with self.assertRaises(TypeError):
            list(self.segment)

    def test_segments_of_a_group_are_opened(self):
        path = f"/dev/shm{self.address}"
        os.chmod(path, 0o660)
        with self.assertRaises(shm_sync.PermissionDenied):
            shm_sync.open(self.address)
        shm_sync.open(self.address, group=os.stat(path).st_gid, mode=0o660).close()
        os.chmod(path, 0o600)

    def test_missing_paths_are_not_found(self):
        for path in ["nope", "workers[4]", "workers[x]", "workers[0", "pending.data", "version.x"]:
            with self.assertRaises(shm_sync.NotFound, msg=path):
                self.segment[path]

    # The mutex

    def test_lock_excludes_processes_and_threads(self):
        with self.segment["pending"].lock() as data:
            data.value = 0
        workers = [
            multiprocessing.get_context(method).Process(target=increment, args=(self.segment, 500))
            for method in ["fork", "fork", "spawn"]
        ]
        for worker in workers:
            worker.start()
        thread = in_thread(lambda: increment(self.segment, 500))
        for worker in workers:
            worker.join(LIMIT)
            self.assertEqual(worker.exitcode, 0, "the worker has finished")
        thread.join(LIMIT)
        with self.segment["pending"].lock() as data:
            self.assertEqual(data.value, 2000)

    def test_death_poisons(self):
        pid = self.die_inside()
        mutex = self.segment["pending"]
        with self.assertRaises(shm_sync.Poisoned) as caught:
            mutex.lock(LIMIT)
        self.assertEqual(caught.exception.cause.pid, pid)
        self.assertIs(caught.exception.cause.failure, shm_sync.Failure.DIED)
        with self.assertRaises(shm_sync.Poisoned):
            mutex.try_lock()
        with self.assertRaises(KeyError):
            with mutex.recover(LIMIT) as data:
                raise KeyError("the repair fails")
        self.assertIsNotNone(mutex.poison_cause, "a failed repair leaves the poison")
        with caught.exception.recover(LIMIT) as data:
            self.assertEqual(data.value, 99)
            data.value = 5
        self.assertIsNone(mutex.poison_cause)
        with mutex.lock(LIMIT) as data:
            self.assertEqual(data.value, 5)

    def test_exception_poisons(self):
        mutex = self.segment["pending"]
        with self.assertRaises(ZeroDivisionError):
            with mutex.lock() as data:
                data.value = 1 // 0
        self.assertIs(mutex.poison_cause.failure, shm_sync.Failure.PANICKED)
        self.assertEqual(mutex.poison_cause.pid, os.getpid())
        causes = []
        with mutex.lock_or_recover(lambda data, cause: causes.append(cause)) as data:
            self.assertEqual(data.value, 5)
        self.assertEqual(len(causes), 1)
        with mutex.lock_or_recover(lambda data, cause: causes.append(cause)):
            pass
        self.assertEqual(len(causes), 1, "the poison is cleared")

    def test_failed_repair_leaves_the_poison(self):
        self.die_inside()
        mutex = self.segment["pending"]
        with self.assertRaises(KeyError):
            mutex.lock_or_recover(lambda data, cause: {}["missing"])
        with self.assertRaises(shm_sync.Poisoned):
            mutex.lock(LIMIT)

    def test_lock_times_out(self):
        mutex = self.segment["pending"]
        begin, end = threading.Event(), threading.Event()

        def hold():
            with mutex.lock():
                begin.set()
                end.wait(LIMIT)

        holder = in_thread(hold)
        begin.wait(LIMIT)
        with self.assertRaises(TimeoutError):
            mutex.lock(0.25)
        self.assertIsNone(mutex.try_lock())
        end.set()
        holder.join(LIMIT)
        guard = mutex.lock(LIMIT)
        with self.assertRaises(shm_sync.Deadlock):
            mutex.lock()
        self.assertIsNone(mutex.try_lock(), "as in Rust, try_lock does not deadlock")
        guard.release()
        guard.release()

    def test_guard_belongs_to_its_thread_and_process(self):
        mutex = self.segment["pending"]
        guard = mutex.lock()
        errors = []

        def release():
            try:
                guard._release()
            except shm_sync.NotHeld as error:
                errors.append(error)

        in_thread(release).join(LIMIT)
        self.assertEqual(len(errors), 1, "another thread can't unlock")

        def use():
            try:
                guard.data.value = 1
            except shm_sync.NotHeld:
                guard.release()
                os._exit(0)

        self.assertEqual(os.waitstatus_to_exitcode(self.status_of(use)), 0)
        self.assertIsNone(mutex.try_lock(), "the child has not unlocked")
        guard._held.value = 1
        guard.release()
        with mutex.lock(LIMIT):
            pass

    def status_of(self, function):
        """Calls a function in a forked child. Returns its status."""
        pid = os.fork()
        if pid == 0:
            try:
                function()
            finally:
                os._exit(70)
        return os.waitpid(pid, 0)[1]

    def test_forgotten_guard_poisons(self):
        mutex = self.segment["pending"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mutex.lock()
        self.assertEqual([warning.category for warning in caught], [ResourceWarning])
        with self.assertRaises(shm_sync.Poisoned):
            mutex.lock(LIMIT)

    def test_guard_found_by_another_thread_is_released(self):
        mutex = self.segment["pending"]
        cycle = [mutex.lock()]
        cycle.append(cycle)
        del cycle
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            in_thread(gc.collect).join(LIMIT)
            # The next call of this thread releases it.
            with self.assertRaises(shm_sync.Poisoned):
                mutex.lock(LIMIT)

    def test_wait_gives_the_data_away(self):
        pending, changed = self.segment["pending"], self.segment["changed"]
        errors = []
        guard = pending.lock()

        def use_and_notify():
            with pending.lock(LIMIT):
                try:
                    guard.data.value = 1
                except shm_sync.NotHeld as error:
                    errors.append(error)
            changed.notify_all()

        thread = in_thread(use_and_notify)
        while not errors:
            changed.wait(guard)
        thread.join(LIMIT)
        self.assertEqual(len(errors), 1, "the data are another thread's during the wait")

        def wait_elsewhere():
            try:
                changed.wait(guard, 0.01)
            except shm_sync.NotHeld as error:
                errors.append(error)

        in_thread(wait_elsewhere).join(LIMIT)
        self.assertEqual(len(errors), 2, "another thread can't wait with the guard")
        self.assertIsNone(pending.try_lock(), "this thread holds it still")
        guard.release()
        with pending.lock(LIMIT):
            pass

    def test_permit_is_released_once(self):
        devices = self.segment["devices"]
        permit = devices.acquire()
        errors = []

        def release():
            try:
                permit.release()
            except shm_sync.NotHeld as error:
                errors.append(error)

        threads = [in_thread(release) for _ in range(8)]
        permit.release()
        permit.release()
        for thread in threads:
            thread.join(LIMIT)
        self.assertEqual(devices.available(), 4)

    def test_segment_in_use_is_not_closed(self):
        segment = shm_sync.open(self.address)
        event = segment["auto"]
        thread = in_thread(lambda: event.wait(LIMIT))
        refusals = []
        while not refusals:
            try:
                if segment._mapped._active:
                    segment.close()
            except RuntimeError as error:
                refusals.append(error)
        event.set()
        thread.join(LIMIT)
        segment.close()

    def test_forgotten_segment_is_closed(self):
        before = len(os.listdir("/proc/self/fd"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(5):
                shm_sync.open(self.address)["flag"].load()
        self.assertEqual({warning.category for warning in caught}, {ResourceWarning})
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_fields_of_variants_have_any_name(self):
        with self.segment["named"].lock() as named:
            self.assertEqual(named.value.variant, "User")
            self.assertEqual((named.value.name, named.value["variant"]), (1234, 5))
            whole = ("User", {"name": 1234, "variant": 5})
            self.assertEqual(shm_sync.copy(named), whole)
            named.value.name = 6
            self.assertEqual(named.value.name, 6)

    def test_open_guard_keeps_the_segment(self):
        segment = shm_sync.open(self.address)
        guard = segment["pending"].lock()
        with self.assertRaises(RuntimeError):
            segment.close()
        guard.release()
        flag = segment["flag"]
        segment.close()
        segment.close()
        for use in [
            lambda: segment["version"],
            lambda: segment.fingerprint,
            lambda: segment["pending"].lock(),
            flag.load,
        ]:
            with self.assertRaises(ValueError):
                use()

    def test_signal_handler_interrupts_waits(self):
        class Interrupted(Exception):
            pass

        def interrupt(*_):
            raise Interrupted

        old = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, old)
        receiver = self.segment["numbers"].receiver()
        self.addCleanup(receiver.release)
        for wait in [self.segment["auto"].wait, receiver.recv]:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaises(Interrupted):
                wait()
        with self.assertRaises(Interrupted):
            with self.segment["pending"].lock() as data:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                self.segment["changed"].wait_for(data, lambda data: False)
        self.assertIsNone(self.segment["pending"].poison_cause, "the data are consistent")
        with self.segment["pending"].lock(LIMIT):
            pass

    # The condition variable

    def test_condvar_is_notified(self):
        pending, changed = self.segment["pending"], self.segment["changed"]

        def notify():
            with pending.lock() as data:
                data.value = 42
            changed.notify_all()

        with pending.lock() as data:
            thread = in_thread(notify)
            self.assertTrue(changed.wait_for(data, lambda data: data.value == 42, LIMIT))
            self.assertFalse(changed.wait_for(data, lambda data: data.value == 43, 0.2))
            with self.assertRaises(TypeError):
                changed.wait(7)
        thread.join(LIMIT)

    def test_death_ends_the_wait(self):
        pending, changed = self.segment["pending"], self.segment["changed"]
        children = []
        thread = None
        with self.assertRaises(shm_sync.Poisoned) as caught:
            with pending.lock() as data:
                thread = in_thread(lambda: children.append(self.die_inside()))
                changed.wait_for(data, lambda data: False, LIMIT)
        thread.join(LIMIT)
        self.assertEqual([caught.exception.cause.pid], children)
        with caught.exception.recover(LIMIT):
            pass

    # The other objects

    def test_permits_come_back(self):
        devices = self.segment["devices"]
        self.assertEqual((devices.permits, devices.available()), (4, 4))
        permits = [devices.acquire() for _ in range(3)]
        self.assertEqual(len({permit.index for permit in permits}), 3)

        def die():
            permit = devices.acquire(LIMIT)
            self.assertFalse(permit.after_death)
            os.kill(os.getpid(), signal.SIGKILL)

        in_child(die)
        with devices.acquire(LIMIT) as permit:
            self.assertTrue(permit.after_death, "the last holder has died with it")
            timeouts = []

            def acquire():
                try:
                    devices.acquire(0.2)
                except TimeoutError as error:
                    timeouts.append(error)

            in_thread(acquire).join(LIMIT)
            self.assertEqual(len(timeouts), 1)
        for permit in permits:
            permit.release()
        self.assertEqual(devices.available(), 4)

    def test_events(self):
        event, auto = self.segment["event"], self.segment["auto"]
        self.assertFalse(event.wait(0.01))
        event.set()
        self.assertTrue(event.wait() and event.is_set())
        event.clear()
        self.assertFalse(event.is_set())
        thread = in_thread(auto.set)
        self.assertTrue(auto.wait(LIMIT))
        self.assertFalse(auto.is_set(), "it resets itself")
        thread.join(LIMIT)

    def test_channels(self):
        numbers = self.segment["numbers"]
        with numbers.sender() as sender, numbers.receiver() as receiver:
            for number in range(8):
                sender.send(number)
            self.assertEqual(len(numbers), 8)
            with self.assertRaises(TimeoutError):
                sender.send(8, timeout=0.1)
            self.assertEqual(receiver.recv(), 0)
            with self.assertRaises(OverflowError):
                sender.send(-1)
            sender.release()
            self.assertEqual(list(receiver), list(range(1, 8)))
            with self.assertRaises(shm_sync.Disconnected):
                receiver.recv()

    def test_channel_of_structs(self):
        jobs = self.segment["channel"]
        job = {"id": 1, "name": "ü", "state": "Idle", "shape": ("Empty", {}), "parent": None}
        with jobs.sender() as sender, jobs.receiver() as receiver:
            sender.send(job)
            received = receiver.recv()
        self.assertEqual((received["name"], received["shape"]), ("ü", ("Empty", {})))

    def test_death_of_sender_is_told(self):
        numbers = self.segment["numbers"]

        def die():
            with numbers.sender() as sender:
                sender.send(1)
                os.kill(os.getpid(), signal.SIGKILL)

        with numbers.receiver() as receiver:
            in_child(die)
            self.assertEqual(receiver.recv(LIMIT), 1)
            with self.assertRaises(shm_sync.PeerDied):
                receiver.recv(LIMIT)

    def test_pipes_are_files(self):
        pipe = self.segment["pipe"]

        def write():
            with pipe.writer() as writer, io.TextIOWrapper(writer) as text:
                for number in range(1000):
                    text.write(f"line {number}\n")

        thread = in_thread(write)
        with pipe.reader() as reader:
            lines = reader.readlines()
        thread.join(LIMIT)
        self.assertEqual((len(lines), lines[-1]), (1000, b"line 999\n"))

    # Segments

    def test_bytes_before_a_death_are_not_lost(self):
        def write(data):
            def write_and_die():
                with self.segment["pipe"].writer() as writer:
                    writer.write(data)
                    writer.flush()
                    os.kill(os.getpid(), signal.SIGKILL)

            in_child(write_and_die)

        for read in (
            lambda reader: reader.read(),
            lambda reader: reader.read(100),
            lambda reader: reader.readlines(),
        ):
            write(b"one\ntwo")
            with self.segment["pipe"].reader() as reader:
                with self.assertRaises(shm_sync.PeerDied) as raised:
                    read(reader)
                self.assertEqual(raised.exception.rest, b"one\ntwo")
        write(b"one\ntwo")
        with self.segment["pipe"].reader() as reader:
            self.assertEqual(next(reader), b"one\n")
            with self.assertRaises(shm_sync.PeerDied) as raised:
                next(reader)
            self.assertEqual(raised.exception.rest, b"two")
            self.assertRaises(shm_sync.PeerDied, reader.read, 1)

    def test_reader_has_the_methods_of_a_file(self):
        text = b"one\n" * 3 + b"\n" + b"x" * 20_000 + b"\nend"
        for read in (
            lambda reader: reader.read(),
            lambda reader: b"".join(iter(lambda: reader.read(7), b"")),
            lambda reader: b"".join(reader),
            lambda reader: b"".join(reader.readlines()),
            lambda reader: b"".join(iter(lambda: reader.readline(3), b"")),
            lambda reader: reader.readline() + reader.read(0) + reader.read(),
            lambda reader: self.read_into(reader, 20_000) + self.read_into(reader, 5_000),
        ):
            pipe = self.segment["pipe"]
            is_there = threading.Event()

            def write():
                with pipe.writer() as writer:
                    is_there.set()
                    writer.write(text)

            thread = in_thread(write)
            is_there.wait(LIMIT)
            with pipe.reader() as reader:
                self.assertEqual(read(reader), text)
                thread.join()
        self.assertEqual(len(text.splitlines(keepends=True)), 6)

    def read_into(self, reader, size):
        buffer = bytearray(size)
        return bytes(buffer[: reader.readinto(buffer)])

    def test_closing_twice_at_once_closes_once(self):
        mapped = self.segment._mapped
        check = mapped._check_unused
        inside = []

        def close_below():
            if not inside:
                inside.append(True)
                mapped.close()
            check()

        mapped._check_unused = close_below
        mapped.close()
        self.assertRaises(ValueError, lambda: self.segment["pending"].lock())

    def test_message_below_a_message_is_refused(self):
        numbers = self.segment["numbers"]
        refused = []
        with numbers.sender() as sender, numbers.receiver() as receiver:

            def receive_below(*_):
                try:
                    receiver.recv(0)
                except RuntimeError as error:
                    refused.append(error)
                sender.send(7)

            before = signal.signal(signal.SIGUSR1, receive_below)
            self.addCleanup(signal.signal, signal.SIGUSR1, before)
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            self.assertEqual(receiver.recv(LIMIT), 7)
            timer.join()
        self.assertEqual(len(refused), 1)

    def test_interrupted_wait_passes_the_notification_on(self):
        pending, changed = self.segment["pending"], self.segment["changed"]
        woken = threading.Event()

        def wait_once():
            # As C code waits: no short time-out ends it.
            with pending.lock() as data:
                guard = data._access.guard()
                place = guard._mutex._place
                guard._segment.call(
                    "wait_for", changed._place, place, int(LIMIT * 1e9), guard._held
                )
            woken.set()

        def wait():
            with pending.lock() as data:
                changed.wait_for(data, lambda _: False)

        def wait_behind_and_notify():
            # The signal puts the other wait at the end of the queue.
            time.sleep(0.01)
            threads.append(in_thread(wait_once))
            time.sleep(0.02)
            with pending.lock():
                changed.notify_one()

        threads = []
        self.interrupted(wait, wait_behind_and_notify)
        self.assertTrue(woken.wait(LIMIT / 2))
        threads[0].join()

    def interrupted(self, wait, act):
        """Interrupts `wait` by an exception of a signal handler, and then calls `act`."""

        class Interruption(Exception):
            pass

        def raise_it(*_):
            raise Interruption

        def interrupt():
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGUSR1)
            act()

        before = signal.signal(signal.SIGUSR1, raise_it)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        thread = in_thread(interrupt)
        with self.assertRaises(Interruption):
            wait()
        thread.join()

    def test_interrupted_wait_leaves_the_event_set(self):
        event = self.segment["auto"]
        self.interrupted(event.wait, event.set)
        self.assertTrue(event.wait(0))

    def test_interrupted_write_loses_no_later_byte(self):
        pipe = self.segment["pipe"]
        read = []
        may_read = threading.Event()

        def read_all():
            with pipe.reader() as reader:
                may_read.wait(LIMIT)
                read.append(reader.read())

        reading = in_thread(read_all)
        with pipe.writer() as writer:
            self.interrupted(lambda: writer.write(b"A" * 1_000_000), may_read.set)
            writer.write(b"Z" * 10)
        reading.join()
        self.assertEqual(read[0].lstrip(b"A"), b"Z" * 10)

    def test_guard_of_an_ended_thread_is_not_held(self):
        guards = []
        in_thread(lambda: guards.append(self.segment["pending"].lock())).join()
        refused = []

        def use():
            # Most often, this thread has the number of the other one.
            try:
                guards[0].data.value = 1
            except shm_sync.NotHeld as error:
                refused.append(error)

        in_thread(use).join()
        self.assertEqual(len(refused), 1)
        # A guard that can't be released any more keeps no segment open, as soon as the
        # kernel has ended its thread.
        begin = time.monotonic()
        while True:
            try:
                self.segment.close()
                break
            except RuntimeError:
                self.assertLess(time.monotonic() - begin, LIMIT)

    def test_call_below_keeps_the_segment(self):
        mapped = self.segment._mapped
        with self.assertRaisesRegex(RuntimeError, "a call is using it"):
            mapped._run(self.segment.close)
        with self.segment["pending"].lock() as data:
            data.value += 1

    def test_forked_child_closes_beside_calls_of_other_threads(self):
        numbers = self.segment["numbers"]
        is_there = threading.Event()

        def receive():
            with numbers.receiver() as receiver:
                is_there.set()
                receiver.recv(LIMIT)

        thread = in_thread(receive)
        is_there.wait(LIMIT)
        time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            try:
                self.segment.close()
                os._exit(42)
            finally:
                os._exit(70)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 42)
        with numbers.sender() as sender:
            sender.send(1)
        thread.join()

    def test_fingerprint_is_checked(self):
        shm_sync.open(self.address, fingerprint=self.segment.fingerprint).close()
        with self.assertRaises(shm_sync.LayoutMismatch):
            shm_sync.open(self.address, fingerprint="0" * 32)
        with self.assertRaises(ValueError):
            shm_sync.open(self.address, fingerprint="123")
        same = pickle.loads(pickle.dumps(self.segment))
        self.assertEqual(same["version"], 12)
        same.close()

    def test_failures_to_open_are_typed(self):
        for address, error in [("/shm-sync-no-such", shm_sync.NotFound), ("", ValueError)]:
            with self.assertRaises(error, msg=address):
                shm_sync.open(address)
        with self.assertRaises(shm_sync.NotASegment):
            shm_sync.open(os.path.abspath(__file__))

    def test_any_type_table_is_parsed_or_refused(self):
        table = self.segment._mapped.type_table()
        fingerprint = int(self.segment.fingerprint, 16)
        good = _types.parse(table, fingerprint)
        self.assertEqual(good.kind, "struct")
        for cut in range(0, len(table), 40):
            with self.assertRaises(shm_sync.CorruptSegment, msg=f"cut at {cut}"):
                _types.parse(table[:cut], fingerprint)
        for word in range(0, len(table), 8):
            for value in [0, 2**64 - 1, 1 << 63, 0xFFFFFF01]:
                damaged = table[:word] + struct.pack("<Q", value) + table[word + 8 :]
                try:
                    _types.parse(damaged, fingerprint)
                except shm_sync.CorruptSegment:
                    pass

    def test_documentation(self):
        started = time.monotonic()
        names = {"segment": self.segment, "address": self.address, "shm_sync": shm_sync}
        tried = 0
        for module in [shm_sync, shm_sync._sync, shm_sync._segment]:
            result = doctest.testmod(module, extraglobs=names)
            self.assertEqual(result.failed, 0, f"the examples of {module.__name__}")
            tried += result.attempted
        self.assertGreater(tried, 8, "there are examples")
        self.assertLess(time.monotonic() - started, LIMIT, "no example waits for ever")


if __name__ == "__main__":
    unittest.main()
