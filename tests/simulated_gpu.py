"""A GPU that is simulated on the CPU, so that mistakes about devices, and waiting for the GPU, are seen without one.

A tensor on the simulated GPU says that its device is `cuda:0`, and has its values on the CPU. Operations on such
tensors are computed with these values, backward passes too. An operation that also gets a CPU tensor is first given to
torch's `FakeTensorMode`, which raises where a real GPU would. Whatever would make the CPU wait for the GPU is noted,
with the function of Headstart that asked for it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_stack
from typing import Any

import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

import headstart

aten = torch.ops.aten
DEVICE, CPU = torch.device("cuda", 0), torch.device("cpu")
LIBRARY = str(Path(headstart.__file__).parent)
# Their results have a size, or are a Python value, that depends on values.
READING = {
    aten._local_scalar_dense.default: "a value",
    aten.nonzero.default: "a shape",
    aten.masked_select.default: "a shape",
    aten.bincount.default: "a shape",
    aten.equal.default: "a value",
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class OnGpu(torch.Tensor):
    """A tensor on the simulated GPU. For torch's own code below Python it is on the CPU, whose engine computes it."""

    values: torch.Tensor
    is_cuda, is_cpu = True, False

    @staticmethod
    def __new__(cls, values: torch.Tensor):
        place = {"strides": values.stride(), "storage_offset": values.storage_offset(), "device": CPU}
        return torch.Tensor._make_wrapper_subclass(cls, values.size(), **place, dtype=values.dtype)

    def __init__(self, values: torch.Tensor):
        self.values = values

    @property
    def device(self) -> torch.device:
        return DEVICE

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, other)
        self.values = other.values

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if device is None or device.type == "cuda":
            return self if dtype in (None, self.dtype) else super().to(dtype)
        return self.cpu().to(dtype or self.dtype)

    def cpu(self) -> torch.Tensor:
        waited("a copy back")
        return self.values.clone()

    def tolist(self) -> Any:
        waited("a value")
        return self.values.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the simulated GPU")


waits: Counter[tuple[str, str]] = Counter()


def waited(kind: str) -> None:
    """Note that the CPU waits for the GPU, and for which function of Headstart."""
    frames = [frame for frame in extract_stack() if frame.filename.startswith(LIBRARY)]
    place = f"{Path(frames[-1].filename).relative_to(LIBRARY)}:{frames[-1].name}" if frames else "elsewhere"
    waits[kind, place] += 1


class Simulation(TorchDispatchMode):
    """Computes the operations on tensors of the simulated GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        there = [isinstance(x, OnGpu) for x in tensors]
        asked = torch.device(kwargs.get("device") or CPU)
        if not any(there) and asked.type != "cuda":
            return func(*args, **kwargs)
        if not all(there):
            self.check(func, args, kwargs)
        note(func, args, kwargs)
        if "device" in kwargs:
            kwargs["device"] = CPU
        values = [tree_map(lambda x: x.values if isinstance(x, OnGpu) else x, given) for given in (args, kwargs)]
        found = func(*values[0], **values[1])
        if func is aten.copy_.default:
            return args[0]
        found = tree_map(lambda x: OnGpu(x) if isinstance(x, torch.Tensor) else x, found)
        return return_and_correct_aliasing(func, args, kwargs, found)

    def check(self, func: Any, args: Any, kwargs: Any) -> None:
        """Raise where an operation of tensors here and there fails on a real GPU."""
        if func.overloadpacket in (aten._ctc_loss, aten._ctc_loss_backward):
            # Its lengths are wanted on the CPU, which FakeTensorMode does not know; all else is on one device.
            if len({x.device for x in args[: 2 if func.overloadpacket is aten._ctc_loss else 3]}) > 1:
                raise RuntimeError(f"{func}: two different devices")
            return
        if func is aten._to_copy.default:
            return

        def faked(x: Any) -> Any:
            if isinstance(x, OnGpu):
                return FakeTensor(self.fake, torch.empty_like(x.values, device="meta"), DEVICE)
            return self.fake.from_tensor(x) if isinstance(x, torch.Tensor) else x

        given, options = tree_map(faked, args), tree_map(faked, kwargs)
        try:
            with self.fake:
                func(*given, **options)
        except DynamicOutputShapeException:
            pass


def note(func: Any, args: Any, kwargs: Any) -> None:
    """Note it when an operation makes the CPU wait."""
    if func in READING:
        waited(READING[func])
    elif func in INDEXING:
        chosen = [x for x in args[1] if x is not None]
        # A mask that chooses where to put one number is no index.
        number = len(args) > 2 and args[2].numel() == 1
        if any(x.dtype in (torch.bool, torch.uint8) for x in chosen) and not number:
            waited("a shape")
        elif any(not isinstance(x, OnGpu) for x in chosen):
            waited("a copy")
    elif func is aten._to_copy.default and not isinstance(args[0], OnGpu):
        if not (kwargs.get("non_blocking") and getattr(args[0], "page_locked", False)):
            waited("a copy")
    elif func is aten.copy_.default and len({isinstance(x, OnGpu) for x in args[:2]}) > 1 and args[1].ndim:
        waited("a copy")


def _page_locked(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.clone()
    copy.page_locked = True
    return copy


def _one_hot(index: torch.Tensor, classes: int) -> torch.Tensor:
    """torch's begins with a tensor on the device that it takes the index to have."""
    return (index[..., None] == torch.arange(classes, device=index.device)).long()


def _grouped(tensors: Any, *arguments: Any, **options: Any) -> dict[Any, Any]:
    """Tensors by device and type; torch's sees the device below Python."""
    found = _grouped_below(tensors, *arguments, **options)
    return {
        (DEVICE if isinstance(group[0][0][0], OnGpu) else device, dtype): group
        for (device, dtype), group in found.items()
    }


_grouped_below = torch.nn.utils.clip_grad._group_tensors_by_device_and_dtype


@contextmanager
def simulated_gpu(monkeypatch: Any) -> Iterator[Counter[tuple[str, str]]]:
    """A context in which torch has one GPU. It gives the counts of what makes the CPU wait: kind and function."""
    with monkeypatch.context() as patch:
        for name, value in (
            ("is_available", True), ("device_count", 1), ("set_device", None), ("get_device_name", "simulated"),
            ("is_bf16_supported", False), ("is_current_stream_capturing", False), ("empty_cache", None),
            ("manual_seed_all", None), ("_lazy_init", None), ("is_initialized", True),
        ):  # fmt: skip
            patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
        patch.setattr("torch._subclasses.fake_tensor.init_gpu_context", lambda device: None)
        # Otherwise the parameters of a network that is moved would be the same objects, without values on the GPU.
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        patch.setattr(torch.Tensor, "pin_memory", _page_locked)
        patch.setattr(torch.Tensor, "type_as", lambda self, other: self.to(other.device, other.dtype))
        patch.setattr(torch.nn.functional, "one_hot", _one_hot)
        patch.setattr(torch.nn.utils.clip_grad, "_group_tensors_by_device_and_dtype", _grouped)
        waits.clear()
        with Simulation():
            yield waits
