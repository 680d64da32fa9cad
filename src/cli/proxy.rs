//! `claviger proxy`: runs the proxy until it is asked to end.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, asked_to_end, notify, runtime, serving, start_logs, wiring};

pub(super) fn run(arguments: &ConfigFile) -> Result<()> {
    let config = arguments.load()?;
    start_logs(&config)?;
    runtime()?.block_on(async {
        let asked_to_end = asked_to_end()?;
        let hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
        let listener = wiring::listen(config.proxy.listen).await?;
        let proxy = serving::prepare(config, listener).await?;
        tracing::info!("the proxy serves");
        notify::ready("serving");
        let shutdown = async {
            asked_to_end.await;
            notify::stopping();
            tracing::info!("asked to end; running requests go on, new ones are not taken");
        };
        let report = proxy.serve(shutdown, Some(hangup)).await;
        tracing::info!(requests_cut = report.requests_cut, "the proxy has ended");
        Ok(())
    })
}
