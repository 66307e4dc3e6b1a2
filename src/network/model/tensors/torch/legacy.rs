//! Files from before PyTorch 1.6: five pickles one after the other (a mark, a version, what wrote it, the content, the keys
//! of its storages), then of each storage the number of its elements and these.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err::File;
use safetensors::Dtype;

use super::{
    contents::Contents,
    pickle,
    values::{Value, Values},
};

/// The first pickle, whatever its protocol: a number of ten bytes.
const MARK: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// How far the mark may be from the beginning.
const BEFORE_MARK: usize = 16;

/// Where the numbers of each storage lie.
pub(super) type Places = HashMap<String, Range<u64>>;

/// Reads all but the numbers themselves.
///
/// # Errors
/// As [`pickle::read`]; pickles that PyTorch didn't write, files that are cut off, and numbers in an order of bytes that
/// isn't this machine's.
pub(super) fn read(file: &File, size: u64) -> Result<(Contents, Places)> {
    let mut at = 0;
    let start = beginning(file)?;
    if !start.windows(MARK.len()).any(|window| window == MARK) {
        // What it would run is worth more to know than that it isn't PyTorch's.
        next(file, &mut at)?;
        bail!("it's a pickle, but none that torch.save wrote");
    }
    next(file, &mut at)?;
    next(file, &mut at)?;
    let about = next(file, &mut at)?;
    ensure!(!is_big_endian(&about), "its numbers begin with their highest byte, which isn't supported");
    let contents = next(file, &mut at)?;
    let keys = next(file, &mut at)?;

    let size_of = |dtype: Dtype| dtype.bitsize() as u64 / 8;
    let storages = contents.values.storages.iter();
    let sizes: HashMap<_, _> = storages.map(|storage| (&storage.key, storage.dtype.map_or(1, size_of))).collect();
    let mut places = HashMap::new();
    for &key in keys.values.items(keys.root, "the list of storages")? {
        let key = match keys.values.get(key) {
            Value::Text(key) => key.clone(),
            Value::Number(key) => key.to_string(),
            other => bail!("the name of a storage is {}", other.kind()),
        };
        let bytes = sizes.get(&key).with_context(|| format!("nothing says of what type storage {key} is"))?;
        let mut count = [0; 8];
        seek(file, at)?.read_exact(&mut count).with_context(|| format!("it's cut off before storage {key}"))?;
        let (start, length) = (at + 8, u64::from_le_bytes(count).checked_mul(*bytes));
        let end = length.and_then(|length| start.checked_add(length)).filter(|&end| end <= size);
        at = end.with_context(|| format!("it's cut off within storage {key}"))?;
        places.insert(key, start..at);
    }
    Ok((contents, places))
}

fn seek(mut file: &File, at: u64) -> Result<&File> {
    file.seek(SeekFrom::Start(at))?;
    Ok(file)
}

fn beginning(file: &File) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    seek(file, 0)?.take((BEFORE_MARK + MARK.len()) as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// The pickle there; afterwards `at` is where it ends.
fn next(file: &File, at: &mut u64) -> Result<Contents> {
    let mut values = Values::default();
    let (root, taken) = pickle::read(BufReader::new(seek(file, *at)?), &mut values)?;
    *at += taken;
    Ok(Contents { values, root })
}

/// What a file says of the machine that wrote it.
fn is_big_endian(about: &Contents) -> bool {
    let Value::Dict(entries) = about.values.get(about.root) else { return false };
    let little = |key: &Value| matches!(key, Value::Text(key) if key == "little_endian");
    entries.iter().any(|&(key, value)| little(about.values.get(key)) && matches!(about.values.get(value), Value::False))
}
