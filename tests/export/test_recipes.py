"""The table of recipes: every target has every precision, and what `--no-pass` leaves out."""

from __future__ import annotations

import itertools
import json
from importlib.resources import files
from typing import get_args

import pytest

from nudge_onnx.choices import GateName, Policy, Precision, Target
from nudge_onnx.export.recipes import INT8_CACHE, PASSES, PRECISION_OF_TARGET, RECIPES, SMOOTH_QUANT


def test_every_target_has_a_recipe_for_every_precision() -> None:
    assert set(RECIPES) == set(itertools.product(get_args(Target), get_args(Precision)))
    assert set(PRECISION_OF_TARGET) == set(get_args(Target))
    assert all(recipe.precision == precision for (_, precision), recipe in RECIPES.items())


def test_every_pass_is_listed_once_in_the_order_in_which_recipes_run_them() -> None:
    assert len(set(PASSES)) == len(PASSES)
    for recipe in RECIPES.values():
        assert [name for name in PASSES if name in recipe.passes] == list(recipe.passes)
    assert set(PASSES) == {name for recipe in RECIPES.values() for name in recipe.passes}


def test_a_pass_that_is_left_out_is_nowhere_in_the_recipe() -> None:
    recipe = RECIPES["cpu", "int8"]
    for name in recipe.passes:
        assert name not in recipe.without([name]).passes
    assert not recipe.without([SMOOTH_QUANT]).smoothed
    assert recipe.without([]) == recipe


def test_an_unknown_pass_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown pass fuse-everything; there are fold-tied-head, last-rows"):
        RECIPES["cpu", "fp32"].without({INT8_CACHE, "fuse-everything"})


def test_the_schema_of_the_manifest_has_the_same_names() -> None:
    schema = json.loads(files("nudge_onnx").joinpath("bundle.schema.json").read_text(encoding="utf-8"))

    def names_of(field: str) -> list[list[str]]:
        def walk(node: object) -> list[list[str]]:
            if isinstance(node, dict):
                own = [node[field]["enum"]] if isinstance(node.get(field), dict) and "enum" in node[field] else []
                return own + [found for value in node.values() for found in walk(value)]
            return []

        return walk(schema)

    for field, choices in (("precision", Precision), ("policy", Policy), ("gate", GateName)):
        assert names_of(field) == [list(get_args(choices))]
