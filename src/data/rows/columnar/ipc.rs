//! Arrow's IPC files and streams, Feather (version 2) and what `datasets` saves among them, which may be damaged.

use std::{
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::SchemaRef,
    ipc::{
        Block, Message, MessageHeader, RecordBatch as BatchHeader,
        convert::try_fb_to_schema,
        reader::{FileDecoder, StreamDecoder, read_footer_length},
        root_as_footer, root_as_message,
    },
};
use fs_err as fs;

use crate::support::{Hinted, panics};

/// What stands before a message's length, but for the oldest files.
const CONTINUATION_MARKER: [u8; 4] = [0xFF; 4];
/// How an IPC file begins.
const MAGIC: &[u8] = b"ARROW1";
/// The most bytes that one compressed byte may stand for: zstd has four for a block of 128 KiB.
const MOST_PACKED: u64 = 40_000;
/// Beyond that, so many for each buffer.
const PACKED_FREE: u64 = 1 << 16;

type Reader = BufReader<fs::File>;

/// A file whose schema is known.
pub(super) struct File {
    reader: Reader,
    /// Its length in bytes.
    length: u64,
    schema: SchemaRef,
    form: Form,
}

/// Which of the two forms a file has.
enum Form {
    /// With a footer that says where its batches are.
    File { decoder: Box<FileDecoder>, batches: Vec<Block> },
    /// One message after the other.
    Stream(Stream),
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut start = [0; 6];
        let read = reader.read(&mut start)?;
        reader.rewind()?;
        match &start {
            [b'F', b'E', b'A', b'1', ..] => bail!(Hinted::with(
                "this is Feather in its first version",
                "write it again: pyarrow.feather.write_feather(…, version=2)"
            )),
            [b'P', b'A', b'R', b'1', ..] => bail!("this is a Parquet file"),
            start if read >= MAGIC.len() && start == MAGIC => {}
            _ => return caught(|| Self::stream(reader, length)),
        }
        caught(|| Self::with_footer(reader, length))
    }

    fn with_footer(mut reader: Reader, length: u64) -> Result<Self> {
        let mut end = [0; 10];
        ensure!(length >= 20, "the file was cut off");
        reader.seek(SeekFrom::End(-10))?;
        reader.read_exact(&mut end)?;
        let footer_length = read_footer_length(end).context("its end isn't there: the file was cut off")?;
        ensure!((footer_length as u64) < length - 10, "its footer says that it's longer than the file");
        reader.seek(SeekFrom::End(-10 - footer_length as i64))?;
        let mut footer = vec![0; footer_length];
        reader.read_exact(&mut footer)?;
        let footer = root_as_footer(&footer).map_err(|error| anyhow!("its footer is damaged: {error}"))?;
        let schema = footer.schema().context("it has no schema")?;
        ensure!(
            schema.endianness().equals_to_target_endianness(),
            "its bytes are in another order than this machine's"
        );
        let schema = Arc::new(try_fb_to_schema(schema)?);
        let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
        for block in footer.dictionaries().iter().flatten() {
            let bytes = block_bytes(&mut reader, length, block)?;
            decoder.read_dictionary(block, &bytes)?;
        }
        let batches = footer.recordBatches().context("it has no list of batches")?.iter().copied().collect();
        Ok(Self { reader, length, schema, form: Form::File { decoder: Box::new(decoder), batches } })
    }

    fn stream(mut reader: Reader, length: u64) -> Result<Self> {
        let mut stream = Stream::default();
        while stream.decoder.schema().is_none() && !stream.has_ended {
            stream.feed(&mut reader, length)?;
            stream.ready = stream.decode()?;
        }
        let schema = stream.decoder.schema().context("it has no schema")?;
        Ok(Self { reader, length, schema, form: Form::Stream(stream) })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The columns at these places, which are in ascending order; ends after an error.
    pub(super) fn batches(self, places: Vec<usize>) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        let Self { mut reader, length, form, .. } = self;
        let mut form = match form {
            Form::File { decoder, batches } => {
                let decoder = Box::new(decoder.with_projection(places.clone()));
                Some((Form::File { decoder, batches: Vec::new() }, batches.into_iter()))
            }
            stream @ Form::Stream(_) => Some((stream, Vec::new().into_iter())),
        };
        std::iter::from_fn(move || {
            let (open, blocks) = form.as_mut()?;
            let batch = caught(|| match open {
                Form::File { decoder, .. } => {
                    let Some(block) = blocks.next() else { return Ok(None) };
                    let bytes = block_bytes(&mut reader, length, &block)?;
                    let batch = decoder.read_record_batch(&block, &bytes)?;
                    Ok(Some(batch.context("a batch is missing")?))
                }
                Form::Stream(stream) => loop {
                    if let Some(batch) = stream.decode()? {
                        return Ok(Some(batch.project(&places)?));
                    }
                    if stream.has_ended {
                        return Ok(None);
                    }
                    stream.feed(&mut reader, length)?;
                },
            });
            if !matches!(batch, Ok(Some(_))) {
                form = None;
            }
            batch.transpose()
        })
    }
}

