//! Time from installed binaries to a finished disk image, compared with the usual command-line tools.
//!
//! `cargo bench -p krazy-boot --features image --bench image_writing [-- ROUNDS]`
//!
//! Ten programs of this machine (about 60 MB), a kernel and an initramfs become a disk of 1 GiB: by this crate, and by
//! `sfdisk`, `mkfs.fat`, `mcopy`, `mksquashfs` and `mke2fs` in sequence, which write directly into the disk image too.
//! Rounds are interleaved, because the load of the machine varies; the result is the median of each round's ratio. This
//! crate runs in a new process each time, as the tools do, which also gives its peak memory.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use krazy_boot::disk::layout::{DiskLayout, DiskSignature, PartitionSizes};
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::size::Bytes;
use krazy_boot::image::block_cache::BlockCache;
use krazy_boot::image::ext4::{self, Ext4Options};
use krazy_boot::image::fat32::{self, BootFile, VolumeOptions};
use krazy_boot::image::squashfs::{self, SquashfsOptions};
use krazy_boot::image::tree::{Content, Entry, Tree};
use krazy_boot::image::window::Window;
use tempfile::TempDir;

const PROGRAMS: usize = 10;
const TOTAL: u64 = 60_000_000;
const BOOT_FILES: [(&str, usize); 3] =
    [("a-vmlinuz", 9_000_000), ("a-initramfs", 4_000_000), ("a-cmdline.txt", 80)];
const DEFAULT_ROUNDS: usize = 7;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("--write-image") => write_image(&args.collect::<Vec<_>>()),
        rounds => compare(rounds.map_or(DEFAULT_ROUNDS, |rounds| rounds.parse().unwrap())),
    }
}

/// Work of a child process, with the arguments INPUT CACHE IMAGE LEVEL. Prints its peak memory in KiB.
fn write_image(args: &[String]) {
    let [input, cache, image, level] = args else { panic!("INPUT CACHE IMAGE LEVEL") };
    let input = Path::new(input);
    let layout = DiskLayout::new(PartitionSizes::default()).unwrap();
    let file = File::options().read(true).write(true).create(true).truncate(true).open(image).unwrap();
    file.set_len(layout.disk().bytes().0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let files = BOOT_FILES.map(|(name, _)| {
                let content = Content::File(input.join("boot").join(name));
                BootFile { name: name.into(), content }
            });
            let options = VolumeOptions { volume_id: 1, label: *b"BOOT       ", mtime: 1_700_000_000 };
            fat32::write(Window::fresh(&file, layout.boot), &options, &files).unwrap();
            let options = Ext4Options { uuid: [1; 16], label: "data", mtime: 1_700_000_000 };
            let data = tree(&input.join("data"), "/", false);
            ext4::write(Window::fresh(&file, layout.data), &options, &data).unwrap();
        });
        let options = SquashfsOptions {
            level: level.parse().unwrap(),
            mtime: 1_700_000_000,
            limit: layout.root_a.len.bytes(),
        };
        let cache = BlockCache::open(Path::new(cache), Bytes::gib(1)).unwrap();
        let out = Window::fresh(&file, layout.root_a);
        squashfs::write(&tree(&input.join("root"), "/bin", true), &options, out, Some(&cache)).unwrap();
        cache.finalize().unwrap();
    });
    let mbr = Mbr { signature: DiskSignature(1), layout };
    (&file).write_all(&mbr.encode(krazy_boot::boot::boot_sector::CODE).unwrap()).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{}", peak.trim().trim_end_matches(" kB"));
}

/// Returns the files of `directory`, which has no subdirectories, below `at`.
fn tree(directory: &Path, at: &str, executable: bool) -> Tree {
    let mut tree = Tree::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{at}/{}", path.file_name().unwrap().to_str().unwrap());
        let content = Content::File(path);
        let entry = if executable { Entry::executable(content) } else { Entry::file(content) };
        tree.add(&name, entry, "benchmark").unwrap();
    }
    tree
}

