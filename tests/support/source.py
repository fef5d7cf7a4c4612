"""Our own source, parsed: what the tests of the architecture look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Module:
    """One file of `gateway`, `protocol` or `loadtest`."""

    path: Path

    @property
    def place(self) -> str:
        """For messages: the path from the root of the project."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """`gateway/hub/hub.py` → `hub`, `gateway/log.py` → `log`; "" for the package's own `__init__`."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.place)

    def imports(self, *, typing: bool) -> Iterator[tuple[str, str, int]]:
        """Module, name in it ("" for `import module`) and line; with or without those under `if TYPE_CHECKING`."""
        skipped: set[ast.AST] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.If) and not typing and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped.update(inner for statement in node.body for inner in ast.walk(statement))
            if node in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name, "", node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.place}:{node.lineno}: relative import"
                assert node.module is not None
                yield from ((node.module, alias.name, node.lineno) for alias in node.names)

    def imports_of(self, known: set[str], *, typing: bool) -> Iterator[tuple[str, int]]:
        """The modules of `known` that are imported, with their lines. `from package import module` is the module."""
        for module, name, line in self.imports(typing=typing):
            if (inner := f"{module}.{name}") in known:
                yield inner, line
            elif module in known:
                yield module, line


@cache
def modules(package: str) -> tuple[Module, ...]:
    """Every module of a top-level package."""
    found = tuple(Module(path) for path in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in path.parts)
    assert found, f"no modules in {package}"
    return found
