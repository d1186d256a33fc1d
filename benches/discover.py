#!/usr/bin/env python3
"""Measures `mfr-enroll discover`: pairwise precision and recall of its groups, on an unsorted part of LFW and on clips.

    cargo build --release -p gst-plugin-mfr --bin mfr-enroll -p mfr-tools --bin plain_masks
    python3 benches/discover.py DATA [--part report] [--photos 6] [--clips]

DATA has lfw/gallery and lfw/probe, with a folder for each person, lfw/unknown with photos of strangers, and videos/. People
and strangers are divided by a hash of their names: on the part `choose` (50 people, 400 strangers) the thresholds were chosen,
on `report` (100 people, 100 strangers) they are reported. Photos are copied under numbers, so that nothing but the faces tells
who is in them. Every other photo of each person, and every other stranger, gets a mask painted on by plain_masks, which shares
no code with the painter of galleries.

A pair of faces is right if both are of one person. Precision is the share of right pairs among those that stand in one
group, recall the share of pairs in one group among the right ones. Of each photo the largest face counts, as its name is the
photo's; every face of a clip counts by the rule of that clip in CLIPS.
"""

import argparse
import collections
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent



def two_men(x, _y, seconds):
    """A singer and a pianist, then four people in the audience."""
    if seconds > 8.1:
        return next(name for edge, name in ((150, "a man"), (300, "a woman"), (385, "another man"), (641, "another woman"))
                    if x < edge)
    if seconds > 3.6 or (x > 300) == (seconds < 1.6):
        return "singer"
    return "pianist"


# Who a face of a clip is: a function of the middle of the face in pixels and of the time in seconds.
CLIPS = {
    "seed-masked.mp4": lambda *_: "seed",
    "seed-masked02.mp4": lambda *_: "seed",
    "seed-unmasked.mp4": lambda *_: "seed",
    "masked-man-1080p.mp4": lambda *_: "masked man",
    "masked-speaker-720p.mp4": lambda *_: "masked speaker",
    "woman-shows-mask-720p.mp4": lambda *_: "woman",
    "two-men-360p.mp4": two_men,
}


def number(text):
    return hashlib.sha256(text.encode()).hexdigest()


def photos(data, part, count):
    """Pairs of a person and a photo; strangers have a name of their own each."""
    people = collections.defaultdict(list)
    for side in ("gallery", "probe"):
        for path in sorted((data / "lfw" / side).glob("*/*")):
            people[path.parent.name].append(path)
    names = sorted(people, key=number)
    strangers = sorted((data / "lfw" / "unknown").glob("*"), key=lambda path: number(path.name))
    if part == "choose":
        names, strangers = names[:50], strangers[:-100]
    else:
        names, strangers = names[50:150], strangers[-100:]
    chosen = []
    for name in names:
        own = sorted(people[name], key=lambda path: number(path.name))[:count]
        chosen += [(name, path, i % 2 == 1) for i, path in enumerate(own)]
    chosen += [(f"stranger {path.name}", path, i % 2 == 1) for i, path in enumerate(strangers)]
    return chosen


def discover(program, inputs, work, options):
    """The faces that the program finds, and the seconds that it takes."""
    output = work / "people"
    shutil.rmtree(output, ignore_errors=True)
    begin = time.monotonic()
    ran = subprocess.run(
        [program, "discover", "--json", "--output", output, *options, *inputs],
        check=True, capture_output=True, text=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()], time.monotonic() - begin


def figures(faces):
    """Precision and recall of the pairs of (person, group, kind), over all and by kinds."""
    counts = collections.defaultdict(lambda: [0, 0, 0])
    for (one, a, m), (other, b, n) in itertools.combinations(faces, 2):
        is_right, is_joined = one == other, a is not None and a == b
        if not is_right and not is_joined:
            continue
        kind = ("bare", "bare and masked", "masked")[m + n]
        for key in ("all", kind):
            counts[key][0] += is_right and is_joined
            counts[key][1] += is_joined
            counts[key][2] += is_right
    for key, (both, joined, right) in sorted(counts.items()):
        precision = both / joined if joined else 1.0
        recall = both / right if right else 1.0
        print(f"    {key:16} precision {precision:.4f}  recall {recall:.3f}  ({right} right pairs, {joined} joined)")


def lfw(arguments, work):
    chosen = photos(arguments.data, arguments.part, arguments.photos)
    for masks in (False, True):
        unsorted, bare, masked = work / "unsorted", work / "bare", work / "masked"
        for folder in (unsorted, bare, masked):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        truth = {}
        for i, (name, path, gets_mask) in enumerate(chosen):
            is_masked = masks and gets_mask
            shutil.copy(path, (bare if is_masked else unsorted) / f"{i:05}.jpg")
            truth[f"{i:05}"] = (name, is_masked)
        if masks:
            subprocess.run([arguments.painter, bare, masked], check=True, capture_output=True)
            for path in masked.glob("*"):
                path.rename(unsorted / path.name)
        found, seconds = discover(arguments.program, [unsorted], work, arguments.option)
        largest = {}
        for face in found:
            stem = pathlib.Path(face["path"]).stem
            if stem not in largest or face["w"] * face["h"] > largest[stem]["w"] * largest[stem]["h"]:
                largest[stem] = face
        faces = [(truth[stem][0], face["person"], truth[stem][1]) for stem, face in largest.items()]
        groups = len({face["person"] for face in found} - {None})
        print(f"LFW, part {arguments.part}, {'half with masks' if masks else 'bare'}: {len(truth)} photos, "
              f"{len(found)} faces, {groups} groups, {seconds:.0f} s")
        figures(faces)


def clips(arguments, work):
    paths = [arguments.data / "videos" / name for name in CLIPS]
    found, seconds = discover(arguments.program, paths, work, arguments.option)
    faces = []
    for face in found:
        rule = CLIPS[os.path.basename(face["path"])]
        person = rule(face["x"] + face["w"] / 2, face["y"] + face["h"] / 2, face["time"])
        faces.append((person, face["person"], 0))
    groups = collections.Counter((face[1], face[0]) for face in faces)
    print(f"clips: {len(paths)} videos, {len(found)} faces, {seconds:.0f} s")
    figures(faces)
    for (group, person), count in sorted(groups.items(), key=str):
        print(f"    {group}: {count} of {person}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--part", choices=("choose", "report"), default="report")
    parser.add_argument("--photos", type=int, default=6, help="photos of each person")
    parser.add_argument("--clips", action="store_true", help="the clips instead of LFW")
    parser.add_argument("--program", default=ROOT / "target/release/mfr-enroll")
    parser.add_argument("--painter", default=ROOT / "target/release/plain_masks")
    parser.add_argument("--option", action="append", default=[], help="of discover, as --option=--jobs=1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (clips if arguments.clips else lfw)(arguments, pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
