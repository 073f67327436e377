"""A tensor that is read by rows is the array that it stands for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from nudge_onnx.errors import SourceError
from nudge_onnx.export.weights import DataFile, LazyTensor, equal, join, open_weights


def lazy(array: np.ndarray) -> LazyTensor:
    return LazyTensor(array.shape, lambda start, stop: array[start:stop])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.data())
def test_it_looks_like_the_array(rows: int, columns: int, transposed: bool, data: st.DataObject) -> None:
    array, tensor = numbers(rows, columns), lazy(numbers(rows, columns))
    if transposed:
        array, tensor = array.T, tensor.T
    assert (tensor.shape, tensor.size, tensor.nbytes, len(tensor)) == (
        array.shape,
        array.size,
        array.nbytes,
        len(array),
    )
    np.testing.assert_array_equal(np.asarray(tensor), array)
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(array)), st.integers(0, len(array)))))
    np.testing.assert_array_equal(tensor[start:stop], array[start:stop])
    picked = np.array(data.draw(st.lists(st.integers(0, len(array) - 1), min_size=1, max_size=5)))
    np.testing.assert_array_equal(tensor[picked], array[picked])
    np.testing.assert_array_equal(np.concatenate(list(tensor.pieces())), array)
    for axis in (0, 1):
        factors = numbers(array.shape[axis], seed=1)
        wanted = array * (factors[:, None] if axis == 0 else factors)
        np.testing.assert_array_equal(np.asarray(tensor.scaled(factors, axis)), wanted)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_joined_parts_are_the_concatenated_arrays(axis: int, transposed: bool) -> None:
    arrays = [
        numbers(size, 5, seed=size) if (axis == 1) == transposed else numbers(5, size, seed=size) for size in (2, 3)
    ]
    tensors = [lazy(array) for array in arrays]
    if transposed:
        arrays, tensors = [array.T for array in arrays], [tensor.T for tensor in tensors]
    joined = join(tensors, axis)
    np.testing.assert_array_equal(np.asarray(joined), np.concatenate(arrays, axis))
    # Along the rows that are read, nothing is read to join.
    assert isinstance(joined, LazyTensor) == (axis == int(transposed))


def test_equality_is_that_of_the_numbers() -> None:
    array = numbers(300, 20)
    other = array.copy()
    other[-1, -1] += 1
    assert equal(lazy(array), lazy(array.copy()))
    assert equal(lazy(array).T, lazy(array.copy()).T)
    assert equal(lazy(array), array)
    assert not equal(lazy(array), lazy(other))
    assert not equal(lazy(array), lazy(array[1:]))


def test_a_data_file_holds_what_was_appended(tmp_path: Path) -> None:
    small, large = numbers(3, 5), numbers(200, 100)
    with closing(DataFile(tmp_path / "data")) as data:
        places = [data.append(small), data.append(lazy(large).T), data.append(lazy(large), np.float16)]
        np.testing.assert_array_equal(data.read(places[0], np.float32, (3, 5)), small)
        np.testing.assert_array_equal(data.read(places[1], np.float32, (100, 200)), large.T)
        np.testing.assert_array_equal(data.read(places[2], np.float16, (200, 100)), large.astype(np.float16))
    assert places[0][0] == 0
    assert places[1][0] % 4096 == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_of_shards_are_read_where_they_are(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {f"layer.{n}": torch.from_numpy(numbers(7, 4, seed=n)).to(dtype) for n in range(3)}
    for n, (name, weight) in enumerate(weights.items()):
        if kind == "bin":
            torch.save({name: weight}, tmp_path / f"pytorch_model-{n}.bin")
        else:
            save_file({name: weight}, tmp_path / f"model-{n}.safetensors")
    found = open_weights(tmp_path, rename=str.upper)
    assert found.keys() == {name.upper() for name in weights}
    for name, weight in weights.items():
        np.testing.assert_array_equal(found[name.upper()][2:5], weight[2:5].float().numpy())


def test_a_weight_that_is_not_finite_is_named_when_it_is_read(tmp_path: Path) -> None:
    save_file({"bad": torch.tensor([[1.0], [float("nan")]])}, tmp_path / "model.safetensors")
    bad = open_weights(tmp_path)["bad"]
    assert bad[:1] == 1
    with pytest.raises(SourceError, match="the weight bad holds numbers that are not finite"):
        np.asarray(bad)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_file_that_ends_too_early_is_one_line(kind: str, tmp_path: Path) -> None:
    weights = {"layer": torch.from_numpy(numbers(70, 40))}
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")
    torch.save(weights, path) if kind == "bin" else save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(SourceError, match=f"{path.name} is corrupt or truncated .*; download it again") as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value)
