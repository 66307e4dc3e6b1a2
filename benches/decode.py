#!/usr/bin/env python3
"""How fast text is written, as a share of what the memory gives, and how fast prompts are read.

    python3 benches/decode.py --pipe target/release/pipe --checkpoint DIR --weights int4 [--peak peak.c] [--llama "SCRIPT …"]

needs a checkpoint with a tokenizer, and with `--peak` a C compiler. It writes a token and then some more, so that loading and
the prompt take no part in the difference, and multiplies with the bytes of the weights that each token reads: all linear layers,
and the table that gives the logits. A longer prompt with a single token tells in the same way how fast prompts are read. Beside
that it runs `peak`, a program that prints one line of JSON with `gbytes_per_s` and `gflops` (C source or binary), before and
after, since machines drift. `--llama` is a Python script with its arguments that prints one line of JSON with `tokens_per_s` and
`prompt_tokens_per_s` for a model of the same shape; it's given `--threads` and `--type` (q4_0, q8_0 or f16). The last line
is JSON. A checkpoint that was stored in few bits is mapped, with `--weights auto`. Weights in int4 are multiplied with activations
of eight bits, as llama.cpp has them, unless `--activations f32` is given.
"""

import argparse
import json
import os
import shlex
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Bits of a weight in a linear layer, and of one in a table.
BITS = {"f32": (32, 32), "bf16": (16, 16), "f16": (16, 16), "int8": (8, 8), "int4": (4.5, 8)}
# What llama.cpp has of as many bits.
TYPES = {"int4": "q4_0", "int8": "q8_0", "bf16": "f16", "f16": "f16"}
TABLES = ("embed", "lm_head", "output_layer", "wte.weight")


def tensors(directory):
    """Names, shapes and sizes in bytes of all tensors, by the headers of the files."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        sys.exit(f"there are no safetensors in {directory}, by which bytes are counted")
    for file in files:
        with open(file, "rb") as opened:
            size = struct.unpack("<Q", opened.read(8))[0]
            for name, tensor in json.loads(opened.read(size)).items():
                if name != "__metadata__":
                    start, end = tensor["data_offsets"]
                    yield name, tensor["shape"], end - start


def bytes_per_token(directory, form):
    """Of a table of embeddings a token reads one row; the same matrix or another one gives the logits."""
    linear, tables = 0, {}
    of_linear, of_tables = BITS.get(form, (None, None))
    for name, shape, size in tensors(directory):
        if len(shape) != 2:
            continue
        is_table = any(part in name for part in TABLES)
        bits = of_tables if is_table else of_linear
        size = size if bits is None else shape[0] * shape[1] * bits / 8
        if is_table:
            # With the scales beside it.
            name = name.removesuffix("_scale")
            tables[name] = tables.get(name, 0) + size
        else:
            linear += size
    return linear + max(tables.values(), default=0)


def peak(source, threads):
    if source is None:
        return None
    binary = source
    if source.suffix == ".c":
        binary = Path(tempfile.mkdtemp()) / "peak"
        subprocess.run(["cc", "-O3", "-march=native", "-pthread", str(source), "-o", str(binary)], check=True)
    return json.loads(subprocess.run([str(binary), str(threads)], check=True, capture_output=True, text=True).stdout)


def written(arguments, tokens, prompt):
    """What was written, with the seconds of writing, the prompt among them, and those of the whole process."""
    command = [arguments.pipe, "generate", "--checkpoint", arguments.checkpoint, "--weights", arguments.weights, "--json"]
    if arguments.activations:
        command += ["--activations", arguments.activations]
    command += ["--prompt", prompt, "--temperature", 0, "--max-tokens", tokens, "--min-tokens", tokens]
    began = time.time()
    environment = dict(os.environ, RAYON_NUM_THREADS=str(arguments.threads))
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(done.stderr)
    answer = json.loads(done.stdout)
    if answer["tokens"] != tokens:
        sys.exit(f"{answer['tokens']} tokens were written instead of {tokens}")
    return answer, time.time() - began


def llama(arguments):
    script, *others = shlex.split(arguments.llama)
    command = [sys.executable, script, *others, "--threads", str(arguments.threads)]
    if arguments.weights in TYPES:
        command += ["--type", TYPES[arguments.weights]]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.strip().splitlines()[-1])
    return {f"llama_{key}": found[key] for key in ("tokens_per_s", "prompt_tokens_per_s") if key in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", default="pipe")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--weights", choices=[*BITS, "auto"], default="int4")
    parser.add_argument("--activations", choices=["f32", "int8"])
    parser.add_argument("--prompt", default="你好")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=Path)
    parser.add_argument("--llama")
    arguments = parser.parse_args()
    if arguments.activations is None and arguments.weights == "int4":
        arguments.activations = "int8"

    before = peak(arguments.peak, arguments.threads)
    rates, prompts, whole = [], [], []
    for _ in range(arguments.rounds):
        few, all_of_few = written(arguments, 1, arguments.prompt)
        many, _ = written(arguments, 1 + arguments.tokens, arguments.prompt)
        # As long a prompt as llama.cpp's is, about.
        long, _ = written(arguments, 1, arguments.prompt * (1 + 63 // few["prompt_tokens"]))
        rates.append(arguments.tokens / (many["seconds"] - few["seconds"]))
        prompts.append((long["prompt_tokens"] - few["prompt_tokens"]) / (long["seconds"] - few["seconds"]))
        whole.append(all_of_few)
        print(
            f"{rates[-1]:.2f} tokens/s, {prompts[-1]:.2f} of prompts, the first one {all_of_few:.1f} s after the start",
            file=sys.stderr,
        )
    after = peak(arguments.peak, arguments.threads)
    size = bytes_per_token(arguments.checkpoint, arguments.weights)
    result = {
        "weights": arguments.weights,
        "activations": arguments.activations or "f32",
        "threads": arguments.threads,
        "bytes_per_token": round(size),
        "tokens_per_s": round(max(rates), 3),
        "prompt_tokens_per_s": round(max(prompts), 3),
        "prompt_tokens": long["prompt_tokens"],
        "gbytes_per_s": round(max(rates) * size / 1e9, 2),
        "first_token_s": round(min(whole), 2),
    }
    if before and after:
        most = max(before["gbytes_per_s"], after["gbytes_per_s"])
        result |= {"peak_gbytes_per_s": most, "vector_bits": after["vector_bits"]}
        result["share"] = round(result["gbytes_per_s"] / most, 3)
    if arguments.llama:
        result |= llama(arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
