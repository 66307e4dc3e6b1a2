"""Opens a model that pipe wrote in transformers, and compares its logits with those that pipe gives.

    python open_in_transformers.py DIR EXPECTED.json

EXPECTED.json has `input_ids`, rows of token ids of equal length without padding, and `logits`, a list of numbers for
every token. Prints the class and the largest difference; fails where it's 1e-4 or more, or a weight doesn't fit.
"""

import json
import sys

import torch
import transformers


def main(directory: str, expected: str) -> None:
    with open(expected, encoding="utf-8") as file:
        expected = json.load(file)
    config = transformers.AutoConfig.from_pretrained(directory)
    (name,) = config.architectures
    model, loaded = getattr(transformers, name).from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs"):
        if loaded[problem]:
            sys.exit(f"{name}: {problem}: {loaded[problem]}")
    with torch.no_grad():
        output = model.eval()(input_ids=torch.tensor(expected["input_ids"]))
    logits = output.get("prediction_logits", output.get("logits"))
    furthest = (logits.flatten(0, 1) - torch.tensor(expected["logits"])).abs().max().item()
    print(f"{name}: logits differ by {furthest:.2e}")
    if not furthest < 1e-4:
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
