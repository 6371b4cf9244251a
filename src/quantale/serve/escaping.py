"""The one way from text to markup: nothing that a model or a person wrote is ever HTML."""

import html

_TEMPLATE_SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "${}`"}


def escaped(text: str) -> str:
    """Return text that is itself in HTML, in quoted attributes and in a template of the page.

    `gr.HTML` passes its value through a template language; the signs of that are escaped too.
    """
    return html.escape(text, quote=True).translate(_TEMPLATE_SIGNS)
