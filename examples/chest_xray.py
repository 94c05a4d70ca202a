# %% [markdown]
# # Chest X-rays in class folders
#
# From a folder with one folder for each class to a report, a prediction and one file for another computer.
# The images are made here, so that the page runs anywhere; set `DATA` to your folder and leave the first cell out.
#
# ```
# xrays/no_lesion/PHANTOM-0001_1.dcm
# xrays/lesion/PHANTOM-0002_1.dcm
# ```

# %%
import csv
import shutil
from pathlib import Path

import numpy as np

import movl_monai as mm
from movl_monai.cli import main
from movl_monai.phantom import write_phantom

DATA, OUT = Path("xrays"), Path("out/xrays")

write_phantom("phantom", patients=(20, 0, 0, 0), size=128)
with open("phantom/manifest.csv", encoding="utf-8", newline="") as file:
    for row in csv.DictReader(file):
        target = DATA / row["label"] / f"{row['patient_id']}_{row['path'][-5:]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path("phantom", row["path"]), target)

# %% [markdown]
# ## Look first
#
# `check` reads every file and looks for the same patient or the same pixels in two splits. Here the folders name no
# split; training makes one, by patient. Patients are told apart by the DICOM header. For pictures, give
# `--patient_pattern`, or `--one_image_per_patient true` if that is so.

# %%
main(["check", str(DATA)])

# %% [markdown]
# ## Train and evaluate
#
# The exact linear probe takes seconds. It is the baseline that every other method has to beat.
# Leave `strategy` out for MoVL, which goes on from the probe and trains a prompt, too.

# %%
run = mm.train("movl_classification", DATA, OUT, strategy="linear_probe", image_size=96)
report = run.evaluate(DATA)
test = report["id"]
low, high = test["intervals"]["balanced_accuracy"]
print(f"balanced accuracy {test['balanced_accuracy']:.2f} [{low:.2f}, {high:.2f}]")
print(f"{test['n']} test images")

# %% [markdown]
# The interval is wide: few patients are in the test set. The page `out/xrays/evaluation/report.html` says the same
# first, and when not to trust the model.
#
# ## Predict
#
# An image that is unlike the training images gets no answer. Here it is one of noise.

# %%
noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
print(run.predict(noise).answers)

# %% [markdown]
# ## One file for another computer
#
# Network, preprocessing, class names, temperature and thresholds in one ONNX file.

# %%
main(["export", str(OUT), "--format", "onnx"])
