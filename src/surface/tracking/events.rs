//! Event files as TensorBoard reads them: protocol buffers of the type `Event` in TFRecord's frames.
//!
//! A frame is the length of its data as a little-endian u64, a checksum of these eight bytes, the data, and a checksum of
//! the data. Checksums are CRC-32C, rotated by 15 bits and with a constant added. The messages are those of
//! TensorFlow's `event.proto` and `summary.proto`, of which scalars need seven fields:
//!
//! ```text
//! Event       1 wall_time: double   2 step: int64   3 file_version: string   5 summary: Summary   7 session_log: SessionLog
//! Summary     1 value: repeated Value { 1 tag: string   2 simple_value: float }
//! SessionLog  1 status: enum { START = 1, STOP = 2 }
//! ```

use crate::engine::executor::StepMetrics;

/// Added to rotated checksums.
const MASK: u32 = 0xa282_ead8;
/// Bytes of a frame around its data.
const FRAME: usize = 8 + 4 + 4;

/// Wire types of fields: a number of varying length, eight bytes, bytes with their length before them, four bytes.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// The status in a session's log.
const START: u8 = 1;
const STOP: u8 = 2;

/// What a file begins with: its version, and that a training starts at its beginning. Whatever other files beside it say of
/// the same training counts no more.
pub(super) fn head(at: f64) -> Vec<u8> {
    let mut version = time(at);
    bytes(&mut version, 3, b"brain.Event:2");
    [frame(&version), frame(&session(at, START))].concat()
}

/// Metrics, as scalars by their names.
pub(super) fn scalars(metrics: &[StepMetrics]) -> Vec<u8> {
    metrics.iter().flat_map(|metrics| frame(&event(metrics))).collect()
}

/// What a file ends with that has all of its training.
pub(super) fn end(at: f64) -> Vec<u8> {
    frame(&session(at, STOP))
}

/// Whether a file's last bytes mark a complete training.
pub(super) fn is_ended(file: &[u8]) -> bool {
    let whole = end(0.0);
    let Some(last) = file.len().checked_sub(whole.len()).map(|from| &file[from..]) else { return false };
    // All but the time and the checksum that follows from it.
    let (times, rest) = (8 + 4 + 1, 8 + 4 + 1 + 8);
    last[..times] == whole[..times] && last[rest..last.len() - 4] == whole[rest..whole.len() - 4]
}

/// Bytes that [`is_ended`] needs to see.
pub(super) fn ending() -> u64 {
    end(0.0).len() as u64
}

fn event(metrics: &StepMetrics) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, value) in &metrics.values {
        let mut scalar = Vec::new();
        bytes(&mut scalar, 1, name.as_bytes());
        key(&mut scalar, 2, FIXED32);
        scalar.extend((*value as f32).to_le_bytes());
        bytes(&mut summary, 1, &scalar);
    }
    let mut event = time(metrics.at);
    key(&mut event, 2, VARINT);
    varint(&mut event, metrics.step as u64);
    bytes(&mut event, 5, &summary);
    event
}

fn session(at: f64, status: u8) -> Vec<u8> {
    let mut log = Vec::new();
    key(&mut log, 1, VARINT);
    log.push(status);
    let mut event = time(at);
    bytes(&mut event, 7, &log);
    event
}

fn time(at: f64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED64);
    event.extend(at.to_le_bytes());
    event
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + FRAME);
    frame.extend(length);
    frame.extend(checksum(&length).to_le_bytes());
    frame.extend(data);
    frame.extend(checksum(data).to_le_bytes());
    frame
}

fn checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK)
}

/// What a field begins with.
fn key(message: &mut Vec<u8>, field: u8, wire: u8) {
    message.push(field << 3 | wire);
}

fn bytes(message: &mut Vec<u8>, field: u8, value: &[u8]) {
    key(message, field, BYTES);
    varint(message, value.len() as u64);
    message.extend(value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_tfrecord_has_it() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720's polynomial, its usual check value).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        let frame = frame(b"abc");
        assert_eq!((frame.len(), &frame[..8], &frame[12..15]), (19, &[3, 0, 0, 0, 0, 0, 0, 0][..], &b"abc"[..]));
    }

    #[test]
    fn numbers_and_texts_are_as_protocol_buffers_have_them() {
        let metrics = StepMetrics { step: 300, at: 1.0, values: vec![("lr".into(), 0.5)] };
        let expected = [
            &[0x09][..],
            &1.0_f64.to_le_bytes(),
            &[0x10, 0xac, 0x02],
            &[0x2a, 11, 0x0a, 9, 0x0a, 2, b'l', b'r', 0x15],
            &0.5_f32.to_le_bytes(),
        ];
        assert_eq!(event(&metrics), expected.concat());
    }

    #[test]
    fn the_end_is_known_whenever_it_was() {
        let metrics = [StepMetrics { step: 1, at: 2.0, values: vec![("loss".into(), 0.5)] }];
        let running = [head(1.0), scalars(&metrics)].concat();
        assert!(!is_ended(&running) && !is_ended(&[]) && !is_ended(&head(1.0)));
        let whole = [running, end(1e9)].concat();
        assert!(is_ended(&whole) && !is_ended(&whole[..whole.len() - 1]));
        assert!(is_ended(&whole[whole.len() - ending() as usize..]));
    }
}
