"""What the explorer of the book shows: maps of sentences on test images, from the kept run.

`make kept` writes it anew: data/example/results/main_run/explorer.json, since the book itself
executes nothing.
"""

import argparse
import base64
import io
import json
from pathlib import Path

import contourpy
import numpy as np
from PIL import Image

from localmi.data import SplitData
from localmi.phantom import finding_sentences
from localmi.study import example_results, load_study, load_truth
from localmi.train import load_trained_model, read_config

OUT = example_results() / "main_run" / "explorer.json"
OTHERS = (  # beside the sentences of the test reports
    "There is a large left pleural effusion.",
    "There is a large right pleural effusion.",
    "No pleural effusion.",
    "No pneumothorax.",
    "Heart size is normal.",
    "The patient likes tea.",
)


def outline(mask: np.ndarray) -> list[list[list[float]]]:
    """[H, W] bool -> polygons of (x, y), each as a share of the image's side."""
    size = len(mask)
    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    return [((line[::3] - 0.5) / size).round(3).tolist() for line in lines if len(line) > 12]


def png(picture: np.ndarray) -> str:
    """[H, W] uint8 -> the address of a picture, with the picture in it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    networks = example_results() / "main_run" / "networks.pt"
    cache = load_study("", "", image_size=read_config(networks).image_size)
    trained, truth = load_trained_model(networks, cache), load_truth("")
    assert truth is not None
    data = SplitData(cache, "test", unit="sentence")
    rows = finding_sentences(truth, data)
    present = rows[rows["polarity"] == "present"]
    shown: list[int] = []  # an image for each finding, and some without any
    for _, with_it in present.groupby("finding", sort=False):
        shown += [image for image in with_it["image"].unique() if image not in shown][:1]
    shown += sorted({*rows["image"]} - {*present["image"]})[:3]
    texts = [*present.drop_duplicates("finding")["text"], *OTHERS]
    scores = trained.scores(data, texts)[0]  # [n, N, T]
    best = scores.max(axis=1)  # [n, T]
    images = []
    for image in shown:
        here = present[present["image"] == image].drop_duplicates("finding")
        masks = {row.finding: truth.mask(row.image_id, row.finding) for row in here.itertuples()}
        images.append(
            {
                "picture": png(data.images(np.array([image]))[0, 0].numpy()),
                "findings": {name: outline(mask) for name, mask in masks.items()},
                "maps": scores[image].T.round(2).tolist(),  # [T, N]
                "above": (best < best[image]).mean(axis=0).round(3).tolist(),  # [T]
            }
        )
    text = json.dumps({"sentences": texts, "images": images}, separators=(",", ":"))
    out.write_text(text + "\n", encoding="utf-8")
    print(f"{len(images)} images, {len(texts)} sentences: {out}")


if __name__ == "__main__":
    main()
