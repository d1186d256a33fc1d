"""Scenes to train MTCNN on, and the windows that its cascade cuts from them.

A scene is made twice over: `rgb`, with masks and other things before the faces, and `twin`, the same without. What the
published networks see in a window of the twin is what the trained ones are to see in that of `rgb`.

Coordinates are edges of pixels: a box covers x1…x2, y1…y2 and a pixel has the width 1. The cascade counts pixels from
1 and includes both ends (src/detect/boxes.rs): its corners are (x1 + 1, y1 + 1, x2, y2).
"""

import functools
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mask_attribute import Head, area, blend, blob, curve, line, paint, unmasked
from measure_detector import overlaps

SIDE = 448  # of a scene, in pixels
LEAST = 12  # pixels: smaller faces are neither right nor wrong
FACTOR = 0.709
FLIPPED = [1, 0, 2, 4, 3]  # the order of the landmarks in a mirror
MASKED = {"with_mask", "mask_worn_incorrectly", "mask_weared_incorrect"}  # classes of labelled faces
FACES = {"face", "without_mask"} | MASKED
COVERED, WORN = 1, 2  # something is before the face: put there, a real mask

cv2.setNumThreads(1)


# ---------------------------------------------------------------------------------------- photos


@functools.lru_cache(4000)
def read(path):
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class Photo:
    """A photo without masks, the copies with masks that were painted of it, and where its faces are.

    boxes [n, 4]; points [n, 5, 2], NaN where nobody knows; unsure [m, 4]: boxes of what may be a face; hidden [n]: WORN
    where the face wears a real mask, else 0.
    """

    def __init__(self, path, copies, boxes, points, unsure=(), worn=None):
        self.path, self.copies = path, copies
        self.boxes, self.points = boxes, points
        self.unsure = np.array(unsure, float).reshape(-1, 4)
        self.hidden = np.zeros(len(boxes), int) if worn is None else np.where(worn, WORN, 0)

    def faces(self):
        """Numbers of the faces that are large enough to be put elsewhere, and whole."""
        height, width = read(self.path).shape[:2]
        inside = (self.boxes[:, :2] > -2).all(1) & (self.boxes[:, 2:] < (width + 2, height + 2)).all(1)
        return np.flatnonzero(inside & ((self.boxes[:, 2:] - self.boxes[:, :2]).min(1) >= 32))


def photos_of(found, copies, labelled=None, more=None):
    """Photos from what the published networks find {path: (boxes, confidences, points)}, as measure_detector.detect
    gives it; copies {path: [path, …]}; labelled {file name: [[x1, y1, x2, y2, class], …]} where people drew boxes; more:
    as found, by networks that know masks: where a labelled face with one is, and what may be a face though nobody drew
    it."""
    out = []
    for path, (boxes, scores, points) in found.items():
        boxes = boxes - [1, 1, 0, 0]
        theirs, _, marks = (more or {}).get(path, (np.zeros((0, 4)), None, np.zeros((0, 5, 2))))
        theirs = theirs - [1, 1, 0, 0]
        if labelled is None:
            sure = scores > 0.9
            if sure.any():
                new = overlaps(theirs, boxes).max(1, initial=0) < 0.3
                unsure = np.concatenate([boxes[~sure], theirs[new]])
                out.append(Photo(path, copies.get(path, []), boxes[sure], points[sure], unsure))
            continue
        truth = np.array([b[:4] for b in labelled[Path(path).name]], float).reshape(-1, 4)
        kinds = [b[4] for b in labelled[Path(path).name]]
        face, worn = np.array([k in FACES for k in kinds], bool), np.array([k in MASKED for k in kinds], bool)
        known, where = np.full((len(truth), 5, 2), np.nan), truth.copy()
        for n in range(len(truth)):
            sources = [(boxes, points, 0.5), (theirs, marks, 0.4)]
            for some, other, least in sources[:: -1 if worn[n] else 1]:
                table = overlaps(truth[n : n + 1], some)[0]
                if len(some) and table.max() >= least:
                    where[n], known[n] = some[table.argmax()], other[table.argmax()]
                    break
        unsure = [truth[~face]]
        if more is not None:
            unsure += [b[overlaps(b, truth).max(1, initial=0) < 0.3] for b in (boxes, theirs)]
        unsure = np.concatenate(unsure)
        out.append(Photo(path, copies.get(path, []), where[face], known[face], unsure, worn[face]))
    return out


