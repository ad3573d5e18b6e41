use super::*;

#[test]
fn only_the_health_probe_is_open_and_every_change_needs_an_admin() {
    for operation in Operation::ALL {
        let Definition { method, access, .. } = *operation.definition();
        assert_eq!(access == Access::Open, *operation == Operation::Health, "{operation:?}");
        if method != Method::Get {
            assert_eq!(access, Access::Admin, "{operation:?}");
        }
    }
}

#[test]
fn method_and_path_identify_an_operation() {
    let mut rows: Vec<_> = Operation::ALL
        .iter()
        .map(|operation| (operation.definition().method.name(), operation.definition().pattern))
        .collect();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), Operation::ALL.len());
}
