//! One block's way through a worker.

use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use zstd::zstd_safe::{CParameter, Strategy};

use crate::image::block_cache::{BlockCache, BlockKey};

/// A block, and its compressed form as soon as there is one.
pub(super) struct Job {
    pub input: Vec<u8>,
    output: Mutex<Option<io::Result<Vec<u8>>>>,
    finished: Condvar,
    buffers: Arc<Buffers>,
}

impl Job {
    /// A job, and the end of it for a worker.
    pub fn new(input: Vec<u8>, buffers: &Arc<Buffers>) -> (Arc<Self>, Unfinished) {
        let (output, finished) = (Mutex::new(None), Condvar::new());
        let job = Arc::new(Job { input, output, finished, buffers: Arc::clone(buffers) });
        (Arc::clone(&job), Unfinished(job))
    }

    /// Waits for the compressed form and takes it: there is one wait per job.
    pub fn wait(&self) -> io::Result<Vec<u8>> {
        let mut output = lock(&self.output);
        loop {
            match output.take() {
                Some(output) => return output,
                None => output = self.finished.wait(output).unwrap_or_else(|poisoned| poisoned.into_inner()),
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.input));
    }
}

/// A worker's end of a job. Dropped without a result, as by a panic, it does not leave backhand waiting.
pub(super) struct Unfinished(Arc<Job>);

impl Unfinished {
    /// The next block to compress; `None` when the feeder has gone.
    pub fn next(queue: &Mutex<Receiver<Self>>) -> Option<Self> {
        lock(queue).recv().ok()
    }

    /// The block.
    pub fn input(&self) -> &[u8] {
        &self.0.input
    }

    /// Hands over the compressed form.
    pub fn finish(self, compressed: io::Result<Vec<u8>>) {
        *lock(&self.0.output) = Some(compressed);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        lock(&self.0.output).get_or_insert_with(|| Err(io::Error::other("a compression thread ended early")));
        self.0.finished.notify_all();
    }
}

/// Blocks whose memory is used again, which is cheaper than having the kernel clear new pages for each.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer for `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        lock(&self.0).pop().unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        lock(&self.0).push(buffer);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// zstd at one level. The context is kept: making one costs more than compressing a block at low levels.
pub(super) struct BlockCompression {
    level: i32,
    context: Option<zstd::bulk::Compressor<'static>>,
}

impl BlockCompression {
    /// Of a level that zstd has.
    pub fn new(level: i32) -> Self {
        BlockCompression { level, context: None }
    }

    /// One zstd frame.
    pub fn compress(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let context = match &mut self.context {
            Some(context) => context,
            empty => {
                let mut context = zstd::bulk::Compressor::new(self.level)?;
                for parameter in parameters(self.level) {
                    context.set_parameter(*parameter)?;
                }
                empty.insert(context)
            }
        };
        context.compress(bytes)
    }

    /// The same out of the cache, if it is there (then `true`).
    pub fn look_up(&mut self, bytes: &[u8], cache: Option<&BlockCache>) -> (io::Result<Vec<u8>>, bool) {
        let Some(cache) = cache else { return (self.compress(bytes), false) };
        let key = BlockKey::of(bytes, self.level);
        if let Some(found) = cache.get(&key, bytes.len()) {
            return (Ok(found), true);
        }
        let compressed = self.compress(bytes);
        if let Ok(compressed) = &compressed {
            cache.put(key, compressed, bytes.len());
        }
        (compressed, false)
    }
}

/// What differs from zstd's own choice for a level.
///
/// At 13 to 15 its tables for blocks of 256 KiB are larger than a core's second-level cache can hold beside the
/// block. With these, programs compress in 0.6 of the time; the result is 1.1 % larger than at level 15, and still
/// 1.2 % smaller than level 15 makes of blocks of 128 KiB. Whoever changes this changes [`BlockKey`] too.
fn parameters(level: i32) -> &'static [CParameter] {
    match level {
        13..=15 => &[
            CParameter::HashLog(15),
            CParameter::ChainLog(17),
            CParameter::SearchLog(3),
            CParameter::MinMatch(3),
            CParameter::TargetLength(32),
            CParameter::Strategy(Strategy::ZSTD_btopt),
        ],
        _ => &[],
    }
}
