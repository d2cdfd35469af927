//! The map as one SVG: a column for each node, in it its cores, below them the NICs and drives at that node.

use super::map::{at_node, gib, role};
use super::placement::Placement;
use super::topology::Topology;
use std::fmt::Write;

const COLUMN: usize = 340;
const MARGIN: usize = 16;
const ROW: usize = 22;
const THREAD: usize = 100;

/// Something beside the cores of a node.
struct Device {
    node: Option<usize>,
    text: String,
    fill: &'static str,
}

/// The whole picture.
pub fn draw(topology: &Topology, placement: &Placement) -> String {
    let devices = devices(topology);
    // What is at no node has a column of its own, if there is any of it.
    let mut columns: Vec<Option<usize>> = topology.nodes.iter().map(|node| Some(node.number)).collect();
    let homeless = topology.threads.iter().any(|thread| thread.node.is_none());
    if homeless || devices.iter().any(|device| device.node.is_none()) {
        columns.push(None);
    }
    let mut body = String::new();
    let mut rows_max = 0;
    for (index, node) in columns.iter().enumerate() {
        let rows = column(&mut body, topology, placement, &devices, index, *node);
        rows_max = rows_max.max(rows);
    }
    let (width, height) = (MARGIN + columns.len().max(1) * COLUMN, 2 * MARGIN + (rows_max + 1) * ROW);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws one node, and says how many rows that took.
fn column(
    out: &mut String,
    topology: &Topology,
    placement: &Placement,
    devices: &[Device],
    index: usize,
    node: Option<usize>,
) -> usize {
    let x = MARGIN + index * COLUMN;
    let mut row = 0;
    let memory = node.and_then(|node| topology.node(node)?.memory_bytes);
    let memory = memory.map_or(String::new(), |bytes| format!(", {}", gib(bytes)));
    text(out, x, y(row) + 15, &format!("{}{memory}", at_node(node)));
    row += 1;
    for siblings in topology.physical_cores() {
        if topology.thread(siblings[0]).is_none_or(|thread| thread.node != node) {
            continue;
        }
        for (place, core) in siblings.iter().enumerate() {
            // More than three threads a core would leave the column: they share its last place.
            let left = x + place.min(2) * (THREAD + 4);
            let role = role(*core, placement);
            boxed(out, left, y(row), THREAD, colour(&role), &format!("{core} {role}"));
        }
        row += 1;
    }
    for device in devices.iter().filter(|device| device.node == node) {
        boxed(out, x, y(row), COLUMN - MARGIN, device.fill, &device.text);
        row += 1;
    }
    row
}

fn devices(topology: &Topology) -> Vec<Device> {
    let nics = topology.nics.iter().filter(|nic| nic.driver.is_some()).map(|nic| Device {
        node: nic.node,
        text: format!("{}: {} receive queues, {} interrupts", nic.name, nic.receive_queues, nic.interrupts.len()),
        fill: "#cfe8cf",
    });
    let drives = topology.drives.iter().map(|drive| Device {
        node: drive.node,
        text: format!("{}: {} queues, {} interrupts", drive.name, drive.queues.len(), drive.interrupts.len()),
        fill: "#f3ddb8",
    });
    nics.chain(drives).collect()
}

fn colour(role: &str) -> &'static str {
    match role.split(' ').next() {
        Some("worker") => "#9cc4ee",
        Some("companion") => "#d6e6f7",
        Some("housekeeping") => "#e4e4e4",
        Some("interrupts") => "#cfe8cf",
        _ => "#ffffff",
    }
}

fn y(row: usize) -> usize {
    MARGIN + row * ROW
}

fn boxed(out: &mut String, x: usize, y: usize, width: usize, fill: &str, label: &str) {
    let height = ROW - 4;
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\" stroke=\"#555555\"/>"
    )
    .expect("a string takes what is written");
    text(out, x + 4, y + 13, label);
}

fn text(out: &mut String, x: usize, y: usize, text: &str) {
    writeln!(out, "<text x=\"{x}\" y=\"{y}\">{}</text>", escape(text)).expect("a string takes what is written");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
