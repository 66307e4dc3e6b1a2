//! What a pickle in a checkpoint may be made of.

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;

use crate::support::Hinted;

/// A value's place among all those of a pickle; several containers may hold the same value.
pub(super) type Id = u32;

/// More values than any checkpoint has; a file that makes more is meant to fill the memory.
const MOST: usize = 1 << 24;

/// A value that a pickle makes.
#[derive(Debug)]
pub(super) enum Value {
    /// Of no interest: None, True, fractions, large numbers, bytes.
    Plain,
    False,
    Number(i64),
    Text(String),
    /// Lists, sets.
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// Keys and values, in their order; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// One of [`Values::storages`].
    Storage(usize),
    /// One of [`Values::tensors`].
    Tensor(usize),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Plain | Self::False => "a plain value",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a name",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// A name in Python's modules that checkpoints need. What is done for it is done here; Python's own isn't called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    Dict,
    /// `set`, `frozenset`.
    Set,
    /// `torch.Size`.
    Size,
    /// What gives plain values: `torch.device`, and how protocol 2 writes bytes.
    Plain,
    /// The type of a storage's elements; `None` where tensors say it.
    Storage(Option<Dtype>),
    /// `torch.float16` and so on.
    Type(Dtype),
    /// `_rebuild_tensor` and its second version.
    Tensor,
    /// The third, which says the type.
    TypedTensor,
    /// `_rebuild_parameter`: a tensor, and what training needs to know of it.
    Parameter,
}

impl Global {
    /// # Errors
    /// Any other name.
    pub(super) fn named(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::Dict,
            ("builtins" | "__builtin__", "set" | "frozenset") => Self::Set,
            ("torch", "Size") => Self::Size,
            ("torch", "device") | ("_codecs", "encode") => Self::Plain,
            ("torch" | "torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::TypedTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::Parameter,
            ("torch" | "torch.cuda", name) => match (stored(name), dtype(name)) {
                (Some(dtype), _) => Self::Storage(Some(dtype)),
                (None, Some(dtype)) => Self::Type(dtype),
                (None, None) => return Err(refused(module, name)),
            },
            _ => return Err(refused(module, name)),
        })
    }
}

fn refused(module: &str, name: &str) -> anyhow::Error {
    // What is no name of Python's is cut short rather than shown.
    let name: String = format!("{module}.{name}").chars().take(200).collect();
    let message = format!(
        "it refers to `{}`, which is no tensor, number, string or plain container; nothing in a checkpoint is ever run, so \
         the file isn't read",
        name.escape_debug()
    );
    Hinted::with(message, "where you trust it, write its tensors alone: torch.save(model.state_dict(), FILE)").into()
}

/// The elements of a storage class.
fn stored(class: &str) -> Option<Dtype> {
    Some(match class.strip_suffix("Storage")? {
        "Float" => Dtype::F32,
        "Double" => Dtype::F64,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::BOOL,
        "ComplexFloat" => Dtype::C64,
        _ => return None,
    })
}

/// What stands for a type of elements.
fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        _ => return None,
    })
}

/// Numbers that tensors are views of.
#[derive(Debug)]
pub(super) struct Storage {
    /// Its name in the file.
    pub(super) key: String,
    /// The type of its elements; `None` where they're bytes and tensors say what these are.
    pub(super) dtype: Option<Dtype>,
    /// How many elements it has.
    pub(super) elements: u64,
    /// Where the part begins that is meant, in elements.
    pub(super) start: u64,
}

/// A tensor as a pickle describes it; nothing is known to hold for it yet.
#[derive(Debug)]
pub(super) struct Described {
    /// One of [`Values::storages`].
    pub(super) storage: usize,
    /// The type of its elements, where it isn't the storage's.
    pub(super) dtype: Option<Dtype>,
    /// Where it begins, and how far it's from one to the next in each dimension, in elements.
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) strides: Vec<i64>,
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Values {
    all: Vec<Value>,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<Described>,
}

impl Values {
    pub(super) fn add(&mut self, value: Value) -> Result<Id> {
        ensure!(self.all.len() < MOST, "it makes more than {MOST} values");
        self.all.push(value);
        Ok((self.all.len() - 1) as Id)
    }

    /// More items than all containers have, where few are in several.
    pub(super) fn steps(&self) -> usize {
        4 * self.all.len() + 1024
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        self.all.get(id as usize).unwrap_or(&Value::Plain)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Result<&mut Value> {
        self.all.get_mut(id as usize).context("it refers to a value that isn't there")
    }

    /// # Errors
    /// Another kind of value, as `what`.
    pub(super) fn number(&self, id: Id, what: &str) -> Result<i64> {
        let value = self.get(id);
        let Value::Number(number) = value else { return Err(self.unexpected(value, what)) };
        Ok(*number)
    }

    /// # Errors
    /// Another kind of value, as `what`.
    pub(super) fn items(&self, id: Id, what: &str) -> Result<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Ok(items),
            other => Err(self.unexpected(other, what)),
        }
    }

    fn unexpected(&self, value: &Value, what: &str) -> anyhow::Error {
        anyhow::anyhow!("{what} is {} there", value.kind())
    }
}
