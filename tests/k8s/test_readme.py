"""The README says what the manifests do."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gateway.supervisor import Timing
from tests.k8s.test_pods import SPARE_S
from tests.support.kubernetes import COMPONENTS, K8S, OVERLAYS, ROOT, SECRETS, Installation

README = (K8S / "README.md").read_text()


def test_every_file_that_it_names_exists_and_every_folder_is_named() -> None:
    named = set(re.findall(r"`((?:base|components|overlays)/[\w./-]+|Containerfile[\w.]*)`", README))
    assert len(named) > 12
    assert [name for name in named if not (K8S / name).exists()] == []
    for folder in [*(f"components/{name}" for name in COMPONENTS), *(f"overlays/{name}" for name in OVERLAYS)]:
        assert folder in README


def test_its_commands_name_files_and_secrets_that_there_are(production: Installation) -> None:
    block = README.partition("```sh\n")[2].partition("```")[0]
    assert len(re.sub(r" \\\n", " ", block).strip().splitlines()) == 5, "five commands"
    assert set(re.findall(r"--from-literal=(\w+)=", block)) == SECRETS.keys()
    paths = re.findall(r"\bk8s/[\w./-]+", block)
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert f"--namespace={production.of('Namespace')[0]['metadata']['name']} create secret" in block


def test_its_timeline_is_the_sum_of_the_settings(production: Installation, tmp_path: Path) -> None:
    config = production.configuration(tmp_path).config
    sleep_s = production.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    window_s, timing = config.server.drain_window_s, Timing()
    marks = (
        f"| {sleep_s} | `preStop` is over",
        f"| {sleep_s}–{sleep_s + window_s:g} | clients are closed",
        f"| –{sleep_s + timing.longest_drain_s(config):g} | at the latest",
        f"| –{sleep_s + timing.longest_stop_s(config):g} | the control process ends",
        f"| {production.pod['terminationGracePeriodSeconds']} | `terminationGracePeriodSeconds`",
        f"(preStop + window + {timing.longest_stop_s(config) - window_s + SPARE_S:g})",
    )
    assert [mark for mark in marks if mark not in README] == []


def test_its_sizes_are_those_of_the_production_overlay(production: Installation, tmp_path: Path) -> None:
    config = production.configuration(tmp_path).config
    (scaler,) = production.of("HorizontalPodAutoscaler")
    assert f"| workers | {config.server.workers} |" in README
    assert f"| connections | {config.limits.max_connections:,} a worker |" in README
    assert f"| pods | {scaler['spec']['minReplicas']} to {scaler['spec']['maxReplicas']} |" in README
    sysctls = yaml.safe_load((K8S / "components/sysctls/kustomization.yaml").read_text())["patches"][0]["patch"]
    for setting in yaml.safe_load(sysctls)[0]["value"]:
        assert f"| `{setting['name']}` | {setting['value']} |" in README
