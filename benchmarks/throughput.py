"""Training speed beside TRL and transformers: the same model, examples, order and threads, in one interleaved run.

    python benchmarks/throughput.py [--mode lora|full] [--base random|starter] [--rounds N] [--steps N] [--quick]
                                    [--threads N] [--only NAME ...] [--json FILE]

Lengths are those of chats (prompt median 45, answer median 90 tokens, 20 to 512 in all), 8 examples a step. Every
contender runs in a process of its own, in turn, round after round. Counted are real tokens, never padding, per second
of whole steps (data, forward, backward, clipping, update, logging) after the first ones. No figure counts unless
gradients flow and the first step's loss and gradient norm are those of the plain transformers model in float32.

`+ malloc`: the peer with attune's allocator setting. `best`: the fastest setting found, see docs/LOG.md. Tokens per
CPU second of the contender's own hold up better than the wall clock's where the machine is busy.
Needs trl, datasets and psutil (`pip install attune[dev]`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTENDERS = {
    "attune": "attune",
    "trl": "TRL SFTTrainer, default",
    "trl-best": "TRL SFTTrainer, best (no checkpointing, packing 512, batch 2)",
    "hf-flat": "transformers Trainer, bf16, flattening collator",
    "trl-best+malloc": "TRL best + malloc",
    "hf-flat+malloc": "transformers flattening + malloc",
}
PER_STEP, RANK, VOCAB, SEED = 8, 16, 16384, 7
LOSS_MAY_DIFFER, NORM_MAY_DIFFER = 0.01, 0.1  # bfloat16 against float32, relative


# what all contenders share ------------------------------------------------------------------------------------------


def rows(count: int, vocab: int) -> list[tuple[list[int], int]]:
    """(token ids, length of the prompt) of `count` chats."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    made = []
    while len(made) < count:
        prompt, answer = (int(round(median * np.exp(0.7 * rng.standard_normal()))) for median in (45, 90))
        if prompt >= 4 and answer >= 4 and 20 <= prompt + answer <= 512:
            made.append((rng.integers(8, vocab, prompt + answer).tolist(), prompt))
    return made


def build(base: str, mode: str, *, bf16: bool = False) -> Any:
    """The model with its adapter. The same weights each time: both draws come from the seed."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    torch.manual_seed(SEED)
    if base == "starter":
        folder = Path(__file__).parents[1] / "attune" / "model" / "starter"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        config = Qwen3Config(
            vocab_size=VOCAB, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
            num_key_value_heads=6, head_dim=64, max_position_embeddings=1024, tie_word_embeddings=True, pad_token_id=0,
            initializer_range=0.04,  # twice the usual, so that the loss depends on the text and can be compared
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.config.use_cache = False
    if bf16:
        model.to(torch.bfloat16)
    if mode == "lora":
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(SEED)
        settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, settings)
    return model


def reference(base: str, mode: str, sequences: list[tuple[list[int], list[int]]]) -> tuple[float, float]:
    """(loss, gradient norm) of one step by the plain model in float32, one sequence at a time."""
    import torch

    model = build(base, mode).train()
    total = sum(label != -100 for _, labels in sequences for label in labels[1:])
    loss = 0.0
    for ids, labels in sequences:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        part = torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum") / total
        part.backward()
        loss += float(part)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return loss, float(torch.nn.utils.get_total_norm(gradients))


class Clock:
    """Tokens, time and foreign CPU load between the end of the warm-up and the last step."""

    def __init__(self, warmup: int):
        self.warmup, self.done, self.tokens, self.slots = warmup, 0, 0, 0
        self.counted = (0, 0)

    def saw(self, tokens: int, slots: int) -> None:
        self.tokens += tokens
        self.slots += slots

    def step(self) -> None:
        self.done += 1
        if self.done == self.warmup:
            self.tokens = self.slots = 0
            self.started = self._now()
        self.ended = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        import psutil

        everyone, mine = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = everyone.user + everyone.nice + everyone.system
        return time.perf_counter(), busy, mine.user + mine.system

    def figures(self) -> dict[str, float]:
        seconds, busy, mine = (end - start for end, start in zip(self.ended, self.started))
        return {
            "tokens_per_second": self.tokens / seconds,
            "tokens_per_cpu_second": self.tokens / mine,
            "tokens": self.tokens,
            "seconds": seconds,
            "steps": self.done - self.warmup,
            "padding": 1 - self.tokens / self.slots,
            "foreign_cores": max(0.0, busy - mine) / seconds,
        }


def peak_rss_mib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# contenders ---------------------------------------------------------------------------------------------------------


def order(lengths: Any, steps: int) -> list[int]:
    """attune's own order of the examples, step after step; the peers then get them in it."""
    from attune.data.batch import Loader

    class Lengths:
        def __init__(self) -> None:
            self.lengths = lengths

        def __len__(self) -> int:
            return len(lengths)

    loader = Loader(Lengths(), seed=SEED, batch_size=PER_STEP)  # type: ignore[arg-type]
    return [int(number) for step in range(steps) for number in loader.examples_of(step)]


