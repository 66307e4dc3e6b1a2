"""Opens models that pipe exported in transformers and PEFT, holds them to what pipe says, and saves models of its own.

    python matrix.py CELLS.json RESULTS.json

CELLS.json is a list of models, each with

    name, dir       what it's called, and the folder that it was exported to
    family          pipe's name of it
    auto            the AutoModel class that opens it; null where transformers has none for the family
    peft            whether the folder has an adapter beside its model
    texts           [{text, ids, framed}]: the ids of a text, and those that pipe puts around them
    language        [{text, more, logits}]: logits at each token of the text as framed; of an encoder-decoder those of
                    the decoder, which is given `more`
    classes         [{text, second, label, scores}]: log-probabilities of all labels, and the likeliest one's name
    labels          the labels in the order of the scores
    generation      [{prompt, text, ended}]: what pipe writes greedily, and whether it came to an end by itself

RESULTS.json gets, for each name, what is wrong (`problems`) and, where `save` names a folder, what the model that was
saved there gives: `ids` of the texts and `logits` or `scores` as above.
"""

import json
import logging
import os
import sys
import warnings

import torch
import transformers

# A weight that's made up is a problem that is told of; the rest is noise.
transformers.logging.set_verbosity_error()
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
torch.set_grad_enabled(False)
# Small tensors are slower on several threads.
torch.set_num_threads(1)

TOLERANCE = 1e-4
NEW_TOKENS = 24


class Cell:
    """A model with what is wrong with it."""

    def __init__(self, cell):
        self.problems = []
        self.saved = None
        self.__dict__.update(cell)

    def problem(self, text):
        if text not in self.problems:
            self.problems.append(text)

    def check(self):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.dir, trust_remote_code=False)
        for text in self.texts:
            ids = self.tokenizer(text["text"], add_special_tokens=False)["input_ids"]
            if ids != text["ids"]:
                self.problem(f"other ids: {ids} instead of {text['ids']}")
            framed = self.tokenizer(text["text"])["input_ids"]
            if framed != text["framed"]:
                self.problem(f"other tokens around a text: {framed} instead of {text['framed']}")
        if not self.auto:
            return
        self.model = self.open(self.dir)
        self.compare(self.model)
        if self.classes:
            names = [self.model.config.id2label[at] for at in range(self.model.config.num_labels)]
            ids = [self.model.config.label2id[name] for name in self.labels]
            if names != self.labels or ids != list(range(len(ids))):
                self.problem(f"the labels are {names} instead of {self.labels}")
        for generation in self.generation:
            self.generate(generation)
        if self.save:
            self.make_own()

    def open(self, directory):
        """The model, its adapter on top of it."""
        auto = getattr(transformers, self.auto)
        if not self.peft:
            return self.load(auto, directory)
        import peft

        base, adapter = self.load(auto, directory), os.path.join(directory, "adapter")
        with open(os.path.join(adapter, "adapter_config.json"), encoding="utf-8") as file:
            task = json.load(file)["task_type"]
        # By itself, where PEFT knows a class for the task: the adapter says where its model lies.
        alone = {"CAUSAL_LM": peft.AutoPeftModelForCausalLM, "SEQ_2_SEQ_LM": peft.AutoPeftModelForSeq2SeqLM}
        alone[None] = peft.AutoPeftModel
        if task in alone:
            return alone[task].from_pretrained(adapter, attn_implementation="eager").eval()
        return peft.PeftModel.from_pretrained(base, adapter).eval()

    def load(self, auto, directory):
        model, loaded = auto.from_pretrained(directory, output_loading_info=True, attn_implementation="eager")
        for problem in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs"):
            if loaded[problem]:
                self.problem(f"{problem}: {sorted(map(str, loaded[problem]))}")
        if model.config.architectures != [type(model).__name__]:
            self.problem(f"opened as {type(model).__name__}, and config.json says {model.config.architectures}")
        return model.eval()

    def inputs(self, text, second=None):
        texts = [text] if second is None else [text, second]
        return self.tokenizer(*texts, return_tensors="pt")

    def language_logits(self, model, example):
        inputs = self.inputs(example["text"])
        if model.config.is_encoder_decoder:
            start = model.config.decoder_start_token_id
            inputs["decoder_input_ids"] = torch.tensor([[start, *example["more"]]])
        output = model(**inputs)
        return output.get("prediction_logits", output.get("logits"))[0]

    def class_scores(self, model, example):
        logits = model(**self.inputs(example["text"], example["second"])).logits[0]
        return torch.log_softmax(logits, -1)

    def compare(self, model):
        for example in self.language:
            logits = self.language_logits(model, example)
            self.expect_near("logits", logits, torch.tensor(example["logits"]))
        for example in self.classes:
            scores = self.class_scores(model, example)
            self.expect_near("scores of labels", scores, torch.tensor(example["scores"]))
            label = model.config.id2label[int(scores.argmax())]
            if label != example["label"]:
                self.problem(f"{example['text']!r} is {label!r} instead of {example['label']!r}")

    def expect_near(self, what, found, expected):
        if found.shape != expected.shape:
            self.problem(f"{what} of the shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
            return
        furthest = (found - expected).abs().max().item()
        if not furthest < TOLERANCE:
            self.problem(f"{what} differ by {furthest:.1e}")

    def generate(self, expected):
        inputs = self.inputs(expected["prompt"])
        output = self.model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)[0]
        new = output[1:] if self.model.config.is_encoder_decoder else output[inputs["input_ids"].shape[1] :]
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        if text != expected["text"]:
            self.problem(f"writes {text!r} after {expected['prompt']!r} instead of {expected['text']!r}")
        ended = int(new[-1]) in self.model.generation_config.eos_token_id
        if ended != expected["ended"]:
            self.problem(f"{'ends' if ended else 'goes on'} after {expected['prompt']!r}, and pipe doesn't")

    def make_own(self):
        """Saves another model of the same class as transformers does, without a word of pipe's, and what it gives."""
        model = self.model
        generator = torch.Generator().manual_seed(7)
        for name, parameter in model.named_parameters():
            if "embed_positions" in name:  # Marian's are computed, and not saved.
                continue
            if self.peft and "lora_" not in name and "prompt_encoder" not in name:
                continue
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
        if not self.peft:
            if hasattr(model.config, "pipe"):
                del model.config.pipe
            self.tokenizer.save_pretrained(self.save)
        model.save_pretrained(self.save)
        self.saved = {
            "logits": [self.language_logits(model, example).tolist() for example in self.language],
            "scores": [self.class_scores(model, example).tolist() for example in self.classes],
        }


def main(cells, results):
    with open(cells, encoding="utf-8") as file:
        cells = [Cell(cell) for cell in json.load(file)]
    for cell in cells:
        try:
            cell.check()
        except Exception as error:  # One model's failure is one cell of the table.
            if os.environ.get("MATRIX_TRACEBACK"):
                raise
            cell.problem(f"{type(error).__name__}: {error}".split("\n")[0][:300])
    report = {cell.name: {"problems": cell.problems, "saved": cell.saved} for cell in cells}
    with open(results, "w", encoding="utf-8") as file:
        json.dump(report, file, ensure_ascii=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
