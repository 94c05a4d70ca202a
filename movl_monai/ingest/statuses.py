"""Final statuses of files, and their meaning."""

from __future__ import annotations

from types import MappingProxyType

from movl_monai.readers.errors import REASONS

__all__ = ["LOST", "STATUSES", "UNREADABLE"]

_FOUND = {
    "ok": "an image, all of it in the manifest",
    "some_frames_unreadable": "some frames could be read and are in the manifest, others could not",
}
_NOT_READ = {
    "hidden_file": "a hidden file, or in a hidden folder; not read",
    "other_file": "by its name no image (a table, a text, an archive), and its bytes are of none; not read",
    "linked_folder": "a link to a folder; not followed",
    "folder_not_readable": "a folder that may not be opened",
    "link_out_of_folder": "a link to a file outside of the folder; not followed",
    "bad_name": "a name that a manifest cannot hold (not Unicode, or with blanks at its ends); rename the file",
    "missing_file": "a list names it, and it is not there",
}
_LEFT_OUT = {
    "outside_class_folder": "an image that lies in no class folder",
    "not_in_list": "an image that the CSV with the labels does not name",
    "no_label": "an image without a label, in the CSV or in the DICOM tag",
    "mask": "the mask of an image, no image of its own",
    "image_without_mask": "an image in a folder of images and masks that has no mask",
    "mask_without_image": "a mask that has no image",
    "ambiguous_pair": "one of two files of one name, which cannot be paired",
    "outside_pair_folders": "a file beside the folders of images and masks",
    "duplicate_row": "a row of a list that is there twice",
}
_FAILED = {
    "worker_died": "the process that read the file ended, twice: a decoder crashed or the memory was not enough",
    "unexpected_error": "an error without a reason code of its own; the detail names its type",
}

STATUSES = MappingProxyType({**_FOUND, **_NOT_READ, **_LEFT_OUT, **_FAILED, **REASONS})
"""Status of a file -> its meaning."""

LOST = frozenset({*_FAILED, *REASONS, "some_frames_unreadable", "missing_file", "folder_not_readable", "bad_name"}) - {
    "not_image",
    "segmentation",
    "label_image",
    "unsupported_format",
}
"""Statuses of files that should be images but cannot be read; reports, plans, masks and texts are excluded."""

UNREADABLE = frozenset(STATUSES) - {"ok", "duplicate_row", "mask"}
"""Statuses of a manifest's files that cannot be read completely."""
