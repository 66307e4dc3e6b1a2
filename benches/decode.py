#!/usr/bin/env python3
"""How fast text is written, as a share of what the memory gives.

    python3 benches/decode.py --pipe target/release/pipe --checkpoint DIR --weights int4 [--peak peak.c] [--llama SCRIPT]

needs a checkpoint with a tokenizer and a C compiler. It writes some tokens and then as many more, so that loading and the prompt
take no part in the difference, and multiplies with the bytes of the weights that each token reads: all linear layers, and
the table that gives the logits. Beside that it runs `peak`, a program that prints one line of JSON with `gbytes_per_s` (C source
or binary), before and after, since machines drift. `--llama` is a script that prints one line of JSON with `tokens_per_s` for
a model of the same shape. The last line is JSON.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Bits of a weight in a linear layer, and of one in a table.
BITS = {"f32": (32, 32), "bf16": (16, 16), "f16": (16, 16), "int8": (8, 8), "int4": (4.5, 8)}


def shapes(directory):
    """Names and shapes of all tensors, by the headers of the files."""
    for file in sorted(directory.glob("*.safetensors")):
        with open(file, "rb") as opened:
            size = struct.unpack("<Q", opened.read(8))[0]
            for name, tensor in json.loads(opened.read(size)).items():
                if name != "__metadata__":
                    yield name, tensor["shape"]


def bytes_per_token(directory, form):
    linear, tables = 0, {}
    for name, shape in shapes(directory):
        if len(shape) != 2:
            continue
        count = shape[0] * shape[1]
        if "embed" in name or "lm_head" in name or "output_layer" in name or name.endswith("wte.weight"):
            tables[name] = count
        else:
            linear += count
    of_linear, of_tables = BITS[form]
    # Of a table of embeddings a token reads one row; the same matrix or another one gives the logits.
    return (linear * of_linear + max(tables.values(), default=0) * of_tables) / 8


def peak(source, threads):
    if source is None:
        return None
    binary = source
    if source.suffix == ".c":
        binary = Path(tempfile.mkdtemp()) / "peak"
        subprocess.run(["cc", "-O3", "-march=native", "-pthread", str(source), "-o", str(binary)], check=True)
    return json.loads(subprocess.run([str(binary), str(threads)], check=True, capture_output=True, text=True).stdout)


def written(arguments, tokens):
    """Seconds of writing, the prompt among them, and of the whole process."""
    command = [arguments.pipe, "generate", "--checkpoint", arguments.checkpoint, "--weights", arguments.weights, "--json"]
    command += ["--prompt", arguments.prompt, "--temperature", 0, "--max-tokens", tokens, "--min-tokens", tokens]
    began = time.time()
    environment = dict(os.environ, RAYON_NUM_THREADS=str(arguments.threads))
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(done.stderr)
    answer = json.loads(done.stdout)
    if answer["tokens"] != tokens:
        sys.exit(f"{answer['tokens']} tokens were written instead of {tokens}")
    return answer["seconds"], time.time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", default="pipe")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--weights", choices=BITS, default="int4")
    parser.add_argument("--prompt", default="你好")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=Path)
    parser.add_argument("--llama", type=Path)
    arguments = parser.parse_args()

    before = peak(arguments.peak, arguments.threads)
    rates, whole = [], []
    for _ in range(arguments.rounds):
        few, all_of_few = written(arguments, 1)
        many, _ = written(arguments, 1 + arguments.tokens)
        rates.append(arguments.tokens / (many - few))
        whole.append(all_of_few)
        print(f"{rates[-1]:.2f} tokens/s, the first one {all_of_few:.1f} s after the start", file=sys.stderr)
    after = peak(arguments.peak, arguments.threads)
    size = bytes_per_token(arguments.checkpoint, arguments.weights)
    result = {
        "weights": arguments.weights,
        "threads": arguments.threads,
        "bytes_per_token": round(size),
        "tokens_per_s": round(max(rates), 3),
        "gbytes_per_s": round(max(rates) * size / 1e9, 2),
        "first_token_s": round(min(whole), 2),
    }
    if before and after:
        most = max(before["gbytes_per_s"], after["gbytes_per_s"])
        result |= {"peak_gbytes_per_s": most, "vector_bits": after["vector_bits"]}
        result["share"] = round(result["gbytes_per_s"] / most, 3)
    if arguments.llama:
        command = [sys.executable, str(arguments.llama), "--threads", str(arguments.threads)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result["llama_tokens_per_s"] = json.loads(output.strip().splitlines()[-1])["tokens_per_s"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
