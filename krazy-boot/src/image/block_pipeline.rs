//! Reads and compresses the blocks of a SquashFS on all cores, in front of backhand, which asks for one at a time.
//!
//! A feeder thread reads the files in tree order and cuts them the way backhand does; workers compress; backhand
//! gets its bytes from [`Pipelined::reader`] and each block's compressed form from [`ACTION`]. A bounded channel
//! between them keeps memory constant.
//!
//! Correctness does not rest on the feeder's guess: [`ACTION`] compares the bytes it is given with those that
//! were compressed ahead, and compresses on the spot whatever it does not find.

use std::cell::RefCell;
use std::io::{self, Read};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use backhand::compression::{CompressionAction, Compressor};
use backhand::{BackhandError, FilesystemCompressor, SuperBlock};
use zstd::zstd_safe::{CParameter, Strategy};

use super::block_cache::{BlockCache, BlockKey};
use super::squashfs::SquashfsError;
use super::tree::{Content, Node, Tree, TreePath};

/// Blocks between the feeder and backhand: enough that no core waits, 16 MiB with their compressed forms.
const IN_FLIGHT: usize = 32;

/// What backhand calls to compress. It serves the [`run`] of the calling thread.
pub(super) static ACTION: PipelinedCompression = PipelinedCompression;

thread_local! {
    // backhand takes its compressor by `&'static`, so the state of a run cannot travel inside it.
    static CURRENT: RefCell<Option<Rc<RefCell<Consumer>>>> = const { RefCell::new(None) };
}

/// How many blocks went through a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Compressed ahead.
    pub blocks: u64,
    /// Of these, found in the cache.
    pub cached: u64,
}

/// A block on its way through a worker.
struct Job {
    input: Vec<u8>,
    output: OnceLock<io::Result<Vec<u8>>>,
}

/// What the feeder tells backhand's side, in the order in which backhand wants it.
enum Message {
    /// Bytes of the current file that backhand will want compressed.
    Block(Arc<Job>),
    /// Bytes of the current file that are a hole or become part of a fragment.
    Raw(Vec<u8>),
    /// The current file is complete.
    EndOfFile,
    /// backhand's fragment is full: it will want this compressed.
    Fragment(Arc<Job>),
    /// A file cannot be read.
    Failed(SquashfsError),
}

/// backhand's side of the channel.
struct Consumer {
    messages: Receiver<Message>,
    /// Received, but not its turn yet.
    next: Option<Message>,
    /// Handed out to backhand, which has not asked for the compressed form.
    expected: Option<Arc<Job>>,
    failure: Option<SquashfsError>,
    compression: BlockCompression,
}

/// The readers of a run.
pub(super) struct Pipelined {
    consumer: Rc<RefCell<Consumer>>,
}

impl Pipelined {
    /// The content of the next file in tree order.
    pub fn reader(&self) -> impl Read + use<> {
        FileReader {
            consumer: Rc::clone(&self.consumer),
            chunk: Chunk::Raw(Vec::new()),
            offset: 0,
            ended: false,
        }
    }
}

/// Runs `write`, which has backhand write the files of `tree`, with the pipeline in front of it.
///
/// Blocks are compressed by `threads` threads; backhand runs on the calling one.
pub(super) fn run<T>(
    tree: &Tree,
    level: i32,
    block_size: usize,
    threads: NonZero<usize>,
    cache: Option<&BlockCache>,
    write: impl FnOnce(&Pipelined) -> Result<T, SquashfsError>,
) -> Result<(T, Counts), SquashfsError> {
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
                while let Some(job) = next_job(&queue) {
                    blocks.fetch_add(1, Ordering::Relaxed);
                    let (compressed, was_cached) = compression.look_up(&job.0.input, cache);
                    cached.fetch_add(u64::from(was_cached), Ordering::Relaxed);
                    job.finish(compressed);
                }
            });
        }
        scope.spawn(move || Feeder { sender, jobs, block_size, fragment: Vec::new() }.feed(tree));
        let compression = BlockCompression::new(level);
        let consumer = Consumer { messages, next: None, expected: None, failure: None, compression };
        let pipelined = Pipelined { consumer: Rc::new(RefCell::new(consumer)) };
        let guard = Current::enter(&pipelined.consumer);
        let result = write(&pipelined);
        drop(guard);
        // The failure of a read explains the failure of backhand that it caused. The end of the channel that is
        // dropped here lets a feeder that is still reading stop, and it the workers.
        match pipelined.consumer.borrow_mut().failure.take() {
            Some(failure) => Err(failure),
            None => result,
        }
    })?;
    Ok((result, Counts { blocks: blocks.into_inner(), cached: cached.into_inner() }))
}

/// The next block to compress; `None` when the feeder has gone.
fn next_job(queue: &Mutex<Receiver<Unfinished>>) -> Option<Unfinished> {
    queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv().ok()
}

/// A worker's end of a job. Dropped without a result, as by a panic, it does not leave backhand waiting.
struct Unfinished(Arc<Job>);

