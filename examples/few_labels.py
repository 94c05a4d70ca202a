# %% [markdown]
# # Few labels
#
# How good does a method get with 16 labelled images, and how sure is that? `compare` trains every method on the same
# images, in several draws, and judges them on the same test images.

# %%
import contextlib
import csv
import io

from movl_monai.cli import main
from movl_monai.phantom import write_phantom

write_phantom("chest", patients=(20, 10, 10, 10), size=128)

# %% [markdown]
# ## Draws of the training images
#
# The last digits of a figure on one choice of 16 images are chance. Two draws show how much.
# Take at least three, and your own images, for a decision.

# %%
options = ["--bundle", "movl_classification", "--dataset_dir", "chest", "--output_dir", "out/few"]
arms = ["--arms", "linear_probe,layer_probe"]
draws = ["--train_images", "16", "--val_images", "16", "--draws", "2"]
with contextlib.redirect_stdout(io.StringIO()):  # the whole table, which is in out/few/comparison.md, too
    main(["compare", *options, *arms, *draws, "--image_size", "96", "--num_workers", "0"])
with open("out/few/comparison.csv", encoding="utf-8", newline="") as file:
    rows = {row["arm"]: row for row in csv.DictReader(file) if row["domain"] == "id"}
for arm, row in rows.items():
    mean, spread = float(row["balanced_accuracy_mean"]), float(row["balanced_accuracy_sd"])
    print(f"{arm}: balanced accuracy {mean:.2f} ± {spread:.2f} over the draws")
gain = "balanced_accuracy_minus_linear_probe"
low, high = (float(rows["layer_probe"][f"{gain}_{end}"]) for end in ("low", "high"))
print(f"layer_probe is ahead by {float(rows['layer_probe'][gain]):.2f}, 95 % interval [{low:.2f}, {high:.2f}]")

# %% [markdown]
# The linear probe always joins. A method whose interval of the difference holds 0 is not shown to be better.
#
# ## Is it worth labelling more?
#
# `--label_fractions 0.1,0.2,0.4,1.0` instead of `--train_images` repeats the comparison on nested parts of the training
# patients and draws the curve, as [compare](../howto/compare.md) says.
