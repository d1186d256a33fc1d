#!/usr/bin/env python3
"""Teach FaceNet to see who is under a mask.

    embedder.py prepare --program mfr-enroll --work DIR PHOTOS...
    embedder.py train --work DIR [--minutes N]          or, on CPUs, a process a core:
    torchrun --nproc-per-node 2 embedder.py train --work DIR --minutes N
    embedder.py export --work DIR facenet.fp32.onnx
    embedder.py embed --work DIR facenet.onnx

PHOTOS are folders with a folder of photos for each person, without masks (a folder `_`: nobody has told the people
apart). `train` goes on where it was stopped, also with more sets than it began with; it learns for the given time, or
STEPS, whichever is less, `export` writes the averaged weights as they are then, and `embed` what any FaceNet says of the faces, for
`../statistics.py`. Processes learn from crops of their
own and meet at the mean of their weights (MEET). `--leave-out NAME` trains without a set, for instance one whose terms
forbid commercial use.

The student is shown a copy with a mask (SHARES), with something else before the face, or bare, as varied as cameras and
detectors are; its target is what the teacher, the published network, says of the photo without a mask, seen from both
sides, half and half with the mean over the photos of the person. Some of the crops are two faces laid over one another
(MIXED), with masks for the student, without for the teacher: nobody's face, of which there are as many as one likes
(Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", 2022). Three losses: the cosine to the
target; the cross entropy of a softmax of the target against all persons who are not in the crop (SCALE); and, where a
person has several photos that the teacher finds alike (ALIKE), a softmax with a margin over these people (CosFace, Wang
et al. 2018), whose centres begin at the teacher's means. The stem, which sees edges and colours, stays as it is; with
`--cut` so does everything up to that tensor of the graph, which is then computed in the integers of `--start`, four times
as fast, by the processes that make crops.
"""

import argparse
import json
import math
import os
import pathlib
import time

import cv2
import numpy
import onnx
import onnxruntime
import torch
from torch.nn import functional

import faces
from network import Network, digest

TEACHER = pathlib.Path(__file__).parent.parent / "published/facenet.onnx"
# sha256 of the published weights as convert.py writes them: the student is never its own teacher.
PUBLISHED = "1c25201b3ce48444b87d60549ee0931cdcda9bc260b619f11c4cc761a940a437"
STEM = ("Conv2d_1a", "Conv2d_2a", "Conv2d_2b", "Conv2d_3b", "Conv2d_4a", "Conv2d_4b")
STEPS, BATCH, RATE, WARM_UP = 10_000, 32, 2e-4, 100
DISTANCE, SCALE = 8.0, 16.0
# Least cosine of a photo to the mean of its person's others: below, it is taken for somebody else's.
ALIKE = 0.3
# Weight, scale and margin of the softmax over people, and how much faster than the network its centres learn.
IDENTITY, SHARP, MARGIN, CENTRES = 0.15, 24.0, 0.2, 10
# Share of crops that are two faces in one, and how much the second shows.
MIXED, PART = 0.1, (0.15, 0.5)
# Faces that the weights in the tree have seen so often that they know them by heart, and how often they are shown.
KNOWN, SELDOM = ("lfw",), 0.5
BF16 = False  # on CPUs: those with AMX are faster with it, those with AVX-512 alone slower
AVERAGE = 0.995  # decay of the averaged weights, a step
MEET = 90  # seconds after which processes take the mean of their weights
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
SHARES = {"bare": 0.36, "painted": 0.44, "other": 0.2}
SEED = 20180408
VERSION = "20180408-102900-mfr3"  # what applications see of it; a new one for new weights
TRAINING_DATA = "CASIA-WebFace; then LFW with painted masks"


def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast():
    return torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda" or BF16)


def unit(rows):
    return functional.normalize(rows, dim=1)


@torch.no_grad()
def taught(work, teacher, names):
    """What the teacher says of all faces of these sets, [N, 512], of length 1; kept as `targets.npy` beside the faces."""
    rows = []
    for name in names:
        kept = work / name / "targets.npy"
        if not kept.exists() and RANK == 0:
            found = digest(teacher)
            if found != PUBLISHED:
                raise SystemExit(f"{teacher}: expected the published weights, sha256 {PUBLISHED}, found {found}")
            numpy.save(kept, look(teacher, faces.Contexts(work, only=name)))
        while not kept.exists():
            time.sleep(1)
        rows.append(numpy.load(kept))
    return numpy.concatenate(rows)


