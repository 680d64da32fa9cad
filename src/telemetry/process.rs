//! What is told of this process itself, under the names that Prometheus' own libraries use.

use std::time::{SystemTime, UNIX_EPOCH};

use super::metrics::{Registry, Sample};

/// Registers when the process started, its memory and open files (where the system tells), and which program it is.
pub fn register(registry: &mut Registry, role: &'static str) {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = "process_start_time_seconds";
    registry.read_gauges(name, "When the process started, in seconds since 1970", move || [Sample::from(started)]);
    registry.read_gauges("process_resident_memory_bytes", "Memory that the process has in RAM", memory);
    registry.read_gauges("process_open_fds", "Files and sockets that the process has open", open_files);
    registry.read_gauges("process_max_fds", "How many it may have open", open_files_max);
    registry.read_counters("process_cpu_seconds", "CPU time of the process, user and system", cpu_time);
    registry.read_gauges("claviger_build_info", "Which program this is; always 1", move || {
        [Sample::new(1.0).label("version", env!("CARGO_PKG_VERSION")).label("role", role)]
    });
}

fn memory() -> Option<Sample> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Sample::from(kib << 10))
}

fn open_files() -> Option<Sample> {
    // One is the folder that is being read.
    Some(Sample::from(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)))
}

fn open_files_max() -> Option<Sample> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.map(Sample::from)
}

/// Hundredths of a second, as Linux tells them to programs on every machine.
const TICKS_S: f64 = 100.0;

fn cpu_time() -> Option<Sample> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name of the program, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Sample::new((ticks()? + ticks()?) as f64 / TICKS_S))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::TextForm;

    #[test]
    fn the_process_tells_of_itself() {
        let mut registry = Registry::default();
        register(&mut registry, "proxy");
        let text = registry.encode(TextForm::Prometheus).expect("writes");
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).expect("it is there");
            line.rsplit(' ').next().expect("a value").parse().expect("a number")
        };
        assert!(value("process_start_time_seconds ") > 1.7e9);
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") >= 3.0 && value("process_open_fds ") <= value("process_max_fds "));
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(text.contains("role=\"proxy\"") && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
}
