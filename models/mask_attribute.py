#!/usr/bin/env python3
"""Learn the network that sees masks (src/embed/mask.rs), and measure it.

    mask_attribute.py train --program mfr-enroll --work DIR PHOTOS...
    mask_attribute.py measure --program mfr-enroll [--masked DIR...] [--bare DIR...] [--boxes DIR...]

How to run (CPython 3.11): python3 -m venv venv && venv/bin/pip install -r mask_attribute.txt

`train` takes folders of photos of faces without masks: 9,703 of LFW, CelebA and WIDER FACE for the weights in the
tree. Every face is seen seven times over: bare; twice with a mask by `mfr-enroll mask`; twice with one by the simple
painter below, whose colours, shapes and light vary beyond what is worn; twice with something that is no mask before
it (hand, arm, book, beard, microphone, dark glasses, scarf, a mask under the chin). Turned faces are seen bare three
times more. Of each epoch's crops none is like another: shifted, turned, cut off by the edge of the photo, small,
blurred, compressed, in other light. No photo of a real mask is learned from. The network is written to mask.onnx with
eight-bit weights; the numbers that a test compares are printed.

`measure` asks the built program about faces of which it is known whether they wear a mask: the largest of each photo
of a folder, or, with --boxes, those of DIR/boxes.json ({photo: [[x1, y1, x2, y2, class], …]}) that are 40 pixels or
more on the shorter side and overlap with a face that was found by .5 or more.
"""

import argparse
import functools
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32  # what the network looks at, as in src/embed/mask.rs
CHANNELS = (12, 24, 32)  # of the three convolutions
CROP = 1.32  # the crop in face boxes, as in src/embed/mod.rs
CONTEXT, CONTEXT_SIDE = 2.0, 128  # what is kept of a photo: more than the crop, to shift it
LEAST_CONTRAST = 10.0
EPOCHS, DISTINCT, BATCH, RATE = 24, 8, 128, 4e-3
VARIANTS = 7
MASKED = np.array([0, 1, 1, 1, 1, 0, 0])

cv2.setNumThreads(1)


# ---------------------------------------------------------------------------------------- photos


