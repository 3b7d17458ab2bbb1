//! Clocks, memory and disk of this process, and the figures it prints.

use rustix::fs::Advice;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

/// Wall time, processor time of all threads, and the duration of each step.
pub struct Meter {
    busy: Vec<Duration>,
    idle: Vec<Duration>,
    cpu: Duration,
    cpu_aside: Duration,
    /// Processor time of this thread inside the steps: what serving waits for.
    cpu_steps: Duration,
}

impl Meter {
    pub fn start() -> Meter {
        let cpu = cpu(ClockId::ProcessCPUTime);
        let (cpu_aside, cpu_steps) = (Duration::ZERO, Duration::ZERO);
        Meter { busy: Vec::new(), idle: Vec::new(), cpu, cpu_aside, cpu_steps }
    }

    /// Runs what belongs to the harness and not to the engine.
    pub fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = cpu(ClockId::ThreadCPUTime);
        let result = work();
        self.cpu_aside += cpu(ClockId::ThreadCPUTime) - before;
        result
    }

    /// Runs one step of the engine, which tells whether something ran beside it.
    pub fn step(&mut self, work: impl FnOnce() -> bool) {
        let (start, before) = (Instant::now(), cpu(ClockId::ThreadCPUTime));
        let list = if work() { &mut self.busy } else { &mut self.idle };
        list.push(start.elapsed());
        self.cpu_steps += cpu(ClockId::ThreadCPUTime) - before;
    }

    /// Prints the figures of `count` operations done in these steps.
    pub fn report(self, phase: &str, count: usize) {
        let cpu = cpu(ClockId::ProcessCPUTime) - self.cpu - self.cpu_aside;
        let all: Vec<Duration> = self.busy.iter().chain(&self.idle).copied().collect();
        let wall: Duration = all.iter().sum();
        figure(&format!("{phase}.per_s"), count as f64 / wall.as_secs_f64());
        figure(&format!("{phase}.cpu_us"), cpu.as_secs_f64() * 1e6 / count as f64);
        let front = self.cpu_steps.as_secs_f64() * 1e6 / count as f64;
        figure(&format!("{phase}.front_cpu_us"), front);
        stalls(phase, all);
        if !self.busy.is_empty() {
            stalls(&format!("{phase}.busy"), self.busy);
        }
    }
}

fn stalls(phase: &str, mut steps: Vec<Duration>) {
    steps.sort_unstable();
    let at = |share: f64| {
        let rank = (steps.len() as f64 * share) as usize;
        steps[rank.min(steps.len() - 1)].as_secs_f64() * 1e3
    };
    figure(&format!("{phase}.p50_ms"), at(0.5));
    figure(&format!("{phase}.p99_ms"), at(0.99));
    figure(&format!("{phase}.p999_ms"), at(0.999));
    figure(&format!("{phase}.max_ms"), at(1.0));
}

/// Prints one figure in the form the parent reads.
pub fn figure(name: &str, value: f64) {
    println!("{name} {value}");
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below 1e9"))
}

/// A field of /proc/self/status in MiB: `RssAnon` now, `VmHWM` at most so far.
pub fn memory_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with(field)).expect("field");
    let kib = line.split_whitespace().nth(1).expect("value");
    kib.parse::<f64>().expect("a number") / 1024.0
}

/// Bytes allocated to the files below `dir`, in MiB.
pub fn disk_mib(dir: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut blocks = 0;
    each_file(dir, &mut |path| blocks += fs::metadata(path).expect("file").blocks());
    blocks as f64 * 512.0 / f64::from(1 << 20)
}

/// Makes the kernel forget the pages of the files below `dir`.
pub fn evict(dir: &Path) {
    each_file(dir, &mut |path| {
        let file = File::options().read(true).write(true).open(path).expect("file");
        file.sync_all().expect("sync");
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
    });
}

fn each_file(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            each_file(&path, visit);
        } else {
            visit(&path);
        }
    }
}
