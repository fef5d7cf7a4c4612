"""Who reaches which port, and how long a WebSocket may last on the way there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.kubernetes import SECRETS, Installation, Resource, pods_with, port_names, seconds

WEBSOCKET_PATH = "/connection/websocket"


def ingress_rules(installation: Installation, port: str) -> Iterator[tuple[str, Resource]]:
    """Name of the policy and rule, of all that let somebody to that port of the gateway."""
    for policy in installation.of("NetworkPolicy"):
        if pods_with(installation, policy["spec"]["podSelector"]["matchLabels"]) == [installation.pod]:
            for rule in policy["spec"].get("ingress", []):
                if any(each["port"] == port for each in rule["ports"]):
                    yield policy["metadata"]["name"], rule


def test_policies_and_services_name_ports_that_their_pods_have(installation: Installation) -> None:
    for policy in installation.of("NetworkPolicy"):
        (pod,) = pods_with(installation, policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"].get("ingress", []):
            assert {each["port"] for each in rule["ports"]} <= port_names(pod).keys()
    for service in installation.of("Service"):
        (pod,) = pods_with(installation, service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            assert port_names(pod)[port["targetPort"]] == port["port"]


def test_everybody_reaches_the_public_port(installation: Installation) -> None:
    assert [rule.get("from") for _, rule in ingress_rules(installation, "public")] == [None]


def test_only_prometheus_reaches_the_control_port_unless_a_component_lets_backends_in(
    installation: Installation,
) -> None:
    rules = dict(ingress_rules(installation, "control"))
    (prometheus,) = rules.pop("nexus-gateway")["from"]
    assert prometheus["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    for rule in rules.values():
        (backend,) = rule["from"]
        assert backend == {"podSelector": {"matchLabels": {"nexus-gateway/api-client": "true"}}}
    routed = [service["metadata"]["name"] for service in routed_services(installation)]
    assert set(routed) <= {"nexus-gateway"}, "no route may lead to the control port"


def test_the_gateway_gets_to_redis_and_to_the_names_of_the_cluster(installation: Installation) -> None:
    egress = installation.one("NetworkPolicy", "nexus-gateway")["spec"]["egress"]
    ports = {(port["port"], port["protocol"]) for rule in egress for port in rule["ports"]}
    assert {(53, "UDP"), (53, "TCP"), (urlsplit(SECRETS["redis_url"]).port, "TCP")} <= ports


def test_the_redis_of_the_development_overlay_is_where_the_secret_says(development: Installation) -> None:
    url = urlsplit(SECRETS["redis_url"])
    service = development.one("Service", str(url.hostname))
    assert [port["port"] for port in service["spec"]["ports"]] == [url.port]


def routed_services(installation: Installation) -> list[Resource]:
    """Services that a route or an Ingress leads to."""
    names = [
        backend["name"]
        for route in installation.of("HTTPRoute")
        for rule in route["spec"]["rules"]
        for backend in rule["backendRefs"]
    ]
    names += [
        path["backend"]["service"]["name"]
        for ingress in installation.of("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    return [installation.one("Service", name) for name in names]


def test_routes_lead_websockets_to_the_public_port_and_nothing_else(installation: Installation) -> None:
    ports = {port["name"]: port["port"] for port in installation.one("Service", "nexus-gateway")["spec"]["ports"]}
    for route in installation.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert [match["path"] for match in rule["matches"]] == [{"type": "Exact", "value": WEBSOCKET_PATH}]
            assert [backend["port"] for backend in rule["backendRefs"]] == [ports["public"]]
    for ingress in installation.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            (path,) = rule["http"]["paths"]
            assert (path["path"], path["pathType"]) == (WEBSOCKET_PATH, "Exact")
            assert path["backend"]["service"]["port"] == {"name": "public"}


def time_outs(installation: Installation) -> Iterator[tuple[str, float]]:
    """Of everything that could end an idle connection; 0 = never."""
    for route in installation.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            yield from ((name, seconds(value)) for name, value in rule["timeouts"].items())
    for ingress in installation.of("Ingress"):
        for name, value in ingress["metadata"]["annotations"].items():
            if "timeout" in name or "timeout" in value:
                yield name, seconds(value.rpartition("=")[2])


def test_time_outs_on_the_way_are_longer_than_a_ping_and_its_answer(everything: Installation, tmp_path: Path) -> None:
    keepalive = everything.configuration(tmp_path).config.keepalive
    longest_silence_s = keepalive.ping_interval_s + keepalive.pong_timeout_s
    found = dict(time_outs(everything))
    assert len(found) >= 6, "the route has two, the Ingress four"
    for name, value in found.items():
        assert value == 0 or value >= 2 * longest_silence_s, name


def test_tls_ends_at_the_ingress(installation: Installation) -> None:
    for ingress in installation.of("Ingress"):
        covered = {host for entry in ingress["spec"]["tls"] for host in entry["hosts"]}
        assert {rule["host"] for rule in ingress["spec"]["rules"]} <= covered
