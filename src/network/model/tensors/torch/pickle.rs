//! A machine for the part of pickle that `torch.save` writes. It builds [`Values`] and calls nothing: what it would call in
//! Python is one of a few [names](Global), for each of which it's known what comes of it.
//!
//! The opcodes are those of CPython's Lib/pickletools.py, protocols 2 to 5.

use std::{
    collections::HashMap,
    io::{self, Read, Take},
};

use anyhow::{Context, Result, bail, ensure};

use super::values::{Described, Global, Id, Storage, Value, Values};

/// Longer pickles are a mistake, or meant to fill the memory: a tensor takes some 200 bytes.
const LONGEST: u64 = 1 << 26;
/// Longer names are no names.
const LONGEST_NAME: usize = 1 << 10;
/// As many arguments as are looked at.
const MOST_ARGUMENTS: usize = 8;
/// More dimensions than any tensor has.
const MOST_DIMENSIONS: usize = 64;
/// More items than the dictionaries of a file have that are made of lists.
const MOST_PAIRS: usize = 1 << 20;

/// Follows one pickle, and leaves `input` behind its end; gives its value among all of them, and how long it was.
///
/// # Errors
/// Whatever `torch.save` wouldn't write.
pub(super) fn read(input: impl Read, values: &mut Values) -> Result<(Id, u64)> {
    let input = input.take(LONGEST);
    let mut machine = Machine { input, values, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), pairs: 0 };
    let root = machine.run();
    let taken = LONGEST - machine.input.limit();
    let root = root.with_context(|| match taken {
        LONGEST => "its pickle is longer than any list of tensors".to_owned(),
        _ => format!("its pickle can't be followed at byte {taken}"),
    });
    Ok((root?, taken))
}

struct Machine<'a, R> {
    input: Take<R>,
    values: &'a mut Values,
    stack: Vec<Id>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// How many pairs were made into dictionaries so far.
    pairs: usize,
}

