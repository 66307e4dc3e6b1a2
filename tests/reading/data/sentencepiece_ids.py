"""Trains SentencePiece models of each kind on documents, and encodes these with them: N.jsonl (a text a line) -> N.MODEL.ids.
Prints the models' names."""

import itertools
import json
import sys

import sentencepiece

files = int(sys.argv[1])
read = lambda file: (json.loads(line) for line in open(f"{file}.jsonl", encoding="utf-8"))
sample = [text for file in range(files) for text in itertools.islice(read(file), 0, 4000, 10)]
MODELS = {
    "bpe_plain": {"model_type": "bpe", "normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False},
    "bpe_nfkc": {"model_type": "bpe", "byte_fallback": True},
    "unigram_nfkc": {"model_type": "unigram"},
    "unigram_plain": {"model_type": "unigram", "normalization_rule_name": "identity", "byte_fallback": True, "add_dummy_prefix": False},
}
for name, settings in MODELS.items():
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample), model_prefix=name, vocab_size=6000, minloglevel=2, hard_vocab_limit=False, **settings
    )
    model = sentencepiece.SentencePieceProcessor(model_file=f"{name}.model")
    for file in range(files):
        with open(f"{file}.{name}.ids", "w") as ids:
            ids.writelines(json.dumps(model.encode(text)) + "\n" for text in read(file))
    print(name)
