//! What the program decides and waits for, on stderr: `-v`, `-vv` and `PIPE_LOG`.

use std::io;

use tracing_subscriber::{EnvFilter, fmt, fmt::MakeWriter};

use super::console;

/// Starts logging: nothing, unless it's asked for.
pub(super) fn start(verbose: u8) {
    let asked = std::env::var("PIPE_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match (asked, verbose) {
        (Some(filter), _) => filter,
        (None, 0) => return,
        (None, 1) => "pipe=info".to_owned(),
        (None, 2) => "pipe=debug".to_owned(),
        (None, _) => "pipe=trace,object_store=debug".to_owned(),
    };
    let format = fmt::format().with_target(true).without_time().compact();
    let filter = EnvFilter::builder().parse_lossy(filter);
    // A second subscriber is refused, which can't be: this is called once.
    let _ = fmt::Subscriber::builder()
        .event_format(format)
        .with_env_filter(filter)
        .with_ansi(console::colour())
        .with_writer(Lines)
        .try_init();
}

/// Makes writers of lines, each of one event.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One log line: printed as a whole, redacted, and above progress bars.
struct Line(Vec<u8>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim_end();
        if !text.is_empty() {
            console::eprint_line(text);
        }
    }
}
