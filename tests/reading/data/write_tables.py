"""Writes tables as people do, with Python's csv and json and with pyarrow, and what pandas and csv read of them.

    python write_tables.py FOLDER SEED COUNT

FOLDER/cases.jsonl has a line for each file: its name, the settings that a source needs to say how it was written, the
columns, the rows that were written, and for .csv and .tsv what csv and pandas read where nothing is said.
"""

import csv
import io
import json
import os
import random
import sys

import pandas
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

folder, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
PIECES = ["好", "电影", "a", "b c", "5", "0.10", "1e5", " ", '"', '""', "'", ",", "\t", ";", "|", "\\", "\n", "\r\n", "\r", "，", "。", "“", "#", "NA", "é", "😀"]
cases = []


def text(most=6):
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, most)))


def keep(name, columns, rows, **more):
    cases.append({"file": name, "columns": columns, "rows": rows, **more})


def default_readings(path, delimiter):
    """What csv and pandas read of a file where nothing but the delimiter is said; None where they refuse it."""
    try:
        with open(path, newline="", encoding="utf-8") as f:
            by_csv = [row for row in csv.reader(f, delimiter=delimiter) if row]
        if any(len(row) != len(by_csv[0]) for row in by_csv):
            by_csv = None
    except csv.Error:
        by_csv = None
    try:
        table = pandas.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False, na_filter=False, header=None)
        by_pandas = table.values.tolist()
    except Exception:
        by_pandas = None
    return by_csv, by_pandas


def delimited(index):
    delimiter = rng.choice([",", "\t", ";", "|"])
    ending = rng.choice(["csv", "tsv"])
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE])
    doubles = rng.random() < 0.6
    escape = "\\" if quoting == csv.QUOTE_NONE or not doubles or rng.random() < 0.2 else None
    width = rng.randint(1, 3)
    columns = [f"c{i}" for i in range(width)]
    rows = [[text() for _ in columns] for _ in range(rng.randint(1, 6))]
    name = f"{index}.{ending}"
    path = os.path.join(folder, name)
    out = io.StringIO(newline="")
    writer = csv.writer(
        out, delimiter=delimiter, quoting=quoting, doublequote=doubles, escapechar=escape,
        lineterminator=rng.choice(["\n", "\r\n"]),
    )
    try:
        writer.writerow(columns)
        writer.writerows(rows)
    except csv.Error:
        return
    written = out.getvalue()
    if rng.random() < 0.3:
        written = written.rstrip("\r\n")
    with open(path, "w", newline="", encoding="utf-8") as f:
        f.write(written)
    fields = {"delimiter": delimiter, "quoting": quoting != csv.QUOTE_NONE}
    if escape:
        fields["escape"] = escape
    by_csv, by_pandas = default_readings(path, delimiter)
    # As csv reads it when it's told how it was written, which isn't always what was written.
    with open(path, newline="", encoding="utf-8") as f:
        told = list(csv.reader(f, delimiter=delimiter, quoting=quoting if quoting == csv.QUOTE_NONE else csv.QUOTE_MINIMAL, doublequote=True, escapechar=escape))
    told = [row for row in told if row][1:]
    keep(name, columns, rows, fields=fields, delimiter=delimiter, told=told, csv=by_csv, pandas=by_pandas)


def nested(rows):
    """Columns beside those that are asked for."""
    some = {
        "emb": pa.array([[0.5, None]] * rows),
        "img": pa.array([b"\xff\x00"] * rows),
        "meta": pa.array([{"source": "x", "tags": ["a", None]}] * rows),
        "map": pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        "when": pa.array([1] * rows, pa.timestamp("us", "Asia/Shanghai")),
        "none": pa.nulls(rows),
    }
    return {name: some[name] for name in rng.sample(sorted(some), rng.randint(0, len(some)))}


def string_column(values):
    kind = rng.choice(["string", "large_string", "dictionary", "binary", "view"])
    array = pa.array(values, pa.string())
    if kind == "large_string":
        return array.cast(pa.large_string())
    if kind == "dictionary":
        return array.dictionary_encode()
    if kind == "binary":
        return array.cast(pa.binary())
    if kind == "view" and hasattr(pa, "string_view"):
        return array.cast(pa.string_view())
    return array


def columnar(index):
    rows = rng.randint(0, 40)
    texts = [None if rng.random() < 0.1 else text() for _ in range(rows)]
    numbers = [rng.choice([0, -1, 2**63 - 1, rng.randint(-9, 9)]) for _ in range(rows)]
    columns = {"text": string_column(texts), "label": pa.array(numbers, pa.int64()), **nested(rows)}
    order = list(columns)
    rng.shuffle(order)
    table = pa.table({name: columns[name] for name in order})
    ending = rng.choice(["parquet", "parquet", "arrow", "feather"])
    name = f"{index}.{ending}"
    path = os.path.join(folder, name)
    if ending == "parquet":
        codec = rng.choice(["snappy", "gzip", "brotli", "lz4", "zstd", "none"])
        if any(pa.types.is_string_view(field.type) for field in table.schema if hasattr(pa.types, "is_string_view")):
            table = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts, pa.string()))
        pyarrow.parquet.write_table(
            table, path, compression=codec, row_group_size=rng.choice([1, 7, 1000]), use_dictionary=rng.random() < 0.5,
            data_page_version=rng.choice(["1.0", "2.0"]), version=rng.choice(["1.0", "2.4", "2.6"]),
            store_schema=rng.random() < 0.7,
        )
    else:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, "lz4", "zstd"]))
        new = rng.choice([pa.ipc.new_file, pa.ipc.new_stream])
        if ending == "feather":
            new = pa.ipc.new_file
        with pa.OSFile(path, "wb") as sink, new(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=rng.choice([1, 7, 1000]))
    expected = [[t or "", str(n)] for t, n in zip(texts, numbers)]
    keep(name, ["text", "label"], expected, fields={})


def json_rows(index):
    rows, expected = [], []
    for _ in range(rng.randint(1, 8)):
        number = rng.choice(["1", "1.0", "0.10", "1e400", "12345678901234567890123", "-0", "true"])
        value = text()
        others = rng.choice(["", '"meta":{"text":"x","n":[1,{}]},', '"tags":[],', '"img":"\\ud83d",'])
        label = rng.random() < 0.8
        body = f'{{{others}"text":{json.dumps(value, ensure_ascii=rng.random() < 0.5)}'
        rows.append(body + (f',"label":{number}}}' if label else "}"))
        expected.append([value, number if label else ""])
    if rng.random() < 0.5:
        name = f"{index}.{rng.choice(['jsonl', 'json', 'ndjson'])}"
        written = rng.choice(["\n", "\r\n", "\n\n"]).join(rows) + rng.choice(["", "\n"])
    else:
        name = f"{index}.{rng.choice(['jsonl', 'json'])}"
        written = rng.choice(["[", " [\n"]) + rng.choice([",", ",\n  "]).join(rows) + rng.choice(["]", "\n]\n"])
    with open(os.path.join(folder, name), "w", newline="", encoding=rng.choice(["utf-8", "utf-8-sig"])) as f:
        f.write(written)
    keep(name, ["text", "label"], expected, fields={})


for index in range(count):
    rng.choice([delimited, delimited, columnar, json_rows])(index)
with open(os.path.join(folder, "cases.jsonl"), "w", encoding="utf-8") as f:
    for case in cases:
        f.write(json.dumps(case) + "\n")