impl Unfinished {
    fn finish(self, compressed: io::Result<Vec<u8>>) {
        self.0.output.get_or_init(|| compressed);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.output.get_or_init(|| Err(io::Error::other("a compression thread ended early")));
    }
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

/// Cuts files into blocks and fragments as backhand's `DataWriter::add_bytes` does.
struct Feeder {
    sender: SyncSender<Message>,
    jobs: Sender<Unfinished>,
    block_size: usize,
    /// What backhand has in its fragment buffer.
    fragment: Vec<u8>,
}

/// backhand has stopped listening: it failed.
struct Gone;

impl Feeder {
    fn feed(mut self, tree: &Tree) {
        for (path, entry) in tree.iter() {
            if let Node::File(content) = &entry.node
                && self.feed_file(path, content).is_err()
            {
                return;
            }
        }
        if !self.fragment.is_empty() {
            let fragment = std::mem::take(&mut self.fragment);
            let job = self.compress(fragment);
            let _ = self.send(Message::Fragment(job));
        }
    }

    fn feed_file(&mut self, path: &TreePath, content: &Content) -> Result<(), Gone> {
        let failed = |source| {
            let (file, path) = (content.to_string(), path.to_string());
            Message::Failed(SquashfsError::Read { file, path, source })
        };
        let mut reader = match content.open() {
            Ok(reader) => reader,
            Err(error) => return self.send(failed(error)).and(Err(Gone)),
        };
        let mut first = true;
        loop {
            let mut chunk = Vec::with_capacity(self.block_size);
            if let Err(error) = reader.by_ref().take(self.block_size as u64).read_to_end(&mut chunk) {
                return self.send(failed(error)).and(Err(Gone));
            }
            let last = chunk.len() < self.block_size;
            if first && last && !chunk.is_empty() {
                return self.feed_small(chunk);
            }
            if chunk.iter().all(|byte| *byte == 0) {
                if !chunk.is_empty() {
                    self.send(Message::Raw(chunk))?;
                }
            } else {
                let job = self.compress(chunk);
                self.send(Message::Block(job))?;
            }
            if last {
                return self.send(Message::EndOfFile);
            }
            first = false;
        }
    }

    /// A file below the block size becomes part of a fragment; if it does not fit, the fragment is full.
    fn feed_small(&mut self, chunk: Vec<u8>) -> Result<(), Gone> {
        let full = self.fragment.len() + chunk.len() > self.block_size;
        let fragment = if full { std::mem::take(&mut self.fragment) } else { Vec::new() };
        self.fragment.extend_from_slice(&chunk);
        self.send(Message::Raw(chunk))?;
        self.send(Message::EndOfFile)?;
        if full {
            let job = self.compress(fragment);
            self.send(Message::Fragment(job))?;
        }
        Ok(())
    }

    /// Has the workers compress `input`.
    fn compress(&self, input: Vec<u8>) -> Arc<Job> {
        let job = Arc::new(Job { input, output: OnceLock::new() });
        // Without workers the unsent end of the job is dropped, which gives it a result too.
        let _ = self.jobs.send(Unfinished(Arc::clone(&job)));
        job
    }

    fn send(&self, message: Message) -> Result<(), Gone> {
        self.sender.send(message).map_err(|_| Gone)
    }
}

impl Consumer {
    /// The next message without taking it; `None` at the end.
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

    /// The job that has compressed `bytes` ahead.
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
    ended: bool,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.offset == self.chunk.bytes().len() && !self.ended {
            let mut consumer = self.consumer.borrow_mut();
            match consumer.take() {
                Some(Message::Block(job)) => {
                    consumer.expected = Some(Arc::clone(&job));
                    (self.chunk, self.offset) = (Chunk::Block(job), 0);
                }
                Some(Message::Raw(bytes)) => (self.chunk, self.offset) = (Chunk::Raw(bytes), 0),
                Some(Message::EndOfFile) => {
                    (self.chunk, self.offset, self.ended) = (Chunk::Raw(Vec::new()), 0, true);
                }
                // Not asked for; it will be compressed on the spot if it ever is.
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

/// backhand's compressor: hands over what the workers have made.
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
        match job.output.wait() {
            Ok(compressed) => Ok(compressed.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
        }
    }
}

/// zstd at one level. The context is kept: making one costs more than compressing a block at low levels.
struct BlockCompression {
    level: i32,
    context: Option<zstd::bulk::Compressor<'static>>,
}

impl BlockCompression {
    fn new(level: i32) -> Self {
        BlockCompression { level, context: None }
    }

    /// One zstd frame.
    fn compress(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
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
    fn look_up(&mut self, bytes: &[u8], cache: Option<&BlockCache>) -> (io::Result<Vec<u8>>, bool) {
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
/// block. With these, programs compress in 0.7 of the time; the result is 0.6 % larger than at level 15, and still
/// 1.7 % smaller than level 15 makes of blocks of 128 KiB. Whoever changes this changes [`BlockKey`] too.
fn parameters(level: i32) -> &'static [CParameter] {
    match level {
        13..=15 => &[
            CParameter::HashLog(16),
            CParameter::ChainLog(17),
            CParameter::SearchLog(4),
            CParameter::MinMatch(3),
            CParameter::TargetLength(32),
            CParameter::Strategy(Strategy::ZSTD_btopt),
        ],
        _ => &[],
    }
}
