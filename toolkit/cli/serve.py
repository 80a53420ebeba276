"""`toolkit serve`: a trained router as an OpenAI-compatible server."""

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, RunsDirOption, app
from toolkit.cli.open_live import AlphaOption, ResidentOption, RunArgument, open_live
from toolkit.cli.open_router import TrustOption
from toolkit.cli.terminal import note
from toolkit.core.errors import SuiteError

KEY_VARIABLE = "TOOLKIT_API_KEY"


@app.command()
def serve(
    run: RunArgument,
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    alpha: AlphaOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.", min=0, max=65535)] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar=KEY_VARIABLE, help="Key that requests must have. Default: none.", show_default=False),
    ] = None,
    queue: Annotated[int, typer.Option(help="Questions that may wait; further ones get status 503.", min=1)] = 256,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a request may take; then it gets status 504.", min=0.001)
    ] = 300.0,
    resident: ResidentOption = None,
    trust: TrustOption = False,
) -> None:
    """Serve a trained router as an OpenAI-compatible endpoint: any chat client can use it. Stop it with Ctrl-C.

    Needs the extra `serve`: pip install 'hierrouter-toolkit[serve]'

    Example: toolkit serve quickstart --port 8000
    """
    from toolkit.live.server import Settings, build_app, listen
    from toolkit.live.server import serve as serve_until_stopped
    from toolkit.live.worker import Worker

    if api_key is not None and not (api_key.strip() and api_key.isascii() and api_key.isprintable()):
        raise SuiteError(f"The key must be printable ASCII. Correct --api-key or ${KEY_VARIABLE}, or leave it out for none.")
    router, pool = open_live(run, cache, runs_dir, alpha, resident, trust)
    listening = listen(host, port)
    worker = Worker(router, pool, alpha, queue)
    is_path = Path(run).name != run or run.endswith(".toml")
    names = tuple(dict.fromkeys((router.card["run"], pool.suite.name, *([] if is_path else [run]))))
    server = build_app(worker, Settings(names, timeout, api_key))
    address, bound = listening.getsockname()[:2]
    if api_key is None and not _is_loopback(address):
        note(f"Anybody who reaches {address} can use the models: set a key with ${KEY_VARIABLE}.")
    shown = f"[{address}]" if ":" in address else address
    note(f"Serving {names[0]} at http://{shown}:{bound}/v1 (model {' or '.join(names)}). Stop it with Ctrl-C.")
    serve_until_stopped(server, listening, worker)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
