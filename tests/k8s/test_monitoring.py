"""Alerts, dashboard and autoscaler ask for what `/metrics` really exposes."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kubernetes import K8S, Installation
from tests.support.promql import Exposition, selectors
from tests.support.requirements import require_promtool

DASHBOARD: dict[str, Any] = json.loads((K8S / "components/monitoring/dashboard.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((K8S / "components/monitoring/alerts.yaml").read_text())["spec"]
ALERTS = [alert for group in RULES["groups"] for alert in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> dict[str, str]:
    """Where it stands → expression."""
    found = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
    found |= {each["name"]: each["expr"] for each in DASHBOARD["annotations"]["list"]}
    return found


def autoscaler_rules() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load((K8S / "components/autoscaling/adapter-rule.yaml").read_text())[
        "rules"
    ]["custom"]
    return rules


def test_every_alert_speaks_of_metrics_labels_and_values_that_there_are(exposition: str) -> None:
    known = Exposition(exposition)
    assert [f"{alert['alert']}: {each}" for alert in ALERTS for each in known.problems(alert["expr"])] == []


def test_every_panel_speaks_of_metrics_labels_and_values_that_there_are(exposition: str) -> None:
    known = Exposition(exposition)
    found = [f"{place}: {each}" for place, expr in dashboard_expressions().items() for each in known.problems(expr)]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found += [f"${variable['name']}: {each}" for each in known.problems(variable["query"]["query"])]
    assert found == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(gateway_conections)", "gateway_conections is not exposed"),
        ('gateway_workers{status="stuck"}', "gateway_workers has no label status"),
        ('gateway_workers{state=~"stuck|asleep"}', "gateway_workers{state} is never asleep"),
        ("sum by (channel) (gateway_connections)", "no metric here has the label channel"),
        ("rate(gateway_connections[5m])", "rate of gateway_connections, which is no counter"),
        ("up == 0", "no metric of the gateway in: up == 0"),
    ],
)
def test_an_expression_that_speaks_of_something_else_is_found(exposition: str, expression: str, problem: str) -> None:
    assert list(Exposition(exposition).problems(expression)) == [problem]


def test_the_autoscaler_asks_for_what_the_adapter_serves(production: Installation, exposition: str) -> None:
    (scaler,) = production.of("HorizontalPodAutoscaler")
    wanted = {each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"] if each["type"] == "Pods"}
    assert wanted == {rule["name"]["as"] for rule in autoscaler_rules()}
    for rule in autoscaler_rules():
        assert list(Exposition(exposition).problems(rule["seriesQuery"])) == []


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("warning", "critical"), alert["alert"]
        assert alert["annotations"]["summary"].endswith("."), alert["alert"]
        assert len(alert["annotations"]["description"]) > 40, alert["alert"]


def test_the_alert_for_full_workers_comes_before_they_are_full(production: Installation, tmp_path: Path) -> None:
    (alert,) = [alert for alert in ALERTS if alert["alert"] == "NexusGatewayWorkerNearlyFull"]
    threshold = float(alert["expr"].rpartition(">")[2])
    assert threshold == 0.85 * production.configuration(tmp_path).config.limits.max_connections


def test_panels_have_places_of_their_own_and_a_data_source_that_can_be_chosen() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        for target in panel["targets"]:
            for selector in selectors(target["expr"]):
                assert {label for label, _, _ in selector.matchers} >= {"namespace", "pod"}, panel["title"]


def test_the_dashboard_is_what_grafana_finds(production: Installation) -> None:
    config_map = production.one("ConfigMap", "nexus-gateway-dashboard")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config_map["data"]["nexus-gateway.json"]) == DASHBOARD


def run_promtool(*arguments: str) -> str:
    done = subprocess.run([require_promtool(), *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_alerts_and_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(RULES))
    expressions = [expr.replace("$__rate_interval", "1m") for expr in dashboard_expressions().values()]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    said = run_promtool("check", "rules", str(tmp_path / "alerts.yaml"), str(tmp_path / "panels.yaml"))
    assert f"SUCCESS: {len(ALERTS)} rules found" in said
    assert f"SUCCESS: {len(rules)} rules found" in said


FIRES: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    # Alert: the series that make it fire (values: start+step×repetitions, a minute apart), when, and its labels.
    "NexusGatewayAbsent": ({}, "5m", {}),
    "NexusGatewayWorkerMissing": ({'gateway_workers{POD,state="missing"}': "1x10"}, "5m", {"pod": "a"}),
    "NexusGatewayWorkerStuck": ({'gateway_workers{POD,state="stuck"}': "1x10"}, "3m", {"pod": "a"}),
    "NexusGatewayWorkersRestarting": (
        {'gateway_worker_restarts_total{POD,worker="edge-1"}': "0+1x20"},
        "10m",
        {"pod": "a"},
    ),
    "NexusGatewayClientsGone": ({'gateway_connections{POD,worker="edge-1"}': "9000x5 1000x20"}, "13m", {}),
    "NexusGatewayRedisAway": ({'gateway_redis_connected{POD,worker="edge-1"}': "0x10"}, "3m", {"pod": "a"}),
    "NexusGatewayRedisUnsteady": (
        {'gateway_redis_connections_lost_total{POD,worker="edge-1"}': "0+1x20"},
        "10m",
        {"pod": "a"},
    ),
    "NexusGatewayRedisSlow": ({"redis_round_trip": ""}, "20m", {"pod": "a"}),
    "NexusGatewayPublicationsLost": (
        {'gateway_subscribers_told_lost_total{POD,worker="edge-1"}': "0x3 5x10"},
        "6m",
        {},
    ),
    "NexusGatewayPublicationsDropped": (
        {'gateway_dropped_total{POD,worker="edge-1",reason="queue_full"}': "0x3 5x10"},
        "6m",
        {"reason": "queue_full"},
    ),
    "NexusGatewayBroadcastSlow": ({"broadcast": ""}, "20m", {"pod": "a"}),
    "NexusGatewayLoopLag": ({"loop_lag": ""}, "20m", {"pod": "a"}),
    "NexusGatewayWorkerNearlyFull": ({'gateway_connections{POD,worker="edge-1"}': "13000x20"}, "10m", {"pod": "a"}),
    "NexusGatewayHandshakesRefused": (
        {'gateway_handshakes_refused_total{POD,worker="edge-1",reason="full"}': "0+600x20"},
        "15m",
        {"reason": "full"},
    ),
    "NexusGatewayMemory": ({'gateway_memory_level{POD,worker="edge-1"}': "3x10"}, "5m", {"pod": "a"}),
    "NexusGatewayStormOfInvalidTokens": (
        {'gateway_authentication_failures_total{POD,worker="edge-1"}': "0+6000x20"},
        "15m",
        {},
    ),
    "NexusGatewayInternalErrors": (
        {'gateway_internal_errors_total{POD,worker="edge-1"}': "0x3 1x10"},
        "6m",
        {"pod": "a"},
    ),
    "NexusGatewayOutboxStuck": ({"gateway_outbox_up{POD}": "0x10"}, "4m", {}),
    "NexusGatewayRelayLate": ({"gateway_outbox_oldest_seconds{POD}": "90x20"}, "10m", {}),
    "NexusGatewayDeadLetters": ({"gateway_outbox_dead{POD}": "2x10"}, "3m", {}),
    "NexusGatewayCacheWithoutRedis": ({"gateway_cache_redis_failures_total{POD}": "0+1x30"}, "20m", {}),
    "NexusGatewayBackendFails": ({'gateway_backend_circuits_opened_total{POD,worker="edge-1"}': "0x3 1x10"}, "6m", {}),
    "NexusGatewayEventsDropped": (
        {'gateway_lifecycle_events_dropped_total{POD,worker="edge-1"}': "0x3 1x10"},
        "6m",
        {},
    ),
}
POD = 'namespace="n",pod="a"'


def series(metric: str, values: str) -> list[dict[str, str]]:
    """What promtool is fed. A bare name of an operation = its buckets, with everything slower than two seconds."""
    if values:
        return [{"series": metric.replace("POD", POD), "values": values}]
    buckets = {"0.2": "0x30", "2.0": "0x30", "5.0": "0+60x30", "+Inf": "0+60x30"}
    return [
        {"series": f'gateway_operation_seconds_bucket{{{POD},operation="{metric}",le="{le}"}}', "values": counts}
        for le, counts in buckets.items()
    ]


def promtool_test(alert: str, tmp_path: Path, *, healthy: bool = False) -> str:
    """Whether `alert` is (or, `healthy`, is not) the one that fires. promtool says why if it does not come true."""
    given, when, labels = FIRES[alert]
    (rule,) = [rule for rule in ALERTS if rule["alert"] == alert]
    # Annotations are checked elsewhere: without them nothing has to be repeated here.
    bare = {name: value for name, value in rule.items() if name != "annotations"}
    (tmp_path / "rule.yaml").write_text(yaml.safe_dump({"groups": [{"name": "alerts", "rules": [bare]}]}))
    fed = [each for metric, values in given.items() for each in series(metric, values)]
    if healthy:
        fed = [
            {**each, "values": "1x30" if re.search("redis_connected|outbox_up", each["series"]) else "0x30"}
            for each in fed
        ]
        fed.append({"series": f"gateway_build_info{{{POD}}}", "values": "1x30"})
    namespace = {"namespace": "n"} if fed else {}
    fires = [{"exp_labels": {"severity": rule["labels"]["severity"], **namespace, **labels}}]
    case = {"alertname": alert, "eval_time": when, "exp_alerts": [] if healthy else fires}
    unit = {"rule_files": ["rule.yaml"], "tests": [{"interval": "1m", "input_series": fed, "alert_rule_test": [case]}]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(unit))
    return run_promtool("test", "rules", str(tmp_path / "test.yaml"))


@pytest.mark.parametrize("alert", [alert["alert"] for alert in ALERTS])
def test_an_alert_fires_when_it_should_and_is_silent_when_all_is_well(alert: str, tmp_path: Path) -> None:
    assert "SUCCESS" in promtool_test(alert, tmp_path)
    assert "SUCCESS" in promtool_test(alert, tmp_path, healthy=True)