def read(path):
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def identify(program, *paths, smallest=40):
    """What `mfr-enroll identify --json` says of photos, one object each."""
    command = [program, "identify", "--json", "--min-face-size", str(smallest), *map(str, paths)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return [json.loads(line) for line in lines.splitlines()]


def box(face):
    return np.array([face["x"], face["y"], face["w"], face["h"]])


def overlap(a, b):
    """Intersection over union of x, y, width, height."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    both = np.prod(np.maximum(high - low, 0))
    return both / (a[2] * a[3] + b[2] * b[3] - both + 1e-9)


def cut(rgb, rect, scale, side):
    """The box grown by `scale`, squeezed to a square, black outside of the photo."""
    x, y = rect[:2] - rect[2:] * (scale - 1) / 2
    w, h = rect[2:] * scale
    fine = side * max(1, int(np.ceil(max(w, h) / side)))
    matrix = np.array([[fine / w, 0, -x * fine / w], [0, fine / h, -y * fine / h]])
    matrix[:, 2] += (np.array([fine / w, fine / h]) - 1) / 2
    out = cv2.warpAffine(rgb, matrix, (fine, fine), flags=cv2.INTER_LINEAR)
    return out if fine == side else cv2.resize(out, (side, side), interpolation=cv2.INTER_AREA)


# --------------------------------------------------------------------- things in front of a face


class Head:
    """Where things are on a face: `across` and `down` are unit vectors, `length` from eyes to mouth."""

    def __init__(self, rect, points):
        eyes, self.nose, self.mouth = points[:2], points[2], points[3:].mean(0)
        self.eyes, self.corners = eyes, points[3:]
        self.middle = eyes.mean(0)
        down = self.mouth - self.middle
        self.length = np.linalg.norm(down) + 1e-6
        self.down = down / self.length
        self.across = np.array([-self.down[1], self.down[0]])
        if self.across @ (eyes[1] - eyes[0]) < 0:
            self.across = -self.across
        self.between = np.linalg.norm(eyes[1] - eyes[0]) + 1e-6
        self.turn = (self.nose - self.middle) @ self.across
        self.half = max(rect[2] / 2, self.between * 0.95)

    def at(self, across, down, start=None):
        """So many half widths across and lengths down from the middle of the eyes."""
        start = self.middle if start is None else start
        return start + self.across * across * self.half + self.down * down * self.length


def curve(corners, steps=12):
    """A smooth closed line through points (Catmull and Rom)."""
    p1 = np.asarray(corners, float)
    p0, p2, p3 = (np.roll(p1, n, 0) for n in (1, -1, -2))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    line = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    return (line / 2).transpose(1, 0, 2).reshape(-1, 2)


def area(shape, outline, soft=0.6):
    """How much of each pixel lies inside."""
    alpha = np.zeros(shape[:2], np.float32)
    cv2.fillPoly(alpha, [np.round(np.asarray(outline) * 8).astype(np.int32)], 1.0, cv2.LINE_8, 3)
    return cv2.GaussianBlur(alpha, (0, 0), max(0.4, soft))


def line(shape, start, end, width):
    alpha = np.zeros(shape[:2], np.float32)
    ends = [tuple(np.round(p * 8).astype(int).tolist()) for p in (start, end)]
    cv2.line(alpha, *ends, 1.0, max(1, int(width)), cv2.LINE_AA, 3)
    return cv2.GaussianBlur(alpha, (0, 0), 0.5)


def blend(rgb, alpha, colour):
    return rgb + (colour - rgb) * alpha[..., None]


# White, blue, green, black, grey, pink, red, navy, olive, beige, brown; the usual ones more often.
USUAL = [(245, 245, 245), (225, 228, 232), (170, 205, 235), (120, 175, 215), (170, 215, 210), (20, 20, 22)]
OTHERS = [(90, 150, 200), (35, 35, 45), (60, 60, 65), (120, 120, 125), (235, 190, 200), (200, 40, 50)]
OTHERS += [(30, 40, 90), (60, 90, 60), (190, 170, 140), (110, 70, 50)]


def colour(random, skin):
    kind = random.random()
    if kind < 0.62:
        table = USUAL if random.random() < 0.65 else OTHERS
        rgb = np.array(table[random.integers(len(table))]) + random.normal(0, 10, 3)
    elif kind < 0.9:
        hsv = np.uint8([[[random.integers(180), 255 * random.random(), random.uniform(25, 255)]]])
        rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    else:
        rgb = skin * random.uniform(0.6, 1.3) + random.normal(0, 15, 3)
    return np.clip(rgb, 0, 255)


def light(rgb, head):
    """The photo without detail, and the colour of the skin between the eyes and the nose."""
    soft = cv2.GaussianBlur(rgb, (0, 0), max(1, head.length * 0.1)).astype(np.float32)
    x, y = np.clip((head.nose - head.down * head.length * 0.3).astype(int), 0, [rgb.shape[1] - 1, rgb.shape[0] - 1])
    return soft, soft[y, x]


def outline(head, random, low):
    """The cut of a mask: where it begins and ends varies; `low` is one under the chin."""
    top = random.uniform(1.05, 1.4) if low else random.uniform(0.3, 0.72)
    bottom = random.uniform(0.55, 1.1) + (0.25 if low else 0)
    slope, bump = random.uniform(0, 0.4), random.uniform(0, 0.22) * (random.random() < 0.8)
    ear = min(top + slope + random.uniform(0.1, 0.3), 1.15)
    turn = np.clip(head.turn / head.between, -0.6, 0.6)
    middle = head.turn / head.half * random.uniform(0.6, 1)
    size = random.uniform(0.9, 1.15) * random.uniform(0.75, 1.05)
    upper, lower = [], []
    for side in (1, -1):
        # The side that is turned away is narrower.
        width = side * size * (1 - 0.9 * max(side * turn, 0))
        upper.append([head.at(middle + width * a, top + slope * b) for a, b in ((0.45, 0.25), (0.8, 0.5))])
        upper[-1].append(head.at(middle + width, ear))
        lower.append(
            [
                head.at(middle * c + width * a, bottom * b, head.mouth)
                for a, b, c in ((0.88, 0.35, 0.8), (0.5, 0.82, 0.9))
            ]
        )
    tip, chin = head.at(middle, top - bump), head.at(middle, bottom, head.mouth)
    corners = [tip, *upper[0], *lower[0], chin, *lower[1][::-1], *upper[1][::-1]]
    ears = [upper[0][-1], upper[1][-1]]
    return curve(np.array(corners) + random.normal(0, 0.012 * head.length, (12, 2))), ears, middle


def cloth(rgb, head, random, middle, base, skin):
    """Colour of every pixel as if the mask were everywhere: folds, patterns, seams, a bulge."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u = ((x - head.middle[0]) * head.across[0] + (y - head.middle[1]) * head.across[1]) / head.half - middle
    v = ((x - head.middle[0]) * head.down[0] + (y - head.middle[1]) * head.down[1]) / head.length
    layer = np.ones(rgb.shape, np.float32) * base
    kind = random.random()
    if kind < 0.45:
        waves = np.sin(2 * np.pi * random.integers(2, 6) * v + random.uniform(0, 6) + 0.4 * u * u)
        layer *= (1 + random.uniform(0.03, 0.16) * waves)[..., None]
    elif kind < 0.75:
        pattern, often = random.random(), random.uniform(2, 9)
        if pattern < 0.3:
            angle = random.uniform(0, np.pi)
            spots = np.sin(2 * np.pi * often * (u * np.cos(angle) + v * np.sin(angle))) > 0
        elif pattern < 0.5:
            spots = np.sin(2 * np.pi * often * u) * np.sin(2 * np.pi * often * v) > random.uniform(0, 0.7)
        else:
            noise = random.normal(0, 1, (max(2, int(often * 2)),) * 2).astype(np.float32)
            spots = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) > random.uniform(0, 1)
        layer = np.where(spots[..., None], colour(random, skin), layer)
    if random.random() < 0.4:
        seam = random.uniform(0.03, 0.2) * random.choice([-1, 1]) * np.exp(-((u / random.uniform(0.01, 0.06)) ** 2))
        bulge = random.uniform(-0.25, 0.25) * np.clip(u * 4, -1, 1)
        layer *= ((1 - seam) * (1 + bulge))[..., None]
    layer *= np.clip(1 - random.uniform(0, 0.45) * 1.2 * u**2, 0.3, 1)[..., None]
    layer *= np.clip(1 - random.uniform(-0.15, 0.35) * (v - 0.9), 0.5, 1.25)[..., None]
    if random.random() < 0.5:
        creases = random.normal(0, 1, (height, width)).astype(np.float32)
        creases = cv2.GaussianBlur(creases, (0, 0), max(0.5, head.length * 0.06))
        layer *= (1 + random.uniform(0.02, 0.12) * creases / (creases.std() + 1e-6))[..., None]
    return layer + random.normal(0, random.uniform(0, 5), layer.shape)


