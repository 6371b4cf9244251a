"""A page as an application, served: Gradio behind the list of routes and the guard."""

from collections.abc import Callable

import fastapi
import gradio as gr

from quantale.serve.guard import App, Guard, Rules, rules_for
from quantale.serve.look import head, styles, theme
from quantale.serve.routes import PageRoutes
from quantale.serve.server import bind, run

BODY_BYTES = 4 << 20
"""Of one request: a few text fields at their limit."""


def serve_blocks(
    blocks: gr.Blocks, place: tuple[str, int], key: str | None, ready: Callable[[str], None]
) -> None:
    """Serve a page until it is stopped; port 0 takes a free one."""
    address, port = place
    with bind(address, port) as listening:
        own = int(listening.getsockname()[1])
        rules = rules_for(address, own, key, body_bytes=BODY_BYTES)
        url = f"http://{f'[{address}]' if ':' in address else address}:{own}/"
        app = page_app(blocks, rules)
        run(app, listening, lambda: ready(url), has_lifespan=True)


def page_app(blocks: gr.Blocks, rules: Rules) -> App:
    """Return the page's application, without links into Gradio's own pages and without history."""
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name="127.0.0.1",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=styles(),
        head=head(),
    )
    return Guard(PageRoutes(mounted), rules)
