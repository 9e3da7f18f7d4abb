"""Orders over HTTP: an ASGI application that answers 202 when the broker has confirmed, not before.

OUTPUT_QUEUE=orders python -m uvicorn tests.examples.http_source:app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rabbit import MessageQueue, RabbitError
from tests.examples.orders import Order


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    with MessageQueue(os.environ["OUTPUT_QUEUE"]) as app.state.orders:
        yield


async def post_order(request: Request) -> Response:
    publish = request.app.state.orders.publish
    key = request.headers.get("idempotency-key")  # who sends it again sends the same one
    try:
        order = Order.model_validate_json(await request.body())
        await asyncio.to_thread(publish, order, timeout=5, message_id=key)
    except ValueError as error:
        return PlainTextResponse(str(error), 422)
    except RabbitError as error:  # it may have arrived, or not: to be sent again
        return PlainTextResponse(str(error), 503, {"Retry-After": "5"})
    return Response(status_code=202)


app = Starlette(routes=[Route("/orders", post_order, methods=["POST"])], lifespan=lifespan)