def run_attune(data: list[tuple[list[int], int]], base: str, mode: str, steps: int, clock: Clock) -> dict[str, Any]:
    """`fit`'s own step: Loader, train_step, clipping, update."""
    import numpy as np
    import torch

    from attune.data.batch import Loader
    from attune.data.examples import Example, ExampleStore
    from attune.model import machine
    from attune.model.parallel import Parallel
    from attune.model.policy import Policy
    from attune.objectives.sft import Sft
    from attune.recipe import Train
    from attune.train.loop import train_step
    from attune.train.optim import Masters
    from attune.train.stage import DEFAULT_MICRO_BATCH

    examples = [
        Example(np.array(ids, np.int32), (np.arange(len(ids)) >= prompt).astype(np.float32), record=number)
        for number, (ids, prompt) in enumerate(data)
    ]
    model = build(base, mode)
    policy = Policy(model, head="lm")
    assert policy.settle() == "packed" and policy.fast, policy.notes
    settings = Train(learning_rate=1e-4, batch_size=PER_STEP)
    dtype = torch.bfloat16 if machine.fast_bfloat16() else torch.float32
    masters, parallel, objective = Masters(policy, settings, dtype=dtype), Parallel(), Sft()
    store = ExampleStore.of(examples, vocab_size=policy.config.vocab_size)
    loader = Loader(store, seed=SEED, batch_size=PER_STEP, layout="packed")
    policy.train()
    log = []
    for step in range(steps):
        batches = loader.batches(step, DEFAULT_MICRO_BATCH["cpu"])
        row, tokens = train_step(parallel.wrap(policy), objective, batches, masters, parallel)
        norm = float(masters.clip(settings.max_grad_norm))
        masters.step(1e-4)
        log.append({"loss": row["loss"], "grad_norm": norm})
        clock.saw(tokens, sum(batch.input_ids.numel() for batch in batches))
        clock.step()
    first = [data[int(number)] for number in loader.examples_of(0)]
    return {"log": log, "first": [(ids, [-100] * prompt + ids[prompt:]) for ids, prompt in first]}


def run_peer(
    name: str, data: list[tuple[list[int], int]], base: str, mode: str, steps: int, clock: Clock, folder: str
) -> dict[str, Any]:
    """A trainer as its own library runs it, fed in attune's order."""
    import transformers
    from datasets import Dataset

    chosen = [data[number] for number in order([len(ids) for ids, _ in data], steps)]
    dataset = Dataset.from_list([{"input_ids": ids, "labels": [-100] * n + ids[n:]} for ids, n in chosen])
    common: dict[str, Any] = {
        "output_dir": folder, "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True, "learning_rate": 1e-4, "lr_scheduler_type": "constant", "num_train_epochs": 1,
        "train_sampling_strategy": "sequential", "seed": SEED,
    }  # fmt: skip
    callback = _callback(clock)
    if name == "hf-flat":
        trainer = transformers.Trainer(
            model=build(base, mode, bf16=mode == "lora"),
            args=transformers.TrainingArguments(**common, bf16=True, per_device_train_batch_size=PER_STEP),
            data_collator=transformers.DataCollatorWithFlattening(),
            train_dataset=dataset,
            callbacks=[callback],
        )
    else:
        import trl

        best = {"gradient_checkpointing": False, "packing": True, "max_length": 512, "per_device_train_batch_size": 2}
        trainer = trl.SFTTrainer(
            model=build(base, mode, bf16=name == "trl-best" and mode == "lora"),
            args=trl.SFTConfig(**common, **(best if name == "trl-best" else {})),
            train_dataset=dataset,
            processing_class=_tokenizer(),
            callbacks=[callback],
        )
        assert name == "trl-best" or (trainer.args.gradient_checkpointing and trainer.args.bf16)
        assert name == "trl-best" or trainer.args.per_device_train_batch_size == PER_STEP
    trainer.remove_callback(transformers.PrinterCallback)
    first: list[tuple[list[int], list[int]]] = []
    step = trainer.training_step

    def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        mask, slots = inputs.get("attention_mask"), inputs["input_ids"].numel()
        clock.saw(slots if mask is None else int(mask.sum()), slots)
        if not first:
            first.extend(_sequences(inputs))
        return step(model, inputs, *args, **kwargs)

    trainer.training_step = counted  # type: ignore[method-assign]
    trainer.train()
    log = [row for row in trainer.state.log_history if "grad_norm" in row]
    return {"log": [{"loss": row["loss"], "grad_norm": float(row["grad_norm"])} for row in log], "first": first}


