//! Reads and compresses the blocks of a SquashFS on all cores, in front of backhand, which asks for one at a time.
//!
//! A feeder thread reads the files in tree order and cuts them the way backhand does; workers compress; backhand
//! gets its bytes from [`Pipelined::reader`] and each block's compressed form from [`ACTION`]. A bounded channel
//! between them keeps memory constant.
//!
//! Correctness does not depend on the feeder's prediction: [`ACTION`] compares the bytes it is given with those that were
//! compressed ahead, and compresses everything else itself.

use std::cell::RefCell;
use std::io::{self, Read};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use backhand::compression::{CompressionAction, Compressor};
use backhand::{BackhandError, FilesystemCompressor, SuperBlock};

use super::block_cache::BlockCache;
use super::tree::Tree;
use feeder::{Feeder, Message};
use job::{BlockCompression, Buffers, Job, Unfinished};

mod feeder;
mod job;

/// Blocks between the feeder and backhand: enough that no core waits, 8 MiB with their compressed forms.
const IN_FLIGHT: usize = 16;

/// The compressor that backhand calls. It serves the [`run`] of the calling thread.
pub(super) static ACTION: PipelinedCompression = PipelinedCompression;

thread_local! {
    // backhand takes its compressor by `&'static`, so the compressor cannot own the state of a run.
    static CURRENT: RefCell<Option<Rc<RefCell<Consumer>>>> = const { RefCell::new(None) };
}

/// Numbers of blocks of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Compressed ahead.
    pub blocks: u64,
    /// Of these, found in the cache.
    pub cached: u64,
}

/// A file of the host that cannot be read.
pub(super) struct UnreadableFile {
    /// The host's file.
    pub file: String,
    /// Its path in the tree.
    pub path: String,
    /// The cause.
    pub source: io::Error,
}

/// backhand's side of the channel.
struct Consumer {
    messages: Receiver<Message>,
    /// Received, but not needed yet.
    next: Option<Message>,
    /// Passed to backhand, which has not requested the compressed form yet.
    expected: Option<Arc<Job>>,
    failure: Option<UnreadableFile>,
    compression: BlockCompression,
}

/// The readers of a run.
pub(super) struct Pipelined {
    consumer: Rc<RefCell<Consumer>>,
}

impl Pipelined {
    /// Returns the content of the next file in tree order.
    pub fn reader(&self) -> impl Read + use<> {
        FileReader {
            consumer: Rc::clone(&self.consumer),
            chunk: Chunk::Raw(Vec::new()),
            offset: 0,
            finished: false,
        }
    }
}

/// Runs `write`, in which backhand writes the files of `tree`, with the pipeline in front of it.
///
/// Blocks are compressed by `threads` threads; backhand runs on the calling one.
pub(super) fn run<T, E: From<UnreadableFile>>(
    tree: &Tree,
    level: i32,
    block_size: usize,
    threads: NonZero<usize>,
    cache: Option<&BlockCache>,
    write: impl FnOnce(&Pipelined) -> Result<T, E>,
) -> Result<(T, Counts), E> {
    let blocks = AtomicU64::new(0);
    let cached = AtomicU64::new(0);
    let result = thread::scope(|scope| {
        let (sender, messages) = sync_channel(IN_FLIGHT);
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.get() {
            let (queue, blocks, cached) = (Arc::clone(&queue), &blocks, &cached);
            scope.spawn(move || {
                let mut compression = BlockCompression::new(level);
                while let Some(job) = Unfinished::next(&queue) {
                    blocks.fetch_add(1, Ordering::Relaxed);
                    let (compressed, was_cached) = compression.look_up(job.input(), cache);
                    cached.fetch_add(u64::from(was_cached), Ordering::Relaxed);
                    job.finish(compressed);
                }
            });
        }
        let buffers = Arc::new(Buffers::default());
        let feeder = Feeder { sender, jobs, buffers, block_size, fragment: Vec::new() };
        scope.spawn(move || feeder.feed(tree));
        let compression = BlockCompression::new(level);
        let consumer = Consumer { messages, next: None, expected: None, failure: None, compression };
        let pipelined = Pipelined { consumer: Rc::new(RefCell::new(consumer)) };
        let guard = Current::enter(&pipelined.consumer);
        let result = write(&pipelined);
        drop(guard);
        // A failed read explains backhand's failure better than backhand does. Dropping the end of the channel stops a
        // feeder that is still reading, which stops the workers.
        match pipelined.consumer.borrow_mut().failure.take() {
            Some(failure) => Err(failure.into()),
            None => result,
        }
    })?;
    Ok((result, Counts { blocks: blocks.into_inner(), cached: cached.into_inner() }))
}

