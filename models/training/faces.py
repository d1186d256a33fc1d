"""Faces to learn from: every one bare, under COPIES masks of `mfr-enroll mask`, and under a plain mask or behind a thing.

A face is kept with what is round it (CONTEXT crops wide), so that a crop can be moved, turned and cut off by the edge
of the photo when it is used.
"""

import hashlib
import json
import multiprocessing
import pathlib
import subprocess
import sys

import cv2
import numpy

sys.path.append(str(pathlib.Path(__file__).parent.parent))
import mask_attribute as simple  # noqa: E402  the second painter, and things that are no mask

cv2.setNumThreads(1)

KINDS = ("surgical", "kn95", "n95", "cloth", "sponge", "black")
COPIES = 2  # kinds of masks a photo, others from photo to photo
BARE, PAINTED, OTHER = 0, slice(1, 1 + COPIES), 1 + COPIES
VARIANTS = 2 + COPIES
THINGS = 0.3  # share of OTHER that is no mask
SIDE = 160  # of the crop that FaceNet looks at, pixels
CROP = 1.32  # of the crop, in face boxes, as in src/embed/mod.rs
CONTEXT = 1.3  # of what is kept, in crops
CONTEXT_SIDE = 208
QUALITY = 95  # of the JPEGs that contexts are kept as, with full colour
SMALLEST = 24  # shorter side of a face, pixels
# Folders of this name hold photos of people nobody has told apart.
NOBODY = "_"
HELD_OUT = "utkface"


def held_out(path):
    """Whether a photo is one of the quarter of UTKFace that is measured by group and therefore never learned from: those
    whose file name's SHA-256 begins with a number (32 bits) that four divides."""
    path = pathlib.Path(path)
    number = int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16)
    return HELD_OUT in path.parts and number % 4 == 0


def prepare(program, photos, work):
    """Fills `work/NAME` for each folder of photos, NAME being the folder's: `contexts.bin`, the JPEGs of all faces in
    their VARIANTS one after another; `places.npy`, [faces, VARIANTS + 1], where each begins and where the last ends; and
    `people.json`, the photo and the person of each face. Of every photo the largest face is taken, if the detector is
    sure of it (> .9) and it was painted. A folder that is finished is left as it is."""
    for folder in photos:
        target = work / folder.name
        if not (target / "people.json").exists():
            prepare_folder(program, folder, target)


def prepare_folder(program, folder, target):
    target.mkdir(parents=True, exist_ok=True)
    masked = target / "masked"
    if not masked.exists():
        command = [program, "mask", "--seed", "101", "--mask-copies", COPIES, "--min-face-size", SMALLEST]
        command += ["--output", masked, folder]
        subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=False)
    found = target / "faces.jsonl"
    if not found.exists():
        command = [program, "identify", "--json", "--min-face-size", str(SMALLEST), str(folder)]
        found.write_text(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout)
    jobs = []
    for line in map(json.loads, found.read_text().splitlines()):
        path = pathlib.Path(line["path"])
        if not line["faces"] or held_out(path):
            continue
        stem = masked / path.relative_to(folder).with_suffix("")
        copies = [c for c in (stem.with_name(f"{stem.name}-{kind}.png") for kind in KINDS) if c.exists()]
        face = max(line["faces"], key=lambda f: f["w"] * f["h"])
        if face["confidence"] > 0.9 and len(copies) == COPIES:
            jobs.append((len(jobs), path, face, copies))
    places = numpy.zeros((len(jobs), VARIANTS + 1), numpy.int64)
    with multiprocessing.get_context("spawn").Pool(1) as workers, open(target / "contexts.bin", "wb") as file:
        for number, face in enumerate(workers.imap(contexts, jobs, chunksize=32)):
            places[number] = file.tell() + numpy.cumsum([0, *map(len, face)])
            file.write(b"".join(face))
    numpy.save(target / "places.npy", places)
    facts = [{"photo": str(path), "person": person(folder, path)} for _, path, _, _ in jobs]
    (target / "people.json").write_text(json.dumps(facts))
    print(f"{folder.name}: {len(jobs)} faces", flush=True)


def person(folder, path):
    """The folder of a photo with the name of its set; None where nobody has told the people apart."""
    name = path.relative_to(folder).parent
    return None if name.name == NOBODY else str(folder.name / name)


def contexts(job):
    """A face in its VARIANTS, each as a JPEG."""
    number, path, face, copies = job
    random = numpy.random.default_rng(number)
    rgb, rect = simple.read(path), simple.box(face)
    out = [simple.cut(image, rect, CROP * CONTEXT, CONTEXT_SIDE) for image in (rgb, *map(simple.read, copies))]
    piece, rect, points = simple.canvas(rgb, rect, numpy.array(face["landmarks"]), 0.6)
    draw = simple.unmasked if random.random() < THINGS else simple.paint
    out.append(simple.cut(draw(piece, rect, points, random), rect, CROP * CONTEXT, CONTEXT_SIDE))
    full = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return [cv2.imencode(".jpg", image, full)[1].tobytes() for image in out]


