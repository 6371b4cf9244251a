"""A page as an ASGI application: Gradio mounted behind the list of routes and the guard."""

import fastapi
import gradio as gr

from quantale.serve.guard import App, Guard, Rules
from quantale.serve.look import head, styles, theme
from quantale.serve.routes import PageRoutes


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
