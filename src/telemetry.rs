//! What is seen of a process from outside: logs (one line per event on stderr, as text or JSON), metrics, traces, health, ids of requests.

pub mod certificates;
pub mod endpoint;
pub mod health;
pub mod metrics;
pub mod process;
pub mod request_id;
pub mod traces;

use std::io::IsTerminal as _;

use http::Method;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// The environment variable whose filter goes before the configured one.
pub const FILTER_VARIABLE: &str = "CLAVIGER_LOG";

/// The environment variable whose form of lines, `text` or `json`, goes before the configured one.
pub const FORMAT_VARIABLE: &str = "CLAVIGER_LOG_FORMAT";

/// The logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one, such as `info` or `warn,claviger::storage=debug`.
    #[error("the log filter {given:?} is not valid: write for example `info` or `warn,claviger::storage=debug`")]
    Filter {
        /// What was given.
        given: String,
        /// Why it is not valid.
        source: ParseError,
    },
    /// The form of lines is none.
    #[error("{FORMAT_VARIABLE}={given:?} is no form of log lines: write `text` or `json`")]
    Format {
        /// What was given.
        given: String,
    },
    /// Logs were set up before in this process.
    #[error("the logs were already set up")]
    Already(#[source] TryInitError),
}

/// A method's name, if it is nobody's invention.
pub fn known_method(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => return None,
    })
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

impl LogFormat {
    /// What the environment asks for, or else this one.
    fn or_from_environment(self, given: Option<&str>) -> Result<Self, TelemetryError> {
        match given {
            None | Some("") => Ok(self),
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(given) => Err(TelemetryError::Format { given: given.to_owned() }),
        }
    }
}

/// Sends this process's log events to stderr. [`FILTER_VARIABLE`] goes before `filter`, and [`FORMAT_VARIABLE`] before `format`. The
/// filter's syntax is `level` or `target=level`, comma-separated. Colours appear only on a terminal, and not with `NO_COLOR`.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let format = format.or_from_environment(std::env::var(FORMAT_VARIABLE).ok().as_deref())?;
    let from_environment = std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.trim().is_empty());
    let filter = parse_filter(from_environment.as_deref().unwrap_or(filter))?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    install(format, filter, colours, std::io::stderr)
}

fn parse_filter(given: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(given).map_err(|source| TelemetryError::Filter { given: given.into(), source })
}

fn install<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Result<(), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    subscriber(format, filter, colours, writer).try_init().map_err(TelemetryError::Already)
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = parse_filter(filter).expect("valid filter");
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(bucket = "records", "stored");
            tracing::debug!("hidden");
        });
        let bytes = sink.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn json_lines_are_json_and_filtered() {
        let text = logged(LogFormat::Json, "info");
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["message"], "stored");
        assert_eq!(line["bucket"], "records");
    }

    #[test]
    fn lines_have_the_id_of_the_request_that_is_worked_on() {
        let id = request_id::RequestId::random();
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = parse_filter("warn").expect("valid filter");
        let subscriber = subscriber(LogFormat::Json, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let work = request_id::Work::new(id, None).scope(async { tracing::warn!("slow") });
            futures_util::FutureExt::now_or_never(work).expect("waits for nothing");
        });
        let line: serde_json::Value = serde_json::from_slice(&sink.0.lock().expect("not poisoned")).expect("JSON");
        assert_eq!((&line["message"], &line["span"]["request_id"]), (&"slow".into(), &id.as_str().into()), "{line}");
    }

    #[test]
    fn the_environment_may_choose_the_form_of_lines() {
        let chosen = |given| LogFormat::Text.or_from_environment(given);
        assert_eq!(chosen(None).ok(), Some(LogFormat::Text));
        assert_eq!(chosen(Some("")).ok(), Some(LogFormat::Text));
        assert_eq!(chosen(Some("json")).ok(), Some(LogFormat::Json));
        assert!(chosen(Some("JSON")).is_err_and(|error| error.to_string().contains("\"JSON\"")));
    }

    #[test]
    fn text_lines_have_no_colours_when_told_so() {
        let text = logged(LogFormat::Text, "debug");
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("stored") && !text.contains('\u{1b}'));
    }

    #[test]
    fn a_broken_filter_is_refused_with_what_was_given() {
        let error = parse_filter("claviger=loud").expect_err("no such level");
        assert!(error.to_string().contains("claviger=loud"));
    }
}