def look(teacher, contexts):
    """The teacher's embeddings of bare faces, in turn as they are and mirrored."""
    network, rows = session(teacher), []
    for start in range(0, len(contexts), BATCH):
        few = range(start, min(start + BATCH, len(contexts)))
        crops = [faces.plain(contexts[face, faces.BARE]) for face in few]
        crops[::2] = [crop[:, ::-1] for crop in crops[::2]]
        rows.append(run(network, faces.tensor(numpy.array(crops))))
    return numpy.concatenate(rows)


def session(model):
    """A network in ONNX Runtime, a file or its bytes, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


def run(network, crops):
    return network.run(None, {network.get_inputs()[0].name: crops})[0]


def lower(path, cut):
    """The part of a network in integers that ends with the tensor `cut`, as a file's bytes."""
    model = onnx.load(path)
    names = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    if names.get(cut) not in names:
        raise SystemExit(f"{path}: expected a network in integers with the tensor {cut}")
    # ONNX Runtime leaves out what no output needs.
    model.graph.ClearField("output")
    model.graph.output.append(onnx.helper.make_tensor_value_info(names[names[cut]], onnx.TensorProto.FLOAT, None))
    return model.SerializeToString()


def persons_of(rows, people):
    """The persons after photos that are not ALIKE their person's others were made persons of their own: their numbers
    [N], and means of unit length [P, 512]."""
    def means(people):
        sums = numpy.zeros((people.max() + 1, rows.shape[1]), numpy.float32)
        numpy.add.at(sums, people, rows)
        return sums

    others = means(people)[people] - rows
    length = numpy.linalg.norm(others, axis=1)
    alone = length < 1e-3
    cosine = (others * rows).sum(1) / numpy.maximum(length, 1e-3)
    strange = numpy.flatnonzero(~alone & (cosine < ALIKE))
    people = people.copy()
    people[strange] = people.max() + 1 + numpy.arange(len(strange))
    people = numpy.unique(people, return_inverse=True)[1]
    return people, unit(torch.from_numpy(means(people)))


class Crops(torch.utils.data.Dataset):
    """Varied crops, drawn from all faces: the crop, what the teacher is to see of it where it is two faces in one, the
    number of the face, the persons in it, and whether it is two faces in one."""

    def __init__(self, contexts, people):
        self.contexts, self.people = contexts, people
        shares = numpy.where(numpy.isin(contexts.sets, KNOWN), SELDOM, 1.0)
        self.shares = numpy.cumsum(shares / shares.sum())

    def __len__(self):
        return STEPS * BATCH

    def draw(self, random):
        return min(int(numpy.searchsorted(self.shares, random.random())), len(self.people) - 1)

    def __getitem__(self, index):
        random = numpy.random.default_rng((SEED + RANK, index))
        face = other = self.draw(random)
        kind = random.choice(list(SHARES), p=list(SHARES.values()))
        variant = {"bare": faces.BARE, "other": faces.OTHER}.get(kind)
        if variant is None:
            variant = int(random.integers(faces.PAINTED.start, faces.PAINTED.stop))
        shown, bare = self.contexts[face, variant], numpy.zeros((0, 0, 3), numpy.uint8)
        mixed = random.random() < MIXED
        if mixed:
            other, part = self.draw(random), random.uniform(*PART)
            second = self.contexts[other, variant]
            both = [(shown, second), tuple(self.contexts[f, faces.BARE] for f in (face, other))]
            shown, bare = (cv2.addWeighted(a, 1 - part, b, part, 0) for a, b in both)
        bare = faces.plain(bare) if mixed else None
        return faces.vary(faces.seen(shown, random), random), bare, face, self.people[[face, other]], mixed


class Batches:
    """Makes a batch of crops: what the student is to see [N, …], what the teacher says of those that are two faces in one,
    the numbers of the faces, the persons in each crop [N, 2], and which are two faces in one."""

    def __init__(self, teacher, start, cut):
        self.teacher, self.start, self.cut = teacher, start, cut
        self.networks = None

    def __call__(self, items):
        if self.networks is None:  # in the process that makes crops
            self.networks = session(self.teacher), session(lower(self.start, self.cut)) if self.cut else None
        teacher, below = self.networks
        crops, bare, numbers, people, mixed = zip(*items)
        crops = faces.tensor(numpy.array(crops))
        if below is not None:
            crops = run(below, crops)
        both = [b for b in bare if b is not None]
        said = run(teacher, faces.tensor(numpy.array(both))) if both else numpy.zeros((0, 512), numpy.float32)
        arrays = crops, said, numpy.array(numbers), numpy.array(people), numpy.array(mixed)
        return [torch.from_numpy(a) for a in arrays]


