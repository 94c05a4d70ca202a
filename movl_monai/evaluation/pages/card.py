"""Model card and explanations as sections of a page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.model_card import model_card
from movl_monai.evaluation.pages.parts import gap, listed, notes_of, number_cell, picture
from movl_monai.page import bullets, cell, facts_table, section, table, text_cell

__all__ = ["render_explanations", "render_model_card", "render_origin"]


def render_origin(report: Mapping[str, Any]) -> str:
    """Return the warning about a kept start, if any, and the overlays that training used."""
    made = report.get("model_card") or {}
    kept, overlays = made.get("kept_start"), (made.get("model") or {}).get("overlays")
    lines = [f'<p class="notice alarm"><strong>{escape(kept)}</strong></p>'] if kept else []
    if overlays and overlays != "none":
        names = ", ".join(map(str, overlays))
        lines.append(f'<p dir="auto">Trained with these config files on top of train.json: {escape(names)}.</p>')
    return "".join(lines)


def render_model_card(report: Mapping[str, Any]) -> str:
    """Return the model card: intended use, limits, model, weights, data and run."""
    made = report.get("model_card") or model_card(report)
    kept = made.get("kept_start")
    body = [
        f'<p class="notice alarm"><strong>{escape(kept)}</strong></p>' if kept else "",
        f'<p class="notice"><strong>{escape(made["intended_use"])}</strong></p>',
        "<h3>Limits</h3>",
        bullets(made["limits"]),
        facts_table(_words(made["model"]), caption="The model."),
        facts_table(_words(made["weights"]), caption="The pretrained weights of the backbone."),
        _data(made),
        facts_table(_words(made["run"]), caption="The run."),
    ]
    notes = made.get("notes")
    return section("model-card", "Model card", [*body, f"<h3>Not known</h3>{bullets(notes)}" if notes else ""])


def _data(made: Mapping[str, Any]) -> str:
    if not made.get("data"):
        return gap("Counts of the data are not in this report.", [n for n in made["notes"] if "data" in n])
    names = list(dict.fromkeys(name for row in made["data"] for name in row["classes"]))
    unlabeled = any(row.get("unlabeled") for row in made["data"])
    rows = []
    for row in made["data"]:
        patients = cell("not known" if row["patients"] is None else str(row["patients"]), number=True)
        counts = [number_cell(row["classes"].get(name, 0)) for name in names]
        split = text_cell(row["split"] or "all")
        rows.append([cell(row["domain"]), split, number_cell(row["images"]), patients, *counts])
        rows[-1] += [number_cell(row["unlabeled"])] if unlabeled else []
    headings = ["Domain", "Split", "Images", "Patients", *names, *(["No label"] if unlabeled else [])]
    return table(headings, rows, caption="The data by domain and split, with images by class.")


def _words(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in facts.items()}


def render_explanations(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return saliency maps of right and wrong cases, and pictures of prompt and attention."""
    entry, notes = report.get("explanations"), notes_of(report, "explanations")
    parts = [
        picture(pictures.get("prompt.png"), alternative=_PROMPT[0], caption=_PROMPT[1], css_class="prompt"),
        picture(pictures.get("attention.png"), alternative=_ATTENTION[0], caption=_ATTENTION[1]),
    ]
    shown = [one for one in (entry or {}).get("pictures") or [] if one.get("file") in pictures]
    for one in shown:
        about = str(one.get("about") or one["file"])
        parts.append(picture(pictures[one["file"]], alternative=about, caption=about))
    absent = [str(one.get("file")) for one in (entry or {}).get("pictures") or [] if one.get("file") not in pictures]
    if not shown:
        reasons = notes or [
            f"The files are missing: {', '.join(absent)}."
            if absent
            else "They were not asked for; `explanation_images` says of how many right and wrong images to show them."
        ]
        parts.append(gap("Pictures of where the network looks are not in this report.", reasons))
    elif notes:
        parts.append(listed(notes))
    lead = "Such pictures show where the network looks, not why it decides; a right answer can come from a wrong place."
    return section("explanations", "Where it looks", [f"<p>{lead}</p>", *parts])


_PROMPT = (
    "What the visual prompt adds to every image, amplified to the full range.",
    "The learned visual prompt, amplified: mid-grey adds nothing, brighter adds, darker takes away.",
)
_ATTENTION = (
    "Maps of the attention of every dynamic prompt over the image, by block.",
    "What each dynamic prompt looked at, on ID test images: 1 is what a prompt without preference gives every place, 2 "
    "twice as much. Attention says where a prompt reads, not why the network decides.",
)
