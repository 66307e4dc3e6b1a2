# The commands of everyday work; `just` lists them.

_default:
    @just --list

# Run a recipe
run recipe *options:
    cargo run --release -- run {{recipe}} {{options}}

# Run a recipe's grid, sharing every stage that can be shared
sweep recipe *options:
    cargo run --release -- sweep {{recipe}} {{options}}

# All that decides whether a change lands
test: lint
    cargo test --release

# Formatting, and clippy with warnings as errors
lint:
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings

# Write the recipes' JSON Schema anew
schema:
    cargo run --release -- schema > schemas/recipe.schema.json
    cargo run --release -- schema profiles > schemas/profiles.schema.json

# Write the generated pages of the documentation anew, and the schema that they're made from
docs: schema
    cargo run --release -- reference

# What a release has for Linux, in dist/: a wheel, an archive and a Debian package (maturin[zig] from PyPI)
dist *target:
    .ci/dist {{target}}

# Training and tokenization beside the peers' (PEERS_PYTHON: a Python that has their packages), on an idle machine
bench *options:
    cargo build --release
    cargo run --release --example bench -- {{options}}

# Kernels and the digests that are noted for AVX-512 on a processor that Bochs computes: half an hour (see .ci/emulated)
emulated:
    #!/usr/bin/env bash
    set -euo pipefail
    binary() {
        cargo test --release --no-run --message-format json "$@" 2>/dev/null |
            sed -n 's/.*"test":true.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
    }
    cargo build --release
    .ci/emulated "$(binary --lib)" kernels::
    PIPE_CASES=4 .ci/emulated "$(binary --test network)" kernels_ --skip speed
    PIPE_GOLDEN=1 .ci/emulated "$(binary --test engine)" changed_output_of_the_fast_kernels --nocapture

# Damaged and made-up recipes, records, tables, Parquet, safetensors and PyTorch files, each for so many minutes
fuzz minutes="10":
    #!/usr/bin/env bash
    set -euo pipefail
    cargo test --release --no-run --test reading --lib
    for reader in "--test reading -- fuzz:: property::" "--lib -- tensors::fuzz torch::fuzz"; do
        cases=0
        for ((end = SECONDS + 60 * {{minutes}}; SECONDS < end; cases += 5000)); do
            said=$(PIPE_CASES=5000 cargo test --quiet --release $reader 2>&1) || { echo "$said"; exit 1; }
        done
        echo "$reader: $cases cases of each kind"
    done