HAIR = np.array([(22, 20, 20), (35, 27, 22), (60, 42, 30), (95, 70, 48), (150, 125, 90), (165, 165, 165)], float)


def topped(rgb, rect, points, random):
    """A face with its upper part hidden too: hair down to the brows, a cap, a hood, spectacles, dark glasses."""
    head, shape = Head(rect, points), rgb.shape
    kind, out = random.choice(5, p=[0.3, 0.2, 0.15, 0.25, 0.1]), rgb.astype(np.float32)
    shade = np.clip(0.4 + 0.6 * cv2.GaussianBlur(out, (0, 0), max(1, head.length * 0.3)).mean(-1) / 110, 0.4, 1.5)
    tint = random.uniform(0, 255, 3) if random.random() < 0.5 else np.full(3, random.uniform(10, 240))
    if kind >= 3:
        ring = np.zeros(shape[:2], np.float32)
        size, width = head.between * random.uniform(0.3, 0.45), max(0.5, head.length * random.uniform(0.02, 0.08))
        for eye in head.eyes:
            outside = blob(eye, size, random)
            lens = area(shape, outside)
            if kind == 3:
                lens = np.clip(lens - area(shape, eye + (outside - eye) * max(1 - width / size * 2, 0.3)), 0, 1)
            ring = np.maximum(ring, lens)
        for side in (1, -1):
            ends = head.at(side * 0.75, 0), head.at(side * random.uniform(1.0, 1.2), random.uniform(-0.1, 0.1))
            ring = np.maximum(ring, line(shape, *ends, width))
        dark = random.uniform(5, 70, 3) if random.random() < 0.8 else tint
        return np.clip(blend(out, ring * random.uniform(0.6, 1), dark), 0, 255).astype(np.uint8)
    low, side = -random.uniform(0.12, 0.6), random.uniform(0.95, 1.25)
    down = random.uniform(-0.2, 1.6) if kind != 1 else low
    edge = [head.at(side * a, b) for a, b in ((-0.85, low + 0.05), (-0.3, low), (0.3, low), (0.85, low + 0.05))]
    edge += [head.at(side, down), head.at(side * 1.25, down), head.at(side * 1.25, -1.4), head.at(0.7 * side, -2.1)]
    edge += [head.at(-0.7 * side, -2.1), head.at(-side * 1.25, -1.4), head.at(-side * 1.25, down), head.at(-side, down)]
    edge = np.array(edge) + random.normal(0, (0.06 if kind == 0 else 0.02) * head.length, (12, 2))
    alpha = area(shape, curve(edge), head.length * random.uniform(0.01, 0.05))
    if kind == 0:
        tint = HAIR[random.integers(len(HAIR))] * random.uniform(0.6, 1.4)
        strands = cv2.resize(random.normal(0, 1, (4, 40)).astype(np.float32), shape[1::-1])
        alpha = np.clip(alpha * (1 + 0.35 * strands), 0, 1)
        layer = tint * shade[..., None] + 12 * strands[..., None] + random.normal(0, 6, shape)
    else:
        layer = tint * shade[..., None] + random.normal(0, random.uniform(1, 8), shape)
        if kind == 1:  # the brim and its shadow
            y = head.length * random.uniform(0.05, 0.25)
            shadow = area(shape, curve(edge + head.down * y), head.length * 0.08)
            out *= (1 - random.uniform(0.1, 0.5) * shadow)[..., None]
    return np.clip(blend(out, alpha, layer), 0, 255).astype(np.uint8)


