"""Worker processes that tasks are handed to in order, and that may crash or hang without harm to the job.

Decoders are C libraries, and a damaged file can make one abort or loop for ever. A worker that does is replaced, and
the result of its task is then a `Failure`.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from headstart.errors import HeadstartError

TASKS_A_BLOCK = 8  # tasks that a worker is sent at a time
BLOCKS_AHEAD = 2  # blocks that each worker has been sent
TIMEOUT_S = 120.0  # without a result, after which a worker is taken for hanging
TRIES = 2  # of a task that crashes the decoder
MOST_KILLED = 5  # times that a worker is killed over the same task, after which the job fails

Task = Sequence[Any]  # of JSON values: the arguments of the function


class Result(NamedTuple):
    """What the function returned for a task."""

    facts: Any  # JSON value
    content: bytes | memoryview | None


class Failure(NamedTuple):
    """Why there is no result for a task."""

    reason: str


def in_order(
    function: str, tasks: Iterable[Task], processes: int, timeout_s: float = TIMEOUT_S
) -> Iterator[Result | Failure]:
    """The results of tasks, in the order of the tasks.

    Args:
        function: `module:name` of a function that returns a `Result`.
        processes: workers; with 0 the function runs in this process, where nothing protects from a crash.
        timeout_s: seconds without a result after which a task has failed.

    Raises:
        HeadstartError: workers are killed over one task again and again, most likely for want of memory.
        RuntimeError: a worker does not start, or the function raises an error.
    """
    if not processes:
        call = _function(function)
        yield from (call(*task) for task in tasks)
        return
    tasks, blocks = iter(tasks), deque()  # blocks in order, each with the results that have arrived
    workers = [_Worker(function) for _ in range(processes)]
    try:
        while True:
            while len(blocks) < BLOCKS_AHEAD * processes + processes:
                free = min(workers, key=lambda worker: len(worker.sent))
                if len(free.sent) >= BLOCKS_AHEAD or not (block := list(itertools.islice(tasks, TASKS_A_BLOCK))):
                    break
                blocks.append(_Block(block))
                free.send(blocks[-1])
            if not blocks:
                return
            while blocks and blocks[0].ready:
                yield from blocks.popleft().results
            if blocks:
                _receive(workers, timeout_s)
    finally:
        for worker in workers:
            worker.stop()


class _Block:
    """Some tasks, and the results that have arrived of them."""

    def __init__(self, tasks: list[Task]):
        self.tasks, self.results, self.tries, self.killed = tasks, [], 1, 0

    @property
    def ready(self) -> bool:
        return len(self.results) == len(self.tasks)


class _Worker:
    """A process that runs the function on what it is sent."""

    def __init__(self, function: str):
        self.function, self.sent = function, deque()
        self._start()

    def _start(self) -> None:
        self.connection, end = Pipe()
        with end:
            threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            paths = os.pathsep.join(filter(None, sys.path))
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headstart.workers", str(end.fileno()), self.function],
                pass_fds=[end.fileno()],
                env=os.environ | threads | {"PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
            )
        self.started, self.heard = False, time.monotonic()

    def send(self, block: _Block) -> None:
        if not self.sent:
            self.heard = time.monotonic()
        self.sent.append(block)
        self._send(block.tasks)

    def _send(self, tasks: list[Task]) -> None:
        try:
            self.connection.send_bytes(json.dumps(tasks).encode())
        except OSError:
            pass  # it died, which `receive` notices

    def receive(self) -> None:
        """Take one result, or replace the worker if it has died."""
        try:
            message = json.loads(self.connection.recv_bytes())
            content = self.connection.recv_bytes() if message.get("content") else None
        except (EOFError, OSError):
            code = self.process.wait()
            if code == -signal.SIGKILL:
                return self._killed()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            return self.replace(f"the decoder crashed ({how})")
        self.heard = time.monotonic()
        if "error" in message:
            raise RuntimeError(f"{self.function} failed in a worker:\n{message['error']}")
        if "ready" in message:
            self.started = True
            return None
        block = self.sent[0]
        block.results.append(Result(message["facts"], content))
        block.tries, block.killed = 1, 0
        if block.ready:
            self.sent.popleft()
        return None

    def replace(self, reason: str) -> None:
        """Go on with a new process; the task on which the old one failed `TRIES` times has no result."""
        if not self.started:
            raise RuntimeError(f"a worker process did not start ({reason}); its message is above")
        if self.sent:
            block = self.sent[0]
            block.tries += 1
            if block.tries > TRIES:
                block.results.append(Failure(f"undecodable audio: {reason}"))
                block.tries = 1
                if block.ready:
                    self.sent.popleft()
        self._restart()

    def _killed(self) -> None:
        """Go on with a new process after SIGKILL, for which the task is not to blame unless it happens again and again.

        Decoders do not kill themselves; the system does, when memory runs out, or a person.

        Raises:
            HeadstartError: a worker was killed `MOST_KILLED` times over the same task.
        """
        if self.sent:
            block = self.sent[0]
            block.killed += 1
            if block.killed == MOST_KILLED:
                task = block.tasks[len(block.results)]
                raise HeadstartError(
                    f"the process that decodes {task[0]} was killed {MOST_KILLED} times (SIGKILL), most likely because "
                    "memory ran out. Give the job more memory (mem_mb in the profile), or fewer threads"
                )
        self._restart()

    def _restart(self) -> None:
        self.stop()
        self._start()
        for block in self.sent:
            self._send(block.tasks[len(block.results) :])

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


def _receive(workers: list[_Worker], timeout_s: float) -> None:
    """Wait for a message, or for the time of a worker to run out."""
    busy = [worker for worker in workers if worker.sent]
    for worker in busy:
        left = worker.heard + timeout_s - time.monotonic()
        if left <= 0 and not worker.connection.poll():
            worker.sent[0].tries = TRIES  # not again
            return worker.replace(f"the decoder gave no result in {timeout_s:g} s")
    left = min(worker.heard for worker in busy) + timeout_s - time.monotonic()
    ready = wait([worker.connection for worker in busy], max(0.0, left))
    for worker in busy:
        if worker.connection in ready:
            worker.receive()
    return None


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _work(connection: Connection, name: str) -> None:
    """Answer tasks until the other end is closed."""
    import traceback

    call = _function(name)
    connection.send_bytes(b'{"ready": true}')
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print warnings that name no file
    while True:
        try:
            tasks = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        for task in tasks:
            try:
                result = call(*task)
            except Exception:
                connection.send_bytes(json.dumps({"error": traceback.format_exc()}).encode())
                return
            connection.send_bytes(json.dumps({"facts": result.facts, "content": bool(result.content)}).encode())
            if result.content:
                connection.send_bytes(result.content)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job itself decides what an interruption means
    try:
        _work(Connection(int(sys.argv[1])), sys.argv[2])
    except (BrokenPipeError, ConnectionResetError):  # the job has ended
        sys.exit(0)
