"""Print what an image has in it, as CycloneDX 1.6. `make sbom` runs this inside of the image.

Standard input: its /var/lib/dpkg/status. Arguments: the image, its id, and the image that this runs
in; if that is another one, it has no packages of Python.
"""

import json
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import distributions
from urllib.parse import quote


def debian(status: str) -> Iterator[dict[str, str]]:
    """Yield the packages of Debian that are installed."""
    for paragraph in status.split("\n\n"):
        pairs = (line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        told = {pair[0]: pair[1] for pair in pairs if not pair[0].startswith(" ")}
        if "Package" in told and told.get("Status", "").endswith(" installed"):
            name, version = told["Package"], told["Version"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}"
            yield _component(name, version, f"{purl}?arch={told['Architecture']}")


def python() -> Iterator[dict[str, str]]:
    """Yield the packages of Python that can be imported."""
    for each in distributions():
        name = each.metadata["Name"].lower().replace("_", "-")
        yield _component(name, each.version, f"pkg:pypi/{name}@{quote(each.version, safe='')}")


def _component(name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main(image: str, id_: str, within: str) -> None:
    """Print it."""
    found = [*debian(sys.stdin.read()), *(python() if within == image else ())]
    name, _, tag = image.rpartition(":")
    described = {"type": "container", "bom-ref": image, "name": name, "version": tag}
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": {
                **described,
                "hashes": [{"alg": "SHA-256", "content": id_.removeprefix("sha256:")}],
            },
        },
        "components": sorted(
            {each["purl"]: each for each in found}.values(), key=lambda c: c["purl"]
        ),
    }
    json.dump(bom, sys.stdout, indent=2)


main(*sys.argv[1:])
