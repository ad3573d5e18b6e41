//! Independent programs judge the output of the image writers. A missing judge fails the test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::num::NonZero;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::size::{Bytes, Sectors};
use krazy_boot::image::block_cache::BlockCache;
use krazy_boot::image::ext4::{self, Ext4Options};
use krazy_boot::image::fat32::{self, BootFile, VolumeOptions};
use krazy_boot::image::initramfs;
use krazy_boot::image::squashfs::{self, SquashfsOptions};
use krazy_boot::image::tree::{Content, Entry, Node, Tree};
use krazy_boot::image::window::Window;
use tempfile::TempDir;

const MTIME: u64 = 1_700_000_000;

/// Runs `program`, which must succeed, and returns its output, standard error last.
fn judge(program: &str, package: &str, args: &[&str]) -> String {
    judge_input(program, package, args, &[])
}

fn judge_input(program: &str, package: &str, args: &[&str], input: &[u8]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(args).env("PATH", path).env("TZ", "UTC").env("LC_ALL", "C");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("`{program}` is missing; install the package {package}")
        }
        other => other.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}", output.status);
    text
}

/// Returns bytes that compress somewhat, different for each seed.
fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    };
    (0..len).map(|i| if i % 3 == 0 { (next(&mut state) >> 32) as u8 } else { (i / 64) as u8 }).collect()
}

/// Returns an image file of only holes.
fn sparse(path: &Path, size: Bytes) -> File {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(size.0).unwrap();
    file
}

fn all(size: Bytes) -> Extent {
    Extent { start: Sectors(0), len: size.sectors_floor().unwrap() }
}

/// Returns a tree with every kind of file that the splitting into blocks and fragments distinguishes, and every kind of node.
fn root_tree(host: &TempDir) -> Tree {
    const BLOCK: usize = squashfs::BLOCK_SIZE;
    let mut tree = Tree::new();
    let mut add = |path: &str, entry: Entry| tree.add(path, entry, "test").unwrap();
    add("/bin/init", Entry::executable(Content::Bytes(data(1, 3 * BLOCK + 777))));
    let program = host.path().join("program");
    fs::write(&program, data(2, 2 * BLOCK)).unwrap();
    add("/bin/program", Entry::executable(Content::File(program)));
    add("/bin/twin", Entry::executable(Content::Bytes(data(1, 3 * BLOCK + 777))).mode(0o4755));
    for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1] {
        add(&format!("/edge/{len}"), Entry::file(Content::Bytes(data(len as u64, len))));
    }
    for number in 0..300 {
        let content = Content::Bytes(data(number, 2000 + number as usize));
        add(&format!("/small/file number {number}"), Entry::file(content).mode(0o640).owner(1000, 50));
    }
    let mut holes = vec![0; 6 * BLOCK + 10];
    holes[2 * BLOCK + 5] = 1;
    add("/holes", Entry::file(Content::Bytes(holes)));
    add("/zeros", Entry::file(Content::Bytes(vec![0; 2 * BLOCK])));
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut incompressible = vec![0; BLOCK + 5000];
    noise.fill(&mut incompressible);
    add("/incompressible", Entry::file(Content::Bytes(incompressible)));
    add("/etc/link", Entry::symlink("../bin/init"));
    add("/tmp", Entry::directory().mode(0o1777));
    add("/data", Entry::directory().owner(7, 8));
    add("/dev/console", Entry::character_device(5, 1));
    // The last file is a duplicate, which backhand writes and then discards.
    add("/z-twin", Entry::file(Content::Bytes(data(1, 3 * BLOCK + 777))));
    tree
}

/// Compares a directory of the host, which a judge unpacked as root, with the tree.
fn assert_unpacked(tree: &Tree, directory: &Path, mtime: Option<u64>) {
    let mut count = 0;
    for (path, entry) in tree.iter() {
        let found = directory.join(path.as_str().trim_start_matches('/'));
        let metadata = found.symlink_metadata().unwrap_or_else(|error| panic!("{path}: {error}"));
        match &entry.node {
            Node::Directory => {
                assert!(metadata.is_dir(), "{path}");
                count += fs::read_dir(&found).unwrap().count();
            }
            Node::File(content) => {
                let mut expected = Vec::new();
                content.open().unwrap().read_to_end(&mut expected).unwrap();
                assert!(fs::read(&found).unwrap() == expected, "content of {path}");
            }
            Node::Symlink(target) => assert_eq!(fs::read_link(&found).unwrap(), Path::new(target), "{path}"),
            Node::CharacterDevice { major, minor } => {
                assert_eq!(metadata.rdev(), u64::from(*major << 8 | *minor), "{path}");
            }
        }
        let mode = metadata.permissions().mode() as u16 & 0o7777;
        assert_eq!((mode, metadata.uid(), metadata.gid()), (entry.mode, entry.uid, entry.gid), "{path}");
        if let Some(mtime) = mtime.filter(|_| path.name().is_some()) {
            assert_eq!(metadata.mtime(), mtime as i64, "{path}");
        }
    }
    assert_eq!(count, tree.iter().count() - 1, "unexpected files");
}

