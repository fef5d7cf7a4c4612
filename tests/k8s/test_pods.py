"""What the manifests tell the gateway, and whether the numbers in them go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config, warnings
from gateway.config.schema import NAMESPACES
from gateway.supervisor import Timing
from tests.support.gateway import serving
from tests.support.kubernetes import SECRETS, Installation, Resource, port_names, size

TOLERATED = (
    "the metrics and the HTTP API are open to that network",  # the NetworkPolicy is the firewall that it asks for
    "whoever opens the page gets a token",  # development: nobody but `kubectl port-forward` gets there
)
SPARE_S = 5.0
"""What the kubelet and the supervisor take beside the longest stop: signals, containers, processes."""
BYTES_PER_CONNECTION = 16 * 1024
"""Of an idle client: 5 KiB in the worker, the rest the kernel's. Rounded up."""
BYTES_PER_PROCESS = 120 * 2**20
"""Of a worker or control process without clients, rounded up."""

Configure = Callable[[Installation], Config]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    return lambda installation: installation.configuration(tmp_path).config


def probe(container: Resource, name: str) -> Resource:
    found: Resource = container[name]["httpGet"]
    return found


def test_the_gateway_takes_file_and_environment_and_warns_of_nothing_unexpected(
    installation: Installation, tmp_path: Path
) -> None:
    loaded = installation.configuration(tmp_path)
    assert loaded.warnings == ()
    unexpected = [text for text in warnings(loaded.config) if not any(known in text for known in TOLERATED)]
    assert unexpected == []
    assert loaded.config.redis.url == SECRETS["redis_url"]
    assert loaded.config.auth.hmac_secret == SECRETS["hmac_secret"]
    assert loaded.config.control.api_keys == (SECRETS["api_keys"],)
    assert not loaded.config.auth.insecure
    assert not loaded.config.auth.anonymous


def test_every_variable_is_a_setting_of_the_gateway(installation: Installation, tmp_path: Path) -> None:
    """`read_config` refuses unknown ones, but overlooks names that do not begin as its own do."""
    loaded = installation.configuration(tmp_path)
    from_environment = [setting for setting in loaded.settings.values() if setting.origin == "env"]
    assert len(from_environment) == len(installation.environment) > 0
    assert {setting.path[0] for setting in loaded.settings.values()} <= {*Config.model_fields, NAMESPACES}


def test_every_variable_that_names_a_secret_names_a_key_of_the_secret(installation: Installation) -> None:
    (volume,) = [volume["secret"] for volume in installation.pod["volumes"] if "secret" in volume]
    mounted = {f"{installation.mounts['secrets']}/{item['path']}" for item in volume["items"]}
    used = {value for name, value in installation.environment.items() if name.endswith("_FILE")}
    assert used == mounted
    assert {item["key"] for item in volume["items"]} == SECRETS.keys()
    assert volume["defaultMode"] & 0o007 == 0, "the gateway warns about secrets that everybody can read"
    assert volume["defaultMode"] & 0o040, "the pod's group has to read them"
    assert installation.pod["securityContext"]["fsGroup"] == installation.pod["securityContext"]["runAsGroup"]


def test_the_grace_period_covers_the_longest_stop_and_not_much_more(
    installation: Installation, configure: Configure
) -> None:
    grace_s = installation.pod["terminationGracePeriodSeconds"]
    sleep_s = installation.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed_s = sleep_s + Timing().longest_stop_s(configure(installation)) + SPARE_S
    assert needed_s <= grace_s <= needed_s + 30


def test_the_next_pod_of_a_rollout_waits_until_the_one_before_has_drained(
    installation: Installation, configure: Configure
) -> None:
    spec = installation.one("Deployment", "nexus-gateway")["spec"]
    sleep_s = installation.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    start_s = installation.container["startupProbe"]["failureThreshold"] * 2
    assert spec["minReadySeconds"] >= sleep_s + configure(installation).server.drain_window_s
    assert spec["progressDeadlineSeconds"] > spec["minReadySeconds"] + start_s


def test_load_balancers_learn_of_the_end_before_the_pod_drains(installation: Installation) -> None:
    ready = installation.container["readinessProbe"]
    sleep_s = installation.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep_s >= ready["periodSeconds"]


def test_a_worker_that_starts_slowly_is_not_killed_for_it(installation: Installation) -> None:
    startup = installation.container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= Timing().ready_timeout_s


def test_a_loop_that_lags_is_no_reason_to_kill_a_pod(installation: Installation) -> None:
    liveness = installation.container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


def test_probes_and_ports_are_those_that_the_gateway_listens_on(
    installation: Installation, configure: Configure
) -> None:
    config = configure(installation)
    assert port_names(installation.pod) == {"public": config.server.port, "control": config.control.port}
    assert config.server.host == config.control.host == "0.0.0.0"
    container = installation.container
    for name in ("startupProbe", "livenessProbe"):
        assert probe(container, name) == {"path": "/health/live", "port": "control"}
    assert probe(container, "readinessProbe") == {"path": "/health/ready", "port": "public"}


def test_what_probes_and_prometheus_ask_for_is_answered(production: Installation) -> None:
    (monitor,) = production.of("ServiceMonitor")
    asked = [probe(production.container, name) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    asked += monitor["spec"]["endpoints"]
    with serving() as gateway:
        urls = {"public": gateway.public_url, "control": gateway.control_url}
        for request in asked:
            assert gateway.get(urls[request["port"]] + request["path"]).status_code == 200


def test_each_worker_has_a_core_of_its_own(production: Installation, configure: Configure) -> None:
    resources = production.container["resources"]
    workers = configure(production).server.workers
    assert 1 <= workers <= size(resources["requests"]["cpu"])
    assert workers <= size(resources["limits"].get("cpu", "1024"))


def test_workers_are_never_counted_by_the_cores_of_the_node(installation: Installation, configure: Configure) -> None:
    assert configure(installation).server.workers > 0


def test_full_workers_fit_into_the_memory_before_the_governor_refuses(
    installation: Installation, configure: Configure
) -> None:
    config = configure(installation)
    workers = config.server.workers
    full = workers * config.limits.max_connections * BYTES_PER_CONNECTION + (workers + 2) * BYTES_PER_PROCESS
    first_step = config.memory.thresholds[0]
    assert full <= first_step * size(installation.container["resources"]["limits"]["memory"])
    assert config.memory.limit_bytes == 0, "the control group's limit is the one"


def test_the_autoscaler_leaves_room_for_the_clients_of_a_lost_pod(
    production: Installation, configure: Configure
) -> None:
    config = configure(production)
    (scaler,) = production.of("HorizontalPodAutoscaler")
    (target,) = [metric["pods"]["target"] for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods"]
    capacity = config.server.workers * config.limits.max_connections
    pods = scaler["spec"]["minReplicas"]
    assert int(target["averageValue"]) * pods / (pods - 1) <= 0.8 * capacity
    assert "replicas" not in production.one("Deployment", "nexus-gateway")["spec"], "each apply would undo the scaling"


def test_pods_leave_slowly_and_one_at_a_time(production: Installation) -> None:
    (scaler,) = production.of("HorizontalPodAutoscaler")
    down = scaler["spec"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 1800
    (policy,) = down["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= production.pod["terminationGracePeriodSeconds"]
