"""What our pages name exists: keys, variables, metrics, words of make, commands, modules, files, log lines."""

from __future__ import annotations

import difflib
import importlib.util
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import pytest
import typer.main
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from gateway.cli.commands import app
from gateway.config.base import Section
from gateway.config.model import Config
from gateway.config.namespace import Namespace
from gateway.config.schema import ENV_PREFIX, NAMESPACES, env_name, sections
from gateway.config.secrets import SUFFIX, secret_at
from gateway.relay.events import TABLE
from gateway.supervisor.keeper import Timing
from tests.docs.generated import exposed
from tests.docs.markdown import Page, pages
from tests.support.source import ROOT, modules

PAGES = [pytest.param(page, id=page.name) for page in pages()]


def code_of(page: Page) -> Iterator[tuple[str, str]]:
    """Place and text of all code: inline, and line by line in blocks."""
    yield from ((word.place, word.text) for word in page.words)
    for fence in page.fences:
        name, _, line = fence.place.rpartition(":")
        yield from ((f"{name}:{int(line) + number}", text) for number, text in enumerate(fence.text.splitlines()))


# Configuration.


def keys_of(model: type[Section], path: tuple[str, ...]) -> set[str]:
    keys = set(model.model_fields)
    return keys | {key + SUFFIX for key in keys if secret_at((*path, key + SUFFIX)) is not None}


KEYS = {name: keys_of(model, (name,)) for name, model in sections().items()} | {
    NAMESPACES: keys_of(Namespace, (NAMESPACES, "default"))
}


