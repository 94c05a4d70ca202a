"""Read images and masks by folder convention: `images/x` belongs to `masks/x`, also below train/val/test folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from movl_monai.data.entries import Entry, Listing, SkippedFile, SplitName, natural_sorted, parse_split
from movl_monai.data.read_folders import class_depth, file_at_problem, find_files, is_hidden, name_problem
from movl_monai.errors import DataError

__all__ = ["has_pairs", "read_pairs"]

_IMAGES = ("images", "image", "imgs", "imagestr")
_MASKS = ("masks", "mask", "labels", "label", "labelstr", "segmentations", "annotations")


def read_pairs(root: Path, *, mask_suffix: str = "") -> Listing:
    """Return the pairs of a folder with ``images`` and ``masks`` (or ``labels``), possibly below split folders.

    An image belongs to the mask of the same relative path without suffixes: ``images/a/x.nii.gz`` to ``masks/a/x.nii``.
    A folder of images with one mask, ``images/x/*.dcm`` and ``masks/x.dcm`` or the only file of ``masks/x``, is one
    series. Every file becomes part of a pair, or is skipped with its reason: ``image_without_mask``,
    ``mask_without_image``, ``ambiguous_pair`` (two files of one name), ``outside_pair_folders``, or a reason of
    :func:`read_folders`.

    Args:
        root: the folder.
        mask_suffix: end of the mask names, after the name of the image, such as "_mask".

    Raises:
        DataError: if there are no such folders, or they contain no pair.
    """
    root = root.absolute()
    listing = Listing()
    folders = _subfolders(root)
    splits = [(root / name, parse_split(name)) for name in folders] if _are_splits(folders) else [(root, None)]
    for folder, split in sorted(splits):
        _add_folder(listing, root, folder, split, mask_suffix)
    _skip_the_rest(listing, root)
    if not listing.entries:
        raise DataError(
            f"No image with a mask of the same name was found among {len(listing.skipped)} files; put them into "
            "`images` and `masks`, or name the masks in the column `mask` of a CSV manifest."
        )
    return listing


def has_pairs(root: Path) -> bool:
    """Return True for a folder for :func:`read_pairs`: with images and masks, or with such folders per split."""
    folders = _subfolders(root)
    places = [root / name for name in folders] if _are_splits(folders) else [root]
    return all(_find(_subfolders(place), _IMAGES) and _find(_subfolders(place), _MASKS) for place in places)


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]


@dataclass
class _Side:
    """Files of one of the two folders, by name without suffixes."""

    folder: Path
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def inside(self, name: str) -> list[Path]:
        """Return the files directly in a folder of that name."""
        return [path for paths in self.files.values() for path in paths if _name(path.parent, self.folder) == name]


def _are_splits(folders: list[str]) -> bool:
    return bool(folders) and not _find(folders, _IMAGES) and class_depth(folders) == 1


def _find(folders: Iterable[str], names: Iterable[str]) -> str | None:
    lower = {folder.lower(): folder for folder in folders}
    return next((lower[name] for name in names if name in lower), None)


def _add_folder(listing: Listing, root: Path, folder: Path, split: SplitName | None, mask_suffix: str) -> None:
    folders = _subfolders(folder)
    images, masks = _find(folders, _IMAGES), _find(folders, _MASKS)
    if images is None or masks is None:
        found = ", ".join(natural_sorted(folders)[:5]) or "none"
        raise DataError(
            f"A folder of images with masks must hold `images` and `masks` (or `labels`), got the folders: {found}; "
            "rename them, or name the masks in the column `mask` of a CSV manifest."
        )
    one = _side(listing, root, folder / images, split, "")
    other = _side(listing, root, folder / masks, split, mask_suffix)
    for path, mask in _pairs(one, other):
        listing.entries.append(Entry(path=path, key=path.relative_to(root).as_posix(), split=split, mask=mask))
    for side, reason in ((one, "image_without_mask"), (other, "mask_without_image")):
        for paths in side.files.values():
            for path in paths:
                why = "ambiguous_pair" if len(paths) > 1 else reason
                listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), why, split=split))


def _side(listing: Listing, root: Path, folder: Path, split: SplitName | None, suffix: str) -> _Side:
    side = _Side(folder)
    for path, problem in find_files(folder):
        key = path.relative_to(root).as_posix()
        if reason := problem or name_problem(path, root) or file_at_problem(path, root):
            listing.skipped.append(SkippedFile(path, key, reason, split=split))
        else:
            side.files[_name(path, folder).removesuffix(suffix)].append(path)
    return side


def _pairs(images: _Side, masks: _Side) -> list[tuple[Path, Path]]:
    """Return the pairs, removed from both sides."""
    pairs = []
    for name in natural_sorted([*images.files, *masks.files]):
        if len(images.files.get(name, [])) == len(masks.files.get(name, [])) == 1:
            pairs.append((images.files.pop(name)[0], masks.files.pop(name)[0]))
    for name in natural_sorted(_name(path.parent, images.folder) for paths in images.files.values() for path in paths):
        slices = images.inside(name)
        lone = masks.files.get(name, []) or masks.inside(name)
        if name and len(lone) == 1:
            pairs.append((images.folder / name, lone[0]))
            for side, taken in ((images, slices), (masks, lone)):
                _take(side, taken)
    return pairs


def _take(side: _Side, taken: list[Path]) -> None:
    for name in list(side.files):
        side.files[name] = [path for path in side.files[name] if path not in taken]
        if not side.files[name]:
            del side.files[name]


def _name(path: Path, folder: Path) -> str:
    """Return a relative path without the suffixes of its last part."""
    relative = path.relative_to(folder)
    if path == folder:
        return ""
    stem = relative.name[: -len(".nii.gz")] if relative.name.lower().endswith(".nii.gz") else relative.stem
    return (relative.parent / stem).as_posix() if path.is_file() else relative.as_posix()


def _skip_the_rest(listing: Listing, root: Path) -> None:
    """Report the files beside the folders of images and masks."""
    known = {file.path for file in listing.skipped} | {entry.mask for entry in listing.entries}
    known |= {entry.path for entry in listing.entries}
    for path, problem in find_files(root):
        if path not in known and path.parent not in known:
            reason = problem or name_problem(path, root) or "outside_pair_folders"
            listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), reason))
