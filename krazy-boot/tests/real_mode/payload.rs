//! A kernel for the tests: it reports on COM1 what it found in memory, and then makes QEMU exit or resets the machine.
//!
//! The line it prints: `payload <registers> <kernel> <initramfs> <command line>`, where `ok` means
//! registers as the boot protocol requires, and the checksums of both files in memory are in hexadecimal. If the command
//! line begins with `r` it resets the machine, otherwise it makes QEMU exit.

use iced_x86::code_asm::*;
use iced_x86::{Code, IcedError, Instruction};

const SETUP_SECTORS: usize = 3;
/// The real-mode part is at 1000:0000; its first instruction at 1020:0000.
const BASE: u64 = 0x1_0000;
/// Just behind the header, in range of the short jump at its start.
const CODE_OFFSET: usize = 0x268;
const COMMAND_LINE: u32 = 0x1_e000;
const COM1: u32 = 0x3f8;

/// Port of QEMU's isa-debug-exit, and the exit status that its value 0 gives.
pub const EXIT_PORT: u32 = 0xf4;
pub const EXIT_STATUS: i32 = 1;

/// Returns a kernel file with the protected-mode part `body`, whose length must be a multiple of 16.
pub fn kernel(body: &[u8]) -> Vec<u8> {
    assert!(body.len().is_multiple_of(16));
    let mut file = vec![0; SETUP_SECTORS * 512];
    let mut field = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    field(0x1f1, &[SETUP_SECTORS as u8 - 1]);
    field(0x1f4, &(body.len() as u32 / 16).to_le_bytes());
    field(0x1fe, &[0x55, 0xaa]);
    field(0x200, &[0xeb, (CODE_OFFSET - 0x202) as u8]);
    field(0x202, b"HdrS\x0f\x02");
    field(0x211, &[1]);
    field(0x22c, &0x7fff_ffffu32.to_le_bytes());
    field(0x230, &0x20_0000u32.to_le_bytes());
    field(0x238, &2047u32.to_le_bytes());
    field(0x258, &0x100_0000u64.to_le_bytes());
    field(0x260, &0x180_0000u32.to_le_bytes());
    field(CODE_OFFSET, &code().unwrap());
    file.extend(body);
    file
}

/// Returns the payload's checksum of a file whose length is a multiple of 4.
pub fn checksum(content: &[u8]) -> u32 {
    let (words, rest) = content.as_chunks();
    assert!(rest.is_empty());
    words.iter().fold(0u32, |sum, word| sum.rotate_left(5).wrapping_add(u32::from_le_bytes(*word)))
}

/// Assembles 16-bit code that checks the registers and enters protected mode, then 32-bit code.
fn code() -> Result<Vec<u8>, IcedError> {
    // The length of the first part is needed for the addresses in it: assemble twice.
    let length = real_mode(0)?.len() as u64;
    let mut code = real_mode(length)?;
    let start = BASE + CODE_OFFSET as u64 + code.len() as u64;
    code.extend(protected_mode(start)?);
    assert!(CODE_OFFSET + code.len() <= SETUP_SECTORS * 512);
    Ok(code)
}

fn real_mode(length: u64) -> Result<Vec<u8>, IcedError> {
    const GDT_LEN: u64 = 24;
    let origin = CODE_OFFSET as u64 - 0x200;
    let mut a = CodeAssembler::new(16)?;
    // DX collects deviations from the protocol.
    a.mov(dx, sp)?;
    a.sub(dx, 0xe000)?;
    for segment in [ds, es, fs, gs, ss] {
        a.mov(ax, segment)?;
        a.sub(ax, 0x1000)?;
        a.or(dx, ax)?;
    }
    a.movzx(ebp, dx)?;
    // The GDT is the last thing in this part; DS counts from BASE.
    let gdt = CODE_OFFSET as u64 + length.saturating_sub(GDT_LEN);
    a.lgdt(ptr(gdt.max(0x100)))?;
    a.mov(eax, cr0)?;
    a.or(al, 1)?;
    a.mov(cr0, eax)?;
    let target = (BASE + CODE_OFFSET as u64 + length) as u32;
    a.add_instruction(Instruction::with_far_branch(Code::Jmp_ptr1632, 8, target)?)?;
    let mut code = a.assemble(origin)?;
    let address = (BASE + gdt) as u32;
    code.extend(23u16.to_le_bytes());
    code.extend(address.to_le_bytes());
    code.extend([0, 0]);
    code.extend([0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0]);
    code.extend([0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0]);
    Ok(code)
}

