"""CLIP embeddings of class names, for comparison with image embeddings in a zero-shot head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from movl_monai.errors import ConfigError

from .clip_loading import CLIPSource, load_clip
from .weights import Weights

__all__ = ["ClassEmbeddings", "class_prompts", "encode_class_names"]


@dataclass(frozen=True)
class ClassEmbeddings:
    """Text embeddings of classes, with their temperature.

    Args:
        embeddings: (num_classes, embed_dim), float32, rows of unit length.
        logit_scale: factor of the cosine similarities, > 0 (about 100 for trained weights).
        logit_bias: offset of the scaled similarities; 0 except for SigLIP.
    """

    embeddings: torch.Tensor
    logit_scale: float
    logit_bias: float = 0.0


def class_prompts(class_names: Sequence[str], *, templates: Sequence[str] = ("a photo of a {}.",)) -> list[list[str]]:
    """Put every class name into every template.

    Args:
        class_names: one name per class.
        templates: texts with one ``{}`` each, e.g. "a chest X-ray of {}."; the encoder averages several.

    Raises:
        ConfigError: if there is no template, or one has no place for the name.

    Example:
        >>> class_prompts(["pneumonia"], templates=["an X-ray of {}.", "{}, frontal view"])
        [['an X-ray of pneumonia.', 'pneumonia, frontal view']]
    """
    without = [template for template in templates if "{}" not in template]
    if without or not templates:
        raise ConfigError(
            f"Every template needs the place {{}} for the class name, got {without or 'no template'}; "
            "for example 'a photo of a {}.'."
        )
    return [[template.replace("{}", name) for template in templates] for name in class_names]


def encode_class_names(
    prompts: Sequence[str | Sequence[str]],
    *,
    name: str = "RN50",
    pretrained: Weights = None,
    quick_gelu: bool | None = None,
    config: Mapping[str, Any] | str | Path | None = None,
    seed: int = 0,
) -> ClassEmbeddings:
    r"""Encode one or several texts per class with the text tower of a CLIP network, which is dropped afterwards.

    .. math:: t_c = \mathrm{unit}\Big(\sum_k \mathrm{unit}(g(\mathrm{prompt}_{c,k}))\Big)

    Args:
        prompts: one text, or several that are averaged, per class; see :func:`class_prompts`.
        name: of the network, as in :class:`~movl_monai.backbones.CLIPBackbone`. This and the next three arguments must
            be equal in both (with ``projection=True`` in the backbone), so that all embeddings share one space.
        pretrained: the weights.
        quick_gelu: the activation.
        config: the model configuration.
        seed: of random weights.

    Returns:
        Embeddings (num_classes, embed_dim) of unit length in the order of ``prompts``, and the logit scale.

    Raises:
        ConfigError: if there is no class or a class has no text.
        WeightsError: if the weights cannot be loaded, do not fit, or hold no text tower.

    Reference:
        Radford et al., ICML 2021, section 3.1.4 (averaging over templates in embedding space).
    """
    texts = [[entry] if isinstance(entry, str) else list(entry) for entry in prompts]
    if not texts or not all(texts):
        raise ConfigError(
            f"prompts needs at least one text for every class, got {[len(entry) for entry in texts]} texts."
        )
    source = CLIPSource(name=name, pretrained=pretrained, quick_gelu=quick_gelu, config=config, seed=seed)
    model = load_clip(source, text=True).eval()
    tokens = _tokenizer(source)([text for entry in texts for text in entry])
    with torch.no_grad():
        units = model.encode_text(tokens, normalize=True).float()
        means = torch.stack([part.sum(0) for part in units.split([len(entry) for entry in texts])])
        bias = getattr(model, "logit_bias", None)
        return ClassEmbeddings(
            embeddings=torch.nn.functional.normalize(means, dim=1).clone(),
            logit_scale=float(model.logit_scale.exp()),
            logit_bias=0.0 if bias is None else float(bias),
        )


def _tokenizer(source: CLIPSource) -> Any:
    import open_clip

    text = source.model_config()["text_cfg"]
    if source.config is None or text.get("hf_tokenizer_name"):
        return open_clip.get_tokenizer(source.name)
    return open_clip.SimpleTokenizer(context_length=int(text.get("context_length", 77)))