fn compare(rounds: usize) {
    let work = tempfile::tempdir().unwrap();
    let programs = make_input(work.path());
    println!("{} programs, {} bytes, {rounds} rounds", programs.len(), total(&programs));
    for level in [3, 15] {
        let figures: Vec<Figures> =
            (0..rounds).map(|round| one_round(&work, &programs, level, round)).collect();
        let theirs = median(figures.iter().map(|figures| figures.theirs.seconds));
        let theirs_cpu = median(figures.iter().map(|figures| figures.theirs.cpu));
        println!(
            "\nzstd level {level}: the tools take {theirs:.3} s, and {theirs_cpu:.2} s of processor time"
        );
        let target = if level == 3 { "0.6" } else { "0.9" };
        for (name, target) in
            [("nothing cached", target), ("one of ten programs changed", "0.2"), ("nothing changed", "none")]
        {
            let cost = |figures: &Figures| match name {
                "nothing cached" => figures.cold,
                "nothing changed" => figures.warm,
                _ => figures.changed,
            };
            let seconds = median(figures.iter().map(|figures| cost(figures).seconds));
            let ratio = median(figures.iter().map(|figures| cost(figures).seconds / figures.theirs.seconds));
            let cpu = median(figures.iter().map(|figures| cost(figures).cpu));
            print!("  ours, {name:28} {seconds:.3} s, ratio {ratio:.2} (target {target}), ");
            println!("{cpu:.2} s of processor time, ratio {:.2}", cpu / theirs_cpu);
        }
        let peak = figures.iter().map(|figures| figures.peak_kib).max().unwrap();
        println!("  peak memory {:.1} MiB, target 150", peak as f64 / 1024.0);
        let Figures { on_disk, content, .. } = figures[0];
        let ratio = on_disk as f64 / content as f64;
        println!("  {on_disk} bytes on disk for {content} of content, ratio {ratio:.3}, target 1.1");
    }
}

/// Time and processor time of a process with its children.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    /// User and system, in steps of 10 ms.
    cpu: f64,
}

impl Cost {
    fn of(run: impl FnOnce()) -> Self {
        let (start, cpu) = (Instant::now(), children_cpu());
        run();
        Cost { seconds: start.elapsed().as_secs_f64(), cpu: children_cpu() - cpu }
    }
}

/// Returns the processor time of all children so far, in seconds: `cutime` and `cstime` of proc(5).
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(16) + ticks(17)) / 100.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Figures {
    theirs: Cost,
    cold: Cost,
    changed: Cost,
    warm: Cost,
    peak_kib: u64,
    on_disk: u64,
    /// The root's SquashFS and the files of `/boot`.
    content: u64,
}

fn one_round(work: &TempDir, programs: &[PathBuf], level: i32, round: usize) -> Figures {
    let image = work.path().join("image");
    let theirs_image = work.path().join("theirs");
    let cache = work.path().join("cache");
    for path in [&image, &theirs_image] {
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_dir_all(&cache);
    let theirs = Cost::of(|| tools(work.path(), &theirs_image, level));
    let (cold, cold_peak) = ours(work.path(), &cache, &image, level);
    let on_disk = image.metadata().unwrap().blocks() * 512;
    let content = root_bytes(&image) + BOOT_FILES.iter().map(|(_, len)| *len as u64).sum::<u64>();
    fs::remove_file(&image).unwrap();
    let (warm, warm_peak) = ours(work.path(), &cache, &image, level);
    fs::remove_file(&image).unwrap();
    let program = &programs[round % programs.len()];
    let original = fs::read(program).unwrap();
    // As in a rebuilt program, all content moves to other offsets.
    let at = 1000 + round;
    fs::write(program, [&original[..at], b"changed", &original[at..]].concat()).unwrap();
    let (changed, changed_peak) = ours(work.path(), &cache, &image, level);
    fs::write(program, original).unwrap();
    let peak_kib = cold_peak.max(warm_peak).max(changed_peak);
    Figures { theirs, cold, changed, warm, peak_kib, on_disk, content }
}

fn ours(input: &Path, cache: &Path, image: &Path, level: i32) -> (Cost, u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--write-image").args([input, cache, image]).arg(level.to_string());
    let mut peak = String::new();
    let cost = Cost::of(|| {
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success());
        peak = String::from_utf8(output.stdout).unwrap();
    });
    (cost, peak.trim().parse().unwrap())
}

/// `bytes_used` of the superblock of root A.
fn root_bytes(image: &Path) -> u64 {
    let layout = DiskLayout::new(PartitionSizes::default()).unwrap();
    let mut used = [0; 8];
    let file = File::open(image).unwrap();
    let at = layout.root_a.start.bytes().0 + 40;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut used, at).unwrap();
    u64::from_le_bytes(used)
}

