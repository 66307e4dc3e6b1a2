"""Marian models of `transformers` beside those of pipe.

    python tests/network/marian.py make DIRECTORY
        writes a small random model with inputs and logits to DIRECTORY, for the tests of `transformer_parity.rs`
    python tests/network/marian.py write MODEL PROMPT
        opens a model that pipe has stored and continues the prompt greedily, as
        `pipe generate RECIPE STAGE --prompt PROMPT --temperature 0` does
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast


def make(directory: Path) -> None:
    """A model whose sides differ in depth and heads, and sources of unequal length."""
    torch.manual_seed(1)
    config = MarianConfig(
        vocab_size=53, d_model=24, max_position_embeddings=40, activation_function="swish", scale_embedding=True,
        encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=40,
        decoder_layers=3, decoder_attention_heads=2, decoder_ffn_dim=36,
        pad_token_id=52, decoder_start_token_id=52, eos_token_id=0, forced_eos_token_id=0, init_std=0.3,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    torch.nn.init.normal_(model.final_logits_bias)
    torch.nn.init.normal_(model.model.shared.weight, std=0.3)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    lengths = torch.tensor([[11], [3], [17]])
    mask = (torch.arange(17) < lengths).long()
    inputs = torch.randint(1, 52, mask.shape) * mask + 52 * (1 - mask)
    targets = torch.cat([torch.full((3, 1), 52), torch.randint(1, 52, (3, 8))], 1)
    with torch.no_grad():
        logits = model(input_ids=inputs, attention_mask=mask, decoder_input_ids=targets).logits
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    expected = {"input_ids": inputs, "attention_mask": mask, "decoder_input_ids": targets, "logits": logits}
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, directory / "expected.safetensors")


def write(directory: Path, prompt: str, most: int = 40) -> None:
    """Every tensor has to be found, and none may be left over."""
    model, told = MarianMTModel.from_pretrained(directory, output_loading_info=True)
    assert not any(told.values()), told
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    ids = json.loads((directory / "tokenizer.json").read_text())["added_tokens"]
    special = {token["content"]: token["id"] for token in ids}
    source = [special["[CLS]"], *tokenizer.encode(prompt, add_special_tokens=False)]
    ends = [special["<eop>"], special["[SEP]"]]
    forbidden = [[id] for id in special.values() if id not in ends]
    written = model.generate(
        torch.tensor([source]), max_new_tokens=most, do_sample=False, num_beams=1, eos_token_id=ends, bad_words_ids=forbidden
    )
    print(tokenizer.decode(written[0], skip_special_tokens=True))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", directory]:
            make(Path(directory))
        case ["write", directory, prompt]:
            write(Path(directory), prompt)
        case _:
            sys.exit(__doc__)
