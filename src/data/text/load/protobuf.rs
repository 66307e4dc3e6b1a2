//! Reading the protocol buffers' wire format (<https://protobuf.dev/programming-guides/encoding/>): a message is a
//! sequence of numbered fields.

use anyhow::{Context, Result, bail};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// An integer, a truth value or an enumeration.
    Varint(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// A float.
    Fixed32([u8; 4]),
    /// A double.
    Fixed64,
}

impl<'a> Value<'a> {
    pub(super) fn varint(self) -> Result<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            other => bail!("expected an integer, not {other:?}"),
        }
    }

    pub(super) fn flag(self) -> Result<bool> {
        Ok(self.varint()? != 0)
    }

    pub(super) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => bail!("expected text or a message, not {other:?}"),
        }
    }

    pub(super) fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).context("a text isn't UTF-8")
    }

    pub(super) fn float(self) -> Result<f32> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            other => bail!("expected a float, not {other:?}"),
        }
    }
}

/// The fields of a message with their numbers.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(self.varint()?)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.try_into()?),
            kind => bail!("a field has the unknown wire type {kind}"),
        };
        Ok((tag >> 3, value))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("an integer is longer than ten bytes")
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).context("the file ends within a field")?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
