#!/usr/bin/env python3
"""How far FaceNet in integers is from FaceNet in floats, and how much faster.

    compare.py --program mfr-enroll facenet.fp32.onnx facenet.onnx PHOTOS...

Takes the largest face of each photo. The two networks run in turns on one thread; times are medians.
"""

import argparse
import pathlib
import time

import numpy
import onnxruntime

import faces
from faces import simple

RUNS = 30


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options)


def crops_of(program, photos):
    out = []
    for line in simple.identify(program, *photos):
        if line["faces"]:
            face = max(line["faces"], key=lambda f: f["w"] * f["h"])
            out.append(simple.cut(simple.read(line["path"]), simple.box(face), faces.CROP, faces.SIDE))
    return faces.tensor(numpy.array(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="mfr-enroll")
    parser.add_argument("networks", type=pathlib.Path, nargs=2)
    parser.add_argument("photos", type=pathlib.Path, nargs="+")
    options = parser.parse_args()
    crops, networks = crops_of(options.program, options.photos), [session(n) for n in options.networks]

    def run(network, batch):
        return network.run(None, {network.get_inputs()[0].name: batch})[0]

    said = [numpy.concatenate([run(n, crops[i : i + 8]) for i in range(0, len(crops), 8)]) for n in networks]
    cosines = (said[0] * said[1]).sum(1)
    print(f"{len(crops)} faces: cosine {cosines.mean():.5f}, at worst {cosines.min():.5f}")
    for batch in (1, 8):
        spent = [[], []]
        for _ in range(RUNS):
            for network, times in zip(networks, spent):
                start = time.perf_counter()
                run(network, crops[:batch])
                times.append(time.perf_counter() - start)
        a, b = (1e3 * numpy.median(times[5:]) / batch for times in spent)
        print(f"batch {batch}: {a:.1f} and {b:.1f} ms a face, {a / b:.2f} times as fast")


if __name__ == "__main__":
    main()
