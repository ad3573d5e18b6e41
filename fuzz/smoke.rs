//! A short run of fuzz targets among the unit tests of their crate: the seeds, and random changes of them. It needs no
//! second build of every dependency, as libFuzzer does, but it does not learn which inputs reach new code. `cargo suite
//! fuzz` runs libFuzzer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest input.
const MAX_LEN: usize = 4096;

/// Limit of one input. It takes milliseconds at most, but other work may share the machine.
const INPUT_TIMEOUT: Duration = Duration::from_secs(20);

/// Numbers at the edges of their types, of which the last bytes are taken.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0x7fff, 0x7fff_ffff, 1 << 63, u64::MAX];

/// A unit test for each target, with its number of executions besides those of the seeds.
macro_rules! smoke_tests {
    ($($target:ident: $executions:literal,)*) => {
        mod smoke_tests {
            $(#[test]
            fn $target() {
                super::smoke::run(stringify!($target), $executions, super::$target);
            })*
        }
    };
}

/// Calls `target` with its seeds, and with `executions` changes of them. They are the same in every run.
pub(crate) fn run(name: &str, executions: u32, target: fn(&[u8])) {
    let seeds = seeds(name);
    for seed in &seeds {
        execute(target, seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..executions {
        let mut input = random.seed(&seeds).to_vec();
        for _ in 0..=random.below(4) {
            change(&mut input, &seeds, &mut random);
        }
        execute(target, &input);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seed in {}", directory.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// An input that is printed if its target panics.
struct Input<'a>(&'a [u8]);

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn execute(target: fn(&[u8]), input: &[u8]) {
    let printed = Input(input);
    let begin = Instant::now();
    target(printed.0);
    let time = begin.elapsed();
    assert!(time < INPUT_TIMEOUT, "the input took {time:?}");
}

/// Makes one random change.
fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let room = input.len() - at;
    match random.below(7) {
        0 => input.truncate(at),
        1 => {
            let end = at + random.below(room.min(16) + 1);
            input.drain(at..end);
        }
        2 => {
            // A piece of the same or another seed, behind `at` or in place of what is there.
            let seed = random.seed(seeds);
            let from = random.below(seed.len() + 1);
            let piece = &seed[from..from + random.below(seed.len() - from + 1)];
            let end = if random.below(2) == 0 { at } else { at + piece.len().min(room) };
            input.splice(at..end, piece.iter().copied());
            input.truncate(MAX_LEN);
        }
        3 => {
            let byte = random.next() as u8;
            let count = random.below(64);
            input.splice(at..at, (0..count).map(|_| byte));
            input.truncate(MAX_LEN);
        }
        4 => {
            let len = (1 << random.below(4)).min(room);
            let bytes = EDGES[random.below(EDGES.len())].to_be_bytes();
            let number = &mut input[at..at + len];
            number.copy_from_slice(&bytes[8 - len..]);
            if random.below(2) == 0 {
                number.reverse();
            }
        }
        _ if room == 0 => input.push(random.next() as u8),
        5 => input[at] = random.next() as u8,
        _ => input[at] ^= 1 << random.below(8),
    }
}

/// Marsaglia's generator xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    fn seed<'a>(&mut self, seeds: &'a [Vec<u8>]) -> &'a [u8] {
        &seeds[self.below(seeds.len())]
    }
}
