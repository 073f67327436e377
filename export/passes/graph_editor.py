"""An ONNX graph that can be edited: who makes and who uses a value, what a constant holds, what is dead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from ..weights import DataFile, LazyTensor, Tensor

__all__ = [
    "CONTRIB",
    "Array",
    "GraphEditor",
    "LazyModel",
    "Model",
    "Node",
    "bodies",
    "external",
    "in_memory",
    "lazily",
    "reads",
    "rename",
]

Array: TypeAlias = npt.NDArray[Any]
Node: TypeAlias = onnx.NodeProto

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


@dataclass(eq=False)
class LazyModel:
    """An ONNX model whose large weights are elsewhere.

    Each of them has an initialiser without contents in the graph. It is either in `lazy`, still to be read, or in
    `data`, at the place that the initialiser names.
    """

    proto: onnx.ModelProto
    lazy: dict[str, LazyTensor] = field(default_factory=dict)
    data: DataFile | None = None

    @property
    def graph(self) -> onnx.GraphProto:
        """The model's graph."""
        return self.proto.graph


def lazily(model: Model, data: DataFile | None) -> LazyModel:
    """A model with a file for what is finished, whatever it was before."""
    return model if isinstance(model, LazyModel) else LazyModel(model, data=data)


def in_memory(model: Model) -> onnx.ModelProto:
    """The model with all weights that are still to be read in it."""
    if isinstance(model, LazyModel):
        graph = GraphEditor(model)
        for tensor in model.graph.initializer:
            tensor.CopyFrom(graph.whole(tensor.name))
        model.lazy.clear()
        return model.proto
    return model


Model: TypeAlias = "onnx.ModelProto | LazyModel"
"""A model with its weights in memory or elsewhere."""


def reads(node: Node) -> Iterator[str]:
    """The values that a node reads, those that its branches take from around them included."""
    yield from node.input
    for body in bodies(node):
        inside = {tensor.name for tensor in body.initializer} | {name for inner in body.node for name in inner.output}
        yield from (name for inner in body.node for name in reads(inner) if name not in inside)


def rename(node: Node, names: Mapping[str, str]) -> None:
    """Let a node, and the nodes of its branches, read and make values under other names."""
    for body in bodies(node):
        for inner in body.node:
            rename(inner, names)
        for value in body.output:
            value.name = names.get(value.name, value.name)
    for values in (node.input, node.output):
        for index, name in enumerate(values):
            values[index] = names.get(name, name)


def bodies(node: Node) -> Iterator[onnx.GraphProto]:
    """The branches of a node."""
    return (attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH)


