#!/usr/bin/env python3
"""The table of docs/accuracy.md about people: every figure with its 95 % interval, and what differs between two sides.

    report.py --data DATA --work DIR --painter plain_masks --part select --side landed=OLD/mfr-enroll,OLD.onnx \\
        --side new=NEW/mfr-enroll,NEW.onnx

DATA holds the sets (SETS says which part each is of), each with the folders gallery and probe, a folder for each person,
and unknown, photos of strangers. Parts never mix: what is chosen is chosen on *select*, and *report* is looked at once for
what won there. A side is a name, a program `mfr-enroll` (its statistics and its calibration are inside it) and, after a
comma, a FaceNet. Galleries, painted copies (by `plain_masks` of mfr-tools, which shares no code with the painter of
galleries) and answers are kept in DIR: what is there is not made again.

Intervals: DRAWS times people are drawn with replacement, with all their probes, and so are the strangers, whose
similarities decide where the threshold of a share of them lies; the difference of two sides is that of the same draw. A
probe without a face is a miss.
"""

import argparse
import json
import pathlib
import subprocess

import numpy

DRAWS, SEED = 2000, 26
# Name in the table, gallery and probes, strangers, with a painted mask besides.
SETS = {
    "select": [
        ("LFW", "lfw", "lfw/unknown", True),
        ("FIW", "fiw/select", "fiw/select/unknown", True),
        ("MFR2, real masks", "mfr2-dev", "lfw/unknown", False),
        ("RMFRD, real masks", "rmfrd-dev", "lfw/unknown", False),
    ],
    "report": [("FIW", "fiw/report", "fiw/report/unknown", True)],
}
RATES = {"TPIR at 1 %": 0.01, "at .2 %": 0.002}


def run(*command):
    found = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: ended with status {found.returncode}")
    return found.stdout


def painted(painter, folder, target):
    """A copy of a folder in which faces wear a plain mask."""
    if not target.exists():
        new = target.with_name(target.name + ".new")
        run(painter, folder, new)
        new.rename(target)
    return target


class Side:
    def __init__(self, text, work):
        self.name, _, rest = text.partition("=")
        self.program, _, model = rest.partition(",")
        if not self.name or not self.program:
            raise SystemExit(f"--side {text}: expected NAME=PROGRAM or NAME=PROGRAM,FACENET")
        self.model = ["--model", model] if model else []
        self.work = work / self.name
        self.work.mkdir(parents=True, exist_ok=True)

    def answers(self, name, gallery, probes, strangers):
        """What `mfr-enroll evaluate` says of each probe and each stranger."""
        base = self.work / gallery.parent.as_posix().strip("/").replace("/", "-")
        database, kept = base.with_suffix(".npz"), base.with_name(f"{base.name}-{name}.json")
        if not database.exists():
            run(self.program, "--dataset", gallery, "--output", database, *self.model)
        if not kept.exists():
            command = [self.program, "evaluate", "--json", "--database", database, "--probes", probes]
            kept.write_text(run(*command, "--unknown", strangers, *self.model))
        return Answers(json.loads(kept.read_text())["photos"])


