//! How backends say that they have no more memory.

use parking_lot::Mutex;

/// What a panic said of it that nobody has asked for yet.
static KEPT: Mutex<Option<String>> = Mutex::new(None);

/// The line of a backend's message that is about memory that it doesn't have, if one is.
pub fn lack_of_memory(text: &str) -> Option<&str> {
    let phrases = [
        "out of memory",
        "out-of-memory",
        "outofmemory",
        "out of device memory",
        "buffertoobig",
        "buffer too big",
        "too large for the device",
    ];
    let says = |line: &str| {
        let line = line.to_lowercase();
        phrases.iter().any(|phrase| line.contains(phrase))
    };
    text.lines().map(str::trim).find(|line| says(line))
}

/// Keeps what a panic says of lacking memory; whether it says anything of it. Backends have threads whose panics nobody can catch,
/// and to those who wait for what they were to compute only that isn't there is told.
pub fn keep_lack_of_memory(text: &str) -> bool {
    let line = lack_of_memory(text);
    if let Some(line) = line {
        *KEPT.lock() = Some(line.to_owned());
    }
    line.is_some()
}

/// What was kept, once.
pub fn kept_lack_of_memory() -> Option<String> {
    KEPT.lock().take()
}
