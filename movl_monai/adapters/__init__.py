"""Adapters: trainable parameters inside the blocks of a frozen Transformer."""

from .adaptformer import AdaptFormer
from .base import Adapter, BlockHook, last_blocks
from .dvpt import DVPT
from .layers import SSF, BitFit, LayerAdapter
from .lora import LoRA
from .vpt import VPT

__all__ = ["AdaptFormer", "Adapter", "BitFit", "BlockHook", "DVPT", "LayerAdapter", "LoRA", "SSF", "VPT", "last_blocks"]
