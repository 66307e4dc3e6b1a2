"""The perplexity of documents by a model in transformers, in windows that overlap.

    python perplexity.py DIR GIVEN.json

GIVEN.json has `documents` (lists of token ids), `begin` and `end` (ids), `room` (tokens of text in a window), `stride` and
`characters`. The windows are those of the guide "Perplexity of fixed-length models"; each begins with `begin`, as in
training, and the last of a document has its `end` to predict. Prints `tokens`, `loss`, `perplexity` and
`bits_per_character` as JSON.
"""

import json
import math
import sys

import torch
import transformers


def main(directory: str, given: str) -> None:
    with open(given, encoding="utf-8") as file:
        given = json.load(file)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    nats, tokens = 0.0, 0
    for document in given["documents"]:
        length = len(document)
        prev_end_loc = 0
        for begin_loc in range(0, length, given["stride"]):
            end_loc = min(begin_loc + given["room"], length)
            trg_len = end_loc - prev_end_loc
            window = [given["begin"], *document[begin_loc:end_loc]]
            labels = document[begin_loc:end_loc] + ([given["end"]] if end_loc == length else [])
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([window])).logits[0]
            scored = torch.log_softmax(logits[: len(labels)].double(), -1)
            scored = scored[torch.arange(len(labels)), torch.tensor(labels)][end_loc - begin_loc - trg_len :]
            nats -= scored.sum().item()
            tokens += len(scored)
            prev_end_loc = end_loc
            if end_loc == length:
                break
    print(
        json.dumps(
            {
                "tokens": tokens,
                "loss": nats / tokens,
                "perplexity": math.exp(nats / tokens),
                "bits_per_character": nats / math.log(2) / given["characters"],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
