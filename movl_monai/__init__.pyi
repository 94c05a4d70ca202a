"""The names of the page `movl_monai`, for type checkers and editors."""

from movl_monai.adapters import DVPT as DVPT
from movl_monai.adapters import LoRA as LoRA
from movl_monai.api import OpenRun as OpenRun
from movl_monai.api import Prediction as Prediction
from movl_monai.api import open_run as open_run
from movl_monai.api import train as train
from movl_monai.backbones import CLIPBackbone as CLIPBackbone
from movl_monai.backbones import ResNetBackbone as ResNetBackbone
from movl_monai.backbones import TimmBackbone as TimmBackbone
from movl_monai.backbones import embedded_efficientnet_lite0 as embedded_efficientnet_lite0
from movl_monai.data import Datalist as Datalist
from movl_monai.data import IdMap as IdMap
from movl_monai.data import ImageDataset as ImageDataset
from movl_monai.data import SegmentationDataset as SegmentationDataset
from movl_monai.data import read_datalist as read_datalist
from movl_monai.data import read_mask_datalist as read_mask_datalist
from movl_monai.engines import LinearProbe as LinearProbe
from movl_monai.engines import Stage as Stage
from movl_monai.engines import StagedTrainer as StagedTrainer
from movl_monai.engines import fit_linear_probe as fit_linear_probe
from movl_monai.errors import ConfigError as ConfigError
from movl_monai.errors import MovlError as MovlError
from movl_monai.evaluation import StoredOutputs as StoredOutputs
from movl_monai.evaluation import read_outputs as read_outputs
from movl_monai.evaluation import read_trust as read_trust
from movl_monai.evaluation import report_of_outputs as report_of_outputs
from movl_monai.export import read_exported as read_exported
from movl_monai.heads import LinearHead as LinearHead
from movl_monai.losses import MoVLLoss as MoVLLoss
from movl_monai.networks import AdaptedClassifier as AdaptedClassifier
from movl_monai.networks import AdaptedSegmenter as AdaptedSegmenter
from movl_monai.networks import load_checkpoint as load_checkpoint
from movl_monai.prompts import PadPrompt as PadPrompt
from movl_monai.transforms import LoadMedicalImage as LoadMedicalImage
from movl_monai.transforms import read_volume as read_volume

__version__: str