/// Owners and devices are only compared by root; the package build of the tests runs as root.
fn assert_root() {
    let uid = fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(uid, 0, "this test unpacks devices and owners, run it as root or in `fakeroot`");
}

fn squashfs_options(level: i32) -> SquashfsOptions {
    SquashfsOptions { level, mtime: MTIME, limit: Bytes::mib(256) }
}

fn squashfs_bytes(tree: &Tree, level: i32, cache: Option<&BlockCache>) -> (Vec<u8>, squashfs::SquashfsStats) {
    let options = squashfs_options(level);
    let mut out = std::io::Cursor::new(Vec::new());
    let stats = squashfs::write(tree, &options, &mut out, cache).unwrap();
    (out.into_inner(), stats)
}

#[test]
fn unsquashfs_finds_the_tree() {
    assert_root();
    let host = tempfile::tempdir().unwrap();
    let tree = root_tree(&host);
    let (bytes, stats) = squashfs_bytes(&tree, 3, None);
    // The zeros behind the end are the space of the discarded duplicate.
    let end = stats.bytes.0 as usize;
    assert!(end.is_multiple_of(4096) && bytes[end..].iter().all(|byte| *byte == 0));
    let image = host.path().join("root.squashfs");
    fs::write(&image, &bytes[..end]).unwrap();
    let unpacked = host.path().join("unpacked");
    let args = ["-n", "-d", unpacked.to_str().unwrap(), image.to_str().unwrap()];
    judge("unsquashfs", "squashfs-tools", &args);
    assert_unpacked(&tree, &unpacked, Some(MTIME));
    let summary = judge("unsquashfs", "squashfs-tools", &["-s", image.to_str().unwrap()]);
    assert!(summary.contains("Compression zstd") && summary.contains("Block size 262144"), "{summary}");
}

#[test]
fn squashfs_bytes_depend_on_nothing_but_the_tree() {
    let host = tempfile::tempdir().unwrap();
    let tree = root_tree(&host);
    let (plain, stats) = squashfs_bytes(&tree, 5, None);
    assert_eq!(stats.cached_blocks, 0);
    for threads in [1, 7] {
        let mut out = std::io::Cursor::new(Vec::new());
        squashfs::write_with(&tree, &squashfs_options(5), NonZero::new(threads).unwrap(), &mut out, None)
            .unwrap();
        assert!(out.into_inner() == plain, "{threads} threads");
    }
    let directory = host.path().join("cache");
    let open = || BlockCache::open(&directory, Bytes::mib(64)).unwrap();
    let cache = open();
    assert!(squashfs_bytes(&tree, 5, Some(&cache)).0 == plain, "filling a cache");
    cache.finalize().unwrap();
    let (cached, stats) = squashfs_bytes(&tree, 5, Some(&open()));
    assert!(cached == plain, "from a cache");
    assert_eq!(stats.cached_blocks, stats.blocks);
    let (_, other_level) = squashfs_bytes(&tree, 6, Some(&open()));
    assert_eq!(other_level.cached_blocks, 0);
    for pack in fs::read_dir(&directory).unwrap() {
        let pack = File::options().write(true).open(pack.unwrap().path()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&pack, &[0xff; 5000], 5000).unwrap();
    }
    let (repaired, stats) = squashfs_bytes(&tree, 5, Some(&open()));
    assert!(repaired == plain, "from a damaged cache");
    assert!(stats.cached_blocks < stats.blocks && stats.cached_blocks > 0);
}

#[test]
fn root_that_does_not_fit_reports_the_missing_space() {
    let host = tempfile::tempdir().unwrap();
    let tree = root_tree(&host);
    let (_, stats) = squashfs_bytes(&tree, 3, None);
    let limit = Bytes(stats.bytes.0 - 300_000);
    let options = SquashfsOptions { limit, ..squashfs_options(3) };
    let file = tempfile::tempfile().unwrap();
    let window = Window::new(&file, Bytes::mib(1), limit);
    let error = squashfs::write(&tree, &options, window, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the root needs {} and its partition has {limit}: {} too much", stats.bytes, Bytes(300_000))
    );
    assert!(file.metadata().unwrap().len() <= Bytes::mib(1).0 + limit.0);
    let options = SquashfsOptions { limit: stats.bytes, ..options };
    squashfs::write(&tree, &options, Window::new(&file, Bytes(0), stats.bytes), None).unwrap();
}

