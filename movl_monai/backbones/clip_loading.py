"""Build a CLIP network of open_clip with matching weights; CLIP embeddings of class names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from movl_monai.errors import ConfigError, WeightsError

from .weights import Weights, WeightsFile, as_weights_file, describe_weights, from_hub, load_weights, seeded

__all__ = ["CLIPSource", "ClassEmbeddings", "class_prompts", "encode_class_names", "load_clip"]


@dataclass(frozen=True, kw_only=True)
class CLIPSource:
    """A CLIP network with its weights; image and text tower of one source match.

    Args:
        name: open_clip's name of the network ("RN50", "ViT-B-32", "ViT-B-16").
        pretrained: None or "random" for random weights, a tag of open_clip ("openai", "laion2b_s34b_b79k") or "hub"
            for its first tag (both download), the path of a file, or a :class:`~movl_monai.backbones.WeightsFile`. A
            file holds the whole network in open_clip's names, or its image tower only.
        quick_gelu: whether the activation is x * sigmoid(1.702 x) instead of GELU, as in OpenAI's weights; None uses
            the activation of the tag, or of the name ("RN50-quickgelu").
        config: open_clip's model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``) as a dictionary or a JSON
            file, for a network that open_clip does not know by ``name``.
        image_size: side of the images in pixels; None uses the network's own.
        seed: of random weights.
    """

    name: str = "RN50"
    pretrained: Weights = None
    quick_gelu: bool | None = None
    config: Mapping[str, Any] | str | Path | None = None
    image_size: int | None = None
    seed: int = 0

    def model_config(self) -> dict[str, Any]:
        """Return open_clip's configuration of the network, with definite ``quick_gelu`` and ``image_size``.

        Raises:
            ConfigError: if the name, or the activation of the weights, is unknown.
        """
        config = _read_config(self.config) if self.config is not None else _known_config(self.name)
        config["quick_gelu"] = self._quick_gelu(config)
        if self.image_size is not None:
            config["vision_cfg"] = {**config["vision_cfg"], "image_size": self.image_size}
        return config

    def tag(self) -> str | None:
        """Return the tag of open_clip that ``pretrained`` names, or None."""
        tags = _tags(self.name) if self.config is None else []
        if self.pretrained == "hub":
            if not tags:
                raise ConfigError(f"open_clip has no pretrained weights for {self.name}; set pretrained to a file.")
            return tags[0]
        return self.pretrained if isinstance(self.pretrained, str) and self.pretrained in tags else None

    def file(self) -> WeightsFile | None:
        """Return the file that ``pretrained`` names, or None."""
        file = None if self.tag() else as_weights_file(self.pretrained)
        if file is not None and isinstance(self.pretrained, str) and not Path(self.pretrained).expanduser().is_file():
            raise WeightsError(
                f"pretrained={self.pretrained!r} is neither a file nor one of open_clip's weights for {self.name} "
                f"({', '.join(_tags(self.name)) or 'it has none'}); correct it, or use `random` for random weights."
            )
        return file

    def facts(self) -> dict[str, Any]:
        """Return the spec's entries about the weights: source, sha256 of the file, licence."""
        if self.tag():
            return {"weights": f"open_clip {self.name}, {self.tag()}"}
        return describe_weights(self.file(), seed=self.seed)

    def _quick_gelu(self, config: Mapping[str, Any]) -> bool:
        import open_clip

        tag = self.tag()
        if tag is not None:
            needed = bool(open_clip.get_pretrained_cfg(self.name, tag).get("quick_gelu", False))
            if self.quick_gelu not in (None, needed):
                raise ConfigError(
                    f"{self.name}, {tag} was trained with quick_gelu={needed}, got {self.quick_gelu}; leave it out."
                )
            return needed
        if self.quick_gelu is not None:
            return self.quick_gelu
        twin = f"{self.name}-quickgelu"
        if self.file() is not None and self.config is None and twin in open_clip.list_models():
            raise ConfigError(
                f"A file does not say which activation {self.name} was trained with; set quick_gelu to true for "
                f"weights of OpenAI, MetaCLIP and DFN, to false for those of LAION and DataComp, or the name to {twin}."
            )
        return bool(config.get("quick_gelu", False))


def load_clip(source: CLIPSource, *, text: bool = False) -> Any:
    """Build the network on the CPU in float32, both towers, with its weights.

    Args:
        source: the network.
        text: whether the text tower is needed; a file with only the image tower is then an error.

    Returns:
        open_clip's model; its ``visual.preprocess_cfg`` holds the mean, std and size for the weights.

    Raises:
        ConfigError: if the name is unknown, or the network cannot be built for the image size.
        WeightsError: if the weights cannot be loaded or do not fit.
    """
    config, tag = source.model_config(), source.tag()
    model = _download(source, tag, config) if tag is not None else _create(source, config)
    file = source.file()
    if file is not None:
        _load_file(model, file, text=text)
    return model


def _download(source: CLIPSource, tag: str, config: Mapping[str, Any]) -> Any:
    import open_clip

    return from_hub(
        f"{source.name}, {tag}",
        lambda: open_clip.create_model(
            source.name,
            pretrained=tag,
            force_quick_gelu=config["quick_gelu"],
            force_image_size=source.image_size,
            weights_only=True,
        ),
    )


def _create(source: CLIPSource, config: Mapping[str, Any]) -> Any:
    import open_clip

    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    arguments["text_cfg"] = {**config["text_cfg"], "hf_model_pretrained": False}
    try:
        with seeded(source.seed):
            model: Any = kind(**arguments)
    except (AssertionError, OSError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"open_clip cannot build {source.name} ({error}); correct its config or image_size."
        ) from error
    size = config["vision_cfg"].get("image_size", 224)
    if source.image_size is not None and hasattr(model.visual, "set_input_size"):
        model.visual.set_input_size(size)  # a tower of timm is built for the size in its name
    defaults = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD, "size": size}
    model.visual.preprocess_cfg = defaults
    return model


def _load_file(model: nn.Module, file: WeightsFile, *, text: bool) -> None:
    """Load the whole network (open_clip converts older layouts), or only the image tower."""
    import open_clip

    names = file.read()  # checks the hash and that it is safe to read
    if not any(name.removeprefix("module.").startswith("visual.") for name in names):
        if text:
            raise WeightsError(f"{file.name} holds no text tower; give the file of the whole CLIP network.")
        load_weights(model.visual, file)  # type: ignore[arg-type]
        return
    try:
        open_clip.load_checkpoint(model, str(Path(file.path).expanduser()), strict=True, weights_only=True)
    except (RuntimeError, KeyError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"The weights {file.name} do not fit this CLIP network ({first}). "
            "Choose the name (or config) and image_size that the file was made for, or another file."
        ) from error


def _read_config(config: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    if isinstance(config, Mapping):
        content = dict(config)
    else:
        try:
            content = json.loads(Path(config).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"config={str(config)!r} cannot be read as JSON ({error}).") from error
    content = dict(content.get("model_cfg", content))
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in content]
    if missing:
        raise ConfigError(f"An open_clip configuration has embed_dim, vision_cfg and text_cfg, missing {missing}.")
    return content


def _known_config(name: str) -> dict[str, Any]:
    import difflib

    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.4)
        raise ConfigError(f"open_clip has no model {name!r}; the nearest names are {', '.join(near) or 'none'}.")
    return dict(config)


def _tags(name: str) -> list[str]:
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(name))


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
