//! Log lines as etcd writes them, so that what reads etcd's logs reads ours.
//!
//! ```text
//! {"level":"info","ts":"2026-01-02T03:04:05.678901Z","caller":"quorate_server::run","msg":"ready"}
//! ```
//!
//! Fields of the event follow `msg`. Source: etcd `client/pkg/logutil/zap.go`.

use quorate_server::config::{LogConfig, LogFormat, LogLevel, LogOutput};
use serde_json::{Map, Value};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

/// A log file that cannot be opened.
#[derive(Debug)]
pub(crate) struct LogFileError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for LogFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogFileError { path, error } = self;
        write!(f, "cannot open the log file {}: {error}; see --log-outputs", path.display())
    }
}

impl std::error::Error for LogFileError {}

/// Sends the log lines of this process where `config` says.
///
/// Errors: a file cannot be opened. Panics: if called twice.
pub(crate) fn start(config: &LogConfig) -> Result<(), LogFileError> {
    let outputs = Outputs::open(&config.outputs)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(outputs).with_ansi(false);
    let layer = match config.format {
        LogFormat::Json => layer.event_format(JsonLine).boxed(),
        LogFormat::Text => layer.boxed(),
    };
    Registry::default().with(layer.with_filter(filter(config.level))).init();
    Ok(())
}

/// Our own lines from `level` on. Libraries describe every frame at debug level, which would drown
/// ours, so theirs begin at info.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    Targets::new().with_default(level.min(LevelFilter::INFO)).with_target("quorate", level)
}

/// Every place a line goes to. A line is one write, so lines of several threads do not mix.
struct Outputs(Vec<Output>);

enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Outputs {
    fn open(outputs: &[LogOutput]) -> Result<Outputs, LogFileError> {
        let open = |output: &LogOutput| match output {
            LogOutput::Stderr => Ok(Output::Stderr),
            LogOutput::Stdout => Ok(Output::Stdout),
            LogOutput::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(Output::File)
                .map_err(|error| LogFileError { path: path.clone(), error }),
        };
        outputs.iter().map(open).collect::<Result<_, _>>().map(Outputs)
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = &'a Outputs;

    fn make_writer(&'a self) -> &'a Outputs {
        self
    }
}

impl Write for &Outputs {
    /// A place that fails is skipped: a full log disk must not stop the member.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &self.0 {
            let _ = match output {
                Output::Stderr => io::stderr().write_all(line),
                Output::Stdout => io::stdout().write_all(line),
                Output::File(file) => (&*file).write_all(line),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut ts = String::new();
        SystemTime.format_time(&mut Writer::new(&mut ts))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        // Written by hand and not as one map, to keep etcd's order of the fields.
        let quoted = |text: &str| Value::from(text).to_string();
        write!(writer, "{{\"level\":{},\"ts\":{}", quoted(level), quoted(&ts))?;
        write!(writer, ",\"caller\":{}", quoted(event.metadata().target()))?;
        write!(writer, ",\"msg\":{}", quoted(&fields.message))?;
        for (name, value) in &fields.others {
            write!(writer, ",{}:{value}", quoted(name))?;
        }
        writeln!(writer, "}}")
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => {
                self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            }
            // A field may not replace what every line has.
            name @ ("level" | "ts" | "caller" | "msg") => {
                self.others.insert(format!("{name}_"), value);
            }
            name => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_with_etcds_fields() {
        let path = std::env::temp_dir().join(format!("quorate-log-{}", std::process::id()));
        let outputs = Outputs::open(&[LogOutput::File(path.clone())]).expect("a writable place");
        let layer = tracing_subscriber::fmt::layer().with_writer(outputs).event_format(JsonLine);
        let subscriber = Registry::default().with(layer.with_filter(filter(LogLevel::Info)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "quorate_x", term = 7, msg = "odd", "a \"quoted\" word");
            tracing::debug!(target: "quorate_x", "not written");
        });
        let text = std::fs::read_to_string(&path).expect("the log");
        std::fs::remove_file(&path).expect("our own file");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["level"], "info");
        assert_eq!(line["msg"], "a \"quoted\" word");
        assert_eq!(line["caller"], "quorate_x");
        assert_eq!(line["term"], 7);
        assert_eq!(line["msg_"], "odd");
        assert!(line["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')), "{text}");
    }

    #[test]
    fn libraries_are_quiet_at_debug() {
        let filter = filter(LogLevel::Debug);
        assert!(filter.would_enable("quorate_server::run", &Level::DEBUG));
        assert!(!filter.would_enable("h2::codec", &Level::DEBUG));
        assert!(filter.would_enable("h2::codec", &Level::INFO));
    }
}
