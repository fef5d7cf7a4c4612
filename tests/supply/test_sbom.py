"""The bill of materials is that of the lock, and always the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway import __version__
from supply.licences import installed_licences
from supply.lock import base_names, shipped
from supply.sbom import bill_of_materials


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    lock = shipped()
    found: dict[str, Any] = json.loads(bill_of_materials(lock, installed_licences(lock)))
    return found


def test_it_has_every_locked_package_with_version_licence_and_hashes(document: dict[str, Any]) -> None:
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    components = {each["name"]: each for each in document["components"]}
    lock = shipped()
    assert components.keys() == lock.keys()
    for name, locked in lock.items():
        assert components[name]["purl"] == f"pkg:pypi/{name}@{locked.version}"
        assert components[name]["licenses"]
        assert sorted(each["value"] for each in components[name]["properties"]) == sorted(set(locked.hashes))
        assert components[name]["scope"] == ("required" if name in base_names(lock) else "optional")


def test_it_says_what_depends_on_what(document: dict[str, Any]) -> None:
    needs = {each["ref"]: set(each.get("dependsOn", ())) for each in document["dependencies"]}
    assert {"fastapi", "websockets", "redis"} <= needs["nexus-gateway"]
    assert "starlette" not in needs["nexus-gateway"]
    assert "starlette" in needs["fastapi"]
    assert document["metadata"]["component"]["version"] == __version__


def test_the_same_lock_gives_the_same_bytes() -> None:
    lock = shipped()
    licences = installed_licences(lock)
    backwards = dict(reversed(lock.items()))
    assert bill_of_materials(lock, licences) == bill_of_materials(backwards, licences)
