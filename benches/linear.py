"""Holds the linear baseline against scikit-learn on its own feature matrix.

    pipe run recipes/thucnews.yaml --var data=DIR --stage topics.linear --json     # says where the artifact is
    python benches/linear.py ARTIFACT DIR/train.txt DIR/dev.txt --names title,label --columns title --limit 2000

The features are computed anew here, from the texts and the artifact's buckets and inverse document frequencies, so that the
script checks too what src/data/text/ngrams.rs says of them: the artifact's own weights have to give about the accuracy that the
stage recorded for its dev rows, where it minimizes less closely while it chooses. On the matrix of the training rows `LinearSVC` and `LogisticRegression` are trained with the
costs that the stage has tried, and judge the same rows. `--limit` is that of the recipe's dev rows.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
BEGINNING, END, SPACE = 1 << 32, 2 << 32, 3 << 32
LONGEST, PARTS, UNITS = 3, (3, 4, 5), 4096


def mix(x):
    """The finalizer of SplitMix64, as in src/support/random.rs."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def key(seed):
    return mix(seed ^ STEP)


def at(of, index):
    return mix(of ^ mix((index + STEP) & MASK))


def number(of):
    return mix((of + STEP) & MASK)


def with_text(of, text):
    data = text.encode()
    inner = len(data)
    for byte in data:
        inner = mix(inner ^ byte)
    return at(of, inner)


def narrow(character):
    return chr(ord(character) - 0xFEE0) if "\uff01" <= character <= "\uff5e" else character


def units(text):
    """Words as str of any length in a tuple, characters as str, white space as None."""
    word, in_space = "", False
    for character in "".join(narrow(one) for one in text).lower():
        if character < "\u2e80" and character.isalnum():
            word, in_space = word + character, False
            continue
        if word:
            yield (word,)
            word = ""
        space = character.isspace()
        if not space:
            yield character
        elif not in_space:
            yield None
        in_space = space
    if word:
        yield (word,)


def run(first, hashes):
    of = key(first)
    for one in hashes:
        of = at(of, one)
    return number(of)


def grams(text):
    hashes, found = [BEGINNING], []
    after_word = after_space = False
    for unit in units(text.strip()):
        if len(hashes) > UNITS:
            break
        is_word = isinstance(unit, tuple)
        if after_space and not (after_word and is_word):
            hashes.append(SPACE)
        after_space = unit is None
        if unit is None:
            continue
        if is_word:
            (word,) = unit
            if len(word) > 1:
                framed = [ord(one) for one in f"<{word}>"]
                for length in PARTS:
                    found += [run(16 + length, framed[i : i + length]) for i in range(len(framed) - length + 1)]
            hashes.append(number(with_text(key(0), word)))
        else:
            hashes.append(ord(unit))
        after_word = is_word
    hashes.append(END)
    for length in range(1, LONGEST + 1):
        found += [run(length, hashes[i : i + length]) for i in range(len(hashes) - length + 1)]
    return found


def counts(columns, bits):
    all_grams = [grams(text) for text in columns]
    salted = [(column, gram) for column, own in enumerate(all_grams) for gram in own]
    if len(columns) > 1:
        shared = set(all_grams[0]).intersection(*all_grams[1:])
        salted += [(len(columns), gram) for gram in shared]
    return Counter(number(at(key(column), gram)) >> (64 - bits) for column, gram in salted)


def matrix(rows, described, tensors):
    column_of = {bucket: column for column, bucket in enumerate(tensors["buckets"].tolist())}
    idf = tensors["idf"].astype(float)
    starts, columns, values = [0], [], []
    for row in rows:
        found = [(column_of[bucket], count) for bucket, count in counts(row, described["bits"]).items() if bucket in column_of]
        weights = [(1 + math.log(count)) * idf[column] for column, count in found]
        length = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
        columns += [column for column, _ in found]
        values += [weight / length for weight in weights]
        starts.append(len(columns))
    features = csr_matrix((values, columns, starts), shape=(len(rows), len(idf)))
    return hstack([features, np.ones((len(rows), 1))]).tocsr()


def read(path, options, limit=None):
    """The texts and labels of a .jsonl as `pipe init` writes it, or of a table."""
    if path.endswith(".jsonl"):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()[:limit]]
        return [[row[name] for name in options.columns.split(",")] for row in rows], [row[options.label] for row in rows]
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    names = options.names.split(",") if options.names else lines.pop(0).split("\t")
    # The last column takes the rest of the line, and a label at a line's end has no tabs.
    rows = [line.split("\t", len(names) - 1) for line in lines[:limit]]
    label, columns = names.index(options.label), [names.index(name) for name in options.columns.split(",")]
    return [[row[column] for column in columns] for row in rows], [row[label] for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("train")
    parser.add_argument("dev", help="the rows that the stage chose by")
    parser.add_argument("--columns", default="text", help="the columns with the text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--names", help="the files' columns, where they have no header")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    described = json.loads((options.artifact / "linear.json").read_text(encoding="utf-8"))
    tensors = load_file(options.artifact / "linear.safetensors")
    (train, train_labels), (dev, dev_labels) = read(options.train, options), read(options.dev, options, options.limit)
    number_of = {label: index for index, label in enumerate(described["labels"])}
    learned, gold = (np.array([number_of[label] for label in labels]) for labels in (train_labels, dev_labels))
    train, dev = matrix(train, described, tensors), matrix(dev, described, tensors)

    def percent(predicted):
        return 100 * float((predicted == gold).mean())

    weights = tensors["weights"].astype(np.float32) * tensors["scales"][:, None]
    weights = np.vstack([weights, tensors["bias"][None, :]])
    settings = described["settings"]
    recorded = next(trial["accuracy"] for trial in described["trials"] if settings.items() <= trial.items())
    print(f"{settings}: weights give {percent((dev @ weights).argmax(1)):.2f} %, less exact ones gave {100 * recorded:.2f} %")
    classes = len(described["labels"])
    for trial in described["trials"]:
        if trial["weighting"] != "tf_idf":
            continue
        cost = trial["cost"]
        if trial["loss"] == "squared_hinge":
            model = LinearSVC(C=cost, fit_intercept=False, tol=1e-6, max_iter=20000)
        else:
            # With two classes scikit-learn has one vector; ours are two, of which each is the other's negative.
            model = LogisticRegression(
                C=cost * (2 if classes == 2 else 1), fit_intercept=False, tol=1e-7, max_iter=5000
            )
        theirs = percent(model.fit(train, learned).predict(dev))
        own = 100 * trial["accuracy"]
        print(f"{type(model).__name__} C={cost:g}: scikit-learn {theirs:.2f} %, pipe {own:.2f} %, {own - theirs:+.2f}", flush=True)


if __name__ == "__main__":
    main()
