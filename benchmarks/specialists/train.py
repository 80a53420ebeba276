"""Train one model of the quickstart: a LoRA adapter on SmolLM2-135M-Instruct, with the trainers of transformers and peft.

    just specialists mathematics

It sees only problems that are reserved for training (`benchmarks/problems.py`). The adapter is written beside this file. A
GPU is used if there is one.
"""

import argparse
import json
import logging
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from benchmarks.specialists.chains import MODELS, Example, examples
from toolkit.core.workspace import Workspace
from toolkit.suites.loading import load_config
from toolkit.suites.prompts import messages
from toolkit.suites.weights import fetch

HERE = Path(__file__).parent
SUITE = HERE.parent / "suites/quickstart.toml"
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
RANK = 16
"""Rank of an adapter; a network that was cut to some of its layers gets twice as much."""
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    """Train the model named on the command line and write its adapter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own-share", type=float, default=0.3, help="share of problems that need its skill alone")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--start", type=Path, default=None, help="folder of an adapter to train further")
    parser.add_argument("--downloads", type=Path, default=Path("cache/weights"), help="folder for fetched weights")
    parser.add_argument("--out", type=Path, default=None, help="folder for the adapter")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = {name: value for name, value in vars(arguments).items() if name not in ("model", "out")}
    train(arguments.model, **settings, out=arguments.out or HERE / arguments.model)


def train(
    name: str,
    *,
    steps: int,
    batch: int,
    seed: int,
    own_share: float,
    downloads: Path,
    out: Path,
    learning_rate: float = 1e-3,
    start: Path | None = None,
) -> None:
    """Train one model.

    Args:
        name: Its name in the suite.
        steps: Optimiser steps.
        batch: Examples per step.
        seed: Seed of the examples and of the adapter's initial values.
        own_share: Share of problems that need its skill alone.
        downloads: Folder for fetched weights.
        out: Folder for the adapter, with the loss curve as `trainer_state.json`.
        learning_rate: The highest learning rate; it rises over the first 20 steps and falls to 0 with the last one.
        start: Folder of an adapter to train further; without it, a new one is trained.
    """
    transformers.set_seed(seed)
    config = load_config(SUITE)
    model_config = next(model for model in config.models if model.name == name)
    path = fetch(model_config, Workspace(SUITE.parent, downloads))
    tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False)

    def encode(example: Example) -> dict[str, list[int]]:
        chat = messages(config.prompts.protocol, model_config.system_prompt, (), example.prompt, example.responses)
        rendered = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
        prompt, target = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (rendered, example.target))
        target = [*target, tokenizer.eos_token_id]
        return {"input_ids": prompt + target, "labels": [-100] * len(prompt) + target}

    training_set = [encode(example) for example in islice(examples(name, seed, own_share), steps * batch)]
    # Padding on the left leaves rows that attend to nothing; the gradients of a GPU's fused kernels are not numbers there.
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
    )
    rank, layers = adapted_layers(model.config.num_hidden_layers, cut=model_config.layers is not None)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR, layers_to_transform=layers, task_type="CAUSAL_LM")
    before = json.loads((start / "trainer_state.json").read_text()) if start else None
    adapted: Any = PeftModel.from_pretrained(model, start, is_trainable=True) if start else get_peft_model(model, lora)
    started = time.monotonic()
    trainer = Trainer(
        adapted,
        TrainingArguments(
            output_dir=str(out),
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=min(20, steps // 10),
            weight_decay=0.0,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            train_sampling_strategy="group_by_length",
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            seed=seed,
            remove_unused_columns=False,
        ),
        train_dataset=training_set,
        data_collator=lambda rows: _padded(rows, tokenizer.pad_token_id),
    )
    trainer.train()
    if not all(bool(weight.isfinite().all()) for weight in adapted.parameters()):
        raise FloatingPointError(f"The training of {name} diverged; nothing was written. Lower the learning rate.")
    _save(adapted, out)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "one core of a shared processor"
    curve = [{"step": entry["step"], "loss": round(entry["loss"], 4)} for entry in trainer.state.log_history if "loss" in entry]
    facts: dict[str, Any] = {
        "seconds": round(time.monotonic() - started),
        "device": device,
        "rank": rank,
        "layers": model_config.layers,
    }
    facts |= {"steps": steps, "trained": trainer.state.global_step, "batch": batch, "seed": seed, "own_share": own_share}
    facts["tokens"] = sum(len(row["input_ids"]) for row in training_set)
    facts |= {"learning_rate": learning_rate, "before": before}
    (out / "trainer_state.json").write_text(json.dumps(facts | {"loss": curve}, indent=1) + "\n")


def adapted_layers(depth: int, cut: bool) -> tuple[int, list[int]]:
    """Return the rank of an adapter and the layers that it changes.

    Args:
        depth: Number of layers of the network.
        cut: Whether these are some layers of a deeper network: all of them have to change then. Otherwise the lowest third
            stays, so that gradients need not reach it.
    """
    return (2 * RANK, list(range(depth))) if cut else (RANK, list(range(depth // 3, depth)))


def _padded(rows: list[dict[str, list[int]]], pad: int) -> dict[str, Any]:
    """Pad on the left, so that all targets end together and logits are only computed for them."""
    width = max(len(row["input_ids"]) for row in rows)
    longest_target = max(sum(label != -100 for label in row["labels"]) for row in rows) + 1
    ids = [[pad] * (width - len(row["input_ids"])) + row["input_ids"] for row in rows]
    mask = [[0] * (width - len(row["input_ids"])) + [1] * len(row["input_ids"]) for row in rows]
    labels = [([-100] * width + row["labels"])[-longest_target:] for row in rows]
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
        "logits_to_keep": longest_target,
    }


def _save(model: PeftModel, out: Path) -> None:
    """Write the adapter in bfloat16, at half the size, and name its base by its public name instead of a local path."""
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.to(torch.bfloat16)
    for lora in model.peft_config.values():
        lora.base_model_name_or_path = BASE
    model.save_pretrained(str(out), save_embedding_layers=False)  # otherwise peft asks the hub whether they grew


if __name__ == "__main__":
    main()
