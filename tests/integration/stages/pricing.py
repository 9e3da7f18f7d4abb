"""Take orders, as JSON; write what they cost."""

from pydantic import BaseModel

from rabbit import Worker


class Order(BaseModel):
    """What is asked for."""

    id: int
    pieces: int


class Priced(BaseModel):
    """What it costs."""

    id: int
    total: int
    attempt: int


class Price(Worker):
    """A piece costs seven; the first attempt at order 0 fails."""

    def work(self, order: Order) -> None:
        """Write the price, with a header of its own."""
        if order.id == 0 and self.message.attempt == 1:
            msg = "not yet"
            raise RuntimeError(msg)
        priced = Priced(id=order.id, total=7 * order.pieces, attempt=self.message.attempt)
        self.write(priced, headers={"currency": "EUR"}, priority=order.id)


if __name__ == "__main__":
    Price.main()