def _callback(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Tick(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.step()

    return Tick()


def _tokenizer() -> Any:
    """Never used on text: TRL asks for one to know the pad token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=1024
    )


def _sequences(inputs: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of each sequence of a batch, padded or flattened."""
    ids, labels = inputs["input_ids"], inputs["labels"]
    if (mask := inputs.get("attention_mask")) is not None:
        return [(i[m == 1].tolist(), y[m == 1].tolist()) for i, y, m in zip(ids, labels, mask)]
    starts = (inputs["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    cuts = zip(starts, [*starts[1:], ids.shape[1]])
    return [(ids[0, start:end].tolist(), labels[0, start:end].tolist()) for start, end in cuts]


def work(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One contender, in this process."""
    import torch

    from attune.model import machine

    plain = name.removesuffix("+malloc")
    if name != plain or name == "attune":
        machine.prepare(options.threads)
    torch.set_num_threads(options.threads)
    data = rows(PER_STEP * (options.warmup + options.steps), VOCAB if options.base == "random" else 8192)
    steps, clock = options.warmup + options.steps, Clock(options.warmup)
    with tempfile.TemporaryDirectory() as folder:
        if plain == "attune":
            result = run_attune(data, options.base, options.mode, steps, clock)
        else:
            result = run_peer(plain, data, options.base, options.mode, steps, clock, folder)
    figures = {**clock.figures(), "peak_rss_mib": peak_rss_mib(), "threads": torch.get_num_threads()}
    loss, norm = reference(options.base, options.mode, result["first"])
    got = result["log"][0]
    assert len(result["log"]) == clock.done, "a step was not logged"
    assert all(row["grad_norm"] > 0 for row in result["log"]), "a step without gradient"
    assert abs(got["loss"] - loss) <= LOSS_MAY_DIFFER * loss, f"loss {got['loss']} is not {loss}"
    assert abs(got["grad_norm"] - norm) <= NORM_MAY_DIFFER * norm, f"gradient norm {got['grad_norm']} is not {norm}"
    return {**figures, "loss": got["loss"], "plain_loss": loss, "grad_norm": got["grad_norm"], "plain_norm": norm}


# the comparison -----------------------------------------------------------------------------------------------------


def start(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One contender, in a fresh process."""
    command = [sys.executable, __file__, "--worker", name, "--mode", options.mode, "--base", options.base]
    command += ["--threads", str(options.threads), "--steps", str(options.steps), "--warmup", str(options.warmup)]
    root = str(Path(__file__).parents[1])
    environment = {
        **os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown. Ratios are medians of the rounds' own ratios: what one round shares, cancels."""
    peers = [name for name in ("trl", "trl-best", "hf-flat") if name in results]
    head = ["loop", "tokens/s [min-max]", *(f"x {name}" for name in peers), "tokens/CPU s", "peak RSS MiB", "padding"]
    head += ["foreign cores", "loss / plain", "gradient norm / plain"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, rounds in results.items():
        speeds = [row["tokens_per_second"] for row in rounds]
        cells = [CONTENDERS[name], f"{statistics.median(speeds):.0f} [{min(speeds):.0f}-{max(speeds):.0f}]"]
        cells += [f"{ratio(results, name, peer):.2f}" for peer in peers]
        cells.append(f"{statistics.median(row['tokens_per_cpu_second'] for row in rounds):.0f}")
        cells.append(f"{statistics.median(row['peak_rss_mib'] for row in rounds):.0f}")
        cells.append(f"{rounds[0]['padding']:.0%}")
        cells.append(" ".join(f"{row['foreign_cores']:.2f}" for row in rounds))
        cells.append(f"{rounds[0]['loss']:.3f} / {rounds[0]['plain_loss']:.3f}")
        cells.append(f"{rounds[0]['grad_norm']:.3f} / {rounds[0]['plain_norm']:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(results: dict[str, list[dict[str, Any]]], name: str, peer: str) -> float:
    pairs = zip(results[name], results[peer])
    return statistics.median(ours["tokens_per_second"] / theirs["tokens_per_second"] for ours, theirs in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("lora", "full"), default="lora")
    parser.add_argument("--base", choices=("random", "starter"), default="random")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of 8 examples")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="one round of 3 steps: does it run, roughly how fast")
    parser.add_argument("--json", type=Path, help="write every single figure to this file")
    parser.add_argument("--worker", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps, options.warmup = 1, 3, 1
    if options.worker:
        print(json.dumps(work(options.worker, options)))
        return
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for number in range(options.rounds):
        for name in options.only:
            row = start(name, options)
            results[name].append(row)
            print(
                f"round {number + 1} {name}: {row['tokens_per_second']:.0f} tokens/s over {row['tokens']} tokens, "
                f"{row['foreign_cores']:.2f} foreign cores busy",
                file=sys.stderr,
                flush=True,
            )
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    setting = {
        "mode": options.mode, "base": options.base, "threads": options.threads, "examples_per_step": PER_STEP,
        "steps": options.steps, "rounds": options.rounds, "packages": packages, "cpu": platform.processor(),
    }  # fmt: skip
    print(f"\n{options.mode}, {options.base} base, {options.threads} threads, n={options.rounds}; {packages}\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({"setting": setting, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
