"""An ONNX file as a PyTorch module, and back: what is trained is the graph that is shipped.

Only the operators of the files in models/ are known; another one is an error that names it.
"""

import hashlib
import pathlib

import numpy
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional


def digest(path):
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def same_upper(x, size, stride, value):
    """Pads [N, C, H, W] as ONNX's SAME_UPPER does: as many windows as fit begin, the odd pixel at the end."""
    out = []
    for side in (3, 2):
        length, window, step = x.shape[side], size[side - 2], stride[side - 2]
        extra = max((-(-length // step) - 1) * step + window - length, 0)
        out += [extra // 2, extra - extra // 2]
    return functional.pad(x, out, value=value)


class Network(torch.nn.Module):
    """The graph in `path`; its weights are parameters, fp32, called as in the file.

    Takes and returns what the file does, with the gradient; `forward(x, "name", …)` returns the named tensors of the
    graph instead of its outputs, and with `start` x is the tensor of this name instead of the input.
    """

    def __init__(self, path):
        super().__init__()
        self.model = onnx.load(path)
        self.known = {}  # tensors that are not trained
        self.names = {}  # tensor name → parameter name
        weights = torch.nn.ParameterDict()
        casts = {n.input[0]: n.output[0] for n in self.model.graph.node if n.op_type == "Cast"}
        for tensor in self.model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            name = casts.get(tensor.name, tensor.name)
            if array.dtype in (numpy.float32, numpy.float16) and array.ndim:
                key = name.replace(".", "·")
                self.names[name] = key
                weights[key] = torch.nn.Parameter(torch.from_numpy(array.astype(numpy.float32)))
            else:
                self.known[name] = torch.from_numpy(array.copy())
        self.weights = weights
        self.nodes = [
            (n.op_type, list(n.input), list(n.output), {a.name: helper.get_attribute_value(a) for a in n.attribute})
            for n in self.model.graph.node
            if n.op_type != "Cast"
        ]

    def parameter(self, name):
        return self.weights[self.names[name]]

    def forward(self, x, *wanted, start=None):
        values = {start or self.model.graph.input[0].name: x}
        for kind, inputs, outputs, options in self.after(start):
            given = [self.value(values, name) for name in inputs]
            result = OPERATORS[kind](options, *given) if kind in OPERATORS else unknown(kind, outputs)
            for name, value in zip(outputs, result if isinstance(result, tuple) else (result,)):
                values[name] = value
        wanted = wanted or [o.name for o in self.model.graph.output]
        out = tuple(values[name] for name in wanted)
        return out[0] if len(out) == 1 else out

    def after(self, start):
        """The nodes that follow from the tensor `start`, through which everything has to go; None: all nodes."""
        made = [n for n, node in enumerate(self.nodes) if start in node[2]]
        if start is not None and not made:
            raise SystemExit(f"the graph has no tensor {start}")
        return self.nodes[made[0] + 1 :] if made else self.nodes

    def learned_after(self, start):
        """Names of the weights of these nodes."""
        return {name for node in self.after(start) for name in node[1] if name in self.names}

    def value(self, values, name):
        if name in values:
            return values[name]
        return self.parameter(name) if name in self.names else self.known[name]

    @torch.no_grad()
    def take(self, path):
        """Takes the weights of a file of the same graph, in floats or as `quantise.py` writes them."""
        found = {}
        arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        for name, array in arrays.items():
            base = name.removesuffix("_quantized").removesuffix(".fp16")
            if name.endswith("_quantized"):
                scale = arrays.get(f"{name}_scale", arrays.get(f"{base}_scale"))
                array = array.astype(numpy.float32) * scale.reshape(-1, *[1] * (array.ndim - 1))
            found[base] = array.astype(numpy.float32)
        for name, key in self.names.items():
            if name not in found or found[name].shape != tuple(self.weights[key].shape):
                shape = tuple(self.weights[key].shape)
                raise SystemExit(f"{path}: expected the weights {name} {shape}, found {found[name].shape if name in found else 'none'}")
            self.weights[key].copy_(torch.from_numpy(found[name]))

    def save(self, path, half=False, **properties):
        """Writes the graph with the present weights, fp32 or stored as fp16 behind Cast nodes; properties go into the
        file's metadata."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        nodes = [n for n in model.graph.node if n.op_type != "Cast"]
        kept = [t for t in model.graph.initializer if t.name in self.known]
        casts = []
        for name, key in self.names.items():
            array = self.weights[key].detach().float().numpy()
            if half and array.ndim > 1:
                stored = f"{name}.fp16"
                casts.append(helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
                kept.append(numpy_helper.from_array(array.astype(numpy.float16), stored))
            else:
                kept.append(numpy_helper.from_array(array, name))
        for field, values in (("node", casts + nodes), ("initializer", kept)):
            model.graph.ClearField(field)
            getattr(model.graph, field).extend(values)
        known = {p.key: p.value for p in model.metadata_props} | properties
        helper.set_model_props(model, known)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def unknown(kind, outputs):
    raise ValueError(f"operator {kind} (makes {outputs[0]}) is not known to {__file__}")


def conv(options, x, weight, bias=None):
    pads = options.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        raise ValueError(f"a convolution with uneven padding {pads} is not known to {__file__}")
    return functional.conv2d(x, weight, bias, options.get("strides", 1), pads[:2], 1, options.get("group", 1))


def max_pool(options, x):
    size, stride = options["kernel_shape"], options.get("strides", 1)
    if options.get("auto_pad") == b"SAME_UPPER":
        x = same_upper(x, size, stride, -torch.inf)
    return functional.max_pool2d(x, size, stride)


OPERATORS = {
    "Add": lambda o, a, b: a + b,
    "Concat": lambda o, *parts: torch.cat(parts, o["axis"]),
    "Conv": conv,
    "Div": lambda o, a, b: a / b,
    "Flatten": lambda o, x: x.flatten(1),
    "Gemm": lambda o, x, weight, bias: x @ (weight.T if o.get("transB") else weight) + bias,
    "GlobalAveragePool": lambda o, x: x.mean((2, 3), keepdim=True),
    "Max": lambda o, a, b: torch.maximum(a, b),
    "MaxPool": max_pool,
    "PRelu": lambda o, x, slope: torch.where(x > 0, x, x * slope),
    "ReduceL2": lambda o, x: x.norm(dim=tuple(o["axes"]), keepdim=True),
    # Nothing else reads what a Relu of these graphs reads, nor does the gradient need it.
    "Relu": lambda o, x: functional.relu(x, inplace=True),
    "Sigmoid": lambda o, x: torch.sigmoid(x),
    "Softmax": lambda o, x: functional.softmax(x, o["axis"]),
    "Split": lambda o, x, sizes: torch.split(x, sizes.tolist(), o["axis"]),
    "Transpose": lambda o, x: x.permute(*o["perm"]),
}
