"""What runs the containers, and what a person types there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """One of those that the pipeline runs on.

    Attributes:
        name: its own.
        target: as TARGET of make; "": none is needed.
        unit: what it calls that in which a replica runs.
        look_at_brokers: what to type where one does not run.
        finish_upgrade: what to type where brokers differ in their version.
    """

    name: str
    target: str
    unit: str
    look_at_brokers: str
    finish_upgrade: str

    @classmethod
    def of(cls, target: str | None) -> "Engine":
        """Return the one that a TARGET of make means; Compose where there is none."""
        return next((each for each in _ENGINES if each.target == target), COMPOSE)

    def make(self, words: str) -> str:
        """Return a command of make for it."""
        return f"make {words}" + (f" TARGET={self.target}" if self.target else "")


COMPOSE = Engine("Compose", "", "container", "docker compose up -d", "make upgrade")
_ENGINES = (
    COMPOSE,
    Engine(
        "Swarm",
        "swarm",
        "task",
        "docker service ps",
        "make upgrade TARGET=swarm",
    ),
    Engine(
        "Kubernetes",
        "kubernetes",
        "pod",
        "kubectl get pods",
        "kubectl rollout status statefulset rabbitmq",
    ),
)
