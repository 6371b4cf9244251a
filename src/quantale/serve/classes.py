"""Class probabilities of several classifiers side by side, as HTML bars."""

from collections.abc import Sequence

from quantale.core.errors import QuantaleError
from quantale.report import numerals
from quantale.serve.escaping import escaped
from quantale.serve.facts import Figure
from quantale.serve.inputs import cleaned
from quantale.serve.notices import notice
from quantale.stages.answering import Classifier, ClassShares

CHARACTERS = 10_000
_MOST = 12
"""Classes that are shown; of more, the likeliest."""


def classify(classifiers: Sequence[Classifier], value: object) -> str:
    """Ask all classifiers; return notices and a card each."""
    typed = cleaned(value)
    text = typed[:CHARACTERS]
    if not text.strip():
        return notice("Type or paste a text first.")
    cut = ""
    if len(typed) > CHARACTERS:
        first = numerals.count(CHARACTERS)
        cut = notice(f"The text was too long: its first {first} characters were read.")
    return cut + verdict_cards(classifiers, [_asked(one, text) for one in classifiers])


def verdict_cards(
    classifiers: Sequence[Classifier], found: Sequence[ClassShares | str | None]
) -> str:
    """Return a card for each classifier; None: not asked yet, a text: what went wrong."""
    said = [_top(one) for one in found]
    parts = [
        _card(number, classifier, one, said[0] if number else None)
        for number, (classifier, one) in enumerate(zip(classifiers, found, strict=True))
    ]
    return f'<div class="q-cards" data-count="{len(parts)}">{"".join(parts)}</div>'


def _asked(classifier: Classifier, text: str) -> ClassShares | str:
    try:
        return classifier.classify(text)
    except QuantaleError as error:
        return str(error)


def _top(found: ClassShares | str | None) -> str | None:
    if not isinstance(found, ClassShares):
        return None
    return max(found.shares, key=lambda name: found.shares[name])


def _card(
    number: int, classifier: Classifier, found: ClassShares | str | None, base: str | None
) -> str:
    return (
        f'<article class="q-card" aria-labelledby="q-name-{number}">'
        f'<header><h3 id="q-name-{number}"><i class="q-dot q-c{number}"></i>'
        f"<span>{escaped(classifier.name)}</span></h3></header>"
        f"{_body(found, base)}{_figures(classifier, found)}</article>"
    )


def _body(found: ClassShares | str | None, base: str | None) -> str:
    if isinstance(found, str):
        return f'<div class="q-problem" role="alert">{escaped(found)}</div>'
    if found is None:
        return '<div class="q-text" data-empty="true"></div>'
    top = _top(found)
    differs = base is not None and top != base
    ranked = sorted(found.shares.items(), key=lambda item: -item[1])[:_MOST]
    if len(found.shares) <= _MOST:
        ranked = list(found.shares.items())
    bars = "".join(_bar(name, share, name == top) for name, share in ranked)
    says = f'<mark class="q-parts">{escaped(str(top))}</mark>' if differs else escaped(str(top))
    return f'<p class="q-says">{says}</p><ul class="q-bars">{bars}</ul>'


def _bar(name: str, share: float, is_top: bool) -> str:
    kind = ' class="q-top"' if is_top else ""
    return (
        f'<li{kind}><span>{escaped(name)}</span><i class="q-share" '
        f'style="--share:{100 * share:.1f}%"></i><b>{numerals.percent(share)}</b></li>'
    )


def _figures(classifier: Classifier, found: ClassShares | str | None) -> str:
    facts = classifier.facts
    took = numerals.milliseconds(1000 * found.seconds) if isinstance(found, ClassShares) else "–"
    shown = (
        Figure("on disk", numerals.size(facts.nbytes)),
        Figure("bits per weight", numerals.significant(facts.bits_per_weight, 3)),
        Figure("per text", took),
        Figure("in memory", numerals.size(facts.memory)),
        Figure("kernel", facts.kernel),
    )
    lines = "".join(
        f"<div><dt>{escaped(one.label)}</dt><dd>{escaped(one.value)}</dd></div>" for one in shown
    )
    return f'<dl class="q-facts">{lines}</dl>'