#[test]
fn root_with_an_unreadable_file_names_it() {
    let mut tree = Tree::new();
    for number in 0..100 {
        tree.add(&format!("/a/{number}"), Entry::file(Content::Bytes(data(number, 300_000))), "test")
            .unwrap();
    }
    tree.add("/b", Entry::file(Content::File("/nonexistent/b".into())), "test").unwrap();
    tree.add("/c", Entry::file(Content::Bytes(data(1, 3_000_000))), "test").unwrap();
    let options = squashfs_options(1);
    let error = squashfs::write(&tree, &options, std::io::Cursor::new(Vec::new()), None).unwrap_err();
    assert_eq!(error.to_string(), "failed to read /nonexistent/b for `/b`");
}

#[test]
fn fsck_and_mtools_accept_the_boot_volume() {
    let host = tempfile::tempdir().unwrap();
    let image = host.path().join("boot.img");
    let options = VolumeOptions { volume_id: 0xfeed_beef, label: *b"BOOT       ", mtime: MTIME };
    let files: Vec<_> = [
        ("a-vmlinuz", 9_000_001),
        ("a-initramfs", 4_000_000),
        ("a-cmdline.txt", 100),
        ("config.txt", 0),
        ("bcm2711-rpi-4-b.dtb", 2048),
        ("EFI/BOOT/BOOTX64.EFI", 100_000),
    ]
    .map(|(name, len)| BootFile { name: name.into(), content: Content::Bytes(data(len as u64, len)) })
    .into();
    for size in [64, 100, 256, 1024, 2048].map(Bytes::mib) {
        let file = sparse(&image, size);
        fat32::write(Window::fresh(&file, all(size)), &options, &files).unwrap();
        let verdict = judge("fsck.fat", "dosfstools", &["-n", "-v", image.to_str().unwrap()]);
        // It counts the directories too.
        assert!(verdict.contains("9 files,") && verdict.contains("32 bit"), "{verdict}");
        let allocated = file.metadata().unwrap().blocks() * 512;
        assert!(allocated < 14_500_000, "{size}: {allocated} bytes on disk");
        let listing = judge("mdir", "mtools", &["-i", image.to_str().unwrap(), "::"]);
        for line in [
            "Volume in drive : is BOOT",
            "Serial Number is FEED-BEEF",
            "9000001 2023-11-14  22:13",
            "a-vmlinuz",
        ] {
            assert!(listing.contains(line), "{line} in {listing}");
        }
        let copied = |file: &str| {
            let copy = host.path().join("copied");
            let [image, copy_name] = [&image, &copy].map(|path| path.to_str().unwrap());
            judge("mcopy", "mtools", &["-n", "-o", "-i", image, file, copy_name]);
            fs::read(&copy).unwrap()
        };
        assert!(copied("::a-vmlinuz") == data(9_000_001, 9_000_001));
        assert!(copied("::efi/boot/bootx64.efi") == data(100_000, 100_000));
    }
}

#[test]
fn fsck_accepts_a_boot_volume_full_of_files() {
    let host = tempfile::tempdir().unwrap();
    let image = host.path().join("boot.img");
    let options = VolumeOptions { volume_id: 1, label: *b"BOOT       ", mtime: MTIME };
    let files: Vec<_> = (0..400)
        .map(|number| {
            let name = format!("overlay with a long name {number}.dtbo");
            BootFile { name, content: Content::Bytes(data(number, 5000)) }
        })
        .collect();
    let file = sparse(&image, Bytes::mib(64));
    fat32::write(Window::new(&file, Bytes(0), Bytes::mib(64)), &options, &files).unwrap();
    let verdict = judge("fsck.fat", "dosfstools", &["-n", "-v", image.to_str().unwrap()]);
    assert!(verdict.contains("401 files,"), "{verdict}");
}

fn data_tree() -> Tree {
    let mut tree = Tree::new();
    let mut add = |path: &str, entry: Entry| tree.add(path, entry, "test").unwrap();
    add("/", Entry::directory().mode(0o711).owner(3, 4));
    add("/krazy/tls/key.pem", Entry::file(Content::Bytes(data(1, 1704))).mode(0o600));
    add("/krazy/tls", Entry::directory().mode(0o700).owner(70_000, 70_001));
    add("/krazy/large", Entry::file(Content::Bytes(data(2, 5_000_000))).owner(1000, 1000));
    add("/krazy/empty", Entry::file(Content::Bytes(Vec::new())));
    add("/krazy/suid", Entry::executable(Content::Bytes(data(3, 100))).mode(0o4755));
    add("/krazy/link", Entry::symlink("tls/key.pem"));
    add("/krazy/long link", Entry::symlink("x/".repeat(200)));
    add("/krazy/console", Entry::character_device(5, 1));
    for number in 0..200 {
        add(&format!("/many/{number}"), Entry::file(Content::Bytes(data(number, 10))));
    }
    tree
}

