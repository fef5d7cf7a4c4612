"""The private folder of an embedded redis-server: where it is, who may have it, and cleaning up after a crash.

`<temporary folder>/nexus-gateway-<uid>-<port>`, 0700. The name follows from user and public port, so that
`nexus-gateway publish` finds the running server; in a shared /tmp, anybody can guess it, so what is there already is
looked at before it is used. Who has the folder holds a lock (flock) on it. The guard and the server inherit it, so it
is held for exactly as long as one of them lives, whatever they die of. (It also keeps systemd-tmpfiles from clearing
away a folder that is in use.) The rule that is easiest to break: check the folder through its descriptor, not its
name, which may lead elsewhere a moment later.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from gateway.errors import StartupError
from gateway.storage.guard import clear_folder

SOCKET_NAME = "redis.sock"
MAX_SOCKET_PATH = 107
"""unix(7): `sun_path` holds 108 bytes, one of them the final zero."""


def embedded_folder(public_port: int) -> Path:
    """Folder of the embedded server of this user's gateway with that public port, running or not."""
    return Path(tempfile.gettempdir()) / f"nexus-gateway-{os.geteuid()}-{public_port}"


def embedded_socket(public_port: int) -> Path:
    """Its unix socket. There is one while the gateway runs, if it embeds its Redis."""
    return embedded_folder(public_port) / SOCKET_NAME


def claim_folder(folder: Path) -> int | None:
    """Make `folder`, or take over a stale one; the descriptor that holds the lock on it.

    None = a gateway of ours has it. It may be about to end (a guard that cleans up), so asking again is reasonable.
    Raises StartupError when it is not a folder that we may use.
    """
    if len(os.fsencode(folder / SOCKET_NAME)) > MAX_SOCKET_PATH:
        raise StartupError(
            f"the path {folder / SOCKET_NAME} is longer than the {MAX_SOCKET_PATH} bytes that a unix socket may have. "
            "Set TMPDIR to a folder with a shorter name."
        )
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass  # stale, in use, or not ours: told apart below
    except OSError as error:
        raise StartupError(f"cannot make {folder} for the embedded Redis: {error.strerror}. Check TMPDIR.") from error
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # its last holder removed it just now
    except OSError as error:
        raise StartupError(_not_usable(folder, error.strerror or "cannot be opened")) from error
    try:
        locked = _check_and_lock(fd, folder)
    except BaseException:
        os.close(fd)
        raise
    if not locked:
        os.close(fd)
        return None
    clear_folder(str(folder))
    return fd


def _check_and_lock(fd: int, folder: Path) -> bool:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise StartupError(_not_usable(folder, f"belongs to user id {status.st_uid}"))
    if stat.S_IMODE(status.st_mode) != 0o700:
        raise StartupError(_not_usable(folder, f"has mode {stat.S_IMODE(status.st_mode):04o} instead of 0700"))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StartupError(_not_usable(folder, f"cannot be locked ({error.strerror}); set TMPDIR")) from error
    # Its last holder may have removed it between our open and our lock: then we hold a folder that nobody can find.
    try:
        return os.path.samestat(status, os.lstat(folder))
    except FileNotFoundError:
        return False


def _not_usable(folder: Path, reason: str) -> str:
    return (
        f"{folder} is where the embedded Redis of this port lives, but it is not a folder of ours: {reason}. "
        "Remove it, choose another port, or set redis.url."
    )
