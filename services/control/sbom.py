"""The bill of materials of an image, in CycloneDX's form (1.6): Debian and Python packages."""

import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rabbit import __version__

from .cli import one_line_errors, piped_in

_INSTALLED = "installed"


def sbom(
    image: Annotated[str, typer.Argument(help="Its name.")],
    image_id: Annotated[str, typer.Argument(metavar="ID", help="Docker's: sha256:...")],
) -> None:
    """Print what is in an image, of which deploy/bin/sbom tells: it is what `make sbom` runs."""
    with one_line_errors():
        document = bill(image, image_id, piped_in("sbom IMAGE ID"))
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def bill(image: str, image_id: str, facts: str) -> dict[str, Any]:
    """Return the document.

    Args:
        image: its name.
        image_id: Docker's.
        facts: a line each, in columns: `os`, a line of os-release; `made`, what was compiled, and
            its version; `deb`, as dpkg-query tells; `python`, a line of a package's metadata;
            `lock`, a line of the requirements.
    """
    rows: dict[str, list[str]] = {}
    for line in facts.splitlines():
        kind, _, rest = line.partition("\t")
        rows.setdefault(kind, []).append(rest)
    release = {
        name: value.strip("\"'")
        for name, _, value in (line.partition("=") for line in rows.get("os", []))
    }
    components = [
        _system(release),
        *(_made(row) for row in rows.get("made", [])),
        *_debian(rows.get("deb", []), release),
        *_python(rows.get("python", []), _locked(rows.get("lock", []))),
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "tools": {
                "components": [
                    {"type": "application", "name": "rabbitmq-pipeline", "version": __version__}
                ]
            },
            "component": {
                "type": "container",
                "bom-ref": image_id,
                "name": image,
                "version": image_id,
            },
        },
        "components": sorted(components, key=lambda each: str(each["bom-ref"])),
    }


def _system(release: Mapping[str, str]) -> dict[str, Any]:
    name = release.get("ID", "unknown")
    version = release.get("VERSION_ID") or release.get("VERSION_CODENAME", "")
    return {
        "type": "operating-system",
        "bom-ref": f"os:{name}-{version}",
        "name": name,
        "version": version,
    }


def _made(row: str) -> dict[str, Any]:
    """Return what an image says that it was compiled into it, by a variable."""
    name, version = row.split("\t")
    return _component(f"pkg:generic/{name.lower()}@{_quoted(version)}", name.lower(), version)


def _debian(rows: list[str], release: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    system = release.get("ID", "debian")
    version_id = release.get("VERSION_ID") or release.get("VERSION_CODENAME", "")
    for row in rows:
        status, name, version, architecture, source, source_version = row.split("\t")
        if status != _INSTALLED:
            continue
        more = f"arch={architecture}&distro={system}-{version_id}"
        if (source, source_version) != (name, version):  # it is what advisories speak of
            more += f"&upstream={quote(f'{source}@{source_version}', safe='')}"
        purl = f"pkg:deb/{system}/{_quoted(name)}@{_quoted(version)}?{more}"
        yield _component(purl, name, version)


def _python(rows: list[str], locked: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    package: dict[str, str] = {}
    packages = [package]
    for row in rows:
        field, _, value = row.partition(": ")
        if field == "Name":
            package = {}
            packages.append(package)
        package[field] = value
    for each in packages[1:]:
        name, version = each["Name"], each["Version"]
        key = _normalized(name)
        component = _component(f"pkg:pypi/{key}@{_quoted(version)}", name, version)
        if license_of := each.get("License-Expression"):
            component["licenses"] = [{"expression": license_of}]
        if hashes := locked.get(f"{key}=={version}"):
            component["hashes"] = [{"alg": "SHA-256", "content": each} for each in hashes]
        yield component


def _locked(rows: list[str]) -> dict[str, list[str]]:
    """Return the hashes of each package's files: one of them is what was installed."""
    locked: dict[str, list[str]] = {}
    hashes: list[str] = []
    for row in rows:
        if found := re.match(r"([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;]+)", row):
            hashes = locked.setdefault(f"{_normalized(found[1])}=={found[2]}", [])
        hashes += re.findall(r"--hash=sha256:([0-9a-f]{64})", row)
    return locked


def _normalized(name: str) -> str:
    """Return a Python package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _quoted(part: str) -> str:
    return quote(part, safe=":~")


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
