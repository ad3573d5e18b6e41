//! Bit flips anywhere in a bundle: it is rejected, or the slot has the signed content.

use prop::sample::Index;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn damaged_bundle_is_refused_or_installs_the_signed_content(
        flips in prop::collection::vec((any::<Index>(), 0..8u32), 1..4),
        in_head in any::<bool>(),
        delta in any::<bool>(),
    ) {
        let (head, streams) = update(delta);
        let mut bundle = Head::to_bytes(&head.signed, &head.transport).unwrap();
        let len = bundle.len();
        bundle.extend(streams);
        for (at, bit) in flips {
            let end = if in_head { len } else { bundle.len() };
            bundle[at.index(end)] ^= 1 << bit;
        }
        let signed = Signed::message(&head.signed.json);
        let verify =
            |message: &[u8], signature: &[u8; 64]| message == signed && *signature == head.signed.signature;

        let mut machine = Machine::new(&old_root());
        let old = booted(&machine.image(), Slot::A);
        let mut rest = &bundle[..];
        let read = Head::read(&mut rest, verify).ok();
        let taken = read.is_some_and(|head| install(&mut machine, head, rest, 1000).is_ok());
        prop_assert_eq!(taken, is_complete(&machine, Slot::B).unwrap());
        let machine = machine.restarted();
        prop_assert_eq!(booted(&machine.image(), Slot::A), old);
        prop_assert_eq!(selected(&machine.image()), Slot::A);
        if taken {
            prop_assert_eq!(booted(&machine.image(), Slot::B), booted(&installed(delta, 1000).image(), Slot::B));
        }
    }
}
