"""The lines above the answers: what became of the prompt, and how far the models are."""

from quantale.report import numerals
from quantale.serve.escaping import escaped
from quantale.serve.inputs import Prompt


def notices(prompt: Prompt, status: str) -> str:
    """Return what to say, the status last and for screen readers too."""
    found = ""
    if prompt.cut:
        kept = len(prompt.text)
        found = notice(
            f"The prompt was too long: its last {numerals.count(kept)} characters were given to "
            f"all models, {numerals.count(prompt.cut)} in front of them were cut."
        )
    return f'{found}<p class="q-status" role="status">{escaped(status)}</p>'


def notice(text: str) -> str:
    """Return one line that somebody should see."""
    return f'<p class="q-notice" role="alert">{escaped(text)}</p>'
