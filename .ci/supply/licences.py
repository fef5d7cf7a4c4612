"""Writes THIRD-PARTY.md: every package that users get, with its licence. `--check`: is it as it would be written?

Licences are read from the installed packages, in this order: the SPDX expression, the classifiers, the free text. Names
in free text are translated by one table below; a licence that is not in the list of what may be shipped is an error, so
that nothing slips in unnoticed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from license_expression import get_spdx_licensing

from supply.lock import ROOT, Locked, base_names, server_names, shipped

LIST: Final = ROOT / "THIRD-PARTY.md"
PERMITTED: Final = frozenset(
    ("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense")
)
"""Permissive licences: they ask for nothing but their own notice."""
TOLERATED: Final[Mapping[str, str]] = MappingProxyType(
    {"certifi": "MPL-2.0", "orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)", "pathspec": "MPL-2.0"}
)
"""Packages under the Mozilla Public License, with the whole expression that was looked at. It is copyleft file by file:
who ships these packages as they are, as every installer does, has no more to do than to keep their notices."""
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "3-clause bsd license": "BSD-3-Clause",
        "apache software license": "Apache-2.0",
        "bsd license": "BSD-3-Clause",
        "isc license (iscl)": "ISC",
        "mit license": "MIT",
        "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    }
)
"""What packages call their licence in words, in small letters → its SPDX identifier."""


def licence_of(name: str) -> str:
    """SPDX expression of an installed package. Raises ValueError when it cannot be told."""
    found = metadata.metadata(name)
    if "License-Expression" in found:
        return found["License-Expression"]
    classified = [
        text.rpartition(" :: ")[2] for text in found.get_all("Classifier", []) if text.startswith("License ::")
    ]
    texts = [text for text in classified if text != "OSI Approved"] or [
        found["License"].strip() if "License" in found else "nothing"
    ]
    known = [_WORDS.get(text.lower(), text if text in PERMITTED else "") for text in texts]
    if not all(known):
        raise ValueError(f"{name}: its licence is called {texts}: look it up, and add the words to this table")
    return " AND ".join(sorted(set(known)))


def may_be_shipped(expression: str) -> bool:
    """Whether an SPDX expression can be met with permitted licences alone."""
    return _met(get_spdx_licensing().parse(expression, validate=True))


def _met(node: Any) -> bool:
    match type(node).__name__:
        case "AND":
            return all(map(_met, node.args))
        case "OR":
            return any(map(_met, node.args))
    return str(node) in PERMITTED  # a symbol, or one WITH an exception, which is not in the list


def objections(licences: Mapping[str, str]) -> list[str]:
    """Packages under a licence that may not be shipped."""
    return [
        f"{name}: {licence}"
        for name, licence in licences.items()
        if TOLERATED.get(name) != licence and not may_be_shipped(licence)
    ]


def third_party(lock: Mapping[str, Locked], licences: Mapping[str, str]) -> str:
    """The list, in Markdown."""
    base, server = base_names(lock), server_names(lock)
    lines = [
        "# Third-party software",
        "",
        "Written by `make licences` from the lock files and the packages that they install; tests check that it is",
        "current. *Base* is what a backend installs to publish, *server* comes with the extra of that name, *embedded*",
        "is the server for machines without Redis, with what builds the package.",
        "",
        "| package | version | licence | in |",
        "|---|---|---|---|",
    ]
    for name, locked in sorted(lock.items()):
        where = "base" if name in base else "server" if name in server else "embedded"
        lines.append(f"| {name} | {locked.version} | {licences[name]} | {where} |")
    lines += [
        "",
        "Beside packages: uPlot 1.6.32 (MIT), the charts of the dashboard, `gateway/control/dashboard/vendor`.",
    ]
    unchanged = ", ".join(name for name in TOLERATED if name in lock)
    lines += [
        "",
        f"The MPL of {unchanged} is copyleft file by file; they are installed as they are, nothing is changed.",
    ]
    return "\n".join(lines) + "\n"


def installed_licences(lock: Mapping[str, Locked]) -> dict[str, str]:
    """Licence of every package of `lock`. Raises ValueError when another version is installed than the locked one."""
    found = {}
    for name, locked in sorted(lock.items()):
        if (version := metadata.version(name)) != locked.version:
            raise ValueError(f"{name} {version} is installed, {locked.version} is locked: `make lint` sets it right")
        found[name] = licence_of(name)
    return found


def main(arguments: list[str], path: Path = LIST) -> int:
    """0 = written, or current; 1 = not current, or a licence that may not be shipped."""
    lock = shipped()
    licences = installed_licences(lock)
    if wrong := objections(licences):
        sys.stderr.write("Not to be shipped:\n  " + "\n  ".join(wrong) + "\n")
        return 1
    text = third_party(lock, licences)
    if "--check" in arguments:
        if path.read_text() != text:
            sys.stderr.write(f"{path.name} is not current: `make licences` rewrites it.\n")
            return 1
        return 0
    path.write_text(text)
    sys.stdout.write(f"{path.name}: {len(lock)} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