class Contexts:
    """All prepared faces below a folder, of one set, or of all but those that are left out by name. `people`: [faces], the number of the
    person of each; one of whom nothing is known is a person with a single photo. `sets`: [faces], names."""

    def __init__(self, work, leave_out=(), only=None):
        self.files, self.places, people, sets = [], [], [], []
        for facts in sorted(work.glob("*/people.json")):
            name = facts.parent.name
            if name in leave_out or only not in (None, name):
                continue
            places = numpy.load(facts.with_name("places.npy"))
            self.places.append(numpy.concatenate([numpy.full((len(places), 1), len(self.files)), places], 1))
            self.files.append(numpy.memmap(facts.with_name("contexts.bin"), numpy.uint8, "r"))
            people += [f["person"] or f["photo"] for f in json.loads(facts.read_text())]
            sets += [name] * len(places)
        if not people:
            raise SystemExit(f"{work}: expected folders with people.json, as `embedder.py prepare` makes them, found none")
        self.places = numpy.concatenate(self.places)
        self.people = numpy.unique(people, return_inverse=True)[1]
        self.sets = numpy.array(sets)

    def __len__(self):
        return len(self.people)

    def __getitem__(self, key):
        """A face, a variant: [CONTEXT_SIDE, CONTEXT_SIDE, 3], uint8, RGB."""
        face, variant = key
        number, first, last = self.places[face, [0, 1 + variant, 2 + variant]]
        # Written as if RGB were BGR, and read so.
        return cv2.imdecode(self.files[number][first:last], cv2.IMREAD_COLOR)


def plain(context):
    """The crop as src/embed/mod.rs cuts it, from a context: [SIDE, SIDE, 3], uint8."""
    edge = (CONTEXT_SIDE - CONTEXT_SIDE / CONTEXT) / 2
    return warp(context, numpy.eye(2), numpy.zeros(2), CONTEXT_SIDE - 2 * edge)


def warp(context, turn, shift, side):
    """A square of `side` pixels of the context about its middle plus `shift`, turned and stretched, as a crop."""
    matrix = numpy.zeros((2, 3))
    matrix[:, :2] = turn * side / SIDE
    matrix[:, 2] = CONTEXT_SIDE / 2 - 0.5 + shift - matrix[:, :2].sum(1) * (SIDE / 2 - 0.5)
    return cv2.warpAffine(context, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def seen(context, random):
    """A crop as the detector might give it: the box off by some per cent, turned, mirrored, partly outside of the
    photo. [SIDE, SIDE, 3], uint8."""
    side = CONTEXT_SIDE / CONTEXT
    angle = random.normal(0, 0.06)
    turn = numpy.array([[numpy.cos(angle), -numpy.sin(angle)], [numpy.sin(angle), numpy.cos(angle)]])
    turn *= (random.uniform(0.9, 1.1) * random.uniform(0.95, 1.05, 2))[:, None]
    if random.random() < 0.12:
        context = cut_off(context, (CONTEXT_SIDE - side) / 2, side, random)
    x = warp(context, turn, random.normal(0, [0.02, 0.025]) * side, side)
    return x[:, ::-1] if random.random() < 0.5 else x


def vary(x, random):
    """A crop as a camera might give it: small, blurred, compressed, in other light, something before it."""
    if random.random() < 0.35:
        few = int(numpy.exp(random.uniform(numpy.log(28), numpy.log(112))))
        small = cv2.resize(x, (few, few), interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, (SIDE, SIDE), interpolation=random.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    if random.random() < 0.15:
        x = cv2.GaussianBlur(x, (0, 0), random.uniform(0.5, 2.5))
    if random.random() < 0.08:
        length = int(random.integers(3, 10))
        x = cv2.blur(x, (length, 1) if random.random() < 0.5 else (1, length))
    if random.random() < 0.3:
        quality = int(random.uniform(15, 85))
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
    if random.random() < 0.6:
        x = relit(numpy.ascontiguousarray(x), random)
    if random.random() < 0.12:
        noise = random.integers(-128, 128, x.shape, numpy.int8) * (random.uniform(1, 12) / 74)
        x = numpy.clip(x + noise, 0, 255).astype(numpy.uint8)
    if random.random() < 0.12:
        x = x.copy()
        size = random.integers(SIDE // 12, SIDE // 3, 2)
        at = random.integers(0, SIDE - size.min(), 2)
        x[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = random.integers(0, 256, 3)
    return x


def cut_off(context, edge, side, random):
    """The context with one to three of its edges outside of the photo."""
    context = context.copy()
    for border in set(random.integers(0, 4, random.integers(1, 4)).tolist()):
        numpy.rot90(context, border)[: int(edge + random.uniform(-0.05, 0.14) * side)] = 0
    return context


def relit(x, random):
    """Other exposure, contrast, colour and light from a side."""
    ramp = numpy.linspace(0, 1, 256)[:, None] ** numpy.exp(random.normal(0, 0.25))
    ramp = (ramp - 0.45) * random.uniform(0.65, 1.3) + 0.45 * random.uniform(0.75, 1.25)
    ramp = ramp * numpy.exp(random.normal(0, 0.06, 3))
    x = cv2.LUT(x, numpy.clip(ramp * 255, 0, 255).astype(numpy.uint8)[None])
    if random.random() < 0.4:
        grey = cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        much = random.uniform(0.2, 1.4) if random.random() < 0.7 else 0.0
        x = cv2.addWeighted(x, much, grey, 1 - much, 0)
    if random.random() < 0.2:
        across, down = random.normal(0, 0.25, 2)
        line = numpy.linspace(-1, 1, SIDE, dtype=numpy.float32)
        shade = numpy.clip(1 + across * line[None] + down * line[:, None], 0.25, 1.8)
        x = numpy.clip(x * shade[..., None], 0, 255).astype(numpy.uint8)
    return x


def tensor(crops):
    """What FaceNet takes: [N, SIDE, SIDE, 3] of (x - 127.5) / 128."""
    return (crops.astype(numpy.float32) - 127.5) / 128