def paint(rgb, rect, points, random, low=False):
    """A mask, drawn simply; `low` one that is worn under the chin."""
    head, shape = Head(rect, points), rgb.shape
    soft, skin = light(rgb, head)
    base = colour(random, skin)
    edge, ears, middle = outline(head, random, low)
    layer = cloth(rgb, head, random, middle, base, skin)
    grey, inside = soft.mean(-1), area(shape, edge)
    mean = (grey * inside).sum() / (inside.sum() + 1e-6)
    layer *= np.clip(1 + random.uniform(0.2, 1) * (grey / (mean + 1e-3) - 1), 0.35, 1.6)[..., None]
    layer *= np.clip(0.55 + 0.5 * mean / 140, 0.35, 1.15) ** random.uniform(0, 1)
    out = rgb.astype(np.float32)
    if random.random() < 0.25:
        centre = head.at(middle + random.uniform(-0.5, 0.5), -random.uniform(0, 0.2), head.mouth)
        layer = blend(
            layer, line(shape, centre, centre, head.length * random.uniform(0.2, 0.44)) * 0.9, colour(random, skin)
        )
    if random.random() < 0.6:
        tint = base * random.uniform(0.5, 1.1) if random.random() < 0.5 else np.full(3, random.uniform(50, 235))
        for side, ear in zip((1, -1), ears):
            end = head.at(middle + side * random.uniform(1.05, 1.3), random.uniform(-0.2, 0.4))
            out = blend(
                out, line(shape, ear, end, head.length * random.uniform(0.02, 0.07)) * 0.9, np.clip(tint, 0, 255)
            )
    if random.random() < 0.6:
        shadow = area(
            shape, edge + head.down * head.length * random.uniform(0, 0.06), head.length * random.uniform(0.03, 0.1)
        )
        out *= (1 - 0.5 * random.random() * shadow)[..., None]
    alpha = area(shape, edge, random.uniform(0.3, 1.2))
    if random.random() < 0.35:
        rim = np.clip(alpha * (1 - area(shape, edge, head.length * 0.05)) * 2, 0, 1)
        layer *= (1 + random.uniform(-0.4, 0.4) * rim)[..., None]
    return np.clip(blend(out, alpha, layer), 0, 255).astype(np.uint8)


def blob(centre, size, random, corners=8):
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    spokes = np.stack([np.cos(angles), np.sin(angles)], 1) * random.uniform(0.7, 1.2, (corners, 1))
    return curve(centre + size * spokes)


def bar(head, centre, direction, ends, width):
    """A bar through a point, from and to so many half widths along it."""
    normal = np.array([-direction[1], direction[0]]) * width
    start, end = (centre + direction * e * head.half for e in ends)
    return [start - normal, end - normal, end + normal, start + normal]


