"""The network of a hyperprior in whole numbers, `apercu.codec.scales`, as a graph of ONNX in 64-bit integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.bottlenecks._hyper import MEANS, SCALES
from apercu.codec.coding import Integers
from apercu.codec.ladder import EIGHTH, LADDER, LARGEST, PHASES, VALUE, WEIGHT
from apercu.codec.scales import Scales
from apercu.types import Grid


class InOnnx:
    """`Scales.choose` as a graph of ONNX in 64-bit integers; the tables themselves are those of the model."""

    def __init__(self, scales: Scales, coarse: Grid, grid: Grid, threads: int) -> None:
        import onnxruntime

        self.tables, self.frequencies, self.run, self.grid = scales.tables, scales.frequencies, scales.run, grid
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            graph_of(scales, coarse, grid), options, providers=["CPUExecutionProvider"]
        )

    def choose(self, h: Integers, grid: Grid) -> tuple[Integers, Integers]:
        """As `Scales.choose`, for images of one size."""
        if grid != self.grid:
            raise ValueError("the graph is for one size")
        table, shift = self.session.run(["table", "shift"], {"h": h})
        return table, shift


class Graph:
    """Nodes of ONNX, each with one result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any) -> str:  # noqa: ANN401
        """Whole numbers by a name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: int) -> str:
        """A node, and the name of its result."""
        from onnx import helper

        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def clip(self, x: str, low: int, high: int) -> str:
        """min(max(x, low), high)."""
        return self.add("Clip", x, self.constant(low), self.constant(high))

    def floor(self, x: str, unit: int) -> str:
        """⌊x / unit⌋ for x ≥ −2²⁰ · unit: ONNX divides towards 0, so x is made positive first."""
        above = self.add("Add", x, self.constant(unit << 20))
        return self.add("Sub", self.add("Div", above, self.constant(unit)), self.constant(1 << 20))

    def convolve(self, x: str, size: Grid, weight: NDArray[np.int16], bias: NDArray[np.int32]) -> str:
        """3×3 with a margin of zeros, on a map of `size`, (B, h, w, in) → (B, h, w, out)."""
        padded = self.add("Pad", x, self.constant([0, 1, 1, 0, 0, 1, 1, 0]))
        axes = self.constant([1, 2])
        shifted = [
            self.add("Slice", padded, self.constant([i, j]), self.constant([i + size[0], j + size[1]]), axes)
            for i in range(3)
            for j in range(3)
        ]
        product = self.add("MatMul", self.add("Concat", *shifted, axis=3), self.constant(weight))
        return self.add("Add", product, self.constant(bias))

    def double(self, x: str, size: Grid, channels: int) -> str:
        """Every token four times: (B, h, w, C) → (B, 2h, 2w, C)."""
        apart = self.add("Unsqueeze", x, self.constant([2, 4]))
        tiled = self.add("Tile", apart, self.constant([1, 1, 2, 1, 2, 1]))
        return self.add("Reshape", tiled, self.constant([-1, 2 * size[0], 2 * size[1], channels]))


def graph_of(scales: Scales, coarse: Grid, grid: Grid) -> bytes:
    """The network of a hyperprior in whole numbers, for codes of one size."""
    from onnx import TensorProto, helper

    graph, size = Graph(), coarse
    x = graph.add("Mul", "h", graph.constant(VALUE))
    for number, (weight, bias) in enumerate(zip(scales.weights, scales.biases, strict=True)):
        if number:
            positive = graph.clip(x, 0, LARGEST * WEIGHT)
            x = graph.double(
                graph.add("Div", positive, graph.constant(WEIGHT)), size, scales.weights[number - 1].shape[1]
            )
            size = (2 * size[0], 2 * size[1])
        x = graph.convolve(x, size, weight, bias)
    dim = len(scales.biases[-1]) // 2
    mean, log_scale = (
        graph.add(
            "Slice", x, graph.constant([0, 0, start]), graph.constant([*grid, start + dim]), graph.constant([1, 2, 3])
        )
        for start in (0, dim)
    )
    bound = round(8 * MEANS)
    half = graph.add("Add", graph.clip(mean, -2 * bound * EIGHTH, 2 * bound * EIGHTH), graph.constant(EIGHTH // 2))
    eighths = graph.clip(graph.floor(half, EIGHTH), -bound, bound)
    shift = graph.add(
        "Identity", graph.floor(graph.add("Add", eighths, graph.constant(PHASES // 2)), PHASES), out="shift"
    )
    phase = graph.add("Sub", eighths, graph.add("Mul", shift, graph.constant(PHASES)))
    above = graph.add("Add", log_scale, graph.constant(round(-8 * SCALES[0]) * EIGHTH))
    scale = graph.add("Div", graph.clip(above, 0, LADDER * EIGHTH - 1), graph.constant(EIGHTH))
    centred = graph.add("Add", phase, graph.constant(PHASES // 2))
    graph.add("Add", graph.add("Mul", scale, graph.constant(PHASES)), centred, out="table")
    channels = scales.weights[0].shape[0] // 9
    given = helper.make_tensor_value_info("h", TensorProto.INT64, ["B", *coarse, channels])
    found = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", *grid, dim]) for name in ("table", "shift")]
    whole = helper.make_graph(graph.nodes, "scales", [given], found, graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialised: bytes = model.SerializeToString()
    return serialised
