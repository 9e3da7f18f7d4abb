"""The bill of materials of an image."""

from services.control.sbom import bill

FACTS = """\
os\tNAME="Debian GNU/Linux"
os\tID=debian
os\tVERSION_ID="13"
made\tPYTHON\t3.14.1
deb\tinstalled\tlibssl3t64\t3.5.1-1+deb13u1\tamd64\topenssl\t3.5.1-1+deb13u1
deb\tinstalled\terlang-base\t1:27.3~rc1\tamd64\terlang-base\t1:27.3~rc1
deb\tconfig-files\tremoved\t1.0\tamd64\tremoved\t1.0
python\tName: typing_extensions
python\tVersion: 4.16.0
python\tLicense-Expression: PSF-2.0
python\tName: pika
python\tVersion: 1.4.4
lock\t# Locked by `make lock`.
lock\tcolorama==0.4.6 ; sys_platform == 'win32' \\
lock\t    --hash=sha256:{c}
lock\ttyping-extensions==4.16.0 \\
lock\t    --hash=sha256:{a} \\
lock\t    --hash=sha256:{b}
""".format(**{each: each * 64 for each in "abc"})

PURLS = [
    "pkg:deb/debian/erlang-base@1:27.3~rc1?arch=amd64&distro=debian-13",
    (
        "pkg:deb/debian/libssl3t64@3.5.1-1%2Bdeb13u1?arch=amd64&distro=debian-13"
        "&upstream=openssl%403.5.1-1%2Bdeb13u1"
    ),
    "pkg:generic/python@3.14.1",
    "pkg:pypi/pika@1.4.4",
    "pkg:pypi/typing-extensions@4.16.0",
]


def test_what_is_installed_is_named_and_nothing_else() -> None:
    """By package URL: not what was removed but for its settings, and not what was only locked."""
    document = bill("stage:latest", "sha256:1", FACTS)
    system, *packages = document["components"]

    assert (system["type"], system["name"], system["version"]) == (
        "operating-system",
        "debian",
        "13",
    )
    assert [each["purl"] for each in packages] == PURLS
    assert document["metadata"]["component"]["name"] == "stage:latest"


def test_python_packages_have_their_licence_and_what_they_were_locked_to() -> None:
    """Whatever way the name is written."""
    *_, package = bill("stage:latest", "sha256:1", FACTS)["components"]

    assert package["licenses"] == [{"expression": "PSF-2.0"}]
    assert [each["content"] for each in package["hashes"]] == ["a" * 64, "b" * 64]