def unknown_settings(words: Iterable[tuple[str, str]]) -> list[str]:
    """`section.key` and `[section] key`, with or without a value behind them."""
    found = []
    for place, text in words:
        if match := re.fullmatch(r"\[(\w+)(?:\.[\w<>.-]+)?\] (\w+)(?: = .*)?", text):
            section, key = match[1], match[2]
        elif match := re.fullmatch(r"(\w+)\.(?:[\w<>-]+\.)?([a-z_0-9]+)(?: = .*)?", text):
            section, key = match[1], match[2]
            if section not in KEYS:
                continue
        else:
            continue
        if key not in KEYS.get(section, ()):
            found.append(f"{place}: {text}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist(page: Page) -> None:
    python = "\n".join(fence.text for fence in page.fences if fence.language == "python")
    words = ((word.place, word.text) for word in page.words if word.text not in python)
    assert unknown_settings(words) == []


def test_an_unknown_setting_is_found() -> None:
    words = ["limits.message_bytes", "limits.mesage_bytes", "[auth] insecure = true", "[auth] secure", "[nothing] x"]
    assert unknown_settings(("p", word) for word in words) == [
        "p: limits.mesage_bytes",
        "p: [auth] secure",
        "p: [nothing] x",
    ]


def wrong_values(words: Iterable[tuple[str, str]]) -> list[str]:
    """`key = value` without its section: some section has that key, and takes that value."""
    models = [*sections().values(), Namespace]
    found = []
    for place, text in words:
        match = re.fullmatch(r"(?:\[[\w.<>]+\] )?([a-z_0-9]+) = (.+)", text)
        if match is None or match[1].endswith(SUFFIX):
            continue
        fields = [model.model_fields[match[1]] for model in models if match[1] in model.model_fields]
        known = {key for model in models for key in model.model_fields}
        if not fields and not difflib.get_close_matches(match[1], known, 1, cutoff=0.85):
            continue  # of something else
        if not any(takes(field, tomllib.loads(f"value = {match[2]}")["value"]) for field in fields):
            found.append(f"{place}: {text}")
    return found


def takes(field: FieldInfo, value: object) -> bool:
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_values_of_settings_are_valid(page: Page) -> None:
    assert wrong_values((word.place, word.text) for word in page.words) == []


def test_wrong_values_are_found() -> None:
    words = [
        'publish_by = "subscriber"',
        'publish_by = "subscribers"',
        "port = 70000",
        "recover_modes = 1",
        "replicas = 3",
    ]
    assert wrong_values(("p", word) for word in words) == [f"p: {word}" for word in words[1:4]]


@pytest.mark.parametrize("page", PAGES)
def test_variables_exist(page: Page) -> None:
    known = {env_name((section, key)) for section, keys in KEYS.items() if section != NAMESPACES for key in keys}
    rule = re.compile(rf"{ENV_PREFIX}NAMESPACES__\w+?__({'|'.join(KEYS[NAMESPACES]).upper()})")
    found = [
        f"{place}: {name}"
        for place, text in code_of(page)
        for name in re.findall(rf"\b{ENV_PREFIX}[A-Z][A-Z0-9_]*__[A-Z0-9_]+\b", text)
        if name not in known and not rule.fullmatch(name)
    ]
    assert found == []


def test_every_section_stands_in_the_reference() -> None:
    text = (ROOT / "gateway/config/README.md").read_text()
    assert {name for name in Config.model_fields if f"### [{name}" not in text} == set()


# Metrics.


def unknown_metrics(words: Iterable[tuple[str, str]], more: Iterable[str] = ()) -> list[str]:
    """Names of metrics, with a label and its value behind them or not, that the exposition does not have."""
    metrics = {name: labels for name, _, labels, _ in exposed()}
    names = {*metrics, *more, TABLE} | {
        f"{name}{suffix}" for name in metrics for suffix in ("_bucket", "_sum", "_count")
    }
    found = []
    for place, text in words:
        for name, selector in re.findall(r"(?<![\w/.])(gateway_[a-z0-9_]+)(?:\{([^}]*)\})?", text):
            labels = metrics.get(name, {})
            if name not in names:
                found.append(f"{place}: {name}")
            for label, value in re.findall(r'(\w+)(?:="(\w+)")?', selector):
                if label not in labels or (value and labels[label] and value not in labels[label]):
                    found.append(f"{place}: {name}{{{selector}}}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_metrics_exist(page: Page) -> None:
    # The changelog has families, and `gateway_memory_*`.
    families = {name.removesuffix("_total") for name, *_ in exposed()} | {"gateway_memory_"}
    assert unknown_metrics(code_of(page), families if page.name == "CHANGELOG.md" else ()) == []


def test_unknown_metrics_are_found() -> None:
    words = [
        ("p", 'rate(gateway_dropped_total{reason="queue_full"}[5m])'),
        ("p", 'gateway_dropped_total{reason="que"}'),
        ("p", "gateway_dropped_total{cause}"),
        ("p", "gateway_droped_total"),
    ]
    assert unknown_metrics(words) == [
        'p: gateway_dropped_total{reason="que"}',
        "p: gateway_dropped_total{cause}",
        "p: gateway_droped_total",
    ]


# Commands.


def make_words() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def unknown_words(words: Iterable[tuple[str, str]]) -> list[str]:
    return [
        f"{place}: make {word}"
        for place, text in words
        for word in re.findall(r"(?:^|[;&|] ?)make (?:PYTHON=\S+ )?([a-z][a-z0-9-]*)", text)
        if word not in make_words()
    ]


@pytest.mark.parametrize("page", PAGES)
def test_words_of_make_exist(page: Page) -> None:
    assert unknown_words(code_of(page)) == []


def test_words_of_make_in_our_code_exist() -> None:
    found = [
        (f"{module.place}:{number}", word)
        for package in ("gateway", "protocol", "loadtest")
        for module in modules(package)
        for number, line in enumerate(module.text.splitlines(), 1)
        for word in re.findall(r"`(make [^`]+)`", line)
    ]
    assert unknown_words(found) == []


def test_an_unknown_word_of_make_is_found() -> None:
    assert unknown_words([("p", "make test && make tset")]) == ["p: make tset"]


def command_problems(line: str) -> Iterator[str]:
    """What is wrong with the calls of `nexus-gateway` in a line."""
    for call in re.findall(r"(?:^|[\s/(])nexus-gateway((?: +[^|;&#)`]+)?)", line):
        command: Any = typer.main.get_command(app)
        words = call.split()
        while words and (commands := getattr(command, "commands", None)) and not words[0].startswith("-"):
            if words[0] not in commands:
                if re.fullmatch(r"[a-z]+", words[0]):
                    yield f"no command {words[0]}"
                break
            command = commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            option = word.partition("=")[0]
            if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in {*known, "--help"}:
                yield f"no option {option}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: Page) -> None:
    in_shell = {line for fence in page.fences if fence.language == "sh" for line in fence.text.splitlines()}
    lines = [
        (place, text)
        for place, text in code_of(page)
        if text in in_shell or text.startswith(("nexus-gateway ", ".venv/bin/nexus-gateway "))
    ]
    assert [f"{place}: {problem}" for place, text in lines for problem in command_problems(text)] == []


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        ("nexus-gateway config check && nexus-gateway serve --port 1", []),
        ("nexus-gateway config chekc x.toml", ["no command chekc"]),
        (".venv/bin/nexus-gateway token alice --tll 1h", ["no option --tll"]),
    ],
)
def test_wrong_commands_are_found(line: str, problems: list[str]) -> None:
    assert list(command_problems(line)) == problems


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_run_exist(page: Page) -> None:
    found = [
        f"{place}: {name}"
        for place, text in code_of(page)
        for name in re.findall(r"python3? -m ((?:gateway|protocol|loadtest|tests)[\w.]*)", text)
        if importlib.util.find_spec(name) is None
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_ours_exist(page: Page) -> None:
    found = [
        f"{place}: {text}"
        for place, text in code_of(page)
        if re.fullmatch(r"(gateway|protocol|loadtest|tests|k8s)/[\w./-]*[\w/]", text) and not (ROOT / text).exists()
    ]
    assert found == []


def test_log_lines_of_the_runbook_are_written_somewhere() -> None:
    page = Page(ROOT / "gateway/OPERATIONS.md")
    source = "\n".join(module.text for module in modules("gateway"))
    quoted = [(word.place, word.text) for word in page.words if re.fullmatch(r'"[a-z][\w :-]+"', word.text)]
    assert quoted
    assert [f"{place}: {text}" for place, text in quoted if text not in source] == []


def test_systemd_waits_for_longer_than_a_gateway_needs_to_stop() -> None:
    config, timing = Config(), Timing()
    needed_s = config.server.drain_window_s + config.limits.connect_timeout_s + config.limits.close_timeout_s
    needed_s += timing.drain_margin_s + timing.control_stop_s
    (unit,) = [fence.text for fence in Page(ROOT / "gateway/OPERATIONS.md").fences if fence.language == "ini"]
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > needed_s
    assert "KillMode=mixed" in unit


def test_a_proxy_waits_for_longer_than_a_gateway_is_silent() -> None:
    (proxy,) = [fence.text for fence in Page(ROOT / "gateway/OPERATIONS.md").fences if fence.language == "nginx"]
    found = re.search(r"proxy_read_timeout (\d+)s;", proxy)
    assert found is not None
    assert int(found[1]) > Config().keepalive.ping_interval_s
