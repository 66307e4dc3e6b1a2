"""What transformers' `generate` writes with each setting, for the tests of `generation_settings.rs`.

    python tests/network/generation/reference.py formula > tests/network/generation/formula.json
        for a model whose logits are a formula of the sequence
    python tests/network/generation/reference.py fixtures PARITY > OUT
        for the fixtures in the folder PARITY; those that transformers has no classes for go through its `generate`, too, with
        the plain models beside the fixtures
    python tests/network/generation/reference.py marian MODEL > OUT
        for a model of Marian's in transformers' layout

Each line of the output is a case: the prompt, the settings as `generation_config.json` has them, and either the texts (with
what beams score) or the probabilities of the next token after everything that sampling leaves out.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    MarianMTModel,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import logging

logging.set_verbosity_error()
# Small models are slower with several.
torch.set_num_threads(1)
warnings.filterwarnings("ignore")

VOCABULARY = 13


def formula(tokens: list[int]) -> torch.Tensor:
    mixed = 17
    for token in tokens:
        mixed = (mixed * 31 + token + 7) % 65521
    numbers = [((mixed * (id + 3) * 7919 + id * 104729) % 65521) % 997 for id in range(VOCABULARY)]
    return torch.tensor(numbers, dtype=torch.float32) / 199.0 - 2.5


class PlainConfig(PretrainedConfig):
    model_type = "plain"

    def __init__(self, vocab_size: int = VOCABULARY, **other):
        super().__init__(**other)
        self.vocab_size, self.num_hidden_layers, self.hidden_size, self.num_attention_heads = vocab_size, 1, 4, 1


class Plain(PreTrainedModel, GenerationMixin):
    """A function from a sequence to the logits after it, for transformers' `generate`."""

    config_class = PlainConfig

    def __init__(self, config: PlainConfig, logits=formula):
        super().__init__(config)
        self.logits, self.nothing = logits, torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def forward(self, input_ids=None, **_):
        return CausalLMOutput(logits=torch.stack([self.logits(row) for row in input_ids.tolist()])[:, None])

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}


def settings(a: int, b: int, c: int, d: int) -> list[dict]:
    """Each setting by itself and some together, for a model that knows these tokens."""
    beams = {"num_beams": 3}
    rules = [
        {},
        {"repetition_penalty": 1.7},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"encoder_repetition_penalty": 1.5},
        {"encoder_no_repeat_ngram_size": 1},
        {"bad_words_ids": [[a], [b, c]]},
        {"sequence_bias": [[[a], -2.0], [[b, c], 4.0], [[d], 1.0]]},
        {"min_new_tokens": 5},
        {"min_length": 7},
        {"max_length": 9, "max_new_tokens": None},
        {"forced_bos_token_id": d},
        {"forced_eos_token_id": d},
        {"forced_eos_token_id": [c, d]},
        {"suppress_tokens": [a, b], "begin_suppress_tokens": [c]},
        {"exponential_decay_length_penalty": [2, 1.6]},
        {"remove_invalid_values": True, "suppress_tokens": [a]},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words_ids": [[d]], "min_new_tokens": 2},
    ]
    searches = [
        {"num_beams": 2},
        {"num_beams": 4, "num_return_sequences": 4},
        {"num_beams": 4, "length_penalty": 0.0},
        {"num_beams": 4, "length_penalty": 2.5},
        {"num_beams": 4, "length_penalty": -1.0, "num_return_sequences": 2},
        {"num_beams": 3, "early_stopping": True, "num_return_sequences": 3},
        {"num_beams": 3, "early_stopping": "never"},
        {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
        {"num_beams": 3, "renormalize_logits": True, "suppress_tokens": [a, b, c]},
    ]
    filters = [
        {},
        {"top_k": 0},
        {"top_k": 4},
        {"temperature": 0.6},
        {"temperature": 1.7, "top_k": 0, "top_p": 0.7},
        {"top_k": 0, "top_p": 0.3},
        {"top_k": 0, "min_p": 0.2},
        {"top_k": 0, "typical_p": 0.5},
        {"top_k": 0, "typical_p": 0.9, "temperature": 0.7},
        {"top_k": 0, "epsilon_cutoff": 0.06},
        {"top_k": 0, "eta_cutoff": 0.3},
        {"top_k": 0, "top_h": 0.5},
        {"top_k": 6, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95, "epsilon_cutoff": 0.01, "temperature": 0.8},
        {"top_k": 0, "repetition_penalty": 1.4, "no_repeat_ngram_size": 1, "suppress_tokens": [a]},
    ]
    greedy = [{**rule, "do_sample": False} for rule in rules]
    # Beams with equally likely ends are told apart by nothing.
    searched = [rule for rule in rules[1:] if rule.get("forced_eos_token_id") != [c, d]]
    searched = [{**beams, **rule, "do_sample": False} for rule in searched]
    searched += [{**search, "do_sample": False} for search in searches]
    return greedy + searched + [{**one, "do_sample": True} for one in filters]


def cases(model, prompt: list[int], ends: list[int] | None, tokens: tuple[int, int, int, int], most: int = 8, **inputs):
    """The cases of a prompt; of an encoder's reader the target begins by itself."""
    is_target = model.config.is_encoder_decoder
    length = 1 if is_target else len(prompt)
    for given in settings(*tokens):
        given = {"max_new_tokens": most, "eos_token_id": ends, **given}
        given = {name: value for name, value in given.items() if value is not None}
        if ends is None and {"min_new_tokens", "exponential_decay_length_penalty"} & given.keys():
            continue
        if length >= given.get("max_length", length + 1):
            continue
        config = GenerationConfig(
            **given, pad_token_id=0, decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None)
        )
        # What else the model's own settings say isn't meant.
        model.generation_config = GenerationConfig()
        draws = given["do_sample"]
        if draws:
            torch.manual_seed(1)
            config.max_new_tokens = 1
        with torch.no_grad():
            out = model.generate(
                torch.tensor([prompt]), generation_config=config, return_dict_in_generate=True, output_scores=True, **inputs
            )
        case = {"prompt": prompt, "settings": given}
        if draws:
            probabilities = out.scores[0][0].double().softmax(-1).tolist()
            case["next"] = [[id, round(p, 7)] for id, p in enumerate(probabilities) if p > 0]
        else:
            case["texts"] = [row[length:] for row in out.sequences.tolist()]
            if given.get("num_beams", 1) > 1:
                case["scores"] = [round(score, 5) for score in out.sequences_scores.tolist()]
        yield case


