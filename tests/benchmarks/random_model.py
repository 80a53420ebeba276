"""A checkpoint of a real architecture with random weights: as fast as the real one, and nothing to download.

Its tokens are made-up words, so that any text of these words has as many tokens as words, and any response can be part of the
next prompt. One token in `END_STRIDE` ends a response, so that responses differ in length.
"""

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from tests.tiny import CHAT_TEMPLATE

END_STRIDE = 64
SPECIAL_TOKENS = ("<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROLES = ("system", "user", "assistant")


def llama_1b() -> PretrainedConfig:
    """Return the configuration of Llama-3.2-1B-Instruct, with an output layer of its own: 1.5 billion parameters."""
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        tie_word_embeddings=False,  # else a model with random weights repeats its last token
    )


def small_llama() -> PretrainedConfig:
    """Return a configuration of the same architecture that runs in milliseconds on a CPU."""
    return LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )


def make_checkpoint(folder: Path, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> Path:
    """Save a model with random weights, made on a device, and its tokenizer."""
    torch.manual_seed(0)
    with device:
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    ends = [SPECIAL_TOKENS.index("<|im_end|>"), *range(END_STRIDE, config.vocab_size, END_STRIDE)]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=SPECIAL_TOKENS.index("<|endoftext|>"))
    model.save_pretrained(folder)
    _make_tokenizer(config.vocab_size).save_pretrained(folder)
    return folder


def words(count: int, vocabulary: int, seed: str) -> str:
    """Return `count` random words of the tokenizer's."""
    generator = random.Random(seed)
    fixed = len(SPECIAL_TOKENS) + len(ROLES)
    return " ".join(f"w{generator.randrange(fixed, vocabulary)}" for _ in range(count))


def _make_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `size` tokens: special tokens, roles, and words."""
    fixed = [*SPECIAL_TOKENS, *ROLES]
    vocabulary = {text: number for number, text in enumerate([*fixed, *(f"w{n}" for n in range(len(fixed), size))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )
