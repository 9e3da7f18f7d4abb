"""Orders into PostgreSQL: the message id is the key, so what comes again finds its row there."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg_pool import ConnectionPool
from pydantic import BaseModel, Field, SecretStr

from rabbit import Consumer, Settings

INSERT = """INSERT INTO orders (message_id, item, pieces) VALUES (%s, %s, %s)
            ON CONFLICT (message_id) DO NOTHING"""


class Order(BaseModel):
    item: str
    pieces: int = Field(ge=1)


class OrdersSettings(Settings):
    database_url: SecretStr = Field(description="postgresql://user:password@host/database")


class Orders(Consumer):
    Settings = OrdersSettings
    settings: OrdersSettings

    @contextmanager
    def resources(self) -> Iterator[None]:
        url = self.settings.database_url.get_secret_value()
        with ConnectionPool(url, min_size=1, max_size=10) as self.pool:
            yield

    def work(self, order: Order) -> None:
        with self.pool.connection() as database:  # committed when it is left
            database.execute(INSERT, (self.message.id, order.item, order.pieces))


if __name__ == "__main__":
    Orders.main()
