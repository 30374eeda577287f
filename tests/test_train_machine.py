"""Micro-batches, memory, precision, compiling; GPUs and processes are pretended."""

import os
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from tiny_training import TINY, pictures, quiet, weights

from vggbook.model import Network
from vggbook.train import load_run, machine
from vggbook.train.machine import (
    Machine,
    choose_device,
    choose_precision,
    from_first,
    process_group,
    share_threads,
    world,
)

GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_micro_batches_change_nothing(size):
    whole, parts = quiet(TINY), quiet(TINY, micro_batch=size)  # with dropout: masks follow images
    torch.testing.assert_close(weights(parts), weights(whole), atol=1e-6, rtol=0)


def short_of_memory(monkeypatch, most):
    """Passes of more than ``most`` training images fail; returns the sizes that were tried."""
    forward, sizes = Network.forward, []

    def short(self, images):
        sizes.append(len(images))
        if self.training and len(images) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", short)
    return sizes


@pytest.mark.parametrize("most, tried", [(2, [8, 4, 2, 2]), (1, [8, 4, 2, 1, 1])])
def test_halves_the_micro_batch_when_memory_runs_out(monkeypatch, most, tried):
    whole, lines = quiet(TINY), []
    sizes = short_of_memory(monkeypatch, most)
    run = quiet(TINY, log=lines.append)
    assert sizes[: len(tried)] == tried and max(sizes[len(tried) - 1 :]) == most
    told = f"out of GPU memory: going on with micro-batches of {most}; the batch stays 8"
    assert [line for line in lines if line == told]
    torch.testing.assert_close(weights(run), weights(whole), atol=1e-6, rtol=0)


def test_a_failed_attempt_leaves_no_trace_in_batch_norm(monkeypatch):
    """The memory ends in the second half of the batch, when statistics have moved already."""
    recipe = replace(TINY, batch_norm=True, max_epochs=1)
    calm = quiet(recipe, micro_batch=2).model.state_dict()
    forward, calls = Network.forward, []

    def once(self, images):
        calls.append(len(images))
        if len(calls) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", once)
    shaken = quiet(recipe, micro_batch=4).model.state_dict()
    assert calls[:4] == [4, 4, 2, 2]
    for key, value in calm.items():
        torch.testing.assert_close(shaken[key], value, atol=1e-6, rtol=0)


def test_one_image_too_many_is_an_error(monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        quiet(TINY)


def test_bf16_on_the_cpu_stays_near_fp32():
    recipe = replace(TINY, dropout=0.0)
    a, b = quiet(recipe), quiet(recipe, precision="bf16")
    assert 0 < abs(a.history.losses[0] - b.history.losses[0]) < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_passes_have_the_type_that_was_chosen(dtype):
    """Convolutions in that type, scores in float32; None is float32 throughout."""
    seen = []
    for chosen in (dtype, None):
        machine = Machine(TINY.net(4), TINY, torch.device("cpu"), chosen)
        machine.features.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
        assert machine.logits(torch.randn(2, 3, 32, 32)).dtype == torch.float32
    assert seen == [dtype, torch.float32]


def test_pixels_lie_beside_their_channels():
    """channels_last, weights and images: what convolutions are fast with, on a CPU and a GPU."""
    seen = []
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"))
    machine.features.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    machine.logits(torch.randn(2, 3, 32, 32))
    weight = machine.features[3].weight  # conv2_1, (4, 2, 3, 3)
    for tensor in (weight, *seen):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


def test_a_share_without_images_takes_one_pass(monkeypatch):
    """Its process takes part in the exchange all the same."""
    sizes = short_of_memory(monkeypatch, 8)
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"), micro_batch=1)
    none = torch.zeros(0, dtype=torch.int64)
    loss = machine.gradient(torch.zeros(0, 3, 32, 32), none, none, epoch=0)
    assert sizes == [0] and float(loss) == 0
    assert all(not weight.grad.any() for weight in machine.net.parameters())


def test_compiling_changes_rounding_only(monkeypatch, tmp_path):
    """What torch.compile traces, run without machine code: the same weights, the same names."""
    graphs, compile = [], torch.compile

    def backend(graph, inputs):
        graphs.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    def traced(*args, mode, **options):
        return compile(*args, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", traced)
    torch._dynamo.reset()
    plain, compiled = (
        quiet(TINY, val=pictures(16), out=tmp_path / str(c), compile=c) for c in (False, True)
    )
    assert len(graphs) == 2  # one for training, one for validation
    assert min(graphs) >= 8 * 2 + 5  # all convolutions, ReLUs and pools of A
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict())
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-4, atol=1e-6)
    assert load_run(compiled.checkpoint).history.losses == compiled.history.losses
    compiled.model.features(torch.zeros(1, 3, 40, 48))
    assert len(graphs) == 2, "the net that is handed back still compiles"


