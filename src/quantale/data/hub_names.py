"""Corpus names of the command line and the Hub data sets behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HubName:
    """Where a corpus is on the Hub."""

    repository: str
    """Owner and name."""
    column: str
    """Where the text is."""
    config: str | None = None
    """Name of the configuration, for repositories that have several."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Our split name to a split expression of `datasets`, where the two differ."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Our name of a field to the column that stands for it."""


HUB_NAMES: Mapping[str, HubName] = {
    "tinystories": HubName(
        "roneneldan/TinyStories",
        column="text",
        splits={"validation": "validation[:50%]", "test": "validation[50%:]"},
    ),
    "ag-news": HubName(
        "fancyzhx/ag_news",
        column="text",
        splits={"train": "train[:118000]", "validation": "train[118000:]"},
    ),
    "code-search-net": HubName(
        "claudios/code_search_net", column="func_code_string", config="python"
    ),
    "persona-tales": HubName(
        "WorkInTheDark/FairytaleQA",
        column="story_section",
        fields={"genre": "story_name", "characters": "answer1", "prompt": "question"},
    ),
    "wikitext-2": HubName("Salesforce/wikitext", column="text", config="wikitext-2-raw-v1"),
}
"""The original `code_search_net` is a loading script, which `datasets` no longer runs; the
repository here is a Parquet conversion of it."""