def formula_cases():
    model = Plain(PlainConfig()).eval()
    for ends in ([0], [0, 5], None):
        for prompt in ([1, 2, 3], [7, 4, 4, 11, 2], [9]):
            yield from cases(model, prompt, ends, (6, 3, 8, 12), use_cache=False)


def plain(root: Path, name: str, known: dict):
    """The plain model of a family that transformers has no class for, from a sequence that begins with a known prompt."""
    sys.path.insert(0, str(root / "generators"))
    import plain_models
    from safetensors.torch import load_file

    config = json.loads((root / name / "config.json").read_text())
    weights = load_file(root / name / "model.safetensors")
    prompt = known["prompt_ids"]
    if name == "chatglm2":
        return config, lambda tokens: plain_models.chatglm2(weights, config, torch.tensor([tokens]))[0][0, -1]

    if name == "glm_original":
        rows, context = known["position_ids_of_prompt_and_all_but_last_new"], known["attention_boundary"]
        rows = [row[: len(prompt)] for row in rows]
    else:
        context = prompt.index(config["bos_token_id"])
        mask = config["gmask_token_id"] if config["gmask_token_id"] in prompt else config["mask_token_id"]
        place = prompt.index(mask)
        rows = [
            [*range(context), *[place] * (len(prompt) - context)],
            [*[0] * context, *range(1, len(prompt) - context + 1)],
        ]

    def logits(tokens: list[int]) -> torch.Tensor:
        more = len(tokens) - len(prompt)
        first = rows[0] + [rows[0][-1]] * more
        second = rows[1] + [rows[1][-1] + at for at in range(1, more + 1)]
        ids, positions = torch.tensor([tokens]), torch.tensor([[first, second]])
        if name == "glm_original":
            return plain_models.glm_orig(weights, config, ids, positions, [context])[0][0, -1]
        masked = ~plain_models.causal(len(tokens))
        masked[:, :context] = False
        return plain_models.chatglm1(weights, config, ids, positions, masked[None, None])[0][0, -1]

    return config, logits


def fixture_cases(root: Path):
    for name in ("gpt2", "glm", "glm4", "chatglm1", "chatglm2", "glm_original"):
        if not (root / name).is_dir():
            continue
        # The second prompt has another end.
        for number, known in enumerate(json.loads((root / name / "generation.json").read_text())[:2]):
            if name in ("gpt2", "glm", "glm4"):
                model = AutoModelForCausalLM.from_pretrained(root / name, attn_implementation="eager").eval()
                inputs = {}
            else:
                config, logits = plain(root, name, known)
                model, inputs = Plain(PlainConfig(config.get("padded_vocab_size") or config["vocab_size"]), logits).eval(), {"use_cache": False}
            a, b, c, d = (known["new_ids"] + known["prompt_ids"])[:4]
            ends = known["eos_token_id"] if number == 0 else [a, *known["eos_token_id"]]
            for case in cases(model, known["prompt_ids"], ends, (a, b, c, d), 10, **inputs):
                yield {"fixture": name, "number": number, **case}


def marian_cases(directory: Path):
    model = MarianMTModel.from_pretrained(directory).eval()
    for prompt in ([3, 14, 15, 9, 2, 6, 0], [8, 0], [5, 5, 5, 21, 7, 0]):
        for case in cases(model, prompt, [0], (6, 3, 8, 12), 10):
            yield case


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["formula"]:
            found = formula_cases()
        case ["fixtures", root]:
            found = fixture_cases(Path(root))
        case ["marian", directory]:
            found = marian_cases(Path(directory))
        case _:
            sys.exit(__doc__)
    for one in found:
        print(json.dumps(one))
