//! Counts over many items on all cores, with a bar where that takes more than a moment.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

/// How many items are handed over at once.
const CHUNK: usize = 1_024;
/// How long people wait without wanting to know how long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Items, and how many there are where that is known.
pub struct Source<T> {
    pub items: Box<dyn Iterator<Item = Result<T>>>,
    pub total: Option<u64>,
}

/// Gives every item to `count`, which adds it to one of some tallies; gives these added up by `add`.
///
/// # Errors
/// When an item cannot be read.
pub fn tally<I: Send, T: Send>(
    source: Source<I>,
    new: impl Fn() -> T + Sync,
    count: impl Fn(&mut T, I) + Sync,
    add: impl Fn(&mut T, T),
) -> Result<T> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = sync_channel::<Vec<I>>(2 * workers);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        let work = || {
            let mut tally = new();
            loop {
                // Nobody panics while holding it, so it is never poisoned.
                let Some(chunk) = receiver.lock().ok().and_then(|receiver| receiver.recv().ok()) else {
                    break;
                };
                chunk.into_iter().for_each(|item| count(&mut tally, item));
            }
            tally
        };
        let tallies: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress { started: Instant::now(), total: source.total, done: 0, bar: None };
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut failed = None;
        for item in source.items {
            match item {
                Ok(item) => chunk.push(item),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            if chunk.len() == CHUNK {
                progress.advance(CHUNK);
                if sender.send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))).is_err() {
                    break;
                }
            }
        }
        let _ = sender.send(chunk);
        drop(sender);
        let mut all = new();
        for tally in tallies {
            add(&mut all, tally.join().map_err(|_| anyhow!("a worker has panicked"))?);
        }
        progress.end();
        failed.map_or(Ok(all), Err)
    })
}

/// A bar on the terminal, once it is worth one.
struct Progress {
    started: Instant,
    total: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn advance(&mut self, items: usize) {
        self.done += items as u64;
        if self.bar.is_none() && self.started.elapsed() > PATIENCE {
            self.bar = Some(match self.total {
                Some(total) => {
                    ProgressBar::new(total).with_style(style("{wide_bar} {human_pos}/{human_len} {eta} left"))
                }
                None => ProgressBar::no_length().with_style(style("{spinner} {human_pos}")),
            });
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
