"""Asks a vulnerability service about every locked package, by pip-audit. Arguments are handed on to it.

Exit status: 0 = every package was looked up, and no vulnerability is known · 1 = there are some · 3 = nothing or not
everything could be looked up, so that nothing is known either way. (`make` has one status of its own for all failures,
and says which it was.) The rule that is easiest to break: no answer is never good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from supply.lock import DEVELOPMENT_LOCK, RUNTIME_LOCK, read_lock

CLEAN: Final = 0
VULNERABLE: Final = 1
UNKNOWN: Final = 3


def pip_audit(lock: Path, arguments: Sequence[str]) -> tuple[str, str]:
    """Runs it for one lock file; what it wrote to stdout and to stderr."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes"]
    command += ["--vulnerability-service=osv", "--format=json", "--progress-spinner=off", "--timeout=10", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    return done.stdout, done.stderr


def verdict(lock: Path, stdout: str, stderr: str) -> tuple[int, list[str]]:
    """Exit status, and lines for people."""
    try:
        found: list[dict[str, Any]] = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return UNKNOWN, [f"{lock.name}: NOT CHECKED, the vulnerability service gave no answer: {reason[0]}"]
    vulnerable = [
        f"{lock.name}: {each['name']} {each['version']}: {weak['id']}, fixed in {weak['fix_versions'] or 'no version'}"
        for each in found
        for weak in each.get("vulns", ())
    ]
    answered = {each["name"] for each in found if "skip_reason" not in each}
    missing = sorted(read_lock(lock).keys() - answered)
    if vulnerable:
        return VULNERABLE, vulnerable
    if missing:
        return UNKNOWN, [f"{lock.name}: NOT CHECKED: {', '.join(missing)}"]
    return CLEAN, [f"{lock.name}: {len(answered)} packages, no vulnerability is known"]


def main(arguments: Sequence[str], locks: Sequence[Path] = (RUNTIME_LOCK, DEVELOPMENT_LOCK)) -> int:
    """The worst that was found: vulnerable, then unknown, then clean."""
    statuses = set()
    for lock in locks:
        status, lines = verdict(lock, *pip_audit(lock, arguments))
        statuses.add(status)
        print(*lines, sep="\n", file=sys.stderr if status else sys.stdout)
    return next(status for status in (VULNERABLE, UNKNOWN, CLEAN) if status in statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
