"""Writes a CycloneDX bill of materials of the runtime lock, as JSON: `python -m supply.sbom OUT`.

Of the lock alone: the same lock gives the same bytes, on every machine and day (no serial number, no time). Each
package has its licence, the hashes of the files that may be installed, and what it depends on; packages that come with
extras only have the scope `optional`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from gateway import __version__
from supply.licences import installed_licences
from supply.lock import PROJECT, Locked, base_names, direct_dependencies, shipped


def bill_of_materials(lock: Mapping[str, Locked], licences: Mapping[str, str]) -> str:
    """The document. Raises ValueError when it is not what the standard's schema takes."""
    licence = LicenseFactory()
    base = base_names(lock)
    project = Component(
        name=PROJECT,
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=PROJECT,
        licenses=[licence.make_from_string("MIT")],
    )
    components = {
        name: Component(
            name=name,
            version=locked.version,
            type=ComponentType.LIBRARY,
            bom_ref=name,
            purl=PackageURL("pypi", None, name, locked.version),
            scope=ComponentScope.REQUIRED if name in base else ComponentScope.OPTIONAL,
            licenses=[licence.make_from_string(licences[name])],
            # `hashes` are those of one file; a package has one for each platform.
            properties=[Property(name="nexus-gateway:file:sha256", value=digest) for digest in locked.hashes],
        )
        for name, locked in lock.items()
    }
    bom = Bom(components=components.values())
    bom.metadata.component = project
    direct = set().union(*direct_dependencies().values())
    bom.register_dependency(project, [each for name, each in components.items() if name in direct])
    for name, component in components.items():
        bom.register_dependency(component, [components[each.name] for each in lock.values() if name in each.needed_by])
    # Both are different each time, and the standard does not ask for them.
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"]
    document["metadata"].pop("timestamp", None)
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    if (problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"not CycloneDX 1.6: {problem}")
    return text


def main(arguments: list[str]) -> int:
    """0 = written."""
    (out,) = map(Path, arguments)
    lock = shipped()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(bill_of_materials(lock, installed_licences(lock)))
    sys.stdout.write(f"{out}: {len(lock)} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
