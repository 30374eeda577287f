"""Two gloo processes train what one trains (Sect. 3.3); checkpoints move between one and two."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from tiny_training import SHELL

from vggbook.train import Recipe, load_checkpoint, load_run, main

OPTIONS = [
    *SHELL,
    "--in-memory",
    "--gain",
    "0.015625",
    "--val-images",
    "9",
    "--device",
    "cpu",
]  # 9: not even the validation set divides


def torchrun(script, *runs):
    """Two processes that call the command line once for each list of options."""
    calls = "".join(f"main({[str(option) for option in run]})\n" for run in runs)
    start, end = (
        "import torch.distributed as dist\ndist.init_process_group('gloo')\n",
        "dist.destroy_process_group()\n",
    )
    script.write_text(f"from vggbook.train import main\n{start}{calls}{end}")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",  # a host whose own name is not known will do
        "--nproc_per_node=2",
        str(script),
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def gap(a, b):
    a, b = (load_run(path / "last.pt").model.state_dict() for path in (a, b))
    return max((a[k] - b[k]).abs().max().item() for k in a)


def test_two_processes_equal_one_and_checkpoints_move(tmp_path):
    try:
        socket.create_server(("localhost", 0)).close()
    except OSError:
        pytest.skip("no loopback interface here")
    one, two, mixed = (tmp_path / name for name in ("one", "two", "mixed"))
    main([*OPTIONS, "--max-epochs", "1", "--out", str(mixed)])  # begun by one process
    resumed, fresh = (
        [*OPTIONS, "--max-epochs", 2, "--out", mixed],
        [*OPTIONS, "--max-epochs", 3, "--out", two, "--micro-batch", 3],
    )
    lines = torchrun(tmp_path / "runs.py", resumed, fresh)  # continued by two
    assert (
        lines.count("going on") == 1 and lines.count("epoch   2") == 2
    )  # only one of the two processes speaks
    main([*OPTIONS, "--max-epochs", "3", "--out", str(mixed)])  # and by one again
    main([*OPTIONS, "--max-epochs", "3", "--out", str(one)])
    assert 0 <= gap(one, two) < 1e-6 and gap(one, mixed) < 1e-6
    rows = [load_checkpoint(path / "last.pt")["rows"] for path in (one, two)]
    for a, b in zip(*rows):
        assert a["val_accuracy"] == b["val_accuracy"] and a["train_loss"] == pytest.approx(
            b["train_loss"], abs=1e-6
        )


def test_mean_of_shard_gradients_is_the_batch_gradient():
    """Sect. 3.3 without any machinery: no layer of the paper's nets mixes the images of a batch."""
    net = Recipe("A", crop=32, scales=32, width=1 / 32, dropout=0.0).net(4).double()
    x, y = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8) % 4

    def gradient(rows):
        loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])

    shards = torch.stack([gradient(slice(i, i + 2)) for i in range(0, 8, 2)])
    torch.testing.assert_close(shards.mean(0), gradient(slice(0, 8)), atol=1e-12, rtol=0)