def loss(embeddings, target, persons, people):
    """Distance to the target, and how hard it is to tell the target from all persons who are not in the crop."""
    cosine = (embeddings * target).sum(1, keepdim=True)
    likeness = embeddings @ persons.T
    likeness = likeness.scatter(1, people, -1.0)
    ratio = torch.cat([cosine, likeness], 1) * SCALE
    none = torch.zeros(len(ratio), dtype=torch.long, device=ratio.device)
    return DISTANCE * (1 - cosine).mean() + functional.cross_entropy(ratio, none), cosine.mean()


def identity(embeddings, centres, numbers):
    """CosFace over the people with several photos; `numbers` is -1 for a crop of nobody of them."""
    known = numbers >= 0
    if not known.any():
        return embeddings.sum() * 0
    likeness = embeddings[known] @ unit(centres).T
    own = functional.one_hot(numbers[known], len(centres))
    return functional.cross_entropy(SHARP * (likeness - MARGIN * own), numbers[known])


def rate(step, steps):
    """From nothing up to 1 and along half a cosine down to nothing."""
    if step < WARM_UP:
        return step / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * min(1, (step - WARM_UP) / max(1, steps - WARM_UP)))


@torch.no_grad()
def meet(weights, steps, passed):
    """Takes the mean of all processes' weights, each by its steps since they met last; gives the longest time passed."""
    facts = torch.tensor([float(steps)])
    torch.distributed.all_reduce(facts)
    flat = torch.cat([w.reshape(-1) for w in weights]).cpu() * (steps / facts.item())
    torch.distributed.all_reduce(flat)
    for weight, mean in zip(weights, flat.split([w.numel() for w in weights])):
        weight.copy_(mean.view_as(weight))
    longest = torch.tensor([passed])
    torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
    return longest.item()


def learns(student, name, cut):
    return name in student.learned_after(cut) if cut else not name.startswith(STEM)


