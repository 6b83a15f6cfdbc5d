"""The teacher: its closed form, and that it leaves the student as it found it."""

import pytest
import torch

from headstart.study.pretrain import Pretrain
from headstart.training.optimiser import MasterWeights
from headstart.training.teacher import Teacher


def student(dtype: torch.dtype = torch.float32) -> MasterWeights:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
    return MasterWeights(network, Pretrain(weight_decay=0.1), dtype)


def updated(weights: MasterWeights) -> dict[str, torch.Tensor]:
    """The student's weights after one more update on random gradients."""
    for p in weights.master.values():
        p.grad = torch.randn_like(p)
    weights.step(0.1)
    return {name: p.detach().clone() for name, p in weights.master.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_exponential_moving_average_of_the_students_weights(dtype):
    weights, decay = student(dtype), 0.9
    teacher = Teacher(weights)
    history = [{name: p.detach().clone() for name, p in weights.master.items()}]
    for _ in range(10):
        history.append(updated(weights))
        teacher.follow(weights, decay)
    n = len(history) - 1
    for name, average in teacher.state().items():
        assert average.dtype == torch.float32
        expected = decay**n * history[0][name].double()
        for k in range(1, n + 1):
            expected += (1 - decay) * decay ** (n - k) * history[k][name].double()
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6)
        assert (average - history[-1][name]).abs().max() > 0.05


def test_a_slow_teacher_moves_by_less_than_the_networks_type_can_tell():
    weights = student(torch.bfloat16)
    teacher = Teacher(weights)
    before = {name: p.clone() for name, p in teacher.state().items()}
    updated(weights)
    teacher.follow(weights, 0.9999)
    for name, p in teacher.state().items():
        assert 0 < (p - before[name]).abs().max() < 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_it_stands_in_and_then_the_network_is_the_students_again(training):
    weights = student()
    teacher = Teacher(weights, lambda name: name.startswith("0."))  # the second layer is the student's
    for _ in range(3):
        updated(weights)
    network, x = weights.network.train(training), torch.randn(5, 3)
    own = {name: (p, p.data_ptr(), p.detach().clone()) for name, p in network.named_parameters()}
    average, (_, _, last) = teacher.state(), own["2.weight"]
    expected = (x @ average["0.weight"].T + average["0.bias"]) @ last.T + own["2.bias"][2]
    with teacher.standing_in():
        assert not any(module.training for module in network.modules())
        given = network(x)
        assert not given.requires_grad and torch.equal(network[2].weight, last)
    torch.testing.assert_close(given, expected)
    assert all(module.training is training for module in network.modules())
    assert torch.is_grad_enabled()
    for name, p in network.named_parameters():
        parameter, place, value = own[name]
        assert p is parameter and p.data_ptr() == place and torch.equal(p, value)


def test_it_steps_aside_when_something_fails():
    weights = student()
    teacher = Teacher(weights)
    value = updated(weights)["0.weight"]
    with pytest.raises(RuntimeError), teacher.standing_in():
        raise RuntimeError
    assert torch.equal(weights.network[0].weight, value) and weights.network.training and torch.is_grad_enabled()


def test_a_students_updates_are_those_without_a_teacher():
    def trained(taught: bool) -> dict[str, torch.Tensor]:
        weights = student(torch.bfloat16)
        teacher = Teacher(weights)
        for seed in range(3):
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).bfloat16()
            target = torch.zeros(5, 2)
            if taught:
                with teacher.standing_in():
                    weights.network(x)
            torch.manual_seed(seed)
            (weights.network(x) - target).square().mean().backward()
            weights.collect()
            weights.step(0.1)
            if taught:
                teacher.follow(weights, 0.5)
        return weights.state()

    alone, taught = trained(False), trained(True)
    assert alone.keys() == taught.keys() and all(torch.equal(taught[name], p) for name, p in alone.items())


def test_a_restored_teacher_goes_on_as_the_saved_one():
    weights = student(torch.bfloat16)
    teacher = Teacher(weights)
    for _ in range(3):
        updated(weights)
        teacher.follow(weights, 0.7)
    again = student(torch.bfloat16)
    other = Teacher(again)
    again.restore({name: p.clone() for name, p in weights.state().items()})
    other.restore({name: p.clone() for name, p in teacher.state().items()})
    for one, its in ((weights, teacher), (again, other)):
        torch.manual_seed(9)
        updated(one)
        its.follow(one, 0.7)
    assert all(torch.equal(other.state()[name], p) for name, p in teacher.state().items())
    assert all(torch.equal(other.copies[name], p) for name, p in teacher.copies.items())
