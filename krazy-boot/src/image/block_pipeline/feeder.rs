//! The feeder, which reads the files of a tree in order and splits them as backhand does.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};

use super::UnreadableFile;
use super::job::{Buffers, Job, Unfinished};
use crate::image::tree::{Content, Node, Tree, TreePath};

/// A message of the feeder to backhand's side, in the order in which backhand needs them.
pub(super) enum Message {
    /// Bytes of the current file that backhand will compress.
    Block(Arc<Job>),
    /// Bytes of the current file that are a hole or become part of a fragment.
    Raw(Vec<u8>),
    /// The current file is complete.
    EndOfFile,
    /// A full fragment, which backhand will compress.
    Fragment(Arc<Job>),
    /// A file cannot be read.
    Failed(UnreadableFile),
}

/// Splitter of files into blocks and fragments, as in backhand's `DataWriter::add_bytes`.
pub(super) struct Feeder {
    pub sender: SyncSender<Message>,
    pub jobs: Sender<Unfinished>,
    pub buffers: Arc<Buffers>,
    pub block_size: usize,
    /// The content of backhand's fragment buffer.
    pub fragment: Vec<u8>,
}

/// The receiver is gone, because backhand failed.
struct Disconnected;

impl Feeder {
    /// Sends the content of `tree`, or the failure; stops early if the receiver is gone.
    pub fn feed(mut self, tree: &Tree) {
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

    fn feed_file(&mut self, path: &TreePath, content: &Content) -> Result<(), Disconnected> {
        let failed = |source| {
            let (file, path) = (content.to_string(), path.to_string());
            Message::Failed(UnreadableFile { file, path, source })
        };
        let mut reader = match content.open() {
            Ok(reader) => reader,
            Err(error) => return self.send(failed(error)).and(Err(Disconnected)),
        };
        let mut first = true;
        loop {
            let mut chunk = self.buffers.take(self.block_size);
            if let Err(error) = reader.by_ref().take(self.block_size as u64).read_to_end(&mut chunk) {
                return self.send(failed(error)).and(Err(Disconnected));
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

    /// Adds a file below the block size to the fragment. If it does not fit, it begins the next fragment.
    fn feed_small(&mut self, chunk: Vec<u8>) -> Result<(), Disconnected> {
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

    /// Queues `input` for the workers.
    fn compress(&self, input: Vec<u8>) -> Arc<Job> {
        let (job, unfinished) = Job::new(input, &self.buffers);
        // If the workers are gone, the unsent end of the job is dropped, which finishes it with an error.
        let _ = self.jobs.send(unfinished);
        job
    }

    fn send(&self, message: Message) -> Result<(), Disconnected> {
        self.sender.send(message).map_err(|_| Disconnected)
    }
}
