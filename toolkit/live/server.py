"""A server that speaks OpenAI's chat API: each request is a question, which the worker routes.

The event loop reads requests and writes responses; nothing in it waits for a model, the cache or another client.
"""

import asyncio
import hmac
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import ToolkitError
from toolkit.engines.base import library_required
from toolkit.live.chat import ChatError, ChatRequest, Completion, error_of, parse
from toolkit.live.worker import Job, QueueFullError, Worker
from toolkit.routing.route import Hop, Route

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY_BYTES = 2**20
"""Longest body of a request."""
MAX_SHUTDOWN_SECONDS = 10.0
"""Longest time that a shutdown waits for requests that are on their way, and then for the hop that the worker is at."""
REQUIREMENT = "hierrouter-toolkit[serve]"
"""What has to be installed to serve."""

Event = Hop | Route | Exception


@dataclass(frozen=True)
class Settings:
    """How a router is served.

    Attributes:
        names: Names of the router, as `model` of a request; the first is the one that completions have.
        timeout: Longest time from a request to its completion, in seconds.
        key: Key that requests must have; None for none.
    """

    names: tuple[str, ...]
    timeout: float
    key: str | None = None


def build_app(worker: Worker, settings: Settings) -> "Starlette":
    """Return the application that serves a worker.

    Raises:
        EngineError: Starlette is not installed.
    """
    with library_required("toolkit serve", REQUIREMENT):
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse
        from starlette.routing import Route as Endpoint

    handlers = _Handlers(worker, settings)

    async def fail(request: "Request", error: Exception) -> "Response":
        return _error_response(error_of(error))

    async def refuse(request: "Request", error: Exception) -> "Response":
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}. See /v1/models and /v1/chat/completions."
        return _error_response(ChatError(error.status_code, message))

    async def health(request: "Request") -> "Response":
        return JSONResponse({"status": "ok"} | worker.counts)

    return Starlette(
        routes=[
            Endpoint("/health", health),
            Endpoint("/v1/models", handlers.models),
            Endpoint("/v1/models/{name:path}", handlers.model),
            Endpoint("/v1/chat/completions", handlers.complete, methods=["POST"]),
        ],
        exception_handlers={ChatError: fail, HTTPException: refuse, Exception: fail},
    )


