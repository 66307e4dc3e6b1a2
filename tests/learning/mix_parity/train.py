"""Trains a BERT in PyTorch on the steps that `pipe` saw, and says how far losses and weights are apart.

train.py STEPS.json INITIAL TRAINED, where STEPS.json has the batches, learning rates and losses of each step.
"""

import json
import sys

import torch
from transformers import BertForPreTraining

steps, initial, trained = sys.argv[1:]
torch.set_num_threads(1)


def load(directory):
    model = BertForPreTraining.from_pretrained(directory, attn_implementation="eager")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


model = load(initial)
parameters = dict(model.named_parameters())
groups = [
    {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": 0.01},
    {"params": [p for p in parameters.values() if p.ndim == 1], "weight_decay": 0.0},
]
adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8)
apart, without = 0.0, 0
for step in json.load(open(steps)):
    # Parameters that a step doesn't use have no gradient then: that's `None`, as `set_to_none` leaves it.
    adam.zero_grad(set_to_none=True)
    width = max(len(row) for row in step["tokens"])
    pad = lambda rows, fill: torch.tensor([row + [fill] * (width - len(row)) for row in rows])
    out = model(
        input_ids=pad(step["tokens"], 0),
        token_type_ids=pad(step["segments"], 0),
        attention_mask=pad([[1] * len(row) for row in step["tokens"]], 0),
    )
    cross_entropy = torch.nn.functional.cross_entropy
    losses = []
    labels = pad(step["labels"], -100)
    if (labels >= 0).any():
        losses.append(cross_entropy(out.prediction_logits.flatten(0, 1), labels.flatten(), ignore_index=-100))
    if step["pairs"]:
        losses.append(cross_entropy(out.seq_relationship_logits, torch.tensor(step["pairs"])))
    loss = sum(losses)
    loss.backward()
    without += any(p.grad is None for p in parameters.values())
    torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    for group in adam.param_groups:
        group["lr"] = step["lr"]
    adam.step()
    apart = max(apart, abs(loss.item() - step["loss"]))

found = dict(load(trained).named_parameters())
# The gradient of a key's bias is 0 but for rounding, which Adam blows up.
weights = {name: (found[name] - p).abs().max().item() for name, p in parameters.items() if "key.bias" not in name}
worst = max(weights, key=weights.get)
print(json.dumps({"loss": apart, "weights": weights[worst], "worst": worst, "without": without}))
