//! Files as `torch.save` writes them, byte by byte, for tests.

/// A pickle, opcode by opcode.
#[derive(Clone, Debug, Default)]
pub(super) struct Pickle(pub(super) Vec<u8>);

impl Pickle {
    pub(super) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub(super) fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    pub(super) fn number(self, number: i32) -> Self {
        self.op(b"J").op(&number.to_le_bytes())
    }

    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(super) fn numbers(self, numbers: &[i32]) -> Self {
        numbers.iter().fold(self.op(b"("), |pickle, &number| pickle.number(number)).op(b"t")
    }

    /// A tensor that is a view of a storage of so many elements.
    pub(super) fn tensor(self, class: &str, key: &str, elements: i32, view: (i32, &[i32], &[i32])) -> Self {
        let (offset, shape, strides) = view;
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .number(elements)
            .op(b"tQ")
            .number(offset)
            .numbers(shape)
            .numbers(strides)
            .op(b"\x89")
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }

    /// A dictionary of what `items` adds.
    pub(super) fn dict(self, items: impl FnOnce(Self) -> Self) -> Self {
        items(self.op(b"}(")).op(b"u")
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// A ZIP archive of uncompressed files.
pub(super) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let place = bytes.len() as u32;
        let size = (content.len() as u32).to_le_bytes();
        // Version, flags, method, time and date; CRC; both sizes; lengths of the name and of nothing else.
        let mut common = vec![0; 10];
        common.extend(rawzip::crc32(content).to_le_bytes());
        common.extend([size, size].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        bytes.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        list.extend([b"PK\x01\x02\0\0", &common[..], &[0; 10], &place.to_le_bytes(), name.as_bytes()].concat());
    }
    let [count, count_here] = [(files.len() as u16).to_le_bytes(); 2];
    let (start, size) = ((bytes.len() as u32).to_le_bytes(), (list.len() as u32).to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0", &count[..], &count_here, &size, &start, &[0; 2]].concat();
    [bytes, list, end].concat()
}

/// An archive with this description and these storages.
pub(super) fn archive(description: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("top/data/{key}")).collect();
    let mut files = vec![("top/data.pkl", description), ("top/byteorder", b"little")];
    files.extend(names.iter().map(String::as_str).zip(storages.iter().map(|(_, content)| *content)));
    zip(&files)
}

/// The older format, with this content and storages of so many elements.
pub(super) fn legacy(content: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let mark = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let about = Pickle::new().dict(|pickle| pickle.text("little_endian").op(b"\x88")).end();
    let keys = storages.iter().fold(Pickle::new().op(b"]("), |pickle, (key, ..)| pickle.text(key)).op(b"e").end();
    let mut bytes = [&mark[..], &Pickle::new().op(b"M\xe9\x03").end(), &about, content, &keys].concat();
    for (_, elements, content) in storages {
        bytes.extend([&elements.to_le_bytes(), *content].concat());
    }
    bytes
}

/// Tensors of three types: one of its own, two views of one storage, and one that is strewn over it.
pub(super) fn sound() -> Pickle {
    Pickle::new().dict(|pickle| {
        pickle
            .text("single")
            .tensor("FloatStorage", "0", 6, (0, &[2, 3], &[3, 1]))
            .text("half")
            .tensor("HalfStorage", "1", 8, (1, &[3], &[1]))
            .text("turned")
            .tensor("HalfStorage", "1", 8, (2, &[3, 2], &[1, 3]))
            .text("number")
            .tensor("LongStorage", "2", 1, (0, &[], &[]))
    })
}

pub(super) const STORAGES: [(&str, u64, [u8; 24]); 3] = [
    ("0", 6, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]),
    ("1", 8, [100, 1, 101, 1, 102, 1, 103, 1, 104, 1, 105, 1, 106, 1, 107, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("2", 1, [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// How many bytes of these the storages have.
const SIZES: [usize; 3] = [24, 16, 8];

/// The sound tensors in either format.
pub(super) fn sound_archive() -> Vec<u8> {
    let storages: Vec<_> = STORAGES.iter().zip(SIZES).map(|((key, _, bytes), size)| (*key, &bytes[..size])).collect();
    archive(&sound().end(), &storages)
}

pub(super) fn sound_legacy() -> Vec<u8> {
    let storages: Vec<_> =
        STORAGES.iter().zip(SIZES).map(|((key, count, bytes), size)| (*key, *count, &bytes[..size])).collect();
    legacy(&sound().end(), &storages)
}
