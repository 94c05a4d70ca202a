"""A session with the MONAI Label app over its REST interface, for the Python of MONAI Label's environment.

The variables MONAI_LABEL_APP_DIR, MONAI_LABEL_STUDIES and MONAI_LABEL_APP_CONF are set; the names of the images begin
with their class. Prints the answers of the app as the last line.
"""

from __future__ import annotations

import json
import time
from typing import Any


def main() -> dict[str, Any]:
    from fastapi.testclient import TestClient
    from monailabel.app import app
    from monailabel.interfaces.utils.app import app_instance

    client = TestClient(app, raise_server_exceptions=False)
    said: dict[str, Any] = {"info": client.get("/info/").json()}
    images = sorted(app_instance().datastore().list_images())
    for model, about in said["info"]["models"].items():
        said[model] = client.post(f"/infer/{model}", params={"image": images[0], "output": "json"}).json()
        if about["type"] == "segmentation":
            mask = client.post(f"/infer/{model}", params={"image": images[0], "output": "image"})
            said["mask"] = mask.content[:4].hex()
    said["untrained"] = client.post("/infer/trained", params={"image": images[0]}).status_code
    for image in images:
        body = {"params": json.dumps({"label": image.partition("_")[0]})}
        client.put("/datastore/label", params={"image": image}, data=body, files={"label": ("label.json", b"{}")})
    client.post("/train/fit", json={"minutes": 5})
    while (task := client.get("/train/").json())["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(1)
    said |= {"fit": task, "stats": client.get("/info/").json()["train_stats"]["fit"]}
    if task["status"] == "DONE":
        said["trained"] = client.post("/infer/trained", params={"image": images[0], "output": "json"}).json()
    return said


if __name__ == "__main__":
    print(json.dumps(main(), default=str))
