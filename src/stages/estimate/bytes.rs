//! Amounts of memory as text.

/// A number of bytes as people read it, in powers of ten.
pub fn bytes(number: u64) -> String {
    match number as f64 {
        n if n < 999_500.0 => format!("{:.0} kB", n / 1e3),
        n if n < 99.5e6 => format!("{:.1} MB", n / 1e6),
        n if n < 999.5e6 => format!("{:.0} MB", n / 1e6),
        n => format!("{:.1} GB", n / 1e9),
    }
}