def arm_or_book(kind, head, shape, tint, skin, random):
    """Reaches beyond the face, as no mask does: where, its colour, what is printed on it."""
    if kind == "arm" and random.random() < 0.6:
        tint = skin * random.uniform(0.7, 1.15)
    centre = head.at(random.uniform(-0.6, 0.6), random.uniform(-0.1, 1), head.mouth)
    angle = random.normal(0, 0.5 if kind == "arm" else 0.2)
    along = head.across * np.cos(angle) + head.down * np.sin(angle)
    if kind == "arm":
        ends = np.array([-3 if random.random() < 0.6 else random.uniform(-1, 0.6), 3]) * random.choice([-1, 1])
        return area(shape, bar(head, centre, along, ends, head.length * random.uniform(0.25, 0.6))), tint, 0
    half, deep = random.uniform(0.5, 2), head.length * random.uniform(0.35, 1.5)
    alpha = area(shape, bar(head, centre + head.down * deep, along, (-half, half), deep))
    pages = random.normal(0, random.uniform(0, 60), (*random.integers(2, 9, 2), 3)).astype(np.float32)
    way = random.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR])
    return alpha, tint, cv2.resize(pages, shape[1::-1], interpolation=way)


def beard(head, shape, random):
    edge = [(-0.9, 0.15), (-0.55, -0.25), (0, -0.28), (0.55, -0.25), (0.9, 0.15), (0.5, 0.7), (0, 0.9), (-0.5, 0.7)]
    alpha = area(shape, curve([head.at(*p, head.mouth) for p in edge]), head.length * 0.06)
    lips = [head.corners[0], head.at(0, -0.1, head.mouth), head.corners[1], head.at(0, 0.12, head.mouth)]
    lips = area(shape, curve(lips), head.length * 0.03)
    alpha = np.clip(alpha - lips, 0, 1) * random.uniform(0.4, 0.95)
    hair = [(30, 25, 20), (80, 60, 45), (190, 190, 190), (110, 70, 40)]
    tint = np.array(hair[random.integers(4)]) * random.uniform(0.6, 1.2)
    return alpha, tint, random.normal(0, 25, shape[:2])[..., None]


def caption(head, shape, random):
    letters = np.zeros(shape[:2], np.uint8)
    place = tuple(head.at(-1.5, random.uniform(0.3, 1), head.mouth).astype(int).tolist())
    size, width = head.length / 40 * random.uniform(0.5, 1.2), max(1, int(head.length / 20))
    cv2.putText(letters, "NEWS 24", place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, width, cv2.LINE_AA)
    return letters.astype(np.float32) / 255