def covered(photo, bare, number, random):
    """The bare photo with something before one of its faces, in the photo's own size."""
    box, points = photo.boxes[number], photo.points[number]
    margin = 0.7 * (box[2:] - box[:2]).max()
    low = np.maximum(box[:2] - margin, 0).astype(int)
    high = np.maximum(box[2:] + margin, 0).astype(int)
    here = slice(low[1], high[1]), slice(low[0], high[0])
    known = np.isfinite(points).all()
    out = bare.copy()
    rect = np.concatenate([box[:2] - low, box[2:] - box[:2]])
    kind = random.random()
    if known and photo.copies and kind < 0.68:
        out[here] = read(photo.copies[random.integers(len(photo.copies))])[here]
    elif known and max(out[here].shape) < 260 and kind < 0.85:
        out[here] = paint(out[here].copy(), rect, points - low, random)
    elif not known or max(out[here].shape) >= 260:
        return out
    if random.random() < 0.3 and max(out[here].shape) < 260:
        out[here] = topped(out[here].copy(), rect, points - low, random)
    if kind >= 0.85 or random.random() < 0.15:
        if max(out[here].shape) < 260:
            out[here] = unmasked(out[here].copy(), rect, points - low, random)
    return out


# ---------------------------------------------------------------------------------------- scenes


class Scene:
    """rgb and twin [h, w, 3] uint8; boxes [n, 4], points [n, 5, 2] (NaN: unknown); hidden [n]: COVERED or WORN if
    something is before it, else 0; unsure [m, 4]."""

    def __init__(self, rgb, twin, boxes, points, hidden, unsure):
        self.rgb, self.twin = rgb, twin
        self.boxes, self.points, self.hidden, self.unsure = boxes, points, hidden, unsure


