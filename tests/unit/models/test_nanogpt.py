"""nanoGPT as a transformers model: shape, initialisation, cache, padding, generation, files."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import spread
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
    StaticCache,
    pipeline,
)

from quantale.core.errors import UsageError
from quantale.models import nanogpt, nanogpt_config
from quantale.models.build import build_model
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig

TINY = {"vocab_size": 19, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 4}


@pytest.fixture
def model() -> NanoGPTForCausalLM:
    """Weights are spread, so that what a model reads shows in what it says."""
    return spread(build_model(NanoGPTConfig(**TINY), seed=3).eval())


@pytest.fixture(autouse=True)
def _registered() -> None:
    nanogpt_config.register()
    nanogpt.register()


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 19, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("vocabulary", [86, 1024])
def test_r1_shape_has_2705856_parameters_and_192_a_symbol(vocabulary: int) -> None:
    with torch.device("meta"):
        model = NanoGPTForCausalLM(NanoGPTConfig(vocab_size=vocabulary))
    assert sum(p.numel() for p in model.parameters()) == 2_705_856 + 192 * vocabulary
    assert not any(name.endswith("bias") for name, _ in model.named_parameters())
    assert type(model.get_submodule("transformer.h.0.attn.c_attn")) is torch.nn.Linear


def test_biases_appear_in_every_linear_layer_and_norm_when_wanted() -> None:
    model = NanoGPTForCausalLM(NanoGPTConfig(**TINY, bias=True))
    biases = [name for name, _ in model.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 * 6 + 1


def test_initial_weights_have_gpt2_deviations_with_both_residual_projections_scaled() -> None:
    model = build_model(NanoGPTConfig(vocab_size=500), seed=0)
    for name in ("wte", "wpe", "h.2.attn.c_attn", "h.2.mlp.c_fc"):
        weight = model.get_parameter(f"transformer.{name}.weight")
        assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    for name in ("h.2.attn.c_proj", "h.2.mlp.c_proj"):
        weight = model.get_parameter(f"transformer.{name}.weight")
        assert weight.std().item() == pytest.approx(0.02 / math.sqrt(12), rel=0.03)


def test_weights_depend_on_the_seed_alone_and_leave_the_global_state_untouched() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (build_model(NanoGPTConfig(**TINY), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.transformer.wte.weight, same.transformer.wte.weight)
    assert not torch.equal(first.transformer.wte.weight, other.transformer.wte.weight)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(Exception, match="not a multiple of n_head"):
        NanoGPTConfig(n_embd=10, n_head=4)


def test_cached_decoding_gives_the_logits_of_one_whole_pass(model: NanoGPTForCausalLM) -> None:
    ids = tokens(2, 9)
    whole = model(ids).logits
    first = model(ids[:, :5], use_cache=True)
    rest = model(ids[:, 5:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), whole)


@given(padding=st.integers(1, 6), length=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_padding_on_either_side_leaves_logits_unchanged(
    padding: int, length: int, seed: int
) -> None:
    model = spread(build_model(NanoGPTConfig(**TINY), seed=3).eval())
    ids = tokens(1, length, seed=seed)
    filler = torch.zeros(1, padding, dtype=torch.long)
    ones = torch.ones_like(ids)
    plain = model(ids).logits
    left = model(torch.cat([filler, ids], 1), attention_mask=torch.cat([filler, ones], 1)).logits
    right = model(torch.cat([ids, filler], 1), attention_mask=torch.cat([ones, filler], 1)).logits
    torch.testing.assert_close(left[:, padding:], plain)
    torch.testing.assert_close(right[:, :length], plain)


def test_eager_attention_and_gradient_checkpointing_give_the_same_numbers(
    model: NanoGPTForCausalLM,
) -> None:
    ids = tokens(2, 9)
    expected = model(ids, labels=ids)
    expected.loss.backward()
    gradient = model.transformer.wte.weight.grad
    model.zero_grad(set_to_none=True)
    model.set_attn_implementation("eager")
    model.activation_checkpointing_enable()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = model(ids, labels=ids, use_cache=False).loss
    loss.backward()
    torch.testing.assert_close(loss, expected.loss)
    torch.testing.assert_close(model.transformer.wte.weight.grad, gradient)
    maps = model.eval()(ids, output_attentions=True, output_hidden_states=True)
    assert maps.attentions[0].shape == (2, 4, 9, 9)
    assert len(maps.hidden_states) == 3


def test_loss_shifts_inside_and_ignores_minus_100(model: NanoGPTForCausalLM) -> None:
    ids = tokens(2, 8)
    labels = ids.clone()
    labels[0, 4:] = -100
    logits = model(ids).logits[:, :-1].reshape(-1, 19)
    targets = labels[:, 1:].reshape(-1)
    kept = targets >= 0
    expected = -logits[kept].log_softmax(-1).gather(1, targets[kept, None]).mean()
    torch.testing.assert_close(model(ids, labels=labels).loss, expected)


def test_only_the_wanted_logits_are_computed(model: NanoGPTForCausalLM) -> None:
    ids = tokens(2, 8)
    last = model(ids, logits_to_keep=2).logits
    torch.testing.assert_close(last, model(ids).logits[:, -2:])


def test_a_block_runs_alone_on_hidden_states_and_returns_a_tensor(
    model: NanoGPTForCausalLM,
) -> None:
    states = model(tokens(2, 8), output_hidden_states=True, use_cache=False).hidden_states
    with torch.no_grad():
        alone = model.transformer.h[0](states[0])
    torch.testing.assert_close(alone, states[1])


def test_a_forward_pass_beyond_the_context_is_a_clear_error(model: NanoGPTForCausalLM) -> None:
    with pytest.raises(UsageError, match="at most 12 tokens at once, but 13 came"):
        model(tokens(1, 13))
    cache = model(tokens(1, 12), use_cache=True).past_key_values
    with pytest.raises(UsageError, match="13 came"):
        model(tokens(1, 1), past_key_values=cache)


@pytest.mark.parametrize("prompt", [4, 12, 17])
@pytest.mark.parametrize("cache", [True, False])
def test_generation_past_the_context_reads_the_last_tokens_as_nanogpt_does(
    model: NanoGPTForCausalLM, prompt: int, cache: bool
) -> None:
    ids = tokens(2, prompt)
    produced = model.generate(ids, max_new_tokens=20, do_sample=False, use_cache=cache)
    expected = ids
    for _ in range(20):
        best = model(expected[:, -12:]).logits[:, -1].argmax(-1, keepdim=True)
        expected = torch.cat([expected, best], 1)
    assert torch.equal(produced, expected)


def test_a_padded_batch_generates_what_each_row_generates_alone(model: NanoGPTForCausalLM) -> None:
    """Logits are compared, since the best token of a random model hardly depends on its input."""
    options = {"max_new_tokens": 15, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    short, long = tokens(1, 3), tokens(1, 7, seed=1)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), short], 1)
    mask = torch.cat([(torch.arange(7) >= 4).long()[None], torch.ones(1, 7, dtype=torch.long)])
    both = model.generate(torch.cat([padded, long]), attention_mask=mask, **options)
    for row, prompt, skip in ((0, short, 4), (1, long, 0)):
        alone = model.generate(prompt, **options)
        assert torch.equal(both.sequences[row, skip:], alone.sequences[0])
        torch.testing.assert_close(torch.stack(both.logits)[:, row], torch.cat(alone.logits))


def test_beam_search_and_a_static_cache_work_within_and_beyond_the_context(
    model: NanoGPTForCausalLM,
) -> None:
    ids = tokens(2, 4)
    greedy = model.generate(ids, max_new_tokens=8, do_sample=False)
    cache = StaticCache(model.config, max_cache_len=12)
    static = model.generate(ids, max_new_tokens=8, do_sample=False, past_key_values=cache)
    assert torch.equal(static, greedy)
    beams = model.generate(ids, max_new_tokens=14, num_beams=3, do_sample=False)
    assert beams.shape == (2, 18)


@pytest.mark.parametrize("bias", [False, True])
def test_saving_and_loading_keeps_every_bit_and_the_tied_head(tmp_path: Path, bias: bool) -> None:
    model = build_model(NanoGPTConfig(**TINY, bias=bias), seed=3).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is NanoGPTForCausalLM
    assert type(AutoConfig.from_pretrained(tmp_path)) is NanoGPTConfig
    assert again.lm_head.weight is again.transformer.wte.weight
    assert torch.equal(again(tokens(2, 9)).logits, model(tokens(2, 9)).logits)
    again.save_pretrained(tmp_path / "again")
    first, second = (tmp_path / d / "model.safetensors" for d in (".", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_text_generation_pipeline_continues_a_prompt(model: NanoGPTForCausalLM) -> None:
    words = {chr(97 + i): i for i in range(18)} | {"<|endoftext|>": 18}
    inner = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=end, eos_token=end, pad_token=end
    )
    model.generation_config = GenerationConfig(
        eos_token_id=None, pad_token_id=18, max_new_tokens=16, do_sample=False
    )
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    text = generator("a b c")[0]["generated_text"]
    assert text.startswith("a b c")
    assert len(text.replace(" ", "")) == 3 + 16
