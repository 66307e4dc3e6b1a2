#!/usr/bin/env bash
# A sweep of 1,000 cells of one second on a Slurm of four nodes, beside `sbatch --array` of as many `sleep 1`.
#   usage: ../shared/tools/slurm.sh benches/thousand.sh PIPE [CELLS]
# Tells how long it takes to submit and to finish, and how often the controller is asked.
set -euo pipefail
pipe=$(realpath "$1") cells=${2:-1000}
space=$(mktemp -d)
trap 'rm -rf "$space"' EXIT
cd "$space"
mkdir bin
for name in squeue sacct sbatch; do
  printf '#!/bin/sh\ndate +%%s.%%N >>%s/%s\nexec %s "$@"\n' "$space" $name "$(command -v $name)" >bin/$name
  chmod +x bin/$name
done
for ((line = 0; line < 50; line++)); do echo "row $line tells of $((line * 7919 % 101)) things."; done >corpus.txt
cat >recipe.yaml <<END
seed: 3
stages:
  tokens:
    tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] }
sweep:
  grid:
    stages.tokens.tokenizer.wordpiece.vocab_size: [$(seq -s, 300 $((299 + cells)))]
END
printf '[profiles.bed]\nengine = "slurm"\nprogram = "%s"\n[profiles.bed.all]\nmemory = "256M"\nbefore = ["sleep 0.8"]\n' "$pipe" >pipe.toml
since() { echo "$1 $2" | awk '{ printf "%.1f", $2 - $1 }'; }

began=$(date +%s.%N)
sbatch -Q --mem=256M --array=0-$((cells - 1)) -o /dev/null -W --wrap 'sleep 1'
array=$(since "$began" "$(date +%s.%N)")
began=$(date +%s.%N)
PATH=$space/bin:$PATH "$pipe" sweep recipe.yaml --on bed >result 2>log || { tail -n 5 log; exit 1; }
ended=$(date +%s.%N)
echo "$cells cells: $(since "$began" "$ended") s, and sbatch --array $array s"
echo "submitted after $(since "$began" "$(tail -n 1 sbatch)") s in $(wc -l <sbatch) calls"
echo "squeue was called $(wc -l <squeue) times, sacct $(cat sacct 2>/dev/null | wc -l) times"
