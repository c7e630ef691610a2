"""The networks of a hyperprior and of a context in whole numbers as graphs of ONNX in 64-bit integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.bottlenecks._context import HIDDEN
from apercu.bottlenecks._hyper import MEANS, SCALES
from apercu.codec.coding import Integers
from apercu.codec.contexts import Contexts, Seen
from apercu.codec.ladder import EIGHTH, LADDER, LARGEST, PHASES, VALUE, WEIGHT
from apercu.codec.scales import Scales
from apercu.types import Grid


class InOnnx:
    """`Scales.choose` as a graph of ONNX in 64-bit integers; the tables themselves are those of the model."""

    def __init__(self, scales: Scales, coarse: Grid, grid: Grid, threads: int) -> None:
        self.tables, self.frequencies, self.run, self.grid = scales.tables, scales.frequencies, scales.run, grid
        self.session = session_of(graph_of(scales, coarse, grid), threads)

    def choose(self, h: Integers, grid: Grid) -> tuple[Integers, Integers]:
        """As `Scales.choose`, for images of one size."""
        if grid != self.grid:
            raise ValueError("the graph is for one size")
        table, shift = self.session.run(["table", "shift"], {"h": h})
        return table, shift


def session_of(graph: bytes, threads: int) -> Any:  # noqa: ANN401
    """ONNX Runtime, ready to run a graph on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


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
        product = self.add("MatMul", self.shifted(padded, size), self.constant(weight))
        return self.add("Add", product, self.constant(bias))

    def shifted(self, padded: str, size: Grid) -> str:
        """What lies around each cell of a map with a margin, (B, h + 2, w + 2, C) → (B, h, w, 9·C)."""
        axes = self.constant([1, 2])
        nine = [
            self.add("Slice", padded, self.constant([i, j]), self.constant([i + size[0], j + size[1]]), axes)
            for i in range(3)
            for j in range(3)
        ]
        return self.add("Concat", *nine, axis=3)

    def double(self, x: str, size: Grid, channels: int) -> str:
        """Every token four times: (B, h, w, C) → (B, 2h, 2w, C)."""
        apart = self.add("Unsqueeze", x, self.constant([2, 4]))
        tiled = self.add("Tile", apart, self.constant([1, 1, 2, 1, 2, 1]))
        return self.add("Reshape", tiled, self.constant([-1, 2 * size[0], 2 * size[1], channels]))

    def located(self, mean: str, log_scale: str) -> None:
        """`apercu.codec.ladder.located`, as the results `table` and `shift`."""
        bound = round(8 * MEANS)
        half = self.add("Add", self.clip(mean, -2 * bound * EIGHTH, 2 * bound * EIGHTH), self.constant(EIGHTH // 2))
        eighths = self.clip(self.floor(half, EIGHTH), -bound, bound)
        shift = self.add(
            "Identity", self.floor(self.add("Add", eighths, self.constant(PHASES // 2)), PHASES), out="shift"
        )
        phase = self.add("Sub", eighths, self.add("Mul", shift, self.constant(PHASES)))
        above = self.add("Add", log_scale, self.constant(round(-8 * SCALES[0]) * EIGHTH))
        scale = self.add("Div", self.clip(above, 0, LADDER * EIGHTH - 1), self.constant(EIGHTH))
        centred = self.add("Add", phase, self.constant(PHASES // 2))
        self.add("Add", self.add("Mul", scale, self.constant(PHASES)), centred, out="table")

    def serialised(self, inputs: dict[str, list[Any]], outputs: list[Any]) -> bytes:
        """The model: its inputs with their shapes, and the shape of `table` and `shift`."""
        from onnx import TensorProto, helper

        given = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()]
        found = [helper.make_tensor_value_info(name, TensorProto.INT64, outputs) for name in ("table", "shift")]
        whole = helper.make_graph(self.nodes, "tables", given, found, self.constants)
        model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        content: bytes = model.SerializeToString()
        return content


def graph_of(scales: Scales, coarse: Grid, grid: Grid) -> bytes:
    """The network of a hyperprior in whole numbers, for codes of one size."""
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
    graph.located(mean, log_scale)
    channels = scales.weights[0].shape[0] // 9
    return graph.serialised({"h": ["B", *coarse, channels]}, ["B", *grid, dim])


@dataclass(frozen=True, eq=False)
class ContextsInOnnx(Contexts):
    """`Contexts` whose stages are graphs of ONNX in 64-bit integers."""

    threads: int = 1
    sessions: dict[tuple[int, ...], Any] = field(default_factory=dict)

    def _choose(self, number: int, framed: Seen, i: Integers, j: Integers, point: int) -> tuple[Integers, Integers]:
        grid = (framed.shape[1] - 2, framed.shape[2] - 2)
        key = (number, *grid, point)
        if key not in self.sessions:
            self.sessions[key] = session_of(graph_of_stage(self, number, grid, point), self.threads)
        table, shift = self.sessions[key].run(["table", "shift"], {"framed": framed.astype(np.int64)})
        return table[:, i, j], shift[:, i, j]


def graph_of_stage(contexts: Contexts, number: int, grid: Grid, point: int) -> bytes:
    """A stage of a context in whole numbers, for all cells of codes of one size at one point."""
    graph, stage, dim = Graph(), contexts.stages[number], contexts.usual.shape[2]
    height, width = grid
    known = graph.add(
        "Slice", "framed", graph.constant([0]), graph.constant([max(1, stage.known)]), graph.constant([3])
    )
    mask = np.zeros((height + 2, width + 2, max(1, stage.known)), np.int64)
    mask[1:-1, 1:-1, : stage.start] = 1
    if stage.odd:
        mask[1:-1, 1:-1, stage.start :] = ~stage.cells(grid).numpy()[..., None]
    kernel = contexts.convolutions[number] if stage.known else np.zeros((9, HIDDEN), np.int64)
    x = graph.shifted(graph.add("Mul", known, graph.constant(VALUE * mask)), grid)
    sums = graph.add("MatMul", x, graph.constant(kernel))
    level = graph.add("Add", sums, graph.constant(contexts._at(contexts.levels[number], point)))
    hidden = graph.clip(graph.floor(level, WEIGHT), 0, LARGEST)
    own = contexts._at(contexts.usual, point)[:, stage.start : stage.stop].reshape(-1)
    said = graph.add("Add", graph.add("MatMul", hidden, graph.constant(contexts.answers[number])), graph.constant(own))
    channels = stage.stop - stage.start
    halves = (
        graph.add("Slice", said, graph.constant([start]), graph.constant([start + channels]), graph.constant([3]))
        for start in (0, channels)
    )
    graph.located(*halves)
    return graph.serialised({"framed": ["B", height + 2, width + 2, dim]}, ["B", *grid, channels])
