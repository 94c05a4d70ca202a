"""Training: stages, the staged trainer, cached features, the exact linear probe, resume."""

from movl_monai.networks import unwrap
from movl_monai.runs import (
    KeepRunRecord,
    Run,
    as_written,
    check_ids,
    check_overrides,
    keep_strings,
    make_record,
    open_run,
    unreferenced_ids,
    verbatim,
)

from .checks import check_device, check_output_dir
from .class_weights import (
    balanced_sample_weights,
    foreground_sample_weights,
    resolve_class_weights,
    resolve_finding_weights,
    resolve_mask_weights,
)
from .earlier import check_evaluation
from .features import FeatureSet, extract_features, prepare_image_batch
from .instances import InstanceSet, cached_features
from .linear_probe import (
    DEFAULT_L2_GRID,
    HeadSolver,
    LabelMappingFit,
    LinearProbe,
    LinearProbeSolution,
    fit_linear_probe,
    layer_losses,
    standardization,
)
from .map_cache import MapSet
from .resume import Resume
from .selecting_evaluator import MoreCandidates, SelectingEvaluator
from .stage import PARTS, Stage, optimizer_groups, set_trainable_parts, stage_starts, total_epochs
from .target_probes import (
    FindingsProbe,
    NumberProbe,
    fit_findings,
    fit_ridge,
    target_scale,
    target_standardization,
)
from .tokens import TokenSet, start_prompts
from .trainer import StagedTrainer
from .validation import BestCheckpoint, LoadCheckpoint, ValidateStart

__all__ = [
    "DEFAULT_L2_GRID",
    "PARTS",
    "BestCheckpoint",
    "FeatureSet",
    "FindingsProbe",
    "HeadSolver",
    "InstanceSet",
    "KeepRunRecord",
    "LabelMappingFit",
    "LinearProbe",
    "LinearProbeSolution",
    "LoadCheckpoint",
    "MapSet",
    "MoreCandidates",
    "NumberProbe",
    "Resume",
    "Run",
    "SelectingEvaluator",
    "Stage",
    "StagedTrainer",
    "TokenSet",
    "ValidateStart",
    "as_written",
    "balanced_sample_weights",
    "cached_features",
    "check_device",
    "check_evaluation",
    "check_ids",
    "check_output_dir",
    "check_overrides",
    "extract_features",
    "fit_findings",
    "fit_linear_probe",
    "fit_ridge",
    "foreground_sample_weights",
    "keep_strings",
    "layer_losses",
    "make_record",
    "open_run",
    "optimizer_groups",
    "prepare_image_batch",
    "resolve_class_weights",
    "resolve_finding_weights",
    "resolve_mask_weights",
    "set_trainable_parts",
    "stage_starts",
    "standardization",
    "start_prompts",
    "target_scale",
    "target_standardization",
    "total_epochs",
    "unreferenced_ids",
    "unwrap",
    "verbatim",
]
