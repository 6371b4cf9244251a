"""A plain transformers Trainer trains LoRA over packed layers, for those with a script of their
own; what it saves is one of our models once its base is recorded."""

from pathlib import Path

import pytest
import torch
from packing import pack, tiny
from peft import get_peft_model
from tiny_models import windows
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from quantale.models.adapter_record import record_base
from quantale.models.load import load
from quantale.quant.apply import Method
from quantale.quant.lora import lora_config
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.sites import LINEAR_ROLES

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Eight rows, each its own label."""

    def __init__(self) -> None:
        self._rows = windows(8)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._rows[index], "labels": self._rows[index]}


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
@pytest.mark.parametrize("method", [Nf4(), Bitnet()], ids=["nf4", "ternary"])
def test_a_plain_trainer_trains_adapters_over_packed_layers(
    method: Method, name: str, tmp_path: Path
) -> None:
    model = tiny(name)
    pack(model, LINEAR_ROLES, method)
    model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    before = {key: value.clone() for key, value in base.state_dict().items()}
    tuned = get_peft_model(base, lora_config(base, r=4, task_type="CAUSAL_LM"))
    settings = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=6,
        per_device_train_batch_size=4,
        learning_rate=0.02,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model=tuned, args=settings, train_dataset=Rows())
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0]
    trainer.save_model(str(tmp_path / "adapter"))
    record_base(tmp_path / "adapter", tmp_path / "base")
    again = load(tmp_path / "adapter").model
    with torch.no_grad():
        wanted = tuned.eval()(input_ids=windows(2)).logits
        assert torch.equal(again(input_ids=windows(2)).logits, wanted)
    kept = load(tmp_path / "base").model.state_dict()
    assert all(torch.equal(kept[key], value) for key, value in before.items())
