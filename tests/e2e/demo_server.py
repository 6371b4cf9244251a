"""A page with stub models in a process of its own: arguments are a kind and a file of votes."""

import sys
from pathlib import Path

from stub_writers import StubClassifier, StubWriter
from xss_payloads import PAYLOADS

from quantale.core.templates import Template
from quantale.serve.choices import ClassifierPage, WriterPage
from quantale.serve.page import classifier_page, writer_page
from quantale.serve.serving import serve_blocks

BASE = (
    "there was a little fox named Pip who lived by the old mill. Pip wanted to find a red kite, "
    "but the wind was too strong that day. His friend Mara said, We can wait under the bridge."
)
TEMPLATE = "[GENRE]: {genre}\n[CHARACTERS]: {characters}\n[PROMPT]: {prompt}\n[STORY]: {text}"


def writers(kind: str) -> list[StubWriter]:
    """Return three models: they tell stories, or what would run as code."""
    if kind == "hostile":
        story = " ".join(payload.replace(" ", "\N{NO-BREAK SPACE}") for payload in PAYLOADS)
        spaced = " ".join(PAYLOADS)
        return [StubWriter("<b onmouseover=window.pwned=1>m</b>", story),
                StubWriter("m2", spaced), StubWriter("m3", "x " + spaced)]  # fmt: skip
    return [
        StubWriter("fp32", BASE, pause=0.03),
        StubWriter("gptq-4bit", BASE.replace("old", "big"), pause=0.02),
        StubWriter("rtn-3bit", "there was a blue stone that could sing", pause=0.05),
    ]


def main(kind: str, votes: Path) -> None:
    """Serve until killed."""
    if kind == "classes":
        shares = {"World": 0.6, "Sports": 0.3, "Sci/Tech": 0.1}
        judges = [
            StubClassifier("fp32", shares),
            StubClassifier("int8", dict(zip(shares, (0.3, 0.6, 0.1), strict=True))),
        ]
        blocks = classifier_page(ClassifierPage(judges))
    else:
        template = Template(TEMPLATE) if kind == "structured" else None
        blocks = writer_page(WriterPage(writers(kind), votes, template))
    serve_blocks(
        blocks,
        ("127.0.0.1", 0),
        None,
        lambda url: print(url, flush=True),  # noqa: T201  the parent reads it
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
