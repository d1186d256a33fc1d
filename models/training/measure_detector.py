#!/usr/bin/env python3
"""Measure MTCNN's networks as the built program runs them.

    measure_detector.py --program mfr-enroll [--models DIR] [--boxes DIR...] [--pairs BARE PAINTED --published DIR]

--boxes: DIR/images and DIR/boxes.json ({photo: [[x1, y1, x2, y2, class], …]}). A labelled face counts when its
shorter side has 40 pixels or more. Detections and labelled boxes of any size and class are paired one to one, the
largest overlap first, as long as it is .5 (intersection over union) or more; a face is found when it is paired. A
detection is false when it reaches that overlap with no labelled box at all, whatever its size and class. "invalid"
boxes are never asked for, and what overlaps only with them is neither right nor false.

--pairs: photos of bare faces, and the painted copies that `mfr-enroll mask` made of them, of the people that
training leaves out. What --published finds in the bare photo is the truth for the photo and its copies.
"""

import argparse
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np

SMALLEST, OVERLAPS = 40, (0.5, 0.4)


def held_out(person):
    """Whether training leaves this person out: about one of ten."""
    return zlib.crc32(person.encode()) % 10 == 0


def overlaps(a, b):
    """Intersection over union [n, m] of boxes x1, y1, x2, y2: [n, 4] and [m, 4]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), -1)
    area = [np.prod(np.maximum(x[:, 2:] - x[:, :2], 0), -1) for x in (a, b)]
    return both / np.maximum(area[0][:, None] + area[1][None] - both, 1e-9)


def detect(program, paths, options=(), keep=None):
    """By photo what is found: boxes x1, y1, x2, y2 [n, 4], confidences [n], landmarks [n, 5, 2]; pixels. The program's
    lines are kept in the file `keep` and not asked for again."""
    if keep and keep.exists():
        lines = keep.read_text()
    else:
        command, lines = [program, "identify", "--json", *options], ""
        for start in range(0, len(paths), 1000):
            some = [*map(str, [*command, *paths[start : start + 1000]])]
            lines += subprocess.run(some, stdout=subprocess.PIPE, text=True, check=False).stdout
        if keep:
            keep.write_text(lines)
    out = {}
    for photo in map(json.loads, lines.splitlines()):
        faces = photo["faces"]
        boxes = np.array([[f["x"], f["y"], f["x"] + f["w"], f["y"] + f["h"]] for f in faces]).reshape(-1, 4)
        points = np.array([f["landmarks"] for f in faces]).reshape(-1, 5, 2)
        out[photo["path"]] = boxes, np.array([f["confidence"] for f in faces]), points
    return out


def pair(table, least):
    """Rows and columns of [n, m] overlaps that go together, the largest first."""
    table, out = table.copy(), []
    while table.size and table.max() >= least:
        row, column = np.unravel_index(table.argmax(), table.shape)
        out.append((row, column))
        table[row], table[:, column] = 0, 0
    return out


def count(found, labelled, confidence, least):
    """{class: (found, all)} of faces of SMALLEST and more, and (false, all) detections."""
    faces, false, total = {}, 0, 0
    for path, (boxes, scores, _) in found.items():
        boxes = boxes[scores > confidence]
        labels = labelled[Path(path).name]
        truth = np.array([b[:4] for b in labels], float).reshape(-1, 4)
        kinds = np.array([b[4] for b in labels])
        table = overlaps(boxes, truth)
        paired = {column for _, column in pair(table * (kinds != "invalid"), least)}
        for n in np.flatnonzero((kinds != "invalid") & ((truth[:, 2:] - truth[:, :2]).min(1) >= SMALLEST)):
            right, known = faces.get(kinds[n], (0, 0))
            faces[kinds[n]] = right + (n in paired), known + 1
        touches = table.max(1, initial=0) >= least
        real = (table * (kinds != "invalid")).max(1, initial=0) >= least
        false += int((~touches).sum())
        total += int((~touches | real).sum())
    return faces, (false, total)


def measure_boxes(arguments, folder, options):
    labelled = json.loads((folder / "boxes.json").read_text())
    lowest = min(arguments.onet)
    found = detect(arguments.program, [folder / "images"], [*options, "--onet-threshold", lowest])
    # What is suppressed depends on higher scores only: any higher threshold is a selection.
    for confidence in arguments.onet:
        for least in OVERLAPS:
            faces, (false, total) = count(found, labelled, confidence, least)
            text = [f"{k} {f}/{n} {f / n:.3f}" for k, (f, n) in sorted(faces.items())]
            text.append(f"false {false}/{total} {false / max(total, 1):.3f}")
            print(f"{folder.name}, O-Net {confidence}, overlap {least}: {', '.join(text)}", flush=True)


def measure_pairs(arguments, options):
    bare, painted = arguments.pairs
    photos = sorted(p for p in bare.rglob("*.webp") if held_out(p.parent.name))
    photos = photos[:: max(1, len(photos) // arguments.photos)]
    copies = {p: sorted((painted / p.relative_to(bare)).parent.glob(p.stem + "-*.png")) for p in photos}
    published = [*options[:2], "--model-path", arguments.published] if arguments.published else options
    truth = detect(arguments.program, photos, published)
    for name, paths in (("bare", {p: p for p in photos}), ("painted", {c: p for p in copies for c in copies[p]})):
        found = detect(arguments.program, list(paths), [*options, "--onet-threshold", max(arguments.onet)])
        known, moved, off = 0, [], []
        for path, photo in paths.items():
            boxes, _, points = truth[str(photo)]
            table = overlaps(found[str(path)][0], boxes) if str(path) in found else np.zeros((0, len(boxes)))
            known += len(boxes)
            for row, column in pair(table, 0.5):
                width = boxes[column, 2] - boxes[column, 0]
                moved.append(np.abs(found[str(path)][0][row] - boxes[column]).mean() / width)
                off.append(np.linalg.norm(found[str(path)][2][row] - points[column], axis=1) / width)
        each = " ".join(f"{100 * v:.1f}" for v in np.mean(off, 0))
        print(
            f"{name}: {len(off)}/{known} {len(off) / known:.3f} found, edges {100 * np.mean(moved):.2f} % of the width"
            f" away, landmarks {100 * np.mean(off):.2f} % ({each})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="mfr-enroll, built")
    parser.add_argument("--model", help="FaceNet, if it is not installed")
    parser.add_argument("--models", type=Path, help="folder with the networks; else those built in")
    parser.add_argument("--published", type=Path, help="such a folder with the weights that --pairs compares with")
    parser.add_argument("--boxes", nargs="+", type=Path, default=[])
    parser.add_argument("--pairs", nargs=2, type=Path)
    parser.add_argument("--photos", type=int, default=250, help="of --pairs, about so many")
    parser.add_argument("--min-face", type=int, default=20)
    parser.add_argument("--pnet", type=float, default=0.6)
    parser.add_argument("--rnet", type=float, default=0.7)
    parser.add_argument("--onet", type=float, nargs="+", default=[0.7])
    arguments = parser.parse_args()
    options = ["--min-face-size", arguments.min_face]
    options += ["--model-path", arguments.models] if arguments.models else []
    options += ["--model", arguments.model] if arguments.model else []
    options += ["--pnet-threshold", arguments.pnet, "--rnet-threshold", arguments.rnet]
    for folder in arguments.boxes:
        measure_boxes(arguments, folder, options)
    if arguments.pairs:
        measure_pairs(arguments, options)


if __name__ == "__main__":
    sys.exit(main())
