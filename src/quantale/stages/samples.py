"""The same prompts continued by every model with the same seed."""

from collections.abc import Mapping
from pathlib import Path

from quantale.core.progress import Progress
from quantale.core.recipe import ReportSection
from quantale.models.load import load
from quantale.stages.generate import continue_prompt

Samples = dict[str, list[str]]


def write_samples(
    folders: Mapping[str, Path], section: ReportSection, progress: Progress
) -> Samples:
    """Return the continuations of every prompt by name of the model."""
    progress.stage("samples", len(folders) * len(section.prompts))
    return {name: _of_model(folder, section, progress) for name, folder in folders.items()}


def _of_model(folder: Path, section: ReportSection, progress: Progress) -> list[str]:
    loaded = load(folder)
    texts = []
    for prompt in section.prompts:
        made = continue_prompt(
            loaded,
            prompt,
            max_new_tokens=section.new_tokens,
            temperature=section.temperature,
            top_k=section.top_k,
            seed=section.seed,
        )
        texts.append(str(made["text"])[len(prompt) :])
        progress.advance()
    return texts