def moved(points, matrix):
    """Points [..., 2] under an affine map [2, 3]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def moved_boxes(boxes, matrix):
    """Boxes [n, 4] under an affine map that turns little: the centre goes along, the sides only grow."""
    centre, size = moved((boxes[:, :2] + boxes[:, 2:]) / 2, matrix), boxes[:, 2:] - boxes[:, :2]
    size = size * np.linalg.norm(matrix[:, :2], axis=0)
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


def warped(rgb, matrix, width, height):
    """`rgb` under a map of pixel edges, without aliasing."""
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    matrix = matrix.copy()
    if scale < 0.7:
        less = max(1, round(rgb.shape[1] * scale * 1.2)), max(1, round(rgb.shape[0] * scale * 1.2))
        ratio = np.array([rgb.shape[1] / less[0], rgb.shape[0] / less[1]])
        rgb = cv2.resize(rgb, less, interpolation=cv2.INTER_AREA)
        matrix[:, :2] *= ratio
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_LINEAR)


def inside(boxes):
    """How much of each box [n, 4] lies in the scene."""
    both = np.maximum(np.minimum(boxes[:, 2:], SIDE) - np.maximum(boxes[:, :2], 0), 0).prod(1)
    return both / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-9)


def sort_faces(boxes, points, hidden, unsure):
    """Faces that are cut off or tiny become unsure; those out of sight are dropped."""
    seen, least = inside(boxes), (boxes[:, 2:] - boxes[:, :2]).min(1)
    good = (seen > 0.75) & (least >= LEAST)
    unsure = np.concatenate([unsure, boxes[(seen > 0.02) & ~good]])
    return boxes[good], points[good], hidden[good], unsure


def background(photo, random):
    """A part of a photo as a scene, masks on some of its faces."""
    twin = read(photo.path)
    rgb, hidden = twin.copy(), photo.hidden.copy()
    often = random.choice([0, 0.5, 1])
    for n in np.flatnonzero(np.isfinite(photo.points).all((1, 2)) & (hidden == 0)):
        if random.random() < often:
            hidden[n] = COVERED
            box, margin = photo.boxes[n], 0.7 * (photo.boxes[n, 2:] - photo.boxes[n, :2]).max()
            x, y = np.maximum(box[:2] - margin, 0).astype(int)
            here = slice(y, int(box[3] + margin)), slice(x, int(box[2] + margin))
            rgb[here] = covered(photo, rgb, n, random)[here]
    height, width = twin.shape[:2]
    scale = np.exp(random.uniform(np.log(0.45), np.log(1.7)))
    angle = random.normal(0, 0.12) if random.random() < 0.4 else 0
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag(np.exp(random.normal(0, 0.04, 2)))
    if len(photo.boxes) and random.random() < 0.7:
        aim = photo.boxes[random.integers(len(photo.boxes))].reshape(2, 2).mean(0)
    else:
        aim = random.random(2) * (width, height)
    shift = random.uniform(0.2, 0.8, 2) * SIDE - turn @ aim
    # As little as possible that is not photo.
    room = SIDE - np.array([width, height]) * scale
    shift = np.clip(shift, np.minimum(room, 0), np.maximum(room, 0))
    matrix = np.concatenate([turn, shift[:, None]], 1)
    # Mirrored about the aim.
    flip = random.random() < 0.5
    mirror = np.array([[-1, 0, SIDE], [0, 1, 0], [0, 0, 1.0]])
    if flip:
        matrix = (mirror @ np.vstack([matrix, [0, 0, 1]]))[:2]
    points = moved(photo.points[:, FLIPPED] if flip else photo.points, matrix)
    boxes, unsure = moved_boxes(photo.boxes, matrix), moved_boxes(photo.unsure, matrix)
    return Scene(
        warped(rgb, matrix, SIDE, SIDE), warped(twin, matrix, SIDE, SIDE), *sort_faces(boxes, points, hidden, unsure)
    )


def put_face(scene, photo, random):
    """A face of the photo with what is round it, somewhere in the scene where none is."""
    numbers = photo.faces()
    if not len(numbers):
        return
    number = random.choice(numbers)
    box = photo.boxes[number]
    size = box[2:] - box[:2]
    target = np.exp(random.uniform(np.log(16), np.log(190)))
    angle = random.normal(0, 0.12) if random.random() < 0.8 else random.uniform(-0.7, 0.7)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[1, random.normal(0, 0.07)], [0, 1]]) @ np.diag(np.exp(random.normal(0, 0.07, 2)))
    flip = random.random() < 0.5
    turn = turn @ np.diag([-1 if flip else 1, 1]) * target / size.min()
    middle = (box[:2] + box[2:]) / 2
    reach = random.uniform(0.65, 1.3, 4) * np.repeat(size.max() * target / size.min(), 4)
    for _ in range(12):
        centre = random.uniform(-0.05, 1.05, 2) * SIDE
        spot = np.array([[*(centre - reach[:2]), *(centre + reach[2:])]])
        half = size * target / size.min() / 2
        if inside(np.array([[*(centre - half), *(centre + half)]])) < 0.78:
            continue
        taken = np.concatenate([scene.boxes, scene.unsure])
        low, high = np.maximum(spot[:, :2], taken[:, :2]), np.minimum(spot[:, 2:], taken[:, 2:])
        share = np.maximum(high - low, 0).prod(1) / np.maximum((taken[:, 2:] - taken[:, :2]).prod(1), 1)
        if (share <= 0.08).all():
            break
    else:
        return
    matrix = np.concatenate([turn, (centre - turn @ middle)[:, None]], 1)
    bare = read(photo.path)
    hidden = photo.hidden.copy()
    rgb = bare
    if random.random() < 0.7 and not hidden[number]:
        rgb, hidden[number] = covered(photo, bare, number, random), COVERED
    alpha = warped(np.full(bare.shape[:2], 255, np.uint8), matrix, SIDE, SIDE) >= 254
    shape = np.zeros((SIDE, SIDE), np.float32)
    corners = spot[0].round().astype(int)
    if random.random() < 0.5:
        cv2.rectangle(shape, corners[:2].tolist(), corners[2:].tolist(), 1.0, -1)
    else:
        axes = (corners[2:] - corners[:2]) // 2
        cv2.ellipse(shape, ((corners[2:] + corners[:2]) // 2).tolist(), axes.tolist(), 0, 0, 360, 1.0, -1)
    if random.random() < 0.7:
        shape = cv2.GaussianBlur(shape, (0, 0), max(0.5, target * random.uniform(0.01, 0.08)))
    # Only where there is a photo, and only near the spot.
    shape *= alpha
    x1, y1, x2, y2 = np.clip([*(corners[:2] - 40), *(corners[2:] + 40)], 0, SIDE)
    here = slice(y1, y2), slice(x1, x2)
    tone = random.uniform(0.75, 1.25)
    shift = np.array([[1, 0, -x1], [0, 1, -y1]])
    local = matrix + np.concatenate([np.zeros((2, 2)), shift[:, 2:]], 1)
    weight = shape[here][..., None]
    for name, source in (("rgb", rgb), ("twin", bare)):
        image = getattr(scene, name)
        fresh = warped(source, local, x2 - x1, y2 - y1).astype(np.float32) * tone
        image[here] = np.clip(image[here] * (1 - weight) + fresh * weight, 0, 255).astype(np.uint8)
    boxes, unsure = moved_boxes(photo.boxes, matrix), moved_boxes(photo.unsure, matrix)
    points = moved(photo.points[:, FLIPPED] if flip else photo.points, matrix)
    # Neighbours count when they are on the spot as a whole.
    part = np.maximum(np.minimum(boxes[:, 2:], spot[0, 2:]) - np.maximum(boxes[:, :2], spot[0, :2]), 0).prod(1)
    part = part / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    part[number] = 1
    unsure = np.concatenate([unsure, boxes[(part > 0.02) & (part < 0.97)]])
    whole = part >= 0.97
    boxes, points, hidden, unsure = sort_faces(boxes[whole], points[whole], hidden[whole], unsure)
    scene.boxes = np.concatenate([scene.boxes, boxes])
    scene.points = np.concatenate([scene.points, points])
    scene.hidden = np.concatenate([scene.hidden, hidden])
    scene.unsure = np.concatenate([scene.unsure, unsure])


def put_mask(scene, photo, random):
    """A mask that nobody wears, where no face is: what differs between a photo and its painted copy."""
    if not photo.copies:
        return
    bare, copy = read(photo.path), read(photo.copies[random.integers(len(photo.copies))])
    box = photo.boxes[0]
    x1, y1, x2, y2 = np.maximum([*(box[:2] - 10), *(box[2:] + 20)], 0).astype(int)
    differs = np.abs(copy[y1:y2, x1:x2].astype(int) - bare[y1:y2, x1:x2]).max(-1).astype(np.float32)
    alpha = cv2.morphologyEx((differs > 12).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    piece, alpha = copy[y1:y2, x1:x2], cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), 0.7)
    scale = np.exp(random.uniform(np.log(0.2), np.log(1.8)))
    size = np.maximum(np.array(alpha.shape[::-1]) * scale, 6).astype(int)
    piece, alpha = cv2.resize(piece, size.tolist()), cv2.resize(alpha, size.tolist())
    if random.random() < 0.6:
        turns = random.integers(4)
        piece, alpha = np.rot90(piece, turns), np.rot90(alpha, turns)
    if max(alpha.shape) >= SIDE:
        return
    size = np.array(alpha.shape[::-1])
    for _ in range(8):
        x, y = (random.random(2) * (SIDE - size)).astype(int)
        taken = np.concatenate([scene.boxes, scene.unsure])
        if overlaps(np.array([[x, y, *(size + (x, y))]], float), taken).max(initial=0) == 0:
            break
    else:
        return
    here, weight = (slice(y, y + size[1]), slice(x, x + size[0])), alpha[..., None]
    scene.rgb[here] = (scene.rgb[here] * (1 - weight) + piece * weight).astype(np.uint8)


def in_light(images, random):
    """The images as another camera might give them, all in the same way."""
    noise_seed = random.integers(1 << 30)
    gamma, contrast, bright = np.exp(random.normal(0, 0.25)), random.uniform(0.65, 1.25), random.uniform(0.75, 1.2)
    tint, grey = np.exp(random.normal(0, 0.06, 3)), random.uniform(0.3, 1.3) if random.random() < 0.85 else 0
    blur = random.uniform(0.4, 1.6) if random.random() < 0.25 else 0
    quality = int(random.uniform(15, 85)) if random.random() < 0.4 else 0
    noise = random.uniform(1, 10) if random.random() < 0.2 else 0
    plain = random.random() < 0.25
    out = []
    for x in images:
        if blur:
            x = cv2.GaussianBlur(x, (0, 0), blur)
        if not plain:
            table = 255 * (np.arange(256) / 255) ** gamma
            x = cv2.LUT(x, np.clip((table - 110) * contrast + 110 * bright, 0, 255).astype(np.uint8)).astype(np.float32)
            middle = x.mean(-1, keepdims=True)
            x = np.clip((middle + (x - middle) * grey) * tint, 0, 255)
        if noise:
            x = np.clip(x + np.random.default_rng(noise_seed).normal(0, noise, x.shape), 0, 255)
        x = x.astype(np.uint8)
        if quality:
            x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
        out.append(x)
    return out


def scene_of(scenery, portraits, random):
    """A scene: a part of one of `scenery`, faces of `portraits` in it, masks without a face, other light."""
    scene = background(scenery[random.integers(len(scenery))], random)
    for _ in range(random.integers(0, 7)):
        source = scenery if random.random() < 0.15 else portraits
        put_face(scene, source[random.integers(len(source))], random)
    for _ in range(random.integers(0, 3)):
        put_mask(scene, portraits[random.integers(len(portraits))], random)
    scene.rgb, scene.twin = in_light([scene.rgb, scene.twin], random)
    return scene


# --------------------------------------------------------------------------------------- cascade


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(net, images):
    """Outputs of a network for images [n, y, x, 3] uint8, x before y."""
    x = (images.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) * np.float32(1 / 128)
    return net.run(None, {net.get_inputs()[0].name: np.ascontiguousarray(x)})


def suppressed(corners, scores, limit):
    """Numbers of the candidates that stay."""
    if not len(corners):
        return np.zeros(0, int)
    rects = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2] + 1], 1)
    return np.array(cv2.dnn.NMSBoxes(rects.tolist(), scores.astype(float).tolist(), 0.0, limit), int).reshape(-1)


def squared(corners):
    """Corners [n, 4] made square, cut to whole pixels."""
    low, high = corners[:, :2], corners[:, 2:]
    side = (high - low).max(1, keepdims=True)
    start = low + ((high - low) - side) / 2
    return np.trunc(np.concatenate([start, start + side], 1))


def propose(pnet, rgb, smallest, threshold):
    """P-Net's windows: square corners [n, 4], and the cells that they come from [n, 4]."""
    corners, scores = [], []
    height, width = rgb.shape[:2]
    scale = 12 / smallest
    while min(width, height) * scale >= 12:
        size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
        offsets, faces = run(pnet, cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)[None])
        x, y = np.nonzero(faces[0, :, :, 1] >= threshold)
        score, offset = faces[0, x, y, 1], offsets[0, x, y]
        cell = np.stack([2 * x + 1, 2 * y + 1, 2 * x + 12, 2 * y + 12], 1)
        cell = np.trunc(cell / scale)
        kept = suppressed(cell, score, 0.5)
        side = np.tile(cell[:, 2:] - cell[:, :2], (1, 2))
        corners.append(np.concatenate([cell, offset * side], 1)[kept])
        scores.append(score[kept])
        scale *= FACTOR
    corners, scores = np.concatenate(corners), np.concatenate(scores)
    kept = suppressed(corners[:, :4], scores, 0.7)
    return squared(corners[kept, :4] + corners[kept, 4:]), corners[kept, :4]


