import movl_monai as mm
from movl_monai.phantom import write_phantom

# 200 made radiographs of two scanners, as DICOM files
write_phantom("chest", patients=(20, 10, 10, 10), size=128)
run = mm.train("movl_classification", "chest", "out", strategy="linear_probe", image_size=96)
report = run.evaluate("chest")
for name, part in {"internal test": report["id"], **report["ood"]}.items():
    print(f"{name}: AUROC {part['auroc']:.2f} on {part['n']} images")
images = ["chest/images/scanner_a/0031_1.dcm", "chest/images/scanner_b/0041_1.dcm"]
print(run.predict(images).answers)
