"""A run in small, in a process of its own: its preparation, steps, checkpoint and answers, timed, with the peak memory.

`python -m attune.plan.rehearse ORDER.json` writes what it found to the order's `result` after every stage, so that a
process that is killed for its memory leaves what it knew. Nothing here sees a label of a test row.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from attune.data.some import train_sample
from attune.durable import write_json
from attune.plan.grow import Cost, grow
from attune.runs import Run

__all__ = ["rehearse"]


class Measuring:
    """In place of the training loop: measures its steps, one validation pass and one checkpoint, and trains nothing."""

    def __init__(self, prepared: Any, seconds: float, *, probes: bool):
        """`probes`: a label head will start as a linear model, which takes a pass over the training rows."""
        self.prepared, self.limit, self.probes = prepared, seconds, probes
        self.began = self.ended = 0.0
        self.facts: dict[str, Any] = {}

    def fit(self, policy: Any, objective: Any, loader: Any, masters: Any, settings: Any, **how: Any) -> Any:
        from attune.model import machine
        from attune.train import checkpoint
        from attune.train.loop import Progress, train_step
        from attune.train.measure import measure_forwards, measure_steps

        self.began = time.monotonic()
        head = self._head_start(policy, objective, loader, how["micro_batch_tokens"]) if self.probes else None
        forward, parallel, total = how["micro_batch_tokens"], how["parallel"], how["total_steps"]
        notes = []
        while True:
            try:
                found = measure_steps(
                    policy, objective, loader, masters, parallel, forward, total_steps=total, seconds=self.limit
                )
                break
            except (RuntimeError, MemoryError) as error:
                if not machine.is_out_of_memory(error) or forward < 32:
                    raise
            masters.zero_grad()
            forward //= 2
            notes.append(f"out of memory: forward halved to {forward} tokens")
        validation, whole, validating = 0.0, True, 0.0
        held = self.prepared.stores.get("validation")
        if how["evaluate"] is not None and held is not None:
            pad_id = loader.pad_id
            both = [held, train_sample(self.prepared.stores["train"], held)]
            validation = measure_forwards(
                policy, objective, both, forward, layout=loader.layout, pad_id=pad_id, seconds=self.limit / 3
            )
            whole = validation < self.limit
            if whole:
                policy.eval()
                started, processor = time.monotonic(), time.process_time()
                how["evaluate"]()
                validation, validating = time.monotonic() - started, time.process_time() - processor
                policy.train()
            else:
                validating = found.busy * validation
        train_step(policy, objective, loader.batches(0, forward)[-1:], masters, parallel)
        masters.step(0.0)  # AdamW's averages belong into a checkpoint
        started, processor = time.monotonic(), time.process_time()
        tensors = {"weights": masters.weights(), "optimizer": masters.moments()}
        progress = Progress(step=1, micro_batch_tokens=forward)
        checkpoint.save(how["folder"], 1, tensors=tensors, state=asdict(progress), fingerprint="rehearsal")
        self.facts = {
            "steps": total,
            "steps_per_epoch": loader.steps_per_epoch,
            "step": {key: value for key, value in asdict(found).items()},
            "validation_seconds": validation if held is not None else None,
            "validation_measured": whole,
            "validation_tokens": int(held.lengths.sum()) if held is not None else 0,
            "checkpoint_seconds": time.monotonic() - started,
            "processor": {
                "step": found.busy * found.seconds,
                "validation": validating,
                "checkpoint": time.process_time() - processor,
            },
            "forward": forward,
            "notes": notes,
            "head_seconds": head.seconds if head else 0.0,
            "measuring_seconds": time.monotonic() - self.began,
        }
        self.ended = time.monotonic()
        return progress

    def _head_start(self, policy: Any, objective: Any, loader: Any, forward: int) -> Cost:
        from attune.data.batch import Loader
        from attune.train.head_start import CELLS, start_head

        def run(size: int) -> float:
            began = time.monotonic()
            rows = np.random.default_rng(0).permutation(len(loader.store))[:size]
            like = {"layout": loader.layout, "pad_id": loader.pad_id, "scored": loader.scored}
            some = Loader(Rows(loader.store, rows), seed=loader.seed, batch_size=1, **like)
            start_head(policy, objective, some, batch_tokens=forward, dtype=next(policy.parameters()).dtype)
            return time.monotonic() - began

        width = policy.config.get_text_config().hidden_size
        scored = 1 if objective.head == "sequence" else max(1, int(loader.store.lengths.mean()))
        total = max(1, min(len(loader.store), CELLS // width // scored))
        return grow(run, total, start=64, limit=self.limit)


class Rows:
    """Some examples of a store."""

    def __init__(self, store: Any, rows: np.ndarray):
        self.store, self.rows, self.lengths = store, rows, store.lengths[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.store[int(self.rows[index])]


def rehearse(order: dict[str, Any]) -> dict[str, Any]:
    """Facts of the stages, in seconds and GiB. `order`: recipe (a file), folder, result, seconds, evaluate, began."""
    from attune.flow_data import prepare_run
    from attune.model import machine
    from attune.model.load import load_tokenizer
    from attune.model.save import save_model
    from attune.recipe import Recipe
    from attune.train.stage import train_stage
    from attune.train.teacher import taught

    result = Path(order["result"])
    facts: dict[str, Any] = {"start_seconds": time.time() - order["began"], "stage": "prepare"}
    mark = time.monotonic()
    until = mark + order["limit"] - facts["start_seconds"]
    recipe = Recipe.load(order["recipe"]).replace({"train.budget": None, "track": []})
    if recipe.retain.chooses:  # one point between the base and the tuned model is measured, not all
        recipe = recipe.replace({"retain.interpolate": False})
    tokenizer = load_tokenizer(recipe.model)
    run = Run.create(order["folder"], recipe.dump())
    prepared, objective, recipe = prepare_run(recipe, tokenizer, run=run)
    prepared = taught(recipe, prepared, objective, tokenizer, cache=run.path.parent / ".cache")
    facts |= {"prepare_seconds": time.monotonic() - mark, "stage": "train", "data": data_facts(prepared)}
    facts["head"] = objective.head
    write_json(result, facts)
    mark = time.monotonic()
    probes = getattr(objective.options, "head_init", "random") == "probe"
    if probes:  # measured on some rows instead of made on all
        objective.options = objective.options.model_copy(update={"head_init": "random"})
    measuring = Measuring(prepared, order["seconds"], probes=probes)
    trained = train_stage(
        recipe,
        run,
        prepared,
        objective,
        tokenizer,
        parallel=None,
        freeze=lambda frozen: None,
        fingerprint=lambda frozen: "rehearsal",
        fit=measuring.fit,
    )
    keep = ("layout", "threads", "dtype", "device", "trained_weights", "weights", "learning_rate", "notes")
    facts |= {"training": measuring.facts, **{key: trained.facts[key] for key in keep}}
    if recipe.retain.limit is not None:
        facts["choice_seconds"] = time.monotonic() - measuring.ended
    facts |= {"set_up_seconds": measuring.began - mark, "memory_gib": machine.peak_memory_gib(), "stage": "evaluate"}
    write_json(result, facts)
    mark = time.monotonic()
    stops = list(prepared.renderer.stop_ids) if objective.head == "lm" else []
    save_model(run.model_dir, recipe, objective, tokenizer, trained.weights, stop_ids=stops, steps=[], card="")
    facts["save_seconds"] = time.monotonic() - mark
    if order["evaluate"]:
        from attune.plan.answers import measure_answers

        facts["answers"] = measure_answers(
            run, recipe, prepared, objective, tokenizer, seconds=order["seconds"], until=until
        )
    facts |= {"whole_memory_gib": machine.peak_memory_gib(), "stage": "done"}
    write_json(result, facts)
    return facts


def data_facts(prepared: Any) -> dict[str, Any]:
    """Sizes and lengths as the model's own tokenizer counts them."""
    import numpy as np

    lengths = np.asarray(prepared.stores["train"].lengths)
    return {
        "rows": {name: len(store) for name, store in prepared.stores.items()},
        "tokens": int(lengths.sum()),
        "median_tokens": int(np.median(lengths)),
        "p95_tokens": int(np.percentile(lengths, 95)),
        "longest_tokens": int(lengths.max()),
    }


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    try:  # where memory runs out, the kernel should end this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass
    from attune.errors import AttuneError

    try:
        rehearse(order)
    except AttuneError as error:
        shown = {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}
        write_json(Path(order["failure"]), {"kind": type(error).__name__, **shown})
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
