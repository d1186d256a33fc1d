#!/usr/bin/env python3
"""Learns how embeddings of faces differ in general: facenet.statistics.json.

    training/embedder.py prepare --program mfr-enroll --work DIR PHOTOS...
    training/embedder.py embed --work DIR facenet.onnx
    models/statistics.py DIR facenet.onnx facenet.statistics.json

Needs numpy. The model is PLDA after length normalisation (src/gallery/statistics.rs): with the mean of bare and of
masked faces, and the covariance within people W and over all faces T, both kinds together, of centred
embeddings of unit length, a projection P is found with P'WP = I and P'(T - W)P diagonal. What is
written are the two means, P, and that diagonal; they are averages over all people, and nobody's face
can be told from them.

Means and covariances are those of KNOWN and of all other sets, half and half. The network has learned the photos of KNOWN
by heart, so that photos of one person differ less there than they do elsewhere, by half; the others are cut tight, of all
ages, and in part of bad quality. Photos that are not ALIKE the others of their person are taken for somebody else's.

Embeddings of FaceNet 20180408-102900 have 512 numbers but 83 dimensions: beyond, T falls from 1e-3 to
1e-6 and below, where other arithmetic (another device, 8-bit weights) would change what is left. Those
are left out.
"""

import base64
import hashlib
import json
import pathlib
import sys

import numpy

# Least variance over all faces of a dimension that is used.
LEAST = 1e-4
KNOWN = ("lfw",)
# Least cosine of a photo to the mean of its person's others.
ALIKE = 0.3


def load(work, names):
    """Bare and masked embeddings [N, D] of these sets, and the number of the person of each photo."""
    bare, masked, people = [], [], []
    for name in names:
        with numpy.load(work / name / "embeddings.npz") as data:
            bare.append(data["bare"].astype(float))
            masked.append(data["masked"].astype(float))
        facts = json.loads((work / name / "people.json").read_text())
        people += [f["person"] or f["photo"] for f in facts]
    bare = numpy.concatenate(bare)
    people = numpy.unique(people, return_inverse=True)[1]
    return bare, numpy.concatenate(masked), alike(bare, people)


def alike(rows, people):
    """The people after photos that are not ALIKE their person's others were made people of their own."""
    sums = numpy.zeros((people.max() + 1, rows.shape[1]))
    numpy.add.at(sums, people, rows)
    others = sums[people] - rows
    length = numpy.linalg.norm(others, axis=1)
    cosine = (others * rows).sum(1) / numpy.maximum(length, 1e-9)
    strange = numpy.flatnonzero((length > 1e-3) & (cosine < ALIKE))
    people = people.copy()
    people[strange] = people.max() + 1 + numpy.arange(len(strange))
    return numpy.unique(people, return_inverse=True)[1]


def unit(rows):
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def within(rows, people):
    """Covariance of pictures of one person about their mean, over all who have several."""
    _, person, count = numpy.unique(people, return_inverse=True, return_counts=True)
    means = numpy.zeros((len(count), rows.shape[1]))
    numpy.add.at(means, person, rows)
    means /= count[:, None]
    several = count[person] > 1
    rest = (rows - means[person])[several]
    return rest.T @ rest / (several.sum() - (count > 1).sum())


def text(values):
    return base64.b64encode(values.tobytes()).decode()


def main():
    work, model, output = map(pathlib.Path, sys.argv[1:])
    names = sorted(path.parent.name for path in work.glob("*/embeddings.npz"))
    sides = [[n for n in names if n in KNOWN], [n for n in names if n not in KNOWN]]
    sides = [load(work, side) for side in sides if side]
    if not sides:
        raise SystemExit(f"{work}: expected folders with embeddings.npz, as `embedder.py embed` makes them, found none")
    centres = numpy.mean([[bare.mean(0), masked.mean(0)] for bare, masked, _ in sides], 0)
    own, total = [], []
    for bare, masked, people in sides:
        rows = numpy.concatenate([unit(bare - centres[0]), unit(masked - centres[1])])
        own.append(within(rows, numpy.concatenate([people, people])))
        total.append(rows.T @ rows / len(rows))
    own, total = numpy.mean(own, 0), numpy.mean(total, 0)

    values, basis = numpy.linalg.eigh(total)
    basis = basis[:, values > LEAST]
    own, total = basis.T @ own @ basis, basis.T @ total @ basis
    # Both diagonal at once: first the spread within people becomes 1, then the rest is turned.
    values, vectors = numpy.linalg.eigh(own)
    whiten = basis @ vectors / numpy.sqrt(values)
    back = vectors / numpy.sqrt(values)
    between, turn = numpy.linalg.eigh(back.T @ (total - own) @ back)
    order = numpy.argsort(between)[::-1]
    between = numpy.clip(between[order], 1e-4, None)
    projection = whiten @ turn[:, order]

    scale = numpy.abs(centres).max() / 32767
    scales = numpy.abs(projection).max(0) / 127
    faces = sum(len(bare) for bare, _, _ in sides)
    statistics = {
        "about": f"{faces} bare and {faces} masked faces of {sum(people.max() + 1 for _, _, people in sides)} people",
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "dim": projection.shape[0],
        "rank": projection.shape[1],
        "centres": text(numpy.round(centres / scale).astype("<i2")),
        "centres_scale": scale,
        "projection": text(numpy.round(projection / scales).astype("i1")),
        "projection_scales": [float(f"{v:.6g}") for v in scales],
        "between": [float(f"{v:.5g}") for v in between],
    }
    with open(output, "w", encoding="utf-8") as file:
        json.dump(statistics, file, indent=1)
        file.write("\n")
    print(f"{output}: {statistics['about']}")


if __name__ == "__main__":
    main()
