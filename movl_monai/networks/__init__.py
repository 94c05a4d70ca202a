"""Networks: the only modules that combine prompt, backbone, adapter and head."""

from .checkpoint import (
    checkpoint_class_names,
    checkpoint_task,
    load_checkpoint,
    read_facts,
    save_atomically,
    trained_state_sha256,
    unwrap,
)
from .classifier import AdaptedClassifier, PromptedEncoder
from .ensemble import EnsembleClassifier
from .last_tokens import token_width
from .segmenter import AdaptedSegmenter
from .trained_state import TrainedStateNetwork, decode_facts, encode_facts
from .units import UnitClassifier

__all__ = [
    "AdaptedClassifier",
    "AdaptedSegmenter",
    "EnsembleClassifier",
    "PromptedEncoder",
    "TrainedStateNetwork",
    "UnitClassifier",
    "checkpoint_class_names",
    "checkpoint_task",
    "decode_facts",
    "encode_facts",
    "load_checkpoint",
    "read_facts",
    "save_atomically",
    "token_width",
    "trained_state_sha256",
    "unwrap",
]