fn protected_mode(origin: u64) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let mut put = a.create_label();
    let mut hex = a.create_label();
    let mut sum = a.create_label();
    a.mov(eax, 16)?;
    for segment in [ds, es, ss] {
        a.mov(segment, ax)?;
    }
    a.mov(esp, 0x1_d000)?;

    for character in b"payload " {
        a.mov(al, i32::from(*character))?;
        a.call(put)?;
    }
    let mut wrong = a.create_label();
    let mut registers_end = a.create_label();
    a.test(ebp, ebp)?;
    a.jnz(wrong)?;
    for character in b"ok" {
        a.mov(al, i32::from(*character))?;
        a.call(put)?;
    }
    a.jmp(registers_end)?;
    a.set_label(&mut wrong)?;
    a.mov(edx, ebp)?;
    a.call(hex)?;
    a.set_label(&mut registers_end)?;

    // The kernel: syssize counts 16 bytes.
    a.mov(esi, 0x10_0000)?;
    a.mov(ecx, ptr(BASE + 0x1f4))?;
    a.shl(ecx, 2)?;
    a.call(sum)?;
    // The initramfs.
    a.mov(esi, ptr(BASE + 0x218))?;
    a.mov(ecx, ptr(BASE + 0x21c))?;
    a.shr(ecx, 2)?;
    a.call(sum)?;

    // The command line is where the header says.
    let mut character = a.create_label();
    let mut end = a.create_label();
    a.mov(al, i32::from(b' '))?;
    a.call(put)?;
    a.mov(esi, ptr(BASE + 0x228))?;
    a.set_label(&mut character)?;
    a.lodsb()?;
    a.test(al, al)?;
    a.jz(end)?;
    a.call(put)?;
    a.jmp(character)?;
    a.set_label(&mut end)?;
    a.mov(al, i32::from(b'\n'))?;
    a.call(put)?;

    let mut reset = a.create_label();
    let mut stop = a.create_label();
    a.cmp(byte_ptr(COMMAND_LINE), i32::from(b'r'))?;
    a.je(reset)?;
    a.mov(edx, EXIT_PORT)?;
    a.xor(eax, eax)?;
    a.out(dx, eax)?;
    a.set_label(&mut reset)?;
    a.mov(al, 0xfe)?;
    a.out(0x64, al)?;
    a.set_label(&mut stop)?;
    a.hlt()?;
    a.jmp(stop)?;

    // Prints a space and the checksum of ECX dwords at ESI.
    let mut word = a.create_label();
    a.set_label(&mut sum)?;
    a.mov(al, i32::from(b' '))?;
    a.call(put)?;
    a.xor(edx, edx)?;
    a.set_label(&mut word)?;
    a.lodsd()?;
    a.rol(edx, 5)?;
    a.add(edx, eax)?;
    a.dec(ecx)?;
    a.jnz(word)?;

    // Prints EDX.
    let mut digit = a.create_label();
    let mut decimal = a.create_label();
    a.set_label(&mut hex)?;
    a.mov(ecx, 8)?;
    a.set_label(&mut digit)?;
    a.rol(edx, 4)?;
    a.mov(al, dl)?;
    a.and(al, 15)?;
    a.add(al, i32::from(b'0'))?;
    a.cmp(al, i32::from(b'9'))?;
    a.jbe(decimal)?;
    a.add(al, i32::from(b'a' - b'9' - 1))?;
    a.set_label(&mut decimal)?;
    a.call(put)?;
    a.loop_(digit)?;
    a.ret()?;

    // Prints AL on COM1 when its transmitter is free. Keeps all registers.
    let mut busy = a.create_label();
    a.set_label(&mut put)?;
    a.pushad()?;
    a.mov(ah, al)?;
    a.mov(edx, COM1 + 5)?;
    a.set_label(&mut busy)?;
    a.in_(al, dx)?;
    a.test(al, 0x20)?;
    a.jz(busy)?;
    a.mov(edx, COM1)?;
    a.mov(al, ah)?;
    a.out(dx, al)?;
    a.popad()?;
    a.ret()?;
    a.assemble(origin)
}
