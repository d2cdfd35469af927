pub fn run(_: &mut crate::table::Table, _: &crate::Extent) {}