/// Makes a run the one that [`ACTION`] serves on this thread, until dropped.
struct Current;

impl Current {
    fn enter(consumer: &Rc<RefCell<Consumer>>) -> Self {
        CURRENT.set(Some(Rc::clone(consumer)));
        Current
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Consumer {
    /// Returns the next message without taking it; `None` at the end.
    fn peek(&mut self) -> Option<&Message> {
        if self.next.is_none() {
            self.next = self.messages.recv().ok();
        }
        self.next.as_ref()
    }

    fn take(&mut self) -> Option<Message> {
        self.peek();
        self.next.take()
    }

    /// Returns the job that has compressed `bytes` ahead.
    fn job_for(&mut self, bytes: &[u8]) -> Option<Arc<Job>> {
        if let Some(job) = self.expected.take_if(|job| job.input == bytes) {
            return Some(job);
        }
        match self.peek() {
            Some(Message::Fragment(job)) if job.input == bytes => {
                let job = Arc::clone(job);
                self.next = None;
                Some(job)
            }
            _ => None,
        }
    }
}

enum Chunk {
    Block(Arc<Job>),
    Raw(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Block(job) => &job.input,
            Chunk::Raw(bytes) => bytes,
        }
    }
}

/// One file, as backhand reads it.
struct FileReader {
    consumer: Rc<RefCell<Consumer>>,
    chunk: Chunk,
    offset: usize,
    finished: bool,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.offset == self.chunk.bytes().len() && !self.finished {
            let mut consumer = self.consumer.borrow_mut();
            match consumer.take() {
                Some(Message::Block(job)) => {
                    consumer.expected = Some(Arc::clone(&job));
                    (self.chunk, self.offset) = (Chunk::Block(job), 0);
                }
                Some(Message::Raw(bytes)) => (self.chunk, self.offset) = (Chunk::Raw(bytes), 0),
                Some(Message::EndOfFile) => {
                    (self.chunk, self.offset, self.finished) = (Chunk::Raw(Vec::new()), 0, true);
                }
                // Mispredicted: backhand did not request it. If it does later, `compress` makes it.
                Some(Message::Fragment(_)) => {}
                Some(Message::Failed(failure)) => {
                    consumer.failure = Some(failure);
                    return Err(io::Error::other("a file of the tree cannot be read"));
                }
                None => return Err(io::Error::other("the files of the tree ended early")),
            }
        }
        let rest = &self.chunk.bytes()[self.offset..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.offset += count;
        Ok(count)
    }
}

/// backhand's compressor, which returns the results of the workers.
pub(super) struct PipelinedCompression;

impl CompressionAction for PipelinedCompression {
    type Error = BackhandError;
    type Compressor = Compressor;
    type FilesystemCompressor = FilesystemCompressor;
    type SuperBlock = SuperBlock;

    fn decompress(&self, _: &[u8], _: &mut Vec<u8>, compressor: Compressor) -> Result<(), BackhandError> {
        Err(BackhandError::UnsupportedCompression(format!("{compressor:?}: only writing is supported")))
    }

    fn compress(&self, bytes: &[u8], _: FilesystemCompressor, _: u32) -> Result<Vec<u8>, BackhandError> {
        let Some(consumer) = CURRENT.with_borrow(Clone::clone) else {
            return Err(io::Error::other("compression outside of a pipeline").into());
        };
        let mut consumer = consumer.borrow_mut();
        let Some(job) = consumer.job_for(bytes) else {
            return Ok(consumer.compression.compress(bytes)?);
        };
        Ok(job.wait()?)
    }
}