def unmasked(rgb, rect, points, random):
    """Something before a face that is no mask."""
    kinds = [
        "low",
        "glasses",
        "microphone",
        "fingers",
        "fist",
        "arm",
        "book",
        "scarf",
        "blob",
        "hat",
        "beard",
        "text",
    ]
    kind = random.choice(kinds, p=[0.1, 0.1, 0.1, 0.1, 0.09, 0.13, 0.1, 0.08, 0.06, 0.04, 0.08, 0.02])
    if kind == "low":
        return paint(rgb, rect, points, random, low=True)
    head, shape = Head(rect, points), rgb.shape
    soft, skin = light(rgb, head)
    length = head.length
    tint = skin * random.uniform(0.7, 1.15) if kind in ("fingers", "fist") else colour(random, skin)
    alpha = np.zeros(shape[:2], np.float32)
    noise = random.normal(0, 6, shape)
    if kind == "glasses":
        tint = random.uniform(10, 80, 3)
        for eye in head.eyes:
            alpha = np.maximum(alpha, area(shape, blob(eye, head.between * random.uniform(0.3, 0.45), random)))
        alpha *= random.uniform(0.5, 1)
    elif kind == "microphone":
        tint = np.full(3, random.uniform(5, 90)) if random.random() < 0.7 else tint
        ball = head.at(random.uniform(-0.5, 0.5), random.uniform(0.2, 0.8), head.mouth)
        size = length * random.uniform(0.15, 0.35)
        alpha = np.maximum(
            line(shape, ball, ball, size * 2), line(shape, ball, head.at(random.normal(0, 0.6), 2, ball), size * 1.2)
        )
    elif kind == "fingers":
        start = head.at(random.choice([-1, 1]) * random.uniform(0.2, 0.9), random.uniform(0.2, 0.8), head.mouth)
        angle = random.uniform(0, 2 * np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        for finger in range(random.integers(1, 5)):
            root = start + np.array([-along[1], along[0]]) * length * 0.2 * finger
            tip = root + along * length * random.uniform(0.6, 1.2)
            alpha = np.maximum(alpha, line(shape, root, tip, length * 0.2) * random.uniform(0.85, 1))
    elif kind == "fist":
        centre = head.at(random.uniform(-0.4, 0.4), random.uniform(-0.05, 0.7), head.mouth)
        wrist = line(shape, centre, head.at(random.normal(0, 0.8), 2.5, centre), length * 0.5)
        alpha = np.maximum(area(shape, blob(centre, length * random.uniform(0.25, 0.5), random), 0.8), wrist)
    elif kind in ("arm", "book"):
        alpha, tint, pages = arm_or_book(kind, head, shape, tint, skin, random)
        noise += pages
    elif kind == "scarf":
        top = random.uniform(0.65, 1.05)
        edge = [(-1.5, top), (0, top + random.uniform(0, 0.2)), (1.5, top), (2, 3), (-2, 3)]
        alpha = area(shape, curve([head.at(*p, head.mouth) for p in edge]), 0.8)
    elif kind == "hat":
        brim = -random.uniform(0.3, 0.8)
        edge = [(-1.3, brim), (0, brim - 0.1), (1.3, brim), (1.2, -2.5), (-1.2, -2.5)]
        alpha = area(shape, curve([head.at(*p) for p in edge]), 0.7)
    elif kind == "beard":
        alpha, tint, noise = beard(head, shape, random)
    elif kind == "blob":
        centre = head.at(random.uniform(-1.1, 1.1), random.uniform(-0.9, 0.5))
        if random.random() < 0.4:
            centre = head.at(random.choice([-1, 1]) * random.uniform(0.6, 1.2), random.uniform(-0.3, 0.8), head.mouth)
        alpha = area(shape, blob(centre, length * random.uniform(0.2, 0.55), random, random.integers(4, 8)))
    else:
        alpha = caption(head, shape, random)
    grey = soft.mean(-1, keepdims=True)
    layer = np.clip(tint * np.clip(0.6 + 0.4 * grey / (grey.mean() + 1), 0.5, 1.4) + noise, 0, 255)
    return np.clip(blend(rgb.astype(np.float32), alpha, layer), 0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------------- training set


def faces_of(program, folders, work):
    """Photo, box, landmarks and the paths of the painted copies of every face."""
    lines = identify(program, *folders, smallest=36)
    masked = work / "masked"
    if not masked.exists():
        command = [program, "mask", "--output", masked, "--mask-copies", "2", "--min-face-size", "36", "--seed", "7"]
        subprocess.run([*map(str, command), *map(str, folders)], stdout=subprocess.DEVNULL, check=False)
    copies = {}
    for painted in identify(program, masked, smallest=36):
        copies.setdefault(painted["path"].rsplit("-", 1)[0], []).append(painted)
    out = []
    for photo in lines:
        path = Path(photo["path"])
        folder = next(f for f in folders if path.is_relative_to(f))
        painted = copies.get(str(masked / path.relative_to(folder).with_suffix("")), [])
        for face in photo["faces"]:
            if face["confidence"] > 0.9 and min(face["w"], face["h"]) >= 36 and len(painted) >= 2:
                out.append((str(path), face, painted[:2]))
    return out


def canvas(rgb, rect, points, margin):
    """What is round the face, `margin` box sides of it, and that not too small, to be drawn on: with its box and
    landmarks."""
    margin = margin * rect[2:].max()
    low = np.maximum(rect[:2] - margin, 0).astype(int)
    high = (rect[:2] + rect[2:] + margin).astype(int)
    piece = rgb[low[1] : high[1], low[0] : high[0]]
    zoom = 2 if max(piece.shape) < 120 else 1
    piece = cv2.resize(piece, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    return piece, np.concatenate([rect[:2] - low, rect[2:]]) * zoom, (points - low) * zoom


def contexts(number_and_face):
    """A face in its VARIANTS, each with what is round it, in the order of MASKED."""
    number, (path, face, painted) = number_and_face
    random = np.random.default_rng(number)
    rect, points = box(face), np.array(face["landmarks"])
    rgb = read(path)
    out = [cut(rgb, rect, CONTEXT, CONTEXT_SIDE)]
    for copy in painted:
        # Where the detector sees a masked face differs from where it sees a bare one.
        near = max((box(f) for f in copy["faces"]), key=lambda b: overlap(rect, b), default=rect)
        seen = near if overlap(rect, near) > 0.4 else rect
        out.append(cut(read(copy["path"]), seen, CONTEXT, CONTEXT_SIDE))
    piece, rect, points = canvas(rgb, rect, points, 0.9)
    for draw in (paint, paint, unmasked, unmasked):
        out.append(cut(draw(piece, rect, points, random), rect, CONTEXT, CONTEXT_SIDE))
    return np.array(out)


def vary(context, random):
    """A crop of SIDE pixels as a camera might give it."""
    fine, box_side = SIDE * 3, CONTEXT_SIDE / CONTEXT
    side = box_side * CROP
    scale = random.uniform(0.9, 1.12) * random.uniform(0.95, 1.05, 2)
    centre = CONTEXT_SIDE / 2 + random.normal(0, [2.2, 2.6])
    angle = random.normal(0, 0.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = turn * scale[:, None] * side / fine
    matrix[:, 2] = centre - matrix[:, :2].sum(1) * (fine / 2 - 0.5)
    if random.random() < 0.25:
        context = context.copy()
        edge = int((CONTEXT_SIDE - side) / 2 + random.uniform(-2, 0.25 * side))
        for border in set(random.integers(0, 4, random.integers(1, 5)).tolist()):
            np.rot90(context, border)[:edge] = 0
    x = cv2.warpAffine(context, matrix, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    if random.random() < 0.5:
        x = x[:, ::-1]
    if random.random() < 0.4:
        few = int(random.uniform(18, 64))
        x = cv2.resize(
            cv2.resize(x, (few, few), interpolation=cv2.INTER_AREA), (fine, fine), interpolation=cv2.INTER_LINEAR
        )
    if random.random() < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), random.uniform(0.5, 2.5))
    if random.random() < 0.1:
        length = int(random.integers(3, 10))
        x = cv2.blur(x, (length, 1) if random.random() < 0.5 else (1, length))
    if random.random() < 0.3:
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(random.uniform(12, 80))])[1], 1)
    x = x.astype(np.float32)
    if random.random() < 0.9:
        x = 255 * (x / 255) ** np.exp(random.normal(0, 0.3))
        mean = x.mean()
        x = (x - mean) * random.uniform(0.6, 1.4) + mean * random.uniform(0.7, 1.3)
        grey = x.mean(-1, keepdims=True)
        x = grey + (x - grey) * (random.uniform(0.2, 1.5) if random.random() < 0.9 else 0)
        x = x * np.exp(random.normal(0, 0.07, 3))
    if random.random() < 0.3:
        x = x + random.normal(0, random.uniform(1, 14), x.shape)
    if random.random() < 0.15:
        down, across = np.mgrid[-1 : 1 : fine * 1j, -1 : 1 : fine * 1j] * random.normal(0, 1, (2, 1, 1))
        x = x * np.clip(1 + 0.4 * random.random() * (down + across), 0.2, 1.8)[..., None]
    if random.random() < 0.25:
        size = random.integers(fine // 10, fine // 3, 2)
        at = random.integers(0, fine - size.min(), 2)
        x[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = random.uniform(0, 255, 3)
    return np.clip(x, 0, 255).reshape(SIDE, 3, SIDE, 3, 3).mean((1, 3)).astype(np.uint8)


_contexts = None


def load_contexts(path):
    global _contexts
    _contexts = np.load(path, mmap_mode="r")


def varied(epoch, number, turned):
    """Every variant of a face once, a turned one bare three times more."""
    random = np.random.default_rng((epoch, number))
    face = _contexts[number]
    return np.array([vary(face[v], random) for v in [*range(VARIANTS), *([0, 0, 0] if turned else [])]])


# ------------------------------------------------------------------------------------ the network


def standardise(x):
    import jax.numpy as jnp

    x = jnp.asarray(x, jnp.float32)
    x = x - x.mean((1, 2, 3), keepdims=True)
    return x / jnp.maximum(jnp.sqrt((x**2).mean((1, 2, 3), keepdims=True)), LEAST_CONTRAST)


def network(layers, x, drop=None):
    """[n, SIDE, SIDE, 3] of 0…255 to log-odds [n]."""
    import jax

    x = standardise(x)
    for weights, biases in layers[:-1]:
        x = jax.lax.conv_general_dilated(
            x, weights, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + biases)
    x = x.reshape(len(x), -1)
    if drop is not None:
        x = x * jax.random.bernoulli(drop, 0.8, x.shape) / 0.8
    weights, biases = layers[-1]
    return (x @ weights + biases)[:, 0]


def initial(random):
    layers, inputs = [], 3
    for outputs in CHANNELS:
        spread = np.sqrt(2 / (9 * inputs))
        layers.append(
            [random.normal(0, spread, (3, 3, inputs, outputs)).astype(np.float32), np.zeros(outputs, np.float32)]
        )
        inputs = outputs
    cells = (SIDE >> len(CHANNELS)) ** 2 * inputs
    layers.append([random.normal(0, np.sqrt(0.1 / cells), (cells, 1)).astype(np.float32), np.zeros(1, np.float32)])
    return layers


def learn(epochs, steps):
    """The layers, from a function that gives crops and labels of an epoch."""
    import jax
    import optax

    def loss(layers, x, y, key):
        # Labels are not trusted to the last: .02 and .98.
        return optax.sigmoid_binary_cross_entropy(network(layers, x, key), y * 0.96 + 0.02).mean()

    layers = jax.tree.map(jax.numpy.asarray, initial(np.random.default_rng(0)))
    optimiser = optax.adamw(optax.cosine_onecycle_schedule(steps, RATE, 0.15), weight_decay=0.01)
    state = optimiser.init(layers)

    @jax.jit
    def step(layers, state, x, y, key):
        value, gradient = jax.value_and_grad(loss)(layers, x, y, key)
        updates, state = optimiser.update(gradient, state, layers)
        return optax.apply_updates(layers, updates), state, value

    key = jax.random.PRNGKey(0)
    for epoch in range(EPOCHS):
        x, y = epochs(epoch)
        order = np.random.default_rng(epoch).permutation(len(x))
        losses = []
        for start in range(0, len(x) - BATCH + 1, BATCH):
            some = order[start : start + BATCH]
            key, drop = jax.random.split(key)
            layers, state, value = step(layers, state, x[some], y[some].astype(np.float32), drop)
            losses.append(float(value))
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    return [[np.asarray(part) for part in layer] for layer in layers]


def quantised(layers):
    """Eight-bit weights with a scale for each output."""
    out = []
    for weights, biases in layers:
        flat = weights.reshape(-1, weights.shape[-1])
        scales = np.maximum(np.abs(flat).max(0), 1e-9).astype(np.float32) / 127
        out.append((np.round(flat / scales).astype(np.int8), scales.astype(np.float32), biases.astype(np.float32)))
    return out


def calibrated(layers, crops, masked):
    """The network with its log-odds scaled so that they fit crops it has not learned from."""
    odds = np.asarray(network(layers, crops), np.float64) * np.where(masked, 1, -1)
    scales = np.linspace(0.3, 3, 271)
    best = scales[np.argmin([np.logaddexp(0, -odds * s).mean() for s in scales])]
    print(f"held out: {np.mean(odds > 0):.4f} of {len(odds)} right; log-odds × {best:.2f}")
    return [*layers[:-1], [part * np.float32(best) for part in layers[-1]]]


def mask_onnx(quantised_layers):
    """The network as an ONNX file: weights in eight bits behind DequantizeLinear, biases in float32."""
    *convolutions, (dense, scale, bias) = quantised_layers
    nodes, tensors = [], []

    def tensor(name, values):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def dequantised(name, values, scales, **axis):
        inputs = [
            tensor(f"{name}_quantized", values),
            tensor(f"{name}_scale", scales),
            tensor(f"{name}_zero_point", np.zeros_like(scales, np.int8)),
        ]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **axis))
        return name

    nodes.append(helper.make_node("Transpose", ["image"], ["image.nchw"], perm=[0, 3, 1, 2]))
    last, channels, side = "image.nchw", 3, SIDE
    for n, (weights, scales, biases) in enumerate(convolutions, 1):
        # [rows, columns, in, out] to [out, in, rows, columns]
        kernel = weights.reshape(3, 3, channels, -1).transpose(3, 2, 0, 1)
        name = dequantised(f"conv{n}.weight", kernel, scales, axis=0)
        # As SAME padding with stride 2 would have it before the first pixel: what the network was trained with.
        nodes.append(helper.make_node(
            "Conv", [last, name, tensor(f"conv{n}.bias", biases)], [f"conv{n}"],
            kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]))
        nodes.append(helper.make_node("Relu", [f"conv{n}"], [f"relu{n}"]))
        last, channels, side = f"relu{n}", len(biases), side // 2
    nodes.append(helper.make_node("Flatten", [last], ["features"]))
    # [rows, columns, in] to [in, rows, columns]
    rows = dense.reshape(side, side, channels).transpose(2, 0, 1).reshape(-1, 1)
    # In float32: ONNX Runtime makes an approximation of a Gemm behind DequantizeLinear.
    name = tensor("dense.weight", (rows * scale).astype(np.float32))
    nodes.append(helper.make_node("Gemm", ["features", name, tensor("dense.bias", bias)], ["log_odds"]))
    graph = helper.make_graph(
        nodes, "mask",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("log_odds", TensorProto.FLOAT, ["N", 1])],
        tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
        producer_name="gst-plugin-mfr models/mask_attribute.py")
    helper.set_model_props(model, {
        "model": "whether a face wears a mask",
        "license": "MIT",
        "preprocessing": "FaceNet's crop, RGB, means of 5x5 pixels, mean 0 and standard deviation 1 of the whole (at least 10/128)",
        "outputs": "log_odds: [N,1], above 0 with a mask",
    })
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def golden(layers):
    """Log-odds of two patterns, whole numbers from whole numbers, with the weights as they are written."""
    y, x = np.mgrid[:160, :160]
    ring = ((x - 80) ** 2 + (y - 80) ** 2) // 40
    first = np.stack([x * 3 + y, x * y // 8, ring], -1) % 256
    second = np.where((y > 90)[..., None], [200, 220, 240], [150, 110, 90]) - (ring // 8)[..., None]
    crops = np.stack([first, second % 256]).astype(np.float32)
    small = crops.reshape(2, SIDE, 160 // SIDE, SIDE, 160 // SIDE, 3).mean((2, 4))
    written = []
    for (weights, scales, biases), (shape, _) in zip(quantised(layers), layers):
        written.append([(weights * scales).reshape(shape.shape).astype(np.float32), biases])
    return np.asarray(network(written, small)).tolist()


def train(options):
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    faces = faces_of(options.program, [p.absolute() for p in options.photos], work)
    print(f"{len(faces)} faces", flush=True)
    pool = multiprocessing.get_context("spawn").Pool
    if not (work / "contexts.npy").exists():
        with pool() as workers:
            np.save(work / "contexts.npy", np.array(workers.map(contexts, list(enumerate(faces)), chunksize=64)))

    points = np.array([face["landmarks"] for _, face, _ in faces])
    aside = points[:, :2, 0].mean(1) - points[:, 2, 0]
    turned = np.abs(aside) > 0.25 * np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    # People follow one another: whole stretches are held out.
    held_out = np.arange(len(faces)) // 50 % 10 == 0
    seen = np.where(~held_out)[0]
    labels = np.concatenate([np.append(MASKED, [0, 0, 0] if turned[n] else []) for n in seen])

    with pool(initializer=load_contexts, initargs=(work / "contexts.npy",)) as workers:

        @functools.cache
        def crops(epoch):
            jobs = [(epoch, int(n), bool(turned[n])) for n in seen]
            return np.concatenate(workers.starmap(varied, jobs, chunksize=64))

        def epochs(epoch):
            x = crops(epoch % DISTINCT)
            # Mirrored, they are as good as new.
            return (x[:, :, ::-1] if epoch // DISTINCT % 2 else x), labels

        layers = learn(epochs, EPOCHS * (len(labels) // BATCH))

    load_contexts(work / "contexts.npy")
    side = int(CONTEXT_SIDE / CONTEXT * CROP)
    start = (CONTEXT_SIDE - side) // 2
    plain = _contexts[held_out][:, :, start : start + side, start : start + side].reshape(-1, side, side, 3)
    plain = np.array([cv2.resize(c, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for c in plain])
    layers = calibrated(layers, plain, np.tile(MASKED, held_out.sum()))
    (Path(__file__).parent / "mask.onnx").write_bytes(mask_onnx(quantised(layers)))
    print("golden", golden(layers))


# ---------------------------------------------------------------------------------------- measure


def judged(face):
    """Whether the program sees a mask, and how sure it is."""
    return face["mask"]["label"] == "with_mask", face["mask"]["confidence"]


def folder_faces(program, folder):
    found = identify(program, folder, smallest=20)
    faces = [max(photo["faces"], key=lambda f: f["w"] * f["h"]) for photo in found if photo["faces"]]
    return [judged(f) for f in faces], len(found) - len(faces)


def boxed_faces(program, folder):
    """By class: what the program sees in faces of that class."""
    wanted, out = json.loads((folder / "boxes.json").read_text()), {}
    for photo in identify(program, folder / "images", smallest=20):
        boxes = [b for b in wanted[Path(photo["path"]).name] if min(b[2] - b[0], b[3] - b[1]) >= 40]
        used = set()
        for face in photo["faces"]:
            rects = [np.array([b[0], b[1], b[2] - b[0], b[3] - b[1]]) for b in boxes]
            best = max(range(len(rects)), key=lambda n: overlap(box(face), rects[n]), default=None)
            if best is not None and best not in used and overlap(box(face), rects[best]) >= 0.5:
                used.add(best)
                out.setdefault(boxes[best][4], []).append(judged(face))
    return out


def say(name, masked, seen):
    """A line: how many of these faces, all of which wear a mask or none, are seen as such."""
    right = np.array([m == masked for m, _ in seen])
    sure = np.array([c for _, c in seen])
    print(f"{name}: {right.sum()} of {len(right)} right ({right.mean():.4f}), mean confidence {sure.mean():.3f}")
    return right, sure


def measure(options):
    tables = []
    for masked, folders in ((True, options.masked), (False, options.bare)):
        for folder in folders:
            seen, missed = folder_faces(options.program, folder)
            tables.append(say(f"{folder} ({missed} without a face)", masked, seen))
    for folder in options.boxes:
        for kind, seen in sorted(boxed_faces(options.program, folder).items()):
            if kind in ("with_mask", "without_mask", "face"):
                tables.append(say(f"{folder} {kind}", kind == "with_mask", seen))
            else:
                print(f"{folder} {kind}: {sum(m for m, _ in seen)} of {len(seen)} called with_mask")
    right, sure = (np.concatenate(column) for column in zip(*tables))
    for low, high in ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 0.99), (0.99, 1)):
        some = (sure >= low) & (sure < high)
        if some.any():
            print(
                f"confidence {low} to {high}: {some.sum()} faces, {right[some].mean():.3f} right, said {sure[some].mean():.3f}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.add_argument("photos", nargs="+", type=Path)
    command.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder for what is made on the way, 6 GB; what is there is not made again",
    )
    command.set_defaults(run=train)
    other = commands.add_parser("measure")
    for name in ("--masked", "--bare", "--boxes"):
        other.add_argument(name, nargs="+", type=Path, default=[])
    other.set_defaults(run=measure)
    for each in (command, other):
        each.add_argument("--program", required=True, help="mfr-enroll, built")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(main())
