#!/usr/bin/env bash
# Storms over runs on a Slurm of four nodes: nodes lose their power or freeze, jobs are requeued, preempted and met by their time
# limit, the controller goes away, the submitting process is killed, five jobs are taken at most. Each run has to end with
# the digests of one machine, each stage computed once, and of its steps none twice but those after a checkpoint.
#   usage: BED_SACCT=1 ../shared/tools/slurm.sh benches/storms.sh PIPE [COUNT] [SEED]
# EXAMPLE=chatglm_cls has them over that recipe instead of one that takes half a minute.
# A line for each storm: its number, what happened, seconds, steps that were computed again, and how it ended.
set -euo pipefail
pipe=$(realpath "$1") count=${2:-20}
RANDOM=${3:-1}
every=20 # steps between two checkpoints
space=$(mktemp -d)
trap 'rm -rf "$space"' EXIT
cd "$space"
example() { # a recipe that comes with the program
  "$pipe" init example --example "$1" >/dev/null 2>&1 && cd example && mv "$1.yaml" recipe.yaml
}
made() { # a recipe with a pretraining and six stages after it
  for ((line = 0; line < 400; line++)); do echo "row $line tells of $((line * 7919 % 101)) things, and of $((line % 13)) more."; done >corpus.txt
  for split in train dev; do
    printf 'text\tlabel\n' >$split.tsv
    for ((row = 0; row < 40; row++)); do printf 'row %d tells of %s\t%s\n' $row "$((row % 2))" "$([ $((row % 2)) = 1 ] && echo odd || echo even)"; done >>$split.tsv
  done
  cat >recipe.yaml <<END
seed: 3
stages:
  tokens:
    tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] }
  base:
    pretrain:
      tokens: tokens
      model: { glm: { hidden: 64, layers: 2, heads: 2, max_length: 64 } }
      objectives: [{ masked_lm: {} }]
      train: { steps: 600, batch: { examples: 8 }, max_length: 48, lr: 1.0e-3, checkpoint_every: $every }
END
  for task in a b c d e f; do
    cat >>recipe.yaml <<END
  $task:
    finetune:
      from: base
      data: { train: { path: train.tsv }, dev: { path: dev.tsv } }
      task: { classification: { template: "{{ text }}: [Classification].", words: { odd: things, even: more } } }
      train: { epochs: 8, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3, seed: $RANDOM, checkpoint_every: $every }
END
  done
}
if [ "${EXAMPLE:-}" ]; then example "$EXAMPLE"; else made; fi
digests() { python3 -c 'import json, sys; print({name: stage["digest"] for name, stage in json.load(sys.stdin)["stages"].items()})'; }
"$pipe" run recipe.yaml --json --store alone 2>/dev/null | digests >expected
profile() { printf '[profiles.bed]\nengine = "slurm"\nask = 2\nprogram = "%s"\n[profiles.bed.all]\nmemory = "1G"\npartition = "low"\n%s\n' "$pipe" "$1"; }

# Steps that were computed again, and an error for a stage that was computed more than once.
cat >again.py <<'END'
import glob, json, sys
again = worst = 0
for file in glob.glob(".pipe/jobs/*/events/*.jsonl"):
    last = done = 0
    fresh = False
    for line in open(file, errors="replace"):
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message == "waiting":
            continue
        if "started" in message:
            fresh = True
        elif "progress" in message:
            now = message["progress"]["done"]
            if fresh and now <= last:
                again, worst = again + last - now + 1, max(worst, last - now + 1)
            fresh, last = False, now
        elif "end" in message and message["end"].get("done", {}).get("computed"):
            done += 1
    if done > 1:
        sys.exit(f"{file}: computed {done} times")
print(f"{again} steps again, {worst} at most at a time")
END

happen() { # one thing that goes wrong
  local node=n$((RANDOM % 4 + 1)) job
  case $1 in
    kill) bed kill $node && sleep $((RANDOM % 4 + 1)) && bed start $node ;;
    freeze) bed freeze $node && sleep $((RANDOM % 15 + 1)) && bed thaw $node ;;
    requeue) job=$(squeue -h -t R -o %A | shuf -n 1 --random-source=recipe.yaml) && [ "$job" ] && scontrol requeue "$job" ;;
    controller) bed ctld stop && sleep $((RANDOM % 15 + 1)) && bed ctld start ;;
    preempt) sbatch -Q -p high -N "$((RANDOM % 4 + 1))" --exclusive -o /dev/null --wrap 'sleep 3' ;;
    submitter) kill -KILL $submitter 2>/dev/null; follow ;;
  esac >/dev/null 2>&1 || true
}
follow() { "$pipe" attach >>log 2>&1 & submitter=$!; }

failed=0
for ((storm = 1; storm <= count; storm++)); do
  rm -rf .pipe log
  # In some the time limit is shorter than the stage, and five jobs are taken at most.
  if ((storm % 5 == 0)); then profile 'time = "1"'; else profile ''; fi >pipe.toml
  limit=-1
  if ((storm % 4 == 1)); then limit=${LIMIT:-5}; fi
  sacctmgr -i modify qos normal set MaxSubmitJobsPerUser=$limit >/dev/null 2>&1 || limit=none
  began=$SECONDS what=
  "$pipe" run recipe.yaml --on bed >log 2>&1 & submitter=$!
  until compgen -G '.pipe/jobs/*/batches/0.json' >/dev/null; do sleep 0.1; done
  while kill -0 $submitter 2>/dev/null; do
    # Slurm makes a job wait for two minutes that lost its node, and whoever tests it needn't.
    for job in $(squeue -h -r -t PD -o '%A %r' 2>/dev/null | awk '$2 == "BeginTime" { print $1 }'); do
      scontrol update JobId="$job" StartTime=now 2>/dev/null || true
    done
    if ((RANDOM % 4 == 0 && ${#what} < 60)); then
      kinds=(kill freeze requeue controller preempt submitter)
      kind=${kinds[RANDOM % 6]}
      what+=" $kind"
      happen "$kind"
    fi
    sleep 1
  done
  wait $submitter && status=0 || status=$?
  "$pipe" run recipe.yaml --on bed --json 2>>log | digests >found || true
  again=$(python3 again.py 2>&1) && alike=yes || alike=no
  cmp -s found expected || alike=no
  if [ $alike = no ] || [ $status != 0 ]; then failed=$((failed + 1)); cp log "/tmp/storm-$storm.log"; fi
  echo "$storm: limit $limit,$what: $((SECONDS - began)) s, $again, status $status, same digests: $alike"
done
echo "$failed of $count storms failed"
exit $((failed > 0))
