use krazy_boot::disk::layout::DiskSignature;
use krazy_boot::disk::slot::Slot;

use super::*;

/// The first 64 bytes of a kernel, and 36 of the rest.
fn kernel(offset: u64, size: u64) -> Vec<u8> {
    let mut kernel = vec![0; 100];
    kernel[TEXT_OFFSET..][..8].copy_from_slice(&offset.to_le_bytes());
    kernel[IMAGE_SIZE..][..8].copy_from_slice(&size.to_le_bytes());
    kernel[IMAGE_MAGIC..][..4].copy_from_slice(b"ARM\x64");
    kernel
}

fn next(kernel: Vec<u8>) -> NextKernel {
    let command_line = CommandLine::for_slot(Slot::B, DiskSignature(1), []).unwrap();
    NextKernel { kernel, initramfs: vec![7; 70 << 10], command_line }
}

/// A device tree of `/chosen` alone, with a command line.
fn tree() -> Vec<u8> {
    let chosen =
        [&[0, 0, 0, 1][..], b"chosen\0\0", &[0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0][..], b"old\0"].concat();
    let structure =
        [&[0, 0, 0, 1, 0, 0, 0, 0][..], &chosen[..], &[0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 9]].concat();
    let (len, names) = (structure.len() as u32, b"bootargs\0");
    let header = [0xd00d_feed, 56 + len + 9, 56, 56 + len, 40, 17, 16, 0, 9, len];
    [&header.map(u32::to_be_bytes).concat(), &[0; 16][..], &structure, names].concat()
}

fn memory(end: u64) -> FreeMemory {
    FreeMemory::parse(&format!("00000000-{end:08x} : System RAM\n  00000000-001fffff : reserved\n"))
}

#[test]
fn every_segment_has_its_own_memory() {
    let tree = tree();
    let (entry, segments) = lay_out(next(kernel(0, 40 << 20)), &tree, memory(0x3fff_ffff)).unwrap();
    let places: Vec<_> = segments.iter().map(|segment| (segment.address, segment.len)).collect();
    let mib = 1 << 20;
    assert_eq!(places[..3], [(2 * mib, 40 * mib), (42 * mib, 128 << 10), (44 * mib, PAGE_SIZE)]);
    assert_eq!((entry, segments.len()), (segments[3].address, 4));
    assert_eq!(segments[3].content, trampoline(2 * mib, 44 * mib));
    let text = String::from_utf8_lossy(&segments[2].content).into_owned();
    assert!(text.contains("root=PARTUUID=00000001-03 krazy.slot=b\0") && !text.contains("old"), "{text}");
    let addresses = [(42 * mib).to_be_bytes(), (42 * mib + (70 << 10)).to_be_bytes()];
    for address in addresses {
        assert!(segments[2].content.windows(8).any(|bytes| bytes == address), "{address:?}");
    }
    assert!(segments.iter().all(|segment| segment.content.len() as u64 <= segment.len));
}

#[test]
fn malformed_kernel_memory_and_tree_are_errors() {
    let tree = tree();
    let refused =
        |kernel, tree: &[u8], end| lay_out(next(kernel), tree, memory(end)).err().unwrap().to_string();
    let compressed = b"\x1f\x8b".repeat(50);
    let (end, size) = (0x3fff_ffff, 40 << 20);
    for kernel in [compressed, Vec::new(), kernel(0, 99), kernel(1, size), kernel(0, 1 << 33)] {
        assert_eq!(refused(kernel, &tree, end), "it is not an uncompressed arm64 kernel");
    }
    assert_eq!(refused(kernel(0, size), &tree, 0x1ff_ffff), "there is no room in memory for 41943040 bytes");
    let error = refused(kernel(0, size), b"", end);
    assert_eq!(error, "the device tree cannot be changed: it is no flattened device tree");
}

/// The encodings, by the fields of the Arm Architecture Reference Manual, C6.2: LDR (literal), ORR (shifted register), BR.
#[test]
fn trampoline_loads_the_addresses_that_follow_it() {
    let bytes = trampoline(0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00);
    let instruction = |n: usize| u32::from_le_bytes(*bytes[4 * n..].first_chunk().unwrap());
    let literal = |n: usize| {
        let (opcode, distance, register) =
            (instruction(n) >> 24, instruction(n) >> 5 & 0x7_ffff, instruction(n) & 0x1f);
        assert_eq!(opcode, 0x58);
        let at = 4 * n + 4 * distance as usize;
        (register, u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()))
    };
    assert_eq!(literal(0), (0, 0x99aa_bbcc_ddee_ff00));
    assert_eq!(literal(1), (17, 0x1122_3344_5566_7788));
    for register in 1..4 {
        assert_eq!(instruction(1 + register as usize), 0xaa00_0000 | 31 << 16 | 31 << 5 | register);
    }
    assert_eq!(instruction(5), 0xd61f_0000 | 17 << 5);
}
