# %% [markdown]
# # A CT study in DICOM
#
# Slices of CT, labelled by a list; predictions go back to the archive as DICOM objects.
# The studies are made here; set `DATA` to your folder and leave the call of `write_ct_studies` out.

# %%
from pathlib import Path

import pydicom
from sample_data import write_ct_studies

import movl_monai as mm
from movl_monai.cli import main

DATA, OUT = "ct", "out/ct"
MANIFEST, LABELS = f"{DATA}/manifest.csv", f"{DATA}/labels.csv"
write_ct_studies(DATA)

# %% [markdown]
# ## Ingest
#
# `labels.csv` has the columns `path,label`. `ingest` reads every file, groups slices to series, makes a split by
# patient and writes `manifest.csv` and a page, `quality.html`, which names nobody.

# %%
main(["ingest", DATA, "--output", MANIFEST, "--labels", LABELS, "--num_workers", "0"])

# %% [markdown]
# ## Train
#
# CT is shown in fixed windows in HU, whatever window the files name. The overlay `data_ct.json` takes one window
# (mediastinum) instead of three.

# %%
settings = {"data": "ct", "strategy": "linear_probe", "image_size": 64}
run = mm.train("movl_classification", MANIFEST, OUT, **settings)
test = run.evaluate(MANIFEST)["id"]
print(f"AUROC {test['auroc']:.2f} on {test['n']} slices of the test patients")

# %% [markdown]
# ## Predict a study
#
# Tables, and a structured report (TID 1500) for the series. `local/` leads from salted ids back to files.

# %%
study, results = f"{DATA}/patient_00", f"{OUT}/predictions"
main(["predict", OUT, study, "--output_dir", results, "--outputs", "csv,sr"])
(path,) = Path(results).rglob("*.dcm")
written = pydicom.dcmread(path)
print(written.SOPClassUID.name, "of", written.PatientID)

# %% [markdown]
# The report carries patient and study of its source, is unverified, and says that it is for research only.
