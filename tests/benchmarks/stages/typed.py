"""What to_upper does, with a model in and a model out."""

from pydantic import BaseModel

from rabbit import Worker


class Parcel(BaseModel):
    """200 bytes of JSON, with the template's text in it."""

    customer: int
    weight: float
    tags: list[str]
    text: str


class Typed(Worker):
    """Upper-case the text of every parcel."""

    def work(self, parcel: Parcel) -> None:
        """Write a parcel like it."""
        self.write(
            Parcel(
                customer=parcel.customer,
                weight=parcel.weight,
                tags=parcel.tags,
                text=parcel.text.upper(),
            )
        )


if __name__ == "__main__":
    Typed.main()