# --- what is chosen -------------------------------------------------------------------------
@pytest.fixture
def pretend(monkeypatch):
    """Two GPUs of a given capability, which only answer questions."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return chosen


@pytest.mark.parametrize(
    "capability, dtype",
    [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16)],
)
def test_precision_follows_the_hardware(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", GPU) is dtype
    assert choose_precision("fp32", GPU) is None
    assert choose_precision("fp16", GPU) is torch.float16


def test_precision_without_a_gpu():
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) is None
    assert choose_precision("bf16", cpu) is torch.bfloat16
    with pytest.raises(ValueError, match=r"precision='fp16': expected .*needs a GPU"):
        choose_precision("fp16", cpu)
    with pytest.raises(ValueError, match=r"precision='fp8': expected one of 'auto'"):
        choose_precision("fp8", cpu)


@pytest.mark.parametrize(
    "name, rank, index",
    [("auto", None, 0), ("cuda", "1", 1), ("cuda", "3", 1), ("cuda:1", "0", 1)],
)
def test_each_process_has_a_gpu_of_its_own(pretend, monkeypatch, name, rank, index):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(name) == torch.device("cuda", index) == pretend[0]
    assert torch.backends.cudnn.benchmark


def test_a_device_that_is_not_here_is_named(pretend, monkeypatch):
    with pytest.raises(ValueError, match=r"device='cuda:2': expected one of the 2 GPUs here"):
        choose_device("cuda:2")
    with pytest.raises(ValueError, match="device='abacus': expected a device"):
        choose_device("abacus")
    assert choose_device("cpu") == torch.device("cpu") and not pretend
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device='cuda': expected .*no GPU"):
        choose_device("cuda")


def test_cores_are_shared_among_the_processes_of_a_machine(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    share_threads(2)
    assert asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    for processes in (1, 2, 12):
        share_threads(processes)
    assert asked == [6, 3, 1]


# --- calls that only a GPU would get ----------------------------------------------------------
def marks(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: calls.append(1))
    return calls


def test_cuda_graphs_are_for_compiled_nets_on_gpus(monkeypatch):
    """On the CPU no CUDA-graph call is made, compiled or not."""
    calls, modes = marks(monkeypatch), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: modes.append(how))
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    for compile in (False, True):
        machine = Machine(TINY.net(4), TINY, torch.device("cpu"), compile=compile)
        machine.gradient(images, labels, torch.arange(4), epoch=0)
    assert calls == [] and modes == [{"dynamic": False, "mode": None}]
    Machine(TINY.net(4), TINY, torch.device("cpu"))
    assert len(modes) == 1  # nothing is compiled unless it is asked for


@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu_each_pass_begins_a_graph_where_compiled(monkeypatch, compile):
    calls, modes = marks(monkeypatch), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: modes.append(how))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *place, **how: self)
    recipe = replace(TINY, batch_size=4)
    machine = Machine(recipe.net(4), recipe, GPU, None, compile, micro_batch=2)
    machine.device = torch.device("cpu")  # the rest is computed here
    machine.gradient(torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4), epoch=0)
    assert len(calls) == 2 * compile
    assert modes == [{"dynamic": False, "mode": "reduce-overhead"}] * compile


def on_gpu(monkeypatch):
    """Nets stay where they are, whatever the device."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *place, **how: self)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_gradients_are_scaled_for_fp16_alone(monkeypatch, dtype):
    made = []
    on_gpu(monkeypatch)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *given, **how: made.append((given, how)))
    Machine(TINY.net(4), TINY, GPU, dtype)
    assert made == [(("cuda",), {"enabled": dtype == torch.float16})]


def test_memory_is_given_back_before_a_smaller_attempt(monkeypatch):
    given_back = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(1))
    short_of_memory(monkeypatch, 3)
    quiet(replace(TINY, max_epochs=1))
    assert len(given_back) == 2  # 8 -> 4 -> 2


def test_an_uneven_micro_batch_is_halved_upwards(monkeypatch):
    sizes = short_of_memory(monkeypatch, 3)
    quiet(replace(TINY, max_epochs=1), micro_batch=5)
    assert sizes[:4] == [5, 3, 3, 2]


