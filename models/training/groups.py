#!/usr/bin/env python3
"""Errors by group of people: the table of the model card.

    groups.py --photos UTKFACE --gallery GALLERY.npz --program mfr-enroll --painter plain_masks --work DIR

UTKFACE is a folder of photos whose names say age, sex and group (age_sex_group_date); the quarter that training leaves out
(`faces.held_out`) are strangers to GALLERY, bare and with a painted mask. For each group of FEWEST faces and more: the
share of photos in which a face was found, the share of the strangers named at the gallery's threshold, and the median
cosine of a photo to its masked copy, which stands in for misses: nobody has two photos here. In brackets 95 % intervals
of DRAWS draws of photos.
"""

import argparse
import json
import pathlib
import shutil

import numpy

import faces
from report import cell, painted, run

FEWEST, DRAWS, SEED = 150, 2000, 8
ETHNICITY = {0: "White", 1: "Black", 2: "Asian", 3: "Indian", 4: "other"}
SEX = {0: "men", 1: "women"}
AGES = [(0, 12), (13, 24), (25, 39), (40, 59), (60, 120)]


def groups(name):
    """The groups that a photo belongs to; none for a name of another form."""
    try:
        age, sex, ethnicity = map(int, name.split("_")[:3])
        age = next(f"{low} to {high} years" for low, high in AGES if low <= age <= high)
        return ["all", ETHNICITY[ethnicity], SEX[sex], age]
    except (KeyError, StopIteration, ValueError):
        return []


def held_out(photos, work):
    """A folder with the photos that training left out."""
    target = work / "held-out"
    if not target.exists():
        new = work / "held-out.new"
        new.mkdir(parents=True, exist_ok=True)
        for path in sorted(photos.rglob("*")):
            if path.is_file() and faces.held_out(path) and groups(path.name):
                shutil.copyfile(path, new / path.name)
        new.rename(target)
    return target


def named(options, folder):
    """For each photo's stem, whether a face was found in it and whether it was given a name."""
    kept = options.work / f"{folder.name}.json"
    if not kept.exists():
        # Strangers alone are of interest, but `evaluate` wants probes too.
        command = [options.program, "evaluate", "--json", "--database", options.gallery, "--probes", options.probes]
        kept.write_text(run(*command, "--unknown", folder, *options.model))
    photos = [p for p in json.loads(kept.read_text())["photos"] if p["person"] is None]
    return {pathlib.Path(p["path"]).stem: (p["first"] is not None, p["named"]) for p in photos}


def embeddings(options, folder):
    kept = options.work / f"{folder.name}.npz"
    if not kept.exists():
        run(options.program, "embed", "--output", kept, folder, *options.model)
    with numpy.load(kept) as data:
        return {pathlib.Path(str(s)).stem: e for s, e in zip(data["sources"], data["embeddings"])}


def drawn(values, random, of=numpy.mean):
    values = numpy.asarray(values, float)
    rows = random.integers(0, len(values), (DRAWS, len(values)))
    return numpy.concatenate([[of(values)], of(values[rows], axis=1)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=pathlib.Path, required=True)
    parser.add_argument("--gallery", type=pathlib.Path, required=True)
    parser.add_argument("--probes", type=pathlib.Path, required=True, help="a folder of few photos of the gallery's people")
    parser.add_argument("--program", default="mfr-enroll")
    parser.add_argument("--model", type=lambda file: ["--model", file], default=[], help="the FaceNet [default: installed]")
    parser.add_argument("--painter", required=True, help="the program plain_masks of mfr-tools")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    options = parser.parse_args()
    photos = held_out(options.photos, options.work)
    masked = painted(options.painter, photos, options.work / "masked")
    bare_named, masked_named = named(options, photos), named(options, masked)
    bare, covered = embeddings(options, photos), embeddings(options, masked)
    cosines = {stem: float(bare[stem] @ covered[stem]) for stem in bare.keys() & covered.keys()}
    members = {}
    for stem in sorted(bare_named):
        for group in groups(stem):
            members.setdefault(group, []).append(stem)
    order = ["all", *ETHNICITY.values(), *SEX.values(), *(f"{low} to {high} years" for low, high in AGES)]
    print("| | photos | face found, bare | with a mask | named, bare | with a mask | cosine to the masked copy, median |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    random = numpy.random.default_rng(SEED)
    for group in order:
        own = members.get(group, [])
        if len(own) < FEWEST:
            continue
        found = [bare_named[s][0] for s in own]
        found_masked = [masked_named.get(s, (False, False))[0] for s in own]
        named_bare = [bare_named[s][1] for s in own if bare_named[s][0]]
        named_masked = [masked_named[s][1] for s in own if masked_named.get(s, (False,))[0]]
        near = [cosines[s] for s in own if s in cosines and numpy.isfinite(cosines[s])]
        cells = [cell(drawn(values, random)) for values in (found, found_masked, named_bare, named_masked)]
        print(f"| {group} | {len(own)} | " + " | ".join([*cells, cell(drawn(near, random, numpy.median))]) + " |")


if __name__ == "__main__":
    main()
