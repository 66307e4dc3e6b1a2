//! Word of a training's first step where that takes long: on a GPU kernels are compiled and tuned in it, and a minute of
//! silence looks like a hang.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use crate::engine::executor::{Event, Reporter};

/// How often there's word.
const EVERY: Duration = Duration::from_secs(10);

/// Trains, and reports every so often how long the first step takes, until what `train` is given is dropped.
pub(super) fn told<T>(
    (reporter, stage): (&dyn Reporter, &str),
    (done, steps): (usize, usize),
    on_gpu: bool,
    train: impl FnOnce(Sender<()>) -> T,
) -> T {
    told_every(
        EVERY,
        &|waited| {
            let why = if on_gpu { ", in which kernels are compiled and tuned" } else { "" };
            let note = format!("the first step has taken {} s by now{why}", waited.as_secs());
            reporter
                .event(stage, Event::Progress { done: done as u64, total: steps as u64, note: &note, remaining: None });
        },
        train,
    )
}

fn told_every<T>(every: Duration, tell: &(dyn Fn(Duration) + Sync), train: impl FnOnce(Sender<()>) -> T) -> T {
    let (first, over) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let began = Instant::now();
            while over.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                tell(began.elapsed());
            }
        });
        train(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_word_until_the_first_step_is_over() {
        let (tell, told) = channel();
        let tell = move |_| tell.send(()).expect("someone who listens");
        let result = told_every(Duration::from_millis(1), &tell, |first| {
            for _ in 0..3 {
                told.recv().expect("word");
            }
            drop(first);
            7
        });
        assert_eq!(result, 7);
    }
}