# --- two processes, pretended -------------------------------------------------------------------
class Exchange:
    """Stands for torch.distributed and its wrapper: process 0 of two, the other one agrees."""

    def __init__(self, monkeypatch, other_fails=0):
        self.silent, self.wrapped, self.views, self.reduced = [], [], [], []
        self.other_fails = other_fails
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: 0)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "all_reduce", self.all_reduce)
        monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", self.wrap)

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM):
        self.reduced.append(op)
        if op == dist.ReduceOp.MAX:
            tensor.fill_(max(float(tensor), float(self.other_fails > 0)))
            self.other_fails -= 1
        else:
            tensor.mul_(2)  # the other process has the same

    def wrap(self, net, device_ids, gradient_as_bucket_view):
        self.wrapped.append(device_ids)
        self.views.append(gradient_as_bucket_view)
        exchange = self

        class Wrapped(torch.nn.Module):
            def forward(self, images):
                return net(images)

            def no_sync(self):
                exchange.silent.append(1)
                return torch.enable_grad()

        return Wrapped()


def test_a_process_hands_its_gpu_on(monkeypatch):
    exchange = Exchange(monkeypatch)
    on_gpu(monkeypatch)
    Machine(TINY.net(4), TINY, torch.device("cuda", 3))
    assert exchange.wrapped == [[3]]
    assert exchange.views == [True]  # gradients are not held twice


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_first_process_tells_the_others(monkeypatch, kind):
    Exchange(monkeypatch)
    told = []

    def broadcast(values, device):
        told.append(device)
        values[0] = "the first one's"

    monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
    device = torch.device(kind)
    assert from_first("mine", device) == "the first one's"
    assert told == [device if kind == "cuda" else None]


def test_the_union_over_processes(monkeypatch):
    Exchange(monkeypatch)
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"))

    def gather(parts, values):
        assert len(parts) == 2
        parts[:] = [values, {"b", "c"}]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    assert machine.union({"a", "b"}) == {"a", "b", "c"}


@pytest.mark.parametrize("size, passes", [(1, 4), (2, 2), (4, 1)])
def test_only_the_last_micro_batch_exchanges(monkeypatch, size, passes):
    exchange = Exchange(monkeypatch)
    recipe = replace(TINY, dropout=0.0)
    here = torch.device("cpu")
    machine = Machine(recipe.net(4), recipe, here, micro_batch=size, say=lambda line: None)
    batch = torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4)
    loss = machine.gradient(*batch, epoch=0)  # rehearsed once, in silence; then all but the last
    with torch.no_grad():  # half a batch a process; the other one has the same images
        logits = machine.net.eval()(batch[0])
        plain = torch.nn.functional.cross_entropy(logits, batch[1])
    machine.net.train()
    torch.testing.assert_close(loss, plain)
    assert len(exchange.silent) == 2 * passes - 1 and exchange.wrapped == [None]
    assert exchange.reduced == [dist.ReduceOp.MAX, dist.ReduceOp.SUM]
    first = torch.cat([p.grad.flatten() for p in machine.net.parameters()])
    again = machine.gradient(*batch, epoch=0)
    assert len(exchange.silent) == 3 * passes - 2  # no rehearsal any more
    torch.testing.assert_close(again, loss)
    both = torch.cat([p.grad.flatten() for p in machine.net.parameters()])
    torch.testing.assert_close(both, 2 * first)  # the rehearsal left nothing in the gradient
    assert machine.total(torch.tensor([1.0, 2.0])) == [2.0, 4.0]


def test_processes_agree_on_a_micro_batch(monkeypatch):
    lines = []
    Exchange(monkeypatch, other_fails=2)  # this one would have had the memory
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"), say=lines.append)
    machine.gradient(torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4), epoch=0)
    assert machine.micro == 1 and [line.split("; ")[0][-1] for line in lines] == ["2", "1"]


@pytest.mark.parametrize("most", [2, 1])
def test_the_rehearsal_halves_what_does_not_fit_here(monkeypatch, most):
    Exchange(monkeypatch)
    sizes, lines = short_of_memory(monkeypatch, most), []
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"), say=lines.append)
    machine.gradient(torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4), epoch=0)
    assert machine.micro == most and sizes[0] == 4 and sizes[-1] == most
    assert [line.split("; ")[0][-1] for line in lines] == ["2", "1"][: 3 - most]