class GraphEditor:
    """A view on `model.graph` that edits it in place; call `sweep` when done.

    The indices follow `add`, `remove` and `rewire`; edits made on a node behind its back are not seen. The branches of
    an If are part of their node: what they read counts as read by it, and what is inside is not indexed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model.proto if isinstance(model, LazyModel) else model
        self._lazy = model.lazy if isinstance(model, LazyModel) else {}
        self._data = model.data if isinstance(model, LazyModel) else None
        self._read()

    def _read(self) -> None:
        self.proto = self.model.graph
        self.initializers: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in self.proto.initializer}
        # Keyed by identity: protobuf messages have no hash, and the index keeps each one alive.
        self._nodes: dict[int, Node] = {id(node): node for node in self.proto.node}
        self._makers: dict[str, Node] = {}
        self._users: dict[str, dict[int, Node]] = {}
        for node in self._nodes.values():
            self._index(node)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, in no particular order."""
        return tuple(self._nodes.values())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(value.name for value in self.proto.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(value.name for value in self.proto.output)

    def of_type(self, *kinds: str) -> Iterator[Node]:
        """The nodes of these operator types."""
        return (node for node in self.nodes if node.op_type in kinds)

    def maker(self, value: str) -> Node | None:
        """The node that makes a value; `None` for an input or an initialiser."""
        return self._makers.get(value)

    def made_by(self, value: str, *kinds: str) -> Node | None:
        """The node that makes a value if it is of one of these operator types."""
        node = self._makers.get(value)
        return node if node is not None and node.op_type in kinds else None

    def users(self, value: str) -> tuple[Node, ...]:
        """The nodes that read a value."""
        return tuple(self._users.get(value, {}).values())

    def only_user(self, value: str) -> Node | None:
        """The one node that reads a value; `None` if there are several or it is an output of the graph."""
        users = self.users(value)
        return users[0] if len(users) == 1 and value not in self.outputs else None

    def is_constant(self, value: str) -> bool:
        """Whether a value is an initialiser or made by a Constant node."""
        return value in self.initializers or self.made_by(value, "Constant") is not None

    def constant(self, value: str) -> Array | None:
        """What an initialiser or a Constant node holds; `None` for anything computed."""
        if value in self.initializers:
            return np.asarray(self.held(value))
        node = self.made_by(value, "Constant")
        if node is None:
            return None
        held = helper.get_attribute_value(node.attribute[0])
        return numpy_helper.to_array(held) if isinstance(held, onnx.TensorProto) else np.asarray(held)

    def held(self, name: str) -> Tensor:
        """What an initialiser holds; a large matrix may be lazy."""
        if name in self._lazy:
            return self._lazy[name] if self._lazy[name].ndim == 2 else np.asarray(self._lazy[name])
        tensor = self.initializers[name]
        if self._data is not None and tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: int(entry.value) for entry in tensor.external_data if entry.key != "location"}
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            return self._data.read((entries["offset"], entries["length"]), dtype, tuple(tensor.dims))
        array: Array = numpy_helper.to_array(tensor)
        return array

    def whole(self, name: str) -> onnx.TensorProto:
        """An initialiser with its contents in it."""
        tensor = self.initializers[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return tensor
        return numpy_helper.from_array(np.ascontiguousarray(self.held(name)), name)

    def scalar(self, value: str) -> float | None:
        """A constant of one element as a float."""
        if math.prod(self.dims(value) or (1,)) != 1:
            return None
        array = self.constant(value)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def uncast(self, value: str) -> str:
        """Behind a Cast to fp32: the exporter writes one wherever a model asks for fp32, a no-op in an fp32 graph."""
        cast = self.made_by(value, "Cast")
        return cast.input[0] if cast is not None and self.attribute(cast, "to") == onnx.TensorProto.FLOAT else value

    def root(self, value: str) -> str:
        """Behind the Reshapes that a value went through."""
        while (node := self.made_by(value, "Reshape")) is not None:
            value = node.input[0]
        return value

    def dims(self, value: str) -> tuple[int, ...] | None:
        """Shape of an initialiser, without reading it."""
        tensor = self.initializers.get(value)
        return tuple(tensor.dims) if tensor is not None else None

    def attribute(self, node: Node, name: str, default: Any = None) -> Any:
        """The value of a node's attribute."""
        for attribute in node.attribute:
            if attribute.name == name:
                return helper.get_attribute_value(attribute)
        return default

    def attributes(self, node: Node) -> dict[str, Any]:
        """All attributes of a node by name, as `add` takes them."""
        return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

    def store(self, name: str, tensor: Tensor) -> str:
        """Add an initialiser (once per name) and return its name."""
        if name not in self.initializers:
            self.initializers[name] = self._proto(name, tensor)
        return name

    def store_finished(self, name: str, tensor: Tensor) -> str:
        """Add an initialiser that no pass changes any more: it goes to the model's data file, if there is one."""
        if name in self.initializers or self._data is None:
            return self.store(name, tensor)
        self.initializers[name] = external(name, tensor, *self._data.append(tensor), self._data.path.name)
        return name

    def overwrite(self, name: str, tensor: Tensor) -> None:
        """Let an initialiser hold other numbers."""
        self._lazy.pop(name, None)
        self.initializers[name].CopyFrom(self._proto(name, tensor))

    def _proto(self, name: str, tensor: Tensor) -> onnx.TensorProto:
        if not isinstance(tensor, LazyTensor):
            return numpy_helper.from_array(np.ascontiguousarray(tensor), name)
        self._lazy[name] = tensor
        return external(name, tensor)

    def drop(self, name: str) -> None:
        """Forget an initialiser that nothing reads any more, to free its memory at once."""
        if self.users(name):
            raise ValueError(f"initialiser {name} is still read")
        self.initializers.pop(name, None)
        self._lazy.pop(name, None)

    def add(self, kind: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: Any) -> str:
        """Add a node named after its first output and return that output. `domain` is taken among the attributes."""
        outputs = [output] if isinstance(output, str) else list(output)
        node = helper.make_node(kind, list(inputs), outputs, name=outputs[0], **attributes)
        self._nodes[id(node)] = node
        self._index(node)
        if node.domain:
            self._import(node.domain)
        return outputs[0]

    def remove(self, node: Node) -> None:
        """Take a node out; its outputs may be made anew afterwards."""
        del self._nodes[id(node)]
        for value in reads(node):
            self._users.get(value, {}).pop(id(node), None)
        for value in node.output:
            if self._makers.get(value) is node:
                del self._makers[value]

    def rewire(self, node: Node, old: str, new: str) -> None:
        """Let one node read `new` where it read `old`."""
        rename(node, {old: new})
        self._users.get(old, {}).pop(id(node), None)
        self._users.setdefault(new, {})[id(node)] = node

    def replace(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`."""
        for node in self.users(old):
            self.rewire(node, old, new)

    def ancestors(self, values: Iterable[str], stop: Mapping[str, Any] | None = None) -> list[Node]:
        """The nodes that some values depend on, each after what it reads; `stop` names values not to look behind."""
        stop = stop or {}
        order: list[Node] = []
        seen: set[int] = set()
        stack: list[tuple[Node, bool]] = []

        def push(names: Iterable[str]) -> None:
            for name in names:
                node = self._makers.get(name)
                if node is not None and name not in stop and id(node) not in seen:
                    stack.append((node, False))

        push(values)
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                push(reads(node))
        return order

    def sweep(self) -> None:
        """Write the graph back: nodes sorted, and without what no output depends on, inputs included."""
        order = self.ancestors(self.outputs)
        read = {value for node in order for value in reads(node)}
        self.initializers = {name: tensor for name, tensor in self.initializers.items() if name in read}
        for name in self._lazy.keys() - read:
            del self._lazy[name]
        # Copies: clearing the repeated field frees the messages that the index points to.
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
        for index in reversed(range(len(self.proto.initializer))):
            if self.initializers.get(self.proto.initializer[index].name) is not self.proto.initializer[index]:
                del self.proto.initializer[index]
        there = {tensor.name for tensor in self.proto.initializer}
        self.proto.initializer.extend(tensor for name, tensor in self.initializers.items() if name not in there)
        self.proto.ClearField("node")
        self.proto.ClearField("value_info")
        self.proto.node.extend(nodes)
        for value in [value for value in self.proto.input if value.name not in read]:
            self.proto.input.remove(value)
        self._read()

    def declare(self, name: str, element: int, shape: Sequence[str | int]) -> None:
        """Add an input of this ONNX element type and shape (a string is a free dimension)."""
        self.proto.input.append(helper.make_tensor_value_info(name, element, list(shape)))

    def expose(self, name: str, element: int, shape: Sequence[str | int]) -> None:
        """Make a value an output of this ONNX element type and shape."""
        self.proto.output.append(helper.make_tensor_value_info(name, element, list(shape)))

    def reshape(self, name: str, shape: Sequence[str | int]) -> None:
        """Write the shape of an input or output anew."""
        for value in (*self.proto.input, *self.proto.output):
            if value.name == name:
                element = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(name, element, list(shape)))

    def retype(self, name: str, element: int) -> None:
        """Write the ONNX element type of an input or output anew."""
        for value in (*self.proto.input, *self.proto.output):
            if value.name == name:
                value.type.tensor_type.elem_type = element

    def _index(self, node: Node) -> None:
        for value in node.output:
            if value:
                self._makers[value] = node
        for value in reads(node):
            if value:
                self._users.setdefault(value, {})[id(node)] = node

    def _import(self, domain: str) -> None:
        if all(entry.domain != domain for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, 1))


def external(name: str, tensor: Tensor, offset: int = 0, length: int = 0, location: str = "") -> onnx.TensorProto:
    """An initialiser without contents; with a location, that is where they are."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    proto = onnx.TensorProto(name=name, dims=tensor.shape, data_type=kind, data_location=onnx.TensorProto.EXTERNAL)
    if location:
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            proto.external_data.add(key=key, value=str(value))
    return proto
