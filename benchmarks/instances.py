"""What reading an instances file of the size of COCO's training file takes: an index of it, or all of it by ``json``.

    python benchmarks/instances.py FOLDER          writes FOLDER/instances.json once (437 MB), then measures both

Each side runs in a process of its own; printed are processor seconds and peak memory, libraries included.
"""

import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

PICTURES, THINGS = 118_000, 860_000  # of instances_train2017.json
POINTS = 22  # corners of a mask's outline


def write(path: Path) -> None:
    draw = random.Random(0)
    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        for number in range(PICTURES):
            image = {"id": number, "file_name": f"{number:012}.jpg", "width": 640, "height": 480, "license": 3}
            image |= {"coco_url": f"http://localhost/{number}", "date_captured": "2013-11-14 17:02:52"}
            file.write(", " * bool(number) + json.dumps(image))
        file.write('], "annotations": [')
        for number in range(THINGS):
            outline = [round(draw.random() * 640, 2) for _ in range(2 * POINTS)]
            thing = {"segmentation": [outline], "area": 702.1, "iscrowd": 0, "image_id": number % PICTURES}
            thing |= {"bbox": [473.07, 395.93, 38.65, 28.67], "category_id": 1 + number % 80, "id": number}
            file.write(", " * bool(number) + json.dumps(thing))
        categories = [
            {"supercategory": f"family {number % 12}", "id": number, "name": f"thing {number}"}
            for number in range(1, 81)
        ]
        file.write('], "categories": ' + json.dumps(categories) + "}")


def measure(side: str, path: Path) -> None:
    began = time.process_time()
    if side == "json":
        with path.open() as file:
            rows = len(json.load(file)["annotations"])
    else:
        from curr_reft.data.loaders import LOADERS, LoaderEntry

        entry = LoaderEntry(path=path, name=path.name, task="classification")
        rows = sum(1 for _ in LOADERS["coco"].rows(entry))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{side}: {rows} rows, {time.process_time() - began:.1f} s of processor time, peak {peak:.2f} GB")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        made = Path(sys.argv[1]) / "instances.json"
        if not made.exists():
            write(made)
        print(f"{made.stat().st_size / 1e6:.0f} MB")
        for each in ("json", "index"):
            subprocess.run([sys.executable, __file__, each, str(made)], check=True)
