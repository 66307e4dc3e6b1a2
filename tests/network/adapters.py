"""Adapters where others have them: in PEFT, and P-tuning in ChatGLM's own code.

    python tests/network/adapters.py peft MODEL ADAPTER INPUT.json
        the logits that PEFT gives with a model and an adapter for it
    python tests/network/adapters.py auto ADAPTER INPUT.json
        the same by `AutoPeftModelForCausalLM`, which finds the model itself
    python tests/network/adapters.py make MODEL ADAPTER TOKENS INPUT.json
        makes an adapter with PEFT, and gives its logits
    python tests/network/adapters.py chatglm MODEL ADAPTER INPUT.json
        the logits of THUDM's ChatGLM-6B and ChatGLM2-6B with their `PrefixEncoder`, in plain torch

INPUT.json has `input_ids`, `positions`, `block_positions` and `context` (how many tokens all others see) of one sequence.
Each prints a list of numbers for every token, as JSON.
"""

import json
import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def base_of(directory):
    import transformers

    (name,) = read(f"{directory}/config.json")["architectures"]
    return getattr(transformers, name).from_pretrained(directory, dtype=torch.float32)


def logits_of(model, given):
    with torch.no_grad():
        output = model.eval()(input_ids=torch.tensor([given["input_ids"]]))
    return output.get("prediction_logits", output.get("logits"))[0].tolist()


def peft(directory, adapter, given):
    from peft import PeftModel

    return logits_of(PeftModel.from_pretrained(base_of(directory), adapter), read(given))


def auto(adapter, given):
    from peft import AutoPeftModelForCausalLM

    return logits_of(AutoPeftModelForCausalLM.from_pretrained(adapter), read(given))


def make(directory, adapter, tokens, given):
    from peft import PrefixTuningConfig, get_peft_model

    base = base_of(directory)
    task = "CAUSAL_LM" if hasattr(base, "lm_head") else "FEATURE_EXTRACTION"
    model = get_peft_model(base, PrefixTuningConfig(task_type=task, num_virtual_tokens=int(tokens)))
    torch.manual_seed(5)
    model.prompt_encoder["default"].embedding.weight.data.normal_()
    model.save_pretrained(adapter)
    return logits_of(model, read(given))


def linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(weights, name, x, epsilon):
    if f"{name}.bias" in weights:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weights[f"{name}.weight"]


def attend(query, key, value, seen):
    """`[heads, tokens, size]` each; keys and values have the prefix before the tokens' own."""
    group = len(query) // len(key)
    key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    return (scores.masked_fill(~seen, -1e4).softmax(-1) @ value).transpose(0, 1).flatten(1)


def halves(x, positions):
    """The rotation of ChatGLM-6B, of all dimensions of `x`, with frequencies in half precision."""
    width = x.shape[-1]
    frequency = (1.0 / 10000 ** (torch.arange(0, width, 2).float() / width)).half().float()
    angle = torch.tensor(positions)[:, None].float() * frequency
    angle = torch.cat([angle, angle], -1)
    left, right = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-right, left], -1) * angle.sin()


def pairs(x, positions):
    """The rotation of ChatGLM2-6B, of neighbouring dimensions in the first half of `x`."""
    width = x.shape[-1] // 2
    frequency = 1.0 / 10000 ** (torch.arange(0, width, 2).float() / width)
    angle = torch.tensor(positions)[:, None].float() * frequency
    even, odd = x[..., 0:width:2], x[..., 1:width:2]
    turned = [even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()]
    return torch.cat([torch.stack(turned, -1).flatten(-2), x[..., width:]], -1)


def chatglm(directory, adapter, given):
    config, weights, given = read(f"{directory}/config.json"), load_file(f"{directory}/model.safetensors"), read(given)
    layers, heads = config["num_layers"], config["num_attention_heads"]
    second = "padded_vocab_size" in config
    key_heads = config["multi_query_group_num"] if second else heads
    size = config["kv_channels"] if second else config["hidden_size"] // heads
    # `get_prompt`: the table is `[tokens, 2 * layers, heads, size]`, keys and values of the layers in turn.
    (table,) = load_file(f"{adapter}/adapter_model.safetensors").values()
    prompt = table.view(len(table), 2 * layers, key_heads, size).permute(1, 2, 0, 3)
    tokens, positions = len(given["input_ids"]), given["positions"]
    own = torch.ones(tokens, tokens).tril().bool()
    own[:, : given["context"]] = True
    seen = torch.cat([torch.ones(tokens, len(table)).bool(), own], 1)
    epsilon = config["layernorm_epsilon"]
    words = "transformer.embedding.word_embeddings" if second else "transformer.word_embeddings"
    x = weights[f"{words}.weight"][given["input_ids"]]
    with torch.no_grad():
        for layer in range(layers):
            name = f"transformer.encoder.layers.{layer}" if second else f"transformer.layers.{layer}"
            past = prompt[2 * layer], prompt[2 * layer + 1]
            inner = norm(weights, f"{name}.input_layernorm", x, epsilon)
            if second:
                mixed = linear(weights, f"{name}.self_attention.query_key_value", inner)
                widths = [heads * size, key_heads * size, key_heads * size]
                query, key, value = (part.view(tokens, -1, size).transpose(0, 1) for part in mixed.split(widths, -1))
                query, key = pairs(query, positions), pairs(key, positions)
            else:
                mixed = linear(weights, f"{name}.attention.query_key_value", inner)
                query, key, value = mixed.view(tokens, heads, 3 * size).transpose(0, 1).chunk(3, -1)

                def turn(x):
                    first, second = x.chunk(2, -1)
                    return torch.cat([halves(first, positions), halves(second, given["block_positions"])], -1)

                query, key = turn(query), turn(key)
            key, value = torch.cat([past[0], key], 1), torch.cat([past[1], value], 1)
            attended = attend(query, key, value, seen)
            # ChatGLM-6B weighs the residual stream by the root of twice its 28 layers.
            if second:
                x = x + linear(weights, f"{name}.self_attention.dense", attended)
                inner = norm(weights, f"{name}.post_attention_layernorm", x, epsilon)
                gate, up = linear(weights, f"{name}.mlp.dense_h_to_4h", inner).chunk(2, -1)
                x = x + linear(weights, f"{name}.mlp.dense_4h_to_h", F.silu(gate) * up)
            else:
                x = inner * math.sqrt(56) + linear(weights, f"{name}.attention.dense", attended)
                inner = norm(weights, f"{name}.post_attention_layernorm", x, epsilon)
                up = F.gelu(linear(weights, f"{name}.mlp.dense_h_to_4h", inner), approximate="tanh")
                x = inner * math.sqrt(56) + linear(weights, f"{name}.mlp.dense_4h_to_h", up)
        if second:
            x = norm(weights, "transformer.encoder.final_layernorm", x, epsilon)
            return linear(weights, "transformer.output_layer", x).tolist()
        return linear(weights, "lm_head", norm(weights, "transformer.final_layernorm", x, epsilon)).tolist()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"peft": peft, "auto": auto, "make": make, "chatglm": chatglm}[command](*arguments)))
