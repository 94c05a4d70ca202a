"""Model cards in the sections that others expect: FDA's, CHAI's, and the front matter of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from movl_monai.report.facts import AUTHOR, facts_of, sections_of
from movl_monai.report.tasks import task_of
from movl_monai.report.words import section_title

__all__ = ["FORMAT", "card_sections", "front_matter"]

FORMAT = 1
"""Version of model_card.json."""

_Sections = dict[str, dict[str, tuple[str, ...]]]  # names of facts by heading and entry; () is for the author

_FDA: _Sections = {
    "General information": {
        "Name": ("name",),
        "Version": ("version",),
        "Developer and contact": (),
        "Release date": (),
        "Regulatory status": ("research_use",),
    },
    "Intended use": {
        "Intended use": ("intended_use",),
        "Intended users": (),
        "Patients and conditions": (),
        "Place in the clinical workflow": (),
        "Contraindicated and out-of-scope use": (),
    },
    "Description": {
        "Function": ("task",),
        "How machine learning is used": ("technique", "model", "parameters"),
        "Inputs": ("input", "preprocessing"),
        "Outputs": ("output", "classes", "thresholds", "abstention"),
        "Degree of automation": (),
    },
    "Development": {
        "Training data": ("training_data", "partitions"),
        "Source, dates and demographics of the data": (),
        "Reference standard": (),
        "Training": ("training", "selection", "weights"),
    },
    "Performance": {
        "Test data": ("test_data",),
        "Measures": ("metrics", "uncertainty"),
        "Internal test": ("internal",),
        "External test": ("external",),
        "Groups of patients": ("groups",),
        "Calibration": ("calibration",),
        "Images unlike the training images": ("outside",),
        "Clinical performance": (),
    },
    "Limits and risks": {
        "Known limits": ("limits", "unknown"),
        "Failures": ("confusion",),
        "Known biases": (),
        "Risks and how they are controlled": (),
    },
    "Use and upkeep": {
        "Instructions": (),
        "Monitoring after release": (),
        "Plan for updates": (),
        "Software and checkpoint": ("software", "code", "checkpoint"),
    },
}

_CHAI: _Sections = {
    "Release": {
        "Name": ("name",),
        "Developer": (),
        "Contact": (),
        "Stage": ("research_use",),
        "Date": (),
        "Version": ("version",),
        "Availability": (),
        "Regulatory approval": (),
    },
    "Summary": {"Summary": ("task", "technique"), "Keywords": ()},
    "Uses and directions": {
        "Intended use and workflow": ("intended_use",),
        "Primary users": (),
        "How to use": ("input", "output"),
        "Target patients": (),
        "Cautioned settings and uses": ("limits",),
    },
    "Warnings": {
        "Known risks and limits": ("limits", "kept_start"),
        "Known biases and ethical considerations": (),
        "Level of clinical risk": (),
    },
    "System facts": {
        "Output": ("output", "classes"),
        "Type of model": ("model", "parameters"),
        "Foundation models": ("weights",),
        "Source of inputs": (),
        "Types of input and output": ("input", "preprocessing"),
        "Development data": ("training_data", "domains"),
        "Mitigation of bias": (),
        "Upkeep": (),
        "Security and compliance": (),
        "Funding": (),
        "Information for third parties": (),
        "People consulted": (),
    },
    "Usefulness and efficacy": {
        "Goal of the measures": (),
        "Measures": ("metrics", "uncertainty"),
        "Results": ("internal",),
        "Test": ("test_data", "partitions"),
        "Interpretation": (),
    },
    "Fairness and equity": {
        "Goal of the measures": (),
        "Results": ("groups",),
        "Test": ("test_data",),
        "Interpretation": (),
    },
    "Safety and reliability": {
        "Goal of the measures": (),
        "Results": ("external", "calibration", "outside", "abstention", "prediction_sets"),
        "Test": ("test_data", "domains"),
        "Interpretation": (),
    },
    "Resources": {
        "Evaluation": ("comparisons",),
        "Clinical trial": (),
        "Publications": (),
        "Reimbursement": (),
        "Patient consent or disclosure": (),
        "Bibliography": (),
    },
}


def card_sections(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of model_card.json.

    Args:
        report: report of any task.

    Returns:
        JSON-able: ``format``; ``facts``, the known facts by name; ``fda`` and ``chai``: texts by section and entry,
        with "author" where the author has to write one.

    Reference:
        FDA, Artificial Intelligence-Enabled Device Software Functions, draft guidance, 2025, example of a model card;
        Coalition for Health AI, Applied Model Card, 2024. Headings and entries are in our own words.
    """
    facts = facts_of(report)
    cards = {
        name: {
            heading: {
                entry: " ".join(text for fact in wanted if (text := facts[fact])) or AUTHOR
                for entry, wanted in entries.items()
            }
            for heading, entries in sections.items()
        }
        for name, sections in (("fda", _FDA), ("chai", _CHAI))
    }
    return {"format": FORMAT, "facts": {name: text for name, text in facts.items() if text is not None}, **cards}


def front_matter(report: Mapping[str, Any]) -> str:
    """Return the front matter of MODEL_CARD.md: YAML as Hugging Face reads it, with the figures of the tests.

    Values are written as JSON, which is YAML. The licence of the trained model is the author's to name: "unknown".

    Reference:
        https://huggingface.co/docs/hub/model-cards
    """
    task, facts = task_of(report), facts_of(report)
    kind = task.pipeline
    results = [
        {
            "task": {"type": kind},
            "dataset": {"type": key, "name": section_title(key)},
            "metrics": [
                {"type": name, "name": task.figures.declared[name].title, "value": part[name]}
                for name in task.figures.table
                if part[name] is not None
            ],
        }
        for key, part in sections_of(report).items()
    ]
    entries: dict[str, Any] = {
        "license": "unknown",
        "library_name": "monai",
        "pipeline_tag": kind,
        "tags": ["monai", "medical", "movl_monai"],
    }
    if results:
        entries["model-index"] = [{"name": facts["name"] or "movl_monai", "results": results}]
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in entries.items()]
    return "\n".join(["---", *lines, "---", ""])
