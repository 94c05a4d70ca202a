"""Reporting checklists, filled with what a run knows; the rest is marked for the author.

Numbers and topics are those of the published checklists; the words are ours.

References: G. S. Collins et al., "TRIPOD+AI statement", BMJ 2024;385:e078378, 27 items in 52 parts; A. S. Tejani et al,
    "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology: Artificial Intelligence
    2024;6(4):e240300, 44 items.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from movl_monai.errors import ConfigError, MovlError
from movl_monai.files import write_atomically
from movl_monai.report.facts import AUTHOR, facts_of
from movl_monai.report.model_card import NOT_STATED, plain_text
from movl_monai.report.table import render_table

__all__ = ["CHECKLISTS", "Checklist", "Filled", "Item", "fill_checklist", "write_checklist"]

Checklist: TypeAlias = Literal["tripod-ai", "claim"]


class Item(NamedTuple):
    """An item of a checklist, in our own words.

    Args:
        number: number in the checklist.
        section: heading above it.
        asks: subject of the item.
        facts: names of the facts that answer it, separated by blanks; "" for none.
        whole: True if the facts answer all of it.
    """

    number: str
    section: str
    asks: str
    facts: str = ""
    whole: bool = False


class Filled(NamedTuple):
    """An item with its text.

    Args:
        item: the item.
        text: known facts; "" for none.
        by: "run", "run, author" or "author": who gives what the item asks.
    """

    item: Item
    text: str
    by: str


_TRIPOD_AI = (
    Item("1", "Title", "Development or evaluation of a prediction model, target population and outcome", "task"),
    Item("2", "Abstract", "Structured abstract with its own checklist"),
    Item("3a", "Introduction", "Clinical context and rationale, with existing models"),
    Item("3b", "Introduction", "Target population, purpose in the care pathway, intended users", "intended_use"),
    Item("3c", "Introduction", "Known inequalities of health between groups"),
    Item("4", "Introduction", "Objectives: development, evaluation, or both"),
    Item("5a", "Data", "Sources of the data of development and evaluation, and how representative they are", "domains"),
    Item("5b", "Data", "Dates of the data, and of the end of follow-up"),
    Item("6a", "Participants", "Setting: kind of care, number and place of centres"),
    Item("6b", "Participants", "Criteria of inclusion and exclusion"),
    Item("6c", "Participants", "Treatments received, and how they were handled"),
    Item("7", "Data preparation", "Preprocessing and checks of quality, also by group", "preprocessing"),
    Item("8a", "Outcome", "Definition of the outcome, its time, how it was assessed, and why it was chosen", "classes"),
    Item("8b", "Outcome", "Qualification and demographics of those who assessed it, where it takes judgement"),
    Item("8c", "Outcome", "Blinding of the assessment"),
    Item("9a", "Predictors", "Choice of the predictors, and selection before modelling"),
    Item("9b", "Predictors", "Definition of the predictors, how and when they were measured, and blinding", "input"),
    Item("9c", "Predictors", "Qualification and demographics of those who assessed them, where it takes judgement"),
    Item("10", "Sample size", "How the size of the study came about, and whether it is enough"),
    Item("11", "Missing data", "Handling of missing data, and reasons to leave data out", "missing"),
    Item("12a", "Analysis", "Use of the data for development and evaluation, and partitions", "partitions data"),
    Item("12b", "Analysis", "Form and scaling of the predictors", "preprocessing", True),
    Item("12c", "Analysis", "Kind of model, its rationale, all steps of building it, tuning, internal validation",
         "technique model training selection"),
    Item("12d", "Analysis", "Differences between clusters such as hospitals, and how they were handled", "domains"),
    Item("12e", "Analysis", "Measures and plots of performance, and comparison of models",
         "metrics uncertainty comparisons", True),
    Item("12f", "Analysis", "Updating of the model after evaluation, such as recalibration", "calibration"),
    Item("12g", "Analysis", "How predictions were calculated in the evaluation", "output code"),
    Item("13", "Class imbalance", "Methods for imbalance of classes, why, and recalibration after them", "balance"),
    Item("14", "Fairness", "Approaches to fairness, and why", "groups"),
    Item("15", "Model output", "Output of the model, and the thresholds with their rationale",
         "output classes thresholds abstention", True),
    Item("16", "Training versus evaluation", "Differences between the data of both", "domains test_data"),
    Item("17", "Ethical approval", "Approval by an ethics committee, and consent"),
    Item("18a", "Open science", "Funding and the funders' part"),
    Item("18b", "Open science", "Conflicts of interest"),
    Item("18c", "Open science", "Protocol"),
    Item("18d", "Open science", "Registration"),
    Item("18e", "Open science", "Availability of the data"),
    Item("18f", "Open science", "Availability of the code", "code software"),
    Item("19", "Patient and public involvement", "Involvement of patients and the public"),
    Item("20a", "Participants", "Flow of participants, with and without the outcome", "data"),
    Item("20b", "Participants", "Characteristics overall and by source, with missing data", "data missing"),
    Item("20c", "Participants", "Comparison of the data of development and evaluation", "training_data test_data"),
    Item("21", "Model development", "Participants and events in each analysis", "data events", True),
    Item("22", "Model specification", "Everything needed to use the model, and restrictions of its use",
         "model weights checkpoint software code"),
    Item("23a", "Model performance", "Performance with intervals, also in groups", "figures uncertainty groups"),
    Item("23b", "Model performance", "Differences of performance between clusters", "external"),
    Item("24", "Model updating", "Results of updating the model", "calibration"),
    Item("25", "Interpretation", "Interpretation of the results, with fairness and earlier studies"),
    Item("26", "Limitations", "Limitations and their effect on bias, uncertainty and generalisation", "limits unknown"),
    Item("27a", "Usability", "Handling of poor or missing input", "outside missing"),
    Item("27b", "Usability", "Whether users interact with input or model, and the expertise that this takes"),
    Item("27c", "Usability", "Next steps of research, applicability and generalisation"),
)  # fmt: skip

_CLAIM = (
    Item("1", "Title", "Names the use of AI, and its category", "technique"),
    Item("2", "Abstract", "Structured summary of design, methods, results and conclusions"),
    Item("3", "Introduction", "Background, intended use and clinical role", "intended_use"),
    Item("4", "Introduction", "Aims, objectives and hypotheses"),
    Item("5", "Study design", "Prospective or retrospective"),
    Item("6", "Study design", "Goal of the study", "task"),
    Item("7", "Data", "Sources of the data", "domains"),
    Item("8", "Data", "Criteria of inclusion and exclusion"),
    Item("9", "Data", "Preprocessing of the data", "preprocessing", True),
    Item("10", "Data", "Selection of parts of the data"),
    Item("11", "Data", "De-identification"),
    Item("12", "Data", "Handling of missing data", "missing"),
    Item("13", "Data", "Protocol of image acquisition"),
    Item("14", "Reference standard", "Definition of the method that gave it", "classes"),
    Item("15", "Reference standard", "Rationale of its choice"),
    Item("16", "Reference standard", "Source of the annotations, and qualification of the annotators"),
    Item("17", "Reference standard", "Annotation of the test set"),
    Item("18", "Reference standard", "Variability within and between annotators"),
    Item("19", "Partitions", "Assignment of the data to partitions", "partitions data"),
    Item("20", "Partitions", "Level at which partitions are disjoint", "partitions", True),
    Item("21", "Testing data", "Intended sample size"),
    Item("22", "Model", "Description of the model: inputs, outputs, layers", "model input output parameters", True),
    Item("23", "Model", "Software and its versions", "software code", True),
    Item("24", "Model", "Initial values of the parameters", "weights training", True),
    Item("25", "Training", "Training: augmentation, hyperparameters, number of models", "training"),
    Item("26", "Training", "Selection of the final model", "selection", True),
    Item("27", "Training", "Ensembles", "ensemble", True),
    Item("28", "Evaluation", "Measures of performance", "metrics", True),
    Item("29", "Evaluation", "Significance and uncertainty", "uncertainty", True),
    Item("30", "Evaluation", "Robustness and sensitivity"),
    Item("31", "Evaluation", "Explanations and their validation", "explanations"),
    Item("32", "Evaluation", "Evaluation on internal data", "internal", True),
    Item("33", "Evaluation", "Evaluation on external data", "external", True),
    Item("34", "Evaluation", "Registration of a clinical trial"),
    Item("35", "Results", "Patients and examinations included and excluded", "data missing"),
    Item("36", "Results", "Demographic and clinical characteristics of each partition", "data"),
    Item("37", "Results", "Performance on all partitions, with uncertainty", "figures uncertainty", True),
    Item("38", "Results", "Diagnostic performance and its precision", "thresholds calibration groups"),
    Item("39", "Results", "Analysis of failures", "confusion"),
    Item("40", "Discussion", "Limitations", "limits unknown"),
    Item("41", "Discussion", "Implications for practice, with intended use and clinical role", "intended_use"),
    Item("42", "Other information", "Full protocol of the study"),
    Item("43", "Other information", "Availability of software, trained model and data", "code checkpoint"),
    Item("44", "Other information", "Funding and the funders' part"),
)

CHECKLISTS: dict[Checklist, tuple[str, tuple[Item, ...]]] = {
    "tripod-ai": ("TRIPOD+AI (BMJ 2024;385:e078378), 27 items with their parts", _TRIPOD_AI),
    "claim": ("CLAIM, 2024 update (Radiology: Artificial Intelligence 6(4):e240300), 44 items", _CLAIM),
}
"""Title and items by name."""


def fill_checklist(report: Mapping[str, Any], name: Checklist) -> list[Filled]:
    """Answer the items of a checklist with the facts of a run.

    Args:
        report: report of any task.
        name: "tripod-ai" or "claim".

    Raises:
        ConfigError: for another name.
        MovlError: if the report lacks an entry that every report of its schema version has.
    """
    if name not in CHECKLISTS:
        raise ConfigError(f"--checklist must be one of {', '.join(CHECKLISTS)}, got {name!r}.")
    try:
        facts = facts_of(report)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MovlError(
            f"This report is incomplete ({type(error).__name__}: {error}), so no checklist can be filled. Expected "
            "report.json as an evaluation writes it; evaluate the run again."
        ) from error
    filled = []
    for item in CHECKLISTS[name][1]:
        wanted = item.facts.split()
        known = [text for fact in wanted if (text := facts[fact])]
        by = AUTHOR if not known else "run" if item.whole else f"run, {AUTHOR}"
        # an intended use that nobody stated is no answer of the run
        by = AUTHOR if known == [NOT_STATED] else by
        filled.append(Filled(item, " ".join(known), by))
    return filled


def write_checklist(report: Mapping[str, Any], name: Checklist, folder: Path) -> tuple[Path, list[Filled]]:
    """Write a checklist as Markdown beside the report.

    Returns:
        the file, and the items.

    Raises:
        ConfigError: for an unknown name.
        MovlError: if the folder cannot be written.
    """
    filled, (title, _) = fill_checklist(report, name), CHECKLISTS[name]
    rows = [
        {
            "item": one.item.number,
            "section": one.item.section,
            "asks for": one.item.asks,
            "filled by": one.by,
            "text": plain_text(one.text, "|") if one.text else AUTHOR,
        }
        for one in filled
    ]
    lines = [
        f"# {title}",
        "",
        "Items in our own words; the publication has the full text. `run` is filled from the run,",
    ]
    lines += ["`author` is left to its author.", "", render_table(rows, style="markdown")]
    path = folder / f"{name}.md"
    write_atomically(path, "\n".join(lines).encode())
    return path, filled
