#!/usr/bin/env python3
"""Training on a GPU: `pipe` beside a PyTorch loop, in one run.

    python3 benches/gpu.py --pipe target/release/pipe

needs nothing but the binary (built with `--features cuda` or `vulkan`) and a Python that has torch. It times a
BERT-base-shaped masked_lm at 512 tokens and a GPT-2-124M-shaped causal_lm at 1024 in bf16, and prints a table: tokens a
second, model FLOPs utilization, and ratios. Both sides get random tokens, the same shapes, batch and number of steps,
AdamW and clipping; both compute logits only where something is predicted. PyTorch's side is bf16 autocast with
scaled_dot_product_attention and fused AdamW, once eager and once through torch.compile. Rounds alternate between the
sides, each run in a process of its own.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Name, objective, width, layers, heads, vocabulary, length, batch: those of `pipe bench`.
SHAPES = {
    "bert-base": ("masked_lm", 768, 12, 12, 30522, 512, 32),
    "gpt2": ("causal_lm", 768, 12, 12, 50257, 1024, 16),
    "tiny": ("causal_lm", 32, 1, 2, 100, 16, 4),
}
WARMING = 5


def flops_per_step(shape, batch, length):
    """6 N + 12 L H T a token, and 6 V H for each that is predicted (Chowdhery et al. 2022, appendix B)."""
    objective, hidden, layers, _, vocabulary, _, _ = SHAPES[shape]
    weights = layers * 12 * hidden * hidden + (hidden * hidden if objective == "masked_lm" else 0)
    targets = len(range(0, length, 6)) if objective == "masked_lm" else length - 1
    per_text = length * (6 * weights + 12 * layers * hidden * length) + 6 * targets * vocabulary * hidden
    return batch * per_text


def torch_run(arguments):
    """One PyTorch run; prints a line of JSON."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    objective, hidden, layers, heads, vocabulary, _, _ = SHAPES[arguments.shape]
    batch, length = arguments.batch, arguments.length
    causal = objective == "causal_lm"
    device = torch.device(arguments.torch_device)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(hidden, 3 * hidden)
            self.dense = nn.Linear(hidden, hidden)
            self.up = nn.Linear(hidden, 4 * hidden)
            self.down = nn.Linear(4 * hidden, hidden)
            self.norms = nn.ModuleList([nn.LayerNorm(hidden), nn.LayerNorm(hidden)])

        def attention(self, x):
            rows, width, _ = x.shape
            q, k, v = self.qkv(x).view(rows, width, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
            drop = arguments.dropout if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=drop)
            return F.dropout(self.dense(y.transpose(1, 2).reshape(rows, width, hidden)), arguments.dropout)

        def feed_forward(self, x):
            return F.dropout(self.down(F.gelu(self.up(x), approximate="tanh" if causal else "none")), arguments.dropout)

        def forward(self, x):
            if causal:
                x = x + self.attention(self.norms[0](x))
                return x + self.feed_forward(self.norms[1](x))
            x = self.norms[0](x + self.attention(x))
            return self.norms[1](x + self.feed_forward(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(vocabulary, hidden)
            self.places = nn.Embedding(length, hidden)
            self.layers = nn.ModuleList([Layer() for _ in range(layers)])
            self.norm = nn.LayerNorm(hidden)
            self.transform = None if causal else nn.Linear(hidden, hidden)
            nn.init.normal_(self.words.weight, std=0.02)
            nn.init.normal_(self.places.weight, std=0.02)

        def forward(self, tokens, where, targets):
            x = self.words(tokens) + self.places.weight
            x = F.dropout(x, arguments.dropout) if causal else F.dropout(self.norm(x), arguments.dropout)
            for layer in self.layers:
                x = layer(x)
            x = x.reshape(-1, hidden)[where]
            x = self.norm(x) if causal else F.gelu(self.transform(x))
            return F.cross_entropy((x @ self.words.weight.T).float(), targets)

    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    model = Model().to(device)
    step_model = torch.compile(model) if arguments.compile else model
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=fused)
    places = torch.arange(batch * length, device=device).view(batch, length)
    where = (places[:, :-1] if causal else places[:, ::6]).reshape(-1)

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def step():
        tokens = torch.randint(vocabulary, (batch, length)).to(device, non_blocking=True)
        targets = (tokens[:, 1:] if causal else tokens[:, ::6]).reshape(-1)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=arguments.precision != "f32"):
            loss = step_model(tokens, where, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    for _ in range(WARMING):
        step()
    wait()
    began = time.perf_counter()
    for _ in range(arguments.steps):
        loss = step()
    wait()
    seconds = time.perf_counter() - began
    memory = torch.cuda.max_memory_reserved() if device.type == "cuda" else None
    print(json.dumps({
        "tokens_per_second": arguments.steps * batch * length / seconds,
        "flops_per_second": arguments.steps * flops_per_step(arguments.shape, batch, length) / seconds,
        "device_memory_bytes": memory,
        "loss": loss.item(),
        "torch": torch.__version__,
    }))


def environment():
    """pipe's: this one's, with CUDA's library of math functions out of PyTorch's compiler, where there's no toolkit.
    pipe's kernels don't need it, but a kernel of burn's might."""
    triton = importlib.util.find_spec("triton")
    library = Path(triton.origin).parent / "backends/nvidia/lib/libdevice.10.bc" if triton and triton.origin else None
    if "CUDA_PATH" in os.environ or library is None or not library.is_file():
        return os.environ
    place = Path(tempfile.gettempdir()) / f"pipe-bench-cuda-{os.getuid()}"
    folder = place / "nvvm" / "libdevice"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / library.name
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    return {**os.environ, "CUDA_PATH": str(place)}


def output(command, env=None):
    """What a program prints, as JSON; its errors go to the terminal. None where it failed."""
    print("running:", " ".join(command), file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode != 0:
        print(f"failed with status {done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def ours(arguments, shape, batch, length):
    command = [arguments.pipe, "bench", "--device", arguments.device, "--shape", shape, "--json"]
    command += ["--precision", arguments.precision, "--batch", str(batch), "--length", str(length)]
    command += ["--steps", str(arguments.steps), "--dropout", str(arguments.dropout)]
    measured = output(command, environment())
    return measured[0] if measured else None


def theirs(arguments, shape, batch, length, compiled):
    command = [sys.executable, __file__, "--torch-run", "--shape", shape, "--torch-device", arguments.torch_device]
    command += ["--batch", str(batch), "--length", str(length), "--steps", str(arguments.steps)]
    command += ["--dropout", str(arguments.dropout), "--precision", arguments.precision]
    return output(command + (["--compile"] if compiled else []))


def row(shape, runs, peak):
    """A line of the table: medians over the rounds."""
    def rate(side, key="tokens_per_second"):
        values = [run[side][key] for run in runs if run.get(side)]
        return statistics.median(values) if values else math.nan

    def share(side):
        return 100 * rate(side, "flops_per_second") / peak if peak else math.nan

    def ratio(side):
        pairs = [run["pipe"]["tokens_per_second"] / run[side]["tokens_per_second"]
                 for run in runs if run.get("pipe") and run.get(side)]
        return statistics.median(pairs) if pairs else math.nan

    cells = [f"{shape} {SHAPES[shape][0]}"]
    cells += [f"{rate(side):,.0f}" for side in ("pipe", "eager", "compiled")]
    cells += [f"{ratio(side):.2f}" for side in ("eager", "compiled")]
    cells += [f"{share(side):.1f} %" for side in ("pipe", "eager", "compiled")]
    return [cell.replace("nan %", "–").replace("nan", "–") for cell in cells]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", default="target/release/pipe", help="the binary to time")
    parser.add_argument("--device", default="cuda", help="pipe's device: cuda, vulkan or cpu")
    parser.add_argument("--torch-device", default="cuda", help="PyTorch's: cuda or cpu")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "mixed", "f32"])
    parser.add_argument("--shape", choices=SHAPES, help="only this one [default: bert-base and gpt2]")
    parser.add_argument("--batch", type=int, help="texts of a step [default: the shape's]")
    parser.add_argument("--length", type=int, help="tokens of a text [default: the shape's]")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", action="store_true", help="print all runs as JSON")
    parser.add_argument("--torch-run", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch_run:
        torch_run(arguments)
        return

    rows, everything, peak = [], {}, None
    for shape in [arguments.shape] if arguments.shape else ["bert-base", "gpt2"]:
        *_, length, batch = SHAPES[shape]
        length, batch = arguments.length or length, arguments.batch or batch
        runs = []
        for _ in range(arguments.rounds):
            run = {"pipe": ours(arguments, shape, batch, length)}
            run["eager"] = theirs(arguments, shape, batch, length, False)
            if not arguments.no_compile:
                run["compiled"] = theirs(arguments, shape, batch, length, True)
            runs.append(run)
            peak = run["pipe"]["peak_flops_per_second"] if run["pipe"] else peak
        everything[shape] = runs
        rows.append(row(shape, runs, peak))

    if arguments.json:
        print(json.dumps({"peak_flops_per_second": peak, "shapes": everything}, indent=2))
        return
    head = ["training, " + arguments.precision, "pipe, tokens/s", "PyTorch", "compiled", "ratio", "to compiled"]
    head += ["pipe's MFU", "PyTorch's", "compiled"]
    for cells in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(cells) + " |")
    print(f"\nMFU is of {peak:.3g} FLOP/s" if peak else "\nMFU isn't known: no peak for this device")
    if any(not all(run.values()) for runs in everything.values() for run in runs):
        sys.exit("some runs failed")


if __name__ == "__main__":
    main()
