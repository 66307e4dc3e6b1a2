#!/usr/bin/env python3
"""The first hour on a card, in eight minutes: what works on it, and `pipe` beside PyTorch in one run.

    python3 benches/gpu.py --pipe target/release/pipe

needs nothing but the binary (built with `--features cuda,vulkan`) and a Python that has torch. What matters most comes
first, a part that fails stops no other, and gpu.json and gpu.md in `--out` are written anew after each, so that what is
known is there if the time is cut off:

1. the devices and what they can do;
2. a GPT-2-124M-shaped causal_lm at 1024 tokens and a BERT-base-shaped masked_lm at 512 in bf16: tokens a second and model
   FLOPs utilization beside eager PyTorch, then beside torch.compile;
3. all families, objectives and kinds of finetuning at tiny size: losses beside the CPU's;
4. dropout; LoRA on a decoder of a billion weights; Vulkan; further rounds of 2 while there's time.

PyTorch's side is bf16 autocast with scaled_dot_product_attention and fused AdamW. Both sides get random tokens, the same
shapes, batch and number of steps, AdamW and clipping; both compute logits only where something is predicted. Each run is a
process of its own. `--rehearse` does all of it at tiny sizes, on the CPU or a software driver.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

# Name, objective, width, layers, heads, vocabulary, length, batch: those of `pipe bench`.
SHAPES = {
    "gpt2": ("causal_lm", 768, 12, 12, 50257, 1024, 16),
    "bert-base": ("masked_lm", 768, 12, 12, 30522, 512, 32),
    "tiny": ("causal_lm", 32, 1, 2, 100, 16, 4),
}
WARMING = 5
# A decoder of GPT-2's layout for LoRA, width, layers, heads, vocabulary: a billion weights, and what it's rehearsed with.
DECODER = (2048, 20, 16, 32000)
SMALL_DECODER = (64, 2, 2, 500)
# How far a loss may lie from the CPU's.
NEAR = 1e-3


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


def recipe(folder):
    """A recipe with every family, objective and adapter, and its data: the path."""
    words = ["红", "绿", "蓝", "山", "水", "风", "月", "花", "鸟", "雪"]
    line = lambda row: "".join(words[(row * step + step) % 10] for step in range(3, 15)) + "。"
    (folder / "corpus.txt").write_text("".join(line(row) + "\n" + ("\n" if row % 4 == 3 else "") for row in range(80)), "utf-8")
    rows = "".join(f"{line(row)}\t{'甲' if row % 2 else '乙'}\n" for row in range(40))
    (folder / "rows.tsv").write_text("text\tlabel\n" + rows, "utf-8")
    two = "hidden: 32, layers: 2, heads: 2, max_length: 64"
    models = {
        "bert": (f"bert: {{ {two} }}", "[{ masked_lm: {} }, { next_sentence: {} }]"),
        "gpt2": (f"gpt2: {{ {two} }}", "[{ generative: { causal_lm: {} } }]"),
        "glm": (f"glm: {{ {two} }}", "[{ masked_lm: {} }, { generative: { blank_infilling: {} } }]"),
        "chatglm": (f"chatglm: {{ {two} }}", "[{ generative: { causal_lm: {} } }]"),
        "chatglm2": (f"chatglm2: {{ {two}, groups: 1 }}", "[{ generative: { causal_lm: {} } }]"),
        "glm4": (f"glm4: {{ {two}, groups: 1 }}", "[{ generative: { causal_lm: {} } }]"),
    }
    text = "seed: 3\nstages:\n  tokens:\n    tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] }\n"
    train = "train: { steps: 10, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }"
    for name, (model, objectives) in models.items():
        text += f"  {name}:\n    pretrain: {{ tokens: tokens, model: {{ {model} }}, objectives: {objectives}, {train} }}\n"
    task = 'data: { train: { path: rows.tsv } }, task: { classification: { template: "{{ text }}是[Classification]", words: { 甲: 红, 乙: 绿 } } }'
    lora = "adapter: { lora: { r: 4, targets: [query_key_value] } }"
    for name, more in {"full": "from: glm", "lora": f"from: chatglm2, {lora}", "ptuning": "from: chatglm, adapter: { p_tuning: { tokens: 4 } }"}.items():
        text += f"  {name}:\n    finetune: {{ {more}, {task}, {train} }}\n"
    path = folder / "recipe.yaml"
    path.write_text(text, "utf-8")
    return path


def decoder(folder, sizes):
    """A checkpoint of GPT-2's layout, of noise in bf16, with a word for each entry of the vocabulary: the folder."""
    import torch

    width, layers, heads, vocabulary = sizes
    place = folder / "decoder"
    place.mkdir()
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": width, "n_layer": layers, "n_head": heads,
              "n_positions": 512, "n_ctx": 512, "vocab_size": vocabulary, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
    (place / "config.json").write_text(json.dumps(config))
    vocab = {"[UNK]": 0, "[PAD]": 1, "<|endoftext|>": 2, **{f"w{word}": word for word in range(3, vocabulary)}}
    special = [{"id": at, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for name, at in list(vocab.items())[:3]]
    (place / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}}))
    shapes = {"wte.weight": [vocabulary, width], "wpe.weight": [512, width]}
    for layer in range(layers):
        at = f"h.{layer}."
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{at}{norm}.weight": [width], f"{at}{norm}.bias": [width]}
        for name, ins, outs in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)):
            shapes |= {f"{at}{name}.weight": [ins * width, outs * width], f"{at}{name}.bias": [outs * width]}
    shapes |= {"ln_f.weight": [width], "ln_f.bias": [width]}
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * math.prod(shape)]}
        end += 2 * math.prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = (torch.randn(1 << 20, generator=torch.Generator().manual_seed(1)) * 0.02).bfloat16()
    with open(place / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            count, values = math.prod(shape), noise
            if name.endswith("ln_1.weight") or name.endswith("ln_2.weight") or name == "ln_f.weight":
                values = torch.ones(width).bfloat16()
            whole = values.view(torch.int16).numpy().tobytes()
            for at in range(0, count, len(values)):
                file.write(whole[: 2 * min(len(values), count - at)])
    return place


class Hour:
    """What is found out, part by part, while there's time."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.out = Path(arguments.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.ends = time.monotonic() + 60 * arguments.minutes
        self.runs = {}
        self.found = {"device": arguments.device, "precision": arguments.precision, "parts": [], "runs": self.runs}
        self.predictions = []

    def left(self):
        return self.ends - time.monotonic()

    def part(self, name, seconds, act):
        """Does a part, if as much time is left as it usually takes; tells what came of it."""
        part = {"name": name}
        self.found["parts"].append(part)
        if self.left() < seconds:
            part["outcome"] = f"left out: {max(self.left(), 0):.0f} s were left, and it takes some {seconds}"
        else:
            print(f"== {name}", file=sys.stderr)
            began = time.monotonic()
            try:
                part["outcome"] = act() or "done"
            except Exception as error:  # what fails is a finding, too
                traceback.print_exc()
                part["outcome"] = f"FAILED: {error}"
            part["seconds"] = round(time.monotonic() - began, 1)
        self.write()

    def predict(self, what, expected, holds, outcome):
        self.predictions.append({"what": what, "expected": expected, "holds": holds, "outcome": outcome})

    def command(self, words, env=None, timeout=None):
        """What a program prints; an exception with its last lines where it fails or takes too long."""
        print("running:", " ".join(map(str, words)), file=sys.stderr)
        limit = max(min(self.left(), timeout or math.inf), 1)
        try:
            done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=env, timeout=limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {limit:.0f} s") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()[-8:]
            raise RuntimeError(f"status {done.returncode}: " + " / ".join(lines))
        return done.stdout

    def pipe(self, *words):
        return self.command([self.arguments.pipe, *words], environment())

    # -- the parts

    def devices(self):
        listed = json.loads(self.pipe("devices", "--json"))
        self.found["devices"] = listed
        usable = [f"{device['device']} ({device.get('hardware') or 'unnamed'})" for device in devices_of(listed) if device.get("usable")]
        return "usable: " + ", ".join(usable)

    def ours(self, shape, device=None, dropout=0.0):
        *_, length, batch = SHAPES[shape]
        arguments = self.arguments
        words = ["bench", "--device", device or arguments.device, "--shape", shape, "--json", "--precision", arguments.precision]
        words += ["--batch", batch, "--length", length, "--steps", arguments.steps, "--dropout", dropout]
        return json.loads(self.pipe(*words))[0]

    def theirs(self, shape, compiled):
        *_, length, batch = SHAPES[shape]
        arguments = self.arguments
        words = [sys.executable, __file__, "--torch-run", "--shape", shape, "--torch-device", arguments.torch_device]
        words += ["--batch", batch, "--length", length, "--steps", arguments.steps, "--precision", arguments.precision]
        return json.loads(self.command(words + (["--compile"] if compiled else [])))

    def run(self, side, shape):
        """A run of one side; tells its rate."""
        run = self.ours(shape) if side == "pipe" else self.theirs(shape, side == "compiled")
        self.runs.setdefault(shape, {}).setdefault(side, []).append(run)
        return f"{run['tokens_per_second']:,.0f} tokens/s"

    def numbers(self):
        """Losses of all families, objectives and adapters on the device, beside the CPU's."""
        with tempfile.TemporaryDirectory() as folder:
            path, found = recipe(Path(folder)), {}
            for device in ("cpu", self.arguments.device):
                said = json.loads(self.pipe("run", path, "--device", device, "--store", Path(folder) / device, "--json"))
                found[device] = {name: stage["metrics"]["loss"] for name, stage in said["stages"].items() if "loss" in stage["metrics"]}
            expected, there = found["cpu"], found[self.arguments.device]
            self.found["losses"] = found
            off = {name: (there.get(name), loss) for name, loss in expected.items()
                   if name not in there or not abs(there[name] - loss) <= NEAR * max(abs(loss), 1)}
            if off or not expected:
                raise RuntimeError(f"losses that aren't the CPU's: {off}")
            worst = max(abs(there[name] - loss) for name, loss in expected.items())
            return f"{len(expected)} trainings have the CPU's losses, within {worst:.1e}"

    def dropout(self, shape):
        plain = self.rate(shape, "pipe")
        run = self.ours(shape, dropout=0.1)
        self.found["dropout"] = run
        *_, length, batch = SHAPES[shape]
        more = 1000 * batch * length * (1 / run["tokens_per_second"] - 1 / plain)
        if shape == "gpt2":
            self.predict("a step of GPT-2 with dropout, beside one without", "at most 7.7 ms more, what softmax takes on H100",
                         more <= 7.7, f"{more:.1f} ms more")
        return f"{run['tokens_per_second']:,.0f} tokens/s, {more:.1f} ms a step more than without"

    def lora(self):
        """LoRA on a decoder, by a recipe: what people do with a card."""
        sizes = SMALL_DECODER if self.arguments.rehearse else DECODER
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            decoder(folder, sizes)
            words = lambda row: " ".join(f"w{3 + (row * 31 + at * 7) % (sizes[3] - 3)}" for at in range(120))
            rows = "".join(json.dumps({"q": words(row), "a": words(row + 1)}) + "\n" for row in range(200))
            (folder / "rows.jsonl").write_text(rows)
            # Not every software driver has 16 bits.
            steps, examples, weights = (4, 2, "f32") if self.arguments.rehearse else (20, 16, "bf16")
            (folder / "recipe.yaml").write_text(f"""stages:
  tune:
    finetune:
      from: {{ checkpoint: decoder }}
      adapter: {{ lora: {{ r: 16, targets: [c_attn], weights: {weights} }} }}
      data: {{ train: {{ path: rows.jsonl }} }}
      task: {{ instruction: {{ format: plain, prompt: q, response: a }} }}
      train: {{ steps: {steps}, batch: {{ examples: {examples} }}, max_length: 256, lr: 1.0e-4, precision: {self.arguments.precision} }}
""")
            said = json.loads(self.pipe("run", folder / "recipe.yaml", "--device", self.arguments.device, "--store", folder / "store", "--json"))
            metrics = said["stages"]["tune"]["metrics"]
            self.found["lora"] = metrics
            mfu = f", MFU {100 * metrics['mfu']:.1f} %" if metrics.get("mfu") else ""
            memory = metrics.get("device_memory_bytes")
            memory = f", {memory / 1e9:.1f} GB on the device" if memory else ""
            return f"{metrics['tokens_per_second']:,.0f} tokens/s, {metrics['parameters'] / 1e6:,.1f} million weights{mfu}{memory}"

    def vulkan(self, shape):
        run = self.ours(shape, device="vulkan")
        self.found["vulkan"] = run
        return f"{run['tokens_per_second']:,.0f} tokens/s"

    # -- what comes of them

    def rate(self, shape, side, key="tokens_per_second"):
        """The median over a side's runs."""
        runs = self.runs.get(shape, {}).get(side, [])
        return statistics.median(run[key] for run in runs) if runs else math.nan

    def judge(self):
        """Holds what was expected against what came out."""
        judged = list(self.predictions)
        for shape in self.runs:
            ours = self.rate(shape, "pipe")
            for side in ("eager", "compiled"):
                ratio = ours / self.rate(shape, side)
                if not math.isnan(ratio):
                    judged.append({"what": f"{shape} beside PyTorch, {side}", "expected": "at least its tokens/s",
                                   "holds": ratio >= 1, "outcome": f"{ratio:.2f} times"})
        gpt2 = self.runs.get("gpt2", {}).get("pipe", [])
        if gpt2 and gpt2[0].get("mfu"):
            mfu = statistics.median(run["mfu"] for run in gpt2)
            judged.append({"what": "MFU of the 124M model", "expected": "at least 40 %", "holds": mfu >= 0.4, "outcome": f"{100 * mfu:.1f} %"})
        if gpt2 and gpt2[0].get("device_memory_bytes"):
            held = gpt2[0]["device_memory_bytes"] / 1e9
            judged.append({"what": "GPT-2's scores and logits never exist as a whole", "expected": "less than the 39 GB of scores alone",
                           "holds": held < 39, "outcome": f"{held:.1f} GB held"})
        return judged

    def table(self):
        head = ["training, " + self.arguments.precision, "pipe, tokens/s", "PyTorch", "compiled", "ratio", "to compiled", "pipe's MFU",
                "PyTorch's", "compiled", "runs"]
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        for shape, sides in self.runs.items():
            peak = next((run["peak_flops_per_second"] for run in sides.get("pipe", [])), None)
            number = lambda value, text: "–" if math.isnan(value) else text.format(value)
            rates = {side: self.rate(shape, side) for side in ("pipe", "eager", "compiled")}
            cells = [f"{shape} {SHAPES[shape][0]}"] + [number(rate, "{:,.0f}") for rate in rates.values()]
            cells += [number(rates["pipe"] / rates[side], "{:.2f}") for side in ("eager", "compiled")]
            cells += [number(100 * self.rate(shape, side, "flops_per_second") / peak if peak else math.nan, "{:.1f} %") for side in rates]
            lines.append("| " + " | ".join(cells + [str(len(sides.get("pipe", [])))]) + " |")
        return lines

    def write(self):
        """Writes what is known by now."""
        judged = self.judge()
        self.found["predictions"] = judged
        lines = ["# The first hour on a card", "", f"`{self.arguments.device}`, {time.strftime('%Y-%m-%d')}", "", *self.table(), ""]
        lines += ["| expected | | outcome |", "| --- | --- | --- |"]
        lines += [f"| {one['what']}: {one['expected']} | {'yes' if one['holds'] else '**no**'} | {one['outcome']} |" for one in judged]
        lines += ["", "| part | seconds | outcome |", "| --- | --- | --- |"]
        lines += [f"| {part['name']} | {part.get('seconds', '')} | {part['outcome']} |" for part in self.found["parts"] if "outcome" in part]
        (self.out / "gpu.md").write_text("\n".join(lines) + "\n", "utf-8")
        (self.out / "gpu.json").write_text(json.dumps(self.found, indent=2, ensure_ascii=False) + "\n", "utf-8")
        return lines


def devices_of(listed):
    return listed["devices"] if isinstance(listed, dict) else listed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", default="target/release/pipe", help="the binary")
    parser.add_argument("--out", default="gpu-report", help="the folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=8, help="the time that there is")
    parser.add_argument("--device", default="cuda", help="pipe's device: cuda, vulkan, wgpu or cpu")
    parser.add_argument("--torch-device", default="cuda", help="PyTorch's: cuda or cpu")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "mixed", "f32"])
    parser.add_argument("--steps", type=int, default=20, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side at most")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch's side out")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, for a device that isn't a card")
    for hidden in ("--torch-run", "--compile"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dropout", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch_run:
        torch_run(arguments)
        return

    hour = Hour(arguments)
    shapes = ["tiny"] if arguments.rehearse else ["gpt2", "bert-base"]
    sides = ["pipe"] + ([] if arguments.no_torch else ["eager"])
    compiles = ["compiled"] if not (arguments.no_torch or arguments.no_compile) else []
    # Seconds that parts usually take on a card; a compiled run compiles first.
    usual = 5 if arguments.rehearse else 20
    hour.part("devices", 0, hour.devices)
    for shape in shapes:
        for side in sides:
            hour.part(f"{shape}, {side}", usual, lambda: hour.run(side, shape))
    hour.part("numbers of all families", usual, hour.numbers)
    for shape in shapes:
        for side in compiles:
            hour.part(f"{shape}, {side}", 3 * usual, lambda: hour.run(side, shape))
    hour.part("dropout", usual, lambda: hour.dropout(shapes[0]))
    hour.part("LoRA on a decoder", 2 * usual, hour.lora)
    if "vulkan" in [device["device"] for device in devices_of(hour.found.get("devices", [])) if device.get("usable")]:
        hour.part("by Vulkan", usual, lambda: hour.vulkan(shapes[0]))
    for round in range(2, arguments.rounds + 1):
        for shape in shapes:
            for side in sides + compiles:
                hour.part(f"{shape}, {side}, round {round}", (3 if side == "compiled" else 1) * usual, lambda: hour.run(side, shape))
    print("\n".join(hour.write()))
    if any("FAILED" in part["outcome"] for part in hour.found["parts"]):
        sys.exit("some parts failed")


if __name__ == "__main__":
    main()
