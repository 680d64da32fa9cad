//! `claviger proxy`: runs the proxy until it is asked to end.

use anyhow::Result;

use super::{ConfigFile, asked_to_end, runtime, start_logs, wiring};

pub(super) fn run(arguments: &ConfigFile) -> Result<()> {
    let config = arguments.load()?;
    start_logs(&config)?;
    runtime()?.block_on(async {
        let asked_to_end = asked_to_end()?;
        let listener = wiring::listen(config.proxy.listen).await?;
        let proxy = wiring::prepare(config, listener).await?;
        tracing::info!("the proxy serves");
        let report = proxy
            .serve(async {
                asked_to_end.await;
                tracing::info!("asked to end; running requests go on, new ones are not taken");
            })
            .await;
        tracing::info!(requests_cut = report.requests_cut, "the proxy has ended");
        Ok(())
    })
}
