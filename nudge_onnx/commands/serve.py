"""`nudge-onnx serve`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from nudge_onnx.commands.options import bundle_argument, cache_option, load, provider_options
from nudge_onnx.errors import NudgeError, RuntimeMissingError
from nudge_onnx.limits import MOST_SLOTS, SLOTS

__all__ = ["command"]


@click.command("serve")
@bundle_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keys that clients must send, one a line.",
)
@click.option("--allow-anyone", is_flag=True, help="Listen beyond this machine without a key.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name that the server is called by.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Let web pages of this origin ask; may be repeated.")
@click.option("--name", help="Name of the model that clients ask for [the folder's].")
@click.option(
    "--places", type=click.IntRange(1, MOST_SLOTS), default=SLOTS, show_default=True, help="Answers written at a time."
)
@click.option(
    "--queue", type=click.IntRange(0, 100_000), default=64, show_default=True, help="Answers that may wait for a place."
)
@cache_option
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Most tokens of a chat answer where the client does not say.",
)
@click.option("--max-body-mib", type=click.IntRange(1, 1024), default=4, show_default=True, help="Largest request.")
@click.option(
    "--answer-seconds",
    type=click.FloatRange(0, min_open=True),
    default=600,
    show_default=True,
    help="An answer that takes longer is cut.",
)
@click.option(
    "--wait-seconds",
    type=click.FloatRange(0, min_open=True),
    default=120,
    show_default=True,
    help="An answer that waits longer for a place is refused.",
)
@click.option(
    "--grace-seconds",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    help="Answers may go on so long once the server is to stop.",
)
@provider_options
def command(folder: Path, **options: Any) -> None:
    """Serve the bundle DIR to clients of OpenAI's API, with a page at /.

    Endpoints: /v1/chat/completions, /v1/completions, /v1/responses, /v1/models, /tokenize, /detokenize, /healthz,
    /readyz, /metrics, /openapi.json. Needs nudge-onnx[serve]; docs/serving.md describes them.

    The server listens on this machine alone. Beyond it, it wants keys (--api-key-file), or --allow-anyone.
    """
    try:
        from nudge_onnx.server.run import serve
        from nudge_onnx.server.settings import Settings, read_keys
    except ImportError as error:
        raise RuntimeMissingError(
            f"serving needs {error.name}, which is not installed; pip install 'nudge-onnx[serve]'"
        ) from None
    keys = read_keys(options["api_key_file"]) if options["api_key_file"] else ()
    settings = Settings(
        host=options["host"],
        port=options["port"],
        keys=keys,
        origins=options["cors"],
        hosts=options["allow_host"],
        places=options["places"],
        queue=options["queue"],
        max_tokens=options["max_tokens"],
        body_bytes=options["max_body_mib"] << 20,
        answer_seconds=options["answer_seconds"],
        wait_seconds=options["wait_seconds"],
        grace_seconds=options["grace_seconds"],
    )
    if not settings.local and not keys and not options["allow_anyone"]:
        raise NudgeError(
            f"{settings.host} can be reached from other machines; give --api-key-file, or --allow-anyone to serve "
            "whoever asks"
        )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with load(folder, options, slots=options["places"], cache_mib=options["cache_mib"]) as lm:
        serve(lm, settings.named(options["name"] or folder.resolve().name))
