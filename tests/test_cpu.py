"""The quick forms of slow parts: torch's results and gradients, and its statistics where they are random."""

import pytest
import torch
from scipy.stats import chisquare

from headstart.encoder.convolutions import convolution, grouped_convolution
from headstart.encoder.model import new_config
from headstart.training.cpu import dropout, quicken

pytestmark = pytest.mark.usefixtures("one_thread")


def close(ours: torch.nn.Module, theirs, x: torch.Tensor) -> None:
    """The same values and gradients in float64."""
    results = []
    for apply in (lambda x: ours(x), theirs):
        x = x.detach().requires_grad_()
        theirs.zero_grad()
        out = apply(x)
        (out * torch.arange(out.numel(), dtype=out.dtype).view(out.shape).cos()).sum().backward()
        results.append([out, x.grad, *(p.grad.clone() for p in theirs.parameters())])
    for mine, torchs in zip(*results, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (4, 2), (400, 160), (1, 2), (5, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_clips_in_a_row_is_that_of_each(kernel, stride, bias):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(3, 4, kernel, stride, bias=bias).double()
    time = 5 * stride * max(1, kernel // stride)
    frames = (time - kernel) // stride + 1

    def ours(x_BCT):
        rows = convolution(conv, x_BCT.mT.reshape(-1, 3))
        return rows.view(2, -1, 4)[:, :frames].mT

    close(ours, conv, torch.randn(2, 3, time, dtype=torch.float64))


@pytest.mark.parametrize(
    ("channels", "groups", "kernel", "time"), [(24, 4, 9, 37), (24, 4, 32, 50), (32, 2, 16, 5), (8, 4, 6, 1)]
)
def test_a_grouped_convolution_is_torchs(channels, groups, kernel, time):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=groups).double()
    close(lambda x: grouped_convolution(x, conv), conv, torch.randn(3, channels, time, dtype=torch.float64))


def test_dropout_drops_its_share_anywhere_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(301, 1001, requires_grad=True)
    out = dropout(x, 0.1)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    # In every place of the 64 bits that four elements share.
    dropped = [int((out.flatten()[place::4] == 0).sum()) for place in range(4)]
    assert sum(dropped) / x.numel() == pytest.approx(0.1, abs=0.002) and chisquare(dropped).pvalue > 1e-4
    neighbours = ((out[:, 1:] == 0) & (out[:, :-1] == 0)).float().mean().item()
    assert neighbours == pytest.approx(0.01, abs=0.001)
    out.sum().backward()
    assert torch.equal(x.grad, out)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.1), out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quickened_network_is_the_same_network(dtype, tiny_model):
    from transformers import Wav2Vec2Model

    torch.manual_seed(0)
    config = new_config(tiny_model.model_copy(update={"position_kernel": 32}))
    config.update({"hidden_dropout": 0.3, "activation_dropout": 0.3})
    network = Wav2Vec2Model(config).to(dtype).eval()
    audio = torch.randn(2, 16_000, dtype=dtype)
    with torch.no_grad():
        before = network(audio).last_hidden_state
        quicken(network)
        after = network(audio).last_hidden_state
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.1)
        network.train()
        assert not torch.allclose(network(audio).last_hidden_state, after, atol=0.2)  # dropout is on again