def sort_out(corners, scores, offsets, threshold):
    """R-Net's windows: square corners [n, 4]."""
    good = scores > threshold
    corners, scores, offsets = corners[good], scores[good], offsets[good]
    kept = suppressed(corners, scores, 0.7)
    side = np.tile(corners[:, 2:] - corners[:, :2] + 1, (1, 2))
    return squared((corners + offsets * side)[kept])


@functools.cache
def spread(count, size):
    """Weights [size, count] of `count` pixels in `size` larger ones."""
    edges = np.arange(size + 1) * count / size
    low, high = np.maximum(edges[:-1, None], np.arange(count)), np.minimum(edges[1:, None], np.arange(count) + 1)
    return (np.maximum(high - low, 0) * size / count).astype(np.float32)


def cut(rgb, corners, size):
    """Windows [n, size, size, 3] uint8 as the program cuts them, black outside of the image."""
    out = np.zeros((len(corners), size, size, 3), np.uint8)
    height, width = rgb.shape[:2]
    for n, (x1, y1, x2, _) in enumerate(corners.astype(int)):
        x, y, side = x1 - 1, y1 - 1, max(x2 - x1 + 1, 1)
        if x >= 0 and y >= 0 and x + side <= width and y + side <= height:
            piece = rgb[y : y + side, x : x + side]
        else:
            piece = np.zeros((side, side, 3), np.uint8)
            a, b = max(x, 0), max(y, 0)
            c, d = min(x + side, width), min(y + side, height)
            if c > a and d > b:
                piece[b - y : d - y, a - x : c - x] = rgb[b:d, a:c]
        if side >= size:
            out[n] = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
        else:
            weights = spread(side, size)
            rows = weights @ piece.reshape(side, -1).astype(np.float32)
            wide = np.einsum("sc,rck->rsk", weights, rows.reshape(size, side, 3))
            out[n] = np.rint(wide).astype(np.uint8)
    return out