/// Makes the same disk with the usual tools.
fn tools(input: &Path, image: &Path, level: i32) {
    let layout = DiskLayout::new(PartitionSizes::default()).unwrap();
    let offset = |sectors: krazy_boot::disk::size::Sectors| sectors.bytes().0.to_string();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let image_text = text(image.to_owned());
    let file = File::create(image).unwrap();
    file.set_len(layout.disk().bytes().0).unwrap();
    let mut script = String::from("label: dos\n");
    for (partition, kind) in layout.partitions().iter().zip(["c", "83", "83", "83"]) {
        script += &format!("start={}, size={}, type={kind}\n", partition.start.0, partition.len.0);
    }
    tool("sfdisk", "fdisk", &["-q", &image_text], &script);
    let kib = (layout.boot.len.bytes().0 / 1024).to_string();
    let boot_sector = layout.boot.start.0.to_string();
    // With an offset it takes its default cluster size from the whole disk; this is the one we use.
    let args = ["-F", "32", "-s", "4", "--offset", &boot_sector, &image_text, &kib];
    tool("mkfs.fat", "dosfstools", &args, "");
    let volume = format!("{image_text}@@{}", layout.boot.start.bytes().0);
    let mut args = vec!["-i".to_owned(), volume];
    args.extend(BOOT_FILES.map(|(name, _)| text(input.join("boot").join(name))));
    args.push("::".into());
    tool("mcopy", "mtools", &args.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let (root, level, at) = (text(input.join("root")), level.to_string(), offset(layout.root_a.start));
    let mut args =
        vec![&*root, &*image_text, "-comp", "zstd", "-Xcompression-level", &*level, "-offset", &*at];
    args.extend(["-noappend", "-all-root", "-quiet", "-no-progress"]);
    tool("mksquashfs", "squashfs-tools", &args, "");
    let options = format!("offset={}", layout.data.start.bytes().0);
    let (data, size) = (text(input.join("data")), format!("{}k", layout.data.len.bytes().0 / 1024));
    tool(
        "mke2fs",
        "e2fsprogs",
        &["-q", "-F", "-t", "ext4", "-d", &data, "-E", &options, &image_text, &size],
        "",
    );
}

fn tool(program: &str, package: &str, args: &[&str], input: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(args).env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} of package {package}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Fills `work` with `root/`, `boot/` and `data/`; returns the programs in `root/`.
fn make_input(work: &Path) -> Vec<PathBuf> {
    for name in ["root", "boot", "data"] {
        fs::create_dir(work.join(name)).unwrap();
    }
    let copy = |from: &PathBuf| {
        let to = work.join("root").join(from.file_name().unwrap());
        fs::copy(from, &to).unwrap();
        to
    };
    let programs = choose_programs().iter().map(copy).collect();
    // A kernel and an initramfs are compressed already: noise.
    for (seed, (name, len)) in BOOT_FILES.iter().enumerate() {
        let mut bytes = vec![0; *len];
        blake3::Hasher::new_keyed(&[seed as u8; 32]).finalize_xof().fill(&mut bytes);
        fs::write(work.join("boot").join(name), bytes).unwrap();
    }
    for number in 0..10 {
        fs::write(work.join("data").join(format!("secret-{number}")), [number; 2000]).unwrap();
    }
    programs
}

/// Returns ten different programs of this machine with a total size of about [`TOTAL`].
fn choose_programs() -> Vec<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let mut candidates = BTreeMap::new();
    for directory in [sysroot.join("bin"), "/usr/bin".into(), "/usr/sbin".into(), "/usr/libexec".into()] {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            // Hard links would be the same program twice. Sorted by name, so that the directory's order does not matter.
            if metadata.is_file() && metadata.nlink() == 1 && is_elf(&path) {
                candidates.insert(path.file_name().unwrap().to_owned(), (metadata.len(), path));
            }
        }
    }
    let mut chosen = Vec::new();
    let mut left = TOTAL;
    for number in 0..PROGRAMS {
        let target = left / (PROGRAMS - number) as u64;
        let nearest = candidates.iter().min_by_key(|(_, (len, _))| len.abs_diff(target));
        let name = nearest.map(|(name, _)| name.clone()).unwrap();
        let (len, path) = candidates.remove(&name).unwrap();
        left = left.saturating_sub(len);
        chosen.push(path);
    }
    chosen
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

fn total(programs: &[PathBuf]) -> u64 {
    programs.iter().map(|path| path.metadata().unwrap().len()).sum()
}
