"""Every manifest is what Kubernetes takes, and asks for no more rights than it needs."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from tests.support.kubernetes import K8S, SECRETS, Installation, Resource, pod_specs, pods_with

SCHEMAS = Path(__file__).parent / "schemas"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
"""The oldest Kubernetes that the README promises: it has `preStop.sleep`."""
CORE_GROUPS = {"", "apps", "policy", "autoscaling", "networking.k8s.io"}
SAFE_SYSCTLS = {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
"""Of the kubelet's own list of safe ones (1.32), those that are used here."""


def group(resource: Resource) -> str:
    return resource["apiVersion"].rpartition("/")[0] if "/" in resource["apiVersion"] else ""


def schema_of(resource: Resource) -> dict[str, object]:
    (file,) = SCHEMAS.glob(f"*.{resource['kind'].lower()}.json")
    schema: dict[str, object] = json.loads(file.read_text())
    assert str(schema["$comment"]).startswith(f"{resource['kind']} of {resource['apiVersion']},")
    return schema


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_resource_of_its_own(installation: Installation, version: str) -> None:
    core = [resource for resource in installation.resources if group(resource) in CORE_GROUPS]
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= {each["kind"] for each in core}
    for resource in core:
        kubernetes_validate.validate(resource, version, strict=True)


def test_custom_resources_have_the_fields_of_their_definitions(installation: Installation) -> None:
    for resource in installation.resources:
        if group(resource) not in CORE_GROUPS:
            jsonschema.validate(resource, schema_of(resource))


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule", "HTTPRoute"])
def test_a_slip_in_a_custom_resource_is_found(production: Installation, kind: str) -> None:
    (resource,) = production.of(kind)
    slip = json.loads(json.dumps(resource))
    slip["spec"]["intervall"] = "15s"
    with pytest.raises(jsonschema.ValidationError, match="intervall"):
        jsonschema.validate(slip, schema_of(slip))


def test_every_file_belongs_to_an_installation() -> None:
    """What no kustomization names would be forgotten; the rule for the adapter is for another program."""
    loose = []
    for kustomization in K8S.rglob("kustomization.yaml"):
        content = yaml.safe_load(kustomization.read_text())
        generated = [file for each in content.get("configMapGenerator", []) for file in each["files"]]
        named = {Path(name.rpartition("=")[2]).name for name in [*content.get("resources", []), *generated]}
        here = {file.name for file in kustomization.parent.iterdir() if file.is_file()} - {"kustomization.yaml"}
        loose += sorted(str((kustomization.parent / name).relative_to(K8S)) for name in here - named)
    assert loose == ["components/autoscaling/adapter-rule.yaml"]


def test_pods_keep_to_the_restricted_profile(installation: Installation) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a root that cannot be written to."""
    for name, pod in pod_specs(installation):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert {sysctl["name"] for sysctl in context.get("sysctls", [])} <= SAFE_SYSCTLS
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert all(volume.keys() & {"configMap", "secret", "emptyDir"} for volume in pod["volumes"]), name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert "privileged" not in own, name
            assert not [port for port in container["ports"] if "hostPort" in port], name
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"], name


def test_the_namespace_enforces_that_profile(installation: Installation) -> None:
    (namespace,) = installation.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = {resource["metadata"].get("namespace") for resource in installation.resources} - {None}
    assert inside == {namespace["metadata"]["name"]}


def test_images_are_pinned_and_the_gateway_has_the_version_of_this_tree(installation: Installation) -> None:
    for name, pod in pod_specs(installation):
        for container in pod["containers"]:
            image, _, tag = container["image"].partition(":")
            assert tag, f"{name}: {image} has no tag"
            assert any(sign.isdigit() for sign in tag), f"{name}: {tag} is no version"
            if image == "nexus-gateway":
                assert tag == __version__


def test_no_secret_is_in_a_manifest(installation: Installation) -> None:
    assert installation.of("Secret") == []
    text = json.dumps(installation.resources)
    for value in SECRETS.values():
        assert value not in text
        assert base64.b64encode(value.encode()).decode() not in text


def test_selectors_find_the_gateway(installation: Installation) -> None:
    gateway = installation.pod
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for resource in installation.of(kind):
            spec = resource["spec"]
            selector = spec.get("podSelector") or spec["selector"]
            found = pods_with(installation, selector.get("matchLabels", selector))
            assert len(found) == 1, resource["metadata"]["name"]
            if resource["metadata"]["name"].startswith("nexus-gateway"):
                assert found == [gateway]
    for constraint in gateway["topologySpreadConstraints"]:
        assert pods_with(installation, constraint["labelSelector"]["matchLabels"]) == [gateway]
    for monitor in installation.of("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = [
            each for each in installation.of("Service") if wanted.items() <= each["metadata"]["labels"].items()
        ]
        assert {end["port"] for end in monitor["spec"]["endpoints"]} <= {
            port["name"] for port in service["spec"]["ports"]
        }


def test_a_rollout_never_has_fewer_pods_and_nodes_give_up_one_at_a_time(installation: Installation) -> None:
    strategy = installation.one("Deployment", "nexus-gateway")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert installation.one("PodDisruptionBudget", "nexus-gateway")["spec"]["maxUnavailable"] == 1


def test_a_change_of_the_configuration_rolls_the_pods(production: Installation, development: Installation) -> None:
    names = {
        volume["configMap"]["name"]
        for installation in (production, development)
        for volume in installation.pod["volumes"]
        if "configMap" in volume
    }
    assert len(names) == 2, "the name of a ConfigMap ends in a hash of its content"