def jittered(boxes, random, times):
    """Square windows near boxes: corners [times·n, 4]."""
    boxes = np.repeat(boxes, times, 0)
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    side = side * np.exp(random.normal(0, 0.13, side.shape))
    centre = centre + random.normal(0, 0.08, centre.shape) * side
    low = np.rint(centre - side / 2)
    return np.concatenate([low + 1, low + np.maximum(np.rint(side), 8)], 1)


def compared(scene, corners):
    """What windows show: overlap [n] with the nearest face, its number [n], offsets [n, 4] and points [n, 10] in
    windows, and whether the window may be judged at all [n]."""
    windows = corners - [1, 1, 0, 0]
    side = windows[:, 2:3] - windows[:, :1]
    table = overlaps(windows, scene.boxes)
    if not len(scene.boxes):
        best, near = np.zeros(len(windows)), np.full(len(windows), -1)
        offsets, points = np.zeros((len(windows), 4)), np.full((len(windows), 10), np.nan)
    else:
        best, near = table.max(1), table.argmax(1)
        offsets = (scene.boxes[near] - windows) / side
        points = (scene.points[near] - windows[:, None, :2]) / side[:, None]
        points = points.transpose(0, 2, 1).reshape(-1, 10)
    both = np.minimum(windows[:, None, 2:], scene.unsure[None, :, 2:])
    both = np.maximum(both - np.maximum(windows[:, None, :2], scene.unsure[None, :, :2]), 0).prod(-1)
    doubtful = (both / side**2 > 0.15).any(1) | (overlaps(windows, scene.unsure) > 0.1).any(1)
    return best, near, offsets, points, ~doubtful | (best >= 0.6)
