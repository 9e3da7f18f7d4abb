"""Orders by key: who reads an edge of kind topic says which of them it wants.

With OUTPUT_KIND=topic. Who reads it has INPUT_KIND=topic and, say, INPUT_KEYS=order.*.bulk, or
INPUT_KEYS=order.tea.#, and each order goes to all whose keys match.
"""

from rabbit import Worker
from tests.examples.orders import Order

BULK = 100


class Dispatch(Worker):
    def work(self, order: Order) -> None:
        size = "bulk" if order.pieces >= BULK else "single"
        self.write(order, key=f"order.{order.item}.{size}")


if __name__ == "__main__":
    Dispatch.main()
