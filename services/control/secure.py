"""Passwords, certificates and definitions, as files of one folder; nothing is asked of a broker."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rabbit.operations.compose import brokers, operators, services, stages
from rabbit.operations.definitions import (
    ADMINISTRATOR,
    BOARD_USER,
    CONTROL_USER,
    PROMETHEUS_USER,
    definitions,
    with_logins,
)

from .cli import one_line_errors, piped_in

#: What a broker is called by Compose, by the cluster, and from this machine.
NAMES = ("rabbitmq", "rabbitmq2", "rabbitmq3", "localhost", "127.0.0.1", "::1")

#: Secrets of the Compose file, and their files.
_OF_BROKERS = {
    "secured_ca": "ca.pem",
    "secured_certificate": "server.pem",
    "secured_key": "server.key",
    "secured_definitions": "definitions.json",
    "secured_erlang_cookie": "erlang_cookie",
}
#: `broker` is what deploy/secured/brokers.yml says of each of them. A variable without a value is
#: not set, unless the shell sets it: `!reset` has an effect in the second of Compose's files only.
_BROKER = """\
    <<: *broker
    environment:
      RABBITMQ_DEFAULT_USER:
      RABBITMQ_DEFAULT_PASS:
      ERLANG_COOKIE:
"""
#: One that is alone speaks to no other: for those within its container only, rabbitmqctl say.
_ALONE = """\
      ERL_EPMD_ADDRESS: 127.0.0.1
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: -kernel inet_dist_use_interface {127,0,0,1}
    extra_hosts: ["rabbitmq:127.0.0.1"]
"""
_PORTS = """\
    ports: !override
      - 127.0.0.1:${AMQP_PORT:-5671}:5671
      - 127.0.0.1:${MANAGEMENT_PORT:-15671}:15671
"""
_STAGE = """\
    environment:
      RABBITMQ_CA_FILE: /run/secrets/ca.pem
      RABBITMQ_PASSWORD:
      RABBITMQ_USERNAME: "{user}"
      TOPOLOGY: given
    secrets:
      - {{ source: secured_ca, target: ca.pem }}
      - {{ source: secured_password_{user}, target: rabbitmq_password }}
"""
_PROMETHEUS = """\
    volumes:
      - ./deploy/secured/prometheus.yml:/etc/prometheus/prometheus.yml:ro
    secrets:
      - { source: secured_ca, target: ca.pem }
      - { source: secured_password_prometheus, target: rabbitmq_password }
"""
#: Of a service that is given a broker.
_UNKNOWN = (
    "what it may do is not known, as it has no INPUT_QUEUE or OUTPUT_QUEUE: it gets no user, and "
    "cannot log in. Make it one (rabbitmqctl add_user, set_permissions), and give it that one's "
    "RABBITMQ_USERNAME and RABBITMQ_PASSWORD, and secrets/ca.pem as RABBITMQ_CA_FILE"
)


class Rotate(StrEnum):
    """What to replace of what is there."""

    PASSWORDS = "passwords"
    CERTIFICATES = "certificates"


def secure(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    rotate: Annotated[list[Rotate] | None, typer.Option(help="Replace these.")] = None,
    former: Annotated[list[str] | None, typer.Option(help="Who may not log in any more.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="What brokers are called, too.")] = None,
) -> None:
    """Write what secures the services on standard input; print their part of a Compose file.

    docker compose config --format json | docker compose run --rm -T control secure FOLDER
    """
    # The other commands would start a tenth of a second later with what this needs.
    from .secrets_folder import Folder  # noqa: PLC0415

    with one_line_errors():
        config = piped_in("secure")
        declared = stages(config)
        made = definitions(declared)
        users = [*(user["name"] for user in made["users"]), ADMINISTRATOR]
        files = Folder(folder)
        renew, needed = files.wanted(rotate or ()), files.needed(name or ())
        if files.lacks(needed):
            renew.add(Rotate.CERTIFICATES)
        renews = Rotate.CERTIFICATES in renew
        files.check([*brokers(config), *needed], users, renew=renews)
        files.check_partitions(made)
        files.show()  # what is there; below, what is new
        files.begin(renew, needed)
        passwords = files.passwords(users, renew=Rotate.PASSWORDS in renew)
        names = dict.fromkeys([*NAMES, *brokers(config), *needed])
        files.certificates(names, renew=renews)
        end = files.end()
        files.cookie()
        gone = files.lock_out(users)
        files.definitions(with_logins(made, passwords, [*(former or ()), *gone]))
        logins = {each.service: each.name for each in declared}
        for service, what in operators(config).items():
            if what in {CONTROL_USER, BOARD_USER}:
                logins[service] = what
            else:
                typer.echo(f"{service}: {_UNKNOWN}", err=True)
        files.show()
        looks = [each for each in services(config) if each == PROMETHEUS_USER]
        typer.echo(_compose(brokers(config), logins, looks))
    typer.echo(f"The brokers' certificate ends on {end}.", err=True)


def _compose(nodes: Sequence[str], logins: Mapping[str, str], looks: Sequence[str]) -> str:
    """Return what the services have beside what the pipeline's own Compose file gives them.

    Args:
        nodes: the services that are brokers.
        logins: the user of each of the others.
        looks: Prometheus, if it is there.
    """
    secrets = dict(_OF_BROKERS)
    text = "services:\n"
    for service in nodes:
        text += f"  {service}:\n{_BROKER}"
        text += _ALONE if [*nodes] == ["rabbitmq"] else ""
        text += _PORTS if service == "rabbitmq" else ""
    for service, user in logins.items():
        text += f"\n  {service}:\n{_STAGE.format(user=user)}"
        secrets[f"secured_password_{user}"] = f"passwords/{user}"
    for service in looks:
        text += f"\n  {service}:\n{_PROMETHEUS}"
        secrets[f"secured_password_{service}"] = f"passwords/{service}"
    text += "\nsecrets:\n"
    return text + "\n".join(f"  {name}: {{ file: ./secrets/{at} }}" for name, at in secrets.items())