#[test]
fn e2fsck_and_debugfs_accept_the_data_partition() {
    assert_root();
    let host = tempfile::tempdir().unwrap();
    let image = host.path().join("data.img");
    let uuid = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef";
    let options = Ext4Options { uuid, label: "data", mtime: MTIME };
    let tree = data_tree();
    for size in [Bytes::mib(32), Bytes::mib(255), Bytes(Bytes::gib(8).0 - 512)] {
        let file = sparse(&image, size);
        ext4::write(Window::fresh(&file, all(size)), &options, &tree).unwrap();
        let image = image.to_str().unwrap();
        judge("e2fsck", "e2fsprogs", &["-f", "-n", image]);
        let header = judge("dumpe2fs", "e2fsprogs", &["-h", image]);
        for line in [
            "volume name:   data",
            "UUID:          01234567-89ab-cdef-0123-456789abcdef",
            "has_journal",
            "metadata_csum_seed",
            "created:       Tue Nov 14 22:13:20 2023",
        ] {
            assert!(header.contains(line), "{line} in {header}");
        }
        let unpacked = host.path().join(format!("unpacked {size}"));
        fs::create_dir(&unpacked).unwrap();
        let command = format!("rdump / \"{}\"", unpacked.display());
        judge("debugfs", "e2fsprogs", &["-R", &command, image]);
        // debugfs does not make devices, and gives files their owners after their modes, which drops set-user-ID.
        fs::remove_dir(unpacked.join("lost+found")).unwrap();
        let console = judge("debugfs", "e2fsprogs", &["-R", "stat /krazy/console", image]);
        assert!(console.contains("Type: character special") && console.contains("05:01"), "{console}");
        let suid = judge("debugfs", "e2fsprogs", &["-R", "stat /krazy/suid", image]);
        assert!(suid.contains("Mode:  04755"), "{suid}");
        let mut dumped = Tree::new();
        for (path, entry) in tree.iter().filter(|(path, _)| path.name() != Some("console")) {
            dumped.add(path.as_str(), entry.clone().mode(entry.mode & 0o3777), "test").unwrap();
        }
        assert_unpacked(&dumped, &unpacked, None);
        let allocated = file.metadata().unwrap().blocks() * 512;
        println!("{size}: {allocated} bytes on disk");
    }
}

#[test]
fn e2fsck_accepts_what_was_formatted_over_old_data() {
    let host = tempfile::tempdir().unwrap();
    let image = host.path().join("data.img");
    fs::write(&image, data(9, 200 << 20)).unwrap();
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let options = Ext4Options { uuid: [7; 16], label: "data", mtime: MTIME };
    ext4::write(Window::new(&file, Bytes(0), Bytes::mib(200)), &options, &data_tree()).unwrap();
    judge("e2fsck", "e2fsprogs", &["-f", "-n", image.to_str().unwrap()]);
}

#[test]
fn resize2fs_grows_the_data_partition() {
    let host = tempfile::tempdir().unwrap();
    let path = host.path().join("data.img");
    let file = sparse(&path, Bytes::mib(255));
    let options = Ext4Options { uuid: [7; 16], label: "data", mtime: MTIME };
    ext4::write(Window::new(&file, Bytes(0), Bytes::mib(255)), &options, &data_tree()).unwrap();
    file.set_len(Bytes::gib(20).0).unwrap();
    let image = path.to_str().unwrap();
    judge("e2fsck", "e2fsprogs", &["-f", "-y", image]);
    judge("resize2fs", "e2fsprogs", &[image]);
    judge("e2fsck", "e2fsprogs", &["-f", "-n", image]);
}

#[test]
fn zstd_and_cpio_unpack_the_initramfs() {
    assert_root();
    let host = tempfile::tempdir().unwrap();
    let tree = root_tree(&host);
    let archive = initramfs::write(&tree, 3, Vec::new()).unwrap();
    let packed = host.path().join("initramfs");
    fs::write(&packed, archive).unwrap();
    let unpacked = host.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let cpio = host.path().join("initramfs.cpio");
    judge("zstd", "zstd", &["-d", packed.to_str().unwrap(), "-o", cpio.to_str().unwrap()]);
    let args = ["-i", "-d", "-m", "-D", unpacked.to_str().unwrap()];
    judge_input("cpio", "cpio", &args, &fs::read(cpio).unwrap());
    assert_unpacked(&tree, &unpacked, None);
}
