"""Cuts cache tensors to their first positions on the device where they lie.

ONNX Runtime's values have no slices, and a copy through the host at every rewind would cost more than the pass. So this
is a graph of its own, one Slice a tensor. It is spelt out in protobuf here, for the runtime does not depend on `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..sessions.providers import onnxruntime

__all__ = ["keep_positions", "slicing_graph"]

_FLOAT, _INT64, _FLOAT16 = 1, 7, 10  # of TensorProto.DataType
_OPSET, _IR_VERSION = 13, 8


def keep_positions(values: Sequence[Any], length: int, dtype: str, device: str, device_id: int) -> list[Any]:
    """The first `length` positions of each `[1, heads, positions, size]` value, as new values on the same device."""
    session = _session(len(values), _FLOAT16 if dtype == "float16" else _FLOAT, device, device_id)
    binding = session.io_binding()
    end = np.array([length], np.int64)
    binding.bind_cpu_input("length", end)
    for index, value in enumerate(values):
        binding.bind_ortvalue_input(f"in.{index}", value)
        binding.bind_output(f"out.{index}", device, device_id)
    session.run_with_iobinding(binding)
    return list(binding.get_outputs())


@lru_cache(maxsize=8)
def _session(count: int, element: int, device: str, device_id: int) -> Any:
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # copies; and no second set of threads beside the model's
    name, settings = ("CUDAExecutionProvider", {"device_id": str(device_id)}) if device == "cuda" else (None, {})
    providers = [(name, settings)] if name else []
    return ort.InferenceSession(
        slicing_graph(count, element), options, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0
    )


def slicing_graph(count: int, element: int) -> bytes:
    """A ModelProto with `count` nodes out.i = Slice(in.i, starts=[0], ends=length, axes=[2])."""
    nodes, inputs, outputs = [], [_value("length", _INT64, 1)], []
    for index in range(count):
        names = [f"in.{index}", "start", "length", "axis"]
        nodes.append(_join(*(_text(1, name) for name in names), _text(2, f"out.{index}"), _text(4, "Slice")))
        inputs.append(_value(f"in.{index}", element, 4))
        outputs.append(_value(f"out.{index}", element, 4))
    graph = _join(
        *(_field(1, node) for node in nodes),
        _text(2, "keep_positions"),
        *(_field(5, _constant(name, number)) for name, number in (("start", 0), ("axis", 2))),
        *(_field(11, value) for value in inputs),
        *(_field(12, value) for value in outputs),
    )
    return _join(_number(1, _IR_VERSION), _field(7, graph), _field(8, _number(2, _OPSET)))


def _value(name: str, element: int, rank: int) -> bytes:
    """A ValueInfoProto of unknown dimensions."""
    shape = _join(*(_field(1, b"") for _ in range(rank)))
    return _join(_text(1, name), _field(2, _field(1, _join(_number(1, element), _field(2, shape)))))


def _constant(name: str, number: int) -> bytes:
    """A TensorProto, int64 [1]."""
    return _join(_number(1, 1), _number(2, _INT64), _text(8, name), _field(9, np.array([number], "<i8").tobytes()))


def _join(*parts: bytes) -> bytes:
    return b"".join(parts)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    return bytes(_septets(value))


def _septets(value: int) -> Iterable[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
