# %% [markdown]
# # Your own backbone, and a training from parts
#
# No config: parts receive parts. Any timm model, torchvision ResNet or open_clip tower is a backbone; weights come from
# a file, a hub, or your own state dict. Here they are those of the package.

# %%
import torch
from monai.transforms import Compose
from torch.utils.data import DataLoader

import movl_monai as mm
from movl_monai.engines import FeatureSet, optimizer_groups
from movl_monai.phantom import write_phantom
from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged

DATA, SIZE, DEVICE = "chest", 96, "cpu"
write_phantom(DATA, patients=(20, 10, 10, 10), size=128)

# %% [markdown]
# ## Data
#
# A data list has one entry for each image, with label, patient, split and domain. Preprocessing ends with RGB
# in [0, 1].

# %%
datalist = mm.read_datalist(DATA)
load = Compose(
    [LoadMedicalImaged("image", record_key="record"), ResizeImaged("image", image_size=SIZE), QuantizeImaged("image")]
)
images = mm.ImageDataset(datalist.select(split=["train", "val"], domain=datalist.id_domain), load)
train, val = images.select(split="train"), images.select(split="val")
print(f"{len(train)} images to train with, {len(val)} to select with: {', '.join(datalist.class_names)}")

# %% [markdown]
# ## Backbone and network
#
# The backbone is frozen and normalises its input itself. `layers="all"` gives the features of every depth.
# `TimmBackbone("vit_small_patch14_dinov2", weights="FILE.safetensors", image_size=224)` is another one.

# %%
backbone = mm.TimmBackbone(
    "tf_efficientnet_lite0", weights=mm.embedded_efficientnet_lite0(), image_size=SIZE, layers="all"
)
head = mm.LinearHead(backbone.spec.num_features, len(datalist.class_names))
network = mm.AdaptedClassifier(backbone=backbone, prompt=mm.PadPrompt(image_size=SIZE, width=8), head=head).to(DEVICE)
trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
print(f"{trained} of {sum(parameter.numel() for parameter in network.parameters())} parameters are trained")

# %% [markdown]
# ## Train
#
# The first stage solves the head exactly on cached features. The second trains prompt and head together with MoVL's
# loss.

# %%
features, val_features = (FeatureSet(part, backbone, device=DEVICE) for part in (train, val))
probe = mm.LinearProbe(train=features, val=val_features, num_classes=len(datalist.class_names), device=DEVICE)
stages = [mm.Stage(epochs=0, solve_head=True), mm.Stage(epochs=1, lr={"prompt": 5e-4, "head": 2e-6})]
trainer = mm.StagedTrainer(
    device=DEVICE,
    network=network,
    stages=stages,
    max_epochs=1,
    head_solver=probe,
    features=features,
    optimizer=torch.optim.Adam(optimizer_groups(network)),
    loss_function=mm.MoVLLoss(weight=1.0),
    decollate=True,
    train_data_loader=DataLoader(train, batch_size=16, shuffle=True),
)
trainer.run()
with torch.no_grad():
    right = [network.eval()(item["image"][None] / 255).argmax().item() == item["label"] for item in val]
print(f"{sum(right)} of {len(right)} validation images are right.")

# %% [markdown]
# `network.state_dict()` holds what was trained and the SHA-256 of the frozen weights: kilobytes.
