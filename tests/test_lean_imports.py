"""What a process of a training stage imports."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from headstart.encoder.lean_imports import quick_norms

ROOT = Path(__file__).parents[1]
TRAIN = """
import torch
import headstart.finetune, headstart.pretrain, headstart.semisup
from headstart.encoder.checkpoints import ctc_model
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.training.optimiser import MasterWeights

network = ctc_model(None, Model(), {"<pad>": 0, "a": 1}, dropout=0.1)
network = ctc_model("starts/mono", None, {"<pad>": 0, "a": 1}, dropout=0.1)
weights = MasterWeights(network, Finetune(), torch.float32)
network(torch.zeros(1, 16000)).logits.sum().backward()
weights.collect()
weights.step(1e-3)
"""


def python(*lines: str) -> str:
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_imports_no_compiler():
    """A process that trains starts in half the time without torch's compiler, which it does not use."""
    found = set(python(TRAIN, "import sys; print(*sys.modules)").split())
    assert "transformers.modeling_utils" in found
    assert not found & {
        "torch._dynamo.symbolic_convert",
        "torch._inductor",
        "sympy",
        "scipy",
        "torch.distributed.tensor",
    }


def test_networks_can_be_compiled_all_the_same():
    """The compiler is imported where it is needed."""
    compiled = "f = torch.compile(lambda x: x + 1, backend='eager'); print(f(torch.ones(1)).item())"
    assert python(TRAIN, "import torch._dynamo.config", compiled).split() == ["2.0"]


@pytest.mark.parametrize("dim", [-1, 0, 2])
def test_norms_have_their_shapes_without_data_too(dim):
    with quick_norms():
        without = torch.norm_except_dim(torch.empty(4, 3, 2, device="meta"), 2, dim)
        assert torch.equal(torch.norm_except_dim(torch.ones(4, 3, 2), 2, dim).flatten(), expected(dim).flatten())
    assert without.shape == expected(dim).shape and without.device.type == "meta"


def expected(dim: int) -> torch.Tensor:
    return torch.norm_except_dim(torch.ones(4, 3, 2), 2, dim)
