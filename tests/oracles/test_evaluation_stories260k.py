"""Oracle: the published loss of a real pretrained model on real stories."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from quantale.evaluation.language import LanguageSettings, score
from quantale.evaluation.stats import ratio

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MODEL = SHARED / "models" / "stories260K"
STORIES = SHARED / "tinystories" / "valid.txt"

pytestmark = pytest.mark.skipif(
    not (MODEL.is_dir() and STORIES.is_file()),
    reason="needs ../shared/data with stories260K and tinystories",
)


@dataclass(frozen=True)
class Story:
    id: str
    text: str


@dataclass(frozen=True)
class Stories:
    items: tuple[Story, ...]


def first_stories(count: int) -> Stories:
    texts = [text.strip() for text in STORIES.read_text(encoding="utf-8").split("<|endoftext|>")]
    kept = [text for text in texts if text][:count]
    return Stories(tuple(Story(str(i), text) for i, text in enumerate(kept)))


def test_stories260k_has_its_known_loss_on_forty_stories() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    found = score({"m": model}, tokenizer, first_stories(40), LanguageSettings(cut=512))
    assert found.protocol == "document(bos=1,context=512,stride=256,cut=512)"
    nll = torch.tensor([one.nll for one in found.documents], dtype=torch.float64).numpy()
    tokens = torch.tensor([one.tokens for one in found.documents], dtype=torch.float64).numpy()
    assert ratio(nll, tokens).value == pytest.approx(1.3040, abs=1e-4)