def test_a_rehearsal_that_nothing_fits_is_an_error(monkeypatch):
    Exchange(monkeypatch)
    short_of_memory(monkeypatch, 0)
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"), say=lambda line: None)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        machine.gradient(torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4), epoch=0)
    assert machine.micro == 1


def test_what_is_exchanged_lies_on_the_machines_device(monkeypatch):
    """Numbers that are summed over the processes; NCCL takes those on a GPU alone."""
    Exchange(monkeypatch)
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"))
    zeros, places = torch.zeros, []

    def noted(*shape, **how):
        if shape == ((),):
            places.append(how.get("device"))
        return zeros(*shape, **how)

    monkeypatch.setattr(torch, "zeros", noted)
    machine.gradient(torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4), epoch=0)
    assert places.count(machine.device) == 3  # whether it failed; the rehearsal's loss; the loss


def test_out_of_memory_after_the_rehearsal_is_an_error(monkeypatch):
    Exchange(monkeypatch)
    machine = Machine(TINY.net(4), TINY, torch.device("cpu"), say=lambda line: None)
    batch = torch.randn(4, 3, 32, 32), torch.arange(4), torch.arange(4)
    machine.gradient(*batch, epoch=0)
    short_of_memory(monkeypatch, 2)
    with pytest.raises(torch.cuda.OutOfMemoryError):  # the other process waits in an exchange
        machine.gradient(*batch, epoch=0)


def test_fp16_gradients_are_scaled_and_the_update_is_not():
    """A scaler that multiplies by 1024 and divides before the step, as GradScaler does."""
    net = TINY.net(4)
    machine = Machine(net, TINY, torch.device("cpu"))
    calls = []
    machine.scaler = SimpleNamespace(
        scale=lambda loss: loss * 1024,
        step=lambda optimizer: calls.append("step"),
        update=lambda: calls.append("update"),
    )
    batch = torch.randn(8, 3, 32, 32), torch.arange(8) % 4, torch.arange(8)
    machine.gradient(*batch, epoch=0)
    scaled = torch.cat([p.grad.flatten() for p in net.parameters()])
    net.zero_grad()
    plain = Machine(net, TINY, torch.device("cpu"))
    plain.gradient(*batch, epoch=0)
    torch.testing.assert_close(
        scaled, 1024 * torch.cat([p.grad.flatten() for p in net.parameters()])
    )
    machine.update(None)
    assert calls == ["step", "update"]


@pytest.mark.parametrize("kind, backend", [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_talk_as_their_devices_can(monkeypatch, kind, backend):
    calls, waits = [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(
        dist,
        "init_process_group",
        lambda name, timeout: calls.append(name) or waits.append(timeout),
    )
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("end"))
    with pytest.raises(KeyError), process_group(torch.device(kind)):
        assert calls == [backend]
        raise KeyError
    assert calls == [backend, "end"]  # after a failure too
    assert waits == [timedelta(hours=2)]  # while the first process passes over the training set
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    with process_group(torch.device(kind)):
        pass
    assert len(calls) == 2  # a group that is there is left to whoever began it


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("a group"))
    with process_group(torch.device("cpu")):
        assert world() == (0, 1)
    assert from_first("mine", torch.device("cpu")) == "mine"


@pytest.mark.parametrize("kind, place", [("cpu", "cpu"), ("mps", "cpu"), ("cuda", "cuda")])
def test_sums_over_processes_are_made_on_a_gpu_or_on_the_cpu(monkeypatch, kind, place):
    """NCCL adds up on the GPU of the nets; elsewhere gloo does, on the CPU."""
    moved = []

    def to(tensor, device):
        moved.append(torch.device(device).type)
        return tensor

    monkeypatch.setattr(machine, "world", lambda: (0, 3))
    monkeypatch.setattr(machine.dist, "all_reduce", lambda tensor: tensor.mul_(3))
    monkeypatch.setattr(torch.Tensor, "to", to)
    found = machine.summed(torch.ones(2), torch.device(kind))
    assert found.tolist() == [3, 3] and moved == [place]


def test_what_every_process_has_for_a_value_comes_by_rank(monkeypatch):
    def gather(parts, value):
        parts[:] = [f"{value} of {rank}" for rank in range(len(parts))]

    assert machine.gathered("alone") == ["alone"]
    monkeypatch.setattr(machine, "world", lambda: (1, 3))
    monkeypatch.setattr(machine.dist, "all_gather_object", gather)
    assert machine.gathered("part") == ["part of 0", "part of 1", "part of 2"]