/// A stream that is read message by message. One without a body is understood when the next comes, or the end.
#[derive(Default)]
struct Stream {
    decoder: Box<StreamDecoder>,
    /// What was read and isn't decoded yet.
    bytes: Buffer,
    /// A batch that was decoded and not given yet.
    ready: Option<RecordBatch>,
    has_ended: bool,
}

impl Stream {
    /// Reads the next message, or the end.
    fn feed(&mut self, reader: &mut Reader, length: u64) -> Result<()> {
        let message = next_message(reader, length)?;
        self.has_ended = message.is_none();
        self.bytes = Buffer::from_vec(message.unwrap_or_else(|| [CONTINUATION_MARKER, [0; 4]].concat()));
        Ok(())
    }

    /// The next batch in what was read.
    fn decode(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.ready.take() {
            return Ok(Some(batch));
        }
        while !self.bytes.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut self.bytes)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// The next message of a stream, with its length and its body.
fn next_message(reader: &mut Reader, length: u64) -> Result<Option<Vec<u8>>> {
    let mut word = [0; 4];
    // A stream ends with a mark, or with the file.
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    reader.read_exact(&mut word).context("the file was cut off")?;
    let mut message = word.to_vec();
    if word == CONTINUATION_MARKER {
        reader.read_exact(&mut word).context("the file was cut off")?;
        message.extend_from_slice(&word);
    }
    let size = u32::from_le_bytes(word);
    if size == 0 {
        return Ok(None);
    }
    let header = message.len();
    take(reader, length, u64::from(size), &mut message)?;
    let parsed = message.get(header..).unwrap_or_default();
    let parsed = root_as_message(parsed).map_err(|error| anyhow!("a message is damaged: {error}"))?;
    let body = u64::try_from(parsed.bodyLength()).context("a message is damaged")?;
    let metadata = message.len();
    take(reader, length, body, &mut message)?;
    let parsed = message.get(header..metadata).unwrap_or_default();
    let parsed = root_as_message(parsed).map_err(|error| anyhow!("a message is damaged: {error}"))?;
    check_packed(&parsed, message.get(metadata..).unwrap_or_default())?;
    Ok(Some(message))
}

/// Reads so many bytes, if the file can have them.
fn take(reader: &mut Reader, length: u64, bytes: u64, into: &mut Vec<u8>) -> Result<()> {
    ensure!(bytes <= length, "the file was cut off");
    let read = reader.by_ref().take(bytes).read_to_end(into)?;
    ensure!(read as u64 == bytes, "the file was cut off");
    Ok(())
}

/// A block of a file: a message with its length and its body.
fn block_bytes(reader: &mut Reader, length: u64, block: &Block) -> Result<Buffer> {
    let (offset, metadata, body) = (block.offset(), block.metaDataLength(), block.bodyLength());
    let parts = || Some((u64::try_from(offset).ok()?, u64::try_from(metadata).ok()?, u64::try_from(body).ok()?));
    let (offset, metadata, body) = parts().context("its footer is damaged")?;
    reader.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    take(reader, length, metadata.saturating_add(body), &mut bytes)?;
    let header = if bytes.starts_with(&CONTINUATION_MARKER) { 8 } else { 4 };
    let message = bytes.get(header..metadata as usize).context("its footer is damaged")?;
    let message = root_as_message(message).map_err(|error| anyhow!("a message is damaged: {error}"))?;
    check_packed(&message, bytes.get(metadata as usize..).unwrap_or_default())?;
    Ok(Buffer::from_vec(bytes))
}

/// Refuses compressed buffers that claim to be more than they can hold, for which memory would be asked at once.
fn check_packed(message: &Message<'_>, body: &[u8]) -> Result<()> {
    let batch: Option<BatchHeader<'_>> = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
        _ => None,
    };
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    for buffer in batch.buffers().iter().flatten() {
        let place = || -> Option<&[u8]> {
            let (offset, length) = (usize::try_from(buffer.offset()).ok()?, usize::try_from(buffer.length()).ok()?);
            body.get(offset..offset.checked_add(length)?)
        };
        let bytes = place().context("a buffer lies outside its message")?;
        let Some(claim) = bytes.first_chunk::<8>().map(|claim| i64::from_le_bytes(*claim)) else { continue };
        // -1: it isn't compressed.
        let most = (bytes.len() as u64).saturating_mul(MOST_PACKED).saturating_add(PACKED_FREE);
        ensure!(claim == -1 || u64::try_from(claim).is_ok_and(|claim| claim <= most), "a compressed buffer is damaged");
    }
    Ok(())
}

fn caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(read).unwrap_or_else(|_| Err(anyhow!("the file is damaged")))
}
