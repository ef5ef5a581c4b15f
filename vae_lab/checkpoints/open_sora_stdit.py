"""Read the config of Open-Sora 1.2's transformer. The names of its weights are those of the lab's STDiT3.

Source: the Hugging Face repository `hpcai-tech/OpenSora-STDiT-v3` and Open-Sora v1.2.0,
`opensora/models/stdit/stdit3.py`.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from ..generation.stdit import STDiT3

MODEL_TYPE = "STDiT3"
RELEASED_CONFIG = {"model_type": MODEL_TYPE}  # the defaults of STDiT3
STORED_CONSTANTS = ("rope.freqs",)  # a formula gives them, so a file may lack them

# What does not change a prediction: speed, parallelism, and training
_NOT_ARCHITECTURE = {
    "_name_or_path", "architectures", "auto_map", "class_dropout_prob", "drop_path", "dtype", "enable_flash_attn",
    "enable_flashattn", "enable_layernorm_kernel", "enable_sequence_parallelism", "force_huggingface",
    "freeze_y_embedder", "input_size", "model_type", "only_train_temporal", "skip_y_embedder", "torch_dtype",
    "transformers_version",
}  # fmt: skip


def to_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate Open-Sora's config.json to the arguments of STDiT3. Raises ValueError for one that is not known."""
    arguments = set(signature(STDiT3).parameters)
    if unknown := sorted(set(config) - arguments - _NOT_ARCHITECTURE):
        raise ValueError(f"{MODEL_TYPE} has arguments the lab does not know: {', '.join(unknown)}")
    if config.get("skip_y_embedder"):
        raise ValueError("skip_y_embedder must be false: the lab's STDiT3 embeds the text itself")
    return {name: config[name] for name in arguments if name in config}
