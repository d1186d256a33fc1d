#!/usr/bin/env python3
"""Compare sets of MTCNN's networks on labelled photos, each figure with its 95 % interval.

    compare_detectors.py --program mfr-enroll --model facenet.onnx --boxes DIR... [--curve FILE.tsv] [--kept DIR]
        --networks NAME=DIR [NAME=DIR:PNET,RNET,ONET ...]

NAME=DIR: a folder with pnet.onnx, rnet.onnx and onet.onnx, and the three thresholds if they are not .6, .7, .7. All
photos of all folders of --boxes count alike. Which faces are asked for, what is found and what is false is stated in
measure_detector.py: faces of 40 pixels and more, boxes paired one to one. `without_mask` and `face` are bare,
`with_mask` is masked, `mask_worn_incorrectly` and `mask_weared_incorrect` are worn wrongly.

Intervals are those of 2,000 draws of as many photos with replacement; all networks are seen with the same draws. Below the
figures: what each set of networks finds more than the first, with the interval of the difference; and the share of faces
found at the threshold of O-Net at which there are as many false detections as the first set has at its own, and at half
and twice as many.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from measure_detector import SMALLEST, detect, overlaps, pair

GROUPS = ("bare", "masked", "worn wrongly")
GROUP = {"without_mask": 0, "face": 0, "with_mask": 1, "mask_worn_incorrectly": 2, "mask_weared_incorrect": 2}
FALSE, REAL = 6, 7  # columns of the counts, after found and known of each group
DRAWS = 2000
LOWEST = 0.3  # threshold of O-Net that a curve begins at


def counts(found, labelled, thresholds, least):
    """[thresholds, photos, 8]: by photo found and known of each group, false and real detections."""
    out = np.zeros((len(thresholds), len(labelled), 8), int)
    for n, (key, labels) in enumerate(labelled.items()):
        boxes, scores, _ = found.get(key, (np.zeros((0, 4)), np.zeros(0), None))
        truth = np.array([b[:4] for b in labels], float).reshape(-1, 4)
        group = np.array([GROUP.get(b[4], -1) for b in labels], int)
        asked = (group >= 0) & ((truth[:, 2:] - truth[:, :2]).min(1, initial=np.inf) >= SMALLEST)
        whole = overlaps(boxes, truth)
        for t, threshold in enumerate(thresholds):
            table = whole[scores > threshold]
            right = [column for _, column in pair(table * (group >= 0), least)]
            hit = np.zeros(len(labels), bool)
            hit[right] = True
            for g in range(3):
                out[t, n, 2 * g] = (hit & asked & (group == g)).sum()
                out[t, n, 2 * g + 1] = (asked & (group == g)).sum()
            out[t, n, FALSE] = (table.max(1, initial=0) < least).sum()
            out[t, n, REAL] = ((table * (group >= 0)).max(1, initial=0) >= least).sum()
    return out


def figures(sums, photos):
    """[..., 5]: found of each group, share of detections that are false, false ones a photo; of sums [..., 8]."""
    found = sums[..., 0:6:2] / np.maximum(sums[..., 1:6:2], 1)
    share = sums[..., FALSE] / np.maximum(sums[..., FALSE] + sums[..., REAL], 1)
    return np.concatenate([found, share[..., None], sums[..., FALSE, None] / photos], -1)


def interval(values):
    return np.percentile(values, [2.5, 97.5], axis=0)


def networks(text):
    name, _, rest = text.partition("=")
    folder, _, given = rest.partition(":")
    values = [float(v) for v in given.split(",")] if given else [0.6, 0.7, 0.7]
    return name, Path(folder), values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="mfr-enroll, built")
    parser.add_argument("--model", help="FaceNet, if it is not installed")
    parser.add_argument("--boxes", nargs="+", type=Path, required=True)
    parser.add_argument("--overlap", type=float, default=0.4)
    parser.add_argument("--min-face", type=int, default=20)
    parser.add_argument("--curve", type=Path, help="figures at all thresholds of O-Net, as tab-separated values")
    parser.add_argument("--kept", type=Path, help="folder for what the program found, so that it is not asked again")
    parser.add_argument("--networks", nargs="+", type=networks, required=True, metavar="NAME=DIR[:PNET,RNET,ONET]")
    arguments = parser.parse_args()

    labelled = {}
    for folder in arguments.boxes:
        for name, labels in json.loads((folder / "boxes.json").read_text()).items():
            labelled[str(folder / "images" / name)] = labels
    photos = len(labelled)
    random = np.random.default_rng(0)
    draws = np.array([np.bincount(random.integers(0, photos, photos), minlength=photos) for _ in range(DRAWS)])

    curves, at, tsv = [], [], []
    for name, folder, (pnet, rnet, onet) in arguments.networks:
        options = ["--min-face-size", arguments.min_face, "--model-path", folder]
        options += ["--model", arguments.model] if arguments.model else []
        options += ["--pnet-threshold", pnet, "--rnet-threshold", rnet, "--onet-threshold", LOWEST]
        found = {}
        for boxes in arguments.boxes:
            keep = None
            if arguments.kept:
                arguments.kept.mkdir(parents=True, exist_ok=True)
                path = boxes.resolve()
                keep = arguments.kept / f"{name}-{pnet}-{rnet}-{path.parent.name}-{path.name}.jsonl"
            found |= detect(arguments.program, [boxes / "images"], options, keep)
        thresholds = np.unique([*np.arange(LOWEST, 0.99, 0.02).round(3), 0.99, 0.995, 0.998, 0.999, onet])
        table = counts(found, labelled, thresholds, arguments.overlap)
        own = int(np.flatnonzero(thresholds == onet)[0])
        curves.append((thresholds, figures(table.sum(1), photos), table.sum(1)))
        at.append(table[own])
        tsv += [[name, t, *row] for t, row in zip(thresholds, curves[-1][1])]

    known = at[0].sum(0)[1:6:2]
    print(f"{photos} photos; " + ", ".join(f"{n} {k}" for n, k in zip(known, GROUPS)) + f"; overlap {arguments.overlap}")
    heads = [*GROUPS, "false", "false a photo"]
    drawn = [figures(draws @ table, photos) for table in at]
    print("| networks | " + " | ".join(heads) + " |\n|" + " --- |" * 6)
    for (name, _, _), table, many in zip(arguments.networks, at, drawn):
        low, high = interval(many)
        cells = [f"{v:.3f} [{a:.3f}, {b:.3f}]" for v, a, b in zip(figures(table.sum(0), photos), low, high)]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for (name, _, _), table, many in list(zip(arguments.networks, at, drawn))[1:]:
        low, high = interval(many - drawn[0])
        more = figures(table.sum(0), photos) - figures(at[0].sum(0), photos)
        cells = [f"{v:+.3f} [{a:+.3f}, {b:+.3f}]" for v, a, b in zip(more, low, high)]
        print(f"| {name} − {arguments.networks[0][0]} | " + " | ".join(cells) + " |")
    false = at[0].sum(0)[FALSE]
    for times in (0.5, 1, 2):
        cells = []
        for (name, _, _), (thresholds, rows, sums) in zip(arguments.networks, curves):
            few = np.flatnonzero(sums[:, FALSE] <= times * false)
            if len(few):
                bare, masked, wrongly = rows[few[0], :3]
                cells.append(f"{name} {bare:.3f} {masked:.3f} {wrongly:.3f} from {thresholds[few[0]]:g}")
        print(f"with {times * false:g} false detections at most: " + "; ".join(cells))
    if arguments.curve:
        lines = ["\t".join(["networks", "threshold", *heads])]
        lines += ["\t".join([row[0], *(f"{v:.4f}" for v in row[1:])]) for row in tsv]
        arguments.curve.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
