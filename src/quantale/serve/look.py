"""Theme, styles and script of the page: the report's colours, system fonts, nothing fetched."""

from importlib import resources

import gradio as gr

from quantale.report.palette import DARK, LIGHT, declarations

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans")
_MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    """Return Gradio's plain theme in the report's colours."""
    made = gr.themes.Base(
        font=[gr.themes.Font(name) for name in (*_SANS, "sans-serif")],
        font_mono=[gr.themes.Font(name) for name in _MONO],
        radius_size=gr.themes.sizes.radius_sm,
    )
    colours = {
        "body_background_fill": "paper",
        "body_text_color": "ink",
        "body_text_color_subdued": "muted",
        "background_fill_primary": "raised",
        "background_fill_secondary": "paper",
        "border_color_primary": "faint",
        "block_background_fill": "raised",
        "block_border_color": "faint",
        "block_label_background_fill": "raised",
        "block_label_text_color": "muted",
        "block_title_text_color": "muted",
        "block_info_text_color": "muted",
        "input_background_fill": "raised",
        "input_border_color": "faint",
        "input_border_color_focus": "series-4",
        "input_placeholder_color": "muted",
        "slider_color": "series-2",
        "checkbox_background_color_selected": "series-2",
        "checkbox_border_color_selected": "series-2",
        "color_accent": "series-2",
        "link_text_color": "series-4",
        "button_primary_background_fill": "ink",
        "button_primary_background_fill_hover": "series-2",
        "button_primary_text_color": "paper",
        "button_secondary_background_fill": "raised",
        "button_secondary_border_color": "faint",
        "button_secondary_text_color": "ink",
    }
    values = {name: f"var(--{colour})" for name, colour in colours.items()}
    dark = {f"{name}_dark": value for name, value in values.items() if name != "color_accent"}
    return made.set(**values, **dark)


def styles() -> str:
    """Return the colours of both themes and the page's own rules."""
    light, dark = declarations(LIGHT), declarations(DARK)
    return f":root{{{light}}}\n.dark{{{dark}}}\n{_asset('page.css')}"


def head() -> str:
    """Return what goes into the page's head: a few lines of script and an empty icon."""
    return f"<script>{_asset('page.js')}</script>"


def _asset(name: str) -> str:
    return (resources.files("quantale.serve") / "assets" / name).read_text(encoding="utf-8")
