#!/usr/bin/env python3
"""Verification: are two photos of one person? By cosine, over all pairs of photos.

    mfr-enroll embed --model facenet.onnx --output photos.npz PHOTOS...
    verify.py photos.npz...

The folder that a photo lies in is its person. Prints the share of pairs that are told rightly, with the threshold chosen
on nine tenths of the people and used on the last one, in turns: over all pairs as they are (most are of two people) and
with pairs of one and of two people weighing the same; and how many pairs of one person pass where one in a thousand of
two people does.
"""

import pathlib
import sys

import numpy


def load(file):
    with numpy.load(file) as data:
        found = ~numpy.isnan(data["embeddings"][:, 0])
        people = numpy.array([pathlib.PurePath(s).parent.name for s in data["sources"]])
        return data["embeddings"][found], people[found], int((~found).sum())


def threshold(cosines, same, weights):
    """The cosine from which pairs are taken for one person, with the least weight of errors."""
    order = numpy.argsort(-cosines)
    gain = numpy.cumsum(numpy.where(same, weights, -weights)[order])
    best = int(numpy.argmax(gain))
    return cosines[order[best : best + 2]].mean()


def accuracy(cosines, same, fold, weights):
    right = numpy.zeros(len(same), bool)
    for part in numpy.unique(fold):
        held = fold == part
        level = threshold(cosines[~held], same[~held], weights[~held])
        right[held] = (cosines[held] >= level) == same[held]
    return (right * weights).sum() / weights.sum()


def verify(file):
    embeddings, people, missing = load(file)
    first, second = numpy.triu_indices(len(people), 1)
    cosines = (embeddings[first] * embeddings[second]).sum(1)
    same = people[first] == people[second]
    _, person = numpy.unique(people, return_inverse=True)
    fold = person[first] % 10
    even = numpy.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    passed = (cosines[same] > numpy.quantile(cosines[~same], 0.999)).mean()
    print(
        f"{file}: {len(people)} photos ({missing} without a face), {same.sum()} pairs of one person, {(~same).sum()} of two: "
        f"accuracy {accuracy(cosines, same, fold, numpy.ones(len(same)) / len(same)):.4f}, "
        f"balanced {accuracy(cosines, same, fold, even):.4f}, at .1 % false {passed:.4f}"
    )


for name in sys.argv[1:]:
    verify(name)