class _Handlers:
    """The endpoints."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        self._worker = worker
        self._settings = settings

    async def models(self, request: "Request") -> "Response":
        """List the router under its names."""
        from starlette.responses import JSONResponse

        self._check_key(request)
        return JSONResponse({"object": "list", "data": list(map(_model, self._settings.names))})

    async def model(self, request: "Request") -> "Response":
        """Describe the router."""
        from starlette.responses import JSONResponse

        self._check_key(request)
        name = request.path_params["name"]
        if name not in self._settings.names:
            raise ChatError(404, f"The model {name!r:.200} does not exist.", param="model", code="model_not_found")
        return JSONResponse(_model(name))

    async def complete(self, request: "Request") -> "Response":
        """Route the question of a request."""
        from starlette.responses import JSONResponse, StreamingResponse

        self._check_key(request)
        deadline = asyncio.get_running_loop().time() + self._settings.timeout
        chat = parse(await self._body(request, deadline), self._settings.names)
        completion = Completion(self._settings.names[0], chat)
        events: asyncio.Queue[Event] = asyncio.Queue()
        job = self._submit(chat, events)
        gone = asyncio.create_task(_disconnected(request))
        try:
            first = await self._event(events, deadline, gone)
            if chat.stream:
                return StreamingResponse(
                    self._stream(first, events, deadline, job, completion),
                    media_type="text/event-stream",
                    headers={"Cache-Control": "no-cache"},
                )
            while isinstance(first, Hop):
                first = await self._event(events, deadline, gone)
            return JSONResponse(completion.whole(first))
        except BaseException:
            job.cancelled = True
            raise
        finally:
            gone.cancel()

    def _submit(self, chat: ChatRequest, events: "asyncio.Queue[Event]") -> Job:
        loop = asyncio.get_running_loop()

        def report(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has shut down
                loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            return self._worker.submit(chat.question, report)
        except QueueFullError:
            message = "The queue is full: too many questions wait already. Try again later."
            raise ChatError(503, message, code="queue_full", retry_after=1) from None

    async def _event(self, events: "asyncio.Queue[Event]", deadline: float, gone: "asyncio.Task[None] | None") -> Hop | Route:
        """Wait for a hop or the route.

        Raises:
            ChatError: The route failed, takes too long, or nobody waits for it any more.
        """
        event = asyncio.ensure_future(events.get())
        waited = {event, gone} if gone else {event}
        remaining = deadline - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait(waited, timeout=max(0.0, remaining), return_when=asyncio.FIRST_COMPLETED)
        if event not in done:
            event.cancel()
            if done:
                raise ChatError(499, "The client has closed the connection.")
            message = (
                f"There was no response within {self._settings.timeout:g} s. What was generated so far is cached: try again."
            )
            raise ChatError(504, message, code="timeout")
        result = event.result()
        if isinstance(result, Exception):
            raise error_of(result)
        return result

    async def _stream(
        self, first: Hop | Route, events: "asyncio.Queue[Event]", deadline: float, job: Job, completion: Completion
    ) -> AsyncIterator[str]:
        """Yield a completion as events: a chunk for each hop, then the final response in pieces."""
        try:
            number, event = 1, first
            while isinstance(event, Hop):
                yield _sse(completion.hop_chunk(number, event))
                number, event = number + 1, await self._event(events, deadline, None)
            for chunk in completion.final_chunks(event):
                yield _sse(chunk)
            yield "data: [DONE]\n\n"
        except ChatError as error:  # the status has been sent
            yield _sse(error.to_json())
        finally:
            job.cancelled = True

    def _check_key(self, request: "Request") -> None:
        """Check the key of a request.

        Raises:
            ChatError: It has none, or a wrong one.
        """
        if self._settings.key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self._settings.key.encode()):
            raise ChatError(401, "The request has no key, or a wrong one (Authorization: Bearer KEY).", code="invalid_api_key")

    async def _body(self, request: "Request", deadline: float) -> Any:
        """Return the JSON of a request.

        Raises:
            ChatError: It is no JSON, too long, or too slow.
        """
        from starlette.requests import ClientDisconnect

        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ChatError(415, "The request is not JSON: send Content-Type: application/json.")
        body = bytearray()
        try:
            async with asyncio.timeout_at(deadline):
                async for part in request.stream():
                    body += part
                    if len(body) > MAX_BODY_BYTES:
                        raise ChatError(413, f"The request is longer than {MAX_BODY_BYTES} bytes.")
            return json.loads(body)
        except TimeoutError:
            raise ChatError(408, "The request did not arrive in time.") from None
        except ClientDisconnect:
            raise ChatError(499, "The client has closed the connection.") from None
        except (ValueError, RecursionError) as error:
            raise ChatError(400, f"The body is not JSON: {error!s:.200}") from None


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "hierrouter-toolkit"}


def _sse(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _error_response(error: ChatError) -> "Response":
    from starlette.responses import JSONResponse

    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse(error.to_json(), error.status, headers)


async def _disconnected(request: "Request") -> None:
    """Return when the client has closed the connection; the body has been read by then."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ToolkitError: The address is taken, or none of this machine's.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ToolkitError(
            f"The address {host}:{port} cannot be used: {error}. Name another: --host 127.0.0.1 --port 0 takes any free port."
        ) from None


def make_server(app: "Starlette") -> "uvicorn.Server":
    """Return the server of an application.

    Raises:
        EngineError: Uvicorn is not installed.
    """
    with library_required("toolkit serve", REQUIREMENT):
        import uvicorn

    shutdown = int(MAX_SHUTDOWN_SECONDS)
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=shutdown)
    )


def serve(app: "Starlette", listening: socket.socket, worker: Worker) -> None:
    """Serve until SIGINT or SIGTERM; requests on their way are finished, if that takes no longer than a few seconds."""
    try:
        with suppress(KeyboardInterrupt):  # which uvicorn raises again after a shutdown
            make_server(app).run(sockets=[listening])
    finally:
        worker.close(MAX_SHUTDOWN_SECONDS)
