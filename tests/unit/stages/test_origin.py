"""What a record says of the model behind its number."""

import torch
from tiny_models import tiny_llama

from quantale.core.records import Measurement
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.origin import origins_of, with_origins


def number(model: str) -> Measurement:
    return Measurement(model, "code", "p", "parses", 0.5, "share", 3, extra={"documents": 3})


def test_model_data_and_tokenizer_are_stated_and_the_corpus_has_no_model() -> None:
    plain, packed = tiny_llama(), tiny_llama().to(torch.bfloat16)
    plain.config.training_seed = 7
    quantize_model(packed, Methods(Rtn(8, "row")))
    packed(torch.zeros(1, 2, dtype=torch.long))
    one, other, corpus = with_origins(
        map(number, ("plain", "packed", "corpus")),
        origins_of({"plain": plain, "packed": packed}),
        data_sha256="d",
        tokenizer_sha256="t",
    )
    assert (one.kernel, one.device, one.dtype) == ("torch", "cpu", "float32")
    assert one.extra == {"documents": 3, "training_seed": 7}
    assert other.kernel not in ("", "torch")
    assert (other.dtype, other.extra) == ("bfloat16", {"documents": 3})
    assert (corpus.kernel, corpus.dtype, corpus.extra) == ("", "", {"documents": 3})
    assert {(m.data_sha256, m.tokenizer_sha256) for m in (one, other, corpus)} == {("d", "t")}
    assert one.provenance == corpus.provenance != ""
