"""The guard process between the supervisor and the embedded redis-server. Run as a file, by `embedded.py` only.

    supervisor ──stdin──▶ guard ──▶ redis-server

It starts the server and waits. When its standard input ends (the supervisor closed it, or is gone, even by SIGKILL) or
SIGTERM arrives, it stops the server, removes the folder and exits with 0. When the server ends by itself it removes
the folder and exits with 1, so that the supervisor can start both anew.

It runs with `python -I -S` and imports a few modules of the standard library, nothing of the gateway: it is there for
as long as the gateway is, and must work when nothing else does. The rule that is easiest to break: single-threaded,
because it forks, and because the kernel ties PR_SET_PDEATHSIG to the thread that forked. SIGINT and SIGHUP are ignored:
Ctrl-C is the supervisor's to decide.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent dies. Linux only."""
EXIT_STOPPED = 0
EXIT_SERVER_ENDED = 1


def main(arguments: list[str]) -> int:
    """`arguments`: the server's folder, seconds that it has to stop after SIGTERM, and its command line."""
    folder, stop_timeout_s, command = arguments[0], float(arguments[1]), arguments[2:]
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_r, False)
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for noticed in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(noticed, _wake)
    server = _start(command)
    try:
        status = _watch(server, wake_r)
        if status is None:
            _stop(server, stop_timeout_s, wake_r)
            return EXIT_STOPPED
        _say(_describe(status))
        return EXIT_SERVER_ENDED
    finally:
        remove_folder(folder)


def remove_folder(folder: str) -> None:
    """Remove `folder` and what is in it. What cannot be removed stays."""
    clear_folder(folder)
    _try(os.rmdir, folder)


def clear_folder(folder: str) -> None:
    """Remove what is in `folder`; follows no symbolic link."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            _try(os.unlink, os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            _try(os.unlink if os.path.islink(path) else os.rmdir, path)


def _start(command: list[str]) -> int:
    # Loaded before the fork: the child should do as little as possible between fork and exec.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(EXIT_SERVER_ENDED)  # the guard died in between: that signal will never come
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.execv(command[0], command)  # noqa: S606 - a shell is what is not wanted
    except OSError as error:
        _say(f"{command[0]}: {error}")
    finally:
        os._exit(127)


def _watch(server: int, wake: int) -> int | None:
    """Wait until the server has ended (its wait status) or has to be stopped (None)."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake and signal.SIGTERM in _drained(wake):
                return None
            if fd == 0 and not os.read(0, 4096):
                return None
        pid, status = os.waitpid(server, os.WNOHANG)
        if pid:
            return status


def _stop(server: int, timeout_s: float, wake: int) -> None:
    """SIGTERM, then SIGKILL once `timeout_s` has passed. Returns when the server is gone."""
    os.kill(server, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    while not os.waitpid(server, os.WNOHANG)[0]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
            return
        poll.poll(left_s * 1000)
        _drained(wake)


def _drained(wake: int) -> bytes:
    """The numbers of the signals that came in since the last call."""
    try:
        return os.read(wake, 4096)
    except BlockingIOError:
        return b""


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"redis-server was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"redis-server ended with status {code}"


def _try(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        _say(f"cannot remove {path}: {error.strerror}")


def _say(line: str) -> None:
    """To the supervisor, which may be gone."""
    try:
        os.write(1, f"{line}\n".encode())
    except OSError:
        return


def _wake(_signum: int, _frame: object) -> None:
    """Nothing to do here: the wake-up descriptor has the number. A handler must be set for it to be written at all."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
