"""The manifests as kustomize builds them, and what is in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gateway.config import LoadedConfig, read_config
from tests.support.requirements import require_kustomize

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())
COMPONENTS = sorted(folder.name for folder in (K8S / "components").iterdir())
EVERYTHING = "production with every component"
"""An overlay that only tests have: the production one with the components that it leaves out."""
INSTALLATIONS = [*OVERLAYS, EVERYTHING]
SECRETS = {
    "hmac_secret": "a secret of at least thirty-two bytes, made up",
    "api_keys": "made-up-key-0123456789",
    "redis_url": "redis://redis:6379/0",
}
"""What the README tells to put into the Secret."""

Resource = dict[str, Any]


class Installation(NamedTuple):
    """All resources of one overlay."""

    name: str
    resources: list[Resource]

    def of(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] == kind]

    def one(self, kind: str, name: str) -> Resource:
        (found,) = [resource for resource in self.of(kind) if resource["metadata"]["name"] == name]
        return found

    @property
    def pod(self) -> Resource:
        """Spec of the gateway's pods."""
        spec: Resource = self.one("Deployment", "nexus-gateway")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Resource:
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def environment(self) -> dict[str, str]:
        return {entry["name"]: entry["value"] for entry in self.container["env"]}

    @property
    def files(self) -> dict[str, str]:
        """Files of the pod's ConfigMap by name."""
        (name,) = [volume["configMap"]["name"] for volume in self.pod["volumes"] if "configMap" in volume]
        return dict(self.one("ConfigMap", name)["data"])

    @property
    def mounts(self) -> dict[str, str]:
        """Name of a volume → where the container has it."""
        return {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}

    def configuration(self, folder: Path) -> LoadedConfig:
        """What the gateway makes of its file and its environment, with the Secret's files in `folder`.

        Raises ConfigError with everything that is wrong.
        """
        (file,) = [argument for argument in self.container["args"] if argument.endswith(".toml")]
        assert Path(file).parent == Path(self.mounts["config"])
        (folder / "gateway.toml").write_text(self.files[Path(file).name])
        for name, value in SECRETS.items():
            (folder / name).write_text(value)
            (folder / name).chmod(0o440)
        secrets = self.mounts["secrets"]
        environment = {name: value.replace(secrets, str(folder)) for name, value in self.environment.items()}
        return read_config(folder / "gateway.toml", environ=environment, flags={})


def build(installation: str, scratch: Path) -> Installation:
    """Build an overlay, or EVERYTHING in a copy in `scratch`."""
    folder = K8S / "overlays" / installation
    if installation == EVERYTHING:
        shutil.copytree(K8S, scratch / "k8s")
        folder = scratch / "k8s" / "overlays" / "everything"
        folder.mkdir()
        used = yaml.safe_load((K8S / "overlays/production/kustomization.yaml").read_text())["components"]
        left_out = sorted(set(COMPONENTS) - {Path(component).name for component in used})
        lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources: [../production]"]
        lines.append(f"components: [{', '.join(f'../../components/{component}' for component in left_out)}]")
        lines.append("namespace: nexus-gateway")
        (folder / "kustomization.yaml").write_text("\n".join(lines))
    done = subprocess.run([*require_kustomize(), str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return Installation(installation, [each for each in yaml.safe_load_all(done.stdout) if each])


def seconds(duration: str) -> float:
    """`1h`, `30s`, `500ms`, `0s`, or a number of seconds."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|)", duration)
    assert match, duration
    return int(match[1]) * {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def size(quantity: str) -> float:
    """`2Gi`, `250m`, `2`: bytes, cores."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|m|)", quantity)
    assert match, quantity
    return int(match[1]) * {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001, "": 1}[match[2]]


def pod_specs(installation: Installation) -> Iterator[tuple[str, Resource]]:
    """Name and spec of the pods of every Deployment."""
    for deployment in installation.of("Deployment"):
        yield deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]


def pods_with(installation: Installation, labels: Mapping[str, str]) -> list[Resource]:
    """Specs of the pods that a selector finds."""
    return [
        deployment["spec"]["template"]["spec"]
        for deployment in installation.of("Deployment")
        if labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]


def port_names(pod: Resource) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for container in pod["containers"] for port in container["ports"]}
