"""The limits that stages are meant to have, held against those that the broker has for them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rabbit.operations.compose import DeclaredStage
from rabbit.operations.limits import Bound, bounds, user_limits
from rabbit.operations.management import Management
from rabbit.operations.topology_diff import GIVE, Finding


@dataclass(frozen=True)
class Limits:
    """What limits there are.

    Attributes:
        bounds: operator policies, by name.
        users: by user, what it may have.
        vhost: what there may be in the virtual host.
    """

    bounds: Mapping[str, Bound]
    users: Mapping[str, Mapping[str, int]]
    vhost: Mapping[str, int]

    @classmethod
    def of(cls, management: Management, users: Iterable[str]) -> "Limits":
        """Ask the broker."""
        policies = management.operator_policies()
        return cls(
            {
                each["name"]: Bound(each["name"], each["pattern"], each["definition"])
                for each in policies
            },
            {user: management.user_limits(user) for user in users},
            management.vhost_limits(),
        )


def unlimited(stages: Iterable[DeclaredStage], management: Management) -> list[Finding]:
    """Find what limits those stages less than meant that have a user each: see `missing`."""
    given = [stage for stage in stages if stage.settings.topology == "given"]
    names = dict.fromkeys(stage.name for stage in given)
    return list(missing(given, Limits.of(management, names))) if given else []


def missing(stages: list[DeclaredStage], there: Limits) -> Iterator[Finding]:
    """Find limits that are not there, or are larger than meant; what is smaller is somebody's wish.

    Args:
        stages: those that have a user each.
        there: what there is.
    """
    for bound in bounds(stages):
        found = there.bounds.get(bound.name)
        if found is None:
            detail = f"a stage that was broken into could fill what it may declare: {GIVE}"
            yield Finding("missing", "policy", bound.name, detail)
        elif found.pattern != bound.pattern or _is_more(found.definition, bound.definition):
            detail = f"it is for other queues, or bounds them less, than the stages need: {GIVE}"
            yield Finding("differs", "policy", bound.name, detail)
    for name in dict.fromkeys(stage.name for stage in stages):
        most = user_limits(stage for stage in stages if stage.name == name)
        if _is_more(there.users[name], most):
            detail = f"{_shown(most)} are meant, there is {_shown(there.users[name])}: {GIVE}"
            yield Finding("differs", "limit", f"user {name}", detail, (name,))
    if "max-queues" not in there.vhost:
        detail = f"max-queues: a stage that was broken into could declare any number: {GIVE}"
        yield Finding("missing", "limit", "virtual host", detail)


def _is_more(there: Mapping[str, int], most: Mapping[str, int]) -> bool:
    return any(there.get(key, limit + 1) > limit for key, limit in most.items())


def _shown(limits: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {limit}" for key, limit in sorted(limits.items())) or "none"