class Answers:
    """Answers as arrays; probes sorted by path, so that those of two sides belong together."""

    def __init__(self, photos):
        probes = sorted((p for p in photos if p["person"] is not None), key=lambda p: p["path"])
        strangers = sorted((p for p in photos if p["person"] is None), key=lambda p: p["path"])
        self.paths = [p["path"] for p in probes + strangers]
        self.people = numpy.unique([p["person"] for p in probes], return_inverse=True)[1]
        similarity = [-1.0 if p["similarity"] is None else p["similarity"] for p in probes + strangers]
        self.probes, self.strangers = numpy.split(numpy.array(similarity), [len(probes)])
        self.right = numpy.array([p["first"] == p["person"] for p in probes])
        named = [bool(p["named"]) for p in probes + strangers]
        self.named, self.strangers_named = numpy.split(numpy.array(named), [len(probes)])
        # A photo of a stranger without a face takes part in no share of strangers.
        self.seen = self.strangers >= 0

    def figures(self, times, strange):
        """All figures, where probe i counts `times[i]` times and stranger j `strange[j]` times."""
        strange = strange * self.seen
        count, all_strangers = times.sum(), max(strange.sum(), 1)
        order = numpy.argsort(-self.strangers)
        above = numpy.cumsum(strange[order])
        out = {"rank-1": (times * self.right).sum() / count}
        for name, rate in RATES.items():
            # The similarity that at most this share of the strangers exceeds.
            place = numpy.searchsorted(above, numpy.floor(rate * all_strangers), side="right")
            limit = self.strangers[order[min(place, len(order) - 1)]]
            out[name] = (times * (self.right & (self.probes > limit))).sum() / count
        out["named rightly"] = (times * (self.named & self.right)).sum() / count
        out["named wrongly"] = (times * (self.named & ~self.right)).sum() / count
        out["strangers named"] = (strange * self.strangers_named).sum() / all_strangers
        return out


def drawn(answers):
    """[sides, DRAWS + 1, figures]: the first row counts everybody once."""
    first = answers[0]
    if any(a.paths != first.paths for a in answers):
        raise SystemExit("the sides did not look at the same photos: remove what is kept of them and run again")
    random = numpy.random.default_rng(SEED)
    people, strangers = first.people.max() + 1, len(first.strangers)
    rows = []
    for draw in range(DRAWS + 1):
        persons, strange = numpy.ones(people), numpy.ones(strangers)
        if draw:
            persons = numpy.bincount(random.integers(0, people, people), minlength=people)
            strange = numpy.bincount(random.integers(0, strangers, strangers), minlength=strangers)
        rows.append([list(a.figures(persons[first.people], strange).values()) for a in answers])
    return numpy.array(rows).transpose(1, 0, 2)


def number(value, signed=False):
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def cell(values, signed=False):
    low, high = numpy.quantile(values[1:], [0.025, 0.975])
    return f"{number(values[0], signed)} [{number(low, signed)}, {number(high, signed)}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--painter", required=True, help="the program plain_masks of mfr-tools")
    parser.add_argument("--part", choices=SETS, required=True)
    parser.add_argument("--side", action="append", required=True, help="NAME=PROGRAM[,FACENET]; the first is compared with")
    options = parser.parse_args()
    sides = [Side(text, options.work) for text in options.side]
    lines = []
    for name, place, strangers, mask in SETS[options.part]:
        folder, strangers = options.data / place, options.data / strangers
        sources = {"": (folder / "probe", strangers)}
        if mask:
            copies = options.work / "painted" / place
            copies.mkdir(parents=True, exist_ok=True)
            both = [painted(options.painter, source, copies / source.name) for source in sources[""]]
            sources = {"bare": sources[""], "plain mask": both}
        for kind, (probes, unknown) in sources.items():
            answers = [s.answers(kind.replace(" ", "-") or "real", folder / "gallery", probes, unknown) for s in sides]
            rows = drawn(answers)
            label = f"{name} {kind}".strip() + f" ({len(answers[0].people)})"
            lines += [[label, s.name, *(cell(row[:, i]) for i in range(row.shape[1]))] for s, row in zip(sides, rows)]
            for side, row in zip(sides[1:], rows[1:]):
                difference = row - rows[0]
                cells = [cell(difference[:, i], True) for i in range(row.shape[1])]
                lines.append([label, f"{side.name} − {sides[0].name}", *cells])
            print("\n".join("| " + " | ".join(line) + " |" for line in lines[-2 * len(sides) + 1 :]), flush=True)
    heads = [options.part, "", "rank-1", *RATES, "named rightly", "named wrongly", "strangers named"]
    print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines]))


if __name__ == "__main__":
    main()
