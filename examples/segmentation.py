# %% [markdown]
# # Segmentation of volumes
#
# Draw an organ and a lesion in NIfTI volumes with a frozen backbone and a small decoder. The volumes are made here;
# set `DATA` to a folder of `images/` and `labels/` with the same file names.

# %%
import nibabel
from sample_data import write_volumes

import movl_monai as mm

DATA, OUT = "volumes", "out/volumes"
write_volumes(DATA)

# %% [markdown]
# ## Train and evaluate
#
# The overlay `data_volumes.json` takes each volume as one patient and draws half of the slices from those that show
# foreground. A real training takes more epochs and `image_size=224`.

# %%
settings = {"image_size": 64, "epochs": 4, "decoder_width": 32, "head_lr": 0.01, "num_workers": 0}
names = ["background", "organ", "lesion"]
run = mm.train("dvpt_segmentation", DATA, OUT, data="volumes", mask_class_names=names, **settings)
report = run.evaluate(DATA, report_pictures=False)
for name, figures in report["id"]["per_class"].items():
    print(f"{name}: Dice {figures['dice']:.2f}")

# %% [markdown]
# ## Predict a volume
#
# Slices are predicted and put back together, in the orientation of the file.

# %%
found = run.predict(f"{DATA}/images/case_00.nii.gz")
print(found.masks[0].shape, nibabel.load(f"{DATA}/images/case_00.nii.gz").shape)
print({name: value for name, value in found.rows[0].items() if name.startswith("ml")})
