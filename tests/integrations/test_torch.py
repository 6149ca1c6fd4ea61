"""`watch` in a plain training loop."""

import math
import sys

import pytest

torch = pytest.importorskip("torch")

from casket_integrations.torch import watch  # noqa: E402

pytestmark = pytest.mark.frameworks


def train(net, steps, optimizer=torch.optim.SGD, scale=1.0):
    """Train, and return the norms of gradients and weights before each step."""
    torch.manual_seed(0)
    optimizer = optimizer(net.parameters(), 0.1)
    norms = []
    for _ in range(steps):
        optimizer.zero_grad()
        (net(torch.rand(4, 2)).square().mean() * scale).backward()
        norms.append([(p.grad.norm().item(), p.norm().item()) for p in net.parameters()])
        optimizer.step()
    return norms


def test_norms_equal_those_that_torch_computes(memory):
    net = torch.nn.Linear(2, 1)
    with memory.session() as session:
        watch(session, net, every=3)
        norms = train(net, 7)
    rows = memory.sessions()[0].batches
    assert [row["batch_num"] for row in rows] == [0, 3, 6]
    for row, ((grad, weight), (other_grad, other_weight)) in zip(rows, norms[::3], strict=True):
        assert row["grad_norm.weight"] == pytest.approx(grad)
        assert row["grad_norm.bias"] == pytest.approx(other_grad)
        assert row["grad_norm"] == pytest.approx(math.hypot(grad, other_grad))
        assert row["weight_norm.weight"] == pytest.approx(weight)
        assert row["weight_norm"] == pytest.approx(math.hypot(weight, other_weight))
        assert row["grad_not_finite"] == row["weight_not_finite"] == 0


def test_values_that_are_not_finite_are_counted(memory):
    net = torch.nn.Linear(2, 1)
    with memory.session() as session:
        watch(session, net, every=1)
        train(net, 2, scale=math.inf)
    first, second = memory.sessions()[0].batches
    assert (first["grad_not_finite"], first["weight_not_finite"]) == (3, 0)
    assert (second["grad_not_finite"], second["weight_not_finite"]) == (3, 3)
    assert not math.isfinite(second["weight_norm"])


def test_the_hook_is_removed_at_the_end_and_ignores_other_modules(memory):
    hooks = sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks
    before = len(hooks)
    with memory.session({"a": 1}) as session:
        watch(session, torch.nn.Linear(2, 1), every=1)
        assert len(hooks) == before + 1
        train(torch.nn.Linear(2, 1), 2)
    assert len(hooks) == before
    session = memory.session({"a": 2})
    watched = watch(session, torch.nn.Linear(2, 1))
    session.end("failed")
    assert len(hooks) == before
    watched.remove()
    assert [len(session.batches) for session in memory.sessions()] == [0, 0]


def test_gradients_may_be_sparse(memory):
    net = torch.nn.Embedding(4, 2, sparse=True)
    with memory.session() as session:
        watch(session, net)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        net(torch.tensor([1, 1])).sum().backward()
        optimizer.step()
    (row,) = memory.sessions()[0].batches
    assert row["grad_norm"] == pytest.approx(math.hypot(2, 2))


def test_a_module_without_gradients_and_a_wrong_interval(memory):
    net = torch.nn.Linear(2, 1)
    net.bias.requires_grad_(False)
    with memory.session() as session:
        with pytest.raises(ValueError, match="every=0"):
            watch(session, net, every=0)
        watch(session, net)
        optimizer = torch.optim.Adam([net.weight])
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    (row,) = memory.sessions()[0].batches
    assert "grad_norm.weight" in row
    assert "grad_norm.bias" not in row
    assert "weight_norm.bias" in row


def test_weights_in_any_group_of_the_optimizer_are_watched(memory):
    net, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD([{"params": []}, {"params": other.parameters()}], 0.1)
    with memory.session() as session:
        watch(session, net, every=1)
        optimizer.step()
        optimizer.add_param_group({"params": net.parameters()})
        optimizer.step()
    assert len(memory.sessions()[0].batches) == 1
