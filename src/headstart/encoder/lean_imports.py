"""Imports of transformers' model classes without the packages that come with them and are not used here.

The classes import torch's compiler (1,000 modules, sympy among them), its distributed tensors, and scipy, which takes
half of the time in which a process with them starts. A study has two such processes for each run, so on a small study
this is more than its training. Nothing here compiles a network, splits its tensors over processes, or detects objects.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

COMPILER = "torch._dynamo"
TRACING = f"{COMPILER}._trace_wrapped_higher_order_op"
UNUSED = ("is_scipy_available", "is_torch_flex_attn_available", "is_torch_distributed_available")


def unchanged(function: Callable) -> Callable:
    return function


class LazyCompiler(ModuleType):
    """Stands in for torch's compiler until more of it is used than what has no effect while nothing is compiled.

    torch's optimisers and transformers mark functions that compiled code treats in special ways, and where it is to be
    interrupted (`graph_break`). Any other attribute imports the compiler itself, which then takes this place.
    """

    @staticmethod
    def disable(function: Callable | None = None, recursive: bool = True, **_: Any) -> Callable:
        return unchanged if function is None else function

    @staticmethod
    def graph_break(msg: str = "") -> None:
        pass

    allow_in_graph = assume_constant_result = staticmethod(unchanged)
    trace_rules = SimpleNamespace(clear_lru_cache=lambda: None)  # torch.distributed clears it for each process group

    def __getattr__(self, name: str) -> Any:
        return getattr(the_compiler(), name)


def the_compiler() -> ModuleType:
    """torch's compiler, imported in the place of what stands in for it."""
    for name in (COMPILER, TRACING):
        if isinstance(sys.modules.get(name), LazyCompiler | LazyTracing):
            del sys.modules[name]
    return importlib.import_module(COMPILER)


class LazyTracing(ModuleType):
    """Stands in for the one module of the compiler that transformers imports a name from, for masks of other models."""

    class TransformGetItemToIndex:
        def __new__(cls) -> Any:
            the_compiler()
            return importlib.import_module(TRACING).TransformGetItemToIndex()


def import_models() -> None:
    """Import what all of transformers' model classes are built on; they themselves are then imported on first use."""
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = LazyCompiler(COMPILER)
        sys.modules[TRACING] = LazyTracing(TRACING)
    from transformers import utils
    from transformers.utils import import_utils

    unused = {name: lambda: False for name in UNUSED if hasattr(import_utils, name)}
    with mock.patch.multiple(import_utils, **unused), mock.patch.multiple(utils, create=True, **unused):
        importlib.import_module("transformers.modeling_layers")


def quick_norms() -> AbstractContextManager[None]:
    """Within this context, a network without data gets the norms of its weights without torch's symbolic shapes.

    transformers first builds the network of a checkpoint on the device `meta`, where tensors have shapes only. torch
    computes the norms of a weight-normalised convolution there with operations that import sympy.
    """
    import torch

    exact = torch.norm_except_dim

    def norm_except_dim(weight: torch.Tensor, power: int = 2, dim: int = 0) -> torch.Tensor:
        if weight.device.type != "meta":
            return exact(weight, power, dim)
        return weight.new_empty([size if i == dim else 1 for i, size in enumerate(weight.shape)] if dim >= 0 else [])

    return mock.patch.object(torch, "norm_except_dim", norm_except_dim)
