"""The image, as far as it can be judged without an engine that builds it."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from typing import NamedTuple

import pytest
import typer.main

from gateway.cli.commands import app
from tests.support.kubernetes import K8S, ROOT, Installation, port_names

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Instruction(NamedTuple):
    word: str
    rest: str


def instructions() -> list[Instruction]:
    text = (K8S / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined]


def last_stage() -> list[Instruction]:
    found = instructions()
    start = max(number for number, each in enumerate(found) if each.word == "FROM")
    return found[start:]


def test_the_base_is_pinned_to_a_python_that_the_project_supports() -> None:
    arguments = [each.rest for each in instructions() if each.word == "ARG"]
    (base,) = arguments
    match = re.fullmatch(r"PYTHON=python:(3\.\d+)\.\d+-slim-[a-z]+", base)
    assert match, base
    assert f"Programming Language :: Python :: {match[1]}" in PROJECT["classifiers"]
    stages = [each.rest for each in instructions() if each.word == "FROM"]
    assert stages == ["${PYTHON} AS build", "${PYTHON}"], "nothing else may be built upon"


def test_it_runs_as_the_user_that_the_manifests_name(production: Installation) -> None:
    (user,) = [each.rest for each in last_stage() if each.word == "USER"]
    context = production.pod["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_it_exposes_the_ports_of_the_manifests(production: Installation) -> None:
    (ports,) = [each.rest for each in last_stage() if each.word == "EXPOSE"]
    assert {int(port) for port in ports.split()} == set(port_names(production.pod).values())


def test_it_starts_a_command_that_there_is(production: Installation) -> None:
    words = {each.word: json.loads(each.rest) for each in last_stage() if each.word in ("ENTRYPOINT", "CMD")}
    (entry,) = words["ENTRYPOINT"]
    assert entry in PROJECT["scripts"]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert words["CMD"][0] in commands
    arguments = production.container["args"]
    assert arguments[0] in commands
    options = {option for parameter in commands[arguments[0]].params for option in parameter.opts}
    assert {word for word in arguments[1:] if word.startswith("-")} <= options
    assert "command" not in production.container, "the image's own entry point"


def copied() -> list[str]:
    """What is copied out of the repository."""
    sources = [each.rest.split()[:-1] for each in instructions() if each.word in ("COPY", "ADD")]
    return [source for words in sources if "--from=build" not in words for source in words]


def test_what_is_copied_exists_and_is_let_through() -> None:
    ignore = (K8S / "Containerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in ignore if line and not line.startswith("#")]
    assert patterns[0] == "*", "first nothing, then what is named"
    let_through = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    assert set(copied()) == let_through
    for source in copied():
        assert (ROOT / source).exists(), source


def test_what_the_build_needs_is_copied() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {
        PROJECT["readme"],
        *PROJECT["license-files"],
        *build["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    assert needed | {"pyproject.toml", "requirements.lock", "requirements-build.lock"} == set(copied())


def test_packages_come_from_the_lock_by_hash_and_as_wheels() -> None:
    steps = [each.rest for each in instructions() if each.word == "RUN" and " install " in each.rest]
    assert len(steps) == 3
    for step in steps[:2]:
        assert "--require-hashes" in step
        assert "--only-binary :all:" in step
    assert "--no-deps --no-index /dist/*.whl" in steps[2]
    assert "pip wheel --no-deps --no-build-isolation" in steps[2]


def test_only_the_production_lock_and_the_wheel_get_into_the_image() -> None:
    """What builds is installed into the build stage's own Python, which stays behind."""
    steps = [each.rest for each in instructions() if each.word == "RUN" and " install " in each.rest]
    into_the_image = [step for step in steps if "--python /opt/nexus-gateway/bin/python install" in step]
    assert into_the_image == [steps[0], steps[2]]
    assert "-r requirements.lock" in steps[0]
    assert "-r requirements-build.lock" in steps[1]
    assert [each.rest.split() for each in last_stage() if each.word == "COPY"] == [
        ["--from=build", "/opt/nexus-gateway", "/opt/nexus-gateway"]
    ]


@pytest.mark.parametrize("word", ["secret", "token", "password", "api_key", "hmac"])
def test_nothing_secret_and_no_setting_is_baked_in(word: str) -> None:
    baked = " ".join(each.rest for each in instructions() if each.word in ("ENV", "ARG", "LABEL"))
    assert word not in baked.lower()
    assert "GATEWAY_" not in baked
    assert not [source for source in copied() if fnmatch.fnmatch(source, "*.env") or word in source]