impl<R: Read> Machine<'_, R> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let [opcode] = self.bytes()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // PROTO, FRAME: nothing depends on them.
            0x80 => self.bytes::<1>().map(drop),
            0x95 => self.bytes::<8>().map(drop),
            // NONE, NEWTRUE, NEWFALSE.
            b'N' | 0x88 => self.push(Value::Plain),
            0x89 => self.push(Value::False),
            // BININT, BININT1, BININT2, LONG1, LONG4.
            b'J' => self.bytes().map(i32::from_le_bytes).and_then(|number| self.push(Value::Number(number.into()))),
            b'K' => self.bytes().map(u8::from_le_bytes).and_then(|number| self.push(Value::Number(number.into()))),
            b'M' => self.bytes().map(u16::from_le_bytes).and_then(|number| self.push(Value::Number(number.into()))),
            0x8a => self.length::<1>().and_then(|length| self.long(length)),
            0x8b => self.length::<4>().and_then(|length| self.long(length)),
            // BINFLOAT.
            b'G' => self.bytes::<8>().and_then(|_| self.push(Value::Plain)),
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, and the strings of Python 2.
            b'X' | b'T' => self.length::<4>().and_then(|length| self.text(length)),
            0x8c | b'U' => self.length::<1>().and_then(|length| self.text(length)),
            0x8d => self.length::<8>().and_then(|length| self.text(length)),
            // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8.
            b'B' => self.length::<4>().and_then(|length| self.skip(length)),
            b'C' => self.length::<1>().and_then(|length| self.skip(length)),
            0x8e | 0x96 => self.length::<8>().and_then(|length| self.skip(length)),
            // EMPTY_LIST, EMPTY_SET, EMPTY_TUPLE, EMPTY_DICT.
            b']' | 0x8f => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // TUPLE, TUPLE1, TUPLE2, TUPLE3, FROZENSET.
            b't' => self.marked().and_then(|items| self.push(Value::Tuple(items))),
            0x85..=0x87 => self.last(usize::from(opcode - 0x84)).and_then(|items| self.push(Value::Tuple(items))),
            0x91 => self.marked().and_then(|items| self.push(Value::List(items))),
            // APPEND, APPENDS, ADDITEMS, SETITEM, SETITEMS.
            b'a' => self.last(1).and_then(|items| self.append(items)),
            b'e' | 0x90 => self.marked().and_then(|items| self.append(items)),
            b's' => self.last(2).and_then(|items| self.insert(&items)),
            b'u' => self.marked().and_then(|items| self.insert(&items)),
            // POP, POP_MARK.
            b'0' => self.pop().map(drop),
            b'1' => self.marked().map(drop),
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
            b'q' => self.length::<1>().and_then(|index| self.put(index as u32)),
            b'r' => self.length::<4>().and_then(|index| self.put(index as u32)),
            0x94 => self.put(self.memo.len() as u32),
            b'h' => self.length::<1>().and_then(|index| self.recall(index as u32)),
            b'j' => self.length::<4>().and_then(|index| self.recall(index as u32)),
            // GLOBAL, and INST, which names a class as well.
            b'c' | b'i' => self.global(),
            0x93 => self.stack_global(),
            // REDUCE, NEWOBJ.
            b'R' | 0x81 => self.reduce(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            other => bail!("0x{other:02x} is no instruction that torch.save writes"),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).context("it ends there")?;
        Ok(bytes)
    }

    /// A number of `N` bytes that nothing is allocated for yet.
    fn length<const N: usize>(&mut self) -> Result<u64> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.bytes::<N>()?);
        Ok(u64::from_le_bytes(wide))
    }

    /// So many bytes, taken as they come.
    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let taken = self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        ensure!(taken as u64 == length, "it ends there");
        Ok(bytes)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        let id = self.values.add(value)?;
        self.stack.push(id);
        Ok(())
    }

    fn long(&mut self, length: u64) -> Result<()> {
        let bytes = self.take(length)?;
        let mut wide = [bytes.last().map_or(0, |&last| if last < 0x80 { 0 } else { 0xff }); 8];
        let Some(start) = wide.get_mut(..bytes.len()) else { return self.push(Value::Plain) };
        start.copy_from_slice(&bytes);
        self.push(Value::Number(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, length: u64) -> Result<()> {
        let bytes = self.take(length)?;
        self.push(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        ensure!(skipped == length, "it ends there");
        self.push(Value::Plain)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).into_owned()),
                [byte] => line.push(byte),
            }
            ensure!(line.len() <= LONGEST_NAME, "a name doesn't end");
        }
    }

    /// The stack above the last mark can be taken from.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    fn pop(&mut self) -> Result<Id> {
        ensure!(self.stack.len() > self.floor(), "it takes more than there is");
        self.stack.pop().context("it takes more than there is")
    }

    fn top(&self) -> Result<Id> {
        ensure!(self.stack.len() > self.floor(), "it takes more than there is");
        self.stack.last().copied().context("it takes more than there is")
    }

    fn last(&mut self, count: usize) -> Result<Vec<Id>> {
        ensure!(self.stack.len() - self.floor() >= count, "it takes more than there is");
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn marked(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().context("it goes back to a mark that isn't there")?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let id = self.memo.get(&index).copied();
        self.stack.push(id.with_context(|| format!("it refers to value {index}, which isn't there"))?);
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match self.values.get_mut(top)? {
            Value::List(list) => list.extend(items),
            other => bail!("it appends to {}", other.kind()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()?;
        ensure!(items.len().is_multiple_of(2), "it has a key without a value");
        match self.values.get_mut(top)? {
            Value::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            other => bail!("it sets items of {}", other.kind()),
        }
        Ok(())
    }

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Value::Global(Global::named(&module, &name)?))
    }

    fn stack_global(&mut self) -> Result<()> {
        let pair = self.last(2)?;
        let [Value::Text(module), Value::Text(name)] = [self.values.get(pair[0]), self.values.get(pair[1])] else {
            bail!("a name isn't text");
        };
        let global = Global::named(module, name)?;
        self.push(Value::Global(global))
    }

    /// What a call would give.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(global) = *self.values.get(callee) else {
            bail!("it calls {}", self.values.get(callee).kind());
        };
        // No call has more, and what is the same list each time isn't copied as often as it's named.
        let mut arguments = self.values.items(arguments, "the arguments of a call")?;
        arguments = &arguments[..arguments.len().min(MOST_ARGUMENTS)];
        match (global, &arguments.to_vec()[..]) {
            (Global::Dict, []) => self.push(Value::Dict(Vec::new())),
            (Global::Dict, &[items]) => {
                let items = self.values.items(items, "the content of a dictionary")?;
                self.pairs += items.len();
                ensure!(self.pairs <= MOST_PAIRS, "it makes the same dictionaries again and again");
                let pair = |&item: &Id| match self.values.items(item, "an item of a dictionary")? {
                    &[key, value] => Ok((key, value)),
                    _ => bail!("a dictionary isn't made of pairs"),
                };
                let entries = items.iter().map(pair).collect::<Result<_>>()?;
                self.push(Value::Dict(entries))
            }
            (Global::Set, []) => self.push(Value::List(Vec::new())),
            (Global::Set | Global::Size, &[items]) => {
                self.values.items(items, "the content of a set or a shape")?;
                self.stack.push(items);
                Ok(())
            }
            (Global::Plain, _) => self.push(Value::Plain),
            (Global::Parameter, &[tensor, ..]) => match self.values.get(tensor) {
                Value::Tensor(_) => {
                    self.stack.push(tensor);
                    Ok(())
                }
                other => bail!("a parameter is {}", other.kind()),
            },
            (Global::Tensor, &[storage, offset, shape, strides, ..]) => {
                self.tensor([storage, offset, shape, strides], None)
            }
            (Global::TypedTensor, &[storage, offset, shape, strides, _, _, dtype, ..]) => {
                self.tensor([storage, offset, shape, strides], Some(dtype))
            }
            (other, arguments) => bail!("it calls {other:?} with {} arguments", arguments.len()),
        }
    }

    fn tensor(&mut self, [storage, offset, shape, strides]: [Id; 4], dtype: Option<Id>) -> Result<()> {
        let &Value::Storage(storage) = self.values.get(storage) else {
            bail!("a tensor is made of {}", self.values.get(storage).kind());
        };
        let dtype = match dtype.map(|dtype| self.values.get(dtype)) {
            None => None,
            Some(&Value::Global(Global::Type(dtype))) => Some(dtype),
            Some(other) => bail!("the type of a tensor is {}", other.kind()),
        };
        let numbers = |id: Id, what: &str| -> Result<Vec<i64>> {
            let items = self.values.items(id, what)?;
            ensure!(items.len() <= MOST_DIMENSIONS, "{what} has {} numbers", items.len());
            items.iter().map(|&item| self.values.number(item, what)).collect()
        };
        let (shape, strides) = (numbers(shape, "a tensor's shape")?, numbers(strides, "a tensor's stride")?);
        let offset = self.values.number(offset, "a tensor's offset")?;
        self.values.tensors.push(Described { storage, dtype, offset, shape, strides });
        self.push(Value::Tensor(self.values.tensors.len() - 1))
    }

    /// State of an object: dictionaries have some in `state_dict()`, of no interest.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.values.get(self.top()?) {
            Value::Dict(_) => Ok(()),
            other => bail!("it sets the state of {}", other.kind()),
        }
    }

    /// A storage: `('storage', class, key, device, elements)`, and in old files which part of it.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let fields = self.values.items(id, "a storage's description")?;
        let &[tag, class, key, _, elements, ref view @ ..] = fields else { bail!("a storage isn't described") };
        let Value::Global(Global::Storage(dtype)) = *self.values.get(class) else {
            bail!("the class of a storage is {}", self.values.get(class).kind());
        };
        ensure!(matches!(self.values.get(tag), Value::Text(tag) if tag == "storage"), "a storage isn't called so");
        let key = match self.values.get(key) {
            Value::Text(key) if key.len() <= LONGEST_NAME => key.clone(),
            Value::Number(key) => key.to_string(),
            other => bail!("the name of a storage is {}", other.kind()),
        };
        let elements = u64::try_from(self.values.number(elements, "a storage's size")?).context("a storage's size")?;
        let start = match view.first().map(|&view| self.values.get(view)) {
            Some(Value::Tuple(view)) => {
                let start = view.get(1).context("a part of a storage isn't described")?;
                u64::try_from(self.values.number(*start, "a part's beginning")?).context("a part's beginning")?
            }
            _ => 0,
        };
        self.values.storages.push(Storage { key, dtype, elements, start });
        self.push(Value::Storage(self.values.storages.len() - 1))
    }
}
