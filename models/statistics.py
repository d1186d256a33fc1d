#!/usr/bin/env python3
"""Learns how embeddings of faces differ in general: facenet.statistics.json.

    mfr-enroll embed --output bare.npz PHOTOS
    mfr-enroll mask --mask-copies 2 --output MASKED PHOTOS
    mfr-enroll embed --output masked.npz MASKED
    models/statistics.py bare.npz PHOTOS masked.npz MASKED models/facenet.statistics.json

PHOTOS holds a folder of photos for each person, as deep as one likes: the folder of a photo is its
person. Needs numpy.

The model is PLDA after length normalisation (src/gallery/statistics.rs): with the mean of bare and of
masked faces, and the covariance within people W and over all faces T, both kinds together, of centred
embeddings of unit length, a projection P is found with P'WP = I and P'(T - W)P diagonal. What is
written are the two means, P, and that diagonal; they are averages over all people, and nobody's face
can be told from them.

Embeddings of FaceNet 20180408-102900 have 512 numbers but 83 dimensions: beyond, T falls from 1e-3 to
1e-6 and below, where other arithmetic (another device, 8-bit weights) would change what is left. Those
are left out.
"""

# Least variance over all faces of a dimension that is used.
LEAST = 1e-4

import base64
import hashlib
import json
import pathlib
import sys

import numpy


def load(file, folder):
    """Embeddings [N, D] and the person of each."""
    with numpy.load(file) as data:
        found = ~numpy.isnan(data["embeddings"][:, 0])
        embeddings = data["embeddings"][found].astype(float)
        sources = data["sources"][found]
    folder = pathlib.PurePath(folder)
    return embeddings, [str(pathlib.PurePath(s).relative_to(folder).parent) for s in sources]


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
    bare_file, bare_folder, masked_file, masked_folder, output = sys.argv[1:]
    bare, bare_people = load(bare_file, bare_folder)
    masked, masked_people = load(masked_file, masked_folder)
    people = bare_people + masked_people
    centres = numpy.stack([bare.mean(0), masked.mean(0)])
    rows = numpy.concatenate([unit(bare - centres[0]), unit(masked - centres[1])])
    own = within(rows, people)
    total = rows.T @ rows / len(rows)

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
    model = pathlib.Path(__file__).with_name("facenet.onnx")
    statistics = {
        "about": f"{len(bare)} bare and {len(masked)} masked faces of {len(set(people))} people",
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
