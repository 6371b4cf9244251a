"""What people type, made safe for a tokenizer: cleaned, and cut where it is too long."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from quantale.core.templates import Template

CHARACTERS = 100_000
"""Of one text field; what is longer is cut before any work."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_WORD_START = re.compile(r"\s\S")
_LOOK_AHEAD = 40
Sizes = Callable[[str], Sequence[tuple[int, int]]]
"""For a prompt, of every model: its tokens and how many there may be."""


@dataclass(frozen=True)
class Prompt:
    """What all models are given."""

    text: str
    cut: int = 0
    """Characters of what was typed that were left out."""


def cleaned(value: object, limit: int = CHARACTERS) -> str:
    """Return what came as text that can be encoded, with plain line ends.

    Half characters (lone surrogates), which no tokenizer takes, become the replacement character;
    what is no text is empty.
    """
    text = value if isinstance(value, str) else ""
    text = _SURROGATES.sub("\ufffd", text[: limit + 1]).replace("\0", "\ufffd")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def free_prompt(value: object, sizes: Sizes) -> Prompt:
    """Return the end of a text that fits all models."""
    typed = cleaned(value)
    kept = fitted(typed[:CHARACTERS], sizes)
    return Prompt(kept, _length(value) - len(kept) if len(kept) < len(typed) else 0)


def filled_prompt(template: Template, values: Mapping[str, object], sizes: Sizes) -> Prompt:
    """Return a template's prompt; its longest field is cut at its beginning until all fits.

    The fields but the last one are single lines.
    """
    names = template.prompt_fields
    typed = {name: cleaned(values.get(name))[:CHARACTERS] for name in names}
    typed.update({name: " ".join(typed[name].split()) for name in names[:-1]})
    if not names:
        return Prompt(template.prompt({}))
    longest = max(names, key=lambda name: len(typed[name]))

    def whole(text: str) -> str:
        return template.prompt({**typed, longest: text})

    kept = fitted(typed[longest], lambda text: sizes(whole(text)))
    return Prompt(whole(kept), len(typed[longest]) - len(kept))


def fitted(text: str, sizes: Sizes) -> str:
    """Return the end of a text, from a word on, that takes no model more tokens than it may have.

    Cuts in proportion until it fits, so that a text is encoded a few times and not once a letter.
    """
    kept = text
    while kept:
        share = min((most / count for count, most in sizes(kept) if count > most), default=1.0)
        if share == 1.0:
            break
        keep = min(len(kept) - 1, int(len(kept) * max(share, 0.0)))
        kept = _from_a_word(kept[len(kept) - keep :]) if keep else ""
    return kept


def _from_a_word(text: str) -> str:
    """Drop the part of a word at the beginning, where the next word is near."""
    found = _WORD_START.search(text, 0, _LOOK_AHEAD)
    return text[found.start() + 1 :] if found else text


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0
