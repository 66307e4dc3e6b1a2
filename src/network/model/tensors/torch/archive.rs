//! Files since PyTorch 1.6: a ZIP archive of `TOP/data.pkl`, a file `TOP/data/KEY` for each storage, and notes. Nothing in
//! it is compressed, so that storages can be read where they lie.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
};

use anyhow::{Context, Result, ensure};
use fs_err::File;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder};

use super::{contents::Contents, pickle, values::Values};

/// What describes the content.
const DESCRIPTION: &str = "data.pkl";
/// Tells which byte of a number comes first.
const ORDER: &str = "byteorder";

pub(super) struct Archive<'a> {
    file: &'a File,
    zip: ZipArchive<rawzip::FileReader>,
    entries: HashMap<String, (ZipArchiveEntryWayfinder, CompressionMethod)>,
    /// The folder that everything is in, with a slash; it has any name.
    top: String,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// What is no archive, or not one of PyTorch's.
    pub(super) fn open(file: &'a File) -> Result<Self> {
        let buffer = &mut vec![0; RECOMMENDED_BUFFER_SIZE];
        let zip = ZipArchive::from_file(file.file().try_clone()?, buffer)
            .context("its list of contents, which is at its end, is missing or broken")?;
        let mut entries = HashMap::new();
        let mut all = zip.entries(buffer);
        while let Some(entry) = all.next_entry().context("its list of contents is broken")? {
            let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
            let found = (entry.wayfinder(), entry.compression_method());
            // Readers differ in which of the two they take.
            ensure!(entries.insert(name.clone(), found).is_none(), "two files in it are called {name}");
        }
        let top = entries.keys().find_map(|name| {
            let top = name.strip_suffix(DESCRIPTION)?;
            (top.is_empty() || top.find('/') == Some(top.len() - 1)).then(|| top.to_owned())
        });
        let top = top.with_context(|| format!("it's an archive without {DESCRIPTION}, and so none of PyTorch's"))?;
        Ok(Self { file, zip, entries, top })
    }

    /// Follows the description.
    ///
    /// # Errors
    /// As [`pickle::read`]; numbers in an order of bytes that isn't this machine's.
    pub(super) fn contents(&self) -> Result<Contents> {
        if self.entries.contains_key(&format!("{}{ORDER}", self.top)) {
            let mut order = Vec::new();
            self.reader(ORDER)?.take(8).read_to_end(&mut order)?;
            ensure!(order == b"little", "its numbers begin with their highest byte, which isn't supported");
        }
        let mut values = Values::default();
        let (root, _) = pickle::read(self.reader(DESCRIPTION)?, &mut values)?;
        Ok(Contents { values, root })
    }

    /// Where the numbers of a storage lie.
    ///
    /// # Errors
    /// A storage that isn't there.
    pub(super) fn storage(&self, key: &str) -> Result<Range<u64>> {
        self.place(&format!("data/{key}"))
    }

    fn reader(&self, name: &str) -> Result<impl Read + use<'a>> {
        let place = self.place(name)?;
        let mut file = self.file;
        file.seek(SeekFrom::Start(place.start))?;
        Ok(BufReader::new(file.take(place.end - place.start)))
    }

    fn place(&self, name: &str) -> Result<Range<u64>> {
        let name = format!("{}{name}", self.top);
        let &(wayfinder, method) =
            self.entries.get(&name).with_context(|| format!("the file {name} is missing in the archive"))?;
        ensure!(
            method == CompressionMethod::STORE,
            "{name} is compressed in the archive, which PyTorch doesn't do: pack it again without compression"
        );
        let entry = self.zip.get_entry(wayfinder).with_context(|| format!("{name} is broken in the archive"))?;
        let (start, end) = entry.compressed_data_range();
        Ok(start..end)
    }
}
