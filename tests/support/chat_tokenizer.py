"""A tokenizer with a chat template, and one whose beginning and end tokens differ."""

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from quantale.data.templates import MODEL_ROLE
from quantale.data.tokenizers import train_bpe

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>"
    + MODEL_ROLE
    + "\n{% endif %}"
)
LETTERS = "abcdefgh .:\n"


def chat_tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    tokenizer = train_bpe([f"user {MODEL_ROLE} who what the bear the moon"], 280)
    marks = {"additional_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"}
    tokenizer.add_special_tokens(marks)
    tokenizer.chat_template = template
    return tokenizer


def letters(begin: str | None = "<s>", end: str | None = "</s>") -> PreTrainedTokenizerFast:
    """One token a letter; 0 is <s>, 1 is </s>, 2 is <unk>."""
    vocabulary = {symbol: i for i, symbol in enumerate(["<s>", "</s>", "<unk>", *LETTERS])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=False))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=begin, eos_token=end, unk_token="<unk>"
    )
