//! Instructions beyond those that every processor of a board has, which programs were compiled for.
//!
//! Their names are rustc's target features. Source: `rustc --print target-features`; Linux
//! `arch/x86/include/asm/cpufeatures.h` and `Documentation/arch/arm64/elf_hwcaps.rst` for the kernel's names.

/// Features whose name in /proc/cpuinfo is another one.
const RENAMED: [(&str, &str); 21] = [
    ("sse3", "pni"),
    ("sse4.1", "sse4_1"),
    ("sse4.2", "sse4_2"),
    ("lzcnt", "abm"),
    ("cmpxchg16b", "cx16"),
    ("sha", "sha_ni"),
    ("avxvnni", "avx_vnni"),
    ("avx512vnni", "avx512_vnni"),
    ("avx512bf16", "avx512_bf16"),
    ("avx512fp16", "avx512_fp16"),
    ("avx512vbmi2", "avx512_vbmi2"),
    ("avx512bitalg", "avx512_bitalg"),
    ("avx512vpopcntdq", "avx512_vpopcntdq"),
    ("crc", "crc32"),
    ("lse", "atomics"),
    ("dotprod", "asimddp"),
    ("rdm", "asimdrdm"),
    ("fp16", "asimdhp"),
    ("fhm", "asimdfhm"),
    ("rcpc", "lrcpc"),
    ("jsconv", "jscvt"),
];

/// Features with the same name there. Others are not judged, because a wrong guess would refuse a good build.
const SAME: [&str; 20] = [
    "avx", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "bf16", "bmi1", "bmi2", "f16c",
    "fma", "gfni", "i8mm", "movbe", "popcnt", "ssse3", "sve", "sve2", "vaes",
];

/// Returns those of `needed` that the processor described by `cpuinfo`, the text of /proc/cpuinfo, lacks. Without a list of
/// features there, none is known to be missing.
pub fn missing<'a>(needed: &'a [String], cpuinfo: &str) -> Vec<&'a str> {
    let features = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        ["flags", "Features"].contains(&key.trim()).then_some(value)
    });
    let Some(features) = features else { return Vec::new() };
    let lacks = |name: &str| {
        let renamed = RENAMED.iter().find(|(rustc, _)| *rustc == name).map(|(_, kernel)| kernel);
        let known = renamed.or_else(|| SAME.iter().find(|same| **same == name));
        known.is_some_and(|kernel| features.split_ascii_whitespace().all(|found| found != *kernel))
    };
    needed.iter().map(String::as_str).filter(|name| lacks(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lacking_features_are_named_as_rustc_names_them() {
        let needed = ["sse3", "sse4.2", "avx2", "lse", "fxsr"].map(str::to_owned);
        let pc = "processor\t: 0\nflags\t\t: fpu pni sse4_2 atomics_of_another_name\nbugs\t\t:\n";
        assert_eq!(missing(&needed, pc), ["avx2", "lse"]);
        assert_eq!(missing(&needed[3..], "Features\t: fp asimd atomics\n"), [""; 0]);
        assert_eq!(missing(&needed, "processor : 0\n"), [""; 0]);
    }
}
