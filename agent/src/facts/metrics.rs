//! Every metric name of the agent, once, with its help. A test checks that names are unique and documented.

/// Prometheus type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, until its source restarts.
    Counter,
    /// Goes both ways.
    Gauge,
}

impl MetricKind {
    /// The word of the exposition format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// What it is, one line.
    pub help: &'static str,
    /// Its type.
    pub kind: MetricKind,
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal $help:literal;)+) => {
        $(#[doc = $help] pub const $id: &Metric =
            &Metric { name: concat!("quorate_agent_", $name), help: $help, kind: MetricKind::$kind };)+
        /// Every metric, in the order of the page.
        pub const ALL: &[&Metric] = &[$($id),+];
    };
}

metrics! {
    BUILD_INFO Gauge "build_info" "Always 1; the label is the agent's version.";
    COLLECTOR_UP Gauge "collector_up" "1 when the collector could read its source.";
    COLLECT_SECONDS Gauge "collect_seconds" "Time the last collection took.";
    UPTIME_SECONDS Gauge "uptime_seconds" "Time since the host booted, suspended time included.";
    CPU_SECONDS Counter "cpu_seconds_total" "CPU time by core and mode.";
    LOAD1 Gauge "load1" "Load average over 1 minute.";
    LOAD5 Gauge "load5" "Load average over 5 minutes.";
    LOAD15 Gauge "load15" "Load average over 15 minutes.";
    CONTEXT_SWITCHES Counter "context_switches_total" "Context switches.";
    FORKS Counter "forks_total" "Processes and threads created.";
    PROCESSES Gauge "processes" "Processes.";
    THREADS Gauge "threads" "Threads.";
    PROCESSES_RUNNING Gauge "processes_running" "Threads that run or could run.";
    PROCESSES_BLOCKED Gauge "processes_blocked" "Threads that wait for IO.";
    MEMORY_TOTAL Gauge "memory_total_bytes" "Physical memory.";
    MEMORY_FREE Gauge "memory_free_bytes" "Memory used for nothing.";
    MEMORY_AVAILABLE Gauge "memory_available_bytes" "Memory that can be had without swapping.";
    MEMORY_BUFFERS Gauge "memory_buffers_bytes" "Memory of block device buffers.";
    MEMORY_CACHED Gauge "memory_cached_bytes" "Memory of the page cache.";
    MEMORY_DIRTY Gauge "memory_dirty_bytes" "Memory that waits to be written to disk.";
    SWAP_TOTAL Gauge "swap_total_bytes" "Swap space.";
    SWAP_FREE Gauge "swap_free_bytes" "Swap space not used.";
    FILESYSTEM_SIZE Gauge "filesystem_size_bytes" "Size of a local file system.";
    FILESYSTEM_AVAILABLE Gauge "filesystem_available_bytes" "Bytes free for unprivileged use.";
    FILESYSTEM_INODES Gauge "filesystem_inodes" "Inodes of a local file system.";
    FILESYSTEM_INODES_FREE Gauge "filesystem_inodes_free" "Inodes free for unprivileged use.";
    DISK_READ_BYTES Counter "disk_read_bytes_total" "Bytes read from a block device.";
    DISK_WRITTEN_BYTES Counter "disk_written_bytes_total" "Bytes written to a block device.";
    DISK_READS Counter "disk_reads_total" "Reads completed by a block device.";
    DISK_WRITES Counter "disk_writes_total" "Writes completed by a block device.";
    DISK_IO_SECONDS Counter "disk_io_seconds_total" "Time a block device was busy.";
    NETWORK_RECEIVED_BYTES Counter "network_received_bytes_total" "Bytes received by an interface.";
    NETWORK_SENT_BYTES Counter "network_sent_bytes_total" "Bytes sent by an interface.";
    NETWORK_RECEIVED_PACKETS Counter "network_received_packets_total" "Packets received by an interface.";
    NETWORK_SENT_PACKETS Counter "network_sent_packets_total" "Packets sent by an interface.";
    NETWORK_RECEIVE_ERRORS Counter "network_receive_errors_total" "Packets an interface received broken.";
    NETWORK_SEND_ERRORS Counter "network_send_errors_total" "Packets an interface could not send.";
    NETWORK_RECEIVE_DROPS Counter "network_receive_drops_total" "Packets dropped on receipt.";
    NETWORK_SEND_DROPS Counter "network_send_drops_total" "Packets dropped on sending.";
    FILES_OPEN Gauge "files_open" "File handles in use on the host.";
    FILES_MAX Gauge "files_max" "File handles the host allows.";
    PRESSURE_SOME Counter "pressure_some_seconds_total" "Time in which some task waited for a resource (PSI).";
    PRESSURE_FULL Counter "pressure_full_seconds_total" "Time in which all tasks waited for a resource (PSI).";
    SELF_CPU_SECONDS Counter "self_cpu_seconds_total" "CPU time of this agent.";
    SELF_RESIDENT Gauge "self_resident_bytes" "Resident memory of this agent.";
    SELF_THREADS Gauge "self_threads" "Threads of this agent.";
    SELF_FILES Gauge "self_files_open" "File descriptors this agent holds.";
    UNIT_UP Gauge "unit_up" "1 when the unit's main process runs.";
    UNIT_CPU_SECONDS Counter "unit_cpu_seconds_total" "CPU time of a unit.";
    UNIT_RESIDENT Gauge "unit_resident_bytes" "Memory of a unit: its control group where it has one, else its main process.";
    UNIT_THREADS Gauge "unit_threads" "Threads of a unit.";
    UNIT_FILES Gauge "unit_files_open" "File descriptors of a unit's main process; absent where the agent may not look.";
    UNIT_RESTARTS Counter "unit_restarts_total" "Restarts by the unit's supervisor.";
    UNIT_START_SECONDS Gauge "unit_start_time_seconds" "When the current run began, seconds since 1970.";
}