def train(options):
    work, seen = options.work, device()
    torch.manual_seed(SEED)
    if PROCESSES > 1:
        if not options.minutes:
            raise SystemExit("several processes need --minutes: they end by the clock, together")
        torch.distributed.init_process_group("gloo")
        torch.set_num_threads(max(1, os.cpu_count() // PROCESSES))
    contexts = faces.Contexts(work, options.leave_out)
    rows = taught(work, options.teacher, dict.fromkeys(contexts.sets.tolist()))
    people, persons = persons_of(rows, contexts.people)
    target = unit(torch.from_numpy(rows) + persons[people]).to(seen)
    several = numpy.flatnonzero(numpy.bincount(people) > 1)
    number = torch.full((len(persons),), -1).index_copy_(0, torch.from_numpy(several), torch.arange(len(several)))
    number, centres = number.to(seen), torch.nn.Parameter(persons[several].clone().to(seen))
    persons = persons.to(seen)
    print(f"{len(people)} faces, {len(persons)} people, {len(several)} with several photos", flush=True)
    student = Network(options.teacher)
    if options.start:
        student.take(options.start)
    student = student.to(seen, memory_format=torch.channels_last)
    for name, key in student.names.items():
        student.weights[key].requires_grad_(learns(student, name, options.cut))
    learned = [p for p in student.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in learned]
    optimiser = torch.optim.AdamW(learned, lr=RATE, weight_decay=1e-4)
    sharpener = torch.optim.AdamW([centres], lr=RATE, weight_decay=0)
    data = Crops(contexts, people)
    steps, first, spent = STEPS, 0, 0.0
    kept = work / (f"checkpoint.{RANK}.pt" if RANK else "checkpoint.pt")
    if kept.exists():
        state = torch.load(kept, map_location=seen, weights_only=True)
        student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
        # Centres of other people are of no use.
        if state["centres"].shape == centres.shape:
            centres.data = state["centres"]
        average, first, spent = state["average"], state["step"], state["seconds"]
    order = range(first * BATCH, steps * BATCH)
    loader = torch.utils.data.DataLoader(data, BATCH, sampler=order, num_workers=options.workers,
                                         collate_fn=Batches(options.teacher, options.start, options.cut))
    start, shown, met, since = time.monotonic() - spent, [], time.monotonic(), 0
    for step, (crops, said, numbers, people, mixed) in enumerate(loader, first):
        passed = time.monotonic() - start
        # The learning rate falls with the time that is left, or with the epochs.
        share = max(step / steps, passed / (60 * options.minutes) if options.minutes else 0)
        speed = RATE * min(1, step / WARM_UP) * rate(WARM_UP + share * steps, WARM_UP + steps)
        optimiser.param_groups[0]["lr"], sharpener.param_groups[0]["lr"] = speed, speed * CENTRES
        aim = target[numbers]
        aim[mixed] = unit(said.to(seen))
        with autocast():
            embeddings = student(crops.to(seen, memory_format=torch.channels_last), start=options.cut)
        people = people.to(seen)
        value, cosine = loss(embeddings.float(), aim, persons, people)
        alone = torch.where(mixed.to(seen), -1, number[people[:, 0]])
        value = value + IDENTITY * identity(embeddings.float(), centres, alone)
        optimiser.zero_grad()
        sharpener.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learned, 5.0)
        optimiser.step()
        sharpener.step()
        decay = min(AVERAGE, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in learned], 1 - decay)
        shown.append((value.item(), cosine.item()))
        since += 1
        if PROCESSES > 1 and (time.monotonic() - met > MEET or share >= 1):
            passed = meet([*learned, *average], since, passed)
            # All end together, when the first one has to.
            share = passed / (60 * options.minutes)
            start, met, since = time.monotonic() - passed, time.monotonic(), 0
        if (step + 1) % 100 == 0:
            means = numpy.mean(shown, 0)
            print(f"step {step + 1}, {passed / 60:.1f} min: loss {means[0]:.4f}, cosine {means[1]:.4f}", flush=True)
            shown = []
        if (step + 1) % 100 == 0 or share >= 1:
            state = {"student": student.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
            state |= {"centres": centres.data, "cut": options.cut}
            torch.save(state | {"step": step + 1, "seconds": passed}, kept.with_suffix(".new"))
            kept.with_suffix(".new").rename(kept)
        if share >= 1:
            break


def export(options):
    state = torch.load(options.work / "checkpoint.pt", map_location="cpu", weights_only=True)
    student = Network(options.teacher)
    student.load_state_dict(state["student"])
    learned = [key for name, key in student.names.items() if learns(student, name, state["cut"])]
    for key, average in zip(learned, state["average"], strict=True):
        student.weights[key].data = average
    student.save(options.output, version=VERSION, training_data=TRAINING_DATA)
    print(f"{options.output}: after {state['step']} steps of {BATCH}")


def embed(options):
    """Writes `embeddings.npz` for each set: `bare` and `masked`, one of the painted copies, cut as a detector might
    that does not see the mouth, [faces, 512]."""
    network, side = session(options.output), faces.CONTEXT_SIDE / faces.CONTEXT
    for facts in sorted(options.work.glob("*/people.json")):
        contexts = faces.Contexts(options.work, only=facts.parent.name)
        random = numpy.random.default_rng(5)
        bare, masked = [], []
        for start in range(0, len(contexts), BATCH):
            few = range(start, min(start + BATCH, len(contexts)))
            crops = [faces.plain(contexts[face, faces.BARE]) for face in few]
            bare.append(run(network, faces.tensor(numpy.array(crops))))
            crops = []
            for face in few:
                turn = numpy.diag(random.normal(1, 0.025, 2))
                copy = contexts[face, faces.PAINTED.start + face % faces.COPIES]
                crops.append(faces.warp(copy, turn, random.normal(0, 0.012, 2) * side, side))
            masked.append(run(network, faces.tensor(numpy.array(crops))))
        numpy.savez(facts.with_name("embeddings.npz"), bare=numpy.concatenate(bare), masked=numpy.concatenate(masked))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ("prepare", "train", "export", "embed")}
    for command in parsers.values():
        command.add_argument("--work", type=pathlib.Path, required=True)
        command.add_argument("--teacher", type=pathlib.Path, default=TEACHER, help="the published facenet.onnx")
    parsers["prepare"].add_argument("--program", default="mfr-enroll")
    parsers["prepare"].add_argument("photos", type=pathlib.Path, nargs="+")
    parsers["train"].add_argument("--minutes", type=float, default=0, help="0: STEPS, however long it takes")
    parsers["train"].add_argument("--start", type=pathlib.Path, help="weights to begin with, fp32 or in integers, instead of the teacher's")
    parsers["train"].add_argument("--cut", help="tensor of the graph from which on it is learned, for instance Mixed_6a/concat")
    parsers["train"].add_argument("--leave-out", nargs="*", default=[], metavar="NAME", help="sets not to learn from")
    parsers["train"].add_argument("--workers", type=int, default=2, help="processes that make crops")
    parsers["export"].add_argument("output", type=pathlib.Path)
    parsers["embed"].add_argument("output", metavar="FACENET", type=pathlib.Path)
    options = parser.parse_args()
    if options.command == "prepare":
        faces.prepare(options.program, [p.absolute() for p in options.photos], options.work)
    else:
        {"train": train, "export": export, "embed": embed}[options.command](options)


if __name__ == "__main__":
    main()
